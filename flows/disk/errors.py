"""What the disk's errors mean: no room, no right to write, damage. Their only list."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.disk.units import size
from lmcore.errors import InputError

NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "this user's share of the disk is full",
    errno.EFBIG: "files may not be larger here (ulimit -f, or the disk's own limit)",
}
NOT_WRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
DAMAGE = frozenset(
    getattr(errno, name)
    for name in ("ENOENT", "ENOTDIR", "EISDIR", "ELOOP", "EIO", "ESTALE", "EUCLEAN", "EBADMSG")
    if hasattr(errno, name)
)

# What libraries make of these errors: Rust's and pyarrow's numbers, the system's words.
_NO_ROOM_TEXTS = {
    number: re.compile(rf"{re.escape(os.strerror(number))}|\b(os error|errno) {number}\b", re.I)
    for number in NO_ROOM
}
_CUT_SHORT = re.compile(r"\d+ requested and \d+ written")  # numpy; it does not say why


@contextmanager
def disk_errors(path: Path, task: str = "") -> Iterator[None]:
    """Turn the disk errors that a user can mend into ``InputError``; let the others through.

    Args:
      path: what is being written, for the message.
      task: what there would be no room for, "to write" the path where it is not said.

    Raises:
      InputError: the disk or quota is full, the file would be too large, or the place may not be
        written.

    Example:
      >>> with disk_errors(Path("tokens.bin")):
      ...     raise OSError(errno.ENOSPC, "No space left on device")
      Traceback (most recent call last):
      ...
      lmcore.errors.InputError: no room to write tokens.bin, the disk is full; ...
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            remedy = f"{size(free_bytes(path))} are free there: free some space"
            if error.errno == errno.EFBIG:
                remedy = "raise that limit"
            raise InputError(
                f"no room {task or f'to write {path}'}, {NO_ROOM[error.errno]}; {remedy}, or put "
                "the artifacts folder on another disk, and run again to go on"
            ) from error
        if error.errno in NOT_WRITABLE:
            raise InputError(
                f"cannot write {path} ({error.strerror}): give this user the right to write there, "
                "or choose another artifacts folder"
            ) from error
        raise


def lack_of_room(error: BaseException | None) -> int | None:
    """Which of ``NO_ROOM`` an error is about, however deep in a library it was met.

    Args:
      error: any; those that it came from are looked at too, and what they say.

    Returns:
      The errno, or None when the error is about something else.

    Example:
      >>> lack_of_room(RuntimeError("I/O error: No space left on device (os error 28)"))
      28
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return error.errno
        for number, text in _NO_ROOM_TEXTS.items():
            if text.search(str(error)):
                return number
        if _CUT_SHORT.fullmatch(str(error)):
            return errno.ENOSPC
        error = error.__cause__ or error.__context__
    return None


def means_damage(error: OSError) -> bool:
    """True when a failed read tells of the file itself, not of permission, memory or handles."""
    return error.errno in DAMAGE


def free_bytes(path: Path) -> int:
    """Bytes free on the disk that holds ``path`` (which need not exist yet)."""
    there = path.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    return shutil.disk_usage(there).free
