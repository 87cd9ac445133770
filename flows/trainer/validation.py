"""The periodic validation of a training run: the same text every time, and only so much of it.

It stands apart from `flows.trainer.scoring`, so that a change in sampling retrains nothing.
"""

import numpy as np
import torch

from flows.formats.token_map import TokenMap
from flows.trainer.job import Job
from lmcore.evaluation.scoring import score_documents
from lmcore.evaluation.tally import Tally, combine
from lmcore.params import Params

# The validation loss of training is taken on the first so many tokens, the same ones every time.
PERIODIC_TOKENS = 32_768

DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def score_beginning(params: Params, job: Job, tokens: TokenMap) -> Tally:
    """Tally of the first documents of the validation text, up to about 32,768 tokens of it.

    The document at the limit is scored by its beginning, its bytes in proportion.
    """
    offsets = tokens.document_offsets
    end = min(int(offsets[-1]), int(offsets[0]) + PERIODIC_TOKENS)
    begun = int(np.searchsorted(offsets, end))  # documents that begin before the end
    inside = np.append(offsets[:begun], end)
    share = np.diff(inside) / np.diff(offsets)[:begun]
    n_bytes = tokens.document_bytes[:begun] * share
    tallies = score_documents(
        params,
        job.model,
        tokens.tokens,
        inside,
        n_bytes.round().astype(np.int64),
        compute_dtype=DTYPES[job.training.precision],
    )
    return combine(tallies)
