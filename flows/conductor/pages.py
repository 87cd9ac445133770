"""What a run shows on Prefect's own pages: tables, texts, pictures, links and a progress bar.

Outside a run that Prefect conducts, all of this does nothing. A page that cannot be written costs
one line on the terminal, never the run.
"""

import base64
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from pathlib import Path
from typing import Any

from flows.conductor import server
from flows.conductor.shards import in_a_run

# An update takes 17 ms, so one a second costs a training run under 2%.
SECONDS_BETWEEN_UPDATES = 1.0

_said: list[str] = []


def publish_table(key: str, rows: Sequence[Mapping[str, Any]], description: str = "") -> None:
    """A table: one mapping a row, its keys the columns.

    Args:
      key: the page's name; what is not a letter, a digit or a dash becomes a dash.
      rows: the values are shown as they are; NaN and infinities, which JSON lacks, as text.
      description: Markdown, shown beside it.

    Example:
      >>> publish_table("result", [{"measure": "loss", "value": 1.23}], "the whole validation set")
    """
    table = [{name: plain(value) for name, value in row.items()} for row in rows]
    publish("create_table_artifact", key, description, table=table)


def publish_markdown(key: str, text: str, description: str = "") -> None:
    """A page of Markdown, such as a run's samples."""
    publish("create_markdown_artifact", key, description, markdown=text)


def publish_image(key: str, png: bytes | Path, description: str = "") -> None:
    """A picture, embedded: the page outlives the file, and shows on any machine.

    Args:
      key: as for `publish_table`.
      png: the bytes of a PNG, or where they lie.
      description: also what is read out where pictures are not shown.
    """
    if not in_a_run():
        return
    content = png if isinstance(png, bytes) else png.read_bytes()
    source = "data:image/png;base64," + base64.b64encode(content).decode()
    publish("create_markdown_artifact", key, description, markdown=f"![{description}]({source})")


def publish_link(key: str, url: str, text: str = "", description: str = "") -> None:
    """A link. A browser follows a file: link from a page of its own machine only."""
    publish("create_link_artifact", key, description, link=url, link_text=text or url)


def progress_bar(key: str, description: str = "") -> Callable[[float], None]:
    """A progress bar; returns what to call with the fraction done, from 0 to 1.

    It may be called as often as one likes and from any thread: it writes once a second, and when
    the fraction reaches 1.

    Example:
      >>> done = progress_bar("pretrain", "tokens seen")
      >>> done(0.5)
    """
    context = copy_context()
    state: dict[str, Any] = {"id": None, "due": 0.0}

    def update(fraction: float) -> None:
        percent = 100.0 * min(max(fraction, 0.0), 1.0)
        now = time.monotonic()
        if percent < 100.0 and now < state["due"]:
            return
        state["due"] = now + SECONDS_BETWEEN_UPDATES
        if state["id"] is None:
            state["id"] = publish("create_progress_artifact", key, description, progress=percent)
        else:
            attempt("update_progress_artifact", artifact_id=state["id"], progress=percent)

    return lambda fraction: context.copy().run(update, fraction)


def publish(make: str, key: str, description: str, **content: Any) -> Any:
    """Create an artifact; None where there is no page to put it on."""
    name = re.sub("[^a-z0-9]+", "-", key.lower()).strip("-")
    return attempt(make, key=name, description=description or None, **content)


def attempt(function: str, **arguments: Any) -> Any:
    """Call a function of ``prefect.artifacts``; its failure is a line, not an error."""
    if not in_a_run():
        return None
    import httpx
    from prefect import artifacts

    try:
        return getattr(artifacts, function)(**arguments)
    except httpx.TransportError as error:
        server.lose(f"its server is gone ({server.first_line(error)}); the run goes on without it")
    except Exception as error:
        if not _said:
            _said.append(function)
            server.say(f"a page could not be written ({server.first_line(error)})")
    return None


def plain(value: Any) -> Any:
    """A value that JSON can hold."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and value - value == 0.0:
        return value
    return str(value)
