"""Training processes on every device: two are one, and a killed one goes on to the same bits."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flows.formats import metrics_log
from flows.trainer.job import Job
from flows.trainer.numerics import missing_for_compiling
from lmcore.planning.peak import peak_flops
from tests.small_training import (
    evaluation_of,
    finish,
    new_job,
    result_of,
    run_worker,
    start_worker,
)

STEPS = 60
# How a run is executed; a CPU has no graph to record, and compiling for it takes minutes.
EXECUTIONS = {
    "eager": {},
    "compiled": {"compile": True},
    "compiled and recorded": {"compile": True, "cuda_graph": True},
}

NewRun = Callable[[str], Job]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where compiled kernels are kept: the first run makes them, the others find them."""
    return str(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(params=list(EXECUTIONS))
def new_run(request: pytest.FixtureRequest, device: str, kernels: str, tmp_path: Path) -> NewRun:
    """Runs of one kind of execution, each in folders of its own."""
    execution = EXECUTIONS[request.param]
    if device == "cpu" and execution:
        pytest.skip("only eager steps are tried on the CPU here")
    if execution.get("compile") and (missing := missing_for_compiling(device)):
        pytest.skip(f"torch.compile needs {missing}")

    def make(name: str) -> Job:
        job = new_job(tmp_path / name, device)
        precision = "bfloat16" if device == "cuda" else "float32"
        training = replace(
            job.training, tokens=STEPS * 4 * 32, validate_every=25, precision=precision
        )
        numerics = replace(job.numerics, **execution)
        return replace(job, training=training, numerics=numerics, compiled=kernels)

    return make


def kill_after(worker: subprocess.Popen[str], step: int) -> None:
    """Kill a training process outright when it has logged a step."""
    assert worker.stdout is not None
    for line in worker.stdout:
        if f'"kind": "train", "step": {step}' in line:
            worker.kill()
            break
    rest, _ = worker.communicate()
    assert worker.returncode == -9, rest[-4000:]


def test_killed_run_goes_on_to_the_same_bits(new_run: NewRun) -> None:
    """Two processes side by side train to one digest; one that was killed and went on does too."""
    whole, again, killed = new_run("whole"), new_run("again"), new_run("killed")
    workers = [start_worker(job) for job in (whole, again, killed)]
    kill_after(workers.pop(), 12)
    for worker in workers:
        finish(worker)
    expected = result_of(whole)
    assert expected["steps"] == STEPS
    assert result_of(again)["weights"] == expected["weights"]
    assert not (Path(killed.out_dir) / "result.json").exists()
    run_worker(killed)
    assert result_of(killed)["weights"] == expected["weights"]
    records = metrics_log.read(Path(killed.metrics))
    assert [r["step"] for r in records if r["kind"] == "train"] == list(range(1, STEPS + 1))


def test_log_and_evaluation(device: str, tmp_path: Path) -> None:
    """A process logs the speed as a share of the GPU's peak, learns, and is measured where it was.

    Without a known peak it says FLOP/s alone.
    """
    job = new_job(tmp_path / "job", device)
    precision = "float16" if device == "cuda" else "float32"
    job = replace(job, training=replace(job.training, precision=precision))
    run_worker(job)
    records = [r for r in metrics_log.read(Path(job.metrics)) if r["kind"] == "train"]
    assert records[-1]["loss"] < records[0]["loss"]
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    for record in records:
        assert ("utilisation" in record) == (peak_flops(name, precision) is not None)
        assert 0 <= record.get("utilisation", 0) < 1
        assert record["flops_per_second"] >= 0
        assert record["memory_bytes"] > 0

    run_worker(evaluation_of(job))
    found = json.loads((Path(job.out_dir) / "evaluation.json").read_text())
    last = [r for r in metrics_log.read(Path(job.metrics)) if r["kind"] == "validation"][-1]
    assert found["loss"] == pytest.approx(last["loss"], rel=1e-3)
