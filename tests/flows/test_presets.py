"""The runs that have a name: sound, of the sizes they are named for, and never mutated."""

import re

import pytest

from flows.config import Execution, RunConfig
from flows.presets import PRESETS, preset
from flows.run import faults, with_precision
from flows.trainer import numerics
from lmcore.errors import InputError
from lmcore.model.counts import ParamCounts, count_params
from lmcore.training.config import n_steps


def params_of(config: RunConfig) -> ParamCounts:
    from dataclasses import replace

    return count_params(replace(config.model, vocab_size=config.tokenizer.vocab_size))


@pytest.mark.parametrize("name", PRESETS)
def test_preset_has_no_faults(name: str) -> None:
    """Every preset can be run as it is."""
    assert faults(PRESETS[name], Execution()) == []
    assert preset(name) is PRESETS[name]


# What the names promise, in parameters outside the embeddings.
SIZES = {
    "tinystories": 1e6,
    "tinystories-small": 10e6,
    "tinystories-base": 50e6,
    "owt-tiny": 1e6,
    "owt-small": 10e6,
}


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_size_is_as_named(name: str, size: float) -> None:
    """A size in a name is met within a tenth, counting what is outside the embeddings."""
    counts = params_of(PRESETS[name])
    inside = counts.non_embedding
    assert abs(inside / size - 1) < 0.1, f"{inside:,}"


def test_assignment_preset_is_the_assignments() -> None:
    """`cs336` is the handout's setting: its model, its tokens, its vocabulary."""
    for name, tokens in (("cs336", 327_680_000), ("cs336-cpu", 40_960_000)):
        config = PRESETS[name]
        model = config.model
        assert config.tokenizer.vocab_size == 10_000
        assert (model.context_length, model.d_model, model.d_ff) == (256, 512, 1_344)
        assert (model.n_layers, model.n_heads, model.feed_forward) == (4, 16, "swiglu")
        training = config.training
        assert training.tokens == tokens
        assert n_steps(training, 256) * training.batch_size * 256 == tokens


def test_remote_presets_name_both_texts() -> None:
    """Every preset but the quickstart fetches two texts over https; that one needs no network."""
    for name, config in PRESETS.items():
        urls = (config.source.train_url, config.source.valid_url)
        assert all(re.match("https://", url) for url in urls) == (name != "quickstart")
    assert PRESETS["quickstart"].source.kind == "stories"


def test_automatic_precision_is_settled_before_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mixed precision is meaning: what auto stands for is decided before any key is made."""
    monkeypatch.setattr(numerics, "instruction_set", lambda: "avx2")
    config = PRESETS["quickstart"]
    assert config.training.precision == "auto"
    assert with_precision(config, "cpu").training.precision == "float32"
    said = with_precision(with_precision(config, "cpu"), "cuda")
    assert said.training.precision == "float32"


def test_unknown_preset() -> None:
    """A name that is none lists those there are."""
    with pytest.raises(InputError, match="there is no preset 'x': take one of quickstart, "):
        preset("x")
