"""The command line: its verbs, its exit statuses, and what is an error and what a bug."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows import cli
from lmcore.errors import InputError
from tests.flows.tiny_run import ROOT, environment

APPS = sorted(path.stem for path in (ROOT / "flows" / "apps").glob("[a-z]*.py"))


def fails(error: BaseException) -> Callable[[list[str]], int]:
    def action(words: list[str]) -> int:
        raise error

    return action


@pytest.mark.parametrize(
    ("words", "status"), [(["--help"], 0), (["-h"], 0), (["help"], 0), ([], 2)]
)
def test_help_lists_every_verb(
    words: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The help has a line for `run` and for each file of flows/apps, with what it does."""
    assert cli.lmcore(words) == status
    lines = capsys.readouterr().out.splitlines()
    verbs = {line.split()[0]: line.split(None, 1)[1] for line in lines[2:]}
    assert set(verbs) == {"run", *(name.replace("_", "-") for name in APPS)}
    assert {"sample", "show", "why", "verify", "doctor", "verify-resume"} <= set(verbs)
    assert all(text.endswith(".") or ":" in text for text in verbs.values())


def test_unknown_verb_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown verb is one line that lists those there are, and status 2."""
    assert cli.lmcore(["fly"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: there is no verb 'fly': take one of run, ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("verb", [name.replace("_", "-") for name in APPS])
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each verb has a help of its own, under its own name."""
    try:
        status = cli.lmcore([verb, "--help"])
    except SystemExit as stop:
        status = stop.code or 0
    assert status == 0
    assert f"lmcore {verb}" in capsys.readouterr().out


def test_deleting_the_apps_leaves_the_verb_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without flows/apps the pipeline's own verb is still there."""
    monkeypatch.setattr(cli, "APPS", tmp_path / "apps")
    assert cli.known_verbs() == {}
    assert cli.lmcore(["--help"]) == 0
    assert "run" in capsys.readouterr().out
    assert cli.lmcore(["show"]) == 2


def test_what_the_user_can_mend_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """An InputError becomes its message and status 1, Ctrl-C one word and status 130."""
    assert cli.guarded(fails(InputError("x is 1: raise --x")), []) == 1
    assert capsys.readouterr().err == "error: x is 1: raise --x\n"
    assert cli.guarded(fails(KeyboardInterrupt()), []) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_bug_shows_its_traceback() -> None:
    """Anything else is a bug, and is not hidden."""
    with pytest.raises(ZeroDivisionError):
        cli.guarded(fails(ZeroDivisionError()), [])


def test_serve_stands_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """--serve takes no settings: they are given when a served run is started."""
    for words in (["--serve", "--seed", "1"], ["tinystories", "--serve"]):
        assert cli.main(words) == 1
        assert capsys.readouterr().err.startswith("error: --serve stands alone")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What the flow would be called with, by either door."""
    from flows import engine

    made: list[dict] = []

    def run_flow(flow: object, **parameters: object) -> engine.Outcome:
        made.append(parameters | {"engine": os.environ["LMCORE_ENGINE"]})
        return engine.Outcome(7)

    monkeypatch.setattr(engine, "run_flow", run_flow)
    monkeypatch.setenv("LMCORE_ENGINE", "")  # put back afterwards, as `run` sets it
    # The door imports the pipeline for one engine; other tests need it for the other.
    monkeypatch.setitem(sys.modules, "flows.pipeline", SimpleNamespace(pipeline=None))
    return made


def test_both_doors_are_the_same(calls: list[dict]) -> None:
    """`lmcore run` and `python flows/pipeline.py` call the flow alike, and return its status."""
    words = ["tinystories", "--training.seed", "3", "--engine", "none"]
    assert cli.main(words) == 7
    os.environ["LMCORE_ENGINE"] = ""  # as a shell has it, whose commands are processes of their own
    assert cli.lmcore(["run", *words]) == 7
    assert calls == 2 * [{"preset": "tinystories", "overrides": words[1:], "engine": "none"}]


def test_preset_may_be_left_out(calls: list[dict]) -> None:
    """Without a preset the quickstart runs."""
    cli.main(["--engine", "none"])
    assert calls[0]["preset"] == "quickstart"


def test_engine_of_the_environment_is_a_default(
    calls: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    """LMCORE_ENGINE holds where the words say nothing, and the words win."""
    monkeypatch.setenv("LMCORE_ENGINE", "none")
    cli.main(["quickstart"])
    cli.main(["quickstart", "--engine", "prefect"])
    assert [call["engine"] for call in calls] == ["none", "prefect"]


@pytest.mark.parametrize("words", [["--help"], ["show", "--artifacts", "nowhere"]])
def test_reader_that_goes_away_is_no_error(words: list[str]) -> None:
    """`lmcore … | head` ends quietly when head has seen enough, also where that was nothing."""
    code = "import sys; from flows.cli import lmcore; sys.exit(lmcore())"
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=ROOT,
            env=environment(),
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writing)
    assert done.stderr == ""
    assert done.returncode == (0 if words == ["--help"] else 1)  # rich ends with 1
