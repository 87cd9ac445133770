"""The memory of a training process, foretold from the settings alone, and what fits into it.

Shapes: P parameters · B sequences of a micro-batch · L n_layers · S sequence · D d_model.
"""

import math
from dataclasses import asdict, dataclass

from lmcore.model.config import ModelConfig
from lmcore.model.counts import activation_bytes, count_params
from lmcore.model.shapes import parameter_shapes
from lmcore.optimizer.hidden_matrices import is_hidden_matrix
from lmcore.training.config import TrainingConfig

# Going backward, the gradients of activations meet the activations: 0.9 to 1.4 times what the
# forward pass keeps, in half precision 1.5 to 1.8. (By torch.func, which keeps the graph of the
# backward pass as well, 2.7 to 2.9.) Peaks of whole processes on a CPU, 1M to 23M parameters in
# float32 and bfloat16, 487 to 2,400 MiB, were 0.98 to 1.07 times the estimates below; a slow test
# measures four.
_BACKWARD = {"float32": 1.3, "bfloat16": 1.6, "float16": 1.6}
# Compiled on a CPU, blocks save less than eager ones and fuse what meets it going backward: whole
# processes of the same sizes, 594 to 1,665 MiB, were 0.97 to 1.09 times the estimates.
_COMPILED = {"float32": 0.8, "bfloat16": 0.7, "float16": 0.7}
_LOGITS = 1.6  # likewise, of the logits and their log-probabilities
FLOAT32_BYTES = 4
"""Of a parameter, of its gradient, and of each of its moments, in every precision."""
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
    logits and log-probabilities, of which a loss in chunks on a CPU holds one table, in the
    products' precision. Where the step is compiled on a CPU, f is 0.8, or 0.7 in half precision,
    and the process holds the compiler too.

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
    bytes_per_value = 4 if precision == "float32" else 2
    kept = activation_bytes(
        model,
        micro_batch,
        model.context_length,
        bytes_per_value=bytes_per_value,
        attention_bytes_per_value=4 if device == "cpu" else None,
    )
    accumulates = micro_batch * n_ranks < training.batch_size
    gradients = n_params * FLOAT32_BYTES * (3 if accumulates else 1)
    in_compiled_blocks = compiled and device == "cpu"
    backward = (_COMPILED if in_compiled_blocks else _BACKWARD)[precision]
    activations = int(backward * (kept.total - kept.logits))
    share = min(1.0, loss_chunk_tokens / rows) if loss_chunk_tokens else 1.0
    one_table = rows * model.vocab_size * bytes_per_value
    written_over = device == "cpu" and loss_chunk_tokens > 0  # by their softmax
    logits = int(share * (one_table if written_over else _LOGITS * kept.logits))
    if activation_checkpointing and model.n_layers:
        inputs = 4 * rows * model.d_model * model.n_layers  # the residual stream, float32
        one_block = activations // model.n_layers
        activations, logits = max((inputs, logits), (inputs + one_block, 0), key=sum)
    moments = moment_bytes(model, training)
    weights = FLOAT32_BYTES * n_params
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
    return FLOAT32_BYTES * sum(moments[name] * math.prod(shape) for name, shape in shapes.items())


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
      even one sequence fits (``budget.faults`` then says so).

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
