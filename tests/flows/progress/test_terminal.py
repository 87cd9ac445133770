"""The run in a terminal and in a log: a line a stage, figures for people."""

import doctest
import io
import re

import pytest
from hypothesis import given, settings, strategies as st
from rich.console import Console

from flows.progress import terminal as module
from flows.progress.events import Event
from flows.progress.terminal import Speed, Terminal, clock, count, short_path, status, summary
from tests.flows.tiny_run import STAGES, Finished


def shown(events: list[Event], *, terminal: bool = False, term: str = "xterm") -> str:
    """What a terminal, or a log, gets to see of some events."""
    file = io.StringIO()
    console = Console(
        file=file,
        force_terminal=terminal,
        width=120,
        highlight=False,
        soft_wrap=True,
        _environ={"TERM": term},
    )
    screen = Terminal(console)
    for event in events:
        screen(event)
    screen.close()
    return file.getvalue()


def test_examples() -> None:
    """The examples in the docstrings give what stands under them."""
    assert doctest.testmod(module).failed == 0


FACTS = {"vocab_size": 1024, "merges": 765}


@pytest.mark.parametrize("terminal", [False, True])
def test_stage_is_one_line_when_it_is_done(terminal: bool) -> None:
    """A built stage says what it made and how long it took; a hit says that it was verified."""
    built = Event("built", "tokenizer", data={"facts": FACTS, "seconds": 2.0})
    hit = Event("hit", "tokenizer", data={"facts": FACTS, "seconds": 2.0})
    text = shown([Event("started", "tokenizer"), built, Event("started", "tokenizer"), hit])
    assert re.findall(r"✓ tokenizer +1,024 tokens, 765 merges +(.*)", text) == [
        "built in 2.0 s",
        "verified",
    ]


def test_log_has_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody watches, progress is a plain line every ten seconds, and no escape codes."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    file = io.StringIO()
    screen = Terminal(Console(file=file, force_terminal=False, width=120))
    screen(Event("started", "download"))
    for second in range(25):
        now[0] = float(second)
        data = {"done": second, "total": 25, "unit": "windows", "label": "validation"}
        screen(Event("progress", "download", data=data))
    lines = file.getvalue().splitlines()
    assert [line.split()[1:] for line in lines] == [
        ["validation", "10", "of", "25", "windows"],
        ["validation", "20", "of", "25", "windows"],
    ]
    assert "\x1b" not in file.getvalue()


def test_text_is_not_taken_for_markup() -> None:
    """Square brackets in a path or a message are shown as they are."""
    text = shown([Event("note", "download", "[bold]/a[0]"), Event("warning", "x", "[red]")])
    assert "[bold]/a[0]" in text
    assert "[red]" in text


def test_a_dumb_terminal_gets_plain_lines() -> None:
    """Where no line can be redrawn, progress is lines of text as in a log."""
    data = {"done": 20, "total": 400, "unit": "steps", "loss": 2.5}
    data |= {"tokens_per_second": 10240.0, "seconds_left": 76.0}
    events = [Event("started", "pretrain"), Event("progress", "pretrain", data=data)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "PLAIN_LINE_EVERY_SECONDS", 0.0)
        text = shown(events, terminal=True, term="dumb")
    assert "step 20/400   loss 2.5000" in text
    assert "\x1b[?25l" not in text


def test_terminal_is_left_as_it_was() -> None:
    """After an interruption the cursor that the live line hid is shown again."""
    text = shown([Event("started", "pretrain")], terminal=True)
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1


def test_live_line_shows_step_and_loss() -> None:
    """The live line of training has step, loss, speed and time left."""
    data = {"done": 20, "total": 400, "unit": "steps", "loss": 2.5}
    data |= {"tokens_per_second": 10240.0, "seconds_left": 76.0}
    text = shown([Event("started", "pretrain"), Event("progress", "pretrain", data=data)],
                 terminal=True)  # fmt: skip
    assert "step 20/400   loss 2.5000   10,240 tokens/s   1:16 left" in text


def test_event_of_no_concern_is_passed_over() -> None:
    """Metrics have other readers; an empty note is no line."""
    assert shown([Event("metrics", "pretrain"), Event("note", "pretrain")]) == ""


