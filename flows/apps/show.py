"""Show the runs and artifacts there are: sizes, results, and what each was made from."""

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from flows.progress.terminal import size
from flows.runs_folder import RunFolder, all_runs
from flows.store.listing import artifacts, lineage, parents


@dataclass(frozen=True)
class Show:
    """Show the runs and artifacts there are."""

    artifacts: str = "artifacts"
    """Folder of the artifact store and of the runs."""


def main(words: list[str]) -> int:
    options = tyro.cli(Show, args=words, prog="lmcore show")
    root = Path(options.artifacts)
    console = Console(highlight=False)
    runs = all_runs(root)
    if not runs and not any(artifacts(root)):
        console.print(f"nothing below {root} yet: `lmcore run` makes a first run")
        return 0
    console.print(table_of_runs(runs))
    console.print(table_of_artifacts(root, runs))
    return 0


def table_of_runs(runs: list[RunFolder]) -> Table:
    """A row for each run, with its result."""
    table = Table(
        "run", "preset", "stages", box=box.SIMPLE_HEAD, title="runs", title_justify="left"
    )
    for name in ("loss", "bits per byte"):
        table.add_column(name, justify="right")
    for run in runs:
        result = run.evaluation()
        figures = [f"{result[k]:.4f}" if k in result else "-" for k in ("loss", "bits_per_byte")]
        stages = f"{len(run.description.get('artifacts', {}))} of 5"
        table.add_row(run.name, str(run.description.get("preset", "")), stages, *figures)
    return table


def table_of_artifacts(root: Path, runs: list[RunFolder]) -> Table:
    """A row for each artifact: its size, when it was made, its inputs, the runs that use it."""
    table = Table("artifact", "made", box=box.SIMPLE_HEAD, title="artifacts", title_justify="left")
    table.add_column("size", justify="right")
    table.add_column("made from")
    table.add_column("runs")
    by_digest = lineage(root)
    users = users_of(runs)
    total = 0
    for artifact in artifacts(root):
        total += artifact.n_bytes
        made_from = [
            f"{name} {parent.key[:8]}" if parent else name
            for name, parent in parents(artifact, by_digest).items()
        ]
        finished = str(artifact.record.get("finished", "unreadable"))[:19].replace("T", " ")
        table.add_row(
            f"{artifact.stage} {artifact.key[:8]}",
            finished,
            size(artifact.n_bytes),
            ", ".join(made_from),
            ", ".join(users.get(artifact.key, [])),
        )
    table.caption = f"{size(total)} in all, below {root}"
    table.caption_justify = "left"
    return table


def users_of(runs: list[RunFolder]) -> dict[str, list[str]]:
    """Key of an artifact to the names of the runs that use it."""
    users: dict[str, list[str]] = {}
    for run in runs:
        for made in run.description.get("artifacts", {}).values():
            users.setdefault(made["key"], []).append(run.name)
    return users
