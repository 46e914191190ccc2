"""Indexing and assignment: ``x[...]`` as views where possible, else gathers and scatters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from taimatsu import dtypes, recorder
from taimatsu.errors import OperationError
from taimatsu.ir.builder import Builder, Extent
from taimatsu.ir.index import Index as Axis
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import REPLACE
from taimatsu.ops.base import Operation, Sample, array, booleans, composite, register
from taimatsu.ops.coordinates import (
    Places,
    adding,
    broadcast_at,
    broadcast_extents,
    filled_stage,
    is_empty,
)
from taimatsu.ops.filling import zeros_of
from taimatsu.ops.truths import coordinates_of
from taimatsu.ops.views import Alias, Select, Slice, Unsqueeze
from taimatsu.shapes import broadcast_shapes


def indexed_shape(shape: tuple[int, ...], dims: tuple[int, ...], index: tuple[int, ...]) -> tuple:
    """The result's shape: index dimensions stand at the first indexed one if all are adjacent."""
    rest = [n for d, n in enumerate(shape) if d not in dims]
    at = dims[0] if is_adjacent(dims) else 0
    return (*rest[:at], *index, *rest[at:])


def is_adjacent(dims: tuple[int, ...]) -> bool:
    """Whether dimensions follow one another."""
    return list(dims) == list(range(dims[0], dims[0] + len(dims)))


def _keys(ndim: int, dims: tuple[int, ...], indices: tuple) -> tuple:
    key: list[Any] = [slice(None)] * ndim
    for d, index in zip(dims, indices, strict=True):
        key[d] = index
    return tuple(key)


_OUTSIDE = "[index] an index is out of bounds for its dimension"


class ByIndex(Operation, abstract=True):
    """What gathers and scatters by index tensors share: checks of shapes and bounds."""

    checked = True

    def error(self, expected: str, got: str = "", hint: str = "", kind: type = RuntimeError):
        """Errors under the name that stands in the program: the index expression."""
        return OperationError.make("index", expected, got, hint, kind)

    def _index_shape(self, indices: tuple) -> tuple[int, ...]:
        try:
            return tuple(broadcast_shapes(*[i.shape for i in indices]))
        except RuntimeError:
            shapes = ", ".join(str(list(i.shape)) for i in indices)
            raise self.error(
                f"shape mismatch: indexing tensors could not be broadcast together with shapes "
                f"{shapes}",
                hint="index tensors need one shape, or shapes that broadcast",
                kind=IndexError,
            ) from None

    def refuse_outside(self, shape: tuple, dims: tuple[int, ...], indices: tuple) -> None:
        """IndexError for an index that does not exist."""
        for d, index in zip(dims, indices, strict=True):
            if index is None or index.size == 0:
                continue
            size = shape[d]
            low, high = int(index.min()), int(index.max())
            if low < -size or high >= size:
                bad = high if high >= size else low
                raise self.error(
                    f"index {bad} is out of bounds for dimension {d} with size {size}",
                    hint=f"indices must be from {-size} to {size - 1}",
                    kind=IndexError,
                )

    def selected(
        self, b: Builder, places: Places, indices: tuple, dims: tuple[int, ...], extents: Any
    ) -> tuple[tuple[Extent, ...], Callable[..., tuple]]:
        """The shape that index tensors make of an array with these extents, and where in the
        array each of its elements stands.
        """
        index_shape = broadcast_extents([i.shape for i in indices])
        shape = indexed_shape(extents, dims, index_shape)
        rest = [d for d in range(len(extents)) if d not in dims]
        at = dims[0] if is_adjacent(dims) else 0

        def where(*i: Axis) -> tuple:
            named = i[at : at + len(index_shape)]
            others = (*i[:at], *i[at + len(index_shape) :])
            place: list[Any] = [None] * len(extents)
            for d, other in zip(rest, others, strict=True):
                place[d] = other
            for d, index in zip(dims, indices, strict=True):
                place[d] = places.place(broadcast_at(index, named), extents[d], negative=True)
            return tuple(place)

        return shape, where


