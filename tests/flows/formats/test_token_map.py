"""The memory map: the stream by its definition, whole or absent, checked when opened."""

import errno
import json
import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from flows.formats.token_map import open_token_map
from flows.formats.token_map_builder import build_token_map, token_map
from flows.formats.token_parquet import write_shards
from flows.formats.token_rows import TokenRows, token_dtype
from flows.formats.token_shards import TokenHeader
from lmcore.errors import InputError

HEADER = TokenHeader("5e" * 32, vocab_size=300, eos_id=1)


def rows_of(documents, dtype=np.uint16):
    """Rows from documents given as lists of pieces, each a list of ids."""
    pieces = [(n, part, ids) for n, doc in enumerate(documents) for part, ids in enumerate(doc)]
    lengths = np.array([len(ids) for _, _, ids in pieces], np.int64)
    return TokenRows(
        np.array([n for n, _, _ in pieces], np.int64),
        np.array([part for _, part, _ in pieces], np.int32),
        np.array([id for _, _, ids in pieces for id in ids], dtype),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        lengths * 3,
    )


def shards_of(folder, documents, header=HEADER, **options):
    """Documents as shards."""
    rows = rows_of(documents, token_dtype(header.vocab_size))
    return write_shards(folder, "a", [rows], header, **options)


def slow_stream(documents, eos):
    """The stream, its offsets and bytes, by definition."""
    stream, offsets, sizes = [], [], []
    for document in documents:
        offsets.append(len(stream))
        ids = [id for piece in document for id in piece]
        stream += [eos, *ids]
        sizes.append(3 * len(ids))
    return [*stream, eos], [*offsets, len(stream)], sizes


document = st.lists(st.lists(st.integers(2, 299), max_size=8), min_size=1, max_size=3)


@settings(deadline=None, max_examples=40)
@given(
    documents=st.lists(document, max_size=8),
    group=st.integers(1, 20),
    shard=st.integers(1, 40),
    wide=st.booleans(),
)
def test_the_map_is_the_stream(tmp_path_factory, documents, group, shard, wide):
    """Any documents, in pieces or not, through any shards, give the stream of the definition."""
    documents = [[[2]], *documents]
    folder = tmp_path_factory.mktemp("map")
    header = TokenHeader("ab", 70_000, 69_999) if wide else HEADER
    shards = shards_of(folder, documents, header, group_tokens=group, shard_tokens=shard)
    found = token_map(shards.paths, folder / "maps", digest=shards.digest)
    stream, offsets, sizes = slow_stream(documents, header.eos_id)
    assert found.tokens.tolist() == stream
    assert found.tokens.dtype == (np.uint32 if wide else np.uint16)
    assert found.document_offsets.tolist() == offsets
    assert found.document_bytes.tolist() == sizes
    assert (found.document_offsets.dtype, found.document_bytes.dtype) == (np.int64, np.int64)
    assert (found.eos_id, found.vocab_size) == (header.eos_id, header.vocab_size)


def test_a_map_is_read_only(tmp_path):
    """The map cannot be written to through its arrays."""
    shards = shards_of(tmp_path, [[[2, 3]]])
    found = token_map(shards.paths, tmp_path / "maps", digest=shards.digest)
    for array in (found.tokens, found.document_offsets, found.document_bytes):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7


def test_a_second_call_opens_the_same_map(tmp_path):
    """The map is decoded once; the second call decodes nothing and says nothing."""
    shards, events = shards_of(tmp_path, [[[2, 3]]]), []
    first = token_map(shards.paths, tmp_path / "maps", digest=shards.digest, on_event=events.append)
    inode = (first.path / "tokens.bin").stat().st_ino
    assert len(events) == 1
    token_map(shards.paths, tmp_path / "maps", digest=shards.digest, on_event=events.append)
    assert (first.path / "tokens.bin").stat().st_ino == inode
    assert len(events) == 1


