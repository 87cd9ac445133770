"""The metrics log: whole lines, readable while written, cut back on resume."""

import json
import os

import pytest
from hypothesis import given, settings, strategies as st

from flows.formats.metrics_log import MetricsLog, read, truncate_after
from lmcore.errors import InputError


@pytest.fixture
def path(tmp_path):
    """Where the log is."""
    return tmp_path / "metrics.jsonl"


def write(path, *records):
    """A log with these records."""
    with MetricsLog(path) as log:
        for record in records:
            log.append(record)


def test_a_record_is_there_at_once(path):
    """A reader sees each record as soon as it was appended, while the log is open."""
    with MetricsLog(path) as log:
        for step in range(3):
            log.append({"step": step, "loss": 0.1 * step})
            assert read(path)[-1] == {"step": step, "loss": 0.1 * step}


def test_one_line_a_record(path):
    """The file is JSON lines: any tool reads it."""
    write(path, {"step": 1, "note": "two\nlines"}, {"step": 2})
    assert [json.loads(line) for line in path.read_text().splitlines()] == read(path)
    assert path.read_text() == '{"step": 1, "note": "two\\nlines"}\n{"step": 2}\n'


def test_floats_that_json_lacks_become_null(path):
    """NaN and infinities are written as null, wherever they stand, so the file stays JSON."""
    write(path, {"loss": float("nan"), "deep": {"list": [float("inf"), 1.0, (float("-inf"),)]}})
    assert read(path) == [{"loss": None, "deep": {"list": [None, 1.0, [None]]}}]


def test_opening_again_goes_on(path):
    """A log that is opened again keeps what it has."""
    write(path, {"step": 1})
    write(path, {"step": 2})
    assert read(path) == [{"step": 1}, {"step": 2}]


@settings(deadline=None, max_examples=40)
@given(cut=st.integers(0, 60), long=st.booleans())
def test_a_torn_line_is_passed_over_and_cut_off(tmp_path_factory, cut, long):
    """However a write was cut short, whole records are read, and the next append is whole too."""
    path = tmp_path_factory.mktemp("log") / "metrics.jsonl"
    write(path, {"step": 1}, {"step": 2, "note": "x" * 10_000 if long else "x"}, {"step": 3})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - cut])
    whole = data[: len(data) - cut].count(b"\n")
    assert [record["step"] for record in read(path)] == [1, 2, 3][:whole]
    write(path, {"step": 9})
    assert [record["step"] for record in read(path)] == [*[1, 2, 3][:whole], 9]


def test_truncating_drops_what_lies_beyond(path):
    """Records beyond the step go, validations too; what stays is byte for byte as it was."""
    records = [{"step": 1}, {"step": 2, "kind": "valid"}, {"step": 3}, {"step": 3, "kind": "valid"}]
    write(path, {"kind": "start"}, *records[:2])
    kept = path.read_bytes()
    write(path, *records[2:])
    assert truncate_after(path, 2) == 2
    assert path.read_bytes() == kept
    assert truncate_after(path, 2) == 0


def test_truncating_drops_a_torn_line(path):
    """A last line without its end goes, and counts for nothing."""
    path.write_bytes(b'{"step": 1}\n{"step": 2')
    assert truncate_after(path, 5) == 0
    assert path.read_bytes() == b'{"step": 1}\n'


def test_a_record_without_a_step_belongs_to_the_one_before(path):
    """A note after a dropped step is dropped, one after a kept step is kept."""
    write(path, {"step": 1}, {"note": "kept"}, {"step": 2}, {"note": "dropped"})
    assert truncate_after(path, 1) == 2
    assert read(path) == [{"step": 1}, {"note": "kept"}]


def test_an_absent_log_is_empty(path):
    """No log has no records, and truncating makes none."""
    assert read(path) == []
    assert truncate_after(path, 3) == 0
    assert not path.exists()


@pytest.mark.parametrize("line", [b"{", b"[1]", b"", b"\xff"])
def test_a_damaged_line_is_named(path, line):
    """A line in the middle that is no JSON object is an InputError with its number."""
    path.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 2}\n')
    with pytest.raises(InputError, match="line 2 is no JSON"):
        read(path)


def test_closing_syncs(path, monkeypatch):
    """What was appended is on the disk when the log is closed, or synced."""
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    with MetricsLog(path) as log:
        log.append({"step": 1})
        log.sync()
        assert synced == [12]
    assert synced == [12, 12]
