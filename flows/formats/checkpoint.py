"""Checkpoints: tensors in safetensors, the rest in JSON, whole or absent, checked when loaded.

A checkpoint is the folder ``step-000000042`` with two files: ``tensors.safetensors``, and
``manifest.json``, written last, which holds the step, the caller's values, the score, and size and
SHA-256 of the tensors. Nothing is ever unpickled. The same state gives the same bytes, which is
why the tensor file carries no metadata: two or more keys are not written in a fixed order.
safetensors does not sync what it writes, so that is done here.
"""

import json
import math
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.disk.atomic import file_sha256, new_folder, sweep
from flows.formats.tensor_digest import resting
from lmcore.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 1
TENSORS, MANIFEST = "tensors.safetensors", "manifest.json"
STEP_FOLDER = re.compile(r"step-(\d{9,})")


@dataclass(frozen=True)
class CheckpointRecord:
    """What a checkpoint's manifest says; its tensors are not read.

    Attributes:
      path: the folder.
      step: the training step after which it was taken.
      meta: the caller's JSON values.
      score: smaller is better (a validation loss), or None.
      n_bytes: size of the tensors' file.
      sha256: of the tensors' file.
    """

    path: Path
    step: int
    meta: dict[str, Any]
    score: float | None
    n_bytes: int
    sha256: str


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was loaded and checked.

    Attributes:
      record: its manifest.
      tensors: by name, on the CPU.
    """

    record: CheckpointRecord
    tensors: "dict[str, Tensor]"


def save(
    folder: Path,
    step: int,
    tensors: "Mapping[str, Tensor]",
    meta: Mapping[str, Any],
    *,
    score: float | None = None,
) -> CheckpointRecord:
    """Write a checkpoint so that it is on the disk, whole, when this returns.

    A checkpoint of the same step that is there already is replaced. Only one process may write
    to a folder (the run's lock sees to that).

    Args:
      folder: holds the run's checkpoints; made when absent.
      step: counts from 0.
      tensors: by name, any device and dtype; shared or strided memory is written out plainly.
      meta: JSON values: strings, finite numbers, booleans, None, lists, mappings. Floats come
        back to the last bit.
      score: a validation loss, so that :func:`prune` can keep the best; smaller is better, and
        one that is not finite counts as none.

    Returns:
      What was written.

    Raises:
      InputError: no room, or not writable.
      ValueError, TypeError: ``meta`` is not finite JSON.

    Example:
      >>> record = save(Path("checkpoints"), 42, {"w": torch.ones(2)}, {"tokens": 512}, score=1.5)
      >>> record.path.name
      'step-000000042'
    """
    path = folder / folder_name(step)
    score = score if score is not None and math.isfinite(score) else None
    said = {"format": FORMAT_VERSION, "step": step, "meta": dict(meta), "score": score}
    json.dumps(said, allow_nan=False)  # before any work: what cannot be written is refused
    if folder.is_dir():
        sweep(folder)
    while True:
        try:
            with new_folder(path) as temporary:
                write(temporary, tensors, said)
        except FileExistsError:
            discard(path)
        else:
            return read_record(path)


def write(folder: Path, tensors: "Mapping[str, Tensor]", said: dict[str, Any]) -> None:
    """The two files; the manifest last."""
    from safetensors.torch import save_file

    file = folder / TENSORS
    save_file(unshared({name: resting(tensor) for name, tensor in tensors.items()}), file)
    facts = {"bytes": file.stat().st_size, "sha256": file_sha256(file)}
    text = json.dumps(said | facts, indent=2, sort_keys=True, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def unshared(tensors: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """Copy what lies in memory that an earlier name has (a tied head): safetensors refuses it."""
    seen: set[int] = set()
    plain = {}
    for name, tensor in tensors.items():
        plain[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return plain


def discard(path: Path) -> None:
    """Remove a checkpoint: renamed first, so that half a one never bears the name."""
    doomed = path.with_name(f".tmp-doomed-{path.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    path.rename(doomed)
    shutil.rmtree(doomed)


def load(path: Path) -> Checkpoint:
    """Load one checkpoint and check every byte.

    Args:
      path: the folder of the checkpoint, ``.../step-000000042``.

    Raises:
      InputError: a file is missing, damaged, or not a checkpoint.

    Example:
      >>> load(record.path).tensors["w"]
      tensor([1., 1.])
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    record = read_record(path)
    file = path / TENSORS
    try:
        size, sha256 = file.stat().st_size, file_sha256(file)
        if (size, sha256) != (record.n_bytes, record.sha256):
            raise InputError(
                f"checkpoint {path} is damaged: its tensors have {size:,} bytes and SHA-256 "
                f"{sha256[:16]}, expected {record.n_bytes:,} and {record.sha256[:16]}"
            )
        return Checkpoint(record, load_file(file))
    except (OSError, SafetensorError) as error:
        raise InputError(f"checkpoint {path} cannot be read ({error})") from error


def read_record(path: Path) -> CheckpointRecord:
    """A checkpoint's manifest; the tensors are not read.

    Raises:
      InputError: the manifest is missing, damaged, or of another format or step.
    """
    try:
        facts = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if facts["format"] != FORMAT_VERSION or path.name != folder_name(facts["step"]):
            raise ValueError("of another format or step")
        values = (facts[name] for name in ("step", "meta", "score", "bytes", "sha256"))
        return CheckpointRecord(path, *values)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"checkpoint {path} has no sound {MANIFEST} ({error!r})") from error


