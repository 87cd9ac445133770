"""The comparison in small: texts cut fairly, both sides learn and are scored alike."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.time_to_quality import command, settings
from benchmarks.time_to_quality.runners import Runner, runner
from benchmarks.time_to_quality.settings import OURS, TRIED, variants
from benchmarks.time_to_quality.sides import Attempt, Side, from_json, recipe
from benchmarks.time_to_quality.texts import (
    SEPARATOR,
    documents,
    pieces,
    read_streams,
    split,
    write_streams,
)
from benchmarks.time_to_quality.worker import with_steps
from lmcore.model.config import ModelConfig, faults as model_faults
from lmcore.synthetic.stories import stories
from lmcore.training.config import TrainingConfig, faults as training_faults, n_steps

SMALL = Side(
    "lmcore",
    "lmcore",
    model=ModelConfig(vocab_size=300, context_length=16, d_model=16, n_layers=1, n_heads=2),
    training=TrainingConfig(batch_size=4, max_lr=1e-2, warmup_steps=5, precision="float32"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a corpus under the name of TinyStories."""
    folder = tmp_path_factory.mktemp("data")
    texts = list(stories(seed=0, start=0, count=120))
    join = f"\n{SEPARATOR}\n".join
    (folder / "tinystories_train_2mb.txt").write_text(join(texts[:100]))
    (folder / "tinystories_valid_100kb.txt").write_text(join(texts[100:]))
    return folder


@pytest.fixture(scope="module")
def streams(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus as tokens."""
    path = tmp_path_factory.mktemp("streams") / "streams.npz"
    write_streams(documents(data, "tinystories"), 300, path)
    return path


def test_what_chooses_and_what_reports_are_apart(data: Path):
    """Each validation document is in one of the two halves, and none in the training text."""
    found = documents(data, "tinystories")
    whole = split((data / "tinystories_valid_100kb.txt").read_text())
    assert sorted(found.tune + found.report) == sorted(whole)
    assert abs(len(found.tune) - len(found.report)) <= 1


def test_a_long_document_is_cut_between_paragraphs():
    """Joined again, the pieces are the document; none is much longer than asked for."""
    text = "\n\n".join("word " * n for n in range(40))
    found = pieces(text, characters=300)
    assert "\n\n".join(found) == text
    assert len(found) > 5
    assert all(len(piece) < 300 + 200 for piece in found)


def test_streams_count_the_bytes_of_the_text(data: Path, streams: Path):
    """A document's tokens lie between two end-of-text tokens, its bytes are those of its text."""
    found, texts = read_streams(streams), documents(data, "tinystories")
    for name, part in found.items():
        assert len(part.offsets) == len(part.n_bytes) + 1
        assert (part.tokens[part.offsets] == 0).all()
        assert np.count_nonzero(part.tokens == 0) == len(part.offsets)
        assert part.n_bytes.tolist() == [len(text.encode()) for text in getattr(texts, name)]


@pytest.mark.parametrize("side", [SMALL, recipe(16, 300)], ids=["ours", "recipe"])
def test_both_sides_learn_and_are_scored(side: Side, streams: Path):
    """Before the first step every token is about equally likely; after some, less is needed."""
    torch.set_num_threads(1)
    attempt = with_steps(Attempt(side, str(streams), 1.0, seed=0, threads=1), 60)
    parts = read_streams(streams)
    learner: Runner = runner(attempt, parts)
    at_first = learner.score(parts["report"])
    per_byte = len(parts["report"].tokens) / parts["report"].n_bytes.sum()
    assert at_first == pytest.approx(math.log2(300) * per_byte, rel=0.15)
    for _ in range(60):
        learner.step()
    assert learner.score(parts["report"]) < 0.9 * at_first


def test_the_schedule_ends_with_the_run():
    """The number of steps asked for is that of the training settings, the seed goes with it."""
    for steps in (1, 37):
        training = with_steps(Attempt(SMALL, "", 1.0, seed=7, threads=1), steps).side.training
        assert n_steps(training, SMALL.model.context_length) == steps
        assert training.seed == 7
        assert training_faults(training, SMALL.model.context_length) == []


def test_every_setting_that_was_tried_can_be_trained():
    """Each change changes a corpus's settings, once, and what it gives has no faults."""
    every = [(side, variants(side)) for settings in OURS.values() for side in settings]
    assert set().union(*(found for _, found in every)) == set(TRIED)
    for chosen, found_by_name in every:
        assert found_by_name["as chosen"] == chosen
        sides = list(found_by_name.values())
        assert all(side not in sides[:n] for n, side in enumerate(sides))
        for found in sides:
            assert model_faults(found.model) == []
            assert training_faults(found.training) == []
            assert from_json(Attempt(found, "", 1.0, 0, 1).to_json()).side == found


@pytest.mark.slow
def test_the_command_tells_both_and_writes_the_figures(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """From texts to the table, in processes as in a real run."""
    small = settings.Settings(SMALL, replace(SMALL, name="lmcore, again"))
    monkeypatch.setitem(settings.OURS, "tinystories", small)
    figures = tmp_path / "figures.json"
    words = ["--data", str(data), "--corpus", "tinystories", "--seconds", "0.5", "--seeds", "1"]
    words += ["--threads", "1", "--contexts", "16", "32", "--vocabularies", "300"]
    command.main([*words, "--json", str(figures)])
    printed = capsys.readouterr().out
    for expected in (
        "recipe, context",
        "lmcore, again, 0.5 s",
        "in a third of its time",
        "otherwise",
    ):
        assert expected in printed
    (found,) = json.loads(figures.read_text())
    assert len(found["rows"]) == 3
    assert all(row[0]["steps"] >= 1 for row in found["rows"].values())
    chosen = {name: TRIED[name] for name in ("as chosen", "ReLU²")}
    monkeypatch.setattr(settings, "TRIED", chosen)
    command.main([*words, "--tried"])
    assert "ReLU²" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--seeds", "0"], ["--seconds", "-1"], ["--seconds", "nan"]])
def test_a_number_that_no_run_could_have_is_refused(
    words: list[str], capsys: pytest.CaptureFixture
) -> None:
    """Before the first run, and not after the last."""
    with pytest.raises(SystemExit):
        command.main(["--data", "nowhere", *words])
    assert "must be above 0" in capsys.readouterr().err


def test_a_folder_without_one_of_the_texts_is_refused_before_the_first_run(
    data: Path, capsys: pytest.CaptureFixture
) -> None:
    """The novels are missed before the stories are trained on."""
    with pytest.raises(SystemExit, match=r"novels_train_70mb.txt.gz does not exist"):
        command.main(["--data", str(data)])
    assert "seed" not in capsys.readouterr().err


def test_a_folder_without_the_texts_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """One error that says what is missing, before any training."""
    with pytest.raises(SystemExit, match=r"tinystories_train_2mb.txt does not exist"):
        command.main(["--data", str(tmp_path), "--corpus", "tinystories"])
