"""Elements in other places: flips, rolls, repetitions, diagonals, writes into a region's copy."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from taimatsu import dtypes, recorder
from taimatsu.errors import OperationError
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index, index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage
from taimatsu.ops.base import Operation, Sample, array, composite, integers, register
from taimatsu.ops.coordinates import (
    Coordinate,
    clamped,
    count_of,
    is_empty,
    modulo,
    ravel,
    replaced,
    unravel,
    within,
)
from taimatsu.ops.elementwise import spread
from taimatsu.ops.reducing import numpy_names
from taimatsu.ops.view_base import shape_arguments
from taimatsu.shapes import normalize_axes, normalize_axis

FLOATS = ("float32", "float64")


def _error(name: str, text: str, hint: str = "", kind: type = RuntimeError) -> Exception:
    return OperationError.make(name, text, "", hint, kind)


def _given(name: str, what: str, values: tuple, named: dict) -> tuple:
    """Integers given one by one, as one sequence, or by the name ``what``."""
    if not values and what in named:
        values = (named.pop(what),)
    if named:
        text = f"{name}() got an unexpected keyword argument '{next(iter(named))}'"
        raise _error(name, text, "", TypeError)
    if not values:
        text = f'{name}() missing 1 required positional arguments: "{what}"'
        raise _error(name, text, "", TypeError)
    return shape_arguments(values)


# -- flips and rotations -----------------------------------------------------------------------


def _flip_samples() -> Iterator[Sample]:
    yield Sample(array(2, 3), (0,), dtypes=FLOATS)
    yield Sample(array(2, 3, 4), (0, -1))
    yield Sample(array(2, 3), ())
    yield Sample(array(), (0,))
    yield Sample(integers(3), (0,))


@register
class Flip(Operation):
    """The elements in reverse order along ``dims``: a copy."""

    samples = staticmethod(_flip_samples)

    def __call__(self, input: Any, *dims: Any, **named: Any) -> Any:
        given = _given("flip", "dims", dims, named)
        return self.apply(input, dims=normalize_axes(given, input.ndim))

    def infer(self, input: Meta, *, dims: tuple[int, ...]) -> Meta:
        return spread(input.dtype, [input])

    def reference(self, input: np.ndarray, *, dims: tuple[int, ...]) -> np.ndarray:
        return np.flip(input, dims).copy() if input.ndim else input.copy()

    def lower(self, b: Builder, input: Any, *, dims: tuple[int, ...]) -> Stage:
        turned = set(dims) if input.shape else set()

        def at(*i: Index) -> Expression:
            ends = zip(i, input.shape, strict=True)
            return input[tuple([n - 1 - c if d in turned else c for d, (c, n) in enumerate(ends)])]

        return b.map(input.shape, input.dtype, at)

    def gradient(self, g: Any, out: Any, input: Any, *, dims: tuple[int, ...]) -> Any:
        return g.flip(dims)


@composite("fliplr", samples=lambda: iter([Sample(array(2, 3)), Sample(array(2, 3, 4))]))
def fliplr(input: Any) -> Any:
    """The columns in reverse order: a flip of the second dimension."""
    if input.ndim < 2:
        raise _error("fliplr", "Input must be >= 2-d.", f"got {input.ndim} dimensions")
    return Flip(input, (1,))


@composite("flipud", samples=lambda: iter([Sample(array(2, 3)), Sample(array(3))]))
def flipud(input: Any) -> Any:
    """The rows in reverse order: a flip of the first dimension."""
    if input.ndim < 1:
        raise _error("flipud", "Input must be >= 1-d.", "got a 0-d tensor")
    return Flip(input, (0,))


def _rot90_samples() -> Iterator[Sample]:
    for k in (1, 2, 3, 4, -1):
        yield Sample(array(2, 3), k, (0, 1))
    yield Sample(array(2, 3, 4), 1, (2, 0))


@register
class Rot90(Operation):
    """Rotated by 90 degrees ``k`` times in the plane of two dimensions, from the first to the
    second."""

    samples = staticmethod(_rot90_samples)

    def __call__(self, input: Any, k: int = 1, dims: Sequence[int] = (0, 1)) -> Any:
        if len(dims) != 2:
            raise self.error(f"expected total rotation dims == 2, but got dims = {len(dims)}")
        if input.ndim < 2:
            raise self.error(f"expected total dims >= 2, but got total dims = {input.ndim}")
        first, second = (normalize_axis(d, input.ndim) for d in dims)
        if first == second:
            raise self.error(
                "expected rotation dims to be different, but got "
                f"dim0 = {dims[0]} and dim1 = {dims[1]}"
            )
        return self.apply(input, k=operator.index(k) % 4, dims=(first, second))

    def infer(self, input: Meta, *, k: int, dims: tuple[int, int]) -> Meta:
        shape = list(input.shape)
        if k % 2:
            shape[dims[0]], shape[dims[1]] = shape[dims[1]], shape[dims[0]]
        return meta(shape, input.dtype)

    def reference(self, input: np.ndarray, *, k: int, dims: tuple[int, int]) -> np.ndarray:
        return np.rot90(input, k, dims).copy()

    def lower(self, b: Builder, input: Any, *, k: int, dims: tuple[int, int]) -> Stage:
        first, second = dims
        rows, columns = input.shape[first], input.shape[second]
        shape = list(input.shape)
        if k % 2:
            shape[first], shape[second] = columns, rows

        def at(*i: Index) -> Expression:
            r, c = i[first], i[second]
            places = [
                (r, c),
                (c, columns - 1 - r),
                (rows - 1 - r, columns - 1 - c),
                (rows - 1 - c, r),
            ]
            row, column = places[k]
            return input[replaced(replaced(i, first, row), second, column)]

        return b.map(shape, input.dtype, at)

    def gradient(self, g: Any, out: Any, input: Any, *, k: int, dims: tuple[int, int]) -> Any:
        return g.rot90(-k, dims)


def _roll_samples() -> Iterator[Sample]:
    yield Sample(array(2, 3), 2, dtypes=FLOATS)
    yield Sample(array(2, 3), 1, 0)
    yield Sample(array(2, 3, 4), (1, -2), (0, 2))
    yield Sample(array(2, 3), (1, 1), (1, 1))
    yield Sample(array(), 1)
    yield Sample(array(0, 3), 1, 0)


@register
class Roll(Operation):
    """Elements shifted along ``dims``; what leaves at one end comes in at the other.

    Without ``dims`` the elements are shifted in row-major order.
    """

    samples = staticmethod(_roll_samples)

    def __call__(self, input: Any, shifts: Any, dims: Any = ()) -> Any:
        shifts, dims = shape_arguments((shifts,)), shape_arguments((dims,))
        if not shifts:
            raise self.error("`shifts` required")
        if len(shifts) != len(dims) and not (len(shifts) == 1 and not dims):
            raise self.error(
                f"shifts and dimensions must align. shifts: {len(shifts)}, dims:{len(dims)}"
            )
        if dims and input.ndim == 0:
            raise self.error(
                f"Dimension specified as {dims[0]} but tensor has no dimensions", kind=IndexError
            )
        dims = tuple(normalize_axis(d, input.ndim) for d in dims)
        return self.apply(input, shifts=shifts, dims=dims)

    def infer(self, input: Meta, *, shifts: tuple[int, ...], dims: tuple[int, ...]) -> Meta:
        return meta(input.shape, input.dtype)

    def reference(
        self, input: np.ndarray, *, shifts: tuple[int, ...], dims: tuple[int, ...]
    ) -> np.ndarray:
        return np.roll(input, shifts, dims) if dims else np.roll(input, shifts[0])

    def lower(
        self, b: Builder, input: Any, *, shifts: tuple[int, ...], dims: tuple[int, ...]
    ) -> Stage:
        if is_empty(input.shape):
            return b.map(input.shape, input.dtype, lambda *i: b.constant(0, input.dtype))
        if not dims:
            size = count_of(input.shape)

            def shifted(*i: Index) -> Expression:
                position = modulo(b, ravel(i, input.shape), -shifts[0], size)
                return input[unravel(b, position, input.shape)]

            return b.map(input.shape, input.dtype, shifted)
        by = dict.fromkeys(dims, 0)
        for d, shift in zip(dims, shifts, strict=True):
            by[d] -= shift

        def at(*i: Index) -> Expression:
            moved: list[Coordinate] = list(i)
            for d, shift in by.items():
                moved[d] = modulo(b, i[d], shift, input.shape[d])
            return input[tuple(moved)]

        return b.map(input.shape, input.dtype, at)

    def gradient(self, g: Any, out: Any, input: Any, *, shifts: Any, dims: Any) -> Any:
        return g.roll(tuple(-s for s in shifts), dims)


# -- repetition --------------------------------------------------------------------------------


def _repeat_samples() -> Iterator[Sample]:
    yield Sample(array(2, 3), (2, 3), dtypes=FLOATS)
    yield Sample(array(2, 3), 3, 1, 2)
    yield Sample(array(3), (2, 0))
    yield Sample(array(), (2,))
    yield Sample(integers(3), (2,))


@register
class Repeat(Operation):
    """The whole tensor ``repeats[d]`` times along each dimension; new dimensions come first."""

    hidden = True  # a method only
    methods = ("repeat",)
    torch_name = "Tensor.repeat"
    samples = staticmethod(_repeat_samples)

    def __call__(self, input: Any, *repeats: Any, **named: Any) -> Any:
        repeats = _given("repeat", "repeats", repeats, named)
        if len(repeats) < input.ndim:
            raise self.error(
                "Number of dimensions of repeat dims can not be smaller than number of dimensions "
                "of tensor",
                f"counts {list(repeats)} for {input.ndim} dimensions",
                "give one count for each dimension, 1 to keep it",
            )
        return self.apply(input, repeats=repeats)

    def infer(self, input: Meta, *, repeats: tuple[int, ...]) -> Meta:
        padded = (1,) * (len(repeats) - input.ndim) + tuple(input.shape)
        shape = [n * times for n, times in zip(padded, repeats, strict=True)]
        if any(times < 0 for times in repeats):
            raise self.error(
                f"Trying to create tensor with negative dimension {min(shape)}: {shape}"
            )
        return meta(shape, input.dtype)

    def reference(self, input: np.ndarray, *, repeats: tuple[int, ...]) -> np.ndarray:
        return np.tile(input, repeats)

    def lower(self, b: Builder, input: Any, *, repeats: tuple[int, ...]) -> Stage:
        new = len(repeats) - len(input.shape)
        padded = (index(1),) * new + input.shape
        shape = [n * times for n, times in zip(padded, repeats, strict=True)]
        if is_empty(shape):
            return b.map(shape, input.dtype, lambda *i: b.constant(0, input.dtype))

        def at(*i: Index) -> Expression:
            return input[tuple([c % n for c, n in zip(i[new:], input.shape, strict=True)])]

        return b.map(shape, input.dtype, at)

    def gradient(self, g: Any, out: Any, input: Any, *, repeats: tuple[int, ...]) -> Any:
        padded = (1,) * (len(repeats) - input.ndim) + tuple(input.shape)
        if g.numel() == 0:
            return g.new_zeros(tuple(input.shape))
        interleaved = [n for pair in zip(repeats, padded, strict=True) for n in pair]
        if not interleaved:
            return g
        copies = g.reshape(interleaved).sum(tuple(range(0, len(interleaved), 2)))
        return copies.reshape(input.shape)


@composite("tile", torch_name="Tensor.tile", samples=_repeat_samples)
def tile(input: Any, *dims: Any, **named: Any) -> Any:
    """``repeat`` that takes fewer numbers than dimensions: leading ones are 1."""
    repeats = _given("tile", "dims", dims, named)
    return Repeat(input, (1,) * (input.ndim - len(repeats)) + repeats)


tile.functions = ("tile",)


def _interleave_samples() -> Iterator[Sample]:
    yield Sample(array(2, 3), 2)
    yield Sample(array(2, 3), 3, 1)
    yield Sample(array(2, 3), np.array([1, 3]), 0)
    yield Sample(array(2, 3), np.array([2]), -1)
    yield Sample(array(), 3)
    yield Sample(np.array([1, 0, 2]))


@composite("repeat_interleave", samples=_interleave_samples)
@numpy_names
def repeat_interleave(
    input: Any, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None
) -> Any:
    """Each element ``repeats`` times, next to one another, along ``dim`` (flattened without).

    ``repeats`` is an int or an integer tensor with one number for each element along ``dim``.
    Of one tensor: position i as often as the tensor's element i says.
    """
    name = "repeat_interleave"
    if repeats is None:
        if input.ndim != 1:
            raise _error(name, "repeat_interleave only accept 1D vector as repeat")
        return recorder.constant(_positions(input, None, output_size).astype(input.dtype.numpy))
    if dim is None:
        input, dim = input.reshape(-1), 0
    axis = normalize_axis(dim, input.ndim)
    if input.ndim == 0:
        input = input.reshape(1)
    extent = input.shape[axis]
    if isinstance(repeats, recorder.TensorBase):
        if repeats.ndim == 1 and repeats.shape[0] not in (1, extent):
            raise _error(
                name,
                "repeats must have the same size as input along dim, but got repeats.size(0) = "
                f"{repeats.shape[0]} and input.size({axis}) = {extent}",
            )
        return input.index_select(axis, recorder.constant(_positions(repeats, extent, output_size)))
    if not isinstance(repeats, int):
        raise _error(
            name,
            f"expected repeats to be an int or a Tensor, got {type(repeats).__name__}",
            "make a tensor of it with torch.tensor(...)",
            TypeError,
        )
    return _each_repeated(input, repeats, axis, output_size)


def _each_repeated(input: Any, repeats: int, axis: int, output_size: int | None) -> Any:
    if repeats < 0:
        raise _error("repeat_interleave", f"Repeats must be non-negative, got {repeats}")
    shape = list(input.shape)
    if output_size is not None and output_size != shape[axis] * repeats:
        raise _error(
            "repeat_interleave",
            f"repeat_interleave: Invalid output_size, expected {shape[axis] * repeats} but got "
            f"{output_size}",
        )
    wide = [*shape[: axis + 1], repeats, *shape[axis + 1 :]]
    shape[axis] *= repeats
    return input.unsqueeze(axis + 1).expand(wide).reshape(shape)


def _positions(repeats: Any, extent: int | None, output_size: int | None) -> np.ndarray:
    """Which element stands at each place of the result, from the tensor of repeats."""
    name = "repeat_interleave"
    if repeats.ndim > 1:
        raise _error(name, "repeats must be 0-dim or 1-dim tensor")
    if repeats.dtype not in (dtypes.int32, dtypes.int64):
        raise _error(
            name,
            f"\"repeat_interleave_cpu\" not implemented for '{repeats.dtype.scalar_type}'",
            "repeats must be integers: convert with .long()",
            NotImplementedError,
        )
    counts = recorder.value(repeats)
    if counts.size and counts.min() < 0:
        raise _error(name, "repeats can not be negative")
    if extent is not None:
        counts = np.broadcast_to(counts, (extent,))
    places = np.repeat(np.arange(counts.size), counts)
    if output_size is not None and output_size != places.size:
        raise _error(
            name,
            f"allocated size does not match required size: output_size={output_size}, the repeats "
            f"sum to {places.size}",
        )
    return places


# -- diagonals ---------------------------------------------------------------------------------


def _embed_samples() -> Iterator[Sample]:
    yield Sample(array(3), dtypes=FLOATS)
    yield Sample(array(2, 3), 1, 0, 2)
    yield Sample(array(2, 3), -2)
    yield Sample(array(3), 1, 1, 0)
    yield Sample(integers(3))


@register
class DiagEmbed(Operation):
    """The last dimension on the diagonal of two new ones (``dim1``, ``dim2``), zero elsewhere."""

    samples = staticmethod(_embed_samples)

    def __call__(self, input: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
        ndim = input.ndim + 1
        if input.ndim == 0:
            raise self.error(
                "Dimension out of range (expected to be in range of [-1, 0], but got -2)",
                hint="diag_embed needs at least one dimension",
                kind=IndexError,
            )
        first, second = normalize_axis(dim1, ndim), normalize_axis(dim2, ndim)
        if first == second:
            raise self.error(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
        if first > second:
            first, second, offset = second, first, -offset
        return self.apply(input, offset=operator.index(offset), dim1=first, dim2=second)

    def infer(self, input: Meta, *, offset: int, dim1: int, dim2: int) -> Meta:
        shape = list(input.shape[:-1])
        extent = input.shape[-1] + abs(offset)
        shape.insert(dim1, extent)
        shape.insert(dim2, extent)
        return meta(shape, input.dtype)

    def reference(self, input: np.ndarray, *, offset: int, dim1: int, dim2: int) -> np.ndarray:
        n = input.shape[-1]
        extent = n + abs(offset)
        result = np.zeros((*input.shape[:-1], extent, extent), input.dtype)
        along = np.arange(n)
        result[..., along + max(-offset, 0), along + max(offset, 0)] = input
        return np.moveaxis(result, (-2, -1), (dim1, dim2))

    def lower(self, b: Builder, input: Any, *, offset: int, dim1: int, dim2: int) -> Stage:
        n = input.shape[-1]
        shape = list(input.shape[:-1])
        shape.insert(dim1, n + abs(offset))
        shape.insert(dim2, n + abs(offset))
        zero = b.constant(0, input.dtype)

        def at(*i: Index) -> Expression:
            if is_empty(input.shape):
                return zero
            along = i[dim1] - max(-offset, 0)
            rest = [c for d, c in enumerate(i) if d not in (dim1, dim2)]
            on = b.index(i[dim2] - i[dim1]).eq(offset) & within(b, along, n)
            return b.where(on, input[(*rest, clamped(along, n))], zero)

        return b.map(shape, input.dtype, at)

    def gradient(self, g: Any, out: Any, input: Any, *, offset: int, dim1: int, dim2: int) -> Any:
        return g.diagonal(offset, dim1, dim2)


def _diag_samples() -> Iterator[Sample]:
    yield Sample(array(3))
    yield Sample(array(3), 1)
    yield Sample(array(2, 3))
    yield Sample(array(3, 4), -1)
    yield Sample(array(2, 3), 5)


@composite("diag", samples=_diag_samples)
def diag(input: Any, diagonal: int = 0) -> Any:
    """A vector as the diagonal of a square matrix; of a matrix its diagonal, as a copy."""
    if input.ndim == 1:
        return DiagEmbed(input, diagonal)
    if input.ndim == 2:
        return input.diagonal(diagonal).clone()
    raise _error(
        "diag",
        f"diag(): Supports 1D or 2D tensors. Got {input.ndim}D",
        "use torch.diagonal or torch.diag_embed for batches",
    )


@composite("diagflat", samples=lambda: iter([Sample(array(2, 3)), Sample(array(3), -1)]))
def diagflat(input: Any, offset: int = 0) -> Any:
    """The elements in row-major order on the diagonal of a square matrix."""
    return DiagEmbed(input.reshape(-1), offset)
