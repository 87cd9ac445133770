"""Write on from a prompt, one token at a time, with the keys and values of the past kept.

Legend: B batch · S sequence · C context_length · V vocab_size.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lmcore.errors import InputError
from lmcore.generation.sampling import sample
from lmcore.model.config import ModelConfig
from lmcore.model.kv_cache import KeyValueCache, advance, empty_cache
from lmcore.model.positions import RotaryTables, model_rotary_tables
from lmcore.model.transformer import hidden_states, output_logits


def generate(
    params: Mapping[str, Tensor],
    config: ModelConfig,
    prompt_ids: Tensor | Sequence[int] | Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    stop_ids: Sequence[int] = (),
    *,
    compute_dtype: torch.dtype | None = None,
) -> list[Any]:
    r"""Continue a prompt, or a batch of prompts, token by token.

    .. math:: t_n \sim \mathrm{softmax}(\mathrm{top}_p(\mathrm{top}_k(
        \ell(t_{w(n)}, \dots, t_{n-1}) / \tau)))

    While the sequence fits the context, w(n) = 0: each token sees all before it. Beyond, the
    oldest half of the context is dropped and the rest is read again from position 0, so that
    half a context at least is always seen, and one token in C/2 costs a whole pass
    (`window_start`).

    Prompts may differ in length: as many tokens as the shortest has are read at once, and where a
    row's prompt goes on, its next token stands in for the one drawn. So all rows are at the same
    position, one cache serves them, and each row is what it would be without the others.

    Args:
      params: the model's parameters, on the device to work on.
      config: the model's configuration.
      prompt_ids: ``[S]`` or ``[B, S]``, a tensor or lists of integers; S at least 1, and it may
        be longer than the context. Lists of a batch may differ in length.
      max_new_tokens: how many tokens are drawn at most, for each prompt.
      temperature: :math:`\tau`; 0 is greedy.
      top_k: keep the k most probable tokens; 0 keeps all.
      top_p: keep the smallest set with this probability; 1 keeps all.
      seed: with (row, position) it fixes every draw; the rows of a batch differ.
      stop_ids: a row ends before the first of these (such as the end of text).
      compute_dtype: dtype of the matrix products, as in `forward`.

    Returns:
      The new ids without the prompt and without the stop id: a list for ``[S]``, a list of
      lists for ``[B, S]``. A row shorter than ``max_new_tokens`` was stopped.

    Raises:
      InputError: when a prompt is empty or holds an id that the model does not know, or a number is
        out of range.

    Example:
      >>> from lmcore.model.init import init_params
      >>> config = ModelConfig(vocab_size=10, d_model=8, n_heads=2, n_layers=1)
      >>> len(generate(init_params(config, seed=0), config, [1, 2, 3], max_new_tokens=4))
      4

    References:
      Stanford CS336, 2025, assignment 1, section 6; Pope et al., 2022, Efficiently Scaling
      Transformer Inference, section 3 (the cache).
    """
    device = params["token_embeddings.weight"].device
    prompts, lengths, is_batch = _prompt_rows(prompt_ids, config, device)
    if max_new_tokens < 0:
        raise InputError(f"max_new_tokens is {max_new_tokens}: it must be at least 0")
    reader = _new_reader(params, config, prompts, compute_dtype)
    tokens = prompts[:, : int(lengths.min())]
    stops = torch.tensor(sorted(set(stop_ids)), dtype=torch.long, device=device)
    done = lengths + max_new_tokens <= tokens.shape[1]
    while not bool(done.all()):
        logits, reader = _read(params, config, tokens, reader, compute_dtype)
        chosen = sample(
            logits,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            position=tokens.shape[1],
        )
        position = tokens.shape[1]
        given = lengths > position  # the prompt goes on
        if position < prompts.shape[1]:
            chosen = torch.where(given, prompts[:, position], chosen)
        tokens = torch.cat((tokens, chosen[:, None]), dim=1)
        done |= torch.isin(chosen, stops) & ~given
        done |= lengths + max_new_tokens <= tokens.shape[1]
    ends = zip(tokens.tolist(), lengths.tolist(), strict=True)
    rows = [_until(row[end : end + max_new_tokens], set(stop_ids)) for row, end in ends]
    return rows if is_batch else rows[0]


def window_start(n_tokens: int, context_length: int) -> int:
    r"""Where the model begins to read when ``n_tokens`` tokens are known.

    .. math:: w(n) = h \, \lceil \max(n - C, 0) / h \rceil, \quad h = \lceil C / 2 \rceil

    Args:
      n_tokens: n, prompt and new tokens together.
      context_length: C.

    Returns:
      0 while all fit; then a multiple of h, such that more than C - h and at most C
      tokens are read.

    Example:
      >>> [window_start(n, context_length=4) for n in range(3, 9)]
      [0, 0, 2, 2, 4, 4]
    """
    hop = -(-context_length // 2)
    return hop * -(-max(n_tokens - context_length, 0) // hop)


class _Reader(NamedTuple):
    """What has been read: the cache holds the tokens from ``start`` on."""

    cache: KeyValueCache
    start: int
    rotary: RotaryTables | None


def _new_reader(
    params: Mapping[str, Tensor],
    config: ModelConfig,
    prompts: Tensor,
    compute_dtype: torch.dtype | None,
) -> _Reader:
    """A reader that has read nothing."""
    dtype = compute_dtype or params["token_embeddings.weight"].dtype
    cache = empty_cache(config, len(prompts), dtype=dtype, device=prompts.device)
    return _Reader(cache, 0, model_rotary_tables(config, device=prompts.device))


@torch.no_grad()
def _read(
    params: Mapping[str, Tensor],
    config: ModelConfig,
    tokens: Tensor,
    reader: _Reader,
    compute_dtype: torch.dtype | None,
) -> tuple[Tensor, _Reader]:
    """Logits ``[B, V]`` of the token after ``tokens``; reads what the cache does not hold yet."""
    start = window_start(tokens.shape[1], config.context_length)
    cache = reader.cache if start == reader.start else reader.cache._replace(length=0)
    unread = tokens[:, start + cache.length :]
    hidden = hidden_states(
        params, config, unread, compute_dtype=compute_dtype, cache=cache, rotary=reader.rotary
    )
    logits = output_logits(params, hidden[:, -1], compute_dtype=compute_dtype)
    return logits, _Reader(advance(cache, unread.shape[1]), start, reader.rotary)


def _prompt_rows(
    prompt_ids: Tensor | Sequence[int] | Sequence[Sequence[int]],
    config: ModelConfig,
    device: torch.device,
) -> tuple[Tensor, Tensor, bool]:
    """The prompts as ``[B, S]`` int64, short ones filled up; their lengths; whether a batch."""
    is_list = not isinstance(prompt_ids, Tensor) and len(prompt_ids) > 0
    is_batch = is_list and all(isinstance(row, Sequence | Tensor) for row in prompt_ids)
    rows = list(prompt_ids) if is_batch else [prompt_ids]
    try:
        read = [torch.as_tensor(row, device=device) for row in rows]
    except (TypeError, ValueError) as error:
        raise InputError(
            f"a prompt is a list of token ids, a batch a list of such lists ({error})"
        ) from error
    if isinstance(prompt_ids, Tensor) and prompt_ids.ndim == 2:
        is_batch, read = True, list(read[0])
    wrong = [list(row.shape) for row in read if row.ndim != 1 or row.numel() == 0]
    if wrong or not read:
        shape = wrong[0] if wrong else [0]
        raise InputError(
            f"a prompt has shape {shape}: it must be [S] with at least one token, a batch of them "
            "[B, S] or lists; begin with the end-of-text token where there is no prompt"
        )
    prompts = torch.nn.utils.rnn.pad_sequence(read, batch_first=True)
    lengths = torch.tensor([len(row) for row in read], device=device)
    if prompts.is_floating_point() or prompts.dtype == torch.bool:
        raise InputError(f"the prompt is {prompts.dtype}: token ids must be integers")
    low, high = int(prompts.min()), int(prompts.max())
    if low < 0 or high >= config.vocab_size:
        raise InputError(
            f"the prompt holds the token id {low if low < 0 else high}: the model knows 0 to "
            f"{config.vocab_size - 1}; encode the prompt with the tokenizer it was trained with"
        )
    return prompts.long(), lengths, is_batch


def _until(row: list[int], stop_ids: set[int]) -> list[int]:
    """The ids before the first stop id."""
    end = next((i for i, token in enumerate(row) if token in stop_ids), len(row))
    return row[:end]