@register
class Index(ByIndex):
    """Elements at integer indices along ``dims`` (broadcast against one another)."""

    name = "index_by"
    hidden = True
    backward_name = "IndexBackward0"

    def infer(self, input, *indices, dims, shape):
        found = indexed_shape(input.shape, dims, self._index_shape(indices))
        return meta(found, input.dtype)

    def reference(self, input, *indices, dims, shape):
        self.refuse_outside(input.shape, dims, indices)
        return input[_keys(input.ndim, dims, indices)]

    def lower(self, b, input, *indices, dims, shape):
        places = Places(b)
        made, where = self.selected(b, places, indices, dims, input.shape)
        if is_empty(made):
            return filled_stage(b, made, 0, input.dtype)
        if is_empty(input.shape):
            return None  # nothing to read: the reference refuses the indices
        stage = b.map(made, input.dtype, lambda *i: input[where(*i)])
        return places.check(stage, _OUTSIDE)

    def check(self, input, *indices, dims, shape):
        self.refuse_outside(shape, dims, indices)

    saves = ("*",)

    def gradient(self, g, out, input, *indices, dims, shape):
        zeros = zeros_of(input)
        taken = IndexPut.apply(zeros, g, *indices, dims=dims, shape=shape, accumulate=True)
        return (taken, *[None] * len(indices))


@register
class IndexPut(ByIndex):
    """A copy of ``input`` with elements at indices replaced by (or, accumulating, plus) values."""

    name = "index_put_by"
    hidden = True
    backward_name = "IndexPutBackward0"
    saves = ("*",)

    def infer(self, input, values, *indices, dims, shape, accumulate):
        target = indexed_shape(input.shape, dims, self._index_shape(indices))
        if input.dtype is not values.dtype:
            raise self.error(
                "Index put requires the source and destination dtypes match",
                f"got {input.dtype} for the destination and {values.dtype} for the source",
                "convert the values with .to(dtype)",
            )
        if tuple(broadcast_shapes(target, values.shape)) != target:
            raise self.error(
                f"shape mismatch: value tensor of shape {list(values.shape)} cannot be broadcast "
                f"to indexing result of shape {list(target)}"
            )
        return meta(input.shape, input.dtype)

    def reference(self, input, values, *indices, dims, shape, accumulate):
        self.refuse_outside(input.shape, dims, indices)
        result = np.array(input, order="C")
        key = _keys(input.ndim, dims, indices)
        if not accumulate:
            result[key] = values
        elif result.dtype == np.bool_:
            np.logical_or.at(result, key, values)
        else:
            np.add.at(result, key, values)
        return result

    def lower(self, b, input, values, *indices, dims, shape, accumulate):
        places = Places(b)
        points, where = self.selected(b, places, indices, dims, input.shape)
        if is_empty(points):
            return b.stage(input)
        if is_empty(input.shape):
            return None  # no place to write to: the reference refuses the indices
        combine = adding(input.dtype) if accumulate else REPLACE
        made = b.scatter(input, points, where, lambda *i: broadcast_at(values, i), combine)
        return places.check(made, _OUTSIDE)

    def check(self, input, values, *indices, dims, shape, accumulate):
        self.refuse_outside(shape, dims, indices)

    def gradient(self, g, out, input, values, *indices, dims, shape, accumulate):
        def to_input():
            if accumulate:
                return g
            zeros = zeros_of(values)
            return IndexPut.apply(g, zeros, *indices, dims=dims, shape=shape, accumulate=False)

        def to_values():
            return Index.apply(g, *indices, dims=dims, shape=shape)

        return (to_input, to_values, *[None] * len(indices))


# -- reading an index expression ---------------------------------------------------------------


def _error(text: str, hint: str = "", kind: type = IndexError) -> Exception:
    return OperationError.make("index", text, "", hint, kind)


def as_index(item: Any) -> Any:
    """Lists and arrays in an index expression as tensors; NumPy integers as Python's."""
    if isinstance(item, np.ndarray):
        return recorder.constant(np.array(item))
    if isinstance(item, (list, range)):
        return recorder.constant(_index_array(item))
    if isinstance(item, tuple):
        return recorder.constant(_index_array(list(item)))
    if isinstance(item, np.bool_):
        return bool(item)
    return item


def _index_array(items: Any) -> np.ndarray:
    def plain(x: Any) -> Any:
        if isinstance(x, recorder.TensorBase):
            return recorder.value(x)
        return [plain(y) for y in x] if isinstance(x, (list, tuple, range)) else x

    found = np.array(plain(items))
    if found.size == 0:
        found = found.astype(np.int64)
    if found.dtype.kind not in "bui":
        raise _error(
            "only integers, slices (`:`), ellipsis (`...`), None and long or byte "
            "Variables are valid indices",
            f"got {items!r}",
        )
    return found


