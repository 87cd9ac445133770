"""Every feed hands the loop the batches of `batch_at`, whatever the device and the process."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flows.trainer import feed as feeding
from flows.trainer.distributed import World
from flows.trainer.feed import DeviceFeed, Feed, HostFeed, PinnedFeed, on_device, open_feed
from flows.trainer.job import Job
from flows.trainer.loop import open_data
from lmcore.data.batch import batch_at
from tests.small_training import new_job

FEEDS = (HostFeed, DeviceFeed, PinnedFeed)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return new_job(tmp_path / "job")


def expected(job: Job, index: int) -> tuple[np.ndarray, np.ndarray]:
    data, training = open_data(job), job.training
    length, size = job.model.context_length, training.batch_size
    return batch_at(data.train.tokens, data.starts, length, size, training.seed, index)


@pytest.mark.parametrize("kind", FEEDS)
@pytest.mark.parametrize("world", [World(), World(1, 2), World(3, 4)], ids=str)
def test_batches_are_those_of_the_definition(job: Job, kind: type, world: World) -> None:
    """In order, at a jump and back, each process gets its rows of the batch of that step."""
    data = open_data(job)
    feed: Feed = kind(job, data.train.tokens, data.starts, world)
    group = feeding.GROUP_STEPS
    for index in (0, 1, 2, group - 1, group, 5 * group + 3, 4, 4):
        found = feed.batch(index)
        for ours, theirs in zip(found, expected(job, index), strict=True):
            assert ours.dtype == torch.int64
            assert np.array_equal(ours.numpy(), theirs[world.rank :: world.size]), index


def test_batch_of_pinned_memory_is_made_ahead(job: Job) -> None:
    """When a step asks for its batch the next one is already being gathered."""
    data = open_data(job)
    feed = PinnedFeed(job, data.train.tokens, data.starts, World())
    feed.batch(6)
    assert feed.ahead is not None
    index, made = feed.ahead
    assert index == 7
    assert np.array_equal(made.result()[0].numpy(), expected(job, 7)[0])


@pytest.mark.parametrize("size", [1, 7, 100, 1 << 25])
def test_upload_in_pieces_loses_nothing(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device's copy of the tokens is the tokens, wherever the pieces end."""
    monkeypatch.setattr(feeding, "UPLOAD_TOKENS", size)
    tokens = np.arange(65_400, 65_536, dtype=np.uint16)
    held = on_device(tokens, torch.device("cpu"))
    assert held.numpy().view(np.uint16).tolist() == tokens.tolist()


def test_feed_follows_the_device_and_its_room(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU reads the map; a GPU holds the tokens where they fit into its share, else not."""
    data = open_data(job)
    tokens, starts = data.train.tokens, data.starts
    assert isinstance(open_feed(job, tokens, starts, World()), HostFeed)
    gpu = World(device=torch.device("cuda"))
    monkeypatch.setattr(feeding, "on_device", lambda tokens, device: torch.empty(0))
    for free, kind in (
        (tokens.nbytes / feeding.DEVICE_SHARE + 1, DeviceFeed),
        (tokens.nbytes / feeding.DEVICE_SHARE - 1, PinnedFeed),
    ):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, free))
        assert isinstance(open_feed(job, tokens, starts, gpu), kind)


def test_seed_decides_the_order(job: Job) -> None:
    """Another seed, other batches: the device's order is the run's, not its own."""
    data = open_data(job)
    other = replace(job, training=replace(job.training, seed=1))
    first, second = (
        DeviceFeed(each, data.train.tokens, data.starts, World()).batch(0)[0]
        for each in (job, other)
    )
    assert not torch.equal(first, second)
