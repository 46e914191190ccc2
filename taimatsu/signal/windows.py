"""Window functions: weights that fade a stretch of a signal in and out.

``sym=True`` gives windows symmetric about their middle (for filters), ``sym=False`` periodic ones
(for spectra). F. J. Harris, "On the use of windows for harmonic analysis with the discrete Fourier
transform", 1978.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from taimatsu import devices, dtypes, recorder

__all__ = [
    "bartlett", "blackman", "cosine", "exponential", "gaussian", "general_cosine",
    "general_hamming", "hamming", "hann", "kaiser", "nuttall",
]  # fmt: skip


def _made(
    name: str,
    length: int,
    sym: bool,
    weights: Callable[[np.ndarray, float], np.ndarray],
    options: dict[str, Any],
) -> Any:
    """The window as a tensor; ``weights`` gets positions 0 ... length - 1 and the period's length.

    ValueError for negative lengths and dtypes that are not floating (RuntimeError from the older
    names, as in PyTorch).
    """
    dtype = options.pop("dtype", None) or dtypes.get_default_dtype()
    requires_grad = options.pop("requires_grad", False)
    devices.resolve(options.pop("device", None))
    options.pop("layout", None)
    options.pop("pin_memory", None)
    if options:
        raise TypeError(f"{name}() got an unexpected keyword argument '{next(iter(options))}'")
    kind = RuntimeError if name.endswith("_window") else ValueError
    if length < 0:
        raise kind(f"{name} requires non-negative window length, got {length}")
    if not dtype.is_floating_point:
        raise kind(f"{name} expects floating point dtypes, got: {dtype}")
    positions = np.arange(length, dtype=np.float64)
    period = length - 1 if sym else length
    values = np.ones(length) if length == 1 else weights(positions, period)
    made = recorder.constant(values.astype(dtype.numpy), dtype)
    return made.requires_grad_(True) if requires_grad else made


def _cosines(a: Iterable[float]) -> Callable[[np.ndarray, float], np.ndarray]:
    """a[0] - a[1] cos(t) + a[2] cos(2 t) - ... over one period."""

    def weights(k: np.ndarray, period: float) -> np.ndarray:
        angle = 2 * np.pi * k / period
        terms = [(-1) ** i * c * np.cos(i * angle) for i, c in enumerate(a)]
        return np.sum(terms, axis=0)

    return weights


def _triangle(k: np.ndarray, period: float) -> np.ndarray:
    return 1 - np.abs(2 * k / period - 1)


def _kaiser(beta: float) -> Callable[[np.ndarray, float], np.ndarray]:
    def weights(k: np.ndarray, period: float) -> np.ndarray:
        inside = np.sqrt(np.maximum(1 - (2 * k / period - 1) ** 2, 0))
        return np.i0(beta * inside) / np.i0(beta)

    return weights


# -- torch.signal.windows ----------------------------------------------------------------------


def bartlett(M: int, *, sym: bool = True, **options: Any) -> Any:
    """A triangle: (M,). ``options`` are dtype, device, requires_grad, here and below."""
    return _made("bartlett", M, sym, _triangle, options)


def blackman(M: int, *, sym: bool = True, **options: Any) -> Any:
    """0.42 - 0.5 cos(t) + 0.08 cos(2 t): (M,)."""
    return _made("blackman", M, sym, _cosines((0.42, 0.5, 0.08)), options)


def cosine(M: int, *, sym: bool = True, **options: Any) -> Any:
    """Half a period of a sine: (M,)."""

    def weights(k: np.ndarray, period: float) -> np.ndarray:
        return np.sin(np.pi * (k + 0.5) / (period + 1))

    return _made("cosine", M, sym, weights, options)


def exponential(
    M: int, *, center: float | None = None, tau: float = 1.0, sym: bool = True, **options: Any
) -> Any:
    """exp(-|k - center| / tau): (M,)."""
    if tau <= 0:
        raise ValueError(f"Tau must be positive, got: {tau} instead.")
    if sym and center is not None:
        raise ValueError("Center must be None for symmetric windows")

    def weights(k: np.ndarray, period: float) -> np.ndarray:
        return np.exp(-np.abs(k - (period / 2 if center is None else center)) / tau)

    return _made("exponential", M, sym, weights, options)


def gaussian(M: int, *, std: float = 1.0, sym: bool = True, **options: Any) -> Any:
    """exp(-(k - middle)^2 / (2 std^2)): (M,)."""
    if std <= 0:
        raise ValueError(f"Standard deviation must be positive, got: {std} instead.")

    def weights(k: np.ndarray, period: float) -> np.ndarray:
        return np.exp(-(((k - period / 2) / std) ** 2) / 2)

    return _made("gaussian", M, sym, weights, options)


def general_cosine(M: int, *, a: Iterable[float], sym: bool = True, **options: Any) -> Any:
    """a[0] - a[1] cos(t) + a[2] cos(2 t) - ...: (M,)."""
    a = tuple(a) if isinstance(a, Iterable) else a
    if not isinstance(a, tuple):
        raise TypeError("Coefficients must be a list/tuple")
    if not a:
        raise ValueError("Coefficients cannot be empty")
    return _made("general_cosine", M, sym, _cosines(a), options)


def general_hamming(M: int, *, alpha: float = 0.54, sym: bool = True, **options: Any) -> Any:
    """alpha - (1 - alpha) cos(t): (M,)."""
    return _made("general_hamming", M, sym, _cosines((alpha, 1 - alpha)), options)


def hamming(M: int, *, sym: bool = True, **options: Any) -> Any:
    """0.54 - 0.46 cos(t): (M,)."""
    return _made("hamming", M, sym, _cosines((0.54, 0.46)), options)


def hann(M: int, *, sym: bool = True, **options: Any) -> Any:
    """0.5 - 0.5 cos(t): (M,)."""
    return _made("hann", M, sym, _cosines((0.5, 0.5)), options)


def kaiser(M: int, *, beta: float = 12.0, sym: bool = True, **options: Any) -> Any:
    """Nearly the most energy in the main lobe; ``beta`` trades its width for side lobes: (M,)."""
    if beta < 0:
        raise ValueError(f"beta must be non-negative, got: {beta} instead.")
    return _made("kaiser", M, sym, _kaiser(beta), options)


def nuttall(M: int, *, sym: bool = True, **options: Any) -> Any:
    """The least four-term window of Nuttall, in Heinzel's form: (M,)."""
    return _made("nuttall", M, sym, _cosines((0.3635819, 0.4891775, 0.1365995, 0.0106411)), options)


