"""The report of a run as a value: what every place that shows a run needs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.config import RunConfig
from flows.formats import metrics_log
from flows.report.charts import draw_loss
from flows.store.record import Artifact
from lmcore.evaluation.tally import Measurement


@dataclass(frozen=True)
class Report:
    """A finished run.

    Attributes:
      name: of the run's folder.
      folder: where it is.
      measurements: the result table.
      samples: texts that the model wrote, with their seeds.
      remarks: sentences about the result.
      curve: the picture of the loss, a PNG file.
      artifacts: stage to folder.
    """

    name: str
    folder: Path
    measurements: tuple[Measurement, ...]
    samples: tuple[Mapping, ...]
    remarks: tuple[str, ...]
    curve: Path
    artifacts: Mapping[str, Path]


def collect(
    preset: str, config: RunConfig, folder: Path, artifacts: Mapping[str, Artifact]
) -> Report:
    """Gather the report of a run, and write what is not there yet: the curve and the page."""
    from flows.report.page import write_page
    from flows.stages.evaluate import RESULT, SAMPLES

    evaluation = artifacts["evaluate"].path
    result = json.loads((evaluation / RESULT).read_text())
    samples = json.loads((evaluation / SAMPLES).read_text("utf-8"))
    measurements = tuple(Measurement(**row) for row in result["measurements"])
    made_from = f"{artifacts['pretrain'].key} {artifacts['evaluate'].key}"
    report = Report(
        name=folder.name,
        folder=folder,
        measurements=measurements,
        samples=tuple(samples),
        remarks=tuple(result["remarks"]),
        curve=folder / "loss.png",
        artifacts={stage: artifact.path for stage, artifact in artifacts.items()},
    )
    stamp = folder / ".report"
    if not (report.curve.exists() and stamp.exists() and stamp.read_text() == made_from):
        records = metrics_log.read(artifacts["pretrain"].path / "metrics.jsonl")
        draw_loss(records, report.curve, result)
        write_page(report, config, folder / "report.md")
        stamp.write_text(made_from)
    return report
