"""A run in this process: what is refused before it, what is kept of it, and in which order."""

import json
import os
import shutil
from pathlib import Path

import pytest

from flows.progress.events import Event
from flows.run import Run, default_name, finish, link, obtain, prepare, split_faults, translated
from flows.store.publish import Event as StoreEvent
from flows.trainer import numerics
from lmcore.errors import InputError
from tests.flows.tiny_run import STAGES, TINY, Finished, digests, map_here, training_here

DOCS = Path(__file__).parents[2] / "docs"
PLACES = ("store.md", "pipeline.md")


def prepared(artifacts: Path, events: list[Event], *words: str) -> Run:
    settings = [*TINY, "--engine", "none", "--artifacts", str(artifacts), *words]
    return prepare("quickstart", settings, map_here, events.append)


def run_through(artifacts: Path, *words: str) -> list[Event]:
    """All five stages as plain calls; what was said on the way."""
    events: list[Event] = []
    run = prepared(artifacts, events, *words)
    corpus = obtain(run, "download")
    tokenizer = obtain(run, "tokenizer", download=corpus)
    tokens = obtain(run, "pretokenize", download=corpus, tokenizer=tokenizer)
    model = obtain(run, "pretrain", tokenizer=tokenizer, pretokenize=tokens)
    evaluation = obtain(
        run, "evaluate", download=corpus, tokenizer=tokenizer, pretokenize=tokens, pretrain=model
    )
    finish(run, corpus, tokenizer, tokens, model, evaluation)
    return events


@pytest.fixture
def copy(finished: Finished, tmp_path: Path) -> Finished:
    """The tiny run, in a folder that may be changed."""
    artifacts = tmp_path / "artifacts"
    shutil.copytree(finished.artifacts, artifacts, symlinks=True)
    return Finished(artifacts, finished.output)


def outcome(events: list[Event]) -> dict[str, str]:
    """Stage to "hit" or "built"."""
    return {event.stage: event.kind for event in events if event.kind in ("hit", "built")}


def test_plan_is_shown_before_any_work(tmp_path: Path) -> None:
    """Preparing shows the plan and makes the run's folder, and no artifact."""
    events: list[Event] = []
    run = prepared(tmp_path / "new" / "artifacts", events)
    assert [event.stage for event in events] == ["preflight"]
    assert "plan" in events[0].data
    assert run.folder == tmp_path / "new" / "artifacts" / "runs" / "tiny"
    assert sorted(os.listdir(run.context.root)) == ["runs"]


def test_numerics_are_chosen_from_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was left open is chosen once: the precision, the split, the threads."""
    monkeypatch.setattr(numerics, "instruction_set", lambda: "avx2")
    run = prepared(tmp_path, [], "--training.precision", "auto")
    assert run.config.training.precision == "float32"
    assert run.context.numerics.micro_batch == 4
    assert run.context.numerics.threads == 1


def test_refused_run_leaves_nothing(tmp_path: Path) -> None:
    """A setting that cannot work is refused before a folder is made, with all the others."""
    with pytest.raises(InputError) as fault:
        prepared(tmp_path / "artifacts", [], "--model.d-model", "15", "--training.max-lr", "-1")
    assert "--model.d-model" in str(fault.value)
    assert "--training.max-lr" in str(fault.value)
    assert not (tmp_path / "artifacts").exists()


def test_every_stage_is_told_once(copy: Finished) -> None:
    """Each stage begins once and is done once, in order; a hit says so."""
    events = run_through(copy.artifacts)
    assert [event.stage for event in events if event.kind == "started"] == list(STAGES)
    assert outcome(events) == dict.fromkeys(STAGES, "hit")
    assert "report" in events[-1].data


def test_every_folder_is_explained(finished: Finished) -> None:
    """What a run leaves below the artifacts is named in the README there and in the documents."""
    made = {path.name for path in finished.artifacts.iterdir() if path.is_dir()}
    assert {"store", "runs", "maps"} <= made
    for readme in (finished.artifacts / "README.txt", *map(DOCS.joinpath, PLACES)):
        text = readme.read_text()
        assert [name for name in made if f"{name}/" not in text] == []


def test_settings_decide_the_name() -> None:
    """Without a name, equal meanings share a folder, and numerics do not part them."""
    from flows.arguments import parse

    names = [
        default_name("quickstart", parse("quickstart", words)[0])
        for words in ([], ["--numerics.threads", "2"], ["--training.seed", "1"])
    ]
    assert names[0] == names[1] != names[2]
    assert all(name.startswith("quickstart-") for name in names)


def test_description_follows_the_run(copy: Finished) -> None:
    """run.json has the settings and every artifact's key and digest."""
    described = json.loads((copy.folder / "run.json").read_text())
    assert described["preset"] == "quickstart"
    assert described["config"]["training"]["tokens"] == 1536
    for stage in STAGES:
        record = copy.record(stage)
        made = described["artifacts"][stage]
        assert made == {"key": record["key"]["digest"], "digest": record["digest"]}


