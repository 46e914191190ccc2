"""index_select and its kin: whole slices of one dimension, named by a vector of indices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from taimatsu.dtypes import int64
from taimatsu.errors import OperationError
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index
from taimatsu.ir.index import index as index_of
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import REPLACE, Stage
from taimatsu.ops.base import Sample, array, composite, integers, register
from taimatsu.ops.coordinates import (
    Places,
    Source,
    adding,
    count_of,
    element,
    filled_stage,
    in_dtype,
    is_empty,
    replaced,
    unravel,
    wide,
)
from taimatsu.ops.filling import filled
from taimatsu.ops.gather import check_bounds, check_index_type, outside
from taimatsu.ops.reducing import Wide
from taimatsu.shapes import normalize_axis


class SliceIndexed(Wide, abstract=True):
    """Base: ``index`` is a vector; ``size`` is the input's extent along ``dim``."""

    hidden = True
    checked = True
    negative = False  # whether indices count from the end too

    def check(self, input: Any, index: Any, *others: Any, dim: int, size: int) -> None:
        check_bounds(self.name, index, dim, size, self.negative)

    def written(
        self,
        b: Builder,
        input: Any,
        index: Any,
        value: Callable[..., Expression],
        dim: int,
        combine: str,
    ) -> Source | None:
        """The input with ``value`` (of a place in the source) combined into the slices named."""
        count = count_of(index.shape)
        if count == 0 or is_empty(input.shape):
            # An empty dimension has no slice to name: the reference refuses the indices.
            empty = count != 0 and input.shape[dim] == 0
            return None if empty else b.stage(input)
        kind = input.dtype if combine == REPLACE else wide(input.dtype)
        places = Places(b)

        def where(*i: Index) -> tuple:
            extent = input.shape[dim] if input.shape else 1
            named = index[unravel(b, i[dim], index.shape)]
            place = places.place(named, extent, self.negative)
            return replaced(i, dim, place) if input.shape else ()

        points = replaced(input.shape, dim, count) if input.shape else (count,)
        made = b.scatter(
            in_dtype(b, input, kind), points, where, lambda *i: b.cast(value(*i), kind), combine
        )
        return in_dtype(b, places.check(made, outside(self.name, dim)), input.dtype)

    def check_source(self, input: Meta, index: Meta, source: Meta, dim: int, kind: type) -> None:
        """Raises unless the source holds one slice of the input's shape per index."""
        check_index_type(self.name, index)
        name = f"{self.name}_()"
        if source.dtype is not input.dtype:
            raise self.error(
                f"{name}: self ({input.dtype.scalar_type}) and source "
                f"({source.dtype.scalar_type}) must have the same scalar type"
            )
        given = source.shape[dim] if source.ndim else 1
        if index.numel != given:
            raise self.error(
                f"{name}: Number of indices ({index.numel}) should be equal to "
                f"source.size(dim): ({given}), for dim: {dim}",
                kind=kind,
            )
        rest = [tuple(n for d, n in enumerate(t.shape) if d != dim) for t in (input, source)]
        if rest[0] != rest[1]:
            raise self.error(
                f"{name}: source/destination slices should have the same shape: Source/destination "
                f"tensor must have same slice shapes. Destination {list(rest[0])} at dimension "
                f"{dim} and source {list(rest[1])}",
                kind=kind,
            )


def _slices(x: np.ndarray, dim: int) -> np.ndarray:
    """A view with the indexed dimension first (a 0-d array has one slice)."""
    return x.reshape(1) if x.ndim == 0 else np.moveaxis(x, dim, 0)


def _element_of(source: Any) -> Callable[..., Expression]:
    """The source's element at a point (a 0-d source has one slice)."""
    return lambda *i: source[i] if source.shape else source[()]


