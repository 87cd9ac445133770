"""Many pairs merged in one go: the longest run for which merging one by one would come to the same.

`fast_training` says why that is exact.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lmcore.tokenizer.bpe import Merges
from lmcore.tokenizer.pair_table import EDGE, GONE, NO_OWNER, PairTable, Places, Ranked, Row
from lmcore.tokenizer.runs import (
    Ids,
    run_lengths,
    run_starts,
    sorted_with_places,
    sums_of_runs,
    where_true,
)


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


def merge_batch(
    row: Row, pairs: PairTable, batch: list[Ranked], vocab: list[bytes], merges: Merges
) -> None:
    """Merge the first pairs of ``batch``, as many as can be merged in one go; at least one."""
    numbers = np.array([number for *_, number in batch])
    equal = where_true(pairs.left[numbers] == pairs.right[numbers])
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


def _occurrences(row: Row, pairs: PairTable, numbers: Ids) -> _Occurrences:
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


def _waiting(row: Row, found: _Occurrences, batch: list[Ranked]) -> dict[int, Ranked]:
    """The pairs of the batch that lose places to an earlier one, and an upper bound of each.

    Two pairs touch where the second place of one is the first place of the other. A pair that
    waits takes no place from those after it. An occurrence may lose both its places, so the
    losses on the two sides are not added up: the greater of them is certain.
    """
    other = row.owner[found.second]
    touching = where_true(other != NO_OWNER)
    if not len(touching):
        return {}
    owner, other = found.owner[touching].astype(np.int64), other[touching].astype(np.int64)
    later, earlier = np.maximum(owner, other), np.minimum(owner, other)
    key, order = sorted_with_places((later * len(batch) + earlier) * 2 + (owner < other))
    starts = run_starts(key)
    lost = sums_of_runs(found.weight[touching][order], starts)
    losses: dict[int, list[int]] = {}
    for place, n in zip(key[starts].tolist(), lost.tolist(), strict=True):
        (last, first), side = divmod(place // 2, len(batch)), place % 2
        if first not in losses:
            losses.setdefault(last, [0, 0])[side] += n
    return {
        place: (batch[place][0] - max(lost), *batch[place][1:]) for place, lost in losses.items()
    }


def _owners_beside(row: Row, found: _Occurrences) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The pairs of the batch that are merged right before and right after each occurrence."""
    before = row.before[found.first]
    # The place before, if it is merged, is the second of its pair.
    left = row.owner[row.before[before]]
    left[row.symbol[before] < 0] = NO_OWNER
    return left, row.owner[row.after[found.second]]


def _formed(
    row: Row,
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
    with_right, with_left = where_true(right >= 0), where_true(left >= 0)
    n_ids = int(new_id[-1]) + 1
    side = found.owner.astype(np.int64) * 2
    key = np.concatenate(
        (
            side[with_right] * n_ids + right[with_right],
            (side[with_left] + 1) * n_ids + left[with_left],
        )
    )
    key, order = sorted_with_places(key)
    occurrence = np.concatenate((with_right, with_left))[order]
    starts = run_starts(key)
    side, other = np.divmod(key[starts], n_ids)
    times = sums_of_runs(found.weight[occurrence], starts)
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
    strong = where_true(formed.times >= batch[-1][0])  # the others come after all the batch
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
    row: Row,
    pairs: PairTable,
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
    n_places = run_lengths(formed.starts, len(formed.occurrence))
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
