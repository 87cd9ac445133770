"""Locks that the kernel frees, and that the working child keeps."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from flows.store import lock
from tests.flows.store.builds import start

_HOLDER = """
import subprocess, sys, time
from pathlib import Path
from flows.store.lock import hold, held_descriptors
with hold(Path(sys.argv[1])):
    if sys.argv[2] == "child":
        sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
        quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        print(subprocess.Popen(sleep, pass_fds=held_descriptors(), **quiet).pid, flush=True)
    else:
        stray = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        print(stray.pid, flush=True)
    time.sleep(60)
"""


def is_free(path) -> bool:
    """Whether the lock could be had now."""
    with lock.hold_if_free(path) as free:
        return free


def until(condition) -> bool:
    """Wait up to ten seconds for a condition."""
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize("who", ["child", "stray"])
def test_a_killed_holder_leaves_the_lock_to_the_child_that_got_it(tmp_path, who):
    """kill -9 frees the lock, unless a child that was handed the descriptor still works."""
    path = tmp_path / "a.lock"
    holder = start(_HOLDER, path, who)
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    try:
        assert not is_free(path)
        holder.kill()
        holder.communicate()
        assert is_free(path) == (who == "stray")
    finally:
        os.kill(child, signal.SIGKILL)
    assert until(lambda: is_free(path))


def test_waiting_names_the_holder_and_ends_with_it(tmp_path):
    """The waiter learns the process id once, and goes on when the lock is freed."""
    path, told, entered = tmp_path / "a.lock", [], threading.Event()

    def wait() -> None:
        with lock.hold(path, told.append):
            entered.set()

    with lock.hold(path):
        thread = threading.Thread(target=wait)
        thread.start()
        assert until(lambda: bool(told))
        assert not entered.is_set()
    thread.join(10)
    assert entered.is_set()
    assert told == [os.getpid()]


def test_ctrl_c_ends_the_wait(tmp_path):
    """An interrupt while waiting raises KeyboardInterrupt at once."""
    path = tmp_path / "a.lock"
    script = (
        "import sys\nfrom pathlib import Path\nfrom flows.store.lock import hold\n"
        "try:\n"
        "  with hold(Path(sys.argv[1]), lambda pid: print(pid, flush=True)): pass\n"
        "except KeyboardInterrupt: print('stopped')"
    )
    with lock.hold(path):
        waiter = start(script, path)
        assert waiter.stdout is not None
        assert int(waiter.stdout.readline()) == os.getpid()
        waiter.send_signal(signal.SIGINT)
        assert waiter.communicate(timeout=10)[0] == "stopped\n"


def test_held_descriptors_are_those_around_the_caller(tmp_path):
    """Locks are listed from entry to exit, in any order of release, and not in other threads."""
    seen_elsewhere = []
    first, second = lock.hold(tmp_path / "a"), lock.hold(tmp_path / "b")
    first.__enter__()
    second.__enter__()
    thread = threading.Thread(target=lambda: seen_elsewhere.append(lock.held_descriptors()))
    thread.start()
    thread.join()
    assert len(lock.held_descriptors()) == 2
    first.__exit__(None, None, None)
    assert len(lock.held_descriptors()) == 1
    second.__exit__(None, None, None)
    assert lock.held_descriptors() == ()
    assert seen_elsewhere == [()]


def test_without_locks_work_goes_on(tmp_path, monkeypatch):
    """On a platform without flock nobody waits, and nothing is taken for dead."""
    monkeypatch.setattr(lock, "fcntl", None)
    assert not lock.locks_exist()
    path = tmp_path / "a.lock"
    with lock.hold(path), lock.hold(path):
        assert not is_free(path)


def test_a_missing_lock_file_is_not_made_by_asking(tmp_path):
    """Asking whether a lock is free makes nothing."""
    with pytest.raises(FileNotFoundError), lock.hold_if_free(tmp_path / "a.lock"):
        pass
    assert not list(tmp_path.iterdir())


def test_importing_the_store_is_light():
    """The store brings in nothing outside the standard library and our errors."""
    code = "import sys, flows.store.publish, flows.store.listing; print(*sys.modules, sep='\\n')"
    out = subprocess.run(
        [sys.executable, "-c", code],
        cwd=os.getcwd(),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(lock.__file__).partition("/flows/")[0]},
    ).stdout.split()
    standard = set(sys.stdlib_module_names) | {"flows", "lmcore", "__main__"}
    foreign = {name.partition(".")[0] for name in out} - standard
    assert not foreign & {"torch", "numpy", "pyarrow", "prefect", "pydantic", "httpx", "rich"}
    assert {name for name in out if name.startswith("lmcore.")} == {"lmcore.errors"}
