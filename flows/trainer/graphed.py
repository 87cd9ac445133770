"""A step recorded once as a CUDA graph and replayed: one launch in the place of thousands.

A small model's kernels run for less time than Python takes to launch them. Replayed, the same
kernels run on the same tensors: the state, written in place, its counters included; the batch,
copied in; the metrics, which the next step overwrites.
"""

from collections.abc import Callable

import torch

from flows.trainer.compiled import Step
from lmcore.params import Params, flatten
from lmcore.training.gradient import Batch
from lmcore.training.step import TrainState

Work = Callable[[], None]
Record = Callable[[Work], Work]


def record_graph(work: Work) -> Work:
    """Record what ``work`` asks of the GPU, without doing it; return what replays it."""
    graph = torch.cuda.CUDAGraph()
    # Another thread may pin memory for the next batch meanwhile: its calls are not ours.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay


def graph_step(step: Step, record: Record = record_graph) -> Step:
    """The step as one graph, from its second call on.

    Args:
      step: writes parameters and moments in place and never waits for the device. Its first call
        runs as it is: it compiles kernels, compares them, and lets libraries set themselves up.
      record: from work to its replay.

    Returns:
      A step of the same bits. From its second call on it returns the tensors of the state that was
      given then, and takes no other state; metrics hold until the next call.
    """
    recording: list[Recording] = []
    warm: list[bool] = []

    def call(state: TrainState, batch: Batch) -> tuple[TrainState, Params]:
        if not warm:
            warm.append(True)
            return step(state, batch)
        if not recording:
            recording.append(Recording(step, state, batch, record))
        return recording[0].play(state, batch)

    return call


class Recording:
    """A step recorded with the tensors that it reads and writes."""

    def __init__(self, step: Step, state: TrainState, batch: Batch, record: Record) -> None:
        self.state = state
        self.inputs, self.targets = batch[0].clone(), batch[1].clone()
        self.metrics: Params = {}

        def work() -> None:
            after, metrics = step(state, (self.inputs, self.targets))
            # Before the counters are written: some metrics are the counters of this step's start.
            self.metrics.update({name: value.clone() for name, value in metrics.items()})
            write_over(flatten(state), flatten(after))

        self.replay = record(work)

    def play(self, state: TrainState, batch: Batch) -> tuple[TrainState, Params]:
        if state is not self.state:
            raise ValueError("a recorded step goes on with the state that it returned, no other")
        self.inputs.copy_(batch[0])
        self.targets.copy_(batch[1])
        self.replay()
        return self.state, dict(self.metrics)


def write_over(old: Params, new: Params) -> None:
    """Write the new values into the old tensors, where they are not there already."""
    for name, tensor in old.items():
        if new[name].data_ptr() != tensor.data_ptr():
            tensor.copy_(new[name])
