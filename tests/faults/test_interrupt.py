"""Ctrl-C, in every stage: one line, status 130, soon, and nothing to clean up."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flows.progress.events import Event
from tests.faults.conftest import SMALL, Ended, record_of
from tests.faults.damage import contents, forget

ROOT = Path(__file__).parents[2]
SOON_SECONDS = 5.0
STAGES = ("download", "tokenizer", "pretokenize", "pretrain", "evaluate")
# So much text that each of the first three stages can be caught at work: by a process that looks
# every 20 ms, and by one that waits for 50 ms.
LARGE = ("--corpus.n-train-stories", "6000", "--tokenizer.vocab-size", "1000")
LARGER = ("--corpus.n-train-stories", "20000", "--tokenizer.vocab-size", "1000")


@pytest.fixture
def interrupt_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[float]]:
    """Press Ctrl-C a moment after a stage has begun; gives when that was."""
    from flows.progress.terminal import Terminal

    show = Terminal.__call__

    def arrange(stage: str, after_seconds: float) -> list[float]:
        pressed: list[float] = []

        def press() -> None:
            pressed.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        def see(self: Terminal, event: Event) -> None:
            show(self, event)
            if event.kind == "started" and event.stage == stage:
                threading.Timer(after_seconds, press).start()

        monkeypatch.setattr(Terminal, "__call__", see)
        return pressed

    return arrange


# An interrupt between a file's opening and its `with` leaves it to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("stage", STAGES[:3])
def test_ctrl_c_in_a_stage_of_this_process(stage, small, tmp_path, interrupt_in):
    """One line and 130, within five seconds; what was made before is whole, the rest is gone."""
    pressed = interrupt_in(stage, 0.05)
    ended = small(tmp_path, *LARGER)
    assert time.monotonic() - pressed[0] < SOON_SECONDS
    assert_interrupted(ended)
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == sorted(
        STAGES[: STAGES.index(stage)]
    )
    assert [name for name in contents(tmp_path) if name.startswith(("tmp/", "work/"))] == []


def assert_interrupted(ended: Ended) -> None:
    """Nothing on standard error but the one line."""
    assert ended.status == 130, ended
    assert re.fullmatch(r"interrupted: [^\n]*goes on[^\n]*\n", ended.err), ended


class Stalling(BaseHTTPRequestHandler):
    """Sends half of what it promises, and then nothing."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "20000")
        self.send_header("ETag", '"1"')
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(b"x" * 10000)
        self.wfile.flush()
        self.server.release.wait()  # pyright: ignore[reportAttributeAccessIssue]

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def stalling() -> Iterator[str]:
    """The address of a server that stalls."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stalling)
    server.release = threading.Event()  # pyright: ignore[reportAttributeAccessIssue]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.release.set()  # pyright: ignore[reportAttributeAccessIssue]
    server.shutdown()
    thread.join()
    server.server_close()


def test_ctrl_c_while_a_server_says_nothing(stalling, small, tmp_path, interrupt_in):
    """The wait ends at once, and what had come is kept for the next run."""
    urls = ("--corpus.train-url", f"{stalling}/a", "--corpus.valid-url", f"{stalling}/b")
    pressed = interrupt_in("download", 0.5)
    ended = small(tmp_path, "--corpus.kind", "url", *urls)
    assert time.monotonic() - pressed[0] < SOON_SECONDS
    assert_interrupted(ended)
    (partial,) = tmp_path.glob("work/download-*/train")
    assert partial.stat().st_size == 10000


# --- in processes of their own --------------------------------------------------------------

LONG = ("--training.tokens", "12800000", "--training.validate-every", "0")


def start(artifacts: Path, *words: str) -> subprocess.Popen[str]:
    """The command line in a session of its own, as in a terminal."""
    return subprocess.Popen(
        [sys.executable, "flows/pipeline.py", *SMALL, "--artifacts", str(artifacts), *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(there: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until something is there, or the process has ended, which is a failure."""
    deadline = time.monotonic() + 120
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ctrl_c(process: subprocess.Popen[str]) -> Ended:
    """Send SIGINT to the group, as a terminal does; it must end soon."""
    pressed = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - pressed < SOON_SECONDS
    return Ended(process.returncode, out, err)


