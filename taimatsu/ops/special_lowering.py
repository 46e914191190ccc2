"""Special functions as expressions, in float64: erf's inverse, the gamma family.

The formulas of ``special_functions`` without branches: all parts are computed, and one is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ops import special_functions as functions

_EULER = 0.57721566490153286061
_BERNOULLI = functions._BERNOULLI


def polynomial(b: Builder, x: Expression, coefficients: Sequence[float]) -> Expression:
    """Horner's scheme; the lowest power first."""
    total = b.constant(coefficients[-1], x.dtype)
    for c in reversed(coefficients[:-1]):
        total = b.fma(total, x, b.constant(c, x.dtype))
    return total


def erfinv(b: Builder, y: Expression) -> Expression:
    """The x with ``erf(x) = y``; nan outside [-1, 1]. As ``functions.erfinv``."""
    size = b.abs(y)
    inside = (size < 1) & (size > 0)
    safe = b.where(inside, size, 0.5)
    rest = 1 - safe
    log = b.log(rest * (1 + safe))
    a = 0.147
    half = log / 2 + 2 / (math.pi * a)
    x = b.sqrt(b.sqrt(half * half - log / a) - half)
    for _ in range(3):
        gap = b.where(safe > 0.5, rest - b.erfc(x), b.erf(x) - safe)
        newton = gap / (2 / math.sqrt(math.pi) * b.exp(-x * x))
        x = x - newton / (1 + x * newton)
    at_end = b.where(size.eq(1), b.constant(math.inf, y.dtype), math.nan)
    x = b.where(inside, x, b.where(size.eq(0), 0, at_end))
    return b.copysign(x, y)


# (-1)^k (2k - 1)!! / 2^k: erfcx(x) x sqrt(pi) in powers of 1 / x^2.
_FAR_ERFCX = tuple((-1) ** k * math.prod(range(1, 2 * k, 2)) / 2**k for k in range(11))


def erfcx(b: Builder, x: Expression) -> Expression:
    """``exp(x^2) erfc(x)``: the product, its square exact in two parts; far off the series."""
    near = b.min(x, 10)
    high = b.cast(b.cast(near, "float32"), "float64")
    rest = (near - high) * (near + high)
    product = b.exp(high * high) * (b.exp(rest) * b.erfc(near))
    inverse = 1 / x
    far = inverse * (1 / math.sqrt(math.pi)) * polynomial(b, inverse * inverse, _FAR_ERFCX)
    return b.where(x > 10, far, b.where(x < -27, math.inf, product))


def log_ndtr(b: Builder, x: Expression) -> Expression:
    """The logarithm of the normal distribution's function: of its tail where that is small."""
    scaled = x * math.sqrt(0.5)
    left = b.log(erfcx(b, b.max(-scaled, 0)) * 0.5) - scaled * scaled
    right = b.log1p(b.erfc(scaled) * -0.5)
    found = b.where(x < -1, left, right)
    return b.where(x.eq(-math.inf), -math.inf, found)


# -- gamma -----------------------------------------------------------------------------------


def _series_at_two() -> tuple[float, ...]:
    """Coefficients of ``lgamma(2 + t) / t``: 1 - gamma, then (-1)^k (zeta(k) - 1) / k t^(k - 1)."""
    terms = [1 - _EULER]
    for k in range(2, 32):
        rest = float(functions.zeta(float(k), np.asarray(2.0)))
        terms.append((-1) ** k * rest / k)
    return tuple(terms)


_AT_TWO = _series_at_two()
# Stirling's series: B(2k) / (2k (2k - 1)), for odd powers of 1 / x.
_STIRLING = tuple(
    number / (2 * k * (2 * k - 1)) for k, number in enumerate(_BERNOULLI[:9], start=1)
)


def lgamma(b: Builder, x: Expression) -> Expression:
    """``log |gamma(x)|``; infinite at 0 and the negative whole numbers."""
    positive = _lgamma_positive(b, b.where(x < 0, 1 - x, x))
    nearest = x - b.round_half_even(x)
    mirrored = b.log(math.pi / b.abs(b.sin(nearest * math.pi))) - positive
    found = b.where(x < 0, mirrored, positive)
    return b.where(b.abs(x).eq(math.inf), math.inf, found)


def _lgamma_positive(b: Builder, x: Expression) -> Expression:
    """By recurrence into [1.5, 2.5], where a series is exact at both roots; far off by Stirling."""
    one = b.constant(1, x.dtype)
    low, tiny = x < 1.5, x < 0.5
    factor = b.where(tiny, x * (x + 1), b.where(low, x, one))  # what is divided by
    near = b.where(tiny, x, b.where(low, x - 1, x - 2))
    product = one
    for _ in range(6):  # from 8.5 at most
        above = near > 0.5
        product = b.where(above, product * (near + 1), product)
        near = b.where(above, near - 1, near)
    close = b.where(x > 9, 0, near)
    series = close * polynomial(b, close, _AT_TWO)
    middle = series + b.log(b.where(low, factor, product)) * b.where(low, -one, 1)
    inverse = 1 / x
    tail = inverse * polynomial(b, inverse * inverse, _STIRLING)
    far = (x - 0.5) * b.log(x) - x + 0.5 * math.log(2 * math.pi) + tail
    return b.where(x > 8, far, middle)


