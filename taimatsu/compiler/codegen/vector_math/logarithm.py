"""log, log2, log10, log1p and the inverse hyperbolic functions.

``x = 2^k m`` with m between sqrt(1/2) and sqrt(2), and a minimax polynomial in f = m - 1, or (in
float64) in s = f / (2 + f), which converges faster (P. T. P. Tang, ACM TOMS 16, 1990). Where
float64 needs more, the logarithm of a pair of numbers is found as a pair.
"""

from __future__ import annotations

from typing import NamedTuple

from taimatsu.compiler.codegen.vector_math import coefficients as tables
from taimatsu.compiler.codegen.vector_math.double_word import (
    Pair,
    fast_two_sum,
    over,
    plus,
    square_root,
    times,
    two_product,
    two_sum,
)
from taimatsu.compiler.codegen.vector_math.lanes import (
    EXPONENT_BIAS,
    MANTISSA_BITS,
    ROUNDER,
    Lanes,
    function,
    polynomial,
    power_of_two,
)

INFINITY = float("inf")
NAN = float("nan")
SMALLEST_NORMAL = {32: 2.0**-126, 64: 2.0**-1022}
# The bits of sqrt(1/2), where mantissas are cut.
CUT = {32: 0x3F3504F3, 64: 0x3FE6A09E667F3BCD}


class Parts(NamedTuple):
    """``2^exponent * mantissa``."""

    exponent: Lanes
    mantissa: Lanes


def parts(x: Lanes) -> Parts:
    """A positive normal number in parts, the mantissa between sqrt(1/2) and sqrt(2)."""
    width, bias = MANTISSA_BITS[x.bits], EXPONENT_BIAS[x.bits]
    moved = x.as_bits() + ((bias << width) - CUT[x.bits])
    rounder = x.like(ROUNDER[x.bits])
    exponent = ((moved >> width) + rounder.as_bits()).as_float() - (ROUNDER[x.bits] + bias)
    mantissa = ((moved & ((1 << width) - 1)) + CUT[x.bits]).as_float()
    return Parts(exponent, mantissa)


def parts_of_any(x: Lanes) -> Parts:
    """The same for every positive number: those below the normal ones are scaled first."""
    shift = MANTISSA_BITS[x.bits] + 1
    tiny = x < SMALLEST_NORMAL[x.bits]
    exponent, mantissa = parts(tiny.where(x * 2.0**shift, x))
    return Parts(exponent - tiny.where(x.like(shift), 0), mantissa)


def log_near_one(f: Lanes, precision: str) -> Lanes:
    """``log(1 + f) - f`` for 1 + f between sqrt(1/2) and sqrt(2)."""
    if precision != "64":
        square = f * f
        tail = polynomial(f, tables.LOG[precision]).times_plus(f, -0.5)
        return tail * square
    half_square = f * f * 0.5
    s = f / (f + 2)
    z = s * s
    ratio = z * polynomial(z, tables.LOG_RATIO[precision])
    return s * (half_square + ratio) - half_square


def with_limits(x: Lanes, result: Lanes) -> Lanes:
    """A logarithm of x where x is 0, infinite, negative or nan as well."""
    result = (x < INFINITY).where(result, x)
    return (x > 0).where(result, (x == 0).where(x.like(-INFINITY), NAN))


def natural(exponent: Lanes, f: Lanes, precision: str) -> Lanes:
    """``exponent ln(2) + log(1 + f)``."""
    long, short = tables.LN2[precision]
    rest = exponent.times_plus(short, log_near_one(f, precision))
    return exponent.times_plus(long, f + rest)


@function
def log(x: Lanes) -> Lanes:
    """The natural logarithm."""
    return with_limits(x, _log_positive(x, x.precision))


def _log_positive(x: Lanes, precision: str) -> Lanes:
    exponent, mantissa = parts_of_any(x)
    return natural(exponent, mantissa - 1, precision)


@function
def log1p(x: Lanes) -> Lanes:
    """``log(1 + x)``, accurate near zero.

    The sum is taken exactly, as a pair: where its exponent is 0, f is x itself.
    """
    total, rest = two_sum(x, x.like(1))
    exponent, mantissa = parts(total)
    f = rest.times_plus(power_of_two(-exponent.at_most(100)), mantissa - 1)
    result = natural(exponent, f, x.precision).copy_sign(x)
    result = (x < INFINITY).where(result, x)
    return (x > -1).where(result, (x == -1).where(x.like(-INFINITY), NAN))


@function
def log2(x: Lanes) -> Lanes:
    """The logarithm to base 2; exact for powers of 2."""
    exponent, mantissa = parts_of_any(x)
    high, low = _near_one_times(mantissa - 1, tables.LOG2_E[x.precision])
    total, rest = fast_two_sum(exponent, high)
    return with_limits(x, total + (rest + low))


