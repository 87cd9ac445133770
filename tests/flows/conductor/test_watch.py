"""What Prefect's pages get to see of a finished run."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from flows.conductor import pages, watch
from tests.flows.report.test_report import REPORT


def test_report_has_its_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result and the texts as tables, the curve, the samples, and where everything is."""
    tables: dict[str, Sequence[Mapping[str, Any]]] = {}
    others: list[str] = []
    monkeypatch.setattr(pages, "publish_table", lambda key, rows, _: tables.update({key: rows}))
    monkeypatch.setattr(pages, "publish_image", lambda key, *_: others.append(key))
    monkeypatch.setattr(pages, "publish_markdown", lambda key, *_: others.append(key))
    watch.publish_report(REPORT)
    assert tables["my-run-result"][0] == {
        "measure": "validation loss",
        "value": 1.23456,
        "unit": "nats/token",
    }
    assert tables["my-run-tokens"] == [
        {"measure": "tokens", "training text": "12,345", "validation text": "678"},
        {"measure": "longest token", "training text": "' |`*'", "validation text": ""},
    ]
    assert others == ["my-run-loss", "my-run-samples", "my-run-artifacts"]
