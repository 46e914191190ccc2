"""Roots, exponentials, logarithms, the logistic function, and the parts of a float."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from taimatsu import dtypes, return_types
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import SIZES, Expression
from taimatsu.ir.index import Index, Var
from taimatsu.ir.meta import Meta
from taimatsu.ir.stages import Stage, View
from taimatsu.ops.base import Operation, Sample, array, register
from taimatsu.ops.coordinates import wide
from taimatsu.ops.elementwise import (
    Binary,
    FloatUnary,
    binary_samples,
    conj,
    is_number,
    spread,
    unary_samples,
    zeros,
)


class Analytic(FloatUnary, abstract=True):
    """A function of a real or complex number."""

    accepts = "fc"


# -- roots -----------------------------------------------------------------------------------


@register
class Sqrt(Analytic):
    """The square root; NaN for negative real numbers."""

    saves = ("out",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.sqrt(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.sqrt(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g / (2 * conj(out))

    samples = unary_samples(low=0.1, complexes=True)


@register
class Rsqrt(Analytic):
    """``1 / sqrt(input)``."""

    saves = ("out",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.true_divide(np.ones((), input.dtype), np.sqrt(input))

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.rsqrt(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return -0.5 * g * conj(out * out * out)

    samples = unary_samples(low=0.1, complexes=True)


# -- exponentials and logarithms -------------------------------------------------------------


@register
class Exp(Analytic):
    """``e ** input``."""

    saves = ("out",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.exp(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.exp(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * conj(out)

    samples = unary_samples(complexes=True)


@register
class Exp2(Analytic):
    """``2 ** input``."""

    functions = ("exp2", "special.exp2")
    saves = ("out",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.exp2(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.exp2(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * conj(out) * math.log(2)

    samples = unary_samples(complexes=True)


@register
class Expm1(Analytic):
    """``exp(input) - 1``, accurate near 0."""

    functions = ("expm1", "special.expm1")
    saves = ("out",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.expm1(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.expm1(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * conj(out + 1)

    samples = unary_samples(complexes=True)


@register
class Log(Analytic):
    """The natural logarithm."""

    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.log(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.log(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g / conj(input)

    samples = unary_samples(low=0.1, complexes=True)


@register
class Log2(Analytic):
    """The logarithm to base 2."""

    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.log2(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.log2(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g / (conj(input) * math.log(2))

    samples = unary_samples(low=0.1, complexes=True)


@register
class Log10(Analytic):
    """The logarithm to base 10."""

    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.log10(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.log10(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g / (conj(input) * math.log(10))

    samples = unary_samples(low=0.1, complexes=True)


@register
class Log1p(Analytic):
    """``log(1 + input)``, accurate near 0."""

    functions = ("log1p", "special.log1p")
    backward_name = "Log1PBackward0"
    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.log1p(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.log1p(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g / conj(input + 1)

    samples = unary_samples(low=-0.9, complexes=True)


def _log_of_sum(
    b: Builder, x: Expression, y: Expression, rest: Expression, double: float
) -> Expression:
    """The larger one plus ``rest``; equal ones, infinities among them, plus log 2 (``double``)."""
    return b.where(x.eq(y), x + double, b.max(x, y) + rest)


@register
class Logaddexp(Binary):
    """``log(exp(input) + exp(other))`` without overflow."""

    accepts = "fc"
    saves = ("input", "other")

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        if input.dtype.kind != "c":
            return np.logaddexp(input, other)
        first = input.real >= other.real
        high = np.where(first, input, other)
        low = np.where(first, other, input)
        return high + np.log1p(np.exp(low - high))

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        rest = b.log1p(b.exp(-b.abs(input - other)))
        return _log_of_sum(b, input, other, rest, math.log(2))

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        return (
            lambda: g / conj(1 + (other - input).exp()),
            lambda: g / conj(1 + (input - other).exp()),
        )

    samples = binary_samples(numbers=(), whole=False, complexes=True)


@register
class Logaddexp2(Binary):
    """``log2(2 ** input + 2 ** other)`` without overflow."""

    accepts = "f"
    saves = ("input", "other")

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.logaddexp2(input, other)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        rest = b.log1p(b.exp2(-b.abs(input - other))) * (1 / math.log(2))
        return _log_of_sum(b, input, other, rest, 1.0)

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        return (
            lambda: g / (1 + (other - input).exp2()),
            lambda: g / (1 + (input - other).exp2()),
        )

    samples = binary_samples(numbers=(), whole=False)


@register
class Xlogy(Binary):
    """``input * log(other)``; 0 where ``input`` is 0 and ``other`` not NaN."""

    functions = ("xlogy", "special.xlogy")
    accepts = "f"
    integers = "float"
    inplace = True
    saves = {"input": ("input", "other"), "other": ("input", "other")}

    def backward_name_for(self, inputs: Any, attributes: Any) -> str:
        if is_number(inputs[0]):
            return "XlogyBackward1"
        return "XlogyBackward2" if is_number(inputs[1]) else "XlogyBackward0"

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        product = input * np.log(other)
        return np.where(np.isnan(other), other, np.where(input == 0, 0, product))

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        product = b.where(input.eq(0), 0, input * b.log(other))
        return b.where(b.isnan(other), other, product)

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        return lambda: self._for_input(g, input, other), lambda: g * input / other

    def _for_input(self, g: Any, input: Any, other: Any) -> Any:
        logarithm = math.log(other) if is_number(other) and other > 0 else None
        if logarithm is None:
            logarithm = other.log() if not is_number(other) else _log_number(other)
        flat = (input == 0) & (other <= 0)
        return (g * logarithm).masked_fill(flat, 0)

    samples = binary_samples(other=(0.2, 2.0), numbers=(2, 0.5), left_numbers=(2, 0.5))


def _log_number(number: float) -> float:
    return -math.inf if number == 0 else math.nan


# -- logistic --------------------------------------------------------------------------------


@register
class Sigmoid(Analytic):
    """``1 / (1 + exp(-input))``."""

    functions = ("sigmoid", "special.expit", "nn.functional.sigmoid")
    saves = ("out",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        one = np.ones((), input.dtype)
        return one / (one + np.exp(-input))

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.sigmoid(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * conj((1 - out) * out)

    samples = unary_samples(complexes=True)


@register
class Logit(FloatUnary):
    """``log(x / (1 - x))``; with ``eps``, x is clamped to [eps, 1 - eps] first."""

    functions = ("logit", "special.logit")
    saves = ("input",)

    def __call__(self, input: Any, eps: float | None = None) -> Any:
        return self.apply(input, eps=None if eps is None else float(eps))

    def reference(self, input: np.ndarray, *, eps: float | None) -> np.ndarray:
        if eps is not None:
            low = np.asarray(eps, input.dtype)
            high = 1 - low
            input = np.where(input < low, low, np.where(input > high, high, input))
        return np.log(input / (1 - input))

    def lower(self, b: Builder, input: Expression, *, eps: float | None) -> Expression:
        if eps is not None:
            low = b.constant(eps, input.dtype)
            high = 1 - low
            input = b.where(input < low, low, b.where(input > high, high, input))
        return b.log(input / (1 - input))

    def gradient(self, g: Any, out: Any, input: Any, *, eps: float | None) -> Any:
        slope = g / (input * (1 - input))
        if eps is None:
            return slope.masked_fill((input < 0) | (input > 1), math.nan)
        return slope.masked_fill((input < eps) | (input > 1 - eps), 0)

    samples = unary_samples(low=0.1, high=0.9, eps=0.05)


# -- the numbers themselves ------------------------------------------------------------------


@register
class Ldexp(Binary):
    """``input * 2 ** other``."""

    accepts = "fc"
    integers = "float"
    inplace = True
    saves = {"input": ("other",), "other": ("out",)}

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return input * np.power(np.asarray(2, input.dtype), other)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return input * b.exp2(other)

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        return lambda: g * conj(2**other), lambda: g * conj(out) * math.log(2)

    samples = binary_samples(numbers=())


def _parts(b: Builder, x: Expression) -> tuple[Expression, Expression]:
    """Mantissa and exponent by the bits; 0, infinities and nan are their own mantissas."""
    kind = f"int{8 * SIZES[x.dtype]}"
    digits, bias, top = (23, 126, 0xFF) if x.dtype == "float32" else (52, 1022, 0x7FF)
    tiny = b.abs(x) < 2.0 ** (1 - bias)  # subnormal: moved into the normal numbers
    scaled = b.where(tiny, x * 2.0 ** (digits + 2), x)
    bits = b.bitcast(scaled, kind)
    field = b.shr(bits, digits) & top
    exponent = field - b.where(tiny, b.constant(bias + digits + 2, kind), bias)
    mantissa = b.bitcast((bits & ~(top << digits)) | (bias << digits), x.dtype)
    ordinary = (b.abs(x) < math.inf) & x.ne(0)
    return b.where(ordinary, mantissa, x), b.where(ordinary, exponent, 0)


@register
class Frexp(Operation):
    """Mantissa in [0.5, 1) and exponent (int32) with ``input = mantissa * 2 ** exponent``."""

    outputs = 2
    saves = ("out",)

    def __call__(self, input: Any) -> Any:
        return return_types.frexp(self.apply(input))

    def infer(self, input: Any) -> tuple[Meta, Meta]:
        if not input.dtype.is_floating_point:
            raise self.error("torch.frexp() only supports floating-point dtypes", input.dtype.name)
        return spread(input.dtype, [input]), spread(dtypes.int32, [input])

    def evaluate(self, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> tuple:
        kind = outs[0].dtype.numpy
        with np.errstate(all="ignore"):
            mantissa, exponent = np.frexp(np.asarray(inputs[0], np.promote_types(kind, np.float32)))
        return np.asarray(mantissa, kind), np.asarray(exponent, np.int32)

    def lower(self, b: Builder, input: View) -> tuple[Stage, Stage]:
        kind = wide(input.dtype)

        def mantissa(*i: Index) -> Expression:
            return b.cast(_parts(b, b.cast(input[i], kind))[0], input.dtype)

        def exponent(*i: Index) -> Expression:
            return b.cast(_parts(b, b.cast(input[i], kind))[1], "int32")

        shape = input.shape
        return b.map(shape, input.dtype, mantissa), b.map(shape, "int32", exponent)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g[0] / 2.0 ** out[1].to(g[0].dtype)

    def samples(self) -> Iterator[Sample]:
        yield Sample(array(3, 4), dtypes=("float32", "float64"))
        yield Sample(np.array([0.0, 1.0, -3.0, 1e30]), grad=False)


@register
class Nextafter(Binary):
    """The next floating point number after ``input`` toward ``other``."""

    accepts = "f"
    inplace = True
    saves = {"input": ("input", "other"), "other": ()}

    def operand(self, x: Any, compute: Any) -> Any:
        return np.asarray(x).astype(compute.numpy)  # neighbours in the dtype itself

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.nextafter(input, other)

    def operand_at(
        self, b: Builder, x: Any, axes: Sequence[Var], compute: dtypes.dtype
    ) -> Expression:
        found = super().operand_at(b, x, axes, compute)
        assert found is not None
        return b.cast(found, compute.name)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        kind = input.dtype
        whole = f"int{8 * SIZES[kind]}"
        x, y = b.cast(input, wide(kind)), b.cast(other, wide(kind))
        bits = b.bitcast(input, whole)
        outwards = (x < y).eq(x > 0)
        moved = bits + b.where(outwards, b.constant(1, whole), -1)
        sign = b.bitcast(other, whole) & -(2 ** (8 * SIZES[kind] - 1))
        moved = b.where(x.eq(0), sign | 1, moved)  # the least number on the other's side
        found = b.where(x.eq(y), other, b.bitcast(moved, kind))
        return b.where(b.isnan(x), input, b.where(b.isnan(y), other, found))

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        return lambda: g.masked_fill(input == other, 0), lambda: zeros(g)

    samples = binary_samples(numbers=(), whole=False, grad=False)
