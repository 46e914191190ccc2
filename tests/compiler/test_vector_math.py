"""Elementary functions against higher precision, on machines with and without vector features.

float32 is compared with NumPy's float64 on every 4,093rd of all bit patterns, float64 with mpmath.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from llvmlite import ir
from vector_math_kernels import Compiled, emit_assembly, write_kernel

from taimatsu.compiler.codegen import vector_math
from taimatsu.ir.target import Target

mp = pytest.importorskip("mpmath")

FLOATS = (np.float32, np.float64)
INF, NAN = math.inf, math.nan
ULPS = 2.0

HOST = Target.host()
BASELINE = HOST.without("sse4.1", "popcnt", "bmi2") if HOST.is_x86 else HOST
# Name: the machine, and whether its code works on vectors.
MACHINES = {
    "host": (HOST, True),
    "scalar": (BASELINE, False),
}
if HOST.is_x86:
    MACHINES["256 bits"] = (HOST.without("avx512f"), True)
    MACHINES["no fma"] = (HOST.without("fma"), True)
    MACHINES["baseline"] = (BASELINE, True)

UNARY = {
    "acos": (np.arccos, mp.acos),
    "acosh": (np.arccosh, mp.acosh),
    "asin": (np.arcsin, mp.asin),
    "asinh": (np.arcsinh, mp.asinh),
    "atan": (np.arctan, mp.atan),
    "atanh": (np.arctanh, mp.atanh),
    "cos": (np.cos, mp.cos),
    "cosh": (np.cosh, mp.cosh),
    "erf": (np.vectorize(math.erf, otypes=[float]), mp.erf),
    "erfc": (np.vectorize(math.erfc, otypes=[float]), mp.erfc),
    "exp": (np.exp, mp.exp),
    "exp2": (np.exp2, lambda x: mp.power(2, x)),
    "expm1": (np.expm1, mp.expm1),
    "log": (np.log, mp.log),
    "log10": (np.log10, mp.log10),
    "log1p": (np.log1p, mp.log1p),
    "log2": (np.log2, lambda x: mp.log(x, 2)),
    "reciprocal": (lambda x: 1 / x, lambda x: 1 / x),
    "rsqrt": (lambda x: 1 / np.sqrt(x), lambda x: 1 / mp.sqrt(x)),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda x: 1 / (1 + mp.exp(-x))),
    "sin": (np.sin, mp.sin),
    "sinh": (np.sinh, mp.sinh),
    "sqrt": (np.sqrt, mp.sqrt),
    "tan": (np.tan, mp.tan),
    "tanh": (np.tanh, mp.tanh),
}
EXACT = {
    "ceil": np.ceil,
    "floor": np.floor,
    "round_half_even": np.rint,
    "trunc": np.trunc,
}
BINARY = {
    "atan2": (np.arctan2, mp.atan2),
    "hypot": (np.hypot, mp.hypot),
    "pow": (np.power, mp.power),
}
REMAINDERS = ("fmod", "remainder")


@functools.cache
def compiled(machine: str, dtype: Any) -> Compiled:
    """Every function for a machine and a dtype, in one module."""
    target, vectors = MACHINES[machine]
    lanes = target.lanes(np.dtype(dtype).itemsize) if vectors else 0
    return compile_for(target, dtype, lanes)


def module_of_all(target: Target, dtype: Any, lanes: int) -> ir.Module:
    module = ir.Module()
    module.triple = target.triple
    for name, write in vector_math.FUNCTIONS.items():
        inputs = [dtype] * (2 if name in BINARY or name in REMAINDERS else 1)
        write_kernel(module, name, write, target, inputs, dtype, lanes)
    return module


def compile_for(target: Target, dtype: Any, lanes: int) -> Compiled:
    return Compiled(module_of_all(target, dtype, lanes), target)


def computed(machine: str, name: str, *inputs: np.ndarray) -> np.ndarray:
    return compiled(machine, inputs[0].dtype.type).run(name, np.empty_like(inputs[0]), *inputs)


# -- samples ---------------------------------------------------------------------------------


def special(dtype: Any) -> np.ndarray:
    limits = np.finfo(dtype)
    sizes = [0, limits.smallest_subnormal, limits.tiny, 0.5, 1, 1.5, 2, 3, 100.25, 2.0**24]
    sizes += [limits.max, INF, math.pi, 2.0**30, 2.0**31]
    return np.array([*sizes, *(-np.array(sizes)), NAN], dtype=dtype)


def filled(values: np.ndarray, dtype: Any) -> np.ndarray:
    """Lengthened to a multiple of every number of lanes."""
    return np.resize(values.astype(dtype), -(-values.size // 16) * 16)


@functools.cache
def singles() -> np.ndarray:
    patterns = np.arange(0, 2**32, 4093, dtype=np.uint64).astype(np.uint32)
    return filled(np.concatenate([patterns.view(np.float32), special(np.float32)]), np.float32)


@functools.cache
def doubles() -> np.ndarray:
    rng = np.random.default_rng(20)
    patterns = rng.integers(-(2**63), 2**63, 400).view(np.float64)
    near_quarters = np.arange(1, 100) * (math.pi / 2)
    parts = [patterns, special(np.float64), near_quarters, 1 + rng.normal(size=100) * 1e-3]
    parts += [rng.uniform(-limit, limit, 250) for limit in (1, 4, 30, 745)]
    return filled(np.concatenate(parts), np.float64)


def as_pair(exact: Any) -> tuple[float, float]:
    """A number of mpmath as the sum of two floats."""
    if isinstance(exact, mp.mpc):
        return NAN, 0.0
    high = float(exact)
    return high, float(exact - high) if math.isfinite(high) else 0.0


def evaluated(function: Callable, *numbers: float) -> tuple[float, float]:
    with mp.workprec(160):
        return as_pair(function(*map(mp.mpf, numbers)))


# exp of these numbers would be a very long one; float64 is far beyond its limits there.
LONG_RESULTS = ("cosh", "erf", "erfc", "exp", "exp2", "expm1", "sigmoid", "sinh", "tanh")


@functools.cache
def wanted(name: str, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """What a function of one argument gives for the samples: the sum of two float64."""
    in_numpy, exactly = UNARY[name]
    x = singles() if dtype is np.float32 else doubles()
    with np.errstate(all="ignore"):
        rough = in_numpy(x.astype(np.float64))
    if dtype is np.float32:
        return rough, np.zeros_like(rough)
    low = np.zeros_like(rough)
    for i in np.flatnonzero(np.isfinite(x) & np.isfinite(rough) & (x != 0)):
        if name not in LONG_RESULTS or abs(x[i]) < 1100:
            rough[i], low[i] = evaluated(exactly, x[i])
    return rough, low


def ulps(got: np.ndarray, high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Errors in units of the last place; infinite where nan, infinity or a zero's sign differ."""
    limits = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        rounded = high.astype(got.dtype)
        exponent = np.frexp(np.abs(np.where(np.isfinite(high), high, 1)))[1] - 1
        unit = np.ldexp(1.0, np.maximum(exponent, limits.minexp) - limits.nmant)
        if got.dtype == np.float64:
            unit = np.maximum(unit, limits.smallest_subnormal)
        error = np.abs((got.astype(np.float64) - high) - low) / unit
    largest = np.isinf(rounded) & (np.abs(got) == limits.max) & np.isfinite(high)
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    error = np.where(np.isfinite(rounded), error, np.where(same | largest, 0, INF))
    error = np.where(np.isnan(got) != np.isnan(rounded), INF, error)
    signs_differ = (np.signbit(got) != np.signbit(high)) & ~np.isnan(rounded)
    return np.where(signs_differ, INF, error)


