"""One Prefect server for all tests here, in a home of its own."""

import atexit
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

# Before any test module imports a flow: that import reads the environment.
_home = tempfile.TemporaryDirectory(prefix="prefect-home-", ignore_cleanup_errors=True)
atexit.register(_home.cleanup)
os.environ["PREFECT_HOME"] = _home.name
os.environ.pop("PREFECT_API_URL", None)
os.environ.pop("LMCORE_ENGINE", None)


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """Prefect, configured as for a run, with one server for the whole session (8 s)."""
    from flows.conductor import server

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # imports and server start are Prefect's own affair
        server.configure()
        server.own_session()
        from prefect.testing.utilities import prefect_test_harness

        with prefect_test_harness(server_startup_timeout=120):
            yield


@pytest.fixture
def conducted(prefect_server: None) -> Iterator[None]:
    """A test whose flows Prefect conducts; what it lost is forgotten afterwards."""
    from flows.conductor import server

    server._state.lost = False
    yield
    server._state.lost = False


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Ask until the answer is true: Prefect records task runs a moment after they end."""

    def ask(question: Callable[[], Any]) -> Any:
        end = time.monotonic() + 20
        while not (answer := question()) and time.monotonic() < end:
            time.sleep(0.1)
        return answer

    return ask