def _expanded(items: tuple, ndim: int) -> list:
    """The expression with the ellipsis replaced by full slices."""
    used = 0
    ellipses = 0
    for item in items:
        if item is Ellipsis:
            ellipses += 1
        elif isinstance(item, recorder.TensorBase) and item._meta.dtype in _MASKS:
            used += item._meta.ndim
        elif item is not None and not isinstance(item, bool):
            used += 1
    if ellipses > 1:
        raise _error("an index can only have a single ellipsis ('...')")
    if used > ndim:
        raise _error(
            f"too many indices for tensor of dimension {ndim}",
            f"got {used} indices; a tensor takes one for each dimension",
        )
    made: list[Any] = []
    for item in items:
        if item is Ellipsis:
            made.extend([slice(None)] * (ndim - used))
        else:
            made.append(item)
    return made


_MASKS = (dtypes.bool_, dtypes.uint8)


def _bound(given: Any) -> Any:
    if given is None or type(given) is int:
        return given
    if not hasattr(given, "__index__"):
        raise TypeError(
            "slice indices must be integers or None or have an __index__ method; got "
            f"{given!r}; use int(i), or // in place of /"
        )
    return given.__index__()


_INDEX_HINTS = {
    float: "int(i), or // in place of /, gives an integer",
    str: "columns have numbers, not names",
}


def resolve(tensor: Any, expression: Any) -> tuple[Any, list]:
    """A view by the basic parts of an index expression, and (dim, index tensor) for the rest."""
    items = expression if isinstance(expression, tuple) else (expression,)
    items = tuple([as_index(item) for item in items])
    advanced: list[tuple[int, Any]] = []
    dim = 0
    for item in _expanded(items, tensor._meta.ndim):
        if item is None:
            tensor = Unsqueeze(tensor, dim)
            dim += 1
        elif isinstance(item, slice):
            tensor = slice_along(tensor, dim, item)
            dim += 1
        elif isinstance(item, bool):
            tensor = Unsqueeze(tensor, dim)
            advanced.append((dim, recorder.constant(np.zeros(int(item), np.int64))))
            dim += 1
        elif isinstance(item, recorder.TensorBase):
            tensor, dim = _by_tensor(tensor, dim, item, advanced)
        elif hasattr(item, "__index__"):
            tensor = _select(tensor, dim, item.__index__())
        else:
            raise _error(
                "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables "
                f"are valid indices (got {type(item).__name__})",
                _INDEX_HINTS.get(type(item), ""),
                TypeError if isinstance(item, str) else IndexError,
            )
    return tensor, advanced


def _select(tensor: Any, dim: int, index: int) -> Any:
    if dim >= tensor._meta.ndim:
        if tensor._meta.ndim == 0:
            raise _error(
                "invalid index of a 0-dim tensor. Use `tensor.item()` in Python to convert a "
                "0-dim tensor to a number"
            )
        raise _error(f"too many indices for tensor of dimension {tensor._meta.ndim}")
    return Select(tensor, dim, index)


def _by_tensor(tensor: Any, dim: int, item: Any, advanced: list) -> tuple[Any, int]:
    """An index tensor: integers, or a mask whose true positions become integers."""
    described = item._meta
    if described.dtype in _MASKS:
        _refuse_mask_shape(tensor, dim, described)
        if described.ndim == 0:
            tensor = Unsqueeze(tensor, dim)
            advanced.append((dim, recorder.constant(np.zeros(int(bool(item)), np.int64))))
            return tensor, dim + 1
        for offset, positions in enumerate(coordinates_of(recorder.value(item))):
            advanced.append((dim + offset, recorder.constant(positions)))
        return tensor, dim + described.ndim
    if described.dtype.category != dtypes.INTEGER:
        raise _error(
            "tensors used as indices must be long, int, byte or bool tensors",
            f"got {described.dtype}; convert with .long()",
        )
    if described.ndim == 0:
        return _select(tensor, dim, int(item.item())), dim
    if described.dtype is not dtypes.int64:
        item = item.to(dtypes.int64)
    advanced.append((dim, item))
    return tensor, dim + 1


def _refuse_mask_shape(tensor: Any, dim: int, mask: Meta) -> None:
    seen = tensor._meta.shape[dim : dim + mask.ndim]
    for offset, (wanted, given) in enumerate(zip(seen, mask.shape, strict=False)):
        if wanted != given:
            raise _error(
                f"The shape of the mask {list(mask.shape)} at index {offset} does not match the "
                f"shape of the indexed tensor {list(tensor._meta.shape)} at index {dim + offset}",
                "a mask has the same extents as the dimensions that it selects from",
            )


