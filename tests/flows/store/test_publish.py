"""produce: built once, verified ever after, and never half there."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from flows.disk import durable
from flows.store import layout, lock, publish, record, verify
from flows.store.build_folder import build_folder
from flows.store.key import Request, make_key
from flows.store.layout import Layout
from flows.store.publish import Built, produce
from lmcore.errors import InputError
from tests.flows.store.builds import finish, overwrite, request, start, writing


def kinds(events) -> list[str]:
    return [event.kind for event in events]


def visible(root: Path) -> list[Path]:
    """Every folder in the store that looks like an artifact."""
    return sorted(root.glob("store/*/*"))


def leftovers(root: Path) -> list[Path]:
    """What should be gone when nothing is at work."""
    return [*root.glob("tmp/*"), *root.glob("work/*")]


def test_first_builds_second_reuses(root, events):
    """The same request is built once; the second time it is a verified hit with equal content."""
    calls: list[int] = []
    build = writing({"a.txt": "1", "in/b.txt": "2"}, calls)
    first, second = (produce(root, request(), build, notify=events.append) for _ in range(2))
    assert (first.hit, second.hit, len(calls)) == (False, True, 1)
    assert first == second
    assert dict(first.facts) == dict(second.facts) == {"files": 2}
    assert first.n_bytes == 2
    assert (second.path / "in/b.txt").read_text() == "2"
    assert second.path == root / "store/demo" / second.key[:16]
    assert second.seconds == first.seconds
    assert kinds(events) == ["building", "built", "hit"]
    assert leftovers(root) == []


def test_another_request_is_another_artifact(root):
    """Other settings never meet in one folder; equal bytes have equal digests (early cutoff)."""
    a = produce(root, request(1), writing({"a": "x"}))
    b = produce(root, request(2), writing({"a": "x"}))
    c = produce(root, request(3), writing({"a": "y"}))
    assert len({a.path, b.path, c.path}) == 3
    assert a.digest == b.digest != c.digest


def test_a_digest_of_meaning_takes_the_place_of_that_of_bytes(root):
    """A stage may say what its content is; facts never count."""

    def build(out_dir: Path, work_dir: Path) -> Built:
        (out_dir / "a").write_text(str(time.time_ns()))
        return Built(digest="a" * 64, facts={"loss": 1.0})

    assert produce(root, request(), build).digest == "a" * 64
    with pytest.raises(ValueError, match="expected SHA-256"):
        produce(root, request(2), lambda out, work: Built(digest="short"))


def test_published_files_are_read_only_and_synced(root, monkeypatch):
    """Every file and folder of the artifact, and the folders that name it, reach the disk."""
    synced: list[Path] = []
    monkeypatch.setattr(durable, "sync_file", lambda path: synced.append(Path(path)))
    artifact = produce(root, request(), writing({"a": "1", "in/b": "2"}))
    names = {path.name for path in synced}
    assert {"a", "b", "in", "record.json", "artifact", "demo", "store"} <= names
    assert synced[-2:] == [artifact.path.parent, root / "store"]
    for path in (artifact.path, *artifact.path.rglob("*")):
        assert not path.stat().st_mode & 0o222


def test_the_work_folder_outlives_failure_and_goes_after_success(root):
    """A stage that failed goes on from its work folder; one that is done has none."""

    def build(out_dir: Path, work_dir: Path) -> Built:
        (out_dir / "a").write_text("1")
        if not (work_dir / "checkpoint").exists():
            (work_dir / "checkpoint").write_text("step 10")
            raise RuntimeError("power")
        return Built(facts={"from": (work_dir / "checkpoint").read_text()})

    with pytest.raises(RuntimeError, match="power"):
        produce(root, request(), build)
    assert visible(root) == []
    assert [path.name for path in leftovers(root)] == [f"demo-{make_key(request()).short}"]
    assert produce(root, request(), build).facts["from"] == "step 10"
    assert leftovers(root) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failed_build_leaves_nothing(root, error):
    """Whatever ends a build, its folder goes, the lock is free, and the next build is a new one."""

    def build(out_dir: Path, work_dir: Path) -> Built:
        (out_dir / "half").write_text("1")
        raise error

    with pytest.raises(error):
        produce(root, request(), build)
    assert visible(root) == leftovers(root) == []
    assert not produce(root, request(), writing({"a": "1"})).hit


def damage_byte(artifact) -> None:
    overwrite(artifact.path / "a", b"2")


def damage_missing(artifact) -> None:
    durable.make_writable(artifact.path)
    (artifact.path / "a").unlink()


def damage_extra(artifact) -> None:
    durable.make_writable(artifact.path)
    (artifact.path / "b").touch()


def damage_no_record(artifact) -> None:
    durable.make_writable(artifact.path)
    (artifact.path / "record.json").unlink()


def damage_old_format(artifact) -> None:
    overwrite(artifact.path / "record.json", json.dumps({"format": 0}).encode())


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_byte, "a changed"),
        (damage_missing, "a is missing"),
        (damage_extra, "b is extra"),
        (damage_no_record, "record.json cannot be read"),
        (damage_old_format, "has format 0"),
    ],
)
def test_a_damaged_artifact_is_moved_away_and_built_again(root, events, damage, says):
    """Damage is named, the damaged copy is kept in quarantine, and the result is whole again."""
    calls: list[int] = []
    for n in (1, 2):
        damage(produce(root, request(), writing({"a": "1"}, calls)))
        events.clear()
        artifact = produce(root, request(), writing({"a": "1"}, calls), notify=events.append)
        assert not artifact.hit
        assert (artifact.path / "a").read_text() == "1"
        kept = root / "quarantine" / f"demo-{artifact.key[:16]}-{n}"
        assert kept.is_dir()
        assert kinds(events) == ["quarantined", "building", "built"]
        assert says in events[0].text
        assert str(kept) in events[0].text
    assert len(calls) == 3
    assert produce(root, request(), writing({}, calls)).hit


def test_without_reading_bytes_a_changed_byte_would_pass(root, monkeypatch):
    """Sabotage: with the digests unread, the test above would be red."""
    damage_byte(produce(root, request(), writing({"a": "1"})))
    monkeypatch.setattr(verify, "_bytes", lambda *_: [])
    assert produce(root, request(), writing({"a": "1"})).hit


def test_a_fault_seen_in_one_tenth_is_not_lost_in_the_next(root, monkeypatch, events):
    """The look under the lock reads the tenth in which the first look found a fault."""
    monkeypatch.setattr(record, "CHUNK_BYTES", 1)
    monkeypatch.setattr(verify, "FULL_BELOW_BYTES", 1)
    artifact = produce(root, request(), writing({"a": "x" * 20}))
    seal = Layout(root).seal("demo", artifact.key)
    produce(root, request(), writing({}))  # reads all, seals; chunk 1 is next
    overwrite(artifact.path / "a", b"x" + b"y" + b"x" * 18)
    (artifact.path / "a").chmod(0o444)
    kept = json.loads(seal.read_bytes())
    kept["files"] = {"a": verify._kernel_view(artifact.path / "a")}
    seal.write_text(json.dumps(kept))
    produce(root, request(), writing({"a": "x" * 20}), notify=events.append)
    assert kinds(events)[0] == "quarantined"


def test_full_verification_is_asked_for_by_name(root, monkeypatch):
    """verify="full" reaches the verification of a hit."""
    modes = []
    real = publish.examine
    monkeypatch.setattr(publish, "examine", lambda *a: (modes.append(a[3]), real(*a))[1])
    produce(root, request(), writing({"a": "1"}))
    produce(root, request(), writing({"a": "1"}), verify="full")
    assert modes == ["full"]


def test_a_root_that_cannot_be_written_is_refused_before_work(tmp_path):
    """The flag is named, and the build is not begun."""
    (tmp_path / "file").touch()
    calls: list[int] = []
    with pytest.raises(InputError, match=r"--execution\.artifacts"):
        produce(tmp_path / "file", request(), writing({}, calls))
    with pytest.raises(InputError, match="--somewhere"):
        produce(tmp_path / "file", request(), writing({}, calls), root_flag="--somewhere")
    assert calls == []


def test_a_disk_without_room_is_refused_before_work(root):
    """A stage that knows its size is not begun where it cannot end."""
    calls: list[int] = []
    with pytest.raises(InputError, match="the stage demo needs"):
        produce(root, request(), writing({}, calls), needs_bytes=10**18)
    assert calls == []


def test_what_a_work_folder_holds_needs_no_more_room(root, monkeypatch):
    """A build that goes on needs the rest only."""

    def stopped(out_dir: Path, work_dir: Path) -> Built:
        (work_dir / "half").write_bytes(bytes(600))
        raise KeyboardInterrupt

    monkeypatch.setattr(layout.Layout, "free_bytes", lambda self: 500)
    with pytest.raises(InputError, match=r"has 500 B free .*needs 1\.0 kB"):
        produce(root, request(), stopped, needs_bytes=1000)
    with pytest.raises(KeyboardInterrupt):
        produce(root, request(), stopped, needs_bytes=500)
    assert not produce(root, request(), writing({}), needs_bytes=1000).hit


def test_a_disk_that_fills_up_loses_nothing(root):
    """ENOSPC is said plainly; the partial folder goes; what was made before stays a hit."""
    produce(root, request(1), writing({"a": "1"}))

    def build(out_dir: Path, work_dir: Path) -> Built:
        (out_dir / "half").write_text("1")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="Nothing already made was lost"):
        produce(root, request(2), build)
    assert leftovers(root) == []
    assert len(visible(root)) == 1
    assert produce(root, request(1), writing({})).hit


@pytest.mark.parametrize("n", range(10))
def test_a_write_that_fails_at_any_point_shows_nothing_half_made(root, monkeypatch, n):
    """Whichever sync or rename fails, the store holds a whole artifact or none, and heals."""
    steps = {"left": n}

    def failing(real):
        def step(*arguments):
            steps["left"] -= 1
            if steps["left"] == -1:
                raise OSError(5, "Input/output error")
            return real(*arguments)

        return step

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing(os.fsync))
        patched.setattr(os, "rename", failing(os.rename))
        try:
            produce(root, request(), writing({"a": "1", "in/b": "2"}))
        except OSError:
            assert steps["left"] < 0
    events: list[publish.Event] = []
    artifact = produce(root, request(), writing({"a": "1", "in/b": "2"}), notify=events.append)
    assert "quarantined" not in kinds(events)
    assert (artifact.path / "in/b").read_text() == "2"
    assert list(root.glob("tmp/*")) == []
    assert (steps["left"] < 0) == (n < 9)  # nine syncs and renames in all: none is left untried


_WORKER = """
import sys, time
from pathlib import Path
from flows.store.key import Request
from flows.store.publish import Built, produce

