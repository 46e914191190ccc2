"""pow: powers with float, integer and constant exponents."""

from __future__ import annotations

from llvmlite import ir

from taimatsu.compiler.codegen.vector_math.double_word import Pair, times
from taimatsu.compiler.codegen.vector_math.exponential import EXP_HIGH, EXP_LOW, exp_parts
from taimatsu.compiler.codegen.vector_math.lanes import FUNCTIONS, Lanes
from taimatsu.compiler.codegen.vector_math.logarithm import log_pair, natural, parts
from taimatsu.compiler.codegen.vector_math.rounding import round_half_even
from taimatsu.ir.target import Target

INFINITY = float("inf")
NAN = float("nan")


def pow(builder: ir.IRBuilder, target: Target, x: ir.Value, y: ir.Value) -> ir.Value:
    """``x`` to the power ``y``, IEEE's ``pow``; y of x's type, or (signed) integers.

    ``exp(y log(x))``, for float32 in float64 arithmetic, for float64 with the logarithm as a pair.
    Raises TypeError for other types.
    """
    base, exponent = Lanes(builder, target, x), Lanes(builder, target, y)
    if not base.is_float or base.count != exponent.count:
        raise TypeError(
            f"[vector_math.pow] expected floats and as many exponents, got {x.type} and {y.type}"
        )
    if isinstance(exponent.item, ir.IntType):
        return _with_integers(base, exponent).value
    if x.type != y.type:
        raise TypeError(
            f"[vector_math.pow] expected exponents of type {x.type} or integers, got {y.type}"
        )
    half = exponent * 0.5
    whole = round_half_even(exponent) == exponent
    odd = whole & (round_half_even(half) != half)
    wide = exponent.to_double() if base.bits == 32 else exponent
    return _power(base, wide, odd, whole).value


FUNCTIONS["pow"] = pow


def _with_integers(base: Lanes, exponent: Lanes) -> Lanes:
    """Integer exponents; their last bit is read before it is lost in rounding."""
    kind = exponent.type_of(ir.DoubleType())
    wide = exponent.made(exponent.builder.sitofp(exponent.value, kind))
    return _power(base, wide, odd=(exponent & 1) != 0)


def _power(x: Lanes, y: Lanes, odd: Lanes, whole: Lanes | None = None) -> Lanes:
    """The power, y in float64; where it is odd, and where a whole number (everywhere if None)."""
    size = x.magnitude()
    result = _of_magnitudes(size, y)
    negative = x.as_bits() >= x.sign_bit
    sign = (negative & odd).where(x.like(-0.0).as_bits(), 0)
    result = (size == 1).where(1, result).with_sign(sign)
    if whole is not None:
        result = ((x < 0) & (size < INFINITY) & ~whole).where(NAN, result)
    result = ((x != x) | (y != y)).where(NAN, result)
    return ((x == 1) | (y == 0)).where(1, result)


def _of_magnitudes(size: Lanes, y: Lanes) -> Lanes:
    """``size^y`` for positive sizes, 0 and infinity; 1 to an infinite power is left open."""
    if size.bits == 32:
        wide = size.to_double()
        exponent, mantissa = parts(wide)
        product = y * _limits(wide, natural(exponent, mantissa - 1, "wide"))
        bounded = product.at_least(-150.0).at_most(150.0)
        # Far from float64's limits: the number is normal, and is rounded once, when it is cut.
        return exp_parts(bounded, precision="wide").normal().to_single()
    log = log_pair(Pair(size, size.like(0)))
    product_high, product_low = times(Pair(_limits(size, log.high), log.low), Pair(y, y.like(0)))
    coarse = y * _limits(size, log.high)
    fine = coarse.magnitude() < 800.0
    high = fine.where(product_high, coarse).at_least(EXP_LOW[64]).at_most(EXP_HIGH[64])
    return exp_parts(high, rest=fine.where(product_low, 0)).value()


def _limits(size: Lanes, log: Lanes) -> Lanes:
    log = (size < INFINITY).where(log, size)
    return (size == 0).where(-INFINITY, log)


def pow_constant(builder: ir.IRBuilder, target: Target, x: ir.Value, exponent: float) -> ir.Value:
    """``x`` to a constant power: what PyTorch computes by products and roots is so here too.

    Those exponents are -2, -1, -0.5, 0, 0.5, 1, 2 and 3; others are ``pow``.
    """
    base = Lanes(builder, target, x)
    if exponent == 0:
        return base.like(1).value
    if exponent == 1:
        return x
    if exponent == 2:
        return (base * base).value
    if exponent == 3:
        return (base * base * base).value
    if exponent in (0.5, -0.5):
        root = base.intrinsic("sqrt")
        return (root if exponent > 0 else 1 / root).value
    if exponent == -1:
        return (1 / base).value
    if exponent == -2:
        return (1 / (base * base)).value
    return pow(builder, target, x, base.like(exponent).value)
