"""The import closure: which modules count, and which edits count."""

import hashlib
import importlib
import subprocess
import sys
import time

import pytest

from flows.store import code_digest
from flows.store.code_digest import import_closure, source_digest, stale_modules
from tests.flows.store.builds import PROJECT


def reached(package, entry: str) -> list[str]:
    """Modules of the closure, without the package's name."""
    closure = import_closure([f"{package.name}.{entry}"])
    return [name.removeprefix(package.name).removeprefix(".") for name in closure]


@pytest.mark.parametrize(
    "statement",
    [
        "import PKG.b",
        "import PKG.b as other",
        "from PKG import b",
        "from PKG.b import x",
        "from . import b",
        "from .b import x",
        "def f():\n    from PKG import b",
        "class C:\n    def f(self):\n        import PKG.b",
        "try:\n    from . import b\nexcept ImportError: pass",
        "import importlib\nimportlib.import_module('PKG.b')",
        "from . import *",
    ],
)
def test_every_form_of_import_is_followed(package, statement):
    """A module reached by any import statement, at any depth, is in the closure."""
    package.write("b", "x = 1")
    package.write("a", statement)
    assert "b" in reached(package, "a")


def test_closure_is_transitive_and_takes_in_packages(package):
    """Modules reached through others, cycles, and the packages on the way are all there."""
    package.write("a", "from PKG.inner import deep")
    package.write("inner.__init__", "from .. import side")
    package.write("inner.deep", "from ..last import x")
    package.write("last", "import PKG.a; x = 1")
    package.write("side", "")
    package.write("unrelated", "")
    assert reached(package, "a") == ["", "a", "inner", "inner.deep", "last", "side"]


def test_long_chains_are_no_deeper_than_the_stack(package):
    """A chain of modules longer than half the recursion limit is followed to its end."""
    for i in range(600):
        package.write(f"m{i}", f"from . import m{i + 1}")
    package.write("m600", "")
    assert len(reached(package, "m0")) == 602


def test_others_code_and_type_checking_blocks_do_not_count(package):
    """Foreign packages are known by version; imports for the type checker alone never run."""
    package.write("b", "")
    package.write("c", "")
    package.write(
        "a",
        """\
        import json, hypothesis
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from . import b
        else:
            from . import c
        """,
    )
    assert reached(package, "a") == ["", "a", "c"]


def test_folders_without_init_are_packages_too(package):
    """A namespace package has no digest of its own, and what is in it counts."""
    package.write("space.deep", "x = 1")
    package.write("a", "from PKG.space import deep")
    assert reached(package, "a") == ["", "a", "space.deep"]


@pytest.mark.parametrize("statement", ["from PKG import missing_one", "import PKG"])
def test_names_from_a_lazy_package_are_refused(package, statement):
    """A name that a package looks up when asked would hide code from the key: an error says so."""
    package.write("", "def __getattr__(name): ...\nplain = 1")
    package.write("a", statement)
    with pytest.raises(ImportError, match="import from the module that defines the name"):
        reached(package, "a")


def test_plain_names_from_a_lazy_package_are_fine(package):
    """What a lazy package itself defines, or a submodule of it, can be followed."""
    package.write("", "def __getattr__(name): ...\nplain = 1")
    package.write("b", "")
    package.write("a", "from PKG import plain, b\nimport PKG.b")
    assert reached(package, "a") == ["", "a", "b"]


def test_a_module_that_does_not_exist_is_named(package):
    """An entry or an import without a file is an error that says who wants what."""
    package.write("a", "from PKG.gone import x")
    with pytest.raises(
        ImportError, match=rf"{package.name}.a names the module {package.name}.gone"
    ):
        reached(package, "a")
    with pytest.raises(ImportError, match="list of code names the module"):
        reached(package, "nothing")


@pytest.fixture
def two_stages(package):
    """Two stages that share one module and have one each."""
    package.write("shared", "RATE = 1  # a rate")
    package.write("left", "LEFT = 1")
    package.write("right", "RIGHT = 1")
    package.write("stage_left", "from . import shared, left")
    package.write("stage_right", "def run():\n    from PKG import shared, right")
    return package


def digests(package) -> list[dict[str, str]]:
    """The closures of both stages."""
    return [import_closure([f"{package.name}.stage_{side}"]) for side in ("left", "right")]


@pytest.mark.parametrize(
    ("module", "changed"),
    [("shared", [True, True]), ("left", [True, False]), ("right", [False, True])],
)
def test_an_edit_changes_exactly_the_stages_that_reach_it(two_stages, module, changed):
    """A changed number changes the digest of its module, in the stages that import it."""
    before = digests(two_stages)
    name = two_stages.write(module, "VALUE = 2")
    after = digests(two_stages)
    assert [a != b for a, b in zip(before, after, strict=True)] == changed
    for old, new in zip(before, after, strict=True):
        assert {m for m in old if old[m] != new[m]} <= {name}


def test_a_comment_changes_nothing(two_stages):
    """Comments, docstrings and layout leave every digest as it was."""
    before = digests(two_stages)
    two_stages.write("shared", '"""What it is."""\n\n\nRATE = (  # better said\n    1\n)\n'[:-1])
    assert digests(two_stages) != before  # brackets are tokens
    two_stages.write("shared", '"""What it is."""\n\n\nRATE   =   1  # better said\n')
    assert digests(two_stages) == before


def test_an_edit_of_equal_size_and_time_is_seen(two_stages):
    """Digests go by content: an edit within one tick of the clock, of equal length, counts."""
    import os

    path = two_stages.folder / "left.py"
    before, status = digests(two_stages), path.stat()
    two_stages.write("left", "LEFT = 2")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digests(two_stages) != before


def test_nothing_is_imported(package):
    """Modules are read, not run."""
    package.write("b", "raise SystemExit")
    package.write("a", "from . import b")
    assert reached(package, "a") == ["", "a", "b"]
    assert package.name not in sys.modules


def test_digest_is_a_known_one():
    """The digest of a text is the SHA-256 of its levels and tokens, and stays so."""
    expected = hashlib.sha256(b"0\0if\0x\0:\n1\0y\0=\x001").hexdigest()
    assert source_digest("if x:\n    y = 1  # one\n") == expected


def test_loaded_code_that_was_edited_is_stale(package, monkeypatch):
    """A module edited after it was loaded and digested is named; restored, it is not."""
    monkeypatch.setattr(code_digest, "_PROCESS_STARTED_NS", time.time_ns() + 10**12)
    name = package.write("a", "x = 1")
    importlib.import_module(name)
    assert stale_modules(import_closure([name])) == []
    package.write("a", "x = 2")
    assert stale_modules(import_closure([name])) == [name]
    package.write("a", "x = 1  # as it was")
    assert stale_modules(import_closure([name])) == []


def test_code_edited_before_the_first_digest_is_stale(package):
    """A loaded module whose file is younger than the process cannot be trusted to be the same."""
    name = package.write("a", "x = 1")
    importlib.import_module(name)
    assert stale_modules(import_closure([name])) == [package.name, name]


def test_code_that_is_not_loaded_is_never_stale(package):
    """What this process has not imported will be read as it is."""
    name = package.write("a", "x = 1")
    import_closure([name])
    package.write("a", "x = 2")
    assert stale_modules(import_closure([name])) == []


def test_digests_are_equal_in_another_process():
    """Digests depend on nothing but the files: another process with other hashes agrees."""
    code = "from flows.store.code_digest import *; print(import_closure(['flows.store.publish']))"
    out = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert out.strip() == str(import_closure(["flows.store.publish"]))
