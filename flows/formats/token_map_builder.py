"""A token map made from Parquet shards: decoded once, whole or not at all.

The folder is named by the logical digest of the tokens and by the end-of-text id, so one map
serves every run on the same tokens.

Room for the whole map is claimed before the first token is written. A map over a file with holes
on a full disk does not fail with an error: the process dies by SIGBUS when it touches a hole.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from flows.disk.atomic import file_sha256, new_folder, sweep
from flows.disk.errors import disk_errors
from flows.formats.token_map import (
    BYTES,
    MANIFEST,
    OFFSETS,
    TOKENS,
    TokenMap,
    open_token_map,
)
from flows.formats.token_parquet import describe_shards, read_shards
from flows.formats.token_rows import TokenDigest, TokenRows, token_dtype
from flows.formats.token_shards import TokenCounts, TokenHeader
from lmcore.errors import InputError

FORMAT_VERSION = 1


def token_map(
    paths: Sequence[Path],
    cache: Path,
    *,
    digest: str,
    on_event: Callable[[str], None] = lambda message: None,
) -> TokenMap:
    """The memory map of some shards: opened if it is there and sound, else built.

    Args:
      paths: the shards, in order.
      cache: a folder that keeps maps; made when absent. Several processes may share it.
      digest: the shards' logical digest, as ``write_shards`` returned it.
      on_event: told, in a sentence, when a map is built, and when one is replaced that is damaged
        or says something else of its tokens than the shards do.

    Returns:
      The map.

    Raises:
      InputError: a shard is damaged or not of this digest, the shards are empty, or no room.

    Example:
      >>> tokens = token_map(shards.paths, Path("maps"), digest=shards.digest).tokens
      >>> tokens.tolist()
      [1, 5, 6, 1, 7, 1]
    """
    header, counts = describe_shards(paths)
    folder = cache / f"{digest[:24]}-{header.eos_id}"
    if folder.exists():
        try:
            return open_map_of(header, digest, folder)
        except InputError as error:
            on_event(f"the token map is rebuilt: {error}")
            shutil.rmtree(folder)
    sweep(cache)
    on_event(f"decoding {counts.tokens:,} tokens of {counts.documents:,} documents to {folder}")
    try:
        build_token_map(paths, folder, digest=digest)
    except FileExistsError:
        on_event("another process decoded the same tokens first; its map is used")
    return open_map_of(header, digest, folder)


def open_map_of(header: TokenHeader, digest: str, folder: Path) -> TokenMap:
    """Open the map in ``folder``, which must be the one of these shards.

    Raises:
      InputError: it is damaged, or it says something else of its tokens than the shards say.
    """
    opened = open_token_map(folder)
    said = json.loads((folder / MANIFEST).read_text())
    for name, expected in meaning(header, digest).items():
        if said.get(name) != expected:
            raise InputError(
                f"{folder / MANIFEST} says {name} {said.get(name)!r}, expected {expected!r} as in "
                "the token shards"
            )
    if set(said["files"]) != {TOKENS, OFFSETS, BYTES}:
        raise InputError(f"{folder / MANIFEST} does not name the three files of a token map")
    return opened


def build_token_map(paths: Sequence[Path], folder: Path, *, digest: str) -> None:
    """Decode shards into a new map, whole or not at all.

    Raises:
      FileExistsError: the folder exists.
      InputError: a shard is damaged or not of this digest, the shards are empty, or no room.
    """
    header, counts = describe_shards(paths)
    if counts.documents == 0 or counts.tokens == 0:
        raise InputError(
            f"the token shards {paths[0]} ... hold no tokens: there is nothing to train on; "
            "check the corpus"
        )
    with new_folder(folder) as temporary:
        with (temporary / TOKENS).open("wb") as file:
            reserve(file, stream_length(counts) * token_dtype(header.vocab_size).itemsize, folder)
            offsets, document_bytes, found = write_stream(file, read_shards(paths), header)
        if found != digest:
            raise InputError(
                f"the token shards {paths[0]} ... have the digest {found[:16]}, expected "
                f"{digest[:16]}: they changed since they were written; run again to rebuild them"
            )
        np.save(temporary / OFFSETS, offsets)
        np.save(temporary / BYTES, document_bytes)
        write_manifest(temporary, header, digest)


def stream_length(counts: TokenCounts) -> int:
    """Tokens of the stream: an end-of-text token before each document, and one at the end."""
    return counts.tokens + counts.documents + 1


def reserve(file: BinaryIO, n_bytes: int, folder: Path) -> None:
    """Claim room for the whole file, so that a full disk is known now."""
    with disk_errors(folder):
        if hasattr(os, "posix_fallocate"):  # absent on macOS: there the writes find out
            os.posix_fallocate(file.fileno(), 0, n_bytes)


def write_stream(
    file: BinaryIO, batches: Iterator[TokenRows], header: TokenHeader
) -> tuple[np.ndarray, np.ndarray, str]:
    """Write the stream in order; gives document offsets, document bytes, logical digest."""
    dtype, digest, written = token_dtype(header.vocab_size), TokenDigest(), 0
    offsets: list[np.ndarray] = []
    row_bytes: list[np.ndarray] = []
    first_rows: list[np.ndarray] = []
    n_rows = 0
    for rows in batches:
        digest.update(rows)
        starts = np.flatnonzero(rows.parts == 0)  # the rows that begin a document
        before = rows.offsets[starts]
        stream = np.insert(rows.ids, before, header.eos_id).astype(dtype, copy=False)
        stream.tofile(file)
        offsets.append(written + before + np.arange(len(starts)))
        first_rows.append(n_rows + starts)
        row_bytes.append(rows.byte_lengths)
        written, n_rows = written + len(stream), n_rows + rows.n_rows
    np.array([header.eos_id], dtype).tofile(file)
    document_bytes = np.add.reduceat(np.concatenate(row_bytes), np.concatenate(first_rows))
    return np.concatenate([*offsets, [written]]), document_bytes, digest.hexdigest()


def write_manifest(folder: Path, header: TokenHeader, digest: str) -> None:
    """Say, last, what the folder must hold."""
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": file_sha256(folder / name)}
        for name in (TOKENS, OFFSETS, BYTES)
    }
    facts = meaning(header, digest) | {"files": files}
    (folder / MANIFEST).write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")


def meaning(header: TokenHeader, digest: str) -> dict[str, object]:
    """What a manifest says of the tokens, beside the files that hold them."""
    return {
        "format": FORMAT_VERSION,
        "digest": digest,
        "tokenizer_digest": header.tokenizer_digest,
        "vocab_size": header.vocab_size,
        "eos_id": header.eos_id,
        "dtype": str(token_dtype(header.vocab_size)),
    }
