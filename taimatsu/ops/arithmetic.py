"""Arithmetic: sums, products, quotients, remainders, powers, signs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu import dtypes
from taimatsu.ops.base import Sample, array, composite, integers, register
from taimatsu.ops.elementwise import (
    Binary,
    Unary,
    binary_samples,
    conj,
    is_number,
    unary_samples,
    zeros,
)


class Arithmetic(Binary, abstract=True):
    """The four operators on every dtype."""

    accepts = "bifc"
    inplace = True


def _with_alpha(name: str, input: Any, other: Any, alpha: Any) -> Any:
    """``alpha * other`` in the dtype of the sum (so that nothing is rounded on the way)."""
    common = dtypes.result_type(input, other)
    if isinstance(alpha, bool) and common is not dtypes.bool_:
        raise _ALPHA.error("Boolean alpha only supported for Boolean results.", name)
    if isinstance(alpha, float) and common.category <= dtypes.INTEGER:
        raise _ALPHA.error(
            "For integral input tensors, argument alpha must not be a floating point number.",
            f"alpha={alpha} with {common.name} inputs of {name}",
        )
    if isinstance(alpha, complex) and not common.is_complex:
        raise _ALPHA.error(
            "For non-complex input tensors, argument alpha must not be a complex number.",
            f"alpha={alpha} with {common.name} inputs of {name}",
        )
    if is_number(other):
        return other * alpha
    if other.dtype is not common:
        other = other.to(common)
    return other * alpha


@register
class Add(Arithmetic):
    """``input + alpha * other``."""

    def __call__(self, input: Any, other: Any, *, alpha: Any = 1) -> Any:
        if alpha is True or alpha != 1:
            other = _with_alpha("add", input, other, alpha)
        return self.apply(input, other)

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.add(input, other)

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        return g, g

    samples = binary_samples(complexes=True, left_numbers=(2,))


_ALPHA = Add


@register
class Sub(Arithmetic):
    """``input - alpha * other``."""

    functions = ("sub", "subtract")
    accepts = "ifc"

    def infer(self, input: Any, other: Any) -> Any:
        self._refuse_booleans(input, other)
        return self.describe(input, other)

    def _refuse_booleans(self, input: Any, other: Any) -> None:
        given = [dtypes.result_type(x) is dtypes.bool_ for x in (input, other)]
        if all(given):
            raise self.error(
                "Subtraction, the `-` operator, with two bool tensors is not supported. "
                "Use the `^` or `logical_xor()` operator instead."
            )
        if any(given):
            raise self.error(
                "Subtraction, the `-` operator, with a bool tensor is not supported. If you are "
                "trying to invert a mask, use the `~` or `logical_not()` operator instead."
            )

    def backward_name_for(self, inputs: Any, attributes: Any) -> str:
        return "RsubBackward1" if is_number(inputs[0]) else "SubBackward0"

    def __call__(self, input: Any, other: Any, *, alpha: Any = 1) -> Any:
        if alpha is True or alpha != 1:
            self._refuse_booleans(input, other)
            other = _with_alpha("sub", input, other, alpha)
        return self.apply(input, other)

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.subtract(input, other)

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        return g, lambda: -g

    samples = binary_samples(complexes=True, left_numbers=(2,))


@composite(samples=binary_samples(special=False))
def rsub(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    """``other - alpha * input``."""
    if alpha is True or alpha != 1:
        Sub._refuse_booleans(other, input)
        input = _with_alpha("rsub", other, input, alpha)
    return Sub.apply(other, input)


@register
class Mul(Arithmetic):
    """``input * other``."""

    functions = ("mul", "multiply")
    wide_numbers = True
    saves = {"input": ("other",), "other": ("input",)}

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.multiply(input, other)

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        return lambda: g * conj(other), lambda: g * conj(input)

    samples = binary_samples(complexes=True, left_numbers=(2,))


@register
class Div(Arithmetic):
    """``input / other``; integers give the default floating point dtype.

    ``rounding_mode`` "trunc" rounds the quotient toward zero, "floor" down; both keep integers.
    """

    functions = ("div", "divide")
    wide_numbers = True
    accepts = "fc"
    integers = "float"
    saves = {"input": ("other",), "other": ("input", "other")}

    def __call__(self, input: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
        if rounding_mode is None:
            return self.apply(input, other)
        if rounding_mode not in ("trunc", "floor"):
            raise self.error(
                "expected rounding_mode to be one of None, 'trunc', or 'floor'",
                f"{rounding_mode!r}",
            )
        return RoundedDiv.apply(input, other, rounding_mode=rounding_mode)

    def backward_name_for(self, inputs: Any, attributes: Any) -> str:
        return "MulBackward0" if is_number(inputs[0]) else "DivBackward0"

    def evaluate(self, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> tuple:
        if not is_number(inputs[0]):
            return super().evaluate(inputs, attributes, metas, outs)
        # PyTorch writes number / x as x.reciprocal() * number: the same here, to the last bit
        (inverse,) = super().evaluate((1, inputs[1]), attributes, metas, outs)
        compute = outs[0].dtype
        with np.errstate(all="ignore"):
            product = self.operand(inverse, compute) * self.operand(inputs[0], compute)
            return (np.asarray(product, inverse.dtype),)

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.true_divide(input, other)

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        return lambda: g / conj(other), lambda: -g * conj((input / other) / other)

    def samples(self) -> Iterator[Sample]:
        common = binary_samples(other=(0.5, 2.0), complexes=True, left_numbers=(2,))
        yield from common()
        for mode in ("trunc", "floor"):
            yield Sample(array(3, 4), array(4, low=0.5, seed=1), rounding_mode=mode)
            yield Sample(array(3, 4), 0.3, rounding_mode=mode)
            whole = integers(20, low=-9)
            yield Sample(whole, integers(20, low=1, seed=1) * -1, rounding_mode=mode, grad=False)
            yield Sample(whole, 4, rounding_mode=mode, grad=False)


@composite(inplace=True, samples=binary_samples(other=(0.5, 2.0)))
def true_divide(input: Any, other: Any) -> Any:
    """``input / other``, never rounded to integers."""
    return Div.apply(input, other)


# -- rounded quotients and remainders --------------------------------------------------------


class Quotient(Binary, abstract=True):
    """Quotients and remainders that keep integers; integer division by zero is an error."""

    accepts = "if"
    inplace = True

    def refuse_zero(self, other: np.ndarray) -> None:
        if other.dtype.kind in "iu" and not np.all(other):
            raise self.error(
                "ZeroDivisionError: integer division by zero",
                hint="convert to floating point, or clamp the divisor",
            )


def _truncated_quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind == "f":
        return np.trunc(a / b)
    quotient = np.floor_divide(a, b)
    inexact = quotient * b != a
    return quotient + (inexact & ((a < 0) != (b < 0))).astype(a.dtype)


@register
class RoundedDiv(Quotient):
    """The quotient rounded toward zero ("trunc") or down ("floor"); the gradient is zero."""

    hidden = True
    inplace = False
    backward_name = "DivBackward2"

    def reference(self, input: np.ndarray, other: np.ndarray, *, rounding_mode: str) -> np.ndarray:
        self.refuse_zero(other)
        if rounding_mode == "floor":
            return np.floor_divide(input, other)
        return _truncated_quotient(input, other)

    def gradient(self, g: Any, out: Any, input: Any, other: Any, *, rounding_mode: str) -> Any:
        return lambda: zeros(g), lambda: zeros(g)


@register
class FloorDivide(Quotient):
    """``input // other``, rounded down."""

    backward_name = "NotImplemented"

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        self.refuse_zero(other)
        return np.floor_divide(input, other)

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        raise self.error(
            "derivative for floor_divide is not implemented",
            hint="torch.div(a, b, rounding_mode='floor') has a gradient (zero)",
        )

    samples = binary_samples(other=(0.5, 2.0), left_numbers=(3,), grad=False)


