"""The run in a terminal: a line for each stage, a live line below them while one works.

Where the output is no terminal (a file, a log), the live line becomes a plain line now and then.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from flows.disk.units import size
from flows.progress.events import Event

PLAIN_LINE_EVERY_SECONDS = 10.0
NAME_WIDTH = 12
# Long enough that one slow batch does not make the time left jump, short enough to be true now.
SPEED_OVER_SECONDS = 15.0


class Terminal:
    """Renders events; call it with each one, and `close` it at the end.

    Args:
      console: where to write; by default standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        # A dumb terminal (Emacs, some CI) can redraw no line: it gets the plain ones.
        self.redraws = self.console.is_terminal and not self.console.is_dumb_terminal
        self.live: Progress | None = None
        self.task = None
        self.last_plain = 0.0
        self.speed = Speed()
        self.handlers: dict[str, Callable[[Event], None]] = {
            "started": self.started,
            "progress": self.progress,
            "note": self.note,
            "warning": self.warning,
            "hit": self.done,
            "built": self.done,
        }

    def __call__(self, event: Event) -> None:
        handler = self.handlers.get(event.kind)
        if handler is not None:
            handler(event)

    def started(self, event: Event) -> None:
        self.stop_live()
        self.last_plain = time.monotonic()
        self.speed = Speed()
        if self.redraws:
            self.live = Progress(
                SpinnerColumn(),
                TextColumn(f"[bold]{event.stage:<{NAME_WIDTH}}[/]"),
                BarColumn(bar_width=24),
                StatusColumn(),
                console=self.console,
                transient=True,
            )
            self.task = self.live.add_task(event.stage, total=None, data={})
            self.live.start()

    def progress(self, event: Event) -> None:
        data = {**event.data, **self.speed.of(event.data, time.monotonic())}
        if self.live is not None and self.task is not None:
            self.live.update(
                self.task, completed=data.get("done") or 0, total=data.get("total"), data=data
            )
        elif time.monotonic() - self.last_plain >= PLAIN_LINE_EVERY_SECONDS:
            self.last_plain = time.monotonic()
            self.console.print(f"  {event.stage:<{NAME_WIDTH}} {status(data)}", markup=False)

    def note(self, event: Event) -> None:
        if "plan" in event.data:
            self.console.print(event.data["plan"])
        elif event.text:
            self.console.print(f"  {event.stage:<{NAME_WIDTH}} {event.text}", markup=False)

    def warning(self, event: Event) -> None:
        self.console.print(
            Text(f"! {event.stage:<{NAME_WIDTH}} {event.text}", style="yellow"), markup=False
        )

    def done(self, event: Event) -> None:
        self.stop_live()
        made = "verified" if event.kind == "hit" else f"built in {clock(event.data['seconds'])}"
        line = Text("✓ ", style="green")
        line.append(f"{event.stage:<{NAME_WIDTH}} ", style="bold")
        line.append(f"{summary(event.stage, event.data['facts']):<61} ")
        line.append(f"{made}", style="cyan" if event.kind == "hit" else "green")
        self.console.print(line)

    def stop_live(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = self.task = None

    def close(self) -> None:
        """Leave the terminal as it was."""
        self.stop_live()


class Speed:
    """How fast a stage goes through its text just now, for stages that do not tell it.

    Example:
      >>> speed, data = Speed(), {"unit": "bytes", "label": "train", "total": 50}
      >>> speed.of(data | {"done": 10}, 1.0), speed.of(data | {"done": 30}, 2.0)
      ({}, {'per_second': 20.0, 'seconds_left': 1.0})
    """

    def __init__(self) -> None:
        self.label: object = None
        self.marks: deque[tuple[float, float]] = deque()  # when, and how much was done

    def of(self, data: Mapping[str, Any], now: float) -> dict[str, float]:
        """What to add to the data of an event that came at ``now``, in seconds."""
        if data.get("unit") not in ("bytes", "characters"):
            return {}
        done, total = data.get("done") or 0, data.get("total")
        if data.get("label") != self.label or (self.marks and done < self.marks[-1][1]):
            self.label = data.get("label")
            self.marks.clear()
        self.marks.append((now, done))
        while len(self.marks) > 2 and self.marks[1][0] <= now - SPEED_OVER_SECONDS:
            self.marks.popleft()
        began, before = self.marks[0]
        if now <= began or done <= before:
            return {}
        speed = (done - before) / (now - began)
        left = {"seconds_left": max(total - done, 0) / speed} if total else {}
        return {"per_second": speed, **left}


class StatusColumn(ProgressColumn):
    """Whatever there is to say of the work at hand."""

    def render(self, task: Task) -> Text:
        return Text(status(task.fields.get("data", {})))


def status(data: Mapping[str, Any]) -> str:
    """One line about a stage at work.

    Example:
      >>> status({"done": 20, "total": 400, "unit": "steps", "loss": 2.5,
      ...         "tokens_per_second": 10240.0, "seconds_left": 76.0})
      'step 20/400   loss 2.5000   10,240 tokens/s   1:16 left'
      >>> status({"done": 12e6, "total": 70e6, "unit": "bytes", "label": "train",
      ...         "per_second": 18.2e6, "seconds_left": 3.2})
      'train 12.0 of 70.0 MB   18.2 MB/s   0:03 left'
    """
    if not data:
        return ""
    left = data.get("seconds_left")
    if data.get("unit") == "steps":
        parts = [
            f"step {data['done']:,}/{data['total']:,}",
            f"loss {data['loss']:.4f}",
            f"{data['tokens_per_second']:,.0f} tokens/s",
        ]
    else:
        parts = [f"{data.get('label', '')} {amount(data)}".strip(), speed(data)]
    parts.append(f"{countdown(left)} left" if left is not None else "")
    return "   ".join(part for part in parts if part)


def amount(data: Mapping[str, Any]) -> str:
    """How much is done, and of how much."""
    in_bytes, total = data.get("unit") == "bytes", data.get("total")
    done, whole = (size(n or 0) if in_bytes else f"{n or 0:,}" for n in (data.get("done"), total))
    if not total:
        counted = done
    elif in_bytes and done.split()[1] == whole.split()[1]:
        counted = f"{done.split()[0]} of {whole}"
    else:
        counted = f"{done} of {whole}"
    return counted if in_bytes else f"{counted} {data.get('unit', '')}"


def speed(data: Mapping[str, Any]) -> str:
    """How much in a second, where that is known."""
    if "per_second" not in data:
        return ""
    in_bytes = data.get("unit") == "bytes"
    return f"{size(data['per_second']) if in_bytes else count(data['per_second'])}/s"


def summary(stage: str, facts: dict) -> str:
    """What a stage made, in a few words."""
    if stage == "download":
        return f"{size(facts['train_bytes'])} train, {size(facts['valid_bytes'])} validation"
    if stage == "tokenizer":
        return f"{facts['vocab_size']:,} tokens, {facts['merges']:,} merges"
    if stage == "pretokenize":
        train, valid = facts["train"], facts["valid"]
        return (
            f"{count(train['tokens'])} + {count(valid['tokens'])} tokens, "
            f"{train['bytes_per_token']:.2f} bytes each, "
            f"vocabulary {facts['vocabulary_used']:.0%} used"
        )
    if stage == "pretrain":
        return f"{facts['steps']:,} steps, {count(facts['tokens'])} tokens"
    if stage == "evaluate":
        return f"loss {facts['loss']:.4f}, {facts['bits_per_byte']:.4f} bits per byte"
    return ""


def count(n: float) -> str:
    """A large number for people.

    Example:
      >>> count(950), count(2_000_000), count(999_999)
      ('950', '2.00M', '1.00M')
    """
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= 0.9995 * limit:  # what rounds to one of the unit
            return f"{n / limit:.0f}{unit}" if n >= 99.995 * limit else f"{n / limit:.2f}{unit}"
    return f"{n:.0f}"


def clock(seconds: float) -> str:
    """A duration for people.

    Example:
      >>> clock(2.34), clock(76), clock(7300)
      ('2.3 s', '1:16', '2:01:40')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    return countdown(seconds)


def countdown(seconds: float) -> str:
    """The time left, of a width that does not change with every second.

    Example:
      >>> countdown(3.2), countdown(76), countdown(7300)
      ('0:03', '1:16', '2:01:40')
    """
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def short_path(path: Path) -> str:
    """A path relative to where the user stands, where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
