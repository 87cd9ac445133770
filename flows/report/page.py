"""The run's page: a Markdown file beside its curve."""

from pathlib import Path

from flows.config import RunConfig
from flows.disk.atomic import new_file
from flows.report.report import Report


def write_page(report: Report, config: RunConfig, path: Path) -> None:
    """Write the page of a run."""
    with new_file(path) as file:
        file.write(page(report, config).encode())


def page(report: Report, config: RunConfig) -> str:
    """The result table, remarks, curve, texts, samples and artifacts, in Markdown."""
    sections = [
        f"# {report.name}",
        result_table(report),
        "\n".join(f"- {remark}" for remark in report.remarks),
        f"![loss over tokens]({report.curve.name})",
        "## The texts as tokens",
        token_table(report),
        "## Samples",
        samples(report),
        "## Artifacts",
        "\n".join(f"- {stage}: `{path}`" for stage, path in report.artifacts.items()),
        "## Settings",
        f"model: `{config.model}`\n\ntraining: `{config.training}`",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def result_table(report: Report) -> str:
    """The measurements as a Markdown table."""
    rows = [f"| {m.name} | {m.text} | {m.unit} |" for m in report.measurements]
    return "\n".join(["| measure | value | unit |", "|---|---:|---|", *rows])


def token_table(report: Report) -> str:
    """The texts as tokens as a Markdown table."""
    rows = [f"| {name} | {cell(train)} | {cell(valid)} |" for name, train, valid in report.tokens]
    return "\n".join(["| measure | training text | validation text |", "|---|---:|---:|", *rows])


def cell(text: str) -> str:
    """Text as it is, in a cell of a table: a token may be made of marks that Markdown knows."""
    return "".join(f"\\{c}" if c in "\\`*_~|<>[]#&$" else c for c in text)


def samples(report: Report) -> str:
    """The samples as quotations, each with its seed."""
    parts = []
    for sample in report.samples:
        quoted = "\n".join(f"> {line}" for line in sample["text"].splitlines() or [""])
        parts.append(f"seed {sample['seed']}{note_of(sample)}\n\n{quoted}")
    return "\n\n".join(parts)


def note_of(sample) -> str:
    """What is known of a sample beside its seed."""
    return f", {sample['note']}" if sample.get("note") else ""
