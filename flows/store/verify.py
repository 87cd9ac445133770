"""Is an artifact still what its record says?

Below 1 GiB every byte is read at every hit (SHA-256 runs at about 840 MB/s a core). Above, the
seal is compared (device, inode, size, mtime_ns, ctime_ns of each file, noted when every byte was
last read) and a tenth of the 64 MiB chunks is read, another tenth at each hit; a seal that does not
match, as after a copy to another disk, means reading everything.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from flows.disk.atomic import file_sha256, new_file
from flows.disk.durable import walk
from flows.disk.errors import means_damage
from flows.store.record import RECORD_NAME, BadRecordError, read_record
from lmcore.errors import InputError

Mode = Literal["standard", "full"]

FULL_BELOW_BYTES = 1 << 30
N_TURNS = 10


class Verdict(NamedTuple):
    """What a check found: the record if it can be trusted, and every fault."""

    record: Mapping[str, Any] | None
    faults: list[str]


class _Chunk(NamedTuple):
    """A stretch of one file and the digest it must have."""

    name: str
    offset: int
    n_bytes: int
    sha256: str


def examine(folder: Path, seal: Path, key: str | None = None, mode: Mode = "standard") -> Verdict:
    """Check the artifact in ``folder`` against its record.

    Args:
      folder: the artifact; it must exist.
      seal: where the seal of a large artifact is kept; written only by this function, and only as
        far as permissions allow.
      key: the key's digest that it must have, if the caller knows.
      mode: "standard" trusts the seal of a large artifact but for a tenth; "full" reads it all.

    Returns:
      The record and no faults, or the faults: changed, missing and extra files, a record that
      cannot be trusted. Nothing is moved or repaired.

    Raises:
      OSError: reading failed for a reason that says nothing of the artifact, such as permission.

    Example:
      >>> import tempfile
      >>> examine(Path(tempfile.mkdtemp()), Path("none.json")).faults
      ['record.json cannot be read: No such file or directory']
    """
    try:
        record = read_record(folder)
    except BadRecordError as error:
        return Verdict(None, [str(error)])
    if key is not None and record["key"]["digest"] != key:
        return Verdict(record, [f"{RECORD_NAME} is that of another key, {record['key']['digest']}"])
    outputs = record["outputs"]
    try:
        faults = _names_and_sizes(folder, outputs) or _bytes(folder, outputs, seal, mode)
    except OSError as error:
        if not means_damage(error):
            raise
        faults = [f"{error.filename or folder} cannot be read: {error.strerror}"]
    return Verdict(record, faults)


def read_chunks(folder: Path, name: str, outputs: Mapping[str, Any]) -> Iterator[bytes]:
    """Read an output from start to end, each chunk checked before it is handed on.

    This is how a stage takes in a file too large to have been checked whole at the hit.

    Args:
      folder: the artifact's folder.
      name: name of the output.
      outputs: ``record["outputs"]`` of the artifact.

    Yields:
      The bytes of the file, 64 MiB at a time at most.

    Raises:
      OSError: a chunk does not have its digest.
    """
    with open(folder / name, "rb") as file:
        for chunk in _chunks_of(name, outputs[name]):
            content = file.read(chunk.n_bytes)
            if hashlib.sha256(content).hexdigest() != chunk.sha256:
                raise OSError(None, _CHANGED_CHUNK.format(**chunk._asdict()), str(folder / name))
            yield content


_CHANGED_CHUNK = "{name} changed in the {n_bytes} bytes from {offset}"


def _names_and_sizes(folder: Path, outputs: Mapping[str, Any]) -> list[str]:
    """Faults that can be seen without reading a file."""
    faults, found = [], set()
    folders = {parent.as_posix() for name in outputs for parent in Path(name).parents}
    for entry in walk(folder):
        name = Path(entry.path).relative_to(folder).as_posix()
        if entry.is_dir(follow_symlinks=False):
            if name not in folders:
                faults.append(f"{name}/ is extra: the record does not name it")
        elif name != RECORD_NAME:
            found.add(name)
            faults += _shape_faults(name, entry, outputs.get(name))
    faults += [f"{name} is missing" for name in outputs if name not in found]
    return faults


def _shape_faults(
    name: str, entry: os.DirEntry[str], output: Mapping[str, Any] | None
) -> list[str]:
    """Faults of one entry's kind and size."""
    if output is None:
        return [f"{name} is extra: the record does not name it"]
    if not entry.is_file(follow_symlinks=False):
        return [f"{name} is not a plain file any more"]
    size = entry.stat(follow_symlinks=False).st_size
    if size != output["bytes"]:
        return [f"{name} has {size} bytes; the record says {output['bytes']}"]
    return []


def _bytes(folder: Path, outputs: Mapping[str, Any], seal: Path, mode: Mode) -> list[str]:
    """Faults of content; reads all of a small artifact, a tenth of a sealed large one."""
    if sum(output["bytes"] for output in outputs.values()) < FULL_BELOW_BYTES:
        return _changed_files(folder, outputs)
    current = {name: _kernel_view(folder / name) for name in outputs}
    kept = _read_seal(seal)
    if mode == "full" or kept.get("files") != current:
        faults = _changed_files(folder, outputs)
        turn = 0
    else:
        turn = kept["turn"]
        faults = _changed_chunks(folder, outputs, turn)
    if not faults:
        _write_seal(seal, {"files": current, "turn": (turn + 1) % N_TURNS})
    return faults


def _changed_files(folder: Path, outputs: Mapping[str, Any]) -> list[str]:
    """Files whose bytes do not have their digest."""
    faults = []
    for name, output in outputs.items():
        found = file_sha256(folder / name)
        if found != output["sha256"]:
            faults.append(f"{name} changed: sha256 is {found[:16]}…, not {output['sha256'][:16]}…")
    return faults


def _changed_chunks(folder: Path, outputs: Mapping[str, Any], turn: int) -> list[str]:
    """Chunks of this turn's tenth that do not have their digest."""
    chunks = [chunk for name in sorted(outputs) for chunk in _chunks_of(name, outputs[name])]
    faults = []
    for chunk in chunks[turn::N_TURNS]:
        with open(folder / chunk.name, "rb") as file:
            file.seek(chunk.offset)
            content = file.read(chunk.n_bytes)
        if hashlib.sha256(content).hexdigest() != chunk.sha256:
            faults.append(_CHANGED_CHUNK.format(**chunk._asdict()))
    return faults


def _chunks_of(name: str, output: Mapping[str, Any]) -> Iterator[_Chunk]:
    """The chunks of one file; a small file is one."""
    size, step = output["bytes"], output.get("chunk_bytes", output["bytes"])
    for i, digest in enumerate(output.get("chunks", [output["sha256"]])):
        yield _Chunk(name, i * step, min(step, size - i * step), digest)


def _kernel_view(path: Path) -> list[int]:
    """What the kernel says of a file; any write to it changes ctime."""
    status = path.stat()
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _read_seal(seal: Path) -> dict[str, Any]:
    """The seal, or nothing when there is none that makes sense."""
    try:
        kept = json.loads(seal.read_bytes())
        return kept if kept["turn"] in range(N_TURNS) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write_seal(seal: Path, content: dict[str, Any]) -> None:
    """Keep a seal; a store that we may only read is read whole each time instead."""
    with suppress(OSError, InputError), new_file(seal) as file:
        file.write(json.dumps(content).encode())
