"""Batches that are made on the device, as in our runs on a GPU: the tokens lie there.

So that the step is measured, and not the reading of tokens.

Legend: N tokens · B batch · S sequence.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.training.sides import Work
from lmcore.data.gather import gather_windows, signed_view
from lmcore.errors import InputError

RANDOM_TOKENS = 1 << 22
MOST_TOKENS = 1 << 27  # of a file: a quarter of a GiB


def batches(work: Work) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs and targets of one step after the other, the same for every side.

    Args:
      work: tokens, seed, batch size and number of steps.

    Yields:
      ``[B, S]`` int64 each, contiguous, on the device.

    Raises:
      InputError: see `token_ids`.

    Example:
      >>> work = Work("tiny", "cpu", 2, threads=1, warmup_steps=0, steps=1, blocks=1)
      >>> [inputs.shape for inputs, _ in batches(work)]
      [torch.Size([2, 16])]
    """
    length = work.case.model.context_length
    ids = torch.from_numpy(signed_view(token_ids(work)))
    shape = (work.total_steps, work.batch_size)
    generator = torch.Generator().manual_seed(work.seed + 1)
    starts = torch.randint(len(ids) - length, shape, generator=generator)
    ids, starts = ids.to(work.device), starts.to(work.device)
    for of_step in starts:
        yield gather_windows(ids, of_step, length)


def token_ids(work: Work) -> NDArray[np.uint16]:
    """The tokens, ``[N]``: random ones, or the first 2^27 of a file.

    Raises:
      InputError: the file holds no window, or ids beyond the vocabulary.
    """
    model = work.case.model
    if not work.tokens_file:
        generator = torch.Generator().manual_seed(work.seed)
        ids = torch.randint(model.vocab_size, (RANDOM_TOKENS,), generator=generator)
        return ids.numpy().astype(np.uint16)
    found = np.fromfile(work.tokens_file, dtype="<u2", count=MOST_TOKENS)
    if len(found) <= model.context_length + 1:
        raise InputError(
            f"{work.tokens_file} holds {len(found)} tokens: more than {model.context_length + 1} "
            "are needed; give another file to --tokens"
        )
    if found.max() >= model.vocab_size:
        raise InputError(
            f"{work.tokens_file} has the token id {found.max()}: the model of size {work.size} "
            f"knows {model.vocab_size}; choose another --size, or another file for --tokens"
        )
    return found.astype(np.uint16)
