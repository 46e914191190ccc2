"""Joining tensors: concatenation, stacking, blocks on a diagonal, grids of coordinates."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from taimatsu import dtypes, recorder, shapes
from taimatsu.errors import OperationError
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import SIZES, Expression
from taimatsu.ir.index import Index, index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage, View
from taimatsu.ops.base import Operation, Sample, array, booleans, composite, integers, register
from taimatsu.ops.coordinates import (
    Source,
    clamped,
    converted,
    filled_stage,
    is_empty,
    replaced,
    within,
)
from taimatsu.ops.reducing import numpy_names
from taimatsu.shapes import Size, is_channels_last, normalize_axis


def tensor_list(name: str, tensors: Any) -> list:
    """A sequence of tensors as a list; TypeError for one tensor and for other elements."""
    if isinstance(tensors, recorder.TensorBase) or not isinstance(tensors, Sequence):
        raise OperationError.make(
            name,
            f"{name}(): argument 'tensors' (position 1) must be tuple of Tensors, "
            f"not {type(tensors).__name__}",
            "",
            f"write {name}([a, b])",
            TypeError,
        )
    for i, tensor in enumerate(tensors):
        if not isinstance(tensor, recorder.TensorBase):
            raise OperationError.make(
                name,
                f"expected Tensor as element {i} in argument 0, but got {type(tensor).__name__}",
                kind=TypeError,
            )
    return list(tensors)


def several(given: tuple) -> tuple:
    """``f(a, b)`` and ``f([a, b])`` alike."""
    if len(given) == 1 and isinstance(given[0], (tuple, list)):
        return tuple(given[0])
    return given


def _is_legacy_empty(tensor: Any) -> bool:
    """A tensor of shape (0,): ``cat`` skips it, whatever the other shapes are."""
    return tensor.ndim == 1 and tensor.shape[0] == 0


# -- cat and stack -----------------------------------------------------------------------------


def _cat_samples() -> Iterator[Sample]:
    yield Sample([array(2, 3), array(4, 3)], dtypes=("float32", "float64", "float16"))
    yield Sample([array(2, 3), array(2, 1, seed=1), array(2, 2, seed=2)], -1)
    yield Sample([array(0), array(2, 3)], 1)
    yield Sample([array(2, 3), integers(1, 3)])
    yield Sample([array(2, 3), array(0, 3)])
    yield Sample([booleans(3), integers(2)], grad=False)


@register
class Cat(Operation):
    """Tensors one after another along ``dim``; the other extents must agree.

    The dtype is promoted over all tensors. Tensors of shape (0,) take no part in the shape.
    """

    functions = ("cat", "concat", "concatenate")
    methods = ()
    samples = staticmethod(_cat_samples)

    @numpy_names
    def __call__(self, tensors: Any, dim: int = 0) -> Any:
        parts = tensor_list("cat", tensors)
        if not parts:
            raise self.error(
                "torch.cat(): expected a non-empty list of Tensors",
                "an empty one",
                "check that what fills the list gave at least one tensor",
                ValueError,
            )
        for i, part in enumerate(parts):
            if part.ndim == 0:
                raise self.error(
                    f"zero-dimensional tensor (at position {i}) cannot be concatenated",
                    hint="use torch.stack, or unsqueeze(0) it first",
                )
        ndim = next((p.ndim for p in parts if not _is_legacy_empty(p)), 1)
        return self.apply(*parts, dim=normalize_axis(dim, ndim))

    def infer(self, *tensors: Meta, dim: int) -> Meta:
        found = dtypes.result_type(*tensors)
        parts = [t for t in tensors if not _is_legacy_empty(t)]
        if not parts:
            return meta((0,), found)
        shape = list(parts[0].shape)
        shape[dim] = sum(self._extent(t, parts[0], dim, i) for i, t in enumerate(parts))
        if all(is_channels_last(t.shape, t.strides) and not t.contiguous for t in parts):
            order = (1, 3, 2, 0) if len(shape) == 4 else (1, 4, 3, 2, 0)
            return meta(shape, found, shapes.dense_strides(shape, order))
        return meta(shape, found)

    def _extent(self, part: Meta, first: Meta, dim: int, position: int) -> int:
        """A part's extent along ``dim``, once its other extents are those of the first."""
        if part.ndim != first.ndim:
            raise self.error(
                f"Tensors must have same number of dimensions: got {first.ndim} and {part.ndim}",
                f"shapes {list(first.shape)} and {list(part.shape)}",
                "unsqueeze(dim) adds a dimension; torch.stack joins along a new one",
            )
        for d, (wanted, given) in enumerate(zip(first.shape, part.shape, strict=True)):
            if d != dim and wanted != given:
                raise self.error(
                    f"Sizes of tensors must match except in dimension {dim}. Expected size "
                    f"{wanted} but got size {given} for tensor number {position} in the list.",
                    f"shapes {list(first.shape)} and {list(part.shape)}",
                    f"dim={d} joins along the dimension in which they differ",
                )
        return part.shape[dim]

    def reference(self, *tensors: np.ndarray, dim: int) -> np.ndarray:
        parts = [t for t in tensors if t.shape != (0,)]
        if not parts:
            return np.empty(0, tensors[0].dtype)
        return np.concatenate(parts, axis=dim)

    def evaluate(self, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> tuple:
        kind = outs[0].dtype.numpy
        return (self.reference(*[x.astype(kind, copy=False) for x in inputs], **attributes),)

    def stages(self, b: Builder, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> Any:
        kind = outs[0].dtype.name
        if kind not in SIZES:
            return None
        parts = [t for t in inputs if not (len(t.shape) == 1 and is_empty(t.shape))]
        if not parts:
            return (filled_stage(b, (0,), 0, kind),)
        return (joined(b, parts, attributes["dim"], kind),)

    def gradient(self, g: Any, out: Any, *tensors: Any, dim: int) -> Any:
        def part(start: int, tensor: Any) -> Callable:
            if _is_legacy_empty(tensor):
                return lambda: g.new_zeros((0,))
            return lambda: g.narrow(dim, start, tensor.shape[dim])

        made = []
        start = 0
        for tensor in tensors:
            made.append(part(start, tensor))
            start += 0 if _is_legacy_empty(tensor) else tensor.shape[dim]
        return tuple(made)


def _stack_samples() -> Iterator[Sample]:
    yield Sample([array(2, 3), array(2, 3, seed=1)], dtypes=("float32", "float64"))
    yield Sample([array(2, 3), array(2, 3, seed=1), array(2, 3, seed=2)], -1)
    yield Sample([array(2, 3), integers(2, 3)], 1)
    yield Sample([array(), array(seed=1)])
    yield Sample([array(0, 2), array(0, 2)])


@register
class Stack(Operation):
    """Tensors of one shape along a new dimension ``dim``; the dtype is promoted."""

    methods = ()
    samples = staticmethod(_stack_samples)

    @numpy_names
    def __call__(self, tensors: Any, dim: int = 0) -> Any:
        parts = tensor_list("stack", tensors)
        if not parts:
            raise self.error("stack expects a non-empty TensorList")
        return self.apply(*parts, dim=normalize_axis(dim, parts[0].ndim + 1))

    def infer(self, *tensors: Meta, dim: int) -> Meta:
        first = tensors[0].shape
        for i, tensor in enumerate(tensors):
            if tensor.shape != first:
                raise self.error(
                    f"stack expects each tensor to be equal size, but got {list(first)} at entry 0 "
                    f"and {list(tensor.shape)} at entry {i}",
                    hint="pad them to one size (F.pad), or join along a dimension with torch.cat",
                )
        shape = (*first[:dim], len(tensors), *first[dim:])
        return meta(shape, dtypes.result_type(*tensors))

    def reference(self, *tensors: np.ndarray, dim: int) -> np.ndarray:
        return np.stack(tensors, axis=dim)

    def evaluate(self, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> tuple:
        kind = outs[0].dtype.numpy
        return (self.reference(*[x.astype(kind, copy=False) for x in inputs], **attributes),)

    def stages(self, b: Builder, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> Any:
        kind, dim = outs[0].dtype.name, attributes["dim"]
        if kind not in SIZES:
            return None
        parts = [_with_dimension(t, dim) for t in inputs]
        return (joined(b, parts, dim, kind),)

    def gradient(self, g: Any, out: Any, *tensors: Any, dim: int) -> Any:
        def part(i: int) -> Callable:
            return lambda: g.select(dim, i)

        return tuple(part(i) for i in range(len(tensors)))


# -- stages ------------------------------------------------------------------------------------

_SELECTED = 8  # parts that each element is selected from; more are joined in runs first


def joined(b: Builder, parts: Sequence[Source], dim: int, dtype: str) -> Stage:
    """Arrays one after another along a dimension."""
    total = sum([p.shape[dim] for p in parts], index(0))
    shape = replaced(parts[0].shape, dim, total)
    parts = [p for p in parts if not is_empty(p.shape)]
    if not parts:
        return filled_stage(b, shape, 0, dtype)
    if len(parts) > _SELECTED:
        runs = [parts[first : first + _SELECTED] for first in range(0, len(parts), _SELECTED)]
        return joined(b, [joined(b, run, dim, dtype) for run in runs], dim, dtype)

    def at(*i: Index) -> Expression:
        end = total - parts[-1].shape[dim]
        made = _part_at(b, parts[-1], i, dim, end, dtype)
        for part in reversed(parts[:-1]):
            start = end - part.shape[dim]
            before = b.index(i[dim]) < b.index(end)
            made = b.where(before, _part_at(b, part, i, dim, start, dtype), made)
            end = start
        return made

    return b.map(shape, dtype, at)


def _part_at(
    b: Builder, part: Source, where: tuple, dim: int, start: Index, dtype: str
) -> Expression:
    """The part's element for a place in the result, or the one nearest to it."""
    at = clamped(where[dim] - start, part.shape[dim])
    return converted(b, part[replaced(where, dim, at)], dtype)


def _with_dimension(tensor: Any, dim: int) -> View:
    """A view with a new dimension of extent 1."""
    shape = (*tensor.shape[:dim], index(1), *tensor.shape[dim:])

    def coordinates(where: tuple) -> tuple:
        return tensor.coordinates((*where[:dim], *where[dim + 1 :]))

    return View(tensor.stage, shape, tensor.dtype, coordinates)


# -- at least so many dimensions ---------------------------------------------------------------


def _widened(function: Callable, tensors: tuple) -> Any:
    """``function`` of one tensor, or of each of several, as a tuple."""
    if len(tensors) == 1 and isinstance(tensors[0], recorder.TensorBase):
        return function(tensors[0])
    return tuple(function(t) for t in several(tensors))


def _atleast_samples() -> Iterator[Sample]:
    yield Sample(array())
    yield Sample(array(3))
    yield Sample(array(2, 3))
    yield Sample(array(), array(2, 3), array(2, 3, 4))


@composite("atleast_1d", methods=(), samples=_atleast_samples)
def atleast_1d(*tensors: Any) -> Any:
    """Views with at least one dimension: of a tensor, or a tuple of them for several."""
    return _widened(lambda t: t if t.ndim else t.reshape(1), tensors)


@composite("atleast_2d", methods=(), samples=_atleast_samples)
def atleast_2d(*tensors: Any) -> Any:
    """Views with at least two dimensions: a vector becomes one row."""

    def widen(t: Any) -> Any:
        if t.ndim == 0:
            return t.reshape(1, 1)
        return t.unsqueeze(0) if t.ndim == 1 else t

    return _widened(widen, tensors)


@composite("atleast_3d", methods=(), samples=_atleast_samples)
def atleast_3d(*tensors: Any) -> Any:
    """Views with at least three dimensions: (n) -> (1, n, 1), (n, m) -> (n, m, 1)."""

    def widen(t: Any) -> Any:
        if t.ndim == 0:
            return t.reshape(1, 1, 1)
        if t.ndim == 1:
            return t.unsqueeze(0).unsqueeze(-1)
        return t.unsqueeze(-1) if t.ndim == 2 else t

    return _widened(widen, tensors)


# -- stacks along a named direction ------------------------------------------------------------


def _non_empty(name: str, tensors: Any) -> list:
    parts = tensor_list(name, tensors)
    if not parts:
        raise OperationError.make(name, f"{name} expects a non-empty TensorList")
    return parts


def _stacking_samples() -> Iterator[Sample]:
    yield Sample([array(3), array(3, seed=1)])
    yield Sample([array(), array(seed=1)])
    yield Sample([array(2, 3), array(2, 3, seed=1)])
    yield Sample([array(2, 3, 4), array(2, 3, 4, seed=1)])


@composite("hstack", methods=(), samples=_stacking_samples)
def hstack(tensors: Any) -> Any:
    """Side by side: along the second dimension (vectors along their only one)."""
    parts = [atleast_1d(t) for t in _non_empty("hstack", tensors)]
    return Cat(parts, 0 if parts[0].ndim == 1 else 1)


@composite("vstack", "row_stack", methods=(), samples=_stacking_samples)
def vstack(tensors: Any) -> Any:
    """One below another: along the first dimension; vectors are rows."""
    return Cat([atleast_2d(t) for t in _non_empty("vstack", tensors)], 0)


@composite("dstack", methods=(), samples=_stacking_samples)
def dstack(tensors: Any) -> Any:
    """One behind another: along the third dimension."""
    return Cat([atleast_3d(t) for t in _non_empty("dstack", tensors)], 2)


@composite("column_stack", methods=(), samples=_stacking_samples)
def column_stack(tensors: Any) -> Any:
    """Side by side, where vectors are columns."""
    parts = _non_empty("column_stack", tensors)
    return Cat([t if t.ndim > 1 else t.reshape(t.numel(), 1) for t in parts], 1)


# -- blocks ------------------------------------------------------------------------------------


def _block_samples() -> Iterator[Sample]:
    yield Sample(array(2, 3), array(1, 2), dtypes=("float32", "float64"))
    yield Sample(array(2, 3), array(), array(3))
    yield Sample(array(2, 3), integers(2, 2))


@register
class BlockDiag(Operation):
    """Matrices on the diagonal of one that is zero elsewhere; vectors are rows."""

    methods = ()
    samples = staticmethod(_block_samples)

    def __call__(self, *tensors: Any) -> Any:
        parts = tensor_list("block_diag", tensors)
        return self.apply(*parts) if parts else recorder.constant(np.zeros((1, 0), np.float32))

    def infer(self, *tensors: Meta) -> Meta:
        for i, tensor in enumerate(tensors):
            if tensor.ndim > 2:
                raise self.error(
                    "torch.block_diag: Input tensors must have 2 or fewer dimensions. "
                    f"Input {i} has {tensor.ndim} dimensions"
                )
        corners = self._corners(tensors)
        shape = (corners[-1][0], corners[-1][1])
        return meta(shape, dtypes.result_type(*tensors))

    @staticmethod
    def _corners(tensors: Sequence[Any]) -> list[tuple[int, int]]:
        """Where each block begins, and at last where all end."""
        corners = [(0, 0)]
        for tensor in tensors:
            rows, columns = (1, 1, *tensor.shape)[-2:]
            corners.append((corners[-1][0] + rows, corners[-1][1] + columns))
        return corners

    def evaluate(self, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> tuple:
        result = np.zeros(tuple(outs[0].shape), outs[0].dtype.numpy)
        corners = self._corners(inputs)
        for block, (top, left), (bottom, right) in zip(
            inputs, corners[:-1], corners[1:], strict=True
        ):
            result[top:bottom, left:right] = block
        return (result,)

    def stages(self, b: Builder, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> Any:
        kind = outs[0].dtype.name
        if kind not in SIZES:
            return None
        rows, columns = index(0), index(0)
        blocks = []
        for t in inputs:
            height, width = (index(1), index(1), *t.shape)[-2:]
            if not is_empty((height, width)):
                blocks.append((t, rows, columns, height, width))
            rows, columns = rows + height, columns + width

        def at(r: Index, c: Index) -> Expression:
            made = b.constant(0, kind)
            for t, top, left, height, width in blocks:
                inside = within(b, r - top, height) & within(b, c - left, width)
                place = (clamped(r - top, height), clamped(c - left, width))
                value = t[place[2 - len(t.shape) :]]
                made = b.where(inside, converted(b, value, kind), made)
            return made

        return (b.map((rows, columns), kind, at),)

    def gradient(self, g: Any, out: Any, *tensors: Any) -> Any:
        corners = self._corners(tensors)

        def block(i: int) -> Callable:
            (top, left), (bottom, right) = corners[i], corners[i + 1]
            return lambda: g[top:bottom, left:right].reshape(tensors[i].shape)

        return tuple(block(i) for i in range(len(tensors)))


# -- grids and tuples of elements --------------------------------------------------------------


def _grid_samples() -> Iterator[Sample]:
    yield Sample(array(3), array(2, seed=1), indexing="ij")
    yield Sample(array(3), array(2, seed=1), array(4, seed=2), indexing="xy")
    yield Sample(array(3), array(seed=1), indexing="ij")


@composite("meshgrid", methods=(), samples=_grid_samples)
def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple:
    """Coordinates of a grid: each vector expanded along all others' dimensions (views).

    ``indexing="ij"``: result k varies along dimension k; ``"xy"``: the first two are exchanged.
    """
    parts = tensor_list("meshgrid", several(tensors))
    if indexing is None:
        warnings.warn(
            "torch.meshgrid: in an upcoming release, it will be required to pass the indexing "
            "argument.",
            stacklevel=3,
        )
    elif indexing not in ("ij", "xy"):
        raise OperationError.make(
            "meshgrid",
            f'torch.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}',
        )
    if not parts:
        raise OperationError.make("meshgrid", "meshgrid expects a non-empty TensorList")
    for part in parts:
        _refuse_grid_input(part, parts[0])
    swap = indexing == "xy" and len(parts) >= 2
    if swap:
        parts[0], parts[1] = parts[1], parts[0]
    shape = [part.numel() for part in parts]
    grids = []
    for i, part in enumerate(parts):
        along = [-1 if d == i else 1 for d in range(len(parts))]
        grids.append(part.reshape(along).expand(shape))
    if swap:
        grids[0], grids[1] = grids[1], grids[0]
    return tuple(grids)


def _refuse_grid_input(part: Any, first: Any) -> None:
    if part.ndim > 1:
        raise OperationError.make(
            "meshgrid",
            "torch.meshgrid: Expected 0D or 1D tensor in the tensor list",
            f"shape {list(part.shape)}",
        )
    if part.dtype is not first.dtype:
        raise OperationError.make(
            "meshgrid",
            "meshgrid expects all tensors to have the same dtype",
            f"{first.dtype} and {part.dtype}",
        )


def _product_samples() -> Iterator[Sample]:
    yield Sample(array(3), array(2, seed=1))
    yield Sample(array(3), array(2, seed=1), array(2, seed=2))
    yield Sample(array(3))


@composite("cartesian_prod", methods=(), samples=_product_samples)
def cartesian_prod(*tensors: Any) -> Any:
    """All tuples of one element of each vector, as rows; of a single vector itself."""
    for tensor in tensors:
        if tensor.ndim != 1:
            raise OperationError.make(
                "cartesian_prod", f"Expect a 1D vector, but got shape {list(tensor.shape)}"
            )
    if len(tensors) == 1:
        return tensors[0].reshape(-1)
    grids = meshgrid(*tensors, indexing="ij")
    return Stack([grid.reshape(-1) for grid in grids], 1)


def _combination_samples() -> Iterator[Sample]:
    yield Sample(array(4))
    yield Sample(array(3), 2, True)
    yield Sample(array(4), r=3)
    yield Sample(array(2), r=3)
    yield Sample(array(2), r=0, grad=False)


@composite("combinations", samples=_combination_samples)
def combinations(input: Any, r: int = 2, with_replacement: bool = False) -> Any:
    """All choices of ``r`` elements of a vector, in order of position, as rows."""
    if input.ndim != 1:
        raise OperationError.make(
            "combinations", f"Expect a 1D vector, but got shape {list(input.shape)}"
        )
    if r < 0:
        raise OperationError.make("combinations", f"Expect a non-negative number, but got {r}")
    if r == 0:
        return input.new_empty((0,))
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    chosen = itertools.chain.from_iterable(choose(range(input.shape[0]), r))
    places = np.fromiter(chosen, np.int64).reshape(-1, r)
    columns = [input[recorder.constant(places[:, i].copy())] for i in range(r)]
    return Stack(columns, 1)


def _shape_samples() -> Iterator[Sample]:
    yield Sample((2, 1), (3,), grad=False)
    yield Sample(4, (3, 1), grad=False)
    yield Sample((0,), (1,), grad=False)


@composite("broadcast_shapes", methods=(), samples=_shape_samples)
def broadcast_shapes(*shapes_: Any) -> Size:
    """The shape that tensors of these shapes (or single extents) broadcast to."""
    given = [(s,) if isinstance(s, int) else tuple(s) for s in shapes_]
    if any(n < 0 for s in given for n in s):
        raise OperationError.make(
            "broadcast_shapes",
            "Attempting to broadcast a dimension with negative length!",
            f"{given}",
            kind=ValueError,
        )
    try:
        return shapes.broadcast_shapes(*given)
    except RuntimeError as error:
        raise OperationError.make(
            "broadcast_shapes",
            "Shape mismatch: objects cannot be broadcast to a single shape",
            f"{', '.join(map(str, given))}: {error}",
        ) from None
