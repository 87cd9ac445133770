"""Files and folders that are whole or absent: written beside, synced, then renamed.

Every file that a run leaves goes through here, or through the build folders of the store, which
are made of the same steps (`flows.disk.durable`).
"""

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from flows.disk.durable import sync, sync_folder, sync_tree
from flows.disk.errors import disk_errors

TEMPORARY_PREFIX = ".tmp-"
# A folder younger than this is never swept: between making it and locking it lies a moment.
SWEEP_AFTER_SECONDS = 60.0


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path``; when the block ends well it becomes ``path``.

    The file is synced, renamed over whatever bore the name, and the folder synced. When the
    block raises, the temporary file is removed and ``path`` is as it was.

    Args:
      path: the file to write; its folder exists.

    Returns:
      A context manager giving a binary file, open for writing.

    Raises:
      InputError: no room, or not writable (see :func:`disk_errors`).

    Example:
      >>> with new_file(Path("numbers.txt")) as file:
      ...     _ = file.write(b"1 2 3")
    """
    temporary = path.with_name(temporary_name(path))
    try:
        with disk_errors(path):
            with temporary.open("xb") as file:
                yield file
                file.flush()
                sync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path``; when the block ends well it becomes ``path``.

    Every file in it is synced, then the folder, then it is renamed and its parent synced. The
    temporary folder is locked while it is written, so that :func:`sweep` tells what a killed
    process left from what a living one is writing.

    Args:
      path: the folder to make; it is made whole or not at all.

    Returns:
      A context manager giving the temporary folder.

    Raises:
      FileExistsError: a folder of that name with something in it came first; it is left alone.
      InputError: no room, or not writable (see :func:`disk_errors`).

    Example:
      >>> with new_folder(Path("step-1")) as folder:
      ...     _ = (folder / "facts.json").write_text("{}")
    """
    temporary = path.with_name(temporary_name(path))
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        lock = os.open(temporary, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield temporary
            sync_tree(temporary)
            rename_folder(temporary, path)
        finally:
            os.close(lock)
            shutil.rmtree(temporary, ignore_errors=True)


def rename_folder(source: Path, target: Path) -> None:
    """Rename and sync the parent; a non-empty ``target`` raises FileExistsError."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise FileExistsError(error.errno, "the folder exists already", str(target)) from error
        raise
    sync_folder(target.parent)


def sweep(folder: Path) -> list[str]:
    """Remove the temporary files and folders that killed processes left in ``folder``.

    A folder whose writer lives is locked by it, and what is younger than a minute is spared.

    Returns:
      The names removed.

    Example:
      >>> sweep(Path("no-such-folder"))
      []
    """
    if not folder.is_dir():
        return []
    leftovers = [path for path in folder.iterdir() if path.name.startswith(TEMPORARY_PREFIX)]
    return sorted(path.name for path in leftovers if swept(path))


def swept(path: Path) -> bool:
    """Whether the leftover was abandoned, and is gone now."""
    with suppress(FileNotFoundError):
        if time.time() - path.stat().st_mtime < SWEEP_AFTER_SECONDS or locked(path):
            return False
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
    return not path.exists()


def locked(path: Path) -> bool:
    """Whether a living process holds the lock of this file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def temporary_name(path: Path) -> str:
    """A name beside ``path`` that no other writer has."""
    return f"{TEMPORARY_PREFIX}{path.name}-{secrets.token_hex(4)}"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal, read in bounded memory.

    Example:
      >>> file_sha256(Path("/dev/null"))[:8]
      'e3b0c442'
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
