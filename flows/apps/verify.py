"""Check every artifact against its record, byte for byte; exit 1 where one differs."""

from dataclasses import dataclass
from pathlib import Path

from flows.arguments import read_words
from flows.disk.units import size
from flows.store.listing import artifacts, check
from lmcore.errors import InputError


@dataclass(frozen=True)
class Verify:
    """Check every artifact against its record, byte for byte. Nothing is changed."""

    artifacts: str = "artifacts"
    """Folder of the artifact store and of the runs."""


def main(words: list[str]) -> int:
    options = read_words(Verify, words, "lmcore verify")
    root = Path(options.artifacts)
    if not root.is_dir():
        raise InputError(f"{root} is no folder: give --artifacts the one that runs were made in")
    checked = bad = 0
    for artifact in artifacts(root):
        faults = check(artifact)
        checked, bad = checked + 1, bad + bool(faults)
        mark = "✗" if faults else "✓"
        print(f"{mark} {artifact.stage:<12} {artifact.key[:16]}  {size(artifact.n_bytes):>9}")
        for fault in faults:
            print(f"    {fault}")
    print(f"{checked} artifacts, {bad} damaged" + (": the next run rebuilds them" if bad else ""))
    return 1 if bad else 0