def digamma(b: Builder, x: Expression) -> Expression:
    """The derivative of ``lgamma``. As ``functions.digamma``."""
    whole = x.eq(b.floor(x)) & (x <= 0)
    usual = ~whole & (b.abs(x) < math.inf)
    safe = b.where(usual, x, b.constant(1, x.dtype))
    mirrored = safe < 0
    result = _digamma_positive(b, b.where(mirrored, 1 - safe, safe))
    fraction = safe - b.trunc(safe)
    result = b.where(mirrored, result - math.pi / b.tan(fraction * math.pi), result)
    infinite = b.constant(math.inf, x.dtype)
    at_whole = b.where(x.eq(0), b.copysign(infinite, -x), math.nan)
    result = b.where(whole, at_whole, result)
    result = b.where(b.isnan(x) | x.eq(-math.inf), math.nan, result)
    return b.where(x.eq(math.inf), infinite, result)


def _digamma_positive(b: Builder, x: Expression) -> Expression:
    shift = b.constant(0, x.dtype)
    large = x
    for _ in range(10):
        small = large < 10
        shift = shift + b.where(small, 1 / large, 0)
        large = b.where(small, large + 1, large)
    square = 1 / (large * large)
    terms = [number / (2 * k) for k, number in enumerate(_BERNOULLI[:7], 1)]
    series = square * polynomial(b, square, terms)
    far = b.log(large) - 0.5 / large - series - shift
    step = (x - functions._PSI_ROOT) - functions._PSI_ROOT_LOW
    slopes = [(-1) ** (n + 1) * functions._ZETA_AT_ROOT[n - 1] for n in range(1, 12)]
    near = step * polynomial(b, step, slopes)
    return b.where(b.abs(x - functions._PSI_ROOT) < 0.05, near, far)


def trigamma(b: Builder, x: Expression) -> Expression:
    """The derivative of ``digamma``. As ``functions.polygamma(1, x)``."""
    mirrored = x < 0.5
    start = b.where(mirrored, 1 - x, x)
    value = b.constant(0, x.dtype)
    for _ in range(12):
        value = value + 1 / (start * start)
        start = start + 1
    inverse = 1 / start
    square = inverse * inverse
    value = value + inverse + 0.5 * square
    value = value + inverse * square * polynomial(b, square, _BERNOULLI)
    sine = b.sin((x - b.trunc(x)) * math.pi)
    mirror = math.pi / sine
    return b.where(mirrored, mirror * mirror - value, value)


# -- zeta ------------------------------------------------------------------------------------


def zeta(b: Builder, x: Expression, q: Expression) -> Expression:
    """Hurwitz' zeta function. As ``functions.zeta``."""
    below = q < 0
    last = b.ceil(b.min(q, 0))
    count = b.where(below, 1 - last, 0)
    total = _zeta_sum(b, x, q + count, b.where(below, last - q, 1), count)
    pole = (q <= 0) & q.eq(b.floor(q))
    total = b.where(pole | x.eq(1), math.inf, total)
    outside = (x < 1) | (below & ~pole & x.ne(b.floor(x)))
    return b.where(outside, math.nan, total)


def _zeta_sum(
    b: Builder, x: Expression, start: Expression, size: Expression, count: Expression
) -> Expression:
    half, exponent = x * 0.5, _negative(b, x)
    sign = b.where(half.eq(b.floor(half)), b.constant(1, x.dtype), -1)
    far = size + b.max(count, functions.ZETA_TERMS)
    total = sign * (_zeta_rest(b, x, size + functions.ZETA_TERMS) - _zeta_rest(b, x, far))
    total = total + _zeta_rest(b, x, start + functions.ZETA_TERMS)
    for k in reversed(range(functions.ZETA_TERMS)):
        negative = b.where(count > k, sign * b.pow(size + k, exponent), 0)
        total = total + (b.pow(start + k, exponent) + negative)
    return total


def _zeta_rest(b: Builder, x: Expression, start: Expression) -> Expression:
    power = b.pow(start, _negative(b, x, 1))
    inverse = 1 / start
    term = power * inverse
    total = power / (x - 1) + 0.5 * term
    term = term * (x * inverse)
    for k, number in enumerate(functions.ZETA_SERIES, 1):
        total = total + number * term
        term = term * ((x + (2 * k - 1)) * inverse) * ((x + 2 * k) * inverse)
    return b.where(power.eq(0), 0, total)


def _negative(b: Builder, x: Expression, more: int = 0) -> Expression:
    """``more - x``; a number where that is one: such powers cost less."""
    return b.constant(more - x.detail, x.dtype) if x.op == "constant" else more - x


def polygamma(b: Builder, n: int, x: Expression) -> Expression:
    """The n-th derivative of digamma. As ``functions.polygamma``."""
    if n < 2:
        return trigamma(b, x) if n else digamma(b, x)
    return functions.polygamma_factor(n) * zeta(b, b.constant(n + 1, x.dtype), x)
