"""Files and folders that are whole or absent: written beside, synced, then renamed.

A rename without a sync before it survives a crash of the program, not of the machine: cutting
the power lost or broke thousands of renamed files that had been acknowledged; with file and
folder synced, none. So every writer of this package goes through here.
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

from lmcore.errors import InputError

TEMPORARY_PREFIX = ".tmp-"
# A folder younger than this is never swept: between making it and locking it lies a moment.
SWEEP_AFTER_SECONDS = 60.0

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NOT_WRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the disk errors that a user can mend into ``InputError``; let the others through.

    Args:
      path: what is being written, for the message.

    Raises:
      InputError: the disk or quota is full, or the place may not be written.

    Example:
      >>> with disk_errors(Path("tokens.bin")):
      ...     raise OSError(errno.ENOSPC, "No space left on device")
      Traceback (most recent call last):
      ...
      lmcore.errors.InputError: no room to write tokens.bin (No space left on device)...
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise InputError(
                f"no room to write {path} ({error.strerror}); {free_bytes(path):,} bytes are free "
                "there: free some space, or put the artifacts folder on another disk"
            ) from error
        if error.errno in NOT_WRITABLE:
            raise InputError(
                f"cannot write {path} ({error.strerror}): give this user the right to write there, "
                "or choose another artifacts folder"
            ) from error
        raise


def free_bytes(path: Path) -> int:
    """Bytes free on the disk that holds ``path`` (which need not exist yet)."""
    there = path.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    return shutil.disk_usage(there).free


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
                os.fsync(file.fileno())
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
            sync_files(temporary)
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


def sync_files(folder: Path) -> None:
    """Force every file of the folder, then the folder itself, to the disk."""
    for file in sorted(folder.iterdir()):
        sync_path(file)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Force the folder's list of names to the disk, so that a rename in it survives a crash."""
    sync_path(folder)


def sync_path(path: Path) -> None:
    """fsync one file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
