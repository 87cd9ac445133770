"""The tokenizer as a value: a vocabulary and its merges, with the tables that encoding needs."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from lmcore.errors import InputError
from lmcore.tokenizer import bpe
from lmcore.tokenizer.batch_encoding import BatchEncoder
from lmcore.tokenizer.bpe import Pair, special_token_ids
from lmcore.tokenizer.engine import Engine, known_engine
from lmcore.tokenizer.fast_encoding import MergeTable, WordEncoder, merge_table
from lmcore.tokenizer.pretokenize import (
    Pattern,
    checked_texts,
    known_pattern,
    pre_tokens,
    refuse_surrogates,
)
from lmcore.tokenizer.segments import segments

LONG_TEXT_CHARACTERS = 1 << 13
"""What is as long is encoded on arrays; a shorter text is through sooner word by word."""


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """A frozen value over a vocabulary, its merges and its special tokens.

    Two are equal when they have the same tokens, merges in the same order, special tokens and
    pattern. The tables are built once, when first needed. Encoding remembers the words it has
    seen, which changes its speed only. A copy sent to another process carries the fields alone.

    Args:
      vocab: the bytes of each token; the place of a token is its id. Where a byte is missing, a
        text that has it cannot be encoded.
      merges: the token that each pair of tokens makes, in the order in which they are merged.
      special_tokens: strings of ``vocab`` that are found in a text before anything else.
      pattern: how text is cut into pre-tokens; the one that the vocabulary was trained with.

    Raises:
      InputError: the parts do not fit together; the message lists every fault.

    Example:
      >>> from lmcore.tokenizer.fast_training import train_bpe
      >>> tokenizer = Tokenizer(*train_bpe(["low low lower"], 259, ("<eos>",)), ("<eos>",))
      >>> tokenizer.encode("low<eos>"), tokenizer.decode([258, 0])
      ([258, 0], 'low<eos>')
    """

    vocab: Sequence[bytes]
    merges: Mapping[Pair, bytes]
    special_tokens: tuple[str, ...] = ()
    pattern: Pattern = "gpt2"

    def __post_init__(self) -> None:
        known_pattern(self.pattern)
        object.__setattr__(self, "vocab", tuple(self.vocab))
        object.__setattr__(self, "merges", dict(self.merges))
        if found := vocabulary_faults(self.vocab, self.merges, self.special_tokens):
            raise InputError("\n".join(found))
        object.__setattr__(self, "special_tokens", tuple(self.special_tokens))

    @property
    def vocab_size(self) -> int:
        """Number of tokens, the special ones included."""
        return len(self.vocab)

    @cached_property
    def special_ids(self) -> dict[str, int]:
        """The id of each special token."""
        return special_token_ids(self.special_tokens, self.vocab)

    @cached_property
    def token_lengths(self) -> NDArray[np.int64]:
        """Bytes of raw text in each token, int64 ``[vocab_size]``; special tokens hold none.

        Summed over ids, it is the denominator of bits per byte.
        """
        lengths = np.fromiter(map(len, self.vocab), np.int64, self.vocab_size)
        lengths[list(self.special_ids.values())] = 0
        lengths.flags.writeable = False
        return lengths

    def encode(self, text: str, *, allow_special: bool = True) -> list[int]:
        """The ids of ``text``.

        Args:
          text: any str that has UTF-8 bytes.
          allow_special: whether special tokens in ``text`` become their ids; otherwise their
            characters are plain text, which is what text from a stranger should be.

        Raises:
          InputError: ``text`` holds a lone surrogate (the message says where), or a byte that is
            not in the vocabulary.

        Example:
          >>> Tokenizer([bytes([b]) for b in range(256)], {}).encode("é")
          [195, 169]
        """
        refuse_surrogates(text, "text")
        return list(chain.from_iterable(self._parts([text], allow_special)))

    def encode_batch(
        self, texts: Iterable[str], *, allow_special: bool = True, engine: Engine = "auto"
    ) -> tuple[NDArray[np.uint16] | NDArray[np.uint32], NDArray[np.int64]]:
        """The ids of many texts, in one flat array.

        Args:
          texts: each is encoded on its own, as `encode` does.
          allow_special: as in `encode`.
          engine: what does the work, for the gpt2 pattern: numpy; numba, an optional extra; or
            auto, which takes numba where it is installed and this tokenizer has read enough text to
            pay for loading it. The ids are the same.

        Returns:
          ``(ids, offsets)``: ids uint16 where ``vocab_size <= 65,536``, otherwise uint32; offsets
          int64 ``[n + 1]``. The ids of text i are ``ids[offsets[i] : offsets[i + 1]]``.

        Example:
          >>> Tokenizer([bytes([b]) for b in range(256)], {}).encode_batch(["ab", "", "c"])
          (array([97, 98, 99], dtype=uint16), array([0, 2, 2, 3]))
        """
        checked = checked_texts(texts, "texts")
        known_engine(engine)
        if self.pattern == "gpt2":
            find = self.special_ids if allow_special else {}
            return self._batches.encode(checked, find, engine)
        ids, offsets = self._encode_each(checked, allow_special)
        return ids.astype(self._dtype, copy=False), offsets

    def _encode_each(
        self, texts: Iterable[str], allow_special: bool
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """As `encode_batch_gpt2`, for the other patterns: one text after the other."""
        flat, offsets = array("I"), [0]
        for text in texts:
            flat.extend(chain.from_iterable(self._parts([text], allow_special)))
            offsets.append(len(flat))
        return np.array(flat, np.uint32), np.array(offsets, np.int64)

    def encode_iterable(self, iterable: Iterable[str]) -> Iterator[int]:
        """The ids of the text that the strings of ``iterable`` join to, one by one.

        The same ids as `encode` gives for the whole text, wherever it was cut: a special token or
        a word may lie across any number of strings. Reads ahead some 65,000 characters, and
        further only where the text has no place to be cut (see `segments`).

        Args:
          iterable: strings, read as the ids are taken; an open text file will do.

        Raises:
          InputError: an item is not a str, or has no UTF-8 bytes.

        Example:
          >>> tokenizer = Tokenizer([bytes([b]) for b in range(256)] + [b"<eos>"], {}, ("<eos>",))
          >>> list(tokenizer.encode_iterable(["a<e", "os>"]))
          [97, 256]
        """
        return chain.from_iterable(self._parts(checked_texts(iterable, "iterable"), True))

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of ``ids``; see `bpe.decode_bytes`."""
        return bpe.decode_bytes(ids, self.vocab)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids``, with U+FFFD for what is not UTF-8; see `bpe.decode`."""
        return bpe.decode(ids, self.vocab)

    def _parts(self, chunks: Iterable[str], allow_special: bool) -> Iterator[Iterable[int]]:
        """The ids of the text that ``chunks`` join to, by word, special token or long piece."""
        find = self.special_tokens if allow_special else ()
        ids_of = self._words.__getitem__
        for segment in segments(chunks, self.pattern, find):
            if segment.is_special:
                yield (self.special_ids[segment.text],)
            elif self.pattern == "gpt2" and len(segment.text) >= LONG_TEXT_CHARACTERS:
                ids, _ = self._batches.encode([segment.text], {})
                yield ids.tolist()
            else:
                yield from map(ids_of, pre_tokens(segment.text, self.pattern))

    @cached_property
    def _merge_table(self) -> MergeTable:
        ids = {token: index for index, token in enumerate(self.vocab)}  # of equals, the last
        return merge_table(ids, self.merges)

    @cached_property
    def _words(self) -> WordEncoder:
        return WordEncoder(self._merge_table)

    @cached_property
    def _batches(self) -> BatchEncoder:
        return BatchEncoder(self._merge_table, self._dtype)

    @property
    def _dtype(self) -> type:
        return np.uint16 if self.vocab_size <= 1 << 16 else np.uint32

    def _value(self) -> tuple:
        return (self.vocab, tuple(self.merges.items()), self.special_tokens, self.pattern)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tokenizer):
            return NotImplemented
        return self._value() == other._value()

    def __hash__(self) -> int:
        return hash(self._value())

    def __reduce__(self) -> tuple:
        return (Tokenizer, (self.vocab, self.merges, self.special_tokens, self.pattern))

    def __repr__(self) -> str:
        return (
            f"Tokenizer({self.vocab_size} tokens, {len(self.merges)} merges, "
            f"special_tokens={self.special_tokens}, pattern={self.pattern!r})"
        )


def encode(
    text: str,
    vocab: Sequence[bytes],
    merges: Mapping[Pair, bytes],
    special_tokens: Sequence[str] = (),
    *,
    pattern: Pattern = "gpt2",
) -> list[int]:
    """The ids of ``text``: in each pre-token, the pair merged first in training is merged first.

    For more than one text build a `Tokenizer`: this builds one, and its tables, at each call.

    Args:
      text: any str that has UTF-8 bytes.
      vocab: the bytes of each token, as `train_bpe` returns them.
      merges: the merges, as `train_bpe` returns them; their order is their rank.
      special_tokens: the strings to be recognised as special tokens, the longest first where they
        overlap; any other special token of ``vocab`` is plain text.
      pattern: the pattern that the vocabulary was trained with.

    Returns:
      ids in ``[0, len(vocab))``; `decode` gives ``text`` back.

    Raises:
      InputError: ``text`` holds a lone surrogate or a byte that is not in ``vocab``, or the other
        arguments do not fit together.

    Example:
      >>> from lmcore.tokenizer.fast_training import train_bpe
      >>> vocab, merges = train_bpe(["low low lower"], 259, ("<eos>",))
      >>> encode("low<eos>", vocab, merges, ("<eos>",)), encode("<", vocab, merges)
      ([258, 0], [61])

    References:
      Sennrich, Haddow and Birch, 2016, Neural Machine Translation of Rare Words with Subword
      Units, section 3.2.
    """
    given = special_tokens if isinstance(special_tokens, str) else tuple(special_tokens)
    return Tokenizer(vocab, merges, given, pattern).encode(text)  # type: ignore[arg-type]


def vocabulary_faults(
    vocab: Sequence[bytes], merges: Mapping[Pair, bytes], special_tokens: Sequence[str]
) -> list[str]:
    """Everything that keeps these from being a tokenizer, a message each."""
    if wrong := [i for i, token in enumerate(vocab) if not isinstance(token, bytes) or not token]:
        return [
            f"vocab[{wrong[0]}] is {vocab[wrong[0]]!r}: each token must be bytes, and not empty"
        ]
    special_token_ids(special_tokens, vocab)  # raises what is wrong with them
    known: dict[bytes, int] = {}
    found: list[str] = []
    for index, token in enumerate(vocab):
        if token in known and len(token) > 1:  # a special token of one byte is one of two
            found.append(f"vocab[{index}] is {token!r}: it already is vocab[{known[token]}]")
        known.setdefault(token, index)
    for rank, ((left, right), token) in enumerate(merges.items()):
        if token != left + right:
            found.append(f"merges[{rank}] makes {token!r} of {left!r} and {right!r}")
        for part in (left, right, token):
            if part not in known:
                found.append(f"merges[{rank}] names {part!r}, which is not in the vocabulary")
    return found
