"""The command line: `lmcore VERB …`, and `python flows/pipeline.py [PRESET] …` for the verb run.

The other verbs are the files of `flows/apps`, one each, found by looking: a verb is a module with
`main(words) -> exit status`, and its help is the first line of its docstring.
"""

import ast
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from lmcore.errors import InputError

APPS = Path(__file__).parent / "apps"
RUN_HELP = "Run the pipeline: text to an evaluated model. `lmcore run --help` lists the settings."


def main(words: Sequence[str] | None = None) -> int:
    """`python flows/pipeline.py`: run the pipeline, or serve it to Prefect with ``--serve``."""
    words = sys.argv[1:] if words is None else list(words)
    return guarded(serve if "--serve" in words else run, words)


def lmcore(words: Sequence[str] | None = None) -> int:
    """The `lmcore` command."""
    words = sys.argv[1:] if words is None else list(words)
    if not words or words[0] in ("-h", "--help", "help"):
        return guarded(show_usage, words)
    verb, rest = words[0], words[1:]
    if verb == "run":
        return main(rest)
    verbs = known_verbs()
    if verb not in verbs:
        known = ", ".join(["run", *verbs])
        print(f"error: there is no verb {verb!r}: take one of {known}", file=sys.stderr)
        return 2
    return guarded(import_module(f"flows.apps.{module_of(verb)}").main, rest)


def guarded(action, words: Sequence[str]) -> int:
    """Call an action; what the user can mend is one line, and Ctrl-C is another."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no ✓ shows a ?
    try:
        status = action(list(words))
        sys.stdout.flush()  # here, where a reader who has gone is no error
        return status
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def run(words: list[str]) -> int:
    """Check the words, choose the engine, and run the flow."""
    from flows.arguments import parse, split_preset
    from flows.engine import chosen, run_flow

    preset, settings = split_preset(words)
    if os.environ.get("LMCORE_ENGINE"):  # a default; what the words say comes after it and wins
        settings = [f"--engine={chosen()}", *settings]
    _, execution = parse(preset, settings)
    os.environ["LMCORE_ENGINE"] = execution.engine
    from flows.pipeline import pipeline

    return run_flow(pipeline, preset=preset, overrides=settings).status


def serve(words: list[str]) -> int:
    """Serve a deployment of every preset to a running Prefect server."""
    if words != ["--serve"]:
        raise InputError("--serve stands alone: the settings of a run are given when it is started")
    from flows.deploy import serve

    serve()
    return 0


def known_verbs() -> dict[str, str]:
    """Verb to the first line of its module's docstring."""
    files = sorted(APPS.glob("[a-z]*.py")) if APPS.is_dir() else []
    return {path.stem.replace("_", "-"): first_line(path) for path in files}


def module_of(verb: str) -> str:
    return verb.replace("-", "_")


def first_line(path: Path) -> str:
    """The first line of a module's docstring, without importing it."""
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n", 1)[0]


def show_usage(words: list[str]) -> int:
    """Print the help of `lmcore`; asking for nothing at all is a mistake."""
    print(usage(known_verbs()))
    return 0 if words else 2


def usage(verbs: dict[str, str]) -> str:
    """The help of `lmcore`."""
    rows = {"run": RUN_HELP, **verbs}
    width = max(map(len, rows))
    lines = [f"  {verb:<{width}}  {text}" for verb, text in rows.items()]
    return "\n".join(["usage: lmcore VERB [--help] …", "", *lines])
