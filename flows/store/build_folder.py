"""A private folder for one build, and the removal of those whose process died.

A folder in ``tmp/`` is alive as long as any process holds the lock on its ``owner.lock``. Nobody
sweeps while a folder is being made (one more lock), and whoever removes a folder removes
``owner.lock`` last, so that two removers never meet inside it.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from flows.disk.durable import remove_tree
from flows.store.layout import Layout
from flows.store.lock import hold, hold_if_free

_OWNER = "owner.lock"
_CONTENT = "artifact"


@contextmanager
def build_folder(layout: Layout, name: str) -> Iterator[tuple[Path, int]]:
    """Sweep, then make a folder that is gone afterwards unless it was renamed away.

    Args:
      layout: the artifacts folder, prepared.
      name: beginning of the folder's name.

    Yields:
      The empty folder, and how many dead builds were swept.

    Example:
      >>> import tempfile
      >>> layout = Layout(Path(tempfile.mkdtemp()))
      >>> layout.prepare()
      >>> with build_folder(layout, "demo") as (folder, n_swept):
      ...     (folder.is_dir(), n_swept)
      (True, 0)
    """
    folder = layout.tmp / f"{name}-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        with ExitStack() as ownership:
            with hold(layout.sweep_lock):
                n_swept = sweep(layout)
                folder.mkdir()
                ownership.enter_context(hold(folder / _OWNER))
            content = folder / _CONTENT
            content.mkdir()
            try:
                yield content, n_swept
            finally:
                remove_tree(content)
    finally:
        _remove_shell(folder)


def sweep(layout: Layout) -> int:
    """Remove what dead processes left; the caller holds the sweep lock.

    That is build folders that no process owns, and work folders whose artifact is published (their
    process died between the two).

    Returns:
      How many build folders held anything.
    """
    for work in (layout.root / "work").iterdir():
        stage, _, key = work.name.rpartition("-")
        with suppress(FileNotFoundError), hold_if_free(layout.lock(stage, key)) as unused:
            if unused and layout.artifact(stage, key).is_dir():
                remove_tree(work)
    return sum(_sweep_one(folder) for folder in sorted(layout.tmp.iterdir()) if folder.is_dir())


def _sweep_one(folder: Path) -> bool:
    """Remove one folder if it is dead; True when there was something in it."""
    try:
        with hold_if_free(folder / _OWNER) as dead:
            if not dead:
                return False
            found = (folder / _CONTENT).exists()
            remove_tree(folder / _CONTENT)
    except FileNotFoundError:  # no owner any more: somebody else removes it, or died doing so
        found = False
    _remove_shell(folder)
    return found


def _remove_shell(folder: Path) -> None:
    """Remove what is left of a folder when its content is gone."""
    with suppress(OSError):
        (folder / _OWNER).unlink(missing_ok=True)
        folder.rmdir()
