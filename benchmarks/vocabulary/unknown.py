"""Text that a vocabulary of words or of characters cannot write, and what bytes make of it."""

from collections import Counter
from dataclasses import dataclass
from itertools import chain

from benchmarks.vocabulary.texts import n_bytes
from benchmarks.vocabulary.trained import ids_of
from lmcore import Tokenizer
from lmcore.tokenizer.pretokenize import pre_tokens
from lmcore.tokenizer.word_counts import count_words


@dataclass(frozen=True)
class Written:
    """How three vocabularies, learned from the same text, write another text.

    text: its name.
    n_words, unknown_words: words (pre-tokens without their space), and the share of them that the
      vocabulary of words does not hold.
    unknown_characters: the share of characters that were never seen.
    unknown_bytes: the share of bytes that the tokenizer cannot write: what it decodes to is
      compared with the text.
    bytes_per_token: of the tokenizer.
    single_bytes: the share of its tokens that are one byte.
    """

    text: str
    n_words: int
    unknown_words: float
    unknown_characters: float
    unknown_bytes: float
    bytes_per_token: float
    single_bytes: float


def most_frequent_words(text: str, size: int) -> set[str]:
    """The ``size`` most frequent words; of equally frequent ones the first by the alphabet.

    Example:
      >>> sorted(most_frequent_words("to be or not to be", 2))
      ['be', 'to']
    """
    times: Counter[str] = Counter()
    for word, count in count_words([text]).as_dict().items():
        times[word.decode().strip()] += count
    del times[""]
    ranked = sorted(times, key=lambda word: (-times[word], word))
    return set(ranked[:size])


def written(
    name: str, text: str, words: set[str], characters: set[str], tokenizer: Tokenizer
) -> Written:
    """Measure one text.

    Example:
      >>> letters = Tokenizer([bytes([byte]) for byte in range(256)], {})
      >>> written("", "to bé", {"to"}, set("tobe "), letters).unknown_characters
      0.2
    """
    found = [word for word in map(str.strip, pre_tokens(text)) if word]
    ids = ids_of(tokenizer, text)
    data = text.encode()
    back = tokenizer.decode_bytes(ids.tolist())
    lost = sum(a != b for a, b in zip(data, back, strict=False)) + abs(len(data) - len(back))
    return Written(
        name,
        len(found),
        sum(word not in words for word in found) / len(found),
        sum(character not in characters for character in text) / len(text),
        lost / len(data),
        n_bytes([text]) / len(ids),
        float((tokenizer.token_lengths[ids] == 1).mean()),
    )


def characters_of(text: str) -> set[str]:
    """Every character of a text: the vocabulary of characters, if there is room for all.

    Example:
      >>> sorted(characters_of("abba"))
      ['a', 'b']
    """
    return set(chain.from_iterable(map(set, text.splitlines(keepends=True))))