def assert_close(got: np.ndarray, high: np.ndarray, low: np.ndarray, *inputs: np.ndarray) -> None:
    errors = ulps(got, high, low)
    worst = int(np.argmax(errors))
    at = ", ".join(repr(x[worst]) for x in inputs)
    assert errors[worst] <= ULPS, f"{errors[worst]} ulps at {at}: {got[worst]!r}, {high[worst]!r}"


# -- one argument ----------------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_within_two_units(name: str, dtype: Any, machine: str) -> None:
    x = singles() if dtype is np.float32 else doubles()
    assert_close(computed(machine, name, x), *wanted(name, dtype), x)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", EXACT)
def test_rounding_is_exact(name: str, dtype: Any, machine: str) -> None:
    x = singles() if dtype is np.float32 else doubles()
    halves = np.arange(-40, 40, dtype=dtype) / 4
    for given in (x, halves):
        with np.errstate(invalid="ignore"):  # signalling nan
            expected = EXACT[name](given)
        assert_bits(computed(machine, name, given), expected)


def assert_bits(got: np.ndarray, expected: np.ndarray) -> None:
    """Equal bit for bit, one nan being as good as another."""
    unsigned = f"u{got.dtype.itemsize}"
    same = (got.view(unsigned) == expected.view(unsigned)) | (np.isnan(got) & np.isnan(expected))
    assert same.all(), f"{got[~same][:3]} instead of {expected[~same][:3]}"


