"""One digest for a state."""

import hashlib
import struct

import pytest
import torch

from flows.formats.tensor_digest import resting, tensors_digest


def test_known_answer():
    """The digest is SHA-256 of the bytes that its definition spells out."""
    state = {"b": torch.tensor([[1.0, -2.0]]), "a": torch.tensor(3)}
    spelled = b"'a' int64 ()\n" + struct.pack("<q", 3)
    spelled += b"'b' float32 (1, 2)\n" + struct.pack("<2f", 1.0, -2.0)
    assert tensors_digest(state) == hashlib.sha256(spelled).hexdigest()


@pytest.mark.parametrize(
    "other",
    [
        {"v": torch.zeros(4)},
        {"w": torch.zeros(2, 2)},
        {"w": torch.zeros(4, dtype=torch.int32)},
        {"w": -torch.zeros(4)},
        {"w": torch.zeros(4), "x": torch.zeros(0)},
        {},
    ],
    ids=["name", "shape", "dtype", "sign of zero", "another tensor", "none"],
)
def test_every_difference_counts(other):
    """Names, shapes, dtypes and every bit are in the digest."""
    assert tensors_digest({"w": torch.zeros(4)}) != tensors_digest(other)


def test_layout_does_not_count():
    """Order of names, strides, gradients and shared memory leave the digest as it is."""
    square = torch.arange(6.0).reshape(2, 3)
    plain = {"a": square.T.clone(memory_format=torch.contiguous_format), "b": torch.ones(2)}
    odd = {"b": torch.ones(5)[1:3].requires_grad_(), "a": square.T}
    assert tensors_digest(plain) == tensors_digest(odd)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.bfloat16, torch.float16, torch.bool, torch.uint8, torch.int64]
)
def test_every_dtype_has_a_digest(dtype):
    """Equal tensors of any dtype agree, and one other element disagrees."""
    one, two = torch.tensor([0, 1], dtype=dtype), torch.tensor([1, 1], dtype=dtype)
    assert tensors_digest({"w": one}) == tensors_digest({"w": one.clone()})
    assert tensors_digest({"w": one}) != tensors_digest({"w": two})


def test_resting_copies_only_windows():
    """A tensor with memory of its own is not copied; a window on a larger one is."""
    whole = torch.ones(4)
    assert resting(whole).data_ptr() == whole.data_ptr()
    assert resting(whole[:2]).data_ptr() != whole.data_ptr()