root, counter, go = map(Path, sys.argv[1:])

def build(out_dir, work_dir):
    with open(counter, "a") as file:
        file.write("built\\n")
    (work_dir / "checkpoint").write_text("step 10")
    (out_dir / "a").write_text("1")
    print("at work", flush=True)
    end = time.monotonic() + 60
    while not go.exists() and time.monotonic() < end:
        time.sleep(0.01)
    return Built()

artifact = produce(root, Request("demo", {"n": 1}), build,
                   notify=lambda e: print(e.kind, e.text, flush=True))
print(artifact.hit, artifact.digest)
"""


def until_line(process: subprocess.Popen[str], beginning: str) -> str:
    """Read what a process prints up to the line that begins so."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(beginning):
            return line
    raise AssertionError(f"no line {beginning!r}: {process.communicate()[1]}")


def test_two_processes_at_once_build_once(root, tmp_path):
    """One builds, the other says that it waits, for whom, and reuses the result."""
    counter, go = tmp_path / "counter", tmp_path / "go"
    first = start(_WORKER, root, counter, go)
    until_line(first, "at work")
    second = start(_WORKER, root, counter, go)
    waits = until_line(second, "waiting")
    assert waits == f"waiting waiting for process {first.pid}, which is building it\n"
    go.touch()
    reused = finish(second).splitlines()
    built = finish(first).splitlines()[-1]
    assert counter.read_text() == "built\n"
    assert reused[0].startswith("reused ")
    assert (built.split()[0], reused[-1].split()[0]) == ("False", "True")
    assert built.split()[1] == reused[-1].split()[1]


