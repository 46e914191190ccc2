"""Special functions: error functions, gamma and zeta functions, Bessel functions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ops import bessel_lowering as bessel
from taimatsu.ops import series_lowering
from taimatsu.ops import special_functions as functions
from taimatsu.ops import special_lowering as lowered
from taimatsu.ops.base import Sample, array, composite, integers, register
from taimatsu.ops.elementwise import (
    FLOATS,
    Binary,
    FloatUnary,
    binary_samples,
    is_number,
    unary_samples,
)
from taimatsu.ops.special_functions import scipy_special

# -- error functions -------------------------------------------------------------------------


@register
class Erf(FloatUnary):
    """The error function, ``2 / sqrt(pi) * integral of exp(-t^2) from 0 to input``."""

    functions = ("erf", "special.erf")
    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return functions.erf(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.erf(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return 2 / math.sqrt(math.pi) * (-(input * input)).exp() * g

    samples = unary_samples()


@register
class Erfc(FloatUnary):
    """``1 - erf(input)``, accurate where it is small."""

    functions = ("erfc", "special.erfc")
    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return functions.erfc(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return b.erfc(input)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return -2 / math.sqrt(math.pi) * (-(input * input)).exp() * g

    samples = unary_samples()


@register
class Erfinv(FloatUnary):
    """The inverse of ``erf``, for numbers between -1 and 1."""

    functions = ("erfinv", "special.erfinv")
    saves = ("out",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return functions.erfinv(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return lowered.erfinv(b, b.cast(input, "float64"))

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return 0.5 * math.sqrt(math.pi) * (out * out).exp() * g

    samples = unary_samples(low=-0.95, high=0.95)


@register
class Ndtri(FloatUnary):
    """The quantile function of the standard normal distribution."""

    functions = ("special.ndtri",)
    inplace = False
    backward_name = "SpecialNdtriBackward0"
    saves = ("out",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        # Both tails by symmetry: 2p - 1 would lose the digits of a small p.
        wide = np.asarray(input, np.float64)
        low = np.minimum(wide, 1 - wide)
        size = math.sqrt(2) * functions.erfinv(1 - 2 * low)
        precise = np.where(low < 0.1, _small_quantile(low, size), size)
        return np.where(wide < 0.5, -precise, precise)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return series_lowering.ndtri(b, b.cast(input, "float64"))

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * math.sqrt(2 * math.pi) * (out * out / 2).exp()

    samples = unary_samples(low=0.05, high=0.95)


def _small_quantile(p: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """The x > 0 whose upper tail is ``p``, by Newton's steps on the logarithm of the tail."""
    target = np.log(p)
    start = np.sqrt(np.maximum(-2 * target - np.log(-2 * target + 1), 0))
    x = np.where(np.isfinite(guess) & (p > 1e-10), guess, start)
    for _ in range(6):
        tail = 0.5 * functions.erfc(x / math.sqrt(2))
        density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        step = (np.log(tail) - target) * tail / density
        x = x + np.where(np.isfinite(step), step, 0)
    return np.where(p == 0, np.inf, np.where((p < 0) | np.isnan(p), np.nan, x))


@composite("special.ndtr", samples=unary_samples())
def ndtr(input: Any) -> Any:
    """The distribution function of the standard normal distribution."""
    return (input * -math.sqrt(0.5)).erfc() * 0.5


