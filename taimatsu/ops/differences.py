"""Differences of neighbours, derivatives estimated from them, and integrals by trapezoids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from taimatsu import dtypes, recorder
from taimatsu.errors import OperationError
from taimatsu.ops.base import REGISTRY, Sample, array, booleans, composite, integers
from taimatsu.ops.reducing import is_inexact, numpy_names
from taimatsu.shapes import normalize_axes, normalize_axis


def _diff_samples() -> Iterator[Sample]:
    yield Sample(array(5))
    yield Sample(array(3, 4), 2, 0)
    yield Sample(array(3, 4), prepend=array(3, 1, seed=1), append=array(3, 2, seed=2))
    yield Sample(booleans(6))


@composite("diff", samples=_diff_samples)
@numpy_names
def diff(input: Any, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Any:
    """Differences of neighbours along ``dim``, ``n`` times; booleans give logical xor.

    Raises RuntimeError for 0-d inputs and negative ``n``.
    """
    if input.ndim == 0:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    axis = normalize_axis(dim, input.ndim)
    if n == 0:
        return input
    parts = [p for p in (prepend, input, append) if p is not None]
    x = REGISTRY["cat"](parts, axis) if len(parts) > 1 else input
    for _ in range(min(n, x.shape[axis])):
        extent = x.shape[axis]
        after = x.narrow(axis, 1, extent - 1)
        before = x.narrow(axis, 0, extent - 1)
        x = after.logical_xor(before) if x.dtype is dtypes.bool_ else after - before
    return x


def _trapezoids(y: Any, x: Any, dx: Any, dim: int) -> Any:
    """The areas of the trapezoids between neighbours along ``dim``."""
    axis = normalize_axis(dim, y.ndim)
    extent = y.shape[axis]
    if extent == 0:
        return None
    sums = y.narrow(axis, 0, extent - 1) + y.narrow(axis, 1, extent - 1)
    if x is None:
        return sums * (dx / 2)
    if x.ndim == 1:
        if x.shape[0] != extent:
            raise RuntimeError(
                "trapezoid: There must be one `x` value for each sample point; "
                f"got {x.shape[0]} for {extent}"
            )
        steps = x.diff().reshape([-1] + [1] * (y.ndim - 1 - axis))
    else:
        steps = x.diff(dim=dim)
    return sums * steps / 2


def _trapezoid_samples() -> Iterator[Sample]:
    yield Sample(array(5))
    yield Sample(array(3, 4), dx=0.5, dim=0)
    yield Sample(array(3, 4), array(4, seed=1))


@composite("trapezoid", "trapz", methods=(), samples=_trapezoid_samples)
def trapezoid(y: Any, x: Any = None, *, dx: Any = 1, dim: int = -1) -> Any:
    """Integral of ``y`` along ``dim`` by the trapezoidal rule, at points ``x`` or ``dx`` apart."""
    areas = _trapezoids(y, x, dx, dim)
    return y.sum(dim) if areas is None else areas.sum(dim)


@composite("cumulative_trapezoid", methods=(), samples=_trapezoid_samples)
def cumulative_trapezoid(y: Any, x: Any = None, *, dx: Any = 1, dim: int = -1) -> Any:
    """Running integral of ``y`` along ``dim`` by the trapezoidal rule."""
    areas = _trapezoids(y, x, dx, dim)
    return y if areas is None else areas.cumsum(dim)


# -- derivatives -----------------------------------------------------------------------------


def _gradient_samples() -> Iterator[Sample]:
    yield Sample(array(5))
    yield Sample(array(4, 5), spacing=2.0, edge_order=2)
    yield Sample(array(4, 5), spacing=[2.0, 0.5], dim=(0, 1))
    yield Sample(integers(5))


@composite("gradient", methods=(), samples=_gradient_samples)
def gradient(input: Any, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1) -> tuple:
    """Derivatives along each of ``dim`` (all), by second-order central differences.

    ``spacing``: the distance of neighbours, a number or one for each dimension; or a list of 1-d
    tensors, the coordinates. ``edge_order`` 1 or 2 is that of the differences at the two ends.
    """
    dims = tuple(range(input.ndim)) if dim is None else normalize_axes(dim, input.ndim)
    if edge_order not in (1, 2):
        raise _gradient_error("only supports edge_order=1 and edge_order=2.", str(edge_order))
    for d in dims:
        if input.shape[d] < edge_order + 1:
            raise _gradient_error(
                "expected each dimension size to be at least edge_order+1", str(input.shape[d])
            )
    if not is_inexact(input.dtype):
        input = input.to(dtypes.get_default_dtype())
    steps = _spacings(spacing, len(dims))
    return tuple(_derivative(input, d, h, edge_order) for d, h in zip(dims, steps, strict=True))


def _gradient_error(message: str, got: str) -> Exception:
    return OperationError.make("gradient", f"torch.gradient {message}", f"got {got}")


def _spacings(spacing: Any, count: int) -> Sequence[Any]:
    if spacing is None:
        return [1] * count
    if not isinstance(spacing, (tuple, list)):
        return [spacing] * count
    if len(spacing) != count:
        raise _gradient_error(
            f"expected spacing to be unspecified, a scalar, or a list of length {count}",
            f"a list of length {len(spacing)}",
        )
    return spacing


def _derivative(f: Any, dim: int, h: Any, edge_order: int) -> Any:
    """Along one dimension: inside by the parabola through three points, at the ends as asked."""
    n = f.shape[dim]
    uniform = not isinstance(h, recorder.TensorBase)

    def at(start: int, count: int = 1) -> Any:
        return f.narrow(dim, start, count)

    def steps(start: int, count: int = 1) -> Any:
        if uniform:
            return h
        between = h.narrow(0, start + 1, count) - h.narrow(0, start, count)
        return between.reshape([-1] + [1] * (f.ndim - 1 - dim))

    def parabola(start: int, count: int, place: int) -> Any:
        """The slope of the parabola through three neighbours, at the first, second or third."""
        p, q = steps(start, count), steps(start + 1, count)
        weights = (
            (-(2 * p + q) / (p * (p + q)), (p + q) / (p * q), -p / (q * (p + q))),
            (-q / (p * (p + q)), (q - p) / (p * q), p / (q * (p + q))),
            (q / (p * (p + q)), -(p + q) / (p * q), (2 * q + p) / (q * (p + q))),
        )[place]
        return sum(at(start + i, count) * w for i, w in enumerate(weights))

    if edge_order == 1:
        first = (at(1) - at(0)) / steps(0)
        last = (at(n - 1) - at(n - 2)) / steps(n - 2)
    else:
        first = parabola(0, 1, 0)
        last = parabola(n - 3, 1, 2)
    parts = [first, parabola(0, n - 2, 1), last] if n > 2 else [first, last]
    return REGISTRY["cat"](parts, dim)
