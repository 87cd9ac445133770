"""From a stream of documents to windows of equal length.

The stream is ``<eos> document <eos> document ... <eos>``; ``document_offsets[i]`` is the position
of the end-of-text token before document i, and the last entry that of the token at the very end.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lmcore.errors import InputError


def window_starts(
    document_offsets: NDArray[np.int64],
    context_length: int,
    layout: Literal["stream", "document"],
) -> NDArray[np.int64]:
    """Return where the windows of ``context_length + 1`` tokens begin, in the stream's order.

    - ``"stream"``: at 0, S, 2S, and so on, wherever that falls in a document.
    - ``"document"``: at the stream's begin. If other documents begin within the window's last S
      tokens, the next window begins with the last of them: the document that was cut starts afresh,
      with its beginning in sight. Otherwise the next window begins S later, where this one ends.

    A window's first token is only read, its other S are predicted: windows S apart predict every
    token once. In both layouts the last window is moved back so that it ends with the stream, and
    every token except the first is predicted at least once.

    Args:
      document_offsets: ``[n + 1]`` increasing positions, the first 0, as above.
      context_length: S, at least 1.
      layout: one of the two.

    Returns:
      int64 ``[W]``, strictly increasing, each at most ``document_offsets[-1] - S``.

    Raises:
      InputError: the stream is shorter than one window, or an unknown layout.
      ValueError: offsets that do not begin with 0 or do not increase.

    Example:
      >>> offsets = np.array([0, 3, 9, 20])
      >>> window_starts(offsets, 8, "stream"), window_starts(offsets, 8, "document")
      (array([ 0,  8, 12]), array([ 0,  3,  9, 12]))
    """
    if document_offsets[0] != 0 or (np.diff(document_offsets) < 1).any():
        raise ValueError("document offsets must begin with 0 and increase: the stream is damaged")
    last = int(document_offsets[-1]) - context_length
    if last < 0:
        raise InputError(
            f"the text has {int(document_offsets[-1]) + 1} tokens, too few for one window of "
            f"{context_length + 1}: use more text, or lower --model.context-length"
        )
    if layout == "stream":
        starts = np.arange(0, last + context_length, context_length, dtype=np.int64)
    elif layout == "document":
        starts = _document_starts(np.asarray(document_offsets, dtype=np.int64), context_length)
    else:
        raise InputError(f"layout is {layout!r}: choose stream or document with --training.layout")
    return np.minimum(starts, last)


def _document_starts(offsets: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """The document layout, its last window not yet moved back.

    Which document a chain of windows that began with document i ends in is found for all i at once;
    only following the chain from document 0 is a loop (50 ns a document).
    """
    n_more = -(-np.diff(offsets) // length) - 1  # windows after the first until the next document
    ends = offsets[:-1] + (n_more + 1) * length
    following = (np.searchsorted(offsets, ends, side="right") - 1).tolist()
    chain, document = [], 0
    while document < len(offsets) - 1:
        chain.append(document)
        document = following[document]
    visited = np.array(chain, dtype=np.int64)
    counts = n_more[visited] + 1
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(offsets[visited], counts) + within * length
