"""The batches of a run on their way to the device: never what a step waits for.

All give what `lmcore.data.batch.batch_at` gives, bit for bit. Which one a run takes depends on its
device and on the room there, and changes no number:

- `HostFeed` gathers in RAM; for the CPU, where the batch is used where it is made.
- `DeviceFeed` holds all tokens on the GPU and gathers there; a step sends the begins of its
  windows, 64 steps' worth at a time.
- `PinnedFeed`, for tokens that do not fit, gathers the next batch into pinned memory in a thread
  of its own while the GPU computes, and copies without waiting.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from flows.trainer.distributed import World, rows_of_rank
from flows.trainer.job import Job
from lmcore.data.batch import batch_at, rows_at
from lmcore.data.gather import gather_windows, signed_view
from lmcore.training.gradient import Batch

# Share of the GPU's free memory that the tokens may take; a run plans for 90% of it without them
# (`flows.preflight.MEMORY_SHARE`). On 80 GB that is room for three thousand million tokens.
DEVICE_SHARE = 0.08
GROUP_STEPS = 64  # steps whose windows are sent to the device together
UPLOAD_TOKENS = 1 << 25  # tokens on their way to the device at a time


class Feed(Protocol):
    """What hands the loop its batches."""

    def batch(self, index: int) -> Batch:
        """This process's rows of the batch of the step ``index``, counted from 0."""
        ...


def open_feed(job: Job, tokens: np.ndarray, starts: np.ndarray, world: World) -> Feed:
    """The feed for this run's device and the room there."""
    if world.device.type != "cuda":
        return HostFeed(job, tokens, starts, world)
    free, _ = torch.cuda.mem_get_info(world.device)
    if tokens.nbytes <= DEVICE_SHARE * free:
        return DeviceFeed(job, tokens, starts, world)
    return PinnedFeed(job, tokens, starts, world)


class HostFeed:
    """Batches gathered in RAM, when they are asked for."""

    def __init__(self, job: Job, tokens: np.ndarray, starts: np.ndarray, world: World) -> None:
        self.make = host_batches(job, tokens, starts, world)
        self.device = world.device

    def batch(self, index: int) -> Batch:
        inputs, targets = self.make(index)
        return inputs.to(self.device), targets.to(self.device)


class PinnedFeed:
    """Batches gathered into pinned memory, one step ahead."""

    def __init__(self, job: Job, tokens: np.ndarray, starts: np.ndarray, world: World) -> None:
        self.gather = host_batches(job, tokens, starts, world)
        self.device = world.device
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self.ahead: tuple[int, Future[Batch]] | None = None

    def batch(self, index: int) -> Batch:
        if self.ahead is None or self.ahead[0] != index:
            self.ahead = index, self.thread.submit(self.make, index)
        # The allocator of pinned memory keeps it until the copy has been made.
        inputs, targets = (
            part.to(self.device, non_blocking=True) for part in self.ahead[1].result()
        )
        self.ahead = index + 1, self.thread.submit(self.make, index + 1)
        return inputs, targets

    def make(self, index: int) -> Batch:
        inputs, targets = self.gather(index)
        return pinned(inputs, self.device), pinned(targets, self.device)


class DeviceFeed:
    """Batches gathered on the device from its own copy of all tokens."""

    def __init__(self, job: Job, tokens: np.ndarray, starts: np.ndarray, world: World) -> None:
        self.tokens = on_device(tokens, world.device)
        self.starts, self.world = starts, world
        self.context_length = job.model.context_length
        self.batch_size, self.seed = job.training.batch_size, job.training.seed
        self.group, self.rows = -1, torch.empty(0)

    def batch(self, index: int) -> Batch:
        group, place = divmod(index, GROUP_STEPS)
        if group != self.group:
            self.group, self.rows = group, self.starts_of(group)
        return gather_windows(self.tokens, self.rows[place], self.context_length)

    def starts_of(self, group: int) -> Tensor:
        """Where the windows of 64 steps begin, ``[64, B]`` of this process's rows."""
        # The rows of n batches are those of one batch that is n times as large.
        rows = rows_at(len(self.starts), GROUP_STEPS * self.batch_size, self.seed, group)
        starts = torch.from_numpy(self.starts[rows]).view(GROUP_STEPS, self.batch_size)
        mine = rows_of_rank(starts.T, self.world).T.contiguous()
        return pinned(mine, self.world.device).to(self.world.device, non_blocking=True)


def host_batches(
    job: Job, tokens: np.ndarray, starts: np.ndarray, world: World
) -> Callable[[int], Batch]:
    """From a step to this process's rows of its batch, in RAM."""
    length, training = job.model.context_length, job.training

    def make(index: int) -> Batch:
        arrays = batch_at(tokens, starts, length, training.batch_size, training.seed, index)
        inputs, targets = (rows_of_rank(torch.from_numpy(array), world) for array in arrays)
        return inputs, targets

    return make


def on_device(tokens: np.ndarray, device: torch.device) -> Tensor:
    """All tokens on the device, sent piece by piece: a map larger than RAM is never held there."""
    signed = signed_view(tokens)
    held = torch.empty(len(signed), dtype=getattr(torch, str(signed.dtype)), device=device)
    for begin in range(0, len(signed), UPLOAD_TOKENS):
        piece = np.array(signed[begin : begin + UPLOAD_TOKENS])
        held[begin : begin + len(piece)] = torch.from_numpy(piece).to(device)
    return held


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor in memory that a GPU copies from while the host goes on."""
    return tensor.pin_memory() if device.type == "cuda" else tensor
