"""Starting a training process: its events pass, its failures are told apart, none is left."""

import errno
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from flows.disk.errors import lack_of_room
from flows.formats import checkpoint
from flows.progress.events import Event, silent, to_line
from flows.trainer import launch as launching
from flows.trainer.job import Job, checkpoints_of
from flows.trainer.launch import launch
from flows.trainer.numerics import Resolved
from lmcore.errors import InputError
from lmcore.model.config import ModelConfig
from lmcore.training.config import TrainingConfig
from tests.small_training import new_job, start_worker

NUMERICS = Resolved("cpu", False, 1, 3, 1, "2.11.0", "x86_64", "avx2")
JOB = Job("pretrain", ModelConfig(vocab_size=300), TrainingConfig(), NUMERICS)


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a script in the worker's place; it is called with ``-m flows.worker JOB``."""

    def replace_by(code: str) -> None:
        script = tmp_path / "worker"
        script.write_text(f"#!{sys.executable}\nimport os, signal, sys, time\n{code}\n")
        script.chmod(0o755)
        monkeypatch.setattr(launching.sys, "executable", str(script))

    return replace_by


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def said(*events: Event) -> str:
    return "\n".join(f"print({to_line(event)!r}, flush=True)" for event in events)


def test_events_pass_in_order(worker, capfd: pytest.CaptureFixture[str]) -> None:
    """Every event reaches the watcher, in order; other output goes to standard error."""
    events = [Event("note", "pretrain", f"line {n} ✓", {"n": n}) for n in range(3)]
    worker(said(*events[:2]) + "\nprint('not an event')\n" + said(events[2]))
    got: list[Event] = []
    launch(JOB, got.append)
    assert got == events
    assert capfd.readouterr().err == "not an event\n"


