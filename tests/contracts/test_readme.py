"""What the documents say of the project is what the project is."""

import ast
import contextlib
import importlib.util
import io
import re
import shlex
import tomllib
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path
from types import ModuleType

import pytest

from flows.arguments import parse, split_preset
from flows.cli import known_verbs
from flows.presets import PRESETS
from flows.run import faults

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]
PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)


def load_generated() -> ModuleType:
    """`docs/generated.py`, which is a script and no module of a package."""
    spec = importlib.util.spec_from_file_location("generated", ROOT / "docs" / "generated.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def between(name: str) -> str:
    """What stands between two marks of the README."""
    found = re.findall(f"<!-- {name}:begin -->(.*?)<!-- {name}:end -->", README.read_text(), re.S)
    assert len(found) == 1, f"the README has {len(found)} parts marked {name}"
    return found[0]


# --- the tree ---


def lines_of_the_tree() -> Iterator[tuple[str, str]]:
    """Path and description of each line, a folder's path with a slash at its end."""
    folders: list[str] = []
    for line in between("tree").splitlines():
        if not line.strip() or line.startswith("```"):
            continue
        name, _, description = line.strip().partition(" ")
        depth = (len(line) - len(line.lstrip())) // 2
        path = "".join(folders[:depth]) + name
        if name.endswith("/"):
            folders[depth:] = [name]
        yield path, description.strip()


def files_on_disk() -> Iterator[str]:
    """The Python files of the packages and the benchmarks, and what lies at the top of the tests.

    A folder's line is that of its ``__init__.py``, unless that holds more than its docstring.
    """
    for package in ("lmcore", "flows", "benchmarks"):
        for path in (ROOT / package).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            if path.name == "__init__.py":
                yield name.removesuffix("__init__.py")
            if path.name != "__init__.py" or len(ast.parse(path.read_text()).body) > 1:
                yield name
    yield "tests/"
    for path in (ROOT / "tests").iterdir():
        if path.is_dir() and any(path.rglob("*.py")):
            yield f"tests/{path.name}/"
        elif path.suffix == ".py":
            yield f"tests/{path.name}"


def test_the_tree_is_the_disk() -> None:
    """Every file has its line in the README's tree, and every line its file."""
    told, there = [path for path, _ in lines_of_the_tree()], set(files_on_disk())
    assert len(told) == len(set(told)), "a line stands twice"
    assert there - set(told) == set(), "files without a line in the README's tree"
    assert set(told) - there == set(), "lines of the README's tree without a file"


def test_each_line_of_the_tree_says_something() -> None:
    """No file is named without a word about it, and no line is wider than a page."""
    assert [path for path, description in lines_of_the_tree() if not description] == []
    assert [line for line in between("tree").splitlines() if len(line) > 100] == []


# --- what is generated from the code ---


@PAGE
def test_generated_parts_are_current(page: Path) -> None:
    """The parts that the code decides are what `python docs/generated.py` would write."""
    text = page.read_text()
    assert load_generated().filled(text) == text, "run `python docs/generated.py`"


def test_every_part_that_can_be_generated_is() -> None:
    """Presets, settings and keys each stand in exactly one page."""
    found = re.findall(r"<!-- generated:(\w+) -->", "".join(page.read_text() for page in PAGES))
    assert sorted(found) == sorted(load_generated().PARTS)


def flags_of_the_page() -> set[str]:
    """The flags that the page of settings lists."""
    page = (ROOT / "docs" / "configuration.md").read_text()
    return set(re.findall(r"^\| `(--[a-z0-9.-]+)` \|", page, re.MULTILINE))


def test_the_page_of_settings_lists_the_flags_of_the_command_line() -> None:
    """`--help` and the page have the same flags."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit):
        parse("quickstart", ["--help"])
    options = re.findall(r"^[│ ] +(-[a-z-].*)$", shown.getvalue(), re.MULTILINE)
    flags = {flag for line in options for flag in re.findall(r"--[a-z][a-z0-9.-]*", line)}
    negations = {flag for flag in flags if re.search(r"(^--|\.)no-", flag)}
    assert flags - negations - {"--help"} == flags_of_the_page()


@PAGE
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    """A flag with a dot in its name is a flag of the command line."""
    named = set(re.findall(r"--[a-z]+\.[a-z][a-z0-9-]*[a-z0-9]", page.read_text()))
    assert named - flags_of_the_page() == set()


# --- commands ---


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command in a page's console blocks, comments left out."""
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                for command in line[2:].split(" && "):
                    yield shlex.split(command, comments=True)


@PAGE
def test_every_run_that_a_page_shows_is_accepted(page: Path) -> None:
    """Presets, flags and values of the commands are such as the parser and the checks take."""
    for words in commands(page):
        if words[:2] in (["python", "flows/pipeline.py"], ["lmcore", "run"]):
            preset, settings = split_preset(words[2:])
            if settings != ["--serve"]:
                plain = [word for word in settings if word != "--help"]
                assert faults(*parse(preset, plain)) == [], words


@PAGE
def test_every_deployment_that_a_page_asks_for_exists(page: Path) -> None:
    """A deployment bears a preset's name, and its parameters are the flow's."""
    tree = ast.parse((ROOT / "flows" / "pipeline.py").read_text())
    (flow,) = (
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "pipeline"
    )
    parameters = {argument.arg for argument in flow.args.args}
    for words in commands(page):
        if words[:3] == ["prefect", "deployment", "run"]:
            assert words[3] in {f"pipeline/{name}" for name in PRESETS}
            given = {after for before, after in pairwise(words) if before == "-p"}
            assert {word.partition("=")[0] for word in given} <= parameters


def test_the_readme_has_every_verb_and_preset() -> None:
    """The table of commands and the list of presets are complete, and name nothing else."""
    text = README.read_text()
    verbs = re.findall(r"^\| `lmcore ([a-z-]+)", text, re.MULTILINE)
    assert sorted(verbs) == sorted(["run", *known_verbs()])
    (listed,) = re.findall(r"^Presets: (.*?)\.\s", text, re.MULTILINE | re.DOTALL)
    assert re.findall(r"`([a-z0-9-]+)`", listed) == list(PRESETS)


def test_the_readme_says_how_to_set_up() -> None:
    """The two commands of a fresh clone are there, word for word, for CI runs them."""
    text = README.read_text()
    assert "$ pip install -e . && python flows/pipeline.py\n" in text
    assert '$ pip install -e ".[test]" && pytest\n' in text


@pytest.mark.parametrize("part", ["result", "sample"])
def test_the_readme_shows_a_run(part: str) -> None:
    """The result table and a sample stand between their marks."""
    assert between(part).strip()


# --- links, names, versions ---


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as they are made from the words."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {words.replace(" ", "-") for words in plain}


@PAGE
def test_every_link_leads_somewhere(page: Path) -> None:
    """The file that a link names exists, and has the heading that it names."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("https:", "http:")):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_the_index_leads_to_every_page() -> None:
    """Each page of docs/ is in a table of contents of the index."""
    index = (ROOT / "docs" / "index.md").read_text()
    trees = re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL)
    lines = [line for tree in trees for line in tree.splitlines()]
    listed = [line for line in lines if re.fullmatch(r"[a-z-]+", line)]
    assert sorted(listed) == sorted(
        path.stem for path in (ROOT / "docs").glob("*.md") if path.stem != "index"
    )


def project() -> dict:
    """The project's table of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_changelog_has_this_version() -> None:
    """The version of pyproject.toml has its section."""
    assert f"## [{project()['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_dependency_says_why() -> None:
    """The packages that pyproject.toml asks for, in extras too, are those with a row."""
    extras = project()["optional-dependencies"].values()
    asked = chain(project()["dependencies"], *extras)
    names = {re.split(r"[^\w.-]", requirement)[0] for requirement in asked}
    page = (ROOT / "docs" / "dependencies.md").read_text()
    rows = re.findall(r"^\| `([\w.-]+)` \|", page.partition("## What we do without")[0], re.M)
    assert sorted(rows) == sorted(names)
