"""Five files of real text, which are not part of the project: where they are, and what they hold.

They lie in the folder that LMCORE_TEXTS names, or else in shared/data beside the project's folder.
A test that wants one is skipped where it is absent.
"""

import gzip
import os
from functools import cache
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("LMCORE_TEXTS") or Path(__file__).parents[2] / "shared" / "data")
SEPARATOR = "<|endoftext|>"

SMALL = ("tinystories_valid_100kb.txt", "novels_valid_1mb.txt", "tinystories_train_2mb.txt")
LARGE = ("udhr_multilingual_6mb.txt", "novels_train_70mb.txt.gz")

every_file = pytest.mark.parametrize(
    "name", [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]
)


@cache
def real_text(name: str) -> str:
    """The text of a file, unpacked; its lines end as they do on disk."""
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"there is no {path}: set LMCORE_TEXTS to the folder that has {name}")
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
