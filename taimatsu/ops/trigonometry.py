"""Trigonometric and hyperbolic functions and their inverses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ops.base import register
from taimatsu.ops.elementwise import Binary, FloatUnary, binary_samples, conj, unary_samples
from taimatsu.ops.maths import Analytic

# -- trigonometric ---------------------------------------------------------------------------


@register
class Sin(Analytic):
    """The sine of an angle in radians."""

    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.sin(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.sin(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * conj(input.cos())

    samples = unary_samples(complexes=True)


@register
class Cos(Analytic):
    """The cosine of an angle in radians."""

    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.cos(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.cos(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * conj(-input.sin())

    samples = unary_samples(complexes=True)


@register
class Tan(Analytic):
    """The tangent of an angle in radians."""

    saves = ("out",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.tan(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.tan(input)

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

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.asin(input)

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

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.acos(input)

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

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.atan(input)

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

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return b.atan2(input, other)

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

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return b.hypot(input, other)

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

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.sinh(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * conj(input.cosh())

    samples = unary_samples(complexes=True)


@register
class Cosh(Analytic):
    """The hyperbolic cosine."""

    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.cosh(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.cosh(input)

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

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.tanh(input)

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

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.asinh(input)

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

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.acosh(input)

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

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.atanh(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g / conj(1 - input * input)

    samples = unary_samples(low=-0.9, high=0.9, complexes=True)


# -- angles ----------------------------------------------------------------------------------


@register
class Deg2rad(FloatUnary):
    """Degrees to radians."""

    backward_name = "Deg2RadBackward0"

    def reference(self, input: np.ndarray) -> np.ndarray:
        return input * np.asarray(math.pi / 180, input.dtype)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return input * (math.pi / 180)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * (math.pi / 180)

    samples = unary_samples(low=-180, high=180)


@register
class Rad2deg(FloatUnary):
    """Radians to degrees."""

    backward_name = "Rad2DegBackward0"

    def reference(self, input: np.ndarray) -> np.ndarray:
        return input * np.asarray(180 / math.pi, input.dtype)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return input * (180 / math.pi)

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

    def lower(self, b: Builder, input: Expression) -> Expression:
        angle = input * math.pi
        return b.where(input.eq(0), 1, b.sin(angle) / angle)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        angle = input * math.pi
        slope = g * conj((angle * angle.cos() - angle.sin()) / (angle * input))
        return slope.masked_fill(input == 0, 0)

    samples = unary_samples(complexes=True, kinks=(0.0,))
