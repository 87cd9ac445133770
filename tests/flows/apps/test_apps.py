"""The verbs of `lmcore`, on the tiny run: each says what is there, and changes nothing."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import cli
from flows.apps import doctor
from tests.flows.tiny_run import STAGES, TINY, Finished

Lmcore = Callable[..., str]


@pytest.fixture
def lmcore(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Lmcore:
    """Call a verb; what it printed, its status checked."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: str, status: int = 0) -> str:
        capsys.readouterr()
        found = cli.lmcore(list(words))
        said = capsys.readouterr()
        assert found == status, said
        return said.out + said.err

    return call


def everything(folder: Path) -> dict[str, int]:
    return {str(p): p.lstat().st_mtime_ns for p in sorted(folder.rglob("*"))}


@pytest.fixture
def copy(finished: Finished, tmp_path: Path) -> Finished:
    """The tiny run, in a folder that may be changed."""
    artifacts = tmp_path / "artifacts"
    shutil.copytree(finished.artifacts, artifacts, symlinks=True)
    return Finished(artifacts, finished.output)


# --- show ---------------------------------------------------------------------------------------


def test_show_lists_runs_and_artifacts(lmcore: Lmcore, finished: Finished) -> None:
    """Each run with its result, each artifact with its size, its parents and its runs."""
    before = everything(finished.artifacts)
    said = lmcore("show", "--artifacts", str(finished.artifacts))
    result = finished.record("evaluate")["facts"]
    assert re.search(rf"tiny +quickstart +5 of 5 +{result['loss']:.4f}", said)
    for stage in STAGES:
        key = finished.record(stage)["key"]["digest"][:8]
        assert re.search(rf"{stage} +{key} .*", said)
    tokenizer = finished.record("tokenizer")["key"]["digest"][:8]
    assert f"tokenizer {tokenizer}" in said
    assert everything(finished.artifacts) == before


def test_show_of_nothing_says_how_to_begin(lmcore: Lmcore, tmp_path: Path) -> None:
    """Before the first run there is a line that says how to make one."""
    assert "lmcore run" in lmcore("show", "--artifacts", str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_show_of_a_run_on_its_way(lmcore: Lmcore, copy: Finished) -> None:
    """A run without a result is listed by how far it has come."""
    folder = copy.artifacts / "runs" / "begun"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"preset": "cs336", "artifacts": {}}))
    said = lmcore("show", "--artifacts", str(copy.artifacts))
    assert re.search(r"begun +cs336 +0 of 5 +- +-", said)


# --- why ----------------------------------------------------------------------------------------


def why(lmcore: Lmcore, finished: Finished, stage: str, *words: str) -> list[str]:
    said = lmcore("why", stage, "quickstart", *TINY, "--artifacts", str(finished.artifacts), *words)
    return said.splitlines()


@pytest.mark.parametrize("stage", STAGES)
def test_why_knows_a_hit(lmcore: Lmcore, finished: Finished, stage: str) -> None:
    """Asked with the settings that it was made with, every stage is a verified hit."""
    key = finished.record(stage)["key"]["digest"][:16]
    (line,) = why(lmcore, finished, stage)
    assert line.startswith(f"{stage}: hit, {key} verified")


@pytest.mark.parametrize(
    ("stage", "words", "difference"),
    [
        ("download", ["--corpus.seed", "9"], "setting  seed  0 -> 9"),
        ("tokenizer", ["--tokenizer.pattern", "gpt4"], 'tokenizer.pattern  "gpt2" -> "gpt4"'),
        ("pretokenize", ["--pretokenize.shard-tokens", "99"], "shard_tokens  67108864 -> 99"),
        ("pretrain", ["--training.max-lr", "0.01"], "training.max_lr  0.009 -> 0.01"),
        ("pretrain", ["--model.n-heads", "4"], "model.n_heads  2 -> 4"),
        ("evaluate", ["--evaluation.top-k", "7"], "evaluation.top_k  0 -> 7"),
    ],
)
def test_why_names_exactly_what_changed(
    lmcore: Lmcore, finished: Finished, stage: str, words: list[str], difference: str
) -> None:
    """After a change of one setting the miss is explained by that setting, and by nothing else."""
    before = everything(finished.artifacts)
    head, *lines = why(lmcore, finished, stage, *words)
    assert head.startswith(f"{stage}: miss; what changed since the nearest")
    assert len(lines) == 1
    assert difference in lines[0]
    assert everything(finished.artifacts) == before


@pytest.mark.parametrize(
    "words",
    [
        ["--log-every", "7"],
        ["--workers", "3"],
        ["--engine", "none"],
        ["--checkpoint-every", "1"],
        ["--numerics.threads", "2"],
        ["--name", "another"],
    ],
)
def test_why_ignores_what_means_nothing(
    lmcore: Lmcore, finished: Finished, words: list[str]
) -> None:
    """Neutral settings and numerics leave every stage a hit."""
    (line,) = why(lmcore, finished, "evaluate", *words)
    assert line.startswith("evaluate: hit")


def test_why_stops_at_the_first_miss(lmcore: Lmcore, finished: Finished) -> None:
    """A stage behind a miss cannot be known, and the miss before it is explained."""
    head, difference, last = why(lmcore, finished, "evaluate", "--tokenizer.vocab-size", "310")
    assert head.startswith("tokenizer: miss")
    assert "tokenizer.vocab_size  300 -> 310" in difference
    assert last == "evaluate: not known before tokenizer has been built"


