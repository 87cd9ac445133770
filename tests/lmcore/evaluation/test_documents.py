"""Which windows score which tokens."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from lmcore.evaluation.documents import batches, document_windows, window_batch

LENGTHS = st.lists(st.integers(1, 40), max_size=12)  # predicted tokens of each document


def offsets_of(lengths):
    """The offsets of documents with so many predicted tokens, the end included."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


@settings(deadline=None, max_examples=200)
@given(lengths=LENGTHS, context_length=st.integers(1, 20))
def test_each_token_is_scored_once_from_inside_its_document(lengths, context_length):
    """Every token but the first of the stream is scored once, and no window leaves its document."""
    offsets = offsets_of(lengths)
    windows = document_windows(offsets, context_length)
    scored = []
    for start, length, skip, document in zip(*windows, strict=True):
        assert 1 <= length <= context_length
        assert 0 <= skip < length
        assert offsets[document] <= start
        assert start + length <= offsets[document + 1]
        scored += range(start + skip + 1, start + length + 1)
    assert sorted(scored) == list(range(1, int(offsets[-1]) + 1))


@settings(deadline=None)
@given(lengths=LENGTHS, context_length=st.integers(2, 20))
def test_every_scored_token_has_half_a_context_or_its_documents_start(lengths, context_length):
    """A token is predicted from its whole document so far, or from half a context at least."""
    offsets = offsets_of(lengths)
    for start, _, skip, document in zip(*document_windows(offsets, context_length), strict=True):
        assert start == offsets[document] or skip >= context_length // 2


@settings(deadline=None)
@given(lengths=LENGTHS, context_length=st.integers(1, 20), max_tokens=st.integers(1, 60))
def test_batches_hold_every_window_once_within_their_bound(lengths, context_length, max_tokens):
    """Batches partition the windows, longest first, and pad to the bound at most."""
    windows = document_windows(offsets_of(lengths), context_length)
    groups = batches(windows, max_tokens)
    rows = [row for group in groups for row in group.tolist()]
    assert sorted(rows) == list(range(len(windows.starts)))
    assert (np.diff(windows.lengths[rows]) <= 0).all()
    for group in groups:
        assert len(group) == 1 or len(group) * windows.lengths[group].max() <= max_tokens


@settings(deadline=None)
@given(lengths=LENGTHS, context_length=st.integers(1, 20))
def test_a_window_holds_its_own_tokens(lengths, context_length):
    """Inputs and targets are the stream's tokens, one apart; padding is never scored."""
    offsets = offsets_of(lengths)
    tokens = np.arange(int(offsets[-1]) + 1, dtype=np.uint16)
    windows = document_windows(offsets, context_length)
    for rows in batches(windows, 64):
        ids, targets, scored = window_batch(tokens, windows, rows)
        assert ids.dtype == targets.dtype == np.int64
        for k, row in enumerate(rows):
            start, length = windows.starts[row], windows.lengths[row]
            assert ids[k, :length].tolist() == list(range(start, start + length))
            assert targets[k, :length].tolist() == list(range(start + 1, start + length + 1))
            assert scored[k].sum() == length - windows.skip[row]
            assert not scored[k, length:].any()


def test_known_windows():
    """A document of 10 in a context of 6: three windows, half overlapping, the last moved back."""
    windows = document_windows(np.array([0, 4, 14]), context_length=6)
    assert windows.starts.tolist() == [0, 4, 7, 8]
    assert windows.lengths.tolist() == [4, 6, 6, 6]
    assert windows.skip.tolist() == [0, 0, 3, 5]
    assert windows.document.tolist() == [0, 1, 1, 1]


def test_damaged_offsets_are_refused():
    """Offsets that stand still are an error, and no document at all is no window."""
    with pytest.raises(ValueError, match="damaged"):
        document_windows(np.array([0, 3, 3]), 4)
    assert len(document_windows(np.array([0]), 4).starts) == 0
