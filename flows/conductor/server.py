"""Prefect's settings and its server: set up before the import, started, watched, done without.

Prefect conducts a run and shows it; it never decides whether the run succeeds. So its server is
something that may be missing and may vanish at any moment. `lose` remembers that it did and says
so once; from then on everything in `flows.engine` and beside this file is a plain call.

Settings are environment defaults, for Prefect reads the environment once, at import. What the user
has set in the environment stands.
"""

import logging
import os
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmcore.errors import InputError

# docs/prefect.md gives the measured reason for each.
SETTINGS = {
    "PREFECT_CLIENT_MAX_RETRIES": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "DO_NOT_TRACK": "1",
}

# Asks the kernel to kill this process when its parent dies, then becomes the server. A launcher
# rather than `preexec_fn`, which may deadlock in a process that has threads, as Prefect's has.
LAUNCHER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the run that asked for this server has ended")
os.execv(sys.argv[2], sys.argv[2:])
"""
# After Ctrl-C Prefect writes down how the run ended and stops its server, which takes it 2 to 9
# seconds on a busy machine; the run's own work ends in less than one.
LAST_WORDS_SECONDS = 1.0
MAX_LAUNCHES = 2  # Prefect itself launches a server that fails at its start for ever


@dataclass
class _State:
    """What this process knows of Prefect."""

    configured: bool = False
    lost: bool = False
    launches: int = 0


_state = _State()


def say(text: str) -> None:
    """A line for the person who watches, on standard error."""
    print(f"prefect: {text}", file=sys.stderr, flush=True)


def first_line(error: BaseException) -> str:
    """The kind and the first line of an error."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def home() -> Path:
    """Where Prefect keeps its database: ``PREFECT_HOME``, or ``.prefect`` in this folder."""
    return Path(os.environ.get("PREFECT_HOME") or Path.cwd() / ".prefect").expanduser()


def configure() -> None:
    """Set Prefect's settings as defaults and import it; a second call does nothing.

    Raises:
      InputError: the home cannot be written (Prefect would launch its server for ever), or Prefect
        is not installed.
    """
    if _state.configured:
        return
    need_writable(home())
    for name, value in {"PREFECT_HOME": str(home()), **SETTINGS}.items():
        if not os.environ.get(name):
            os.environ[name] = value
    try:
        import prefect.main  # noqa: F401 (sets up Prefect's logging, which `tidy_logs` changes)
    except ImportError as error:
        raise InputError(
            f"--engine prefect needs Prefect, which cannot be imported ({error}): "
            'pip install "prefect>=3.9.1,<3.10", or take --engine none'
        ) from error
    tidy_logs()
    _state.configured = True


def need_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"Prefect keeps its pages in {folder}, which cannot be written ({error.strerror}): "
            "set PREFECT_HOME to a folder that can, or take --engine none"
        ) from error


