"""Batches that are made on the device: token ids lie there, and windows are gathered.

So that the step is measured, and not the reading of tokens.

Legend: N tokens · B batch · S sequence.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from benchmarks.sides import Work
from lmcore.errors import InputError

RANDOM_TOKENS = 1 << 22
MOST_TOKENS = 1 << 27  # of a file: half a GiB as int32


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
    ids = token_ids(work)
    shape = (work.total_steps, work.batch_size)
    generator = torch.Generator().manual_seed(work.seed + 1)
    starts = torch.randint(len(ids) - length, shape, generator=generator)
    ids, starts = ids.to(work.device), starts.to(work.device)
    offsets = torch.arange(length + 1, device=work.device)
    for of_step in starts:
        windows = ids[of_step[:, None] + offsets].long()  # [B, S + 1]
        yield windows[:, :-1].contiguous(), windows[:, 1:].contiguous()


def token_ids(work: Work) -> Tensor:
    """The tokens, ``[N]`` int32 on the CPU: random ones, or the first 2^27 of a file.

    Raises:
      InputError: the file holds no window, or ids beyond the vocabulary.
    """
    model = work.case.model
    if not work.tokens_file:
        generator = torch.Generator().manual_seed(work.seed)
        return torch.randint(
            model.vocab_size, (RANDOM_TOKENS,), generator=generator, dtype=torch.int32
        )
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
    return torch.from_numpy(found.astype(np.int32))
