"""Exponentials, logarithms, roots, trigonometric and hyperbolic functions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from taimatsu.ops.base import register
from taimatsu.ops.elementwise import (
    Binary,
    FloatUnary,
    binary_samples,
    conj,
    is_number,
    unary_samples,
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

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g / (2 * conj(out))

    samples = unary_samples(low=0.1, complexes=True)


@register
class Rsqrt(Analytic):
    """``1 / sqrt(input)``."""

    saves = ("out",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.true_divide(np.ones((), input.dtype), np.sqrt(input))

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

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * conj(out + 1)

    samples = unary_samples(complexes=True)


@register
class Log(Analytic):
    """The natural logarithm."""

    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.log(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g / conj(input)

    samples = unary_samples(low=0.1, complexes=True)


@register
class Log2(Analytic):
    """The logarithm to base 2."""

    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.log2(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g / (conj(input) * math.log(2))

    samples = unary_samples(low=0.1, complexes=True)


@register
class Log10(Analytic):
    """The logarithm to base 10."""

    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.log10(input)

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

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g / conj(input + 1)

    samples = unary_samples(low=-0.9, complexes=True)


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


# -- trigonometric ---------------------------------------------------------------------------


@register
class Sin(Analytic):
    """The sine of an angle in radians."""

    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.sin(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * conj(input.cos())

    samples = unary_samples(complexes=True)


@register
class Cos(Analytic):
    """The cosine of an angle in radians."""

    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.cos(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * conj(-input.sin())

    samples = unary_samples(complexes=True)


@register
class Tan(Analytic):
    """The tangent of an angle in radians."""

    saves = ("out",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.tan(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * conj(1 + out * out)

    samples = unary_samples(low=-1.4, high=1.4, complexes=True)


@register
class Asin(Analytic):
    """The arc sine."""

    functions = ("asin", "arcsin")
    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.arcsin(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * conj((1 - input * input).rsqrt())

    samples = unary_samples(low=-0.9, high=0.9, complexes=True)


@register
class Acos(Analytic):
    """The arc cosine."""

    functions = ("acos", "arccos")
    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.arccos(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return -g * conj((1 - input * input).rsqrt())

    samples = unary_samples(low=-0.9, high=0.9, complexes=True)


@register
class Atan(Analytic):
    """The arc tangent."""

    functions = ("atan", "arctan")
    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.arctan(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g / conj(input * input + 1)

    samples = unary_samples(complexes=True)


@register
class Atan2(Binary):
    """The angle of the point (``other``, ``input``), between -pi and pi."""

    functions = ("atan2", "arctan2")
    accepts = "f"
    integers = "float"
    inplace = True
    saves = ("input", "other")

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.arctan2(input, other)

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        def scaled() -> Any:
            inverse = (input * input + other * other).reciprocal()
            return g * inverse.masked_fill((input == 0) & (other == 0), 0)

        return lambda: scaled() * other, lambda: scaled() * -input

    samples = binary_samples(numbers=())


@register
class Hypot(Binary):
    """``sqrt(input ** 2 + other ** 2)`` without overflow."""

    accepts = "f"
    inplace = True
    saves = ("input", "other", "out")

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.hypot(input, other)

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        return lambda: g * (input / out), lambda: g * (other / out)

    samples = binary_samples(numbers=(), whole=False)


# -- hyperbolic ------------------------------------------------------------------------------


@register
class Sinh(Analytic):
    """The hyperbolic sine."""

    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.sinh(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * conj(input.cosh())

    samples = unary_samples(complexes=True)


@register
class Cosh(Analytic):
    """The hyperbolic cosine."""

    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.cosh(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * conj(input.sinh())

    samples = unary_samples(complexes=True)


@register
class Tanh(Analytic):
    """The hyperbolic tangent."""

    functions = ("tanh", "nn.functional.tanh")
    saves = ("out",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.tanh(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * conj(1 - out * out)

    samples = unary_samples(complexes=True)


@register
class Asinh(Analytic):
    """The inverse hyperbolic sine."""

    functions = ("asinh", "arcsinh")
    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.arcsinh(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * conj((input * input + 1).rsqrt())

    samples = unary_samples(complexes=True)


@register
class Acosh(Analytic):
    """The inverse hyperbolic cosine, for numbers from 1 on."""

    functions = ("acosh", "arccosh")
    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.arccosh(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * conj((input - 1).rsqrt() * (input + 1).rsqrt())

    samples = unary_samples(low=1.1, high=4.0, complexes=True)


@register
class Atanh(Analytic):
    """The inverse hyperbolic tangent, between -1 and 1."""

    functions = ("atanh", "arctanh")
    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.arctanh(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g / conj(1 - input * input)

    samples = unary_samples(low=-0.9, high=0.9, complexes=True)


# -- logistic --------------------------------------------------------------------------------


@register
class Sigmoid(Analytic):
    """``1 / (1 + exp(-input))``."""

    functions = ("sigmoid", "special.expit", "nn.functional.sigmoid")
    saves = ("out",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        one = np.ones((), input.dtype)
        return one / (one + np.exp(-input))

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

    def gradient(self, g: Any, out: Any, input: Any, *, eps: float | None) -> Any:
        slope = g / (input * (1 - input))
        if eps is None:
            return slope.masked_fill((input < 0) | (input > 1), math.nan)
        return slope.masked_fill((input < eps) | (input > 1 - eps), 0)

    samples = unary_samples(low=0.1, high=0.9, eps=0.05)


# -- angles ----------------------------------------------------------------------------------


@register
class Deg2rad(FloatUnary):
    """Degrees to radians."""

    backward_name = "Deg2RadBackward0"

    def reference(self, input: np.ndarray) -> np.ndarray:
        return input * np.asarray(math.pi / 180, input.dtype)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * (math.pi / 180)

    samples = unary_samples(low=-180, high=180)


@register
class Rad2deg(FloatUnary):
    """Radians to degrees."""

    backward_name = "Rad2DegBackward0"

    def reference(self, input: np.ndarray) -> np.ndarray:
        return input * np.asarray(180 / math.pi, input.dtype)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * (180 / math.pi)

    samples = unary_samples()


@register
class Sinc(Analytic):
    """``sin(pi x) / (pi x)``, 1 at 0."""

    functions = ("sinc", "special.sinc")
    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        angle = input * np.asarray(math.pi, input.dtype)
        return np.where(input == 0, 1, np.sin(angle) / angle)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        angle = input * math.pi
        slope = g * conj((angle * angle.cos() - angle.sin()) / (angle * input))
        return slope.masked_fill(input == 0, 0)

    samples = unary_samples(complexes=True, kinks=(0.0,))


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

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        return lambda: g * conj(2**other), lambda: g * conj(out) * math.log(2)

    samples = binary_samples(numbers=())


@register
class Nextafter(Binary):
    """The next floating point number after ``input`` toward ``other``."""

    accepts = "f"
    inplace = True
    differentiable = False

    def operand(self, x: Any, compute: Any) -> Any:
        return np.asarray(x).astype(compute.numpy)  # neighbours in the dtype itself

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.nextafter(input, other)

    samples = binary_samples(numbers=(), whole=False, grad=False)
