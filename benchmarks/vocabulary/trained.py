"""Vocabularies of every size from one training."""

from collections.abc import Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from benchmarks.vocabulary.texts import SEPARATOR, n_bytes
from lmcore import Tokenizer, train_bpe
from lmcore.tokenizer.pretokenize import Pattern

N_FIRST = 257  # the separator and the bytes


def tokenizers(
    texts: Sequence[str], sizes: Sequence[int], pattern: Pattern = "gpt2"
) -> dict[int, Tokenizer]:
    """Tokenizers of these sizes, learned from ``texts`` cut by ``pattern``.

    Training decides one merge after the other, so a smaller vocabulary is the beginning of a larger
    one: the largest is trained, and cut.

    Example:
      >>> made = tokenizers(["low low lower"], [258, 259])
      >>> made[258].vocab[-1], made[259].vocab[-1]
      (b'ow', b'low')
    """
    special = (SEPARATOR,)
    vocab, merges = train_bpe(texts, max(sizes), special, pattern=pattern)
    firsts = {size: dict(islice(merges.items(), size - N_FIRST)) for size in sizes}
    return {size: Tokenizer(vocab[:size], firsts[size], special, pattern) for size in sizes}


def ids_of(tokenizer: Tokenizer, text: str) -> NDArray[np.unsignedinteger]:
    """The ids of a text."""
    return tokenizer.encode_batch([text])[0]


def n_tokens(tokenizer: Tokenizer, text: str) -> int:
    """How many tokens a text is."""
    return len(ids_of(tokenizer, text))


def bytes_per_token(tokenizer: Tokenizer, text: str) -> float:
    """How many bytes of a text a token holds, on average."""
    return n_bytes([text]) / n_tokens(tokenizer, text)
