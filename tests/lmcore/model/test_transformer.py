"""The whole model: against the assignment's module, causal, in every choice and precision."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lmcore.errors import InputError
from lmcore.model.attention import scaled_dot_product_attention
from lmcore.model.block import transformer_block
from lmcore.model.flash_attention import flash_attention
from lmcore.model.init import init_params
from lmcore.model.positions import model_rotary_tables
from lmcore.model.transformer import cast_matrices, forward, hidden_states, output_logits
from tests.lmcore.model.assignment_model import load
from tests.lmcore.model.choices import (
    EVERY_CHOICE,
    ONE_CHANGE,
    SMALL,
    name,
    tensor,
    tokens,
    wide_params,
)
from tests.lmcore.model.compiling import Compiled

# float64 through two blocks: some thousand operations, each wrong by 1e-16.
EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-10}
every_choice = pytest.mark.parametrize("config", EVERY_CHOICE, ids=name)
one_change = pytest.mark.parametrize("config", ONE_CHANGE, ids=name)


def loss_of(config, ids, **options):
    """A scalar that every logit has a part in."""
    weights = tensor(*ids.shape, config.vocab_size, seed=9)

    def loss(params):
        return (forward(params, config, ids, **options) * weights).sum()

    return loss


@every_choice
def test_the_assignments_state_dict_loads_unchanged_and_gives_equal_logits(config):
    """For every choice: the module takes our names, and its logits and gradients are ours."""
    params, ids = wide_params(config), tokens(config, 2, 8)
    model = load(config, params)
    state_dict = dict(model.state_dict())
    torch.testing.assert_close(forward(state_dict, config, ids), model(ids).detach(), **EXACT)
    gradients, _ = torch.func.grad_and_value(loss_of(config, ids))(params)
    (model(ids) * tensor(2, 8, config.vocab_size, seed=9)).sum().backward()
    for key, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[key], parameter.grad, rtol=1e-8, atol=1e-9)


@every_choice
def test_a_later_token_never_changes_an_earlier_logit(config):
    """To the last bit; and it does change its own and later ones."""
    params, ids = init_params(config, 0), tokens(config, 2, 8)
    before = forward(params, config, ids)
    for changed in range(8):
        others = ids.clone()
        others[:, changed] = (others[:, changed] + 1) % config.vocab_size
        after = forward(params, config, others)
        assert torch.equal(after[:, :changed], before[:, :changed])
        assert (after[:, changed:] != before[:, changed:]).flatten(2).any(-1).all()


@one_change
def test_a_row_of_a_batch_is_computed_alone(config):
    """No sequence sees another one."""
    params, ids = wide_params(config), tokens(config, 3, 8)
    together = forward(params, config, ids)
    for row in range(3):
        alone = forward(params, config, ids[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, **EXACT)


def test_a_truncated_input_gives_the_first_logits():
    """A shorter sequence gives the same logits for its positions."""
    params, ids = wide_params(SMALL), tokens(SMALL, 2, 8)
    short = forward(params, SMALL, ids[:, :5])
    torch.testing.assert_close(short, forward(params, SMALL, ids)[:, :5], **EXACT)


@pytest.mark.parametrize("attention", ["naive", "flash"])
def test_any_attention_gives_the_same_model(attention):
    """Naive and flash in the place of the fused one, in value and gradient."""
    params, ids = wide_params(SMALL), tokens(SMALL, 2, 8)
    inner = {
        "naive": lambda q, k, v, *, is_causal: scaled_dot_product_attention(
            q, k, v, is_causal=is_causal
        ),
        "flash": lambda q, k, v, *, is_causal: flash_attention(
            q, k, v, is_causal=is_causal, query_block=3, key_block=2
        ),
    }[attention]
    expected, value = torch.func.grad_and_value(loss_of(SMALL, ids))(params)
    gradients, other = torch.func.grad_and_value(loss_of(SMALL, ids, attention=inner))(params)
    torch.testing.assert_close(other, value, **EXACT)
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[key], **EXACT)


def test_moving_all_positions_changes_nothing():
    """With RoPE only distances count, so a sequence may begin anywhere in the context."""
    config = replace(SMALL, context_length=32)
    params, ids = wide_params(config), tokens(config, 2, 8)
    moved = forward(params, config, ids, positions=torch.arange(20, 28))
    each = forward(params, config, ids, positions=torch.arange(20, 28).expand(2, 8))
    # float32 tables.
    torch.testing.assert_close(moved, forward(params, config, ids), rtol=1e-5, atol=1e-5)
    assert torch.equal(moved, each)


def test_tables_handed_in_are_used():
    """Given tables equal those made inside; other tables give other logits."""
    params, ids = wide_params(SMALL), tokens(SMALL, 2, 8)
    rotary = model_rotary_tables(SMALL)
    assert rotary is not None
    expected = forward(params, SMALL, ids)
    assert torch.equal(forward(params, SMALL, ids, rotary=rotary), expected)
    still = (torch.ones_like(rotary.cos), torch.zeros_like(rotary.sin))
    without = forward(params, replace(SMALL, positions="none"), ids)
    assert torch.equal(forward(params, SMALL, ids, rotary=still), without)


def test_logits_are_the_output_matrix_of_the_hidden_states():
    """The two halves make the whole, so a loss may take the vocabulary in chunks."""
    params, ids = wide_params(SMALL), tokens(SMALL, 2, 8)
    hidden = hidden_states(params, SMALL, ids)
    assert hidden.shape == (2, 8, 8)
    assert torch.equal(output_logits(params, hidden), forward(params, SMALL, ids))


def test_an_int32_input_is_as_good():
    """Token ids may be int32."""
    params, ids = init_params(SMALL, 0), tokens(SMALL, 2, 8)
    assert torch.equal(forward(params, SMALL, ids.int()), forward(params, SMALL, ids))


def test_more_tokens_than_the_context_are_refused():
    """The error gives both numbers and the flag."""
    with pytest.raises(InputError, match=r"9 tokens: .* holds 8; .*--model.context-length"):
        forward(init_params(SMALL, 0), SMALL, tokens(SMALL, 1, 9))


def test_a_missing_parameter_is_named():
    """A parameter that is not there is told by its name."""
    params = init_params(SMALL, 0)
    del params["layers.1.ffn.w2.weight"]
    with pytest.raises(KeyError, match=r"ffn\.w2\.weight"):
        forward(params, SMALL, tokens(SMALL, 1, 4))


# --- mixed precision ----------------------------------------------------------------------------


class Dtypes(TorchDispatchMode):
    """Which dtypes the products and the norms read, and how often a matrix was cast."""

    def __init__(self):
        super().__init__()
        self.products, self.norms, self.casts = set(), set(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        op = func.overloadpacket
        if op in (torch.ops.aten.mm, torch.ops.aten.bmm):
            self.products |= {x.dtype for x in args}
        if op in (torch.ops.aten.rsqrt, torch.ops.aten.mean, torch.ops.aten._softmax):
            self.norms.add(args[0].dtype)
        if op is torch.ops.aten._to_copy and args[0].ndim == 2 and args[0].is_leaf:
            self.casts += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@one_change
def test_mixed_precision_narrows_products_and_nothing_else(config, dtype):
    """Products in half precision, norms and logits in float32, each matrix cast once."""
    params, ids = init_params(config, 0), tokens(config, 2, 8)
    rotary = model_rotary_tables(config)
    with Dtypes() as seen:
        logits = forward(params, config, ids, compute_dtype=dtype, rotary=rotary)
    assert logits.dtype == torch.float32
    assert seen.products == {dtype}
    assert seen.norms <= {torch.float32}
    matrices = [n for n, p in params.items() if p.ndim == 2 and n != "token_embeddings.weight"]
    assert seen.casts == len(matrices) + config.tie_embeddings
    exact = forward({n: p.double() for n, p in params.items()}, config, ids)
    # A rounding each for a dozen products one after the other, relative to the logits' size.
    error = (logits - exact).norm() / exact.norm()
    assert 0 < error < 6 * torch.finfo(dtype).eps


def test_gradients_of_mixed_precision_are_float32_and_close():
    """The float32 parameters get float32 gradients within bfloat16's rounding of the exact."""
    params, ids = init_params(SMALL, 0), tokens(SMALL, 2, 8)
    loss = loss_of(SMALL, ids, compute_dtype=torch.bfloat16)
    gradients, _ = torch.func.grad_and_value(loss)(params)
    wide = {n: p.double() for n, p in params.items()}
    exact, _ = torch.func.grad_and_value(loss_of(SMALL, ids))(wide)
    for key, gradient in gradients.items():
        assert gradient.dtype == torch.float32
        # Twice the depth of the forward pass: 24 roundings of 2**-8.
        assert (gradient - exact[key]).norm() < 24 * 2**-8 * exact[key].norm()