def test_kill_in_the_middle_shows_nothing_and_is_swept(root, tmp_path, events):
    """After kill -9 no artifact is visible; the next run sweeps, and goes on from its work."""
    worker = start(_WORKER, root, tmp_path / "counter", tmp_path / "never")
    until_line(worker, "at work")
    worker.kill()
    worker.communicate()
    assert visible(root) == []
    assert len(list(root.glob("tmp/*"))) == 1
    seen = []

    def build(out_dir: Path, work_dir: Path) -> Built:
        seen.append((work_dir / "checkpoint").read_text())
        (out_dir / "a").write_text("1")
        return Built()

    assert not produce(root, request(), build, notify=events.append).hit
    assert seen == ["step 10"]
    assert kinds(events) == ["swept", "building", "built"]
    assert leftovers(root) == []


def test_the_living_are_not_swept(root):
    """A build in progress, be it in this process, keeps its folder; a dead one's goes."""
    layout = Layout(root)
    layout.prepare()
    with build_folder(layout, "other") as (folder, _):
        dead = layout.tmp / "dead"
        (dead / "artifact").mkdir(parents=True)
        (dead / "owner.lock").touch()
        (layout.tmp / "shell").mkdir()
        produce(root, request(), writing({"a": "1"}))
        assert folder.is_dir()
        assert list(layout.tmp.iterdir()) == [folder.parent]
    assert leftovers(root) == []


