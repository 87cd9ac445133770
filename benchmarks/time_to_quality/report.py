"""The figures as text."""

from collections.abc import Mapping, Sequence
from statistics import mean

from benchmarks.time_to_quality.sides import Result

Rows = Mapping[str, Sequence[Result]]


def report(
    corpus: str, rows: Rows, others: Sequence[tuple[str, Result]], seconds: float, threads: int
) -> str:
    """What came out on one corpus, the recipe's row first, then ours for a third and for all.

    Args:
      corpus: its name.
      rows: by name, a result for each seed.
      others: what the recipe gave otherwise, with one seed.
      seconds: of the whole time.
      threads: of each run.
    """
    (_, theirs), (_, third), (_, whole) = rows.items()
    bar, sooner, final = (mean(r.report for r in row) for row in (theirs, third, whole))
    verdict = "reached" if sooner <= bar else "not reached"
    lines = [
        *heading(corpus, theirs[0], threads),
        *table(rows, "report"),
        f"the recipe's {bar:.4f} in a third of its time: {verdict} ({sooner:.4f})",
        f"in its whole time, {seconds:.0f} s: {final - bar:+.4f}, {final / bar - 1:+.1%}",
    ]
    if others:
        lines += ["", "the recipe otherwise, seed 0, on the half of the text that chooses"]
        lines += table({name: [result] for name, result in others}, "tune")
    return "\n".join(lines)


def tried_report(corpus: str, rows: Rows, threads: int) -> str:
    """What each change gave, on the half of the text that chooses; the first row is unchanged."""
    first = next(iter(rows.values()))
    return "\n".join([*heading(corpus, first[0], threads), *table(rows, "tune", relative=True)])


def heading(corpus: str, result: Result, threads: int) -> list[str]:
    """The corpus, the machine and the versions."""
    facts = result.facts
    return [
        corpus,
        f"{facts['device']}, {threads} thread(s), Python {facts['python']}, torch {facts['torch']}",
    ]


def table(rows: Rows, part: str, *, relative: bool = False) -> list[str]:
    """A line for each row: bits a byte of a part, its spread over the seeds, and the work done.

    Example:
      >>> print(*table({"a": [Result(10, 1.0, 2.0, 1.5, 1.6)]}, "report"), sep="\\n")
          bits a byte (least-most)  steps  seconds  epochs
      a     1.6000 (1.6000-1.6000)     10        1     2.0
    """
    width = max(map(len, rows))
    found = [f"{'':{width}}{'bits a byte (least-most)':>28}  steps  seconds  epochs"]
    first = 0.0
    for name, results in rows.items():
        scores = [getattr(result, part) for result in results]
        first = first or mean(scores)
        spread = f"{mean(scores):.4f} ({min(scores):.4f}-{max(scores):.4f})"
        found.append(
            f"{name:{width}}{spread:>28}{mean(r.steps for r in results):>7,.0f}"
            f"{mean(r.seconds for r in results):>9.0f}{mean(r.epochs for r in results):>8.1f}"
            + (f"{mean(scores) - first:>+10.4f}" if relative else "")
        )
    return found