# -- the older names at the root of torch ------------------------------------------------------


def bartlett_window(window_length: int, periodic: bool = True, **options: Any) -> Any:
    """``signal.windows.bartlett``, periodic by default."""
    return _made("bartlett_window", window_length, not periodic, _triangle, options)


def blackman_window(window_length: int, periodic: bool = True, **options: Any) -> Any:
    """``signal.windows.blackman``, periodic by default."""
    weights = _cosines((0.42, 0.5, 0.08))
    return _made("blackman_window", window_length, not periodic, weights, options)


def hamming_window(
    window_length: int,
    periodic: bool = True,
    alpha: float = 0.54,
    beta: float = 0.46,
    **options: Any,
) -> Any:
    """alpha - beta cos(t), periodic by default."""
    weights = _cosines((alpha, beta))
    return _made("hamming_window", window_length, not periodic, weights, options)


def hann_window(window_length: int, periodic: bool = True, **options: Any) -> Any:
    """``signal.windows.hann``, periodic by default."""
    return _made("hann_window", window_length, not periodic, _cosines((0.5, 0.5)), options)


def kaiser_window(
    window_length: int, periodic: bool = True, beta: float = 12.0, **options: Any
) -> Any:
    """``signal.windows.kaiser``, periodic by default."""
    return _made("kaiser_window", window_length, not periodic, _kaiser(beta), options)
