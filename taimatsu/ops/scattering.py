"""The scatters: elements written, or combined, where an index tensor says along one dimension."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu.errors import OperationError
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import FLOATS, Expression
from taimatsu.ir.index import Index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import REPLACE, Stage, View, identity
from taimatsu.ops.base import Sample, array, composite, integers, register
from taimatsu.ops.coordinates import (
    Places,
    Source,
    adding,
    converted,
    filled_stage,
    in_dtype,
    is_empty,
    multiplying,
    replaced,
    wide,
)
from taimatsu.ops.filling import filled
from taimatsu.ops.gather import (
    AlongDim,
    at_least_1d,
    check_bounds,
    flat_places,
    outside,
    place_of,
)

_REDUCTIONS = {
    "sum": (np.add, 0),
    "add": (np.add, 0),
    "prod": (np.multiply, 1),
    "multiply": (np.multiply, 1),
    "mean": (np.add, 0),
    "amax": (np.maximum, None),
    "amin": (np.minimum, None),
}


class Scattering(AlongDim, abstract=True):
    """Base: what writes into a copy of the input."""

    def scattered(
        self, b: Builder, input: Source, index: Any, src: Any, dim: int, combine: str
    ) -> Source | None:
        """The input with a source (an array or a number) combined in where the index says."""
        if is_empty(index.shape):
            return b.stage(input)
        if is_empty(input.shape):
            return None  # no place to write to: the reference refuses the indices
        kind = input.dtype if combine == REPLACE else wide(input.dtype)
        places = Places(b)
        made = b.scatter(
            in_dtype(b, input, kind),
            index.shape,
            lambda *i: replaced(i, dim, places.place(index[i], input.shape[dim])),
            lambda *i: converted(b, src[i] if isinstance(src, (Stage, View)) else src, kind),
            combine,
        )
        return in_dtype(b, places.check(made, outside(self.name, dim)), input.dtype)


@register
class Scatter(Scattering):
    """A copy of the input with ``src`` (a tensor or a number) written where the index says.

    Where places repeat, the last one written stays. ``reduce`` combines instead: add, multiply.
    """

    saves = {"input": ("index",), "src": ("index",)}

    def infer(
        self, input: Meta, index: Meta, src: Any, *, dim: int, size: int, reduce: str | None
    ) -> Meta:
        self.check_shapes(input, index, src, dim)
        return meta(input.shape, input.dtype)

    def reference(
        self,
        input: np.ndarray,
        index: np.ndarray,
        src: Any,
        *,
        dim: int,
        size: int,
        reduce: str | None,
    ) -> np.ndarray:
        check_bounds(self.name, index, dim, size)
        out = np.array(input, order="C")
        if index.size == 0:
            return out
        values, places = _source(src, index, input.dtype), flat_places(input.shape, index, dim)
        if reduce is None:
            out.reshape(-1)[places.reshape(-1)] = values.reshape(-1)
        else:
            _REDUCTIONS[reduce][0].at(out.reshape(-1), places.reshape(-1), values.reshape(-1))
        return out

    def lower(
        self,
        b: Builder,
        input: Any,
        index: Any,
        src: Any,
        *,
        dim: int,
        size: int,
        reduce: str | None,
    ) -> Source | None:
        if reduce is None:
            return self.scattered(b, input, index, src, dim, REPLACE)
        combine = adding if reduce == "add" else multiplying
        return self.scattered(b, input, index, src, dim, combine(input.dtype))

    def gradient(
        self,
        g: Any,
        out: Any,
        input: Any,
        index: Any,
        src: Any,
        *,
        dim: int,
        size: int,
        reduce: Any,
    ) -> tuple:
        if reduce == "multiply":
            raise self.error(
                "the gradient of scatter with reduce='multiply' is not implemented",
                hint="use scatter_reduce(dim, index, src, 'prod')",
            )

        def for_src() -> Any:
            return _padded_like(g.gather(dim, index), src)

        for_input = g if reduce == "add" else (lambda: g.scatter(dim, index, 0))
        return for_input, None, for_src if hasattr(src, "shape") else None

    def backward_name_for(self, inputs: tuple, attributes: dict) -> str:
        return f"ScatterBackward{0 if hasattr(inputs[2], 'shape') else 1}"


@register
class ScatterAdd(Scattering):
    """A copy of the input with ``src`` added where the index says."""

    saves = {"input": (), "src": ("index",)}

    def infer(self, input: Meta, index: Meta, src: Meta, *, dim: int, size: int) -> Meta:
        self.check_shapes(input, index, src, dim)
        return meta(input.shape, input.dtype)

    def reference(
        self, input: np.ndarray, index: np.ndarray, src: np.ndarray, *, dim: int, size: int
    ) -> np.ndarray:
        check_bounds(self.name, index, dim, size)
        out = np.array(input, order="C")
        if index.size:
            places = flat_places(input.shape, index, dim).reshape(-1)
            np.add.at(out.reshape(-1), places, _source(src, index, input.dtype).reshape(-1))
        return out

    def lower(
        self, b: Builder, input: Any, index: Any, src: Any, *, dim: int, size: int
    ) -> Source | None:
        return self.scattered(b, input, index, src, dim, adding(input.dtype))

    def gradient(
        self, g: Any, out: Any, input: Any, index: Any, src: Any, *, dim: int, size: int
    ) -> tuple:
        return g, None, lambda: _padded_like(g.gather(dim, index), src)


@register
class ScatterReduce(Scattering):
    """The input with ``src`` combined into it by sum, prod, mean, amax or amin.

    Without ``include_self`` the input's own elements take no part where anything is written.
    """

    saves = {
        "input": ("input", "index", "src", "out"),
        "src": ("input", "index", "src", "out"),
    }

    def infer(
        self,
        input: Meta,
        index: Meta,
        src: Meta,
        *,
        dim: int,
        size: int,
        reduce: str,
        include_self: bool,
    ) -> Meta:
        self.check_shapes(input, index, src, dim)
        return meta(input.shape, input.dtype)

    def reference(
        self,
        input: np.ndarray,
        index: np.ndarray,
        src: np.ndarray,
        *,
        dim: int,
        size: int,
        reduce: str,
        include_self: bool,
    ) -> np.ndarray:
        check_bounds(self.name, index, dim, size)
        out = np.array(input, order="C")
        if index.size == 0:
            return out
        flat, places = out.reshape(-1), flat_places(input.shape, index, dim).reshape(-1)
        values = _source(src, index, input.dtype).reshape(-1)
        combine, neutral = _REDUCTIONS[reduce]
        if not include_self:
            flat[places] = _extreme(input.dtype, reduce) if neutral is None else neutral
        combine.at(flat, places, values)
        if reduce == "mean":
            count = np.bincount(places, minlength=flat.size) + include_self
            count = np.maximum(count, 1).astype(flat.dtype)
            flat[:] = flat // count if flat.dtype.kind in "iu" else flat / count
        return out

    def lower(
        self,
        b: Builder,
        input: Any,
        index: Any,
        src: Any,
        *,
        dim: int,
        size: int,
        reduce: str,
        include_self: bool,
    ) -> Source | None:
        if is_empty(index.shape):
            return b.stage(input)
        kind = input.dtype
        combine = {"prod": multiplying(kind), "amax": "max", "amin": "min"}.get(
            reduce, adding(kind)
        )
        made: Source | None = in_dtype(b, input, wide(kind))
        if not include_self:
            neutral = identity(combine, wide(kind))
            made = self.scattered(b, made, index, neutral, dim, REPLACE)
        made = None if made is None else self.scattered(b, made, index, src, dim, combine)
        if made is not None and reduce == "mean" and kind != "bool":
            made = self._averaged(b, made, index, dim, include_self)
        return None if made is None else in_dtype(b, made, kind)

    def _averaged(
        self, b: Builder, total: Source, index: Any, dim: int, include_self: bool
    ) -> Source | None:
        """Sums divided by how many elements went into them; whole numbers are rounded down."""
        own = filled_stage(b, total.shape, int(include_self), "int64")
        counts = self.scattered(b, own, index, 1, dim, "add")
        if counts is None:
            return None
        divide = "div" if total.dtype in FLOATS else "floordiv"

        def average(*i: Index) -> Expression:
            count = b.cast(b.max(counts[i], 1), total.dtype)
            return b.binary(divide, total[i], count)

        return b.map(total.shape, total.dtype, average)

    def gradient(
        self,
        g: Any,
        out: Any,
        input: Any,
        index: Any,
        src: Any,
        *,
        dim: int,
        size: int,
        reduce: str,
        include_self: bool,
    ) -> tuple:
        if reduce in ("sum", "mean"):
            share = g
            if reduce == "mean":
                ones = filled(src.shape, 1, g.dtype)
                base = (
                    filled(input.shape, 1, g.dtype)
                    if include_self
                    else filled(input.shape, 0, g.dtype)
                )
                share = g / base.scatter_add(dim, index, ones).clamp(min=1)
            for_self, for_src = share, share.gather(dim, index)
        elif reduce == "prod":
            for_self, for_src = self._prod_gradient(g, out, input, index, src, dim, include_self)
        else:
            chosen_self = (input == out).to(g.dtype)
            chosen_src = (_cut(src, index) == out.gather(dim, index)).to(g.dtype)
            count = chosen_self.scatter_add(dim, index, chosen_src)
            share = g / count
            for_self = chosen_self * share
            for_src = chosen_src * share.gather(dim, index)
        if not include_self:
            for_self = for_self.scatter(dim, index, 0)
        return for_self, None, _padded_like(for_src, src)

    def _prod_gradient(
        self, g: Any, out: Any, input: Any, index: Any, src: Any, dim: int, include_self: bool
    ) -> tuple:
        """Products of the other factors: dividing by zero is avoided by taking zeros apart."""
        src = _cut(src, index)
        safe_self = input.masked_fill(input == 0, 1)
        without_self = safe_self.scatter_reduce(dim, index, src, "prod", include_self=include_self)
        for_self = g * without_self / safe_self
        zero = src == 0
        zeros = filled(input.shape, 0, g.dtype).scatter_add(dim, index, zero.to(g.dtype))
        single = zero & (zeros.gather(dim, index) == 1)
        without_zero = input.scatter_reduce(
            dim, index, src.masked_fill(single, 1), "prod", include_self=include_self
        )
        beside_zero = (g * without_zero).gather(dim, index)
        ordinary = (g * out).gather(dim, index) / src.masked_fill(zero, 1)
        return for_self, beside_zero.where(single, ordinary)


def _source(src: Any, index: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The part of the source that the index covers; a number stands everywhere."""
    if isinstance(src, np.ndarray) and src.ndim == index.ndim:
        return src[tuple(map(slice, index.shape))]
    return np.broadcast_to(np.asarray(src).astype(dtype), index.shape)