def slice_along(tensor: Any, dim: int, item: slice) -> Any:
    """``tensor[..., start:stop:step, ...]`` along a dimension, as a view."""
    described = tensor._meta
    if dim >= described.ndim:
        if described.ndim == 0:
            raise _error("slice() cannot be applied to a 0-dim tensor.")
        raise _error(f"too many indices for tensor of dimension {described.ndim}")
    step = 1 if item.step is None else _bound(item.step)
    if step <= 0:
        raise _error(
            "step must be greater than zero",
            f"got {step}; torch.flip(x, (dim,)) reverses",
            ValueError,
        )
    size = described.shape[dim]
    start, stop, step = slice(_bound(item.start), _bound(item.stop), step).indices(size)
    length = max(-((start - stop) // step), 0)
    if start == 0 and length == size and step == 1:
        return tensor
    return Slice(tensor, dim, min(start, size), length, step)


def gather_advanced(tensor: Any, advanced: list) -> Any:
    """The elements at the index tensors of a resolved expression."""
    dims = tuple(d for d, _ in advanced)
    indices = [i for _, i in advanced]
    return Index.apply(tensor, *indices, dims=dims, shape=tuple(tensor._meta.shape))


def getitem(tensor: Any, expression: Any) -> Any:
    """``tensor[expression]``."""
    if type(expression) is int:
        return _select(tensor, 0, expression)
    if type(expression) is slice and tensor._meta.ndim:
        view, advanced = slice_along(tensor, 0, expression), None
    else:
        view, advanced = resolve(tensor, expression)
    if advanced:
        return gather_advanced(view, advanced)
    return Alias.make(tensor) if view is tensor else view


def setitem(tensor: Any, expression: Any, value: Any) -> None:
    """``tensor[expression] = value``."""
    mask = _single_mask(tensor, expression)
    if mask is not None and _is_single_number(value):
        tensor.masked_fill_(mask, value)
        return
    view, advanced = resolve(tensor, expression)
    kind = tensor._meta.dtype
    if not isinstance(value, recorder.TensorBase):
        value = recorder.constant(np.asarray(value).astype(kind.numpy), kind)
    if not advanced:
        value = _without_leading_ones(value, view._meta.ndim)
        if value._storage is view._storage and value._meta.shape != view._meta.shape:
            # The same elements, if it only views them.
            value = value.expand(tuple(view._meta.shape))
        view.copy_(value)
        return
    view._refuse_write("index_put")
    if value._meta.dtype is not kind:
        value = value.to(kind)
    dims = tuple(d for d, _ in advanced)
    recorder.refuse_overlap(view, (value, *[i for _, i in advanced]), "index_put")
    shape = tuple(view._meta.shape)
    value = _without_leading_ones(value, view._meta.ndim + 64)
    made = IndexPut.apply(
        view, value, *[i for _, i in advanced], dims=dims, shape=shape, accumulate=False
    )
    view._assign(made, "index_put")


def _single_mask(tensor: Any, expression: Any) -> Any:
    """The mask of ``x[mask]`` over leading dimensions, shaped to broadcast over ``x``."""
    if not isinstance(expression, recorder.TensorBase):
        return None
    described = expression._meta
    if described.dtype is not dtypes.bool_ or described.ndim == 0:
        return None
    if described.shape != tensor._meta.shape[: described.ndim]:
        return None
    rest = tensor._meta.ndim - described.ndim
    return expression.reshape(tuple(described.shape) + (1,) * rest) if rest else expression


def _is_single_number(value: Any) -> bool:
    if isinstance(value, recorder.TensorBase):
        return value._meta.ndim == 0
    return isinstance(value, (int, float, complex, bool))


def _without_leading_ones(value: Any, ndim: int) -> Any:
    """Assignment takes values with further leading dimensions of extent 1."""
    shape = tuple(value._meta.shape)
    while len(shape) > ndim and shape[0] == 1:
        shape = shape[1:]
    return value if len(shape) == len(value._meta.shape) else value.reshape(shape)


def _put_samples() -> Iterator[Sample]:
    yield Sample(array(4, 3), (np.array([0, 2]),), array(2, 3))
    yield Sample(array(4), (np.array([0, 0, 1]),), array(3), accumulate=True)
    yield Sample(array(4), (booleans(4),), array())


@composite("index_put", inplace=True, samples=_put_samples)
def index_put(input, indices, values, accumulate=False):
    """A copy of ``input`` with ``values`` at the index tensors (added where ``accumulate``)."""
    view, advanced = resolve(input, tuple(indices))
    dims = tuple(d for d, _ in advanced)
    return IndexPut.apply(
        view,
        values,
        *[i for _, i in advanced],
        dims=dims,
        shape=tuple(view._meta.shape),
        accumulate=bool(accumulate),
    )
