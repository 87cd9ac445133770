"""Where windows begin, against the rule followed one window at a time."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from lmcore.data.windows import window_starts
from lmcore.errors import InputError

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=20)  # each with its end-of-text


def offsets_of(lengths):
    """The offsets of documents whose tokens, the end-of-text before them included, are counted."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def by_the_rule(offsets, context_length, layout):
    """The definition, one window after the other."""
    end, start, starts = int(offsets[-1]), 0, []
    while start < end:
        starts.append(min(start, end - context_length))
        inside = [o for o in offsets.tolist() if start < o <= start + context_length]
        start = inside[-1] if inside and layout == "document" else start + context_length
    return starts


@settings(deadline=None, max_examples=200)
@given(
    lengths=LENGTHS,
    context_length=st.integers(1, 40),
    layout=st.sampled_from(["stream", "document"]),
)
def test_follows_the_rule_and_covers_every_token(lengths, context_length, layout):
    """Windows are those of the rule, fit the stream, and predict every token but the first."""
    offsets = offsets_of(lengths)
    if offsets[-1] < context_length:
        with pytest.raises(InputError, match=r"--model\.context-length"):
            window_starts(offsets, context_length, layout)
        return
    starts = window_starts(offsets, context_length, layout)
    assert starts.dtype == np.int64
    assert starts.tolist() == by_the_rule(offsets, context_length, layout)
    assert (np.diff(starts) > 0).all()
    predicted = (starts[:, None] + 1 + np.arange(context_length)).reshape(-1)
    assert set(predicted.tolist()) == set(range(1, int(offsets[-1]) + 1))


@settings(deadline=None)
@given(lengths=LENGTHS, context_length=st.integers(1, 40))
def test_a_document_that_fits_is_seen_whole(lengths, context_length):
    """In the document layout a document no longer than the context lies in one window, uncut."""
    offsets = offsets_of(lengths)
    if offsets[-1] < context_length:
        return
    starts = window_starts(offsets, context_length, "document")
    for begin, length in zip(offsets[:-1], lengths, strict=True):
        if length <= context_length:
            inside = (starts <= begin) & (begin + length <= starts + context_length)
            assert inside.any()


def test_known_windows():
    """By hand: the second of three documents is cut, so it starts afresh; then on to the end."""
    offsets = np.array([0, 3, 9, 20])
    assert window_starts(offsets, 8, "stream").tolist() == [0, 8, 12]
    assert window_starts(offsets, 8, "document").tolist() == [0, 3, 9, 12]
    assert window_starts(offsets, 20, "document").tolist() == [0]


def test_damaged_offsets_and_unknown_layouts_are_refused():
    """Offsets that stand still would make an endless chain; an unknown layout names its flag."""
    for damaged in ([0, 5, 5, 20], [1, 20], [0, 9, 4, 20]):
        with pytest.raises(ValueError, match="damaged"):
            window_starts(np.array(damaged), 4, "document")
    with pytest.raises(InputError, match=r"--training\.layout"):
        window_starts(np.array([0, 20]), 4, "shuffled")  # type: ignore[arg-type]