def load_latest(folder: Path, on_skip: Callable[[str], None]) -> Checkpoint | None:
    """Load the last sound checkpoint; each later one that is not sound is reported and passed by.

    Args:
      folder: holds the run's checkpoints; it need not exist.
      on_skip: told, in a sentence, of every checkpoint that is passed by. Never silent: the
        steps since the older one are computed again.

    Returns:
      The checkpoint, or None when there is none.

    Example:
      >>> load_latest(Path("checkpoints"), on_skip=print).record.step
      42
    """
    for path in reversed(step_folders(folder)):
        try:
            return load(path)
        except InputError as error:
            on_skip(f"{error}; it is passed by, an older one is tried")
    return None


def list_records(
    folder: Path, on_skip: Callable[[str], None] | None = None
) -> list[CheckpointRecord]:
    """The manifests of all checkpoints that have one, by step; tensors are not read."""
    records = []
    for path in step_folders(folder):
        try:
            records.append(read_record(path))
        except InputError as error:
            if on_skip:
                on_skip(str(error))
    return records


def best_first(records: list[CheckpointRecord]) -> list[CheckpointRecord]:
    """Those with a score, the smallest first; of equal ones the earlier step.

    Example:
      >>> best_first([record])[0].score
      1.5
    """
    scored = [record for record in records if record.score is not None]
    return sorted(scored, key=lambda record: (record.score, record.step))


def prune(
    folder: Path, keep_last: int, keep_best: int, keep_steps: Collection[int] = ()
) -> list[int]:
    """Delete checkpoints but the last and the best; unsound ones older than the last go too.

    Args:
      folder: holds the run's checkpoints.
      keep_last: how many of the highest steps stay, at least 1.
      keep_best: how many of the smallest scores stay besides; 0 or more.
      keep_steps: steps whose checkpoints stay whatever else is there.

    Returns:
      The steps that were deleted.

    Example:
      >>> prune(Path("checkpoints"), keep_last=1, keep_best=1)
      []
    """
    if keep_last < 1 or keep_best < 0:
        raise ValueError(f"keep_last is {keep_last} (at least 1), keep_best {keep_best} (or more)")
    records = list_records(folder)
    kept = {record.path for record in [*records[-keep_last:], *best_first(records)[:keep_best]]}
    newest = records[-1].step if records else 0
    old = {path for path in step_folders(folder) if step_of(path) < newest}
    return discard_all({path for path in old - kept if step_of(path) not in keep_steps})


def discard_after(folder: Path, step: int) -> list[int]:
    """Delete the checkpoints of later steps: a run that goes back has not taken them.

    Returns:
      The steps that were deleted.

    Example:
      >>> discard_after(Path("checkpoints"), step=42)
      []
    """
    return discard_all({path for path in step_folders(folder) if step_of(path) > step})


def discard_all(paths: Iterable[Path]) -> list[int]:
    """Delete checkpoints; return their steps, in order."""
    doomed = sorted(paths, key=step_of)
    for path in doomed:
        discard(path)
    return [step_of(path) for path in doomed]


def step_folders(folder: Path) -> list[Path]:
    """The checkpoints' folders, by step, sound or not."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if STEP_FOLDER.fullmatch(path.name)]
    return sorted(found, key=step_of)


def folder_name(step: int) -> str:
    """The name of a checkpoint's folder."""
    return f"step-{step:09d}"


def step_of(path: Path) -> int:
    """The step in a checkpoint folder's name."""
    return int(path.name.removeprefix("step-"))
