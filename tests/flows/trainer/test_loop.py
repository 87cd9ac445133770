"""The training loop: what it leaves, and that an interruption anywhere changes no bit of it."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from flows.formats import checkpoint, metrics_log
from flows.progress.events import Event
from flows.trainer import loop
from flows.trainer.distributed import World
from flows.trainer.job import Job
from flows.trainer.meter import Meter
from flows.trainer.reproducible import StopSignal
from lmcore.errors import InputError
from lmcore.optimizer.schedule import cosine_schedule
from lmcore.training.step import init_state, train_step
from tests.flows.tiny_run import STEPS, Finished

NewJob = Callable[..., Job]


def train(job: Job, say: Callable[[Event], None] | None = None) -> dict:
    """Train to the end in this process; what it says of its result."""
    loop.pretrain(job, say or (lambda event: None))
    return json.loads((Path(job.out_dir) / "result.json").read_text())


def steps_logged(job: Job, kind: str = "train") -> list[int]:
    return [r["step"] for r in metrics_log.read(Path(job.metrics)) if r["kind"] == kind]


def at_step(step: int, action: Callable[[], None]) -> Callable[[Event], None]:
    """Act once the log says that a step has been taken."""

    def say(event: Event) -> None:
        if event.kind == "metrics" and event.data["kind"] == "train" and event.data["step"] == step:
            action()

    return say


class Killed(Exception):
    """Stands for the end of the process: nothing after it is done."""


def die() -> None:
    raise Killed


def losses(job: Job) -> list[tuple[str, int, float, float | None]]:
    """The log without what depends on the clock and the machine."""
    records = metrics_log.read(Path(job.metrics))
    return [(r["kind"], r["step"], r["loss"], r.get("grad_norm")) for r in records]


def test_process_boundary_changes_nothing(new_job: NewJob, finished: Finished) -> None:
    """Trained here or by a worker of the command line, the weights are the same."""
    facts = finished.record("pretrain")["facts"]
    result = train(new_job())
    assert result["weights"] == facts["weights"]
    assert result["steps"] == facts["steps"] == STEPS


@pytest.mark.parametrize("step", [1, 4, 5, 6, 10])
def test_stopped_run_goes_on_to_the_same_end(new_job: NewJob, step: int) -> None:
    """SIGTERM during any step leaves a checkpoint of it; resumed, weights and log are the same."""
    whole, stopped = new_job("whole"), new_job("stopped", checkpoint_every=100)
    expected = train(whole)
    with pytest.raises(SystemExit) as ended:
        train(stopped, at_step(step, lambda: signal.raise_signal(signal.SIGTERM)))
    step += 1  # the signal came while the next one began
    assert ended.value.code == 143
    assert not list(Path(stopped.out_dir).iterdir())
    assert checkpoint.list_records(Path(stopped.work_dir) / "checkpoints")[-1].step == step

    said: list[str] = []
    result = train(stopped, lambda event: said.append(event.text))
    assert f"resumed after step {step}" in said
    assert result["weights"] == expected["weights"]
    assert losses(stopped) == losses(whole)


@pytest.mark.parametrize("step", [3, 7, 12])
def test_killed_run_goes_on_to_the_same_end(new_job: NewJob, step: int) -> None:
    """Killed after a step was logged and before its checkpoint, nothing is lost or said twice."""
    whole, killed = new_job("whole"), new_job("killed")
    expected = train(whole)
    with pytest.raises(Killed):
        train(killed, at_step(step, die))
    assert steps_logged(killed) == list(range(1, step + 1))
    result = train(killed)
    assert result["weights"] == expected["weights"]
    assert losses(killed) == losses(whole)


def test_killed_run_with_muon_goes_on_to_the_same_end(new_job: NewJob) -> None:
    """The state of two optimizers goes through a checkpoint without losing a bit."""
    training = replace(new_job("settings").training, optimizer="muon")
    whole, killed = (new_job(name, training=training) for name in ("whole", "killed"))
    expected = train(whole)
    with pytest.raises(Killed):
        train(killed, at_step(7, die))
    assert train(killed)["weights"] == expected["weights"]
    assert losses(killed) == losses(whole)


def test_damaged_checkpoint_is_named_and_passed_over(new_job: NewJob) -> None:
    """With its last checkpoint damaged a run goes on from the one before, and says so."""
    whole, killed = new_job("whole"), new_job("killed")
    expected = train(whole)
    with pytest.raises(Killed):
        train(killed, at_step(11, die))
    last = checkpoint.list_records(Path(killed.work_dir) / "checkpoints")[-1]
    assert last.step == 10
    file = last.path / checkpoint.TENSORS
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    said: list[Event] = []
    result = train(killed, said.append)
    assert any(event.kind == "warning" and last.path.name in event.text for event in said)
    assert "resumed after step 6" in [event.text for event in said]
    assert result["weights"] == expected["weights"]
    assert losses(killed) == losses(whole)


@pytest.mark.parametrize(
    "neutral", [{"log_every": 4}, {"checkpoint_every": 1}, {"keep_checkpoints": 1}]
)
def test_neutral_settings_change_no_weight(new_job: NewJob, neutral: dict[str, int]) -> None:
    """How often a run logs and checkpoints changes no bit of its weights."""
    assert train(new_job("one"))["weights"] == train(new_job("other", **neutral))["weights"]


def test_log_has_the_steps_that_are_due(new_job: NewJob) -> None:
    """The first step, each log step and the last are logged; validations as often as was asked."""
    job = new_job(log_every=5)
    train(job)
    assert steps_logged(job) == [1, 5, 10, 12]
    assert steps_logged(job, "validation") == [6, 12]
    silent = new_job("silent", training=replace(job.training, validate_every=0))
    train(silent)
    assert steps_logged(silent, "validation") == [12]


def test_log_says_what_happened(new_job: NewJob) -> None:
    """A record has the step's tokens, the schedule's learning rate, and time that grows."""
    job = new_job()
    train(job)
    records = [r for r in metrics_log.read(Path(job.metrics)) if r["kind"] == "train"]
    assert [r["tokens"] for r in records] == [step * 4 * 32 for step in range(1, STEPS + 1)]
    t = job.training
    rates = [
        cosine_schedule(step, t.max_lr, t.max_lr * t.min_lr_ratio, t.warmup_steps, STEPS)
        for step in range(1, STEPS + 1)
    ]
    # The schedule runs in float32 on the device.
    assert [r["lr"] for r in records] == pytest.approx([float(rate) for rate in rates], rel=1e-6)
    seconds = [r["seconds"] for r in records]
    assert seconds == sorted(seconds)
    assert all(r["grad_norm"] > 0 and r["memory_bytes"] > 1e6 for r in records)
    assert records[-1]["loss"] < records[0]["loss"]


def test_time_is_added_up_over_interruptions(new_job: NewJob) -> None:
    """The seconds of a resumed run go on from where the first process had come."""
    job = new_job()
    with pytest.raises(SystemExit):
        train(job, at_step(7, lambda: signal.raise_signal(signal.SIGTERM)))
    before = metrics_log.read(Path(job.metrics))[-1]["seconds"]
    assert train(job)["seconds"] > before > 0


def test_best_weights_are_those_of_the_best_validation(
    new_job: NewJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an earlier step validated better its weights are published beside the last ones."""
    scores = iter([2.0, 3.0])
    real = loop.score_beginning
    monkeypatch.setattr(
        loop, "score_beginning", lambda *a: real(*a)._replace(nats=next(scores) * real(*a).tokens)
    )
    job = new_job()
    at_six: dict[str, torch.Tensor] = {}

    def remember(event: Event) -> None:
        if event.kind == "metrics" and event.data["step"] == 7:
            record = checkpoint.list_records(Path(job.work_dir) / "checkpoints")[-1]
            at_six.update(checkpoint.load(record.path).tensors)

    result = train(job, remember)
    assert result["best_step"] == 6
    assert set(result["weights"]) == {"last", "best"}
    best = load_file(Path(job.out_dir) / "best.safetensors")
    for name, tensor in best.items():
        assert torch.equal(tensor, at_six[f"params/{name}"]), name