def test_folder_can_be_moved(copy: Finished, tmp_path: Path) -> None:
    """Links in a run's folder are relative: an artifacts folder may be moved as a whole."""
    moved = tmp_path / "elsewhere"
    copy.artifacts.rename(moved)
    for stage in STAGES:
        assert (moved / "runs" / "tiny" / stage / "record.json").exists()
    assert outcome(run_through(moved)) == dict.fromkeys(STAGES, "hit")


def test_early_cutoff(copy: Finished) -> None:
    """Text read under another setting that makes the same tokens rebuilds what read it, no more."""
    with training_here():
        events = run_through(copy.artifacts, "--corpus.max-train-bytes", "100000000")
    expected = dict.fromkeys(STAGES, "hit") | {"tokenizer": "built", "pretokenize": "built"}
    assert outcome(events) == expected
    assert digests(copy.folder)["pretokenize"] == copy.record("pretokenize")["digest"]


def test_damaged_artifact_is_quarantined_and_rebuilt(copy: Finished) -> None:
    """A changed byte is found, said, put aside and made again, with the digest it had."""
    before = digests(copy.folder)
    file = copy.artifact("tokenizer") / "tokenizer.json"
    file.chmod(0o644)
    file.write_text(file.read_text().replace("a", "b", 1))
    events = run_through(copy.artifacts)
    assert outcome(events) == dict.fromkeys(STAGES, "hit") | {"tokenizer": "built"}
    (warning,) = [event for event in events if event.kind == "warning"]
    assert warning.stage == "tokenizer"
    assert "tokenizer.json" in warning.text
    assert digests(copy.folder) == before
    assert len(list((copy.artifacts / "quarantine").iterdir())) == 1


def test_live_metrics_are_linked_while_training(copy: Finished) -> None:
    """While the model trains, the run's metrics can be read; afterwards they are the artifact's."""
    seen: list[str] = []

    def look(event: Event) -> None:
        if event.kind == "metrics" and event.data["step"] == 6:
            seen.append(os.readlink(copy.artifacts / "runs" / "again" / "metrics.jsonl"))
            assert (copy.artifacts / "runs" / "again" / "metrics.jsonl").exists()

    settings = [*TINY, "--engine", "none", "--artifacts", str(copy.artifacts)]
    settings += ["--name", "again", "--training.seed", "5"]
    run = prepare("quickstart", settings, map_here, look)
    with training_here():
        corpus = obtain(run, "download")
        tokenizer = obtain(run, "tokenizer", download=corpus)
        tokens = obtain(run, "pretokenize", download=corpus, tokenizer=tokenizer)
        obtain(run, "pretrain", tokenizer=tokenizer, pretokenize=tokens)
    assert all("work" in target for target in seen)
    assert len(seen) == 2  # the step's record and its validation


def test_link_replaces_what_was_there(tmp_path: Path) -> None:
    """A link is pointed elsewhere in one move, also where an interrupted one was left."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    place = tmp_path / "runs"
    (tmp_path / f".runs.{os.getpid()}").symlink_to("nowhere")
    link(place, tmp_path / "a")
    link(place, tmp_path / "b")
    assert place.resolve() == tmp_path / "b"
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "runs"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("hit", "note"), ("built", "note"), ("waiting", "note"), ("quarantined", "warning")],
)
def test_events_of_the_store_are_told_once(kind: str, expected: str) -> None:
    """What the run says itself is silent in the store's words; trouble is a warning."""
    event = translated(StoreEvent(kind, "tokenizer", "text"))  # type: ignore[arg-type]
    assert event.kind == expected
    assert event.text == ("" if kind in ("hit", "built") else "text")


@pytest.mark.parametrize(
    ("words", "mention"),
    [
        (["--training.batch-size", "6", "--numerics.processes", "4"], "make it a multiple"),
        (["--training.batch-size", "6", "--numerics.micro-batch", "4"], "must divide the 6"),
        (
            ["--training.batch-size=8", "--numerics.processes=2", "--numerics.micro-batch=8"],
            "must divide the 4",
        ),
    ],
)
def test_batch_that_cannot_be_shared_is_refused(words: list[str], mention: str) -> None:
    """A batch must be a multiple of the processes, and each share of the micro-batch."""
    from flows.arguments import parse

    (fault,) = split_faults(parse("quickstart", words)[0])
    assert mention in fault


def test_more_than_one_process_may_share_a_batch() -> None:
    """What divides is let through."""
    from flows.arguments import parse

    words = ["--training.batch-size", "8", "--numerics.processes", "2"]
    assert split_faults(parse("quickstart", [*words, "--numerics.micro-batch", "2"])[0]) == []
