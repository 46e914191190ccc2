"""Extremes: the largest and smallest elements, of all or over dimensions, and where they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu import dtypes, recorder, return_types
from taimatsu.dtypes import dtype as DType
from taimatsu.ir.builder import Builder
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage
from taimatsu.ops.base import REGISTRY, Sample, array, composite, integers, register
from taimatsu.ops.coordinates import Source
from taimatsu.ops.reduced_stages import fold, greatest, least, ordered
from taimatsu.ops.reducing import (
    ReductionRules,
    Wide,
    axes_of,
    check_not_empty,
    numpy_names,
    one_axis,
    reduced_shape,
    restore,
    rows,
)
from taimatsu.ops.reductions import dim_samples
from taimatsu.ops.selecting import Choice, WholeChoice, shared_evenly


class Extreme(ReductionRules, Wide, abstract=True):
    """amax and amin: ties share the gradient evenly."""

    saves = ("input", "out")

    @numpy_names
    def __call__(
        self, input: Any, dim: int | tuple[int, ...] | list[int] = (), keepdim: bool = False
    ) -> Any:
        return self.apply(input, dim=axes_of(dim, input.ndim), keepdim=bool(keepdim))

    def infer(self, input: Meta, *, dim: tuple[int, ...] | None, keepdim: bool) -> Meta:
        check_not_empty(self.name, input, dim)
        return super().infer(input, dim=dim, keepdim=keepdim)

    def gradient(self, g: Any, out: Any, input: Any, *, dim, keepdim) -> Any:
        chosen = input == restore(out, dim, keepdim)
        return shared_evenly(restore(g, dim, keepdim), chosen, dim)

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield Sample(array(3, 4))
        yield Sample(array(3, 4), 1, dtypes=("float32", "float64", "float16"))
        yield Sample(array(2, 3, 4), (0, -1), keepdim=True)
        yield Sample(array(), 0)
        yield Sample(np.array([[1.0, np.nan], [3.0, 2.0]]), 1, grad=False)
        yield Sample(np.array([[3.0, 3.0], [1.0, 2.0]]), 1, grad=False)
        yield Sample(integers(3, 4), 0)


@register
class Amax(Extreme):
    """Largest element, or largest along ``dim``; NaN wins. Ties share the gradient evenly."""

    def fold(self, x: np.ndarray) -> np.ndarray:
        return x.max(-1)

    def fold_stages(self, b: Builder, x: Source, dim: Any, keepdim: bool) -> Stage:
        return fold(b, greatest(x.dtype), x, dim, keepdim)


@register
class Amin(Extreme):
    """Smallest element, or smallest along ``dim``; NaN wins. Ties share the gradient evenly."""

    def fold(self, x: np.ndarray) -> np.ndarray:
        return x.min(-1)

    def fold_stages(self, b: Builder, x: Source, dim: Any, keepdim: bool) -> Stage:
        return fold(b, least(x.dtype), x, dim, keepdim)


class WholeExtreme(WholeChoice, abstract=True):
    """max() and min() of all elements."""

    def infer(self, input: Meta) -> Meta:
        check_not_empty(self.name.removesuffix("_all"), input, None)
        return super().infer(input)


@register
class MaxAll(WholeExtreme):
    """The largest element of all."""

    backward_name = "MaxBackward1"

    def reference(self, input: np.ndarray) -> np.ndarray:
        return input.max()

    def lower(self, b: Builder, input: Any) -> Stage:
        return fold(b, greatest(input.dtype), input, None, False)


@register
class MinAll(WholeExtreme):
    """The smallest element of all."""

    backward_name = "MinBackward1"

    def reference(self, input: np.ndarray) -> np.ndarray:
        return input.min()

    def lower(self, b: Builder, input: Any) -> Stage:
        return fold(b, least(input.dtype), input, None, False)


@register
class MaxDim(Choice):
    """Largest element along one dimension, and where it first occurs."""

    backward_name = "MaxBackward0"
    public = "max"

    def pick(self, x: np.ndarray) -> np.ndarray:
        return x.argmax(-1)

    def lower(self, b: Builder, input: Any, *, dim: Any, keepdim: bool) -> tuple[Stage, Stage]:
        values = fold(b, greatest(input.dtype), input, dim, keepdim)
        return values, place_of(b, "argmax", input, dim, keepdim)


@register
class MinDim(Choice):
    """Smallest element along one dimension, and where it first occurs."""

    backward_name = "MinBackward0"
    public = "min"

    def pick(self, x: np.ndarray) -> np.ndarray:
        return x.argmin(-1)

    def lower(self, b: Builder, input: Any, *, dim: Any, keepdim: bool) -> tuple[Stage, Stage]:
        values = fold(b, least(input.dtype), input, dim, keepdim)
        return values, place_of(b, "argmin", input, dim, keepdim)


def place_of(b: Builder, combine: str, x: Source, dim: Any, keepdim: bool) -> Stage:
    """Where the first greatest (least) element stands among the reduced ones, int64."""
    return fold(b, combine, x, dim, keepdim, lambda *i: ordered(b, x[i]), "int64")


def extreme_samples() -> Iterator[Sample]:
    yield from dim_samples()
    yield Sample(array(3, 4), array(4, seed=1))
    yield Sample(np.array([[1.0, 3.0, 3.0], [2.0, np.nan, 2.0]]), 1, grad=False)
    yield Sample(np.array([1.0, 3.0, 3.0]), grad=False)


@composite("max", samples=extreme_samples)
@numpy_names
def max_(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """``max(x)``: the largest element. ``max(x, dim)``: (values, indices) along a dimension.

    ``max(x, other)``: the larger of two tensors, elementwise. NaN wins; of equal elements the
    first is named. With ``dim`` the gradient goes to that element, without to all equally.
    """
    if other is not None or isinstance(dim, recorder.TensorBase):
        return REGISTRY["maximum"](input, other if other is not None else dim)
    if dim is None:
        return MaxAll.apply(input)
    axes = one_axis(dim, input.ndim)
    return return_types.max(MaxDim.apply(input, dim=axes, keepdim=bool(keepdim)))


@composite("min", samples=extreme_samples)
@numpy_names
def min_(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """``min(x)``: the smallest element. ``min(x, dim)``: (values, indices) along a dimension.

    ``min(x, other)``: the smaller of two tensors, elementwise. NaN wins; of equal elements the
    first is named. With ``dim`` the gradient goes to that element, without to all equally.
    """
    if other is not None or isinstance(dim, recorder.TensorBase):
        return REGISTRY["minimum"](input, other if other is not None else dim)
    if dim is None:
        return MinAll.apply(input)
    axes = one_axis(dim, input.ndim)
    return return_types.min(MinDim.apply(input, dim=axes, keepdim=bool(keepdim)))


@register
class Aminmax(Wide):
    """Smallest and largest element, of all or along one ``dim``, in one pass."""

    outputs = 2
    saves = ("input", "out")

    @numpy_names
    def __call__(self, input: Any, *, dim: int | None = None, keepdim: bool = False) -> Any:
        axes = None if dim is None else one_axis(dim, input.ndim)
        return return_types.aminmax(self.apply(input, dim=axes, keepdim=bool(keepdim)))

    def infer(
        self, input: Meta, *, dim: tuple[int, ...] | None, keepdim: bool
    ) -> tuple[Meta, Meta]:
        check_not_empty("aminmax", input, dim)
        made = meta(reduced_shape(input.shape, dim, keepdim), input.dtype)
        return made, made

    def reference(
        self, input: np.ndarray, *, dim: tuple[int, ...] | None, keepdim: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        lines = rows(input, dim)
        shape = reduced_shape(input.shape, dim, keepdim)
        return lines.min(-1).reshape(shape), lines.max(-1).reshape(shape)

    def lower(self, b: Builder, input: Any, *, dim: Any, keepdim: bool) -> tuple[Stage, Stage]:
        smallest = fold(b, least(input.dtype), input, dim, keepdim)
        return smallest, fold(b, greatest(input.dtype), input, dim, keepdim)

    def gradient(self, g: tuple, out: tuple, input: Any, *, dim, keepdim) -> Any:
        parts = [
            shared_evenly(restore(grad, dim, keepdim), input == restore(value, dim, keepdim), dim)
            for grad, value in zip(g, out, strict=True)
            if grad is not None
        ]
        return sum(parts[1:], start=parts[0])

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield Sample(array(3, 4))
        yield Sample(array(3, 4), dim=1, keepdim=True)
        yield Sample(array(), dim=0)


class IndexOnly(ReductionRules, Wide, abstract=True):
    """argmax and argmin: the first position; without ``dim`` that in the flattened tensor."""

    differentiable = False

    @numpy_names
    def __call__(self, input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
        axes = None if dim is None else one_axis(dim, input.ndim)
        return self.apply(input, dim=axes, keepdim=bool(keepdim))

    def result(self, dtype: DType) -> DType:
        return dtypes.int64

    def infer(self, input: Meta, *, dim: tuple[int, ...] | None, keepdim: bool) -> Meta:
        check_not_empty(self.name, input, dim)
        return super().infer(input, dim=dim, keepdim=keepdim)

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield from dim_samples()
        yield Sample(np.array([[1.0, 3.0, 3.0], [2.0, np.nan, 2.0]]), 1)
        yield Sample(integers(3, 4), 0)


@register
class Argmax(IndexOnly):
    """Index of the largest element (the first of equal ones; NaN wins)."""

    def fold(self, x: np.ndarray) -> np.ndarray:
        return x.argmax(-1)

    def fold_stages(self, b: Builder, x: Source, dim: Any, keepdim: bool) -> Stage:
        return place_of(b, "argmax", x, dim, keepdim)


@register
class Argmin(IndexOnly):
    """Index of the smallest element (the first of equal ones; NaN wins)."""

    def fold(self, x: np.ndarray) -> np.ndarray:
        return x.argmin(-1)

    def fold_stages(self, b: Builder, x: Source, dim: Any, keepdim: bool) -> Stage:
        return place_of(b, "argmin", x, dim, keepdim)
