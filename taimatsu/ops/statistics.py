"""Statistics: variance, median, mode, quantiles, covariance."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
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
from taimatsu.ops.lines import in_order, place_of_kth, places_in_lines
from taimatsu.ops.reduced_stages import (
    count_value,
    fold,
    mean_of,
    reduced_extents,
    reduced_place,
)
from taimatsu.ops.reducing import (
    Wide,
    axes_of,
    is_inexact,
    numpy_names,
    one_axis,
    reduced_count,
    reduced_shape,
    restore,
    rows,
)
from taimatsu.ops.selecting import Choice, WholeChoice
from taimatsu.shapes import normalize_axis


def _variance_samples() -> Iterator[Sample]:
    yield Sample(array(3, 4))
    yield Sample(array(3, 4), 1, dtypes=("float32", "float64", "float16"))
    yield Sample(array(2, 3, 4), (0, -1), correction=0, keepdim=True)
    yield Sample(array(2, 3, 4), dim=1, unbiased=False)
    yield Sample(array(3, 4), False)
    yield Sample(array(3, 4), 0, True, True)


def _spread(dim: Any, unbiased: Any, correction: Any) -> tuple[Any, Any]:
    """(dim, correction) from the three ways to call var and its relatives."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if unbiased is not None and correction is not None:
        raise TypeError("var() takes unbiased or correction, not both")
    if correction is None:
        correction = 0 if unbiased is False else 1
    return dim, correction


