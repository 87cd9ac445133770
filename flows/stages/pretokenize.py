"""Both texts as token ids: Parquet shards, a row a document."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path

import numpy as np

from flows.corpora.config import ReadingConfig
from flows.corpora.documents import read_documents
from flows.corpora.pieces import Document, in_batches
from flows.corpora.text_size import text_bytes
from flows.formats.kept_shards import forget_shards, hand_over, keep_shards
from flows.formats.token_parquet import Begun, write_shards
from flows.formats.token_rows import TokenRows
from flows.formats.token_shards import TokenHeader, TokenShards
from flows.formats.tokenizer_json import load_tokenizer
from flows.progress.events import Event, Notify
from flows.stages.product import Product
from lmcore.errors import InputError
from lmcore.tokenizer.tokenizer import Tokenizer
from lmcore.tokenizer.word_counts import MapInOrder

# Text that one worker encodes at a time: enough to forget the cost of handing it over.
BATCH_CHARACTERS = 1 << 22


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
    work_dir: Path,
    notify: Notify,
    map_in_order: MapInOrder,
) -> Product:
    """Write ``train-*.parquet`` and ``valid-*.parquet``.

    Args:
      pretokenize, reading: the slices.
      texts: the files of "train" and "valid".
      tokenizer: the tokenizer's file; its digest goes into every shard.
      out_dir: gets the files.
      work_dir: holds the shards that are finished; those of a call that did not end are kept, if
        it was given the same. A text that cannot be read leaves none.
      map_in_order: how batches of documents are shared out.

    Raises:
      InputError: a text cannot be read, or holds nothing.
    """
    loaded = load_once(tokenizer)
    header = TokenHeader(
        tokenizer_digest, loaded.vocab_size, loaded.encode(pretokenize.end_of_text)[0]
    )
    facts: dict[str, object] = {"eos_id": header.eos_id, "vocab_size": header.vocab_size}
    used = np.zeros(header.vocab_size, dtype=bool)  # by the training text

    def see(rows: TokenRows) -> None:
        used[rows.ids] = True

    def shards_of(split: str, path: Path) -> TokenShards:
        limit = reading.max_train_bytes if split == "train" else 0
        watch = see if split == "train" else ignore
        begun = keep_shards(work_dir, split, header, watch)
        if begun.paths:
            notify(Event("note", "pretokenize", kept(split, begun)))
        documents = readable(read_documents(path, reading, max_bytes=limit))
        batches = in_batches(islice(documents, begun.counts.rows, None), BATCH_CHARACTERS)
        encoded = map_in_order(partial(encode_batch, tokenizer), batches)
        rows = told(encoded, split, begun, text_bytes(path, reading, limit), notify)
        return write_shards(
            work_dir,
            split,
            seen(rows, watch),
            header,
            shard_tokens=pretokenize.shard_tokens,
            begun=begun,
        )

    try:
        for split, path in texts.items():
            facts[split] = describe(shards_of(split, path))
    except TextAtFault:
        forget_shards(work_dir)
        raise
    finally:
        _idle.pop(tokenizer, None)
    hand_over(work_dir, out_dir)
    return Product(join_digests(facts), facts | vocabulary_facts(loaded, used))


class TextAtFault(InputError):
    """A text that the reader refuses, and will refuse again: no shard of it is worth keeping."""


def readable(documents: Iterable[Document]) -> Iterator[Document]:
    """Pass documents on; what the reader refuses is the text's fault."""
    try:
        yield from documents
    except InputError as error:
        raise TextAtFault(str(error)) from error


def kept(split: str, begun: Begun) -> str:
    """What is said of an earlier try."""
    number, counts = len(begun.paths), begun.counts
    return (
        f"{split}: {number} shard{'s' * (number > 1)} of an earlier try kept, "
        f"{counts.tokens:,} tokens"
    )


def told(
    batches: Iterable[TokenRows], split: str, begun: Begun, total: int | None, notify: Notify
) -> Iterator[TokenRows]:
    """Pass rows on, telling how far they come."""
    data = {"unit": "bytes", "label": split}
    done, tokens = begun.counts.bytes, begun.counts.tokens

    def tell(total: int | None) -> None:
        total = max(total, done) if total is not None else None
        progress = {"done": done, "total": total, "tokens": tokens}
        notify(Event("progress", "pretokenize", data=data | progress))

    tell(total)
    for rows in batches:
        done += int(rows.byte_lengths.sum())
        tokens += int(rows.offsets[-1])
        tell(total)
        yield rows
    tell(done)


def ignore(rows: TokenRows) -> None:
    """Look at no rows."""


def seen(batches: Iterable[TokenRows], see: Callable[[TokenRows], None]) -> Iterator[TokenRows]:
    """Pass rows on, each shown to ``see``."""
    for rows in batches:
        see(rows)
        yield rows


# Encoding remembers words, and threads that share one memory take turns: so whoever encodes takes
# a tokenizer from here and puts it back, warm. There are as many as are ever at work at once.
_idle: dict[Path, list[Tokenizer]] = {}


@lru_cache(maxsize=2)
def load_once(tokenizer: Path) -> Tokenizer:
    """The tokenizer, read once in each worker process: 0.3 s where 32,000 tokens are listed."""
    return load_tokenizer(tokenizer)


def encode_batch(tokenizer: Path, documents: list[Document]) -> TokenRows:
    """Encode documents; what looks like a special token in a document's text is plain text."""
    idle = _idle.setdefault(tokenizer, [])
    try:
        encoder = idle.pop()
    except IndexError:
        encoder = copy(load_once(tokenizer))  # a copy has the words and merges, and no memory
    ids, offsets = encoder.encode_batch(
        [document.text for document in documents], allow_special=False
    )
    idle.append(encoder)
    return TokenRows(
        np.array([document.id for document in documents], dtype=np.int64),
        np.array([document.part for document in documents], dtype=np.int32),
        ids,
        offsets,
        np.array([len(document.text.encode()) for document in documents], dtype=np.int64),
    )


def vocabulary_facts(tokenizer: Tokenizer, used: np.ndarray) -> dict[str, object]:
    """What of the vocabulary occurs in the training text: its share, and the longest token."""
    ids = np.flatnonzero(used)
    longest = tokenizer.vocab[ids[np.argmax(tokenizer.token_lengths[ids])]]
    return {
        "vocabulary_used": float(used.mean()),
        "longest_token": longest.decode("utf-8", "replace"),
        "longest_token_bytes": len(longest),
    }


def describe(shards: TokenShards) -> dict[str, object]:
    """The facts of one split."""
    counts = shards.counts
    if counts.tokens == 0:
        raise TextAtFault("a text of the corpus gave no tokens; check --corpus.train-url")
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
