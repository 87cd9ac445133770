"""Count the pre-tokens of a text: all that training needs to know of it.

For the gpt2 pattern the text is cut on arrays (`fast_pretokenize`), and the words are numbered by a
table (`word_table`), a few hundred kilobytes at a time, which stay in the processor's cache: no
Python object is made for a pre-token. For the other patterns the words are cut by ``re`` and
counted by a `Counter`, which is also the oracle.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmcore.tokenizer.engine import Engine, compiled
from lmcore.tokenizer.fast_pretokenize import PADDING, CutText, cut_gpt2
from lmcore.tokenizer.pretokenize import Pattern, checked_texts, pre_tokens
from lmcore.tokenizer.segments import segments
from lmcore.tokenizer.word_table import WordTable

BATCH_CHARACTERS = 1 << 18
SHARE_CHARACTERS, LARGEST_SHARE = 1 << 22, 1 << 23  # of one worker at a time

MapInOrder = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""Calls a function on items, perhaps several at once; results come in order.

Where it returns an iterator, items are read and results made as they are taken, so that no more
than a few are in memory.
"""


class WordCounts(NamedTuple):
    """Distinct words one after the other, and how often each was seen.

    text: their bytes.
    lengths: bytes of each word, int64.
    times: how often each was seen, int64.
    """

    text: bytes
    lengths: NDArray[np.int64]
    times: NDArray[np.int64]

    @classmethod
    def of(cls, counts: dict[bytes, int]) -> "WordCounts":
        """From a dict.

        Example:
          >>> WordCounts.of({b"ab": 2, b"c": 1}).text
          b'abc'
        """
        return cls(
            b"".join(counts),
            np.fromiter(map(len, counts), np.int64, len(counts)),
            np.fromiter(counts.values(), np.int64, len(counts)),
        )

    def as_dict(self) -> dict[bytes, int]:
        """The count of each word, by its bytes.

        Example:
          >>> WordCounts.of({b"ab": 2, b"c": 1}).as_dict()
          {b'ab': 2, b'c': 1}
        """
        ends = np.cumsum(self.lengths).tolist()
        return {
            self.text[end - length : end]: times
            for end, length, times in zip(
                ends, self.lengths.tolist(), self.times.tolist(), strict=True
            )
        }


def count_words(
    texts: Iterable[str],
    pattern: Pattern = "gpt2",
    special_tokens: tuple[str, ...] = (),
    on_read: Callable[[int], None] | None = None,
    *,
    engine: Engine = "auto",
    map_in_order: MapInOrder | None = None,
) -> WordCounts:
    """How often each pre-token is seen in ``texts``, special tokens left out.

    Holds one text, some waiting pieces, and the distinct pre-tokens, so ``texts`` may be a
    generator over a corpus of any size.

    Args:
      texts: each stands for itself: no pre-token crosses from one to the next.
      pattern: a name from `pretokenize.PATTERNS`.
      special_tokens: strings that split the text and are not counted.
      on_read: called now and then with the number of characters read so far.
      engine: what does the work, for the gpt2 pattern; see `engine.compiled`.
      map_in_order: shares the counting out, a few million characters at a time: called like `map`,
        as with ``ProcessPoolExecutor().map``. Counts of parts add up to those of the whole, so the
        result is the same. None counts here.

    Returns:
      each distinct pre-token, as UTF-8, and its count, in no order to rely on.

    Raises:
      InputError: an item is not a str, or has no UTF-8 bytes.

    Example:
      >>> sorted(count_words(["a b b"]).as_dict().items())
      [(b' b', 2), (b'a', 1)]
    """
    tell = on_read or (lambda n: None)
    tally = _NumberTally(engine) if pattern == "gpt2" else _TextTally(pattern)
    pieces = _plain_pieces(texts, pattern, special_tokens)
    n_read = 0
    if map_in_order is None:
        for batch in _batches(pieces, BATCH_CHARACTERS):
            tally.add(batch)
            n_read += sum(map(len, batch))
            tell(n_read)
        return tally.counts()
    for n_characters, counts in map_in_order(_count_share, _shares(pieces, pattern, engine)):
        tally.add_counts(counts)
        n_read += n_characters
        tell(n_read)
    return tally.counts()


class _Share(NamedTuple):
    """What one worker counts: pieces of text, and how."""

    pieces: list[str]
    pattern: Pattern
    engine: Engine


