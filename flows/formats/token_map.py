"""The tokens of a run as one flat memory map: what it is, and opening it.

The stream is ``<eos> document <eos> document ... <eos>``, uint16 or uint32, little-endian, in
``tokens.bin``; beside it lie ``document_offsets.npy``, ``document_bytes.npy`` and
``manifest.json``, which names every file's size and SHA-256. `flows.formats.token_map_builder`
makes it from Parquet shards; to open it needs no Parquet, which a training process does without.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from flows.disk.atomic import file_sha256
from lmcore.errors import InputError

TOKENS, OFFSETS, BYTES = "tokens.bin", "document_offsets.npy", "document_bytes.npy"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class TokenMap:
    """Tokens on disk that read as an array; nothing of them need fit into memory.

    Attributes:
      path: the folder.
      tokens: uint16 or uint32 ``[T + N + 1]``, read-only: the N documents' T tokens, an
        end-of-text token before each document and one at the end.
      document_offsets: int64 ``[N + 1]``, position of the end-of-text token that precedes each
        document; the last is the position of the final one.
      document_bytes: int64 ``[N]``, bytes of raw text of each document.
      eos_id: the end-of-text token.
      vocab_size: every id is below it.
      digest: the logical digest of the shards.
    """

    path: Path
    tokens: np.ndarray
    document_offsets: np.ndarray
    document_bytes: np.ndarray
    eos_id: int
    vocab_size: int
    digest: str


def open_token_map(folder: Path, *, verify: Literal["full", "size"] = "full") -> TokenMap:
    """Open a map that ``token_map`` of `flows.formats.token_map_builder` made, and check it.

    Args:
      folder: the map's folder.
      verify: "full" reads every byte and compares SHA-256 (about a second for 400 million
        tokens); "size" compares sizes only, for a process whose parent has just verified.

    Returns:
      The map; its arrays cannot be written to.

    Raises:
      InputError: something is missing, or not as the manifest says.

    Example:
      >>> open_token_map(token_map(shards.paths, Path("maps"), digest=shards.digest).path).eos_id
      1
    """
    try:
        facts = json.loads((folder / MANIFEST).read_text())
        for name, expected in facts["files"].items():
            check_file(folder / name, expected, verify)
        tokens = np.memmap(folder / TOKENS, dtype=np.dtype(facts["dtype"]), mode="r")
        offsets = np.load(folder / OFFSETS, mmap_mode="r", allow_pickle=False)
        document_bytes = np.load(folder / BYTES, mmap_mode="r", allow_pickle=False)
        meaning = facts["eos_id"], facts["vocab_size"], facts["digest"]
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{folder} is no token map that can be read ({error!r}); delete it, it will be rebuilt"
        ) from error
    return TokenMap(folder, tokens, offsets, document_bytes, *meaning)


def check_file(path: Path, expected: dict, verify: str) -> None:
    """Compare a file with what the manifest says of it."""
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise InputError(f"{path} has {size:,} bytes, expected {expected['bytes']:,}; delete it")
    if verify == "full" and (found := file_sha256(path)) != expected["sha256"]:
        raise InputError(
            f"{path} has the SHA-256 {found[:16]}, expected {expected['sha256'][:16]}: its bytes "
            "changed; delete the folder, it will be rebuilt"
        )
