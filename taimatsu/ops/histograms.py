"""Histograms: how many elements fall into which interval."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from taimatsu import dtypes, recorder, return_types
from taimatsu.errors import OperationError
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage
from taimatsu.ops.base import Sample, array, composite, integers, register
from taimatsu.ops.coordinates import filled_stage, is_empty
from taimatsu.ops.reducing import Wide


def _histc_samples() -> Iterator[Sample]:
    yield Sample(array(30), 5)
    yield Sample(array(3, 10), bins=4, min=-1, max=1)
    yield Sample(np.ones(4), 3)


@register
class Histc(Wide):
    """How many elements fall into each of ``bins`` equal intervals between ``min`` and ``max``.

    Elements outside are not counted. With ``min == max`` the data's own range is taken.
    """

    differentiable = False
    samples = staticmethod(_histc_samples)

    def __call__(self, input: Any, bins: int = 100, min: Any = 0, max: Any = 0) -> Any:
        return self.apply(input, bins=operator.index(bins), min=min, max=max)

    def infer(self, input: Meta, *, bins: int, min: Any, max: Any) -> Meta:
        if not input.dtype.is_floating_point:
            raise self.error(
                f"\"histogram_cpu\" not implemented for '{input.dtype.scalar_type}'",
                hint="x.float() converts",
                kind=NotImplementedError,
            )
        if bins <= 0:
            raise self.error("torch.histc(): bins must be > 0", str(bins))
        if max < min:
            raise self.error("torch.histc(): max must be larger than min", f"{min} and {max}")
        return meta((bins,), input.dtype)

    def reference(self, input: np.ndarray, *, bins: int, min: Any, max: Any) -> np.ndarray:
        x = input.reshape(-1)
        if min == max and x.size:
            min, max = x.min(), x.max()
        if min == max:
            min, max = min - 1, max + 1
        if not (np.isfinite(min) and np.isfinite(max)):
            raise self.error("torch.histc: range of [min, max] is not finite", f"[{min}, {max}]")
        kind = x.dtype.type
        low, high = kind(min), kind(max)
        inside = x[(x >= low) & (x <= high)]
        place = ((inside - low) / (high - low) * kind(bins)).astype(np.int64)
        return np.bincount(np.minimum(place, bins - 1), minlength=bins).astype(x.dtype)

    def lower(self, b: Builder, input: Any, *, bins: int, min: Any, max: Any) -> Stage:
        kind = input.dtype
        zeros = filled_stage(b, (bins,), 0, "int64")
        if is_empty(input.shape):
            return b.map((bins,), kind, lambda i: b.constant(0, kind))
        limits = self._limits(b, input, min, max)
        low, high = limits[0], limits[1]

        def place(*i: Index) -> Expression:
            x = b.where(self._is_inside(input[i], low, high), input[i], low)
            return b.cast((x - low) / (high - low) * bins, "int64")

        counts = b.scatter(
            zeros,
            input.shape,
            lambda *i: (b.max(b.min(place(*i), bins - 1), 0),),
            lambda *i: b.cast(self._is_inside(input[i], low, high), "int64"),
        )
        return b.map((bins,), kind, lambda i: b.cast(counts[i], kind))

    @staticmethod
    def _is_inside(x: Expression, low: Expression, high: Expression) -> Expression:
        return (x >= low) & (x <= high)

    def _limits(self, b: Builder, input: Any, min: Any, max: Any) -> Stage:
        """The lowest and the highest edge."""
        kind, over = input.dtype, input.shape
        if min == max:
            least = b.reduce("min", (), over, kind, lambda i, r: input[r])[()]
            greatest = b.reduce("max", (), over, kind, lambda i, r: input[r])[()]
        else:
            least, greatest = b.constant(min, kind), b.constant(max, kind)
        one = b.where(least.eq(greatest), b.constant(1, kind), 0)
        conditions = []

        def at(i: Index) -> Expression:
            edge = b.where(b.index(i).eq(0), least - one, greatest + one)
            conditions.append(b.abs(edge) < float("inf"))
            return edge

        made = b.map((2,), kind, at)
        return b.check(made, conditions, "[histc] torch.histc: range of [min, max] is not finite")


def _bincount_samples() -> Iterator[Sample]:
    yield Sample(integers(20))
    yield Sample(integers(6), array(6), 12)


@composite("bincount", samples=_bincount_samples)
def bincount(input: Any, weights: Any = None, minlength: int = 0) -> Any:
    """How often each non-negative integer occurs, or the sum of its ``weights``.

    The result has as many elements as the largest integer asks for, so pending work is carried
    out.
    """
    values = recorder.value(input)
    if values.dtype.kind not in "iu":
        raise OperationError.make(
            "bincount",
            f"\"bincount_cpu\" not implemented for '{input.dtype.scalar_type}'",
            kind=NotImplementedError,
        )
    if values.ndim != 1 or (values.size and values.min() < 0):
        raise OperationError.make(
            "bincount", "bincount only supports 1-d non-negative integral inputs."
        )
    if minlength < 0:
        raise OperationError.make("bincount", "minlength should be >= 0", str(minlength))
    if weights is None:
        return recorder.constant(np.bincount(values, minlength=minlength))
    weight = recorder.value(weights)
    if weight.shape != values.shape:
        raise OperationError.make(
            "bincount",
            "weights should be 1-d and have the same length as input",
            f"shapes {list(weight.shape)} and {list(values.shape)}",
        )
    made = np.bincount(values, weight, minlength)
    return recorder.constant(made.astype(np.float32) if weights.dtype is dtypes.float32 else made)


# -- with edges ------------------------------------------------------------------------------


def _edges(x: np.ndarray, bins: Any, limits: Sequence[float] | None) -> np.ndarray:
    """The edges of the bins along one coordinate: as given, or equally spaced."""
    if isinstance(bins, recorder.TensorBase):
        return recorder.value(bins)
    if limits is not None:
        low, high = limits
    elif x.size:
        low, high = float(x.min()), float(x.max())
    else:
        low, high = 0.0, 1.0
    if low > high:
        raise OperationError.make(
            "histogram", "torch.histogramdd: min should not exceed max", f"[{low}, {high}]"
        )
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, operator.index(bins) + 1).astype(x.dtype)


def _places(x: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Each element's bin, -1 outside; the last bin has its upper edge too."""
    place = np.searchsorted(edges, x, "right") - 1
    place[x == edges[-1]] = len(edges) - 2
    return np.where((x >= edges[0]) & (x <= edges[-1]), place, -1)


