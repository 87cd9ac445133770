"""Tokens in Parquet as other libraries read them, each by the line that the documents show."""

from pathlib import Path

import numpy as np
import pytest

from flows.formats.token_parquet import write_shards
from flows.formats.token_rows import TokenRows, token_dtype
from flows.formats.token_shards import TokenHeader, TokenShards

ROWS = [  # document id, part, ids
    (0, 0, [5, 6, 299]),
    (1, 0, [7]),
    (2, 0, [8, 9, 10, 11]),
    (2, 1, [12]),
    (3, 0, [13, 14]),
]


@pytest.fixture(params=[300, 70_000])
def shards(request: pytest.FixtureRequest, tmp_path: Path) -> TokenShards:
    """Three shards, of uint16 and of uint32; one document in two pieces."""
    documents, parts, ids = zip(*ROWS, strict=True)
    dtype = token_dtype(request.param)
    rows = TokenRows(
        np.array(documents, np.int64),
        np.array(parts, np.int32),
        np.concatenate([np.array(each, dtype) for each in ids]),
        np.cumsum([0, *map(len, ids)]),
        np.array([3 * len(each) for each in ids], np.int64),
    )
    header = TokenHeader("ab" * 32, request.param, 1)
    written = write_shards(tmp_path, "train", [rows], header, group_tokens=1, shard_tokens=3)
    assert len(written.paths) == 3
    return written


EXPECTED = [(id, part, ids, len(ids), 3 * len(ids)) for id, part, ids in ROWS]


def test_duckdb(shards: TokenShards, tmp_path: Path) -> None:
    """SQL over the files: the same rows, and sums that are the shards' own counts."""
    duckdb = pytest.importorskip("duckdb", reason="it is in the extra readers")
    files = f"'{tmp_path}/train-*.parquet'"
    rows = duckdb.sql(f"SELECT document_id, part, ids, n_tokens, byte_length FROM {files}")
    assert rows.fetchall() == EXPECTED
    counts = shards.counts
    sums = "count(*), count(DISTINCT document_id), sum(len(ids)), sum(byte_length)"
    assert duckdb.sql(f"SELECT {sums} FROM {files}").fetchall() == [
        (counts.rows, counts.documents, counts.tokens, counts.bytes)
    ]


def test_polars(shards: TokenShards, tmp_path: Path) -> None:
    """A data frame of the same rows."""
    polars = pytest.importorskip("polars", reason="it is in the extra readers")
    frame = polars.read_parquet(f"{tmp_path}/train-*.parquet")
    assert frame.rows() == EXPECTED
    assert frame["ids"].list.len().sum() == shards.counts.tokens
    assert frame["document_id"].n_unique() == shards.counts.documents


def test_datasets(shards: TokenShards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataset of the same rows, without asking any server."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="it is in the extra readers")
    files = f"{tmp_path}/train-*.parquet"
    cache = tmp_path / "cache"
    read = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(cache))
    assert [tuple(row.values()) for row in read] == EXPECTED
    assert sum(read["n_tokens"]) == shards.counts.tokens
