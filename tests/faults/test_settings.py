"""Settings that cannot work are refused before any work, all at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TINY = ["--corpus.n-valid-stories", "1"]  # about 645 bytes
REFUSED = [
    # what the words are, what the error must say
    (["nosuch"], ["there is no preset 'nosuch'", "quickstart", "cs336-cpu"]),
    (["quickstrat"], ["did you mean quickstart?"]),
    (["quickstart", "--model.d-modle", "8"], ["no setting --model.d-modle 8", "--model.d-model?"]),
    (["quickstart", "--d-model", "8"], ["no setting --d-model", "did you mean --model.d-model?"]),
    (["quickstart", "word"], ["no setting word", "--help"]),
    (["quickstart", "--model.d-model", "8", "9"], ["no setting 9 (after --model.d-model)"]),
    (["quickstart", "--model.d-model", "abc"], ["--model.d-model is 'abc'", "a whole number"]),
    (["quickstart", "--model.d-model=1.5"], ["--model.d-model is '1.5'", "a whole number"]),
    (["quickstart", "--training.max-lr", "1,5"], ["--training.max-lr is '1,5'", "a number"]),
    (["quickstart", "--model.norm", "batch"], ["--model.norm is 'batch'", "'rms_norm'"]),
    (["quickstart", "--engine", "airflow"], ["--engine is 'airflow'", "'prefect', 'none'"]),
    (["quickstart", "--model.d-model"], ["--model.d-model needs a value"]),
    (["--tokenizer.vocab-size", "200"], ["vocab_size is 200", "259", "--tokenizer.vocab-size"]),
    (["--model.d-model", "12", "--model.n-heads", "4"], ["head_dim is 3", "even", "--model."]),
    (["--model.d-model", "30", "--model.n-heads", "4"], ["30", "multiple", "--model.n-heads"]),
    (["--model.d-model", "0"], ["d_model is 0", "--model.d-model"]),
    (["--model.context-length", "0"], ["context_length is 0", "--model.context-length"]),
    (["--model.context-length", "999", *TINY], ["999", "--model.context-length"]),
    (["--training.tokens", "-5"], ["tokens is -5", "--training.tokens"]),
    (["--training.batch-size", "0"], ["batch_size is 0", "--training.batch-size"]),
    (["--training.max-lr", "nan"], ["max_lr is nan", "--training.max-lr"]),
    (["--training.max-lr", "inf"], ["max_lr is inf", "--training.max-lr"]),
    (["--training.beta1", "1"], ["beta1 is 1", "--training.beta1"]),
    (["--training.warmup-steps", "9999"], ["warmup_steps is 9999", "--training.warmup-steps"]),
    (
        ["--training.batch-size", "5", "--numerics.processes", "2"],
        ["--training.batch-size 5", "--numerics.processes 2", "multiple"],
    ),
    (
        ["--training.batch-size", "6", "--numerics.micro-batch", "4"],
        ["--numerics.micro-batch is 4", "divide"],
    ),
    (["--numerics.processes", "0"], ["--numerics.processes is 0"]),
    (["--numerics.device", "cuda"], ["--numerics.device is cuda", "cpu or auto"]),
    (["--evaluation.top-p", "2"], ["top_p is 2", "--evaluation.top-p"]),
    (["--evaluation.samples", "-1"], ["samples is -1", "--evaluation.samples"]),
    (["--log-every", "0"], ["--log-every is 0", "at least 1"]),
    (["--checkpoint-every", "0"], ["--checkpoint-every is 0", "at least 1"]),
    (["--workers", "-1"], ["--workers is -1", "at least 0"]),
    (["--pretokenize.end-of-text", "<end>"], ["<end>", "--pretokenize.end-of-text"]),
    (["--corpus.train-url", "file:///a"], ["train_url", "--corpus.kind url"]),
    (["--corpus.kind", "url"], ["train_url is empty", "--corpus.train-url"]),
    (["--corpus.n-valid-stories", "0"], ["n_valid_stories is 0", "--corpus.n-valid-stories"]),
    (["--runner", "dask"], ["--runner dask"]),
]


@pytest.mark.parametrize(("words", "mentions"), REFUSED, ids=lambda value: " ".join(value)[:60])
def test_a_setting_that_cannot_work_is_refused_before_any_work(words, mentions, command, tmp_path):
    """One line says what was expected, what came and which flag to change; nothing is made."""
    ended = command(*words, *engine(words), "--artifacts", tmp_path / "artifacts")
    ended.refused(*mentions)
    assert ended.out == ""
    assert list(tmp_path.iterdir()) == []


def engine(words):
    """Without Prefect, unless the engine is what the test is about."""
    return [] if "--engine" in words else ["--engine", "none"]


def test_all_that_is_wrong_is_said_at_once(command, tmp_path):
    """Faults of seven parts of the settings come as one list."""
    ended = command(
        *("--engine", "none", "--artifacts", tmp_path / "artifacts"),
        *("--name", "a/b", "--log-every", "0", "--corpus.n-train-stories", "0"),
        *("--tokenizer.vocab-size", "5", "--model.d-model", "30", "--model.n-heads", "4"),
        *("--training.max-lr", "-1", "--evaluation.top-p", "0", "--numerics.threads", "-1"),
    )
    ended.refused("--name", "--log-every", "--corpus.n-train-stories", "--tokenizer.vocab-size")
    ended.refused("--model.n-heads", "--training.max-lr", "--evaluation.top-p", "--numerics.thre")
    assert ended.err.startswith("error: 8 things to mend:\n- ")
    assert list(tmp_path.iterdir()) == []


def test_all_words_that_cannot_be_read_are_said_at_once(command):
    """Unknown flags, wrong types and unknown choices come as one list."""
    ended = command(
        *("--nosuch", "1", "--model.d-model", "x", "--training.max-lr", "y"),
        *("--model.norm", "z", "--model.tie-embeddings", "maybe", "--name"),
    )
    ended.refused("no setting --nosuch 1", "--model.d-model is 'x'", "--training.max-lr is 'y'")
    ended.refused("--model.norm is 'z'", "no setting maybe", "--name needs a value")
    assert ended.err.startswith("error: 6 things to mend:\n- ")


PATHS = ["../x", "/x", "a/b", ".", "..", ".hidden", "a\\b", "a\nb", "-", "x" * 101, "é/", "a b"]


@pytest.mark.parametrize("name", [*PATHS, "~"])
def test_a_run_is_not_named_by_a_path(name, command, tmp_path):
    """A name that would leave the folder of runs, or hide in it, is refused."""
    words = ("--engine", "none", "--artifacts", tmp_path / "artifacts", f"--name={name}")
    command(*words).refused("--name is", "letters, digits")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "../quickstart", "/x", "a/b", ".", "..", "quickstart/"])
def test_a_preset_is_not_named_by_a_path(name, command, tmp_path):
    """A preset is one of a list, never looked up on the disk."""
    command(name, "--engine", "none", "--artifacts", tmp_path / "a").refused("there is no preset")
    assert list(tmp_path.iterdir()) == []


def test_the_empty_name_takes_the_name_of_the_preset(small, tmp_path):
    """`--name ""` is the default: the preset and six digits of the settings."""
    ended = small(tmp_path, "--name", "")
    assert ended.status == 0, ended
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("quickstart-")


def test_an_engine_that_does_not_exist_is_refused(monkeypatch, tmp_path):
    """LMCORE_ENGINE with another word than prefect or none is an error that says so."""
    from flows.engine import chosen
    from lmcore.errors import InputError

    monkeypatch.setenv("LMCORE_ENGINE", "airflow")
    with pytest.raises(InputError, match="LMCORE_ENGINE is 'airflow': it must be prefect or none"):
        chosen()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_terminal_that_knows_no_utf8_shows_the_same_error(encoding):
    """The parser draws its faults in characters that such a terminal does not have."""
    done = subprocess.run(
        [sys.executable, "flows/pipeline.py", "--model.d-modle", "é", "--model.norm", "z"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    given = "é".encode(encoding, "replace").decode(encoding)
    assert done.stderr.decode(encoding) == (
        "error: 2 things to mend:\n"
        f"- there is no setting --model.d-modle {given}: did you mean --model.d-model? "
        "python flows/pipeline.py quickstart --help lists those there are\n"
        "- --model.norm is 'z': it must be one of 'rms_norm', 'layer_norm', 'none'\n"
    )
