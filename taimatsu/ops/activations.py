"""Activation functions: ``torch.nn.functional.relu`` and its relatives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from taimatsu import dtypes, recorder
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ops.base import REGISTRY, Sample, array, composite, integers, register
from taimatsu.ops.elementwise import (
    FLOATS,
    SPECIAL,
    Binary,
    Unary,
    conj,
    unary_samples,
)
from taimatsu.ops.special_functions import erf


def written_over(input: Any, name: str, compute: Callable[[], Any], inplace: bool) -> Any:
    """The result of ``compute``, written over ``input`` where ``inplace`` is asked for."""
    if not inplace:
        return compute()
    input._refuse_write(name)
    return input._assign(compute(), name)


class Activation(Unary, abstract=True):
    """A function of one floating point tensor, with PyTorch's ``inplace`` argument."""

    accepts = "f"
    saves = ("input",)

    def run(self, input: Any, inplace: bool, **attributes: Any) -> Any:
        """Records the operation; with ``inplace`` writes the result over ``input``."""
        return written_over(input, self.name, lambda: self.apply(input, **attributes), inplace)

    def __call__(self, input: Any, inplace: bool = False) -> Any:
        return self.run(input, inplace)


# -- rectifiers ------------------------------------------------------------------------------


@register
class Relu(Activation):
    """``max(input, 0)``."""

    functions = ("relu", "nn.functional.relu")
    accepts = "if"
    inplace = True
    saves = ("out",)

    def unsupported(self, found: Any) -> Exception:
        if found.is_complex:
            return self.error("clamp is not supported for complex types", kind=NotImplementedError)
        return self.error("Boolean inputs not supported for relu")

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.maximum(input, np.zeros((), input.dtype))

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.max(input, 0)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g.masked_fill(out <= 0, 0)

    samples = unary_samples(kinks=(0.0,))


