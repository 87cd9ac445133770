"""Write the parts of the documents that the code decides: `python docs/generated.py`.

A document marks such a part with ``<!-- generated:NAME -->`` and ``<!-- /generated -->``, and what
stands between them is replaced. Nobody edits it by hand; a test fails where it is not what this
script would write.
"""

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from flows.catalog import STAGES
from flows.config import Execution, RunConfig
from flows.presets import PRESETS
from flows.trainer.numerics import Numerics
from lmcore.model.counts import count_params

DOCS = Path(__file__).parent
MARK = re.compile(r"(<!-- generated:(\w+) -->\n)(.*?)(<!-- /generated -->)", re.DOTALL)


class Setting(NamedTuple):
    """A field of a slice, as the command line knows it."""

    flag: str
    choices: str
    default: str
    sentence: str


class Slice(NamedTuple):
    """A frozen dataclass of settings, and where its flags and its field stand."""

    kind: type
    field: str
    prefix: str


def slices() -> list[Slice]:
    """Every slice of a run, in the order of `RunConfig`, and then `Execution`."""
    hints = get_type_hints(RunConfig, include_extras=True)
    found = []
    for field, hint in hints.items():
        named = getattr(hint, "__metadata__", ())  # Annotated[..., arg(name="corpus")]
        kind = get_args(hint)[0] if named else hint
        found.append(Slice(kind, field, (named[0].name if named else field) + "."))
    return [*found, Slice(Execution, "", "")]


def settings(one: Slice) -> list[Setting]:
    """The settings of a slice.

    Raises:
      ValueError: a field has no sentence under it.
    """
    said, hints = sentences(one.kind), get_type_hints(one.kind)
    rows = []
    for field in fields(one.kind):
        if field.name not in said:
            raise ValueError(f"{one.kind.__name__}.{field.name} has no sentence under it")
        flag = f"--{one.prefix}{field.name}".replace("_", "-")
        rows.append(
            Setting(flag, choices(hints[field.name]), shown(field.default), said[field.name])
        )
    return rows


def sentences(kind: type) -> dict[str, str]:
    """Field to the string under it."""
    (tree,) = ast.parse(dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    return {
        before.target.id: " ".join(str(after.value.value).split())
        for before, after in pairwise(tree.body)
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name)
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    }


def choices(hint: Any) -> str:
    """What a field takes, in a few words."""
    if get_origin(hint) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    words = {int: "whole number", float: "number", str: "text", bool: "switch"}
    return words.get(hint, "texts")


def shown(default: Any) -> str:
    """A default as it would be typed."""
    if default == "" or isinstance(default, bool):
        return {"": "empty", True: "on", False: "off"}[default]
    words = default if isinstance(default, tuple) else (default,)
    # In a table even a bar between backticks would end the cell.
    return "`" + " ".join(map(str, words)).replace("|", "\\|") + "`"


def settings_tables() -> str:
    """A section for each slice: whose key it is in, and a row for each flag."""
    parts = []
    for one in slices():
        title = f"### `{one.kind.__name__}`" + (f" (`--{one.prefix}…`)" if one.prefix else "")
        rows = [
            f"| `{row.flag}` | {row.choices} | {row.default} | {row.sentence} |"
            for row in settings(one)
        ]
        head = ["| flag | takes | default | meaning |", "|---|---|---|---|"]
        parts.append("\n".join([title, "", class_of(one.kind), "", *head, *rows]))
    return "\n\n".join(parts)


def class_of(kind: type) -> str:
    """Which of the three classes of settings a slice belongs to."""
    module = f"`{kind.__module__.replace('.', '/')}.py`"
    if kind is Numerics:
        return f"*Numerics*: in no key, recorded, fixed for a run's life. Defined in {module}."
    keyed = [stage for stage, request in requests().items() if kind in request_kinds(request)]
    if not keyed:
        return f"*Neutral*: in no key, and changes no bit. Defined in {module}."
    return f"*Meaning*: in the key of {' and '.join(keyed)}. Defined in {module}."


def requests(config: RunConfig = PRESETS["quickstart"]) -> dict[str, Any]:
    """What each stage would ask the store for."""
    made: Mapping[str, Any] = {
        stage: SimpleNamespace(facts={"vocab_size": config.tokenizer.vocab_size})
        for stage in STAGES
    }
    return {stage: entry.request(config, made) for stage, entry in STAGES.items()}


def request_kinds(request: Any) -> list[type]:
    """The slices whose values are in a request."""
    return [type(value) for value in request_settings(request).values()]


def request_settings(request: Any) -> dict[str, Any]:
    """Name to value of the settings of a request."""
    whole = request.settings
    return dict(whole) if isinstance(whole, Mapping) else {"source": whole}


def keys_table() -> str:
    """A row for each stage: the parts of its key."""
    rows = ["| stage | settings | artifacts | code | versions |"]
    rows.append("|---|---|---|---|---|")
    for stage, request in requests().items():
        cells = [
            ", ".join(f"`{name}`" for name in request_settings(request)),
            ", ".join(STAGES[stage].inputs) or "none (a `file://` text by its digest)",
            ", ".join(f"`{module}`" for module in request.code),
            ", ".join(request.packages) or "none",
        ]
        rows.append(f"| {stage} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def presets_table() -> str:
    """A row for each preset."""
    rows = [
        "| preset | text | vocabulary | layers × width | heads | context | parameters | tokens |",
        "|---|---|---:|---|---:|---:|---:|---:|",
    ]
    for name, config in PRESETS.items():
        source, model = config.source, config.model
        text = source.train_url.rsplit("/", 1)[-1] or f"{source.n_train_stories:,} stories"
        counted = count_params(replace(model, vocab_size=config.tokenizer.vocab_size))
        cells = [
            f"{config.tokenizer.vocab_size:,}",
            f"{model.n_layers} × {model.d_model}",
            f"{model.n_heads}",
            f"{model.context_length}",
            f"{counted.non_embedding:,}",
            f"{config.training.tokens:,}",
        ]
        rows.append(f"| `{name}` | {text} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


PARTS: dict[str, Callable[[], str]] = {
    "presets": presets_table,
    "settings": settings_tables,
    "keys": keys_table,
}


def filled(text: str) -> str:
    """A document with its generated parts as they should be."""
    return MARK.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n\n{found[4]}", text)


def documents() -> Iterator[Path]:
    """The documents that may have generated parts."""
    yield DOCS.parent / "README.md"
    yield from sorted(DOCS.glob("*.md"))


def main() -> int:
    for path in documents():
        before = path.read_text()
        if (after := filled(before)) != before:
            path.write_text(after)
            print(f"written: {path.relative_to(DOCS.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
