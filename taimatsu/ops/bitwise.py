"""Integers: their bits (booleans as logic), shifts, common divisors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import SIZES, UNSIGNED, Expression
from taimatsu.ops.base import Sample, booleans, integers, register
from taimatsu.ops.elementwise import Binary, Unary


class Bitwise(Binary, abstract=True):
    """Bit by bit in the promoted integer dtype; booleans combine as truth values."""

    accepts = "bi"
    inplace = True
    differentiable = False

    def samples(self) -> Iterator[Sample]:
        yield Sample(integers(3, 4, low=-9), integers(4, low=-9, seed=1))
        yield Sample(integers(3, 4), 5)
        yield Sample(booleans(6), booleans(6, seed=1))
        yield Sample(integers(6).astype(np.uint8), integers(6, seed=1).astype(np.int8))


@register
class BitwiseAnd(Bitwise):
    """Bits set in both."""

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.bitwise_and(input, other)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return input & other


@register
class BitwiseOr(Bitwise):
    """Bits set in at least one."""

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.bitwise_or(input, other)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return input | other


@register
class BitwiseXor(Bitwise):
    """Bits set in exactly one."""

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.bitwise_xor(input, other)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return input ^ other


@register
class BitwiseNot(Unary):
    """All bits flipped; logical negation for booleans."""

    accepts = "bi"
    inplace = True
    differentiable = False

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.invert(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return ~input

    def samples(self) -> Iterator[Sample]:
        yield Sample(integers(3, 4, low=-9))
        yield Sample(booleans(5))
        yield Sample(integers(4).astype(np.uint8))


class Shift(Binary, abstract=True):
    """Shifts by ``other`` bits; amounts outside the width move every bit out."""

    accepts = "i"
    inplace = True
    differentiable = False

    def samples(self) -> Iterator[Sample]:
        yield Sample(integers(3, 4, low=-99, high=99), integers(4, high=8, seed=1))
        yield Sample(integers(3, 4, low=-99, high=99), 3)
        yield Sample(integers(3), np.array([-1, 63, 64]))


def _out_of_range(amount: np.ndarray) -> np.ndarray:
    return (amount < 0) | (amount >= amount.dtype.itemsize * 8)


def _outside(input: Expression, amount: Expression) -> Expression:
    too_many = amount >= 8 * SIZES[input.dtype]
    return too_many if amount.dtype in UNSIGNED else too_many | (amount < 0)


@register
class BitwiseLeftShift(Shift):
    """``input << other``."""

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        outside = _out_of_range(other)
        shifted = np.left_shift(input, np.where(outside, 0, other))
        return np.where(outside, 0, shifted)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return b.where(_outside(input, other), 0, b.shl(input, other))


@register
class BitwiseRightShift(Shift):
    """``input >> other``: signed integers keep their sign."""

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        # Every value bit is out after width - 1 steps of a signed integer: 0 or -1 remains.
        signed = input.dtype.kind == "i"
        width = input.dtype.itemsize * 8
        outside = _out_of_range(other)
        shifted = np.right_shift(input, np.where(outside, width - 1, other))
        return shifted if signed else np.where(outside, 0, shifted)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        outside = _outside(input, other)
        if input.dtype in UNSIGNED:
            return b.where(outside, 0, b.shr(input, other))
        return b.shr(input, b.where(outside, 8 * SIZES[input.dtype] - 1, other))


# -- divisors --------------------------------------------------------------------------------


LEAST = np.array([-128, -128, -128, -127, -1, 0, 0, 6, 127], np.int8)


class Divisors(Binary, abstract=True):
    """Operations on integers that know no other dtype."""

    accepts = "i"
    inplace = True
    differentiable = False

    def samples(self) -> Iterator[Sample]:
        yield Sample(integers(20, low=-30, high=30), integers(20, high=30, seed=1))
        yield Sample(LEAST[:, None], LEAST)
        yield Sample(integers(4, low=-9) * (1 << 40), integers(4, seed=1) * (1 << 40))
        unsigned = integers(3, 4, low=-9).astype(np.uint8)
        yield Sample(unsigned, unsigned[:, :1])


@register
class Gcd(Divisors):
    """The greatest common divisor of integers.

    Remainders keep their dividend's sign: as in PyTorch, the least integer, which has no magnitude,
    may give a negative divisor.
    """

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        rest, divisor = np.broadcast_arrays(np.abs(input), np.abs(other))
        while rest.any():
            safe = np.where(rest == 0, 1, rest).astype(rest.dtype)
            left = np.where(rest == 0, 0, np.fmod(divisor, safe)).astype(rest.dtype)
            divisor = np.where(rest == 0, divisor, rest)
            rest = left
        return np.array(divisor)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return b.gcd(input, other)


@register
class Lcm(Divisors):
    """The least common multiple of integers; PyTorch's integers of 8 and 16 bits grow to 32 in it.

    What does not fit is cut to its bits: from 32 bits on before its sign is dropped, else after.
    """

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        kind = np.result_type(input, np.int32) if input.dtype.itemsize < 4 else input.dtype
        left, right = input.astype(kind), other.astype(kind)
        divisor = np.gcd(left, right)
        return np.abs(left // np.where(divisor == 0, 1, divisor) * right).astype(input.dtype)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        kind = "int32" if SIZES[input.dtype] < 4 else input.dtype
        left, right = b.cast(input, kind), b.cast(other, kind)
        multiple = b.truncdiv(left, b.gcd(left, right)) * right
        return b.cast(multiple if kind in UNSIGNED else b.abs(multiple), input.dtype)
