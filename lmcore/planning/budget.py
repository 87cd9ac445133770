"""What a run will cost, from its settings alone: steps, FLOPs, memory, disk.

Shapes: P parameters · B sequences of a micro-batch · S sequence · V vocab_size.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from lmcore.model.config import ModelConfig
from lmcore.model.counts import ParamCounts, activation_bytes, count_params, training_flops
from lmcore.model.shapes import parameter_shapes
from lmcore.optimizer.hidden_matrices import is_hidden_matrix
from lmcore.training.config import TrainingConfig, n_steps

# Going backward, the gradients of activations meet the activations: 0.9 to 1.4 times what the
# forward pass keeps, in half precision 1.5 to 1.8. (By torch.func, which keeps the graph of the
# backward pass as well, 2.7 to 2.9.) Peaks of whole processes, over eleven models and batches of
# the presets on a CPU, 413 to 2,666 MB, were 0.96 to 1.12 times the estimates below, in bfloat16
# 530 to 3,271 MB and 0.93 to 0.98 times; a slow test measures four.
_BACKWARD = {"float32": 1.3, "bfloat16": 1.6, "float16": 1.6}
# Compiled on a CPU, blocks save less than eager ones and fuse what meets it going backward: six
# whole processes of 1M to 23M parameters, 609 to 1,370 MiB, were estimated at 0.91 to 1.13 times.
_COMPILED = {"float32": 0.8, "bfloat16": 0.65, "float16": 0.65}
_LOGITS = 1.6  # likewise, of the logits and their log-probabilities
_NUMBER = 4  # bytes of a parameter, of its gradient, and of each of its moments: float32
PROCESS_BYTES = 300_000_000
"""What a training process holds before its first tensor: Python, torch, its libraries."""
COMPILER_BYTES = 140_000_000
"""What torch.compile adds to that on a CPU: its modules, 120 MB, and what it remembers."""


@dataclass(frozen=True)
class MemoryBytes:
    """Bytes of one training process by part, at the moment when their sum is largest.

    Example:
      >>> MemoryBytes(weights=4, moments=8, gradients=4, activations=30, logits=4, process=0).total
      50
    """

    weights: int
    """float32, 4 P."""
    moments: int
    """AdamW's two, 8 P; Muon has one for each matrix of the blocks, 4 bytes a number."""
    gradients: int
    """Gradients, and their sums over micro-batches."""
    activations: int
    """What the forward pass keeps for the backward pass, and the backward pass beside it."""
    logits: int
    """Logits, their log-probabilities, and their gradient."""
    process: int
    """Python and torch themselves."""

    @property
    def total(self) -> int:
        """The estimated peak."""
        return sum(asdict(self).values())


@dataclass(frozen=True)
class DiskBytes:
    """Bytes that a run writes, by part.

    Example:
      >>> DiskBytes(corpus=10, tokens=8, checkpoints=30, model=4).total
      52
    """

    corpus: int
    """The text as it was downloaded."""
    tokens: int
    """The Parquet shards and the flat map, counted as if zstd gained nothing."""
    checkpoints: int
    """Those kept, the best one, and the one being written; weights and moments each."""
    model: int
    """The last weights and the best ones."""

    @property
    def total(self) -> int:
        """All of them."""
        return sum(asdict(self).values())


@dataclass(frozen=True)
class Budget:
    """A run in numbers, before any work."""

    params: ParamCounts
    """Parameters by part; ``non_embedding`` is what a model's size counts."""
    steps: int
    """Training steps."""
    tokens: int
    """Tokens trained on, whole steps."""
    corpus_tokens: int
    """Tokens of the training text; 0 where nobody knows yet."""
    flops: int
    """Of all training, three times the forward passes."""
    micro_batch: int
    """Sequences that a process holds at once."""
    memory: MemoryBytes
    """Of one training process at its peak."""
    disk: DiskBytes
    """In the artifacts folder."""

    @property
    def epochs(self) -> float:
        """How often the text is seen; 0 where its size is not known."""
        return self.tokens / self.corpus_tokens if self.corpus_tokens else 0.0

    @property
    def tokens_per_parameter(self) -> float:
        """Tokens trained on for each parameter; about 20 spends FLOPs best (Chinchilla)."""
        return self.tokens / self.params.total


