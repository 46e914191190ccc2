"""Scalar operations, against NumPy, PyTorch's rules as numbers, and exact arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taimatsu.ir import scalars
from taimatsu.ir.expression import FLOATS, OPERATIONS, SIGNED, SIZES, UNSIGNED

INTEGERS = sorted(SIGNED | UNSIGNED)
EDGES = [0, 1, -1, 2, 3, -3, 7, 8, 31, 63, 64, 127, -128, 255, 2**31 - 1, -(2**31), 2**63 - 1]
WHOLE = st.one_of(st.sampled_from([*EDGES, -(2**63), 2**64 - 1]), st.integers(-(2**64), 2**64))
NUMBERS = st.floats(width=32)


@pytest.fixture(autouse=True)
def _as_in_the_interpreter() -> Iterator[None]:
    with np.errstate(all="ignore"):
        yield


def of(value: int, dtype: str) -> Any:
    """The integer in a dtype, and as NumPy has it."""
    held = scalars.wrapped(value, dtype)
    return held, np.array(held, dtype)


@pytest.mark.parametrize("dtype", INTEGERS)
@given(WHOLE, WHOLE)
def test_integers_are_numpys(dtype: str, a: int, b: int) -> None:
    x, left = of(a, dtype)
    y, right = of(b, dtype)
    with np.errstate(all="ignore"):
        for op, ufunc in (
            ("add", np.add),
            ("sub", np.subtract),
            ("mul", np.multiply),
            ("min", np.minimum),
            ("max", np.maximum),
            ("and", np.bitwise_and),
            ("or", np.bitwise_or),
            ("xor", np.bitwise_xor),
            ("floordiv", np.floor_divide),
            ("modulo", np.mod),
        ):
            if y == -1 and op in ("floordiv", "modulo"):
                continue  # NumPy's answer for the least integer depends on the machine
            assert scalars.apply(op, dtype, dtype, [x, y], True) == int(ufunc(left, right)), op
        for op, ufunc in (("neg", np.negative), ("abs", np.abs), ("not", np.invert)):
            assert scalars.apply(op, dtype, dtype, [x], True) == int(ufunc(left)), op
        for op, compared in (("lt", np.less), ("ge", np.greater_equal), ("ne", np.not_equal)):
            assert scalars.apply(op, "bool", dtype, [x, y], True) == bool(compared(left, right))


def test_divisions_at_the_limits() -> None:
    def done(op: str, x: int, y: int, dtype: str = "int8") -> Any:
        return scalars.apply(op, dtype, dtype, [x, y], True)

    assert [done(op, 5, 0) for op in ("floordiv", "modulo", "truncdiv")] == [0, 0, 0]
    assert [done(op, -128, -1) for op in ("floordiv", "modulo", "truncdiv")] == [-128, 0, -128]
    assert [done(op, -7, 2) for op in ("floordiv", "modulo", "truncdiv")] == [-4, 1, -3]
    assert [done(op, 7, -2) for op in ("floordiv", "modulo", "truncdiv")] == [-4, -1, -3]


def test_shifts_at_the_limits() -> None:
    def done(op: str, x: int, y: int, dtype: str) -> Any:
        return scalars.apply(op, dtype, dtype, [x, y], True)

    assert [done("shl", 3, y, "int8") for y in (0, 6, 7, 8, 100, -1)] == [3, -64, -128, 0, 0, 0]
    assert [done("shr", -5, y, "int8") for y in (0, 1, 7, 8, -1)] == [-5, -3, -1, -1, -1]
    assert [done("shr", 200, y, "uint8") for y in (0, 1, 7, 8)] == [200, 100, 1, 0]
    assert done("mulhi", 2**64 - 1, 2**64 - 1, "uint64") == 2**64 - 2
    assert done("mulhi", 200, 200, "uint8") == 200 * 200 // 256


def test_integer_powers() -> None:
    def power(x: int, y: int, dtype: str = "int32") -> Any:
        return scalars.apply("pow", dtype, dtype, [x, y], True)

    assert [power(x, 5) for x in (-3, 0, 1, 100)] == [-243, 0, 1, 10**10 - 2 * 2**32]
    assert [power(x, -3) for x in (-1, 0, 1, 2)] == [-1, 0, 1, 0]
    assert [power(-1, y) for y in (-2, 0)] == [1, 1]


def test_truth_values() -> None:
    tables = {"add": [0, 1, 1, 1], "mul": [0, 0, 0, 1], "sub": [0, 1, 1, 0], "max": [0, 1, 1, 1]}
    for op, table in tables.items():
        made = [
            scalars.apply(op, "bool", "bool", [x, y], True)
            for x in (False, True)
            for y in (False, True)
        ]
        assert made == [bool(n) for n in table]
        assert all(type(n) is bool for n in made)


@given(st.floats(width=32), st.floats(width=32))
def test_floats_are_numpys(a: float, b: float) -> None:
    for dtype in ("float32", "float64", "float16"):
        x, y = scalars.constant(a, dtype), scalars.constant(b, dtype)
        left, right = np.array(x, dtype), np.array(y, dtype)
        with np.errstate(all="ignore"):
            for op, ufunc in (
                ("add", np.add),
                ("sub", np.subtract),
                ("mul", np.multiply),
                ("div", np.divide),
                ("min", np.minimum),
                ("max", np.maximum),
                ("remainder", np.mod),
                ("fmod", np.fmod),
                ("copysign", np.copysign),
            ):
                made = scalars.apply(op, dtype, dtype, [x, y], True)
                expected = np.dtype(dtype).type(ufunc(left, right))
                assert np.array_equal(made, expected, equal_nan=True), (op, x, y, made, expected)
            for op, ufunc in (("sqrt", np.sqrt), ("trunc", np.trunc), ("round_half_even", np.rint)):
                made = scalars.apply(op, dtype, dtype, [x], True)
                assert np.array_equal(made, ufunc(left), equal_nan=True), op


def test_nan_of_min_max_and_comparisons() -> None:
    nan, one = np.float32("nan"), np.float32(1)
    for op in ("min", "max"):
        for pair in ([nan, one], [one, nan]):
            assert math.isnan(scalars.apply(op, "float32", "float32", pair, True))
    told = {op: scalars.apply(op, "bool", "float32", [nan, nan], True) for op in ("eq", "ne", "le")}
    assert told == {"eq": False, "ne": True, "le": False}


@given(NUMBERS, NUMBERS, NUMBERS)
def test_fma_rounds_once_or_twice(a: float, b: float, c: float) -> None:
    for kind in (np.float32, np.float64):
        x, y, z = kind(a), kind(b), kind(c)
        with np.errstate(all="ignore"):
            twice = scalars.apply("fma", kind.__name__, kind.__name__, [x, y, z], False)
            assert np.array_equal(twice, x * y + z, equal_nan=True)
            once = scalars.apply("fma", kind.__name__, kind.__name__, [x, y, z], True)
        if not all(map(math.isfinite, (a, b, c))):
            assert np.array_equal(once, twice, equal_nan=True)
            continue
        exact = Fraction(a) * Fraction(b) + Fraction(c)
        if not math.isfinite(once):
            assert abs(exact) > Fraction(float(np.finfo(kind).max))
            continue
        distance = abs(Fraction(float(once)) - exact)
        for toward in (-np.inf, np.inf):
            other = float(np.nextafter(once, kind(toward)))
            if math.isfinite(other):
                assert distance <= abs(Fraction(other) - exact)


def test_fma_where_rounding_twice_would_show() -> None:
    x = np.float32(1 + 2**-12)
    product = scalars.apply("fma", "float32", "float32", [x, x, np.float32(-1)], True)
    assert product == np.float32(2**-11 + 2**-24)
    # Halfway between two float32 numbers after rounding to float64.
    values = [np.float32(1 + 2**-23), np.float32(1 + 2**-1), np.float32(2**-60)]
    exact = Fraction(float(values[0])) * Fraction(float(values[1])) + Fraction(1, 2**60)
    assert float(exact) == float(values[0]) * float(values[1])  # float64 loses what decides
    made = scalars.apply("fma", "float32", "float32", values, True)
    assert made == np.float32(1.5 + 2**-22)
    assert scalars.apply("fused", "float32", "float32", values, False) == made
    zero = np.float32(0.0)
    assert math.copysign(1, scalars.apply("fma", "float32", "float32", [zero, -x, -zero], True)) < 0
    assert math.copysign(1, scalars.apply("fma", "float32", "float32", [x, x, -x * x], True)) > 0


@given(st.integers(0, 2**16 - 1))
def test_halves_keep_their_bits(bits: int) -> None:
    for dtype in ("float16", "bfloat16"):
        value = scalars.from_bits(bits, dtype)
        again = scalars.to_bits(value, dtype)
        assert again == bits or math.isnan(value)
        if not math.isnan(value):
            assert scalars.rounded(value, dtype) == value


def test_bfloat16_rounds_to_even() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    singles = np.random.default_rng(0).integers(0, 2**32, 3000).astype(np.uint32).view(np.float32)
    ties = (np.arange(300, dtype=np.uint32) * 0x8000 + 0x3F000000).view(np.float32)
    for value in [*singles, *ties]:
        expected = np.float32(ml_dtypes.bfloat16(value))
        assert np.array_equal(scalars.rounded(value, "bfloat16"), expected, equal_nan=True)


OUTSIDE = [float("nan"), float("inf"), -float("inf"), 1e30, -1e30]


@pytest.mark.parametrize("source", ["float32", "float64"])
def test_floats_to_integers(source: str) -> None:
    def cast(value: float, to: str) -> Any:
        return scalars.cast(scalars.constant(value, source), source, to)

    assert [cast(x, "int32") for x in (1.9, -1.9, 2.0**31)] == [1, -1, -(2**31)]
    assert [cast(x, "int64") for x in OUTSIDE] == [-(2**63)] * 5
    assert [cast(x, "int8") for x in OUTSIDE] == [0] * 5
    assert [cast(x, "uint8") for x in (-1.0, 256.0, 300.5)] == [255, 0, 44]
    assert [cast(x, "uint32") for x in (2.0**31, -1.0)] == [2**31, 2**32 - 1]
    assert [cast(x, "uint64") for x in (2.0**63, 3.0, -1.0)] == [2**63, 3, 2**64 - 1]
    assert [cast(x, "bool") for x in (0.0, -0.0, 0.1, float("nan"))] == [False, False, True, True]


@given(WHOLE)
def test_integers_to_floats_round_once(value: int) -> None:
    for dtype in ("int64", "uint64", "int32", "uint8"):
        held, array = of(value, dtype)
        for to in ("float32", "float64"):
            assert scalars.cast(held, dtype, to) == array.astype(to)
        half = scalars.cast(held, dtype, "float16")
        with np.errstate(over="ignore"):
            assert half == array.astype(np.float32).astype(np.float16)


@given(st.integers(0, 2**64 - 1))
def test_bitcasts(bits: int) -> None:
    for dtype in sorted(SIZES):
        if dtype == "bool":
            continue
        mine = bits & ((1 << 8 * SIZES[dtype]) - 1)
        plain = f"uint{8 * SIZES[dtype]}"
        value = scalars.apply("bitcast", dtype, plain, [mine], True)
        if value == value:
            assert scalars.apply("bitcast", plain, dtype, [value], True) == mine


def test_functions_are_near_numpys() -> None:
    """Every function at a few numbers, as its own dtype rounds it."""
    x = 0.625
    for name in sorted(scalars._FUNCTIONS):
        if OPERATIONS[name] == 1:
            at = x + 1 if name == "acosh" else x
            function = getattr(np, {**NUMPY_NAMES}.get(name, name), None)
            expected = function(at) if function else PLAIN[name](at)
            made = scalars.apply(name, "float64", "float64", [np.float64(at)], True)
            assert made == pytest.approx(expected, rel=1e-15), name
            single = scalars.apply(name, "float32", "float32", [np.float32(at)], True)
            assert single == np.float32(made)
            assert type(single) is np.float32


NUMPY_NAMES = {"a" + n: "arc" + n for n in ("cos", "cosh", "sin", "sinh", "tan", "tanh")}
PLAIN = {
    "erf": math.erf,
    "erfc": math.erfc,
    "rsqrt": lambda x: 1 / math.sqrt(x),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
}


def test_across_combines_halves() -> None:
    values = [np.float32(v) for v in (1e8, 1.0, -1e8, 1.0)]
    # (1e8 + -1e8) + (1 + 1): the upper half is added to the lower one first.
    assert scalars.combine("add", "float32", values) == 2.0
    assert scalars.combine("max", "int8", [3, -5, 9, 1]) == 9


def test_every_operation_has_a_rule() -> None:
    leaves = {"constant", "number", "index", "load", "across"}
    known = {*scalars._OF_FLOATS, *scalars._OF_INTEGERS, *scalars._FUNCTIONS, *scalars._COMPARED}
    assert set(OPERATIONS) - leaves <= known | {"fma", "fused", "cast", "bitcast", "select"}
    assert frozenset({"float16", "bfloat16", "float32", "float64"}) == FLOATS
