"""Several training processes as one: shares of a batch, sums over all."""

import pytest
import torch

from flows.trainer import distributed
from flows.trainer.distributed import World, any_rank, join, leave, rows_of_rank, sum_over_ranks


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """A world of three equal processes: every sum is three times what one of them has."""
    sent: list[torch.dtype] = []

    def all_reduce(tensor: torch.Tensor) -> None:
        sent.append(tensor.dtype)
        tensor.mul_(3)

    monkeypatch.setattr(distributed.torch.distributed, "all_reduce", all_reduce)
    return sent


def test_sums_keep_names_shapes_and_types(messages: list[torch.dtype]) -> None:
    """Every tensor comes back as it went, summed, with one message for each dtype."""
    tensors = {
        "b": torch.arange(6.0).view(2, 3),
        "n": torch.tensor(7),
        "a": torch.tensor(0.5),
        "c": torch.ones(4, dtype=torch.float64),
        "e": torch.zeros(0),
    }
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    summed = sum_over_ranks(tensors)
    assert list(summed) == list(tensors)
    for name, tensor in before.items():
        assert torch.equal(summed[name], 3 * tensor), name
        assert summed[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor), f"{name} was written to"
    assert messages == [torch.float32, torch.int64, torch.float64]


def test_stop_of_one_is_a_stop_of_all(messages: list[torch.dtype]) -> None:
    """A flag that is up anywhere is up everywhere; alone nothing is asked."""
    assert any_rank(World(0, 3), True)
    assert not any_rank(World(0, 3), False)
    assert messages == [torch.int64, torch.int64]
    assert any_rank(World(), True)
    assert len(messages) == 2


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_rows_are_shared_without_rest(size: int) -> None:
    """Each row of a batch belongs to exactly one process, and all have as many."""
    batch = torch.arange(24).view(12, 2)
    shares = [rows_of_rank(batch, World(rank, size)) for rank in range(size)]
    assert {len(share) for share in shares} == {12 // size}
    assert sorted(torch.cat(shares)[:, 0].tolist()) == batch[:, 0].tolist()


def test_alone_without_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torchrun's variables a process is alone, leads, and meets nobody."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    world = join("cpu")
    assert (world.rank, world.size, world.leads) == (0, 1, True)
    leave(world)
    assert not torch.distributed.is_initialized()
    assert not World(1, 2).leads
