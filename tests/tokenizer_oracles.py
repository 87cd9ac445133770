"""The tokenizer once more, as others do it: a trainer with a heap, and two libraries' encoders.

Nothing here uses the project's own code but the pre-tokenization pattern that it is given.
"""

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Any

Pair = tuple[bytes, bytes]


class Falling:
    """A pair of byte strings that sorts the greatest first, as a heap needs it."""

    __slots__ = ("pair",)

    def __init__(self, pair: Pair) -> None:
        self.pair = pair

    def __lt__(self, other: "Falling") -> bool:
        return self.pair > other.pair


def merges_by_heap(words: Mapping[bytes, int], n_tokens: int) -> list[Pair]:
    """The merges that make ``n_tokens`` tokens: the most frequent pair first, then the greatest.

    Counts are kept exactly up to date, with an index from pair to words; the heap holds stale
    entries beside good ones, and those whose count is no longer true are dropped.
    """
    rows = [([bytes([byte]) for byte in word], count) for word, count in words.items()]
    counts: Counter[Pair] = Counter()
    rows_with: defaultdict[Pair, set[int]] = defaultdict(set)
    for number, (row, count) in enumerate(rows):
        for pair in pairwise(row):
            counts[pair] += count
            rows_with[pair].add(number)
    heap = [(-count, Falling(pair)) for pair, count in counts.items()]
    heapq.heapify(heap)
    merges: list[Pair] = []
    made: set[bytes] = set()
    while heap and len(made) < n_tokens:
        negative, entry = heapq.heappop(heap)
        best = entry.pair
        if counts[best] != -negative or not negative:
            continue
        merges.append(best)
        made.add(best[0] + best[1])
        changed: set[Pair] = set()
        for number in rows_with.pop(best):
            row, count = rows[number]
            merged = joined(row, best)
            for pair in pairwise(row):
                counts[pair] -= count
                changed.add(pair)
            for pair in pairwise(merged):
                counts[pair] += count
                rows_with[pair].add(number)
                changed.add(pair)
            rows[number] = (merged, count)
        changed.discard(best)
        for pair in changed:
            heapq.heappush(heap, (-counts[pair], Falling(pair)))
    return merges


def joined(row: list[bytes], pair: Pair) -> list[bytes]:
    """``row`` with every ``pair`` joined, from left to right."""
    left, right = pair
    merged: list[bytes] = []
    for token in row:
        # What has been joined is longer than `left`, so it is not taken for one.
        if token == right and merged and merged[-1] == left:
            merged[-1] = left + right
        else:
            merged.append(token)
    return merged


def merges_by_replacing(words: Iterable[bytes], n_tokens: int) -> list[Pair]:
    """As `merges_by_heap`, for few long words: a letter a token, and ``str.replace`` merges.

    ``str.replace`` takes places that do not overlap, from the left, as a merge does. A letter that
    is no token stands between the words.
    """
    tokens = [bytes([byte]) for byte in range(256)]
    edge = "\U0010ffff"
    text = edge.join(word.decode("latin-1") for word in words)
    merges: list[Pair] = []
    while len(set(tokens)) < 256 + n_tokens:
        counts = {pair: n for pair, n in Counter(pairwise(text)).items() if edge not in pair}
        if not counts:
            break
        most = max(counts.values())
        pair = max((tokens[ord(a)], tokens[ord(b)]) for (a, b), n in counts.items() if n == most)
        merges.append(pair)
        left, right = (chr(tokens.index(token)) for token in pair)
        text = text.replace(left + right, chr(len(tokens)))
        tokens.append(pair[0] + pair[1])
    return merges


def encode_by_ranks(
    text: str, pat_str: str, mergeable_ranks: Mapping[bytes, int], special_tokens: Mapping[str, int]
) -> list[int]:
    """What tiktoken does: of all neighbours those whose bytes have the lowest rank are joined.

    One pair at a time, the first of equals; and a piece that is a token as it stands is that token.
    """

    def rank_of(pair: Pair) -> int | None:
        return mergeable_ranks.get(pair[0] + pair[1])

    ids: list[int] = []
    for piece, is_special in pieces(text, pat_str, special_tokens):
        if is_special:
            ids.append(special_tokens[piece])
        elif (token := piece.encode()) in mergeable_ranks:
            ids.append(mergeable_ranks[token])
        else:
            row = joined_one_at_a_time([bytes([byte]) for byte in token], rank_of)
            ids += [mergeable_ranks[token] for token in row]
    return ids


def encode_by_tokenizer_json(text: str, value: Mapping[str, Any]) -> list[int]:
    """What Hugging Face tokenizers does with a ``tokenizer.json`` of the kind that we write.

    Bytes become characters, and the pair of lowest rank is joined, one at a time, the first of
    equals.
    """
    vocab, merges = value["model"]["vocab"], value["model"]["merges"]
    ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(merges)}
    special = {token["content"]: token["id"] for token in value["added_tokens"]}
    steps = value["pre_tokenizer"].get("pretokenizers", [value["pre_tokenizer"]])
    assert steps[-1]["type"] == "ByteLevel"
    assert not steps[-1]["use_regex"]
    pat_str = steps[0]["pattern"]["Regex"] if len(steps) == 2 else "(?s:.+)"
    ids: list[int] = []
    for piece, is_special in pieces(text, pat_str, special):
        if is_special:
            ids.append(special[piece])
        else:
            row = [GPT2_ALPHABET[byte] for byte in piece.encode()]
            ids += [vocab[token] for token in joined_one_at_a_time(row, ranks.get)]
    return ids


def joined_one_at_a_time(row: list, rank_of: Callable[[tuple], int | None]) -> list:
    """``row`` with the neighbours of the lowest rank joined, until none has a rank."""
    while True:
        ranked = [(rank_of(pair), place) for place, pair in enumerate(pairwise(row))]
        known = [(rank, place) for rank, place in ranked if rank is not None]
        if not known:
            return row
        _, place = min(known)
        row = [*row[:place], row[place] + row[place + 1], *row[place + 2 :]]


def pieces(text: str, pat_str: str, special: Mapping[str, int]) -> Iterator[tuple[str, bool]]:
    """The pieces of ``text`` and whether each is a special token, the leftmost longest one."""
    pattern = re.compile(for_re(pat_str))
    start = place = 0
    while place < len(text):
        here = [token for token in special if text.startswith(token, place)]
        if here:
            token = max(here, key=len)
            yield from ((piece, False) for piece in pattern.findall(text[start:place]))
            yield token, True
            start = place = place + len(token)
        else:
            place += 1
    yield from ((piece, False) for piece in pattern.findall(text[start:]))


@cache
def for_re(pat_str: str) -> str:
    r"""A pattern with code points as ``\x{1f600}``, as Python's ``re`` writes them."""
    return re.sub(r"\\x\{([0-9a-f]+)\}", lambda match: f"\\U{int(match[1], 16):08x}", pat_str)


def bytes_to_unicode() -> dict[int, str]:
    """GPT-2's own function, as its authors wrote it but for the names of types."""
    bs = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("\u00a1"), ord("\u00ac") + 1),
        *range(ord("\u00ae"), ord("\u00ff") + 1),
    ]
    cs = bs[:]
    n = 0
    for b in range(2**8):
        if b not in bs:
            bs.append(b)
            cs.append(2**8 + n)
            n += 1
    return dict(zip(bs, map(chr, cs), strict=True))


GPT2_ALPHABET = bytes_to_unicode()
