"""erf and erfc.

erf is a polynomial up to 1. Beyond, erfc is ``exp(-x^2)`` times a smooth function, which is a
polynomial in (x - c) / (x + c) (M. M. Shepherd & J. G. Laframboise, Math. Comp. 36, 1981).
"""

from __future__ import annotations

from taimatsu.compiler.codegen.vector_math import coefficients as tables
from taimatsu.compiler.codegen.vector_math import sixteens
from taimatsu.compiler.codegen.vector_math.double_word import (
    fast_two_sum,
    minus_product,
    two_product,
    two_sum,
)
from taimatsu.compiler.codegen.vector_math.exponential import exp_parts
from taimatsu.compiler.codegen.vector_math.lanes import (
    Lanes,
    function,
    polynomial,
    scale,
)

CENTRE = 3.75


@function
def erf(x: Lanes) -> Lanes:
    """The error function."""
    if sixteens.applies(x):
        return sixteens.in_registers(sixteens.erf, x)
    size = x.magnitude()
    square = size * size
    near = size.times_plus(polynomial(square, tables.ERF[x.precision]), size)
    far = 1 - (_single_complement(size) if x.bits == 32 else _complement(size.at_most(7.0)))
    return (size < 1).where(near, far).copy_sign(x)


def _single_complement(size: Lanes) -> Lanes:
    """erfc for sizes beyond 1, as accurate as its difference from 1 in float32 needs."""
    logarithm = polynomial(size.at_most(4.0) - 1, tables.ERFC_LOG["32"])
    return exp_parts(-logarithm).normal()


@function
def erfc(x: Lanes) -> Lanes:
    """``1 - erf(x)``, accurate where it is small."""
    size = x.magnitude()
    if x.bits == 32:
        wide = _wide_complement(size.to_double().at_most(11.0))
        return (x < 0).where(2 - wide, wide).to_single()
    far = _complement(size.at_most(28.0))
    far = (x < 0).where(2 - far, far)
    high, low = fast_two_sum(x.like(1), -x)
    near = high + (-x).times_plus(polynomial(x * x, tables.ERF["64"]), low)
    return (size < 0.8).where(near, far)


def _wide_complement(size: Lanes) -> Lanes:
    """erfc of a non-negative float32, in float64."""
    t = (size - CENTRE) / (size + CENTRE)
    smooth = polynomial(t, tables.ERFCX["wide"]) / (size + size + 1)
    return smooth * exp_parts(-(size * size), precision="wide").normal()


def _complement(size: Lanes) -> Lanes:
    """erfc of a non-negative float64; square and quotient are pairs."""
    t = (size - CENTRE) / (size + CENTRE)
    lowest, *others = tables.ERFCX["64"]
    smooth, smooth_rest = fast_two_sum(t.like(lowest), t * polynomial(t, others))
    smooth_rest = smooth_rest + tables.ERFCX_REST
    divisor = two_sum(size + size, size.like(1))
    quotient = smooth / divisor.high
    rest = minus_product(smooth, quotient, divisor.high) + smooth_rest
    rest = (-quotient).times_plus(divisor.low, rest) / divisor.high
    square = two_product(size, size)
    n, fraction = exp_parts(-square.high, rest=-square.low)
    return scale(quotient + quotient.times_plus(fraction, rest), n.value)
