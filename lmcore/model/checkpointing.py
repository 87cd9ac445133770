"""Activation checkpointing: a block keeps its input alone, and is computed again going backward.

Legend: B batch · S sequence · D d_model.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lmcore.errors import InputError
from lmcore.model.attention import Attention
from lmcore.model.block import Block, transformer_block
from lmcore.model.config import ModelConfig
from lmcore.model.positions import RotaryTables


def checkpointed(block: Block = transformer_block) -> Block:
    r"""The same block, which forgets what it computed until its gradient is wanted.

    .. math:: \text{memory: } L\,A \to L\,BSD + A, \qquad \text{work: } 3F \to 4F

    A is what a block keeps for the backward pass, F a forward pass. Going backward, each block is
    run a second time from its input: the same kernels on the same numbers, so that loss and
    gradients are those of the plain block, eager to the last bit. Under `torch.no_grad` nothing is
    kept and nothing is run twice.

    Args:
      block: `transformer_block`, or one that `torch.compile` made; it draws nothing at random, for
        dropout's factors are given to it.

    Returns:
      A block, for `forward` and `hidden_states`; of float32 residuals it keeps 4 BSD bytes.

    Raises:
      InputError: when it is run under `torch.func`, which cannot hold back what autograd saves.

    Example:
      >>> from lmcore.model.init import init_params
      >>> from lmcore.model.transformer import forward
      >>> config, ids = ModelConfig(vocab_size=9, d_model=8, n_heads=2), torch.tensor([[1, 2, 3]])
      >>> params = init_params(config, seed=0)
      >>> plain = forward(params, config, ids)
      >>> torch.equal(forward(params, config, ids, block=checkpointed()), plain)
      True

    References:
      Chen et al., 2016, Training Deep Nets with Sublinear Memory Cost, section 4.
    """

    def call(
        params: Mapping[str, Tensor],
        config: ModelConfig,
        x: Tensor,
        *,
        rotary: RotaryTables | tuple[Tensor, Tensor] | None = None,
        positions: Tensor | None = None,
        attention: Attention,
        dropout: Tensor | None = None,
    ) -> Tensor:
        if _under_torch_func():
            raise InputError(
                "activation checkpointing does not work under torch.func: differentiate by "
                "lmcore.training.lean_gradient.grad_and_value, or give the plain transformer_block"
            )
        return checkpoint(
            block,
            params,
            config,
            x,
            use_reentrant=False,
            preserve_rng_state=False,
            rotary=rotary,
            positions=positions,
            attention=attention,
            dropout=dropout,
        )

    return call


def _under_torch_func() -> bool:
    """Whether a transform of `torch.func` is at work; torch offers no public way to ask."""
    return torch._C._functorch.maybe_current_level() is not None  # type: ignore[attr-defined]
