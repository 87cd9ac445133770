"""How much text a file holds, told before it is read."""

import gzip
import random
from pathlib import Path

import pytest

from flows.corpora import text_size
from flows.corpora.config import ReadingConfig
from flows.corpora.text_size import text_bytes

# Words drawn at random, so that all parts pack about alike.
WORDS = ["one", "two", "three", "four", "five", "six"]
TEXT = " ".join(random.Random(0).choices(WORDS, k=40_000)).encode()


def told(tmp_path: Path, content: bytes, max_bytes: int = 0, **settings: str) -> int | None:
    (tmp_path / "a").write_bytes(content)
    return text_bytes(tmp_path / "a", ReadingConfig(**settings), max_bytes)  # type: ignore[arg-type]


@pytest.mark.parametrize("packed", [False, True])
def test_one_file_tells_its_size(tmp_path: Path, packed: bool) -> None:
    """Plain text, and text packed in one piece, are told to the byte; a limit is never passed."""
    content = gzip.compress(TEXT) if packed else TEXT
    assert told(tmp_path, content) == len(TEXT)
    assert told(tmp_path, content, 1000) == 1000
    assert told(tmp_path, content, 10**9) == len(TEXT)


def test_packed_in_pieces_is_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the last bytes tell the size of the last piece only, the beginning tells about it."""
    monkeypatch.setattr(text_size, "SAMPLE_BYTES", 1 << 14)
    pieces = gzip.compress(TEXT) + gzip.compress(TEXT) + gzip.compress(b"The end.")
    found = told(tmp_path, pieces)
    assert found == pytest.approx(2 * len(TEXT), rel=0.05)


def test_sizes_beyond_the_four_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gzip's size starts anew at 4 GiB (here at 64 kB): the beginning tells how often it did."""
    monkeypatch.setattr(text_size, "SAMPLE_BYTES", 1 << 14)
    monkeypatch.setattr(text_size, "SIZE_WRAPS", 1 << 16)
    packed = gzip.compress(TEXT)
    content = packed[:-4] + (len(TEXT) % (1 << 16)).to_bytes(4, "little")
    assert told(tmp_path, content) == len(TEXT)


def test_what_cannot_be_told_is_not(tmp_path: Path) -> None:
    """Other formats hold more than text; what is damaged is the reader's to report."""
    assert told(tmp_path, TEXT, format="jsonl") is None
    assert told(tmp_path, b"\x1f\x8b" + bytes(20)) is None
    assert text_bytes(tmp_path / "absent", ReadingConfig()) is None
    assert told(tmp_path, b"") == 0
