"""Settings as words: the one parser behind the command line and Prefect's `overrides`."""

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from typing import Annotated, Any, TypeVar

import tyro

from flows.config import Execution, RunConfig, refuse
from flows.presets import PRESETS, preset

PROGRAM = "python flows/pipeline.py"
T = TypeVar("T")


@dataclass(frozen=True)
class Arguments:
    """Everything that can be said on the command line."""

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    execution: Annotated[Execution, tyro.conf.arg(name="")]


def split_preset(words: Sequence[str]) -> tuple[str, list[str]]:
    """The preset's name, which comes first and may be left out, and the remaining words."""
    if words and not words[0].startswith("-"):
        return words[0], list(words[1:])
    return "quickstart", list(words)


def parse(name: str, words: Sequence[str]) -> tuple[RunConfig, Execution]:
    """The preset ``name`` with the settings in ``words`` put over it.

    Raises:
      InputError: the preset or a flag does not exist, or a value has the wrong type.
      SystemExit: the words ask for ``--help``, which has been printed.
    """
    parsed = read_words(
        Arguments,
        words,
        f"{PROGRAM} {name}",
        default=Arguments(preset(name), Execution()),
        description=f"Presets: {', '.join(PRESETS)}.",
    )
    return parsed.config, parsed.execution


def read_words(kind: Callable[..., T], words: Sequence[str], program: str, **options: Any) -> T:
    """Words as a value of ``kind``.

    Args:
      kind: a dataclass; its fields are the flags.
      words: the command line, less the program and the verb.
      program: how it was called, for the help.
      options: more for ``tyro.cli``: default, description.

    Raises:
      InputError: all words that name no flag or hold no value of the flag's type, at once.
      SystemExit: the words ask for ``--help``, which has been printed.
    """

    def read(some: Sequence[str]) -> T:
        return tyro.cli(kind, args=list(some), prog=program, **options)

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return read(words)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
    # The parser stops at the first fault; each flag by itself shows the others.
    alone = [fault for some in by_flag(words) for fault in faults_of(read, some, program)]
    refuse(alone or [plain(complaint.getvalue(), words, program)])
    raise AssertionError("words that have no fault together or alone")


def by_flag(words: Sequence[str]) -> list[list[str]]:
    """The words in groups, each a flag with its values; what stands before the first is a group."""
    groups: list[list[str]] = [[]]
    for word in words:
        if word.startswith("--"):
            groups.append([])
        groups[-1].append(word)
    return [group for group in groups if group]


def faults_of(
    read: Callable[[Sequence[str]], Any], words: Sequence[str], program: str
) -> list[str]:
    """What the parser has against a flag and its values alone, if anything."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            read(words)
    except SystemExit as stop:
        return [plain(complaint.getvalue(), words, program)] if stop.code else []
    return []


# What the parser says of a word, and how we say it.
SAID = {
    r"invalid literal for int\(\)": "{flag} is {value!r}: it must be a whole number",
    r"could not convert string to float": "{flag} is {value!r}: it must be a number",
    r"invalid choice .* one of \((.*?),?\)": "{flag} is {value!r}: it must be one of {0}",
    r"Missing value for argument": "{flag} needs a value",
}


def is_rule(line: str) -> bool:
    """Whether a line of the box is drawn rather than written."""
    return not line.strip("─-")


def plain(boxed: str, words: Sequence[str], program: str) -> str:
    """A fault that was drawn in a box, as one line: what is wrong, and which flags are near."""
    # The box is drawn in ASCII where the terminal knows no better.
    _, *lines = [line.strip("│╭╮╰╯ ").rstrip("─ ") for line in boxed.strip().splitlines()]
    body = dropwhile(is_rule, lines)
    fault = " ".join(takewhile(lambda line: not is_rule(line), body))
    given = " ".join(words)
    flag, _, value = given.replace("=", " ", 1).partition(" ")
    for pattern, ours in SAID.items():
        if found := re.search(pattern, fault):
            return ours.format(*found.groups(), flag=flag, value=value)
    unknown = re.fullmatch("Unrecognized options: (.*)", fault)
    if not unknown:
        return f"{flag}: {fault}"
    near = [line.split()[0] for line in lines if re.match("--[a-z]", line)][:2]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    flag_is_known = not unknown[1].startswith(flag)
    what = f"{unknown[1].replace(', ', ' ')} (after {flag})" if flag_is_known else given
    return f"there is no setting {what}: {hint}{program} --help lists those there are"
