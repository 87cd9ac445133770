"""Gathering the report of a run, and drawing its curve and page where they are out of date."""

import json
from collections.abc import Mapping
from pathlib import Path

from flows.config import RunConfig
from flows.formats import metrics_log
from flows.report.charts import draw_loss
from flows.report.page import write_page
from flows.report.report import Report
from flows.report.tokens import token_table
from flows.store.code_digest import stale_modules
from flows.store.key import Request, make_key
from flows.store.record import Artifact
from lmcore.evaluation.tally import Measurement

STAMP = ".report"


def collect(
    preset: str, config: RunConfig, folder: Path, artifacts: Mapping[str, Artifact]
) -> Report:
    """Gather the report of a run, and write the curve and the page unless they are up to date."""
    from flows.stages.evaluate import RESULT, SAMPLES

    evaluation = artifacts["evaluate"].path
    result = json.loads((evaluation / RESULT).read_text())
    samples = json.loads((evaluation / SAMPLES).read_text("utf-8"))
    measurements = tuple(Measurement(**row) for row in result["measurements"])
    report = Report(
        name=folder.name,
        folder=folder,
        measurements=measurements,
        samples=tuple(samples),
        remarks=tuple(result["remarks"]),
        curve=folder / "loss.png",
        artifacts={stage: artifact.path for stage, artifact in artifacts.items()},
        tokens=token_table(artifacts["pretokenize"].facts, artifacts["pretrain"].facts["tokens"]),
    )
    page, stamp, made_from = folder / "report.md", folder / STAMP, origin(report, config, artifacts)
    written = report.curve.exists() and page.exists() and stamp.exists()
    if not (written and made_from and stamp.read_text() == made_from):
        records = metrics_log.read(artifacts["pretrain"].path / "metrics.jsonl")
        draw_loss(records, report.curve, result)
        write_page(report, config, page)
        stamp.write_text(made_from)
    return report


def origin(report: Report, config: RunConfig, artifacts: Mapping[str, Artifact]) -> str:
    """A digest of all that the curve and the page are made of, the code that draws them too.

    Empty when that code was edited after this process loaded it: what is drawn then is drawn again
    by the next run.
    """
    shown = {
        "name": report.name,
        "model": config.model,
        "training": config.training,
        "artifacts": {stage: str(path) for stage, path in report.artifacts.items()},
    }
    key = make_key(Request("report", shown, artifacts, code=("flows.report.collect",)))
    return "" if stale_modules(key.code) else key.digest
