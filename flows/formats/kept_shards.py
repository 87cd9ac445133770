"""Shards that a try which did not end has left: checked, and gone on from.

A shard gets its name when it is whole and synced, so a killed process leaves whole shards and one
temporary file. The next try keeps the shards up to the first that it would not have written byte
by byte, removes everything else, and goes on behind the last row it kept.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from flows.disk.atomic import TEMPORARY_PREFIX
from flows.disk.durable import sync_folder
from flows.formats.token_parquet import Begun, describe_shards, opened, read_shard
from flows.formats.token_rows import TokenRows
from flows.formats.token_shards import TokenCounts, TokenHeader
from lmcore.errors import InputError

# What Parquet files of this version say of who wrote them; another version, other bytes.
WRITER = f"parquet-cpp-arrow version {pa.cpp_version}"


def keep_shards(
    folder: Path, prefix: str, header: TokenHeader, see: Callable[[TokenRows], None]
) -> Begun:
    """What of an earlier try can be kept; the rest of its files of that prefix is removed.

    Args:
      folder: where :func:`write_shards` wrote; nobody else writes there now.
      prefix: how the files' names begin.
      header: what the tokens must mean.
      see: called with the rows of all shards that are kept, in order.

    Returns:
      The shards to give to :func:`write_shards`, and how many rows to skip: ``counts.rows``.

    Example:
      >>> begun = keep_shards(Path("."), "train", TokenHeader("ab12", 10, 1), lambda rows: None)
      >>> begun.counts.rows
      2
    """
    paths, begun = [], Begun()
    for path in numbered(folder, prefix):
        if not as_we_write(path, header):
            break
        paths.append(path)
        for rows in read_shard(path):
            begun.digest.update(rows)
            see(rows)
    for path in folder.iterdir():
        if path.name.removeprefix(TEMPORARY_PREFIX).startswith(f"{prefix}-") and path not in paths:
            path.unlink()
    counts = describe_shards(paths)[1] if paths else TokenCounts()
    return Begun(tuple(paths), counts, begun.digest)


def numbered(folder: Path, prefix: str) -> Iterator[Path]:
    """The shards from the first on, as long as none is missing."""
    number = 0
    while (path := folder / f"{prefix}-{number:05d}.parquet").is_file():
        yield path
        number += 1


def as_we_write(path: Path, header: TokenHeader) -> bool:
    """Whether a shard is whole, of these tokens, and written by this version of Parquet."""
    try:
        with opened(path) as (file, found, counts, _):
            if found != header or file.metadata.created_by != WRITER or not counts.rows:
                return False
        for _ in read_shard(path):
            pass
    except InputError:
        return False
    return True


def forget_shards(folder: Path) -> None:
    """Remove what a try has left, for no other can come to its end."""
    for path in folder.iterdir():
        path.unlink()


def hand_over(folder: Path, out_dir: Path) -> None:
    """Put the finished shards into ``out_dir`` and leave them here too, for as long as it may fail.

    A file has two names then, and its bytes are there once. Where the file system knows no such
    thing it is moved.
    """
    for path in sorted(folder.glob("*.parquet")):
        try:
            os.link(path, out_dir / path.name)
        except OSError:
            os.replace(path, out_dir / path.name)
    sync_folder(out_dir)
