"""Pointwise rules against PyTorch without the recorder: infer and evaluate on plain arrays.

What operations return for each pair of dtypes, which dtypes they refuse and with what type of
error, that 16-bit floats round once, and the special functions against SciPy.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from taimatsu import dtypes  # noqa: E402
from taimatsu.ir.meta import Meta, meta  # noqa: E402
from taimatsu.ops import (  # noqa: E402, F401
    activations,
    arithmetic,
    bitwise,
    comparison,
    maths,
    multiply_add,
    piecewise,
    powers,
    rounding,
    selection,
    signs,
    special,
    special_functions,
    trigonometry,
)
from taimatsu.ops import complex as complex_operations  # noqa: E402, F401
from taimatsu.ops.base import REGISTRY  # noqa: E402

DTYPES = [
    dtypes.bool_,
    dtypes.uint8,
    dtypes.int32,
    dtypes.int64,
    dtypes.float16,
    dtypes.bfloat16,
    dtypes.float32,
    dtypes.float64,
    dtypes.complex64,
]
UNARY = [
    "abs",
    "neg",
    "sign",
    "sgn",
    "signbit",
    "reciprocal",
    "sqrt",
    "rsqrt",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "sigmoid",
    "erf",
    "erfc",
    "erfinv",
    "lgamma",
    "digamma",
    "floor",
    "ceil",
    "trunc",
    "frac",
    "round",
    "isnan",
    "isinf",
    "isfinite",
    "isposinf",
    "isneginf",
    "isreal",
    "logical_not",
    "bitwise_not",
    "deg2rad",
    "rad2deg",
    "sinc",
    "i0",
    "angle",
    "relu",
]
BINARY = [
    "add",
    "sub",
    "mul",
    "div",
    "floor_divide",
    "remainder",
    "fmod",
    "copysign",
    "atan2",
    "hypot",
    "xlogy",
    "logaddexp",
    "logaddexp2",
    "maximum",
    "minimum",
    "fmax",
    "fmin",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "logical_and",
    "logical_or",
    "logical_xor",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "bitwise_left_shift",
    "bitwise_right_shift",
    "heaviside",
    "gcd",
    "lcm",
    "nextafter",
]
NUMBERS = [
    "add",
    "sub",
    "mul",
    "div",
    "floor_divide",
    "remainder",
    "fmod",
    "pow",
    "eq",
    "lt",
    "bitwise_and",
    "clamp_min",
]
REFLECTED = {
    "sub": lambda n, x: n - x,
    "div": lambda n, x: n / x,
    "floor_divide": lambda n, x: n // x,
    "remainder": lambda n, x: n % x,
    "pow": lambda n, x: n**x,
}


def ours(name: str, *inputs: object) -> object:
    """The inferred dtype's name, or the exception."""
    try:
        return REGISTRY[name].infer(*inputs).dtype.name
    except Exception as error:
        return error


def theirs(call, *inputs: object) -> object:
    try:
        return str(call(*inputs).dtype).removeprefix("torch.")
    except Exception as error:
        return error


def tensor(dtype: dtypes.dtype):
    return torch.ones(2, dtype=getattr(torch, dtype.name))


def assert_same(got: object, want: object) -> None:
    if isinstance(want, Exception):
        assert isinstance(got, type(want)), (got, want)
    else:
        assert got == want


@pytest.mark.parametrize("name", UNARY)
def test_unary_dtypes(name):
    for dtype in DTYPES:
        assert_same(ours(name, meta((2,), dtype)), theirs(getattr(torch, name), tensor(dtype)))


@pytest.mark.parametrize("name", BINARY)
def test_binary_dtypes(name):
    for a in DTYPES:
        for b in DTYPES:
            want = theirs(getattr(torch, name), tensor(a), tensor(b))
            assert_same(ours(name, meta((2,), a), meta((2,), b)), want)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("number", [2, 2.5])
def test_numbers_on_the_right(name, number):
    for dtype in DTYPES:
        want = theirs(getattr(torch, name), tensor(dtype), number)
        assert_same(ours(name, meta((2,), dtype), number), want)


@pytest.mark.parametrize("name", REFLECTED)
@pytest.mark.parametrize("number", [2, 2.5])
def test_numbers_on_the_left(name, number):
    for dtype in DTYPES:
        want = theirs(REFLECTED[name], number, tensor(dtype))
        assert_same(ours(name, number, meta((2,), dtype)), want)


def compute(name: str, *inputs: object, **attributes: object) -> np.ndarray:
    operation = REGISTRY[name]
    metas = tuple(
        meta(x.shape, dtypes.from_numpy(x.dtype)) if isinstance(x, np.ndarray) else x
        for x in inputs
    )
    out = operation.infer(*metas, **attributes)
    given = tuple(m if isinstance(m, Meta) else None for m in metas)
    (result,) = operation.evaluate(inputs, attributes, given, (out,))
    assert result.dtype == out.dtype.numpy
    assert result.shape == tuple(out.shape)
    return result


def test_half_precision_rounds_once():
    x = np.array([2048.0], np.float16)
    # 2048 * 1.0005 in float32 is 2049.02, which rounds to 2050; a rounded factor gives 2048
    assert compute("mul", x, 1.0005)[0] == 2050
    assert compute("lt", np.array([0.1], np.float16), 0.1)[0] == (
        torch.tensor([0.1], dtype=torch.half) < 0.1
    )