def test_process_gets_the_job_and_its_environment(worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker finds its job in a file, its threads pinned, what changes bits cleared."""
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    worker(
        "import json\n"
        "names = ['OMP_NUM_THREADS', 'ATEN_CPU_CAPABILITY', 'MKL_CBWR', 'LMCORE_PARENT']\n"
        "data = {'words': sys.argv[1:3], 'stage': json.load(open(sys.argv[3]))['stage'],\n"
        "        'environment': [os.environ.get(name) for name in names],\n"
        "        'leads': os.getsid(0) == os.getpid()}\n"
        "print(json.dumps({'kind': 'note', 'stage': '', 'text': '', 'data': data}))"
    )
    got: list[Event] = []
    launch(JOB, got.append)
    (event,) = got
    assert event.data == {
        "words": ["-m", "flows.worker"],
        "stage": "pretrain",
        "environment": ["3", None, "AUTO,STRICT", str(os.getpid())],
        "leads": True,
    }


def test_compiled_kernels_are_kept_where_the_job_says(
    worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What torch.compile makes goes into the job's folder, not into the system's temporary one."""
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.delenv("TRITON_CACHE_DIR", raising=False)
    worker(
        "import json\n"
        "names = ['TORCHINDUCTOR_CACHE_DIR', 'TRITON_CACHE_DIR']\n"
        "data = {'found': [os.environ.get(name) for name in names]}\n"
        "print(json.dumps({'kind': 'note', 'stage': '', 'text': '', 'data': data}))"
    )
    got: list[Event] = []
    launch(replace(JOB, compiled=str(tmp_path)), got.append)
    launch(JOB, got.append)
    assert [event.data["found"] for event in got] == [
        [str(tmp_path), str(tmp_path / "triton")],
        [None, None],
    ]


def test_failure_that_the_user_can_mend(worker) -> None:
    """What the worker says that the user can mend is raised as such, in its own words."""
    worker(said(Event("failed", "pretrain", "the text is empty")) + "\nsys.exit(1)")
    with pytest.raises(InputError, match=r"^the text is empty$"):
        launch(JOB, silent)


def test_lack_of_room_crosses_by_its_number(worker) -> None:
    """Told in the worker's words alone it is still known for what it is, wherever it was met."""
    worker(
        said(Event("failed", "pretrain", "no room", {"no_room": errno.EDQUOT})) + "\nsys.exit(1)"
    )
    with pytest.raises(InputError) as caught:
        launch(JOB, silent)
    assert lack_of_room(caught.value) == errno.EDQUOT


def test_bug_in_the_worker_shows_its_traceback(worker) -> None:
    """A bug is not the user's: it is raised with the worker's own traceback."""
    bug = Event("failed", "pretrain", "KeyError: 'x'\nTraceback: line 7", {"bug": True})
    worker(said(bug) + "\nsys.exit(70)")
    with pytest.raises(RuntimeError, match="the pretrain process failed: KeyError: 'x'\nTraceback"):
        launch(JOB, silent)


def test_first_failure_is_the_cause(worker) -> None:
    """Of several ranks that fail, the first to say so is believed."""
    first, second = (Event("failed", "pretrain", text) for text in ("the cause", "a consequence"))
    worker(said(first, second) + "\nsys.exit(1)")
    with pytest.raises(InputError, match="the cause"):
        launch(JOB, silent)


def test_killed_worker_is_explained(worker) -> None:
    """A worker killed outright is told as want of memory, with what to lower."""
    worker("os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(InputError, match=r"killed \(signal 9\).*--numerics.micro-batch.*resumes"):
        launch(JOB, silent)


def test_silent_death_is_a_bug(worker) -> None:
    """A worker that ends with a status and no word is reported with the status."""
    worker("sys.exit(3)")
    with pytest.raises(RuntimeError, match="ended with exit code 3"):
        launch(JOB, silent)


def test_job_file_is_gone_afterwards(worker, tmp_path: Path, monkeypatch) -> None:
    """The job's file does not outlive the worker."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(launching.tempfile, "tempdir", str(folder))
    worker("assert os.path.exists(sys.argv[3])")
    launch(JOB, silent)
    assert list(folder.iterdir()) == []


def interrupted(event: Event) -> None:
    raise KeyboardInterrupt


def test_interrupt_lets_the_worker_finish_its_step(worker, tmp_path: Path) -> None:
    """Ctrl-C asks the worker to stop and waits: it has time for its checkpoint."""
    done = tmp_path / "done"
    worker(
        f"def stop(*_):\n    time.sleep(0.3); open({str(done)!r}, 'w').close(); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\n" + said(Event("note", "pretrain")) + "\n"
        "time.sleep(60)"
    )
    with pytest.raises(KeyboardInterrupt):
        launch(JOB, interrupted)
    assert done.exists()


def test_talkative_worker_can_finish_its_step(worker, tmp_path: Path) -> None:
    """A worker with more to say than a pipe holds is heard out while it stops, not killed."""
    done = tmp_path / "done"
    worker(
        f"def stop(*_):\n    print('x' * 1_000_000, flush=True); open({str(done)!r}, 'w').close()\n"
        "    sys.exit(143)\nsignal.signal(signal.SIGTERM, stop)\n"
        + said(Event("note", "pretrain"))
        + "\ntime.sleep(60)"
    )
    with pytest.raises(KeyboardInterrupt):
        launch(JOB, interrupted)
    assert done.exists()


def test_deaf_worker_and_its_children_are_killed(
    worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that does not stop in time is killed, with every process that it started."""
    monkeypatch.setattr(launching, "GRACE_SECONDS", 0.3)
    pids = tmp_path / "pids"
    worker(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "leads = os.fork()\n"
        f"with open({str(pids)!r}, 'a') as file: file.write(f'{{os.getpid()}}\\n')\n"
        f"while open({str(pids)!r}).read().count('\\n') < 2: time.sleep(0.01)\n"
        "if not leads: time.sleep(60)\n" + said(Event("note", "pretrain")) + "\ntime.sleep(60)"
    )
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        launch(JOB, interrupted)
    assert time.monotonic() - began < 10
    numbers = [int(line) for line in pids.read_text().split()]
    assert len(numbers) == 2
    end = time.monotonic() + 5
    while any(map(alive, numbers)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(map(alive, numbers))


def test_descriptors_of_locks_are_inherited(worker, tmp_path: Path) -> None:
    """The descriptors that are handed over are open in the worker, and no other is."""
    held = os.open(tmp_path / "a.lock", os.O_RDWR | os.O_CREAT)
    other = os.open(tmp_path / "b.lock", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(other, True)
    worker(
        f"os.fstat({held})\n"
        f"try:\n    os.fstat({other})\nexcept OSError:\n    sys.exit(0)\nsys.exit(4)"
    )
    try:
        launch(JOB, silent, [held])
    finally:
        os.close(held)
        os.close(other)


def test_real_worker_shows_where_it_failed() -> None:
    """What fails in the real worker arrives with its kind, its text and its own traceback."""
    with pytest.raises(
        RuntimeError, match=r"(?s)process failed: FileNotFound.*Traceback.*scoring\.py"
    ):
        launch(Job("evaluate", JOB.model, JOB.training, NUMERICS, weights="nowhere"), silent)


def test_worker_that_nobody_listens_to_keeps_a_checkpoint(tmp_path: Path) -> None:
    """Its parent killed, a worker meets a closed pipe: it ends after a checkpoint of its step."""
    training = TrainingConfig(
        tokens=10_000_000, batch_size=4, warmup_steps=2, validate_every=0, precision="float32"
    )
    job = new_job(tmp_path, training=training, checkpoint_every=10**6)
    with start_worker(job) as worker:
        assert worker.stdout is not None
        while '"step": 3' not in worker.stdout.readline():
            assert worker.poll() is None
        worker.stdout.close()
        assert worker.wait(timeout=60) == 128 + signal.SIGTERM
    (kept,) = checkpoint.list_records(checkpoints_of(job))
    assert kept.step >= 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_worker_ends_with_its_parent(tmp_path: Path) -> None:
    """When the parent is killed outright, its worker is asked to stop."""
    import subprocess

    child = (
        "import os, sys, time; from flows.trainer.lifeline import die_with_parent;"
        "die_with_parent(); print(os.getpid(), flush=True); time.sleep(60)"
    )
    parent = (
        "import os, subprocess, sys;"
        "from flows.trainer.lifeline import environment;"
        f"subprocess.run([sys.executable, '-c', {child!r}], env=os.environ | environment(1))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert alive(pid)
        process.kill()
        end = time.monotonic() + 10
        while alive(pid) and time.monotonic() < end:
            time.sleep(0.02)
        assert not alive(pid)


def test_worker_of_a_dead_parent_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose parent died before it could ask for the signal ends at once."""
    from flows.trainer import lifeline

    monkeypatch.setattr(lifeline.ctypes, "CDLL", lambda *_, **__: _NoSignals())
    monkeypatch.setattr(lifeline.sys, "platform", "linux")
    monkeypatch.setenv(lifeline.PARENT_VARIABLE, str(os.getppid()))
    lifeline.die_with_parent()
    assert lifeline.PARENT_VARIABLE not in os.environ
    monkeypatch.setenv(lifeline.PARENT_VARIABLE, str(os.getppid() + 1))
    with pytest.raises(SystemExit) as ended:
        lifeline.die_with_parent()
    assert ended.value.code == 128 + signal.SIGTERM


class _NoSignals:
    """A C library whose prctl does nothing."""

    def prctl(self, *arguments: int) -> int:
        return 0
