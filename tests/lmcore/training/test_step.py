"""The training step: what it computes, and what it refuses to do."""

import math
from dataclasses import replace
from functools import partial
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.testing import CompileCounterWithBackend

from lmcore.errors import InputError
from lmcore.model.config import ModelConfig
from lmcore.model.positions import model_rotary_tables
from lmcore.model.transformer import forward
from lmcore.optimizer.schedule import cosine_schedule
from lmcore.params import flatten, unflatten
from lmcore.training.config import Optimizer, TrainingConfig
from lmcore.training.gradient import loss_and_gradients
from lmcore.training.step import init_state, train_step

MODEL = ModelConfig(vocab_size=13, context_length=8, d_model=16, n_layers=2, n_heads=2)
TRAINING = TrainingConfig(
    tokens=10 * 4 * 8, batch_size=4, warmup_steps=3, max_lr=0.01, precision="float32"
)


def batch(step: int, size: int = 4):
    """The batch of a step."""
    ids = torch.randint(13, (size, 9), generator=torch.Generator().manual_seed(step))
    return ids[:, :-1], ids[:, 1:]


def run(steps, training=TRAINING, batches=batch, **options):
    """Train, and return the last state and all metrics."""
    state, metrics = init_state(MODEL, training), []
    for step in range(steps):
        state, row = train_step(state, batches(step), model=MODEL, training=training, **options)
        metrics.append(row)
    return state, metrics


def assert_same_bits(left, right):
    """Two states are equal to the last bit, NaN included."""
    left, right = flatten(left), flatten(right)
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        torch.testing.assert_close(tensor, right[name], rtol=0, atol=0, equal_nan=True)


