"""Tokens in Parquet: what goes in comes out, whatever the batches, groups and shards."""

import hashlib
import json
import os
import random
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from flows.formats.token_parquet import (
    describe_shards,
    find_shards,
    logical_digest,
    read_shard,
    read_shards,
    write_shards,
)
from flows.formats.token_rows import TokenDigest, TokenRows, in_groups, join_rows, token_dtype
from flows.formats.token_shards import TokenCounts, TokenHeader
from lmcore.errors import InputError

HEADER = TokenHeader("5e" * 32, vocab_size=300, eos_id=1)


def rows_from(documents, dtype=np.uint16, parts=None):
    """Rows from lists of ids; byte lengths are three times the number of ids."""
    lengths = np.array([len(ids) for ids in documents], np.int64)
    return TokenRows(
        np.arange(len(documents), dtype=np.int64),
        np.array(parts if parts is not None else [0] * len(documents), np.int32),
        np.array([id for ids in documents for id in ids], dtype),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        lengths * 3,
    )


def batches_of(rows, sizes):
    """Cut rows into batches of the sizes given, round and round."""
    start, turn = 0, 0
    while start < rows.n_rows:
        stop = min(start + sizes[turn % len(sizes)], rows.n_rows)
        yield rows.between(start, stop)
        start, turn = stop, turn + 1


def same(first, second):
    """Whether two sets of rows are equal, dtypes too."""
    return all(
        a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(first, second, strict=True)
    )


documents = st.lists(st.lists(st.integers(0, 299), max_size=12), min_size=1, max_size=20)


@settings(deadline=None, max_examples=50)
@given(documents=documents, wide=st.booleans(), group=st.integers(1, 30), shard=st.integers(1, 60))
def test_round_trip(tmp_path_factory, documents, wide, group, shard):
    """Any documents come back exactly, dtypes too, through any groups and shards."""
    folder = tmp_path_factory.mktemp("shards")
    header = TokenHeader("ab", 70_000 if wide else 300, 1)
    rows = rows_from(documents, token_dtype(header.vocab_size))
    shards = write_shards(folder, "a", [rows], header, group_tokens=group, shard_tokens=shard)
    assert same(join_rows(list(read_shards(shards.paths))), rows)
    n_tokens = sum(map(len, documents))
    assert shards.counts == TokenCounts(len(documents), len(documents), n_tokens, 3 * n_tokens)
    assert describe_shards(shards.paths) == (header, shards.counts)
    assert find_shards(folder, "a") == shards


@settings(deadline=None, max_examples=25)
@given(documents=documents, sizes=st.lists(st.integers(1, 7), min_size=1, max_size=4))
def test_batches_never_change_a_byte(tmp_path_factory, documents, sizes):
    """The files depend on the rows alone, not on the batches that they came in."""
    rows, written = rows_from(documents), []
    for batches in ([rows], batches_of(rows, sizes)):
        folder = tmp_path_factory.mktemp("shards")
        shards = write_shards(folder, "a", batches, HEADER, group_tokens=10, shard_tokens=30)
        written.append([path.read_bytes() for path in shards.paths])
    assert written[0] == written[1]


@settings(deadline=None, max_examples=25)
@given(documents=documents, group=st.integers(1, 30), shard=st.integers(1, 60))
def test_logical_digest_is_of_the_rows_alone(tmp_path_factory, documents, group, shard):
    """Shards, row groups and dtype leave the digest as it is; reading gives the one written."""
    folder = tmp_path_factory.mktemp("shards")
    narrow = write_shards(folder, "narrow", [rows_from(documents)], HEADER)
    wide = write_shards(
        folder,
        "wide",
        [rows_from(documents, np.uint32)],
        TokenHeader("other", 70_000, 2),
        group_tokens=group,
        shard_tokens=shard,
    )
    digests = {narrow.digest, wide.digest, logical_digest(narrow.paths), logical_digest(wide.paths)}
    assert len(digests) == 1


