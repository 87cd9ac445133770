"""Initial values: the assignment's names and distribution, each draw on its own."""

import math
from dataclasses import replace

import pytest
import torch

from lmcore.errors import InputError
from lmcore.model.config import ModelConfig
from lmcore.model.init import check_params, init_params
from lmcore.model.shapes import parameter_shapes
from lmcore.model.transformer import forward, hidden_states
from tests.lmcore.model.assignment_model import AssignmentModel
from tests.lmcore.model.choices import EVERY_CHOICE, SMALL, name, tokens

WIDE = ModelConfig(vocab_size=500, d_model=256, n_layers=1, n_heads=4, d_ff=640)


def truncated_cdf(x: torch.Tensor) -> torch.Tensor:
    """The distribution function of a standard normal cut at ±3."""
    low, high = (0.5 * math.erfc(-z / math.sqrt(2)) for z in (-3, 3))
    return (torch.special.ndtr(x) - low) / (high - low)


@pytest.mark.parametrize("config", EVERY_CHOICE, ids=name)
def test_names_and_shapes_are_the_assignments(config):
    """For every choice they are those of a module built the usual way."""
    expected = {n: tuple(t.shape) for n, t in AssignmentModel(config).state_dict().items()}
    params = init_params(config, 0)
    assert {n: tuple(t.shape) for n, t in params.items()} == expected
    assert list(params) == list(parameter_shapes(config))
    assert {t.dtype for t in params.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("key", "std"),
    [
        ("token_embeddings.weight", 1.0),
        ("layers.0.attn.q_proj.weight", math.sqrt(2 / (256 + 256))),
        ("layers.0.ffn.w1.weight", math.sqrt(2 / (256 + 640))),
        ("layers.0.ffn.w2.weight", math.sqrt(2 / (640 + 256))),
        ("lm_head.weight", math.sqrt(2 / (256 + 500))),
    ],
)
def test_matrices_are_truncated_normal(key, std):
    """The empirical distribution is the truncated one, by Kolmogorov's distance; cut at 3 std."""
    values = (init_params(WIDE, 0)[key].double() / std).flatten().sort().values
    assert values.abs().max() <= 3 + 1e-6  # float32 rounding
    assert values.abs().max() > 2.9
    steps = torch.arange(1, len(values) + 1) / len(values)
    distance = (truncated_cdf(values) - steps).abs().max()
    # 1.95 / sqrt(n) is passed by chance once in a thousand seeds; a normal that is not cut
    # (distance 1.3e-3 and values beyond 3) or a std off by 2% fails.
    assert distance < 1.95 / math.sqrt(len(values))
    # The cut takes 1.3% off the standard deviation: 1 - 6·phi(3)/0.9973 = 0.9733 = 0.98658².
    assert values.std().item() == pytest.approx(0.98658, rel=4 / math.sqrt(2 * len(values)))


def test_gains_are_one_and_biases_zero():
    """LayerNorm starts as a plain normalisation."""
    params = init_params(replace(SMALL, norm="layer_norm"), 0)
    gains = {n: t for n, t in params.items() if t.ndim == 1}
    assert len(gains) == 10
    for key, value in gains.items():
        assert torch.equal(value, torch.full((8,), float(key.endswith("weight"))))


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    """And the global generator has no part in it."""
    torch.manual_seed(1)
    first = init_params(SMALL, 0)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    second, other = init_params(SMALL, 0), init_params(SMALL, 1)
    assert all(torch.equal(first[n], second[n]) for n in first)
    assert not any(torch.equal(first[n], other[n]) for n in first if first[n].ndim == 2)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("tied", [False, True])
def test_outputs_can_start_at_zero(tied):
    """Then all tokens are equally likely, unless the head is the embeddings; the rest is equal."""
    plain = replace(SMALL, tie_embeddings=tied)
    config = replace(plain, zero_init_outputs=True)
    before, params = init_params(plain, 0), init_params(config, 0)
    zero = {n for n in params if n.endswith(("output_proj.weight", "w2.weight", "lm_head.weight"))}
    assert len(zero) == 4 + (not tied)
    assert all(not params[n].any() for n in zero)
    assert all(torch.equal(params[n], before[n]) for n in params.keys() - zero)
    hidden = hidden_states(params, config, tokens(config, 2, 8))
    without_blocks = replace(config, n_layers=0)
    assert torch.equal(hidden, hidden_states(params, without_blocks, tokens(config, 2, 8)))
    assert bool(forward(params, config, tokens(config, 2, 8)).any()) is tied


@pytest.mark.parametrize(
    "change",
    [{"n_layers": 5}, {"feed_forward": "swiglu"}, {"norm": "none"}, {"tie_embeddings": True}],
)
def test_a_change_elsewhere_leaves_every_other_parameter_alone(change):
    """Values depend on (seed, name, shape) alone: what both models have is equal in both."""
    before, after = init_params(SMALL, 0), init_params(replace(SMALL, **change), 0)
    shared = before.keys() & after.keys()
    assert len(shared) >= 10
    assert before.keys() != after.keys()
    assert all(torch.equal(before[n], after[n]) for n in shared)


def test_parameters_of_equal_shape_are_unlike():
    """No two matrices share their numbers, and they are not correlated."""
    params = init_params(replace(WIDE, n_layers=2), 0)
    square = [t.flatten().double() for t in params.values() if t.shape == (256, 256)]
    assert len(square) == 8
    correlation = torch.corrcoef(torch.stack(square)) - torch.eye(8)
    # The standard error is 1/256; the greatest of 28 pairs is below 4 of them.
    assert correlation.abs().max() < 4 / 256


def test_faults_are_refused_at_once():
    """A vocabulary not yet known, and all faults of a bad configuration, each with its flag."""
    with pytest.raises(InputError, match=r"--model\.vocab-size"):
        init_params(ModelConfig(), 0)
    with pytest.raises(InputError, match=r"(?s)--model\.context-length.*--model\.d-ff"):
        init_params(replace(SMALL, context_length=0, d_ff=-1), 0)


def test_every_parameter_that_does_not_fit_is_named():
    """Missing, unknown and of another shape, in one error."""
    params = init_params(SMALL, 0)
    check_params(params, SMALL)
    params["ln_final.bias"] = params.pop("ln_final.weight")
    params["layers.0.ffn.w1.weight"] = torch.ones(3, 3)
    with pytest.raises(InputError) as caught:
        check_params(params, SMALL)
    for part in (
        "ln_final.weight is missing",
        "ln_final.bias is unknown",
        "layers.0.ffn.w1.weight must be [12, 8], not [3, 3]",
    ):
        assert part in str(caught.value)
