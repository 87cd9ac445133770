"""What a run will cost, from its settings alone: steps, FLOPs, memory, disk.

Shapes: P parameters · B sequences of a micro-batch · S sequence · V vocab_size.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from lmcore.model.config import ModelConfig
from lmcore.model.counts import ParamCounts, count_params, training_flops
from lmcore.planning.memory import FLOAT32_BYTES, MemoryBytes, memory_bytes, moment_bytes
from lmcore.training.config import TrainingConfig, n_steps


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
            * (FLOAT32_BYTES * params.total + moment_bytes(model, training)),
            model=2 * FLOAT32_BYTES * params.total,
        ),
    )


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
