"""The algebra of parameter dicts, and the flat form of a state."""

from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings, strategies as st

from lmcore.errors import InputError
from lmcore.params import count, flatten, global_norm, map_params, unflatten, zip_params


class Moments(NamedTuple):
    """A state as the optimizer has it."""

    step: torch.Tensor
    average: dict[str, torch.Tensor]


class State(NamedTuple):
    """A state that nests another, with a part that may be absent."""

    params: dict[str, torch.Tensor]
    optimizer: Moments
    scale: torch.Tensor | None


def state(scale: bool = True) -> State:
    """Tensors of several shapes and dtypes, 0-d and empty ones included."""
    params = {"layers.0.w": torch.arange(6.0).view(2, 3), "g": torch.ones(0)}
    average = {name: t.double() + 1 for name, t in params.items()}
    return State(params, Moments(torch.tensor(3), average), torch.tensor(0.5) if scale else None)


numbers = st.floats(-1e3, 1e3, width=32)
dicts = st.dictionaries(
    st.text("abc.", min_size=1, max_size=3), st.lists(numbers, max_size=4).map(torch.tensor)
)


@settings(deadline=None)
@given(dicts)
def test_map_applies_to_each_and_keeps_order(params):
    """Each name gets the function of its own tensor, in the same order."""
    mapped = map_params(lambda t: t * 2 + 1, params)
    assert list(mapped) == list(params)
    for name, value in params.items():
        assert torch.equal(mapped[name], value * 2 + 1)


def test_zip_pairs_tensors_by_name_not_by_place():
    """The order of the second dict does not matter; the first one's order is kept."""
    first = {"a": torch.tensor(1.0), "b": torch.tensor(2.0)}
    second = {"b": torch.tensor(20.0), "a": torch.tensor(10.0)}
    zipped = zip_params(lambda x, y: x + y, first, second)
    assert list(zipped) == ["a", "b"]
    assert [t.item() for t in zipped.values()] == [11.0, 22.0]


@pytest.mark.parametrize("names", [[], ["a", "b"], ["b"]])
def test_zip_refuses_other_names(names):
    """A missing or an extra name is an error, never dropped in silence."""
    with pytest.raises(ValueError, match="same names"):
        zip_params(torch.add, {"a": torch.ones(1)}, {name: torch.ones(1) for name in names})


@settings(deadline=None)
@given(dicts)
def test_global_norm_is_that_of_one_long_vector(params):
    """Splitting a vector over names changes nothing but the last bits."""
    flat = torch.cat([*params.values(), torch.zeros(1)]).double()
    # 20 float32 additions at most, each wrong by 6e-8 relatively; a square is rounded to a
    # multiple of 2**-149, the smallest float32.
    rounded_off = (flat.numel() * 2.0**-149) ** 0.5
    torch.testing.assert_close(
        global_norm(params).double(), flat.square().sum().sqrt(), rtol=2e-6, atol=rounded_off
    )


def test_global_norm_of_millions_keeps_its_digits():
    """A few large numbers among many small ones, which one running sum rounds to 3e-4.

    128 squares, then 10,000 in sixteen lanes: some 600 additions that round by 6e-8 each at most.
    """
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(10_000, 128, generator=generator) * 1e-6
    matrix[::1000] *= 1e3
    exact = torch.linalg.vector_norm(matrix.double())
    torch.testing.assert_close(global_norm({"w": matrix}).double(), exact, rtol=4e-5, atol=0)


def test_global_norm_does_not_depend_on_the_order_of_names():
    """The same tensors in another order give the same bits."""
    generator = torch.Generator().manual_seed(0)
    params = {str(i): torch.randn(7, generator=generator) for i in range(99)}
    for seed in range(20):
        order = torch.randperm(99, generator=generator.manual_seed(seed)).tolist()
        shuffled = {str(i): params[str(i)] for i in order}
        assert torch.equal(global_norm(shuffled), global_norm(params))


def test_global_norm_of_half_precision_is_summed_in_float32():
    """4,096 ones have the norm 64; in bfloat16 a sum of ones stops at 256."""
    norm = global_norm({"w": torch.ones(4096, dtype=torch.bfloat16)})
    assert norm.dtype == torch.float32
    assert norm.item() == 64.0


@settings(deadline=None)
@given(dicts)
def test_count_is_the_number_of_scalars(params):
    """Every scalar counts once."""
    assert count(params) == sum(len(t.tolist()) for t in params.values())


@pytest.mark.parametrize("scale", [True, False])
def test_unflatten_inverts_flatten(scale):
    """A nested state comes back with its types, order and tensors, whatever order a file has."""
    original = state(scale)
    flat = dict(sorted(flatten(original).items(), reverse=True))
    again = unflatten(original, flat)
    assert type(again) is State
    assert type(again.optimizer) is Moments
    assert list(again.params) == list(original.params)
    assert flatten(again).keys() == flatten(original).keys()
    assert all(t is flatten(original)[path] for path, t in flatten(again).items())


def test_paths_name_fields_and_keys():
    """The flat names are the path through fields and keys, joined by slashes."""
    assert list(flatten(state())) == [
        "params/layers.0.w",
        "params/g",
        "optimizer/step",
        "optimizer/average/layers.0.w",
        "optimizer/average/g",
        "scale",
    ]


def test_the_template_may_be_on_the_meta_device():
    """Only shapes and dtypes of the template are read."""
    flat = flatten(state())
    like = unflatten(state(), map_params(lambda t: t.to("meta"), flat))
    assert flatten(unflatten(like, flat)).keys() == flat.keys()


def test_every_difference_is_named_at_once():
    """Missing, unknown, another shape, another dtype: one error tells all four."""
    flat = flatten(state())
    flat["other"] = flat.pop("scale")
    flat["params/g"] = torch.ones(2)
    flat["optimizer/step"] = torch.tensor(3, dtype=torch.int32)
    with pytest.raises(InputError) as caught:
        unflatten(state(), flat)
    for part in ("scale is missing", "other is unknown", "params/g must", "optimizer/step must"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "bad", [{"a": 1}, {"a": [torch.ones(1)]}, {"a/b": torch.ones(1)}, {1: torch.ones(1)}, 3.0]
)
def test_flatten_refuses_what_would_not_come_back(bad):
    """Numbers, lists and keys that break a path are errors."""
    with pytest.raises(TypeError):
        flatten(bad)


def test_flatten_refuses_a_single_tensor():
    """A tensor has no path."""
    with pytest.raises(TypeError):
        flatten(torch.ones(1))
