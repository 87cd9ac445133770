"""From a side to its next training step."""

import torch

from benchmarks.training.batches import batches
from benchmarks.training.sides import Side, Work
from benchmarks.training.steppers import beside_a_graph, ours, static_tensors, theirs
from lmcore.model.config import ModelConfig
from lmcore.params import flatten
from lmcore.training.config import TrainingConfig
from lmcore.training.step import init_state, train_step

WORK = Work("tiny", "cpu", batch_size=4, threads=1, warmup_steps=6, steps=0, blocks=0)
MODEL = ModelConfig(vocab_size=8, context_length=4, d_model=8, n_layers=1, n_heads=2)


def test_both_sides_step_alike() -> None:
    """Six steps of ours and of the faithful module have one loss and one gradient norm each."""
    left = ours(Side("lmcore"), WORK, batches(WORK))
    right = theirs(Side("faithful"), WORK, batches(WORK))
    assert left.n_params == right.n_params
    for _ in range(6):
        for found, expected in zip(left.step(), right.step(), strict=True):
            # float32 rounds to 6e-8; sums of some hundred terms in another order.
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_step_in_place_leaves_tensors_where_they_are() -> None:
    """What a CUDA graph was promised: parameters and moments keep their addresses and values."""
    training = TrainingConfig(tokens=64, batch_size=2, warmup_steps=1, precision="float32")
    ids = torch.zeros(2, 4, dtype=torch.int64)
    state = init_state(MODEL, training)
    static = static_tensors(state)
    after, _ = train_step(state, (ids, ids), model=MODEL, training=training, in_place=True)
    kept, stepped = flatten(beside_a_graph(after, static)), flatten(after)
    assert kept.keys() == stepped.keys()
    for name, tensor in stepped.items():
        assert torch.equal(kept[name], tensor)
        same_place = kept[name].data_ptr() == tensor.data_ptr()
        assert same_place == (tensor.ndim > 0), name
