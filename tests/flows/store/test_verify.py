"""Verification: small artifacts whole, large ones by seal and rotating tenths."""

import json
import os
from pathlib import Path

import pytest

from flows.store import record, verify
from flows.store.key import Request, make_key
from flows.store.record import content_digest, describe_outputs, new_record, render_record
from flows.store.verify import examine, read_chunks
from tests.flows.store.builds import overwrite

KEY = make_key(Request("demo", {"n": 1}))


def publish(folder: Path, files: dict[str, bytes]) -> Path:
    """Write an artifact by hand."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    outputs = describe_outputs(folder)
    made = new_record(KEY, outputs, content_digest(outputs), {}, 0.0, 0.0)
    (folder / "record.json").write_bytes(render_record(made))
    return folder


@pytest.fixture
def small(tmp_path):
    """An artifact far below 1 GiB."""
    return publish(tmp_path / "a", {"x": b"one", "in/y": b"two"})


@pytest.fixture
def seal(tmp_path):
    return tmp_path / "seal.json"


def test_an_untouched_artifact_has_no_fault(small, seal):
    """What was published verifies, in both modes, and a small one leaves no seal."""
    assert examine(small, seal, KEY.digest) == examine(small, seal, KEY.digest, "full")
    assert examine(small, seal).faults == []
    assert not seal.exists()


DAMAGE = {
    "changed byte": (lambda a: overwrite(a / "x", b"onE"), "x changed: sha256 is"),
    "truncated": (lambda a: overwrite(a / "x", b"on"), "x has 2 bytes; the record says 3"),
    "missing": (lambda a: (a / "x").unlink(), "x is missing"),
    "extra file": (lambda a: (a / "in/z").touch(), "in/z is extra"),
    "extra folder": (lambda a: (a / "new").mkdir(), "new/ is extra"),
    "link": (lambda a: ((a / "x").unlink(), (a / "x").symlink_to("in/y")), "not a plain file"),
    "no record": (lambda a: (a / "record.json").unlink(), "record.json cannot be read"),
    "changed record": (
        lambda a: overwrite(
            a / "record.json", (a / "record.json").read_bytes().replace(b'"n": 1', b'"n": 2')
        ),
        "record.json was changed",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_every_damage_is_found_and_named(small, seal, damage):
    """Changed, missing and extra files and a bad record are each said in plain words."""
    do, says = DAMAGE[damage]
    do(small)
    faults = examine(small, seal, KEY.digest).faults
    assert len(faults) == 1
    assert says in faults[0]


def test_all_faults_are_named_at_once(small, seal):
    """One report holds every missing and extra file."""
    (small / "x").unlink()
    (small / "z").touch()
    assert sorted(f.split(" is ")[0] for f in examine(small, seal).faults) == ["x", "z"]


def test_another_key_is_a_fault(small, seal):
    """An artifact in another's place is not taken for it."""
    assert "is that of another key" in examine(small, seal, "0" * 64).faults[0]


def test_what_says_nothing_of_the_artifact_is_no_fault(small, seal, monkeypatch):
    """Too many open files must not send a sound artifact to quarantine: the error goes up."""
    monkeypatch.setattr(verify, "_bytes", lambda *_: (_ for _ in ()).throw(OSError(24, "EMFILE")))
    with pytest.raises(OSError, match="EMFILE"):
        examine(small, seal)


def test_a_bad_sector_is_a_fault(small, seal, monkeypatch):
    """A read error of the medium counts as damage."""
    monkeypatch.setattr(verify, "_bytes", lambda *_: (_ for _ in ()).throw(OSError(5, "I/O error")))
    assert "cannot be read: I/O error" in examine(small, seal).faults[0]


CHUNK, N_CHUNKS = 10, 25


