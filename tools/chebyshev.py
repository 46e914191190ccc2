"""Chebyshev series of special functions; prints ``taimatsu/ops/special_coefficients.py``.

    python tools/chebyshev.py > taimatsu/ops/special_coefficients.py

Needs mpmath. Each series is interpolated at Chebyshev's points with 40 digits, over an interval
that is mapped to [-1, 1]; coefficients come with the lowest degree first, and end where they are
below the last places of a float64 beside the greatest value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import mpmath as mp

mp.mp.dps = 40
POINTS = 64
ENOUGH = mp.mpf(2) ** -58


class Series(NamedTuple):
    """A series that is wanted: of ``function(u)``, for ``low <= u <= high``."""

    name: str
    meaning: str
    function: Callable[[mp.mpf], mp.mpf]
    low: mp.mpf | float
    high: mp.mpf | float


def coefficients(series: Series) -> list[mp.mpf]:
    """Those that matter."""
    half, middle = (series.high - mp.mpf(series.low)) / 2, (series.high + mp.mpf(series.low)) / 2
    angles = [mp.pi * (k + mp.mpf(0.5)) / POINTS for k in range(POINTS)]
    values = [series.function(middle + half * mp.cos(angle)) for angle in angles]
    found = [
        2 * mp.fsum(v * mp.cos(n * a) for v, a in zip(values, angles, strict=True)) / POINTS
        for n in range(POINTS)
    ]
    found[0] /= 2
    limit = max(map(abs, values)) * ENOUGH
    while abs(found[-1]) < limit:
        found.pop()
    assert len(found) < POINTS - 8, f"{series.name}: {len(found)} are too few"
    return found


# -- Bessel functions ------------------------------------------------------------------------


def without_zeros(order: int) -> Callable[[mp.mpf], mp.mpf]:
    """``J(x)``, the first two positive zeros (for order 1 the one at 0, too) divided out."""
    zeros = [mp.besseljzero(order, n) for n in (1, 2)]

    def quotient(u: mp.mpf) -> mp.mpf:
        x = mp.sqrt(u)
        value = mp.besselj(order, x) / x**order
        for zero in zeros:
            value /= u - zero * zero
        return value

    return quotient


def amplitudes(order: int, u: mp.mpf) -> tuple[mp.mpf, mp.mpf]:
    """P and x Q at ``x = 5 / sqrt(u)``, where ``J + iY = sqrt(2 / (pi x)) (P + iQ) exp(i phase)``;
    the phase is ``x - (2 order + 1) pi / 4``.
    """
    x = 5 / mp.sqrt(u)
    phase = x - (2 * order + 1) * mp.pi / 4
    hankel = mp.besselj(order, x) + 1j * mp.bessely(order, x)
    both = hankel * mp.sqrt(mp.pi * x / 2) * mp.expj(-phase)
    return both.real, both.imag * x


def second_kind(order: int) -> Callable[[mp.mpf], mp.mpf]:
    """What Y has beside its logarithm (and its pole), as a function of x^2; divided by x^order."""

    def rest(u: mp.mpf) -> mp.mpf:
        x = mp.sqrt(u)
        logarithm = mp.log(x) * mp.besselj(order, x)
        if order:
            logarithm -= 1 / x
        return (mp.bessely(order, x) - 2 / mp.pi * logarithm) / x**order

    return rest


def modified_rest(order: int) -> Callable[[mp.mpf], mp.mpf]:
    """``K0(x) + log(x / 2) I0(x)``, or ``x (K1(x) - log(x / 2) I1(x))``, as a function of x^2."""

    def rest(u: mp.mpf) -> mp.mpf:
        x = mp.sqrt(u)
        logarithm = mp.log(x / 2) * mp.besseli(order, x)
        if order:
            return x * (mp.besselk(1, x) - logarithm)
        return mp.besselk(0, x) + logarithm

    return rest


def modified_far(order: int) -> Callable[[mp.mpf], mp.mpf]:
    """``exp(x) sqrt(x) K(x)`` at ``x = 2 / u``."""
    return lambda u: mp.exp(2 / u) * mp.sqrt(2 / u) * mp.besselk(order, 2 / u)


AIRY_LOW, AIRY_HIGH = -4, 1.5  # between them the function itself is a series


def exponent(x: mp.mpf) -> mp.mpf:
    """The z of Airy's functions: 2/3 x^(3/2)."""
    return 2 * mp.mpf(x) ** 1.5 / 3


def base(z: mp.mpf) -> mp.mpf:
    """The x of a z."""
    return (z * 3 / 2) ** (mp.mpf(2) / 3)


def airy_far(u: mp.mpf) -> mp.mpf:
    """``exp(z) x^(1/4) Ai(x)`` at ``z(x) = z(AIRY_HIGH) / u``."""
    z = exponent(AIRY_HIGH) / u
    x = base(z)
    return mp.exp(z) * mp.root(x, 4) * mp.airyai(x)