def plan(
    model: ModelConfig,
    training: TrainingConfig,
    *,
    micro_batch: int,
    corpus_bytes: int = 0,
    corpus_tokens: int = 0,
    keep_checkpoints: int = 2,
    loss_chunk_tokens: int = 0,
    activation_checkpointing: bool = False,
    n_ranks: int = 1,
    device: str = "cpu",
    compiled: bool = False,
) -> Budget:
    """Work out what a run will cost.

    Args:
      model: the model's configuration, its vocabulary known.
      training: the training's configuration, its precision resolved ("auto" counts as float32).
      micro_batch: sequences that a process holds at once, B.
      corpus_bytes: bytes of all text, 0 where not known.
      corpus_tokens: tokens of the training text, 0 where not known.
      keep_checkpoints: how many stay on the disk besides the best.
      loss_chunk_tokens: as in ``train_step``.
      activation_checkpointing: blocks are ``checkpointed``.
      n_ranks: training processes that share a batch.
      device: where, "cpu" or another.
      compiled: the step is.

    Returns:
      The budget. Parameters, steps, tokens and FLOPs are exact; memory and disk are estimates.

    Raises:
      InputError: the model's configuration has faults, or no vocabulary.

    Example:
      >>> budget = plan(ModelConfig(vocab_size=1024), TrainingConfig(), micro_batch=8)
      >>> budget.steps, budget.params.total, round(budget.flops / 1e12, 1)
      (977, 852864, 11.0)

    References:
      Kaplan et al., 2020, Scaling laws for neural language models, section 2.1 (FLOPs); Hoffmann et
      al., 2022, Training compute-optimal large language models, section 3.4 (tokens a parameter).
    """
    params = count_params(model)
    steps = n_steps(training, model.context_length)
    tokens = steps * training.batch_size * model.context_length
    return Budget(
        params=params,
        steps=steps,
        tokens=tokens,
        corpus_tokens=corpus_tokens,
        flops=training_flops(model, tokens),
        micro_batch=micro_batch,
        memory=memory_bytes(
            model,
            training,
            micro_batch=micro_batch,
            loss_chunk_tokens=loss_chunk_tokens,
            activation_checkpointing=activation_checkpointing,
            n_ranks=n_ranks,
            device=device,
            compiled=compiled,
        ),
        disk=DiskBytes(
            corpus=corpus_bytes,
            tokens=_token_bytes(model.vocab_size, corpus_bytes, corpus_tokens),
            checkpoints=(keep_checkpoints + 2)
            * (_NUMBER * params.total + moment_bytes(model, training)),
            model=2 * _NUMBER * params.total,
        ),
    )


def memory_bytes(
    model: ModelConfig,
    training: TrainingConfig,
    *,
    micro_batch: int,
    loss_chunk_tokens: int = 0,
    activation_checkpointing: bool = False,
    n_ranks: int = 1,
    device: str = "cpu",
    compiled: bool = False,
) -> MemoryBytes:
    r"""Estimate the peak memory of a training process of the lean step, updating in place.

    .. math:: 4P + m + gP + f A + 1.6\,\Lambda + \text{process}

    It is reached in the backward pass: weights; the optimizer's moments, m, of ``moment_bytes``;
    gradients, g = 4, or 12 where micro-batches are added up (the sum so far, the new ones, the new
    sum); A, what the forward pass keeps, with f = 1.3, or 1.6 in half precision; :math:`\Lambda`,
    logits and log-probabilities. Where the step is compiled on a CPU, f is 0.8, or 0.65 in half
    precision, and the process holds the compiler too.

    With activation checkpointing :math:`fA + 1.6\,\Lambda` becomes :math:`4\,LBSD + \max(fA/L,
    1.6\,\Lambda)`: the inputs of all blocks, and beside them the logits, or, when those are gone,
    one block.

    Args:
      model: the model's configuration, its vocabulary known.
      training: batch size and precision are read ("auto" counts as float32).
      micro_batch: sequences that a process holds at once.
      loss_chunk_tokens: tokens whose logits exist at once; 0 for all of a micro-batch.
      activation_checkpointing: blocks are ``checkpointed``.
      n_ranks: training processes that share a batch.
      device: where; on a CPU attention is float32 in every precision.
      compiled: the step is.

    Returns:
      Bytes by part.

    Example:
      >>> model = ModelConfig(vocab_size=1024)
      >>> round(memory_bytes(model, TrainingConfig(), micro_batch=8).total / 1e6)
      426
    """
    n_params = count_params(model).total
    precision = training.precision if training.precision in _BACKWARD else "float32"
    rows = micro_batch * model.context_length
    kept = activation_bytes(
        model,
        micro_batch,
        model.context_length,
        bytes_per_value=4 if precision == "float32" else 2,
        attention_bytes_per_value=4 if device == "cpu" else None,
    )
    accumulates = micro_batch * n_ranks < training.batch_size
    share = min(1.0, loss_chunk_tokens / rows) if loss_chunk_tokens else 1.0
    gradients = n_params * _NUMBER * (3 if accumulates else 1)
    in_compiled_blocks = compiled and device == "cpu"
    backward = (_COMPILED if in_compiled_blocks else _BACKWARD)[precision]
    activations = int(backward * (kept.total - kept.logits))
    logits = int(_LOGITS * share * kept.logits)
    if activation_checkpointing and model.n_layers:
        inputs = 4 * rows * model.d_model * model.n_layers  # the residual stream, float32
        one_block = activations // model.n_layers
        activations, logits = max((inputs, logits), (inputs + one_block, 0), key=sum)
    moments = moment_bytes(model, training)
    weights = _NUMBER * n_params
    process = PROCESS_BYTES + (COMPILER_BYTES if in_compiled_blocks else 0)
    return MemoryBytes(weights, moments, gradients, activations, logits, process)