def test_last_weights_stand_alone_where_they_are_best(new_job: NewJob) -> None:
    """No second copy of the weights is written where the last step is the best."""
    job = new_job()
    assert train(job)["best_step"] == STEPS
    assert not (Path(job.out_dir) / "best.safetensors").exists()


def test_old_checkpoints_are_dropped(new_job: NewJob) -> None:
    """Beside the best only as many checkpoints are kept as was asked, the latest ones."""
    job = new_job(checkpoint_every=1, keep_checkpoints=3)
    train(job)
    kept = [record.step for record in checkpoint.list_records(Path(job.work_dir) / "checkpoints")]
    assert kept == [10, 11, 12]


def test_run_that_learns_nothing_any_more_stops(
    new_job: NewJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps in a row without a finite loss end the run; what was learned before is kept."""
    calls: list[int] = []

    def broken(state, batch, **settings):
        calls.append(1)
        if len(calls) > 6:
            ruined = {n: t.clone().fill_(float("nan")) for n, t in state.params.items()}
            state = state._replace(params=ruined)
        return train_step(state, batch, **settings)

    monkeypatch.setattr(loop, "train_step", broken)
    job = new_job()
    job = replace(job, training=replace(job.training, max_bad_steps=3, validate_every=0))
    with pytest.raises(InputError, match=r"3 steps in a row.*--training.max-lr"):
        train(job)
    assert len(calls) == 9
    records = checkpoint.list_records(Path(job.work_dir) / "checkpoints")
    assert [record.step for record in records] == [5]


@pytest.mark.parametrize(
    ("step", "due"), [(2, False), (4, False), (1, True), (5, True), (8, True), (12, True)]
)
def test_gpu_is_waited_for_only_where_something_is_due(
    new_job: NewJob, step: int, due: bool
) -> None:
    """Between log steps and checkpoints nothing of a step is read, which would wait for the GPU."""
    run = loop.Run.__new__(loop.Run)
    run.job = new_job(log_every=5, checkpoint_every=8)
    run.world, run.stop = World(device=torch.device("cuda")), StopSignal()
    run.total, run.say = STEPS, lambda event: None
    meter = Meter(run.job, STEPS, 0, 0.0)
    meter.shown = float("inf")  # the progress line has just been shown
    unread: dict[str, torch.Tensor] = {}  # whatever is read is an error
    progress = loop.Progress(init_state(run.job.model, run.job.training), step, 0.0)
    if not due:
        run.after_step(progress, unread, meter, None)
        return
    with pytest.raises(KeyError):
        run.after_step(progress, unread, meter, None)


def test_text_shorter_than_a_window_is_refused(new_job: NewJob) -> None:
    """A training text that fills no window is refused, with its size and what to lower."""
    job = new_job()
    short = replace(job, train_tokens=job.valid_tokens)
    tokens = len(loop.open_data(short).train.tokens)
    short = replace(short, model=replace(job.model, context_length=tokens))
    with pytest.raises(InputError, match=f"the text has {tokens} tokens.*--model.context-length"):
        train(short)


def test_micro_batches_learn_the_same(new_job: NewJob) -> None:
    """Sharing a batch out over micro-batches changes nothing but the order of sums."""
    one = new_job("one")
    many = new_job("many", numerics=replace(one.numerics, micro_batch=1))
    train(one)
    train(many)
    for ours, theirs in zip(losses(one), losses(many), strict=True):
        # float32 sums in another order, over twelve steps that each add to the difference.
        assert ours[2] == pytest.approx(theirs[2], rel=1e-4)


def test_activation_checkpointing_changes_no_bit(new_job: NewJob) -> None:
    """Blocks that are computed twice train the very same weights, eager; and they are."""
    plain = new_job("plain", numerics=replace(new_job("any").numerics, compile=False))
    numerics = replace(plain.numerics, activation_checkpointing=True)
    twice = new_job("twice", numerics=numerics)
    assert train(twice)["weights"] == train(plain)["weights"]
    assert kept_by(twice) < kept_by(plain)


def kept_by(job: Job) -> int:
    """Numbers that autograd keeps for the backward pass of one step."""
    step = loop.make_step(job, World())
    ids = torch.zeros(job.training.batch_size, job.model.context_length, dtype=torch.int64)
    kept: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step(init_state(job.model, job.training), (ids, ids))
    return sum(kept)


def test_a_loss_in_chunks_learns_the_same(new_job: NewJob) -> None:
    """Chunks of logits change nothing but the order of sums, and are made where they are asked."""
    whole = new_job("whole")
    chunked = new_job("chunked", numerics=replace(whole.numerics, loss_chunk_tokens=7))
    assert train(whole)["weights"] != train(chunked)["weights"]
    for ours, theirs in zip(losses(whole), losses(chunked), strict=True):
        assert ours[2] == pytest.approx(theirs[2], rel=1e-4)  # as for micro-batches
