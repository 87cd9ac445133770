r"""Byte-pair encoding by definition: train, encode and decode in their plainest form.

Read this file first. Each function does what the algorithm says and nothing faster; the fast
twins (`lmcore.tokenizer.fast_training`, `lmcore.tokenizer.fast_encoding`) are tested against it.

Training starts from words, each a sequence of single bytes with the number of times it was seen,
and repeats one step: find the pair of neighbours (l, r) seen most often,

.. math::

   (l, r) = \arg\max_{(x, y)} \Big(\sum_w n_w \, |\{i : w_i = x, w_{i+1} = y\}|,\; (x, y)\Big)

(ties go to the greatest pair of byte strings), and write every l, r as the one token l + r. So
training is a fold of a step over an explicit state, `BpeState`. Two different pairs may make the
same bytes (ab+c, a+bc): the second merges into the token of the first, and takes no new id.

References:
  Sennrich, Haddow and Birch, 2016, Neural Machine Translation of Rare Words with Subword Units,
  algorithm 1. Gage, 1994, A New Algorithm for Data Compression.
"""

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from itertools import pairwise
from typing import NamedTuple

from lmcore.errors import InputError
from lmcore.tokenizer.config import (
    DEFAULT_SPECIAL_TOKENS,
    checked_config,
    special_token_faults,
)
from lmcore.tokenizer.pretokenize import (
    Pattern,
    checked_texts,
    pre_tokens,
    refuse_surrogates,
    split_special,
)

Word = tuple[bytes, ...]
Pair = tuple[bytes, bytes]
Merges = dict[Pair, bytes]


class VocabularyNotFilled(UserWarning):
    """Training stopped early: no pair was left to merge, and the vocabulary is smaller than asked.

    A `UserWarning`, so that a learner sees it and a caller may turn it into an error or expect it;
    the vocabulary returned is complete and usable. Its length says the same.
    """


class BpeState(NamedTuple):
    """All that training knows after some merges.

    words: each pre-token as its tokens, with the number of times it was seen.
    pair_counts: how often each pair of neighbours is seen in ``words``.
    vocab: the tokens made so far; the place of a token is its id.
    merges: the pairs merged, in order, with the token that each makes.
    """

    words: Mapping[Word, int]
    pair_counts: Mapping[Pair, int]
    vocab: tuple[bytes, ...]
    merges: Merges


def train_by_definition(
    training_data: Iterable[str],
    vocab_size: int = 32_000,
    special_tokens: Sequence[str] = DEFAULT_SPECIAL_TOKENS,
    *,
    pattern: Pattern = "gpt2",
) -> tuple[list[bytes], Merges]:
    """Learn a vocabulary by the plain fold: the oracle of `fast_training.train_bpe`.

    The contract, arguments and errors are those of `train_bpe`. Each merge reads all the words
    again: use it on small texts.

    Example:
      >>> vocab, merges = train_by_definition(["low low lower"], 258, ())
      >>> vocab[256:], list(merges)
      ([b'ow', b'low'], [(b'o', b'w'), (b'l', b'ow')])
    """
    checked_config(vocab_size, special_tokens, pattern)
    vocab = first_vocab(special_tokens)
    words = count_words(training_data, special_tokens, pattern)
    start = BpeState(words, count_pairs(words), vocab, {})
    state = reduce(lambda state, _: add_token(state), range(vocab_size - len(vocab)), start)
    warn_if_not_filled(len(state.vocab), vocab_size)
    return list(state.vocab), state.merges


def first_vocab(special_tokens: Sequence[str]) -> tuple[bytes, ...]:
    """The vocabulary before any merge: the special tokens, then the 256 bytes."""
    return (*(token.encode() for token in special_tokens), *(bytes([b]) for b in range(256)))


def count_words(texts: Iterable[str], special_tokens: Sequence[str], pattern: Pattern) -> Counter:
    """How often each pre-token is seen, as a tuple of single bytes; special tokens are left out."""
    words = Counter(
        pre_token
        for text in checked_texts(texts, "training_data")
        for plain in split_special(text, special_tokens)[::2]
        for pre_token in pre_tokens(plain, pattern)
    )
    return Counter({single_bytes(word): count for word, count in words.items()})


def single_bytes(text: str) -> Word:
    """The UTF-8 bytes of ``text``, one by one."""
    return tuple(bytes([byte]) for byte in text.encode())


def count_pairs(words: Mapping[Word, int]) -> Counter:
    """How often each pair of neighbours is seen, each word weighted by its count."""
    pairs: Counter = Counter()
    for word, count in words.items():
        for pair in pairwise(word):
            pairs[pair] += count
    return pairs


def add_token(state: BpeState) -> BpeState:
    """Merge until the vocabulary has one token more, or no pair is left."""
    size = len(state.vocab)
    while state.pair_counts and len(state.vocab) == size:
        state = merge_best_pair(state)
    return state


def merge_best_pair(state: BpeState) -> BpeState:
    """One step of training: merge the most frequent pair, the greatest of equals."""
    pair = max(state.pair_counts, key=lambda pair: (state.pair_counts[pair], pair))
    token = pair[0] + pair[1]
    words: Counter = Counter()
    for word, count in state.words.items():
        words[merge_pair(word, pair)] += count
    known = token in state.merges.values()  # another pair made the same bytes
    vocab = state.vocab if known else (*state.vocab, token)
    return BpeState(words, count_pairs(words), vocab, {**state.merges, pair: token})


