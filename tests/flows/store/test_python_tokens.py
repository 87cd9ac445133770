"""Logical lines and imports, held to the standard library's own tokenizer and parser."""

import ast
import email
import io
import re
import token
import tokenize
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from flows.store.python_tokens import Import, imports_in, logical_lines
from tests.flows.store.builds import PROJECT

_OURS = sorted(p for top in ("flows", "lmcore") for p in (PROJECT / top).rglob("*.py"))
_STANDARD = [
    Path(tokenize.__file__),
    Path(ast.__file__),
    *sorted(Path(email.__file__).parent.glob("*.py")),
]
_SKIPPED = {token.ENCODING, token.ENDMARKER, token.NL, token.COMMENT}


def oracle(source: str) -> list[tuple[int, list[str]]]:
    """The same lines by :mod:`tokenize`, operators and numbers cut into the same pieces."""
    level, line, lines = 0, [], []
    # Without a last line end, tokenize mistakes a string that ends in "#" for a comment.
    for kind, text in _whole_strings(source + "\n"):
        if kind == token.INDENT:
            level += 1
        elif kind == token.DEDENT:
            level -= 1
        elif kind == token.NEWLINE:
            if not all(kind == token.STRING and _plain(text) for kind, text in line):
                lines.append((level, _pieces(line)))
            line = []
        elif kind not in _SKIPPED:
            line.append((kind, text))
    return _without_empty_levels(lines)


def _whole_strings(source: str):
    """Tokens, with an f-string that Python 3.12 cuts in parts put together again."""
    rows, depth, start = source.splitlines(keepends=True), 0, (0, 0)
    for item in tokenize.generate_tokens(io.StringIO(source).readline):
        name = token.tok_name[item.type]
        if name == "FSTRING_START":
            start = start if depth else item.start
            depth += 1
        elif name == "FSTRING_END":
            depth -= 1
            if not depth:
                yield token.STRING, _between(rows, start, item.end)
        elif not depth:
            yield item.type, item.string