def _counted(points: np.ndarray, edges: list[np.ndarray], weight: Any, density: bool) -> np.ndarray:
    """Counts (or weights) of points (n, d) in the boxes between the edges."""
    places = [_places(points[:, d], e) for d, e in enumerate(edges)]
    inside = np.all([p >= 0 for p in places], axis=0)
    shape = tuple(len(e) - 1 for e in edges)
    weights = np.ones(len(points)) if weight is None else recorder.value(weight).reshape(-1)
    flat = np.ravel_multi_index([p[inside] for p in places], shape)
    counts = np.bincount(flat, weights[inside], int(np.prod(shape))).reshape(shape)
    if density:
        counts = counts / counts.sum()
        for d, e in enumerate(edges):
            counts = counts / np.diff(e).reshape([-1] + [1] * (len(shape) - 1 - d))
    return counts.astype(points.dtype)


def _check_histogram(input: Any, weight: Any) -> None:
    if input.dtype not in (dtypes.float32, dtypes.float64):
        raise OperationError.make(
            "histogram",
            f"\"histogramdd\" not implemented for '{input.dtype.scalar_type}'",
            hint="x.float() converts",
            kind=NotImplementedError,
        )
    if weight is not None and weight.dtype is not input.dtype:
        raise OperationError.make(
            "histogram",
            "torch.histogramdd: if weight tensor is provided, input tensor and weight tensor "
            f"should have the same dtype, but got input(input) {input.dtype.scalar_type}, and "
            f"weight(weight) {weight.dtype.scalar_type}",
        )


def _histogram_samples() -> Iterator[Sample]:
    yield Sample(array(30), 5)
    yield Sample(array(3, 10), 4, range=(-1.0, 1.0), density=True)
    yield Sample(array(30), np.array([-1.0, -0.5, 1.0]), weight=array(30, seed=1))


@composite("histogram", samples=_histogram_samples)
def histogram(
    input: Any,
    bins: Any,
    *,
    range: tuple[float, float] | None = None,
    weight: Any = None,
    density: bool = False,
) -> Any:
    """(hist, bin_edges): ``bins`` is their number, or a 1-d tensor of their edges.

    The edges depend on the values, so pending work is carried out. Floating point only.
    """
    _check_histogram(input, weight)
    x = recorder.value(input).reshape(-1, 1)
    edges = _edges(x, bins, range)
    counts = _counted(x, [edges], weight, density)
    return return_types.histogram((recorder.constant(counts), recorder.constant(edges.copy())))


def _histogramdd_samples() -> Iterator[Sample]:
    yield Sample(array(30, 2), [3, 2])
    yield Sample(array(30, 2), 3, range=[-1.0, 1.0, 0.0, 2.0], density=True)
    yield Sample(array(30, 2), [np.array([-1.0, 0.0, 2.0]), np.array([-2.0, 1.0])])


@composite("histogramdd", methods=(), samples=_histogramdd_samples)
def histogramdd(
    input: Any,
    bins: Any,
    range: Sequence[float] | None = None,
    weight: Any = None,
    density: bool = False,
) -> Any:
    """(hist, bin_edges) of points (..., d): a d-dimensional histogram and d tensors of edges.

    ``bins`` is one number, a number for each dimension, or a list of tensors of edges; ``range``
    the smallest and largest edge of each dimension in turn.
    """
    _check_histogram(input, weight)
    if input.ndim < 2:
        raise OperationError.make(
            "histogramdd",
            "torch.histogramdd: input tensor should have at least 2 dimensions, but got "
            f"{input.ndim}",
        )
    d = input.shape[-1]
    x = recorder.value(input).reshape(-1, d)
    each = list(bins) if isinstance(bins, (tuple, list)) else [bins] * d
    if len(each) != d:
        raise OperationError.make(
            "histogramdd",
            "torch.histogramdd: expected as many sequences of bin edges as the innermost "
            f"dimension of the input tensor, {d}, but got {len(each)}",
        )
    limits = [None] * d if range is None else list(zip(range[::2], range[1::2], strict=True))
    edges = [_edges(x[:, i], b, r) for i, (b, r) in enumerate(zip(each, limits, strict=True))]
    counts = _counted(x, edges, weight, density)
    made = (recorder.constant(counts), tuple(recorder.constant(e.copy()) for e in edges))
    return return_types.histogramdd(made)
