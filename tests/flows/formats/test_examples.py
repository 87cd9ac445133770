"""The examples in the docstrings of the file layer run, and show what they say."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import numpy as np
import pytest
import torch

import flows.corpora
import flows.disk
import flows.formats
from flows.formats.checkpoint import save
from flows.formats.token_map_builder import token_map
from flows.formats.token_parquet import write_shards
from flows.formats.token_rows import TokenRows
from flows.formats.token_shards import TokenHeader
from flows.formats.tokenizer_json import save_tokenizer
from lmcore.tokenizer.tokenizer import Tokenizer

MODULES = [
    f"{package.__name__}.{module.name}"
    for package in (flows.corpora, flows.disk, flows.formats)
    for module in pkgutil.iter_modules(package.__path__)
]


@pytest.fixture
def names(tmp_path, monkeypatch):
    """A folder to work in, and the values that the examples speak of."""
    monkeypatch.chdir(tmp_path)
    ids, offsets = np.array([5, 6, 7], np.uint16), np.array([0, 2, 3])
    rows = TokenRows(np.arange(2), np.zeros(2, np.int32), ids, offsets, np.array([9, 4]))
    shards = write_shards(tmp_path, "train", [rows], TokenHeader("ab12", 10, 1))
    Path("a.txt").write_text("abc")
    tokenizer = Tokenizer([bytes([byte]) for byte in range(256)], {})
    save_tokenizer(Path("tokenizer.json"), tokenizer)
    record = save(Path("checkpoints"), 42, {"w": torch.ones(2)}, {"tokens": 512}, score=1.5)
    values = {"shards": shards, "rows": rows, "tokenizer": tokenizer, "record": record}
    return {"Path": Path, "np": np, "torch": torch, "token_map": token_map, **values}


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(names, name):
    """Every example of the module gives the output that stands under it."""
    module = importlib.import_module(name)
    results = doctest.testmod(
        module,
        extraglobs=names,
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE,
        report=True,
    )
    assert results.failed == 0
