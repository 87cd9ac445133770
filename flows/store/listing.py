"""What is in the store: every artifact, its faults, and where its inputs came from."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from flows.store.layout import Layout
from flows.store.record import Artifact, BadRecordError, artifact_of, read_record
from flows.store.verify import examine


def artifacts(root: Path, stage: str | None = None) -> Iterator[Artifact]:
    """List what is in the store, without reading more than the records.

    Args:
      root: the artifacts folder; it need not exist.
      stage: list only this stage's.

    Yields:
      Artifacts by stage and key. One whose record cannot be trusted comes with an empty record and
      an empty digest, and its folder's name as the key; :func:`check` says what is wrong.

    Example:
      >>> list(artifacts(Path("no such folder")))
      []
    """
    store = Layout(Path(root)).store
    for stage_dir in _folders(store) if stage is None else [store / stage]:
        for folder in _folders(stage_dir):
            try:
                yield artifact_of(folder, read_record(folder))
            except (BadRecordError, OSError):
                yield Artifact(stage_dir.name, folder.name, folder, "", {})


def check(artifact: Artifact, full: bool = True) -> list[str]:
    """Check one artifact against its record; nothing is moved.

    Args:
      artifact: one of :func:`artifacts`.
      full: read every byte; False checks as a hit would.

    Returns:
      Its faults in plain words; empty when it is what its record says.

    Example:
      >>> [check(artifact) for artifact in artifacts(Path("no such folder"))]
      []
    """
    root = artifact.path.parent.parent.parent
    seal = Layout(root).seal(artifact.stage, artifact.key)
    try:
        verdict = examine(artifact.path, seal, mode="full" if full else "standard")
    except OSError as error:
        return [f"{error.filename} cannot be read: {error.strerror}"]
    faults = list(verdict.faults)
    if verdict.record and verdict.record["key"]["digest"][:16] != artifact.path.name:
        faults.append(f"it lies in a folder named {artifact.path.name}, which is not its key")
    return faults


def lineage(root: Path) -> dict[str, Artifact]:
    """Map each content digest to the artifact that has it.

    Where several have the same (other settings or code that made no difference), the one finished
    last stands for them.

    Args:
      root: the artifacts folder.

    Returns:
      Content digest to artifact; look up the values of ``artifact.record["key"]["inputs"]``.

    Example:
      >>> lineage(Path("no such folder"))
      {}
    """
    known = [artifact for artifact in artifacts(root) if artifact.record]
    known.sort(key=lambda artifact: (artifact.record["finished"], artifact.key))
    return {artifact.digest: artifact for artifact in known}


def parents(artifact: Artifact, by_digest: Mapping[str, Artifact]) -> dict[str, Artifact | None]:
    """The inputs of an artifact by name; None for one that is no longer in the store.

    Example:
      >>> parents(Artifact("demo", "0" * 64, Path(), "", {}), {})
      {}
    """
    inputs = artifact.record.get("key", {}).get("inputs", {})
    return {name: by_digest.get(digest) for name, digest in inputs.items()}


def _folders(folder: Path) -> list[Path]:
    """Folders inside a folder, by name; none when it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir())
