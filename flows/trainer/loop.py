"""The training loop: the pure step, and the effects around it.

A step counts as done when its checkpoint, its validation and its metrics are on disk, in this
order: validate, log, checkpoint. A run that was killed goes on after the last step that counts.
"""

import json
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from flows.formats import checkpoint, metrics_log
from flows.formats.checkpoint import CheckpointRecord
from flows.formats.metrics_log import MetricsLog
from flows.formats.tensor_digest import tensors_digest
from flows.formats.token_map import TokenMap, open_token_map
from flows.progress.events import Event, Notify
from flows.trainer.compiled import compared, compile_step, in_compiled_blocks
from flows.trainer.distributed import (
    World,
    any_rank,
    join,
    leave,
    rows_of_rank,
    sum_over_ranks,
)
from flows.trainer.feed import open_feed
from flows.trainer.graphed import graph_step
from flows.trainer.job import Job, checkpoints_of
from flows.trainer.meter import Meter
from flows.trainer.reproducible import StopSignal, pin
from flows.trainer.rollback import WATCH, LossReader, Spike, roll_back, watch_in
from flows.trainer.validation import score_beginning
from lmcore.data.windows import window_starts
from lmcore.errors import InputError
from lmcore.evaluation.tally import Tally
from lmcore.model.checkpointing import checkpointed
from lmcore.model.positions import model_rotary_tables
from lmcore.optimizer.fused_adamw import fused_adamw_step
from lmcore.params import Params, flatten, map_params, unflatten
from lmcore.planning.peak import peak_flops
from lmcore.training.config import n_steps
from lmcore.training.gradient import loss_and_gradients
from lmcore.training.lean_gradient import grad_and_value
from lmcore.training.spikes import LossWatch
from lmcore.training.step import TrainState, init_state, train_step

STOPPED = 143  # 128 + SIGTERM


class Interrupted(Exception):
    """The run was asked to stop, and did, after a checkpoint."""


class Data(NamedTuple):
    """What the loop reads: the training tokens, where their windows begin, validation tokens."""

    train: TokenMap
    starts: np.ndarray
    valid: TokenMap


class Progress(NamedTuple):
    """How far a run has come."""

    state: TrainState
    step: int
    seconds: float
    watch: LossWatch = LossWatch()


class GoBack(Exception):
    """The run has to go back to a restore point."""

    def __init__(self, progress: Progress, spike: Spike) -> None:
        super().__init__(f"from step {spike.step}")
        self.progress, self.spike = progress, spike


def pretrain(job: Job, say: Notify) -> None:
    """Train from the last checkpoint, or from the start, to the end; write the model.

    Raises:
      InputError: too few tokens for one window, or too many steps in a row without a finite loss.
      SystemExit: 143 when asked to stop by SIGTERM, after writing a checkpoint. Before the first
        step there is none to write, and SIGTERM simply ends the process.
    """
    pin(job.numerics)
    world = join(job.numerics.device)
    try:
        data = open_data(job)
        with StopSignal() as stop:
            run = Run(job, data, world, say, stop)
            final = run.to_the_end(resume(job, world, say))
        if world.leads:
            publish(job, final)
    finally:
        leave(world)


def open_data(job: Job) -> Data:
    """Map the tokens and find where the windows begin.

    Raises:
      InputError: the training text does not fill one window.
    """
    train = open_token_map(Path(job.train_tokens), verify="size")
    valid = open_token_map(Path(job.valid_tokens), verify="size")
    starts = window_starts(train.document_offsets, job.model.context_length, job.training.layout)
    return Data(train, starts, valid)


def resume(job: Job, world: World, say: Notify) -> Progress:
    """The last sound checkpoint, or the state before the first step."""

    def warn(text: str) -> None:
        say(Event("warning", "pretrain", text))

    initial = init_state(job.model, job.training, device=world.device)
    found = checkpoint.load_latest(checkpoints_of(job), on_skip=warn)
    if found is None:
        metrics_log.truncate_after(Path(job.metrics), 0) if world.leads else None
        return Progress(initial, 0, 0.0)
    on_device = map_params(lambda tensor: tensor.to(world.device), found.tensors)
    if world.leads:
        metrics_log.truncate_after(Path(job.metrics), found.record.step)
        say(Event("note", "pretrain", f"resumed after step {found.record.step:,}"))
    seconds = float(found.record.meta["seconds"])
    watch = watch_in(found.record.meta)
    return Progress(unflatten(initial, on_device), found.record.step, seconds, watch)


