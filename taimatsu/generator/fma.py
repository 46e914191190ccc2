"""a * b + c with one rounding, as PyTorch's compiled loops compute it."""

from __future__ import annotations

import numpy as np

_SPLIT = 134217729.0  # 2**27 + 1: halves a float64 significand
_REST = np.array(0x1FFFFFFF)  # the digits of a float64 that a float32 has not
_HALF = np.array(0x10000000)

Number = float | np.floating


def fma(a: np.ndarray, b: np.ndarray | Number, c: np.ndarray | Number) -> np.ndarray:
    """Elementwise ``a * b + c`` rounded once, in the float32 or float64 of ``a``.

    In float64 ``b`` and ``c`` are numbers.
    """
    if a.dtype == np.float32:
        return _fma32(a, b, c)
    if c == 0.0:
        return a * b + 0.0
    if b == 1.0:
        return a + c
    return _fma64(a, float(b), float(c))


def _fma32(a: np.ndarray, b: np.ndarray | Number, c: np.ndarray | Number) -> np.ndarray:
    """The product of two float32 numbers is exact in float64; the sum is rounded there first,
    which matters only where it lands halfway between two float32 numbers.
    """
    product = a.astype(np.float64)
    product *= b
    total = product + c
    halfway = (total.view(np.int64) & _REST) == _HALF
    if np.count_nonzero(halfway):  # quicker than any()
        addends = np.broadcast_to(np.asarray(c, np.float64), a.shape)
        total[halfway] = _to_odd(*_two_sum(product[halfway], addends[halfway]))
    return total.astype(np.float32)


def _fma64(a: np.ndarray, b: float, c: float) -> np.ndarray:
    """Boldo and Melquiond 2008: the low parts are added with rounding to odd."""
    high, low = _two_product(a, b)
    middle, lowest = _two_sum(low, c)
    total, rest = _two_sum(high, middle)
    return total + _to_odd(*_two_sum(lowest, rest))


def _two_sum(a: np.ndarray, b: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """The rounded sum and its error (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _two_product(a: np.ndarray, b: float) -> tuple[np.ndarray, np.ndarray]:
    """The rounded product and its error (Dekker)."""
    product = a * b
    a_high = a * _SPLIT - (a * _SPLIT - a)
    b_high = b * _SPLIT - (b * _SPLIT - b)
    a_low = a - a_high
    b_low = b - b_high
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, error


def _to_odd(total: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """``total + rest`` rounded to odd: a later rounding to fewer digits is then the only one."""
    even = (total.view(np.int64) & 1) == 0
    inexact = np.nonzero(even & (rest != 0))
    toward = np.copysign(np.inf, rest[inexact])
    total[inexact] = np.nextafter(total[inexact], toward)
    return total
