"""Arithmetic: sums, products, quotients, remainders, powers, signs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from taimatsu import dtypes
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import FLOATS, Expression
from taimatsu.ir.stages import Stage
from taimatsu.ops.base import Sample, array, composite, integers, register
from taimatsu.ops.elementwise import (
    Binary,
    binary_samples,
    conj,
    is_number,
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

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return input + other

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

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return input - other

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

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return input * other

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

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return input / other

    def element(
        self,
        b: Builder,
        given: Sequence[Any],
        attributes: dict,
        metas: tuple,
        compute: dtypes.dtype,
    ) -> Expression:
        input, other = given
        if metas[0] is not None:
            return self.lower(b, input, other)
        inverse = b.cast(b.constant(1, other.dtype) / other, compute.name)  # as in evaluate
        return b.cast(inverse, other.dtype) * input

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

    def demand(self, b: Builder, stage: Stage, given: Sequence[Any]) -> None:
        divisor = given[1]
        if divisor.dtype not in FLOATS:
            b.check(stage, [divisor.ne(0)], "ZeroDivisionError: integer division by zero")


def _floored_quotient(b: Builder, x: Expression, y: Expression) -> Expression:
    """``x // y``; of floats from the exact remainder, as Python and PyTorch compute it."""
    if x.dtype not in FLOATS:
        return b.floordiv(x, y)
    rest = b.fmod(x, y)
    quotient = (x - rest) / y
    quotient = b.where(rest.ne(0) & ((y < 0) ^ (rest < 0)), quotient - 1, quotient)
    whole = b.floor(quotient)
    whole = b.where(quotient - whole > 0.5, whole + 1, whole)
    exact = x / y
    whole = b.where(quotient.eq(0), b.copysign(b.constant(0, x.dtype), exact), whole)
    return b.where(y.eq(0), exact, whole)


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

    def lower(
        self, b: Builder, input: Expression, other: Expression, *, rounding_mode: str
    ) -> Expression:
        if rounding_mode == "floor":
            return _floored_quotient(b, input, other)
        return b.trunc(input / other) if input.dtype in FLOATS else b.truncdiv(input, other)

    def gradient(self, g: Any, out: Any, input: Any, other: Any, *, rounding_mode: str) -> Any:
        return lambda: zeros(g), lambda: zeros(g)


@register
class FloorDivide(Quotient):
    """``input // other``, rounded down."""

    backward_name = "NotImplemented"

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        self.refuse_zero(other)
        return np.floor_divide(input, other)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return _floored_quotient(b, input, other)

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

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        if input.dtype not in FLOATS:
            return b.modulo(input, other)
        rest = b.fmod(input, other)
        return b.where(rest.ne(0) & ((other < 0) ^ (rest < 0)), rest + other, rest)

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

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        if input.dtype in FLOATS:
            return b.fmod(input, other)
        return input - b.truncdiv(input, other) * other

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        return g, lambda: -g * RoundedDiv.apply(input, other, rounding_mode="trunc")

    samples = binary_samples(other=(0.5, 2.0), numbers=(2, -0.7))