class Run:
    """One training process at work: what it reads, where it writes, how it steps."""

    def __init__(self, job: Job, data: Data, world: World, say: Notify, stop: StopSignal) -> None:
        self.job, self.data, self.world, self.say, self.stop = job, data, world, say, stop
        self.total = n_steps(job.training, job.model.context_length)
        self.take_step = make_step(job, world)
        self.peak = peak_of(job, world)
        self.feed = open_feed(job, data.train.tokens, data.starts, world)
        self.losses = LossReader(job.training, LossWatch())

    def to_the_end(self, progress: Progress) -> Progress:
        """Step until the last one, going back where the loss asks for it."""
        while True:
            try:
                return self.onwards(progress)
            except GoBack as gone:
                spike, state = gone.spike, gone.progress.state
                watch = roll_back(spike, state, self.job, self.world, self.say)
                progress = Progress(state, spike.back_to, gone.progress.seconds, watch)

    def onwards(self, progress: Progress) -> Progress:
        """Step until the last one; validate, log and checkpoint where they are due."""
        meter = Meter(self.job, self.total, progress.step, progress.seconds, self.peak)
        self.losses = LossReader(self.job.training, progress.watch)
        offset = progress.watch.data_offset
        with MetricsLog(Path(self.job.metrics)) if self.world.leads else _NoLog() as log:
            state = progress.state
            for step in range(progress.step + 1, self.total + 1):
                state, metrics = self.take_step(state, self.feed.batch(step - 1 + offset))
                self.stop.listen()
                self.losses.see(step, metrics)
                self.after_step(Progress(state, step, meter.seconds()), metrics, meter, log)
        return Progress(state, self.total, meter.seconds(), self.losses.watch)

    def after_step(self, progress: Progress, metrics: Params, meter: Meter, log) -> None:
        """The effects that are due after a step; where none is, nothing waits for the device."""
        job, step = self.job, progress.step
        is_last = step == self.total
        logs = is_last or step == 1 or step % job.log_every == 0
        validates = is_last or bool(
            job.training.validate_every and step % job.training.validate_every == 0
        )
        stops = any_rank(self.world, self.stop.came)
        restores = bool(job.training.max_rollbacks) and step % job.training.rollback_every == 0
        saves = validates or stops or restores or step % job.checkpoint_every == 0
        if logs or saves or self.world.device.type == "cpu":
            self.judge(progress, metrics)
        meter.show(self.say, step, metrics)
        if not self.world.leads:
            self.leave_if(stops and not is_last)
            return
        if logs:
            record = meter.record(step, metrics)
            log.append(record)
            self.say(Event("metrics", "pretrain", data=record))
        score = self.validate(progress, log) if validates else None
        if saves:
            log.sync()
            self.save(progress, score)
        self.leave_if(stops and not is_last)

    def judge(self, progress: Progress, metrics: Params) -> None:
        """Go back, or stop, where nothing is learned any more.

        Raises:
          GoBack: to a restore point.
          InputError: it may not go back, and too many steps in a row were not finite.
        """
        if self.job.training.max_rollbacks:
            if spike := self.losses.read():
                raise GoBack(progress, spike)
            return
        most = self.job.training.max_bad_steps
        if int(metrics["bad_steps"]) >= most:
            raise InputError(
                f"{most} steps in a row had a loss or gradient that is not finite; lower "
                "--training.max-lr, or set --training.precision float32; what was trained before "
                "is kept in the last checkpoint"
            )

    def validate(self, progress: Progress, log: MetricsLog) -> float:
        """Measure the loss on the beginning of the validation text; log it and return it."""
        began = time.perf_counter()
        tally: Tally = score_beginning(progress.state.params, self.job, self.data.valid)
        record = {
            "kind": "validation",
            "step": progress.step,
            "loss": tally.loss,
            "bits_per_byte": tally.bits_per_byte,
            "tokens": tally.tokens,
            "seconds": time.perf_counter() - began,
        }
        log.append(record)
        self.say(Event("metrics", "pretrain", data=record))
        return record["loss"]

    def save(self, progress: Progress, score: float | None) -> None:
        """Write a checkpoint, and drop those that are neither the last few nor the best."""
        folder = checkpoints_of(self.job)
        watch = self.losses.watch
        meta = {"seconds": progress.seconds, WATCH: watch._asdict()}
        checkpoint.save(folder, progress.step, flatten(progress.state), meta, score=score)
        kept = [watch.restore_point] if self.job.training.max_rollbacks else []
        checkpoint.prune(folder, self.job.keep_checkpoints, 1, kept)

    def leave_if(self, stops: bool) -> None:
        if stops:
            raise SystemExit(STOPPED)


