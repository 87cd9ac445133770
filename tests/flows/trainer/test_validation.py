"""The periodic validation reads the same beginning of the text every time, and no more."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.formats.token_map import open_token_map
from flows.trainer import validation
from flows.trainer.job import Job
from flows.trainer.validation import score_beginning
from lmcore.evaluation.scoring import score_documents
from lmcore.evaluation.tally import combine
from lmcore.model.init import init_params

NewJob = Callable[..., Job]


def test_short_text_is_read_whole(new_job: NewJob) -> None:
    """A text below the limit is measured as the evaluation measures it."""
    job = new_job()
    valid = open_token_map(Path(job.valid_tokens), verify="size")
    params = init_params(job.model, 0)
    whole = combine(
        score_documents(
            params, job.model, valid.tokens, valid.document_offsets, valid.document_bytes
        )
    )
    assert score_beginning(params, job, valid) == whole


@pytest.mark.parametrize("limit", [1, 50, 700, 1500])
def test_long_text_is_cut_at_the_limit(
    new_job: NewJob, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many tokens as the limit are scored, the cut document's bytes in proportion."""
    monkeypatch.setattr(validation, "PERIODIC_TOKENS", limit)
    job = new_job()
    valid = open_token_map(Path(job.valid_tokens), verify="size")
    tally = score_beginning(init_params(job.model, 0), job, valid)
    offsets, n_bytes = valid.document_offsets, valid.document_bytes
    assert tally.tokens == limit
    expected = np.interp(limit, offsets - offsets[0], np.append(0, np.cumsum(n_bytes)))
    assert tally.bytes == pytest.approx(expected, abs=1.0)


def test_precision_of_training_is_that_of_validation(new_job: NewJob) -> None:
    """A run in bfloat16 is validated in bfloat16."""
    made = new_job()
    job, half = (
        replace(made, training=replace(made.training, precision=precision))
        for precision in ("float32", "bfloat16")
    )
    valid = open_token_map(Path(job.valid_tokens), verify="size")
    # Logits of a head that starts at zero have nothing to round.
    params = init_params(replace(job.model, zero_init_outputs=False), 0)
    exact, rounded = score_beginning(params, job, valid), score_beginning(params, half, valid)
    assert exact.nats != rounded.nats
    assert exact.loss == pytest.approx(rounded.loss, rel=1e-2)  # 8 bits of mantissa
