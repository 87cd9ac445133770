"""Dropout: which channels go, what that does to a model, and that nothing else has a say in it."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from lmcore.model.block import transformer_block
from lmcore.model.checkpointing import checkpointed
from lmcore.model.config import ModelConfig
from lmcore.model.init import init_params
from lmcore.model.shapes import block_shapes
from lmcore.model.transformer import forward, hidden_states
from lmcore.training.config import TrainingConfig
from lmcore.training.dropout import dropout_factors, dropout_places
from lmcore.training.gradient import loss_and_gradients
from lmcore.training.lean_gradient import grad_and_value
from lmcore.training.step import dropout_of, init_state, train_step

MODEL = ModelConfig(vocab_size=11, context_length=8, d_model=16, n_layers=2, n_heads=2)
TRAINING = TrainingConfig(
    tokens=8 * 32, batch_size=4, warmup_steps=2, dropout=0.3, precision="float32"
)
LEAN = partial(loss_and_gradients, differentiate=grad_and_value)
WIDE = replace(MODEL, d_model=256)


def batch_of(size: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(11, (size, 9), generator=torch.Generator().manual_seed(seed))
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def factors(model: ModelConfig = MODEL, share: float = 0.3, *, seed=0, step=0, rows=4):
    """Factors of the first rows, or of those given."""
    rows = torch.arange(rows) if isinstance(rows, int) else torch.tensor(rows)
    return dropout_factors(model, share, seed=seed, step=torch.tensor(step), rows=rows)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_share_is_dropped_and_the_rest_makes_up_for_it(share):
    """Each factor is 0 or 1 / (1 - p), and their mean is 1 within four standard errors."""
    found = factors(WIDE, share, rows=64)
    assert found.shape == (64, dropout_places(WIDE), 256)
    assert set(found.unique().tolist()) <= {0.0, float(torch.tensor(1.0) / (1 - share))}
    error = (share / (1 - share) / found.numel()) ** 0.5
    assert abs(float(found.double().mean()) - 1) <= 4 * error + 1e-7


@pytest.mark.parametrize("axis", ["seed", "step", "rows", "places", "channels"])
def test_draws_know_nothing_of_each_other(axis):
    """Along each axis, neighbours and those farther off agree as often as chance has them agree."""
    kept = torch.stack([factors(WIDE, 0.5, step=step, rows=32) > 0 for step in range(16)])
    others = torch.stack([factors(WIDE, 0.5, step=step, rows=32, seed=1) > 0 for step in range(16)])
    dims = {"step": 0, "rows": 1, "places": 2, "channels": 3}
    for shift in (1, 2, 3):
        moved = others if axis == "seed" else kept.roll(shift, dims[axis])
        agree = float((kept == moved).double().mean())
        assert abs(agree - 0.5) < 4 * 0.5 / kept.numel() ** 0.5


def test_draws_are_those_of_every_release():
    """A resumed run drops on as it began: the numbers are never to change."""
    found = (factors(replace(MODEL, d_model=8, n_layers=1), 0.5, seed=7, step=3, rows=2) > 0).int()
    assert ["".join(map(str, row)) for row in found.flatten(0, 1).tolist()] == [
        *("10001000", "10001010", "11110100"),
        *("10101001", "00011110", "01101111"),
    ]
    assert torch.equal(factors(seed=2**63 - 1), factors(seed=2**63 - 1))
    assert not torch.equal(factors(seed=2**63 - 1), factors(seed=2**31 - 1))


def test_a_row_drops_by_its_number_alone():
    """Whoever holds the row: so ranks and micro-batches drop what one process would."""
    assert torch.equal(factors(rows=[1, 3]), factors(rows=4)[[1, 3]])


@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_factors_multiply_what_each_layer_writes(norm_position):
    """Without norms, one layer silenced at a time, a block is x and the other layer's factor."""
    config = replace(MODEL, norm="none", norm_position=norm_position)
    generator = torch.Generator().manual_seed(0)
    shapes = block_shapes(config).items()
    params = {name: torch.randn(shape, generator=generator) / 4 for name, shape in shapes}
    x, dropped = torch.randn(3, 5, 16, generator=generator), factors(rows=3)[:, 1:3]
    for place, silenced in enumerate(("ffn.w2.weight", "attn.output_proj.weight")):
        one = params | {silenced: torch.zeros_like(params[silenced])}
        written = transformer_block(one, config, x) - x
        found = transformer_block(one, config, x, dropout=dropped)
        torch.testing.assert_close(found, x + written * dropped[:, place, None])