def test_work_of_a_published_artifact_is_swept(root):
    """A process that died between publishing and tidying leaves no work folder for ever."""
    artifact = produce(root, request(1), writing({"a": "1"}))
    stale, needed = (Layout(root).work("demo", key) for key in (artifact.key, "0" * 64))
    for folder in (stale, needed):
        (folder / "in").mkdir(parents=True)
    produce(root, request(2), writing({"a": "1"}))
    assert leftovers(root) == [needed]


def test_the_first_publisher_wins(root, events):
    """When the place was taken meanwhile, the loser verifies the winner's and returns it."""

    def winner_appears(out_dir: Path, work_dir: Path) -> Built:
        (out_dir / "a").write_text("mine")
        place = Layout(root).artifact("demo", make_key(request()).digest)
        elsewhere = produce(root.with_name("elsewhere"), request(), writing({"a": "theirs"}))
        durable.make_writable(elsewhere.path)
        place.parent.mkdir()
        os.rename(elsewhere.path, place)
        return Built()

    artifact = produce(root, request(), winner_appears, notify=events.append)
    assert artifact.hit
    assert (artifact.path / "a").read_text() == "theirs"
    assert kinds(events) == ["building", "reused"]
    assert list(root.glob("tmp/*")) == []


def test_a_broken_winner_loses(root, events):
    """What took the place and does not verify goes to quarantine, and ours is published."""

    def junk_appears(out_dir: Path, work_dir: Path) -> Built:
        (out_dir / "a").write_text("mine")
        place = Layout(root).artifact("demo", make_key(request()).digest)
        place.mkdir(parents=True)
        (place / "junk").touch()
        return Built()

    artifact = produce(root, request(), junk_appears, notify=events.append)
    assert not artifact.hit
    assert (artifact.path / "a").read_text() == "mine"
    assert kinds(events) == ["building", "quarantined", "built"]


def test_without_file_locks_the_rename_alone_keeps_it_right(root, events, monkeypatch):
    """Without flock two builds may run; one result is published, and it is said."""
    monkeypatch.setattr(lock, "fcntl", None)
    calls: list[int] = []

    def build(out_dir: Path, work_dir: Path) -> Built:
        if not calls:
            calls.append(1)
            produce(root, request(), writing({"a": "inner"}, calls))
        (out_dir / "a").write_text("outer")
        return Built()

    artifact = produce(root, request(), build, notify=events.append)
    assert len(calls) == 2
    assert (artifact.path / "a").read_text() == "inner"
    assert kinds(events) == ["unlocked", "building", "reused"]