def test_casting_leaves_gains_alone():
    """Only matrices are cast, and None casts nothing."""
    params = init_params(SMALL, 0)
    cast = cast_matrices(params, torch.bfloat16)
    assert {p.dtype for p in cast.values() if p.ndim == 1} == {torch.float32}
    assert {p.dtype for p in cast.values() if p.ndim == 2} == {torch.bfloat16}
    assert cast_matrices(params, None) == params


# --- compiled, transformed, repeated ------------------------------------------------------------


def step_of(config, **options):
    """Loss and gradients as a function of parameters and tokens, everything else fixed."""
    weights = tensor(2, 8, config.vocab_size, seed=9)

    def loss(params, ids):
        return (forward(params, config, ids, **options) * weights).sum()

    return torch.func.grad_and_value(loss)


@pytest.mark.parametrize(
    "config",
    [
        replace(SMALL, n_layers=1),
        *(pytest.param(c, marks=pytest.mark.slow) for c in ONE_CHANGE[1:]),
    ],
    ids=name,
)
def test_compiled_equals_eager_and_is_compiled_once(config):
    """One graph serves every step: other weights and tokens, compiled once, the same numbers."""
    step = step_of(config)
    compiled = Compiled(step, "aot_eager")
    for seed in range(3):
        params, ids = wide_params(config, seed), tokens(config, 2, 8, seed=seed)
        expected, value = step(params, ids)
        gradients, other = compiled(params, ids)
        torch.testing.assert_close(other, value, **EXACT)
        for key, want in expected.items():
            torch.testing.assert_close(gradients[key], want, **EXACT)
    assert compiled.compilations == 1


