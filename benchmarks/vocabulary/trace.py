"""Watch the fast trainer at work: its row of symbols, and batch after batch."""

from collections.abc import Mapping
from unittest.mock import patch

from lmcore.tokenizer import fast_training
from lmcore.tokenizer.bpe import first_vocab
from lmcore.tokenizer.fast_training import merge_words
from lmcore.tokenizer.pair_batches import merge_batch
from lmcore.tokenizer.pair_table import EDGE, GONE

SIGNS = {EDGE: "|", GONE: "·"}


def show_batches(words: Mapping[bytes, int], n_tokens: int) -> None:
    """Print the row of symbols, and under it what each batch merged of what it looked at.

    Args:
      words: distinct words and how often each is seen; letters only.
      n_tokens: how many merges to make.

    Example:
      >>> show_batches({b"low": 5, b"lower": 2}, 2)
      | l o w | l o w e r |
      looks at  o w 7, l o 7
      merges    ow
      | l ow · | l ow · e r |
      looks at  l ow 7
      merges    low
      | low · · | low · · e r |
    """

    def watched(row, pairs, batch, vocab, merges) -> None:
        print(_row(row.symbol, vocab))
        print("looks at ", ", ".join(f"{a.decode()} {b.decode()} {n}" for n, a, b, _ in batch))
        before = len(vocab)
        merge_batch(row, pairs, batch, vocab, merges)
        print("merges   ", ", ".join(token.decode() for token in vocab[before:]))
        rows[:] = [row]

    rows: list = []
    vocab = list(first_vocab(()))
    with patch.object(fast_training, "merge_batch", watched):
        merge_words(dict(words), vocab, len(vocab) + n_tokens, lambda _: None)
    print(*(_row(row.symbol, vocab) for row in rows))


def _row(symbols, vocab: list[bytes]) -> str:
    return " ".join(SIGNS.get(symbol) or vocab[symbol].decode() for symbol in symbols.tolist())
