"""Settings as words: the one parser behind the command line and Prefect's `overrides`."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from flows.config import Execution, RunConfig
from flows.presets import PRESETS, preset
from lmcore.errors import InputError

PROGRAM = "python flows/pipeline.py"


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
    start = Arguments(preset(name), Execution())
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            parsed = tyro.cli(
                Arguments,
                default=start,
                args=list(words),
                prog=f"{PROGRAM} {name}",
                description=f"Presets: {', '.join(PRESETS)}.",
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise InputError(plain(complaint.getvalue())) from None
    return parsed.config, parsed.execution


def plain(boxed: str) -> str:
    """An error that was drawn in a box, as one line."""
    lines = [line.strip(" │╭╮╰╯─\t") for line in boxed.splitlines()]
    return " ".join(line for line in lines if line) or "the arguments cannot be read"
