"""Complex numbers: parts, conjugates, angles, and their making.

PyTorch's ``real``, ``imag``, ``conj`` and ``view_as_real`` share memory with their input. Here
they are copies (a storage has one dtype): values and gradients agree, writes through them do not
reach the complex tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu import dtypes
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.meta import Meta, meta
from taimatsu.ops.base import Operation, Sample, array, composite, register
from taimatsu.ops.elementwise import (
    FLOATS,
    Binary,
    Unary,
    complex_array,
    unary_samples,
    zeros,
)

# -- parts -----------------------------------------------------------------------------------


def _part_samples() -> Iterator[Sample]:
    yield Sample(complex_array(3, 4))
    yield Sample(complex_array())


@register
class RealPart(Unary):
    """The real part of a complex tensor."""

    hidden = True
    accepts = "c"
    yields = "real"
    backward_name = "SelectBackward0"

    def reference(self, input: np.ndarray) -> np.ndarray:
        return input.real

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g.to(input.dtype)


@register
class ImagPart(Unary):
    """The imaginary part of a complex tensor."""

    hidden = True
    accepts = "c"
    yields = "real"
    backward_name = "SelectBackward0"

    def reference(self, input: np.ndarray) -> np.ndarray:
        return input.imag

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * 1j


@composite("real", methods=(), samples=_part_samples)
def real(input: Any) -> Any:
    """The real part; a real tensor itself."""
    return RealPart.apply(input) if input.dtype.is_complex else input


@composite("imag", methods=(), samples=_part_samples)
def imag(input: Any) -> Any:
    """The imaginary part; RuntimeError for real tensors."""
    if not input.dtype.is_complex:
        raise ImagPart.error(
            "imag is not implemented for tensors with non-complex dtypes.", input.dtype.name
        )
    return ImagPart.apply(input)


class Conjugation(Unary, abstract=True):
    """The complex conjugate."""

    hidden = True
    accepts = "bifc"

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.conjugate(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return input  # of real numbers; complex ones have no stages

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g.conj()


@register
class Conj(Conjugation):
    """The conjugate that ``Tensor.conj`` records."""

    name = "conj_kernel"
    backward_name = "ConjBackward0"


@register
class ConjPhysical(Conjugation):
    """The conjugate that ``Tensor.conj_physical`` records."""

    name = "conj_physical_kernel"
    backward_name = "ConjPhysicalBackward0"


@composite("conj", samples=unary_samples(complexes=True))
def conj(input: Any) -> Any:
    """The complex conjugate; a real tensor itself."""
    return Conj.apply(input) if input.dtype.is_complex else input


@composite("conj_physical", inplace=True, samples=unary_samples(complexes=True))
def conj_physical(input: Any) -> Any:
    """The complex conjugate, carried out; a real tensor itself."""
    return ConjPhysical.apply(input) if input.dtype.is_complex else input


@composite("resolve_conj", samples=_part_samples)
def resolve_conj(input: Any) -> Any:
    """``input``: conjugates are never pending here."""
    return input


@composite("resolve_neg", samples=_part_samples)
def resolve_neg(input: Any) -> Any:
    """``input``: negations are never pending here."""
    return input


@register
class Angle(Unary):
    """The argument of a complex number; pi for negative real numbers, 0 for others."""

    accepts = "fc"
    integers = "float"
    yields = "real"
    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        if input.dtype.kind == "c":
            return np.angle(input)
        pi = input.dtype.type(np.pi)
        zero = input.dtype.type(0)
        return np.where(np.isnan(input), input, np.where(input < 0, pi, zero))

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.where(
            b.isnan(input), input, b.where(input < 0, b.constant(math.pi, input.dtype), 0)
        )

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        if not input.dtype.is_complex:
            return zeros(g)
        # d angle / d z, in PyTorch's convention: i z / |z|^2
        slope = input * 1j / (input * input.conj()).real
        return (g * slope).masked_fill(input == 0, 0)

    samples = unary_samples(complexes=True)


# -- two real numbers as one complex ---------------------------------------------------------


class FromParts(Binary, abstract=True):
    """A complex tensor from two real ones of the same dtype."""

    accepts = "f"

    def describe_parts(self, first: Any, second: Any) -> Meta:
        """The complex result; raises unless both are float32 or both float64."""
        for part in (first, second):
            if part.dtype not in (dtypes.float32, dtypes.float64):
                raise self.error(
                    "Expected both inputs to be Half, Float or Double tensors but got "
                    f"{first.dtype.scalar_type} and {second.dtype.scalar_type}",
                    hint="float32 gives complex64, float64 gives complex128",
                )
        if first.dtype is not second.dtype:
            raise self.error(
                f"Expected object of scalar type {first.dtype.scalar_type} but got scalar type "
                f"{second.dtype.scalar_type} for second argument",
                hint="convert one with .to(dtype)",
            )
        found = self.describe(first, second)
        return meta(found.shape, first.dtype.to_complex(), found.strides)

    def evaluate(self, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> tuple:
        with np.errstate(all="ignore"):
            return (np.asarray(self.reference(*inputs), outs[0].dtype.numpy),)

    def samples(self) -> Iterator[Sample]:
        yield Sample(array(3, 4, low=0.2), array(4, seed=1), dtypes=FLOATS)
        yield Sample(array(low=0.2), array(3, seed=1))


@register
class Complex(FromParts):
    """``real + i imag``."""

    methods = ()

    def infer(self, real: Any, imag: Any) -> Meta:
        return self.describe_parts(real, imag)

    def __call__(self, real: Any, imag: Any) -> Any:
        return self.apply(real, imag)

    def reference(self, real: np.ndarray, imag: np.ndarray) -> np.ndarray:
        shape = np.broadcast(real, imag).shape
        result = np.empty(shape, np.result_type(real.dtype, np.complex64))
        result.real = real
        result.imag = imag
        return result

    def gradient(self, g: Any, out: Any, real: Any, imag: Any) -> Any:
        return lambda: RealPart.apply(g), lambda: ImagPart.apply(g)


@register
class Polar(FromParts):
    """``abs * exp(i angle)``."""

    methods = ()
    saves = ("out",)

    def infer(self, abs: Any, angle: Any) -> Meta:
        return self.describe_parts(abs, angle)

    def __call__(self, abs: Any, angle: Any) -> Any:
        return self.apply(abs, angle)

    def reference(self, abs: np.ndarray, angle: np.ndarray) -> np.ndarray:
        # the functions in float64: float32 results are then the nearest ones
        wide = np.asarray(angle, np.float64)
        cosine = np.asarray(np.cos(wide), angle.dtype)
        sine = np.asarray(np.sin(wide), angle.dtype)
        return Complex.reference(abs * cosine, abs * sine)

    def gradient(self, g: Any, out: Any, abs: Any, angle: Any) -> Any:
        return (
            lambda: RealPart.apply(g.conj() * out.sgn()),
            lambda: RealPart.apply(g.conj() * (out * 1j)),
        )


@register
class ViewAsReal(Operation):
    """The parts of a complex tensor in a last dimension of extent 2."""

    def __call__(self, input: Any) -> Any:
        return self.apply(input)

    def infer(self, input: Any) -> Meta:
        if not input.dtype.is_complex:
            raise self.error("view_as_real is only supported for complex tensors", input.dtype.name)
        return meta((*input.shape, 2), input.dtype.to_real())

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.stack([input.real, input.imag], -1)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return ViewAsComplex.apply(g)

    samples = staticmethod(_part_samples)


@register
class ViewAsComplex(Operation):
    """A complex tensor from the pairs in the last dimension."""

    def __call__(self, input: Any) -> Any:
        return self.apply(input)

    def infer(self, input: Any) -> Meta:
        if input.dtype not in (dtypes.float32, dtypes.float64):
            raise self.error(
                "view_as_complex is only supported for half, float and double tensors",
                f"a tensor of scalar type: {input.dtype.scalar_type}",
            )
        if input.ndim == 0 or input.shape[-1] != 2:
            raise self.error("Tensor must have a last dimension of size 2", f"{input.shape}")
        return meta(input.shape[:-1], input.dtype.to_complex())

    def reference(self, input: np.ndarray) -> np.ndarray:
        return Complex.reference(input[..., 0], input[..., 1])

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return ViewAsReal.apply(g)

    def samples(self) -> Iterator[Sample]:
        yield Sample(array(3, 4, 2), dtypes=FLOATS)
        yield Sample(array(2))
