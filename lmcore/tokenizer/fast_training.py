"""Train by merging many pairs at once on arrays: the twin of `bpe.train_by_definition`.

What is faster, and what makes it exact:

- Only distinct words are merged, each weighted by its count. They lie in one row of symbols, a
  linked list, so that a merge touches the places of its pair and nothing else. Every pair has its
  count, kept exact, and the list of the places where it was made.
- A batch of pairs is merged in one go (some hundred at a time, where a call of numpy for each
  would cost more than the work). The definition merges one, then looks again; the batch is the
  longest run of the most frequent pairs for which looking again would change nothing:

  - Pairs whose places do not touch can be merged in any order. Where two touch, the less frequent
    one waits: it loses places to the other, and its new count is known.
  - No pair that waits, and none that a merge of the batch brings about, may come before the last
    pair of the batch. The count that a new pair has when it is made is the greatest it ever has,
    so it is enough to end the batch before the first pair that falls behind one of these.
  - A pair of two equal tokens (a, a) is merged alone: in a run its places overlap.

- How many pairs a batch looks at follows from how far the last ones came, so little is looked at in
  vain.
- Only the pairs above a level are looked through for the most frequent ones; when none is left, the
  level falls.
- A merge always makes a new token, so none is looked up. Two pairs can make the same bytes (ab+c,
  a+bc), but never in one training from bytes: between two places that no token crosses, the
  tokens at any time depend on the bytes between them alone, because merging goes from left to
  right and a merge from outside would cross. So all the abc that stand alone are split alike, and
  become one token together. The oracle looks up every token; the tests compare the two.

Novels, 70 MB to 32,000 tokens: some 400 batches make the 31,743 merges. The benchmark
(``python -m benchmarks.tokenizer``) has the times.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmcore.tokenizer.bpe import Merges, first_vocab, warn_if_not_filled
from lmcore.tokenizer.config import DEFAULT_SPECIAL_TOKENS, checked_config
from lmcore.tokenizer.engine import Engine, known_engine
from lmcore.tokenizer.pretokenize import Pattern
from lmcore.tokenizer.word_counts import MapInOrder, WordCounts, count_words

Places = NDArray[np.signedinteger]
Ids = NDArray[np.int64]

EDGE = -1  # the symbol between words
GONE = -2  # the symbol of a place that a merge took away
NO_OWNER = 1 << 30  # greater than the number of any pair in a batch
SMALLEST_BATCH, LARGEST_BATCH = 4, 2_048
WATCHED_SHARE = 64  # a level is set so that one pair in so many is above it
REPORT_EVERY = 100  # tokens


class TrainingProgress(NamedTuple):
    """What `train_bpe` tells its ``progress`` callback.

    phase: "count" while the text is read, then "merge".
    done: how much is done, in ``unit``: of the text, or of the vocabulary.
    total: the vocabulary size that is aimed at; 0 while counting, since the length of the text is
      not known.
    unit: what is counted.
    """

    phase: Literal["count", "merge"]
    done: int
    total: int
    unit: Literal["characters", "tokens"]


def train_bpe(
    training_data: Iterable[str],
    vocab_size: int = 32_000,
    special_tokens: Sequence[str] = DEFAULT_SPECIAL_TOKENS,
    *,
    pattern: Pattern = "gpt2",
    progress: Callable[[TrainingProgress], None] | None = None,
    engine: Engine = "auto",
    map_in_order: MapInOrder | None = None,
) -> tuple[list[bytes], Merges]:
    r"""Learn a byte-level BPE vocabulary from text.

    The text is cut into pre-tokens, each a sequence of bytes. Then, until the vocabulary is full,
    the most frequent pair of neighbouring tokens becomes one token everywhere:

    .. math:: (l, r) = \arg\max_{(x, y)} \big(\mathrm{count}(x, y),\; (x, y)\big)

    so of equally frequent pairs the greatest pair of byte strings wins. A pair whose bytes are
    already a token (``ab`` + ``c`` after ``a`` + ``bc``) merges into that token: it is in
    ``merges``, and takes no new id.

    Args:
      training_data: an iterable of str, read once, one text in memory at a time. No merge crosses
        from one text to the next.
      vocab_size: number of tokens to end with, the special tokens and the 256 bytes included.
      special_tokens: strings that are one token each. They split the text, are counted in
        ``vocab_size``, and are never merged.
      pattern: how text is cut into pre-tokens, a name from `pretokenize.PATTERNS`.
      progress: called now and then with a `TrainingProgress`.
      engine: what counts the words: numpy; numba, an optional extra; or auto, which takes numba
        where it is installed and the text is long enough to pay for loading it. The result is the
        same.
      map_in_order: shares the counting out over workers: called like `map`, for example
        ``ProcessPoolExecutor(2).map``. The result is the same; None counts here.

    Returns:
      ``(vocab, merges)``. ``vocab`` is a list of bytes, the place of each its id: the special
      tokens, the 256 bytes, then the tokens as they were made. ``merges`` maps each pair merged
      to the token it makes; its order is the order of the merges.

    Raises:
      InputError: ``vocab_size`` is too small, a special token is empty or repeated, the pattern is
        unknown, or an item of ``training_data`` is not a str or holds a lone surrogate.

    Warns:
      VocabularyNotFilled: no pair was left before the vocabulary was full; the result is shorter,
        and whole.

    Example:
      >>> vocab, merges = train_bpe(["low low lower"], vocab_size=258, special_tokens=())
      >>> vocab[256:], list(merges)
      ([b'ow', b'low'], [(b'o', b'w'), (b'l', b'ow')])

    References:
      Sennrich, Haddow and Birch, 2016, Neural Machine Translation of Rare Words with Subword
      Units, algorithm 1; bytes as in Radford et al., 2019, section 2.2.
    """
    special_tokens = checked_config(vocab_size, special_tokens, pattern).special_tokens
    known_engine(engine)
    tell = progress or (lambda event: None)
    words = count_words(
        training_data,
        pattern,
        special_tokens,
        lambda n: tell(TrainingProgress("count", n, 0, "characters")),
        engine=engine,
        map_in_order=map_in_order,
    )
    vocab = list(first_vocab(special_tokens))
    merges = merge_words(
        words, vocab, vocab_size, lambda n: tell(TrainingProgress("merge", n, vocab_size, "tokens"))
    )
    warn_if_not_filled(len(vocab), vocab_size)
    return vocab, merges


def merge_words(
    words: WordCounts | dict[bytes, int],
    vocab: list[bytes],
    vocab_size: int,
    on_token: Callable[[int], None],
) -> Merges:
    """Add tokens to ``vocab``, which the caller gives up, until it is full or no pair is left.

    Args:
      words: distinct words, each seen at least once.
      vocab: ends with the 256 bytes.
      vocab_size: number of tokens to end with.
      on_token: called now and then with the size of the vocabulary.

    Returns:
      the merges, in order.
    """
    counted = WordCounts.of(words) if isinstance(words, dict) else words
    row = _row(counted, len(vocab) - 256)
    pairs = _Pairs(row, len(vocab) - 256)
    merges: Merges = {}
    size, reported = SMALLEST_BATCH, len(vocab)
    while len(vocab) < vocab_size:
        batch = pairs.most_frequent(min(size, vocab_size - len(vocab)), vocab)
        if not batch:
            break
        before = len(vocab)
        _merge_batch(row, pairs, batch, vocab, merges)
        n_merged = len(vocab) - before
        size = size * 2 if n_merged + 1 >= len(batch) else size // 3 + n_merged + SMALLEST_BATCH
        size = min(size, LARGEST_BATCH)
        if len(vocab) - reported >= REPORT_EVERY:
            reported = len(vocab)
            on_token(reported)
    if len(vocab) > reported:
        on_token(len(vocab))
    return merges


class _Row(NamedTuple):
    """All words in one row, an EDGE before, between and after; changed in place by `_write`.

    symbol: the id at each place, or EDGE, or GONE.
    after, before: the next and the last place that is not GONE.
    weight: how often the word of this place is seen.
    pair: the number of the pair that begins at this place, 0 where none does.
    owner: NO_OWNER everywhere; `_merge_batch` marks its places there, and wipes them out again.
    """

    symbol: NDArray[np.int32]
    after: Places
    before: Places
    weight: NDArray[np.int64]
    pair: NDArray[np.int32]
    owner: NDArray[np.int32]


def _row(words: WordCounts, first_byte_id: int) -> _Row:
    """The words as bytes; those of a single byte have no pair and are left out."""
    several = words.lengths > 1
    lengths, times = words.lengths[several], words.times[several]
    text = np.frombuffer(words.text, np.uint8)[np.repeat(several, words.lengths)]
    symbol = np.full(len(text) + len(lengths) + 1, EDGE, np.int32)
    is_byte = np.ones(len(symbol), bool)
    is_byte[0] = False
    is_byte[np.cumsum(lengths + 1)] = False
    symbol[is_byte] = text.astype(np.int32) + first_byte_id
    weight = np.append(np.repeat(times, lengths + 1), 0)
    place = np.arange(len(symbol), dtype=np.int32 if len(symbol) < 1 << 31 else np.int64)
    pair = np.zeros(len(symbol), np.int32)
    # One more than there are places: the place before the first one, -1, has no owner.
    owner = np.full(len(symbol) + 1, NO_OWNER, np.int32)
    return _Row(symbol, place + 1, place - 1, weight, pair, owner)


# Count, left token, right token and number of a pair: the greatest is merged first.
Ranked = tuple[int, bytes, bytes, int]


class _Pairs:
    """Every pair that was ever seen, by number; number 0 is no pair.

    left, right: the tokens of a pair.
    count: how often it is seen now.
    first, n_places: its places are ``places[first : first + n_places]``, ascending: all that it
      has, and some that it had.
    n, n_placed: how much of these arrays is in use.
    watched: the pairs with a count of at least ``level``.
    """

    def __init__(self, row: _Row, first_byte_id: int) -> None:
        where = _where((row.symbol[:-1] >= 0) & (row.symbol[1:] >= 0))
        left, right = row.symbol[where] - first_byte_id, row.symbol[where + 1] - first_byte_id
        key = (left * 256 + right).astype(np.uint16)
        order = np.argsort(key, kind="stable")  # a radix sort: two bytes
        key = key[order]
        starts = _run_starts(key)
        self.n, self.n_placed = 1, 0
        self.left, self.right = np.zeros(1, np.int32), np.zeros(1, np.int32)
        self.count, self.first = np.zeros(1, np.int64), np.zeros(1, np.int64)
        self.n_places = np.zeros(1, np.int64)
        self.places = where[:0].astype(row.after.dtype)
        self.watched, self.level = np.zeros(0, np.int64), 1
        first = key[starts].astype(np.int32)
        self.add(
            first // 256 + first_byte_id,
            first % 256 + first_byte_id,
            _sums(row.weight[where[order]], starts),
            where[order].astype(row.after.dtype),
            starts,
        )
        self.watched = self.watched[:0]
        row.pair[where[order]] = np.repeat(np.arange(1, self.n), self.n_places[1 : self.n])

    def add(
        self, left: NDArray, right: NDArray, count: NDArray, places: Places, starts: Ids
    ) -> None:
        """Number new pairs; the places of each begin at ``starts``."""
        old, new = self.n, self.n + len(starts)
        for name in ("left", "right", "count", "first", "n_places"):
            setattr(self, name, _with_room(getattr(self, name), new))
        self.places = _with_room(self.places, self.n_placed + len(places))
        self.places[self.n_placed : self.n_placed + len(places)] = places
        self.left[old:new], self.right[old:new], self.count[old:new] = left, right, count
        self.first[old:new] = self.n_placed + starts
        self.n_places[old:new] = _run_lengths(starts, len(places))
        self.n, self.n_placed = new, self.n_placed + len(places)

    def most_frequent(self, n: int, vocab: list[bytes]) -> list[Ranked]:
        """The ``n`` pairs that come first, in order; fewer where fewer are above the level."""
        count = self.count[self.watched]
        above = count >= self.level
        self.watched, count = self.watched[above], count[above]
        if not len(self.watched):
            count = self._lower_the_level(n)
        chosen = self.watched
        if len(chosen) > n:
            enough = count >= np.partition(count, len(count) - n)[len(count) - n]
            chosen, count = chosen[enough], count[enough]
        ranked = [
            (times, vocab[left], vocab[right], number)
            for times, left, right, number in zip(
                count.tolist(),
                self.left[chosen].tolist(),
                self.right[chosen].tolist(),
                chosen.tolist(),
                strict=True,
            )
        ]
        ranked.sort(reverse=True)
        return ranked[:n]

    def _lower_the_level(self, n: int) -> NDArray[np.int64]:
        """Watch at least ``n`` pairs, if so many are left; their counts."""
        count = self.count[: self.n]
        n_left = int(np.count_nonzero(count))
        if not n_left:
            return count[:0]
        n_watched = min(n_left, max(n, n_left // WATCHED_SHARE))
        self.level = int(np.partition(count, len(count) - n_watched)[len(count) - n_watched])
        self.watched = _where(count >= self.level)
        return count[self.watched]


class _Occurrences(NamedTuple):
    """The places at which the pairs of a batch are merged, sorted by owner, then place.

    first, second: the places of the two tokens of a pair.
    owner: the place of the pair in the batch.
    weight: how often the word is seen.
    """

    first: Places
    second: Places
    owner: NDArray[np.int32]
    weight: NDArray[np.int64]

    def of(self, chosen: NDArray | slice) -> "_Occurrences":
        return _Occurrences(
            self.first[chosen], self.second[chosen], self.owner[chosen], self.weight[chosen]
        )


class _Formed(NamedTuple):
    """The pairs that a batch brings about, sorted by the merge that makes them.

    maker: the place in the batch of that merge.
    is_left: whether its token is the second of the pair, after a left neighbour.
    other: the neighbour's id.
    times: how often the pair is seen when it is made.
    starts: where the occurrences of each begin in ``occurrence``.
    occurrence: the numbers of the occurrences that make it.
    """

    maker: Ids
    is_left: NDArray[np.bool_]
    other: Ids
    times: NDArray[np.int64]
    starts: Ids
    occurrence: Ids


def _merge_batch(
    row: _Row, pairs: _Pairs, batch: list[Ranked], vocab: list[bytes], merges: Merges
) -> None:
    """Merge the first pairs of ``batch``, as many as can be merged in one go; at least one."""
    numbers = np.array([number for *_, number in batch])
    equal = _where(pairs.left[numbers] == pairs.right[numbers])
    if len(equal):  # (a, a) is merged alone
        numbers = numbers[: max(int(equal[0]), 1)]
    found = _occurrences(row, pairs, numbers)
    if len(equal) and not equal[0]:
        found = found.of(_without_overlaps(found))
    row.owner[found.first] = found.owner
    waiting = _waiting(row, found, batch)
    is_merged = np.ones(len(numbers), bool)
    if waiting:
        is_merged[list(waiting)] = False
        stays = is_merged[found.owner]
        row.owner[found.first[~stays]] = NO_OWNER
        found = found.of(stays)
    new_id = (len(vocab) - 1 + np.cumsum(is_merged)).astype(np.int32)
    left_owner, right_owner = _owners_beside(row, found)
    row.owner[found.first] = NO_OWNER
    formed = _formed(row, found, left_owner, right_owner, new_id)
    n = _length_of_run(batch[: len(numbers)], waiting, formed, vocab, merges)
    end = int(np.searchsorted(found.owner, n))
    formed = _made_before(formed, n)
    _write(
        row,
        pairs,
        found.of(slice(end)),
        formed,
        left_owner[:end],
        right_owner[:end],
        new_id,
        n,
        numbers[:n][is_merged[:n]],
    )


def _occurrences(row: _Row, pairs: _Pairs, numbers: Ids) -> _Occurrences:
    """The places where the pairs of these numbers still stand."""
    lengths = pairs.n_places[numbers]
    owner = np.repeat(np.arange(len(numbers), dtype=np.int32), lengths)
    shift = pairs.first[numbers] - (np.cumsum(lengths) - lengths)
    first = pairs.places[np.arange(len(owner)) + np.repeat(shift, lengths)]
    still = row.pair[first] == numbers[owner]
    first, owner = first[still], owner[still]
    return _Occurrences(first, row.after[first], owner, row.weight[first])


def _without_overlaps(found: _Occurrences) -> NDArray[np.bool_]:
    """In a run a, a, a, … every other place: what merging from left to right takes."""
    index = np.arange(len(found.first))
    starts_run = np.ones(len(index), bool)
    starts_run[1:] = found.second[:-1] != found.first[1:]
    run_start = np.maximum.accumulate(np.where(starts_run, index, 0))
    return (index - run_start) % 2 == 0


def _waiting(row: _Row, found: _Occurrences, batch: list[Ranked]) -> dict[int, Ranked]:
    """The pairs of the batch that lose places to an earlier one, and an upper bound of each.

    Two pairs touch where the second place of one is the first place of the other. A pair that
    waits takes no place from those after it. An occurrence may lose both its places, so the
    losses on the two sides are not added up: the greater of them is certain.
    """
    other = row.owner[found.second]
    touching = _where(other != NO_OWNER)
    if not len(touching):
        return {}
    owner, other = found.owner[touching].astype(np.int64), other[touching].astype(np.int64)
    later, earlier = np.maximum(owner, other), np.minimum(owner, other)
    key, order = _sorted((later * len(batch) + earlier) * 2 + (owner < other))
    starts = _run_starts(key)
    lost = _sums(found.weight[touching][order], starts)
    losses: dict[int, list[int]] = {}
    for place, n in zip(key[starts].tolist(), lost.tolist(), strict=True):
        (last, first), side = divmod(place // 2, len(batch)), place % 2
        if first not in losses:
            losses.setdefault(last, [0, 0])[side] += n
    return {
        place: (batch[place][0] - max(lost), *batch[place][1:]) for place, lost in losses.items()
    }


def _owners_beside(row: _Row, found: _Occurrences) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The pairs of the batch that are merged right before and right after each occurrence."""
    before = row.before[found.first]
    # The place before, if it is merged, is the second of its pair.
    left = row.owner[row.before[before]]
    left[row.symbol[before] < 0] = NO_OWNER
    return left, row.owner[row.after[found.second]]