def test_one_compiled_block_serves_all_layers():
    """A block handed in compiled is compiled once, not once a layer."""
    config = replace(SMALL, n_layers=4)
    params, ids = wide_params(config), tokens(config, 2, 8)
    block = Compiled(transformer_block, "aot_eager")
    rotary = model_rotary_tables(config)
    out = forward(params, config, ids, rotary=rotary, block=block)
    torch.testing.assert_close(out, forward(params, config, ids), **EXACT)
    assert block.compilations == 1


@pytest.mark.slow
# PyTorch's own compiler imports a module of its own that it has deprecated.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_compiled_by_inductor_equals_eager(dtype):
    """The compiler that training uses gives the same loss and gradients, compiled once."""
    step = step_of(SMALL, compute_dtype=dtype, rotary=model_rotary_tables(SMALL))
    compiled = Compiled(step, "inductor")
    for seed in range(2):
        params, ids = init_params(SMALL, seed), tokens(SMALL, 2, 8, seed=seed)
        expected, value = step(params, ids)
        gradients, other = compiled(params, ids)
        # float32 sums in another order; with bfloat16, fused operations skip roundings.
        tolerance = 2e-5 if dtype is None else 24 * 2**-8
        assert (other - value).abs() < tolerance * value.abs().clamp(min=1)
        for key, want in expected.items():
            assert (gradients[key] - want).norm() < tolerance * want.norm()
    assert compiled.compilations == 1


def test_gradients_repeat_to_the_last_bit_with_two_threads():
    """Five runs with two threads give one set of bits, repeated tokens included."""
    config = replace(SMALL, context_length=64, d_model=32)
    params, ids = init_params(config, 0), tokens(config, 16, 64)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        runs = [torch.func.grad(loss_of(config, ids))(params) for _ in range(5)]
    finally:
        torch.set_num_threads(threads)
    for run in runs[1:]:
        assert all(torch.equal(run[key], runs[0][key]) for key in run)
