"""Discrete Fourier transforms: three operations (complex, real to half spectrum, and back).

The adjoint of a transform is the transform in the other direction, so each gradient is one of
the same three.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from taimatsu import dtypes
from taimatsu.errors import OperationError
from taimatsu.ir.meta import Meta, meta
from taimatsu.ops.base import Operation, Sample, array, composite, integers, register
from taimatsu.ops.elementwise import complex_array
from taimatsu.ops.joining import Cat
from taimatsu.ops.reducing import numpy_names
from taimatsu.runtime.buffers import pool
from taimatsu.runtime.shares import share
from taimatsu.shapes import normalize_axes, normalize_axis

Dims = tuple[int, ...]


def _error(text: str, hint: str = "") -> Exception:
    return OperationError.make("fft", text, "", hint)


# -- the operations ----------------------------------------------------------------------------

_SHARE = 1 << 17  # elements that a thread transforms at once: they stay in its cache


def _transformed(
    transform: Callable[..., Any], x: np.ndarray, dim: int, extent: int, dtype: Any, **options: Any
) -> np.ndarray:
    """``transform``, of NumPy, along ``dim``, to ``extent``; threads take slices of the rest."""
    shape = list(x.shape)
    shape[dim] = extent
    made = pool.array(shape, dtype)
    extents = [1 if d == dim else n for d, n in enumerate(shape)]
    cut = max(range(x.ndim), key=extents.__getitem__)  # the longest other dimension
    count = extents[cut]

    def work(start: int, stop: int) -> None:
        part = slice(start, stop) if count > 1 else slice(None)
        transform(_slice(x, cut, part), axis=dim, out=_slice(made, cut, part), **options)

    if made.size:
        share(work, count, max(1, _SHARE * count // max(x.size, made.size)))
    return made


def _c2c_along(x: np.ndarray, dims: Dims, forward: bool) -> np.ndarray:
    """Complex transforms along ``dims``, the last first, that are not divided by anything."""
    for d in reversed(dims):
        transform = np.fft.fft if forward else np.fft.ifft
        norm = "backward" if forward else "forward"
        x = _transformed(transform, x, d, x.shape[d], x.dtype, norm=norm)
    return x


def _scaled(x: np.ndarray, scale: float) -> np.ndarray:
    """An array that nobody else has times ``scale``."""
    return x if scale == 1 else np.multiply(x, scale, out=x)


@register
class FftC2C(Operation):
    """Sums of x exp(-2 pi i j k / n) (``forward``; else +) over ``dims``, times ``scale``."""

    name = "fft_c2c"
    hidden = True

    def infer(self, input: Meta, *, dims: Dims, forward: bool, scale: float) -> Meta:
        return meta(input.shape, input.dtype)

    def reference(self, input: np.ndarray, *, dims: Dims, forward: bool, scale: float) -> Any:
        return _scaled(_c2c_along(input, dims, forward), scale)

    def gradient(self, g: Any, out: Any, input: Any, *, dims: Dims, forward: bool, scale: float):
        return self.apply(g, dims=dims, forward=not forward, scale=scale)


@register
class FftR2C(Operation):
    """The forward transform of a real tensor; of the last of ``dims`` half the spectrum, or the
    ``whole``.
    """

    name = "fft_r2c"
    hidden = True

    def infer(self, input: Meta, *, dims: Dims, scale: float, whole: bool) -> Meta:
        shape = list(input.shape)
        if not whole:
            shape[dims[-1]] = shape[dims[-1]] // 2 + 1
        return meta(shape, input.dtype.to_complex())

    def reference(self, input: np.ndarray, *, dims: Dims, scale: float, whole: bool) -> np.ndarray:
        *rest, last = dims
        kind = np.result_type(input.dtype, np.complex64)
        n = input.shape[last]
        if whole:
            spectrum = _transformed(_whole_spectrum, input, last, n, kind)
        else:
            spectrum = _transformed(np.fft.rfft, input, last, n // 2 + 1, kind)
        return _scaled(_c2c_along(spectrum, tuple(rest), True), scale)

    def gradient(
        self, g: Any, out: Any, input: Any, *, dims: Dims, scale: float, whole: bool
    ) -> Any:
        if not whole:
            g = resized(g, dims[-1], input.shape[dims[-1]])
        return FftC2C.apply(g, dims=dims, forward=False, scale=scale).real


def _whole_spectrum(x: np.ndarray, axis: int, out: np.ndarray) -> None:
    """``np.fft.fft`` of real numbers: half is computed, the rest is its mirror image."""
    n = x.shape[axis]
    np.fft.rfft(x, axis=axis, out=_slice(out, axis, slice(n // 2 + 1)))
    mirrored = _slice(out, axis, slice((n - 1) // 2, 0, -1))
    np.conjugate(mirrored, out=_slice(out, axis, slice(n // 2 + 1, None)))


def _slice(x: np.ndarray, axis: int, part: slice) -> np.ndarray:
    return x[(slice(None),) * axis + (part,)]


@register
class FftC2R(Operation):
    """The backward transform of half a spectrum that stands for a real result of extent ``n``."""

    name = "fft_c2r"
    hidden = True

    def infer(self, input: Meta, *, dims: Dims, n: int, scale: float) -> Meta:
        shape = list(input.shape)
        shape[dims[-1]] = n
        return meta(shape, input.dtype.to_real())

    def reference(self, input: np.ndarray, *, dims: Dims, n: int, scale: float) -> np.ndarray:
        *rest, last = dims
        half = _c2c_along(input, tuple(rest), False)
        whole = _transformed(np.fft.irfft, half, last, n, half.real.dtype, n=n, norm="forward")
        return _scaled(whole, scale)

    def gradient(self, g: Any, out: Any, input: Any, *, dims: Dims, n: int, scale: float) -> Any:
        spectrum = FftR2C.apply(g, dims=dims, scale=scale, whole=False)
        # Every frequency but 0 and n/2 stands for its mirror image too.
        doubled = (n - 1) // 2
        if doubled == 0:
            return spectrum
        last = dims[-1]
        rest = spectrum.shape[last] - 1 - doubled
        parts = [spectrum.narrow(last, 0, 1), spectrum.narrow(last, 1, doubled) * 2]
        if rest:
            parts.append(spectrum.narrow(last, 1 + doubled, rest))
        return Cat(parts, last)


# -- arguments ---------------------------------------------------------------------------------


def resized(x: Any, dim: int, n: int) -> Any:
    """The first ``n`` elements along ``dim``, with zeros behind where there are fewer."""
    extent = x.shape[dim]
    if n == extent:
        return x
    if n < extent:
        return x.narrow(dim, 0, n)
    shape = list(x.shape)
    shape[dim] = n - extent
    return Cat([x, x.new_zeros(tuple(shape))], dim)


def floating(x: Any) -> Any:
    """Integers in the default dtype; 16-bit floats are refused."""
    if x.dtype.category < dtypes.FLOAT:
        return x.to(dtypes.get_default_dtype())
    if x.dtype in (dtypes.float16, dtypes.bfloat16):
        raise _error(f"Unsupported dtype {x.dtype.scalar_type}", "convert with .float()")
    return x


def _complexes(x: Any) -> Any:
    x = floating(x)
    return x if x.dtype.is_complex else x.to(x.dtype.to_complex())


def _reals(x: Any, name: str) -> Any:
    if x.dtype.is_complex:
        raise _error(f"{name} expects a real input tensor, but got {x.dtype.scalar_type}")
    return floating(x)


def _scale(norm: str | None, n: int, forward: bool) -> float:
    """The factor of a normalisation for a transform of ``n`` points."""
    if norm not in (None, "backward", "ortho", "forward"):
        raise _error(f'Invalid normalization mode: "{norm}"')
    if norm == "ortho":
        return 1 / math.sqrt(n)
    divided = (norm == "forward") == forward
    return 1 / n if divided else 1.0


def _extents(x: Any, s: Any, dim: Any) -> tuple[list[int], Dims]:
    """The sizes to transform and the dimensions, from an n-dimensional function's arguments."""
    sizes = None if s is None else [s] if isinstance(s, int) else list(s)
    if dim is None:
        count = x.ndim if sizes is None else len(sizes)
        if count > x.ndim:
            raise _error(
                f"Got shape with {count} values but input tensor only has {x.ndim} dimensions."
            )
        dims: Dims = tuple(range(x.ndim - count, x.ndim))
    else:
        given = (dim,) if isinstance(dim, int) else tuple(dim)
        dims = tuple(normalize_axis(d, x.ndim) for d in given)
        if len(set(dims)) < len(dims):
            raise _error("FFT dims must be unique")
    if sizes is None:
        sizes = [-1] * len(dims)
    if len(sizes) != len(dims):
        raise _error("When given, dim and shape arguments must have the same length")
    return [x.shape[d] if n == -1 else n for n, d in zip(sizes, dims, strict=True)], dims


