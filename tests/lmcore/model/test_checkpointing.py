"""A checkpointed block computes what the plain one computes, and keeps less of it."""

from functools import partial
from itertools import product

import pytest
import torch

from lmcore.errors import InputError
from lmcore.model.block import transformer_block
from lmcore.model.checkpointing import checkpointed
from lmcore.model.config import ModelConfig
from lmcore.model.init import init_params
from lmcore.model.transformer import forward
from lmcore.training.gradient import loss_and_gradients
from lmcore.training.lean_gradient import grad_and_value

MODEL = ModelConfig(vocab_size=11, context_length=8, d_model=8, n_layers=3, n_heads=2)
POST = ModelConfig(
    vocab_size=11,
    context_length=8,
    d_model=8,
    n_layers=2,
    n_heads=2,
    feed_forward="swiglu",
    norm="layer_norm",
    norm_position="post",
    tie_embeddings=True,
)
LEAN = partial(loss_and_gradients, differentiate=grad_and_value)


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(11, (4, 9), generator=torch.Generator().manual_seed(seed))
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def options(model: ModelConfig = MODEL, precision: str = "float32") -> dict:
    return {"model": model, "precision": precision, "loss_scale": torch.tensor(8.0)}


@pytest.mark.parametrize(
    ("model", "precision"),
    list(product([MODEL, POST], ["float32", "bfloat16", "float16"])),
)
@pytest.mark.parametrize("chunk", [0, 5])
def test_loss_and_gradients_are_the_same_bits(model, precision, chunk):
    """The same kernels on the same numbers: in every precision, in parts, with any loss."""
    common = options(model, precision) | {"n_micro_batches": 3, "loss_chunk_tokens": chunk}
    params = init_params(model, 1)
    loss, grads = LEAN(params, batch(), **common)
    found_loss, found = LEAN(params, batch(), block=checkpointed(), **common)
    assert torch.equal(found_loss, loss)
    assert list(found) == list(grads)
    for name, grad in grads.items():
        assert torch.equal(found[name], grad), name


def kept(block) -> int:
    """Numbers that autograd keeps of a forward pass, parameters aside."""
    params, ids = init_params(MODEL, 1), batch()[0]
    leaves = {name: param.requires_grad_() for name, param in params.items()}
    own = {leaf.data_ptr() for leaf in leaves.values()}
    sizes = []

    def keep(tensor):
        sizes.append(0 if tensor.data_ptr() in own else tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward(leaves, MODEL, ids, block=block)
    return sum(sizes)


def test_blocks_run_twice_and_keep_their_input_alone():
    """Each block runs again going backward; what hooks see of a block before that is nothing."""
    runs = []

    def counted(*args, **kwargs):
        runs.append(torch.is_grad_enabled())
        return transformer_block(*args, **kwargs)

    LEAN(init_params(MODEL, 1), batch(), block=checkpointed(counted), **options())
    assert len(runs) == 2 * MODEL.n_layers
    runs.clear()
    with torch.no_grad():
        forward(init_params(MODEL, 1), MODEL, batch()[0], block=checkpointed(counted))
    assert len(runs) == MODEL.n_layers
    inputs = MODEL.n_layers * batch()[0].numel() * MODEL.d_model
    outside = kept(lambda params, config, x, **_: x)  # blocks that do nothing
    assert outside <= kept(checkpointed()) <= outside + inputs
    assert kept(transformer_block) > 5 * (outside + inputs)


def test_torch_func_is_refused():
    """What torch.func cannot do is said, with what to use in its place."""
    with pytest.raises(InputError, match=r"under torch\.func.*lean_gradient"):
        loss_and_gradients(init_params(MODEL, 1), batch(), block=checkpointed(), **options())
