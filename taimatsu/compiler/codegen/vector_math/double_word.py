"""Numbers as unevaluated sums of two floats: twice the precision where a formula needs it.

T. J. Dekker, A floating-point technique for extending the available precision, Numerische
Mathematik 18 (1971); D. E. Knuth's sum of two numbers. Nothing here holds if operations are
contracted or reassociated, and vector_math never lets LLVM do that.
"""

from __future__ import annotations

from typing import NamedTuple

from taimatsu.compiler.codegen.vector_math.lanes import Lanes, Number

# Veltkamp's constants: 2^s + 1 cuts a float into halves whose products are exact.
SPLITTER = {32: 2.0**12 + 1, 64: 2.0**27 + 1}


class Pair(NamedTuple):
    """``high + low``, with ``low`` at most half a unit of ``high``'s last place."""

    high: Lanes
    low: Lanes


def two_sum(a: Lanes, b: Lanes | Number) -> Pair:
    """``a + b`` exactly."""
    total = a + b
    b_part = total - a
    a_part = total - b_part
    return Pair(total, (a - a_part) + (b - b_part))


def fast_two_sum(a: Lanes, b: Lanes) -> Pair:
    """``a + b`` exactly, where a is 0 or at least as large as b."""
    total = a + b
    return Pair(total, b - (total - a))


def split(a: Lanes) -> Pair:
    """A float as two of half its length."""
    scaled = a * SPLITTER[a.bits]
    high = scaled - (scaled - a)
    return Pair(high, a - high)


def two_product(a: Lanes, b: Lanes) -> Pair:
    """``a * b`` exactly, short of overflow and underflow."""
    product = a * b
    if a.target.fma:
        return Pair(product, a.times_plus(b, -product))
    a_high, a_low = split(a)
    b_high, b_low = split(b)
    rest = ((a_high * b_high - product) + a_high * b_low) + a_low * b_high
    return Pair(product, rest + a_low * b_low)


def minus_product(x: Lanes, a: Lanes, b: Lanes) -> Lanes:
    """``x - a * b`` where that is a float and ``x - round(a * b)`` is one too: exactly."""
    if a.target.fma:
        return (-a).times_plus(b, x)
    product, rest = two_product(a, b)
    return (x - product) - rest


def plus(a: Pair, b: Pair) -> Pair:
    """The sum of two pairs, where a is 0 or at least as large as b."""
    high, rest = fast_two_sum(a.high, b.high)
    return fast_two_sum(high, rest + (a.low + b.low))


def times(a: Pair, b: Pair) -> Pair:
    """The product of two pairs."""
    high, rest = two_product(a.high, b.high)
    rest = a.high.times_plus(b.low, a.low.times_plus(b.high, rest))
    return fast_two_sum(high, rest)


def over(a: Pair, b: Pair) -> Pair:
    """The quotient of two pairs."""
    quotient = a.high / b.high
    rest = minus_product(a.high, quotient, b.high)
    rest = (-quotient).times_plus(b.low, rest + a.low)
    return fast_two_sum(quotient, rest / b.high)


def square_root(a: Pair) -> Pair:
    """The square root of a positive pair."""
    root = a.high.intrinsic("sqrt")
    rest = minus_product(a.high, root, root) + a.low
    return fast_two_sum(root, rest / (root + root))
