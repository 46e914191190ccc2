"""What the operations of scalar expressions give, number by number.

Values are held as Python's bool and int (within the range of their dtype), np.float32 and
np.float64. float16 and bfloat16 are held as np.float32 and computed so; every result is rounded to
its dtype. Functions of float32 are computed in float64 and rounded: code may differ by 2 ulp from
them, and in the sign of the zero that ``min`` and ``max`` of 0.0 and -0.0 give.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from taimatsu.ir.expression import (
    BINARY_FUNCTIONS,
    COMPARISONS,
    FLOATS,
    SIGNED,
    SIZES,
    UNARY_FUNCTIONS,
    UNSIGNED,
)

Value = Any  # bool, int, np.float32 or np.float64


def apply(op: str, dtype: str, operand: str, values: list[Value], fused: bool) -> Value:
    """The result of an operation.

    Args:
        dtype: of the result.
        operand: the dtype of the arguments (of the last one, for ``select``).
        fused: whether ``fma`` rounds once.
    """
    if op in COMPARISONS:
        return _COMPARED[op](values[0], values[1])
    if op == "select":
        return values[1] if values[0] else values[2]
    if op == "cast":
        return cast(values[0], operand, dtype)
    if op == "bitcast":
        return from_bits(to_bits(values[0], operand), dtype)
    if dtype in FLOATS:
        return _float_result(op, dtype, values, fused)
    rules = _OF_BOOLS if dtype == "bool" else _OF_INTEGERS
    return wrapped(rules[op](*values, *((dtype,) if op in _SIZED else ())), dtype)


def combine(op: str, dtype: str, lanes: list[Value]) -> Value:
    """What ``across`` gives: the upper half of the lanes combined with the lower, to the last."""
    while len(lanes) > 1:
        half = len(lanes) // 2
        pairs = zip(lanes[:half], lanes[half:], strict=True)
        lanes = [apply(op, dtype, dtype, [low, high], False) for low, high in pairs]
    return lanes[0]


# -- dtypes ----------------------------------------------------------------------------------


def wrapped(value: Any, dtype: str) -> Value:
    """An integer modulo the size of its dtype."""
    if dtype == "bool":
        return bool(value)
    bits = 8 * SIZES[dtype]
    value = int(value) & ((1 << bits) - 1)
    if dtype in SIGNED and value >> (bits - 1):
        value -= 1 << bits
    return value


def rounded(value: Any, dtype: str) -> Value:
    """A float rounded to a dtype; to float16 and bfloat16 by way of float32."""
    if dtype == "float64":
        return np.float64(value)
    single = np.float32(value)
    if dtype == "float32":
        return single
    return from_bits(to_bits(single, dtype), dtype)


def constant(value: Any, dtype: str) -> Value:
    """The number of a ``constant`` node."""
    return rounded(value, dtype) if dtype in FLOATS else wrapped(value, dtype)


def to_bits(value: Value, dtype: str) -> int:
    """What a value is in memory, as an integer that is not negative."""
    if dtype == "float64":
        return int(np.float64(value).view(np.uint64))
    if dtype == "float16":
        return int(np.float16(value).view(np.uint16))
    if dtype in FLOATS:
        bits = int(np.float32(value).view(np.uint32))
        if dtype == "float32":
            return bits
        if value != value:
            return (bits | 0x00400000) >> 16
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) & 0xFFFF
    return int(value) & ((1 << 8 * SIZES[dtype]) - 1)


def from_bits(bits: int, dtype: str) -> Value:
    """The value of an element of memory."""
    if dtype == "float64":
        return np.uint64(bits).view(np.float64)
    if dtype == "float32":
        return np.uint32(bits).view(np.float32)
    if dtype == "float16":
        return np.float32(np.uint16(bits).view(np.float16))
    if dtype == "bfloat16":
        return np.uint32(bits << 16).view(np.float32)
    return wrapped(bits, dtype)


def cast(value: Value, source: str, to: str) -> Value:
    """The number in another dtype.

    A float outside of an integer's range gives what PyTorch gives on x86: conversion to int32 and
    int64 gives the least number, and narrower integers are the low bits of one of these.
    """
    if to == "bool":
        return bool(value != 0)
    if to in FLOATS:
        if source in FLOATS:
            return rounded(value, to)
        exact = np.uint64(value) if source == "uint64" else np.int64(value)
        return rounded(exact.astype(np.float64 if to == "float64" else np.float32), to)
    if source not in FLOATS:
        return wrapped(value, to)
    if to == "uint64":
        if value >= 2.0**63:
            return wrapped(_truncated(value - type(value)(2.0**63), 64) ^ (1 << 63), to)
        return wrapped(_truncated(value, 64), to)
    wide = to in ("int64", "uint32", "uint16") or (to == "uint8" and source == "float64")
    return wrapped(_truncated(value, 64 if wide else 32), to)


def _truncated(value: Value, bits: int) -> int:
    """The integer part; the least integer where it does not fit."""
    least = -(1 << (bits - 1))
    if not math.isfinite(value):
        return least
    whole = int(value)
    return whole if least <= whole < -least else least


# -- floats ----------------------------------------------------------------------------------


def _float_result(op: str, dtype: str, values: list[Value], fused: bool) -> Value:
    if op == "fused":
        return rounded(_fma(values[0], values[1], values[2], True), dtype)
    if op == "fma":
        return rounded(_fma(values[0], values[1], values[2], fused), dtype)
    exact = _OF_FLOATS.get(op)
    if exact is not None:
        return rounded(exact(*values), dtype)
    wide = _FUNCTIONS[op](*[np.float64(v) for v in values])
    return rounded(np.float64(wide) if dtype == "float64" else np.float32(wide), dtype)


def _fma(a: Value, b: Value, c: Value, fused: bool) -> Value:
    plain = a * b + c
    if not fused or not all(map(math.isfinite, (a, b, c))):
        return plain
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    if exact == 0:
        # Signs of zeros are those of the sum of the exact product, which wide numbers hold.
        product = math.copysign(1, a) * math.copysign(1, b)
        zero = Fraction(float(c)) == 0 and product == math.copysign(1, c)
        return type(plain)(math.copysign(0.0, product) if zero else 0.0)
    return _nearest(exact, type(plain))


def _nearest(exact: Fraction, kind: Any) -> Value:
    """A fraction that is not 0, rounded once."""
    try:
        near = kind(float(exact))
    except OverflowError:
        return kind(math.copysign(math.inf, exact))
    if kind is np.float64:
        return math.copysign(near, exact)
    if not math.isfinite(near):
        return near
    # float32 by way of float64 was rounded twice: the neighbours may be nearer.
    around = [near, np.nextafter(near, kind(-np.inf)), np.nextafter(near, kind(np.inf))]
    finite = [x for x in around if math.isfinite(x)]
    best = min(finite, key=lambda x: (abs(Fraction(float(x)) - exact), _is_odd(x)))
    return kind(math.copysign(best, exact))


def _is_odd(value: np.float32) -> int:
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    return int(bits & 1)


def _least(a: Value, b: Value) -> Value:
    if a != a or b != b:
        return a if a != a else b
    return a if a < b else b


def _most(a: Value, b: Value) -> Value:
    if a != a or b != b:
        return a if a != a else b
    return a if a > b else b


def _remainder(x: Value, y: Value) -> Value:
    """With the divisor's sign."""
    rest = np.fmod(x, y)
    return rest + y if rest != 0 and (rest < 0) != (y < 0) else rest


