"""What a vocabulary does, measured: ``python -m benchmarks.vocabulary --data FOLDER``.

The parts: ``unknown`` (text that a vocabulary of words or characters cannot write), ``sizes``
(compression, parameters and FLOPs by vocabulary size), ``languages`` (one text in many languages),
``share`` (what a language's share in the training text does), ``speed`` (training steps at two
sizes) and ``tricks`` (what each trick of the fast tokenizer buys). The first four count, and are
the same on every machine. The last two are ratios of processor seconds in one run.

Tables are printed as Markdown.
"""

import argparse
import json
import platform
import sys
from dataclasses import asdict, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.machine import cores, cpu_name
from benchmarks.vocabulary import parts, texts
from benchmarks.vocabulary.parts import PARTS
from benchmarks.vocabulary.trained import tokenizers
from lmcore import Tokenizer
from lmcore.errors import InputError


def main(arguments: list[str] | None = None) -> None:
    """Measure the parts asked for, and print each as soon as it is done."""
    options = parser().parse_args(arguments)
    print(machine(), flush=True)
    try:
        found = measure(options)
    except InputError as error:
        sys.exit(f"error: {error}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1, default=plain) + "\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.vocabulary",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the texts")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=5, help="of speed and tricks")
    parser.add_argument("--plot", type=Path, help="SVG file that gets the picture of languages")
    parser.add_argument("--json", type=Path, help="file that gets all the figures")
    return parser


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Do the parts in their order.

    Raises:
      InputError: a text is missing, or a picture is asked for without its part.
    """
    if options.plot and "languages" not in options.parts:
        raise InputError("--plot draws the part languages: add it to --parts, or leave out --plot")
    read = texts.read_texts(options.data)
    made: dict[int, Tokenizer] = {}
    if {"unknown", "sizes", "languages", "speed"} & set(options.parts):
        made = tokenizers([read.novels], parts.sizes_for(options.parts))
    found: dict[str, Any] = {"machine": machine()}
    for part in options.parts:
        found[part], lines = PARTS[part](read, made, options)
        print(f"\n{part}\n", *lines, sep="\n", flush=True)
    return found


def machine() -> str:
    """The machine and the versions, in a line."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "torch", "matplotlib"))
    return (
        f"{cpu_name()}, {cores()} cores, {platform.system()}; "
        f"Python {platform.python_version()}, {packages}"
    )


def plain(value: Any) -> Any:
    """A dataclass as a dict, for JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{value!r} has no form in JSON")