def test_equals_a_loop_written_with_torch():
    """Six steps equal torch's tape, clip_grad_norm_, AdamW and our schedule, step by step."""
    training = replace(TRAINING, max_grad_norm=0.5, weight_decay=0.3)
    state, metrics = run(6, training)
    leaves = {
        name: torch.nn.Parameter(param)
        for name, param in init_state(MODEL, training).params.items()
    }
    groups = [
        {"params": [leaf], "weight_decay": 0.3 if leaf.ndim == 2 else 0.0}
        for leaf in leaves.values()
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    for step in range(6):
        lr = cosine_schedule(step + 1, 0.01, 0.001, 3, 10)
        for group in optimizer.param_groups:
            group["lr"] = lr
        inputs, targets = batch(step)
        optimizer.zero_grad()
        loss = F.cross_entropy(forward(leaves, MODEL, inputs).flatten(0, 1), targets.flatten())
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(leaves.values(), 0.5)
        optimizer.step()
        assert metrics[step]["lr"].item() == pytest.approx(lr, rel=1e-15)
        # float32 rounds at 6e-8; Adam's ratio of small numbers enlarges that over six steps
        torch.testing.assert_close(metrics[step]["loss"], loss.detach(), rtol=1e-5, atol=0)
        torch.testing.assert_close(metrics[step]["grad_norm"], norm.detach(), rtol=1e-4, atol=0)
    for name, leaf in leaves.items():
        torch.testing.assert_close(state.params[name], leaf.detach(), rtol=1e-3, atol=1e-4)


def test_learns_one_batch_by_heart():
    """A hundred steps on one batch bring the loss from chance to less than a tenth of it."""
    training = replace(TRAINING, tokens=100 * 4 * 8, weight_decay=0.0)
    _, metrics = run(100, training, batches=lambda step: batch(0))
    assert metrics[0]["loss"] > 0.7 * math.log(13)
    assert metrics[-1]["loss"] < 0.25


def test_the_same_twice_and_no_global_generator():
    """The result depends on config and batches alone, to the last bit, and draws no number."""
    first, _ = run(3)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    second, _ = run(3)
    assert_same_bits(first, second)
    assert torch.equal(before, torch.get_rng_state())


def test_another_seed_is_another_model():
    """The seed decides the initial parameters."""
    one, other = (init_state(MODEL, replace(TRAINING, seed=seed)) for seed in (0, 1))
    assert not torch.equal(one.params["lm_head.weight"], other.params["lm_head.weight"])


def test_the_state_that_came_in_is_not_written_to():
    """Without ``in_place``, the step is a pure function."""
    state = init_state(MODEL, TRAINING)
    copy = unflatten(state, {name: tensor.clone() for name, tensor in flatten(state).items()})
    train_step(state, batch(0), model=MODEL, training=TRAINING)
    assert_same_bits(state, copy)


def test_in_place_gives_the_same_bits_in_the_same_memory():
    """Donating the state changes no bit, skipped steps included, and moves no parameter."""
    state = init_state(MODEL, TRAINING)
    addresses = {name: param.data_ptr() for name, param in state.params.items()}
    options = {"loss_and_gradients": poisoned(1, "lm_head.weight", math.nan)}
    for step in range(4):
        state, _ = train_step(
            state, batch(step), model=MODEL, training=TRAINING, in_place=True, **options
        )
    assert_same_bits(state, run(4, **options)[0])
    assert {name: param.data_ptr() for name, param in state.params.items()} == addresses


def poisoned(step: int, name: str, value: float):
    """The loss and its gradients, but one entry is ``value`` in the given call."""
    calls = iter(range(1000))

    def wrapped(params, batch, **options):
        loss, grads = loss_and_gradients(params, batch, **options)
        if next(calls) % 4 == step:
            if name == "loss":
                return loss * value, grads
            grads[name] = grads[name].clone()
            grads[name].view(-1)[3] = value
        return loss, grads

    return wrapped


@pytest.mark.parametrize("max_norm", [0.0, 1.0])
@pytest.mark.parametrize("name", ["loss", "token_embeddings.weight", "ln_final.weight"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_bad_step_changes_counters_alone(name, value, max_norm):
    """A NaN or an infinity anywhere leaves parameters and moments bit for bit, and is counted."""
    training = replace(TRAINING, max_grad_norm=max_norm)
    before, _ = run(2, training)
    after, metrics = run(3, training, loss_and_gradients=poisoned(2, name, value))
    assert_same_bits(before.params, after.params)
    assert_same_bits(before.optimizer, after.optimizer)
    assert [row["finite"].item() for row in metrics] == [True, True, False]
    assert metrics[-1]["bad_steps"] == metrics[-1]["skipped"] == 1
    assert (after.step.item(), after.recovery.skipped.item()) == (3, 1)


def test_after_a_bad_step_training_goes_on():
    """The next good step moves the parameters, ends the row of bad steps, keeps their sum."""
    state, metrics = run(4, loss_and_gradients=poisoned(2, "lm_head.weight", math.nan))
    assert [row["bad_steps"].item() for row in metrics] == [0, 0, 1, 0]
    assert [row["skipped"].item() for row in metrics] == [0, 0, 1, 1]
    assert state.optimizer.step == 3
    assert all(param.isfinite().all() for param in state.params.values())


def test_float16_lowers_its_scale_and_recovers():
    """Overflow under a loss scale skips and halves, is not called bad, and then training works."""
    training = replace(TRAINING, precision="float16")
    infinite = poisoned(0, "lm_head.weight", math.inf)
    state, metrics = run(3, training, loss_and_gradients=infinite)
    assert [row["loss_scale"].item() for row in metrics] == [2.0**16, 2.0**15, 2.0**15]
    assert [row["finite"].item() for row in metrics] == [False, True, True]
    assert metrics[0]["bad_steps"] == 0
    assert state.recovery.skipped == 1


def test_micro_batches_and_chunks_give_the_same_step():
    """However the batch is held in memory, the parameters agree to float32 rounding."""
    whole, _ = run(2)
    parts, _ = run(2, n_micro_batches=3, loss_chunk_tokens=5)
    for name, param in whole.params.items():
        # Adam's first steps divide a gradient by itself: rounding of tiny ones is enlarged, up to
        # a share of lr
        torch.testing.assert_close(parts.params[name], param, rtol=1e-3, atol=1e-4)


def test_resuming_from_a_flat_copy_is_bit_for_bit():
    """State flattened, copied, rebuilt after three steps ends where the uninterrupted run ends."""
    middle, _ = run(3)
    state = unflatten(
        init_state(MODEL, TRAINING), {k: v.clone() for k, v in flatten(middle).items()}
    )
    for step in range(3, 6):
        state, _ = train_step(state, batch(step), model=MODEL, training=TRAINING)
    assert_same_bits(state, run(6)[0])


MUON = replace(TRAINING, optimizer="muon")


def test_muon_resumes_from_a_flat_copy_bit_for_bit():
    """With muon too, a state flattened and rebuilt ends where the uninterrupted run ends."""
    middle, _ = run(3, MUON)
    state = unflatten(init_state(MODEL, MUON), {k: v.clone() for k, v in flatten(middle).items()})
    for step in range(3, 6):
        state, _ = train_step(state, batch(step), model=MODEL, training=MUON)
    assert_same_bits(state, run(6, MUON)[0])


def test_muon_in_place_gives_the_same_bits_past_a_bad_step():
    """With muon too, donating the state changes no bit, and a bad step changes counters alone."""
    options = {"loss_and_gradients": poisoned(1, "layers.0.ffn.w1.weight", math.nan)}
    state, pure = init_state(MODEL, MUON), run(4, MUON, **options)[0]
    for step in range(4):
        before = {k: v.clone() for k, v in flatten(state.optimizer).items()}
        state, metrics = train_step(
            state, batch(step), model=MODEL, training=MUON, in_place=True, **options
        )
        same = all(torch.equal(v, before[k]) for k, v in flatten(state.optimizer).items())
        assert same == (step == 1) == (not metrics["finite"])
    assert_same_bits(state, pure)


def test_muon_learns_one_batch_by_heart_at_its_own_rate():
    """With muon the loss of one batch falls as well, and its own learning rate is heard."""
    training = replace(MUON, tokens=100 * 4 * 8, weight_decay=0.0, muon_max_lr=0.03)
    _, metrics = run(100, training, batches=lambda step: batch(0))
    assert metrics[-1]["loss"] < 0.25
    slow, _ = run(1, replace(MUON, muon_max_lr=1e-30))
    start, name = init_state(MODEL, MUON), "layers.0.attn.v_proj.weight"
    # what is left is the decay, which that rate scales too
    assert torch.equal(slow.params[name], start.params[name])
    assert not torch.equal(slow.params["lm_head.weight"], start.params["lm_head.weight"])


def test_outputs_that_start_at_zero_wake_in_three_steps():
    """First the head has a gradient, then what the residual stream joins to it, then all."""
    model = replace(MODEL, zero_init_outputs=True)
    training = replace(MUON, weight_decay=0.0)  # so that nothing moves without a gradient
    state, moved = init_state(model, training), []
    for step in range(3):
        new, _ = train_step(state, batch(step), model=model, training=training)
        moved.append({n for n, p in new.params.items() if not torch.equal(p, state.params[n])})
        state = new
    joined = {"token_embeddings.weight", "ln_final.weight", "lm_head.weight"}
    writing = {n for n in state.params if n.endswith(("output_proj.weight", "w2.weight"))}
    assert moved == [{"lm_head.weight"}, joined | writing, state.params.keys()]


def test_metrics_are_scalars_with_fixed_names():
    """Every metric is a 0-d tensor; the names are the contract with whoever logs them."""
    _, (metrics,) = run(1)
    names = {"loss", "grad_norm", "lr", "finite", "loss_scale", "bad_steps", "skipped"}
    assert metrics.keys() == names
    assert all(value.ndim == 0 for value in metrics.values())


def test_a_maximum_norm_of_zero_turns_clipping_off():
    """Zero means no clipping, not gradients of zero."""
    off, _ = run(2, replace(TRAINING, max_grad_norm=0.0))
    never, _ = run(2, replace(TRAINING, max_grad_norm=1e9))
    assert_same_bits(off, never)


def test_auto_precision_is_refused():
    """Whoever calls the step has to say in which precision."""
    with pytest.raises(InputError, match=r"--training\.precision"):
        run(1, replace(TRAINING, precision="auto"))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", get_args(Optimizer))
@pytest.mark.parametrize(
    ("precision", "in_place"), [("float32", False), ("float32", True), ("bfloat16", True)]
)
def test_compiles_once_and_changes_no_result(precision, in_place, optimizer):
    """Compiled as it is, in one graph, the step compiles once for good and bad steps and agrees."""
    torch._dynamo.reset()
    training = replace(TRAINING, precision=precision, optimizer=optimizer)
    counter = CompileCounterWithBackend("aot_eager")
    rotary = model_rotary_tables(MODEL)
    step = partial(train_step, model=MODEL, training=training, rotary=rotary, n_micro_batches=2)
    compiled = torch.compile(
        partial(step, in_place=in_place), backend=counter, fullgraph=True, dynamic=False
    )
    eager_state, state = init_state(MODEL, training), init_state(MODEL, training)
    addresses = {name: param.data_ptr() for name, param in state.params.items()}
    for k in range(5):
        inputs, targets = batch(k)
        if k == 2:  # a bad step: an infinite parameter makes the loss NaN
            copy = unflatten(state, {k: v.clone() for k, v in flatten(state).items()})
            copy.params["lm_head.weight"].fill_(math.inf)
            assert not compiled(copy, (inputs, targets))[1]["finite"]
        state, metrics = compiled(state, (inputs, targets))
        eager_state, expected = step(eager_state, (inputs, targets))
        # the same kernels on the same numbers, some of them fused into other orders
        torch.testing.assert_close(metrics, expected, rtol=1e-4, atol=1e-6)
    assert counter.frame_count == 1
    stayed = {name: param.data_ptr() for name, param in state.params.items()} == addresses
    assert stayed is in_place
