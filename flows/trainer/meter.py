"""The speed of a run: tokens a second, time left, and the record of a log step."""

import resource
import sys
import time
from collections import deque

import torch

from flows.progress.events import Event, Notify
from flows.trainer.job import Job
from lmcore.params import Params

SHOWN_EVERY_SECONDS = 0.2
WINDOW = 50  # steps over which the speed is taken


class Meter:
    """Clock of one training process.

    Args:
      job: its sizes.
      total: steps of the run.
      done: steps done before this process began.
      seconds: what they took.
    """

    def __init__(self, job: Job, total: int, done: int, seconds: float) -> None:
        self.tokens_per_step = job.training.batch_size * job.model.context_length
        self.total, self.before = total, seconds
        self.began = time.perf_counter()
        self.recent: deque[tuple[int, float]] = deque([(done, self.began)], maxlen=WINDOW)
        self.shown = 0.0

    def seconds(self) -> float:
        """Seconds of training, those of earlier processes included."""
        return self.before + time.perf_counter() - self.began

    def speed(self) -> float:
        """Tokens a second over the last steps."""
        (first, start), (last, end) = self.recent[0], self.recent[-1]
        return (last - first) * self.tokens_per_step / (end - start) if end > start else 0.0

    def show(self, say: Notify, step: int, metrics: Params) -> None:
        """Tell how far the run is, a few times a second at most."""
        now = time.perf_counter()
        self.recent.append((step, now))
        if now - self.shown < SHOWN_EVERY_SECONDS and step != self.total:
            return
        self.shown = now
        speed = self.speed()
        left = (self.total - step) * self.tokens_per_step / speed if speed else None
        data = {
            "done": step,
            "total": self.total,
            "unit": "steps",
            "loss": float(metrics["loss"]),
            "tokens_per_second": speed,
            "seconds_left": left,
        }
        say(Event("progress", "pretrain", data=data))

    def record(self, step: int, metrics: Params) -> dict:
        """What is logged of a step."""
        return {
            "kind": "train",
            "step": step,
            "tokens": step * self.tokens_per_step,
            "seconds": self.seconds(),
            "loss": float(metrics["loss"]),
            "lr": float(metrics["lr"]),
            "grad_norm": float(metrics["grad_norm"]),
            "tokens_per_second": self.speed(),
            "memory_bytes": memory_bytes(),
            "loss_scale": float(metrics["loss_scale"]),
            "skipped": int(metrics["skipped"]),
        }


def memory_bytes() -> int:
    """The most memory that this process has held: on the GPU where there is one, else in RAM."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