def test_logical_digest_known_answer():
    """The digest is SHA-256 of the bytes that its definition spells out."""
    digest = TokenDigest()
    digest.update(rows_from([[1, 2, 3], []]))
    digest.update(rows_from([[299]], parts=[1]))
    # document id, part, tokens, bytes
    rows = struct.pack("<12q", 0, 0, 3, 9, 1, 0, 0, 0, 0, 1, 1, 3)
    ids = struct.pack("<4I", 1, 2, 3, 299)
    both = hashlib.sha256(rows).digest() + hashlib.sha256(ids).digest()
    assert digest.hexdigest() == hashlib.sha256(b"tokens 1" + both).hexdigest()


@pytest.mark.parametrize("field", TokenRows._fields)
def test_logical_digest_sees_every_column(field):
    """A change in any column, of one element, changes the digest."""
    rows = rows_from([[1, 2], [3, 4]])
    changed = getattr(rows, field).copy()
    changed[1] += 1
    digests = []
    for version in (rows, rows._replace(**{field: changed})):
        digest = TokenDigest()
        digest.update(version)
        digests.append(digest.hexdigest())
    assert digests[0] != digests[1]


@settings(deadline=None)
@given(
    documents=documents,
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    n_tokens=st.integers(1, 40),
    n_rows=st.integers(1, 8),
)
def test_groups_equal_the_slow_definition(documents, sizes, n_tokens, n_rows):
    """Groups are those of a loop that adds row after row and closes a group once it is full."""
    expected, current, filled = [], [], 0
    for ids in documents:
        current.append(ids)
        filled += len(ids)
        if filled >= n_tokens or len(current) == n_rows:
            expected.append(current)
            current, filled = [], 0
    expected += [current] if current else []
    found = in_groups(batches_of(rows_from(documents), sizes), n_tokens, n_rows)
    assert [
        [row.tolist() for row in np.split(group.ids, group.offsets[1:-1])] for group in found
    ] == expected


def test_any_tool_can_query_them(tmp_path):
    """Plain pyarrow, knowing nothing of this package, sees a row a document and the metadata."""
    rows = rows_from([[5, 6], [7]], parts=[0, 0])
    (path,) = write_shards(tmp_path, "a", [rows], HEADER).paths
    assert pq.read_table(path).to_pylist() == [
        {"document_id": 0, "part": 0, "ids": [5, 6], "n_tokens": 2, "byte_length": 6},
        {"document_id": 1, "part": 0, "ids": [7], "n_tokens": 1, "byte_length": 3},
    ]
    assert pq.read_schema(path).field("ids").type.value_type == pa.uint16()
    facts = json.loads(pq.read_metadata(path).metadata[b"tokens"])
    assert facts["tokenizer_digest"] == "5e" * 32
    assert (facts["documents"], facts["tokens"], facts["bytes"]) == (2, 3, 9)
    assert pq.ParquetFile(path).metadata.row_group(0).column(2).compression == "ZSTD"


def test_row_groups_are_bounded(tmp_path):
    """No row group holds more tokens than the bound and one document."""
    rows = rows_from([[1] * 7] * 50)
    (path,) = write_shards(tmp_path, "a", [rows], HEADER, group_tokens=20).paths
    metadata = pq.read_metadata(path)
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [
        *[3] * 16,
        2,
    ]


def test_writing_is_streamed(tmp_path):
    """Batches are asked for as they are written: never is more than a few groups held."""
    made, read = 0, []

    def batches():
        nonlocal made
        for _ in range(200):
            made += 1
            read.append(sum(path.stat().st_size > 0 for path in tmp_path.iterdir()))
            yield rows_from([[1] * 10])

    write_shards(tmp_path, "a", batches(), HEADER, group_tokens=20, shard_tokens=100)
    assert made == 200
    assert read[-1] >= 18, "the first shards lie on the disk before the last batch is made"


def test_no_rows_make_one_empty_shard(tmp_path):
    """Without a document there is still a file, which says so."""
    shards = write_shards(tmp_path, "a", [], HEADER)
    assert shards.counts == TokenCounts()
    assert list(read_shards(shards.paths)) == []
    assert find_shards(tmp_path, "a") == shards


def test_pieces_count_as_one_document(tmp_path):
    """The pieces of a long document are rows of their own, but one document."""
    rows = rows_from([[1], [2], [3]], parts=[0, 1, 0])
    counts = write_shards(tmp_path, "a", [rows], HEADER).counts
    assert (counts.rows, counts.documents) == (3, 2)


