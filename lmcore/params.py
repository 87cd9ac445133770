"""Parameters are a flat dict from name to tensor; here is their small algebra.

Gradients and the optimizer's moments have the same names and shapes, so they are ``Params`` too.
A whole training state is a NamedTuple that nests such dicts: `flatten` makes it one flat dict
(what a checkpoint file holds) and `unflatten` is its inverse.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from lmcore.errors import InputError

Params = dict[str, Tensor]

State = TypeVar("State")

# Parameter names hold dots, so the path through a state is joined by something else.
SEPARATOR = "/"


def map_params(function: Callable[[Tensor], Tensor], params: Mapping[str, Tensor]) -> Params:
    """Apply ``function`` to each tensor; the names and their order stay.

    Args:
      function: from tensor to tensor, called once a name.
      params: name to tensor, any shapes and dtypes.

    Returns:
      A new dict; ``params`` itself is not changed.

    Example:
      >>> map_params(lambda w: 2 * w, {"w": torch.tensor([1.0, 2.0])})
      {'w': tensor([2., 4.])}
    """
    return {name: function(tensor) for name, tensor in params.items()}


def zip_params(
    function: Callable[..., Tensor], first: Mapping[str, Tensor], *others: Mapping[str, Tensor]
) -> Params:
    r"""Apply ``function`` to the tensors that share a name: ``out[n] = function(first[n], ...)``.

    Args:
      function: takes one tensor from each dict, in the order of the arguments.
      first: name to tensor; its order is the order of the result.
      others: dicts with exactly the names of ``first``.

    Returns:
      A new dict with the names of ``first``.

    Raises:
      ValueError: when the names differ (a bug in the caller, not a user's error).

    Example:
      >>> zip_params(lambda w, g: w - 0.5 * g, {"w": torch.ones(2)}, {"w": torch.ones(2)})
      {'w': tensor([0.5000, 0.5000])}
    """
    for other in others:
        if other.keys() != first.keys():
            names = sorted(other.keys() ^ first.keys())
            raise ValueError(f"the dicts must hold the same names; only some hold {names}")
    return {name: function(tensor, *(o[name] for o in others)) for name, tensor in first.items()}


def global_norm(params: Mapping[str, Tensor]) -> Tensor:
    r"""Euclidean norm of all tensors taken as one long vector.

    .. math:: \lVert p \rVert = \sqrt{\textstyle\sum_n \lVert p_n \rVert_2^2}

    The sum runs over the names in sorted order, so that the last bit does not depend on the
    order of the dict.

    Args:
      params: name to tensor, any shapes; low-precision tensors are summed in float32.

    Returns:
      0-d tensor, float32 (float64 where a tensor is float64); zero for an empty dict. The
      squares are held in that dtype: in float32 an entry below 1e-22 counts as zero.

    Example:
      >>> global_norm({"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]])})
      tensor(5.)

    References:
      Pascanu, Mikolov and Bengio, 2013, On the difficulty of training recurrent neural
      networks, algorithm 1 (the norm that is clipped).
    """
    if not params:
        return torch.zeros(())
    return torch.linalg.vector_norm(torch.stack([_norm(params[name]) for name in sorted(params)]))


def _norm(tensor: Tensor) -> Tensor:
    """The 2-norm of one tensor, accumulated in float32 at least: of rows, then of their norms.

    PyTorch's eager kernel on a CPU adds squares one after the other, and rounds: the norm of four
    million numbers was 4e-4 too small. Over rows, and then over their norms, it is off by 1e-6.
    """
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    if tensor.ndim > 1:
        tensor = torch.linalg.vector_norm(tensor, dim=-1, dtype=dtype)
    return torch.linalg.vector_norm(tensor, dtype=dtype)


def count(params: Mapping[str, Tensor]) -> int:
    """Number of scalars in all tensors.

    Args:
      params: name to tensor, any shapes.

    Returns:
      The sum of the tensors' sizes; 0 for an empty dict.

    Example:
      >>> count({"w": torch.zeros(3, 4), "b": torch.zeros(3)})
      15
    """
    return sum(tensor.numel() for tensor in params.values())


def flatten(state: object) -> Params:
    """Lay a nested state out as one flat dict from path to tensor.

    Fields of a NamedTuple and keys of a dict become parts of the path, joined by ``/``:
    ``optimizer/exp_avg/layers.0.ln1.weight``. ``None`` stands for an absent part and vanishes.

    Args:
      state: a NamedTuple or dict (str keys without ``/``), nested at will, of tensors of any
        shape, 0-d included.

    Returns:
      Path to tensor, depth first in field order; the tensors are the same objects.

    Raises:
      TypeError: for a leaf that is no tensor (a Python number would lose its dtype in a file)
        or a key that cannot be a part of a path.

    Example:
      >>> flatten({"step": torch.tensor(3), "params": {"w": torch.ones(2)}})
      {'step': tensor(3), 'params/w': tensor([1., 1.])}
    """
    if isinstance(state, Tensor):
        raise TypeError("flatten takes a NamedTuple or a dict of tensors, not a single tensor")
    return dict(_leaves(state, ""))


def unflatten(like: State, flat: Mapping[str, Tensor]) -> State:
    """Rebuild a state from `flatten`'s dict: ``unflatten(state, flatten(state)) == state``.

    Args:
      like: a state of the wanted structure, shapes and dtypes; its values are not read, so
        tensors on the ``meta`` device do.
      flat: path to tensor, in any order, on any device.

    Returns:
      A state of the type of ``like`` that holds the tensors of ``flat`` themselves.

    Raises:
      InputError: when paths are missing or unknown, or a shape or dtype differs; every
        fault is named.

    Example:
      >>> unflatten({"params": {"w": torch.zeros(2)}}, {"params/w": torch.ones(2)})
      {'params': {'w': tensor([1., 1.])}}
    """
    faults = _flat_faults(flatten(like), flat)
    if faults:
        raise InputError(
            "the stored tensors are not those of this state: "
            + "; ".join(faults)
            + "; load it with the configuration that it was saved with"
        )
    return _rebuild(like, flat, "")


def _flat_faults(expected: Params, flat: Mapping[str, Tensor]) -> list[str]:
    """Everything that keeps ``flat`` from being the state with the tensors ``expected``."""
    faults = [f"{path} is missing" for path in expected if path not in flat]
    faults += [f"{path} is unknown" for path in flat if path not in expected]
    for path in expected.keys() & flat.keys():
        want, got = expected[path], flat[path]
        if (want.shape, want.dtype) != (got.shape, got.dtype):
            faults.append(
                f"{path} must be {want.dtype} of shape {tuple(want.shape)}, "
                f"not {got.dtype} of shape {tuple(got.shape)}"
            )
    return sorted(faults)


def _children(node: object, path: str) -> Iterator[tuple[str, object]]:
    """The named parts of one NamedTuple or dict."""
    fields = getattr(node, "_fields", None)
    if isinstance(node, tuple) and fields is not None:
        yield from zip(fields, node, strict=True)
    elif isinstance(node, Mapping):
        for key, value in cast(Mapping[Any, object], node).items():
            if not isinstance(key, str) or SEPARATOR in key:
                raise TypeError(f"{path!r} has the key {key!r}: it must be a str without '/'")
            yield key, value
    else:
        raise TypeError(
            f"{path or 'the state'} is a {type(node).__name__}: it must be a tensor, None, a "
            "NamedTuple or a dict; store a number as a 0-d tensor"
        )


def _leaves(node: object, path: str) -> Iterator[tuple[str, Tensor]]:
    """Depth first through the state, as (path, tensor)."""
    if isinstance(node, Tensor):
        yield path, node
    elif node is not None:
        for name, child in _children(node, path):
            yield from _leaves(child, f"{path}{SEPARATOR}{name}" if path else name)


def _rebuild(like: Any, flat: Mapping[str, Tensor], path: str) -> Any:
    """``like`` with each tensor replaced by the one that ``flat`` holds for its path."""
    if like is None:
        return None
    if isinstance(like, Tensor):
        return flat[path]
    prefix = f"{path}{SEPARATOR}" if path else ""
    parts = {name: _rebuild(part, flat, prefix + name) for name, part in _children(like, path)}
    return type(like)(**parts) if isinstance(like, tuple) else parts