@register
class Remainder(Quotient):
    """``input - other * floor(input / other)``: it has the sign of ``other``."""

    saves = {"input": (), "other": ("input", "other")}

    def backward_name_for(self, inputs: Any, attributes: Any) -> str:
        return "RemainderBackward0" if is_number(inputs[1]) else "RemainderBackward1"

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        self.refuse_zero(other)
        if input.dtype.kind != "f":
            return np.remainder(input, other)
        rest = np.fmod(input, other)
        return np.where((rest != 0) & ((other < 0) != (rest < 0)), rest + other, rest)

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        return g, lambda: -g * RoundedDiv.apply(input, other, rounding_mode="floor")

    samples = binary_samples(other=(0.5, 2.0), left_numbers=(3,), numbers=(2, -0.7))


@register
class Fmod(Quotient):
    """``input - other * trunc(input / other)``: it has the sign of ``input``."""

    saves = {"input": (), "other": ("input", "other")}

    def backward_name_for(self, inputs: Any, attributes: Any) -> str:
        return "FmodBackward0" if is_number(inputs[1]) else "FmodBackward1"

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        self.refuse_zero(other)
        return np.fmod(input, other)

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        return g, lambda: -g * RoundedDiv.apply(input, other, rounding_mode="trunc")

    samples = binary_samples(other=(0.5, 2.0), numbers=(2, -0.7))


