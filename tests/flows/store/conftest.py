"""Fixtures of the store's tests."""

import importlib
import itertools
import textwrap
from pathlib import Path

import pytest

from flows.store.publish import Event

_numbers = itertools.count()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An artifacts folder that does not exist yet."""
    return tmp_path / "artifacts"


@pytest.fixture
def events() -> list[Event]:
    """Collects what the store tells: pass ``events.append`` as notify."""
    return []


class Package:
    """A top package on the import path, under a name that no other test has."""

    def __init__(self, base: Path) -> None:
        self.name = f"shop{next(_numbers)}"
        self.folder = base / self.name

    def write(self, module: str, text: str) -> str:
        """Write a module, "" for the package itself; PKG in the text stands for its name."""
        path = self.folder / (module.replace(".", "/") + ".py" if module else "__init__.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).replace("PKG", self.name))
        importlib.invalidate_caches()
        return f"{self.name}.{module}"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """An empty package to write modules into."""
    base = tmp_path / "code"
    base.mkdir()
    monkeypatch.syspath_prepend(base)
    made = Package(base)
    made.write("", "")
    return made