def moment_bytes(model: ModelConfig, training: TrainingConfig) -> int:
    """Return the bytes of what the optimizer remembers: AdamW two numbers of each parameter.

    With Muon, one number of each hidden matrix's entries, and AdamW's two of the rest. What its
    products hold on the way is a few times 16 MB, or the largest matrix, when activations are gone.

    Args:
      model: the model's configuration, its vocabulary known.
      training: the optimizer is read.

    Example:
      >>> model = ModelConfig(vocab_size=1024)
      >>> adamw = moment_bytes(model, TrainingConfig())
      >>> adamw - moment_bytes(model, TrainingConfig(optimizer="muon"))
      2359296
    """
    shapes = parameter_shapes(model)
    moments = {
        name: 1 if training.optimizer == "muon" and is_hidden_matrix(name, len(shape)) else 2
        for name, shape in shapes.items()
    }
    return _NUMBER * sum(moments[name] * math.prod(shape) for name, shape in shapes.items())


def fit_micro_batch(
    model: ModelConfig,
    training: TrainingConfig,
    memory_bytes_free: float,
    *,
    n_ranks: int = 1,
    loss_chunk_tokens: int = 0,
    activation_checkpointing: bool = False,
    device: str = "cpu",
    compiled: bool = False,
) -> int:
    """Return the most sequences of a process that fit into memory at once.

    Args:
      model: the model's configuration, its vocabulary known.
      training: its batch size is divided.
      memory_bytes_free: what a process may use; 0 where nobody knows, and all is taken to fit.
      n_ranks: training processes that share a batch.
      loss_chunk_tokens: as in ``train_step``.
      activation_checkpointing: blocks are ``checkpointed``.
      device: as in ``memory_bytes``.
      compiled: the step is.

    Returns:
      A divisor of a process's share of the batch, so that all micro-batches are equal; 1 where not
      even one sequence fits (``faults`` then says so).

    Example:
      >>> fit_micro_batch(ModelConfig(vocab_size=1024), TrainingConfig(batch_size=64), 1e9)
      32
    """
    rows = max(1, training.batch_size // n_ranks)
    for micro_batch in (n for n in range(rows, 1, -1) if rows % n == 0):
        needed = memory_bytes(
            model,
            training,
            micro_batch=micro_batch,
            loss_chunk_tokens=loss_chunk_tokens,
            activation_checkpointing=activation_checkpointing,
            n_ranks=n_ranks,
            device=device,
            compiled=compiled,
        )
        if not memory_bytes_free or needed.total <= memory_bytes_free:
            return micro_batch
    return 1


def faults(budget: Budget, memory_bytes_free: float, disk_bytes_free: float) -> list[str]:
    """Return why a run cannot be, as messages; an empty list when it can.

    Args:
      budget: from ``plan``.
      memory_bytes_free: what a training process may use; 0 where nobody knows.
      disk_bytes_free: room for the artifacts; negative where nobody knows.

    Example:
      >>> budget = plan(ModelConfig(vocab_size=1024), TrainingConfig(), micro_batch=1)
      >>> print(*faults(budget, 16e9, 1e6))
      the run writes about 48 MB and 1 MB of disk are free: make room, or choose another --artifacts
    """
    return [*_memory_faults(budget, memory_bytes_free), *_disk_faults(budget, disk_bytes_free)]


def _memory_faults(budget: Budget, free: float) -> Iterator[str]:
    """Say that memory is too small, and which settings are large."""
    if 0 < free < budget.memory.total:
        way = (
            "lower --numerics.micro-batch"
            if budget.micro_batch > 1
            else "lower --model.context-length, --model.d-model or --model.n-layers"
        )
        way += ", or try --numerics.activation-checkpointing and --numerics.loss-chunk-tokens 1024"
        yield (
            f"training needs about {_megabytes(budget.memory.total)} of memory with "
            f"{budget.micro_batch} sequences at once and {_megabytes(free)} are free: {way}"
        )


def _disk_faults(budget: Budget, free: float) -> Iterator[str]:
    """Say that the disk is too small."""
    if 0 <= free < budget.disk.total:
        yield (
            f"the run writes about {_megabytes(budget.disk.total)} and {_megabytes(free)} of disk "
            "are free: make room, or choose another --artifacts"
        )


def _token_bytes(vocab_size: int, corpus_bytes: int, corpus_tokens: int) -> int:
    """Estimate the room of the tokens, in Parquet and in the flat map."""
    n_tokens = corpus_tokens or corpus_bytes // 3  # three bytes a token or more, whatever the text
    return 2 * (2 if vocab_size <= 1 << 16 else 4) * n_tokens


def _megabytes(n_bytes: float) -> str:
    """Bytes for an error message."""
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.0f} MB"
