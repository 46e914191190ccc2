"""Copies of a tensor with a region of it replaced: a slice, a diagonal, any strided part."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

from taimatsu.ir.meta import Meta, meta
from taimatsu.ops.base import Sample, array, register
from taimatsu.ops.elementwise import FLOATS
from taimatsu.ops.regions import RegionScatter
from taimatsu.ops.view_base import shape_arguments
from taimatsu.ops.views import Diagonal
from taimatsu.shapes import contiguous_strides, normalize_axis


class Scatter(type(RegionScatter)):  # type: ignore[misc]
    """Base: ``input``'s copy with the elements of a view of it replaced by ``src``."""

    name = "scatter_into_view"
    hidden = True

    boxed = True  # see RegionScatter

    def into(self, input: Any, src: Any, view: Meta, start: int) -> Any:
        """Records the write of ``src`` where ``view`` (over row-major strides) sees."""
        if src.shape != view.shape:
            raise self.error(
                "expected src to have a size equal to the slice of self. "
                f"src size = {list(src.shape)}, slice size = {list(view.shape)}"
            )
        return self.apply(input, src, start, stride=view.strides, boxed=self.boxed)


def _select_samples() -> Iterator[Sample]:
    yield Sample(array(2, 3), array(3, seed=1), 0, 1, dtypes=FLOATS)
    yield Sample(array(2, 3), array(2, seed=1), -1, -1)


@register
class SelectScatter(Scatter):
    """A copy of ``input`` whose slice at ``index`` along ``dim`` is ``src``."""

    name = "select_scatter"
    hidden = False
    functions = methods = ("select_scatter",)
    samples = staticmethod(_select_samples)

    def __call__(self, input: Any, src: Any, dim: int, index: int) -> Any:
        if input.ndim == 0:
            raise self.error("select() cannot be applied to a 0-dim tensor.", kind=IndexError)
        dim = normalize_axis(dim, input.ndim)
        shape, strides = tuple(input.shape), contiguous_strides(input.shape)
        if not -shape[dim] <= index < shape[dim]:
            raise self.error(
                f"select(): index {index} out of range for tensor of size {list(shape)} at "
                f"dimension {dim}",
                kind=IndexError,
            )
        view = meta(shape[:dim] + shape[dim + 1 :], input.dtype, strides[:dim] + strides[dim + 1 :])
        return self.into(input, src, view, index % shape[dim] * strides[dim])


def _slice_samples() -> Iterator[Sample]:
    yield Sample(array(4, 3), array(2, 3, seed=1), 0, 1, 3, dtypes=FLOATS)
    yield Sample(array(4, 3), array(4, 2, seed=1), 1, 0, 3, 2)
    yield Sample(array(4, 3), array(4, 3, seed=1))
    yield Sample(array(4, 3), array(4, 1, seed=1), 1, -1, 100)


@register
class SliceScatter(Scatter):
    """A copy of ``input`` whose part ``start:end:step`` along ``dim`` is ``src``."""

    name = "slice_scatter"
    hidden = False
    functions = methods = ("slice_scatter",)
    samples = staticmethod(_slice_samples)

    def __call__(
        self,
        input: Any,
        src: Any,
        dim: int = 0,
        start: int | None = None,
        end: int | None = None,
        step: int = 1,
    ) -> Any:
        dim = normalize_axis(dim, input.ndim)
        if step <= 0:
            raise self.error("slice step must be positive", f"{step}")
        first, last, step = slice(start, end, step).indices(input.shape[dim])
        shape, strides = list(input.shape), list(contiguous_strides(input.shape))
        offset = first * strides[dim]
        shape[dim] = len(range(first, last, step))
        strides[dim] *= step
        return self.into(input, src, meta(shape, input.dtype, tuple(strides)), offset)


def _diagonal_samples() -> Iterator[Sample]:
    yield Sample(array(3, 3), array(3, seed=1), dtypes=FLOATS)
    yield Sample(array(3, 4), array(3, seed=1), 1)
    yield Sample(array(2, 3, 4), array(3, 1, seed=1), -1, 0, 2)


@register
class DiagonalScatter(Scatter):
    """A copy of ``input`` whose diagonal (of ``dim1`` and ``dim2``) is ``src``."""

    name = "diagonal_scatter"
    hidden = False
    functions = methods = ("diagonal_scatter",)
    samples = staticmethod(_diagonal_samples)

    def __call__(self, input: Any, src: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
        first, second = normalize_axis(dim1, input.ndim), normalize_axis(dim2, input.ndim)
        if first == second:
            raise self.error(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
        plain = meta(input.shape, input.dtype)
        where = {"offset": operator.index(offset), "dim1": first, "dim2": second}
        view = Diagonal.layout(plain, **where)
        return self.into(input, src, view, Diagonal.shift(plain, **where))


def _strided_samples() -> Iterator[Sample]:
    yield Sample(array(3, 4), array(2, 2, seed=1), (2, 2), (4, 2), 1, dtypes=FLOATS)
    yield Sample(array(6), array(3, seed=1), (3,), (2,))


@register
class AsStridedScatter(Scatter):
    """A copy of ``input`` with ``src`` at ``storage_offset + sum(index * stride)``."""

    name = "as_strided_scatter"
    hidden = False
    functions = methods = ("as_strided_scatter",)
    boxed = False
    samples = staticmethod(_strided_samples)

    def __call__(
        self, input: Any, src: Any, size: Any, stride: Any, storage_offset: int | None = None
    ) -> Any:
        size, stride = shape_arguments((size,)), shape_arguments((stride,))
        start = 0 if storage_offset is None else operator.index(storage_offset)
        if not input.is_contiguous():
            raise self.error(
                "as_strided_scatter is currently only supported for contiguous inputs",
                f"strides {list(input.stride())}",
                "call .contiguous() first",
            )
        if len(size) != len(stride):
            raise self.error("mismatch in length of strides and shape")
        last = start + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
        if all(size) and last >= input.numel():
            raise self.error(
                f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {start} "
                f"are out of bounds for storage of size {input.numel()} elements"
            )
        return self.into(input, src, meta(size, input.dtype, stride), start)
