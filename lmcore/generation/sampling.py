"""From logits to the next token: pure functions of the logits and of a seed.

Legend: B batch · V vocab_size.
"""

import hashlib

import torch
from torch import Tensor

from lmcore.errors import InputError


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    r"""Sharpen (below 1) or flatten (above 1) a distribution.

    .. math:: \ell'_i = \ell_i / \tau

    Args:
      logits: ``[..., V]``, any floating dtype.
      temperature: :math:`\tau`, above 0 (0 is the greatest logit itself, see `sample`).

    Returns:
      ``[..., V]``, in the dtype of ``logits``.

    Raises:
      InputError: when the temperature is not positive and finite.

    Example:
      >>> apply_temperature(torch.tensor([1.0, 2.0]), 0.5)
      tensor([2., 4.])

    References:
      Stanford CS336, 2025, assignment 1, section 6, eq. 24.
    """
    if not 0.0 < temperature < float("inf"):
        raise InputError(
            f"temperature is {temperature}: it must be positive and finite; use 0 with sample() "
            "or generate() for the most probable token"
        )
    return logits / temperature


def keep_top_k(logits: Tensor, top_k: int) -> Tensor:
    r"""Forbid all but the ``top_k`` most probable tokens.

    Args:
      logits: ``[..., V]``, any floating dtype.
      top_k: how many stay; 0, or V and more, keeps all. Of equal logits the lower id stays.

    Returns:
      ``[..., V]``: minus infinity where forbidden.

    Raises:
      InputError: when ``top_k`` is negative.

    Example:
      >>> keep_top_k(torch.tensor([1.0, 3.0, 2.0]), 2)
      tensor([-inf, 3., 2.])

    References:
      Fan, Lewis and Dauphin, 2018, Hierarchical Neural Story Generation, section 5.4.
    """
    if top_k < 0:
        raise InputError(f"top_k is {top_k}: it must be at least 0; use 0 to keep every token")
    if top_k == 0 or top_k >= logits.shape[-1]:
        return logits
    order = logits.argsort(dim=-1, descending=True, stable=True)
    return _forbid(logits, order[..., top_k:])


def keep_top_p(logits: Tensor, top_p: float) -> Tensor:
    r"""Forbid all but the smallest set of most probable tokens that holds probability ``top_p``.

    .. math:: V(p) = \text{the shortest prefix, by falling } q, \text{ with }
        \textstyle\sum_{j \in V(p)} q_j \ge p

    Args:
      logits: ``[..., V]``, any floating dtype.
      top_p: p, above 0 and at most 1; 1 keeps all. The most probable token always stays. Of
        equal logits the lower id stays.

    Returns:
      ``[..., V]``: minus infinity where forbidden.

    Raises:
      InputError: when ``top_p`` is outside its range.

    Example:
      >>> keep_top_p(torch.tensor([0.5, 0.2, 0.3]).log(), 0.6).exp()
      tensor([0.5000, 0.0000, 0.3000])

    References:
      Holtzman et al., 2020, The Curious Case of Neural Text Degeneration, eq. 2.
    """
    if not 0.0 < top_p <= 1.0:
        raise InputError(
            f"top_p is {top_p}: it must be above 0 and at most 1; use 1 to keep every token"
        )
    if top_p == 1.0:
        return logits
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = ordered.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    before[..., 0] = 0.0
    return logits.masked_fill(
        torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= top_p),
        float("-inf"),
    )


def _forbid(logits: Tensor, token_ids: Tensor) -> Tensor:
    """Minus infinity at the given ids of each row."""
    return logits.scatter(-1, token_ids, float("-inf"))


def uniform(seed: int, row: int, position: int) -> float:
    """A number in ``[0, 1)`` that depends on its three arguments alone.

    A hash as a counter-based generator: no state, so a row's draws are the same alone or in a
    batch, and the n-th can be asked for without those before it. (PyTorch's own CPU generator
    reads 32 bits of a seed, too few to tell all (seed, row, position) apart.)

    Args:
      seed: any integer.
      row: which sequence of a batch.
      position: which token of the sequence.

    Returns:
      A multiple of 2**-53.

    Example:
      >>> uniform(0, 0, 0) == uniform(0, 0, 0) != uniform(0, 0, 1)
      True

    References:
      Salmon et al., 2011, Parallel Random Numbers: As Easy as 1, 2, 3, section 2.
    """
    digest = hashlib.sha256(f"{seed} {row} {position}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def sample(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    position: int = 0,
) -> Tensor:
    r"""Draw a token for each row of logits.

    .. math:: t = \min \{ i : \textstyle\sum_{j \le i} p_j > u \}, \quad
        p = \mathrm{softmax}(\mathrm{top}_p(\mathrm{top}_k(\ell / \tau)))

    with u of `uniform` for (seed, row, position). Worked out in float64 on the CPU, so that
    every device draws alike from equal logits.

    Args:
      logits: ``[B, V]``, any floating dtype.
      temperature: :math:`\tau`, at least 0; 0 takes the greatest logit (the lowest id of equal
        ones), whatever the other arguments are.
      top_k: see `keep_top_k`; 0 keeps all.
      top_p: see `keep_top_p`; 1 keeps all. Taken after ``top_k``.
      seed: any integer.
      position: the token's place in the sequence.

    Returns:
      Token ids, ``[B]``, int64, on the device of ``logits``.

    Raises:
      InputError: when an argument is outside its range, or a logit is not a number.

    Example:
      >>> sample(torch.tensor([[0.0, 9.0], [9.0, 0.0]]), temperature=0)
      tensor([1, 0])

    References:
      Stanford CS336, 2025, assignment 1, section 6; Devroye, 1986, Non-Uniform Random Variate
      Generation, section III.2 (inversion).
    """
    scores = logits.detach().to("cpu", torch.float64)
    if not bool((scores < float("inf")).all()):
        raise InputError(
            "the logits hold infinity or not-a-number: the parameters are broken; sample from "
            "an earlier checkpoint"
        )
    greedy = temperature == 0
    scores = apply_temperature(scores, 1.0 if greedy else temperature)
    scores = keep_top_p(keep_top_k(scores, top_k), top_p)
    chosen = scores.argmax(dim=-1) if greedy else _invert(scores, seed, position)
    return chosen.to(logits.device)


def _invert(scores: Tensor, seed: int, position: int) -> Tensor:
    """The first token of each row whose cumulated probability passes the row's draw."""
    cumulated = scores.softmax(dim=-1).cumsum(dim=-1)
    draws = [uniform(seed, row, position) for row in range(scores.shape[0])]
    # Scaled by the sum that rounding left, so that the draw always lies below the last entry; a
    # token of probability 0 adds nothing to the sum, and right=True passes over it.
    targets = torch.tensor(draws, dtype=scores.dtype)[:, None] * cumulated[:, -1:]
    return torch.searchsorted(cumulated, targets, right=True).squeeze(-1)
