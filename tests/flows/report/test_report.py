"""What a finished run shows: gathered once, written once, the same on a page and a terminal."""

import doctest
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from flows.config import RunConfig
from flows.report import charts, tokens
from flows.report.charts import draw_loss
from flows.report.collect import collect
from flows.report.page import page, result_table, samples
from flows.report.report import Report
from flows.report.text import show
from flows.report.tokens import TokenFigure
from flows.store import key
from flows.store.listing import artifacts as stored
from lmcore.evaluation.tally import Measurement
from tests.flows.tiny_run import STAGES, Finished

REPORT = Report(
    name="my-run",
    folder=Path("/nowhere/runs/my-run"),
    measurements=(
        Measurement("validation loss", 1.23456, "nats/token", "lower"),
        Measurement("tokens scored", 12_345, "tokens"),
    ),
    samples=(
        {"seed": 0, "text": "Once.\n\nThe end.", "note": "true to the grammar"},
        {"seed": 1, "text": "", "note": ""},
    ),
    remarks=("a remark",),
    curve=Path("/nowhere/runs/my-run/loss.png"),
    artifacts={"pretrain": Path("/nowhere/store/pretrain/ab")},
    tokens=(TokenFigure("tokens", "12,345", "678"), TokenFigure("longest token", "' |`*'", "")),
)


@pytest.fixture
def report(finished: Finished, tmp_path: Path) -> Report:
    """The report of the tiny run, written into a folder of its own."""
    return gathered(finished, tmp_path)


def gathered(finished: Finished, folder: Path) -> Report:
    found = {artifact.stage: artifact for artifact in stored(finished.artifacts)}
    return collect("quickstart", RunConfig(), folder, found)


def test_report_is_the_evaluations(report: Report, finished: Finished) -> None:
    """Table, samples and remarks are those that the evaluation wrote."""
    folder = finished.artifact("evaluate")
    result = json.loads((folder / "evaluation.json").read_text())
    figures = {m.name: m.value for m in report.measurements}
    assert figures["validation loss"] == result["loss"]
    assert figures["bits per byte"] == result["bits_per_byte"]
    assert list(report.samples) == json.loads((folder / "samples.json").read_text("utf-8"))
    assert set(report.artifacts) == set(STAGES)


def test_texts_are_those_of_the_tokens(report: Report, finished: Finished) -> None:
    """The table of the texts has the stage's facts: both texts, and the vocabulary of the first."""
    facts = finished.record("pretokenize")["facts"]
    figures = {name: (train, valid) for name, train, valid in report.tokens}
    assert figures["tokens"] == tuple(f"{facts[s]['tokens']:,}" for s in ("train", "valid"))
    assert figures["documents"] == ("60", "6")
    assert figures["longest token"][0].startswith(repr(facts["longest_token"]))
    assert figures["vocabulary used"] == (f"{facts['vocabulary_used']:.1%} of 300", "")
    seen = finished.record("pretrain")["facts"]["tokens"] / (facts["train"]["tokens"] + 60)
    assert figures["times seen in training"] == (f"{seen:,.2f}", "")


def test_examples() -> None:
    """The examples in the docstrings give what stands under them."""
    assert doctest.testmod(tokens).failed == 0


