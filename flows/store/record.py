"""``record.json``: what an artifact is, what made it, and the proof that neither changed.

The record is written last in a build, so a folder with a record is complete. It is indented for
people, and carries the digest of its own text, so that a changed byte in it is found as in any
other file.
"""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.disk.durable import walk
from flows.disk.errors import means_damage
from flows.store.key import Key, installed_version, sha256_of_json

RECORD_NAME = "record.json"
RECORD_FORMAT = 1
CHUNK_BYTES = 64 << 20

_SELF = "record_sha256"


class BadRecordError(Exception):
    """A record that is missing, unreadable, changed, or of another format; the text says which."""


@dataclass(frozen=True)
class Artifact:
    """A published result.

    Args:
      stage: the stage that made it.
      key: digest of what made it, 64 hexadecimal digits.
      path: its folder; read-only.
      digest: digest of what it is, which later stages take as their input.
      record: the parsed ``record.json``; empty when it could not be read.
      hit: True when it was there already.
      seconds: how long the build took, when it was built.
    """

    stage: str
    key: str
    path: Path
    digest: str
    record: Mapping[str, Any] = field(repr=False, compare=False)
    hit: bool = field(default=True, compare=False)
    seconds: float = field(default=0.0, compare=False)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the stage said about its result; for reports, outside the content digest."""
        return self.record.get("facts", {})

    @property
    def n_bytes(self) -> int:
        """Total size of its files, by its record."""
        return sum(output["bytes"] for output in self.record.get("outputs", {}).values())


def describe_outputs(folder: Path) -> dict[str, dict[str, Any]]:
    """Read every file below ``folder``: relative name to size, SHA-256 and chunk digests.

    A file above 64 MiB also gets a digest for each 64 MiB, so that a part of it can be checked.

    Args:
      folder: a finished build, before its record is written.

    Returns:
      For each file ``{"bytes": …, "sha256": …}``, and ``chunk_bytes`` and ``chunks`` for large
      ones, sorted by name.

    Raises:
      ValueError: the build left a link or a special file, or a file named like the record.

    Example:
      >>> import tempfile
      >>> describe_outputs(Path(tempfile.mkdtemp()))
      {}
    """
    outputs = {}
    for entry in walk(folder):
        if entry.is_dir(follow_symlinks=False):
            continue
        name = Path(entry.path).relative_to(folder).as_posix()
        if not entry.is_file(follow_symlinks=False):
            raise ValueError(f"the build made {name}, which is not a plain file")
        if name == RECORD_NAME:
            raise ValueError(f"the build made a file named {RECORD_NAME}, which the store writes")
        outputs[name] = _describe_file(Path(entry.path))
    return dict(sorted(outputs.items()))


def content_digest(outputs: Mapping[str, Mapping[str, Any]]) -> str:
    """Digest of names and bytes of all files: SHA-256 of the canonical JSON {name: sha256}.

    Example:
      >>> content_digest({})[:8]
      '44136fa3'
    """
    return sha256_of_json({name: output["sha256"] for name, output in outputs.items()})


def new_record(
    key: Key,
    outputs: Mapping[str, Any],
    digest: str,
    facts: Mapping[str, Any],
    started: float,
    seconds: float,
) -> dict[str, Any]:
    """Put a record together; ``started`` is a Unix time in seconds.

    The environment names versions only, no host, user or folder, so that two machines with the
    same software write the same.
    """
    record = {
        "format": RECORD_FORMAT,
        "stage": key.stage,
        "digest": digest,
        "key": {"digest": key.digest, **key.as_json()},
        "outputs": dict(outputs),
        "facts": dict(facts),
        "started": _utc(started),
        "finished": _utc(started + seconds),
        "seconds": round(seconds, 3),
        "environment": {
            "python": platform.python_version(),
            "platform": f"{sys.platform} {platform.machine()}",
            "packages": {name: installed_version(name) for name in key.versions},
        },
    }
    return {**record, _SELF: _self_digest(record)}


def render_record(record: Mapping[str, Any]) -> bytes:
    """The bytes of ``record.json``: indented, in the order given, ending in a line break.

    Raises:
      ValueError: a fact is nan or infinite. TypeError: a fact is not JSON.
    """
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8", "surrogatepass")


def read_record(folder: Path) -> dict[str, Any]:
    """Read and check the record of the artifact in ``folder``.

    Returns:
      The record; its every byte is as it was written.

    Raises:
      BadRecordError: it is missing, unreadable, of another format, or was changed.
      OSError: reading failed for a reason that says nothing of the record, such as permission.
    """
    try:
        content = (folder / RECORD_NAME).read_bytes()
    except OSError as error:
        if not means_damage(error):
            raise
        raise BadRecordError(f"{RECORD_NAME} cannot be read: {error.strerror}") from error
    try:
        record = json.loads(content.decode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise BadRecordError(f"{RECORD_NAME} is not JSON: {error}") from error
    found = record.get("format") if isinstance(record, dict) else None
    if found != RECORD_FORMAT:
        raise BadRecordError(
            f"{RECORD_NAME} has format {found!r}, and this version reads {RECORD_FORMAT}"
        )
    if record.get(_SELF) != _self_digest(record) or render_record(record) != content:
        raise BadRecordError(f"{RECORD_NAME} was changed after it was written")
    return record


def artifact_of(folder: Path, record: Mapping[str, Any], *, hit: bool = True) -> Artifact:
    """The artifact that a valid record describes."""
    return Artifact(
        stage=record["stage"],
        key=record["key"]["digest"],
        path=folder,
        digest=record["digest"],
        record=record,
        hit=hit,
        seconds=record["seconds"],
    )


def _describe_file(path: Path) -> dict[str, Any]:
    """Size and digests of one file in one reading."""
    whole, chunks, size = hashlib.sha256(), [], 0
    with open(path, "rb") as file:
        large = os.fstat(file.fileno()).st_size > CHUNK_BYTES
        while chunk := file.read(CHUNK_BYTES if large else -1):
            whole.update(chunk)
            size += len(chunk)
            if large:
                chunks.append(hashlib.sha256(chunk).hexdigest())
    described: dict[str, Any] = {"bytes": size, "sha256": whole.hexdigest()}
    return {**described, "chunk_bytes": CHUNK_BYTES, "chunks": chunks} if large else described


def _self_digest(record: Mapping[str, Any]) -> str:
    """Digest of a record without its digest."""
    rest = {name: value for name, value in record.items() if name != _SELF}
    return hashlib.sha256(render_record(rest)).hexdigest()


def _utc(unix_seconds: float) -> str:
    """A Unix time as ISO 8601, whole seconds, UTC."""
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
