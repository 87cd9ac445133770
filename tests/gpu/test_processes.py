"""Training processes on every device: two are one, and a killed one goes on to the same bits."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flows.formats import metrics_log
from flows.trainer.job import Job, write_job
from flows.trainer.lifeline import environment
from lmcore.planning.peak import peak_flops
from tests.small_training import ROOT, evaluation_of, new_job, result_of, run_worker

STEPS = 60
# How a run is executed; a CPU has no graph to record, and compiling for it takes a minute.
EXECUTIONS = {
    "eager": {},
    "recorded": {"cuda_graph": True},
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
    if device == "cpu" and request.param != "eager":
        pytest.skip("only eager steps are tried on the CPU here")

    def make(name: str) -> Job:
        job = new_job(tmp_path / name, device)
        precision = "bfloat16" if device == "cuda" else "float32"
        training = replace(
            job.training, tokens=STEPS * 4 * 32, validate_every=25, precision=precision
        )
        numerics = replace(job.numerics, **EXECUTIONS[request.param])
        return replace(job, training=training, numerics=numerics, compiled=kernels)

    return make


def trained(job: Job) -> dict:
    """The result of a job's process, run to its end."""
    done = run_worker(job)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return result_of(job)


def killed_after(job: Job, step: int) -> None:
    """Start a job's process and kill it outright when it has logged a step."""
    path = Path(job.work_dir) / "job.json"
    write_job(job, path)
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.worker", str(path)],
        env=os.environ | environment(1, job.compiled) | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["kind"] == "metrics" and event["data"]["step"] >= step:
            process.kill()
            break
    process.communicate()
    assert process.returncode == -9


def test_killed_run_goes_on_to_the_same_bits(new_run: NewRun) -> None:
    """Two fresh processes train to one digest; one that was killed and went on does too."""
    expected = trained(new_run("whole"))
    assert expected["steps"] == STEPS
    assert trained(new_run("again"))["weights"] == expected["weights"]
    killed = new_run("killed")
    killed_after(killed, 12)
    assert not (Path(killed.out_dir) / "result.json").exists()
    assert trained(killed)["weights"] == expected["weights"]
    records = metrics_log.read(Path(killed.metrics))
    assert [r["step"] for r in records if r["kind"] == "train"] == list(range(1, STEPS + 1))


def test_log_and_evaluation(device: str, tmp_path: Path) -> None:
    """A process logs the speed as a share of the GPU's peak, learns, and is measured where it was.

    Without a known peak it says FLOP/s alone.
    """
    job = new_job(tmp_path / "job", device)
    precision = "float16" if device == "cuda" else "float32"
    job = replace(job, training=replace(job.training, precision=precision))
    trained(job)
    records = [r for r in metrics_log.read(Path(job.metrics)) if r["kind"] == "train"]
    assert records[-1]["loss"] < records[0]["loss"]
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    for record in records:
        assert ("utilisation" in record) == (peak_flops(name, precision) is not None)
        assert 0 <= record.get("utilisation", 0) < 1
        assert record["flops_per_second"] >= 0
        assert record["memory_bytes"] > 0

    evaluation = evaluation_of(job)
    done = run_worker(evaluation)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    found = json.loads((Path(job.out_dir) / "evaluation.json").read_text())
    last = [r for r in metrics_log.read(Path(job.metrics)) if r["kind"] == "validation"][-1]
    assert found["loss"] == pytest.approx(last["loss"], rel=1e-3)