def test_why_sees_damage(lmcore: Lmcore, copy: Finished) -> None:
    """An artifact that is there and was changed is a miss, with the file named."""
    file = copy.artifact("pretrain") / "metrics.jsonl"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b" ")
    said = why(lmcore, copy, "pretrain")
    assert "is there and does not verify" in said[0]
    assert "metrics.jsonl" in said[1]


def test_why_refuses_what_run_would_refuse(lmcore: Lmcore, finished: Finished) -> None:
    """An unknown stage, preset or setting is one line."""
    assert "take one of download, tokenizer" in lmcore("why", "sample", status=1)
    assert "there is no preset" in lmcore("why", "evaluate", "quick", status=1)
    assert "--model.d-model" in lmcore("why", "evaluate", "--model.d-model", "7", status=1)


# --- verify -------------------------------------------------------------------------------------


def test_verify_reads_every_artifact(lmcore: Lmcore, finished: Finished) -> None:
    """Every artifact is checked against its record; all is well, and nothing is changed."""
    before = everything(finished.artifacts)
    said = lmcore("verify", "--artifacts", str(finished.artifacts))
    assert re.findall(r"✓ (\w+)", said) == sorted(STAGES)
    assert said.endswith("5 artifacts, 0 damaged\n")
    assert everything(finished.artifacts) == before


def test_verify_finds_one_changed_bit(lmcore: Lmcore, copy: Finished) -> None:
    """One bit, with size and times as they were, is found, in any file of any artifact."""
    for stage in STAGES:
        file = max(copy.artifact(stage).iterdir(), key=lambda path: path.stat().st_size)
        times = file.stat().st_atime_ns, file.stat().st_mtime_ns
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.chmod(0o644)
        file.write_bytes(data)
        os.utime(file, ns=times)
        said = lmcore("verify", "--artifacts", str(copy.artifacts), status=1)
        assert "5 artifacts, 1 damaged: the next run rebuilds them" in said
        assert f"✗ {stage}" in said
        assert file.name in said
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    lmcore("verify", "--artifacts", str(copy.artifacts))


def test_verify_of_no_folder_is_refused(lmcore: Lmcore, tmp_path: Path) -> None:
    """A folder that is not there is an error, not an empty success."""
    assert "--artifacts" in lmcore("verify", "--artifacts", str(tmp_path / "none"), status=1)


# --- sample -------------------------------------------------------------------------------------


def test_sample_is_decided_by_its_seed(lmcore: Lmcore, finished: Finished) -> None:
    """The same seed writes the same text; another seed another; several seeds one each."""
    words = ["sample", "--artifacts", str(finished.artifacts), "--max-new-tokens", "12"]
    first, again = lmcore(*words, "--seed", "3"), lmcore(*words, "--seed", "3")
    other = lmcore(*words, "--seed", "4")
    assert first == again != other
    line = "-" * 40 + "\n"
    assert lmcore(*words, "--seed", "3", "--samples", "2") == first + line + other + line


def test_sample_is_what_the_run_wrote(lmcore: Lmcore, finished: Finished) -> None:
    """The verb writes what the evaluation wrote, given the same settings."""
    written = json.loads((finished.artifact("evaluate") / "samples.json").read_text("utf-8"))
    words = ["--run", "tin", "--artifacts", str(finished.artifacts), "--max-new-tokens", "8"]
    for sample in written:
        assert lmcore("sample", *words, "--seed", str(sample["seed"])) == sample["text"] + "\n"


def test_sample_begins_with_the_prompt(lmcore: Lmcore, finished: Finished) -> None:
    """A prompt is written as it was given."""
    words = ["--artifacts", str(finished.artifacts), "--max-new-tokens", "4"]
    assert lmcore("sample", "--prompt", "Once upon <eos>", *words).startswith("Once upon <eos>")


@pytest.mark.parametrize(
    ("words", "mention"),
    [
        (["--samples", "0"], "--samples is 0"),
        (["--run", "../tiny"], "not a path"),
        (["--run", "none"], "there is no run 'none'"),
        (["--max-new-tokens", "-1"], "max_new_tokens"),
        (["--temperature", "-1"], "temperature"),
        (["--top-p", "0"], "top_p"),
        (["--top-k", "-1"], "top_k"),
        (["--weights", "worst"], "--weights"),
    ],
)
def test_sample_refuses_what_it_cannot(
    lmcore: Lmcore, finished: Finished, words: list[str], mention: str
) -> None:
    """A setting out of range is one line that names it."""
    said = lmcore("sample", "--artifacts", str(finished.artifacts), *words, status=1)
    assert said.startswith("error: ")
    assert mention in said
    assert "Traceback" not in said


# --- doctor -------------------------------------------------------------------------------------


def test_doctor_tells_what_could_change_a_bit(
    lmcore: Lmcore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Versions, device, threads, instructions, what is pinned, and what the shell would change."""
    import torch

    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    said = lmcore("doctor", "--artifacts", str(tmp_path / "not" / "there"))
    found = dict(line.split(None, 1) for line in said.splitlines())
    assert found["torch"] == torch.__version__
    for name in ("python", "prefect", "numpy", "cores", "memory", "disk", "device", "bits"):
        assert found[name]
    assert "ATEN_CPU_CAPABILITY=default" in found["cleared"]
    assert "MKL_CBWR=AUTO,STRICT" in said
    assert not (tmp_path / "not").exists()


def test_doctor_says_what_a_gpu_can_do_at_most() -> None:
    """A known GPU's peak is told for each precision that it has; of others, that it is unknown."""
    assert doctor.peak("NVIDIA H100 80GB HBM3").startswith("67 TFLOP/s in float32, 989 TFLOP/s in")
    assert "bfloat16" not in doctor.peak("Tesla T4")
    assert "unknown" in doctor.peak("a GPU of next year")