class Spread(Wide, abstract=True):
    """Variance and standard deviation: sums of squared distances from the mean, two passes."""

    samples = staticmethod(_variance_samples)

    @numpy_names
    def __call__(
        self,
        input: Any,
        dim: Any = None,
        unbiased: bool | None = None,
        keepdim: bool = False,
        *,
        correction: Any = None,
    ) -> Any:
        dim, correction = _spread(dim, unbiased, correction)
        dim = axes_of(dim, input.ndim)
        if reduced_count(input.shape, dim) <= correction:
            warnings.warn(
                f"{self.name}(): degrees of freedom is <= 0. Correction should be strictly less "
                "than the reduction factor (input numel divided by output numel).",
                stacklevel=3,
            )
        return self.apply(input, dim=dim, correction=correction, keepdim=bool(keepdim))

    def infer(self, input: Meta, *, dim: Any, correction: Any, keepdim: bool) -> Meta:
        if not is_inexact(input.dtype):
            raise self.error(
                "std and var only support floating point and complex dtypes",
                input.dtype.scalar_type,
                f"x.float().{self.name}() computes it in float32",
            )
        return meta(reduced_shape(input.shape, dim, keepdim), input.dtype.to_real())

    def reference(
        self, input: np.ndarray, *, dim: Any, correction: Any, keepdim: bool
    ) -> np.ndarray:
        lines = rows(input, dim)
        n = lines.shape[-1]
        with np.errstate(invalid="ignore", divide="ignore"):
            away = lines - lines.sum(-1, keepdims=True) / lines.real.dtype.type(n)
            squares = (away.real**2 + away.imag**2) if np.iscomplexobj(away) else away * away
            total = squares.sum(-1)
            made = self.finish(total / total.dtype.type(max(n - correction, 0)))
        return made.reshape(reduced_shape(input.shape, dim, keepdim))

    def lower(self, b: Builder, input: Any, *, dim: Any, correction: Any, keepdim: bool) -> Stage:
        kind = input.dtype
        mean = mean_of(b, input, dim, keepdim)

        def squared(*i: Index) -> Expression:
            away = input[i] - mean[reduced_place(dim, keepdim, i)]
            return away * away

        total = fold(b, "add", input, dim, keepdim, squared)
        size = count_value(b, reduced_extents(input.shape, dim, keepdim)[1], "float64")
        degrees = b.cast(b.max(size - correction, 0), kind)
        return b.map(total.shape, kind, lambda *i: self.finish_stages(b, total[i] / degrees))

    def finish(self, variance: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def finish_stages(self, b: Builder, variance: Expression) -> Expression:
        """``finish`` for lowering rules."""
        raise NotImplementedError


def _variance_gradient(g: Any, x: Any, dim: Any, correction: Any) -> Any:
    """2 / (n - correction) * g * (x - mean), ``g`` with the reduced dimensions in place."""
    if x.ndim == 0:
        return g * float("nan")  # 0/0: one element has no variance
    axes = dim if dim else tuple(range(x.ndim))
    degrees = reduced_count(x.shape, dim) - correction
    factor = 2.0 / degrees if degrees > 0 else float("nan") if degrees == 0 else float("inf")
    return g * (x - x.mean(axes, keepdim=True)) * factor


@register
class Var(Spread):
    """Variance, of all elements or over ``dim``, with ``n - correction`` degrees of freedom.

    ``unbiased=False`` is ``correction=0``. Raises RuntimeError for integers and booleans.
    """

    saves = ("input",)

    def finish(self, variance: np.ndarray) -> np.ndarray:
        return variance

    def finish_stages(self, b: Builder, variance: Expression) -> Expression:
        return variance

    def gradient(self, g: Any, out: Any, input: Any, *, dim, correction, keepdim) -> Any:
        return _variance_gradient(restore(g, dim, keepdim), input, dim, correction)


@register
class Std(Spread):
    """Standard deviation, of all elements or over ``dim``: the square root of ``var``."""

    saves = ("input", "out")

    def finish(self, variance: np.ndarray) -> np.ndarray:
        return np.sqrt(variance)

    def finish_stages(self, b: Builder, variance: Expression) -> Expression:
        return b.sqrt(variance)

    def gradient(self, g: Any, out: Any, input: Any, *, dim, correction, keepdim) -> Any:
        to_variance = (g / (out * 2)).masked_fill(out == 0, 0)
        return _variance_gradient(restore(to_variance, dim, keepdim), input, dim, correction)


@composite("var_mean", methods=(), samples=_variance_samples)
@numpy_names
def var_mean(
    input: Any,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: Any = None,
) -> tuple[Any, Any]:
    """(variance, mean), as ``var`` and ``mean`` give them."""
    dim, correction = _spread(dim, unbiased, correction)
    variance = Var(input, dim, correction=correction, keepdim=keepdim)
    return variance, input.mean(dim, keepdim)


@composite("std_mean", methods=(), samples=_variance_samples)
@numpy_names
def std_mean(
    input: Any,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: Any = None,
) -> tuple[Any, Any]:
    """(standard deviation, mean), as ``std`` and ``mean`` give them."""
    dim, correction = _spread(dim, unbiased, correction)
    deviation = Std(input, dim, correction=correction, keepdim=keepdim)
    return deviation, input.mean(dim, keepdim)


# -- median and mode -------------------------------------------------------------------------
# No ``lower``: they sort, which stages cannot say.


def _median_index(x: np.ndarray) -> np.ndarray:
    """The lower median's position in the last axis; where there is a NaN, the first of them."""
    index = place_of_kth(x, (x.shape[-1] - 1) // 2)
    unknown = x != x
    if not unknown.any():
        return index
    return np.where(unknown.any(-1), unknown.argmax(-1), index)


def _nanmedian_index(x: np.ndarray) -> np.ndarray:
    """The lower median's position among the elements that are numbers."""
    known = x == x
    if known.all():
        return place_of_kth(x, (x.shape[-1] - 1) // 2)
    middle = np.maximum(known.sum(-1) - 1, 0) // 2
    return np.take_along_axis(in_order(x, -1)[1], middle[..., None], -1)[..., 0]


def _mode_index(x: np.ndarray) -> np.ndarray:
    """The last position of each line's most frequent element, of several the smallest."""
    ascending, order = in_order(x, -1)
    starts = np.ones(x.shape, bool)
    np.not_equal(ascending[:, 1:], ascending[:, :-1], out=starts[:, 1:])
    place = np.arange(x.shape[1])
    run_start = np.maximum.accumulate(np.where(starts, place, 0), -1)
    last_of_longest = (place - run_start).argmax(-1)
    return order[np.arange(len(x)), last_of_longest]


def _of_line(x: np.ndarray, pick: Any) -> np.ndarray:
    line = x.reshape(-1)
    if line.size:
        return np.asarray(line[pick(line)])
    return np.asarray(np.nan if line.dtype.kind == "f" else np.iinfo(line.dtype).min, line.dtype)


@register
class MedianAll(WholeChoice):
    """The lower median of all elements; NaN if there is one."""

    backward_name = "MedianBackward0"
    kernel = "median_cpu"

    def reference(self, input: np.ndarray) -> np.ndarray:
        return _of_line(input, _median_index)


@register
class NanmedianAll(WholeChoice):
    """The lower median of all elements that are not NaN."""

    backward_name = "NanmedianBackward0"
    kernel = "median_cpu"

    def reference(self, input: np.ndarray) -> np.ndarray:
        return _of_line(input, _nanmedian_index)


@register
class MedianDim(Choice):
    """The lower median along one dimension, and its index."""

    backward_name = "MedianBackward1"
    kernel = "median_out"
    public = "median"

    def pick(self, x: np.ndarray) -> np.ndarray:
        return _median_index(x)


@register
class NanmedianDim(Choice):
    """The lower median along one dimension without the NaN, and its index."""

    backward_name = "NanmedianBackward1"
    kernel = "median_out"
    public = "nanmedian"

    def pick(self, x: np.ndarray) -> np.ndarray:
        return _nanmedian_index(x)


@register
class ModeDim(Choice):
    """The most frequent element along one dimension (the smallest of them), and its last index."""

    backward_name = "ModeBackward0"
    kernel = "mode_cpu"
    public = "mode"

    def pick(self, x: np.ndarray) -> np.ndarray:
        return places_in_lines(x, _mode_index)


def _median_samples() -> Iterator[Sample]:
    yield Sample(array(3, 5))
    yield Sample(array(3, 4), 1, dtypes=("float32", "float64", "float16"))
    yield Sample(array(2, 3, 4), -2, True)
    yield Sample(array(), 0)
    yield Sample(np.array([[1.0, np.nan, 3.0], [3.0, 1.0, 2.0]]), 1, grad=False)
    yield Sample(integers(3, 4), 0)


@composite("median", samples=_median_samples)
@numpy_names
def median(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower median: of all elements, or (values, indices) along ``dim``. NaN wins."""
    if dim is None:
        return MedianAll.apply(input)
    axes = one_axis(dim, input.ndim)
    return return_types.median(MedianDim.apply(input, dim=axes, keepdim=bool(keepdim)))


@composite("nanmedian", samples=_median_samples)
@numpy_names
def nanmedian(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower median of what is not NaN: of all, or (values, indices) along ``dim``."""
    if dim is None:
        return NanmedianAll.apply(input)
    axes = one_axis(dim, input.ndim)
    return return_types.nanmedian(NanmedianDim.apply(input, dim=axes, keepdim=bool(keepdim)))


def _mode_samples() -> Iterator[Sample]:
    yield Sample(integers(3, 8, high=4))
    yield Sample(integers(8, 3, high=4), 0, True)
    yield Sample(array(3, 4))
    yield Sample(array())


@composite("mode", samples=_mode_samples)
@numpy_names
def mode(input: Any, dim: int = -1, keepdim: bool = False) -> Any:
    """The most frequent element along ``dim`` (the smallest of them): (values, indices)."""
    axes = one_axis(dim, input.ndim)
    return return_types.mode(ModeDim.apply(input, dim=axes, keepdim=bool(keepdim)))


# -- quantiles -------------------------------------------------------------------------------

_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


def _check_quantile(name: str, input: Any, q: Any, interpolation: str) -> None:
    def error(message: str, got: str = "") -> Exception:
        return OperationError.make(name, f"{name}() {message}", got)

    if input.numel() == 0:
        raise error("input tensor must be non-empty")
    if input.dtype not in (dtypes.float32, dtypes.float64):
        raise error("input tensor must be either float or double dtype", input.dtype.scalar_type)
    if interpolation not in _INTERPOLATIONS:
        names = ", ".join(_INTERPOLATIONS)
        raise error(f"interpolation must be one of {names}, but got {interpolation}")
    if q.ndim > 1:
        raise error("q must be a scalar or 1D tensor", f"{q.ndim} dimensions")
    if q.dtype is not input.dtype:
        raise error("q tensor must be same dtype as the input tensor", q.dtype.scalar_type)
    values = recorder.value(q)
    if not np.all((values >= 0) & (values <= 1)):
        raise error("q must be in the range [0, 1]", f"{values.tolist()}")


def _quantile(
    name: str, input: Any, q: Any, dim: Any, keepdim: bool, interpolation: str, skip_nan: bool
) -> Any:
    if isinstance(q, (int, float)):
        q = recorder.constant(np.asarray(q, input.dtype.numpy))
    _check_quantile(name, input, q, interpolation)
    ndim = input.ndim
    if dim is None:
        lines, axis = input.reshape(-1), 0
    else:
        axis = normalize_axis(dim, ndim)
        lines = input.movedim(axis, -1) if ndim else input.reshape(1)
    made = _of_sorted(lines.sort(-1)[0], q, interpolation, skip_nan)  # (*rest, *q.shape)
    if keepdim:
        if dim is None:
            made = made.reshape([1] * ndim + list(q.shape))
        elif ndim:
            made = made.unsqueeze(axis)
    return made.movedim(-1, 0) if q.ndim else made


def _of_sorted(ascending: Any, q: Any, interpolation: str, skip_nan: bool) -> Any:
    """Quantiles of sorted lines (..., n): the dimension of ``q``, if any, is the last."""
    n = ascending.shape[-1]
    unknown = ascending.isnan()
    wanted = q.reshape(-1)
    if skip_nan:
        known = unknown.logical_not().sum(-1, keepdim=True)
        ranks = (wanted * (known - 1)).clamp(min=0)
    else:
        ranks = (wanted * (n - 1)).expand([*ascending.shape[:-1], wanted.shape[0]])
        ranks = ranks.masked_fill(unknown.any(-1, keepdim=True), n - 1)
    if interpolation == "lower":
        ranks = ranks.floor()
    elif interpolation == "higher":
        ranks = ranks.ceil()
    elif interpolation == "nearest":
        ranks = ranks.round()
    below = ranks.floor()
    made = ascending.gather(-1, below.to(dtypes.int64))
    if interpolation in ("linear", "midpoint"):
        above = ascending.gather(-1, ranks.ceil().to(dtypes.int64))
        weight = ranks - below if interpolation == "linear" else 0.5
        made = made + weight * (above - made)
    return made if q.ndim else made.squeeze(-1)


def _quantile_samples() -> Iterator[Sample]:
    yield Sample(array(3, 5), 0.3)
    yield Sample(array(3, 5), 0.5, 1, True)
    yield Sample(array(3, 5), 0.7, dim=0, interpolation="nearest")
    yield Sample(array(3, 5), 0.7, dim=0, interpolation="midpoint")
    yield Sample(array(2, 3, 5), np.array([0.15, 0.6, 0.9]), dim=1)
    yield Sample(np.array([[1.0, np.nan, 3.0], [3.0, 1.0, 2.0]]), 0.5, 1, grad=False)


@composite("quantile", samples=_quantile_samples)
@numpy_names
def quantile(
    input: Any,
    q: Any,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
) -> Any:
    """The ``q``-quantiles, of all elements or along ``dim``; NaN where there is one.

    ``q`` is a number or 1-d tensor in [0, 1]; of a tensor, its dimension comes first in the
    result. Ranks between two elements are interpolated ("linear", "lower", "higher", "midpoint",
    "nearest").
    """
    return _quantile("quantile", input, q, dim, keepdim, interpolation, skip_nan=False)


@composite("nanquantile", samples=_quantile_samples)
@numpy_names
def nanquantile(
    input: Any,
    q: Any,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
) -> Any:
    """``quantile`` of the elements that are not NaN."""
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation, skip_nan=True)


# -- covariance ------------------------------------------------------------------------------


def _cov_samples() -> Iterator[Sample]:
    yield Sample(array(3, 5))
    yield Sample(array(5), correction=0)
    yield Sample(array(2, 4), fweights=np.array([1, 2, 1, 3]), aweights=array(4, low=0.1))


def _weights(fweights: Any, aweights: Any) -> Any:
    if fweights is None or aweights is None:
        return aweights if fweights is None else fweights
    return fweights * aweights


@composite("cov", samples=_cov_samples)
def cov(input: Any, *, correction: int = 1, fweights: Any = None, aweights: Any = None) -> Any:
    """Covariances of the rows' variables; columns are observations.

    ``fweights`` (integers) say how often, ``aweights`` how much each observation counts.
    """
    if input.ndim > 2:
        raise OperationError.make(
            "cov",
            "cov(): expected input to have two or fewer dimensions but got an input with "
            f"{input.ndim} dimensions",
        )
    x = input.reshape(1, -1) if input.ndim < 2 else input
    if not is_inexact(x.dtype):
        x = x.to(dtypes.get_default_dtype())
    weights = _weights(fweights, aweights)
    if weights is None:
        total: Any = x.shape[1]
        average = x.sum(1) / total
    else:
        total = weights.sum()
        average = (x * weights).sum(1) / total
    if correction == 0 or aweights is None:
        degrees = total - correction
    else:
        degrees = total - correction * (weights * aweights).sum() / total
    away = x - average.unsqueeze(1)
    weighted = away if weights is None else away * weights
    other = weighted.t().conj() if weighted.is_complex() else weighted.t()
    degrees = max(degrees, 0) if isinstance(degrees, int) else degrees.clamp(min=0)
    return (away @ other.to(away.dtype) / degrees).squeeze()


@composite("corrcoef", samples=lambda: iter([Sample(array(3, 5)), Sample(array(5))]))
def corrcoef(input: Any) -> Any:
    """Pearson's correlation coefficients of the rows' variables; columns are observations."""
    if input.ndim > 2:
        raise OperationError.make(
            "corrcoef",
            "corrcoef(): expected input to have two or fewer dimensions but got an input with "
            f"{input.ndim} dimensions",
        )
    c = cov(input)
    if c.ndim == 0:
        return c / c
    deviation = c.diagonal().sqrt()
    if deviation.is_complex():
        deviation = deviation.real
    made = c / deviation.unsqueeze(1) / deviation
    return made if made.is_complex() else made.clamp(-1, 1)  # rounding may lead a little beyond