def _shares(pieces: Iterable[str], pattern: Pattern, engine: Engine) -> Iterator[_Share]:
    """The pieces shared out; the engine is chosen by how much there was before.

    Shares grow with what was read: each is counted with a table of its own, which takes some
    megabytes to know the frequent words.
    """
    share, n_read, n_waiting = [], 0, 0
    for piece in pieces:
        share.append(piece)
        n_waiting += len(piece)
        if n_waiting >= min(max(SHARE_CHARACTERS, n_read // 16), LARGEST_SHARE):
            n_read += n_waiting
            yield _Share(share, pattern, "numba" if compiled(engine, n_read) else "numpy")
            share, n_waiting = [], 0
    if share:
        yield _Share(share, pattern, "numba" if compiled(engine, n_read) else "numpy")


def _count_share(share: _Share) -> tuple[int, WordCounts]:
    """How many characters there are, and the counts of their pre-tokens."""
    is_fast = share.pattern == "gpt2"
    tally = _NumberTally(share.engine) if is_fast else _TextTally(share.pattern)
    for batch in _batches(share.pieces, BATCH_CHARACTERS):
        tally.add(batch)
    return sum(map(len, share.pieces)), tally.counts()


def _plain_pieces(
    texts: Iterable[str], pattern: Pattern, special_tokens: tuple[str, ...]
) -> Iterator[str]:
    """What lies between special tokens, in pieces of bounded size."""
    for text in checked_texts(texts, "training_data"):
        for segment in segments([text], pattern, special_tokens):
            if not segment.is_special:
                yield segment.text


def _batches(pieces: Iterable[str], size: int) -> Iterator[list[str]]:
    """Pieces gathered to so many characters."""
    batch: list[str] = []
    n_waiting = 0
    for piece in pieces:
        batch.append(piece)
        n_waiting += len(piece)
        if n_waiting >= size:
            yield batch
            batch, n_waiting = [], 0
    if batch:
        yield batch


class _TextTally:
    """Counts of pre-tokens as the pattern finds them."""

    def __init__(self, pattern: Pattern) -> None:
        self.pattern: Pattern = pattern
        self.words: Counter[str] = Counter()

    def add(self, pieces: list[str]) -> None:
        for piece in pieces:
            self.words.update(pre_tokens(piece, self.pattern))

    def add_counts(self, counts: WordCounts) -> None:
        for word, times in counts.as_dict().items():
            self.words[word.decode()] += times

    def counts(self) -> WordCounts:
        return WordCounts.of({word.encode(): count for word, count in self.words.items()})


class _NumberTally:
    """Counts of gpt2 pre-tokens by their numbers in a table.

    waiting: numbers that are not counted yet, so that adding up all words' counts costs little.
    times: by number; 0 counts barriers.
    """

    def __init__(self, engine: Engine) -> None:
        self.table = WordTable()
        self.engine: Engine = engine
        self.n_read = self.n_waiting = 0
        self.waiting: list[NDArray[np.signedinteger]] = []
        self.times = np.zeros(1, np.int64)

    def add(self, pieces: list[str]) -> None:
        kernels = compiled(self.engine, self.n_read)
        self.n_read += sum(map(len, pieces))
        cut = cut_gpt2(pieces)
        number = self.table.find_compiled(cut, kernels) if kernels else self.table.find(cut)
        self.waiting.append(number)
        self.n_waiting += len(number)
        if self.n_waiting >= self.table.n * 4:
            self.count()

    def add_counts(self, counts: WordCounts) -> None:
        """Add distinct words with their counts."""
        raw = np.frombuffer(counts.text + PADDING, np.uint8)
        starts = np.cumsum(counts.lengths) - counts.lengths
        number = self.table.find(CutText(raw, starts, counts.lengths, starts[:0]))
        self.count()
        self.times[number] += counts.times

    def count(self) -> None:
        """Count the numbers that wait."""
        number = np.concatenate([np.zeros(0, np.intp), *self.waiting])
        times = np.bincount(number, minlength=self.table.n)
        times[: len(self.times)] += self.times
        self.times, self.waiting, self.n_waiting = times, [], 0

    def counts(self) -> WordCounts:
        self.count()
        return WordCounts(*self.table.words(), self.times[1:])
