"""Prefect's settings are defaults; its temporary server is started so as not to be orphaned."""

import inspect
import logging
import os
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest

from flows.conductor import server
from lmcore.errors import InputError


def test_settings_are_defaults_that_the_environment_overrides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the user has set stands; what is unset or empty takes our default."""
    for name in server.SETTINGS:
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "4")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(server, "_state", server._State())
    for name in ("prefect", "prefect.main"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(server, "tidy_logs", lambda: None)
    server.configure()
    assert os.environ["PREFECT_CLIENT_MAX_RETRIES"] == "4"
    assert os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert os.environ["DO_NOT_TRACK"] == "1"
    assert os.environ["PREFECT_HOME"] == str(tmp_path / "home")


def test_home_is_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PREFECT_HOME, Prefect keeps its database beside the run, not in the user's home."""
    monkeypatch.delenv("PREFECT_HOME")
    monkeypatch.chdir(tmp_path)
    assert server.home() == tmp_path / ".prefect"


def test_unwritable_home_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home that cannot be made is refused, naming it and both ways out, before any import."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "file" / "home"))
    monkeypatch.setattr(server, "_state", server._State())
    with pytest.raises(InputError, match=r"file/home.*PREFECT_HOME.*--engine none"):
        server.configure()


def test_missing_prefect_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Prefect is not installed, the error says how to install it or do without."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setattr(server, "_state", server._State())
    monkeypatch.setitem(sys.modules, "prefect", None)
    with pytest.raises(InputError, match=r"pip install .*--engine none"):
        server.configure()


def test_our_settings_are_those_of_the_project_file() -> None:
    """pyproject.toml gives the `prefect` command the settings that a run gives itself."""
    import tomllib

    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    written = project["tool"]["prefect"]
    assert written.pop("home") == ".prefect"

    def flat(table: dict, prefix: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, value in table.items():
            key = f"{prefix}_{name.upper()}"
            found |= flat(value, key) if isinstance(value, dict) else {key: str(value).lower()}
        return found

    ours = {name: value for name, value in server.SETTINGS.items() if name != "DO_NOT_TRACK"}
    assert flat(written, "PREFECT") == ours


def test_every_setting_is_one_that_prefect_reads(prefect_server: None) -> None:
    """Prefect took our defaults: a renamed setting would be ignored in silence."""
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    assert settings.client.max_retries == 1
    assert settings.server.analytics_enabled is False
    assert settings.server.ephemeral.enabled is True
    assert settings.server.ephemeral.startup_timeout_seconds == 120


def test_prefect_still_starts_its_server_as_we_wrap_it(prefect_server: None) -> None:
    """The private method that we wrap exists and starts a process through its module's Popen.

    When this fails, Prefect has changed: mend `own_session`, or a kill -9 orphans servers.
    """
    from prefect.server.api import server as module

    wrapped = module.SubprocessASGIServer._run_uvicorn_command
    assert getattr(wrapped, "in_own_session", False)
    (original,) = [
        cell.cell_contents
        for cell in wrapped.__closure__ or ()
        if getattr(cell.cell_contents, "__name__", "") == "_run_uvicorn_command"
    ]
    assert list(inspect.signature(original).parameters) == ["self"]
    assert "subprocess.Popen(" in inspect.getsource(original)
    assert vars(module)["subprocess"] is subprocess  # put back after the start


@pytest.mark.skipif(not hasattr(os, "getsid"), reason="POSIX")
def test_temporary_server_has_a_session_of_its_own(prefect_server: None) -> None:
    """The terminal's Ctrl-C does not reach the server: it leads a session of its own."""
    running = server.temporary()
    assert running is not None
    pid = running.server_process.pid
    assert os.getsid(pid) == pid
    assert os.getsid(pid) != os.getsid(0)


def test_unknown_way_of_starting_is_said_and_survived(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the wrapped method is missing, a warning is all that comes of it."""
    from prefect.server.api import server as module

    monkeypatch.delattr(module.SubprocessASGIServer, "_run_uvicorn_command")
    server.own_session()
    assert "kill -9 may leave one behind" in capsys.readouterr().err


def test_server_that_fails_at_its_start_is_given_up(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server whose start fails is launched twice, not for ever as Prefect would."""
    from prefect.server.api import server as module

    monkeypatch.setattr(server, "_state", server._State())
    monkeypatch.setattr(server, "popen_replaced", lambda _: pytest.MonkeyPatch.context())
    launches: list[int] = []
    monkeypatch.setattr(
        module.SubprocessASGIServer, "_run_uvicorn_command", lambda self: launches.append(1)
    )
    server.own_session()
    failing = object.__new__(module.SubprocessASGIServer)
    for _ in range(server.MAX_LAUNCHES):
        failing._run_uvicorn_command()
    with pytest.raises(RuntimeError, match=r"server\.log"):
        failing._run_uvicorn_command()
    assert len(launches) == server.MAX_LAUNCHES


def test_launcher_refuses_to_outlive_its_parent() -> None:
    """A launcher whose parent is already another process becomes no server."""
    done = subprocess.run(
        [sys.executable, "-c", server.LAUNCHER, "1", sys.executable, "-c", "print('server')"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stdout == ""


def test_other_processes_are_sent_to_our_server(prefect_server: None) -> None:
    """While shared, the environment and the settings name the temporary server; then no more."""
    from prefect.settings import PREFECT_API_URL

    address = server.temporary().api_url
    with server.shared():
        assert os.environ["PREFECT_API_URL"] == address
        assert PREFECT_API_URL.value() == address
    assert "PREFECT_API_URL" not in os.environ


def test_user_errors_lose_their_traceback_in_prefects_log() -> None:
    """A log record of an InputError keeps its message only; that of a bug keeps its traceback."""

    def record(error: Exception) -> logging.LogRecord:
        trace = (type(error), error, None)
        return logging.LogRecord("prefect.task_runs", logging.ERROR, "", 0, "failed", (), trace)

    mendable, bug = record(InputError("small")), record(ValueError("bug"))
    assert server.without_user_traceback(mendable)
    assert server.without_user_traceback(bug)
    assert mendable.exc_info is None
    assert bug.exc_info is not None


def test_only_prefects_lines_are_kept_off_the_terminal() -> None:
    """Lines of other libraries still reach the terminal."""

    def passes(name: str) -> bool:
        return server.foreign(logging.makeLogRecord({"name": name}))

    assert passes("torch.distributed")
    assert passes("root")
    assert not passes("prefect.flow_runs")
    assert not passes("EventsWorker")


def test_after_ctrl_c_the_server_is_killed_and_no_call_tried_again(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect's last words have their moment; what fails after it costs no seconds of retries.

    When this fails, Prefect has renamed what its client reads: mend `hurry`, or Ctrl-C takes ten
    seconds on a busy machine.
    """
    from prefect.client import base

    class Process:
        def __init__(self) -> None:
            self.killed = threading.Event()

        def kill(self) -> None:
            self.killed.set()

    process = Process()
    monkeypatch.setattr(base, "PREFECT_CLIENT_MAX_RETRIES", base.PREFECT_CLIENT_MAX_RETRIES)
    monkeypatch.setattr(server, "temporary", lambda: types.SimpleNamespace(server_process=process))
    monkeypatch.setattr(server, "LAST_WORDS_SECONDS", 0.01)
    server.hurry()
    assert process.killed.wait(10)
    source = inspect.getsource(base.PrefectHttpxSyncClient._send_with_retry)
    assert "while try_count <= PREFECT_CLIENT_MAX_RETRIES.value()" in source
    assert base.PREFECT_CLIENT_MAX_RETRIES.value() == 0