@pytest.fixture
def large(tmp_path, monkeypatch):
    """An artifact that counts as large: limits scaled down, 25 chunks in two files."""
    monkeypatch.setattr(record, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(verify, "FULL_BELOW_BYTES", 50)
    content = os.urandom(CHUNK * N_CHUNKS)
    return publish(tmp_path / "a", {"x": content[:105], "in/y": content[105:]})


@pytest.fixture
def read_bytes(monkeypatch):
    """Counts the chunks read by turns, and the readings of whole files."""
    counts = {"chunks": 0, "whole": 0}
    changed_chunks, changed_files = verify._changed_chunks, verify._changed_files

    def by_chunks(folder, outputs, turn):
        chunks = [c for name in sorted(outputs) for c in verify._chunks_of(name, outputs[name])]
        counts["chunks"] += len(chunks[turn :: verify.N_TURNS])
        return changed_chunks(folder, outputs, turn)

    def by_files(folder, outputs):
        counts["whole"] += 1
        return changed_files(folder, outputs)

    monkeypatch.setattr(verify, "_changed_chunks", by_chunks)
    monkeypatch.setattr(verify, "_changed_files", by_files)
    return counts


def test_a_large_artifact_is_read_whole_once_then_by_tenths(large, seal, read_bytes):
    """Ten hits read each chunk once; only the first, without a seal, reads all."""
    assert examine(large, seal).faults == []
    assert read_bytes == {"chunks": 0, "whole": 1}
    for _ in range(10):
        assert examine(large, seal).faults == []
    n_chunks = 11 + 15  # 105 bytes and 145 bytes, in tens
    assert read_bytes == {"chunks": n_chunks, "whole": 1}


def test_full_reads_all_whatever_the_seal(large, seal, read_bytes):
    """`full` trusts no seal."""
    for _ in range(3):
        examine(large, seal, mode="full")
    assert read_bytes == {"chunks": 0, "whole": 3}


def test_a_write_breaks_the_seal(large, seal):
    """A byte changed through the file system is found at the next hit, wherever it lies."""
    examine(large, seal)
    content = (large / "in/y").read_bytes()
    overwrite(large / "in/y", content[:-1] + bytes([content[-1] ^ 1]))
    assert examine(large, seal).faults[0].startswith("in/y changed: sha256 is")


def rot(large: Path, seal: Path, at: int) -> None:
    """Change one byte as a failing disk would: the kernel's view of the file stays as sealed."""
    content = bytearray((large / "x").read_bytes())
    content[at] ^= 1
    overwrite(large / "x", bytes(content))
    kept = json.loads(seal.read_bytes())
    kept["files"] = {name: verify._kernel_view(large / name) for name in kept["files"]}
    seal.write_text(json.dumps(kept))


@pytest.mark.parametrize("at", [0, 37, 104])
def test_rot_under_a_good_seal_is_found_within_ten_hits(large, seal, at):
    """The rotating tenth finds what the seal cannot see, and says where."""
    examine(large, seal)
    rot(large, seal, at)
    reports = [examine(large, seal).faults for _ in range(10)]
    found = [faults for faults in reports if faults]
    assert found[0] == [
        f"x changed in the {min(10, 105 - at // 10 * 10)} bytes from {at // 10 * 10}"
    ]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"turn": 99, "files": {}}', '{"turn": "a"}'])
def test_a_torn_seal_means_reading_all(large, seal, read_bytes, content):
    """A seal that makes no sense is no seal."""
    seal.write_text(content)
    assert examine(large, seal).faults == []
    assert read_bytes["whole"] == 1
    assert set(json.loads(seal.read_bytes())) == {"files", "turn"}


def test_a_store_that_cannot_be_sealed_is_still_verified(large, tmp_path, read_bytes):
    """Where the seal cannot be written, every hit reads all."""
    nowhere = tmp_path / "none" / "seal.json"
    assert [examine(large, nowhere).faults for _ in range(2)] == [[], []]
    assert read_bytes["whole"] == 2


def test_reading_by_chunks_gives_the_file_and_stops_at_damage(large):
    """A reader never gets a byte that was not checked."""
    outputs = json.loads((large / "record.json").read_bytes())["outputs"]
    content = (large / "x").read_bytes()
    assert b"".join(read_chunks(large, "x", outputs)) == content
    overwrite(large / "x", content[:37] + bytes([content[37] ^ 1]) + content[38:])
    good = []
    with pytest.raises(OSError, match="x changed in the 10 bytes from 30"):
        good.extend(read_chunks(large, "x", outputs))
    assert b"".join(good) == content[:30]