def test_each_layer_has_factors_of_its_own():
    """The embedding's come first, then two for each block: silenced blocks add nothing."""
    config = replace(MODEL, norm="none")
    params, (ids, _) = init_params(config, seed=0), batch_of()
    dropped = factors()
    dropped[:, 3:] = 0  # the second block
    embedded = params["token_embeddings.weight"][ids] * dropped[:, 0, None]
    first = {n.removeprefix("layers.0."): t for n, t in params.items() if n[:9] == "layers.0."}
    from lmcore.model.positions import model_rotary_tables

    rotary = model_rotary_tables(config)
    expected = transformer_block(first, config, embedded, rotary=rotary, dropout=dropped[:, 1:3])
    torch.testing.assert_close(hidden_states(params, config, ids, dropout=dropped), expected)


def test_factors_of_one_change_nothing():
    """A share of zero is the model itself, to the last bit."""
    params, (ids, _) = init_params(MODEL, seed=0), batch_of()
    ones = factors(share=0.0)
    assert torch.equal(forward(params, MODEL, ids, dropout=ones), forward(params, MODEL, ids))


def test_a_step_drops_what_its_number_says():
    """The loss of a step is that of its factors; without dropout there are none."""
    state, (ids, targets) = init_state(MODEL, TRAINING), batch_of()
    state = state._replace(step=torch.tensor(5))
    _, metrics = train_step(state, (ids, targets), model=MODEL, training=TRAINING)
    logits = forward(state.params, MODEL, ids, dropout=factors(step=5))
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    torch.testing.assert_close(metrics["loss"], expected)
    plain = replace(TRAINING, dropout=0.0)
    assert dropout_of(state.step, (ids, targets), model=MODEL, training=plain) is None


def test_micro_batches_and_ranks_drop_alike():
    """However a batch is cut, its gradient is the same: float64 sums in another order."""
    params = {name: param.double() for name, param in init_params(MODEL, seed=0).items()}
    options = {"model": MODEL, "precision": "float32", "loss_scale": torch.tensor(1.0)}
    (ids, targets), dropped = batch_of(), factors()
    whole = loss_and_gradients(params, (ids, targets), dropout=dropped, **options)
    for parts in (2, 3, 4):
        cut = loss_and_gradients(
            params, (ids, targets), dropout=dropped, n_micro_batches=parts, **options
        )
        torch.testing.assert_close(cut, whole, rtol=1e-10, atol=1e-12)
    ranks = []
    for rank in range(2):
        mine, rows = (ids[rank::2], targets[rank::2]), torch.arange(4)[rank::2]
        dropped = dropout_of(torch.tensor(0), mine, rows, model=MODEL, training=TRAINING)
        ranks.append(loss_and_gradients(params, mine, dropout=dropped, **options)[1])
    mean = {name: (ranks[0][name] + ranks[1][name]) / 2 for name in params}
    torch.testing.assert_close(mean, whole[1], rtol=1e-10, atol=1e-12)


def test_all_ways_to_differentiate_drop_alike():
    """The lean twin and recomputed blocks give the bits of `torch.func`."""
    params, batch = init_params(MODEL, seed=0), batch_of()
    options = {"model": MODEL, "precision": "float32", "loss_scale": torch.tensor(1.0)}
    wanted = loss_and_gradients(params, batch, dropout=factors(), **options)[1]
    for block in (transformer_block, checkpointed()):
        found = LEAN(params, batch, dropout=factors(), block=block, **options)[1]
        for name, grad in wanted.items():
            assert torch.equal(found[name], grad), name


def test_a_table_learnt_by_heart_is_learnt_less():
    """What it is for: after many passes over one batch, the training loss is higher with it."""
    losses = {}
    for share in (0.0, 0.3):
        training = replace(TRAINING, dropout=share, tokens=60 * 32, max_lr=1e-2)
        state = init_state(MODEL, training)
        for _ in range(60):
            state, _ = train_step(state, batch_of(), model=MODEL, training=training)
        ids, targets = batch_of()
        logits = forward(state.params, MODEL, ids)
        losses[share] = float(torch.nn.functional.cross_entropy(logits.mT, targets))
    assert losses[0.0] < losses[0.3]