@pytest.fixture
def stage(package):
    """A request whose code is a module in a package of its own."""
    package.write("rate", "RATE = 1")
    entry = package.write("stage", "from . import rate")
    return Request("demo", {"n": 1}, code=(entry,))


def editing(package, text: str):
    """A build during which a module is edited."""

    def build(out_dir: Path, work_dir: Path) -> Built:
        (out_dir / "a").write_text("1")
        package.write("rate", text)
        return Built()

    return build


def test_code_that_changes_during_a_build_is_not_published(root, package, stage):
    """The result belongs to neither key: the module is named, and nothing is published."""
    says = rf"{package.name}\.rate changed while stage demo was at work.*not published: run again"
    with pytest.raises(InputError, match=says):
        produce(root, stage, editing(package, "RATE = 2"))
    assert visible(root) == leftovers(root) == []


def test_without_the_recheck_stale_code_would_be_published(root, package, stage, monkeypatch):
    """Sabotage: with the re-check of the code switched off, the test above would be red."""
    monkeypatch.setattr(publish, "refuse_changed_code", lambda key, request: None)
    produce(root, stage, editing(package, "RATE = 2"))
    assert len(visible(root)) == 1


def test_a_comment_written_during_a_build_is_no_change(root, package, stage):
    """Documenting the code while it runs costs nothing, then or later."""
    assert not produce(root, stage, editing(package, "RATE = 1  # per step")).hit
    assert produce(root, stage, writing({})).hit


def test_an_edit_makes_a_miss_and_undoing_it_a_hit(root, package, stage):
    """Code is in the key: an edit builds anew, and going back finds the old result."""
    first = produce(root, stage, writing({"a": "1"}))
    package.write("rate", "RATE = 2")
    assert not produce(root, stage, writing({"a": "2"})).hit
    package.write("rate", "RATE = 1")
    again = produce(root, stage, writing({}))
    assert (again.hit, again.path) == (True, first.path)


def test_code_edited_since_it_was_loaded_is_not_run(root, package, stage):
    """A build never runs old code in memory under the key of the new code on disk."""
    import importlib

    importlib.import_module(f"{package.name}.rate")
    package.write("rate", "RATE = 2")
    with pytest.raises(InputError, match=r"edited after this process loaded it .*run again"):
        produce(root, stage, writing({"a": "1"}))


def spoiling(artifact):
    """A build during which a byte of its input changes."""

    def build(out_dir: Path, work_dir: Path) -> Built:
        (out_dir / "b").write_text("2")
        damage_byte(artifact)
        return Built()

    return build


def test_an_input_that_changes_during_a_build_stops_it(root):
    """What was made from a damaged input is not published; the next run mends the input."""
    corpus = produce(root, request(), writing({"a": "1"}))
    second = request(stage="second", inputs={"corpus": corpus})
    with pytest.raises(InputError, match="the input corpus of stage second changed"):
        produce(root, second, spoiling(corpus))
    assert [path.parent.name for path in visible(root)] == ["demo"]
    assert not produce(root, request(), writing({"a": "1"})).hit
    assert not produce(root, second, writing({"b": "2"})).hit


def test_without_the_recheck_a_spoilt_input_would_pass(root, monkeypatch):
    """Sabotage: with the re-check of inputs switched off, the test above would be red."""
    monkeypatch.setattr(publish, "refuse_changed_inputs", lambda layout, request: None)
    corpus = produce(root, request(), writing({"a": "1"}))
    produce(root, request(stage="second", inputs={"corpus": corpus}), spoiling(corpus))
    assert len(visible(root)) == 2


def test_empty_folders_are_not_part_of_a_result(root):
    """A folder without files is dropped rather than taken for damage at the next hit."""

    def build(out_dir: Path, work_dir: Path) -> Built:
        (out_dir / "empty" / "empty").mkdir(parents=True)
        return Built(facts={"n": 1})

    assert os.listdir(produce(root, request(), build).path) == ["record.json"]
    assert produce(root, request(), build).hit
