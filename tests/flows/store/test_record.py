"""record.json: what it says, and that no byte of it can change unseen."""

import hashlib
import json
import time

import pytest
from hypothesis import given, settings, strategies as st

from flows.store import record
from flows.store.key import Request, make_key
from flows.store.record import (
    BadRecordError,
    content_digest,
    describe_outputs,
    new_record,
    read_record,
    render_record,
)


@pytest.fixture
def folder(tmp_path):
    """A small artifact with a file in a folder."""
    (tmp_path / "in").mkdir()
    (tmp_path / "a.txt").write_bytes(b"alpha")
    (tmp_path / "in" / "b.txt").write_bytes(b"")
    outputs = describe_outputs(tmp_path)
    key = make_key(Request("demo", {"name": "é \ud800"}, packages=("pytest",)))
    made = new_record(key, outputs, content_digest(outputs), {"loss": 0.1}, 1.5, 2.25)
    (tmp_path / "record.json").write_bytes(render_record(made))
    return tmp_path


def test_record_says_what_made_it_and_what_it_is(folder):
    """Stage, key, outputs, facts, times and versions are there, in a form people can read."""
    made = read_record(folder)
    assert made["stage"] == "demo"
    assert made["key"]["settings"] == {"name": "é \ud800"}
    assert made["outputs"] == {
        "a.txt": {"bytes": 5, "sha256": hashlib.sha256(b"alpha").hexdigest()},
        "in/b.txt": {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()},
    }
    assert made["facts"] == {"loss": 0.1}
    assert (made["started"], made["finished"]) == ("1970-01-01T00:00:01Z", "1970-01-01T00:00:03Z")
    assert made["environment"]["packages"] == {"pytest": pytest.__version__}
    text = (folder / "record.json").read_bytes().decode("utf-8", "surrogatepass")
    assert text.startswith('{\n  "format": 1,\n  "stage": "demo",\n  "digest": "')
    assert '"name": "é ' in text


def test_record_names_no_host_and_no_user(folder):
    """Two machines with the same software write the same."""
    import getpass
    import platform

    made = read_record(folder)
    environment = json.dumps(made["environment"])
    assert set(made["environment"]) == {"python", "platform", "packages"}
    assert str(folder) not in (folder / "record.json").read_text(errors="replace")
    assert platform.node() not in environment
    assert getpass.getuser() not in environment


def test_content_digest_is_that_of_names_and_bytes():
    """The digest is a known function: SHA-256 of the canonical JSON {name: sha256}."""
    outputs = {"b": {"bytes": 1, "sha256": "22"}, "a": {"bytes": 1, "sha256": "11"}}
    assert content_digest(outputs) == hashlib.sha256(b'{"a":"11","b":"22"}').hexdigest()


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_any_changed_byte_of_a_record_is_found(tmp_path_factory, data):
    """Whichever byte changes, be it white space, the record is not trusted."""
    made = new_record(make_key(Request("demo", {"n": 1})), {}, "0" * 64, {}, 0.0, 0.0)
    content = bytearray(render_record(made))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    folder = tmp_path_factory.mktemp("record")
    (folder / "record.json").write_bytes(content)
    with pytest.raises(BadRecordError):
        read_record(folder)


@pytest.mark.parametrize("change", [(b"  ", b"\t "), (b"\n}", b"}"), (b": ", b":"), (b"}\n", b"}")])
def test_changed_white_space_of_a_record_is_found(folder, change):
    """Even what JSON does not care about is as it was written, or the record is not trusted."""
    path = folder / "record.json"
    before = path.read_bytes()
    path.write_bytes(before.replace(*change))
    assert path.read_bytes() != before
    with pytest.raises(BadRecordError, match="was changed"):
        read_record(folder)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[]", "has format None"),
        (b'{"format": 0}', "has format 0, and this version reads 1"),
        (b'{"format": 1}', "was changed"),
    ],
)
def test_a_record_that_cannot_be_trusted_says_why(tmp_path, content, says):
    """Missing, torn, foreign and older records are told apart."""
    if content is not None:
        (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(BadRecordError, match=says):
        read_record(tmp_path)


def test_large_files_have_digests_of_their_chunks(tmp_path, monkeypatch):
    """Above the chunk size each chunk has its digest, in one reading with the whole."""
    monkeypatch.setattr(record, "CHUNK_BYTES", 4)
    (tmp_path / "small").write_bytes(b"abcd")
    (tmp_path / "large").write_bytes(b"abcdefghi")
    outputs = describe_outputs(tmp_path)
    assert outputs["small"] == {"bytes": 4, "sha256": hashlib.sha256(b"abcd").hexdigest()}
    assert outputs["large"] == {
        "bytes": 9,
        "sha256": hashlib.sha256(b"abcdefghi").hexdigest(),
        "chunk_bytes": 4,
        "chunks": [hashlib.sha256(c).hexdigest() for c in (b"abcd", b"efgh", b"i")],
    }


def test_what_cannot_be_recorded_is_refused(tmp_path):
    """Links, special files and a file named like the record are bugs of the build."""
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="link, which is not a plain file"):
        describe_outputs(tmp_path)
    (tmp_path / "link").unlink()
    (tmp_path / "record.json").touch()
    with pytest.raises(ValueError, match="which the store writes"):
        describe_outputs(tmp_path)


def test_facts_that_are_not_json_are_refused():
    """nan has no place in a record."""
    made = new_record(make_key(Request("demo", {})), {}, "0" * 64, {}, time.time(), 0.0)
    with pytest.raises(ValueError, match="not JSON compliant"):
        render_record({**made, "facts": {"loss": float("nan")}})