@pytest.mark.parametrize("machine", MACHINES)
def test_huge_angles(machine: str) -> None:
    """Where float64 comes closest to multiples of pi / 2, and the largest of all."""
    closest = 6381956970095103.0 * 2.0**797
    x = filled(np.array([closest, -closest, np.finfo(float).max, 1e22, 2.0**30 + 0.5]), np.float64)
    for name in ("sin", "cos", "tan"):
        pairs = np.array([evaluated_precisely(name, value) for value in x])
        assert_close(computed(machine, name, x), pairs[:, 0], pairs[:, 1], x)


def evaluated_precisely(name: str, x: float) -> tuple[float, float]:
    with mp.workprec(1400):
        return as_pair(getattr(mp, name)(mp.mpf(x)))


@pytest.mark.parametrize("dtype", FLOATS)
def test_powers_of_two_are_exact(dtype: Any) -> None:
    exponents = filled(np.arange(*((-149, 128) if dtype is np.float32 else (-1074, 1024))), dtype)
    powers = np.ldexp(dtype(1), exponents.astype(int))
    assert_bits(computed("host", "exp2", exponents), powers)
    assert_bits(computed("host", "log2", powers), exponents)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["exp", "exp2"])
def test_underflow(name: str, dtype: Any, machine: str) -> None:
    deep = {"exp": (-104.0, -745.2), "exp2": (-150.0, -1075.0)}[name][dtype is np.float64]
    near = [np.nextafter(dtype(deep), dtype(deep + side)) for side in (-1, 0, 1)]
    x = filled(np.array([-INF, *near, *np.linspace(deep - 3, deep + 30, 60)]), dtype)
    with np.errstate(under="ignore"):
        want = getattr(np, name)(x.astype(np.longdouble)).astype(dtype)
    got = computed(machine, name, x)
    assert np.array_equal(got == 0, want == 0)
    assert np.max(np.abs(got - want)) <= 2 * np.finfo(dtype).smallest_subnormal + 1e-6 * want.max()


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", ["erf", "sigmoid", "tanh"])
def test_what_is_near_one_is_one(name: str, machine: str) -> None:
    x = filled(np.array([20.0, 100.0, 1e30, INF]), np.float32)
    assert np.all(computed(machine, name, x) == 1)


@pytest.mark.parametrize("machine", MACHINES)
def test_erf_where_its_polynomials_meet(machine: str) -> None:
    """Multiples of 1 / 8, and the floats beside them; each of 16 polynomials in many places."""
    near = np.arange(1, 40, dtype=np.float32) / 8
    sides = [near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(9))]
    x = filled(np.concatenate([*sides, np.linspace(-4, 4, 20_001)]), np.float32)
    high = UNARY["erf"][0](x.astype(np.float64))
    assert_close(computed(machine, "erf", x), high, np.zeros_like(high), x)


# -- two arguments ---------------------------------------------------------------------------


