"""Which published corpus a run is on: its addresses say so, or nobody does."""

import doctest
from dataclasses import replace

import pytest

from flows.catalog import STAGES, reference
from flows.config import RunConfig
from flows.corpora import published
from flows.corpora.config import SourceConfig
from flows.corpora.published import URLS, name_of
from flows.presets import PRESETS
from flows.store.key import make_key
from tests.contracts.test_keys import UPSTREAM


def test_presets_are_on_what_their_names_say() -> None:
    """Every preset's corpus; the embedded stories have their floor and no band."""
    corpora = {name: name_of(config.source) for name, config in PRESETS.items()}
    assert corpora == {
        "quickstart": "",
        "tinystories": "tinystories",
        "tinystories-small": "tinystories",
        "tinystories-base": "tinystories",
        "owt-tiny": "openwebtext",
        "owt-small": "openwebtext",
        "cs336": "tinystories",
        "cs336-cpu": "tinystories",
    }


@pytest.mark.parametrize("corpus", URLS)
def test_copy_elsewhere_is_not_guessed_at(corpus) -> None:
    """One address that is another, in either split, and the corpus is unknown."""
    source = published.published(corpus)
    for split in ("train_url", "valid_url"):
        name = getattr(source, split).rsplit("/")[-1]
        assert name_of(replace(source, **{split: f"file:///data/{name}"})) == ""
    stories = SourceConfig("stories", source.train_url, source.valid_url)
    assert name_of(stories) == ""


def test_evaluation_is_keyed_by_what_it_is_held_against() -> None:
    """On a published corpus the tokens trained on are meant; elsewhere nothing is."""

    def key(config: RunConfig) -> str:
        return make_key(STAGES["evaluate"].request(config, UPSTREAM)).digest

    known, unknown = PRESETS["cs336"], RunConfig()
    assert reference(known) == {"corpus": "tinystories", "n_tokens": 327_680_000}
    assert reference(unknown) == {}
    fewer = {
        config: replace(config, training=replace(config.training, tokens=1_000_000))
        for config in (known, unknown)
    }
    assert key(known) != key(fewer[known])
    assert key(unknown) == key(fewer[unknown])


def test_examples() -> None:
    """The examples in the docstrings give what stands under them."""
    assert doctest.testmod(published).failed == 0