def test_an_id_beyond_the_vocabulary_is_refused(tmp_path):
    """An id that the tokenizer does not have is the caller's fault, and leaves no file."""
    with pytest.raises(ValueError, match="id 300 is beyond the vocabulary of 300"):
        write_shards(tmp_path, "a", [rows_from([[300]])], HEADER)
    assert os.listdir(tmp_path) == []


def test_any_changed_byte_is_found_or_harmless(tmp_path):
    """No flipped byte gives other rows: each is an InputError, or the rows are as they were."""
    rng = random.Random(0)
    rows = rows_from([[rng.randrange(300) for _ in range(rng.randrange(40))] for _ in range(40)])
    shards = write_shards(tmp_path, "a", [rows], HEADER)
    (path,) = shards.paths
    good = path.read_bytes()
    places, messages = range(0, len(good), 7), []
    for at in places:
        bad = bytearray(good)
        bad[at] ^= rng.randrange(1, 256)
        path.write_bytes(bad)
        try:
            assert logical_digest([path]) == shards.digest
        except InputError as error:
            messages.append(str(error))
    assert all(str(path) in message for message in messages)
    # The rest are bytes of statistics and page counts that nobody reads: about a tenth.
    assert len(messages) > 0.8 * len(places)


def test_a_changed_page_is_found_before_its_rows_are_given(tmp_path):
    """Bytes that changed in a page are found by its checksum: no row of it reaches the reader."""
    rows = rows_from([[n % 300 for n in range(2000)]])
    (path,) = write_shards(tmp_path, "a", [rows], HEADER).paths
    column = pq.read_metadata(path).row_group(0).column(2)
    good, end = path.read_bytes(), column.data_page_offset + column.total_compressed_size
    for at in range(end - 60, end):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(InputError, match="no Parquet that can be read"):
            next(read_shard(path))


@pytest.mark.parametrize(
    ("other", "message"),
    [([[9], [7]], "its rows are not those that were written"), ([[9]], "another number of rows")],
    ids=["other tokens", "a row less"],
)
def test_rows_under_a_foreign_footer_are_found(tmp_path, other, message):
    """A sound file whose footer speaks of other rows is refused."""
    (path,) = write_shards(tmp_path, "a", [rows_from([[5], [7]])], HEADER).paths
    (foreign,) = write_shards(tmp_path, "b", [rows_from(other)], HEADER).paths
    metadata = pq.read_metadata(path).metadata
    table = pq.read_table(foreign).replace_schema_metadata({b"tokens": metadata[b"tokens"]})
    pq.write_table(table, path)
    with pytest.raises(InputError, match=message):
        list(read_shard(path))


@pytest.mark.parametrize("data", [b"", b"PAR1", b"One. Two.", b"PAR1" + bytes(100) + b"PAR1"])
def test_what_is_no_parquet_is_said_to_be_none(tmp_path, data):
    """A file that is not Parquet, or cut short, is an InputError that names it."""
    path = tmp_path / "a.parquet"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.parquet is no Parquet"):
        list(read_shard(path))


def test_a_truncated_shard_is_found(tmp_path):
    """A shard that lost its end is an InputError."""
    (path,) = write_shards(tmp_path, "a", [rows_from([[1] * 100])], HEADER).paths
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="no Parquet that can be read"):
        describe_shards([path])


def test_foreign_parquet_is_refused(tmp_path):
    """Parquet that this package did not write is an InputError, its cause said."""
    pq.write_table(pa.table({"text": ["One."]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="not tokens of this format"):
        describe_shards([tmp_path / "a.parquet"])


def test_a_missing_shard_is_named(tmp_path):
    """An absent file is an InputError that names it; no shards at all are one too."""
    with pytest.raises(InputError, match="absent"):
        logical_digest([tmp_path / "absent.parquet"])
    with pytest.raises(InputError, match="no token shards"):
        find_shards(tmp_path, "a")


def test_shards_of_two_tokenizers_do_not_mix(tmp_path):
    """Shards whose headers differ are refused, both named."""
    one = write_shards(tmp_path, "one", [rows_from([[1]])], HEADER).paths
    two = write_shards(tmp_path, "two", [rows_from([[1]])], TokenHeader("ff", 300, 1)).paths
    with pytest.raises(InputError, match=r"two-00000.*one-00000.*different tokenizers"):
        describe_shards([*one, *two])
