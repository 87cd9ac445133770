"""Several training processes as one: who I am, and sums over all of us."""

import os
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lmcore.params import Params


@dataclass(frozen=True)
class World:
    """This process among the training processes of the run."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0


def join(device: str) -> World:
    """Meet the other processes, as torchrun's variables say; alone where there are none."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World(device=torch.device(device))
    rank, local = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    place = torch.device(device, local) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(place)
    torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    return World(rank, size, place)


def leave(world: World) -> None:
    """Part from the other processes."""
    if world.size > 1:
        torch.distributed.destroy_process_group()


def sum_over_ranks(tensors: Params) -> Params:
    """The sums of every tensor over all processes, in one message for each dtype."""
    summed: Params = {}
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors.values()):
        same = {name: tensor for name, tensor in tensors.items() if tensor.dtype == dtype}
        flat = torch.cat([tensor.reshape(-1) for tensor in same.values()])
        torch.distributed.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in same.values()])
        for (name, tensor), part in zip(same.items(), parts, strict=True):
            summed[name] = part.view(tensor.shape)
    return {name: summed[name] for name in tensors}


def any_rank(world: World, flag: bool) -> bool:
    """Whether the flag is up in any process: all of them must leave the loop at the same step."""
    if world.size == 1:
        return flag
    raised = torch.tensor(int(flag), device=world.device)
    torch.distributed.all_reduce(raised)
    return bool(raised.item())


def rows_of_rank(batch: Tensor, world: World) -> Tensor:
    """This process's rows of a batch, every ``size``-th of them."""
    return batch[world.rank :: world.size]
