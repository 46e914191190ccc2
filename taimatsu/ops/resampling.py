"""Linear maps that act on each spatial axis by itself: means over windows, interpolation, borders.

One axis is described by a frozen object whose *taps* say which elements, with which weights, make
up each element of the result. The same table read the other way round is the adjoint, so every
operation here has its gradient, and that gradient its own. Lowering rules have the same table as
formulas: a *reading*.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from taimatsu.errors import OperationError
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage
from taimatsu.ops.base import register
from taimatsu.ops.coordinates import Coordinate, Source, chosen, in_dtype, replaced, wide
from taimatsu.ops.reducing import Wide

Taps = tuple[np.ndarray, np.ndarray]  # (results, taps): element read (-1: none), and its weight
Tap = Index | int
_UNROLLED = 4  # taps that are written out; more are a reduction


class Reading(NamedTuple):
    """The taps of an axis as formulas of the result's position and the tap's number.

    Args:
        taps: how many each result has; up to ``_UNROLLED`` the formulas get ints as numbers.
        place: the element read, inside even where the tap is not present.
        weight: its weight, of any floating dtype; None: 1.
        present: whether there is such a tap; None: always.
    """

    taps: int
    place: Callable[[Index, Tap], Coordinate]
    weight: Callable[[Index, Tap], Expression] | None = None
    present: Callable[[Index, Tap], Expression] | None = None


class Axis:
    """What happens along one axis. Subclasses are frozen dataclasses, so they can be attributes."""

    extent: int  # of the input
    out: int  # of the result

    def taps(self) -> Taps:
        raise NotImplementedError

    def reading(self, b: Builder) -> Reading | None:
        """``taps`` for lowering rules; None: the reference serves."""
        return None

    def adjoint_reading(self, b: Builder) -> Reading | None:
        """For each element of the input the results that it goes into; None: as above."""
        return None


Axes = tuple[Axis, ...]


@lru_cache(maxsize=512)
def _taps(axis: Axis) -> Taps:
    return axis.taps()


@lru_cache(maxsize=512)
def _adjoint_taps(axis: Axis) -> Taps:
    """The taps of the transposed map: for every element, the results it goes into."""
    index, weight = _taps(axis)
    result, tap = np.nonzero(index >= 0)
    source = index[result, tap]
    order = np.argsort(source, kind="stable")
    source, result = source[order], result[order]
    counts = np.bincount(source, minlength=axis.extent)
    first = np.cumsum(counts) - counts
    rank = np.arange(source.size) - first[source]
    width = max(1, int(counts.max(initial=0)))
    back_index = np.full((axis.extent, width), -1)
    back_weight = np.zeros((axis.extent, width))
    back_index[source, rank] = result
    back_weight[source, rank] = weight[index >= 0][order]
    return back_index, back_weight


def _along(x: np.ndarray, taps: Taps, axis: int) -> np.ndarray:
    index, weight = taps
    if index.shape[1] == 1 and (index >= 0).all() and (weight == 1).all():
        return np.take(x, index[:, 0], axis)
    shape = [1] * x.ndim
    shape[axis] = len(index)
    total: Any = None
    for k in range(index.shape[1]):
        present = (index[:, k] >= 0).reshape(shape)
        part = np.take(x, np.maximum(index[:, k], 0), axis)
        part *= weight[:, k].astype(x.dtype).reshape(shape)
        if not present.all():
            part = np.where(present, part, part.dtype.type(0))
        total = part if total is None else np.add(total, part, out=total)
    return total


def resampled(x: np.ndarray, axes: Axes, adjoint: bool = False) -> np.ndarray:
    """``x`` with the map (or its adjoint) carried out along its last axes."""
    for number, axis in enumerate(axes):
        table = _adjoint_taps(axis) if adjoint else _taps(axis)
        x = _along(x, table, x.ndim - len(axes) + number)
    return np.ascontiguousarray(x)


def tabulated(b: Builder, reading: Reading, out: int) -> Reading:
    """The same with places and weights in small arrays (results, taps): all lines share them."""
    shape = (b.extent(out), reading.taps)

    def place_at(o: Index, k: Index) -> Expression:
        place = reading.place(o, k)
        return b.index(place) if type(place) is Index else place  # type: ignore[return-value]

    places = b.map(shape, "int64", place_at)
    weight = reading.weight
    assert weight is not None, "a reading without weights needs no table"
    present = reading.present

    def weight_at(o: Index, k: Index) -> Expression:
        found = b.cast(weight(o, k), "float64")
        return found if present is None else b.where(present(o, k), found, 0)

    weights = b.map(shape, "float64", weight_at)
    return Reading(
        reading.taps,
        lambda o, k: places[o, k],
        lambda o, k: weights[o, k],
        None if present is None else lambda o, k: weights[o, k].ne(0),
    )


def read_along(b: Builder, x: Source, reading: Reading, dim: int, out: int) -> Stage:
    """What the taps along one dimension make of an array, in its dtype."""
    shape = replaced(x.shape, dim, b.extent(out))

    def tap(i: tuple, k: Tap) -> Expression:
        value = x[replaced(i, dim, reading.place(i[dim], k))]
        if reading.weight is not None:
            value = value * b.cast(reading.weight(i[dim], k), x.dtype)
        if reading.present is not None:
            value = chosen(b, reading.present(i[dim], k), value, b.constant(0, x.dtype))
        return value

    def total(*i: Index) -> Expression:
        made = tap(i, 0)
        for k in range(1, reading.taps):
            made = made + tap(i, k)
        return made

    if reading.taps <= _UNROLLED:
        return b.map(shape, x.dtype, total)
    return b.reduce("add", shape, (reading.taps,), x.dtype, lambda i, r: tap(i, r[0]))


def lowered(b: Builder, x: Source, axes: Axes, adjoint: bool = False) -> Stage | None:
    """The stages of ``resampled``; None where an axis has no formulas."""
    dtype = x.dtype
    made: Source = in_dtype(b, x, wide(dtype))
    readings = [a.adjoint_reading(b) if adjoint else a.reading(b) for a in axes]
    for number, (axis, reading) in enumerate(zip(axes, readings, strict=True)):
        if reading is None:
            return None
        dim = len(x.shape) - len(axes) + number
        made = read_along(b, made, reading, dim, axis.extent if adjoint else axis.out)
    return b.stage(in_dtype(b, made, dtype))


class Resampling(Wide, abstract=True):
    """Base of the operations: input (..., *extents) -> (..., *outs), each axis by itself."""

    hidden = True

    def infer(self, input: Meta, *, axes: Axes, backward: str) -> Meta:
        lead = input.shape[: input.ndim - len(axes)]
        return meta((*lead, *(axis.out for axis in axes)), input.dtype)

    def reference(self, input: np.ndarray, *, axes: Axes, backward: str) -> np.ndarray:
        return resampled(input, axes)

    def lower(self, b: Builder, input: Any, *, axes: Axes, backward: str) -> Stage | None:
        return lowered(b, input, axes)

    def gradient(self, g: Any, out: Any, input: Any, *, axes: Axes, backward: str) -> Any:
        return ResampleAdjoint.apply(g, axes=axes)

    def backward_name_for(self, inputs: tuple, attributes: dict) -> str:
        return attributes["backward"]


@register
class ResampleAdjoint(Wide):
    """The adjoint of a resampling: g (..., *outs) -> (..., *extents)."""

    hidden = True

    def infer(self, g: Meta, *, axes: Axes) -> Meta:
        lead = g.shape[: g.ndim - len(axes)]
        return meta((*lead, *(axis.extent for axis in axes)), g.dtype)

    def reference(self, g: np.ndarray, *, axes: Axes) -> np.ndarray:
        return resampled(g, axes, adjoint=True)

    def lower(self, b: Builder, g: Any, *, axes: Axes) -> Stage | None:
        return lowered(b, g, axes, adjoint=True)

    def gradient(self, v: Any, out: Any, g: Any, *, axes: Axes) -> Any:
        return Resample.apply(v, axes=axes, backward="ResampleBackward0")


@register
class Resample(Resampling):
    """A resampling that is no public operation: the gradient of an adjoint."""

    hidden = True


def need_float(name: str, x: Any) -> None:
    """NotImplementedError for integers and booleans, which have no mean in their own dtype."""
    if not (x.dtype.is_floating_point or x.dtype.is_complex):
        raise OperationError.make(
            name,
            f"\"{name}\" not implemented for '{x.dtype.scalar_type}'",
            hint="convert the input first: x.float()",
            kind=NotImplementedError,
        )
