"""Show the runs and artifacts there are: sizes, results, and what each was made from."""

from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from flows.arguments import read_words
from flows.disk.units import size
from flows.runs_folder import STAGE_NAMES, RunFolder, all_runs
from flows.store.listing import artifacts, lineage, parents

LEAST_WIDTH = 104


@dataclass(frozen=True)
class Show:
    """Show the runs and artifacts there are."""

    artifacts: str = "artifacts"
    """Folder of the artifact store and of the runs."""


def main(words: list[str]) -> int:
    options = read_words(Show, words, "lmcore show")
    root = Path(options.artifacts)
    console = Console(highlight=False)
    console.width = max(console.width, LEAST_WIDTH)  # keys cut short are worth nothing
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
    table = Table(box=box.SIMPLE_HEAD, title="artifacts", title_justify="left")
    for name in ("stage", "key", "made (UTC)", "size", "made from", "runs"):
        table.add_column(name, no_wrap=True, justify="right" if name == "size" else "left")
    by_digest = lineage(root)
    users = users_of(runs)
    found = sorted(artifacts(root), key=lambda artifact: order_of(artifact.stage))
    for artifact in found:
        made_from = [
            f"{parent.stage} {parent.key[:8]}"
            for parent in parents(artifact, by_digest).values()
            if parent
        ]
        table.add_row(
            artifact.stage,
            artifact.key[:8],
            str(artifact.record.get("finished", "unreadable"))[:16].replace("T", " "),
            size(artifact.n_bytes),
            "\n".join(made_from) or "-",
            "\n".join(users.get(artifact.key, [])) or "-",
        )
    table.caption = f"{size(sum(a.n_bytes for a in found))} in all, below {root}"
    table.caption_justify = "left"
    return table


def order_of(stage: str) -> int:
    """The place of a stage in the pipeline; what is unknown comes last."""
    return STAGE_NAMES.index(stage) if stage in STAGE_NAMES else len(STAGE_NAMES)


def users_of(runs: list[RunFolder]) -> dict[str, list[str]]:
    """Key of an artifact to the names of the runs that use it."""
    users: dict[str, list[str]] = {}
    for run in runs:
        for made in run.description.get("artifacts", {}).values():
            users.setdefault(made["key"], []).append(run.name)
    return users
