"""Powers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu import dtypes
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import FLOATS, Expression
from taimatsu.ops.base import Sample, array, composite, integers, register
from taimatsu.ops.elementwise import (
    Binary,
    binary_samples,
    conj,
    is_number,
    unary_samples,
    zeros,
)


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

    def lower(self, b: Builder, input: Expression, exponent: Expression) -> Expression:
        if exponent.op == "constant":
            return _constant_power(b, input, exponent.detail)
        return b.pow(input, exponent)

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


def _constant_power(b: Builder, x: Expression, exponent: Any) -> Expression:
    """As ``_scalar_power``."""
    if exponent == 0:
        return b.constant(1, x.dtype)
    if exponent == 1:
        return x
    if exponent == 2:
        return x * x
    if exponent == 3:
        return x * x * x
    if x.dtype not in FLOATS:
        return b.pow(x, b.constant(exponent, x.dtype))
    if exponent == 0.5:
        return b.sqrt(x)
    if exponent == -0.5:
        return b.constant(1, x.dtype) / b.sqrt(x)
    if exponent == -1:
        return b.constant(1, x.dtype) / x
    if exponent == -2:
        return b.constant(1, x.dtype) / (x * x)
    return b.pow(x, b.constant(exponent, x.dtype))


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
