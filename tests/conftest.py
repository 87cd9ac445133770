"""What tests of any part may share: one tiny finished run."""

import os
from pathlib import Path

import pytest

from tests.flows.tiny_run import Finished, make

# Kernels of the tests' own process; a few threads on a busy machine wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The tiny run, made once by the command that a user types, without Prefect.

    Whoever changes something below its folder works on a copy.
    """
    artifacts = tmp_path_factory.mktemp("tiny") / "artifacts"
    done = make(artifacts)
    assert done.returncode == 0, done.stdout + done.stderr
    return Finished(Path(artifacts), done.stdout)
