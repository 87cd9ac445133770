"""What each trick of the fast tokenizer buys: the same work, with it and without it.

Processor seconds, with and without in turns; the ratio is that of one round, and the median of the
rounds is told. Each way gives the same result, or the measurement ends with an error.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from types import ModuleType
from typing import Any, NamedTuple
from unittest.mock import patch

from benchmarks.vocabulary.trained import N_FIRST, tokenizers
from lmcore import Tokenizer
from lmcore.errors import InputError
from lmcore.tokenizer import fast_training, pair_table
from lmcore.tokenizer.bpe import BpeState, add_token, count_pairs, first_vocab
from lmcore.tokenizer.fast_encoding import WordEncoder, merge_ids, merge_table
from lmcore.tokenizer.pair_batches import merge_batch
from lmcore.tokenizer.pretokenize import pre_tokens
from lmcore.tokenizer.word_counts import WordCounts, count_words
from tests.tokenizer_oracles import merges_by_heap

MEGABYTE = 1_000_000
FOLD_TOKENS = 50
# The trainer's constants that switch a trick off.
ONE_BY_ONE = {"SMALLEST_BATCH": 1, "LARGEST_BATCH": 1}
ALL_WATCHED = {"WATCHED_SHARE": 1}


@dataclass(frozen=True)
class Trick:
    """One piece of work done in several ways; the last way is the one that is used.

    ways: their names.
    seconds: processor seconds of each way, round by round.
    """

    work: str
    ways: tuple[str, ...]
    seconds: tuple[list[float], ...]

    def times_faster(self, way: int) -> float:
        """The last way against another."""
        pairs = zip(self.seconds[way], self.seconds[-1], strict=True)
        return median(slow / fast for slow, fast in pairs)


def compared(work: str, ways: dict[str, Callable[[], Any]], rounds: int) -> Trick:
    """Do the work in every way, round by round.

    Raises:
      InputError: two ways gave different results.
    """
    seconds: tuple[list[float], ...] = tuple([] for _ in ways)
    for _ in range(rounds):
        results = []
        for do, found in zip(ways.values(), seconds, strict=True):
            began = time.process_time()
            results.append(do())
            found.append(time.process_time() - began)
        if any(result != results[-1] for result in results):
            raise InputError(f"{work}: the ways gave different results; none can be trusted")
    return Trick(work, tuple(ways), seconds)


def tricks(novels: str, *, megabytes: int = 10, size: int = 10_000, rounds: int = 3) -> list[Trick]:
    """Every trick on the beginning of the novels."""
    text = novels[: megabytes * MEGABYTE]
    small = novels[: MEGABYTE * megabytes // 10]
    counted = count_words([text], engine="numpy")
    words = counted.as_dict()
    few = count_words([small], engine="numpy").as_dict()
    tokenizer = tokenizers([text], [size])[size]
    n = f"{len(small) / MEGABYTE:g} MB"
    return [
        compared(f"count the words of {megabytes} MB", counting(text), rounds),
        compared(f"the first {FOLD_TOKENS} merges of {n}", first_merges(few), rounds),
        compared(
            f"all merges of {megabytes} MB to {size:,} tokens", all_merges(words, size), rounds
        ),
        compared(f"encode {n}", encoding(tokenizer, small), rounds),
    ]


class Repetition(NamedTuple):
    """How much of the work is done once for all, or together.

    n_words, n_distinct: words of the text, and how many are different.
    n_merges, n_batches: merges made, and the batches that made them.
    """

    n_words: int
    n_distinct: int
    n_merges: int
    n_batches: int


def repetition(novels: str, *, megabytes: int = 10, size: int = 10_000) -> Repetition:
    """Counted on the beginning of the novels."""
    words = count_words([novels[: megabytes * MEGABYTE]])
    with patch.object(fast_training, "merge_batch", side_effect=merge_batch) as batches:
        merges = merged(words.as_dict(), size, first_vocab(("",)))
    n_words = int(words.times.sum())
    return Repetition(n_words, len(words.times), len(merges), batches.call_count)


def counting(text: str) -> dict[str, Callable[[], Any]]:
    """Words as Python objects, and words as numbers."""
    return {
        "a str for each, and a Counter": lambda: {
            word.encode(): times for word, times in Counter(pre_tokens(text)).items()
        },
        "a number for each, on arrays": lambda: count_words([text], engine="numpy").as_dict(),
    }


def first_merges(words: dict[bytes, int]) -> dict[str, Callable[[], Any]]:
    """Count all pairs for each merge, or keep their counts."""

    def fold() -> list:
        rows = {tuple(bytes([byte]) for byte in word): times for word, times in words.items()}
        state = BpeState(rows, count_pairs(rows), first_vocab(()), {})
        for _ in range(FOLD_TOKENS):
            state = add_token(state)
        return list(state.merges)

    return {
        "the fold: count all pairs again for each merge": fold,
        "keep the counts, a heap in plain Python": lambda: merges_by_heap(words, FOLD_TOKENS),
        "on arrays": lambda: merged(words, 256 + FOLD_TOKENS, first_vocab(())),
    }


def all_merges(words: dict[bytes, int], size: int) -> dict[str, Callable[[], Any]]:
    """One merge at a time, or as many as can be made in one go."""
    start = first_vocab(("",))
    assert len(start) == N_FIRST

    def restricted(module: ModuleType, constants: dict[str, Any]) -> list:
        with patch.multiple(module, **constants):
            return merged(words, size, start)

    return {
        "a heap in plain Python": lambda: merges_by_heap(words, size - N_FIRST),
        "on arrays, one merge at a time": lambda: restricted(fast_training, ONE_BY_ONE),
        "in batches, all pairs looked through for each": lambda: restricted(
            pair_table, ALL_WATCHED
        ),
        "in batches, those above a level looked through": lambda: merged(words, size, start),
    }


def merged(words: dict[bytes, int], size: int, start: Sequence[bytes]) -> list:
    """The merges that fill the vocabulary."""
    counted = WordCounts.of(words)
    return list(fast_training.merge_words(counted, list(start), size, lambda _: None))


def encoding(tokenizer: Tokenizer, text: str) -> dict[str, Callable[[], Any]]:
    """Merge each word where it stands, once for all, or many side by side."""
    ids = {token: number for number, token in enumerate(tokenizer.vocab)}
    table = merge_table(ids, tokenizer.merges)
    fields = (tokenizer.vocab, tokenizer.merges, tokenizer.special_tokens)

    def remembered() -> list[int]:
        words = WordEncoder(table)
        return [number for word in pre_tokens(text) for number in words[word]]

    return {
        "merge every word where it stands": lambda: [
            number for word in pre_tokens(text) for number in merge_ids(word.encode(), table)
        ],
        "merge each distinct word once, and remember it": remembered,
        "the same on arrays, new words side by side": lambda: (
            Tokenizer(*fields).encode_batch([text], engine="numpy")[0].tolist()
        ),
    }