@register
class IndexSelect(SliceIndexed):
    """The slices of the input that ``index`` names, in its order."""

    saves = {"input": ("index",)}

    def infer(self, input: Meta, index: Meta, *, dim: int, size: int) -> Meta:
        check_index_type(self.name, index)
        if index.ndim > 1:
            raise self.error(
                "index_select(): Index is supposed to be a vector",
                f"got shape {list(index.shape)}",
                "flatten the index, or index with x[index]",
                IndexError,
            )
        if input.ndim == 0:
            return meta((), input.dtype)
        shape = (*input.shape[:dim], index.numel, *input.shape[dim + 1 :])
        return meta(shape, input.dtype)

    def reference(self, input: np.ndarray, index: np.ndarray, *, dim: int, size: int) -> np.ndarray:
        check_bounds(self.name, index, dim, size)
        if input.ndim == 0:
            return input.copy()
        return np.take(input, index.reshape(-1), dim)

    def lower(self, b: Builder, input: Any, index: Any, *, dim: int, size: int) -> Stage | None:
        shape = replaced(input.shape, dim, count_of(index.shape)) if input.shape else ()
        if is_empty(shape):
            return filled_stage(b, shape, 0, input.dtype)
        if is_empty(input.shape):
            return None  # no slice to take: the reference refuses the indices
        places = Places(b)

        def at(*i: Index) -> Expression:
            named = index[unravel(b, i[dim], index.shape)]
            return input[replaced(i, dim, places.place(named, input.shape[dim]))]

        if not shape:
            made = b.map((), input.dtype, lambda: input[()])
            every = tuple([index_of(0) for _ in index.shape])
            places.place(index[every], 1)
        else:
            made = b.map(shape, input.dtype, at)
        return places.check(made, outside(self.name, dim))

    def gradient(self, g: Any, out: Any, input: Any, index: Any, *, dim: int, size: int) -> tuple:
        return (lambda: filled(input.shape, 0, g.dtype).index_add(dim, index, g)), None


@register
class IndexAdd(SliceIndexed):
    """A copy of the input with the source's slices added where ``index`` says."""

    saves = {"input": (), "source": ("index",)}

    def infer(self, input: Meta, index: Meta, source: Meta, *, dim: int, size: int) -> Meta:
        self.check_source(input, index, source, dim, RuntimeError)
        return meta(input.shape, input.dtype)

    def reference(
        self, input: np.ndarray, index: np.ndarray, source: np.ndarray, *, dim: int, size: int
    ) -> np.ndarray:
        check_bounds(self.name, index, dim, size)
        out = np.array(input, order="C")
        np.add.at(_slices(out, dim), index.reshape(-1), _slices(source, dim))
        return out

    def lower(
        self, b: Builder, input: Any, index: Any, source: Any, *, dim: int, size: int
    ) -> Source | None:
        value = _element_of(source)
        return self.written(b, input, index, value, dim, adding(input.dtype))

    def gradient(
        self, g: Any, out: Any, input: Any, index: Any, source: Any, *, dim: int, size: int
    ) -> tuple:
        return g, None, lambda: g.index_select(dim, index).reshape(source.shape)


@register
class IndexCopy(SliceIndexed):
    """A copy of the input with the source's slices in the places ``index`` names."""

    saves = {"input": ("index",), "source": ("index",)}

    def infer(self, input: Meta, index: Meta, source: Meta, *, dim: int, size: int) -> Meta:
        self.check_source(input, index, source, dim, IndexError)
        return meta(input.shape, input.dtype)

    def reference(
        self, input: np.ndarray, index: np.ndarray, source: np.ndarray, *, dim: int, size: int
    ) -> np.ndarray:
        check_bounds(self.name, index, dim, size)
        out = np.array(input, order="C")
        _slices(out, dim)[index.reshape(-1)] = _slices(source, dim)
        return out

    def lower(
        self, b: Builder, input: Any, index: Any, source: Any, *, dim: int, size: int
    ) -> Source | None:
        return self.written(b, input, index, _element_of(source), dim, REPLACE)

    def gradient(
        self, g: Any, out: Any, input: Any, index: Any, source: Any, *, dim: int, size: int
    ) -> tuple:
        def for_source() -> Any:
            return g.index_select(dim, index).reshape(source.shape)

        return (lambda: g.index_fill(dim, index, 0)), None, for_source


