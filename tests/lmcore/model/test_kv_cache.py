"""The key-value cache: reading in pieces is reading at once."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st

from lmcore.errors import InputError
from lmcore.model.init import init_params
from lmcore.model.kv_cache import advance, empty_cache
from lmcore.model.transformer import forward
from tests.lmcore.model.choices import EVERY_CHOICE, SMALL, name, tokens, wide_params

# float64 through two blocks.
EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-10}


def read_in_pieces(params, config, ids, pieces, **options):
    """The logits of all pieces, one after the other, through one cache."""
    dtype = options.get("compute_dtype") or params["token_embeddings.weight"].dtype
    cache = empty_cache(config, len(ids), dtype=dtype)
    logits = []
    for piece in ids.split(pieces, dim=1):
        logits.append(forward(params, config, piece, cache=cache, **options))
        cache = advance(cache, piece.shape[1])
    return torch.cat(logits, dim=1), cache


@pytest.mark.parametrize("config", EVERY_CHOICE, ids=name)
def test_one_token_at_a_time_equals_all_at_once(config):
    """For every choice."""
    params, ids = wide_params(config), tokens(config, 2, 8)
    logits, cache = read_in_pieces(params, config, ids, [1] * 8)
    torch.testing.assert_close(logits, forward(params, config, ids), **EXACT)
    assert cache.length == 8


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=8).filter(lambda p: sum(p) <= 8))
def test_any_pieces_equal_all_at_once(pieces):
    """However the sequence is cut, a prompt and single tokens included."""
    params, ids = wide_params(SMALL), tokens(SMALL, 2, sum(pieces))
    logits, _ = read_in_pieces(params, SMALL, ids, pieces)
    torch.testing.assert_close(logits, forward(params, SMALL, ids), **EXACT)


def test_half_precision_reads_a_half_precision_cache():
    """With a compute_dtype, cached and uncached logits differ by its rounding only."""
    params, ids = init_params(SMALL, 0), tokens(SMALL, 2, 8)
    logits, cache = read_in_pieces(params, SMALL, ids, [3, 5], compute_dtype=torch.bfloat16)
    whole = forward(params, SMALL, ids, compute_dtype=torch.bfloat16)
    assert cache.keys.dtype == torch.bfloat16
    # A dozen roundings of 2**-8 may fall otherwise in another kernel.
    assert (logits - whole).norm() < 12 * 2**-8 * whole.norm()


def test_old_contents_beyond_the_length_are_never_seen():
    """A cache set back to length 0 serves a new sequence without being cleared."""
    params = wide_params(SMALL)
    _, cache = read_in_pieces(params, SMALL, tokens(SMALL, 2, 8), [8])
    ids = tokens(SMALL, 2, 4, seed=1)
    again = forward(params, SMALL, ids, cache=cache._replace(length=0))
    torch.testing.assert_close(again, forward(params, SMALL, ids), **EXACT)


def test_a_full_cache_takes_no_more():
    """One token beyond the context is the user's error."""
    params = wide_params(SMALL)
    _, cache = read_in_pieces(params, SMALL, tokens(SMALL, 1, 8), [8])
    with pytest.raises(InputError, match="9 tokens"):
        forward(params, SMALL, tokens(SMALL, 1, 1), cache=cache)
