"""The verbs beside `run`, asked for what is not there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.damage import contents


def test_an_unknown_verb_lists_those_there_are(lmcore):
    """One line and status 2."""
    ended = lmcore("smaple")
    assert ended.status == 2
    assert ended.err.startswith("error: there is no verb 'smaple': take one of run, ")
    assert "sample" in ended.err


def test_no_verb_at_all_shows_the_help(lmcore):
    """As `--help` does, but the status says that nothing was done."""
    assert lmcore().status == 2
    assert "usage: lmcore VERB" in lmcore().out
    assert lmcore("--help").status == 0


@pytest.mark.parametrize("verb", ["sample", "show", "verify", "doctor", "verify-resume"])
def test_words_that_a_verb_does_not_know_are_refused(verb, lmcore):
    """All of them at once."""
    ended = lmcore(verb, "--nosuch", "1", "--nosuch-either")
    ended.refused("2 things", "no setting --nosuch 1", "--nosuch-either", f"lmcore {verb} --help")


def test_a_sample_of_an_unknown_run_is_refused(lmcore, untouched):
    """With the runs there are."""
    ended = lmcore("sample", "--run", "big", "--artifacts", untouched)
    ended.refused("no run 'big'", "small")


@pytest.mark.parametrize("name", ["../small", "/x", "a/b", ".", "..", ""])
def test_a_run_to_sample_from_is_not_named_by_a_path(name, lmcore, untouched):
    """Not even one that would lead to a run."""
    lmcore("sample", f"--run={name}", "--artifacts", untouched).refused("--run is", "not a path")


def test_a_sample_where_there_is_no_run_is_refused(lmcore, tmp_path):
    """In an empty folder, and in one that does not exist."""
    lmcore("sample", "--artifacts", tmp_path).refused("no run below", "lmcore run")
    lmcore("sample", "--artifacts", tmp_path / "gone").refused("no run below", "lmcore run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["pretrain", "tokenizer"])
def test_a_sample_of_a_run_without_a_model_is_refused(stage, lmcore, artifacts):
    """The artifact was deleted to make room: which one, and how to make it again."""
    (folder,) = (artifacts / "store" / stage).iterdir()
    folder.chmod(0o755)
    shutil.rmtree(folder)
    before = contents(artifacts)
    ended = lmcore("sample", "--run", "small", "--artifacts", artifacts)
    ended.refused(f"no {stage} artifact", "lmcore run quickstart")
    assert contents(artifacts) == before


def test_a_sample_of_a_run_that_has_not_come_so_far_is_refused(lmcore, artifacts):
    """No link yet."""
    (artifacts / "runs" / "small" / "pretrain").unlink()
    ended = lmcore("sample", "--run", "small", "--artifacts", artifacts)
    ended.refused("no pretrain artifact", "lmcore run quickstart")


SAMPLE_WORDS = [
    (["--samples", "0"], "--samples is 0"),
    (["--temperature", "-1"], "temperature"),
    (["--temperature", "nan"], "temperature"),
    (["--top-p", "0"], "top_p"),
    (["--top-k", "-1"], "top_k"),
    (["--device", "cuda"], "cuda"),
    (["--device", "tpu"], "--device is 'tpu'"),
    (["--weights", "worst"], "--weights is 'worst'"),
]


@pytest.mark.parametrize(("words", "fault"), SAMPLE_WORDS, ids=lambda value: " ".join(value))
def test_settings_of_a_sample_that_cannot_work_are_refused(words, fault, lmcore, untouched):
    """One line that names the setting."""
    lmcore("sample", *words, "--artifacts", untouched).refused(fault)


def test_why_of_an_unknown_stage_is_refused(lmcore, tmp_path):
    """With the stages there are."""
    lmcore("why", "train").refused("no stage 'train'", "download", "evaluate")


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--model.d-model", "x"], "--model.d-model is 'x'"),
        (["nosuch"], "no preset 'nosuch'"),
        (["--model.n-heads", "3"], "--model.n-heads"),
        (["--corpus.kind", "url"], "--corpus.train-url"),
    ],
)
def test_why_with_settings_that_cannot_work_is_refused(words, fault, lmcore, untouched):
    """As `run` refuses them, and nothing is made."""
    lmcore("why", "pretrain", *words, "--artifacts", untouched).refused(fault)


def test_why_in_a_folder_that_is_not_there_says_that_nothing_was_made(lmcore, tmp_path):
    """It is no fault to ask, and asking makes nothing."""
    ended = lmcore("why", "download", "--artifacts", tmp_path / "gone")
    assert ended.status == 0, ended
    assert list(tmp_path.iterdir()) == []


def test_verify_of_a_missing_folder_is_refused(lmcore, tmp_path):
    """With the flag; the folder is not made."""
    ended = lmcore("verify", "--artifacts", tmp_path / "gone")
    ended.refused("gone is no folder", "--artifacts")
    assert list(tmp_path.iterdir()) == []


def test_show_of_a_missing_folder_says_how_to_begin(lmcore, tmp_path):
    """Nothing is there yet: that is no error."""
    ended = lmcore("show", "--artifacts", tmp_path / "gone")
    assert ended.status == 0
    assert "lmcore run" in ended.out
    assert list(tmp_path.iterdir()) == []


def test_showing_and_verifying_change_nothing(lmcore, untouched):
    """Questions are free."""
    for words in (["show"], ["verify"], ["why", "evaluate"]):
        assert lmcore(*words, "--artifacts", untouched).status == 0


def test_a_terminal_that_knows_no_check_mark_shows_a_question_mark(artifacts):
    """`lmcore verify` where standard output is ASCII."""
    code = "import sys; from flows.cli import lmcore; sys.exit(lmcore(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "verify", "--artifacts", str(artifacts)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("? download")


@pytest.mark.parametrize("kills", ["0", "11"])
def test_verify_resume_refuses_what_it_cannot_do(kills, lmcore):
    """Before any run."""
    lmcore("verify-resume", "--kills", kills).refused(f"--kills is {kills}", "from 1 to 10")


def test_serve_stands_alone(command):
    """Settings beside --serve would be forgotten: refused."""
    command("quickstart", "--serve").refused("--serve stands alone")
