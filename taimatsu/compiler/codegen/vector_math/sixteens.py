"""exp, expm1, sigmoid and erf of float32 with AVX-512, by tables in registers.

A register of 512 bits holds sixteen numbers, and one instruction looks them up (vpermps). With
2^(j / 16) from a table, exp(r) is needed for |r| <= ln(2) / 32 only, where its polynomial is short
(P. T. P. Tang, ACM TOMS 15, 1989); erf is a polynomial for each of sixteen intervals. Multiplying
units, and those that compare, are what the other formulas wait for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from llvmlite import ir

from taimatsu.compiler.codegen.vector_math import coefficients as tables
from taimatsu.compiler.codegen.vector_math.lanes import (
    Lanes,
    declared,
    joined,
    pieces,
    polynomial,
    scale,
    shuffled,
)

LANES = 16
LOG2_E = 1.4426950408889634
# Adding these rounds to multiples of 1 / 16 and 1 / 4; the last four bits are then the number of
# sixteenths or quarters modulo 16.
SIXTEENTHS, QUARTERS = 1.5 * 2.0**19, 1.5 * 2.0**21
EXP_HIGH = 92.0  # exp has overflowed
EXP_ZERO = -104.0  # exp rounds to zero below


def applies(x: Lanes) -> bool:
    return x.bits == 32 and x.target.has("avx512f")


def in_registers(formula: Callable[[Lanes], Lanes], x: Lanes) -> Lanes:
    """The formula on whole registers, a power of two of them; other lanes hold zeros."""
    count = x.count
    registers = -(-(count or 1) // LANES)
    whole = LANES << (registers - 1).bit_length()
    if count == whole:
        return formula(x)
    builder = x.builder
    if count is None:
        zeros = ir.Constant(ir.VectorType(x.item, whole), None)
        first = ir.Constant(ir.IntType(32), 0)
        made = formula(x.made(builder.insert_element(zeros, x.value, first)))
        return x.made(builder.extract_element(made.value, first))
    zeros = x.made(ir.Constant(x.value.type, None))
    order = [min(lane, count) for lane in range(whole)]
    made = formula(x.made(shuffled(x, zeros, order)))
    return x.made(shuffled(made, made, range(count)))


def looked_up(numbers: Sequence[float], moved: Lanes) -> Lanes:
    """The numbers at places given by the last four bits."""
    kind, places = ir.VectorType(moved.item, LANES), ir.VectorType(ir.IntType(32), LANES)
    name = "llvm.x86.avx512.permvar.sf.512"
    function = declared(moved.builder.module, name, kind, [kind, places])
    table = ir.Constant(kind, [ir.Constant(moved.item, number) for number in numbers])
    found = [moved.builder.call(function, [table, p.value]) for p in pieces(moved.as_bits())]
    return joined([moved.made(value) for value in found])


class Stepped(NamedTuple):
    """``2^n base exp(r)``: n is the exponent rounded down, the base 2 to the power of its rest."""

    exponent: Lanes  # a multiple of 1 / 16
    moved: Lanes  # the exponent plus SIXTEENTHS
    r: Lanes


def stepped(x: Lanes) -> Stepped:
    """``x = exponent * ln(2) + r``."""
    moved = x.times_plus(LOG2_E, SIXTEENTHS)
    exponent = moved - SIXTEENTHS
    long, short = tables.LN2["32"]
    r = (-exponent).times_plus(short, (-exponent).times_plus(long, x))
    return Stepped(exponent, moved, r)


def exp(x: Lanes) -> Lanes:
    exponent, moved, r = stepped(x.at_most(EXP_HIGH))
    base = looked_up(tables.STEPS, moved)
    fraction = (r * r).times_plus(polynomial(r, tables.EXP_STEP["32"]), r)
    value = fraction.times_plus(base, base)
    # Where a product underflows, processors take long: not where all of it is lost.
    return scale((x < EXP_ZERO).where(0.0, value), exponent)


def _fraction(r: Lanes, rest: Sequence[float], moved: Lanes) -> Lanes:
    """``exp(r) - 1``, and what the table's base lacks."""
    near = (r * r).times_plus(polynomial(r, tables.EXPM1_STEP["32"]), r)
    return near + looked_up(rest, moved)


def expm1(x: Lanes) -> Lanes:
    """``base 2^n - 1 + base 2^n (exp(r) - 1)``, halved, so that 2^n does not overflow too soon."""
    _, moved, r = stepped(x.at_least(-26.0).at_most(89.0))
    fraction = _fraction(r, tables.STEPS_REST, moved)
    half = scale(looked_up(tables.STEPS, moved), moved - (SIXTEENTHS + 1))
    return (fraction.times_plus(half, half - 0.5) * 2).copy_sign(x)


def exp_plus_one(x: Lanes) -> Lanes:
    """``exp(x) + 1`` for x from 0 to 80."""
    exponent, moved, r = stepped(x)
    power = scale(looked_up(tables.STEPS, moved), exponent)
    fraction = (r * r).times_plus(polynomial(r, tables.EXP_STEP["32"]), r)
    return fraction.times_plus(power, power) + 1


def sigmoid(x: Lanes) -> Lanes:
    """``2^n / (2^n + base exp(-r))`` where ``x = (n - log2(base)) ln(2) + r``.

    In the divisor the larger one is added last. Positive floats are in the order of their bits.
    """
    exponent, moved, r = stepped(x.at_least(-120.0).at_most(64.0))
    base = looked_up(tables.STEPS_DOWN, moved)
    fraction = _fraction(-r, tables.STEPS_DOWN_REST, moved)
    power = scale(x.like(1.0), exponent)
    one, other = power.as_bits(), base.as_bits()
    smaller = one.intrinsic("umin", other).as_float()
    larger = one.intrinsic("umax", other).as_float()
    return power / (fraction.times_plus(base, smaller) + larger)


def erf(x: Lanes) -> Lanes:
    """A polynomial in the distance from the nearest of sixteen points.

    Near zero x itself is added last; the coefficient of t is less by 1 there.
    """
    size = x.magnitude().at_most(3.8749)
    moved = size + QUARTERS
    t = size - (moved - QUARTERS)
    start, *middle, total = [looked_up(numbers, moved) for numbers in tables.ERF_PIECES]
    for coefficients in reversed(middle):
        total = total.times_plus(t, coefficients)
    start = (moved == QUARTERS).where(t, start)
    return total.times_plus(t, start).copy_sign(x)
