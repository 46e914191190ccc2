"""Rounding to integers, roots, reciprocals, hypot, and division with remainder."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from taimatsu.compiler.codegen.vector_math.branching import per_lane, rarely
from taimatsu.compiler.codegen.vector_math.double_word import minus_product
from taimatsu.compiler.codegen.vector_math.lanes import (
    DOUBLE,
    MANTISSA_BITS,
    Lanes,
    function,
)

INFINITY = float("inf")
NAN = float("nan")
WORD = ir.IntType(64)


def rounds_in_hardware(x: Lanes) -> bool:
    """Whether LLVM has an instruction; it would call the C library otherwise."""
    return x.target.has("sse4.1") or x.target.has("neon")


@function
def round_half_even(x: Lanes) -> Lanes:
    """The nearest integer, of two the even one."""
    if rounds_in_hardware(x):
        return x.intrinsic("roundeven")
    # Above 2^23 (2^52) every number is whole.
    size = x.magnitude()
    whole = 2.0 ** MANTISSA_BITS[x.bits]
    rounded = (size + whole) - whole
    return (size < whole).where(rounded, size).copy_sign(x)


@function
def floor(x: Lanes) -> Lanes:
    """The largest integer not above x."""
    if rounds_in_hardware(x):
        return x.intrinsic("floor")
    rounded = round_half_even(x)
    return (rounded > x).where(rounded - 1, rounded).copy_sign(x)


@function
def ceil(x: Lanes) -> Lanes:
    """The smallest integer not below x."""
    if rounds_in_hardware(x):
        return x.intrinsic("ceil")
    return -floor(-x)


@function
def trunc(x: Lanes) -> Lanes:
    """The integer part of x."""
    if rounds_in_hardware(x):
        return x.intrinsic("trunc")
    return floor(x.magnitude()).copy_sign(x)


@function
def sqrt(x: Lanes) -> Lanes:
    """The square root, correctly rounded."""
    return x.intrinsic("sqrt")


@function
def rsqrt(x: Lanes) -> Lanes:
    """``1 / sqrt(x)``."""
    return 1 / x.intrinsic("sqrt")


@function
def reciprocal(x: Lanes) -> Lanes:
    """``1 / x``, correctly rounded."""
    return 1 / x


@function
def hypot(x: Lanes, y: Lanes) -> Lanes:
    """``sqrt(x^2 + y^2)`` without overflow on the way; infinite where either is."""
    a, b = x.magnitude(), y.magnitude()
    if x.bits == 32:
        wide_a, wide_b = a.to_double(), b.to_double()
        result = (wide_a * wide_a + wide_b * wide_b).intrinsic("sqrt").to_single()
    else:
        larger = (a > b).where(a, b)
        factor = (larger > 2.0**500).where(x.like(2.0**-600), 1)
        factor = (larger < 2.0**-500).where(2.0**600, factor)
        back = (larger > 2.0**500).where(x.like(2.0**600), 1)
        back = (larger < 2.0**-500).where(2.0**-600, back)
        a, b = a * factor, b * factor
        result = a.times_plus(a, b * b).intrinsic("sqrt") * back
    infinite = (x.magnitude() == INFINITY) | (y.magnitude() == INFINITY)
    return infinite.where(INFINITY, result)


# -- remainders ------------------------------------------------------------------------------


@function
def fmod(x: Lanes, y: Lanes) -> Lanes:
    """The remainder of division rounded towards zero, exact, with the sign of x (C's fmod)."""
    return _remainder_of_magnitudes(x, y).copy_sign(x)


@function
def remainder(x: Lanes, y: Lanes) -> Lanes:
    """The remainder of division rounded down, with the sign of y (Python's ``%``).

    As PyTorch: C's fmod, and y added where the signs differ.
    """
    rest = _remainder_of_magnitudes(x, y).copy_sign(x)
    differ = (rest.sign() != y.sign()) & (rest != 0)
    return differ.where(rest + y, rest)


def _remainder_of_magnitudes(x: Lanes, y: Lanes) -> Lanes:
    """``|x| mod |y|``: by one division where the quotient is short, else by long division."""
    a, b = x.magnitude(), y.magnitude()
    quotient = a / b
    whole = trunc(quotient)
    rest = minus_product(a, whole, b)
    rest = (rest < 0).where(rest + b, rest)  # the quotient was rounded up to a whole number
    rest = (a < b).where(a, rest)
    proper = (a < INFINITY) & (b > 0)
    long = ~(quotient < 2.0 ** (MANTISSA_BITS[x.bits] - 2))
    if not x.target.fma:
        # The products that stand in for fused multiply-add would overflow, or underflow.
        high, low = (2.0**100, 2.0**-70) if x.bits == 32 else (2.0**990, 2.0**-900)
        long = long | (a > high) | (b < low)
    long = long & proper & (a >= b)
    (rest,) = rarely(long, [rest], lambda: [long.where(_long_division(a, b, long), rest)])
    return proper.where(rest, NAN)


def _long_division(a: Lanes, b: Lanes, wanted: Lanes) -> Lanes:
    """``a mod b`` of the lanes wanted, where ``a >= b > 0``; the other lanes hold anything."""
    if a.bits == 32:
        return _long_division(a.to_double(), b.to_double(), wanted).to_single()
    operands = [wanted.where(a, 1), wanted.where(b, 1)]
    (rest,) = per_lane("fmod", _long_division_of_one, operands, [DOUBLE])
    return rest


def _long_division_of_one(builder: ir.IRBuilder, pair: Sequence[ir.Value]) -> list[ir.Value]:
    """Eleven bits of the quotient at a time, so that the shifted rest stays within 64 bits."""
    (a, a_exponent), (b, b_exponent) = (_whole_number(builder, value) for value in pair)
    rest = builder.urem(a, b)
    start = builder.block
    loop = builder.append_basic_block("divide")
    leave = builder.append_basic_block("divided")
    left = builder.sub(a_exponent, b_exponent)
    builder.cbranch(builder.icmp_signed(">", left, _word(0)), loop, leave)

    builder.position_at_end(loop)
    rest_now, left_now = builder.phi(WORD), builder.phi(WORD)
    short = builder.icmp_signed("<", left_now, _word(11))
    step = builder.select(short, left_now, _word(11))
    next_rest = builder.urem(builder.shl(rest_now, step), b)
    next_left = builder.sub(left_now, step)
    rest_now.add_incoming(rest, start)
    rest_now.add_incoming(next_rest, loop)
    left_now.add_incoming(left, start)
    left_now.add_incoming(next_left, loop)
    builder.cbranch(builder.icmp_signed(">", next_left, _word(0)), loop, leave)

    builder.position_at_end(leave)
    found = builder.phi(WORD)
    found.add_incoming(rest, start)
    found.add_incoming(next_rest, loop)
    # rest * 2^(exponent - 1075), in two exact steps: the power alone may be no normal number.
    power = builder.sub(b_exponent, _word(1075))
    half = builder.ashr(power, _word(1))
    scaled = builder.uitofp(found, DOUBLE)
    for part in (half, builder.sub(power, half)):
        bits = builder.shl(builder.add(part, _word(1023)), _word(52))
        scaled = builder.fmul(scaled, builder.bitcast(bits, DOUBLE))
    return [scaled]


def _whole_number(builder: ir.IRBuilder, value: ir.Value) -> tuple[ir.Value, ir.Value]:
    """A positive float64 as a whole number m and an exponent e: it is ``m 2^(e - 1075)``."""
    bits = builder.bitcast(value, WORD)
    exponent = builder.lshr(bits, _word(52))
    fraction = builder.and_(bits, _word(2**52 - 1))
    normal = builder.icmp_unsigned("!=", exponent, _word(0))
    mantissa = builder.select(normal, builder.or_(fraction, _word(2**52)), fraction)
    return mantissa, builder.select(normal, exponent, _word(1))


def _word(number: int) -> ir.Constant:
    return ir.Constant(WORD, number)