def test_numbers_wrap_like_small_integers():
    assert compute("add", np.array([44], np.uint8), 300)[0] == 88
    assert compute("add", np.array([1], np.int8), 200)[0] == -55


@pytest.mark.parametrize("name", ["floor_divide", "remainder", "fmod"])
def test_integer_division_by_zero(name):
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        compute(name, np.array([1, 2]), np.array([0, 1]))


def test_integer_powers():
    bases = np.array([1, -1, -1, 2, 3])
    exponents = np.array([-2, -1, -2, -1, 2])
    want = torch.from_numpy(bases) ** torch.from_numpy(exponents)
    assert np.array_equal(compute("pow", bases, exponents), want.numpy())
    with pytest.raises(RuntimeError, match="Integers to negative integer powers are not allowed"):
        compute("pow", bases, -1)


def test_shifts_past_the_width():
    values = np.array([1, -8, 5])
    amounts = np.array([64, 70, -1])
    for name in ("bitwise_left_shift", "bitwise_right_shift"):
        want = getattr(torch, name)(torch.from_numpy(values), torch.from_numpy(amounts))
        assert np.array_equal(compute(name, values, amounts), want.numpy())


@pytest.mark.parametrize("kind", ["uint8", "int8", "int16", "int32", "int64"])
def test_divisors_of_extremes(kind):
    limits = np.iinfo(kind)
    plain = [limits.min, limits.min + 1, 0, 1, 2, 6, 12, 96, limits.max - 1, limits.max]
    values = np.array(plain + ([-1, -2, -6, -96] if limits.min else []), kind)
    a, b = (grid.ravel() for grid in np.meshgrid(values, values))
    got = compute("gcd", a, b)
    assert np.array_equal(got, torch.gcd(torch.from_numpy(a), torch.from_numpy(b)).numpy())
    if limits.bits > 16:  # PyTorch's process ends where -1 divides the least integer
        a, b = np.maximum(a, limits.min + 1), np.maximum(b, limits.min + 1)
        assert compute("lcm", values[:1], values[-5:-4]) == limits.min
    got = compute("lcm", a, b)
    assert np.array_equal(got, torch.lcm(torch.from_numpy(a), torch.from_numpy(b)).numpy())


def test_results_keep_the_inputs_strides():
    transposed = meta((3, 4), dtypes.float32, (1, 3))
    assert REGISTRY["exp"].infer(transposed).strides == (1, 3)
    assert REGISTRY["add"].infer(transposed, transposed).strides == (1, 3)


def test_messages_name_the_mend():
    with pytest.raises(RuntimeError, match="logical_xor"):
        REGISTRY["sub"].infer(meta((2,), dtypes.bool_), meta((2,), dtypes.bool_))
    with pytest.raises(RuntimeError, match="logical_not"):
        REGISTRY["neg"].infer(meta((2,), dtypes.bool_))
    with pytest.raises(NotImplementedError, match="not implemented for 'Float'.*convert"):
        REGISTRY["bitwise_not"].infer(meta((2,), dtypes.float32))


# -- special functions -----------------------------------------------------------------------


def ulps(got: np.ndarray, want: np.ndarray) -> float:
    assert np.array_equal(np.isnan(got), np.isnan(want))
    finite = np.isfinite(want)
    assert np.array_equal(got[~finite], want[~finite], equal_nan=True)
    return float(np.max(np.abs(got[finite] - want[finite]) / np.spacing(np.abs(want[finite]))))


POINTS = np.concatenate(
    [np.linspace(-7, 7, 5001), [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-300, 26.5]]
)


def test_error_functions():
    with np.errstate(all="ignore"):
        for ours_, reference in (
            (special_functions.erf, math.erf),
            (special_functions.erfc, math.erfc),
        ):
            assert ulps(ours_(POINTS), np.array([reference(x) for x in POINTS])) <= 4


def test_erfinv_inverts():
    scipy_special = pytest.importorskip("scipy.special")
    y = np.concatenate([np.linspace(-1, 1, 2001), 1 - np.logspace(-16, 0, 500), [1.5]])
    with np.errstate(all="ignore"):
        assert ulps(special_functions.erfinv(y), scipy_special.erfinv(y)) <= 4


def test_gamma_family():
    scipy_special = pytest.importorskip("scipy.special")
    x = np.concatenate([np.linspace(0.01, 30, 3001), np.logspace(-8, 8, 200)])
    gap = np.abs(special_functions.digamma(x) - scipy_special.digamma(x))
    assert np.max(gap / np.maximum(np.abs(scipy_special.digamma(x)), 1)) < 2e-15
    for n in (1, 2, 3, 4):
        assert ulps(special_functions.polygamma(n, x), scipy_special.polygamma(n, x)) <= 16
    order = np.linspace(1.05, 9, x.size)
    assert ulps(special_functions.zeta(order, x), scipy_special.zeta(order, x)) <= 16


def test_poles():
    poles = np.array([0.0, -0.0, -1.0, np.inf, np.nan])
    with np.errstate(all="ignore"):
        digamma = special_functions.digamma(poles)
    want = torch.digamma(torch.from_numpy(poles)).numpy()
    assert np.array_equal(digamma, want, equal_nan=True)
    lgamma = special_functions.lgamma(poles)
    assert np.array_equal(lgamma, torch.lgamma(torch.from_numpy(poles)).numpy(), equal_nan=True)
