"""Where the events of a run go: the terminal, and Prefect's pages while it conducts the run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flows.conductor import pages
from flows.progress.events import Event, Notify
from flows.progress.terminal import Terminal
from flows.report.page import samples
from flows.report.report import Report
from flows.report.text import show


@contextmanager
def watching() -> Iterator[Notify]:
    """Events to the terminal and to Prefect's pages; the terminal is left as it was."""
    terminal, prefect = Terminal(), Pages()

    def notify(event: Event) -> None:
        terminal(event)
        prefect(event)
        if "report" in event.data:
            show(event.data["report"], terminal.console)

    try:
        yield notify
    finally:
        terminal.close()


class Pages:
    """Prefect's pages of a run: a bar for each stage that tells how far it is, and the report."""

    def __init__(self) -> None:
        self.bars: dict[str, Callable[[float], None]] = {}

    def __call__(self, event: Event) -> None:
        if event.kind == "progress":
            self.progress(event)
        elif event.kind == "built" and event.stage in self.bars:
            self.bars[event.stage](1.0)
        elif "report" in event.data:
            publish_report(event.data["report"])

    def progress(self, event: Event) -> None:
        done, total = event.data.get("done"), event.data.get("total")
        if not total:
            return
        if event.stage not in self.bars:
            self.bars[event.stage] = pages.progress_bar(event.stage, f"stage {event.stage}")
        self.bars[event.stage](min(1.0, done / total))


def publish_report(report: Report) -> None:
    """Result table, loss curve, texts, samples and links."""
    rows = [{"measure": m.name, "value": m.value, "unit": m.unit} for m in report.measurements]
    remarks = "\n".join(f"- {remark}" for remark in report.remarks)
    pages.publish_table(f"{report.name}-result", rows, f"## {report.name}\n\n{remarks}")
    pages.publish_image(f"{report.name}-loss", report.curve, f"loss over tokens of {report.name}")
    texts = [
        {"measure": name, "training text": train, "validation text": valid}
        for name, train, valid in report.tokens
    ]
    pages.publish_table(f"{report.name}-tokens", texts, "the texts as tokens")
    if report.samples:
        pages.publish_markdown(f"{report.name}-samples", samples(report), "what the model wrote")
    listed = "\n".join(f"| {stage} | `{path}` |" for stage, path in report.artifacts.items())
    links = f"| stage | folder |\n|---|---|\n{listed}\n\nrun folder: `{report.folder}`"
    pages.publish_markdown(f"{report.name}-artifacts", links, "where every artifact is")