def _extreme(dtype: np.dtype, reduce: str) -> Any:
    if dtype.kind == "b":
        return reduce == "amin"
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return info.min if reduce == "amax" else info.max
    return -np.inf if reduce == "amax" else np.inf


def _cut(src: Any, index: Any) -> Any:
    """The source narrowed to the index's shape."""
    for d, extent in enumerate(index.shape):
        if src.shape[d] != extent:
            src = src.narrow(d, 0, extent)
    return src


def _padded_like(g: Any, src: Any) -> Any:
    """A gradient of the part of ``src`` that was read, with zeros for the rest."""
    from taimatsu.ops.padding import ConstantPad

    if tuple(g.shape) == tuple(src.shape):
        return g
    pairs = tuple((0, n - m) for n, m in zip(src.shape, g.shape, strict=True))
    return ConstantPad.apply(g, pairs=pairs, value=0)


# -- public functions --------------------------------------------------------------------------


def _as(out: Any, shape: tuple[int, ...]) -> Any:
    """The result for a 0-d input, which was taken as a vector of one element."""
    return out if out.ndim == len(shape) else out.reshape(shape)


def _scatter_samples() -> Iterator[Sample]:
    index = np.array([[0, 2, 1], [3, 0, 2]])
    yield Sample(array(3, 4), 1, index, array(3, 4, seed=1))
    yield Sample(array(3, 4), 1, index, 2.5)
    yield Sample(array(3, 4), 1, index, array(2, 3, seed=1), reduce="add")


