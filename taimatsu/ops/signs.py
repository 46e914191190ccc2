"""Signs, absolute values and reciprocals."""

from __future__ import annotations

from typing import Any

import numpy as np

from taimatsu import dtypes
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import FLOATS, Expression
from taimatsu.ops.base import composite, register
from taimatsu.ops.elementwise import (
    Binary,
    Unary,
    binary_samples,
    conj,
    is_number,
    unary_samples,
    zeros,
)


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

    def lower(self, b: Builder, input: Expression) -> Expression:
        return -input

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

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.abs(input)

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

    def lower(self, b: Builder, input: Expression) -> Expression:
        return _lowered_sign(b, input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return zeros(g)

    samples = unary_samples()


def _sign(x: np.ndarray) -> np.ndarray:
    if x.dtype.kind == "b":
        return x.copy()
    return (x > 0).astype(x.dtype) - (x < 0).astype(x.dtype)


def _lowered_sign(b: Builder, x: Expression) -> Expression:
    if x.dtype == "bool":
        return x
    return b.cast(x > 0, x.dtype) - b.cast(x < 0, x.dtype)


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

    def lower(self, b: Builder, input: Expression) -> Expression:
        return _lowered_sign(b, input)

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

    def lower(self, b: Builder, input: Expression) -> Expression:
        if input.dtype in FLOATS:
            return b.copysign(b.constant(1, input.dtype), input) < 0
        return input < b.constant(0, input.dtype)

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

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return b.copysign(input, other)

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

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.constant(1, input.dtype) / input

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return -g * conj(out * out)

    samples = unary_samples(low=0.3, complexes=True)
