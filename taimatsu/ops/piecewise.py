"""Piecewise linear activation functions, and gates of halves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index
from taimatsu.ir.meta import meta
from taimatsu.ir.stages import Stage, View
from taimatsu.ops.activations import Activation, in_place_form
from taimatsu.ops.base import REGISTRY, Operation, Sample, array, composite, register
from taimatsu.ops.coordinates import replaced, wide
from taimatsu.ops.elementwise import FLOATS, unary_samples
from taimatsu.shapes import normalize_axis

# -- piecewise linear ------------------------------------------------------------------------


@register
class Hardtanh(Activation):
    """``input`` between ``min_val`` and ``max_val``."""

    functions = ("nn.functional.hardtanh",)
    accepts = "if"

    def unsupported(self, found: Any) -> Exception:
        if found.is_complex:
            return self.error("clamp is not supported for complex types", kind=NotImplementedError)
        return self.error("Bool inputs not supported for hardtanh")

    def __call__(
        self, input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
    ) -> Any:
        if min_val > max_val:
            raise self.error(
                "min_val cannot be greater than max_val", f"{min_val} > {max_val}", kind=ValueError
            )
        if min_val < 0 and not input.dtype.is_signed and input.dtype.category == 1:
            raise self.error("cannot do hardtanh on an unsigned type with negative limits")
        return self.run(input, inplace, min_val=min_val, max_val=max_val)

    def reference(self, input: np.ndarray, *, min_val: float, max_val: float) -> np.ndarray:
        kind = input.dtype.type
        return np.minimum(np.maximum(input, kind(min_val)), kind(max_val))

    def lower(self, b: Builder, input: Expression, *, min_val: float, max_val: float) -> Expression:
        return b.min(b.max(input, min_val), max_val)

    def gradient(self, g: Any, out: Any, input: Any, *, min_val: float, max_val: float) -> Any:
        return g.masked_fill((input <= min_val) | (input >= max_val), 0)

    samples = unary_samples(kinks=(-1.0, 1.0), min_val=-1.0, max_val=1.0)


in_place_form("hardtanh", Hardtanh, "nn.functional.hardtanh_")


@composite("nn.functional.relu6", samples=unary_samples(low=-3, high=9))
def relu6(input: Any, inplace: bool = False) -> Any:
    """``input`` between 0 and 6."""
    return Hardtanh(input, 0, 6, inplace)


@register
class Hardsigmoid(Activation):
    """``input / 6 + 1/2`` between 0 and 1 (Howard et al., "Searching for MobileNetV3", 2019)."""

    functions = ("nn.functional.hardsigmoid",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        kind = input.dtype.type
        return np.minimum(np.maximum(input + kind(3), kind(0)), kind(6)) / kind(6)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.min(b.max(input + 3, 0), 6) / 6

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return (g / 6).masked_fill((input <= -3) | (input >= 3), 0)

    samples = unary_samples(low=-5, high=5, whole=False, kinks=(-3.0, 3.0))


@register
class Hardswish(Activation):
    """``input * hardsigmoid(input)``."""

    functions = ("nn.functional.hardswish",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        kind = input.dtype.type
        return input * np.minimum(np.maximum(input + kind(3), kind(0)), kind(6)) / kind(6)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return input * b.min(b.max(input + 3, 0), 6) / 6

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        inner = (g * (input / 3 + 0.5)).where(input < 3, g)
        return inner.masked_fill(input <= -3, 0)

    samples = unary_samples(low=-5, high=5, whole=False, kinks=(-3.0, 3.0))


@register
class Hardshrink(Activation):
    """0 between ``-lambd`` and ``lambd``, else ``input``."""

    functions = ("hardshrink", "nn.functional.hardshrink")

    def __call__(self, input: Any, lambd: float = 0.5) -> Any:
        return self.apply(input, lambd=float(lambd))

    def reference(self, input: np.ndarray, *, lambd: float) -> np.ndarray:
        limit = input.dtype.type(lambd)
        inside = (input >= -limit) & (input <= limit)
        return np.where(inside, input.dtype.type(0), input)

    def lower(self, b: Builder, input: Expression, *, lambd: float) -> Expression:
        return b.where((input >= -lambd) & (input <= lambd), 0, input)

    def gradient(self, g: Any, out: Any, input: Any, *, lambd: float) -> Any:
        return g.masked_fill((input >= -lambd) & (input <= lambd), 0)

    samples = unary_samples(whole=False, kinks=(0.5, -0.5), lambd=0.5)


@register
class Softshrink(Activation):
    """``input`` moved toward 0 by ``lambd``, 0 where it would cross."""

    functions = ("nn.functional.softshrink",)

    def __call__(self, input: Any, lambd: float = 0.5) -> Any:
        if lambd < 0:
            raise self.error(
                f"lambda must be greater or equal to 0, but found to be {lambd}.", kind=RuntimeError
            )
        return self.apply(input, lambd=float(lambd))

    def reference(self, input: np.ndarray, *, lambd: float) -> np.ndarray:
        limit = input.dtype.type(lambd)
        outside = np.where(input > limit, input - limit, input + limit)
        inside = (input >= -limit) & (input <= limit)
        return np.where(inside, input.dtype.type(0), outside)

    def lower(self, b: Builder, input: Expression, *, lambd: float) -> Expression:
        outside = b.where(input > lambd, input - lambd, input + lambd)
        return b.where((input >= -lambd) & (input <= lambd), 0, outside)

    def gradient(self, g: Any, out: Any, input: Any, *, lambd: float) -> Any:
        return g.masked_fill((input >= -lambd) & (input <= lambd), 0)

    samples = unary_samples(whole=False, kinks=(0.5, -0.5), lambd=0.5)


# -- gated -----------------------------------------------------------------------------------


@register
class Glu(Operation):
    """The first half along ``dim`` times the sigmoid of the second (Dauphin et al., 2016)."""

    functions = ("nn.functional.glu",)
    saves = ("input",)

    def __call__(self, input: Any, dim: int = -1) -> Any:
        if input.ndim == 0:
            raise self.error("glu does not support 0-dimensional tensors")
        return self.apply(input, dim=normalize_axis(dim, input.ndim))

    def infer(self, input: Any, *, dim: int) -> Any:
        if not input.dtype.is_floating_point:
            raise self.error(
                f"\"glu_cpu\" not implemented for '{input.dtype.scalar_type}'",
                hint="expected a floating point dtype",
                kind=NotImplementedError,
            )
        extent = input.shape[dim]
        if extent % 2:
            raise self.error(
                f"Halving dimension must be even, but dimension {dim} is size {extent}"
            )
        shape = list(input.shape)
        shape[dim] = extent // 2
        return meta(shape, input.dtype)

    def evaluate(self, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> tuple:
        dtype = outs[0].dtype
        wide = np.asarray(inputs[0]).astype(np.float32 if dtype.itemsize == 2 else dtype.numpy)
        value, gate = np.split(wide, 2, attributes["dim"])
        with np.errstate(all="ignore"):
            return ((value / (1 + np.exp(-gate))).astype(dtype.numpy),)

    def lower(self, b: Builder, input: View, *, dim: int) -> Stage:
        half = input.shape[dim] // 2
        kind = wide(input.dtype)

        def element(*i: Index) -> Expression:
            value = b.cast(input[i], kind)
            gate = b.cast(input[replaced(i, dim, i[dim] + half)], kind)
            return b.cast(value / (1 + b.exp(-gate)), input.dtype)

        return b.map(replaced(input.shape, dim, half), input.dtype, element)

    def gradient(self, g: Any, out: Any, input: Any, *, dim: int) -> Any:
        value, gate = input.chunk(2, dim)
        open_ = gate.sigmoid()
        slope = g * open_
        return REGISTRY["cat"]([slope, slope * (1 - open_) * value], dim)

    def samples(self) -> Iterator[Sample]:
        yield Sample(array(3, 4), dtypes=FLOATS)
        yield Sample(array(4, 3), 0)
        yield Sample(array(2, 6, 3), dim=1)
