"""Rounding to whole numbers and decimals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import FLOATS, Expression
from taimatsu.ops.base import Sample, array, integers, register
from taimatsu.ops.elementwise import SPECIAL, Unary, unary_samples, zeros


class Rounding(Unary, abstract=True):
    """A step function: integers stay as they are, the gradient is zero."""

    accepts = "if"
    inplace = True

    def evaluate(self, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> tuple:
        if outs[0].dtype.is_floating_point:
            return super().evaluate(inputs, attributes, metas, outs)
        return (self.whole(inputs[0], **attributes),)

    def whole(self, input: np.ndarray, **attributes: Any) -> np.ndarray:
        """The result for integers."""
        return input.copy()

    def gradient(self, g: Any, out: Any, input: Any, **attributes: Any) -> Any:
        return zeros(g)

    samples = unary_samples(kinks=(0.5, 1.5, -0.5, -2.5))


@register
class Floor(Rounding):
    """The largest whole number not above."""

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.floor(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.floor(input) if input.dtype in FLOATS else input


@register
class Ceil(Rounding):
    """The smallest whole number not below."""

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.ceil(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.ceil(input) if input.dtype in FLOATS else input


@register
class Trunc(Rounding):
    """The whole number next toward zero."""

    functions = ("trunc", "fix")

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.trunc(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.trunc(input) if input.dtype in FLOATS else input


@register
class Round(Rounding):
    """The nearest whole number, the even one of two; to ``decimals`` places where given."""

    functions = ("round", "special.round")

    def __call__(self, input: Any, *, decimals: int = 0) -> Any:
        if decimals == 0:
            return self.apply(input)
        if not input.dtype.is_floating_point:
            raise self.error(
                f"\"round_cpu\" not implemented for '{input.dtype.scalar_type}'",
                f"decimals={decimals}",
                "expected a floating point tensor: x.to(torch.float32).round(decimals=...)",
                NotImplementedError,
            )
        return self.apply(input, decimals=int(decimals))

    def backward_name_for(self, inputs: Any, attributes: Any) -> str:
        return "RoundBackward1" if attributes else "RoundBackward0"

    def reference(self, input: np.ndarray, *, decimals: int = 0) -> np.ndarray:
        if decimals == 0:
            return np.rint(input)
        scale = np.asarray(10.0 ** abs(decimals), input.dtype)
        if decimals > 0:
            return np.rint(input * scale) / scale
        return np.rint(input / scale) * scale

    def lower(self, b: Builder, input: Expression, *, decimals: int = 0) -> Expression:
        if input.dtype not in FLOATS:
            return input
        if decimals == 0:
            return b.round_half_even(input)
        scale = b.constant(10.0 ** abs(decimals), input.dtype)
        if decimals > 0:
            return b.round_half_even(input * scale) / scale
        return b.round_half_even(input / scale) * scale

    def samples(self) -> Iterator[Sample]:
        yield Sample(array(3, 4, low=-9, high=9), dtypes=("float32", "float64"))
        yield Sample(np.array([0.5, 1.5, 2.5, -0.5, -1.5]), grad=False)
        yield Sample(array(3, 4, low=-99, high=99), decimals=1)
        yield Sample(array(3, 4, low=-99, high=99), decimals=-1)
        yield Sample(integers(4))
        yield Sample(SPECIAL, grad=False)


@register
class Frac(Unary):
    """The fractional part, with the sign of the input."""

    accepts = "f"
    inplace = True

    def reference(self, input: np.ndarray) -> np.ndarray:
        return input - np.trunc(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return input - b.trunc(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g

    samples = unary_samples(whole=False)
