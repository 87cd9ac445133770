"""The training step: (state, batch) -> (state, metrics)."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lmcore.model.config import ModelConfig
from lmcore.model.init import init_params
from lmcore.model.positions import RotaryTables
from lmcore.optimizer.adamw import AdamWState, adamw_step
from lmcore.optimizer.clip import clip_by_global_norm
from lmcore.optimizer.schedule import cosine_schedule
from lmcore.optimizer.update import OptimizerState, optimizer_init, optimizer_step
from lmcore.params import Params, map_params
from lmcore.training import gradient
from lmcore.training.config import TrainingConfig, n_steps
from lmcore.training.dropout import dropout_factors
from lmcore.training.gradient import Batch, LossAndGradients, Reduce
from lmcore.training.recovery import Recovery, after_step, init_recovery


class TrainState(NamedTuple):
    """All that a run needs to go on; with the configs and ``step`` it decides every later bit.

    Attributes:
      params: the parameters by name.
      optimizer: AdamW's moments and its count of updates; with Muon its momentum too.
      step: steps tried so far, good or bad, a 0-d int64 tensor: which batch comes next, and which
        learning rate.
      recovery: loss scale and counts of bad steps.

    Example:
      >>> model = ModelConfig(vocab_size=16, context_length=8, d_model=8, n_layers=1, n_heads=2)
      >>> state = init_state(model, TrainingConfig(precision="float32"))
      >>> int(state.step), int(state.optimizer.step), sorted(state.params)[-1]
      (0, 0, 'token_embeddings.weight')
    """

    params: Params
    optimizer: OptimizerState
    step: Tensor
    recovery: Recovery


def init_state(
    model: ModelConfig, training: TrainingConfig, *, device: torch.device | str = "cpu"
) -> TrainState:
    """Return the state before the first step.

    The parameters are drawn on the CPU and then moved: the same on every device.

    Args:
      model: the configuration of the model, its ``vocab_size`` resolved.
      training: its ``seed`` decides the parameters; its ``precision`` whether losses are scaled.
      device: where all tensors of the state are.

    Returns:
      A state with step 0, zero moments and no bad steps.

    Example:
      >>> model = ModelConfig(vocab_size=8, context_length=4, d_model=8, n_layers=1, n_heads=2)
      >>> init_state(model, TrainingConfig()).step
      tensor(0)
    """
    params = map_params(lambda param: param.to(device), init_params(model, training.seed))
    return TrainState(
        params=params,
        optimizer=optimizer_init(params, training.optimizer),
        step=torch.zeros((), dtype=torch.int64, device=device),
        recovery=init_recovery(scaled=training.precision == "float16", device=device),
    )


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: ModelConfig,
    training: TrainingConfig,
    n_micro_batches: int = 1,
    loss_chunk_tokens: int = 0,
    reduce: Reduce | None = None,
    rotary: RotaryTables | None = None,
    rows: Tensor | None = None,
    loss_and_gradients: LossAndGradients = gradient.loss_and_gradients,
    adamw: Callable[..., tuple[Params, AdamWState]] = adamw_step,
    in_place: bool = False,
) -> tuple[TrainState, dict[str, Tensor]]:
    r"""Make one step of training: differentiate, clip, update; or skip, where that cannot be done.

    .. math:: g = \mathrm{clip}(\nabla L(\theta)), \qquad
       \theta, s \leftarrow \mathrm{AdamW}(\theta, g, s; \alpha_{t + 1})

    or, with ``training.optimizer`` "muon", Muon's step for the matrices of the blocks.

    A loss or a gradient that is not finite leaves parameters and moments as they were, bit for bit;
    the step still counts, so that the next batch is another one. Nothing here branches on the value
    of a tensor, unless it is in place on a CPU, and not being compiled: so it compiles once for all
    steps of equal shapes, and it never waits for the device.

    Args:
      state: from ``init_state`` or the step before.
      batch: input and target ids, ``[B, S]`` int64 each, on the state's device; of this rank, where
        there are several.
      model: the configuration of the model.
      training: learning rate, decay, clipping, dropout, precision (not "auto").
      n_micro_batches: parts of the batch that are in memory one after the other.
      loss_chunk_tokens: tokens whose logits exist at once; 0 for all of a micro-batch.
      reduce: sums a dict of tensors over the ranks; None where there is one.
      rotary: ``model_rotary_tables(model)`` on the state's device; made anew in each step where not
        given, and needed when this function is compiled.
      rows: numbers of this rank's sequences in the whole batch, ``[B]`` integers, by which channels
        are dropped; None for 0, 1, …
      loss_and_gradients: how the loss is differentiated. ``functools.partial`` of the default takes
        a compiled ``block``; a twin must give the same values.
      adamw: how AdamW moves what it moves; ``fused_adamw_step`` is its lean twin.
      in_place: let clipping and the optimizer write into the gradients and the tensors of
        ``state``, which the caller gives up. The same bits; half the memory for parameters and
        moments.

    Returns:
      The state after the step, and what happened, as 0-d tensors that nobody has waited for:
      ``loss`` (nats a token, over all ranks, without the channels dropped), ``grad_norm`` (before
      clipping), ``lr``, ``finite`` (bool), ``loss_scale`` (of this step), ``bad_steps`` (in a row)
      and ``skipped`` (of the run).

    Raises:
      InputError: precision "auto", or a batch that cannot be cut into so many micro-batches.

    Example:
      >>> model = ModelConfig(vocab_size=8, context_length=4, d_model=8, n_layers=1, n_heads=2)
      >>> training = TrainingConfig(tokens=80, batch_size=2, warmup_steps=2, precision="float32")
      >>> ids = torch.zeros(2, 4, dtype=torch.int64)
      >>> state, metrics = init_state(model, training), {}
      >>> for _ in range(10):
      ...     state, metrics = train_step(state, (ids, ids), model=model, training=training)
      >>> metrics["finite"], state.step, bool(metrics["loss"] < 2.0)
      (tensor(True), tensor(10), True)

    References:
      Loshchilov and Hutter, 2019, AdamW; Pascanu, Mikolov and Bengio, 2013, clipping.
    """
    loss, grads = loss_and_gradients(
        state.params,
        batch,
        model=model,
        precision=training.precision,
        loss_scale=state.recovery.loss_scale,
        n_micro_batches=n_micro_batches,
        loss_chunk_tokens=loss_chunk_tokens,
        reduce=reduce,
        rotary=rotary,
        dropout=dropout_of(state.step, batch, rows, model=model, training=training),
    )
    max_norm = training.max_grad_norm or math.inf
    grads, grad_norm = clip_by_global_norm(grads, max_norm, in_place=in_place)
    finite = torch.isfinite(loss) & torch.isfinite(grad_norm)
    lr = learning_rate(state.step, training, model.context_length)
    params, optimizer = optimizer_step(
        state.params,
        grads,
        state.optimizer,
        lr=lr,
        betas=(training.beta1, training.beta2),
        eps=training.eps,
        weight_decay=training.weight_decay,
        muon_lr=lr * (training.muon_max_lr / training.max_lr),
        muon_momentum=training.muon_momentum,
        embedding_lr_ratio=training.embedding_lr_ratio,
        muon_dtype=torch.bfloat16 if training.precision == "bfloat16" else None,
        apply=finite,
        in_place=in_place,
        adamw=adamw,
    )
    scaled = training.precision == "float16"
    recovery = after_step(state.recovery, finite, loss, scaled=scaled)
    metrics = {
        "loss": loss,
        "grad_norm": grad_norm,
        "lr": lr,
        "finite": finite,
        "loss_scale": state.recovery.loss_scale,
        "bad_steps": recovery.bad_steps,
        "skipped": recovery.skipped,
    }
    return TrainState(params, optimizer, state.step + 1, recovery), metrics


def dropout_of(
    step: Tensor,
    batch: Batch,
    rows: Tensor | None = None,
    *,
    model: ModelConfig,
    training: TrainingConfig,
) -> Tensor | None:
    """Return the factors of dropout of one step, or None where nothing is dropped.

    Args:
      step: 0-d int64, counted from 0.
      batch: its sequences are counted, and its device is taken.
      rows: their numbers in the whole batch; None for 0, 1, …
      model: the configuration of the model.
      training: its ``dropout`` and ``seed``.

    Returns:
      ``[B, P, D]`` of ``dropout_factors``.

    Example:
      >>> ids, model = torch.zeros(2, 4, dtype=torch.int64), ModelConfig(d_model=8, n_layers=1)
      >>> training = TrainingConfig(dropout=0.1)
      >>> dropout_of(torch.tensor(0), (ids, ids), model=model, training=training).shape
      torch.Size([2, 3, 8])
    """
    if not training.dropout:
        return None
    if rows is None:
        rows = torch.arange(len(batch[0]), device=batch[0].device)
    return dropout_factors(model, training.dropout, seed=training.seed, step=step, rows=rows)


def learning_rate(step: Tensor, training: TrainingConfig, context_length: int) -> Tensor:
    r"""Return the learning rate of the step with index ``step``, counted from 0.

    The schedule is read at t = step + 1: its rate at 0 is zero, and a step that moves nothing would
    be wasted. The last step of the run, t = ``n_steps``, ends the cosine.

    Args:
      step: 0-d int64.
      training: the rates and the length of the run.
      context_length: tokens of a sequence, which with the batch size make the number of steps.

    Returns:
      0-d, float64 (float32 on MPS).

    Example:
      >>> training = TrainingConfig(tokens=4096, batch_size=4, warmup_steps=2, max_lr=1.0)
      >>> [round(learning_rate(torch.tensor(t), training, 256).item(), 3) for t in range(4)]
      [0.5, 1.0, 0.55, 0.1]
    """
    min_lr = training.max_lr * training.min_lr_ratio
    steps = n_steps(training, context_length)
    return cosine_schedule(step + 1, training.max_lr, min_lr, training.warmup_steps, steps)
