"""A byte-level BPE tokenizer, trained on the training text alone."""

import hashlib
import json
import warnings
from pathlib import Path

from flows.corpora.config import ReadingConfig
from flows.corpora.documents import read_documents
from flows.formats.tokenizer_json import save_tokenizer
from flows.progress.events import Event, Notify
from flows.stages.product import Product
from lmcore.tokenizer.bpe import VocabularyNotFilled
from lmcore.tokenizer.config import TokenizerConfig
from lmcore.tokenizer.fast_training import train_bpe
from lmcore.tokenizer.tokenizer import Tokenizer
from lmcore.tokenizer.word_counts import MapInOrder

FILE = "tokenizer.json"


def run(
    tokenizer: TokenizerConfig,
    reading: ReadingConfig,
    train: Path,
    out_dir: Path,
    notify: Notify,
    map_in_order: MapInOrder | None = None,
) -> Product:
    """Train on the documents of ``train`` and write ``tokenizer.json``.

    Args:
      tokenizer, reading: the slices.
      train: the training text.
      map_in_order: shares the counting of words out; see `train_bpe`.

    Raises:
      InputError: the text cannot be read as ``reading`` says, or holds nothing.
    """

    def progress(state) -> None:
        data = {"done": state.done, "total": state.total, "unit": state.unit, "label": state.phase}
        notify(Event("progress", "tokenizer", data=data))

    documents = read_documents(train, reading, max_bytes=reading.max_train_bytes)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", VocabularyNotFilled)
        vocab, merges = train_bpe(
            (document.text for document in documents),
            tokenizer.vocab_size,
            tokenizer.special_tokens,
            pattern=tokenizer.pattern,
            progress=progress,
            map_in_order=map_in_order,
        )
    for warning in said:
        notify(Event("warning", "tokenizer", str(warning.message)))
    trained = Tokenizer(vocab, merges, tokenizer.special_tokens, pattern=tokenizer.pattern)
    save_tokenizer(out_dir / FILE, trained)
    longest = max(vocab[len(tokenizer.special_tokens) :], key=len)
    facts = {
        "vocab_size": len(vocab),
        "merges": len(merges),
        "longest_token": longest.decode("utf-8", "replace"),
    }
    return Product(meaning(tokenizer, vocab, merges), facts)


def meaning(tokenizer: TokenizerConfig, vocab: list[bytes], merges: dict) -> str:
    """A digest of what the tokenizer does, independent of the layout of its file."""
    value = [
        tokenizer.pattern,
        list(tokenizer.special_tokens),
        [token.hex() for token in vocab],
        [[a.hex(), b.hex()] for a, b in merges],
    ]
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
