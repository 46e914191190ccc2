"""Scans along one dimension: running sums, products and extremes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu import dtypes, return_types
from taimatsu.dtypes import dtype as DType
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import FLOATS, Expression
from taimatsu.ir.index import Index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage
from taimatsu.ops.base import REGISTRY, Sample, array, booleans, integers, register
from taimatsu.ops.reducing import Accumulating, Wide, numpy_names, sum_result
from taimatsu.ops.reductions import product_before
from taimatsu.shapes import normalize_axis


def scan_samples() -> Iterator[Sample]:
    """Each dimension, none, nothing along it."""
    yield Sample(array(3, 4), 0)
    yield Sample(array(2, 3, 4), -2, dtypes=("float32", "float64", "float16"))
    yield Sample(array(), 0)
    yield Sample(array(3, 0), 1, grad=False)


class Scan(Accumulating, abstract=True):
    """cumsum and cumprod: the running result along ``dim``, in ``dtype`` if given."""

    inplace = True

    @numpy_names
    def __call__(self, input: Any, dim: int, *, dtype: DType | None = None) -> Any:
        return self.apply(input, dim=normalize_axis(dim, input.ndim), dtype=dtype)

    def infer(self, input: Meta, *, dim: int, dtype: DType | None) -> Meta:
        return meta(input.shape, dtype if dtype is not None else sum_result(input.dtype))

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield from scan_samples()
        yield Sample(integers(3, 4, low=1, high=4), 1)
        yield Sample(booleans(3, 4), 0, dtype=dtypes.float32)
        yield Sample(np.array([[1.0, 0.0, 3.0], [0.0, 0.0, 2.0]]), 1)


def _along(scan: Any, x: np.ndarray, dim: int) -> np.ndarray:
    return scan(x, axis=dim, dtype=x.dtype) if x.ndim else x.copy()


def _scan_stages(b: Builder, combine: str, x: Any, dim: int) -> Stage:
    """``x`` combined from the start of ``dim`` to each place."""
    if not x.shape:
        return b.map((), x.dtype, lambda: x[()])
    return b.scan(combine, x.shape, dim, x.dtype, lambda *i: x[i])


@register
class Cumsum(Scan):
    """Running sum along ``dim``. Integers and booleans sum in int64."""

    def reference(self, input: np.ndarray, *, dim: int, dtype: DType | None) -> np.ndarray:
        return _along(np.cumsum, input, dim)

    def lower(self, b: Builder, input: Any, *, dim: int, dtype: DType | None) -> Stage:
        return _scan_stages(b, "add", input, dim)

    def gradient(self, g: Any, out: Any, input: Meta, *, dim, dtype) -> Any:
        return g.flip(dim).cumsum(dim).flip(dim) if g.ndim else g


@register
class Cumprod(Scan):
    """Running product along ``dim``. Integers multiply up in int64."""

    saves = ("input",)

    def reference(self, input: np.ndarray, *, dim: int, dtype: DType | None) -> np.ndarray:
        return _along(np.cumprod, input, dim)

    def lower(self, b: Builder, input: Any, *, dim: int, dtype: DType | None) -> Stage:
        return _scan_stages(b, "mul", input, dim)

    def gradient(self, g: Any, out: Any, input: Any, *, dim, dtype) -> Any:
        # out[k] = x[0] ... x[k]; d/dx[i] = before[i] * s[i] with
        # s[i] = sum over k >= i of g[k] x[i+1] ... x[k] = g[i] + x[i+1] s[i+1]: no division.
        if g.ndim == 0 or g.shape[dim] == 0:
            return g
        x = input.to(g.dtype)
        if x.is_complex():
            x = x.conj()
        tails = reversed_recurrence(_next(x, dim), g, dim)
        return product_before(x, dim) * tails


def _next(x: Any, dim: int) -> Any:
    """The elements moved one place to the front along ``dim``, zero behind the last."""
    rest = x.narrow(dim, 1, x.shape[dim] - 1)
    last = x.narrow(dim, 0, 1)
    return REGISTRY["cat"]([rest, last.new_zeros(last.shape)], dim)


def _previous(x: Any, dim: int) -> Any:
    """The elements moved one place to the back along ``dim``, zero before the first."""
    first = x.narrow(dim, 0, 1)
    return REGISTRY["cat"]([first.new_zeros(first.shape), x.narrow(dim, 0, x.shape[dim] - 1)], dim)


def reversed_recurrence(a: Any, b: Any, dim: int) -> Any:
    """s[i] = b[i] + a[i] s[i+1] along ``dim``, from the last element to the first."""
    forward = LinearRecurrence.apply(a.flip(dim), b.flip(dim), dim=dim)
    return forward.flip(dim)


@register
class LinearRecurrence(Wide):
    """s[i] = b[i] + a[i] s[i-1] along ``dim`` (s[-1] = 0); its gradient is one of its kind."""

    # No ``lower``: its steps combine pairs (a, b), and a scan of stages combines single numbers.

    hidden = True
    methods = ()
    saves = ("a", "out")

    def infer(self, a: Meta, b: Meta, *, dim: int) -> Meta:
        return meta(b.shape, b.dtype)

    def reference(self, a: np.ndarray, b: np.ndarray, *, dim: int) -> np.ndarray:
        factors = np.moveaxis(a, dim, 0)
        out = np.empty(b.shape, b.dtype)
        steps = np.moveaxis(out, dim, 0)
        state = np.zeros(steps.shape[1:], b.dtype)
        for i, term in enumerate(np.moveaxis(b, dim, 0)):
            state = term + factors[i] * state
            steps[i] = state
        return out

    def gradient(self, g: Any, out: Any, a: Any, b: Any, *, dim) -> Any:
        conjugate = a.conj() if a.is_complex() else a
        to_b = reversed_recurrence(_next(conjugate, dim), g, dim)

        def to_a() -> Any:
            before = _previous(out, dim)
            return to_b * (before.conj() if before.is_complex() else before)

        return to_a, to_b


@register
class Logcumsumexp(Wide):
    """log(cumsum(exp(x))) along ``dim``, computed without overflow; floating point only."""

    # No ``lower``: logaddexp is none of what scans of stages combine with.

    saves = ("input", "out")

    @numpy_names
    def __call__(self, input: Any, dim: int) -> Any:
        return self.apply(input, dim=normalize_axis(dim, input.ndim))

    def infer(self, input: Meta, *, dim: int) -> Meta:
        if not input.dtype.is_floating_point:
            raise self.error(
                f"\"logcumsumexp_out_cpu\" not implemented for '{input.dtype.scalar_type}'",
                hint="x.float() converts",
                kind=NotImplementedError,
            )
        return meta(input.shape, input.dtype)

    def reference(self, input: np.ndarray, *, dim: int) -> np.ndarray:
        return np.logaddexp.accumulate(input, axis=dim) if input.ndim else input.copy()

    def gradient(self, g: Any, out: Any, input: Any, *, dim) -> Any:
        # d out[k]/dx[i] = exp(x[i] - out[k]) for k >= i. Summed from the back with the factors
        # exp(out[i] - out[i+1]), which are at most 1, nothing overflows.
        if g.ndim == 0 or g.shape[dim] == 0:
            return g
        extent = out.shape[dim]
        rest = out.narrow(dim, 1, extent - 1)
        ratio = (out.narrow(dim, 0, extent - 1) - rest).exp()
        nothing_yet = rest == float("-inf")
        last = out.narrow(dim, 0, 1)
        ratio = ratio.masked_fill(nothing_yet, 0)
        factors = REGISTRY["cat"]([ratio, last.new_zeros(last.shape)], dim)
        tails = reversed_recurrence(factors, g, dim)
        return tails * (input - out).exp().masked_fill(input == float("-inf"), 0)

    samples = staticmethod(scan_samples)


class RunningExtreme(Wide, abstract=True):
    """cummax and cummin: values and the index of the latest that attains each; NaN stays."""

    outputs = 2
    saves = ("out[1]",)

    @numpy_names
    def __call__(self, input: Any, dim: int) -> Any:
        made = self.apply(input, dim=normalize_axis(dim, input.ndim))
        return getattr(return_types, self.name)(made)

    def infer(self, input: Meta, *, dim: int) -> tuple[Meta, Meta]:
        return meta(input.shape, input.dtype), meta(input.shape, dtypes.int64)

    combine = ""  # what scans of stages call it

    def extreme(self) -> np.ufunc:
        raise NotImplementedError

    def reference(self, input: np.ndarray, *, dim: int) -> tuple[np.ndarray, np.ndarray]:
        if input.ndim == 0:
            return input.copy(), np.zeros((), np.int64)
        values = self.extreme().accumulate(input, axis=dim)
        attained = (input == values) | ((input != input) & (values != values))
        shape = [1] * input.ndim
        shape[dim] = input.shape[dim]
        place = np.arange(input.shape[dim], dtype=np.int64).reshape(shape)
        return values, np.maximum.accumulate(np.where(attained, place, 0), axis=dim)

    def lower(self, b: Builder, input: Any, *, dim: int) -> tuple[Stage, Stage]:
        values = _scan_stages(b, self.combine, input, dim)
        if not input.shape:
            return values, b.map((), "int64", lambda: b.constant(0, "int64"))

        def attained(*i: Index) -> Expression:
            here = input[i].eq(values[i])
            if input.dtype in FLOATS:
                here = here | (b.isnan(input[i]) & b.isnan(values[i]))
            return b.where(here, b.index(i[dim]), 0)

        return values, b.scan("max", input.shape, dim, "int64", attained)

    def gradient(self, g: tuple, out: tuple, input: Meta, *, dim) -> Any:
        if g[0] is None:
            return None
        if input.ndim == 0:
            return g[0]
        return g[0].new_zeros(input.shape).scatter_add(dim, out[1], g[0])

    @staticmethod
    def samples() -> Iterator[Sample]:
        yield from scan_samples()
        yield Sample(np.array([1.0, 3.0, 3.0, np.nan, 2.0, np.nan]), 0, grad=False)
        yield Sample(integers(3, 4), 1)


@register
class Cummax(RunningExtreme):
    """Running maximum along ``dim``: (values, indices)."""

    combine = "max"

    def extreme(self) -> np.ufunc:
        return np.maximum


@register
class Cummin(RunningExtreme):
    """Running minimum along ``dim``: (values, indices)."""

    combine = "min"

    def extreme(self) -> np.ufunc:
        return np.minimum
