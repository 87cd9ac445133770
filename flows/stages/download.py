"""The corpus: two files fetched by URL, or written from the embedded grammar."""

from pathlib import Path

from flows.corpora.config import ReadingConfig, SourceConfig
from flows.corpora.fetch import fetch
from flows.corpora.text import write_text
from flows.disk.atomic import file_sha256
from flows.progress.events import Event, Notify
from flows.stages.product import Product
from lmcore.synthetic.stories import stories

SEPARATOR = ReadingConfig().separator
# Validation stories are other draws of the same grammar: they begin where no training set reaches.
FIRST_VALID_STORY = 1 << 40


def run(source: SourceConfig, out_dir: Path, work_dir: Path, notify: Notify) -> Product:
    """Put ``train`` and ``valid`` into ``out_dir``, as they come: plain or gzip, any format.

    Raises:
      InputError: a URL cannot be read, is cut short, or has another digest than was said.
    """
    if source.kind == "stories":
        digests = {
            "train": write_stories(source, 0, source.n_train_stories, out_dir / "train"),
            "valid": write_stories(
                source, FIRST_VALID_STORY, source.n_valid_stories, out_dir / "valid"
            ),
        }
    else:
        digests = {
            split: download(source, split, out_dir, work_dir, notify)
            for split in ("train", "valid")
        }
    sizes = {f"{split}_bytes": (out_dir / split).stat().st_size for split in digests}
    return Product(facts={**digests, **sizes})


def download(
    source: SourceConfig, split: str, out_dir: Path, work_dir: Path, notify: Notify
) -> str:
    """Fetch one file; what was fetched before an interruption is not fetched again."""

    def progress(done: int, total: int) -> None:
        data = {"done": done, "total": total, "unit": "bytes", "label": split}
        notify(Event("progress", "download", data=data))

    fetched = fetch(
        getattr(source, f"{split}_url"),
        out_dir / split,
        partial=work_dir / split,
        sha256=getattr(source, f"{split}_sha256"),
        bytes_expected=getattr(source, f"{split}_bytes"),
        option=f"--corpus.{split}",
        progress=progress,
    )
    return fetched.sha256


def write_stories(source: SourceConfig, first: int, count: int, path: Path) -> str:
    """Write stories ``first`` to ``first + count``; return the file's SHA-256."""
    write_text(path, stories(source.seed, first, count), SEPARATOR)
    return file_sha256(path)
