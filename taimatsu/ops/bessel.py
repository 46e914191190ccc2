"""Bessel and Airy functions (from SciPy) and orthogonal polynomials of ``torch.special``.

PyTorch defines no gradients for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ops import bessel_lowering, series_lowering
from taimatsu.ops.base import Sample, array, integers, register
from taimatsu.ops.elementwise import Binary, FloatUnary, unary_samples
from taimatsu.ops.special_functions import scipy_special

# -- from SciPy ------------------------------------------------------------------------------


class FromScipy(FloatUnary, abstract=True):
    """A function of one tensor that SciPy computes."""

    inplace = False
    differentiable = False
    source = ""  # its name in scipy.special

    def reference(self, input: np.ndarray) -> np.ndarray:
        return scipy_special(self.source)(input)

    samples = unary_samples(low=0.1, high=5.0, special=False)


_FROM_SCIPY = {
    "bessel_j0": ("j0", "The Bessel function of the first kind, order 0."),
    "bessel_j1": ("j1", "The Bessel function of the first kind, order 1."),
    "bessel_y0": ("y0", "The Bessel function of the second kind, order 0."),
    "bessel_y1": ("y1", "The Bessel function of the second kind, order 1."),
    "modified_bessel_i0": ("i0", "The modified Bessel function of the first kind, order 0."),
    "modified_bessel_i1": ("i1", "The modified Bessel function of the first kind, order 1."),
    "modified_bessel_k0": ("k0", "The modified Bessel function of the second kind, order 0."),
    "modified_bessel_k1": ("k1", "The modified Bessel function of the second kind, order 1."),
    "scaled_modified_bessel_k0": ("k0e", "``modified_bessel_k0(x) * exp(x)``."),
    "scaled_modified_bessel_k1": ("k1e", "``modified_bessel_k1(x) * exp(x)``."),
}


_LOWERED = {
    "j0": series_lowering.bessel_j0,
    "j1": series_lowering.bessel_j1,
    "y0": series_lowering.bessel_y0,
    "y1": series_lowering.bessel_y1,
    "i0": bessel_lowering.i0,
    "i1": bessel_lowering.i1,
    "k0": series_lowering.bessel_k(0, scaled=False),
    "k1": series_lowering.bessel_k(1, scaled=False),
    "k0e": series_lowering.bessel_k(0, scaled=True),
    "k1e": series_lowering.bessel_k(1, scaled=True),
}


def _lowering(function: Callable) -> Callable:
    def lower(self: Any, b: Builder, input: Expression) -> Expression:
        made: Expression = function(b, b.cast(input, "float64"))
        return made

    return lower


def _from_scipy(name: str, source: str, doc: str) -> None:
    members: dict[str, Any] = {"name": name, "functions": (f"special.{name}",), "__doc__": doc}
    members["source"] = source
    members["lower"] = _lowering(_LOWERED[source])
    register(type("".join(part.capitalize() for part in name.split("_")), (FromScipy,), members))


for _name, (_source, _doc) in _FROM_SCIPY.items():
    _from_scipy(_name, _source, _doc)


@register
class AiryAi(FromScipy):
    """The Airy function Ai."""

    functions = ("special.airy_ai",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        found = scipy_special("airy")(input)[0]
        # SciPy has nan far off.
        found = np.where((input > 1e3) & np.isfinite(input), 0, found)
        return np.where(input < -1e6, _airy_waves(-input), found)

    def lower(self, b: Builder, input: Expression) -> Expression:
        return series_lowering.airy_ai(b, b.cast(input, "float64"))


def _airy_waves(x: np.ndarray) -> np.ndarray:
    """Ai at ``-x``, for large x: the first terms of its asymptotic series."""
    root = np.sqrt(x)
    z = x * root * (2 / 3)
    phase = z + math.pi / 4
    return (np.sin(phase) - np.cos(phase) * 5 / (72 * z)) / np.sqrt(math.pi * root)


@register
class SphericalBesselJ0(FromScipy):
    """The spherical Bessel function of the first kind, order 0: ``sin(x) / x``."""

    name = "spherical_bessel_j0"
    functions = ("special.spherical_bessel_j0",)

    def reference(self, input: np.ndarray) -> np.ndarray:
        return np.where(np.isinf(input), 0, np.where(input == 0, 1, np.sin(input) / input))

    def lower(self, b: Builder, input: Expression) -> Expression:
        inside = b.where(input.eq(0), 1, b.sin(input) / input)
        return b.where(b.abs(input).eq(math.inf), 0, inside)


# -- orthogonal polynomials ------------------------------------------------------------------


_MOST_STEPS = 64  # of a recurrence that is written out


class Polynomial(Binary, abstract=True):
    """A polynomial of degree ``n`` (a number or a tensor) at ``input``; 0 for negative n."""

    accepts = "f"
    integers = "float"
    differentiable = False
    static_scalars = True  # the degree decides the code
    first: Callable  # the polynomial of degree 1
    step: Callable  # (k, x, of degree k - 1, of degree k - 2) -> of degree k

    def infer(self, input: Any, n: Any) -> Any:
        return self.describe(input, n)

    def __call__(self, input: Any, n: Any) -> Any:
        return self.apply(input, n)

    def reference(self, input: np.ndarray, n: np.ndarray) -> np.ndarray:
        degree = np.trunc(n)
        before = np.ones_like(input)
        present = type(self).first(input)
        result = np.where(degree == 0, before, np.where(degree == 1, present, 0))
        for k in range(2, int(np.max(degree, initial=0)) + 1):
            before, present = present, type(self).step(k, input, present, before)
            result = np.where(degree == k, present, result)
        return result

    def lower(self, b: Builder, input: Expression, n: Expression) -> Expression | None:
        if n.op != "constant" or not n.detail <= _MOST_STEPS:
            return None  # degrees that the data says: their recurrences end nowhere known
        degree = int(n.detail)
        before, present = b.constant(1, input.dtype), type(self).first(input)
        if degree <= 0:
            return before if n.detail > -1 else b.constant(0, input.dtype)
        for k in range(2, degree + 1):
            before, present = present, type(self).step(k, input, present, before)
        return present

    def samples(self) -> Iterator[Sample]:
        yield Sample(array(3, 4, low=-1, high=1), integers(4, high=5))
        yield Sample(array(3, 4, low=-1, high=1), 3)


def _chebyshev(k: int, x: np.ndarray, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return 2 * x * p - q


def _shifted(k: int, x: np.ndarray, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return 2 * (2 * x - 1) * p - q


# name: (what it is, degree 1, degree k from the two before)
_POLYNOMIALS: dict[str, tuple[str, Callable, Callable]] = {
    "chebyshev_polynomial_t": ("Chebyshev's, first kind", lambda x: x, _chebyshev),
    "chebyshev_polynomial_u": ("Chebyshev's, second kind", lambda x: 2 * x, _chebyshev),
    "chebyshev_polynomial_v": ("Chebyshev's, third kind", lambda x: 2 * x - 1, _chebyshev),
    "chebyshev_polynomial_w": ("Chebyshev's, fourth kind", lambda x: 2 * x + 1, _chebyshev),
    "shifted_chebyshev_polynomial_t": ("T on [0, 1]", lambda x: 2 * x - 1, _shifted),
    "shifted_chebyshev_polynomial_u": ("U on [0, 1]", lambda x: 4 * x - 2, _shifted),
    "shifted_chebyshev_polynomial_v": ("V on [0, 1]", lambda x: 4 * x - 3, _shifted),
    "shifted_chebyshev_polynomial_w": ("W on [0, 1]", lambda x: 4 * x - 1, _shifted),
    "hermite_polynomial_h": (
        "Hermite's, physicists'",
        lambda x: 2 * x,
        lambda k, x, p, q: 2 * x * p - 2 * (k - 1) * q,
    ),
    "hermite_polynomial_he": (
        "Hermite's, probabilists'",
        lambda x: x,
        lambda k, x, p, q: x * p - (k - 1) * q,
    ),
    "laguerre_polynomial_l": (
        "Laguerre's",
        lambda x: 1 - x,
        lambda k, x, p, q: ((2 * k - 1 - x) * p - (k - 1) * q) / k,
    ),
    "legendre_polynomial_p": (
        "Legendre's",
        lambda x: x,
        lambda k, x, p, q: ((2 * k - 1) * x * p - (k - 1) * q) / k,
    ),
}


def _polynomial(name: str, doc: str, first: Callable, step: Callable) -> None:
    members = {
        "name": name,
        "functions": (f"special.{name}",),
        "first": staticmethod(first),
        "step": staticmethod(step),
        "__doc__": f"Polynomials ({doc}) of degree n.",
    }
    register(type("".join(p.capitalize() for p in name.split("_")), (Polynomial,), members))


for _name, (_doc, _first, _step) in _POLYNOMIALS.items():
    _polynomial(_name, _doc, _first, _step)
