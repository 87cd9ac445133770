"""Going back: the losses read as they come, and the state of a restore point put in their place.

What decides is `lmcore.training.spikes`. A step's loss may be read long after the step was asked
for, where a GPU computes; the steps are judged in their order all the same, so when they are read
changes nothing, and neither does an interruption.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flows.formats import checkpoint, metrics_log
from flows.formats.metrics_log import MetricsLog
from flows.progress.events import Event, Notify
from flows.trainer.distributed import World
from flows.trainer.graphed import write_over
from flows.trainer.job import Job, checkpoints_of
from lmcore.errors import InputError
from lmcore.params import Params, flatten, map_params
from lmcore.training.config import TrainingConfig
from lmcore.training.spikes import LossWatch, after_loss, after_rollback, must_roll_back
from lmcore.training.step import TrainState, init_state

WATCH = "watch"  # in the meta values of a checkpoint


class Spike(NamedTuple):
    """Where a run has to go back: the watch after that step, the step, and its loss."""

    watch: LossWatch
    step: int
    loss: float

    @property
    def finite(self) -> bool:
        """Whether the losses were only too high."""
        return self.watch.high_steps > 0 and self.watch.bad_steps == 0

    @property
    def back_to(self) -> int:
        return self.watch.restore_point


class LossReader:
    """Keeps the losses of steps until they may be read, and judges them in their order.

    Args:
      training: its `max_rollbacks` is 0 where nothing is to be kept or judged.
      watch: as it is before the first step that will be seen.
    """

    def __init__(self, training: TrainingConfig, watch: LossWatch) -> None:
        self.training, self.watch = training, watch
        self.unread: list[tuple[int, Tensor]] = []

    def see(self, step: int, metrics: Params) -> None:
        """Keep what a step gave, without waiting for it; its tensors may be written over later."""
        if self.training.max_rollbacks:
            names = ("loss", "finite", "bad_steps")
            kept = torch.stack([metrics[name].to(torch.float32) for name in names])
            self.unread.append((step, kept))

    def read(self) -> Spike | None:
        """Wait for the steps seen; the first that the run has to go back from, if there is one."""
        unread, self.unread = self.unread, []
        if not unread:
            return None
        rows = torch.stack([kept for _, kept in unread]).tolist()
        for (step, _), (loss, finite, bad_steps) in zip(unread, rows, strict=True):
            self.watch = after_loss(
                self.watch, step, loss, self.training, finite=bool(finite), bad_steps=int(bad_steps)
            )
            if must_roll_back(self.watch, self.training):
                return Spike(self.watch, step, loss)
        return None


def watch_in(meta: Mapping[str, Any]) -> LossWatch:
    """The watch that a checkpoint was taken with."""
    facts = meta[WATCH]
    return LossWatch(**{**facts, "recent": tuple(facts["recent"])})


def roll_back(spike: Spike, state: TrainState, job: Job, world: World, say: Notify) -> LossWatch:
    """Put the state of the restore point into the tensors of ``state``; later steps are undone.

    In place, because a recorded step knows no other tensors. Checkpoints and log records of the
    steps that are undone go first, so a process that is killed meanwhile finds what a run had that
    has not yet come to the spike; the event belongs to the step that is taken next.

    Returns:
      The watch to go on with.

    Raises:
      InputError: the run has gone back as often as it may, or the restore point is damaged.
    """
    refuse_endless(spike, job.training)
    tensors, restored = restore_point(spike.back_to, job)
    write_over(flatten(state), map_params(lambda tensor: tensor.to(world.device), tensors))
    watch = after_rollback(restored, spike.watch, spike.step)
    if world.leads:
        checkpoint.discard_after(checkpoints_of(job), spike.back_to)
        path = Path(job.metrics)
        metrics_log.truncate_after(path, spike.back_to)
        with MetricsLog(path) as log:
            log.append(record_of(spike, watch))
    passed = spike.step - spike.back_to
    text = (
        f"step {spike.step:,}: {what_happened(spike, job.training)}; back to step "
        f"{spike.back_to:,} and past the {passed:,} batches since, rollback {watch.rollbacks} of "
        f"at most {job.training.max_rollbacks}"
    )
    say(Event("warning", "pretrain", text))
    return watch


def restore_point(step: int, job: Job) -> tuple[Params, LossWatch]:
    """The tensors and the watch of a restore point; step 0 is made, not loaded."""
    if step == 0:
        return flatten(init_state(job.model, job.training)), LossWatch()
    found = checkpoint.load(checkpoints_of(job) / checkpoint.folder_name(step))
    return found.tensors, watch_in(found.record.meta)


def refuse_endless(spike: Spike, training: TrainingConfig) -> None:
    """Stop a run that has gone back as often as it may."""
    if spike.watch.rollbacks < training.max_rollbacks:
        return
    raise InputError(
        f"step {spike.step:,}: {what_happened(spike, training)}, after {training.max_rollbacks} "
        "rollbacks; lower --training.max-lr, set --training.precision float32, or raise "
        "--training.max-rollbacks; what was trained before is kept in the last checkpoint"
    )


def what_happened(spike: Spike, training: TrainingConfig) -> str:
    """The spike in a few words."""
    if spike.finite:
        return f"the loss is {spike.loss:.4g}, far above its recent range"
    return f"{training.max_bad_steps} steps in a row had a loss or gradient that is not finite"


def record_of(spike: Spike, watch: LossWatch) -> dict[str, Any]:
    """The event for the metrics log."""
    return {
        "kind": "rollback",
        "step": spike.back_to + 1,
        "reason": "loss spike" if spike.finite else "not finite",
        "spike_step": spike.step,
        "loss": spike.loss,
        "back_to": spike.back_to,
        "skipped_batches": spike.step - spike.back_to,
        "data_offset": watch.data_offset,
        "rollbacks": watch.rollbacks,
    }