def peak_of(job: Job, world: World) -> float | None:
    """FLOP/s that all GPUs of the run could do at most; None on a CPU, or where nobody knows."""
    if world.device.type != "cuda":
        return None
    peak = peak_flops(torch.cuda.get_device_name(world.device), job.training.precision)
    return peak and peak * world.size


class _NoLog:
    """The log of a process that does not lead."""

    def __enter__(self):
        return self

    def __exit__(self, *error: object) -> None: ...


def make_step(job: Job, world: World) -> Callable:
    """The training step of this process, its settings bound; compiled, recorded as was chosen.

    Eager, the step is its lean twin, see `lmcore.training.lean_gradient`. Compiled on a CPU, its
    blocks are: loss and update have kernels of their own there. Compiled on a GPU, gradients are
    the same graph either way, unless a loss in chunks or checkpointed blocks keep it in parts, and
    the compiler fuses the update itself.
    """
    n_rows = job.training.batch_size // world.size
    n_parts = n_rows // job.numerics.micro_batch
    chunk, recompute = job.numerics.loss_chunk_tokens, job.numerics.activation_checkpointing
    lean = partial(loss_and_gradients, differentiate=grad_and_value)
    gradients = partial(lean, block=checkpointed()) if recompute else lean
    step = partial(
        train_step,
        model=job.model,
        training=job.training,
        n_micro_batches=n_parts,
        rotary=model_rotary_tables(job.model, device=world.device),
        rows=rows_of_rank(torch.arange(job.training.batch_size, device=world.device), world),
        loss_chunk_tokens=chunk,
        reduce=sum_over_ranks if world.size > 1 else None,
        loss_and_gradients=gradients,
        in_place=True,
    )
    eager = partial(step, adamw=fused_adamw_step) if world.device.type == "cpu" else step
    if job.numerics.compile:
        # Compared with the eager step once, in small parts: its memory would stay with the process.
        reference = partial(eager, n_micro_batches=max(n_parts, min(n_rows, 8)))
        precision, on_cpu = job.training.precision, world.device.type == "cpu"
        in_parts = on_cpu or chunk > 0 or recompute
        traced = in_compiled_blocks(lean, recompute=recompute) if in_parts else loss_and_gradients
        if on_cpu:
            step = compared(partial(eager, loss_and_gradients=traced), reference, precision)
        else:
            step = compile_step(
                partial(step, loss_and_gradients=traced), precision, reference=reference
            )
    else:
        step = eager
    return graph_step(step) if job.numerics.cuda_graph else step


def publish(job: Job, final: Progress) -> None:
    """Write the model of the last step, and the best one where it is another."""
    from safetensors.torch import save_file

    out_dir = Path(job.out_dir)
    last = resting(final.state.params)
    save_file(last, out_dir / "model.safetensors")
    digests = {"last": tensors_digest(last)}
    best = best_before(job, final.step)
    if best is not None:
        weights = resting(unflatten(final.state, checkpoint.load(best.path).tensors).params)
        save_file(weights, out_dir / "best.safetensors")
        digests["best"] = tensors_digest(weights)
    shutil.copyfile(job.metrics, out_dir / "metrics.jsonl")
    result = {
        "weights": digests,
        "steps": final.step,
        "tokens": final.step * job.training.batch_size * job.model.context_length,
        "seconds": final.seconds,
        "skipped": int(final.state.recovery.skipped),
        "rollbacks": final.watch.rollbacks,
        "best_step": best.step if best else final.step,
    }
    (out_dir / "result.json").write_text(json.dumps(result, indent=2))


def best_before(job: Job, last_step: int) -> CheckpointRecord | None:
    """The checkpoint with the lowest validation loss, unless that is the last step's."""
    ranked = checkpoint.best_first(checkpoint.list_records(checkpoints_of(job)))
    return ranked[0] if ranked and ranked[0].step != last_step else None


def resting(params: Params) -> Params:
    """The parameters on the CPU, each in memory of its own."""
    return map_params(lambda tensor: tensor.detach().cpu().contiguous(), params)
