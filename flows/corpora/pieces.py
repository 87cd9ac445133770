"""Documents, and the pieces that very long ones are read in, so that memory stays bounded.

A corpus without separators is one document, be it 70 MB of novels. It is read in pieces of at
most about a million characters. The pieces of one document carry its id and count up from part 0;
joined, they are the document exactly. A piece ends where a tokenizer would begin a new pre-token
anyway, so that encoding the pieces one by one gives the ids of the whole: after a line feed that
stands alone, with a letter behind it, else before a space between two words. GPT-2's pattern and
its successors all have a border there. (After an empty line would look better, but is wrong: at
the end of a text GPT-2's pattern takes both line feeds together, before a word one by one.)
Text that has no such place within the limit is cut at a line, then at a space, then anywhere.
Only where a tokenizer merges across words (its pattern is ``none``) does a cut always show.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

# 1 MiB of characters: 68 pieces for 70 MB, enough to share out over workers, and few borders.
PIECE_CHARACTERS = 1 << 20


class Document(NamedTuple):
    """A document of a corpus, or a piece of a long one.

    Attributes:
      id: counts the documents of the file from 0.
      part: counts the pieces of this document from 0; nearly always 0.
      text: the characters, never empty.
    """

    id: int
    part: int
    text: str


def in_pieces(id: int, text: str, limit: int = PIECE_CHARACTERS, part: int = 0) -> list[Document]:
    """Cut a document longer than ``limit`` characters into pieces that join to it exactly.

    Args:
      id: the document's id.
      text: its text; an empty one gives no piece.
      limit: the most characters of a piece, at least 1.
      part: the number of the first piece.

    Returns:
      The pieces in order.

    Example:
      >>> [piece.text for piece in in_pieces(0, "one\\ntwo\\nthree", limit=6)]
      ['one\\n', 'two\\n', 'three']
    """
    pieces = []
    start = 0
    while len(text) - start > limit:
        end = start + cut(text[start : start + limit + 1])
        pieces.append(Document(id, part + len(pieces), text[start:end]))
        start = end
    if start < len(text):
        pieces.append(Document(id, part + len(pieces), text[start:]))
    return pieces


def cut(text: str) -> int:
    """Where to end a piece: at least 1, at most ``len(text) - 1``; the last character is to come.

    The choice depends on these characters alone, so however a file arrives, it is cut alike.
    """
    last = len(text) - 1
    border = last_between(text, "\n", is_visible) + 1 or max(
        last_between(text, " ", str.isalnum), 0
    )
    return border or text.rfind("\n", 0, last) + 1 or max(text.rfind(" ", 1), 0) or last


def last_between(text: str, mark: str, fits_before: Callable[[str], bool]) -> int:
    """The last place of ``mark`` that stands between a fitting character and a letter, or -1."""
    place = text.rfind(mark, 1, len(text) - 1)
    while place > 0 and not (text[place + 1].isalpha() and fits_before(text[place - 1])):
        place = text.rfind(mark, 1, place)
    return place


def is_visible(character: str) -> bool:
    """Whether the character is no white space."""
    return not character.isspace()


def first_bytes(documents: Iterable[Document], n_bytes: int) -> Iterator[Document]:
    """Pass documents on while their texts fit into so many bytes of UTF-8; 0 passes all.

    The cut falls on the border of a document (or of a piece of a very long one). When not even
    the first fits, it is cut at a line, so that something is left.

    Args:
      documents: the documents, in order.
      n_bytes: the most bytes of text, separators not counted.

    Returns:
      The first of them.

    Example:
      >>> texts = [Document(0, 0, "abc"), Document(1, 0, "def")]
      >>> [document.text for document in first_bytes(texts, 5)]
      ['abc']
    """
    left = n_bytes
    for document in documents:
        size = len(document.text.encode("utf-8"))
        if n_bytes and size > left:
            if left == n_bytes:
                yield document._replace(text=first_lines(document.text, n_bytes))
            return
        left -= size
        yield document


def first_lines(text: str, n_bytes: int) -> str:
    """As many whole lines as fit into so many bytes; at least one character."""
    head = text.encode("utf-8")[:n_bytes].decode("utf-8", errors="ignore") or text[:1]
    return head[: head.rfind("\n") + 1] or head


def in_batches(documents: Iterable[Document], characters: int) -> Iterator[list[Document]]:
    """Group documents into lists of about so many characters, the unit of work of a shard.

    A batch ends with the document that fills it, so the grouping depends on the documents alone.

    Example:
      >>> texts = [Document(i, 0, "abc") for i in range(3)]
      >>> [len(batch) for batch in in_batches(texts, 4)]
      [2, 1]
    """
    batch: list[Document] = []
    filled = 0
    for document in documents:
        batch.append(document)
        filled += len(document.text)
        if filled >= characters:
            yield batch
            batch, filled = [], 0
    if batch:
        yield batch
