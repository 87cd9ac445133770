"""The whole pipeline on a tiny preset, through every door, and again."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.formats import metrics_log
from flows.store.listing import artifacts as stored
from tests.flows.tiny_run import (
    ROOT,
    STAGES,
    STEPS,
    TINY,
    Finished,
    digests,
    environment,
    make,
    training_here,
)

LMCORE = "import sys; from flows.cli import lmcore; sys.exit(lmcore())"


def times(folder: Path) -> dict[str, int]:
    """Every file of the store and when it was last written."""
    return {
        str(path.relative_to(folder)): path.lstat().st_mtime_ns
        for path in sorted((folder / "store").rglob("*"))
    }


def test_run_ends_with_every_artifact(finished: Finished) -> None:
    """A run leaves five artifacts, its page, its curve and its metrics, tied by its folder."""
    assert set(digests(finished.folder)) == set(STAGES)
    made = {artifact.path.resolve() for artifact in stored(finished.artifacts)}
    assert made == {finished.artifact(stage) for stage in STAGES}
    assert (finished.folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert len(metrics_log.read(finished.folder / "metrics.jsonl")) == STEPS + 2
    page = (finished.folder / "report.md").read_text()
    for stage in STAGES:
        assert str(finished.artifact(stage)) in page


def test_run_leaves_nothing_half_made(finished: Finished) -> None:
    """After a run no work folder, temporary folder or quarantine holds anything."""
    for name in ("work", "tmp", "quarantine"):
        assert list((finished.artifacts / name).iterdir()) == []


def test_run_says_what_it_did(finished: Finished) -> None:
    """The output has the plan, a line for each stage, the samples, the table and the places."""
    said = finished.output
    for stage in STAGES:
        assert re.search(rf"✓ {stage} .*built in [\d.]+ s", said), stage
    assert said.index("outside embeddings") < said.index("✓ download")
    for words in ("sample, seed 0", "sample, seed 1", "bits per byte", "entropy of the corpus"):
        assert words in said
    assert str(finished.folder) in said
    assert "Traceback" not in said


def test_second_run_is_five_hits(finished: Finished) -> None:
    """Run again, every stage is a verified hit: no file is written again, nothing is computed."""
    before = times(finished.artifacts)
    done = make(finished.artifacts)
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines() if line.endswith("verified")] == (
        list(STAGES)
    )
    assert "built in" not in done.stdout
    assert times(finished.artifacts) == before
    table = finished.output.index("measure")
    assert done.stdout[done.stdout.index("measure") :] == finished.output[table:]


def test_prefect_makes_the_same(
    finished: Finished, tmp_path: Path, conducted: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through Prefect, with every neutral setting changed, each artifact has the same digest."""
    from flows.engine import run_flow
    from flows.pipeline import pipeline

    assert hasattr(pipeline, "validate_parameters"), "the flow was imported without Prefect"
    neutral = ["--log-every", "5", "--checkpoint-every", "7", "--keep-checkpoints", "1"]
    neutral += ["--workers", "3", "--verify", "full"]
    words = [*TINY, *neutral, "--artifacts", str(tmp_path)]
    with training_here():
        outcome = run_flow(pipeline, preset="quickstart", overrides=words)
    said = capsys.readouterr()
    assert outcome.status == 0, said.err
    assert outcome.value is not None
    assert digests(Path(outcome.value)) == digests(finished.folder)
    assert said.out.count("built in") == 5
    pages = pages_of_prefect()
    assert {"tiny-result", "tiny-loss", "tiny-samples", "tiny-artifacts"} <= set(pages)
    assert pages["tiny-loss"].startswith("![loss over tokens of tiny](data:image/png;base64,")
    assert "bits per byte" in pages["tiny-result"]
    assert str(finished.record("pretrain")["key"]["digest"][:16]) in pages["tiny-artifacts"]
    assert float(pages["pretrain"]) == 100.0


def pages_of_prefect() -> dict[str, str]:
    """Key to content of every page that Prefect shows."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = client.read_artifacts(limit=200)
    return {page.key: str(page.data) for page in found if page.key}


def test_flat_parameters_are_settings(
    finished: Finished, conducted: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """What Prefect passes as flat parameters is what the command line says with flags."""
    from flows.engine import run_flow
    from flows.pipeline import pipeline

    flat = {"vocab_size": 300, "d_model": 16, "n_layers": 1, "context_length": 32, "tokens": 1536}
    rest = list(TINY)
    for flag in ("tokenizer.vocab-size", "model.d-model", "model.n-layers", "training.tokens"):
        at = rest.index(f"--{flag}")
        del rest[at : at + 2]
    rest += ["--artifacts", str(finished.artifacts)]
    outcome = run_flow(pipeline, preset="quickstart", device="cpu", overrides=rest, **flat)
    said = capsys.readouterr()
    assert outcome.status == 0, said.err
    assert said.out.count("verified") == 5


def test_unknown_parameter_is_refused(
    conducted: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Prefect refuses a parameter that is unknown or of the wrong type before any work."""
    from flows.engine import run_flow
    from flows.pipeline import pipeline

    words = ["--artifacts", str(tmp_path / "artifacts")]
    assert run_flow(pipeline, d_modle=16, overrides=words).status == 1
    assert "d_modle" in capsys.readouterr().err
    assert run_flow(pipeline, d_model="wide", overrides=words).status == 1
    assert "d_model" in capsys.readouterr().err
    assert not (tmp_path / "artifacts").exists()


def test_only_what_changed_is_made_again(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another sampling temperature evaluates again and trains nothing."""
    from tests.flows.test_run import run_through

    copy = tmp_path / "artifacts"
    shutil.copytree(finished.artifacts, copy, symlinks=True)
    with training_here():
        events = run_through(copy, "--evaluation.temperature", "0.5", "--name", "cooler")
    kinds = {event.stage: event.kind for event in events if event.kind in ("hit", "built")}
    assert kinds == dict.fromkeys(STAGES[:4], "hit") | {"evaluate": "built"}


@pytest.mark.slow
def test_two_processes_learn_the_same(tmp_path: Path, finished: Finished) -> None:
    """Two training processes take the same steps as one, up to the order of sums."""
    done = make(tmp_path, "--numerics.processes", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    one = metrics_log.read(finished.folder / "metrics.jsonl")
    two = metrics_log.read(tmp_path / "runs" / "tiny" / "metrics.jsonl")
    assert [r["step"] for r in one] == [r["step"] for r in two]
    for ours, theirs in zip(one, two, strict=True):
        # Sums in another order: float32's last bits at the first step, which later steps amplify.
        assert abs(ours["loss"] - theirs["loss"]) < 1e-4 * ours["loss"]


@pytest.mark.slow
@pytest.mark.parametrize("extra", [[], ["--compile"]], ids=["eager", "compiled"])
def test_killed_runs_resume_bit_for_bit(extra: list[str]) -> None:
    """`lmcore verify-resume`: killed twice and resumed, the weights have the same digest."""
    from flows.trainer.numerics import compiler

    if extra and not compiler():
        pytest.skip("no C++ compiler, which torch.compile needs on a CPU")
    done = subprocess.run(
        [sys.executable, "-c", LMCORE, "verify-resume", *extra],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal, bit for bit" in done.stdout
    assert done.stdout.count("killed after step") == 2
