"""Events travel as lines of JSON between processes, and nothing else is taken for one."""

import json
from typing import get_args

import pytest
from hypothesis import given, settings, strategies as st

from flows.progress.events import Event, Kind, from_line, silent, to_line

values = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.floats(allow_nan=False))
events = st.builds(
    Event,
    kind=st.sampled_from(get_args(Kind)),
    stage=st.text(),
    text=st.text(),
    data=st.dictionaries(st.text(), values),
)


@settings(deadline=None)
@given(event=events)
def test_event_round_trip(event: Event) -> None:
    """An event is one line, and comes back as it was, whatever its text holds."""
    line = to_line(event)
    assert "\n" not in line
    assert from_line(line + "\n") == event


@pytest.mark.parametrize(
    "line", ["", "hello", "[]", "3", "null", "{}", '{"kind": "note"}', '{"a": 1}', '"text"', "{\n"]
)
def test_other_lines_are_no_events(line: str) -> None:
    """What a library prints into the stream of events is passed over, not misread."""
    assert from_line(line) is None


def test_unknown_fields_are_no_event() -> None:
    """An object with more than an event's fields is something else."""
    assert from_line(json.dumps({"kind": "note", "stage": "", "colour": "red"})) is None


def test_nobody_has_to_watch() -> None:
    """The silent watcher takes any event."""
    assert silent(Event("note", "x")) is None
