"""The report of a run as a value: what every place that shows a run needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.report.tokens import TokenFigure
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
      tokens: the table of the texts as tokens.
    """

    name: str
    folder: Path
    measurements: tuple[Measurement, ...]
    samples: tuple[Mapping, ...]
    remarks: tuple[str, ...]
    curve: Path
    artifacts: Mapping[str, Path]
    tokens: tuple[TokenFigure, ...]
