"""Operations whose result is one of the elements: max, median, mode, kthvalue.

Their gradients go back to the elements chosen: along a dimension to the one whose index is
returned, over all elements evenly to those equal to the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from taimatsu import dtypes
from taimatsu.dtypes import dtype as DType
from taimatsu.errors import OperationError
from taimatsu.ir.meta import Meta, meta
from taimatsu.ops.base import Operation
from taimatsu.ops.reducing import Wide, check_not_empty, reduced_shape, restore, rows


def shared_evenly(g: Any, chosen: Any, dim: tuple[int, ...] | None) -> Any:
    """``g`` in equal parts to the elements that ``chosen`` marks, for each result apart."""
    mask = chosen.to(g.dtype)
    if dim is None:
        return g * mask / mask.sum()
    if dim == ():
        return g * mask
    return g * mask / mask.sum(dim, keepdim=True)


def check_ordered(name: str, kernel: str, dtype: DType) -> None:
    """NotImplementedError for complex numbers, which have no order; as PyTorch's ``kernel``."""
    if kernel and dtype.is_complex:
        raise OperationError.make(
            name,
            f"\"{kernel}\" not implemented for '{dtype.scalar_type}'",
            hint="x.abs() or x.real can be compared",
            kind=NotImplementedError,
        )


def gradient_to_chosen(
    g: Any, index: Any, shape: tuple[int, ...], dim: tuple[int, ...], keepdim: bool
) -> Any:
    """Zeros of ``shape`` with ``g`` at the positions ``index`` along the one reduced dim."""
    if g is None:
        return None
    if not dim:
        return g
    zeros = g.new_zeros(shape)
    return zeros.scatter(dim[0], restore(index, dim, keepdim), restore(g, dim, keepdim))


class WholeChoice(Operation, abstract=True):
    """One element of all, without its position: ties share the gradient evenly."""

    hidden = True
    methods = ()
    saves = ("input", "out")
    kernel = ""  # the name in PyTorch's message that complex numbers have no order

    def infer(self, input: Meta) -> Meta:
        check_ordered(self.name.removesuffix("_all"), self.kernel, input.dtype)
        return meta((), input.dtype)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        chosen = input == out
        if input.dtype.is_floating_point:
            chosen = chosen | (input.isnan() & out.isnan())
        return shared_evenly(g, chosen, None)


class Choice(Wide, abstract=True):
    """One element along one dimension: (values, indices)."""

    hidden = True
    methods = ()
    outputs = 2
    saves = ("out[1]",)
    public = ""  # the name in messages
    kernel = ""  # that in PyTorch's message that complex numbers have no order

    # Medians, modes and k-th values have no lowering: they need lines in order.

    def pick(self, x: np.ndarray, **options: Any) -> np.ndarray:
        """The chosen positions in the last axis, which disappears."""
        raise NotImplementedError

    def infer(
        self, input: Meta, *, dim: tuple[int, ...], keepdim: bool, **options: Any
    ) -> tuple[Meta, Meta]:
        check_not_empty(self.public, input, dim)
        check_ordered(self.public, self.kernel, input.dtype)
        shape = reduced_shape(input.shape, dim, keepdim)
        return meta(shape, input.dtype), meta(shape, dtypes.int64)

    def reference(
        self, input: np.ndarray, *, dim: tuple[int, ...], keepdim: bool, **options: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        lines = rows(input, dim)
        index = np.asarray(self.pick(lines, **options))
        values = np.take_along_axis(lines, index[..., None], -1)
        shape = reduced_shape(input.shape, dim, keepdim)
        return values.reshape(shape), index.reshape(shape)

    def gradient(
        self, g: tuple, out: tuple, input: Meta, *, dim: Any, keepdim: bool, **options: Any
    ) -> Any:
        return gradient_to_chosen(g[0], out[1], input.shape, dim, keepdim)
