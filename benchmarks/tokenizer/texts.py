"""The texts that the tokenizer benchmark reads: real ones from a folder, or synthetic ones."""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lmcore.errors import InputError
from lmcore.synthetic.stories import stories

NOVELS = "novels_train_70mb.txt.gz"
DOCUMENT_CHARACTERS = 100_000


@dataclass(frozen=True)
class Corpus:
    """Where a text comes from, and the files that hold its beginnings.

    name: what a reader of the figures should know of it.
    files: by size in MB (millions of bytes), 0 for the whole; UTF-8.
    """

    name: str
    files: dict[int, Path]


def corpus(data: Path | None, folder: Path, sizes: tuple[int, ...]) -> Corpus:
    """Write the beginnings of the text into ``folder``.

    Args:
      data: holds `NOVELS`; None takes the synthetic stories of the embedded corpus.
      folder: an existing one.
      sizes: in MB; 0 is the whole, for which the stories take 20 MB.

    Raises:
      InputError: the folder has no such file.
    """
    if data is None:
        largest = max(20 if size == 0 else size for size in sizes)
        text, name = _stories(largest * 1_000_000), "synthetic stories (no --data was given)"
    else:
        path = data / NOVELS
        if not path.is_file():
            raise InputError(f"{path} does not exist: --data must be a folder that holds {NOVELS}")
        text, name = gzip.decompress(path.read_bytes()), NOVELS
    files = {}
    for size in sizes:
        files[size] = folder / f"text-{size}.txt"
        part = text[: size * 1_000_000] if size else text
        files[size].write_bytes(part.decode(errors="ignore").encode())
    return Corpus(name, files)


def _stories(n_bytes: int) -> bytes:
    """At least ``n_bytes`` of stories."""
    parts: list[bytes] = []
    n = 0
    for start in range(0, n_bytes, 1_000):
        for story in stories(seed=0, start=start, count=1_000):
            parts.append(story.encode() + b"\n\n")
            n += len(parts[-1])
        if n >= n_bytes:
            break
    return b"".join(parts)


def documents(text: str, characters: int = DOCUMENT_CHARACTERS) -> Iterator[str]:
    """``text`` cut after line ends into pieces of about so many characters.

    Example:
      >>> list(documents("ab\\ncd\\nef", 4))
      ['ab\\ncd\\n', 'ef']
    """
    start = 0
    while start < len(text):
        end = text.find("\n", start + characters - 1) + 1 or len(text)
        yield text[start:end]
        start = end
