"""The speed of a run: tokens a second, time left, and the record of a log step."""

import resource
import sys
import time
from collections import deque
from pathlib import Path

import torch

from flows.progress.events import Event, Notify
from flows.trainer.job import Job
from lmcore.model.counts import training_flops
from lmcore.params import Params

SHOWN_EVERY_SECONDS = 0.2
WINDOW = 50  # moments over which the speed is taken


class Meter:
    """Clock of one training process.

    It is read only after the loss of a step has arrived: a GPU is asked for steps sooner than it
    takes them, and how fast it is asked is no speed.

    Args:
      job: its sizes.
      total: steps of the run.
      done: steps done before this process began.
      seconds: what they took.
      peak: FLOP/s that the run's devices could do at most, None where not known.
    """

    def __init__(
        self, job: Job, total: int, done: int, seconds: float, peak: float | None = None
    ) -> None:
        self.tokens_per_step = job.training.batch_size * job.model.context_length
        self.flops_per_token = training_flops(job.model, 1)
        self.device = job.numerics.device
        self.total, self.before, self.peak = total, seconds, peak
        self.began = time.perf_counter()
        self.recent: deque[tuple[int, float]] = deque([(done, self.began)], maxlen=WINDOW)
        self.starts = True
        self.shown = 0.0

    def seconds(self) -> float:
        """Seconds of training, those of earlier processes included."""
        return self.before + time.perf_counter() - self.began

    def speed(self) -> float:
        """Tokens a second between the last moments at which the loop had waited for a step."""
        (first, start), (last, end) = self.recent[0], self.recent[-1]
        return (last - first) * self.tokens_per_step / (end - start) if end > start else 0.0

    def wait(self, step: int, metrics: Params) -> float:
        """The loss of a step, when it has been taken; the clock is read then."""
        loss = float(metrics["loss"])
        if self.recent[-1][0] != step:
            self.recent.append((step, time.perf_counter()))
            if self.starts and len(self.recent) > 2:  # the first steps compiled and warmed up
                self.recent.popleft()
                self.starts = False
        return loss

    def show(self, say: Notify, step: int, metrics: Params) -> None:
        """Tell how far the run is, a few times a second at most."""
        now = time.perf_counter()
        if now - self.shown < SHOWN_EVERY_SECONDS and step != self.total:
            return
        loss = self.wait(step, metrics)
        self.shown = time.perf_counter()
        speed = self.speed()
        left = (self.total - step) * self.tokens_per_step / speed if speed else None
        data = {
            "done": step,
            "total": self.total,
            "unit": "steps",
            "loss": loss,
            "tokens_per_second": speed,
            "seconds_left": left,
        }
        say(Event("progress", "pretrain", data=data))

    def record(self, step: int, metrics: Params) -> dict:
        """What is logged of a step; a utilisation only where the peak is known."""
        loss = self.wait(step, metrics)
        speed = self.speed()
        flops = speed * self.flops_per_token
        return {
            "kind": "train",
            "step": step,
            "tokens": step * self.tokens_per_step,
            "seconds": self.seconds(),
            "loss": loss,
            "lr": float(metrics["lr"]),
            "grad_norm": float(metrics["grad_norm"]),
            "tokens_per_second": speed,
            "flops_per_second": flops,
            **({"utilisation": flops / self.peak} if self.peak else {}),
            "memory_bytes": memory_bytes(self.device),
            "loss_scale": float(metrics["loss_scale"]),
            "skipped": int(metrics["skipped"]),
        }


def memory_bytes(device: str) -> int:
    """The most memory that this process has held: on the GPU where it computes there, else RAM."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    if sys.platform == "linux":  # ru_maxrss would begin with what the parent had when it forked
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
