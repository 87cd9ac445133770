"""The examples in the docstrings of the vocabulary benchmark."""

import doctest
from importlib import import_module

import pytest

MODULES = ["texts", "trained", "unknown", "sizes", "trace", "parts"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name: str) -> None:
    """Every example of the module runs and shows what it says."""
    found = doctest.testmod(import_module(f"benchmarks.vocabulary.{name}"))
    assert found.attempted > 0
    assert found.failed == 0