def _fitted(x: Any, sizes: Sequence[int], dims: Dims) -> Any:
    for n, d in zip(sizes, dims, strict=True):
        _refuse_empty(n)
        x = resized(x, d, n)
    return x


def _refuse_empty(n: int) -> None:
    if n < 1:
        raise _error(f"Invalid number of data points ({n}) specified")


def _c2c(x: Any, s: Any, dim: Any, norm: str | None, forward: bool) -> Any:
    sizes, dims = _extents(x, s, dim)
    mirrors = forward and dims and not x.dtype.is_complex
    x = _fitted(floating(x) if mirrors else _complexes(x), sizes, dims)
    scale = _scale(norm, math.prod(sizes), forward)
    if mirrors:
        return FftR2C.apply(x, dims=dims, scale=scale, whole=True)
    return FftC2C.apply(x, dims=dims, forward=forward, scale=scale) if dims else x


def _r2c(x: Any, s: Any, dim: Any, norm: str | None, forward: bool, name: str) -> Any:
    x = _reals(x, name)
    sizes, dims = _extents(x, s, dim)
    if not dims:
        raise _error(f"{name} must transform at least one axis")
    x = _fitted(x, sizes, dims)
    scale = _scale(norm, math.prod(sizes), forward)
    made = FftR2C.apply(x, dims=dims, scale=scale, whole=False)
    return made if forward else made.conj()


