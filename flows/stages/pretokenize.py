"""Both texts as token ids: Parquet shards, a row a document."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from flows.corpora.config import ReadingConfig
from flows.corpora.documents import read_documents
from flows.corpora.pieces import Document, in_batches
from flows.formats.token_parquet import write_shards
from flows.formats.token_rows import TokenRows
from flows.formats.token_shards import TokenHeader, TokenShards
from flows.formats.tokenizer_json import load_tokenizer
from flows.progress.events import Event, Notify
from flows.stages.product import Product
from lmcore.errors import InputError
from lmcore.tokenizer.tokenizer import Tokenizer

# Text that one worker encodes at a time: enough to forget the cost of handing it over.
BATCH_CHARACTERS = 1 << 22


class MapInOrder(Protocol):
    """Calls a function on items, perhaps several at once; results come in order."""

    def __call__(self, fn: Callable, items: list, /) -> list: ...


@dataclass(frozen=True)
class PretokenizeConfig:
    """How token ids are laid out on disk."""

    shard_tokens: int = 1 << 26
    """Tokens after which a Parquet file ends and the next begins."""
    end_of_text: str = "<eos>"
    """The special token that stands before, between and after documents."""


def faults(config: PretokenizeConfig, special_tokens: tuple[str, ...]) -> list[str]:
    """What is wrong with the settings, a line each."""
    found = []
    if config.shard_tokens < 1:
        found.append(
            f"shard_tokens is {config.shard_tokens}: it must be at least 1; raise "
            "--pretokenize.shard-tokens"
        )
    if config.end_of_text not in special_tokens:
        found.append(
            f"end_of_text is {config.end_of_text!r}, which is not one of the special tokens "
            f"{list(special_tokens)}; change --pretokenize.end-of-text or add it to "
            "--tokenizer.special-tokens"
        )
    return found


def run(
    pretokenize: PretokenizeConfig,
    reading: ReadingConfig,
    texts: dict[str, Path],
    tokenizer: Path,
    tokenizer_digest: str,
    out_dir: Path,
    notify: Notify,
    map_in_order: MapInOrder,
    at_once: int,
) -> Product:
    """Write ``train-*.parquet`` and ``valid-*.parquet``.

    Args:
      pretokenize, reading: the slices.
      texts: the files of "train" and "valid".
      tokenizer: the tokenizer's file; its digest goes into every shard.
      map_in_order: how batches of documents are shared out; ``at_once`` of them at a time.

    Raises:
      InputError: a text cannot be read, or holds nothing.
    """
    loaded = load_tokenizer(tokenizer)
    header = TokenHeader(
        tokenizer_digest, loaded.vocab_size, loaded.encode(pretokenize.end_of_text)[0]
    )
    facts: dict[str, object] = {"eos_id": header.eos_id, "vocab_size": header.vocab_size}
    used = np.zeros(header.vocab_size, dtype=bool)
    for split, path in texts.items():
        limit = reading.max_train_bytes if split == "train" else 0
        documents = read_documents(path, reading, max_bytes=limit)
        rows = encoded(documents, tokenizer, split, notify, map_in_order, at_once)
        shards = write_shards(
            out_dir,
            split,
            marked(rows, used, split == "train"),
            header,
            shard_tokens=pretokenize.shard_tokens,
        )
        facts[split] = describe(shards)
    facts["vocabulary_used"] = float(used.mean())
    return Product(join_digests(facts), facts)


def encoded(
    documents: Iterable[Document],
    tokenizer: Path,
    split: str,
    notify: Notify,
    map_in_order: MapInOrder,
    at_once: int,
) -> Iterator[TokenRows]:
    """Token rows of all documents, in order, ``at_once`` batches in memory at a time."""
    batches = in_batches(documents, BATCH_CHARACTERS)
    encode = partial(encode_batch, tokenizer)
    done_bytes = done_tokens = 0
    while wave := list(islice(batches, at_once)):
        for rows in map_in_order(encode, wave):
            done_bytes += int(rows.byte_lengths.sum())
            done_tokens += int(rows.offsets[-1])
            data = {"done": done_bytes, "total": None, "unit": "bytes", "label": split}
            notify(Event("progress", "pretokenize", data=data | {"tokens": done_tokens}))
            yield rows


@lru_cache(maxsize=2)
def load_once(tokenizer: Path) -> Tokenizer:
    """The tokenizer, read once in each worker process."""
    return load_tokenizer(tokenizer)


def encode_batch(tokenizer: Path, documents: list[Document]) -> TokenRows:
    """Encode documents; what looks like a special token in a document's text is plain text."""
    ids, offsets = load_once(tokenizer).encode_batch(
        [document.text for document in documents], allow_special=False
    )
    return TokenRows(
        np.array([document.id for document in documents], dtype=np.int64),
        np.array([document.part for document in documents], dtype=np.int32),
        ids,
        offsets,
        np.array([len(document.text.encode()) for document in documents], dtype=np.int64),
    )


def marked(rows: Iterator[TokenRows], used: np.ndarray, mark: bool) -> Iterator[TokenRows]:
    """Pass rows on, marking in ``used`` the ids that occur."""
    for batch in rows:
        if mark:
            used[batch.ids] = True
        yield batch


def describe(shards: TokenShards) -> dict[str, object]:
    """The facts of one split."""
    counts = shards.counts
    if counts.tokens == 0:
        raise InputError("a text of the corpus gave no tokens; check --corpus.train-url")
    return {
        "digest": shards.digest,
        "files": [path.name for path in shards.paths],
        **asdict(counts),
        "bytes_per_token": counts.bytes / counts.tokens,
    }


def join_digests(facts: dict) -> str:
    """One digest of both splits' logical digests."""
    joined = f"{facts['train']['digest']} {facts['valid']['digest']} {facts['eos_id']}"
    return hashlib.sha256(joined.encode()).hexdigest()
