"""A run's outcome is that of our own functions, with Prefect, without it, and when it breaks."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import engine
from flows.conductor import server
from lmcore.errors import InputError

ROOT = Path(__file__).parents[2]
PLAIN = {"LMCORE_ENGINE": "none"}


def in_fresh_process(code: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a Python of its own, in an empty folder, with a home of its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=cwd,
        env=fresh_environment(environment),
        capture_output=True,
        text=True,
        timeout=240,
    )


def fresh_environment(extra: dict[str, str]) -> dict[str, str]:
    """This environment without what configures Prefect, the project on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, "PYTHONPATH": str(ROOT), **extra}


def flow_of(monkeypatch: pytest.MonkeyPatch, kind: str, body: Any) -> Any:
    """A flow named stand-in around a body, under an engine."""
    monkeypatch.setenv("LMCORE_ENGINE", kind)
    return engine.flow("stand-in")(body)


def test_engine_none_never_imports_prefect(tmp_path: Path) -> None:
    """With the engine none, decorating and running a flow does not import Prefect."""
    done = in_fresh_process(
        """
        import sys
        from flows.engine import flow, run_flow, task
        from flows.conductor.pages import progress_bar, publish_table
        from flows.conductor.shards import map_shards

        @task("double")
        def double(n):
            publish_table("table", [{"n": n}])
            progress_bar("bar")(0.5)
            return sum(map_shards(abs, [n, -n]))

        @flow("demo")
        def demo(n):
            return double(n)

        assert run_flow(demo, n=4).value == 8
        assert "prefect" not in sys.modules
        """,
        tmp_path,
        **PLAIN,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_engine_none_leaves_functions_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the engine none, both decorators return the function itself."""
    monkeypatch.setenv("LMCORE_ENGINE", "none")
    assert engine.flow("len")(len) is len
    assert engine.task("len")(len) is len


def test_unknown_engine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word that is no engine is an error that names both."""
    monkeypatch.setenv("LMCORE_ENGINE", "airflow")
    with pytest.raises(InputError, match=r"'airflow': it must be prefect or none"):
        engine.task("len")(len)


def raising(error: BaseException) -> Any:
    """A flow's body that raises."""

    def body() -> None:
        raise error

    return body


@pytest.mark.parametrize("kind", ["none", "prefect"])
def test_user_error_is_one_line(
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    """An InputError ends a run with status 1 and one line, under either engine."""
    if kind == "prefect":
        request.getfixturevalue("conducted")
    outcome = engine.run_flow(flow_of(monkeypatch, kind, raising(InputError("too small"))))
    assert outcome == engine.Outcome(1)
    assert capfd.readouterr().err == "error: too small\n"


def test_interrupt_is_status_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C ends a run with status 130 and one line."""
    outcome = engine.run_flow(flow_of(monkeypatch, "none", raising(KeyboardInterrupt())))
    assert outcome.status == 130
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("kind", ["none", "prefect"])
def test_bug_is_one_traceback_of_our_frames(
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    """A bug ends a run with status 1 and one traceback, without the frames around our functions."""
    if kind == "prefect":
        request.getfixturevalue("conducted")
    monkeypatch.setenv("LMCORE_ENGINE", kind)

    @engine.task("divide")
    def divide(n: int) -> float:
        return 1 / n

    flow = engine.flow("stand-in")(lambda: divide(0))
    assert engine.run_flow(flow) == engine.Outcome(1)
    printed = capfd.readouterr().err
    assert printed.count("Traceback") == 1
    assert printed.endswith("ZeroDivisionError: division by zero\n")
    assert "return 1 / n" in printed
    assert f"site-packages{os.sep}prefect" not in printed
    assert "engine.py" not in printed.replace("test_engine.py", "")


def test_value_passes_through_prefect(
    conducted: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A conducted flow returns its own value, the very object, and prints nothing of Prefect's."""
    token = object()
    outcome = engine.run_flow(flow_of(monkeypatch, "prefect", lambda: token))
    assert outcome.status == 0
    assert outcome.value is token
    assert capfd.readouterr().err == ""


def test_tasks_show_in_prefect_under_their_names(
    conducted: None, monkeypatch: pytest.MonkeyPatch, eventually: Any
) -> None:
    """A run and its tasks are in Prefect's database, completed, under the names they were given."""
    from prefect.client.orchestration import get_client

    monkeypatch.setenv("LMCORE_ENGINE", "prefect")

    @engine.task("add-one")
    def add(n: int) -> int:
        return n + 1

    def shown(n: int) -> int:
        return add(add(n))

    assert engine.run_flow(engine.flow("shown")(shown), n=1).value == 3
    with get_client(sync_client=True) as client:
        (run,) = [r for r in client.read_flow_runs() if r.parameters == {"n": 1}]
        assert run.state_name == "Completed"

        def completed() -> list[str]:
            ours = [each for each in client.read_task_runs() if each.flow_run_id == run.id]
            return [each.name for each in ours if each.state_name == "Completed"]

        assert eventually(lambda: completed() == ["add-one", "add-one"])


def test_task_runs_again_with_equal_arguments(
    conducted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect's cache is off: the same task with the same arguments runs each time."""
    monkeypatch.setenv("LMCORE_ENGINE", "prefect")
    calls: list[int] = []

    @engine.task("count")
    def count(n: int) -> None:
        calls.append(n)

    flow = engine.flow("stand-in")(lambda: [count(1), count(1)])
    assert engine.run_flow(flow).status == 0
    assert engine.run_flow(flow).status == 0
    assert calls == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("parameters", "named"), [({"n": "many"}, "n: Input should be"), ({"m": 1}, "'m'")]
)
def test_bad_parameters_are_refused_before_work(
    conducted: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    parameters: dict[str, Any],
    named: str,
) -> None:
    """A parameter of the wrong type or name ends the run before the body or a server starts."""
    started: list[str] = []
    monkeypatch.setattr(server, "start", lambda: started.append("server"))

    def body(n: int = 1) -> None:
        started.append("body")

    assert engine.run_flow(flow_of(monkeypatch, "prefect", body), **parameters).status == 1
    printed = capfd.readouterr().err
    assert printed.startswith("error: ")
    assert named in printed
    assert started == []


class Breaking:
    """A Prefect object that breaks before or after it calls our function."""

    def __init__(self, fn: Any, when: str) -> None:
        self.fn, self.when = fn, when

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        if self.when == "before":
            raise ConnectionError("refused")
        self.fn(*args, **kwargs)
        raise ConnectionError("refused")


@pytest.mark.parametrize("when", ["before", "after"])
def test_prefect_breaking_around_a_function_costs_nothing(
    conducted: None, capfd: pytest.CaptureFixture[str], when: str
) -> None:
    """Where Prefect fails around our function, the function runs once and its value counts."""
    calls: list[int] = []

    def double(n: int) -> int:
        calls.append(n)
        return 2 * n

    assert engine.conduct(Breaking(double, when), (4,), {}) == 8
    assert engine.conduct(Breaking(double, when), (5,), {}) == 10  # now a plain call
    assert calls == [4, 5]
    printed = capfd.readouterr().err
    assert printed.count("\n") == 1
    assert "goes on without it" in printed


def test_our_error_wins_over_prefects(conducted: None) -> None:
    """Where our function raises, its own error comes out, once, whatever Prefect makes of it."""
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise InputError("ours")

    class Translating(Breaking):
        def __call__(self, *args: Any, **kwargs: Any) -> None:
            try:
                self.fn()
            except InputError:
                raise RuntimeError("theirs") from None

    with pytest.raises(InputError, match="ours"):
        engine.conduct(Translating(fail, ""), (), {})
    assert calls == [1]


def test_server_that_dies_during_a_task_is_done_without(
    conducted: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """When the server's process ends during a task, later tasks are plain calls; status 0."""
    from prefect.context import TaskRunContext

    monkeypatch.setenv("LMCORE_ENGINE", "prefect")
    seen: list[bool] = []

    def look() -> None:
        seen.append(TaskRunContext.get() is not None)

    @engine.task("first")
    def first() -> None:
        look()
        dead = SimpleNamespace(server_process=SimpleNamespace(poll=lambda: -9))
        monkeypatch.setattr(server, "temporary", lambda: dead)

    second = engine.task("second")(look)
    outcome = engine.run_flow(engine.flow("stand-in")(lambda: [first(), second()]))
    assert outcome.status == 0
    assert seen == [True, False]
    printed = capfd.readouterr().err
    assert printed == "prefect: its server has died; the run goes on without it\n"


def test_death_during_the_last_task_is_said(
    conducted: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A server that dies when no task follows is noticed when the function ends."""
    dead = SimpleNamespace(server_process=SimpleNamespace(poll=lambda: -9))

    def last() -> int:
        monkeypatch.setattr(server, "temporary", lambda: dead)
        return 7

    assert engine.run_flow(flow_of(monkeypatch, "prefect", last)) == engine.Outcome(0, 7)
    assert capfd.readouterr().err.startswith("prefect: its server has died")


def test_server_that_never_answers_is_done_without(
    conducted: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where no server answers at the address given, the run is plain calls and says so."""
    from prefect.context import FlowRunContext
    from prefect.settings import PREFECT_API_URL, temporary_settings

    flow = flow_of(monkeypatch, "prefect", lambda: FlowRunContext.get() is not None)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert engine.run_flow(flow) == engine.Outcome(0, False)
    assert "no server answers" in capfd.readouterr().err


RUN = """
import os, signal, sys, time
from flows.conductor import server
from flows.engine import flow, run_flow, task

@task("first")
def first(seconds: float, kill: bool) -> None:
    process = server.temporary().server_process
    if kill:
        process.kill()
    print("server", process.pid, flush=True)
    time.sleep(seconds)

@task("second")
def second() -> str:
    return "done"

@flow("demo")
def demo(seconds: float, kill: bool) -> str:
    first(seconds, kill)
    return second()

outcome = run_flow(demo, seconds=float(sys.argv[1]), kill=sys.argv[2] == "kill")
print("value", outcome.value, flush=True)
sys.exit(outcome.status)
"""


def begin_run(folder: Path, *words: str) -> tuple[subprocess.Popen[str], int]:
    """Start a run in a session of its own; returns it and its server's process, once it works."""
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, *words],
        cwd=folder,
        env=fresh_environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert run.stdout is not None
    words = run.stdout.readline().split()
    assert words[:1] == ["server"], run.communicate()
    return run, int(words[1])


def gone(pid: int) -> bool:
    """Whether a process has ended, waiting up to five seconds for it."""
    for _ in range(50):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_killed_run_leaves_no_server(tmp_path: Path, sent: signal.Signals) -> None:
    """A run ended by SIGKILL or SIGTERM takes its temporary server with it."""
    run, pid = begin_run(tmp_path, "60", "spare")
    run.send_signal(sent)
    run.communicate(timeout=20)
    assert run.returncode == -sent
    assert gone(pid)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_interrupted_run_ends_clean(tmp_path: Path) -> None:
    """Ctrl-C, sent to the whole group as a terminal does, is one line, 130, and no server left."""
    run, pid = begin_run(tmp_path, "60", "spare")
    os.killpg(run.pid, signal.SIGINT)
    _, errors = run.communicate(timeout=20)
    assert run.returncode == 130
    assert errors.count("\n") == 1
    assert errors.startswith("interrupted")
    assert gone(pid)


@pytest.mark.slow
def test_run_outlives_its_killed_server(tmp_path: Path) -> None:
    """A run whose server is killed during a task goes on, says so in one line, and exits 0."""
    run, _ = begin_run(tmp_path, "3", "kill")
    output, errors = run.communicate(timeout=120)
    assert run.returncode == 0
    assert output == "value done\n"
    assert errors == "prefect: its server has died; the run goes on without it\n"


@pytest.mark.slow
def test_run_does_without_a_server_that_cannot_start(tmp_path: Path) -> None:
    """A database that is no database costs the pages; the run says where to look, and exits 0."""
    home = tmp_path / ".prefect"
    home.mkdir()
    (home / "prefect.db").write_bytes(b"not a database" * 1000)
    done = in_fresh_process(
        """
        from flows.engine import flow, run_flow
        outcome = run_flow(flow("demo")(lambda: 7))
        assert outcome.value == 7
        """,
        tmp_path,
    )
    assert done.returncode == 0
    assert "no server answers" in done.stderr
    assert "server.log" in done.stderr
    assert done.stderr.count("\n") == 1
    assert (home / "server.log").stat().st_size > 0
