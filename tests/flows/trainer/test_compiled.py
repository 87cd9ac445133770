"""A compiled step is compared with the eager one before it is trusted."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from flows.trainer import compiled
from flows.trainer.compiled import compile_step, in_compiled_blocks, refuse_difference
from flows.trainer.distributed import World
from flows.trainer.job import Job
from flows.trainer.loop import make_step
from flows.trainer.numerics import Numerics, resolve
from lmcore.errors import InputError
from lmcore.model.config import ModelConfig
from lmcore.model.positions import model_rotary_tables
from lmcore.params import flatten, map_params, unflatten
from lmcore.training.config import Precision, TrainingConfig
from lmcore.training.gradient import loss_and_gradients
from lmcore.training.lean_gradient import grad_and_value
from lmcore.training.step import init_state, train_step

MODEL = ModelConfig(vocab_size=16, context_length=8, d_model=8, n_layers=1, n_heads=2)
TRAINING = TrainingConfig(tokens=64, batch_size=2, warmup_steps=1, precision="float32")
BATCH = (torch.arange(16).view(2, 8) % 16, (torch.arange(16).view(2, 8) + 1) % 16)
STEP = partial(train_step, model=MODEL, training=TRAINING, in_place=True)


def metrics(loss: float, grad_norm: float = 1.0) -> dict[str, torch.Tensor]:
    return {"loss": torch.tensor(loss), "grad_norm": torch.tensor(grad_norm)}


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (metrics(2.001), "loss"),
        (metrics(2.0, 1.001), "grad_norm"),
        (metrics(float("nan")), "loss"),
        (metrics(2.0, float("inf")), "grad_norm"),
    ],
)
def test_difference_is_refused(found: dict[str, torch.Tensor], name: str) -> None:
    """A loss or gradient that differs beyond rounding, or is no number, stops the run."""
    with pytest.raises(InputError, match=f"the compiled step's {name}.*--numerics.compile off"):
        refuse_difference(metrics(2.0), found, 1e-4)


def test_rounding_is_accepted() -> None:
    """What the order of sums can change is no difference."""
    refuse_difference(metrics(2.0), metrics(2.0001, 0.99995), 1e-4)


def test_checked_step_takes_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparing costs no step and disturbs no state, although the step writes in place."""
    monkeypatch.setattr(torch, "compile", lambda step, **_: step)
    plain, checked = init_state(MODEL, TRAINING), init_state(MODEL, TRAINING)
    step = compile_step(STEP, "float32")
    for _ in range(3):
        plain, expected = STEP(plain, BATCH)
        checked, found = step(checked, BATCH)
        assert torch.equal(expected["loss"], found["loss"])
    for name, tensor in flatten(plain).items():
        assert torch.equal(tensor, flatten(checked)[name]), name


def test_wrong_gradients_are_found_at_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that drops half a gradient is refused before its first result is used."""

    def miscompile(step, **_):
        def wrong(state, batch):
            after, said = step(state, batch)
            return after, said | {"grad_norm": said["grad_norm"] / 2}

        return wrong

    monkeypatch.setattr(torch, "compile", miscompile)
    with pytest.raises(InputError, match="grad_norm"):
        compile_step(STEP, "float32")(init_state(MODEL, TRAINING), BATCH)


def test_every_precision_has_a_tolerance() -> None:
    """Each precision that a run may have says how far its compiled step may differ."""
    from typing import get_args

    from lmcore.training.config import Precision

    assert set(compiled.TOLERANCE) == set(get_args(Precision)) - {"auto"}
    assert replace(TRAINING, precision="bfloat16").precision in compiled.TOLERANCE


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_step_is_compiled_once(monkeypatch: pytest.MonkeyPatch, precision: Precision) -> None:
    """However many steps follow, on a state from a file too, no graph is made after the first."""
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    counter, compile_ = CompileCounterWithBackend("eager"), torch.compile
    monkeypatch.setattr(torch, "compile", partial(compile_, backend=counter))
    training = replace(TRAINING, precision=precision, embedding_lr_ratio=3.0, dropout=0.2)
    rotary = model_rotary_tables(MODEL)
    step = compile_step(
        partial(train_step, model=MODEL, training=training, rotary=rotary, in_place=True), precision
    )
    state = init_state(MODEL, training)
    state, _ = step(state, BATCH)
    graphs = counter.frame_count
    assert graphs >= 1
    for n in range(5):
        state, _ = step(state, (BATCH[0].roll(n), BATCH[1].roll(n)))
    resumed = unflatten(init_state(MODEL, training), map_params(torch.clone, flatten(state)))
    step(resumed, BATCH)
    assert counter.frame_count == graphs == 1
    torch._dynamo.reset()


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_blocks_are_compiled_once_for_all_layers(
    monkeypatch: pytest.MonkeyPatch, precision: Precision, recompute: bool, dropout: float
) -> None:
    """A graph for the blocks, one for the update, one for what is dropped: none more for layers,
    chunks or steps."""
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    counter, compile_ = CompileCounterWithBackend("aot_eager"), torch.compile
    monkeypatch.setattr(torch, "compile", partial(compile_, backend=counter))
    model = replace(MODEL, n_layers=3)
    training = replace(TRAINING, precision=precision, dropout=dropout)
    lean = partial(loss_and_gradients, differentiate=grad_and_value)
    eager = partial(
        train_step,
        model=model,
        training=training,
        rotary=model_rotary_tables(model),
        loss_chunk_tokens=3,
        loss_and_gradients=lean,
        in_place=True,
    )
    traced = partial(eager, loss_and_gradients=in_compiled_blocks(lean, recompute=recompute))
    step = compile_step(traced, precision, reference=eager)
    plain, state = init_state(model, training), init_state(model, training)
    for n in range(4):
        batch = (BATCH[0].roll(n), BATCH[1].roll(n))
        plain, expected = eager(plain, batch)
        state, found = step(state, batch)
        refuse_difference(expected, found, compiled.TOLERANCE[precision])
    assert counter.frame_count == (3 if dropout else 2)
    torch._dynamo.reset()


@pytest.mark.parametrize("loss_chunk_tokens", [0, 3])
def test_a_run_on_a_cpu_compiles_its_blocks_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, loss_chunk_tokens: int
) -> None:
    """One graph, whether or not the record of the run has a loss in chunks."""
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    counter, compile_ = CompileCounterWithBackend("aot_eager"), torch.compile
    monkeypatch.setattr(torch, "compile", partial(compile_, backend=counter))
    chosen = resolve(Numerics(threads=1), device="cpu", total_flops=0.0, micro_batch=2)
    numerics = replace(chosen, compile=True, loss_chunk_tokens=loss_chunk_tokens)
    model, training = replace(MODEL, n_layers=3), replace(TRAINING, dropout=0.2)
    step = make_step(Job("pretrain", model, training, numerics), World())
    state = init_state(model, training)
    for n in range(3):
        state, _ = step(state, (BATCH[0].roll(n), BATCH[1].roll(n)))
    assert counter.frame_count == 1
    torch._dynamo.reset()