@pytest.mark.parametrize("name", ["tokens.bin", "document_offsets.npy", "document_bytes.npy"])
@pytest.mark.parametrize("cut", [True, False])
def test_a_changed_map_is_found_and_rebuilt(tmp_path, name, cut):
    """A flipped byte or a lost one in any file is found at opening, said, and mended."""
    shards, events = shards_of(tmp_path, [[[2, 3]], [[4]]]), []
    first = token_map(shards.paths, tmp_path / "maps", digest=shards.digest)
    file = first.path / name
    good = file.read_bytes()
    file.write_bytes(good[:-1] if cut else good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(InputError, match=name):
        open_token_map(first.path)
    again = token_map(shards.paths, tmp_path / "maps", digest=shards.digest, on_event=events.append)
    assert file.read_bytes() == good
    assert again.tokens.tolist() == [1, 2, 3, 1, 4, 1]
    assert "rebuilt" in events[0]
    assert name in events[0]


@pytest.mark.parametrize("manifest", ["", "{", "[]", "{}", '{"files": 3}', '{"files": {"a": 1}}'])
def test_a_damaged_manifest_is_found(tmp_path, manifest):
    """A manifest that is no manifest is an InputError, not a crash."""
    shards = shards_of(tmp_path, [[[2, 3]]])
    path = token_map(shards.paths, tmp_path / "maps", digest=shards.digest).path
    (path / "manifest.json").write_text(manifest)
    with pytest.raises(InputError, match="no token map that can be read"):
        open_token_map(path)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("format", 0),
        ("digest", "0" * 64),
        ("tokenizer_digest", "0" * 64),
        ("vocab_size", 299),
        ("eos_id", 2),
        ("dtype", "int16"),
        ("files", {}),
    ],
)
@pytest.mark.parametrize("lost", [True, False])
def test_a_manifest_that_says_something_else_is_not_believed(tmp_path, name, other, lost):
    """What a map says of its tokens is what the shards say, or the map is made again."""
    shards, events = shards_of(tmp_path, [[[2, 3]]]), []
    path = token_map(shards.paths, tmp_path / "maps", digest=shards.digest).path
    good = (path / "manifest.json").read_text()
    facts = json.loads(good) | {name: other}
    if lost:
        del facts[name]
    (path / "manifest.json").write_text(json.dumps(facts))
    again = token_map(shards.paths, tmp_path / "maps", digest=shards.digest, on_event=events.append)
    assert "rebuilt" in events[0]
    assert str(path) in events[0]
    assert (path / "manifest.json").read_text() == good
    assert (again.eos_id, again.vocab_size, again.digest) == (1, 300, shards.digest)
    assert again.tokens.dtype == np.uint16


def test_verify_size_reads_no_byte(tmp_path):
    """The quick check passes over a flipped byte, but not over a lost one."""
    shards = shards_of(tmp_path, [[[2, 3]]])
    path = token_map(shards.paths, tmp_path / "maps", digest=shards.digest).path
    good = (path / "tokens.bin").read_bytes()
    (path / "tokens.bin").write_bytes(bytes([7]) + good[1:])
    assert open_token_map(path, verify="size").tokens[0] == 7
    (path / "tokens.bin").write_bytes(good[1:])
    with pytest.raises(InputError, match="7 bytes, expected 8"):
        open_token_map(path, verify="size")


def test_shards_that_changed_are_refused(tmp_path):
    """Shards with another digest than the caller expects make no map."""
    shards = shards_of(tmp_path, [[[2, 3]]])
    with pytest.raises(InputError, match="they changed since they were written"):
        token_map(shards.paths, tmp_path / "maps", digest="0" * 64)
    assert os.listdir(tmp_path / "maps") == []


def test_no_tokens_make_no_map(tmp_path):
    """Empty shards are an InputError: there is nothing to train on."""
    shards = shards_of(tmp_path, [])
    with pytest.raises(InputError, match="nothing to train on"):
        token_map(shards.paths, tmp_path / "maps", digest=shards.digest)


def test_a_full_disk_is_known_before_the_first_token(tmp_path, monkeypatch):
    """Room is claimed first: a full disk is an InputError, and nothing is left of the map."""
    shards, asked = shards_of(tmp_path, [[[2, 3]]]), []

    def full(descriptor, offset, length):
        asked.append((offset, length, os.fstat(descriptor).st_size))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match="no room to write"):
        token_map(shards.paths, tmp_path / "maps", digest=shards.digest)
    assert asked == [(0, 8, 0)]
    assert os.listdir(tmp_path / "maps") == []


def test_the_map_has_no_holes(tmp_path):
    """The file is as long as was claimed: no more, no less."""
    shards = shards_of(tmp_path, [[[2] * 1000]] * 50)
    path = token_map(shards.paths, tmp_path / "maps", digest=shards.digest).path
    status = (path / "tokens.bin").stat()
    assert status.st_size == 2 * (1001 * 50 + 1)
    assert status.st_blocks * 512 >= status.st_size


def test_two_at_once_share_one_map(tmp_path):
    """Processes that decode the same tokens at the same time end with one sound map."""
    shards = shards_of(tmp_path, [[[2] * 100]] * 200)
    found = []

    def work():
        found.append(token_map(shards.paths, tmp_path / "maps", digest=shards.digest))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.path for one in found} == {found[0].path}
    assert len(found) == 4
    assert os.listdir(tmp_path / "maps") == [found[0].path.name]


def test_building_over_a_map_is_refused(tmp_path):
    """A map is never built over another one."""
    shards = shards_of(tmp_path, [[[2, 3]]])
    path = token_map(shards.paths, tmp_path / "maps", digest=shards.digest).path
    with pytest.raises(FileExistsError):
        build_token_map(shards.paths, path, digest=shards.digest)


def test_the_manifest_names_the_tokenizer(tmp_path):
    """A map says which tokenizer's tokens it holds."""
    shards = shards_of(tmp_path, [[[2, 3]]])
    path = token_map(shards.paths, tmp_path / "maps", digest=shards.digest).path
    assert json.loads((path / "manifest.json").read_text())["tokenizer_digest"] == "5e" * 32