@function
def log10(x: Lanes) -> Lanes:
    """The logarithm to base 10."""
    exponent, mantissa = parts_of_any(x)
    long, short = tables.LOG10_2[x.precision]
    high, low = _near_one_times(mantissa - 1, tables.LOG10_E[x.precision])
    total, rest = fast_two_sum(exponent * long, high)
    return with_limits(x, total + (rest + exponent.times_plus(short, low)))


def _near_one_times(f: Lanes, factor: tuple[float, float]) -> Pair:
    """``log(1 + f)`` times a constant, as a pair."""
    high, rest = two_product(f, f.like(factor[0]))
    tail = log_near_one(f, f.precision)
    return Pair(high, tail.times_plus(factor[0], f.times_plus(factor[1], rest)))


# -- logarithms of pairs ---------------------------------------------------------------------


def log_pair(x: Pair, doublings: Lanes | float = 0.0) -> Pair:
    """``log(x 2^doublings)`` of a positive pair of float64, to about 2^-65."""
    exponent, mantissa = parts_of_any(x.high)
    low = x.low * power_of_two(-exponent.at_most(1000).at_least(-1000))
    above, above_rest = two_sum(mantissa, mantissa.like(1))
    s = over(two_sum(mantissa - 1, low), Pair(above, above_rest + low))
    square = times(s, s)
    tail = square.high * polynomial(square.high, tables.LOG_TAIL["64"])
    two_thirds = Pair(s.high.like(2 / 3), s.high.like(2.0**-54 * 2 / 3))
    series = times(square, plus(two_thirds, Pair(tail, tail.like(0))))
    near = plus(Pair(s.high * 2, s.low * 2), times(s, series))
    exponent = exponent + doublings
    long, short = tables.LN2["64"]
    high, rest = two_sum(exponent * long, near.high)
    return fast_two_sum(high, rest + exponent.times_plus(short, near.low))


# -- inverse hyperbolic functions ------------------------------------------------------------


@function
def asinh(x: Lanes) -> Lanes:
    """The inverse hyperbolic sine: ``log(|x| + sqrt(x^2 + 1))``, with the sign of x."""
    size = x.magnitude()
    if x.bits == 32:
        wide = size.to_double()
        root = wide.times_plus(wide, 1).intrinsic("sqrt")
        result = _log_positive(wide + root, "wide").to_single()
        smallest = 2.0**-12
    else:
        moderate = size.at_most(2.0**300)
        root_pair = square_root(plus_one(two_product(moderate, moderate), 1.0))
        total = two_sum(moderate, root_pair.high)
        total = Pair(total.high, total.low + root_pair.low)
        large = size > 2.0**300
        total = Pair(large.where(size, total.high), large.where(0, total.low))
        result = log_pair(total, large.where(size.like(1), 0)).high
        smallest = 2.0**-27
    result = ((size < INFINITY) & (size >= smallest)).where(result, size)
    return result.copy_sign(x)


def plus_one(a: Pair, one: float) -> Pair:
    """A pair plus 1 or -1."""
    high, rest = two_sum(a.high, a.high.like(one))
    return fast_two_sum(high, rest + a.low)


@function
def acosh(x: Lanes) -> Lanes:
    """The inverse hyperbolic cosine: ``log(x + sqrt(x^2 - 1))``; nan below 1."""
    if x.bits == 32:
        wide = x.to_double()
        root = wide.times_plus(wide, -1).intrinsic("sqrt")
        result = _log_positive(wide + root, "wide").to_single()
    else:
        moderate = x.at_most(2.0**300)
        root_pair = square_root(plus_one(two_product(moderate, moderate), -1.0))
        total = two_sum(moderate, root_pair.high)
        total = Pair(total.high, total.low + root_pair.low)
        large = x > 2.0**300
        total = Pair(large.where(x, total.high), large.where(0, total.low))
        result = log_pair(total, large.where(x.like(1), 0)).high
    result = (x < INFINITY).where(result, x)
    result = (x == 1).where(0, result)
    return (x >= 1).where(result, NAN)


@function
def atanh(x: Lanes) -> Lanes:
    """The inverse hyperbolic tangent: ``log((1 + x) / (1 - x)) / 2``."""
    size = x.magnitude()
    if x.bits == 32:
        wide = size.to_double()
        far = _log_positive((wide + 1) / (1 - wide), "wide") * 0.5
        near = (wide * wide * wide).times_plus(1 / 3, wide)
        result = (size.to_double() < 2.0**-12).where(near, far).to_single()
    else:
        one = size.like(1)
        ratio = over(two_sum(one, size), two_sum(one, -size))
        far = log_pair(ratio).high * 0.5
        result = (size < 2.0**-27).where(size, far)
    result = (size < 1).where(result, (size == 1).where(x.like(INFINITY), NAN))
    return result.copy_sign(x)
