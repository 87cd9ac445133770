"""Scores of whole documents against one forward pass over each."""

import math

import numpy as np
import pytest
import torch

from lmcore.evaluation.documents import document_windows
from lmcore.evaluation.scoring import document_tallies, score_batch, score_documents
from lmcore.evaluation.tally import combine
from lmcore.model.config import ModelConfig
from lmcore.model.init import init_params
from lmcore.model.transformer import forward

MODEL = ModelConfig(vocab_size=17, context_length=16, d_model=16, n_layers=2, n_heads=2)
LENGTHS = [3, 16, 1, 9, 16, 2]
OFFSETS = np.concatenate([[0], np.cumsum(LENGTHS)])
BYTES = [7, 40, 0, 20, 41, 3]


def params_and_tokens():
    """A float64 model and a stream of short documents with end-of-text 0 between them."""
    params = {name: param.double() for name, param in init_params(MODEL, 0).items()}
    tokens = np.random.default_rng(0).integers(1, 17, OFFSETS[-1] + 1).astype(np.uint16)
    tokens[OFFSETS] = 0
    return params, tokens


def nats_alone(params, model, tokens):
    """The oracle: every token after the first from one forward pass, by log_softmax."""
    ids = torch.from_numpy(tokens.astype(np.int64))
    log_probabilities = torch.log_softmax(forward(params, model, ids[None, :-1])[0], dim=-1)
    return -log_probabilities[torch.arange(len(ids) - 1), ids[1:]].sum().item()


def test_documents_that_fit_equal_one_pass_over_each():
    """A document's nats are those of reading it alone from the end-of-text before it to its end."""
    params, tokens = params_and_tokens()
    tallies = score_documents(params, MODEL, tokens, OFFSETS, BYTES)
    for k, tally in enumerate(tallies):
        alone = nats_alone(params, MODEL, tokens[OFFSETS[k] : OFFSETS[k + 1] + 1])
        assert tally.nats == pytest.approx(alone, rel=1e-12)
        assert tally[1:] == (LENGTHS[k], BYTES[k], 1)


@pytest.mark.parametrize("max_tokens", [1, 16, 40, 10_000])
def test_the_batching_does_not_matter(max_tokens):
    """The tally of the whole set is the same however the windows are batched and padded."""
    params, tokens = params_and_tokens()
    expected = combine(score_documents(params, MODEL, tokens, OFFSETS, BYTES, max_tokens=20))
    got = combine(score_documents(params, MODEL, tokens, OFFSETS, BYTES, max_tokens=max_tokens))
    assert got[1:] == expected[1:]
    # float64 kernels for other shapes sum in other orders
    assert got.nats == pytest.approx(expected.nats, rel=1e-12)


def test_other_documents_change_nothing():
    """A document's score does not depend on its neighbours in the stream."""
    params, tokens = params_and_tokens()
    alone = tokens[OFFSETS[3] : OFFSETS[4] + 1]
    (tally,) = score_documents(params, MODEL, alone, np.array([0, LENGTHS[3]]), [20])
    assert tally.nats == pytest.approx(
        score_documents(params, MODEL, tokens, OFFSETS, BYTES)[3].nats, rel=1e-12
    )


def test_long_documents_are_scored_with_overlap():
    """Longer than the context: each window is read from its own start, and only its news counted.

    A context of 16 and a document of 30: windows at 0, 8 and 14 score 16, 8 and 6 tokens.
    """
    params, _ = params_and_tokens()
    tokens = np.random.default_rng(1).integers(0, 17, 31)
    (tally,) = score_documents(params, MODEL, tokens, np.array([0, 30]), [90])
    whole = [nats_alone(params, MODEL, tokens[start : start + 17]) for start in (0, 8, 14)]
    seen = [
        nats_alone(params, MODEL, tokens[start : start + n + 1]) for start, n in ((8, 8), (14, 10))
    ]
    assert tally.nats == pytest.approx(sum(whole) - sum(seen), rel=1e-11)
    assert tally.tokens == 30


def test_scores_are_float64_and_gradients_are_not_kept():
    """A float32 model's scores are summed in float64, and no graph is built."""
    params = {name: param.requires_grad_() for name, param in init_params(MODEL, 0).items()}
    ids = torch.zeros(2, 4, dtype=torch.int64)
    nats = score_batch(params, MODEL, ids, ids, torch.ones(2, 4, dtype=torch.bool))
    assert (nats.dtype, nats.requires_grad) == (torch.float64, False)


def test_what_is_not_scored_does_not_count_even_where_infinite():
    """A target of probability zero without weight adds nothing; half a weight adds half."""
    params = init_params(MODEL, 0)
    params["lm_head.weight"] = params["lm_head.weight"].clone()
    params["lm_head.weight"][3] = -math.inf  # some logits are infinite, some NaN
    ids = torch.zeros(1, 4, dtype=torch.int64)
    nothing = score_batch(params, MODEL, ids, ids + 3, torch.zeros(1, 4, dtype=torch.bool))
    assert nothing.tolist() == [0.0]
    params = init_params(MODEL, 0)
    full, half = (score_batch(params, MODEL, ids, ids, w * torch.ones(1, 4)) for w in (1.0, 0.5))
    assert half.item() == pytest.approx(full.item() / 2, rel=1e-6)


def test_progress_is_reported_to_the_end():
    """After every batch the caller hears how many windows are done, and at last that all are."""
    params, tokens = params_and_tokens()
    heard = []
    score_documents(
        params,
        MODEL,
        tokens,
        OFFSETS,
        BYTES,
        max_tokens=16,
        progress=lambda done, total: heard.append((done, total)),
    )
    assert heard[-1] == (6, 6)
    assert [done for done, _ in heard] == sorted({done for done, _ in heard})


def test_lengths_that_do_not_fit_are_refused():
    """A missing document or window is an error, never a shifted sum."""
    windows = document_windows(np.array([0, 3, 5]), 4)
    for nats, sizes in ((np.zeros(2), [1]), (np.zeros(3), [1, 2]), (np.zeros(2), [1, 2, 3])):
        with pytest.raises(ValueError, match="expected one value a window"):
            document_tallies(windows, nats, sizes)
