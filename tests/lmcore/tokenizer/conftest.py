"""The engines that must all give the same."""

import pytest


@pytest.fixture(scope="session", params=["numpy", "numba"])
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine in turn; numba, an optional extra, only where it is installed."""
    if request.param == "numba":
        pytest.importorskip("numba", reason="numba is not installed: pip install -e '.[fast]'")
    return request.param
