"""One digest for a whole state: which numbers it holds, whatever file or device holds them."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def tensors_digest(tensors: "Mapping[str, Tensor]") -> str:
    """SHA-256 over names, dtypes, shapes and bytes, in the order of the names.

    Two states have one digest exactly when they are equal bit for bit: NaNs with other payloads
    and zeros of other signs differ. Device, strides and the order of the mapping do not count.

    Args:
      tensors: by name, any dtype and device.

    Returns:
      64 hexadecimal digits.

    Example:
      >>> tensors_digest({"w": torch.zeros(2)}) == tensors_digest({"w": -torch.zeros(2)})
      False
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = resting(tensors[name])
        head = f"{name!r} {str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}\n"
        digest.update(head.encode())
        digest.update(raw_bytes(tensor))
    return digest.hexdigest()


def raw_bytes(tensor: "Tensor") -> memoryview:
    """The bytes of a resting tensor, without a copy."""
    import torch

    return tensor.reshape(-1).view(torch.uint8).numpy().data


def resting(tensor: "Tensor") -> "Tensor":
    """The numbers alone: on the CPU, in one run of memory of its own, without a gradient.

    A tensor that is a window on a larger one (or the head tied to the embedding) is copied:
    safetensors refuses memory that two names share.
    """
    still = tensor.detach().cpu().contiguous()
    whole = still.untyped_storage().nbytes() == still.nbytes
    return still if whole else still.clone()