def _sigmoid(x: np.float64) -> Value:
    e = np.exp(-abs(x))
    return 1 / (1 + e) if x >= 0 else e / (1 + e)


_COMPARED: dict[str, Callable[[Value, Value], bool]] = {
    "eq": lambda x, y: bool(x == y),
    "ne": lambda x, y: bool(x != y),
    "lt": lambda x, y: bool(x < y),
    "le": lambda x, y: bool(x <= y),
    "gt": lambda x, y: bool(x > y),
    "ge": lambda x, y: bool(x >= y),
}
# Correctly rounded in the values' own dtype.
_OF_FLOATS: dict[str, Callable[..., Value]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "neg": lambda x: -x,
    "abs": lambda x: abs(x),
    "min": _least,
    "max": _most,
    "copysign": np.copysign,
    "ceil": np.ceil,
    "floor": np.floor,
    "trunc": np.trunc,
    "round_half_even": np.rint,
    "sqrt": np.sqrt,
    "reciprocal": lambda x: type(x)(1) / x,
    "fmod": np.fmod,
    "remainder": _remainder,
}
_FUNCTIONS: dict[str, Callable[..., Value]] = {
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "cos": np.cos,
    "cosh": np.cosh,
    "erf": math.erf,
    "erfc": math.erfc,
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log10": np.log10,
    "log1p": np.log1p,
    "log2": np.log2,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sigmoid": _sigmoid,
    "sin": np.sin,
    "sinh": np.sinh,
    "tan": np.tan,
    "tanh": np.tanh,
    "atan2": np.arctan2,
    "hypot": np.hypot,
    "pow": np.power,
}
assert {*UNARY_FUNCTIONS, *BINARY_FUNCTIONS} <= {*_FUNCTIONS, *_OF_FLOATS}

