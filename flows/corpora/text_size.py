"""How much text a corpus file holds, before it is read: what a progress bar needs to know."""

import zlib
from pathlib import Path

from flows.corpora.config import ReadingConfig
from flows.corpora.text import GZIP_MAGIC

SAMPLE_BYTES = 1 << 20  # of packed text: 10 ms to unpack
GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
SIZE_WRAPS = 1 << 32  # gzip writes the size modulo this
SIZE_DIFFERS = 0.25  # novels: their first MiB packs to within 5% of the whole


def text_bytes(path: Path, config: ReadingConfig, max_bytes: int = 0) -> int | None:
    """About how many bytes of text a reader will find.

    A plain file tells it (its separators count, which are no text). Of a packed one the last four
    bytes tell it, if it was packed in one piece and these bytes agree with how its beginning
    unpacks; otherwise its beginning does.

    Args:
      path: the file.
      config: how it is read.
      max_bytes: the most that will be read; 0 reads all.

    Returns:
      Bytes; None where it cannot be told from outside: JSON and Parquet hold other things too.

    Example:
      >>> _ = Path("two.txt").write_text("One.<|endoftext|>Two.")
      >>> text_bytes(Path("two.txt"), ReadingConfig())
      21
    """
    if config.format != "text":
        return None
    try:
        found = plain_bytes(path)
    except (OSError, zlib.error):
        return None  # the reader says what is wrong
    return min(found, max_bytes) if max_bytes else found


def plain_bytes(path: Path) -> int:
    """Size of a file when unpacked, about."""
    n_bytes = path.stat().st_size
    with path.open("rb") as file:
        sample = file.read(SAMPLE_BYTES)
        if not sample.startswith(GZIP_MAGIC):
            return n_bytes
        file.seek(max(n_bytes - 4, 0))
        tail = int.from_bytes(file.read(4), "little")
    unpacking = zlib.decompressobj(GZIP_OR_ZLIB)
    plain = len(unpacking.decompress(sample))
    guess = plain * n_bytes / (len(sample) - len(unpacking.unused_data))
    exact = tail + SIZE_WRAPS * max(round((guess - tail) / SIZE_WRAPS), 0)
    return exact if abs(exact - guess) <= SIZE_DIFFERS * guess else round(guess)
