"""Generation with its cache against generation without one."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st

from lmcore.errors import InputError
from lmcore.generation.generate import generate, window_start
from lmcore.generation.sampling import sample
from lmcore.model.init import init_params
from lmcore.model.transformer import forward
from tests.lmcore.model.choices import EVERY_CHOICE, SMALL, name, tokens, wide_params


def generate_by_definition(params, config, prompts, n, **options):
    """Read the whole window again for every token."""
    ids = prompts
    for _ in range(n):
        window = ids[:, window_start(ids.shape[1], config.context_length) :]
        logits = forward(params, config, window)[:, -1]
        ids = torch.cat((ids, sample(logits, position=ids.shape[1], **options)[:, None]), 1)
    return ids[:, prompts.shape[1] :].tolist()


@pytest.mark.parametrize("config", EVERY_CHOICE, ids=name)
def test_greedy_with_a_cache_equals_reading_everything_again(config):
    """For every choice, past the context twice."""
    params, prompts = wide_params(config), tokens(config, 2, 3)
    with_cache = generate(params, config, prompts, 14, temperature=0)
    assert with_cache == generate_by_definition(params, config, prompts, 14, temperature=0)


@settings(deadline=None, max_examples=30)
@given(
    context=st.integers(1, 8),
    prompt=st.integers(1, 12),
    new=st.integers(0, 12),
    seed=st.integers(0, 9),
)
def test_sampling_with_a_cache_equals_reading_everything_again(context, prompt, new, seed):
    """For any context, prompts longer than it included."""
    config = replace(SMALL, context_length=context)
    params, prompts = wide_params(config), tokens(config, 2, prompt, seed=seed)
    options = {"temperature": 0.8, "top_k": 6, "top_p": 0.9, "seed": seed}
    expected = generate_by_definition(params, config, prompts, new, **options)
    assert generate(params, config, prompts, new, **options) == expected


@settings(deadline=None)
@given(st.integers(0, 500), st.integers(1, 60))
def test_the_window_is_as_long_as_half_a_context_and_fits(n, context):
    """All while they fit; then at least half a context; it moves by steps of half a context."""
    start = window_start(n, context)
    if n <= context:
        assert start == 0
    else:
        assert context // 2 < n - start <= context
    assert start % -(-context // 2) == 0
    assert window_start(n + 1, context) >= start


def test_a_prompt_may_be_a_list_or_a_tensor_and_a_batch_its_rows():
    """One prompt gives one list; a batch gives a list of lists, greedy rows as if alone."""
    params, prompts = wide_params(SMALL), tokens(SMALL, 3, 4)
    batch = generate(params, SMALL, prompts, 6, temperature=0)
    for row, prompt in zip(batch, prompts, strict=True):
        assert generate(params, SMALL, prompt, 6, temperature=0) == row
        assert generate(params, SMALL, prompt.tolist(), 6, temperature=0) == row
    assert generate(params, SMALL, prompts.tolist(), 6, temperature=0) == batch


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 11), min_size=1, max_size=4),
    context=st.integers(1, 8),
    new=st.integers(0, 9),
)
def test_rows_of_a_ragged_batch_are_what_they_are_alone(lengths, context, new):
    """For any lengths, past the context too, and with a stop id that a prompt may hold."""
    config = replace(SMALL, context_length=context)
    params = wide_params(config)
    prompts = [tokens(config, 1, n, seed=n + i)[0].tolist() for i, n in enumerate(lengths)]
    together = generate(params, config, prompts, new, temperature=0, stop_ids=[3])
    assert len(together) == len(prompts)
    for row, prompt in zip(together, prompts, strict=True):
        assert row == generate(params, config, prompt, new, temperature=0, stop_ids=[3])


def test_the_seed_fixes_the_text_and_rows_differ():
    """The same seed gives the same ids, another seed others, equal prompts other rows."""
    params = init_params(SMALL, 0)
    prompts = [[1, 2]] * 3
    first = generate(params, SMALL, prompts, 12, seed=1)
    torch.manual_seed(5)
    assert generate(params, SMALL, prompts, 12, seed=1) == first
    assert generate(params, SMALL, prompts, 12, seed=2) != first
    assert len({tuple(row) for row in first}) == 3
    assert generate(params, SMALL, prompts[0], 12, seed=1) == first[0]


def test_a_longer_text_begins_with_the_shorter():
    """Draws depend on the position, so asking for more changes nothing before."""
    params = init_params(SMALL, 0)
    long = generate(params, SMALL, [1], 20, seed=3)
    assert generate(params, SMALL, [1], 9, seed=3) == long[:9]


def test_each_row_ends_before_its_own_stop_id():
    """What comes before the first stop id is what comes without stopping; the id is left out."""
    params, prompts = init_params(SMALL, 0), tokens(SMALL, 6, 2)
    free = generate(params, SMALL, prompts, 30, seed=1)
    stopped = generate(params, SMALL, prompts, 30, seed=1, stop_ids=(4, 7))
    for row, full in zip(stopped, free, strict=True):
        assert not {4, 7} & set(row)
        assert row == full[: len(row)]
        assert len(row) == 30 or full[len(row)] in (4, 7)
    assert len({len(row) for row in stopped}) > 1


def test_no_work_is_done_after_every_row_has_stopped():
    """With every id a stop id, one token is drawn and the text is empty."""
    params = wide_params(SMALL)
    stops = range(SMALL.vocab_size)
    # A loop of a billion steps would never end.
    assert generate(params, SMALL, [[1], [2]], 10**9, stop_ids=stops) == [[], []]


def test_parameters_that_ask_for_gradients_get_none():
    """Generating keeps no graph."""
    params = {n: p.requires_grad_() for n, p in init_params(SMALL, 0).items()}
    generate(params, SMALL, [1], 4)
    assert all(p.grad is None for p in params.values())


def test_half_precision_generates_from_its_own_logits():
    """The first greedy token is the argmax of the bfloat16 forward pass."""
    params, prompts = init_params(SMALL, 0), tokens(SMALL, 5, 6)
    first = generate(params, SMALL, prompts, 1, temperature=0, compute_dtype=torch.bfloat16)
    logits = forward(params, SMALL, prompts, compute_dtype=torch.bfloat16)[:, -1]
    # Equal but for roundings in another kernel: the chosen logit is within them of the best.
    chosen = logits.gather(1, torch.tensor(first)).squeeze(1)
    assert (logits.max(1).values - chosen <= 4 * 2**-8 * logits.abs().max(1).values).all()


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ([], "at least one token"),
        ([[], []], "at least one token"),
        ([[1, 2], []], "at least one token"),
        (torch.zeros(0, 3, dtype=torch.int64), "at least one token"),
        ([[[1]]], r"shape \[1, 1\]"),
        ([1.5], "must be integers"),
        ([3, 11], "token id 11: the model knows 0 to 10"),
        ([-1], "token id -1"),
    ],
)
def test_a_prompt_that_cannot_be_read_is_told(prompt, told):
    """Empty, of another kind, or with ids that the model does not know."""
    with pytest.raises(InputError, match=told):
        generate(init_params(SMALL, 0), SMALL, prompt, 3)


def test_a_negative_number_of_tokens_is_told():
    """Zero is fine and gives nothing."""
    params = init_params(SMALL, 0)
    assert generate(params, SMALL, [1], 0) == []
    with pytest.raises(InputError, match="max_new_tokens is -1"):
        generate(params, SMALL, [1], -1)
