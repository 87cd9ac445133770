"""A run restored at every one of its steps, interrupted again and again, made many times over.

At every step is tried in this process, by the code that a fresh one runs: the checkpoint is loaded
from the disk into new tensors, the log is cut, and `pretrain` goes on. Fresh processes, which cost
seconds each, are tried ten from the start, and five in a row within one run; compiled, which costs
ten seconds each, one is interrupted.
"""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from flows.formats import checkpoint, metrics_log
from flows.trainer import loop
from flows.trainer.job import Job
from flows.trainer.numerics import missing_for_compiling
from tests import small_training
from tests.small_training import finish, result_of, start_worker

STEPS = 60
# A process ends right before it takes the step after these.
INTERRUPTED = (1, 13, 14, 30, 59)

# A training process with this first on its path is killed outright before a step of its choosing.
KILLER = """
import os, signal
from flows.trainer.feed import HostFeed

take = HostFeed.batch

def batch(feed, index):
    if index == int(os.environ["KILL_AFTER"]):
        os.kill(os.getpid(), signal.SIGKILL)
    return take(feed, index)

HostFeed.batch = batch
"""

pytestmark = [
    pytest.mark.slow,
    # Of what torch imports when it compiles.
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where compiled kernels are kept: the first run makes them, the others find them."""
    return str(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(params=["eager", "compiled"])
def new_job(
    request: pytest.FixtureRequest, tmp_path: Path, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Job]:
    """Jobs of 60 steps, each in folders of its own, all stepping in one way."""
    compiles = request.param == "compiled"
    if compiles:
        if missing := missing_for_compiling("cpu"):
            pytest.skip(f"torch.compile needs {missing}")
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", kernels)

    def make(name: str, **settings: object) -> Job:
        job = small_training.new_job(tmp_path / name)
        model = replace(job.model, n_layers=1)
        training = replace(job.training, tokens=STEPS * 4 * 32, validate_every=20, dropout=0.1)
        numerics = replace(job.numerics, compile=compiles)
        job = replace(job, model=model, training=training, numerics=numerics, compiled=kernels)
        return replace(job, **settings)  # type: ignore[arg-type]

    return make


def log_of(job: Job) -> list[tuple]:
    """The log without what depends on the clock and the machine."""
    records = metrics_log.read(Path(job.metrics))
    return [(r["kind"], r["step"], r["loss"], r.get("grad_norm"), r.get("lr")) for r in records]


def end_of(job: Job) -> tuple:
    """The weights, the whole last state, and the log of a finished run."""
    last = checkpoint.list_records(Path(job.work_dir) / "checkpoints")[-1]
    assert last.step == STEPS
    return result_of(job)["weights"]["last"], last.sha256, log_of(job)


def test_restored_at_every_step(
    new_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the checkpoint of each step on, every loss and the whole last state are the same."""
    # One compiled step serves them all: to compile it 60 times over would take half an hour.
    make = loop.make_step
    made = cache(lambda: make(new_job("step"), loop.World()))
    monkeypatch.setattr(loop, "make_step", lambda job, world: made())
    whole = new_job("whole", checkpoint_every=1, keep_checkpoints=STEPS)
    loop.pretrain(whole, lambda event: None)
    expected = end_of(whole)
    assert [step for kind, step, *_ in expected[2] if kind == "train"] == [*range(1, STEPS + 1)]
    for step in range(1, STEPS):
        job = new_job(f"from {step}", checkpoint_every=100)
        name = checkpoint.folder_name(step)
        held = Path(whole.work_dir) / "checkpoints" / name
        shutil.copytree(held, Path(job.work_dir) / "checkpoints" / name)
        shutil.copyfile(whole.metrics, job.metrics)
        said: list[str] = []
        loop.pretrain(job, lambda event, said=said: said.append(event.text))
        assert f"resumed after step {step}" in said
        assert end_of(job) == expected, f"resumed after step {step}"


@pytest.mark.parametrize("new_job", ["eager"], indirect=True)
def test_interrupted_again_and_again(
    new_job: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed, and each time taken up by a fresh process, a run ends as one never killed."""
    (tmp_path / "killer").mkdir()
    (tmp_path / "killer" / "sitecustomize.py").write_text(KILLER)
    whole, killed = new_job("whole"), new_job("killed")
    finish(start_worker(whole))
    for step in INTERRUPTED:
        monkeypatch.setenv("KILL_AFTER", str(step))
        worker = start_worker(killed, str(tmp_path / "killer"))
        said, _ = worker.communicate()
        assert worker.returncode == -9, said[-4000:]
        assert log_of(killed)[-1][1] == step
    finish(start_worker(killed))
    assert end_of(killed) == end_of(whole)


@pytest.mark.parametrize("new_job", ["eager"], indirect=True)
def test_ten_fresh_processes_agree(new_job: Callable[..., Job]) -> None:
    """Ten processes that know nothing of each other leave one state and one log."""
    jobs = [new_job(f"process {n}") for n in range(10)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(lambda job: finish(start_worker(job)), jobs))
    first, *others = [end_of(job) for job in jobs]
    assert all(other == first for other in others)