@register
class LeakyRelu(Activation):
    """``input`` where positive, else ``negative_slope * input``."""

    functions = ("nn.functional.leaky_relu",)

    def __call__(self, input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Any:
        return self.run(input, inplace, negative_slope=float(negative_slope))

    def reference(self, input: np.ndarray, *, negative_slope: float) -> np.ndarray:
        return np.where(input > 0, input, input * np.asarray(negative_slope, input.dtype))

    def lower(self, b: Builder, input: Expression, *, negative_slope: float) -> Expression:
        return b.where(input > 0, input, input * negative_slope)

    def gradient(self, g: Any, out: Any, input: Any, *, negative_slope: float) -> Any:
        return (g * negative_slope).where(input <= 0, g)

    samples = unary_samples(whole=False, kinks=(0.0,), negative_slope=0.2)


@register
class PreluKernel(Binary):
    """``input`` where positive, else ``weight * input``; the weight is shaped to broadcast."""

    hidden = True
    accepts = "f"
    saves = {"input": ("input", "weight"), "weight": ("input",)}

    def infer(self, input: Any, weight: Any) -> Any:
        return self.describe(input, weight)

    def reference(self, input: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return np.where(input > 0, input, weight * input)

    def lower(self, b: Builder, input: Expression, weight: Expression) -> Expression:
        return b.where(input > 0, input, weight * input)

    def gradient(self, g: Any, out: Any, input: Any, weight: Any) -> Any:
        return (
            lambda: (g * weight).where(input <= 0, g),
            lambda: (g * input).masked_fill(input > 0, 0),
        )


def _prelu_samples() -> Iterator[Sample]:
    yield Sample(array(2, 3, 4), array(3, seed=1))
    yield Sample(array(2, 3), array(1, seed=1), dtypes=FLOATS)
    yield Sample(array(5), array(1, seed=1))
    yield Sample(array(2, 3), array(seed=1))


@composite("prelu", "nn.functional.prelu", methods=("prelu",), samples=_prelu_samples)
def prelu(input: Any, weight: Any) -> Any:
    """``input`` where positive, else ``weight * input``, one weight or one per channel (dim 1)."""
    if input.dtype is not weight.dtype:
        raise PreluKernel.error(
            f"prelu: Type promoting not supported. Got {input.dtype.scalar_type} and "
            f"{weight.dtype.scalar_type}",
            hint="convert one: weight.to(input.dtype)",
        )
    if weight.ndim > 1:
        raise PreluKernel.error(
            "prelu: Expected `weight` to be a scalar or 1D tensor", f"ndim = {weight.ndim}"
        )
    channels = input.shape[1] if input.ndim > 1 else 1
    if weight.numel() == 1:
        return PreluKernel.apply(input, weight.reshape(()) if weight.ndim else weight)
    if weight.numel() != channels:
        raise PreluKernel.error(
            "Mismatch of parameter numbers and input channel size. Found parameter numbers = "
            f"{weight.numel()} and channel size = {channels}."
        )
    return PreluKernel.apply(input, weight.reshape((channels,) + (1,) * (input.ndim - 2)))


@composite("rrelu", "nn.functional.rrelu", methods=(), samples=unary_samples(whole=False))
def rrelu(
    input: Any,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Any:
    """``leaky_relu`` with a slope drawn from [lower, upper) for each negative element.

    Not in training: the middle of the interval (Xu et al., "Empirical Evaluation of Rectified
    Activations in Convolutional Network", 2015).
    """

    def compute() -> Any:
        if training:
            return PreluKernel.apply(input, _random_slopes(input, lower, upper))
        return LeakyRelu.apply(input, negative_slope=(lower + upper) / 2)

    return written_over(input, "rrelu", compute, inplace)


def _random_slopes(input: Any, lower: float, upper: float) -> Any:
    """One draw for each element that is not positive, in their order, as PyTorch draws."""
    values = np.asarray(recorder.value(input))
    negative = values <= 0
    count = int(negative.sum())
    full: Any = REGISTRY["full_value"]
    draws = full.apply(0.0, shape=(count,), dtype=dtypes.float64).uniform_(lower, upper)
    slopes = np.ones(values.shape, values.dtype)
    slopes[negative] = recorder.value(draws).astype(values.dtype)
    return recorder.constant(slopes)


@register
class Threshold(Activation):
    """``input`` where greater than ``threshold``, else ``value``."""

    functions = ("threshold", "nn.functional.threshold")
    accepts = "if"
    methods = ()
    saves = ("input",)

    def __call__(self, input: Any, threshold: float, value: float, inplace: bool = False) -> Any:
        return self.run(input, inplace, threshold=threshold, value=value)

    def reference(self, input: np.ndarray, *, threshold: float, value: float) -> np.ndarray:
        kind = input.dtype.type
        return np.where(input <= kind(threshold), kind(value), input)

    def lower(self, b: Builder, input: Expression, *, threshold: float, value: float) -> Expression:
        return b.where(input <= threshold, value, input)

    def gradient(self, g: Any, out: Any, input: Any, *, threshold: float, value: float) -> Any:
        return g.masked_fill(input <= threshold, 0)

    def samples(self) -> Iterator[Sample]:
        yield Sample(array(3, 4), 0.5, 2.0, dtypes=FLOATS)
        yield Sample(integers(5), 3, -1)
        yield Sample(SPECIAL, 0.0, 1.0, grad=False)


# -- exponential units -----------------------------------------------------------------------


class ExponentialUnit(Activation, abstract=True):
    """``scale * x`` above 0, ``alpha * scale * (exp(input_scale * x) - 1)`` below."""

    def reference(
        self, input: np.ndarray, *, alpha: float, scale: float, input_scale: float
    ) -> np.ndarray:
        kind = input.dtype.type
        below = np.expm1(input * kind(input_scale)) * kind(alpha * scale)
        return np.where(input < 0, below, input * kind(scale))

    def lower(
        self, b: Builder, input: Expression, *, alpha: float, scale: float, input_scale: float
    ) -> Expression:
        below = b.expm1(input * input_scale) * (alpha * scale)
        return b.where(input < 0, below, input * scale)

    def gradient(
        self, g: Any, out: Any, input: Any, *, alpha: float, scale: float, input_scale: float
    ) -> Any:
        slope = (input * input_scale).exp() * (alpha * scale * input_scale)
        return (g * slope).where(input <= 0, g * scale)


@register
class Elu(ExponentialUnit):
    """``x`` above 0, ``alpha * (exp(x) - 1)`` below (Clevert et al., 2015)."""

    functions = ("nn.functional.elu",)

    def __call__(self, input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
        return self.run(input, inplace, alpha=float(alpha), scale=1.0, input_scale=1.0)

    samples = staticmethod(
        lambda: iter(
            [
                Sample(array(3, 4), dtypes=FLOATS),
                Sample(array(3, 4), alpha=0.7),
                Sample(SPECIAL, grad=False),
            ]
        )
    )


@register
class Celu(ExponentialUnit):
    """``x`` above 0, ``alpha * (exp(x / alpha) - 1)`` below (Barron, 2017)."""

    functions = ("celu", "nn.functional.celu")
    methods = ()

    def __call__(self, input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
        if alpha == 0:
            raise self.error("ZeroDivisionError: alpha cannot be 0 for CELU")
        return self.run(input, inplace, alpha=float(alpha), scale=1.0, input_scale=1.0 / alpha)

    samples = staticmethod(
        lambda: iter([Sample(array(3, 4)), Sample(array(3, 4), alpha=0.7, dtypes=FLOATS)])
    )


# Klambauer et al., "Self-Normalizing Neural Networks", 2017: mean 0 and variance 1 are kept.
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


@composite("selu", "nn.functional.selu", methods=(), samples=unary_samples(whole=False))
def selu(input: Any, inplace: bool = False) -> Any:
    """The exponential unit whose constants keep activations normalised."""
    return Elu.run(input, inplace, alpha=_SELU_ALPHA, scale=_SELU_SCALE, input_scale=1.0)


# -- smooth units ----------------------------------------------------------------------------


@register
class Gelu(Activation):
    """``x * Phi(x)``, Phi the normal distribution's function (Hendrycks and Gimpel, 2016).

    ``approximate="tanh"`` takes a tanh for Phi.
    """

    functions = ("nn.functional.gelu",)

    def __call__(self, input: Any, *, approximate: str = "none") -> Any:
        if approximate not in ("none", "tanh"):
            raise self.error("approximate argument must be either none or tanh.", approximate)
        return self.apply(input, approximate=approximate)

    def reference(self, input: np.ndarray, *, approximate: str) -> np.ndarray:
        if approximate == "none":
            return 0.5 * input * (1 + erf(input * math.sqrt(0.5)))
        inner = math.sqrt(2 / math.pi) * (input + 0.044715 * input * input * input)
        return 0.5 * input * (1 + np.tanh(inner))

    def lower(self, b: Builder, input: Expression, *, approximate: str) -> Expression:
        if approximate == "none":
            return 0.5 * input * (1 + b.erf(input * math.sqrt(0.5)))
        inner = math.sqrt(2 / math.pi) * (input + 0.044715 * input * input * input)
        return 0.5 * input * (1 + b.tanh(inner))

    def gradient(self, g: Any, out: Any, input: Any, *, approximate: str) -> Any:
        if approximate == "none":
            area = 0.5 * (1 + (input * math.sqrt(0.5)).erf())
            density = (input * input * -0.5).exp() * (1 / math.sqrt(2 * math.pi))
            return g * (area + input * density)
        scale = math.sqrt(2 / math.pi)
        square = input * input
        curve = (scale * (input + 0.044715 * (square * input))).tanh()
        slope = scale * (1 + 3 * 0.044715 * square)
        return g * (0.5 * (1 + curve) + 0.5 * input * (1 - curve * curve) * slope)

    samples = staticmethod(
        lambda: iter(
            [
                Sample(array(3, 4), dtypes=FLOATS),
                Sample(array(3, 4), approximate="tanh", dtypes=FLOATS),
                Sample(np.array([0.0, -0.0, 30.0, -30.0, np.nan]), grad=False),
            ]
        )
    )


@register
class Silu(Activation):
    """``x * sigmoid(x)``."""

    functions = ("nn.functional.silu",)
    accepts = "fc"

    def reference(self, input: np.ndarray) -> np.ndarray:
        return input / (1 + np.exp(-input))

    def lower(self, b: Builder, input: Expression) -> Expression:
        return input / (1 + b.exp(-input))

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        gate = input.sigmoid()
        return g * conj(gate * (1 + input * (1 - gate)))

    samples = unary_samples(whole=False)


@register
class Mish(Activation):
    """``x * tanh(softplus(x))`` (Misra, 2019)."""

    functions = ("nn.functional.mish",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return input * np.tanh(np.log1p(np.exp(input)))

    def lower(self, b: Builder, input: Expression) -> Expression:
        return input * b.tanh(b.log1p(b.exp(input)))

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        curve = Softplus.apply(input, beta=1.0, threshold=20.0).tanh()
        return g * (curve + input * input.sigmoid() * (1 - curve * curve))

    samples = unary_samples(whole=False)


@register
class Softplus(Activation):
    """``log(1 + exp(beta * x)) / beta``; ``x`` itself where ``beta * x > threshold``."""

    functions = ("nn.functional.softplus",)

    def __call__(self, input: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
        return self.apply(input, beta=float(beta), threshold=float(threshold))

    def reference(self, input: np.ndarray, *, beta: float, threshold: float) -> np.ndarray:
        scaled = input * input.dtype.type(beta)
        return np.where(scaled > threshold, input, np.log1p(np.exp(scaled)) / beta)

    def lower(self, b: Builder, input: Expression, *, beta: float, threshold: float) -> Expression:
        scaled = input * beta
        return b.where(scaled > threshold, input, b.log1p(b.exp(scaled)) / beta)

    def gradient(self, g: Any, out: Any, input: Any, *, beta: float, threshold: float) -> Any:
        scaled = input * beta
        return g.where(scaled > threshold, g * scaled.sigmoid())

    samples = staticmethod(
        lambda: iter(
            [
                Sample(array(3, 4), dtypes=FLOATS),
                Sample(array(3, 4, low=-9, high=9), beta=2.0, threshold=8.0),
                Sample(SPECIAL, grad=False),
            ]
        )
    )


@register
class LogSigmoid(Activation):
    """``log(sigmoid(x))`` without overflow."""

    functions = ("nn.functional.logsigmoid",)

    def __call__(self, input: Any) -> Any:
        return self.apply(input)

    def reference(self, input: np.ndarray) -> np.ndarray:
        zero = np.zeros((), input.dtype)
        return np.minimum(zero, input) - np.log1p(np.exp(-np.abs(input)))

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.min(input, 0) - b.log1p(b.exp(-b.abs(input)))

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * (-input).sigmoid()

    samples = unary_samples(whole=False)


@composite("nn.functional.softsign", samples=unary_samples(complexes=True))
def softsign(input: Any) -> Any:
    """``x / (1 + |x|)``."""
    return input / (input.abs() + 1)


@composite("nn.functional.tanhshrink", samples=unary_samples(complexes=True))
def tanhshrink(input: Any) -> Any:
    """``x - tanh(x)``."""
    return input - input.tanh()


# -- in place --------------------------------------------------------------------------------


def in_place_form(name: str, function: Callable, *functions: str) -> None:
    """Enters ``name_``, which writes over its first argument and returns it."""

    def form(input: Any, *args: Any, **kwargs: Any) -> Any:
        return function(input, *args, **kwargs, inplace=True)

    form.__name__ = name + "_"
    form.__doc__ = f"``{name}`` in place: the input itself holds the result."
    composite(*functions, methods=())(form)


in_place_form("relu", Relu, "nn.functional.relu_")
in_place_form("leaky_relu", LeakyRelu, "nn.functional.leaky_relu_")
in_place_form("elu", Elu, "nn.functional.elu_")
in_place_form("celu", Celu, "celu_", "nn.functional.celu_")
in_place_form("selu", selu, "selu_", "nn.functional.selu_")
in_place_form("rrelu", rrelu, "rrelu_", "nn.functional.rrelu_")
in_place_form("threshold", Threshold, "threshold_", "nn.functional.threshold_")
