"""Tensors that share memory, and the in-place writes that PyTorch refuses because of it."""

from __future__ import annotations

from typing import Any

from taimatsu.errors import OperationError
from taimatsu.ir.meta import Meta
from taimatsu.recorder.base import TensorBase
from taimatsu.shapes import is_dense

# Writes of values that do not depend on the order of the elements: repeated ones may take them.
REPEATABLE = frozenset(
    {"fill", "zero", "masked_fill", "index_put", "index_fill", "fill_diagonal", "tril", "triu"}
)
_NO_ALIAS = frozenset(
    {
        "index_put",
        "index_copy",
        "index_add",
        "index_fill",
        "index_reduce",
        "put",
        "scatter",
        "scatter_add",
        "scatter_reduce",
    }
)
_UNCHECKED = frozenset({"masked_fill", "masked_scatter"})


def repeated_dims(described: Meta) -> tuple[int, ...]:
    """The dimensions along which every element is the same one in memory."""
    pairs = zip(described.shape, described.strides, strict=True)
    return tuple(d for d, (extent, stride) in enumerate(pairs) if stride == 0 and extent > 1)


def refuse_repeated(target: TensorBase, name: str) -> None:
    """PyTorch's error for a write to elements that are one in memory (after ``expand``)."""
    described = target._meta
    if described.contiguous or name in REPEATABLE or not repeated_dims(described):
        return
    raise OperationError.make(
        name + "_",
        "unsupported operation: more than one element of the written-to tensor refers to a single "
        "memory location. Please clone() the tensor before performing the operation.",
    )


def refuse_overlap(target: TensorBase, given: Any, name: str) -> None:
    """PyTorch's error for arguments that partly share memory with the tensor written.

    The very same elements in the same order may be read, but by scatters. Only tensors that fill
    a span of memory are looked at, as in PyTorch.
    """
    if name in _UNCHECKED:
        return
    for other in given:
        if not isinstance(other, TensorBase) or other._storage is not target._storage:
            continue
        same = _same_elements(target, other)
        if (same and name in _NO_ALIAS) or (not same and _spans_meet(target, other)):
            raise OperationError.make(
                name + "_",
                "unsupported operation: some elements of the input tensor and the written-to "
                "tensor refer to a single memory location. Please clone() the tensor before "
                "performing the operation.",
            )


def _same_elements(a: TensorBase, b: TensorBase) -> bool:
    if a._offset != b._offset:
        return False
    return a._meta is b._meta or (
        a._meta.numel == b._meta.numel
        and a._meta.strides == b._meta.strides
        and is_dense(a._meta.shape, a._meta.strides)
        and is_dense(b._meta.shape, b._meta.strides)
    )


def _spans_meet(a: TensorBase, b: TensorBase) -> bool:
    if not a._meta.numel or not b._meta.numel:
        return False
    if a._offset >= b._offset + b._meta.numel or b._offset >= a._offset + a._meta.numel:
        return False
    return all(is_dense(t._meta.shape, t._meta.strides) for t in (a, b))