@functools.cache
def points(dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of arguments: all pairs of special values, random bits, ordinary numbers."""
    rng = np.random.default_rng(21)
    corners = np.array(list(itertools.product(special(dtype), repeat=2)))
    count = 20_000 if dtype is np.float32 else 300
    bits = rng.integers(0, 2**63, (count, 2), dtype=np.uint64) * 2 + 1
    bits = (bits >> np.uint64(64 - 8 * np.dtype(dtype).itemsize)).astype(f"u{dtype().itemsize}")
    ordinary = rng.normal(size=(count, 2)) * [10, 3]
    near_one = np.stack([1 + rng.normal(size=count) * 1e-4, rng.normal(size=count) * 1e5], 1)
    rest = np.concatenate([np.abs(ordinary), ordinary, near_one]).astype(dtype)
    both = np.concatenate([corners, bits.view(dtype), rest])
    return filled(both[:, 0], dtype), filled(both[:, 1], dtype)


@functools.cache
def wanted_of_two(name: str, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    in_numpy, exactly = BINARY[name]
    x, y = points(dtype)
    with np.errstate(all="ignore"):
        rough = in_numpy(x.astype(np.float64), y.astype(np.float64))
    low = np.zeros_like(rough)
    if dtype is np.float64:
        ordinary = np.isfinite(x) & np.isfinite(y) & np.isfinite(rough) & (rough != 0)
        for i in np.flatnonzero(ordinary & (x != 0) & (y != 0)):  # mpmath has no negative zero
            rough[i], low[i] = evaluated(exactly, x[i], y[i])
    return rough, low


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", BINARY)
def test_two_arguments_within_two_units(name: str, dtype: Any, machine: str) -> None:
    x, y = points(dtype)
    assert_close(computed(machine, name, x, y), *wanted_of_two(name, dtype), x, y)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_remainders_are_exact(dtype: Any, machine: str) -> None:
    x, y = points(dtype)
    with np.errstate(all="ignore"):
        expected = np.fmod(x, y)
        assert_bits(computed(machine, "fmod", x, y), expected)
        moved = (expected != 0) & (np.signbit(expected) != np.signbit(y))
        expected = np.where(moved, expected + y, expected)
    assert_bits(computed(machine, "remainder", x, y), expected)


@pytest.mark.parametrize("integer", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", FLOATS)
def test_integer_exponents(dtype: Any, integer: Any) -> None:
    """The last bit of an integer exponent counts, also where a float does not hold it."""
    bases = [-2.5, 1.25, -1, -1.0000001, 0.5, 0, -0.0, INF, -INF, NAN]
    exponents = [0, 1, 2, 3, -1, -5, 30, 2**24 + 1, 2**31 - 1]
    if integer is np.int64:
        exponents += [2**53 + 1, 2**62 + 1]
    both = list(itertools.product(bases, exponents))
    x = filled(np.array([base for base, _ in both]), dtype)
    n = np.resize(np.array([exponent for _, exponent in both], integer), x.size)
    module = ir.Module()
    module.triple = HOST.triple
    lanes = HOST.lanes(8)
    write_kernel(module, "pow", vector_math.pow, HOST, [dtype, integer], dtype, lanes)
    got = Compiled(module, HOST).run("pow", np.empty_like(x), x, n)
    expected = [as_pair(integer_power(float(a), int(b))) for a, b in zip(x, n, strict=True)]
    high, low = np.array(expected).T
    negative = np.signbit(x) & (n % 2 != 0)
    assert_close(got, np.copysign(high, np.where(negative, -1.0, 1.0)), low, x, n)


def integer_power(base: float, exponent: int) -> Any:
    if exponent == 0:
        return mp.mpf(1)
    if base == 0 or math.isinf(base):
        grows = (base == 0) == (exponent < 0)
        return mp.mpf(INF if grows else 0)
    logarithm = exponent * mp.log(abs(base))
    if not abs(logarithm) < 1000:
        return mp.mpf(NAN if math.isnan(base) else INF if logarithm > 0 else 0)
    with mp.workprec(200):
        return mp.power(mp.mpf(base), exponent)


@pytest.mark.parametrize("exponent", [-2, -1, -0.5, 0, 0.5, 1, 2, 3, 2.5])
def test_constant_exponents(exponent: float) -> None:
    module = ir.Module()
    module.triple = HOST.triple
    write = functools.partial(vector_math.pow_constant, exponent=exponent)
    write_kernel(module, "power", write, HOST, [np.float32], np.float32, 16)
    x = filled(np.linspace(0.01, 9, 1000), np.float32)
    got = Compiled(module, HOST).run("power", np.empty_like(x), x)
    expected = x.astype(np.float64) ** exponent
    assert_close(got, expected, np.zeros_like(expected), x)
    if exponent == 2:
        np.testing.assert_array_equal(got, x * x)


# -- every width, every machine --------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_width_gives_the_same_bits(dtype: Any) -> None:
    """A loop's remainder may be done by scalars."""
    widest = HOST.lanes(np.dtype(dtype).itemsize)
    widths = [0, 5, widest // 2, 2 * widest, 3 * widest]
    others = [compile_for(HOST, dtype, lanes) for lanes in widths]
    multiple = math.lcm(*filter(None, widths))
    x = np.resize((singles() if dtype is np.float32 else doubles())[:16_384], 32 * multiple)
    two = tuple(np.resize(values, 32 * multiple) for values in points(dtype))
    for name in vector_math.FUNCTIONS:
        inputs = two if name in BINARY or name in REMAINDERS else (x,)
        expected = computed("host", name, *inputs)
        for other in others:
            assert_bits(other.run(name, np.empty_like(expected), *inputs), expected)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("vectors", [True, False])
def test_arm(dtype: Any, vectors: bool) -> None:
    """The code is accepted for 64-bit Arm, and calls no library there either."""
    target = Target.of("aarch64-unknown-linux-gnu")
    lanes = target.lanes(np.dtype(dtype).itemsize) if vectors else 0
    text = emit_assembly(module_of_all(target, dtype, lanes), target)
    assert ("fmla" in text) if vectors else ("fmadd" in text)
    assert not outside_calls(text)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_no_library_is_called(dtype: Any, machine: str) -> None:
    assert not outside_calls(compiled(machine, dtype).assembly)


def outside_calls(assembly: str) -> set[str]:
    """What the code calls, other than the slow paths of the module itself."""
    lines = (line.split() for line in assembly.splitlines())
    calls = {words[1] for words in lines if words and words[0] in ("call", "callq", "bl")}
    return {name for name in calls if not name.strip('"').startswith("taimatsu.")}


def test_slow_paths_are_written_once() -> None:
    text = str(module_of_all(HOST, np.float32, 16))
    assert text.count("define internal") == 2


def test_only_floats_of_one_type() -> None:
    module = ir.Module()
    kind = ir.FunctionType(ir.VoidType(), [ir.IntType(32), ir.FloatType(), ir.DoubleType()])
    function = ir.Function(module, kind, "f")
    builder = ir.IRBuilder(function.append_basic_block())
    number, single, double = function.args
    with pytest.raises(TypeError, match=r"\[vector_math.exp\] expected float or double.*i32"):
        vector_math.exp(builder, HOST, number)
    with pytest.raises(TypeError, match=r"of one type; got float, double"):
        vector_math.atan2(builder, HOST, single, double)
    with pytest.raises(TypeError, match="or integers, got double"):
        vector_math.pow(builder, HOST, single, double)
    with pytest.raises(TypeError, match=r"half_to_float\] expected i16"):
        vector_math.half_to_float(builder, HOST, single)


# -- short floats ----------------------------------------------------------------------------


def converted(write: Callable, machine: str, x: np.ndarray, output: Any) -> np.ndarray:
    target, vectors = MACHINES[machine]
    module = ir.Module()
    module.triple = target.triple
    lanes = target.lanes(4) if vectors else 0
    write_kernel(module, "convert", write, target, [x.dtype], output, lanes)
    made = Compiled(module, target)
    assert not outside_calls(made.assembly)
    return made.run("convert", np.empty(x.shape, output), x)


ALL_SHORTS = np.arange(2**16).astype(np.uint16)


def halfway() -> np.ndarray:
    """float32 numbers around those where rounding to a shorter float turns."""
    tops = ALL_SHORTS.astype(np.uint32) << 16
    ties = (ALL_SHORTS[:0x7C00].view(np.float16).astype(np.float32).view(np.uint32)) + (1 << 12)
    bits = np.concatenate([tops + delta for delta in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)])
    bits = np.concatenate([bits, ties - 1, ties, ties + 1]).astype(np.uint32)
    return np.concatenate([filled(bits.view(np.float32), np.float32), singles()])


@pytest.mark.parametrize("machine", MACHINES)
def test_float16(machine: str) -> None:
    wide = converted(vector_math.half_to_float, machine, ALL_SHORTS, np.float32)
    assert_bits(wide, ALL_SHORTS.view(np.float16).astype(np.float32))
    x = halfway()
    with np.errstate(over="ignore", invalid="ignore"):
        expected = x.astype(np.float16)
    assert_bits(
        converted(vector_math.float_to_half, machine, x, np.uint16).view(np.float16), expected
    )


@pytest.mark.parametrize("machine", MACHINES)
def test_bfloat16(machine: str) -> None:
    wide = converted(vector_math.bfloat16_to_float, machine, ALL_SHORTS, np.float32)
    assert_bits(wide, (ALL_SHORTS.astype(np.uint32) << 16).view(np.float32))
    x = halfway()
    bits = x.view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    got = converted(vector_math.float_to_bfloat16, machine, x, np.uint16)
    numbers = ~np.isnan(x)
    np.testing.assert_array_equal(got[numbers], rounded[numbers])
    assert np.isnan((got[~numbers].astype(np.uint32) << 16).view(np.float32)).all()
