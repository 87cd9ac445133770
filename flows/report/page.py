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
    """The result table, remarks, curve, samples and artifacts, in Markdown."""
    sections = [
        f"# {report.name}",
        result_table(report),
        "\n".join(f"- {remark}" for remark in report.remarks),
        f"![loss over tokens]({report.curve.name})",
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
