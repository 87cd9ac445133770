"""The benchmark of scale: the large text, what a measurement tells, and the arithmetic after it."""

import json
import os
from dataclasses import replace

import pytest

from benchmarks.tokenizer import scale, scale_worker
from benchmarks.tokenizer.estimate import (
    TARGETS,
    Measured,
    PowerLaw,
    Target,
    estimate,
    formula,
    power_law,
    slope,
)
from lmcore.errors import InputError
from lmcore.synthetic.stories import stories

TEXT = "\n\n".join(stories(seed=0, start=0, count=60)) + "\n"


def test_the_large_text_is_copies_with_a_line_that_changes(tmp_path):
    """It has the bytes asked for, but for the rest of a line, and the words of the small one."""
    small, large = tmp_path / "small.txt", tmp_path / "large.txt"
    small.write_text(TEXT)
    n_bytes = 5 * len(TEXT) // 2
    scale.repeat(small, large, n_bytes)
    text = large.read_text()
    assert n_bytes - 1_000 < len(text) <= n_bytes
    assert [line.split()[4] for line in text.splitlines() if "This is copy" in line] == list("123")
    first, second = text.split("This is copy number 2 of the same text.\n\n")
    assert first == f"\nThis is copy number 1 of the same text.\n\n{TEXT}\n"
    assert second.startswith(TEXT)


def test_without_room_on_the_disk_nothing_is_written(tmp_path, monkeypatch):
    """One error says how much is needed, before any text is made."""
    monkeypatch.setattr(scale, "free_bytes", lambda path: 2_000_000_000)
    with pytest.raises(SystemExit, match=r"2\.0 GB free, and 2\.8 GB are needed: free some"):
        scale.main(["--scratch", str(tmp_path)])
    assert not any(tmp_path.iterdir())


def test_a_job_that_fails_says_which_and_why(tmp_path):
    """The last line of the process that failed, after what it was to do."""
    (tmp_path / "text.txt").write_text("")
    job = scale_worker.Job("train", str(tmp_path / "text.txt"), (300,), "")
    with pytest.raises(InputError, match=r"train 0 B, numpy: failed: .*holds no text"):
        scale.run(tmp_path, "numpy", job)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the peak is Linux's to tell")
def test_a_small_run_from_text_to_report(tmp_path, monkeypatch, capsys):
    """Every measurement is made, and the table and the estimates are told."""
    path = tmp_path / "small.txt"
    path.write_text(TEXT * 4)

    class Small:
        name, files = "stories", {0: path}

    monkeypatch.setattr(scale, "corpus", lambda data, folder, sizes: Small)
    monkeypatch.setattr(scale, "find_spec", lambda package: None)
    monkeypatch.setattr(scale, "VOCAB_SIZE", 400)
    monkeypatch.setattr(
        scale, "TARGETS", (Target("Much", 1e9, 300, 60, 1e9), Target("More", 1e10, 350, 60, 1e9))
    )
    arguments = ["--gigabytes", "0.001", "--scratch", str(tmp_path)]
    scale.main([*arguments, "--json", str(tmp_path / "figures.json")])
    told = capsys.readouterr().out
    assert "memory, train/1, numpy" in told
    assert "memory, encode/2, numpy" in told
    assert "More, 10.0 GB, vocabulary 350" in told
    found = json.loads((tmp_path / "figures.json").read_text())
    works = [(one["job"]["kind"], one["job"]["workers"]) for one in found["measured"]]
    assert works == [("train", 1), ("train", 2), ("encode", 1), ("encode", 2)] * 2
    small, large = found["measured"][0]["told"], found["measured"][4]["told"]
    assert found["measured"][5]["told"]["words"] == large["words"]
    assert small["bytes"] == len(TEXT) * 4
    assert 0 < large["words"] - small["words"] < 100
    assert min(one["told"]["peak_bytes"] for one in found["measured"]) > 1 << 20
    sizes = [one["bytes"] for one in found["growth"]]
    assert sizes == sorted(sizes)
    assert sizes[-1] == len(TEXT) * 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures.json", "small.txt"]


def test_workers_that_are_processes_find_the_same_words(tmp_path):
    """Their memory and their processor seconds are told with those of the process."""
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    job = scale_worker.Job("train", str(path), (300,), "")
    shared_out = replace(job, workers=2, runner="processes")
    alone, shared = (scale.run(tmp_path, "numpy", one)["told"] for one in (job, shared_out))
    assert shared["words"] == alone["words"]
    assert shared["peak_bytes"] > alone["peak_bytes"] + (10 << 20)  # a worker, and what it imported
    assert shared["count"]["processor"] > alone["count"]["processor"]


def test_the_fits_find_what_made_the_points():
    """A power law and a slope are found again; a falling line has no slope to grow by."""
    law = power_law([1e6, 1e7, 1e8], [12 * n**0.5 for n in (1e6, 1e7, 1e8)])
    assert law.factor == pytest.approx(12)
    assert law.exponent == pytest.approx(0.5)
    assert slope([1.0, 2.0, 4.0], [10.0, 12.0, 16.0]) == pytest.approx(2)
    assert slope([1.0, 2.0], [2.0, 1.0]) == 0


def test_an_estimate_is_the_formula_by_hand():
    """Counting by bytes, merging and memory by distinct words, encoding by bytes."""
    measured = Measured(
        count_rate={1: 1e8, 2: 2e8},
        encode_rate={1: 5e7, 2: 1e8},
        n_words=1e5,
        train_bytes=2e8,
        words=PowerLaw(10, 0.5),
        merge_per_word=1e-5,
        bytes_per_word=500,
    )
    found = estimate(measured, Target("text", 1e10, 32_000, 60, 1e9))
    assert found.n_words == pytest.approx(1e6)
    assert found.merge_seconds == pytest.approx(10)
    assert found.train_seconds == pytest.approx({1: 110, 2: 60})
    assert found.train_bytes == pytest.approx(2e8 + 500 * 9e5)
    assert found.encode_seconds == pytest.approx({1: 200, 2: 100})
    assert "merging         = 1e-05 words s" in formula(measured)
    assert "counting        = bytes / 1e+08 (1 at once), 2e+08 (2 at once) s" in formula(measured)
    assert "bytes / 5e+07 (1 at once), 1e+08 (2 at once) s" in formula(measured)


def test_the_handouts_limits():
    """TinyStories in 30 minutes and 30 GB, OpenWebText in 12 hours and 100 GB."""
    assert [(t.vocab_size, t.limit_seconds, t.limit_bytes) for t in TARGETS] == [
        (10_000, 1_800, 30e9),
        (32_000, 43_200, 100e9),
    ]
