"""Imports run one way, names hide nothing, and what need not be loaded is not."""

import ast
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def children_of_flows() -> set[str]:
    """Names that `python flows/pipeline.py` puts first on the import path."""
    return {
        path.stem
        for path in (ROOT / "flows").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }


def installed_names() -> set[str]:
    """Top-level modules of everything that is installed, but for our own."""
    ours = {"lmcore"}
    return {
        name.partition("/")[0]
        for name, owners in metadata.packages_distributions().items()
        if not ours.issuperset(owners)
    }


def test_no_child_of_flows_hides_a_module() -> None:
    """Running a file of flows/ puts that folder first, so a name there would hide another's."""
    names = children_of_flows()
    assert {"pipeline", "cli", "stages"} <= names
    assert names & set(sys.stdlib_module_names) == set()
    assert names & installed_names() == set()
    assert {"prefect", "torch", "numpy", "rich"} <= installed_names()  # the list is a real one


# What a verb, a training process or a hit imports; only the training process needs torch.
PARENT = ("flows.cli", "flows.run", "flows.catalog", "flows.arguments", "flows.report.text")
TRAINING = ("flows.worker", "flows.trainer.loop", "flows.trainer.scoring")


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [(PARENT, {"prefect", "matplotlib", "torch"}), (TRAINING, {"prefect", "matplotlib"})],
    ids=["parent", "training process"],
)
def test_what_takes_long_to_import_is_loaded_when_needed(
    modules: tuple[str, ...], unwanted: set[str]
) -> None:
    """Seconds of a hit: torch takes two, Prefect two, matplotlib one."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert unwanted & set(done.stdout.split()) == set()


@pytest.mark.parametrize(
    "path",
    [
        path
        for package in ("lmcore", "flows")
        for path in sorted((ROOT / package).rglob("__init__.py"))
        if path != ROOT / "lmcore" / "__init__.py"
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_package_files_hold_only_a_docstring(path: Path) -> None:
    """A package's own file says what the package is, and loads nothing."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    assert len(tree.body) == 1


def test_every_folder_of_modules_is_a_package() -> None:
    """A folder without its own file would be left out of the wheel's import contracts."""
    for package in ("lmcore", "flows"):
        folders = {path.parent for path in (ROOT / package).rglob("*.py")}
        assert [f for f in folders if not (f / "__init__.py").exists()] == []


def test_import_contracts_hold() -> None:
    """The layers of pyproject.toml hold in both packages."""
    if util.find_spec("importlinter") is None:
        pytest.skip('import-linter is not installed: pip install -e ".[check]"')
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout
