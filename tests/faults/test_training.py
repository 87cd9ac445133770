"""Training that goes wrong, and runs that are taken up again."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import record_of
from tests.faults.damage import contents, flip, forget

STEPS = 20  # of the small run, a checkpoint every 5


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let training break down right before a step, as a killed process does; 0 lets it be."""
    from flows.trainer.feed import HostFeed

    take_batch = HostFeed.batch

    def set_step(step: int) -> None:
        def batch(self: HostFeed, index: int):
            if index + 1 == step:
                raise KeyboardInterrupt
            return take_batch(self, index)

        monkeypatch.setattr(HostFeed, "batch", batch)

    return set_step


@pytest.fixture
def wanted(artifacts: Path) -> str:
    """The digest of the weights when nothing happens to the run."""
    return record_of(artifacts, "pretrain")["digest"]


@pytest.fixture
def interrupted(artifacts: Path, wanted: str, small: Callable, stop_at: Callable) -> Path:
    """The small run, stopped before step 18: checkpoints after 10 (the best), and 15."""
    forget(artifacts, "pretrain")
    stop_at(18)
    assert small(artifacts).status == 130
    stop_at(0)
    return artifacts


def checkpoints(artifacts: Path) -> list[Path]:
    """Those of the run in progress, the last one last."""
    return sorted(artifacts.glob("work/pretrain-*/checkpoints/step-*"))


def test_an_interrupted_run_goes_on_from_its_last_checkpoint(interrupted, wanted, small):
    """One note says from where, and the weights are those of a run never stopped."""
    ended = small(interrupted)
    assert ended.status == 0, ended
    assert "resumed after step 15" in ended.out
    assert record_of(interrupted, "pretrain")["digest"] == wanted


DAMAGES = {
    "a bit of the tensors": lambda path: flip(path / "tensors.safetensors"),
    "a bit of the manifest": lambda path: flip(path / "manifest.json", 0.1),
    "tensors cut short": lambda path: (path / "tensors.safetensors").write_bytes(b"short"),
    "tensors gone": lambda path: (path / "tensors.safetensors").unlink(),
    "manifest gone": lambda path: (path / "manifest.json").unlink(),
    "manifest empty": lambda path: (path / "manifest.json").write_text(""),
}


SOME_DAMAGES = [
    pytest.param(name, marks=[] if name.startswith("a bit") else pytest.mark.slow)
    for name in DAMAGES
]


@pytest.mark.parametrize("damage", SOME_DAMAGES)
def test_a_damaged_checkpoint_is_passed_by_loudly(damage, interrupted, wanted, small):
    """The earlier one takes its place, and the run still ends with the same weights."""
    *_, last = checkpoints(interrupted)
    assert last.name == "step-000000015"
    DAMAGES[damage](last)
    ended = small(interrupted)
    assert ended.status == 0, ended
    assert "! pretrain" in ended.out
    assert "step-000000015" in ended.out
    assert "it is passed by, an older one is tried" in ended.out
    assert "resumed after step 10" in ended.out
    assert record_of(interrupted, "pretrain")["digest"] == wanted


@pytest.mark.slow
def test_a_run_whose_checkpoints_are_all_damaged_begins_again(interrupted, wanted, small):
    """Each is named, nothing is taken from them, and the weights are the same."""
    for path in checkpoints(interrupted):
        flip(path / "tensors.safetensors")
    ended = small(interrupted)
    assert ended.status == 0, ended
    assert ended.out.count("it is passed by") == len(["step 10", "step 15"])
    assert "resumed" not in ended.out
    assert record_of(interrupted, "pretrain")["digest"] == wanted


@pytest.mark.parametrize("text", ["", '{"numerics": {}, "drift": []}'])
def test_damaged_numerics_of_a_run_in_progress_are_refused(text, interrupted, small):
    """The file is named, and both ways out; the checkpoints stay."""
    (path,) = interrupted.glob("work/pretrain-*/numerics.json")
    path.write_text(text)
    before = contents(interrupted / "work")
    small(interrupted).refused("numerics.json was damaged", "delete")
    assert contents(interrupted / "work") == before
    path.unlink()
    ended = small(interrupted)
    assert ended.status == 0, ended
    assert "resumed after step 15" in ended.out


def test_other_numerics_are_refused_unless_drift_is_allowed(interrupted, small):
    """The last bits would differ: refused with both values, allowed and recorded on request."""
    other = ("--numerics.micro-batch", "2")
    small(interrupted, *other).refused("micro_batch 4 -> 2", "--allow-drift")
    ended = small(interrupted, *other, "--allow-drift")
    assert ended.status == 0, ended
    assert "resuming under other micro_batch" in ended.out
    assert record_of(interrupted, "pretrain")["facts"]["drift"] == [{"micro_batch": [4, 2]}]


def test_a_torn_last_line_of_the_metrics_is_dropped(interrupted, small):
    """Half a record, as a kill leaves it; the finished log has every step once."""
    (log,) = interrupted.glob("work/pretrain-*/metrics.jsonl")
    with log.open("ab") as file:
        file.write(b'{"kind": "train", "step": 17, "lo')
    ended = small(interrupted)
    assert ended.status == 0, ended
    (made,) = interrupted.glob("store/pretrain/*/metrics.jsonl")
    records = [json.loads(line) for line in made.read_text().splitlines()]
    steps = [record["step"] for record in records if record["kind"] != "validation"]
    assert steps == list(range(1, STEPS + 1))


def test_a_learning_rate_beyond_all_sense_is_refused_before_any_work(small, tmp_path):
    """1e30 cannot end well."""
    small(tmp_path / "artifacts", "--training.max-lr", "1e30").refused("--training.max-lr")
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize("bad_steps", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_training_that_is_no_longer_finite_stops(bad_steps, small, tmp_path, lmcore):
    """After --training.max-bad-steps steps, with what to lower; earlier stages are kept."""
    root = tmp_path / "artifacts"
    words = ("--training.max-lr", "1e6", "--training.weight-decay", "1e6")
    ended = small(root, *words, "--training.max-bad-steps", bad_steps)
    ended.refused(f"{bad_steps} steps in a row", "not finite", "--training.max-lr")
    assert [path.name for path in (root / "store").iterdir() if path.name == "pretrain"] == []
    assert list((root / "tmp").iterdir()) == []
    assert lmcore("verify", "--artifacts", root).status == 0
    assert small(root).status == 0


def test_a_process_killed_for_want_of_memory_is_named(small, tmp_path, monkeypatch):
    """Signal 9 from outside: what it most often means, and that training resumes."""
    from flows.trainer import launch

    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    popen = launch.subprocess.Popen

    def start(job, job_path, keep_open):
        return popen(
            [launch.sys.executable, "-c", killed], stdout=launch.subprocess.PIPE, text=True
        )

    monkeypatch.setattr("flows.stages.pretrain.launch", launch.launch)
    monkeypatch.setattr(launch, "start", start)
    small(tmp_path / "a").refused("killed (signal 9)", "memory", "--numerics.micro-batch")


def test_a_bug_in_the_training_process_shows_its_traceback(small, tmp_path, monkeypatch):
    """What the user cannot mend is no neat line: the report must hold what a developer needs."""
    from flows.trainer.feed import HostFeed

    def batch(self, index):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(HostFeed, "batch", batch)
    ended = small(tmp_path / "artifacts")
    assert ended.status == 1
    assert "Traceback" in ended.err
    assert "ZeroDivisionError: a bug" in ended.err
    assert list((tmp_path / "artifacts" / "tmp").iterdir()) == []
