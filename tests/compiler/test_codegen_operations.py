"""Every operation of the loop IR on every dtype it has, against what it means.

Integers are checked against Python's, bit for bit; floats against NumPy in the dtype (the 16-bit
ones in float32, rounded). Functions of vector_math have tests of their own: here it is checked that
they are called as they should be.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from codegen_kernels import TARGETS, emitted, run

from taimatsu.generator.fma import fma as generator_fma
from taimatsu.ir import expression as ex
from taimatsu.ir import stage_interpreter
from taimatsu.ir.expression import Expression, load
from taimatsu.ir.index import Var, index
from taimatsu.ir.loops import Buffer, Kernel, Loop, Store
from taimatsu.ir.target import Target
from taimatsu.runtime import elf

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
DTYPES = (*FLOATS, *INTEGERS, "bool")
WIDTHS = (1, 4, 16)
rng = np.random.default_rng(0)


# -- arrays of all dtypes: bfloat16 as its bits -----------------------------------------------


def storage(dtype: str) -> np.dtype:
    return np.dtype(np.uint16 if dtype == "bfloat16" else dtype)


def to_single(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), bits >> 16 | 0x40, rounded).astype(np.uint16)


def computed_with(array: np.ndarray, dtype: str) -> np.ndarray:
    """The values in the dtype in which operations are computed."""
    if dtype == "bfloat16":
        return to_single(array)
    return array.astype(np.float32) if dtype == "float16" else array


def stored(values: np.ndarray, dtype: str) -> np.ndarray:
    """Values as an array of a dtype; wider floats go through float32 to the 16-bit ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dtype == "bfloat16":
            return to_bfloat16(np.asarray(values).astype(np.float32))
        if dtype == "float16":
            return np.asarray(values).astype(np.float32).astype(np.float16)
        return np.asarray(values).astype(dtype)


