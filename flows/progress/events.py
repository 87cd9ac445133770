"""What happens in a run, as values: whoever works emits events, whoever watches renders them.

A training process sends its events to its parent as JSON lines on standard output; the terminal
and Prefect's pages are two of the places where they end.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Kind = Literal[
    "started",  # a stage begins to build
    "progress",  # data: done, total, unit and whatever the line should show
    "metrics",  # data: one training or validation record
    "note",  # a line worth reading
    "warning",  # a line that should be read
    "built",  # a stage has published its artifact
    "hit",  # a stage found its artifact, verified
    "failed",  # a process cannot go on; text is for the user
]


@dataclass(frozen=True)
class Event:
    """One thing that happened: its kind, the stage it belongs to, a line of text, and data."""

    kind: Kind
    stage: str
    text: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


Notify = Callable[[Event], None]


def silent(event: Event) -> None:
    """Watch nothing."""


def to_line(event: Event) -> str:
    """The event as one line of JSON."""
    return json.dumps(asdict(event))


def from_line(line: str) -> Event | None:
    """The event that a line holds, or None where the line is something else."""
    try:
        return Event(**json.loads(line))
    except (ValueError, TypeError):
        return None