def _c2r(x: Any, s: Any, dim: Any, norm: str | None, forward: bool, name: str) -> Any:
    x = _complexes(x)
    sizes, dims = _extents(x, s, dim)
    if not dims:
        raise _error(f"{name} must transform at least one axis")
    last = s if s is None or isinstance(s, int) else list(s)[-1]
    n = 2 * (x.shape[dims[-1]] - 1) if last in (None, -1) else sizes[-1]
    _refuse_empty(n)
    x = _fitted(x, [*sizes[:-1], n // 2 + 1], dims)
    scale = _scale(norm, math.prod(sizes[:-1]) * n, forward)
    return FftC2R.apply(x.conj() if forward else x, dims=dims, n=n, scale=scale)


def _single(n: int | None) -> tuple[int] | None:
    return None if n is None else (n,)


# -- one dimension -----------------------------------------------------------------------------


def _samples_of(complexes: bool, reals: bool) -> Any:
    def generate() -> Iterator[Sample]:
        if reals:
            yield Sample(array(3, 5), dtypes=("float32", "float64"))
            yield Sample(array(4), norm="ortho")
            yield Sample(integers(4), grad=False)
        if complexes:
            yield Sample(complex_array(3, 4))
            yield Sample(complex_array(3, 4), 5, 0, "forward")
            yield Sample(complex_array(3, 4), 3)

    return generate


@composite("fft.fft", samples=_samples_of(True, True))
@numpy_names
def fft(input: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
    """The Fourier transform along ``dim``, of ``n`` points (cut, or filled up with zeros).

    ``norm``: "backward" leaves as it is, "ortho" divides by sqrt(n), "forward" by n.
    """
    return _c2c(input, _single(n), dim, norm, True)


@composite("fft.ifft", samples=_samples_of(True, True))
@numpy_names
def ifft(input: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
    """The inverse of ``fft``."""
    return _c2c(input, _single(n), dim, norm, False)


@composite("fft.rfft", samples=_samples_of(False, True))
@numpy_names
def rfft(input: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
    """The frequencies from 0 to n/2 of a real signal's transform: n // 2 + 1 of them."""
    return _r2c(input, _single(n), dim, norm, True, "rfft")


@composite("fft.irfft", samples=_samples_of(True, True))
@numpy_names
def irfft(input: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
    """The inverse of ``rfft``: a real signal of ``n`` points (2 (m - 1) by default)."""
    return _c2r(input, _single(n), dim, norm, False, "irfft")


@composite("fft.hfft", samples=_samples_of(True, True))
@numpy_names
def hfft(input: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
    """The real transform of a Hermitian signal, given by its first half."""
    return _c2r(input, _single(n), dim, norm, True, "hfft")


@composite("fft.ihfft", samples=_samples_of(False, True))
@numpy_names
def ihfft(input: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
    """The inverse of ``hfft``: half of a Hermitian signal."""
    return _r2c(input, _single(n), dim, norm, False, "ihfft")


# -- several dimensions ------------------------------------------------------------------------


def _plane_samples_of(complexes: bool) -> Any:
    def generate() -> Iterator[Sample]:
        yield Sample(array(3, 4), dtypes=("float32", "float64"))
        yield Sample(array(2, 3, 4), (2, 5), (0, 2), norm="ortho")
        if complexes:
            yield Sample(complex_array(3, 4))
            yield Sample(complex_array(2, 3, 4), (4, -1), (0, 1), "forward")

    return generate


_LAST_TWO = (-2, -1)


@composite("fft.fftn", samples=_plane_samples_of(True))
@numpy_names
def fftn(input: Any, s: Any = None, dim: Any = None, norm: str | None = None) -> Any:
    """``fft`` along several dimensions: the last len(s), or all, unless ``dim`` names them."""
    return _c2c(input, s, dim, norm, True)


@composite("fft.ifftn", samples=_plane_samples_of(True))
@numpy_names
def ifftn(input: Any, s: Any = None, dim: Any = None, norm: str | None = None) -> Any:
    """The inverse of ``fftn``."""
    return _c2c(input, s, dim, norm, False)


@composite("fft.rfftn", samples=_plane_samples_of(False))
@numpy_names
def rfftn(input: Any, s: Any = None, dim: Any = None, norm: str | None = None) -> Any:
    """``fftn`` of a real tensor: of the last dimension half the spectrum."""
    return _r2c(input, s, dim, norm, True, "rfftn")


@composite("fft.irfftn", samples=_plane_samples_of(True))
@numpy_names
def irfftn(input: Any, s: Any = None, dim: Any = None, norm: str | None = None) -> Any:
    """The inverse of ``rfftn``."""
    return _c2r(input, s, dim, norm, False, "irfftn")


@composite("fft.hfftn", samples=_plane_samples_of(True))
@numpy_names
def hfftn(input: Any, s: Any = None, dim: Any = None, norm: str | None = None) -> Any:
    """The real transform of a tensor that is Hermitian, given by half of its last dimension."""
    return _c2r(input, s, dim, norm, True, "hfftn")


@composite("fft.ihfftn", samples=_plane_samples_of(False))
@numpy_names
def ihfftn(input: Any, s: Any = None, dim: Any = None, norm: str | None = None) -> Any:
    """The inverse of ``hfftn``."""
    return _r2c(input, s, dim, norm, False, "ihfftn")


@composite("fft.fft2", samples=_plane_samples_of(True))
@numpy_names
def fft2(input: Any, s: Any = None, dim: Any = _LAST_TWO, norm: str | None = None) -> Any:
    """``fftn`` of the last two dimensions."""
    return _c2c(input, s, dim, norm, True)


@composite("fft.ifft2", samples=_plane_samples_of(True))
@numpy_names
def ifft2(input: Any, s: Any = None, dim: Any = _LAST_TWO, norm: str | None = None) -> Any:
    """``ifftn`` of the last two dimensions."""
    return _c2c(input, s, dim, norm, False)


@composite("fft.rfft2", samples=_plane_samples_of(False))
@numpy_names
def rfft2(input: Any, s: Any = None, dim: Any = _LAST_TWO, norm: str | None = None) -> Any:
    """``rfftn`` of the last two dimensions."""
    return _r2c(input, s, dim, norm, True, "rfft2")


@composite("fft.irfft2", samples=_plane_samples_of(True))
@numpy_names
def irfft2(input: Any, s: Any = None, dim: Any = _LAST_TWO, norm: str | None = None) -> Any:
    """``irfftn`` of the last two dimensions."""
    return _c2r(input, s, dim, norm, False, "irfft2")


@composite("fft.hfft2", samples=_plane_samples_of(True))
@numpy_names
def hfft2(input: Any, s: Any = None, dim: Any = _LAST_TWO, norm: str | None = None) -> Any:
    """``hfftn`` of the last two dimensions."""
    return _c2r(input, s, dim, norm, True, "hfft2")


@composite("fft.ihfft2", samples=_plane_samples_of(False))
@numpy_names
def ihfft2(input: Any, s: Any = None, dim: Any = _LAST_TWO, norm: str | None = None) -> Any:
    """``ihfftn`` of the last two dimensions."""
    return _r2c(input, s, dim, norm, False, "ihfft2")


# -- the order of frequencies ------------------------------------------------------------------


def _shift_samples() -> Iterator[Sample]:
    yield Sample(array(3, 4))
    yield Sample(array(3, 5), (1,))
    yield Sample(array(3, 4), 0)


def _shifted(input: Any, dim: Any, up: bool) -> Any:
    dims = tuple(range(input.ndim)) if dim is None else normalize_axes(dim, input.ndim)
    extents = [input.shape[d] for d in dims]
    return input.roll([n // 2 if up else (n + 1) // 2 for n in extents], dims)


@composite("fft.fftshift", samples=_shift_samples)
@numpy_names
def fftshift(input: Any, dim: Any = None) -> Any:
    """The frequency 0 moved to the middle, negative ones before it."""
    return _shifted(input, dim, True)


@composite("fft.ifftshift", samples=_shift_samples)
@numpy_names
def ifftshift(input: Any, dim: Any = None) -> Any:
    """The inverse of ``fftshift``."""
    return _shifted(input, dim, False)
