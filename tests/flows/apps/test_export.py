"""`lmcore export`, on the tiny run."""

import json
from pathlib import Path

import pytest

from flows import cli
from flows.formats.tokenizer_json import load_tokenizer
from lmcore.tokenizer.interop import to_huggingface, to_tiktoken
from tests.flows.tiny_run import Finished


def export(finished: Finished, *words: str) -> int:
    return cli.lmcore(["export", "--artifacts", str(finished.artifacts), *words])


def test_the_tokenizer_of_a_run_is_written(finished: Finished, tmp_path: Path, capsys) -> None:
    """Each format holds the tokenizer of the run, and the files are named."""
    tokenizer = load_tokenizer(finished.artifact("tokenizer") / "tokenizer.json")
    path = tmp_path / "theirs.json"
    assert export(finished, "--to", str(path)) == 0
    assert json.loads(path.read_text("utf-8")) == to_huggingface(tokenizer)
    assert capsys.readouterr().out == f"300 tokens of the run tiny: {path}\n"

    path = tmp_path / "ours.tiktoken"
    assert export(finished, "--run", "tin", "--format", "tiktoken", "--to", str(path)) == 0
    assert json.loads((tmp_path / "ours.tiktoken.json").read_text("utf-8")) == {
        name: value
        for name, value in to_tiktoken(tokenizer, "tiny").items()
        if name != "mergeable_ranks"
    }
    assert len(path.read_text().splitlines()) == 300 - len(tokenizer.special_tokens)
    assert capsys.readouterr().out == f"300 tokens of the run tiny: {path} and {path}.json\n"


def test_what_is_there_is_never_replaced(finished: Finished, tmp_path: Path, capsys) -> None:
    """An artifact, or the second file of a pair, stays as it is, and nothing is written."""
    there = finished.artifact("tokenizer") / "tokenizer.json"
    before = there.read_bytes()
    assert export(finished, "--to", str(there)) == 1
    assert there.read_bytes() == before
    (tmp_path / "a.json").write_text("mine")
    assert export(finished, "--format", "tiktoken", "--to", str(tmp_path / "a")) == 1
    assert "a.json is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--to names no file"),
        (("--to", "nowhere/a"), "there is no folder nowhere"),
        (("--to", "a", "--format", "bpe"), "--format is 'bpe': it must be one of"),
        (("--to", "a", "--run", "none"), "there is no run 'none'"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    finished: Finished, words: tuple[str, ...], message: str, capsys
) -> None:
    """The message names the flag to change."""
    assert export(finished, *words) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
