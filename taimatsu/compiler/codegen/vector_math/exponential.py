"""exp and its relatives: exp2, expm1, sigmoid, sinh, cosh, tanh.

The argument is reduced to ``x = n ln(2) + r``, |r| <= ln(2) / 2, with ln(2) in two parts of which
the first has exact products with n (W. J. Cody & W. Waite, Software Manual for the Elementary
Functions, 1980), and a minimax polynomial gives exp(r); P. T. P. Tang (ACM TOMS 15, 1989) has the
error analysis.
"""

from __future__ import annotations

from typing import NamedTuple

from taimatsu.compiler.codegen.vector_math import coefficients as tables
from taimatsu.compiler.codegen.vector_math import sixteens
from taimatsu.compiler.codegen.vector_math.lanes import (
    Lanes,
    Whole,
    function,
    nearest,
    nearest_multiple,
    polynomial,
    scale,
)

# Beyond these, exp has underflowed to zero, or overflowed even when it is halved.
EXP_LOW = {32: -105.0, 64: -746.0}
EXP_HIGH = {32: 92.0, 64: 712.0}
# Powers of numbers below these round to zero.
EXP_ZERO = {32: -104.0, 64: -745.2}
EXP2_ZERO = {32: -150.0, 64: -1075.0}
LOG2_E = 1.4426950408889634


class Power(NamedTuple):
    """``2^exponent * (1 + fraction)``."""

    exponent: Whole
    fraction: Lanes

    def value(self, shift: int = 0) -> Lanes:
        """The number, times 2^shift."""
        n = self.exponent.value
        return scale(self.fraction + 1, n + shift if shift else n)

    def normal_plus(self, addend: Lanes | float) -> Lanes:
        """``addend`` plus the number, which is a normal one; 2^exponent + addend being exact."""
        power = self.exponent.power_of_two()
        return self.fraction.times_plus(power, power + addend)

    def normal(self) -> Lanes:
        """The number, where it is a normal one."""
        power = self.exponent.power_of_two()
        return self.fraction.times_plus(power, power)


def reduced(x: Lanes) -> tuple[Whole, Lanes, Lanes]:
    """n, r and what rounding left out of r: ``x = n ln(2) + r + rest``."""
    n = nearest_multiple(x, LOG2_E)
    long, short = tables.LN2[x.precision]
    start = (-n.value).times_plus(long, x)
    r = (-n.value).times_plus(short, start)
    return n, r, (-n.value).times_plus(short, start - r)


def exp_parts(x: Lanes, rest: Lanes | None = None, precision: str | None = None) -> Power:
    """exp(x + rest) in parts, for x within the bounds above or nan.

    ``precision`` is ``"wide"`` for float64 lanes of which a float32 result is made.
    """
    n, r, left = reduced(x)
    tail = polynomial(r, tables.EXP[precision or x.precision])
    if rest is None:
        return Power(n, (r * r).times_plus(tail, r))
    tail = r * r * tail
    left = left + rest
    return Power(n, r + (tail + left.times_plus(r + tail, left)))


def _unless_zero(x: Lanes, below: dict[int, float], factor: Lanes) -> Lanes:
    """The factor, or zero where the power of x rounds to zero.

    Processors take a hundred cycles and more where a product underflows: masked elements of
    attention, which are -inf, would all do so.
    """
    return (x < below[x.bits]).where(0.0, factor)


def bounded(x: Lanes) -> Lanes:
    return x.at_least(EXP_LOW[x.bits]).at_most(EXP_HIGH[x.bits])


@function
def exp(x: Lanes) -> Lanes:
    """The exponential function."""
    if sixteens.applies(x):
        return sixteens.in_registers(sixteens.exp, x)
    power = exp_parts(bounded(x))
    return scale(_unless_zero(x, EXP_ZERO, power.fraction + 1), power.exponent.value)


@function
def exp2(x: Lanes) -> Lanes:
    """2 to the power of x; exact for integers."""
    low, high = (-151.0, 130.0) if x.bits == 32 else (-1076.0, 1026.0)
    inside = x.at_least(low).at_most(high)
    n = nearest(inside)
    r = inside - n
    return scale(_unless_zero(x, EXP2_ZERO, r * polynomial(r, tables.EXP2[x.precision]) + 1), n)


def _expm1_parts(x: Lanes) -> tuple[Whole, Lanes]:
    """n, and exp(r) - 1 with little more than its own rounding error: ``x = n ln(2) + r``."""
    n, r, rest = reduced(x)
    tail = polynomial(r, tables.EXP[x.precision])
    return n, r + (r * r).times_plus(tail, rest)


@function
def expm1(x: Lanes) -> Lanes:
    """``exp(x) - 1``, accurate near zero.

    With T = 2^n it is ``T (exp(r) - 1) + (T - 1)``; halved throughout, so that T does not
    overflow before the result does.
    """
    if sixteens.applies(x):
        return sixteens.in_registers(sixteens.expm1, x)
    low, high = (-26.0, 89.0) if x.bits == 32 else (-54.0, 710.0)
    n, near = _expm1_parts(x.at_least(low).at_most(high))
    half = n.power_of_two(shift=1)
    far = near.times_plus(half, half - 0.5) * 2
    return (n.value == 0).where(near, far).copy_sign(x)


@function
def sigmoid(x: Lanes) -> Lanes:
    """``1 / (1 + exp(-x))``, without overflow, and with gradual underflow for negative x.

    With exp(-x) = T (1 + y) the divisor is T + T y + 1, the larger of T and 1 added last, so that
    only this sum's rounding counts. Where T is large, both sides of the fraction are scaled.
    """
    if sixteens.applies(x):
        return sixteens.in_registers(sixteens.sigmoid, x)
    low, high, shift = (-87.0, 105.0, 32) if x.bits == 32 else (-700.0, 746.0, 100)
    n, fraction = exp_parts((-x).at_least(low).at_most(high))
    large = n.value > high
    numerator = large.where(x.like(2.0**-shift), 1)
    power = n.power_of_two(large.where(x.like(shift), 0))
    tall = power > numerator
    smaller, larger = tall.where(numerator, power), tall.where(power, numerator)
    return numerator / (fraction.times_plus(power, smaller) + larger)


@function
def sinh(x: Lanes) -> Lanes:
    """The hyperbolic sine."""
    size = x.magnitude()
    square = size * size
    near = (size * square).times_plus(polynomial(square, tables.SINH[x.precision]), size)
    half = exp_parts(size.at_most(EXP_HIGH[x.bits])).value(shift=-1)
    far = half - 0.25 / half
    return (size < 1).where(near, far).copy_sign(x)


@function
def cosh(x: Lanes) -> Lanes:
    """The hyperbolic cosine."""
    half = exp_parts(x.magnitude().at_most(EXP_HIGH[x.bits])).value(shift=-1)
    return half + 0.25 / half


@function
def tanh(x: Lanes) -> Lanes:
    """The hyperbolic tangent: a polynomial up to 0.55, beyond it ``1 - 2 / (exp(2 x) + 1)``."""
    size = x.magnitude()
    square = size * size
    near = (size * square).times_plus(polynomial(square, tables.TANH[x.precision]), size)
    double = (size + size).at_most(20.0 if x.bits == 32 else 40.0)
    if sixteens.applies(x):
        divisor = sixteens.in_registers(sixteens.exp_plus_one, double)
    else:
        divisor = exp_parts(double).normal_plus(1)
    far = 1 - 2 / divisor
    return (size < 0.55).where(near, far).copy_sign(x)