# -- integers and truth values ----------------------------------------------------------------


def _truncdiv(x: int, y: int) -> int:
    if y == 0:
        return 0
    quotient = abs(x) // abs(y)
    return quotient if (x < 0) == (y < 0) else -quotient


def _shl(x: int, y: int, dtype: str) -> int:
    return x << y if 0 <= y < 8 * SIZES[dtype] else 0


def _shr(x: int, y: int, dtype: str) -> int:
    if 0 <= y < 8 * SIZES[dtype]:
        return x >> y
    return 0 if dtype in UNSIGNED or x >= 0 else -1


def _mulhi(x: int, y: int, dtype: str) -> int:
    return (x * y) >> (8 * SIZES[dtype])


def _gcd(x: int, y: int, dtype: str) -> int:
    """Euclid's, as PyTorch has it: the least integer has no magnitude, and stays negative."""
    x, y = wrapped(abs(x), dtype), wrapped(abs(y), dtype)
    while x:
        x, y = y - _truncdiv(y, x) * x, x
    return y


def _pow(x: int, y: int, dtype: str) -> int:
    if y >= 0:
        return pow(x, y, 1 << (8 * SIZES[dtype]))
    if abs(x) != 1:
        return 0
    return x if y % 2 else 1


_SIZED = frozenset({"shl", "shr", "mulhi", "gcd", "pow"})
_OF_INTEGERS: dict[str, Callable[..., int]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "floordiv": lambda x, y: x // y if y else 0,
    "modulo": lambda x, y: x % y if y else 0,
    "truncdiv": _truncdiv,
    "neg": lambda x: -x,
    "abs": abs,
    "min": min,
    "max": max,
    "and": lambda x, y: x & y,
    "or": lambda x, y: x | y,
    "xor": lambda x, y: x ^ y,
    "not": lambda x: ~x,
    "shl": _shl,
    "shr": _shr,
    "mulhi": _mulhi,
    "gcd": _gcd,
    "pow": _pow,
}
# Sums and products are those of NumPy and PyTorch.
_OF_BOOLS: dict[str, Callable[..., bool]] = {
    "add": lambda x, y: x or y,
    "sub": lambda x, y: x != y,
    "mul": lambda x, y: x and y,
    "min": lambda x, y: x and y,
    "max": lambda x, y: x or y,
    "and": lambda x, y: x and y,
    "or": lambda x, y: x or y,
    "xor": lambda x, y: x != y,
    "not": lambda x: not x,
}
