"""Reduction of angles: ``x = q pi / 2 + r`` with |r| <= pi / 4, for every finite x.

Up to 2^30 the multiple of pi / 2 is subtracted in parts, the first difference being exact (W. J.
Cody & W. Waite 1980, with fused multiply-add or exact products). Beyond, the fraction of
x 2 / pi is taken from the bits of 2 / pi that matter for x's exponent (M. H. Payne & R. N. Hanek,
SIGNUM Newsletter 18, 1983). All in float64; float32 angles are converted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from llvmlite import ir

from taimatsu.compiler.codegen.vector_math import coefficients as tables
from taimatsu.compiler.codegen.vector_math.branching import per_lane, rarely
from taimatsu.compiler.codegen.vector_math.double_word import (
    Pair,
    fast_two_sum,
    minus_product,
    times,
    two_product,
    two_sum,
)
from taimatsu.compiler.codegen.vector_math.lanes import (
    DOUBLE,
    Lanes,
    nearest_multiple,
)

TWO_OVER_PI = 0.6366197723675814
MODERATE = 2.0**30
WORD, LONG = ir.IntType(64), ir.IntType(128)


class Angle(NamedTuple):
    """An angle between -pi/4 and pi/4, and the quarter turn (its last two bits) it lies in."""

    rest: Pair
    quarter: Lanes


def reduced(size: Lanes, short: bool = False) -> Angle:
    """A non-negative float64 angle, reduced; nan where it is infinite.

    ``short`` asks for float32's accuracy only: the low part of the rest is 0.
    """
    whole = nearest_multiple(size, TWO_OVER_PI)
    quarter, n = whole.low_bits() + 1, whole.value  # the exponent's bias is -1 modulo 4
    first, second, third = tables.HALF_PI["64"]
    rest = minus_product(size, n, size.like(first))
    if short:
        near = Pair((-n).times_plus(second, rest), size.like(0))
    else:
        product = two_product(n, size.like(second))
        high, low = two_sum(rest, -product.high)
        near = fast_two_sum(high, (-n).times_plus(third, low - product.low))
    huge = size > MODERATE
    high, low, quarter = rarely(
        huge, [near.high, near.low, quarter], lambda: _with_huge(size, huge, near, quarter)
    )
    return Angle(Pair(high, low), quarter)


def _with_huge(size: Lanes, huge: Lanes, near: Pair, quarter: Lanes) -> list[Lanes]:
    """The reduction where ``huge`` holds taken from Payne and Hanek's."""
    finite = huge & (size < float("inf"))
    fraction, fraction_low, turns = per_lane(
        "angle", _fraction_of_one, [finite.where(size, MODERATE)], [DOUBLE, DOUBLE, WORD]
    )
    half_pi = tables.HALF_PI["64"]
    far = times(Pair(fraction, fraction_low), Pair(size.like(half_pi[0]), size.like(half_pi[1])))
    nan = float("nan")
    return [
        finite.where(far.high, huge.where(nan, near.high)),
        finite.where(far.low, near.low),
        finite.where(turns, quarter),
    ]


def _fraction_of_one(builder: ir.IRBuilder, values: Sequence[ir.Value]) -> list[ir.Value]:
    """``x 2 / pi`` as the nearest whole number (modulo 4) and a pair of floats for the rest.

    x is ``m 2^e`` with m of 53 bits. Bits of 2 / pi whose product with 2^e is a multiple of 4
    change nothing; 192 bits from there on leave, after the worst cancellation of 62 bits, more
    than a pair of floats can hold.
    """
    bits = builder.bitcast(values[0], WORD)
    mantissa = builder.or_(builder.and_(bits, _word(2**52 - 1)), _word(2**52))
    # The table starts with 64 zero bits: 2 / pi from bit e - 2 is the table from bit e + 62.
    start = builder.sub(builder.lshr(bits, _word(52)), _word(1075 - 62))
    window = _window(builder, start)
    low, middle, high = (_product(builder, mantissa, word) for word in reversed(window))
    # The product modulo 2^192, as its words of 128 and (below it) 64 bits.
    upper = builder.add(
        builder.add(builder.shl(high, _long(64)), middle), builder.lshr(low, _long(64))
    )
    lower = builder.trunc(low, WORD)
    turns = builder.trunc(builder.lshr(upper, _long(126)), WORD)
    below = builder.lshr(builder.zext(lower, LONG), _long(62))
    fraction = builder.or_(builder.shl(upper, _long(2)), below)  # in units of 2^-128
    negative = builder.icmp_signed("<", fraction, _long(0))
    turns = builder.add(turns, builder.zext(negative, WORD))
    size = builder.select(negative, builder.neg(fraction), fraction)
    first, second = _floats(builder, size)
    signed = [builder.select(negative, builder.fneg(v), v) for v in (first, second)]
    return [*signed, turns]


def _window(builder: ir.IRBuilder, start: ir.Value) -> list[ir.Value]:
    """Three words of the table from a bit on."""
    table = _table(builder.module)
    word, shift = builder.lshr(start, _word(6)), builder.and_(start, _word(63))
    read = []
    for offset in range(4):
        index = builder.add(word, _word(offset))
        read.append(builder.load(builder.gep(table, [_word(0), index], inbounds=True)))
    kind = ir.FunctionType(WORD, [WORD] * 3)
    funnel = builder.module.declare_intrinsic("llvm.fshl", (WORD,), kind)
    return [builder.call(funnel, [read[i], read[i + 1], shift]) for i in range(3)]


def _table(module: ir.Module) -> ir.GlobalVariable:
    name = "taimatsu.two_over_pi"
    if name in module.globals:
        return module.globals[name]
    words = [0, *tables.TWO_OVER_PI]
    kind = ir.ArrayType(WORD, len(words))
    table = ir.GlobalVariable(module, kind, name)
    table.linkage = "internal"
    table.global_constant = True
    table.initializer = ir.Constant(kind, words)
    return table


def _product(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.mul(builder.zext(a, LONG), builder.zext(b, LONG))


def _floats(builder: ir.IRBuilder, size: ir.Value) -> tuple[ir.Value, ir.Value]:
    """A positive whole number of 128 bits, times 2^-128, as two floats of 53 bits each."""
    kind = ir.FunctionType(LONG, [LONG, ir.IntType(1)])
    count = builder.module.declare_intrinsic("llvm.ctlz", (LONG,), kind)
    zeros = builder.call(count, [size, ir.Constant(ir.IntType(1), 0)])
    shifted = builder.shl(size, zeros)
    zeros = builder.trunc(zeros, WORD)
    first = builder.trunc(builder.lshr(shifted, _long(75)), WORD)
    second = builder.and_(builder.trunc(builder.lshr(shifted, _long(22)), WORD), _word(2**53 - 1))
    made = []
    for whole, place in ((first, 53), (second, 106)):
        exponent = builder.sub(_word(1023 - place), zeros)
        power = builder.bitcast(builder.shl(exponent, _word(52)), DOUBLE)
        made.append(builder.fmul(builder.sitofp(whole, DOUBLE), power))
    return made[0], made[1]


def _word(number: int) -> ir.Constant:
    return ir.Constant(WORD, number)


def _long(number: int) -> ir.Constant:
    return ir.Constant(LONG, number)
