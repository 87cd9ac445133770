"""The runs that there are: found by name, by the beginning of a name, or as the latest."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.config import is_plain_name
from lmcore.errors import InputError

STAGE_NAMES = ("download", "tokenizer", "pretokenize", "pretrain", "evaluate")


@dataclass(frozen=True)
class RunFolder:
    """A run as it lies on disk.

    Attributes:
      path: its folder.
      description: the parsed ``run.json``.
    """

    path: Path
    description: dict[str, Any]

    @property
    def name(self) -> str:
        return self.path.name

    def artifact(self, stage: str) -> Path:
        """The folder of a stage's artifact.

        Raises:
          InputError: the run has not come so far, or the artifact is gone.
        """
        link = self.path / stage
        if not link.exists():
            raise InputError(
                f"the run {self.name} has no {stage} artifact: run it (again) with "
                f"`lmcore run {self.description.get('preset', '')}` and its settings"
            )
        return link.resolve()

    def evaluation(self) -> dict[str, Any]:
        """The evaluation's facts; empty where the run has none."""
        path = self.path / "evaluate" / "evaluation.json"
        return json.loads(path.read_text()) if path.exists() else {}


def all_runs(artifacts: Path) -> list[RunFolder]:
    """Every run below an artifacts folder, the oldest first."""
    found = []
    for path in (artifacts / "runs").glob("*/run.json"):
        try:
            found.append((path.stat().st_mtime_ns, RunFolder(path.parent, read(path))))
        except (OSError, ValueError):
            continue
    return [run for _, run in sorted(found, key=lambda pair: pair[0])]


def read(path: Path) -> dict[str, Any]:
    """A ``run.json``; one that is no JSON object counts as none."""
    value = json.loads(path.read_text())
    if not isinstance(value, dict):
        raise ValueError(f"{path} is no JSON object")
    return value


def find_run(artifacts: Path, name: str) -> RunFolder:
    """The run of that name, or whose name alone begins so; ``latest`` is the one touched last.

    Raises:
      InputError: there is none, or there are several.
    """
    runs = all_runs(artifacts)
    if not runs:
        raise InputError(f"there is no run below {artifacts}: make one with `lmcore run`")
    if name == "latest":
        return runs[-1]
    if not is_plain_name(name):
        raise InputError(f"--run is {name!r}: it must be the name of a run, not a path")
    exact = [run for run in runs if run.name == name]
    matching = exact or [run for run in runs if run.name.startswith(name)]
    if len(matching) == 1:
        return matching[0]
    listed = ", ".join(run.name for run in matching or runs)
    fault = "several runs begin with" if matching else "there is no run"
    raise InputError(f"{fault} {name!r}: take one of {listed}")
