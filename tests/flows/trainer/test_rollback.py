"""A run whose gradients or loss go wrong goes back, past the data, to the state it should have."""

import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from flows.formats import checkpoint, metrics_log
from flows.progress.events import Event
from flows.trainer import loop, rollback
from flows.trainer.feed import HostFeed
from flows.trainer.graphed import graph_step
from flows.trainer.job import Job
from flows.trainer.numerics import missing_for_compiling
from flows.trainer.rollback import LossReader
from lmcore.errors import InputError
from lmcore.params import map_params
from lmcore.training.spikes import LossWatch
from tests import small_training
from tests.small_training import result_of, run_worker

STEPS = 60
# By the index of the batch: one bad step alone is skipped; three in a row go back; so do two high
# losses, which come after what was learned in the meantime.
FAULTS = {12: "nan", 25: "nan", 26: "nan", 27: "nan", 51: "spike", 52: "spike"}
EVENTS = [  # reason, the step it was found at, the step gone back to, batches passed since then
    ("not finite", 28, 20, 8),
    ("loss spike", 45, 40, 5),
]


class Killed(Exception):
    """Stands for the end of the process: nothing after it is done."""


class Injected:
    """Batches that do harm, whenever they are read; and another order of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.faults: dict[int, str] = {}
        self.order: Callable[[int], int] = lambda index: index
        self.read: list[int] = []
        take, differentiate = HostFeed.batch, loop.loss_and_gradients

        def batch(feed: HostFeed, index: int):
            self.read.append(self.order(index))
            return take(feed, self.order(index))

        def loss_and_gradients(*args, **settings):
            loss, grads = differentiate(*args, **settings)
            fault = self.faults.get(self.read[-1])
            if fault == "nan":
                return loss, map_params(lambda grad: grad * torch.nan, grads)
            if fault == "spike":  # up the hill, at full speed
                return loss + 100.0, map_params(torch.neg, grads)
            return loss, grads

        monkeypatch.setattr(HostFeed, "batch", batch)
        monkeypatch.setattr(loop, "loss_and_gradients", loss_and_gradients)


@pytest.fixture
def injected(monkeypatch: pytest.MonkeyPatch) -> Injected:
    return Injected(monkeypatch)


@pytest.fixture
def new_job(tmp_path: Path) -> Callable[..., Job]:
    return jobs_in(tmp_path)


def jobs_in(folder: Path) -> Callable[..., Job]:
    """Jobs of 60 steps that may go back, each in folders of its own below this one."""

    def make(name: str = "job", *, max_rollbacks: int = 3, **settings: object) -> Job:
        job = small_training.new_job(folder / name)
        training = replace(
            job.training,
            tokens=STEPS * 4 * 32,
            validate_every=30,
            max_rollbacks=max_rollbacks,
            rollback_every=10,
            spike_steps=2,
            max_bad_steps=3,
        )
        return replace(job, training=training, **settings)  # type: ignore[arg-type]

    return make


def train(job: Job, say: Callable[[Event], None] | None = None) -> dict:
    loop.pretrain(job, say or (lambda event: None))
    return result_of(job)


def log_of(job: Job) -> list[dict]:
    """The log without what depends on the clock and the machine."""
    timed = {"seconds", "tokens_per_second", "flops_per_second", "memory_bytes"}
    records = metrics_log.read(Path(job.metrics))
    return [{k: v for k, v in record.items() if k not in timed} for record in records]


def test_a_run_recovers_as_if_the_data_had_not_been_there(
    injected: Injected, new_job: Callable[..., Job]
) -> None:
    """Its weights and log are those of a run that was never given the batches passed by."""
    injected.faults = FAULTS
    job, said = new_job(), list[Event]()
    result = train(job, said.append)
    log = log_of(job)
    events = [record for record in log if record["kind"] == "rollback"]
    facts = [(e["reason"], e["spike_step"], e["back_to"], e["skipped_batches"]) for e in events]
    assert facts == EVENTS
    assert [record["data_offset"] for record in events] == [8, 13]
    assert result["rollbacks"] == 2
    warnings = [event.text for event in said if event.kind == "warning"]
    assert len(warnings) == 2
    assert "step 28: 3 steps in a row" in warnings[0]
    assert "back to step 20 and past the 8 batches" in warnings[0]
    assert "step 45: the loss is 10" in warnings[1]
    assert "rollback 2 of at most 3" in warnings[1]

    injected.order = lambda t: t if t < 20 else t + 8 if t < 40 else t + 13
    injected.faults = {12: "nan"}
    plain = new_job("plain", max_rollbacks=0)
    expected = train(plain)
    assert result["weights"] == expected["weights"]
    assert result["skipped"] == expected["skipped"] == 1
    assert [record for record in log if record["kind"] != "rollback"] == log_of(plain)


def test_without_rollbacks_the_same_faults_end_the_run(
    injected: Injected, new_job: Callable[..., Job]
) -> None:
    """The default is what it was: a spike is trained on, a row of bad steps is an error."""
    injected.faults = FAULTS
    with pytest.raises(InputError, match="3 steps in a row"):
        train(new_job(max_rollbacks=0))
    assert injected.read[-1] == 27


def test_a_run_without_spikes_is_not_changed(
    injected: Injected, new_job: Callable[..., Job]
) -> None:
    """Allowed to go back or not, a run that need not has the same weights and log."""
    off, on = new_job("off", max_rollbacks=0), new_job("on")
    assert train(off)["weights"] == train(on)["weights"]
    assert log_of(off) == log_of(on)
    assert injected.read == [*range(STEPS), *range(STEPS)]


def test_the_number_of_rollbacks_is_bounded(
    injected: Injected, new_job: Callable[..., Job]
) -> None:
    """Once they are used up, one error says what happened, how often, and what to set."""
    injected.faults = FAULTS
    with pytest.raises(
        InputError, match=r"step 45: the loss is 10.*after 1 rollbacks; lower --training.max-lr"
    ):
        train(new_job(max_rollbacks=1))


def dies_at(moment: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[Event], None]:
    """Let the process end at a moment of the recovery, once."""
    left, seen = [moment], list[int]()

    def die() -> None:
        if left.pop() == "asked to stop":
            signal.raise_signal(signal.SIGTERM)
        else:
            raise Killed

    def say(event: Event) -> None:
        if (
            left
            and event.kind == "warning"
            and moment == "gone back"
            and "to step 40" in event.text
        ):
            die()
        if left and event.kind == "metrics" and event.data["kind"] == "train":
            seen.append(event.data["step"])
            if (seen[-1], seen.count(seen[-1])) == AFTER.get(moment):
                die()

    def discard_after(folder: Path, step: int) -> list[int]:
        if left and moment == "checkpoints half gone" and step == 40:
            checkpoint.discard(checkpoint.step_folders(folder)[-1])
            die()
        return discards(folder, step)

    def truncate_after(path: Path, step: int) -> int:
        if left and moment == "log not cut" and step == 40:
            die()
        return truncates(path, step)

    discards, truncates = checkpoint.discard_after, metrics_log.truncate_after
    monkeypatch.setattr(rollback.checkpoint, "discard_after", discard_after)
    monkeypatch.setattr(rollback.metrics_log, "truncate_after", truncate_after)
    return say


# Once a step is logged, for which time. Step 28 is taken again; 44 and 45 are the spike.
AFTER = {
    "before it": (43, 1),
    "in the spike": (44, 1),
    "asked to stop": (44, 1),
    "just past it": (41, 2),
    "past it": (44, 2),
}
MOMENTS = [*AFTER, "checkpoints half gone", "log not cut", "gone back"]
EVERY = [3, pytest.param(1, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.slow)]


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interruption_in_the_recovery_changes_nothing(
    moment: str,
    every: int,
    injected: Injected,
    new_job: Callable[..., Job],
    monkeypatch: pytest.MonkeyPatch,
    whole: dict,
) -> None:
    """Killed or stopped at any moment of it, and resumed, weights and log are the same."""
    injected.faults = FAULTS
    job = new_job(checkpoint_every=every, keep_checkpoints=1)
    with pytest.raises((Killed, SystemExit)):
        train(job, dies_at(moment, monkeypatch))
    result = train(job)
    assert (result["weights"], result["skipped"]) == (whole["weights"], whole["skipped"])
    assert log_of(job) == whole["log"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The run with all faults, never interrupted."""
    from tests.flows.tiny_run import training_here

    with pytest.MonkeyPatch.context() as patch, training_here():
        Injected(patch).faults = FAULTS
        job = jobs_in(tmp_path_factory.mktemp("whole"))()
        return train(job) | {"log": log_of(job)}


