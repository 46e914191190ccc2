"""Interpolation, and products and quotients that are added."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu import dtypes
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ops.base import Sample, array, register
from taimatsu.ops.elementwise import FLOATS, Elementwise, complex_array, conj, is_number, spread


@register
class Lerp(Elementwise):
    """``input + weight * (end - input)``, exact at both ends; ``weight`` a number or tensor."""

    accepts = "fc"
    wide_numbers = True
    inplace = True
    saves = {"input": ("weight",), "end": ("weight",), "weight": ("input", "end")}

    def infer(self, input: Any, end: Any, weight: Any) -> Any:
        for name, given in (("end", end), ("weight", weight)):
            if not is_number(given) and given.dtype is not input.dtype:
                raise self.error(
                    f"expected dtype {input.dtype.name} for `{name}`",
                    f"dtype {given.dtype.name}",
                    f"convert it: {name}.to(input.dtype)",
                )
        self.compute_dtype(input, end)
        return spread(input.dtype, (input, end, weight))

    def __call__(self, input: Any, end: Any, weight: Any) -> Any:
        return self.apply(input, end, weight)

    def backward_name_for(self, inputs: Any, attributes: Any) -> str:
        return "LerpBackward0" if is_number(inputs[2]) else "LerpBackward1"

    def reference(self, input: np.ndarray, end: np.ndarray, weight: np.ndarray) -> np.ndarray:
        gap = end - input
        near = np.abs(weight) < 0.5
        return np.where(near, input + weight * gap, end - gap * (1 - weight))

    def lower(
        self, b: Builder, input: Expression, end: Expression, weight: Expression
    ) -> Expression:
        gap = end - input
        near = b.abs(weight) < 0.5
        return b.where(near, input + weight * gap, end - gap * (1 - weight))

    def gradient(self, g: Any, out: Any, input: Any, end: Any, weight: Any) -> Any:
        return (
            lambda: g * (1 - conj(weight)),
            lambda: g * conj(weight),
            lambda: g * conj(end - input),
        )

    def samples(self) -> Iterator[Sample]:
        a, b = array(3, 4), array(4, seed=1)
        yield Sample(a, b, 0.3, dtypes=FLOATS)
        yield Sample(a, b, 0.8)
        yield Sample(a, b, array(3, 1, low=0, high=1, seed=2))
        yield Sample(complex_array(3), complex_array(3, seed=1), 0.3)


class MultiplyAdd(Elementwise, abstract=True):
    """``input`` plus a product or quotient, scaled by the number ``value``."""

    wide_numbers = True
    inplace = True
    saves = {
        "input": (),
        "tensor1": ("tensor2", "value"),
        "tensor2": ("tensor1", "tensor2", "value"),
        "value": (),
    }

    def infer(self, input: Any, tensor1: Any, tensor2: Any, value: Any) -> Any:
        return self.describe(input, tensor1, tensor2)

    def __call__(self, input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Any:
        return self.apply(input, tensor1, tensor2, value)

    def samples(self) -> Iterator[Sample]:
        a = array(3, 4)
        b, c = array(4, seed=1), array(3, 1, low=0.5, seed=2)
        yield Sample(a, b, c, dtypes=FLOATS)
        yield Sample(a, b, c, value=0.5)
        yield Sample(array(), a, c, value=-2)
        yield Sample(complex_array(3), complex_array(3, seed=1), complex_array(3, seed=2))


@register
class Addcmul(MultiplyAdd):
    """``input + value * tensor1 * tensor2``."""

    accepts = "ifc"

    def reference(
        self, input: np.ndarray, tensor1: np.ndarray, tensor2: np.ndarray, value: np.ndarray
    ) -> np.ndarray:
        return input + value * tensor1 * tensor2

    def lower(
        self,
        b: Builder,
        input: Expression,
        tensor1: Expression,
        tensor2: Expression,
        value: Expression,
    ) -> Expression:
        return input + value * tensor1 * tensor2

    def gradient(self, g: Any, out: Any, input: Any, tensor1: Any, tensor2: Any, value: Any) -> Any:
        return (
            g,
            lambda: g * conj(tensor2 * value),
            lambda: g * conj(tensor1 * value),
            None,
        )


@register
class Addcdiv(MultiplyAdd):
    """``input + value * tensor1 / tensor2``; no integers."""

    accepts = "fc"

    def infer(self, input: Any, tensor1: Any, tensor2: Any, value: Any) -> Any:
        if dtypes.result_type(tensor1, tensor2).category <= dtypes.INTEGER:
            raise self.error(
                "Integer division with addcdiv is no longer supported",
                f"{tensor1.dtype.name} and {tensor2.dtype.name}",
                "write input + value * torch.trunc(tensor1 / tensor2), or convert to float first",
            )
        return self.describe(input, tensor1, tensor2)

    def reference(
        self, input: np.ndarray, tensor1: np.ndarray, tensor2: np.ndarray, value: np.ndarray
    ) -> np.ndarray:
        return input + value * tensor1 / tensor2

    def lower(
        self,
        b: Builder,
        input: Expression,
        tensor1: Expression,
        tensor2: Expression,
        value: Expression,
    ) -> Expression:
        return input + value * tensor1 / tensor2

    def gradient(self, g: Any, out: Any, input: Any, tensor1: Any, tensor2: Any, value: Any) -> Any:
        return (
            g,
            lambda: g * conj(value / tensor2),
            lambda: -g * conj(value * tensor1 / (tensor2 * tensor2)),
            None,
        )