def alive_below(artifacts: Path) -> list[str]:
    """Processes that still work for this folder."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if str(artifacts) in line]


def checkpoints(artifacts: Path) -> list[Path]:
    return sorted(artifacts.glob("work/pretrain-*/checkpoints/step-*"))


def test_ctrl_c_while_training_writes_a_checkpoint(tmp_path):
    """The training process ends with its parent, after saving the step it was at."""
    process = start(tmp_path, *LONG, "--checkpoint-every", "50")
    wait_for(lambda: checkpoints(tmp_path), process)
    ended = ctrl_c(process)
    assert_interrupted(ended)
    assert alive_below(tmp_path) == []
    last = int(checkpoints(tmp_path)[-1].name.removeprefix("step-"))
    log = next(tmp_path.glob("work/pretrain-*/metrics.jsonl")).read_text().splitlines()
    assert f'"step": {last}' in log[-1]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["none", "prefect"])
def test_ctrl_c_in_every_stage_and_then_to_the_end(engine, tmp_path):
    """Five runs, each stopped one stage later; the sixth ends as one that was never stopped."""
    words = (*LARGE, "--engine", engine, "--training.tokens", "64000")
    words = (*words, "--corpus.n-valid-stories", "400")
    for stage in STAGES:
        process = start(tmp_path / "a", *words)
        wait_for(lambda stage=stage: at_work(tmp_path / "a", stage), process)
        assert_interrupted(ctrl_c(process))
        assert alive_below(tmp_path / "a") == []
    for folder in ("a", "b"):
        process = start(tmp_path / folder, *words)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, (out, err)
    for stage in STAGES:
        found, wanted = (record_of(tmp_path / folder, stage)["digest"] for folder in ("a", "b"))
        assert found == wanted


@pytest.mark.slow
def test_pretokenize_goes_on_after_a_kill(tmp_path):
    """Killed with three shards finished: the next run keeps them, and its files are the same."""
    words = ("--corpus.n-train-stories", "60000", "--pretokenize.shard-tokens", "1000")
    process = start(tmp_path / "a", *words)
    wait_for(
        lambda: list((tmp_path / "a" / "work").glob("pretokenize-*/train-00002.parquet")), process
    )
    process.kill()
    process.communicate()
    ended = [ended_together(start(tmp_path / folder, *words))[0] for folder in ("a", "b")]
    assert [one.status for one in ended] == [0, 0], ended
    assert re.search(r"train: \d+ shards of an earlier try kept", ended[0].out), ended[0]
    found, wanted = (tokens_of(tmp_path / folder) for folder in ("a", "b"))
    assert len(wanted) > 4
    assert found == wanted
    assert (
        record_of(tmp_path / "a", "pretokenize")["facts"]
        == (record_of(tmp_path / "b", "pretokenize")["facts"])
    )
    assert not list((tmp_path / "a" / "work").glob("*"))


def tokens_of(artifacts: Path) -> dict[str, bytes]:
    """The shards of the small run, by name."""
    folder = artifacts / "runs" / "small" / "pretokenize"
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def at_work(artifacts: Path, stage: str) -> bool:
    """Whether a stage is being built; of training, whether a step has been taken."""
    if stage == "pretrain":
        logs = artifacts.glob("work/pretrain-*/metrics.jsonl")
        return any(log.stat().st_size for log in logs)
    return bool(list(artifacts.glob(f"tmp/{stage}-*/artifact")))


def ended_together(*runs: subprocess.Popen[str]) -> list[Ended]:
    """How several runs ended."""
    said = [run.communicate(timeout=240) for run in runs]
    return [Ended(run.returncode, *texts) for run, texts in zip(runs, said, strict=True)]


def test_two_runs_at_once_share_the_work(artifacts):
    """The second waits for the first and reuses what it made; both end well.

    The model is there already: training takes two processes more, and the test beside this one.
    """
    for stage in STAGES[:3]:
        forget(artifacts, stage)
    ended = ended_together(start(artifacts), start(artifacts))
    assert_shared(ended, artifacts, STAGES[:3])


@pytest.mark.slow
def test_two_runs_at_once_share_the_training(tmp_path):
    """From nothing to the end."""
    ended = ended_together(start(tmp_path), start(tmp_path))
    assert_shared(ended, tmp_path, STAGES)


def assert_shared(ended: list[Ended], artifacts: Path, made: tuple[str, ...]) -> None:
    """Both runs ended well, each stage was built once, and nothing else is left."""
    assert [one.status for one in ended] == [0, 0], ended
    for stage in made:
        assert len(list((artifacts / "store" / stage).iterdir())) == 1
    assert sum(one.out.count("built in") for one in ended) == len(made), ended
    left = [n for n in contents(artifacts) if n.startswith(("tmp/", "work/", "quarantine/"))]
    assert left == []