@register
class IndexFill(SliceIndexed):
    """A copy of the input with ``value`` (a number or a 0-d tensor) in the slices named."""

    negative = True
    saves = {"input": ("index",), "value": ("index",)}

    def infer(self, input: Meta, index: Meta, value: Any, *, dim: int, size: int) -> Meta:
        check_index_type("index_fill_", index, (int64,))
        if index.ndim > 1:
            raise self.error("Index is supposed to be a vector", f"got shape {list(index.shape)}")
        if isinstance(value, Meta) and value.ndim:
            raise self.error(
                "index_fill_ only supports a 0-dimensional value tensor, but got tensor with "
                f"{value.ndim} dimension(s)."
            )
        return meta(input.shape, input.dtype)

    def reference(
        self, input: np.ndarray, index: np.ndarray, value: Any, *, dim: int, size: int
    ) -> np.ndarray:
        check_bounds(self.name, index, dim, size, negative=True)
        out = np.array(input, order="C")
        _slices(out, dim)[index.reshape(-1)] = value
        return out

    def lower(
        self, b: Builder, input: Any, index: Any, value: Any, *, dim: int, size: int
    ) -> Source | None:
        kind = input.dtype
        return self.written(b, input, index, lambda *i: element(b, value, i, kind), dim, REPLACE)

    def gradient(
        self, g: Any, out: Any, input: Any, index: Any, value: Any, *, dim: int, size: int
    ) -> tuple:
        def for_value() -> Any:
            others = filled(input.shape, 1, g.dtype).index_fill(dim, index, 0) == 1
            return g.masked_fill(others, 0).sum()

        for_input = lambda: g.index_fill(dim, index, 0)  # noqa: E731
        return for_input, None, for_value if hasattr(value, "shape") else None

    def backward_name_for(self, inputs: tuple, attributes: dict) -> str:
        return f"IndexFillBackward{1 if hasattr(inputs[2], 'shape') else 0}"


# -- public functions --------------------------------------------------------------------------


def _place(input: Any, dim: int) -> dict[str, int]:
    dim = normalize_axis(dim, input.ndim)
    return {"dim": dim, "size": input.shape[dim] if input.ndim else 1}


@composite(
    "index_select",
    samples=lambda: iter(
        [
            Sample(array(3, 4), 1, np.array([3, 0, 0])),
            Sample(array(2, 3, 4), -2, integers(4, high=3)),
        ]
    ),
)
def index_select(input: Any, dim: int, index: Any) -> Any:
    """The slices of ``input`` along ``dim`` that the vector ``index`` names (int32, int64)."""
    return IndexSelect.apply(input, index, **_place(input, dim))


def _add_samples() -> Iterator[Sample]:
    yield Sample(array(3, 4), 1, np.array([3, 0, 0]), array(3, 3, seed=1))
    yield Sample(array(3, 4), 0, np.array([2]), array(1, 4, seed=1), alpha=2)


@composite("index_add", inplace=True, samples=_add_samples)
def index_add(input: Any, dim: int, index: Any, source: Any, *, alpha: Any = 1) -> Any:
    """A copy with ``alpha * source``'s slices added to those that ``index`` names."""
    if not (isinstance(alpha, int) and alpha == 1):
        source = (source * alpha).to(source.dtype)
    return IndexAdd.apply(input, index, source, **_place(input, dim))


@composite(
    "index_copy",
    inplace=True,
    samples=lambda: iter(
        [
            Sample(array(3, 4), 1, np.array([3, 0]), array(3, 2, seed=1)),
        ]
    ),
)
def index_copy(input: Any, dim: int, index: Any, source: Any) -> Any:
    """A copy with ``source``'s slices in the places that ``index`` names."""
    return IndexCopy.apply(input, index, source, **_place(input, dim))


@composite(
    "index_fill",
    inplace=True,
    samples=lambda: iter(
        [
            Sample(array(3, 4), 1, np.array([3, -4]), 2.5),
            Sample(array(3, 4), 0, np.array([1]), array()),
        ]
    ),
)
def index_fill(input: Any, dim: int, index: Any, value: Any) -> Any:
    """A copy with ``value`` in the slices that ``index`` names."""
    return IndexFill.apply(input, index, value, **_place(input, dim))


@composite(
    "index_reduce",
    inplace=True,
    samples=lambda: iter(
        [
            Sample(array(3, 4), 1, np.array([3, 0, 0]), array(3, 3, seed=1), "prod"),
            Sample(
                array(3, 4), 1, np.array([3, 0, 0]), array(3, 3, seed=1), "mean", include_self=False
            ),
        ]
    ),
)
def index_reduce(
    input: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True
) -> Any:
    """A copy with ``source``'s slices combined in by prod, mean, amax or amin."""
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise OperationError.make(
            "index_reduce",
            f"reduce argument must be either prod, mean, amax or amin, got {reduce}.",
        )
    check_index_type("index_reduce", index)
    dim = normalize_axis(dim, input.ndim)
    if input.ndim == 0:
        return input.scatter_reduce(0, index, source, reduce, include_self=include_self)
    view = [1] * input.ndim
    view[dim] = index.numel()
    places = index.reshape(view).expand(source.shape)
    return input.scatter_reduce(dim, places, source, reduce, include_self=include_self)
