"""Coordinates in lowering rules: clamps, flat positions, places that the data says, numbers.

A coordinate is an ``Index`` where the program knows it, an int64 ``Expression`` where the data
says it. Indices are kept wherever possible: loops over them can be split and vectorised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taimatsu.ir.builder import Builder, Extent
from taimatsu.ir.expression import FLOATS, SIZES, Expression
from taimatsu.ir.index import Index, bounds, index, is_below, minimum
from taimatsu.ir.stages import Stage, View

Coordinate = Index | Expression
Source = Stage | View
HALVES = ("float16", "bfloat16")


def replaced(where: Sequence[Any], dim: int, value: Any) -> tuple:
    """The coordinates (or extents) with the one of a dimension replaced."""
    return (*where[:dim], value, *where[dim + 1 :])


def clamped(at: Index | int, extent: Extent) -> Index:
    """An index moved to the nearest one below an extent that is not 0."""
    at, extent = index(at), index(extent)
    if is_below(at, extent):
        return at
    return minimum(-minimum(-at, 0), extent - 1)


def within(b: Builder, at: Index | int, extent: Extent) -> Expression:
    """Whether an index is one of an extent; a constant where that is certain."""
    at, extent = index(at), index(extent)
    if is_below(at, extent):
        return b.constant(True, "bool")
    conditions = []
    low, _ = bounds(at)
    if low is None or low < 0:
        conditions.append(b.index(at) >= 0)
    if minimum(at, extent - 1) != at:
        conditions.append(b.index(at) < b.index(extent))
    return all_of(b, conditions)


def all_of(b: Builder, conditions: Sequence[Expression]) -> Expression:
    """Whether all conditions hold; true for none."""
    needed = [c for c in conditions if c.op != "constant" or not c.detail]
    if not needed:
        return b.constant(True, "bool")
    total = needed[0]
    for condition in needed[1:]:
        total = total & condition
    return total


def chosen(b: Builder, condition: Expression, x: Any, y: Any) -> Any:
    """``x`` where the condition holds, else ``y``; decided now for a constant condition."""
    if condition.op == "constant":
        return x if condition.detail else y
    return b.where(condition, x, y)


def is_empty(shape: Sequence[Extent]) -> bool:
    """Whether an extent is known to be 0 (extents that are symbols never are)."""
    return any(index(n) == 0 for n in shape)


def filled_stage(b: Builder, shape: Sequence[Extent], value: Any, dtype: str) -> Stage:
    """An array of one constant."""
    return b.map(shape, dtype, lambda *i: b.constant(value, dtype))


# -- flat positions --------------------------------------------------------------------------


def count_of(shape: Sequence[Extent]) -> Index:
    """The number of elements."""
    total = index(1)
    for n in shape:
        total = total * n
    return total


def ravel(where: Sequence[Index], shape: Sequence[Extent]) -> Index:
    """The row-major position of an element."""
    total = index(0)
    for at, n in zip(where, shape, strict=True):
        total = total * n + at
    return total


def unravel(b: Builder, position: Coordinate, shape: Sequence[Extent]) -> tuple[Coordinate, ...]:
    """The coordinates of the element at a row-major position (not negative)."""
    if type(position) is Index and position == 0:
        return (index(0),) * len(shape)
    made: list[Coordinate] = []
    step = index(1)
    for d in range(len(shape) - 1, -1, -1):
        n = index(shape[d])
        if n == 1:
            made.append(index(0))
            continue
        at = _quotient(b, position, step)
        outermost = all(index(m) == 1 for m in shape[:d])
        made.append(at if outermost else _remainder(b, at, n))
        step = step * n
    return tuple(reversed(made))


def _quotient(b: Builder, at: Coordinate, by: Index) -> Coordinate:
    if type(at) is Index:
        return at // by
    return at if by == 1 else b.binary("floordiv", at, b.index(by))


def _remainder(b: Builder, at: Coordinate, by: Index) -> Coordinate:
    return at % by if type(at) is Index else b.binary("modulo", at, b.index(by))


def modulo(b: Builder, at: Index, shift: int, extent: Index) -> Coordinate:
    """``(at + shift) % extent``, for an index below the extent and a shift of any sign."""
    if extent == 1:
        return index(0)
    if extent.is_constant:
        return (at + shift % extent.value()) % extent
    return b.binary("modulo", b.index(at + shift), b.index(extent))


# -- broadcasting ----------------------------------------------------------------------------


def broadcast_extents(shapes: Sequence[Sequence[Index]]) -> tuple[Index, ...]:
    """The shape that shapes broadcast to, which they are known to do."""
    ndim = max((len(s) for s in shapes), default=0)
    made = []
    for d in range(-ndim, 0):
        extents = [s[d] for s in shapes if len(s) >= -d]
        made.append(next((n for n in extents if n != 1), index(1)))
    return tuple(made)


def broadcast_at(source: Source, where: Sequence[Coordinate]) -> Expression:
    """The element that a source has at a place in a shape which it broadcasts to."""
    mine = where[len(where) - len(source.shape) :]
    pairs = zip(mine, source.shape, strict=True)
    return source[tuple([index(0) if n == 1 else at for at, n in pairs])]


# -- places that the data says ---------------------------------------------------------------


class Places:
    """Coordinates that index tensors give: moved inside, with the conditions that they were."""

    def __init__(self, b: Builder) -> None:
        self.b = b
        self.conditions: list[Expression] = []

    def place(self, value: Expression, extent: Extent, negative: bool = False) -> Coordinate:
        """An index value as a coordinate; ``negative`` ones count from the end if so allowed."""
        b = self.b
        value = b.cast(value, "int64")
        if negative:
            value = b.where(value < 0, value + b.index(index(extent)), value)
        self.conditions.append(b.inside(value, extent))
        if index(extent) == 1:
            return index(0)
        return b.max(b.min(value, b.index(index(extent) - 1)), 0)

    def check(self, stage: Stage, message: str) -> Stage:
        """Makes a launch fail unless all places were inside, in the stage that goes by them."""
        return self.b.check(stage, self.conditions, message)


# -- numbers and dtypes ----------------------------------------------------------------------


def converted(b: Builder, x: Any, dtype: str) -> Expression:
    """A value (or a Python number) in another dtype by PyTorch's rules: fractions are cut off,
    what does not fit a small integer type keeps its low bits.
    """
    if not isinstance(x, Expression):
        x = b.constant(x, "float64" if isinstance(x, float) else "int64")
    if x.dtype in FLOATS and dtype not in FLOATS and dtype != "bool" and SIZES[dtype] < 4:
        x = b.cast(x, "int64")
    return b.cast(x, dtype)


def element(b: Builder, source: Any, where: Sequence[Coordinate], dtype: str) -> Expression:
    """An element of what broadcasts (an array or a number), in a dtype."""
    if isinstance(source, (Stage, View)):
        return converted(b, broadcast_at(source, where), dtype)
    return converted(b, source, dtype)


def wide(dtype: str) -> str:
    """The dtype to add up in: float32 for the 16-bit floats."""
    return "float32" if dtype in HALVES else dtype


def in_dtype(b: Builder, source: Source, dtype: str) -> Source:
    """The array in another dtype; itself where it has it."""
    if source.dtype == dtype:
        return source
    return b.map(source.shape, dtype, lambda *i: b.cast(source[i], dtype))


def adding(dtype: str) -> str:
    """What a scatter adds by: booleans are joined by "or"."""
    return "max" if dtype == "bool" else "add"


def multiplying(dtype: str) -> str:
    """What a scatter multiplies by: booleans are joined by "and"."""
    return "min" if dtype == "bool" else "mul"