# -- powers ----------------------------------------------------------------------------------


@register
class Pow(Binary):
    """``input ** exponent``; integers stay integers, and take no negative exponent."""

    accepts = "ifc"
    inplace = True
    static_scalars = True  # x ** 2 is x * x: the exponent decides the code
    saves = {"input": ("input", "exponent"), "exponent": ("input", "exponent", "out")}

    def infer(self, input: Any, exponent: Any) -> Any:
        found = self.describe(input, exponent)
        if is_number(exponent) and found.dtype.category <= dtypes.INTEGER and exponent < 0:
            raise self.error(
                "Integers to negative integer powers are not allowed.",
                f"an integer tensor and the exponent {exponent}",
                "convert the tensor first: x.float() ** exponent",
            )
        return found

    def __call__(self, input: Any, exponent: Any) -> Any:
        return self.apply(input, exponent)

    def backward_name_for(self, inputs: Any, attributes: Any) -> str:
        if is_number(inputs[0]):
            return "PowBackward2"
        return "PowBackward0" if is_number(inputs[1]) else "PowBackward1"

    def reference(self, input: np.ndarray, exponent: np.ndarray) -> np.ndarray:
        if input.dtype.kind in "iu":
            return _integer_power(input, exponent)
        if exponent.ndim == 0:
            return _scalar_power(input, exponent.item())
        return np.power(input, exponent)

    def gradient(self, g: Any, out: Any, input: Any, exponent: Any) -> Any:
        return (
            lambda: self._for_input(g, input, exponent),
            lambda: self._for_exponent(g, out, input, exponent),
        )

    def _for_input(self, g: Any, input: Any, exponent: Any) -> Any:
        if is_number(exponent):
            if exponent == 0:
                return zeros(g)
            return g * conj(exponent * input ** (exponent - 1))
        slope = g * conj(exponent * input ** (exponent - 1))
        return slope.masked_fill(exponent == 0, 0)

    def _for_exponent(self, g: Any, out: Any, input: Any, exponent: Any) -> Any:
        if is_number(input):
            if input != 0:
                scale = np.log(complex(input)) if _needs_complex(input) else np.log(float(input))
                return g * conj(out * scale.item())
            slope = g * conj(out * -float("inf"))
            return slope.masked_fill(_nonnegative(exponent), 0)
        slope = g * conj(out * input.log())
        return slope.masked_fill((input == 0) & _nonnegative(exponent), 0)

    def samples(self) -> Iterator[Sample]:
        positive = binary_samples(
            low=0.1, numbers=(2, 3, 0.5, -1, -0.5, 0, 1.7), left_numbers=(2, 0.5), complexes=True
        )
        yield from positive()
        yield Sample(array(3, 4), 2, dtypes=("float32", "float64"))
        yield Sample(array(3, 4), -2)
        yield Sample(integers(6, low=-3), 3, grad=False)
        yield Sample(np.array([1, -1, 2, 0]), np.array([-1, -3, -1, -2]), grad=False)


def _needs_complex(number: Any) -> bool:
    return isinstance(number, complex)


def _nonnegative(exponent: Any) -> Any:
    return exponent.real >= 0 if exponent.dtype.is_complex else exponent >= 0