@composite("scatter", inplace=True, samples=_scatter_samples)
def scatter(
    input: Any, dim: int, index: Any, src: Any = None, value: Any = None, *, reduce: Any = None
) -> Any:
    """A copy with ``src`` (a tensor or a number) written at ``index`` along ``dim``.

    ``reduce`` "add" or "multiply" combines with what is there. Raises IndexError outside.
    """
    src = value if src is None else src
    if src is None:
        raise OperationError.make(
            "scatter", "a src tensor or a value", "got neither", "", TypeError
        )
    if reduce not in (None, "add", "multiply"):
        raise OperationError.make(
            "scatter", "reduce argument must be either add or multiply.", f"got {reduce!r}"
        )
    place = place_of(input, dim)
    shape = input.shape
    if not isinstance(src, (bool, int, float, complex)) and src.ndim == 0 and index.ndim:
        src = src.expand(index.shape)
    input, index, src = at_least_1d(input, index, src)
    return _as(Scatter.apply(input, index, src, **place, reduce=reduce), shape)


def _scatter_add_samples() -> Iterator[Sample]:
    yield Sample(array(3, 4), 1, integers(3, 5, high=4), array(3, 5, seed=1))
    yield Sample(array(3, 4), 0, integers(2, 3, high=3), array(4, 4, seed=1))


@composite("scatter_add", inplace=True, samples=_scatter_add_samples)
def scatter_add(input: Any, dim: int, index: Any, src: Any) -> Any:
    """A copy with ``src`` added at ``index`` along ``dim``, repeated places as often as named."""
    place = place_of(input, dim)
    shape = input.shape
    input, index, src = at_least_1d(input, index, src)
    return _as(ScatterAdd.apply(input, index, src, **place), shape)


def _scatter_reduce_samples() -> Iterator[Sample]:
    index = integers(3, 5, high=4)
    for reduce in ("sum", "prod", "mean", "amax", "amin"):
        for include_self in (True, False):
            yield Sample(
                array(3, 4), 1, index, array(3, 5, seed=1), reduce, include_self=include_self
            )


@composite("scatter_reduce", inplace=True, samples=_scatter_reduce_samples)
def scatter_reduce(
    input: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True
) -> Any:
    """A copy with ``src`` combined in at ``index``: sum, prod, mean, amax or amin.

    ``include_self=False`` leaves the input's own elements out where anything is written.
    """
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise OperationError.make(
            "scatter_reduce",
            f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}",
        )
    place = place_of(input, dim)
    shape = input.shape
    input, index, src = at_least_1d(input, index, src)
    out = ScatterReduce.apply(
        input, index, src, **place, reduce=reduce, include_self=bool(include_self)
    )
    return _as(out, shape)