@pytest.mark.parametrize("neutral", [{"log_every": 7}, {"checkpoint_every": 4}])
def test_neutral_settings_change_no_recovery(
    neutral: dict, injected: Injected, new_job: Callable[..., Job], whole: dict
) -> None:
    """How often a run logs and checkpoints changes neither when it goes back nor to where."""
    injected.faults = FAULTS
    assert train(new_job(**neutral))["weights"] == whole["weights"]


def test_a_recorded_step_goes_on_after_a_rollback(
    injected: Injected, new_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, whole: dict
) -> None:
    """The restored state is put into the tensors that a CUDA graph was recorded with."""
    monkeypatch.setattr(loop, "graph_step", partial(graph_step, record=lambda work: work))
    injected.faults = FAULTS
    job = new_job()
    job = replace(job, numerics=replace(job.numerics, cuda_graph=True))
    assert train(job)["weights"] == whole["weights"]


# What `Injected` does, for a process of its own that finds this first on its path.
INJECTOR = f"""
import torch
from flows.trainer import loop
from flows.trainer.feed import HostFeed
from lmcore.params import map_params

take, differentiate, read = HostFeed.batch, loop.loss_and_gradients, []

def batch(feed, index):
    read.append(index)
    return take(feed, index)

def loss_and_gradients(*args, **settings):
    loss, grads = differentiate(*args, **settings)
    fault = {FAULTS}.get(read[-1])
    if fault == "nan":
        return loss, map_params(lambda grad: grad * torch.nan, grads)
    if fault == "spike":
        return loss + 100.0, map_params(torch.neg, grads)
    return loss, grads

HostFeed.batch, loop.loss_and_gradients = batch, loss_and_gradients
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"processes": 2, "micro_batch": 2}, {"compile": True}], ids=["two", "compiled"]
)
def test_other_ways_to_step_go_back_alike(
    changes: dict, new_job: Callable[..., Job], tmp_path: Path, injected: Injected
) -> None:
    """In two processes, or compiled: the same events, and the losses of one eager process."""
    if changes.get("compile") and (missing := missing_for_compiling("cpu")):
        pytest.skip(f"torch.compile needs {missing}")
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "sitecustomize.py").write_text(INJECTOR)
    injected.faults = FAULTS
    jobs = [new_job("eager"), new_job("other", compiled=str(tmp_path / "kernels"))]
    jobs = [replace(job, training=replace(job.training, dropout=0.1)) for job in jobs]
    train(jobs[0])
    jobs[1] = replace(jobs[1], numerics=replace(jobs[1].numerics, **changes))
    run_worker(jobs[1], str(tmp_path / "first"))
    one, other = map(log_of, jobs)
    assert [r["kind"] for r in one] == [r["kind"] for r in other]
    assert len([r for r in one if r["kind"] == "rollback"]) == len(EVENTS)
    for ours, theirs in zip(one, other, strict=True):
        # Sums in another order: float32's last bits at the first step, which later steps amplify.
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-3, nan_ok=True)
        for name in ("step", "reason", "spike_step", "back_to", "data_offset"):
            assert theirs.get(name) == ours.get(name)


def test_when_losses_are_read_changes_nothing(new_job: Callable[..., Job]) -> None:
    """Read late and many at once, as beside a GPU, the spike is found at the same step."""
    training = new_job().training
    losses = [2.0 + 0.01 * (t % 3) for t in range(40)] + [9.0] * 6
    found = []
    for every in (1, 5, 46):
        reader = LossReader(training, LossWatch())
        metrics = {name: torch.zeros(()) for name in ("loss", "finite", "bad_steps")}
        metrics["finite"] += 1
        spikes = []
        for step, loss in enumerate(losses, start=1):
            metrics["loss"].fill_(loss)  # written over, as a recorded step does
            reader.see(step, metrics)
            spikes += [reader.read()] if step % every == 0 else []
        found.append(next(spike for spike in spikes if spike))
    assert found[0] == found[1] == found[2]
    assert (found[0].step, found[0].back_to) == (42, 40)


def test_a_restore_point_that_was_lost_is_named(
    injected: Injected, new_job: Callable[..., Job]
) -> None:
    """Without it the run cannot go back: the error names the folder."""
    injected.faults = {41: "spike", 42: "spike"}
    job = new_job()

    def say(event: Event) -> None:
        if event.kind == "metrics" and event.data["step"] == 42:
            checkpoint.discard(Path(job.work_dir) / "checkpoints" / "step-000000040")

    with pytest.raises(InputError, match="step-000000040"):
        train(job, say)