def test_report_is_written_once(
    report: Report, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gathered again nothing is drawn; a lost picture or page, or another model, is drawn."""
    drawn = counted(monkeypatch)
    gathered(finished, report.folder)
    assert drawn == []
    report.curve.unlink()
    gathered(finished, report.folder)
    assert drawn == [1]
    (report.folder / ".report").write_text("another model")
    gathered(finished, report.folder)
    assert drawn == [1, 1]
    (report.folder / "report.md").unlink()
    gathered(finished, report.folder)
    assert drawn == [1, 1, 1]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A 1 for each time that a curve is drawn, in a hurry, from now on."""
    drawn: list[int] = []

    def draw(records, path: Path, result) -> None:
        drawn.append(1)
        path.write_bytes(b"")

    monkeypatch.setattr("flows.report.collect.draw_loss", draw)
    return drawn


@pytest.mark.parametrize("module", ["collect", "charts", "page"])
def test_report_follows_its_code(
    report: Report, finished: Finished, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    """When the code of the curve or of the page changes, both are made again, once."""
    drawn, real = counted(monkeypatch), key.import_closure
    edited = {f"flows.report.{module}": "0" * 64}
    monkeypatch.setattr(key, "import_closure", lambda entries: real(entries) | edited)
    monkeypatch.setattr("flows.report.collect.stale_modules", lambda digests: [])
    for _ in range(2):
        gathered(finished, report.folder)
    assert drawn == [1]


def test_report_of_old_code_does_not_last(
    report: Report, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that loaded the code before an edit leaves a report that is made again."""
    drawn = counted(monkeypatch)
    with monkeypatch.context() as edit:
        edit.setattr("flows.report.collect.stale_modules", lambda digests: ["flows.report.page"])
        for _ in range(2):
            gathered(finished, report.folder)
    for _ in range(2):
        gathered(finished, report.folder)
    assert drawn == [1, 1, 1]


def test_page_follows_the_artifacts(report: Report, finished: Finished) -> None:
    """An artifact at another place, with the same content, is another line of the page."""
    found = {artifact.stage: artifact for artifact in stored(finished.artifacts)}
    found["tokenizer"] = replace(found["tokenizer"], path=finished.artifacts / "elsewhere")
    collect("quickstart", RunConfig(), report.folder, found)
    assert f"`{finished.artifacts / 'elsewhere'}`" in (report.folder / "report.md").read_text()


def test_page_holds_everything() -> None:
    """The page has the table, the remarks, the curve, each sample with its seed, each place."""
    text = page(REPORT, RunConfig())
    assert text.startswith("# my-run\n\n")
    assert "| validation loss | 1.2346 | nats/token |" in text
    assert "| tokens scored | 12,345 | tokens |" in text
    assert "- a remark" in text
    assert "| tokens | 12,345 | 678 |" in text
    assert r"| longest token | ' \|\`\*' |  |" in text
    assert "![loss over tokens](loss.png)" in text
    assert "- pretrain: `/nowhere/store/pretrain/ab`" in text
    assert "ModelConfig(" in text


def test_samples_are_quoted_line_by_line() -> None:
    """Every line of a sample is a quotation, an empty sample too."""
    assert samples(REPORT) == (
        "seed 0, true to the grammar\n\n> Once.\n> \n> The end.\n\nseed 1\n\n> "
    )
    assert samples(replace(REPORT, samples=())) == ""


def test_table_is_markdown() -> None:
    """The table has a head, and a row a measurement."""
    assert result_table(REPORT).splitlines()[:2] == [
        "| measure | value | unit |",
        "|---|---:|---|",
    ]


def test_terminal_shows_the_same() -> None:
    """In a terminal too: samples, texts, table, remarks, and where everything is."""
    file = io.StringIO()
    show(REPORT, Console(file=file, width=100, force_terminal=False))
    text = file.getvalue()
    for words in (
        "sample, seed 0, true to the grammar",
        "Once.",
        "' |`*'",
        "validation loss",
        "1.2346",
    ):
        assert words in text
    assert "a remark" in text
    assert "/nowhere/store/pretrain/ab" in text


RECORDS = [
    {"kind": "train", "step": 1, "tokens": 100, "loss": 5.0},
    {"kind": "validation", "step": 3, "loss": 4.5},
    {"kind": "train", "step": 10, "tokens": 1000, "loss": None},
    {"kind": "train", "step": 20, "tokens": 2000, "loss": 3.0},
    {"kind": "validation", "step": 20, "loss": 3.2},
]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[list, list]]:
    """The curves that are drawn, by label."""
    from matplotlib.axes import Axes

    drawn: dict[str, tuple[list, list]] = {}
    plot, level = Axes.plot, Axes.axhline

    def seen_plot(self, x, y, *args, **kwargs):
        drawn[kwargs["label"]] = (list(x), list(y))
        return plot(self, x, y, *args, **kwargs)

    def seen_level(self, y, **kwargs):
        drawn[kwargs["label"]] = ([], [y])
        return level(self, y, **kwargs)

    monkeypatch.setattr(Axes, "plot", seen_plot)
    monkeypatch.setattr(Axes, "axhline", seen_level)
    return drawn


def test_curve_has_every_measurement(tmp_path: Path, lines: dict) -> None:
    """Every finite loss is drawn over the tokens seen, also where its step was not logged."""
    draw_loss(RECORDS, tmp_path / "loss.png", {"floor_nats_per_token": 0.5})
    assert lines == {
        "train": ([100, 2000], [5.0, 3.0]),
        "valid": ([300, 2000], [4.5, 3.2]),
        "entropy of the corpus": ([], [0.5]),
    }
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["loss.png"]


def test_unknown_entropy_is_not_drawn(tmp_path: Path, lines: dict) -> None:
    """A corpus whose entropy nobody knows has no floor."""
    draw_loss(RECORDS, tmp_path / "loss.png", {})
    assert set(lines) == {"train", "valid"}


def test_empty_log_is_drawn(tmp_path: Path) -> None:
    """A run that was too short to log anything still gets a picture."""
    draw_loss([], tmp_path / "loss.png", {})
    assert (tmp_path / "loss.png").exists()


def test_same_run_same_picture(finished: Finished, tmp_path: Path) -> None:
    """The picture's bytes depend on the log alone."""
    for name in ("a.png", "b.png"):
        charts.draw_loss(RECORDS, tmp_path / name, {})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    shutil.rmtree(tmp_path)
