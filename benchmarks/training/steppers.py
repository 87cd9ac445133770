"""From a side to a function that makes its next training step."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.training.batches import batches
from benchmarks.training.module_gpt import FaithfulGPT, NanoGPT, module_params, module_stepper
from benchmarks.training.sides import MATMUL_SIZE, Side, Work
from flows.trainer.distributed import World
from flows.trainer.graphed import graph_step
from flows.trainer.job import Job
from flows.trainer.loop import make_step
from flows.trainer.numerics import Numerics, Resolved, resolve
from flows.trainer.reproducible import pin
from lmcore.errors import InputError
from lmcore.model.init import init_params
from lmcore.model.positions import model_rotary_tables
from lmcore.params import Params, flatten, unflatten
from lmcore.training.step import TrainState, init_state, train_step


class Outcome(NamedTuple):
    """What a step tells, 0-d tensors that nobody has waited for."""

    loss: Tensor
    grad_norm: Tensor


class Stepper(NamedTuple):
    """A side, ready to step."""

    step: Callable[[], Outcome]
    n_params: int


def build(side: Side, work: Work) -> Stepper:
    """The parameters on the device, and the function that makes the next step.

    Raises:
      InputError: the device is not there, or see `benchmarks.training.batches.token_ids`.
    """
    if work.device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"torch {torch.__version__} finds no CUDA device; measure with --device cpu"
        )
    set_numerics(side, work)
    if side.kind == "matmul":
        return matmul(work)
    feed = batches(work)
    return ours(side, work, feed) if side.kind == "lmcore" else theirs(side, work, feed)


def numerics_of(side: Side, work: Work) -> Resolved:
    """What a run would resolve these settings to."""
    asked = Numerics(
        device=work.device,
        compile="on" if side.compile else "off",
        cuda_graph="on" if side.graph else "off",
        threads=work.threads,
    )
    return resolve(asked, device=work.device, total_flops=0.0, micro_batch=work.batch_size)


def set_numerics(side: Side, work: Work) -> None:
    """Threads, and for our step the settings that our runs pin."""
    if side.kind == "lmcore" and side.pinned:
        pin(numerics_of(side, work))
        return
    torch.set_num_threads(work.threads)
    if side.kind != "lmcore" and work.device == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32, as nanoGPT allows it


def ours(side: Side, work: Work, feed: Iterator[tuple[Tensor, Tensor]]) -> Stepper:
    """`train_step` as in our runs; or as it is read, or with another mode of the compiler."""
    model, training = work.case.model, work.training
    state = init_state(model, training, device=work.device)
    if side.readable or side.compile not in (None, "default"):
        step: Callable[..., tuple[TrainState, dict[str, Tensor]]] = partial(
            train_step,
            model=model,
            training=training,
            rotary=model_rotary_tables(model, device=work.device),
            in_place=True,
        )
        if side.compile is not None:
            step = torch.compile(step, fullgraph=False, dynamic=False, mode=side.compile)
        step = graph_step(step) if side.graph else step
    else:
        job = Job("pretrain", model, training, numerics_of(side, work))
        step = make_step(job, World(device=torch.device(work.device)))
    graphs = side.compile == "reduce-overhead"
    static = static_tensors(state) if graphs else {}

    def take_step() -> Outcome:
        nonlocal state
        if graphs:
            torch.compiler.cudagraph_mark_step_begin()
        state, metrics = step(state, next(feed))
        outcome = Outcome(metrics["loss"], metrics["grad_norm"])
        if graphs:
            state, outcome = beside_a_graph(state, static), Outcome(*(t.clone() for t in outcome))
        return outcome

    return Stepper(take_step, sum(param.numel() for param in state.params.values()))


def static_tensors(state: TrainState) -> Params:
    """Parameters and moments, marked as tensors that stay where they are.

    Otherwise a CUDA graph copies them in every step, or is not used where inputs are written to.
    """
    static = {name: tensor for name, tensor in flatten(state).items() if tensor.ndim}
    for tensor in static.values():
        torch._dynamo.mark_static_address(tensor)  # pyright: ignore[reportAttributeAccessIssue]
    return static


def beside_a_graph(state: TrainState, static: Params) -> TrainState:
    """The state for the next step: the marked tensors, and 0-d tensors of its own.

    A CUDA graph's next run overwrites the results of its last one.
    """
    flat = flatten(state)
    return unflatten(
        state, {name: static[name] if name in static else flat[name].clone() for name in flat}
    )


def theirs(side: Side, work: Work, feed: Iterator[tuple[Tensor, Tensor]]) -> Stepper:
    """A module GPT; the faithful one begins with our parameters."""
    model, training = work.case.model, work.training
    torch.manual_seed(work.seed)
    if side.kind == "faithful":
        module = FaithfulGPT(model)
        module.load_state_dict(module_params(init_params(model, work.seed), model))
    else:
        module = NanoGPT(model)
    module = module.to(work.device)
    step = module_stepper(
        module,
        training,
        model.context_length,
        compile_model=side.compile is not None,
        exact_steps=work.warmup_steps,
    )
    n_params = sum(param.numel() for param in module.parameters())
    return Stepper(lambda: Outcome(*step(*next(feed))), n_params)


def matmul(work: Work) -> Stepper:
    """One large product in the precision of the training steps."""
    size = MATMUL_SIZE[work.device]
    dtype = torch.bfloat16 if work.training.precision == "bfloat16" else torch.float32
    generator = torch.Generator().manual_seed(work.seed)
    left, right = (
        torch.randn(size, size, generator=generator).to(work.device, dtype) for _ in range(2)
    )
    out, zero = torch.empty_like(left), torch.zeros(())

    def take_step() -> Outcome:
        torch.mm(left, right, out=out)
        return Outcome(zero, zero)

    return Stepper(take_step, 0)
