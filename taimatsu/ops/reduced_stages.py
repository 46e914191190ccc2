"""What lowering rules of reductions share: operands in the dtype computed in, folds, counts.

``fold`` is to stages what ``rows`` and a NumPy reduction are to references.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from taimatsu.ir.builder import Builder, Extent
from taimatsu.ir.expression import FLOATS, Expression, cast
from taimatsu.ir.index import Index, index
from taimatsu.ir.stages import Stage, View
from taimatsu.ops.coordinates import Source, count_of

Dim = tuple[int, ...] | None


class ConvertedView(View):
    """A view whose elements are cast as they are read: what the rules of ``Wide`` get."""

    __slots__ = ("memory_dtype",)

    def __init__(self, view: View, dtype: str) -> None:
        super().__init__(view.stage, view.shape, dtype, view.coordinates)
        self.meta = view.meta
        self.memory_dtype = view.dtype

    def __getitem__(self, where: Any) -> Expression:
        as_stored = View(self.stage, self.shape, self.memory_dtype, self.coordinates)
        return cast(as_stored[where], self.dtype)


def converted_view(x: Any, dtype: str) -> Any:
    """An operand read in a dtype; what is no view (a number, None) stays."""
    if not isinstance(x, View) or x.dtype == dtype:
        return x
    return ConvertedView(x, dtype)


def in_result_dtype(b: Builder, made: Source, dtype: str) -> Source:
    """A rule's result, rounded to the dtype that was inferred."""
    if isinstance(made, ConvertedView):
        made = b.stage(made)
    if made.dtype == dtype:
        return made
    return b.map(made.shape, dtype, lambda *i: b.cast(made[i], dtype))


# -- shapes ------------------------------------------------------------------------------------


def reduced_extents(
    shape: Sequence[Index], dim: Dim, keepdim: bool
) -> tuple[tuple[Index, ...], tuple[Index, ...]]:
    """The extents that are left when ``dim`` (None: all) is reduced, and the reduced ones."""
    reduced = range(len(shape)) if dim is None else dim
    over = tuple([shape[d] for d in reduced])
    if keepdim:
        return tuple([index(1) if d in reduced else n for d, n in enumerate(shape)]), over
    return tuple([n for d, n in enumerate(shape) if d not in reduced]), over


def full_place(ndim: int, dim: Dim, keepdim: bool, i: Sequence[Any], r: Sequence[Any]) -> tuple:
    """Where the element ``r`` of those stands that go into the element ``i`` of the result."""
    inner, outer = iter(r), iter(i)
    made = []
    for d in range(ndim):
        if dim is None or d in dim:
            made.append(next(inner))
            if keepdim:
                next(outer)
        else:
            made.append(next(outer))
    return tuple(made)


def reduced_place(dim: Dim, keepdim: bool, where: Sequence[Any]) -> tuple:
    """Where in the result an element goes into: the inverse of ``full_place``."""
    made = []
    for d, at in enumerate(where):
        if dim is None or d in dim:
            if keepdim:
                made.append(index(0))
        else:
            made.append(at)
    return tuple(made)


# -- folds -------------------------------------------------------------------------------------


def fold(
    b: Builder,
    combine: str,
    x: Source,
    dim: Dim,
    keepdim: bool,
    element: Callable[..., Expression] | None = None,
    dtype: str = "",
) -> Stage:
    """``x`` combined over ``dim`` (None: all).

    Args:
        element: of an element's place, what is combined; the element itself unless given.
        dtype: of the result; that of ``x`` unless given.
    """
    shape, over = reduced_extents(x.shape, dim, keepdim)
    ndim = len(x.shape)
    kind = dtype or x.dtype

    def at(i: tuple, r: tuple) -> Expression:
        where = full_place(ndim, dim, keepdim, i, r)
        return x[where] if element is None else element(*where)

    if over:
        return b.reduce(combine, shape, over, kind, at)
    if combine in ("argmax", "argmin"):
        return b.map(shape, kind, lambda *i: b.constant(0, kind))
    return b.map(shape, kind, lambda *i: at(i, ()))


def count_value(b: Builder, extents: Sequence[Extent], dtype: str) -> Expression:
    """A number of elements, as a value of a dtype."""
    return value_of(b, count_of(extents), dtype)


def value_of(b: Builder, extent: Extent, dtype: str) -> Expression:
    """An index as a value of a dtype: a constant where it is known."""
    extent = index(extent)
    if extent.is_constant:
        return b.constant(extent.value(), dtype)
    return b.cast(b.index(extent), dtype)


def mean_of(b: Builder, x: Source, dim: Dim, keepdim: bool) -> Stage:
    """The arithmetic mean of floats over ``dim``: the sum by the number of elements."""
    total = fold(b, "add", x, dim, keepdim)
    _, over = reduced_extents(x.shape, dim, keepdim)
    size = count_value(b, over, x.dtype)
    return b.map(total.shape, x.dtype, lambda *i: total[i] / size)


def greatest(dtype: str) -> str:
    """What finds the largest element: of booleans whether one is true."""
    return "or" if dtype == "bool" else "max"


def least(dtype: str) -> str:
    """What finds the smallest element: of booleans whether all are true."""
    return "and" if dtype == "bool" else "min"


def ordered(b: Builder, value: Expression) -> Expression:
    """A value that can be compared by size: booleans as numbers."""
    return b.cast(value, "uint8") if value.dtype == "bool" else value


def is_float(x: Source) -> bool:
    """Whether the elements may be nan."""
    return x.dtype in FLOATS
