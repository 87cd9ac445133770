"""Tokens in Parquet shards: a row a document, so that any tool can query them.

Columns: ``document_id`` int64, ``part`` int32, ``ids`` list of uint16 (uint32 for a vocabulary
beyond 65,536), ``n_tokens`` int32, ``byte_length`` int64 of raw text. Compressed with zstd, row
groups bounded, pages checked by checksums. The footer holds one JSON value under ``tokens``: the
tokenizer's digest, the counts, and the logical digest of the rows (``TokenDigest``). The same
rows give the same bytes under one version of pyarrow; under all versions they give the same
logical digest, and that is what travels downstream.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flows.disk.atomic import new_file
from flows.formats.token_rows import TokenDigest, TokenRows, in_groups, token_dtype
from flows.formats.token_shards import TokenCounts, TokenHeader, TokenShards
from lmcore.errors import InputError

# Arrow's own pool keeps what it has freed. With the system's the memory of writing stays level over
# any number of row groups, at the same speed.
pa.set_memory_pool(pa.system_memory_pool())

FORMAT_VERSION = 1
METADATA_KEY = b"tokens"
# A group is what a reader holds at once: 2 MiB of uint16 tokens, or 64 Ki short documents.
GROUP_TOKENS = 1 << 20
GROUP_ROWS = 1 << 16
# 64 Mi tokens are about 250 MB of English text, 60-100 MB of Parquet.
SHARD_TOKENS = 1 << 26


@dataclass(frozen=True)
class Begun:
    """The first shards of a set, which are there already.

    Attributes:
      paths: the files.
      counts: of them together.
      digest: of their rows.
    """

    paths: tuple[Path, ...] = ()
    counts: TokenCounts = field(default_factory=TokenCounts)
    digest: TokenDigest = field(default_factory=TokenDigest)


def write_shards(
    folder: Path,
    prefix: str,
    batches: Iterable[TokenRows],
    header: TokenHeader,
    *,
    shard_tokens: int = SHARD_TOKENS,
    group_tokens: int = GROUP_TOKENS,
    begun: Begun | None = None,
) -> TokenShards:
    """Write rows as they come into ``prefix-00000.parquet`` and on, in bounded memory.

    Args:
      folder: where; it exists.
      prefix: how the files' names begin, for example ``train``.
      batches: the rows, in batches of any size; their sizes never change the files.
      header: what the tokens mean.
      shard_tokens: a file ends with the row group that brings it to so many tokens.
      group_tokens: a row group ends with the row that brings it to so many tokens.
      begun: shards to go on from, each as full as one can be; ``batches`` are the rows after
        theirs. The set is the same as one written in one go.

    Returns:
      The shards, their counts, and the logical digest of all rows. Without rows there is one
      shard without rows.

    Raises:
      InputError: no room, or not writable.
      ValueError: rows that cannot be (an id beyond the vocabulary, offsets that do not fit).

    Example:
      >>> rows = TokenRows(np.arange(2), np.zeros(2, np.int32), np.uint16([5, 6, 7]),
      ...                  np.array([0, 2, 3]), np.array([9, 4]))
      >>> shards = write_shards(Path("."), "train", [rows], TokenHeader("ab12", 10, 1))
      >>> shards.counts
      TokenCounts(rows=2, documents=2, tokens=3, bytes=13)
    """
    begun = begun or Begun()
    digest, counts, paths = begun.digest.copy(), begun.counts, list(begun.paths)
    groups = watched(in_groups(batches, group_tokens, GROUP_ROWS), digest, header)
    group = next(groups, None)
    while group is not None or not paths:
        paths.append(folder / f"{prefix}-{len(paths):05d}.parquet")
        with new_file(paths[-1]) as file:
            written, group = write_file(file, header, group, groups, shard_tokens)
        counts = counts.plus(written)
    return TokenShards(tuple(paths), header, counts, digest.hexdigest())


def write_file(
    file: BinaryIO,
    header: TokenHeader,
    group: TokenRows | None,
    groups: Iterator[TokenRows],
    shard_tokens: int,
) -> tuple[TokenCounts, TokenRows | None]:
    """Write one shard, ``group`` first; gives its counts, and the first group of the next."""
    digest, counts = TokenDigest(), TokenCounts()
    with pq.ParquetWriter(
        file,
        schema_of(header.vocab_size),
        compression="zstd",
        write_page_checksum=True,
        # Plain pages, which every reader knows: 1.50 bytes a token on 12 MB of novels, 1.49 with a
        # dictionary. Split into byte streams they take 1.27, but older tools cannot read that.
        use_dictionary=False,
    ) as writer:
        while group is not None and counts.tokens < shard_tokens:
            writer.write_table(table_of(group, header), row_group_size=group.n_rows)
            digest.update(group)
            counts = counts.plus(counts_of(group))
            group = next(groups, None)
        facts = {"format": FORMAT_VERSION, **asdict(header), **asdict(counts)}
        value = json.dumps(facts | {"digest": digest.hexdigest()}, sort_keys=True)
        writer.add_key_value_metadata({METADATA_KEY: value.encode()})
    return counts, group


def watched(
    groups: Iterator[TokenRows], digest: TokenDigest, header: TokenHeader
) -> Iterator[TokenRows]:
    """Pass groups on, each checked and taken into the digest."""
    for group in groups:
        check_rows(group, header.vocab_size)
        digest.update(group)
        yield group


def check_rows(rows: TokenRows, vocab_size: int) -> None:
    """Refuse rows that cannot be: a fault of the caller, so no ``InputError``."""
    if rows.ids.size and int(rows.ids.max()) >= vocab_size:
        raise ValueError(f"id {int(rows.ids.max())} is beyond the vocabulary of {vocab_size}")
    if rows.offsets[0] != 0 or rows.offsets[-1] != rows.ids.size or (rows.n_tokens < 0).any():
        raise ValueError("offsets must run from 0 to the number of ids and never fall")


def counts_of(rows: TokenRows) -> TokenCounts:
    """What these rows add to the counts."""
    documents = int(np.count_nonzero(rows.parts == 0))
    return TokenCounts(rows.n_rows, documents, rows.ids.size, int(rows.byte_lengths.sum()))


def schema_of(vocab_size: int) -> pa.Schema:
    """The columns of every shard."""
    element = pa.field("element", pa.from_numpy_dtype(token_dtype(vocab_size)), nullable=False)
    columns = {
        "document_id": pa.int64(),
        "part": pa.int32(),
        "ids": pa.list_(element),
        "n_tokens": pa.int32(),
        "byte_length": pa.int64(),
    }
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


def table_of(rows: TokenRows, header: TokenHeader) -> pa.Table:
    """Rows as an arrow table."""
    schema = schema_of(header.vocab_size)
    ids = pa.array(rows.ids.astype(token_dtype(header.vocab_size), copy=False))
    offsets = pa.array(rows.offsets, type=pa.int32())
    columns = [
        pa.array(rows.document_ids, type=pa.int64()),
        pa.array(rows.parts, type=pa.int32()),
        pa.ListArray.from_arrays(offsets, ids, type=schema.field("ids").type),
        pa.array(rows.n_tokens, type=pa.int32()),
        pa.array(rows.byte_lengths, type=pa.int64()),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def read_shard(path: Path) -> Iterator[TokenRows]:
    """Read a shard's rows back, a row group at a time, and check them.

    Args:
      path: a file that :func:`write_shards` wrote.

    Returns:
      The rows in order. The check of the whole shard's digest comes after its last rows.

    Raises:
      InputError: the file is damaged, or not one of ours.

    Example:
      >>> [rows.n_rows for rows in read_shard(Path("train-00000.parquet"))]
      [2]
    """
    with opened(path) as (file, header, _, expected):
        digest = TokenDigest()
        for group in range(file.num_row_groups):
            rows = rows_of(file.read_row_group(group), token_dtype(header.vocab_size))
            digest.update(rows)
            yield rows
        if digest.hexdigest() != expected:
            raise InputError(f"{path} is damaged: its rows are not those that were written")


def read_shards(paths: Sequence[Path]) -> Iterator[TokenRows]:
    """The rows of several shards, one shard after another; see :func:`read_shard`."""
    for path in paths:
        yield from read_shard(path)


def rows_of(table: pa.Table, dtype: np.dtype) -> TokenRows:
    """An arrow table as rows."""
    document_ids, parts, lists, n_tokens, byte_lengths = (
        column.combine_chunks() for column in table.columns
    )
    offsets = np.concatenate([[0], np.cumsum(n_tokens.to_numpy(), dtype=np.int64)])
    return TokenRows(
        document_ids.to_numpy(),
        parts.to_numpy(),
        lists.flatten().to_numpy().astype(dtype, copy=False),
        offsets,
        byte_lengths.to_numpy(),
    )


def describe_shards(paths: Sequence[Path]) -> tuple[TokenHeader, TokenCounts]:
    """Header and counts of a set of shards, from their footers alone: no row is read.

    Args:
      paths: at least one shard; all of one tokenizer.

    Raises:
      InputError: none given, one damaged or foreign, or shards of different tokenizers.

    Example:
      >>> describe_shards([Path("train-00000.parquet")])[1].tokens
      3
    """
    if not paths:
        raise InputError("no token shards were given: expected at least one .parquet file")
    headers, counts = [], TokenCounts()
    for path in paths:
        with opened(path) as (_, header, held, _):
            headers.append(header)
            counts = counts.plus(held)
    for path, header in zip(paths, headers, strict=True):
        if header != headers[0]:
            raise InputError(
                f"{path} and {paths[0]} are of different tokenizers ({header} and {headers[0]}); "
                "tokenize both with one"
            )
    return headers[0], counts


def logical_digest(paths: Sequence[Path]) -> str:
    """The digest of all rows of the shards, as ``write_shards`` returned it; reads them all.

    It does not depend on how the rows are cut into shards and row groups, on their encoding, nor
    on the ids' dtype.

    Args:
      paths: the shards, in order.

    Raises:
      InputError: a shard is damaged or foreign.

    Example:
      >>> logical_digest([Path("train-00000.parquet")])[:8]
      '7f28cf0f'
    """
    digest = TokenDigest()
    for rows in read_shards(paths):
        digest.update(rows)
    return digest.hexdigest()


def find_shards(folder: Path, prefix: str) -> TokenShards:
    """The shards that :func:`write_shards` left in a folder, all read and checked.

    Raises:
      InputError: there are none, or one is damaged.
    """
    paths = tuple(sorted(folder.glob(f"{prefix}-[0-9]*.parquet")))
    header, counts = describe_shards(paths)
    return TokenShards(paths, header, counts, logical_digest(paths))


@contextmanager
def opened(path: Path) -> Iterator[tuple[pq.ParquetFile, TokenHeader, TokenCounts, str]]:
    """Open a shard: the file, its header, its counts, the digest of its rows."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file, *footer_of(file, path)
    # UnicodeDecodeError: a changed byte in the name of a column.
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is no Parquet that can be read ({error}); if it came from a run, "
            "run again to rebuild it"
        ) from error


def footer_of(file: pq.ParquetFile, path: Path) -> tuple[TokenHeader, TokenCounts, str]:
    """What the footer says, checked against the columns."""
    try:
        facts = json.loads((file.metadata.metadata or {})[METADATA_KEY])
        if facts.pop("format") != FORMAT_VERSION:
            raise ValueError("another format version")
        header = TokenHeader(*(facts[name] for name in TokenHeader.__dataclass_fields__))
        counts = TokenCounts(*(facts[name] for name in TokenCounts.__dataclass_fields__))
        if not file.schema_arrow.equals(schema_of(header.vocab_size)):
            raise ValueError("other columns")
        if file.metadata.num_rows != counts.rows:
            raise ValueError("another number of rows")
        return header, counts, facts["digest"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is Parquet, but not tokens of this format ({error!r}): expected a shard that "
            "the pretokenize stage wrote"
        ) from error
