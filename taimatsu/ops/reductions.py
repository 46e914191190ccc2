"""Reductions: sums, products, all and any, over all elements or over dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu import dtypes
from taimatsu.dtypes import dtype as DType
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage
from taimatsu.ops.base import (
    REGISTRY,
    Sample,
    array,
    booleans,
    composite,
    integers,
    register,
)
from taimatsu.ops.coordinates import Source
from taimatsu.ops.reduced_stages import fold, is_float, mean_of, reduced_place
from taimatsu.ops.reducing import (
    Accumulating,
    ReductionRules,
    Wide,
    axes_of,
    float_result,
    is_inexact,
    numpy_names,
    one_axis,
    reduced_count,
    reduced_shape,
    restore,
    sum_result,
)

Dim = int | tuple[int, ...] | list[int] | None


def reduction_samples() -> Iterator[Sample]:
    """All elements, one dimension, several, none left, none there."""
    yield Sample(array(3, 4))
    yield Sample(array(3, 4), 1, dtypes=("float32", "float64", "float16", "bfloat16"))
    yield Sample(array(2, 3, 4), (0, -1), keepdim=True)
    yield Sample(array(2, 3, 4), -2)
    yield Sample(array())
    yield Sample(array(), 0)
    yield Sample(array(0, 3), 0, grad=False)


def dim_samples() -> Iterator[Sample]:
    """One dimension or all: what prod, argmax and the like take."""
    yield Sample(array(3, 4))
    yield Sample(array(3, 4), 1, dtypes=("float32", "float64", "float16"))
    yield Sample(array(2, 3, 4), -2, keepdim=True)
    yield Sample(array(), 0)


class Summing(ReductionRules, Accumulating, abstract=True):
    """A reduction with ``dtype=``: the dtype it computes in, and of its result."""

    def result(self, dtype: DType) -> DType:
        return sum_result(dtype)

    def infer(
        self, input: Meta, *, dim: tuple[int, ...] | None, keepdim: bool, dtype: DType | None
    ) -> Meta:
        shape = reduced_shape(input.shape, dim, keepdim)
        return meta(shape, dtype if dtype is not None else self.result(input.dtype))

    def reference(
        self,
        input: np.ndarray,
        *,
        dim: tuple[int, ...] | None,
        keepdim: bool,
        dtype: DType | None,
    ) -> np.ndarray:
        return ReductionRules.reference(self, input, dim=dim, keepdim=keepdim)

    def lower(
        self, b: Builder, input: Any, *, dim: Any, keepdim: bool, dtype: DType | None
    ) -> Stage | None:
        return self.fold_stages(b, input, dim, keepdim)


@register
class Sum(Summing):
    """Sum over all elements or over ``dim``. Integers and booleans sum in int64."""

    overloads = True

    @numpy_names
    def __call__(
        self, input: Any, dim: Dim = None, keepdim: bool = False, *, dtype: DType | None = None
    ) -> Any:
        dim = axes_of(dim, input.ndim)
        return self.apply(input, dim=dim, keepdim=bool(keepdim), dtype=dtype)

    def fold(self, x: np.ndarray) -> np.ndarray:
        return x.sum(-1, dtype=x.dtype)

    def fold_stages(self, b: Builder, x: Source, dim: Any, keepdim: bool) -> Stage:
        return fold(b, "add", x, dim, keepdim)

    def gradient(self, g: Any, out: Any, input: Meta, *, dim, keepdim, dtype) -> Any:
        return restore(g, dim, keepdim).expand(input.shape)

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield from reduction_samples()
        yield Sample(integers(3, 4), 0)
        yield Sample(booleans(3, 4), 0, dtype=dtypes.float32)
        yield Sample(array(3, 4), axis=1, keepdims=True)


@register
class Nansum(Summing):
    """Sum that counts NaN as zero. Integers and booleans sum in int64."""

    saves = ("input",)

    @numpy_names
    def __call__(
        self, input: Any, dim: Dim = None, keepdim: bool = False, *, dtype: DType | None = None
    ) -> Any:
        dim = axes_of(dim, input.ndim)
        return self.apply(input, dim=dim, keepdim=bool(keepdim), dtype=dtype)

    def fold(self, x: np.ndarray) -> np.ndarray:
        return np.where(x != x, x.dtype.type(0), x).sum(-1, dtype=x.dtype)

    def fold_stages(self, b: Builder, x: Source, dim: Any, keepdim: bool) -> Stage:
        def known(*i: Index) -> Expression:
            return b.where(b.isnan(x[i]), 0, x[i]) if is_float(x) else x[i]

        return fold(b, "add", x, dim, keepdim, known)

    def gradient(self, g: Any, out: Any, input: Any, *, dim, keepdim, dtype) -> Any:
        return restore(g, dim, keepdim).expand(input.shape).masked_fill(input.isnan(), 0)

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield from reduction_samples()
        yield Sample(np.array([[1.0, np.nan], [np.nan, 2.0]]), 0, grad=False)


@register
class Mean(Summing):
    """Arithmetic mean of all elements or over ``dim``; floating point or complex only.

    Raises RuntimeError for integer and boolean inputs without ``dtype=``.
    """

    overloads = True

    @numpy_names
    def __call__(
        self, input: Any, dim: Dim = None, keepdim: bool = False, *, dtype: DType | None = None
    ) -> Any:
        self._check_dtype(dtype if dtype is not None else input.dtype, dtype is not None)
        dim = axes_of(dim, input.ndim)
        return self.apply(input, dim=dim, keepdim=bool(keepdim), dtype=dtype)

    def _check_dtype(self, kind: DType, asked_for: bool) -> None:
        if not is_inexact(kind):
            what = "Optional dtype" if asked_for else "Input dtype"
            raise self.error(
                f"mean(): could not infer output dtype. {what} must be either a floating point or "
                f"complex dtype. Got: {kind.scalar_type}",
                hint="x.float().mean() computes it in float32",
            )

    def fold(self, x: np.ndarray) -> np.ndarray:
        total = x.sum(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return total / x.real.dtype.type(x.shape[-1])

    def fold_stages(self, b: Builder, x: Source, dim: Any, keepdim: bool) -> Stage:
        return mean_of(b, x, dim, keepdim)

    def gradient(self, g: Any, out: Any, input: Meta, *, dim, keepdim, dtype) -> Any:
        count = max(reduced_count(input.shape, dim), 1)
        return (restore(g, dim, keepdim) / count).expand(input.shape)

    samples = staticmethod(reduction_samples)


@composite("nanmean", samples=reduction_samples)
@numpy_names
def nanmean(
    input: Any, dim: Dim = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Any:
    """Mean of the elements that are not NaN; NaN where there are none."""
    if not is_inexact(input.dtype):
        raise RuntimeError(
            "nanmean(): expected input to have floating point or complex dtype but got "
            f"{input.dtype.scalar_type}"
        )
    total = input.nansum(dim, keepdim, dtype=dtype)
    return total / input.isnan().logical_not().sum(dim, keepdim)


@register
class Prod(Summing):
    """Product of all elements or along one ``dim``. Integers multiply up in int64."""

    overloads = True
    saves = ("input",)

    @numpy_names
    def __call__(
        self,
        input: Any,
        dim: int | None = None,
        keepdim: bool = False,
        *,
        dtype: DType | None = None,
    ) -> Any:
        axes = None if dim is None else one_axis(dim, input.ndim)
        return self.apply(input, dim=axes, keepdim=bool(keepdim), dtype=dtype)

    def fold(self, x: np.ndarray) -> np.ndarray:
        return x.prod(-1, dtype=x.dtype)

    def fold_stages(self, b: Builder, x: Source, dim: Any, keepdim: bool) -> Stage:
        return fold(b, "mul", x, dim, keepdim)

    def gradient(self, g: Any, out: Any, input: Any, *, dim, keepdim, dtype) -> Any:
        # The product of all others: the product of those before times that of those after.
        # No division, so zeros are no special case.
        if dtype is not None:
            input = input.to(dtype)
        if input.ndim == 0:
            return g
        line = input.reshape(-1) if dim is None else input
        axis = 0 if dim is None else dim[0]
        others = product_before(line, axis) * product_after(line, axis)
        if dim is None:
            others = others.reshape(input.shape)
        return restore(g, dim, keepdim) * (others.conj() if others.is_complex() else others)

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield from dim_samples()
        yield Sample(integers(3, 4, low=1), 0)
        yield Sample(np.array([[1.0, 0.0, 3.0], [0.0, 0.0, 2.0]]), 1)
        yield Sample(np.array([[1.0, 0.0, 3.0], [2.0, 5.0, 2.0]]))


def product_before(x: Any, dim: int) -> Any:
    """At each position along ``dim`` the product of the elements before it (1 at the first)."""
    extent = x.shape[dim]
    if extent == 0:
        return x
    first = x.narrow(dim, 0, 1).detach().new_ones(x.narrow(dim, 0, 1).shape)
    shifted = REGISTRY["cat"]([first, x.narrow(dim, 0, extent - 1)], dim)
    return shifted.cumprod(dim)


def product_after(x: Any, dim: int) -> Any:
    """At each position along ``dim`` the product of the elements after it (1 at the last)."""
    return product_before(x.flip(dim), dim).flip(dim)


# -- truth -----------------------------------------------------------------------------------


class Truth(ReductionRules, Wide, abstract=True):
    """all and any: bool results (uint8 for uint8 inputs, as PyTorch has it)."""

    differentiable = False

    @numpy_names
    def __call__(self, input: Any, dim: Dim = None, keepdim: bool = False) -> Any:
        return self.apply(input, dim=axes_of(dim, input.ndim), keepdim=bool(keepdim))

    def result(self, dtype: DType) -> DType:
        return dtypes.uint8 if dtype is dtypes.uint8 else dtypes.bool_

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield Sample(booleans(3, 4))
        yield Sample(booleans(3, 4), 1)
        yield Sample(booleans(2, 3, 4), (0, 2), keepdim=True)
        yield Sample(integers(3, 4, high=2), -1)
        yield Sample(booleans(0, 3), 0)


@register
class All(Truth):
    """Whether every element is true (nonzero); True of none."""

    def fold(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x.astype(bool).all(-1))

    def fold_stages(self, b: Builder, x: Source, dim: Any, keepdim: bool) -> Stage:
        return fold(b, "and", x, dim, keepdim, lambda *i: b.cast(x[i], "bool"), "bool")


@register
class AnyTrue(Truth):
    """Whether some element is true (nonzero); False of none."""

    name = "any"
    backward_name = "AnyBackward0"

    def fold(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x.astype(bool).any(-1))

    def fold_stages(self, b: Builder, x: Source, dim: Any, keepdim: bool) -> Stage:
        return fold(b, "or", x, dim, keepdim, lambda *i: b.cast(x[i], "bool"), "bool")


@register
class CountNonzero(ReductionRules, Wide):
    """How many elements are not zero, of all or over ``dim``."""

    differentiable = False

    @numpy_names
    def __call__(self, input: Any, dim: Dim = None) -> Any:
        return self.apply(input, dim=axes_of(dim, input.ndim), keepdim=False)

    def result(self, dtype: DType) -> DType:
        return dtypes.int64

    def fold(self, x: np.ndarray) -> np.ndarray:
        return np.count_nonzero(x, axis=-1)

    def fold_stages(self, b: Builder, x: Source, dim: Any, keepdim: bool) -> Stage:
        def counted(*i: Index) -> Expression:
            return b.cast(b.cast(x[i], "bool"), "int64")

        return fold(b, "add", x, dim, keepdim, counted, "int64")

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield Sample(integers(3, 4, high=3))
        yield Sample(integers(3, 4, high=3), 1)
        yield Sample(integers(2, 3, 4, high=3), (0, -1))


@register
class Logsumexp(ReductionRules, Accumulating):
    """log(sum(exp(x))) over ``dim``, computed without overflow."""

    functions = ("logsumexp", "special.logsumexp")
    saves = ("input", "out")

    @numpy_names
    def __call__(self, input: Any, dim: Dim, keepdim: bool = False) -> Any:
        return self.apply(input, dim=axes_of(dim, input.ndim), keepdim=bool(keepdim))

    def result(self, dtype: DType) -> DType:
        return float_result(dtype)

    def fold(self, x: np.ndarray) -> np.ndarray:
        return stable_logsumexp(x)

    def fold_stages(self, b: Builder, x: Source, dim: Any, keepdim: bool) -> Stage:
        top = fold(b, "max", x, dim, keepdim)

        def taken_out(where: tuple) -> Expression:
            return b.where(b.abs(top[where]) < np.inf, top[where], 0)

        def power(*i: Index) -> Expression:
            return b.exp(x[i] - taken_out(reduced_place(dim, keepdim, i)))

        total = fold(b, "add", x, dim, keepdim, power)
        return b.map(total.shape, x.dtype, lambda *i: b.log(total[i]) + taken_out(i))

    def gradient(self, g: Any, out: Any, input: Any, *, dim, keepdim) -> Any:
        weights = (input - restore(out, dim, keepdim)).exp()
        return restore(g, dim, keepdim) * weights

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield Sample(array(3, 4), 1, dtypes=("float32", "float64", "float16"))
        yield Sample(array(2, 3, 4), (0, -1), keepdim=True)
        yield Sample(array(), 0)
        yield Sample(integers(3, 4), 0)
        yield Sample(np.array([[1000.0, 1000.0], [-np.inf, -np.inf]]), 1, grad=False)


def stable_logsumexp(x: np.ndarray) -> np.ndarray:
    """log(sum(exp(x))) of the last axis; the largest element is taken out first."""
    top = x.real.max(-1, initial=-np.inf)
    top = np.where(np.isfinite(top), top, top.dtype.type(0))
    with np.errstate(divide="ignore", over="ignore"):
        return np.log(np.exp(x - top[..., None]).sum(-1)) + top