def _between(rows: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    """The source text from one position to another."""
    (first, left), (last, right) = start, end
    if first == last:
        return rows[first - 1][left:right]
    return rows[first - 1][left:] + "".join(rows[first : last - 1]) + rows[last - 1][:right]


def _plain(text: str) -> bool:
    return "f" not in re.split("[\"']", text)[0].lower()


def _pieces(line: list[tuple[int, str]]) -> list[str]:
    """Cut all but strings into words and single characters."""
    return [
        piece
        for kind, text in line
        for piece in ([text] if kind == token.STRING else re.findall(r"\w+|.", text))
    ]


def _without_empty_levels(lines: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """Number the levels by what is left, as a body that is only a docstring leaves none."""
    margins, numbered = [0], []
    for level, tokens in lines:
        while level < margins[-1]:
            margins.pop()
        if level > margins[-1]:
            margins.append(level)
        numbered.append((len(margins) - 1, tokens))
    return numbered


@pytest.mark.parametrize("files", [_OURS, _STANDARD], ids=["ours", "standard library"])
def test_lines_and_imports_are_those_of_the_standard_library(files):
    """Modules split into the lines that ``tokenize`` gives, with the imports that ``ast`` finds."""
    assert len(files) > 10
    for path in files:
        source = path.read_text(encoding="utf-8")
        lines = list(logical_lines(source))
        assert [tuple(line) for line in lines] == oracle(source), path
        found = {i for line in lines for i in imports_in(line)}
        literal = {i for i in found if f'import_module("{i.module}")' in source}
        assert found - literal == set(_imports_by_ast(source)), path


def _imports_by_ast(source: str):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(0, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            yield Import(node.level, node.module or "", names)


_SOURCE = '''\
"""Doc."""

import a


class C:
    """Doc."""

    x: int = 1
    """About x."""

    def f(self, y):
        return [self.x, y, "# not a comment", 'it''s']
'''

_SAME = {
    "comments": _SOURCE.replace("import a\n", "import a  # why\n# more\n"),
    "docstrings": _SOURCE.replace('"""Doc."""', "'another text'").replace("About x", "On x"),
    "no docstrings": _SOURCE.replace('"""Doc."""\n', "\n").replace('    """About x."""\n', ""),
    "blank lines": _SOURCE.replace("\n\n", "\n\n\n  \n"),
    "wider margins": _SOURCE.replace("    ", "        "),
    "tabs": _SOURCE.replace("    ", "\t"),
    "spaces": _SOURCE.replace("= 1", "=  1").replace("(self, y)", "( self,y )"),
    "line breaks in brackets": _SOURCE.replace("self.x, y, ", "self.x,\n  y,  # y\n\n"),
    "joined lines": _SOURCE.replace("x: int", "x: \\\n  int"),
    "DOS line ends": _SOURCE.replace("\n", "\r\n"),
    "byte order mark": "\ufeff" + _SOURCE,
    "no line end": _SOURCE.rstrip("\n"),
}


@pytest.mark.parametrize("change", _SAME)
def test_layout_and_documentation_change_no_line(change):
    """Comments, docstrings, blank lines, margins and line breaks leave the lines as they are."""
    assert _SAME[change] != _SOURCE
    assert list(logical_lines(_SAME[change])) == list(logical_lines(_SOURCE))


_DIFFERENT = {
    "a number": _SOURCE.replace("= 1", "= 2"),
    "a string": _SOURCE.replace("# not", "# surely not"),
    "white space in a string": _SOURCE.replace("a comment", "a  comment"),
    "a name": _SOURCE.replace("y", "z"),
    "a line moved out": _SOURCE.replace("    def f(self, y):\n    ", "def f(self, y):\n"),
    "an import": _SOURCE.replace("import a", "import b"),
    "a string that is used": _SOURCE.replace('"""Doc."""', 'd = """Doc."""', 1),
    "an f-string, which computes": _SOURCE.replace('"""About x."""', 'f"{print()}"'),
}


@pytest.mark.parametrize("change", _DIFFERENT)
def test_what_a_program_does_is_in_its_lines(change):
    """Numbers, strings, names, structure and f-strings count."""
    assert _DIFFERENT[change] != _SOURCE
    assert list(logical_lines(_DIFFERENT[change])) != list(logical_lines(_SOURCE))


# Pieces that meet in odd ways: quotes and comments, margins, joined lines, one-line bodies.
_PIECES = [
    *("a", "b ", "=", "1.5 ", "1e-3 ", "-", "...", "é", "(", ")", "[", "]", ":", ",", ";"),
    *("'x'", '"y"', "'''d\n#'''", r"r'\'", "b''", "#c\n", "\\\n", "\f", "\r\n", "  "),
    *("\n", "\n", "\n ", "\n  ", "\n\t", "if a:", "def f():", "class C:", "lambda:0", "pass"),
    *("return", "yield from ", "import a", "from . import b"),
]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(_PIECES), max_size=9).map("".join))
def test_a_program_of_any_shape_has_the_standard_lines(text):
    """Whatever the parser accepts is split as ``tokenize`` splits it."""
    try:
        ast.parse(text)
    except (SyntaxError, SyntaxWarning):
        return
    assert [tuple(line) for line in logical_lines(text)] == oracle(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import a.b as c, d", [Import(0, "a.b", ()), Import(0, "d", ())]),
        ("from a import (b as c,\n  d,)", [Import(0, "a", ("b", "d"))]),
        ("from ... import a", [Import(3, "", ("a",))]),
        ("from .a.b import *", [Import(1, "a.b", ("*",))]),
        ("x = 1; import a; y = 2", [Import(0, "a", ())]),
        ("if x: from a import b", [Import(0, "a", ("b",))]),
        ("import_module('a.b')", [Import(0, "a.b", ())]),
        ("import_module(name)", []),
        ("def f():\n yield from imported", []),
        ("raise E from importance", []),
    ],
)
def test_imports_in_every_form(text, expected):
    """Each form of the import statement names its module, dots and names."""
    assert [i for line in logical_lines(text) for i in imports_in(line)] == expected
