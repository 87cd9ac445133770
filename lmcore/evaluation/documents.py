"""Which windows score each document from its own start, whole, whatever its length.

Shapes: R rows of a batch · L longest window in it · W windows · N documents · S context_length.

The stream is ``<eos> document <eos> document ... <eos>``. A document is conditioned on the
end-of-text token before it and on nothing earlier; its own tokens are scored, and so is the
end-of-text token after it, because a model of text must know when to stop. Where texts end is part
of what the synthetic grammar decides, at no cost: given a whole story the end is certain, so that
its entropy is also that of the story with its end.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Windows(NamedTuple):
    """Where to read and what to score; one entry a window, documents in order.

    Attributes:
      starts: position in the stream of the window's first input token.
      lengths: L, how many tokens it predicts: those at ``start + 1`` to ``start + length``.
      skip: how many of them, the first ones, an earlier window has scored.
      document: which document it belongs to.
    """

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    skip: NDArray[np.int64]
    document: NDArray[np.int64]


def document_windows(document_offsets: NDArray[np.int64], context_length: int) -> Windows:
    """Plan the windows that score every token of every document exactly once.

    A document that fits the context is one window. A longer one is read in windows that overlap by
    half: the first scores all it predicts, each later one what no earlier one did, with at least
    half a context before it. The last is moved back to end with the document, for more context.

    Args:
      document_offsets: ``[N + 1]``, position of the end-of-text token before each document, and of
        the last one.
      context_length: S, the most tokens that the model reads at once, at least 1.

    Returns:
      The windows, in the order of the stream.

    Raises:
      ValueError: offsets that do not increase.

    Example:
      >>> windows = document_windows(np.array([0, 4, 14]), context_length=6)
      >>> windows.starts.tolist(), windows.lengths.tolist(), windows.skip.tolist()
      ([0, 4, 7, 8], [4, 6, 6, 6], [0, 0, 3, 5])

    References:
      Baevski and Auli, 2019, Adaptive input representations for neural language modeling
      (context windows that overlap); Jurafsky and Martin, Speech and Language Processing,
      chapter 3 (a text's end is one of its tokens).
    """
    lengths = np.diff(document_offsets)  # predicted tokens, the end included
    if (lengths < 1).any():
        raise ValueError("document offsets must increase: the stream is damaged")
    stride = max(1, context_length // 2)
    counts = 1 + np.maximum(0, -(-(lengths - context_length) // stride))
    document = np.repeat(np.arange(len(lengths)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    length = np.minimum(lengths, context_length)[document]
    first = np.minimum(within * stride, lengths[document] - length)
    scored = np.where(within > 0, (within - 1) * stride + context_length, 0)  # by earlier windows
    return Windows(document_offsets[:-1][document] + first, length, scored - first, document)


def batches(windows: Windows, max_tokens: int) -> list[NDArray[np.int64]]:
    """Group windows of similar length, the longest first, so that little is padded.

    Args:
      windows: from ``document_windows``.
      max_tokens: rows times longest row of a batch are at most this; a batch has at least one row.

    Returns:
      Row numbers of each batch; together every row once.

    Example:
      >>> windows = document_windows(np.array([0, 4, 6, 11]), context_length=8)
      >>> [rows.tolist() for rows in batches(windows, max_tokens=10)]
      [[2, 0], [1]]
    """
    order = np.argsort(-windows.lengths, kind="stable")
    groups, start = [], 0
    while start < len(order):
        rows = max(1, max_tokens // int(windows.lengths[order[start]]))
        groups.append(order[start : start + rows])
        start += rows
    return groups


def window_batch(
    tokens: NDArray[np.integer], windows: Windows, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Gather the tokens of a few windows, padded on the right to the longest.

    Args:
      tokens: the stream, 1-D, any integer dtype; of a memory map only these windows are read.
      windows: from ``document_windows``.
      rows: ``[R]`` row numbers, one of ``batches``.

    Returns:
      Input ids and target ids, int64 ``[R, L]``, and whether each target is scored, bool
      ``[R, L]``. A padded position repeats the window's last token, and is not scored.

    Example:
      >>> windows = document_windows(np.array([0, 2, 5]), context_length=8)
      >>> ids, targets, scored = window_batch(np.arange(6), windows, np.array([0, 1]))
      >>> ids.tolist(), targets.tolist(), scored.tolist()
      ([[0, 1, 2], [2, 3, 4]], [[1, 2, 2], [3, 4, 5]], [[True, True, False], [True, True, True]])
    """
    length = windows.lengths[rows, None]
    column = np.arange(int(length.max(initial=0)) + 1)
    window = tokens[windows.starts[rows, None] + np.minimum(column, length)].astype(np.int64)
    scored = (column >= windows.skip[rows, None]) & (column < length)
    return np.array(window[:, :-1]), np.array(window[:, 1:]), scored[:, :-1]
