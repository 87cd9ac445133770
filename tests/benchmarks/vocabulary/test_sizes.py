"""Costs by vocabulary size are those of the model's own counts."""

from dataclasses import replace

import pytest

from benchmarks.vocabulary.sizes import MODELS, compression, cost
from benchmarks.vocabulary.texts import Texts
from benchmarks.vocabulary.trained import tokenizers
from flows.presets import PRESETS
from lmcore.model.init import init_params
from lmcore.synthetic.stories import stories

TEXT = "\n\n".join(stories(seed=0, start=0, count=40))


def test_shares_are_those_of_real_parameters() -> None:
    """The embeddings' part of the model is counted on the parameters that a run begins with."""
    found = cost("tinystories", 1_000, 4.0)
    model = replace(PRESETS["tinystories"].model, vocab_size=1_000)
    for tied, share in ((False, found.share), (True, found.tied_share)):
        params = init_params(replace(model, tie_embeddings=tied), 0)
        tables = [p.numel() for name, p in params.items() if "embeddings" in name or "head" in name]
        assert share == pytest.approx(sum(tables) / sum(p.numel() for p in params.values()))


@pytest.mark.parametrize("name", MODELS)
def test_twice_the_vocabulary_twice_the_tables(name: str) -> None:
    """Tables are linear in the vocabulary; FLOPs a byte are those a token over bytes a token."""
    one, two = cost(name, 10_000, 4.0), cost(name, 20_000, 4.0)
    assert two.embedding == 2 * one.embedding == 4 * one.tied_embedding
    width = PRESETS[name].model.d_model
    assert (two.flops_per_byte - one.flops_per_byte) * 4 == 3 * 2 * width * 10_000
    assert cost(name, 10_000, 8.0).flops_per_byte == one.flops_per_byte / 2


def test_rare_tokens_are_counted_without_the_separator() -> None:
    """A token is rare by its own occurrences in the text that it was learned from."""
    made = tokenizers([TEXT], [400])[400]
    ids = made.encode(TEXT)
    rare = sum(ids.count(number) < 100 for number in range(1, 400))
    found = compression(made, Texts(TEXT, TEXT, TEXT, []))
    assert found.rare == rare
    assert found.trained == pytest.approx(found.novels) == len(TEXT.encode()) / len(ids)
