"""What a model's loss is on whole documents.

Shapes: R rows of a batch · L longest window in it · W windows · N documents.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmcore.evaluation.documents import Windows, batches, document_windows, window_batch
from lmcore.evaluation.tally import Tally
from lmcore.model.config import ModelConfig
from lmcore.model.positions import RotaryTables, model_rotary_tables
from lmcore.model.transformer import forward


def score_documents(
    params: Mapping[str, Tensor],
    config: ModelConfig,
    tokens: NDArray[np.integer],
    document_offsets: NDArray[np.int64],
    document_bytes: Sequence[int] | NDArray[np.int64],
    *,
    max_tokens: int = 4096,
    compute_dtype: torch.dtype | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Tally]:
    """Return the tally of every document of a stream, each read from its own start.

    Args:
      params: the model's parameters, all on one device.
      config: the model's configuration.
      tokens: the stream ``<eos> document <eos> ... <eos>``, 1-D, any integer dtype; a memory map is
        read a batch at a time.
      document_offsets: ``[N + 1]``, see ``document_windows``.
      document_bytes: ``[N]``, bytes of each document's raw text.
      max_tokens: tokens of a batch, padding included; it bounds the memory, and changes the last
        bits only.
      compute_dtype: as in ``forward``.
      progress: called with the windows done and all windows, after each batch.

    Returns:
      One tally a document, in order. ``combine`` makes the tally of all.

    Raises:
      ValueError: damaged offsets, or lengths that do not fit.

    Example:
      >>> from lmcore.model.init import init_params
      >>> config = ModelConfig(vocab_size=5, context_length=4, d_model=8, n_layers=1, n_heads=2)
      >>> tokens = np.array([0, 1, 2, 3, 0, 4, 0])
      >>> params, offsets = init_params(config, seed=0), np.array([0, 4, 6])
      >>> [tally.tokens for tally in score_documents(params, config, tokens, offsets, [9, 3])]
      [4, 2]
    """
    windows = document_windows(document_offsets, config.context_length)
    device = next(iter(params.values())).device
    rotary = model_rotary_tables(config, device=device)

    def score(*batch: Tensor) -> Tensor:
        return score_batch(params, config, *batch, compute_dtype=compute_dtype, rotary=rotary)

    nats = score_windows(
        score, tokens, windows, max_tokens=max_tokens, device=device, progress=progress
    )
    return document_tallies(windows, nats, document_bytes)


def score_windows(
    score: Callable[[Tensor, Tensor, Tensor], Tensor],
    tokens: NDArray[np.integer],
    windows: Windows,
    *,
    max_tokens: int = 4096,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float64]:
    """Return what a model of any kind says of every window, a batch at a time.

    Args:
      score: from ids, targets and which of them are scored, each ``[R, L]``, to nats ``[R]``; what
        `score_batch` does for our parameters.
      tokens: the stream, 1-D, any integer dtype.
      windows: from ``document_windows``.
      max_tokens: tokens of a batch, padding included.
      device: where ``score`` wants its batches.
      progress: called with the windows done and all windows, after each batch.

    Returns:
      ``[W]``, nats, in the order of the windows.

    Example:
      >>> windows = document_windows(np.array([0, 3]), context_length=4)
      >>> tokens = np.array([0, 1, 2, 0])
      >>> float(score_windows(lambda ids, _, scored: scored.sum(-1), tokens, windows).sum())
      3.0
    """
    nats = np.zeros(len(windows.starts))
    done = 0
    for rows in batches(windows, max_tokens):
        batch = (torch.from_numpy(x).to(device) for x in window_batch(tokens, windows, rows))
        nats[rows] = score(*batch).numpy()
        done += len(rows)
        if progress is not None:
            progress(done, len(nats))
    return nats


def score_batch(
    params: Mapping[str, Tensor],
    config: ModelConfig,
    ids: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    compute_dtype: torch.dtype | None = None,
    rotary: RotaryTables | None = None,
) -> Tensor:
    r"""Return the negative log-probability of each row's scored tokens.

    .. math:: \mathrm{nats}_r = -\sum_l w_{rl} \log \mathrm{softmax}(o_{rl})_{x_{rl}}

    Args:
      params: the model's parameters.
      config: the model's configuration.
      ids: input ids, ``[R, L]`` int64, on the parameters' device.
      targets: ``[R, L]`` int64.
      weights: ``[R, L]``, bool or floating: 1 where a target is scored, 0 where not.
      compute_dtype: as in ``forward``.
      rotary: as in ``forward``.

    Returns:
      ``[R]``, nats, float64 on the CPU: a float32 sum over a validation set would lose digits.

    Example:
      >>> from lmcore.model.init import init_params
      >>> config = ModelConfig(vocab_size=5, context_length=4, d_model=8, n_layers=1, n_heads=2)
      >>> ids = torch.zeros(3, 4, dtype=torch.int64)
      >>> score_batch(init_params(config, seed=0), config, ids, ids, torch.ones(3, 4)).shape
      torch.Size([3])
    """
    with torch.no_grad():
        logits = forward(params, config, ids, compute_dtype=compute_dtype, rotary=rotary)
        return row_nats(logits, targets, weights)


def row_nats(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    r"""Return the negative log-probability of each row's scored tokens, from the logits.

    .. math:: \mathrm{nats}_r = -\sum_l w_{rl} \log \mathrm{softmax}(o_{rl})_{x_{rl}}

    Args:
      logits: ``[R, L, V]``, float32.
      targets: ``[R, L]`` int64.
      weights: ``[R, L]``, bool or floating: 1 where a target is scored, 0 where not.

    Returns:
      ``[R]``, nats, float64 on the CPU.

    Example:
      >>> ones = torch.ones(1, 2, dtype=torch.int64)
      >>> row_nats(torch.zeros(1, 2, 4), ones, ones)
      tensor([2.7726], dtype=torch.float64)
    """
    nats = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction="none"
    ).view(targets.shape)
    # Selected: what is not scored must not count even where it is infinite.
    nats = torch.where(weights != 0, nats * weights, 0.0)
    return nats.cpu().double().sum(dim=-1)  # on the CPU, because MPS has no float64


def document_tallies(
    windows: Windows,
    nats: NDArray[np.float64],
    document_bytes: Sequence[int] | NDArray[np.int64],
) -> list[Tally]:
    """Add up the windows of each document, in the order of the stream.

    The order of the sum does not depend on how the windows were batched, so equal nats give equal
    bits.

    Args:
      windows: from ``document_windows``.
      nats: ``[W]``, of every window, from ``score_batch``.
      document_bytes: ``[N]``, bytes of each document's raw text, without end-of-text tokens.

    Returns:
      One tally a document. ``combine`` makes the tally of all.

    Raises:
      ValueError: arrays whose lengths do not fit.

    Example:
      >>> windows = document_windows(np.array([0, 4, 9]), context_length=8)
      >>> document_tallies(windows, np.array([2.0, 3.0]), [10, 12])[1]
      Tally(nats=3.0, tokens=5, bytes=12, documents=1)
    """
    n_documents = len(document_bytes)
    if nats.shape != windows.starts.shape or windows.document.max(initial=-1) + 1 != n_documents:
        raise ValueError(
            f"{len(windows.starts)} windows, {nats.shape} nats and {n_documents} documents: "
            "expected one value a window, and one number of bytes a document"
        )
    scored = (windows.lengths - windows.skip).astype(np.float64)
    totals = np.bincount(windows.document, nats, n_documents)
    counts = np.bincount(windows.document, scored, n_documents)
    return [
        Tally(float(total), int(count), int(size), 1)
        for total, count, size in zip(totals, counts, document_bytes, strict=True)
    ]
