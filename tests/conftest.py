"""What tests of any part may share: one tiny finished run."""

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.flows.tiny_run import Finished

# Kernels of the tests' own process; a few threads on a busy machine wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Started in a shell's background, a process ignores Ctrl-C, and so do those that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> "Finished":
    """The tiny run, made once by the command that a user types, without Prefect.

    Whoever changes something below its folder works on a copy.
    """
    from tests.flows.tiny_run import Finished, make  # it needs what reads and writes Parquet

    artifacts = tmp_path_factory.mktemp("tiny") / "artifacts"
    done = make(artifacts)
    assert done.returncode == 0, done.stdout + done.stderr
    return Finished(Path(artifacts), done.stdout)
