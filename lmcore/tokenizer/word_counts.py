"""Count the pre-tokens of a text: all that training needs to know of it."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from lmcore.tokenizer.pretokenize import Pattern, checked_texts, pre_tokens
from lmcore.tokenizer.segments import segments


def count_words(
    texts: Iterable[str],
    pattern: Pattern = "gpt2",
    special_tokens: tuple[str, ...] = (),
    on_read: Callable[[int], None] | None = None,
) -> dict[bytes, int]:
    """How often each pre-token is seen in ``texts``, special tokens left out.

    Holds one text at a time and the distinct pre-tokens, so ``texts`` may be a generator over a
    corpus of any size.

    Args:
      texts: each stands for itself: no pre-token crosses from one to the next.
      pattern: a name from `pretokenize.PATTERNS`.
      special_tokens: strings that split the text and are not counted.
      on_read: called now and then with the number of characters read so far.

    Returns:
      the count of each distinct pre-token, by its UTF-8 bytes.

    Raises:
      InputError: an item is not a str, or has no UTF-8 bytes.

    Example:
      >>> count_words(["a b b"])
      {b'a': 1, b' b': 2}
    """
    counts: Counter[str] = Counter()
    n_read = 0
    for piece in _plain_pieces(texts, pattern, special_tokens):
        counts.update(pre_tokens(piece, pattern))
        n_read += len(piece)
        if on_read:
            on_read(n_read)
    return {word.encode(): count for word, count in counts.items()}


def _plain_pieces(
    texts: Iterable[str], pattern: Pattern, special_tokens: tuple[str, ...]
) -> Iterator[str]:
    """What lies between special tokens, in pieces of bounded size."""
    for text in checked_texts(texts, "training_data"):
        for segment in segments([text], pattern, special_tokens):
            if not segment.is_special:
                yield segment.text