def special(dtype: str) -> np.ndarray:
    if dtype == "bool":
        return np.array([False, True])
    if dtype in FLOATS:
        plain = [math.nan, math.inf, 0.0, 1.0, 0.5, 2.5, 3.5, 7.0, 0.1, 100.3, 1e-40, 6e-8]
        plain += [65504.0, 3e9, 1e19, 3e38, 2.0**31 - 0.5, 2.0**31 + 0.5, 2.0**31 - 128]
        plain += [2.0**63, 2.0**63 - 1024, 2.0**64]
        return stored(np.array(plain + [-x for x in plain]), dtype)
    limits = np.iinfo(dtype)
    plain = [0, 1, 2, 3, 7, 8, 15, 31, 63, 64, limits.max, limits.max - 1, limits.max // 2]
    if limits.min:
        plain += [-1, -2, -3, -7, limits.min, limits.min + 1]
    return np.array(plain, dtype)


def triples(dtype: str) -> list[np.ndarray]:
    """Three arrays of operands: all pairs of special values, and random ones."""
    values = special(dtype)
    first, second = (grid.ravel() for grid in np.meshgrid(values, values))
    third = rng.permutation(second)
    size = 61
    if dtype == "bool":
        random = [rng.integers(0, 2, size).astype(bool) for _ in range(3)]
    elif dtype in FLOATS:
        random = [stored(rng.normal(size=size) * 10, dtype) for _ in range(3)]
    else:
        limits = np.iinfo(dtype)
        random = [
            rng.integers(limits.min, limits.max, size, dtype, endpoint=True) for _ in range(3)
        ]
    pairs = zip((first, second, third), random, strict=True)
    return [np.concatenate(pair) for pair in pairs]


# -- running ----------------------------------------------------------------------------------

Write = Callable[..., Expression]


def results(
    writes: dict[str, Write], inputs: list[tuple[str, np.ndarray]], width: int, target: Any
) -> dict[str, np.ndarray]:
    """What each expression gives for the elements of the inputs, in one kernel."""
    (size,) = inputs[0][1].shape
    kernel = kernel_of(writes, [dtype for dtype, _ in inputs], size, width)
    sinks = kernel.arguments[len(inputs) :]
    outputs = {
        name: np.zeros(size, storage(sink.dtype)) for name, sink in zip(writes, sinks, strict=True)
    }
    arrays = [np.ascontiguousarray(array) for _, array in inputs]
    assert run(kernel, [*arrays, *outputs.values()], target=target) == 0
    return outputs


def kernel_of(writes: dict[str, Write], dtypes: list[str], size: int, width: int) -> Kernel:
    i = Var("i", size)
    sources = [Buffer(f"in{n}", dtype, [size]) for n, dtype in enumerate(dtypes)]
    values = [load(source, [index(i)]) for source in sources]
    body, sinks = [], []
    for name, write in writes.items():
        value = write(*values)
        sink = Buffer(f"out {name}", value.dtype, [size])
        sinks.append(sink)
        body.append(Store(sink, [index(i)], value))
    return Kernel("operations", [*sources, *sinks], [], [], [Loop(i, "vector", body, width)])


def assert_same(
    name: str, got: np.ndarray, expected: np.ndarray, inputs: list[np.ndarray], zeros: bool = True
) -> None:
    """Bit for bit, but for what nan is made of (and the sign of zero, where ``zeros`` is not)."""
    same = got == expected
    if got.dtype.kind == "f":
        same |= np.isnan(got) & np.isnan(expected)
        if zeros:
            same &= np.isnan(got) | (np.signbit(got) == np.signbit(expected))
    wrong = np.flatnonzero(~same)
    if wrong.size:
        n = wrong[0]
        operands = ", ".join(repr(x[n]) for x in inputs)
        raise AssertionError(
            f"{name}({operands}) is {expected[n]!r}, got {got[n]!r}; {wrong.size} differ"
        )


def cases() -> Iterator[Any]:
    for target in TARGETS:
        for width in WIDTHS:
            whole = width == 16 or (target in ("host", "sse2") and width == 1)
            if not whole and (width, target) != (4, "sse2"):
                continue  # much the same code as others
            yield pytest.param(TARGETS[target], width, id=f"{target}-{width}")


every_machine = pytest.mark.parametrize(("target", "width"), list(cases()))


# -- integers ---------------------------------------------------------------------------------


def truncated_quotient(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def integer_power(a: int, b: int, bits: int) -> int:
    if b >= 0:
        return pow(a, b, 2**bits)
    return {1: 1, -1: -1 if b % 2 else 1}.get(a, 0)


def divisor(a: int, b: int, bits: int) -> int:
    """PyTorch's; negative where the least integer's sign came through."""
    least = -(2 ** (bits - 1))
    if least not in (a, b):
        return math.gcd(a, b)
    a, b = (n if n == least else abs(n) for n in (a, b))
    while a:
        a, b = b - truncated_quotient(b, a) * a, a
    return b


def integer_meanings(bits: int, signed: bool) -> dict[str, Callable[..., int]]:
    """What operations on integers mean, before the result is cut to its bits."""

    def shift_right(a: int, b: int) -> int:
        return a >> (b if 0 <= b < bits else bits)

    meanings: dict[str, Callable[..., int]] = {
        "add": lambda a, b, c: a + b,
        "sub": lambda a, b, c: a - b,
        "mul": lambda a, b, c: a * b,
        "floordiv": lambda a, b, c: a // b if b else 0,
        "modulo": lambda a, b, c: a % b if b else 0,
        "truncdiv": lambda a, b, c: truncated_quotient(a, b) if b else 0,
        "neg": lambda a, b, c: -a,
        "abs": lambda a, b, c: abs(a),
        "min": lambda a, b, c: min(a, b),
        "max": lambda a, b, c: max(a, b),
        "and": lambda a, b, c: a & b,
        "or": lambda a, b, c: a | b,
        "xor": lambda a, b, c: a ^ b,
        "not": lambda a, b, c: ~a,
        "shl": lambda a, b, c: a << b if 0 <= b < bits else 0,
        "shr": lambda a, b, c: shift_right(a, b),
        "pow": lambda a, b, c: integer_power(a, b, bits),
        "gcd": lambda a, b, c: divisor(a, b, bits if signed else bits + 1),
    }
    if not signed:
        meanings["mulhi"] = lambda a, b, c: a * b >> bits
    return meanings


def wrapped(value: int, bits: int, signed: bool) -> int:
    value %= 2**bits
    return value - 2**bits if signed and value >> (bits - 1) else value


def written(operation: str) -> Write:
    count = ex.OPERATIONS[operation]
    return lambda *values: Expression(operation, values[:count], values[0].dtype)


@every_machine
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers(dtype, target, width):
    signed, bits = not dtype.startswith("u"), 8 * np.dtype(dtype).itemsize
    meanings = integer_meanings(bits, signed)
    inputs = triples(dtype)
    writes = {name: written(name) for name in meanings}
    got = results(writes, [(dtype, x) for x in inputs], width, target)
    rows = list(zip(*[x.tolist() for x in inputs], strict=True))
    for name, meaning in meanings.items():
        expected = [wrapped(meaning(*row), bits, signed) for row in rows]
        assert_same(name, got[name], np.array(expected, dtype), inputs)


@every_machine
@pytest.mark.parametrize("dtype", INTEGERS)
def test_divisors_beside_multiples(dtype, target, width):
    """Quotients as near to whole numbers as the dtype has them."""
    limits = np.iinfo(dtype)
    small = np.array([2, 3, 5, 7, 11, 2 ** (limits.bits // 2 - 1) - 1, limits.max // 2], dtype)
    pairs = [(n * (limits.max // n) + k, n) for n in small.tolist() for k in (-1, 0)]
    a, b = (np.array(side, dtype) for side in zip(*pairs, strict=True))
    a, b = np.concatenate([a, b]), np.concatenate([b, a])
    got = results({"gcd": written("gcd")}, [(dtype, a), (dtype, b)], width, target)["gcd"]
    assert_same("gcd", got, np.gcd(a, b), [a, b])


DIVISORS = (1, 2, 3, 7, 10, 64, -1, -3, -8)


@every_machine
@pytest.mark.parametrize("dtype", ["int8", "int32", "uint32", "int64"])
def test_division_by_constants(dtype, target, width):
    signed, bits = not dtype.startswith("u"), 8 * np.dtype(dtype).itemsize
    meanings = integer_meanings(bits, signed)
    inputs = triples(dtype)[:1]
    writes, expected = {}, {}
    for divisor in (*DIVISORS, 0) if signed else (0, *[d for d in DIVISORS if d > 0]):
        for name in ("floordiv", "modulo", "truncdiv"):
            key = f"{name} by {divisor}"
            writes[key] = lambda x, n=name, d=divisor: ex.binary(n, x, d)
            plain = [meanings[name](a, divisor, 0) for a in inputs[0].tolist()]
            expected[key] = np.array([wrapped(v, bits, signed) for v in plain], dtype)
    got = results(writes, [(dtype, inputs[0])], width, target)
    for key, values in expected.items():
        assert_same(key, got[key], values, inputs)


@every_machine
def test_truth_values(target, width):
    meanings = {
        "and": lambda a, b: a & b,
        "or": lambda a, b: a | b,
        "xor": lambda a, b: a ^ b,
        "not": lambda a, b: ~a,
        "min": lambda a, b: a & b,
        "max": lambda a, b: a | b,
        "add": lambda a, b: a | b,
        "mul": lambda a, b: a & b,
    }
    inputs = triples("bool")
    writes = {name: written(name) for name in meanings}
    got = results(writes, [("bool", x) for x in inputs], width, target)
    for name, meaning in meanings.items():
        assert_same(name, got[name], meaning(*inputs[:2]), inputs)


# -- floats -----------------------------------------------------------------------------------


def fused(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """``a * b + c`` rounded once, for float32: exact products, sums rounded to odd."""
    product = a.astype(np.float64) * b.astype(np.float64)
    total = product + c
    # What the sum has lost (Knuth), which decides where the double lies halfway.
    back = total - product
    lost = (product - (total - back)) + (c - back)
    bits = total.view(np.int64)
    inexact = np.isfinite(total) & (lost != 0) & (bits & 1 == 0)
    towards = np.where(lost > 0, np.inf, -np.inf)
    return np.where(inexact, np.nextafter(total, towards), total).astype(np.float32)


FLOAT_MEANINGS: dict[str, Callable[..., np.ndarray]] = {
    "add": lambda a, b, c: a + b,
    "sub": lambda a, b, c: a - b,
    "mul": lambda a, b, c: a * b,
    "div": lambda a, b, c: a / b,
    "neg": lambda a, b, c: -a,
    "abs": lambda a, b, c: np.abs(a),
    "min": lambda a, b, c: np.minimum(a, b),
    "max": lambda a, b, c: np.maximum(a, b),
    "copysign": lambda a, b, c: np.copysign(a, b),
    "sqrt": lambda a, b, c: np.sqrt(a),
    "reciprocal": lambda a, b, c: 1 / a,
    "floor": lambda a, b, c: np.floor(a),
    "ceil": lambda a, b, c: np.ceil(a),
    "trunc": lambda a, b, c: np.trunc(a),
    "round_half_even": lambda a, b, c: np.rint(a),
    "fmod": lambda a, b, c: np.fmod(a, b),
}


@every_machine
@pytest.mark.parametrize("dtype", FLOATS)
@np.errstate(all="ignore")
def test_floats(dtype, target, width):
    inputs = triples(dtype)
    operands = [computed_with(x, dtype) for x in inputs]
    writes = {name: written(name) for name in FLOAT_MEANINGS}
    got = results(writes, [(dtype, x) for x in inputs], width, target)
    for name, meaning in FLOAT_MEANINGS.items():
        expected = computed_with(stored(meaning(*operands), dtype), dtype)
        assert_same(
            name,
            computed_with(got[name], dtype),
            expected,
            operands,
            zeros=name not in ("min", "max", "fmod"),
        )


@every_machine
@pytest.mark.parametrize("dtype", FLOATS)
@np.errstate(all="ignore")
def test_each_operation_rounds(dtype, target, width):
    inputs = triples(dtype)
    writes: dict[str, Write] = {"(a + b) * c": lambda a, b, c: (a + b) * c}
    got = results(writes, [(dtype, x) for x in inputs], width, target)["(a + b) * c"]
    a, b, c = (computed_with(x, dtype) for x in inputs)
    total = computed_with(stored(a + b, dtype), dtype)
    expected = computed_with(stored(total * c, dtype), dtype)
    assert_same("(a + b) * c", computed_with(got, dtype), expected, [a, b, c])


@every_machine
@pytest.mark.parametrize("dtype", FLOATS[:3])
@np.errstate(all="ignore")
def test_fma(dtype, target, width):
    inputs = triples(dtype)
    operands = [computed_with(x, dtype) for x in inputs]
    got = results({"fma": written("fma")}, [(dtype, x) for x in inputs], width, target)
    a, b, c = operands
    values = fused(a, b, c) if target.fma else a * b + c
    expected = computed_with(stored(values, dtype), dtype)
    assert_same("fma", computed_with(got["fma"], dtype), expected, operands)


@every_machine
@np.errstate(all="ignore")
def test_fused_rounds_once_on_every_machine(target, width):
    x = np.float32(1 + 2**-23)
    halfway = [(x, np.float32(1.5), np.float32(s * 2.0**e)) for s in (1, -1) for e in (-60, -140)]
    sides = zip(*halfway, *[(-a, b, c) for a, b, c in halfway], strict=True)
    inputs = [
        np.concatenate([of_all, np.array(of_some, np.float32)])
        for of_all, of_some in zip(triples("float32"), sides, strict=True)
    ]
    got = results({"fused": written("fused")}, [("float32", x) for x in inputs], width, target)
    expected = fused(*inputs)
    assert_same("fused", got["fused"], expected, inputs)
    assert_same("stages", stage_interpreter._RULES["fused"](*inputs), expected, inputs)
    assert_same("generator", generator_fma(*inputs), expected, inputs)


@every_machine
@pytest.mark.parametrize("dtype", DTYPES)
def test_comparisons_and_select(dtype, target, width):
    inputs = triples(dtype)
    a, b, c = (computed_with(x, dtype) for x in inputs)
    signs = ("eq", "ne", "lt", "le", "gt", "ge")
    numpys = (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal)
    writes: dict[str, Write] = {s: lambda x, y, z, s=s: ex.binary(s, x, y) for s in signs}
    writes["select"] = lambda x, y, z: ex.select(ex.binary("lt", x, y), y, z)
    got = results(writes, [(dtype, x) for x in inputs], width, target)
    for sign, meaning in zip(signs, numpys, strict=True):
        assert_same(sign, got[sign], meaning(a, b), [a, b])
    assert_same("select", computed_with(got["select"], dtype), np.where(a < b, b, c), [a, b, c])


def erf(x: np.ndarray) -> np.ndarray:
    return np.array([math.erf(v) for v in x])


UNARY_MEANINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    **{name: getattr(np, name) for name in ("cos", "cosh", "exp", "exp2", "expm1", "log")},
    **{name: getattr(np, name) for name in ("log10", "log1p", "log2", "sin", "sinh", "sqrt")},
    **{name: getattr(np, name) for name in ("tan", "tanh", "ceil", "floor", "trunc")},
    **{name: getattr(np, f"arc{name[1:]}") for name in ("acos", "asin", "atan")},
    **{name: getattr(np, f"arc{name[1:]}") for name in ("acosh", "asinh", "atanh")},
    "erf": erf,
    "erfc": lambda x: np.array([math.erfc(v) for v in x]),
    "reciprocal": lambda x: 1 / x,
    "round_half_even": np.rint,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}
BINARY_MEANINGS: dict[str, Callable[..., np.ndarray]] = {
    "atan2": np.arctan2,
    "fmod": np.fmod,
    "hypot": np.hypot,
    "remainder": np.remainder,
    "pow": np.power,
}


def test_all_functions_have_a_meaning_here():
    assert set(UNARY_MEANINGS) == set(ex.UNARY_FUNCTIONS)
    assert set(BINARY_MEANINGS) - {"pow"} == set(ex.BINARY_FUNCTIONS)


@every_machine
@pytest.mark.parametrize("dtype", FLOATS)
@np.errstate(all="ignore")
def test_functions(dtype, target, width):
    """Within the dtype's precision of NumPy's float64; nan where that is."""
    x, y = (stored(rng.normal(size=83) * 3, dtype) for _ in range(2))
    writes = {name: written(name) for name in (*UNARY_MEANINGS, *BINARY_MEANINGS)}
    got = results(writes, [(dtype, x), (dtype, y)], width, target)
    a, b = (computed_with(v, dtype).astype(np.float64) for v in (x, y))
    expected = {name: meaning(a) for name, meaning in UNARY_MEANINGS.items()}
    expected.update({name: meaning(a, b) for name, meaning in BINARY_MEANINGS.items()})
    tolerance = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 5e-7, "float64": 1e-14}[dtype]
    for name, values in expected.items():
        np.testing.assert_allclose(
            computed_with(got[name], dtype).astype(np.float64),
            computed_with(stored(values, dtype), dtype).astype(np.float64),
            rtol=tolerance,
            atol=tolerance / 100,
            err_msg=name,
        )


EXPONENTS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 1.7)


@every_machine
@np.errstate(all="ignore")
def test_constant_powers(target, width):
    x = rng.normal(size=37).astype(np.float32) * 3
    writes = {str(n): lambda v, n=n: ex.binary("pow", v, n) for n in EXPONENTS}
    got = results(writes, [("float32", x)], width, target)
    for n in EXPONENTS:
        np.testing.assert_allclose(got[str(n)], np.power(x, np.float32(n)), rtol=3e-7)
    assert_same("pow 3", got["3.0"], x * x * x, [x])


# -- conversions ------------------------------------------------------------------------------


def integer_of(value: float, dtype: str) -> int:
    """What x86 gives: the least integer where the value does not fit, and low bits of it."""
    bits, signed = 8 * np.dtype(dtype).itemsize, not dtype.startswith("u")

    def converted(x: float, size: int) -> int:
        fits = math.isfinite(x) and -(2 ** (size - 1)) <= math.trunc(x) < 2 ** (size - 1)
        return math.trunc(x) if fits else -(2 ** (size - 1))

    if dtype == "uint64" and value >= 2.0**63:
        return wrapped(converted(value - 2.0**63, 64) ^ 2**63, 64, False)
    wide = bits == 64 or not signed
    return wrapped(converted(value, 64 if wide else 32), bits, signed)


def converted(values: np.ndarray, source: str, to: str) -> np.ndarray:
    if to == "bool":
        return values != 0
    if source in FLOATS and to not in FLOATS:
        return np.array([integer_of(v, to) for v in values.astype(np.float64).tolist()], to)
    with np.errstate(all="ignore"):
        return stored(values, to)


@every_machine
@pytest.mark.parametrize("source", DTYPES)
def test_casts(source, target, width):
    (given, *_) = triples(source)
    values = computed_with(given, source)
    writes = {to: lambda x, to=to: Expression("cast", (x,), to) for to in DTYPES if to != source}
    got = results(writes, [(source, given)], width, target)
    for to in writes:
        expected = computed_with(converted(values, source, to), to)
        assert_same(f"{source} as {to}", computed_with(got[to], to), expected, [values])


SAME_SIZE = (
    ("uint8", "int8"),
    ("int16", "uint16"),
    ("uint16", "float16"),
    ("int16", "bfloat16"),
    ("float16", "int16"),
    ("bfloat16", "uint16"),
    ("float32", "int32"),
    ("uint32", "float32"),
    ("float64", "uint64"),
    ("int64", "float64"),
)


@every_machine
@pytest.mark.parametrize(("source", "to"), SAME_SIZE)
def test_bitcasts(source, to, target, width):
    given = triples(source)[0]
    if to == "float16":
        given = given[~np.isnan(given.view(np.float16))]  # signalling ones become quiet
    if to == "bfloat16":
        given = given[~np.isnan(to_single(given.view(np.uint16)))]
    got = results(
        {"bits": lambda x: Expression("bitcast", (x,), to)}, [(source, given)], width, target
    )
    if source in ("float16", "bfloat16"):
        plain = ~np.isnan(computed_with(given, source))
        assert (got["bits"].view(np.uint16)[plain] == given.view(np.uint16)[plain]).all()
    else:
        assert got["bits"].tobytes() == given.tobytes()


# -- numbers ----------------------------------------------------------------------------------


@every_machine
@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_of_the_launch(dtype, target, width):
    """A float64 or an int64, in the dtype in which an expression reads it."""
    i = Var("i", 5)
    out = Buffer("out", dtype, [5])
    given = "float64" if dtype in FLOATS else "int64"
    value = ex.number(1, dtype)
    body = [Loop(i, "vector", [Store(out, [index(i)], value)], width)]
    kernel = Kernel("number", [out], [], ["int64", given], body)
    number = 1.0 / 3 if dtype in FLOATS else 77
    got = np.zeros(5, storage(dtype))
    assert run(kernel, [got], numbers=[9, number], target=target) == 0
    expected = stored(np.full(5, number), dtype)
    assert got.tobytes() == expected.tobytes()


@every_machine
@pytest.mark.parametrize("dtype", DTYPES)
def test_constants(dtype, target, width):
    values = special(dtype)
    plain = computed_with(values, dtype).tolist()
    writes = {str(n): lambda x, v=v: ex.constant(v, dtype) for n, v in enumerate(plain)}
    got = results(writes, [("bool", np.ones(3, bool))], width, target)
    for n in range(len(plain)):
        expected = computed_with(values[n : n + 1].repeat(3), dtype)
        assert_same(f"constant {plain[n]}", computed_with(got[str(n)], dtype), expected, [])


# -- other machines ---------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_arm_needs_no_libraries(dtype, width):
    """Objects with every operation and conversion link by themselves."""
    if dtype in FLOATS:
        names = [*FLOAT_MEANINGS, *UNARY_MEANINGS, *BINARY_MEANINGS, "fma"]
    elif dtype == "bool":
        names = ["and", "or", "xor", "not"]
    else:
        names = list(integer_meanings(8, not dtype.startswith("u")))
    writes = {name: written(name) for name in names}
    for to in DTYPES:
        writes[f"as {to}"] = lambda *values, to=to: Expression("cast", values[:1], to)
    kernel = kernel_of(writes, [dtype] * 3, 37, width)
    image = elf.link(emitted(kernel, Target.of("aarch64-unknown-linux-gnu")), elf.AARCH64)
    assert "kernel" in image.symbols
