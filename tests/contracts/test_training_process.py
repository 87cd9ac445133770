"""A training process needs torch, numpy, einops and safetensors; a machine that trains has those.

What conducts a run, reads its corpus and shows it stays with the parent: see
`tests.small_training.PIPELINE_PACKAGES`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.small_training import (
    PIPELINE_PACKAGES,
    ROOT,
    blocking,
    evaluation_of,
    new_job,
    result_of,
    run_worker,
)


def test_job_runs_where_the_pipeline_is_not_installed(tmp_path: Path) -> None:
    """A model is trained and measured by processes that can import none of those packages."""
    without = blocking(tmp_path / "without")
    job = new_job(tmp_path / "job")
    run_worker(job, without)
    assert result_of(job)["steps"] == 12

    run_worker(evaluation_of(job), without)
    found = json.loads((Path(job.out_dir) / "evaluation.json").read_text())
    assert found["documents"] == 6
    assert len(json.loads((Path(job.out_dir) / "samples.json").read_text())) == 2


@pytest.mark.parametrize("name", PIPELINE_PACKAGES)
def test_blocked_packages_cannot_be_imported(tmp_path: Path, name: str) -> None:
    """The test above means something: in its processes the packages really are out of reach."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"],
        env=os.environ | {"PYTHONPATH": blocking(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{name} is blocked here" in done.stderr


def test_tests_of_the_numerics_are_collected_there(tmp_path: Path) -> None:
    """The tests that a machine with a GPU runs ask for none of those packages when collected."""
    folders = ["gpu", *(f"lmcore/{part}" for part in ("model", "training", "optimizer", "data"))]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
        + [f"tests/{folder}" for folder in folders],
        env=os.environ | {"PYTHONPATH": blocking(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