@register
class LogNdtr(FloatUnary):
    """The logarithm of ``ndtr``, accurate in the lower tail."""

    functions = ("special.log_ndtr",)
    inplace = False
    backward_name = "SpecialLogNdtrBackward0"
    saves = ("input", "out")

    def reference(self, input: np.ndarray) -> np.ndarray:
        return scipy_special("log_ndtr")(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return lowered.log_ndtr(b, b.cast(input, "float64"))

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * (-(input * input) / 2 - out).exp() / math.sqrt(2 * math.pi)

    samples = unary_samples()


@register
class Erfcx(FloatUnary):
    """``exp(input ** 2) * erfc(input)``."""

    functions = ("special.erfcx",)
    inplace = False
    backward_name = "SpecialErfcxBackward0"
    saves = ("input", "out")

    def reference(self, input: np.ndarray) -> np.ndarray:
        return scipy_special("erfcx")(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return lowered.erfcx(b, b.cast(input, "float64"))

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return (2 * input * out - 2 / math.sqrt(math.pi)) * g

    samples = unary_samples()


@register
class Entr(FloatUnary):
    """``-input * log(input)``, 0 at 0, -inf below."""

    functions = ("special.entr",)
    inplace = False
    backward_name = "SpecialEntrBackward0"
    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        inside = -input * np.log(input)
        return np.where(input == 0, 0, np.where(input < 0, -np.inf, inside))

    def lower(self, b: Builder, input: Expression) -> Expression:
        inside = b.where(input.eq(0), 0, -input * b.log(input))
        return b.where(input < 0, -math.inf, inside)

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * (-input.log() - 1)

    samples = unary_samples(low=0.1)


@register
class Xlog1py(Binary):
    """``input * log1p(other)``; 0 where ``input`` is 0 and ``other`` not NaN."""

    functions = ("special.xlog1py",)
    accepts = "f"
    integers = "float"
    saves = ("input", "other")

    def backward_name_for(self, inputs: Any, attributes: Any) -> str:
        if is_number(inputs[0]):
            return "SpecialXlog1PyBackward1"
        return "SpecialXlog1PyBackward2" if is_number(inputs[1]) else "SpecialXlog1PyBackward0"

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        product = input * np.log1p(other)
        return np.where(np.isnan(other), other, np.where(input == 0, 0, product))

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        product = b.where(input.eq(0), 0, input * b.log1p(other))
        return b.where(b.isnan(other), other, product)

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        return lambda: self._for_input(g, input, other), lambda: g * input / (other + 1)

    def _for_input(self, g: Any, input: Any, other: Any) -> Any:
        return self(g, other).masked_fill((input == 0) & (other <= -1), 0)

    samples = binary_samples(other=(0.2, 2.0), left_numbers=(2,))


# -- gamma and zeta --------------------------------------------------------------------------


@register
class Lgamma(FloatUnary):
    """``log |gamma(input)|``."""

    functions = ("lgamma", "special.gammaln")
    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return functions.lgamma(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return lowered.lgamma(b, b.cast(input, "float64"))

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * input.digamma()

    samples = unary_samples(low=0.1, high=5.0)


@register
class Digamma(FloatUnary):
    """The derivative of ``lgamma``."""

    functions = ("digamma", "special.digamma", "special.psi")
    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return functions.digamma(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return lowered.digamma(b, b.cast(input, "float64"))

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * Polygamma(1, input)

    samples = unary_samples(low=0.1, high=5.0)


@register
class Polygamma(FloatUnary):
    """The n-th derivative of ``digamma``."""

    functions = ("polygamma", "special.polygamma")
    inplace = False
    saves = ("input",)

    def infer(self, input: Any, *, n: int) -> Any:
        return self.describe(input)

    def __call__(self, n: int, input: Any) -> Any:
        if not is_number(n):  # Tensor.polygamma(n)
            n, input = input, n
        if n < 0:
            raise self.error("polygamma(n, x) does not support negative n.", f"n = {n}")
        return self.apply(input, n=int(n))

    def reference(self, input: np.ndarray, *, n: int) -> np.ndarray:
        return functions.polygamma(n, input)

    def lower(self, b: Builder, input: Expression, *, n: int) -> Expression:
        return lowered.polygamma(b, n, b.cast(input, "float64"))

    def gradient(self, g: Any, out: Any, input: Any, *, n: int) -> Any:
        return g * self(n + 1, input)

    def samples(self) -> Iterator[Sample]:
        for n in range(4):
            yield Sample(n, array(3, 4, low=0.2, high=5), dtypes=FLOATS)
        yield Sample(2, integers(3, low=1))


@register
class Zeta(Binary):
    """Hurwitz' zeta function: the sum of ``(k + other) ** -input`` over k = 0, 1, ..."""

    functions = ("special.zeta",)
    backward_name = "SpecialZetaBackward0"
    accepts = "f"
    integers = "float"
    saves = {"input": (), "other": ("input", "other")}

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return functions.zeta(input, other)

    def lower(self, b: Builder, input: Expression, other: Expression) -> Expression:
        return lowered.zeta(b, b.cast(input, "float64"), b.cast(other, "float64"))

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        def for_input() -> Any:
            raise self.error("derivative for zeta with respect to its first input is not known")

        return for_input, lambda: g * -input * self.apply(input + 1.0, other)

    samples = binary_samples(
        low=1.5, high=5.0, other=(0.3, 4.0), numbers=(), grad=False, special=False
    )


_MOST_TERMS = 4  # of a sum of lgamma that is written out


@register
class Mvlgamma(FloatUnary):
    """The logarithm of the multivariate gamma function of dimension ``p``."""

    functions = ("mvlgamma", "special.multigammaln")
    saves = ("input",)

    def __call__(self, input: Any, p: int) -> Any:
        if p < 1:
            raise self.error("p has to be greater than or equal to 1", f"p = {p}")
        return self.apply(input, p=int(p))

    def reference(self, input: np.ndarray, *, p: int) -> np.ndarray:
        wide = np.asarray(input, np.float64)
        total = np.full_like(wide, p * (p - 1) / 4 * math.log(math.pi))
        for i in range(p):
            total += functions.lgamma(wide - i / 2)
        return total

    def lower(self, b: Builder, input: Expression, *, p: int) -> Expression | None:
        if p > _MOST_TERMS:
            return None
        wide = b.cast(input, "float64")
        total = b.constant(p * (p - 1) / 4 * math.log(math.pi), "float64")
        for i in range(p):
            total = total + lowered.lgamma(b, wide - i / 2)
        return total

    def gradient(self, g: Any, out: Any, input: Any, *, p: int) -> Any:
        total = input.digamma()
        for i in range(1, p):
            total = total + (input - i / 2).digamma()
        return g * total

    samples = unary_samples(low=1.2, high=5.0, whole=False, special=False, p=3)


class IncompleteGamma(Binary, abstract=True):
    """A regularised incomplete gamma function of order ``input``.

    Not lowered: its series and fractions take as many terms as the arguments say, and where both
    are large a double series with tables of its own.
    """

    accepts = "f"
    inplace = True
    saves = {"input": (), "other": ("input", "other")}
    samples = binary_samples(low=0.5, high=4.0, numbers=(), grad=False, whole=False, special=False)

    def density(self, g: Any, input: Any, other: Any) -> Any:
        """The derivative of the lower function in ``other``."""
        return g * (other.log() * (input - 1) - other - input.lgamma()).exp()

    def refuse(self) -> Any:
        raise self.error(
            f"derivative for {self.name} with respect to its first input is not implemented",
            hint="detach it",
        )


@register
class Igamma(IncompleteGamma):
    """The lower regularised incomplete gamma function."""

    functions = ("igamma", "special.gammainc")
    methods = ("igamma",)

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return scipy_special("gammainc")(input, other)

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        return self.refuse, lambda: self.density(g, input, other)


@register
class Igammac(IncompleteGamma):
    """The upper regularised incomplete gamma function."""

    functions = ("igammac", "special.gammaincc")
    methods = ("igammac",)

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        return scipy_special("gammaincc")(input, other)

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        return self.refuse, lambda: -self.density(g, input, other)


# -- modified Bessel functions ---------------------------------------------------------------


@register
class I0(FloatUnary):
    """The modified Bessel function of the first kind, order 0."""

    name = "i0"
    functions = ("i0", "special.i0")
    saves = ("input",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.i0(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return bessel.i0(b, b.cast(input, "float64"))

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * I1(input)

    samples = unary_samples(special=False)


@register
class I0e(FloatUnary):
    """``i0(input) * exp(-|input|)``."""

    name = "i0e"
    functions = ("special.i0e",)
    inplace = False
    backward_name = "SpecialI0EBackward0"
    saves = ("input", "out")

    def reference(self, input: np.ndarray) -> np.ndarray:
        return scipy_special("i0e")(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return bessel.i0e(b, b.cast(input, "float64"))

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        return g * (I1e(input) - input.sgn() * out)

    samples = unary_samples(special=False)


@register
class I1(FloatUnary):
    """The modified Bessel function of the first kind, order 1."""

    name = "i1"
    functions = ("special.i1",)
    inplace = False
    backward_name = "SpecialI1Backward0"
    saves = ("input", "out")

    def reference(self, input: np.ndarray) -> np.ndarray:
        return scipy_special("i1")(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return bessel.i1(b, b.cast(input, "float64"))

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        near = input.abs() < 1e-30  # i1(x) / x tends to 1/2
        safe = input.masked_fill(near, 1)
        slope = I0(input) - out / safe
        return g * slope.masked_fill(near, 0.5)

    samples = unary_samples(special=False)


@register
class I1e(FloatUnary):
    """``i1(input) * exp(-|input|)``."""

    name = "i1e"
    functions = ("special.i1e",)
    inplace = False
    backward_name = "SpecialI1EBackward0"
    saves = ("input", "out")

    def reference(self, input: np.ndarray) -> np.ndarray:
        return scipy_special("i1e")(input)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return bessel.i1e(b, b.cast(input, "float64"))

    def gradient(self, g: Any, out: Any, input: Any) -> Any:
        near = input.abs() < 1e-30
        safe = input.masked_fill(near, 1)
        slope = I0e(input) - out * (input.sgn() + safe.reciprocal())
        return g * slope.masked_fill(near, 0.5)

    samples = unary_samples(special=False)
