"""The metrics of a run: one JSON object a line, written as they come, read while they come.

A line is appended in one write and flushed, so a reader beside the run sees whole lines, but for
the last, which may be on its way: readers pass over a last line without its line feed. JSON has
no NaN and no infinity; a float that is not finite is written as null.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.disk.atomic import new_file
from flows.disk.errors import disk_errors
from lmcore.errors import InputError


class MetricsLog:
    """An append-only log of records, open for writing.

    A torn last line, which a killed process may leave, is cut off when the log is opened.

    Args:
      path: the file; made when absent, its folder exists.

    Raises:
      InputError: no room, or not writable.

    Example:
      >>> with MetricsLog(Path("metrics.jsonl")) as log:
      ...     log.append({"step": 1, "loss": 2.5})
      >>> read(Path("metrics.jsonl"))
      [{'step': 1, 'loss': 2.5}]
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with disk_errors(path):
            self.file = path.open("a+b")
            self.file.truncate(whole_length(path))

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record, visible to readers when this returns."""
        line = json.dumps(finite(record), allow_nan=False, separators=(", ", ": "))
        with disk_errors(self.path):
            self.file.write(line.encode() + b"\n")
            self.file.flush()

    def sync(self) -> None:
        """Force what was appended to the disk; a step is done only when its metrics are."""
        with disk_errors(self.path):
            os.fsync(self.file.fileno())

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        self.file.close()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def finite(value: Any) -> Any:
    """The value with null for every float that JSON cannot hold."""
    if isinstance(value, Mapping):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def whole_length(path: Path) -> int:
    """Bytes of the file up to its last line feed, that is without a torn last line."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 4096)
            file.seek(start)
            if (at := file.read(end - start).rfind(b"\n")) >= 0:
                return start + at + 1
            end = start
    return 0


def read(path: Path) -> list[dict[str, Any]]:
    """Every whole record of a log, which may be being written.

    Args:
      path: the log; an absent one has no records.

    Returns:
      The records in order; a float that was not finite is None.

    Raises:
      InputError: a line that is no JSON object; the message names it.

    Example:
      >>> read(Path("no-such-log.jsonl"))
      []
    """
    return [record for record, _ in records_and_lines(path)]


def records_and_lines(path: Path) -> list[tuple[dict[str, Any], bytes]]:
    """Every whole line of a log, as a record and as it stands."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    *lines, _ = data.split(b"\n")
    return [(parsed(line, path, n), line) for n, line in enumerate(lines, start=1)]


def parsed(line: bytes, path: Path, number: int) -> dict[str, Any]:
    """One line as a record."""
    try:
        record = json.loads(line)
    except ValueError as error:
        raise InputError(
            f"{path}, line {number:,} is no JSON ({error}); delete the line"
        ) from error
    if not isinstance(record, dict):
        raise InputError(f"{path}, line {number:,} is no JSON object; delete the line")
    return record


def truncate_after(path: Path, step: int) -> int:
    """Drop what lies beyond a step, so that a run resumed there does not record it twice.

    The file is replaced whole, the kept lines byte for byte. A record without a step is kept if
    no record beyond the step came before it; a torn last line goes.

    Args:
      path: the log; an absent one is left absent.
      step: the last step to keep.

    Returns:
      How many records were dropped.

    Raises:
      InputError: a line that is no JSON object, no room, or not writable.

    Example:
      >>> truncate_after(Path("metrics.jsonl"), step=0)
      1
    """
    if not path.exists():
        return 0
    kept, dropped, beyond = [], 0, False
    for record, line in records_and_lines(path):
        beyond = record["step"] > step if "step" in record else beyond
        kept += [] if beyond else [line + b"\n"]
        dropped += beyond
    with new_file(path) as file:
        file.writelines(kept)
    return dropped