def _integer_power(base: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """Powers modulo the dtype's range; negative exponents give the integer part (0, 1 or -1)."""
    if exponent.dtype.kind == "u" or not np.any(exponent < 0):
        return np.power(base, exponent)
    positive = np.power(base, np.maximum(exponent, 0))
    odd = exponent % 2 == 1
    of_minus_one = np.where(odd, -1, 1)
    negative = np.where(base == 1, 1, np.where(base == -1, of_minus_one, 0))
    return np.where(exponent < 0, negative, positive).astype(base.dtype)


def _scalar_power(x: np.ndarray, exponent: Any) -> np.ndarray:
    """The powers that have a cheaper and more exact form."""
    if exponent == 2:
        return x * x
    if exponent == 3:
        return x * x * x
    if exponent == 0.5:
        return np.sqrt(x)
    if exponent == -0.5:
        return 1 / np.sqrt(x)
    if exponent == -1:
        return 1 / x
    if exponent == -2:
        return 1 / (x * x)
    return np.power(x, np.asarray(exponent, x.dtype))


@composite(inplace=True, samples=binary_samples(low=0.1))
def float_power(input: Any, exponent: Any) -> Any:
    """``input ** exponent`` computed in float64, or complex128 where an input is complex."""
    common = dtypes.result_type(input, exponent)
    wide = dtypes.complex128 if common.is_complex else dtypes.float64
    return Pow.apply(_widened(input, wide), _widened(exponent, wide))


def _widened(x: Any, wide: Any) -> Any:
    if is_number(x):
        return complex(x) if wide.is_complex else float(x)
    return x.to(wide)


@composite(inplace=True, samples=unary_samples(complexes=True))
def square(input: Any) -> Any:
    """``input ** 2``."""
    return Pow.apply(input, 2)


# -- signs -----------------------------------------------------------------------------------


@register
class Neg(Unary):
    """``-input``."""

    functions = ("neg", "negative")
    accepts = "ifc"
    inplace = True

    def unsupported(self, found: Any) -> Exception:
        return self.error(
            "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to "
            "invert a mask, use the `~` or `logical_not()` operator instead."
        )

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.negative(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return -g

    samples = unary_samples(complexes=True)


@composite(samples=unary_samples())
def positive(input: Any) -> Any:
    """``input`` itself; RuntimeError for booleans."""
    if input.dtype is dtypes.bool_:
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


@register
class Abs(Unary):
    """The absolute value; the modulus, a real number, of a complex one."""

    functions = ("abs", "absolute")
    accepts = "ifc"
    yields = "real"
    inplace = True
    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.absolute(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * Sgn(input)

    samples = unary_samples(complexes=True, kinks=(0.0, -0.0))


@register
class Sign(Unary):
    """-1, 0 or 1; NaN gives 0, as in PyTorch."""

    inplace = True

    def unsupported(self, found: Any) -> Exception:
        return self.error(
            "Unlike NumPy, torch.sign is not intended to support complex numbers. "
            "Please use torch.sgn instead.",
            kind=NotImplementedError,
        )

    def reference(self, input: np.ndarray) -> np.ndarray:
        return _sign(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return zeros(g)

    samples = unary_samples()


def _sign(x: np.ndarray) -> np.ndarray:
    if x.dtype.kind == "b":
        return x.copy()
    return (x > 0).astype(x.dtype) - (x < 0).astype(x.dtype)


@register
class Sgn(Unary):
    """``sign`` for real inputs, ``input / abs(input)`` (0 at 0) for complex ones."""

    accepts = "bifc"
    inplace = True
    saves = ("input", "out")

    def reference(self, input: np.ndarray) -> np.ndarray:
        if input.dtype.kind != "c":
            return _sign(input)
        size = np.absolute(input)
        return np.where(size == 0, 0, input / np.where(size == 0, 1, size))

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        if not input.dtype.is_complex:
            return zeros(g)
        size = input.abs()
        along = (g.conj() * out).real
        slope = (g - along * out) / size
        return slope.masked_fill(size == 0, 0)

    samples = unary_samples(complexes=True)


@register
class Signbit(Unary):
    """Whether the sign bit is set: true for -0.0, too."""

    yields = "bool"
    differentiable = False

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.signbit(input) if input.dtype.kind == "f" else input < 0

    samples = unary_samples()


@register
class Copysign(Binary):
    """The magnitude of ``input`` with the sign of ``other``."""

    accepts = "f"
    integers = "float"
    inplace = True
    saves = ("input", "out")

    def backward_name_for(self, inputs: Any, attributes: Any) -> str:
        return "CopysignBackward1" if is_number(inputs[1]) else "CopysignBackward0"

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.copysign(input, other)

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        return lambda: (g * (out / input)).masked_fill(input == 0, 0), lambda: zeros(g)

    samples = binary_samples(numbers=(2, -0.5))


@register
class Reciprocal(Unary):
    """``1 / input``."""

    accepts = "fc"
    integers = "float"
    inplace = True
    saves = ("out",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.true_divide(np.ones((), input.dtype), input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return -g * conj(out * out)

    samples = unary_samples(low=0.3, complexes=True)
