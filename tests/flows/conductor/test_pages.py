"""What a run publishes is on Prefect's pages, and a page that fails costs the run nothing."""

import json
from typing import Any

import pytest

from flows import engine
from flows.conductor import pages, server


def in_a_flow(monkeypatch: pytest.MonkeyPatch, body: Any) -> engine.Outcome[Any]:
    """Run a body inside a conducted flow."""
    monkeypatch.setenv("LMCORE_ENGINE", "prefect")
    return engine.run_flow(engine.flow("pages")(body))


def published() -> dict[str, Any]:
    """The artifacts of the server, the newest of each key."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found: list[Any] = client.read_artifacts(limit=200)
    return {each.key: each for each in sorted(found, key=lambda each: each.created)}


def test_everything_published_can_be_read_through_the_api(
    conducted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Table, text, picture, link and progress arrive with their content and their run."""

    def body() -> None:
        rows = [{"measure": "loss", "value": 1.25}, {"measure": "floor", "value": float("nan")}]
        pages.publish_table("Result Table", rows, "the whole set")
        pages.publish_markdown("samples", "Once upon a time")
        pages.publish_image("loss-curve", b"\x89PNG", "loss over tokens")
        pages.publish_link("report", "https://example.org/report.html", "the report")
        done = pages.progress_bar("pretrain", "tokens")
        done(0.25)
        done(1.0)

    assert in_a_flow(monkeypatch, body).status == 0
    found = published()
    assert json.loads(found["result-table"].data) == [
        {"measure": "loss", "value": 1.25},
        {"measure": "floor", "value": "nan"},
    ]
    assert found["result-table"].description == "the whole set"
    assert found["samples"].data == "Once upon a time"
    assert found["loss-curve"].data == "![loss over tokens](data:image/png;base64,iVBORw==)"
    assert found["report"].data == "[the report](https://example.org/report.html)"
    assert (found["pretrain"].type, found["pretrain"].data) == ("progress", 100.0)
    assert all(found[key].flow_run_id for key in ("result-table", "samples", "pretrain"))


def test_progress_is_written_once_a_second(
    conducted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many updates within a second the first is written, and the one that completes the bar."""
    written: list[float] = []

    def attempt(function: str, **arguments: Any) -> str:
        written.append(arguments["progress"])
        return "id"

    monkeypatch.setattr(pages, "attempt", attempt)
    done = pages.progress_bar("bar")
    for percent in range(101):
        done(percent / 100)
    assert written == [0.0, 100.0]


def test_progress_from_another_thread_reaches_the_run(
    conducted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bar made in a run may be moved by a thread that reads a training process's output."""
    from concurrent.futures import ThreadPoolExecutor

    def body() -> None:
        done = pages.progress_bar("from-a-thread")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(done, 1.0).result()

    assert in_a_flow(monkeypatch, body).status == 0
    assert published()["from-a-thread"].data == 100.0


def test_nothing_is_published_outside_a_run(
    conducted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside a conducted run, publishing does nothing at all."""
    before = set(published())
    pages.publish_markdown("outside", "text")
    pages.progress_bar("outside-too")(0.5)
    assert set(published()) == before


def test_page_that_fails_is_one_line(
    conducted: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Pages that cannot be written cost one line for all of them; the run ends with status 0."""
    from prefect import artifacts

    def refuse(**_: Any) -> None:
        raise ValueError("413 too large")

    monkeypatch.setattr(artifacts, "create_markdown_artifact", refuse)
    monkeypatch.setattr(pages, "_said", [])

    def body() -> bool:
        pages.publish_markdown("one", "text")
        pages.publish_markdown("two", "text")
        return server.conducts()

    assert in_a_flow(monkeypatch, body) == engine.Outcome(0, True)
    printed = capfd.readouterr().err
    assert printed == "prefect: a page could not be written (ValueError: 413 too large)\n"


def test_lost_connection_ends_the_publishing(
    conducted: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """After a connection fails, nothing more is tried: each attempt would take seconds."""
    import httpx
    from prefect import artifacts

    tried: list[str] = []

    def refuse(**arguments: Any) -> None:
        tried.append(arguments["key"])
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(artifacts, "create_markdown_artifact", refuse)

    def body() -> None:
        pages.publish_markdown("one", "text")
        pages.publish_markdown("two", "text")

    assert in_a_flow(monkeypatch, body).status == 0
    assert tried == ["one"]
    assert capfd.readouterr().err.count("\n") == 1
