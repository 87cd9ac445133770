"""Differentiate by torch.autograd, the lean twin of `torch.func.grad_and_value`.

The readable step is `train_step` with its defaults. Eager on a CPU a run takes its lean twin, which
differs in four arguments. What each bought there, at 1M parameters and a vocabulary of 10,000:

- ``differentiate``: gradients of detached leaves by `torch.autograd.grad`. `torch.func` keeps the
  graph through the backward pass, so that one could differentiate again; here each activation is
  freed as soon as its gradient is known. The same kernels in the same order: the same bits and
  speed, in 0.93 of the memory, and in 0.72 at 10M parameters.
- ``loss_chunk_tokens``: logits of 1,024 tokens at a time, which nobody keeps: 0.6 of the memory.
  And the softmax itself is the gradient, and is written over the logits, which spares two passes
  and two tables.
- ``in_place``: clipping and update write where gradients and state are, and a branch stands for a
  choice number by number: an update of 3.5M parameters takes 10 ms of one thread, not 24.
- ``adamw``: PyTorch's fused kernel, one pass for nine: 2 ms. The whole step takes 400.

Two more are in the readable step too, because they cost it nothing: one product for query, key and
value, rotated and normalised together, and the norm that has a shorter gradient.

Fifty steps of both are within 1e-4 of each other in every parameter
(`tests/lmcore/training/test_lean_gradient.py`). `python -m benchmarks.training --readable` has time
and memory of both, as the sides `lmcore` and `lmcore, torch.func`. Compiled, gradients are the same
graph either way, and the compiler fuses the update; on a CPU a run compiles the blocks alone, and
the rest is this.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lmcore.params import Params, map_params
from lmcore.training.gradient import Rows


def grad_and_value(
    function: Callable[[Params, Rows], tuple[Tensor, Tensor]], *, has_aux: bool
) -> Callable[[Params, Rows], tuple[Params, tuple[Tensor, Tensor]]]:
    r"""Return the function that gives the gradient of ``function`` and its value.

    .. math:: (\theta, x) \mapsto \big(\nabla_\theta f(\theta, x),\; (f(\theta, x), a)\big)

    Args:
      function: from parameters and a batch to a 0-d tensor and something beside it; written in
        operations of torch that autograd knows.
      has_aux: always True; named as in ``torch.func``, whose place this takes.

    Returns:
      A function of the same arguments: gradients by name, in the shapes and dtypes of the
      parameters (zero where ``function`` does not read one), and what ``function`` returned,
      detached. Not differentiable again.

    Example:
      >>> square = grad_and_value(lambda p, x: ((p["w"] ** 2 * x).sum(), x), has_aux=True)
      >>> square({"w": torch.tensor([3.0])}, torch.tensor(2.0))
      ({'w': tensor([12.])}, (tensor(18.), tensor(2.)))

    References:
      Paszke et al., 2017, Automatic differentiation in PyTorch.
    """
    if not has_aux:
        raise ValueError("has_aux is False: the function must return its value and an extra")

    def differentiate(params: Params, rows: Rows) -> tuple[Params, tuple[Tensor, Tensor]]:
        leaves = map_params(lambda param: param.detach().requires_grad_(), params)
        with torch.enable_grad():
            value, aux = function(leaves, rows)
        grads = torch.autograd.grad(value, list(leaves.values()), materialize_grads=True)
        return dict(zip(leaves, grads, strict=True)), (value.detach(), aux.detach())

    return differentiate
