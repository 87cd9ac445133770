"""Where things lie below the artifacts folder.

store/<stage>/<key16>/        an artifact: its files and record.json; read-only
seals/<stage>-<key16>.json    what the kernel said of a large artifact's files when last read
work/<stage>-<key16>/         what a stage keeps across a kill, such as checkpoints
tmp/<stage>-<key16>-…/        a build in progress
locks/<stage>-<key16>.lock    held while an artifact is built
quarantine/<stage>-<key16>-<n>/  an artifact that did not verify, kept for inspection

Beside these the pipeline keeps runs/ (one folder a run), maps/ (tokens as flat memory maps) and
compiled/ (what torch compiled).
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.disk.errors import NO_ROOM, NOT_WRITABLE, free_bytes, lack_of_room
from flows.disk.units import size
from lmcore.errors import InputError

ROOT_FLAG = "--execution.artifacts"

_README = """\
Everything in this folder was made by the pipeline and can be made again.

store/       results, each with a record.json that says what made it; read-only
runs/        one folder a run, pointing into the store
maps/        tokens of the store once more, as training reads them; delete them when nothing runs
compiled/    what torch compiled for this machine; delete it when nothing runs
work/        what an unfinished stage goes on from
quarantine/  results that did not match their record; look at them, or delete them
tmp/ locks/ seals/  housekeeping

`lmcore show` lists the results, `lmcore verify` checks them, `lmcore why STAGE` explains them.
To make room, delete whole folders under store/; the next run makes again what it needs.
"""


@dataclass(frozen=True)
class Layout:
    """The paths of one artifacts folder.

    Args:
      root: the artifacts folder; it need not exist yet.
      flag: the command-line flag that sets it, for error messages.

    Example:
      >>> Layout(Path("artifacts")).artifact("tokenizer", "0" * 64).as_posix()
      'artifacts/store/tokenizer/0000000000000000'
    """

    root: Path
    flag: str = ROOT_FLAG

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    @property
    def sweep_lock(self) -> Path:
        """Held while a build folder is made or dead ones are removed."""
        return self.root / "locks" / "tmp.lock"

    def artifact(self, stage: str, key: str) -> Path:
        return self.store / stage / key[:16]

    def seal(self, stage: str, key: str) -> Path:
        return self.root / "seals" / f"{stage}-{key[:16]}.json"

    def work(self, stage: str, key: str) -> Path:
        return self.root / "work" / f"{stage}-{key[:16]}"

    def lock(self, stage: str, key: str) -> Path:
        return self.root / "locks" / f"{stage}-{key[:16]}.lock"

    def free_quarantine(self, stage: str, key: str) -> Path:
        """The first quarantine folder of this artifact that does not exist."""
        base = self.root / "quarantine"
        taken = {path.name for path in base.iterdir()}
        n = 1
        while f"{stage}-{key[:16]}-{n}" in taken:
            n += 1
        return base / f"{stage}-{key[:16]}-{n}"

    def prepare(self) -> None:
        """Make the folders and see that they can be written.

        Raises:
          InputError: the root, or a folder in it, cannot be made or written.
        """
        probe = self.tmp / f"probe-{os.getpid()}"
        with self.explaining_errors():
            for name in ("store", "seals", "work", "tmp", "locks", "quarantine"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink(missing_ok=True)
            if not (self.root / "README.txt").exists():
                (self.root / "README.txt").write_text(_README, encoding="utf-8")

    def free_bytes(self) -> int:
        """Bytes that an ordinary user can still write on the root's disk."""
        return free_bytes(self.root)

    def require_bytes(self, needed: int, stage: str) -> None:
        """Refuse work that cannot fit.

        Raises:
          InputError: fewer than ``needed`` bytes are free.
        """
        free = self.free_bytes()
        if free < needed:
            raise InputError(
                f"the disk of {self.root} has {size(free)} free and the stage {stage} needs "
                f"{size(needed)}: make room, or name another folder with {self.flag}"
            )

    @contextmanager
    def explaining_errors(self) -> Iterator[None]:
        """Turn a folder that cannot be written into an error that says what to do.

        Raises:
          InputError: in place of an OSError about permission, kind of file, or a read-only disk.
        """
        try:
            yield
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise
            raise InputError(
                f"the artifacts folder {self.root} cannot be written ({error.strerror}: "
                f"{error.filename}): give a folder that can, with {self.flag} FOLDER"
            ) from error

    @contextmanager
    def explaining_full_disk(self, stage: str) -> Iterator[None]:
        """Say what a full disk means, however deep in a library it was met.

        Raises:
          InputError: in place of an error that is, or came from, one about disk space.
        """
        try:
            yield
        except Exception as error:
            lack = lack_of_room(error)
            if lack is None:
                raise
            what, remedy = f"and {self.root} has {size(self.free_bytes())} left", "make room"
            if lack == errno.EFBIG:
                what, remedy = "as its file met that limit", "raise it"
            raise InputError(
                f"{NO_ROOM[lack]}: stage {stage} could not go on writing, {what}. Nothing already "
                f"made was lost; {remedy}, or name another folder with {self.flag}, and run again"
            ) from error


_UNWRITABLE = NOT_WRITABLE | {
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ELOOP,
}