def tidy_logs() -> None:
    """Keep Prefect's log lines off the terminal, and tracebacks of user errors off its pages.

    Our progress is one line, drawn over and over, and a failing task would print its traceback
    five times. The lines stay where the user sets ``PREFECT_LOGGING_LEVEL``, and in a deployed
    run, whose terminal is a log; Prefect's pages show them always.
    """
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(without_user_traceback)
    if os.environ.get("PREFECT_LOGGING_LEVEL") or os.environ.get("PREFECT__FLOW_RUN_ID"):
        return
    for name in ("", "prefect._internal"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(foreign)
    # A log line that cannot reach a dead server would otherwise be an error of its own.
    logging.raiseExceptions = False


def without_user_traceback(record: logging.LogRecord) -> bool:
    """Let a record pass; what the user can mend is said by its message alone."""
    if record.exc_info and isinstance(record.exc_info[1], InputError):
        record.exc_info = None
    return True


def foreign(record: logging.LogRecord) -> bool:
    """Whether a log record comes from elsewhere than Prefect."""
    return record.name.split(".")[0] not in {"prefect", "EventsWorker", "APILogWorker"}


def start() -> bool:
    """Whether a server answers: the one of ``PREFECT_API_URL``, or a temporary one, now started.

    Call it from the main thread: a temporary server dies with the thread that made it.
    """
    from prefect.client.orchestration import get_client

    _state.lost, _state.launches = False, 0
    failure: Exception | None = None
    try:
        own_session()
        bury()
        with get_client(sync_client=True) as client:
            failure = client.api_healthcheck()
    except Exception as error:
        failure = error
    if failure is not None:
        lose(f"no server answers ({first_line(failure)}); the run goes on without its pages")
    return failure is None


def own_session() -> None:
    """Have temporary servers start so that neither Ctrl-C nor our death leaves one astray.

    In our session, a server receives the terminal's Ctrl-C before the run can report its end; and
    after SIGTERM or SIGKILL to us it would live on. So it gets a session of its own and, on Linux,
    dies with us. Elsewhere no such call exists: after kill -9, end it by hand.

    This wraps a private method of Prefect. Where it is missing, the run goes on and says so.
    """
    from prefect.server.api import server as module

    owner = getattr(module, "SubprocessASGIServer", None)
    original = getattr(owner, "_run_uvicorn_command", None)
    if owner is None or original is None:
        say("this Prefect starts its server in a way unknown here: kill -9 may leave one behind")
        return
    if getattr(original, "in_own_session", False):
        return

    def run_uvicorn(self: Any) -> Any:
        _state.launches += 1
        if _state.launches > MAX_LAUNCHES:
            raise RuntimeError(f"it failed at its start; the reason is in {log_file()}")
        with popen_replaced(module):
            return original(self)

    run_uvicorn.in_own_session = True  # pyright: ignore[reportFunctionMemberAccess]
    owner._run_uvicorn_command = run_uvicorn


def log_file() -> Path:
    """Where a temporary server writes what it would say on the terminal."""
    return home() / "server.log"


@contextmanager
def popen_replaced(module: types.ModuleType) -> Iterator[None]:
    """While open, ``subprocess.Popen`` as that module sees it goes through the launcher."""

    def popen(args: list[str], **options: Any) -> subprocess.Popen[Any]:
        launch = [sys.executable, "-c", LAUNCHER, str(os.getpid()), *args]
        with log_file().open("ab") as log:
            return subprocess.Popen(
                launch, start_new_session=True, stdout=log, stderr=log, **options
            )

    kept = vars(module)["subprocess"]
    vars(module)["subprocess"] = types.SimpleNamespace(**{**vars(subprocess), "Popen": popen})
    try:
        yield
    finally:
        vars(module)["subprocess"] = kept


def temporary() -> Any:
    """The temporary server of this process, or None where there is none."""
    module = sys.modules.get("prefect.server.api.server")
    owner = getattr(module, "SubprocessASGIServer", None)
    servers = getattr(owner, "_instances", {}).values()
    return next((each for each in servers if each.server_process is not None), None)


@contextmanager
def shared() -> Iterator[None]:
    """While open, other processes use our temporary server; each would start one of its own."""
    server = temporary()
    if server is None:
        yield
        return
    from prefect.settings import PREFECT_API_URL, temporary_settings

    before = os.environ.get("PREFECT_API_URL")
    os.environ["PREFECT_API_URL"] = server.api_url  # for workers that read it at their start
    try:
        with temporary_settings({PREFECT_API_URL: server.api_url}):  # for what is sent to them
            yield
    finally:
        if before is None:
            del os.environ["PREFECT_API_URL"]
        else:
            os.environ["PREFECT_API_URL"] = before


def bury() -> None:
    """Forget a temporary server that has died, so that a new one may start."""
    server = temporary()
    if server is not None and server.server_process.poll() is not None:
        server.stop()


def hurry() -> None:
    """Give a temporary server a moment to write down that the run was interrupted, then kill it.

    Its database survives that: at worst a page shows the run as running until the next one. What
    Prefect still has to say then fails at once: tried again, each of some five calls would cost
    two seconds.
    """
    server = temporary()
    if server is None:
        return
    from prefect.client import base

    try_once(base)
    timer = threading.Timer(LAST_WORDS_SECONDS, server.server_process.kill)
    timer.daemon = True
    timer.start()


def try_once(client: types.ModuleType) -> None:
    """Have Prefect's client give up at the first failure; it reads this name at each call."""
    if hasattr(client, "PREFECT_CLIENT_MAX_RETRIES"):
        vars(client)["PREFECT_CLIENT_MAX_RETRIES"] = types.SimpleNamespace(value=lambda: 0)


def conducts() -> bool:
    """Whether Prefect is there to be asked. Notices, and says, that a temporary server died."""
    if _state.lost or not _state.configured:
        return False
    server = temporary()
    if server is not None and server.server_process.poll() is not None:
        lose("its server has died; the run goes on without it")
    return not _state.lost


def lose(text: str) -> None:
    """Do without Prefect from here on, and say why, once."""
    if not _state.lost:
        _state.lost = True
        say(text)
