"""The report in a terminal: samples, texts, result table, and where everything is."""

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from flows.progress.terminal import short_path
from flows.report.page import note_of
from flows.report.report import Report


def show(report: Report, console: Console) -> None:
    """Print a finished run."""
    width = min(100, console.width)
    for sample in report.samples:
        title = f"sample, seed {sample['seed']}{note_of(sample)}"
        shown = Panel(Text(sample["text"]), title=title, title_align="left", width=width)
        console.print(shown, soft_wrap=False)
    texts = Table(box=box.SIMPLE_HEAD, title="the texts as tokens", title_justify="left")
    texts.add_column("measure")
    texts.add_column("training text", justify="right")
    texts.add_column("validation text", justify="right")
    for figure in report.tokens:
        texts.add_row(*map(Text, figure))
    console.print(texts)
    table = Table(box=box.SIMPLE_HEAD, title=report.name, title_justify="left")
    table.add_column("measure")
    table.add_column("value", justify="right")
    table.add_column("unit")
    for measurement in report.measurements:
        table.add_row(measurement.name, measurement.text, measurement.unit)
    console.print(table)
    for remark in report.remarks:
        console.print(Text(f"  {remark}"))
    console.print()
    rows = {"run": report.folder, "loss curve": report.curve, **report.artifacts}
    for name, path in rows.items():
        console.print(Text(f"  {name:<12} {short_path(path)}"))