def airy_waves(u: mp.mpf) -> tuple[mp.mpf, mp.mpf]:
    """P and z Q at ``z = z(-AIRY_LOW) / sqrt(u)``, where ``Ai + i Bi`` at ``-x`` is
    ``x^(-1/4) (P - iQ) i exp(-i (z + pi / 4))``.
    """
    z = exponent(-AIRY_LOW) / mp.sqrt(u)
    x = base(z)
    wave = (mp.airyai(-x) + 1j * mp.airybi(-x)) * mp.root(x, 4)
    both = wave * mp.expj(z + mp.pi / 4) / 1j
    return both.real, -both.imag * z


# -- the normal distribution -------------------------------------------------------------------


def quantile(w: mp.mpf) -> mp.mpf:
    """The x with ``4 p (1 - p) = exp(-w)``, where p is the distribution's function at -x."""
    tail = mp.exp(-w) / (2 * (1 + mp.sqrt(1 - mp.exp(-w))))
    x = mp.sqrt(w) if w < 4 else mp.sqrt(2 * (w - mp.log(w)))
    log = mp.log(tail)
    for _ in range(12):
        upper = mp.erfc(x / mp.sqrt(2)) / 2
        density = mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)
        x += (mp.log(upper) - log) * upper / density
    return x


def quantile_near(w: mp.mpf) -> mp.mpf:
    """``x / (1 - 2 p)``."""
    return quantile(w) / mp.sqrt(-mp.expm1(-w))


def quantile_far(u: mp.mpf) -> mp.mpf:
    """``x / sqrt(w)`` at ``sqrt(w) = 6 / u``."""
    return quantile(36 / (u * u)) * u / 6


# -- printing --------------------------------------------------------------------------------


def wanted() -> Iterator[Series]:
    for n in (0, 1):
        zeros = "without its first zeros" if n == 0 else "/ x without its first zeros"
        yield Series(f"J{n}_NEAR", f"J{n} {zeros}, in x^2 up to 25", without_zeros(n), 0, 25)
        yield Series(f"Y{n}_NEAR", "what Y has beside J and log", second_kind(n), 0, 25)
        yield Series(f"P{n}", "in 25 / x^2", lambda u, n=n: amplitudes(n, u)[0], 0, 1)
        yield Series(f"Q{n}", "times x", lambda u, n=n: amplitudes(n, u)[1], 0, 1)
    for n in (0, 1):
        small = lambda u, n=n: mp.besseli(n, mp.sqrt(u)) / mp.sqrt(u) ** n  # noqa: E731
        yield Series(f"I{n}_SMALL", f"I{n} / x^{n} in x^2 up to 4", small, 0, 4)
        yield Series(f"K{n}_SMALL", "what K has beside it", modified_rest(n), 0, 4)
        yield Series(f"K{n}_FAR", "exp(x) sqrt(x) K in 2 / x", modified_far(n), 0, 1)
    yield Series("AIRY_NEAR", "Ai from -4 to 1.5", mp.airyai, AIRY_LOW, AIRY_HIGH)
    yield Series("AIRY_FAR", "exp(z) x^(1/4) Ai, in 1 / z", airy_far, 0, 1)
    yield Series("AIRY_P", "in 1 / z^2, for -x", lambda u: airy_waves(u)[0], 0, 1)
    yield Series("AIRY_Q", "times z", lambda u: airy_waves(u)[1], 0, 1)
    yield Series("QUANTILE_NEAR", "x / (1 - 2 p) in w up to 6", quantile_near, 0, 6)
    yield Series("QUANTILE_MIDDLE", "x in sqrt(w)", lambda s: quantile(s * s), mp.sqrt(6), 6)
    yield Series("QUANTILE_FAR", "x / sqrt(w) in 6 / sqrt(w)", quantile_far, mp.mpf(6) / 28, 1)


HEAD = '''"""Chebyshev series of Bessel and Airy functions and of the normal quantile.

Printed by tools/chebyshev.py, which says what each is, from mpmath's values with 40 digits. The
lowest degree comes first.
"""
'''


def main() -> None:
    print(HEAD)
    for order in (0, 1):
        exact = [mp.besseljzero(order, n) for n in (1, 2)]
        print(f"# The first two positive zeros of J{order}, and what is left of them.")
        pairs = [(repr(float(z)), repr(float(z - mp.mpf(float(z))))) for z in exact]
        print(f"J{order}_ZEROS = ({', '.join(f'({high}, {low})' for high, low in pairs)})")
    for series in wanted():
        print(f"# {series.meaning}")
        print(f"{series.name} = (")
        for c in coefficients(series):
            print(f"    {mp.nstr(c, 20)},")
        print(")")


if __name__ == "__main__":
    main()
