"""Runs are found by name, by the beginning of a name, or as the latest; never by path."""

import json
import os
from pathlib import Path

import pytest

from flows.runs_folder import all_runs, find_run
from lmcore.errors import InputError


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """Three runs, made in the order c, a, ab; and things that are no runs."""
    for n, name in enumerate(("c", "a-1", "ab-2")):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"preset": "quickstart", "name": name}))
        os.utime(folder / "run.json", (n, n))
    for name, text in (("list", "[]"), ("broken", "{"), ("binary", "\0")):
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / "run.json").write_text(text)
    (tmp_path / "runs" / "empty").mkdir()
    (tmp_path / "runs" / "a file").write_text("")
    return tmp_path


def test_runs_are_listed_oldest_first(artifacts: Path) -> None:
    """Every run is there once, by age; what is no run is passed over."""
    assert [run.name for run in all_runs(artifacts)] == ["c", "a-1", "ab-2"]
    assert all_runs(artifacts / "nowhere") == []


@pytest.mark.parametrize(
    ("asked", "name"),
    [("latest", "ab-2"), ("c", "c"), ("a-1", "a-1"), ("ab", "ab-2"), ("a-", "a-1")],
)
def test_run_is_found(artifacts: Path, asked: str, name: str) -> None:
    """A whole name, the beginning of one run's name, or the run touched last."""
    assert find_run(artifacts, asked).name == name


def test_exact_name_beats_longer_ones(artifacts: Path) -> None:
    """A run whose whole name was given is it, although another begins so."""
    (artifacts / "runs" / "a").mkdir()
    (artifacts / "runs" / "a" / "run.json").write_text("{}")
    assert find_run(artifacts, "a").name == "a"


def test_several_runs_are_not_guessed_among(artifacts: Path) -> None:
    """A beginning that several runs share is refused, and they are listed."""
    with pytest.raises(InputError, match="several runs begin with 'a': take one of a-1, ab-2"):
        find_run(artifacts, "a")


def test_unknown_run_lists_those_there_are(artifacts: Path) -> None:
    """A name of no run lists the runs."""
    with pytest.raises(InputError, match="there is no run 'x': take one of c, a-1, ab-2"):
        find_run(artifacts, "x")


@pytest.mark.parametrize("name", ["../runs/c", "/etc", ".", "..", "", "a/b"])
def test_path_is_refused(artifacts: Path, name: str) -> None:
    """A run is never named by a path."""
    with pytest.raises(InputError, match="must be the name of a run, not a path"):
        find_run(artifacts, name)


def test_no_run_at_all(tmp_path: Path) -> None:
    """Before the first run the error says how to make one."""
    with pytest.raises(InputError, match="lmcore run"):
        find_run(tmp_path, "latest")


def test_run_that_has_not_come_so_far(artifacts: Path) -> None:
    """A stage that a run has not reached is told, with the command that goes on."""
    run = find_run(artifacts, "c")
    with pytest.raises(InputError, match=r"the run c has no pretrain artifact.*lmcore run quickst"):
        run.artifact("pretrain")
    assert run.evaluation() == {}