def merge_pair(word: Word, pair: Pair) -> Word:
    """``word`` with each ``pair`` of neighbours joined, from left to right.

    Example:
      >>> merge_pair((b"a", b"a", b"a"), (b"a", b"a"))
      (b'aa', b'a')
    """
    merged: list[bytes] = []
    i = 0
    while i < len(word):
        step = 2 if word[i : i + 2] == pair else 1
        merged.append(b"".join(word[i : i + step]))
        i += step
    return tuple(merged)


def warn_if_not_filled(size: int, vocab_size: int) -> None:
    """Say that training stopped early, if it did."""
    if size < vocab_size:
        warnings.warn(
            f"the vocabulary has {size} tokens, not {vocab_size}: no pair is left to merge; "
            "give more text or lower --tokenizer.vocab-size",
            VocabularyNotFilled,
            stacklevel=3,
        )


def encode_by_definition(
    text: str,
    vocab: Sequence[bytes],
    merges: Mapping[Pair, bytes],
    special_tokens: Sequence[str] = (),
    *,
    pattern: Pattern = "gpt2",
) -> list[int]:
    """Ids of ``text`` by the plain rule: the oracle of `tokenizer.encode`, with its contract.

    Example:
      >>> vocab, merges = train_by_definition(["low low lower"], 258, ())
      >>> encode_by_definition("lowly", vocab, merges)
      [257, 108, 121]
    """
    refuse_surrogates(text, "text")
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    ids = {token: index for index, token in enumerate(vocab)}  # of equal tokens, the last
    special_ids = special_token_ids(special_tokens, vocab)
    encoded: list[int] = []
    for place, piece in enumerate(split_special(text, special_tokens)):
        if place % 2:
            encoded.append(special_ids[piece])
        else:
            words = (merge_word(single_bytes(word), ranks) for word in pre_tokens(piece, pattern))
            encoded.extend(id_of(token, ids) for word in words for token in word)
    return encoded


def id_of(token: bytes, ids: Mapping[bytes, int]) -> int:
    """The id of a token; only a byte of a vocabulary that lacks some can have none."""
    if token not in ids:
        raise InputError(missing_byte(token[0]))
    return ids[token]


def missing_byte(byte: int) -> str:
    """What to say where the text has a byte that is no token."""
    return (
        f"the text has the byte 0x{byte:02x}, which is not in the vocabulary: a vocabulary for any "
        "text holds all 256 bytes; use one made by train_bpe"
    )


def special_token_ids(special_tokens: Sequence[str], vocab: Sequence[bytes]) -> dict[str, int]:
    """The id of each special token: of equal tokens in ``vocab``, the first is the special one.

    Training puts the special tokens before the bytes, so a special token of one byte and that
    byte itself have two ids.
    """
    if found := special_token_faults(special_tokens):
        raise InputError("\n".join(found))
    first = {token: index for index, token in reversed(list(enumerate(vocab)))}
    if missing := [token for token in special_tokens if token.encode() not in first]:
        raise InputError(
            f"special token {missing[0]!r} is not in the vocabulary of {len(vocab)} tokens: each "
            "must be; train with it or do not give it"
        )
    return {token: first[token.encode()] for token in special_tokens}


def merge_word(word: Word, ranks: Mapping[Pair, int]) -> Word:
    """Merge the pair of lowest rank, everywhere in ``word``, until no pair of the table is left."""
    while known := [pair for pair in pairwise(word) if pair in ranks]:
        word = merge_pair(word, min(known, key=ranks.__getitem__))
    return word


def decode_bytes(ids: Iterable[int], vocab: Sequence[bytes]) -> bytes:
    """The bytes that ``ids`` stand for: the exact inverse of encoding.

    Args:
      ids: integers in ``[0, len(vocab))``.
      vocab: the token of each id.

    Raises:
      InputError: an id is negative or too large; the message says which and where.

    Example:
      >>> decode_bytes([1, 0], [b"b", b"a"])
      b'ab'
    """
    ids = list(ids)
    if ids and not (min(ids) >= 0 and max(ids) < len(vocab)):
        place = next(i for i, token_id in enumerate(ids) if not 0 <= token_id < len(vocab))
        raise InputError(
            f"ids[{place}] is {ids[place]}: an id must be at least 0 and less than {len(vocab)}, "
            "the size of the vocabulary; decode with the tokenizer that made the ids"
        )
    return b"".join([vocab[token_id] for token_id in ids])


def decode(ids: Iterable[int], vocab: Sequence[bytes]) -> str:
    """The text that ``ids`` stand for; bytes that are not UTF-8 become U+FFFD.

    A token may hold a part of a character, so any list of ids can be decoded, but only
    `decode_bytes` loses nothing on all of them.

    Args:
      ids: integers in ``[0, len(vocab))``.
      vocab: the token of each id.

    Raises:
      InputError: an id is negative or too large; the message says which and where.

    Example:
      >>> decode([0, 1], [b"caf", b"\\xc3\\xa9"])
      'café'
    """
    return decode_bytes(ids, vocab).decode(errors="replace")
