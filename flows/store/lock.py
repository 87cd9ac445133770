"""Locks that the kernel frees: flock on an open descriptor.

A lock lasts as long as any process holds the descriptor, so a dead process leaves nothing to take
over. Locks only save work: two builders of one artifact are also right without one, since the
first rename wins.

Where ``fcntl`` does not exist (Windows) there is no lock: two runs at once on one folder may do
the same work twice, and what a dead build left in ``tmp/`` is not swept. A network file system
without flock behaves the same.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_NO_LOCKS_HERE = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 0.5

_held: ContextVar[tuple[int, ...]] = ContextVar("_held", default=())


def locks_exist() -> bool:
    """Whether this platform has flock at all."""
    return fcntl is not None


def held_descriptors() -> tuple[int, ...]:
    """Descriptors of the locks held around the running code, in this thread.

    A launcher hands them to the processes that do a stage's work, so that the work stays locked
    until the last of them is gone, even when the launcher was killed. Nothing else inherits them:
    they are closed on exec (PEP 446), or a stray daemon would hold a lock for ever.

    Returns:
      File descriptors, for ``subprocess.Popen(..., pass_fds=held_descriptors())``.

    Example:
      >>> held_descriptors()
      ()
    """
    return _held.get()


@contextmanager
def hold(path: Path, waiting: Callable[[int | None], None] | None = None) -> Iterator[None]:
    """Hold the lock file ``path``, waiting for it as long as it takes; Ctrl-C works.

    Args:
      path: lock file; made when missing, never removed (removing would split the lock in two).
      waiting: called once, with the process id of the holder if the file names one, when the lock
        is not free at once.

    Yields:
      Nothing; the lock is held inside the block.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder, hold(Path(folder) / "a.lock"):
      ...     len(held_descriptors())
      1
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _wait_for(descriptor, waiting)
        _write_holder(descriptor)
        with _registered(descriptor):
            yield
    finally:
        os.close(descriptor)  # not LOCK_UN, which would free it under a child that still works


@contextmanager
def hold_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock if nobody does.

    Yields:
      Whether the lock is held. False also where the platform has no locks, as nobody can tell.

    Raises:
      FileNotFoundError: there is no such lock file; none is made.
    """
    descriptor = os.open(path, os.O_RDWR)
    try:
        yield _try(descriptor) is True
    finally:
        os.close(descriptor)


@contextmanager
def _registered(descriptor: int) -> Iterator[None]:
    """List a descriptor among those held."""
    _held.set((*_held.get(), descriptor))
    try:
        yield
    finally:  # by value, as locks need not be released in the reverse order
        _held.set(tuple(held for held in _held.get() if held != descriptor))


def _wait_for(descriptor: int, waiting: Callable[[int | None], None] | None) -> None:
    """Poll until the lock is ours; a blocking flock would leave a thread deaf to Ctrl-C."""
    pause = _FIRST_PAUSE_SECONDS
    while _try(descriptor) is False:
        if waiting is not None:
            waiting(_read_holder(descriptor))
            waiting = None
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _try(descriptor: int) -> bool | None:
    """True when locked, False when another holds it, None where there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS_HERE:
            return None
        raise
    return True


def _write_holder(descriptor: int) -> None:
    """Leave our process id in the file, for people and messages only."""
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, f"{os.getpid()}\n".encode())


def _read_holder(descriptor: int) -> int | None:
    """The process id in the file, if there is one."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    text = os.read(descriptor, 32).strip()
    return int(text) if text.isdigit() else None
