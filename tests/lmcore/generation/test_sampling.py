"""Sampling rules as functions of logits, and draws as a function of seed, row and position."""

import pytest
import torch
from hypothesis import given, settings, strategies as st

from lmcore.errors import InputError
from lmcore.generation import sampling
from lmcore.generation.sampling import apply_temperature, keep_top_k, keep_top_p, sample, uniform

check = settings(deadline=None, max_examples=100)
# Few values, so that ties are common.
rows = st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 3.0]), min_size=1, max_size=9)
logit_rows = rows.map(lambda row: torch.tensor(row, dtype=torch.float64))


def kept(logits: torch.Tensor) -> set[int]:
    """The ids that are not forbidden."""
    return set((logits > float("-inf")).nonzero().flatten().tolist())


def by_falling_logit(logits: torch.Tensor) -> list[int]:
    """Ids, the most probable first, the lower id first of equals."""
    return sorted(range(len(logits)), key=lambda i: (-logits[i].item(), i))


@check
@given(logit_rows, st.integers(0, 12))
def test_top_k_keeps_the_k_greatest(logits, k):
    """Exactly k (all for 0 or too many), the lower ids of ties; what stays is unchanged."""
    out = keep_top_k(logits, k)
    expected = set(by_falling_logit(logits)[: k or None])
    assert kept(out) == expected
    assert all(out[i] == logits[i] for i in expected)


@check
@given(logit_rows, st.floats(0.001, 1.0))
def test_top_p_keeps_the_smallest_set_that_holds_p(logits, p):
    """The set reaches p, and without its least probable member it would not."""
    out = keep_top_p(logits, p)
    order, probabilities = by_falling_logit(logits), logits.softmax(-1)
    chosen = kept(out)
    assert chosen == set(order[: len(chosen)])
    assert all(out[i] == logits[i] for i in chosen)
    # A sum of nine float64 numbers may be wrong by 1e-15.
    assert probabilities[order[: len(chosen)]].sum() >= p - 1e-12
    if p < 1:
        assert probabilities[order[: len(chosen) - 1]].sum() < p + 1e-12
    else:
        assert len(chosen) == len(logits)


def test_top_p_of_a_known_distribution():
    """Of 0.5, 0.3, 0.15, 0.05 it keeps one up to 0.5, two up to 0.8, three up to 0.95."""
    logits = torch.tensor([0.05, 0.3, 0.5, 0.15], dtype=torch.float64).log()
    for p, ids in [(0.4, {2}), (0.6, {1, 2}), (0.9, {1, 2, 3}), (0.96, {0, 1, 2, 3})]:
        assert kept(keep_top_p(logits, p)) == ids
    assert kept(keep_top_p(logits, 1e-300)) == {2}


def test_rules_work_on_each_row_of_a_batch():
    """A batch is its rows one by one."""
    batch = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    for rule in (lambda x: keep_top_k(x, 3), lambda x: keep_top_p(x, 0.7)):
        assert torch.equal(rule(batch), torch.stack([rule(row) for row in batch]))


@check
@given(logit_rows, st.floats(0.1, 10))
def test_temperature_raises_probabilities_to_a_power(logits, temperature):
    """p becomes p^(1/temperature), normalised again."""
    powers = logits.softmax(-1) ** (1 / temperature)
    out = apply_temperature(logits, temperature).softmax(-1)
    torch.testing.assert_close(out, powers / powers.sum(), rtol=1e-9, atol=1e-15)


def test_uniform_is_uniform():
    """Ten thousand draws lie in [0, 1) with Kolmogorov's distance below chance's, none twice."""
    draws = sorted(uniform(s, r, n) for s in range(10) for r in range(10) for n in range(100))
    assert draws[0] >= 0
    assert draws[-1] < 1
    assert len(set(draws)) == 10_000
    # 1.95 / sqrt(n) is passed once in a thousand.
    assert max(abs(u - (i + 0.5) / 10_000) for i, u in enumerate(draws)) < 0.0195


def test_uniform_is_the_same_everywhere():
    """The first 53 bits of SHA-256 of "seed row position"; sha256sum says 7c8f5059290305ce …"""
    assert uniform(1, 2, 3) == 0.48656179596674676


def test_draws_follow_the_distribution():
    """Four thousand draws against their probabilities, by chi-square."""
    probabilities = torch.tensor([0.5, 0.0, 0.2, 0.3])
    logits = probabilities.log()[None]
    drawn = torch.cat([sample(logits, seed=7, position=n) for n in range(4_000)])
    counts = torch.bincount(drawn, minlength=4)
    assert counts[1] == 0
    expected = 4_000 * probabilities[[0, 2, 3]]
    # 13.8 is passed once in a thousand with two degrees of freedom.
    assert ((counts[[0, 2, 3]] - expected) ** 2 / expected).sum() < 13.8


@pytest.mark.parametrize("draw", [0.0, 1 - 2**-53])
def test_the_ends_of_the_interval_never_draw_a_forbidden_token(draw, monkeypatch):
    """The least and the greatest draw fall on the first and the last possible token."""
    monkeypatch.setattr(sampling, "uniform", lambda *_: draw)
    for seed in range(200):
        row = torch.randn(1, 50, generator=torch.Generator().manual_seed(seed))
        row[:, :3], row[:, -3:] = float("-inf"), float("-inf")
        assert sample(row).item() == (3 if draw == 0 else 46)


def test_a_row_draws_the_same_alone_and_first_in_a_batch():
    """A draw depends on seed, row and position; equal rows of a batch differ."""
    logits = torch.zeros(1, 1_000)
    batch = sample(logits.expand(4, -1), seed=3, position=5)
    assert batch[0] == sample(logits, seed=3, position=5)[0]
    assert len(set(batch.tolist())) == 4
    assert sample(logits, seed=3, position=6) != batch[0]
    assert sample(logits, seed=4, position=5) != batch[0]


def test_temperature_zero_is_greedy():
    """The greatest logit, the lowest id of equals, whatever the seed."""
    logits = torch.tensor([[0.0, 2.0, 2.0], [3.0, 1.0, 2.0]])
    for seed in range(5):
        assert sample(logits, temperature=0, seed=seed).tolist() == [1, 0]


@check
@given(logit_rows, st.integers(1, 4), st.floats(0.05, 1.0), st.integers(0, 2**70))
def test_a_sample_comes_from_what_is_kept(logits, k, p, seed):
    """Rules are taken one after the other: temperature, top-k, top-p."""
    allowed = kept(keep_top_p(keep_top_k(apply_temperature(logits, 0.7), k), p))
    drawn = sample(logits[None], temperature=0.7, top_k=k, top_p=p, seed=seed)
    assert drawn.item() in allowed


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
    ],
)
def test_numbers_out_of_range_are_told(options, told):
    """Each one with its name and what it must be."""
    with pytest.raises(InputError, match=told):
        sample(torch.zeros(1, 3), **options)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_broken_logits_are_told(bad):
    """Not-a-number would otherwise be drawn from as if it were a distribution."""
    with pytest.raises(InputError, match="infinity or not-a-number"):
        sample(torch.tensor([[0.0, bad]]))
