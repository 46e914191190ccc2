"""Bessel's, Airy's and the normal quantile function as expressions, in float64.

Chebyshev series on intervals, one of which is chosen; ``special_coefficients`` has them. Waves
are relatively as accurate as their amplitude is, but for the first zeros of J, which are factors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ops import special_coefficients as series
from taimatsu.ops.bessel_lowering import chebyshev

# -- J and Y ---------------------------------------------------------------------------------


class Order(NamedTuple):
    """The series of one order."""

    zeros: Sequence[tuple[float, float]]
    near: Sequence[float]
    second: Sequence[float]
    p: Sequence[float]
    q: Sequence[float]


_ORDERS = (
    Order(series.J0_ZEROS, series.J0_NEAR, series.Y0_NEAR, series.P0, series.Q0),
    Order(series.J1_ZEROS, series.J1_NEAR, series.Y1_NEAR, series.P1, series.Q1),
)


def bessel_j0(b: Builder, x: Expression) -> Expression:
    """The Bessel function of the first kind, order 0."""
    size = b.abs(x)
    cosine, _ = _waves(b, size, 0)
    return b.where(size <= 5, _first(b, b.min(size, 5), 0), cosine)


def bessel_j1(b: Builder, x: Expression) -> Expression:
    """The Bessel function of the first kind, order 1."""
    size = b.abs(x)
    cosine, _ = _waves(b, size, 1)
    made = b.where(size <= 5, _first(b, b.min(size, 5), 1), cosine)
    return made * b.copysign(b.constant(1, x.dtype), x)


def bessel_y0(b: Builder, x: Expression) -> Expression:
    """The Bessel function of the second kind, order 0."""
    small = b.min(x, 5)
    near = b.log(small) * (2 / math.pi) * _first(b, small, 0) + _second(b, small, 0)
    _, sine = _waves(b, x, 0)
    return b.where(x <= 5, near, sine)


def bessel_y1(b: Builder, x: Expression) -> Expression:
    """The Bessel function of the second kind, order 1."""
    small = b.min(x, 5)
    logarithm = b.log(small) * _first(b, small, 1) - 1 / small
    near = logarithm * (2 / math.pi) + small * _second(b, small, 1)
    _, sine = _waves(b, x, 1)
    return b.where(x.eq(0), -math.inf, b.where(x <= 5, near, sine))


def _first(b: Builder, x: Expression, order: int) -> Expression:
    """J for x <= 5."""
    made = chebyshev(b, x * x * (2 / 25) - 1, _ORDERS[order].near)
    for high, low in _ORDERS[order].zeros:
        made = made * (((x - high) - low) * (x + high))
    return made * x if order else made


def _second(b: Builder, x: Expression, order: int) -> Expression:
    """What Y has beside its logarithm and pole, for x <= 5."""
    return chebyshev(b, x * x * (2 / 25) - 1, _ORDERS[order].second)


def _waves(b: Builder, x: Expression, order: int) -> tuple[Expression, Expression]:
    """J and Y for x >= 5: ``sqrt(2 / (pi x)) (P + iQ) exp(i phase)``."""
    large = b.max(x, 5)
    inverse = 1 / large
    t = inverse * inverse * 50 - 1
    p = chebyshev(b, t, _ORDERS[order].p)
    q = chebyshev(b, t, _ORDERS[order].q) * inverse
    sine, cosine = b.sin(large), b.cos(large)
    # sqrt(2) times those of the phase, x - pi / 4 or x - 3 pi / 4: nothing is lost to it.
    real, imaginary = cosine + sine, sine - cosine
    if order:
        real, imaginary = imaginary, -real
    scale = math.sqrt(1 / math.pi) / b.sqrt(large)
    return (p * real - q * imaginary) * scale, (p * imaginary + q * real) * scale


# -- K ---------------------------------------------------------------------------------------

_TINY = 5e-324


def bessel_k(order: int, scaled: bool) -> Callable[[Builder, Expression], Expression]:
    """The rule of a modified Bessel function of the second kind; times ``exp(x)`` if scaled."""

    def rule(b: Builder, x: Expression) -> Expression:
        small, large = b.min(x, 2), b.max(x, 2)
        near = (_k1 if order else _k0)(b, small)
        far = chebyshev(b, 4 / large - 1, series.K1_FAR if order else series.K0_FAR)
        far = far / b.sqrt(large)
        if scaled:
            near = near * b.exp(small)
        else:
            far = far * b.exp(-large)
        beyond = b.where(x.eq(0), b.constant(math.inf, x.dtype), math.nan)
        return b.where(x > 0, b.where(x <= 2, near, far), beyond)

    return rule


def _k0(b: Builder, x: Expression) -> Expression:
    t = x * x * 0.5 - 1
    logarithm = b.log(b.max(x * 0.5, _TINY))
    return chebyshev(b, t, series.K0_SMALL) - logarithm * chebyshev(b, t, series.I0_SMALL)


def _k1(b: Builder, x: Expression) -> Expression:
    t = x * x * 0.5 - 1
    logarithm = b.log(b.max(x * 0.5, _TINY))
    first = x * chebyshev(b, t, series.I1_SMALL)
    return chebyshev(b, t, series.K1_SMALL) / x + logarithm * first


# -- Airy's function -------------------------------------------------------------------------

_LOW, _HIGH = -4.0, 1.5


def airy_ai(b: Builder, x: Expression) -> Expression:
    """The Airy function Ai; nan for infinities, as in PyTorch."""
    middle = b.min(b.max(x, _LOW), _HIGH)
    ends = _HIGH - _LOW
    near = chebyshev(b, middle * (2 / ends) - (_HIGH + _LOW) / ends, series.AIRY_NEAR)
    made = b.where(x < _LOW, _airy_waves(b, b.max(-x, -_LOW)), near)
    made = b.where(x > _HIGH, _airy_tail(b, b.max(x, _HIGH)), made)
    return b.where(b.abs(x).eq(math.inf), math.nan, made)


def _airy_tail(b: Builder, x: Expression) -> Expression:
    z, rest = _airy_exponent(b, x)
    scaled = chebyshev(b, 4 / 3 * _HIGH**1.5 / z - 1, series.AIRY_FAR)
    return scaled * (b.exp(-z) * (1 - rest)) / b.sqrt(b.sqrt(x))


def _airy_waves(b: Builder, x: Expression) -> Expression:
    z, rest = _airy_exponent(b, x)
    inverse = 1 / z
    t = inverse * inverse * (8 / 9 * (-_LOW) ** 3) - 1
    p = chebyshev(b, t, series.AIRY_P)
    q = chebyshev(b, t, series.AIRY_Q) * inverse
    sine, cosine = b.sin(z), b.cos(z)
    sine, cosine = sine + cosine * rest, cosine - sine * rest
    wave = p * (sine + cosine) + q * (cosine - sine)
    return wave * math.sqrt(0.5) / b.sqrt(b.sqrt(x))


def _airy_exponent(b: Builder, x: Expression) -> tuple[Expression, Expression]:
    """``2/3 x^(3/2)`` and what its rounding left over: exp and sin need all digits of it."""
    root = b.sqrt(x)
    high, top = (b.cast(b.cast(n, "float32"), "float64") for n in (root, x))
    exact = high * top  # 24 by 24 digits
    begin = exact * (2 / 3)
    left = (exact - begin) - begin * 0.5
    low = (x - high * high) / (root + high)
    rest = (left + (x - top) * high + x * low) * (2 / 3)
    z = begin + rest
    moderate = x < 1e6  # where the rest is small enough for sin and exp to be lines
    z = b.where(moderate, z, x * root * (2 / 3))
    return z, b.where(moderate, (begin - z) + rest, 0)


# -- the normal distribution -----------------------------------------------------------------


def ndtri(b: Builder, p: Expression) -> Expression:
    """The quantile of the standard normal distribution: by its logarithm, which tails need."""
    w = -b.log(p * 4 * (1 - p))
    near = chebyshev(b, b.min(w, 6) * (1 / 3) - 1, series.QUANTILE_NEAR) * (p * 2 - 1)
    root = b.sqrt(w)
    least, least_far = math.sqrt(6), 6 / 28
    middle = b.max(b.min(root, 6), least) * (2 / (6 - least)) - (6 + least) / (6 - least)
    far = b.min(6 / root, 1) * (2 / (1 - least_far)) - (1 + least_far) / (1 - least_far)
    tail = b.where(
        root < 6,
        chebyshev(b, middle, series.QUANTILE_MIDDLE),
        chebyshev(b, far, series.QUANTILE_FAR) * root,
    )
    return b.where(w < 6, near, b.copysign(tail, p - 0.5))