def _formed(
    row: _Row,
    found: _Occurrences,
    left_owner: NDArray[np.int32],
    right_owner: NDArray[np.int32],
    new_id: NDArray[np.int32],
) -> _Formed:
    """What each token of the batch stands beside when it is made: by then the earlier ones are."""
    right = row.symbol[row.after[found.second]]
    made = right_owner <= found.owner
    right[made] = new_id[right_owner[made]]
    left = row.symbol[row.before[found.first]]
    made = left_owner < found.owner
    left[made] = new_id[left_owner[made]]
    left[left_owner == found.owner] = EDGE  # new, new: counted as the right neighbour of the first
    with_right, with_left = _where(right >= 0), _where(left >= 0)
    n_ids = int(new_id[-1]) + 1
    side = found.owner.astype(np.int64) * 2
    key = np.concatenate(
        (
            side[with_right] * n_ids + right[with_right],
            (side[with_left] + 1) * n_ids + left[with_left],
        )
    )
    key, order = _sorted(key)
    occurrence = np.concatenate((with_right, with_left))[order]
    starts = _run_starts(key)
    side, other = np.divmod(key[starts], n_ids)
    times = _sums(found.weight[occurrence], starts)
    return _Formed(side // 2, side % 2 == 1, other, times, starts, occurrence)


def _length_of_run(
    batch: list[Ranked],
    waiting: dict[int, Ranked],
    formed: _Formed,
    vocab: list[bytes],
    merges: Merges,
) -> int:
    """Merge, in ``vocab`` and ``merges``, until a pair would come before the next of the batch.

    Returns:
      how many pairs of the batch came to their turn: those merged, and those that wait.
    """
    strong = _where(formed.times >= batch[-1][0])  # the others come after all the batch
    rivals: dict[int, list[tuple[int, bool, int]]] = {}
    for maker, *rival in zip(
        formed.maker[strong].tolist(),
        formed.times[strong].tolist(),
        formed.is_left[strong].tolist(),
        formed.other[strong].tolist(),
        strict=True,
    ):
        rivals.setdefault(maker, []).append(tuple(rival))
    floor: tuple = (0,)
    for place, entry in enumerate(batch):
        if entry < floor:
            return place
        if place in waiting:
            floor = max(floor, waiting[place])
            continue
        _, left, right, _ = entry
        token = left + right
        vocab.append(token)
        merges[left, right] = token
        for count, is_left, other in rivals.get(place, ()):
            pair = (vocab[other], token) if is_left else (token, vocab[other])
            floor = max(floor, (count, *pair))
    return len(batch)


def _made_before(formed: _Formed, n: int) -> _Formed:
    """The pairs that the first ``n`` of a batch make."""
    end = int(np.searchsorted(formed.maker, n))
    n_used = int(formed.starts[end]) if end < len(formed.starts) else len(formed.occurrence)
    return _Formed(
        formed.maker[:end],
        formed.is_left[:end],
        formed.other[:end],
        formed.times[:end],
        formed.starts[:end],
        formed.occurrence[:n_used],
    )


def _write(
    row: _Row,
    pairs: _Pairs,
    found: _Occurrences,
    formed: _Formed,
    left_owner: NDArray[np.int32],
    right_owner: NDArray[np.int32],
    new_id: NDArray[np.int32],
    n: int,
    merged: Ids,
) -> None:
    """Write the new tokens over the pairs at ``found``, and bring the counts up to date.

    Args:
      found: the occurrences of the first ``n`` pairs of the batch, those that wait left out.
      merged: the numbers of the pairs merged.
    """
    first, second = found.first, found.second
    # Each lost its left and its right neighbour. What stands between two occurrences is one pair:
    # the left one of the two takes it away.
    np.subtract.at(pairs.count, row.pair[second], found.weight)
    alone = left_owner >= n
    np.subtract.at(pairs.count, row.pair[row.before[first[alone]]], found.weight[alone])
    pairs.count[merged] = 0
    after = row.after[second]
    row.symbol[first] = new_id[found.owner]
    row.symbol[second] = GONE
    row.after[first] = after
    row.before[after] = first
    row.pair[second] = 0
    row.pair[first] = 0
    row.pair[row.before[first]] = 0

    old = pairs.n
    n_places = _run_lengths(formed.starts, len(formed.occurrence))
    is_left = np.repeat(formed.is_left, n_places)
    places = first[formed.occurrence]
    places = np.where(is_left, row.before[places], places)
    token = new_id[formed.maker]
    pairs.add(
        np.where(formed.is_left, formed.other, token),
        np.where(formed.is_left, token, formed.other),
        formed.times,
        places,
        formed.starts,
    )
    number = np.repeat(np.arange(old, pairs.n), n_places)
    # A later merge of the batch may have taken the neighbour: then its own pair stands there.
    beside = np.where(is_left, left_owner[formed.occurrence], right_owner[formed.occurrence])
    lasts = (beside >= n) | (beside <= found.owner[formed.occurrence])
    np.subtract.at(pairs.count, number[~lasts], found.weight[formed.occurrence[~lasts]])
    row.pair[places[lasts]] = number[lasts]
    pairs.count[0] = 0
    new = np.arange(old, pairs.n)
    pairs.watched = np.concatenate((pairs.watched, new[pairs.count[old : pairs.n] >= pairs.level]))


def _sorted(key: Ids) -> tuple[Ids, Ids]:
    """``key`` in order, and where each of it was, those of equals ascending.

    Key and place are sorted as one number: numpy sorts numbers with vector instructions, several
    times as fast as `argsort` finds a stable order.
    """
    n_bits = len(key).bit_length()
    both = (key << n_bits) | np.arange(len(key))
    both.sort()
    return both >> n_bits, both & ((1 << n_bits) - 1)


# As numpy's own flatnonzero and diff do; on arrays as short as a batch's those take most of their
# time to see what they were given.
def _where(chosen: NDArray[np.bool_]) -> Ids:
    """The places that are chosen."""
    return chosen.nonzero()[0]


def _run_lengths(starts: Ids, end: int) -> Ids:
    """How long each run is; the last one ends at ``end``."""
    lengths = np.empty_like(starts)
    np.subtract(starts[1:], starts[:-1], out=lengths[:-1])
    lengths[-1:] = end - starts[-1:]
    return lengths


def _run_starts(sorted_values: NDArray) -> Ids:
    """Where each run of equals begins."""
    begins = np.ones(len(sorted_values), bool)
    np.not_equal(sorted_values[1:], sorted_values[:-1], out=begins[1:])
    return _where(begins)


def _sums(values: NDArray[np.int64], starts: Ids) -> NDArray[np.int64]:
    """The sum of each run of values."""
    return np.add.reduceat(values, starts) if len(starts) else np.zeros(0, np.int64)


def _with_room(array: NDArray, n: int) -> NDArray:
    """``array``, or a copy with room for ``n`` values and as many again."""
    if n <= len(array):
        return array
    larger = np.zeros(2 * n, array.dtype)
    larger[: len(array)] = array
    return larger