def test_status_of_other_units() -> None:
    """Bytes and counts, with and without a known end."""
    assert status({}) == ""
    assert status({"done": 5_000, "total": 10_000, "unit": "bytes"}) == "5.0 of 10.0 kB"
    assert status({"done": 900, "total": 10_000, "unit": "bytes"}) == "900 B of 10.0 kB"
    assert (
        status({"done": 1234, "total": None, "unit": "bytes", "label": "train"}) == "train 1.2 kB"
    )
    assert status({"done": 1234, "total": 2000, "unit": "samples"}) == "1,234 of 2,000 samples"
    begun = {"done": 1, "total": 9, "unit": "steps", "loss": 1, "tokens_per_second": 0.0}
    assert status(begun) == "step 1/9   loss 1.0000   0 tokens/s"


def test_text_is_told_with_its_speed_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes and characters get their speed, and the time left where there is an end."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module, "PLAIN_LINE_EVERY_SECONDS", 0.0)
    file = io.StringIO()
    screen = Terminal(Console(file=file, force_terminal=False, width=120))
    screen(Event("started", "pretokenize"))
    for label, unit, total in (
        ("train", "bytes", 70_000_000),
        ("valid", "bytes", None),
        ("count", "characters", None),
    ):
        for done in (0, 20_000_000, 40_000_000):
            data = {"done": done, "total": total, "unit": unit, "label": label}
            screen(Event("progress", "pretokenize", data=data))
            now[0] += 2.0
    assert [line.removeprefix("  pretokenize  ") for line in file.getvalue().splitlines()] == [
        "train 0 B of 70.0 MB",
        "train 20.0 of 70.0 MB   10.0 MB/s   0:05 left",
        "train 40.0 of 70.0 MB   10.0 MB/s   0:03 left",
        "valid 0 B",
        "valid 20.0 MB   10.0 MB/s",
        "valid 40.0 MB   10.0 MB/s",
        "count 0 characters",
        "count 20,000,000 characters   10.00M/s",
        "count 40,000,000 characters   10.00M/s",
    ]


def test_speed_is_that_of_now() -> None:
    """What was slow long ago, or was kept of an earlier try, does not count."""
    speed, data = Speed(), {"unit": "bytes", "label": "train", "total": None}
    found = {}
    for second in range(101):
        done = 10**9 + second + 9 * max(second - 50, 0)  # 1 a second, then 10
        found = speed.of(data | {"done": done}, float(second))
    assert found["per_second"] == 10.0
    assert speed.of(data | {"done": 1}, 101.0) == {}


def test_every_stage_has_a_summary(finished: Finished) -> None:
    """What each stage says of its artifact can be told in a few words."""
    for stage in STAGES:
        assert re.search(r"\d", summary(stage, finished.record(stage)["facts"])), stage
    assert summary("other", {}) == ""


@settings(deadline=None)
@given(n=st.integers(0, 10**15))
def test_numbers_for_people_are_short_and_true(n: int) -> None:
    """No count has an exponent or four digits before its unit, and all are true."""
    factor = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(\D*)", count(n))
    assert found, count(n)
    value, unit = float(found[1]), factor[found[2]]
    assert value < 1000 or unit == 1e12, count(n)
    assert abs(value * unit - n) <= 0.051 * unit + 0.005 * n


@settings(deadline=None)
@given(seconds=st.floats(0, 1e6))
def test_durations_are_true(seconds: float) -> None:
    """A duration reads back as the seconds it came from, and no part of it is sixty."""
    text = clock(seconds)
    if text.endswith(" s"):
        assert float(text[:-2]) < 60
        assert abs(float(text[:-2]) - seconds) <= 0.051
        return
    parts = [int(part) for part in text.split(":")]
    assert all(part < 60 for part in parts[1:])
    total = 0
    for part in parts:
        total = 60 * total + part
    assert abs(total - seconds) <= 0.51


def test_short_path(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the current folder a path is told from there."""
    monkeypatch.chdir(tmp_path)
    assert short_path(tmp_path / "a" / "b") == "a/b"
    assert short_path(tmp_path.parent) == str(tmp_path.parent)
