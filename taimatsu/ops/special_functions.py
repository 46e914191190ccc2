"""Special functions on NumPy arrays, in float64: erf, its inverse, the gamma family.

Accurate to a few units in the last place of float64. They serve the references of operations;
those that would need long tables of their own come from SciPy (``scipy_special``).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

# -- error function --------------------------------------------------------------------------
# Rational approximations on four intervals, after W. J. Cody, "Rational Chebyshev approximation
# for the error function", Math. Comp. 23 (1969); coefficients as in Sun's fdlibm (s_erf.c),
# lowest power first.

_ERX = 8.45062911510467529297e-01  # erf(1), rounded to float32
_P0 = (
    1.28379167095512558561e-01,
    -3.25042107247001499370e-01,
    -2.84817495755985104766e-02,
    -5.77027029648944159157e-03,
    -2.37630166566501626084e-05,
)
_Q0 = (
    1.0,
    3.97917223959155352819e-01,
    6.50222499887672944485e-02,
    5.08130628187576562776e-03,
    1.32494738004321644526e-04,
    -3.96022827877536812320e-06,
)
_P1 = (
    -2.36211856075265944077e-03,
    4.14856118683748331666e-01,
    -3.72207876035701323847e-01,
    3.18346619901161753674e-01,
    -1.10894694282396677476e-01,
    3.54783043256182359371e-02,
    -2.16637559486879084300e-03,
)
_Q1 = (
    1.0,
    1.06420880400844228286e-01,
    5.40397917702171048937e-01,
    7.18286544141962662868e-02,
    1.26171219808761642112e-01,
    1.36370839120290507362e-02,
    1.19844998467991074170e-02,
)
_P2 = (
    -9.86494403484714822705e-03,
    -6.93858572707181764372e-01,
    -1.05586262253232909814e01,
    -6.23753324503260060396e01,
    -1.62396669462573470355e02,
    -1.84605092906711035994e02,
    -8.12874355063065934246e01,
    -9.81432934416914548592e00,
)
_Q2 = (
    1.0,
    1.96512716674392571292e01,
    1.37657754143519042600e02,
    4.34565877475229228821e02,
    6.45387271733267880336e02,
    4.29008140027567833386e02,
    1.08635005541779435134e02,
    6.57024977031928170135e00,
    -6.04244152148580987438e-02,
)
_P3 = (
    -9.86494292470009928597e-03,
    -7.99283237680523006574e-01,
    -1.77579549177547519889e01,
    -1.60636384855821916062e02,
    -6.37566443368389627722e02,
    -1.02509513161107724954e03,
    -4.83519191608651397019e02,
)
_Q3 = (
    1.0,
    3.03380607434824582924e01,
    3.25792512996573918826e02,
    1.53672958608443695994e03,
    3.19985821950859553908e03,
    2.55305040643316442583e03,
    4.74528541206955367215e02,
    -2.24409524465858183362e01,
)


def _polynomial(coefficients: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    result = np.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        result *= x
        result += c
    return result


def _ratio(p: tuple[float, ...], q: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    return _polynomial(p, x) / _polynomial(q, x)


def _near(size: np.ndarray) -> np.ndarray:
    """``erf(x) / x - 1`` for 0 <= x < 0.84375."""
    return _ratio(_P0, _Q0, size * size)


def _middle(size: np.ndarray) -> np.ndarray:
    """``erf(x) - _ERX`` for 0.84375 <= x < 1.25."""
    return _ratio(_P1, _Q1, size - 1)


def _tail(size: np.ndarray) -> np.ndarray:
    """``erfc(x)`` for x >= 1.25: exp(-x^2) is split so that the square is exact."""
    x = np.minimum(size, 28.0)  # the result is 0 from there on
    inverse = 1 / (x * x)
    ratio = np.where(x < 1 / 0.35, _ratio(_P2, _Q2, inverse), _ratio(_P3, _Q3, inverse))
    high = x.astype(np.float32).astype(np.float64)
    return np.exp(-high * high - 0.5625) * np.exp((high - x) * (high + x) + ratio) / x


def _erfc_center(size: np.ndarray) -> np.ndarray:
    """``erfc(x)`` for 0 <= x < 0.84375; past 1/4 taken from 1/2, where nothing cancels."""
    ratio = _near(size)
    return np.where(size < 0.25, 1 - (size + size * ratio), 0.5 - (size * ratio + (size - 0.5)))


def _intervals(size: np.ndarray) -> list[np.ndarray]:
    return [size < 0.84375, (size >= 0.84375) & (size < 1.25)]


def erf(x: np.ndarray) -> np.ndarray:
    """The error function, ``2 / sqrt(pi) * integral of exp(-t^2) from 0 to x``.

    float32 stays float32: nothing cancels, so its own precision suffices.
    """
    x = np.asarray(x)
    size = np.abs(x)
    pieces = [lambda t: t + t * _near(t), lambda t: _ERX + _middle(t), lambda t: 1 - _tail(t)]
    return np.copysign(np.piecewise(size, _intervals(size), pieces), x)


def erfc(x: np.ndarray) -> np.ndarray:
    """``1 - erf(x)``, accurate where it is small."""
    x = np.asarray(x, np.float64)
    size = np.abs(x)
    pieces = [_erfc_center, lambda t: 1 - _ERX - _middle(t), _tail]
    right = np.piecewise(size, _intervals(size), pieces)
    right = np.where(size > 28, 0.0, right)
    return np.where(x < 0, 2 - right, right)


def erfinv(y: np.ndarray) -> np.ndarray:
    """The x with ``erf(x) = y``; NaN outside [-1, 1].

    A logarithmic first guess (S. Winitzki, 2008), then Halley's steps on the side of erf or
    erfc that keeps all digits.
    """
    y = np.asarray(y, np.float64)
    size = np.abs(y)
    rest = 1 - size  # exact for size >= 1/2
    inside = (size < 1) & (size > 0)
    safe = np.where(inside, size, 0.5)
    safe_rest = np.where(inside, rest, 0.5)
    log = np.log(safe_rest * (1 + safe))
    a = 0.147
    half = 2 / (math.pi * a) + log / 2
    x = np.sqrt(np.sqrt(half * half - log / a) - half)
    for _ in range(3):
        gap = np.where(safe > 0.5, safe_rest - erfc(x), erf(x) - safe)
        newton = gap / (2 / math.sqrt(math.pi) * np.exp(-x * x))
        x = x - newton / (1 + x * newton)
    x = np.where(inside, x, np.where(size == 1, np.inf, np.where(size == 0, 0.0, np.nan)))
    return np.copysign(x, y)


# -- gamma family ----------------------------------------------------------------------------


def _lgamma(x: float) -> float:
    try:
        return math.lgamma(x)
    except (ValueError, OverflowError):  # a pole, or too large
        return math.inf


def lgamma(x: np.ndarray) -> np.ndarray:
    """``log |gamma(x)|``; infinite at 0 and the negative whole numbers."""
    x = np.asarray(x, np.float64)
    return np.asarray(np.frompyfunc(_lgamma, 1, 1)(x), np.float64)


# Bernoulli numbers B2, B4, ...
_BERNOULLI = (
    1 / 6,
    -1 / 30,
    1 / 42,
    -1 / 30,
    5 / 66,
    -691 / 2730,
    7 / 6,
    -3617 / 510,
    43867 / 798,
    -174611 / 330,
    854513 / 138,
    -236364091 / 2730,
)
_PSI_ROOT = 1.4616321449683623413  # digamma is zero here
_PSI_ROOT_LOW = 9.549995429965697715e-17  # what the double above leaves over


def digamma(x: np.ndarray) -> np.ndarray:
    """The derivative of ``log gamma``: -inf at 0, +inf at -0, NaN at negative whole numbers."""
    x = np.asarray(x, np.float64)
    whole = (x == np.floor(x)) & (x <= 0)
    safe = np.where(whole | ~np.isfinite(x), 1.0, x)
    reflected = safe < 0
    argument = np.where(reflected, 1 - safe, safe)
    result = _digamma_positive(argument)
    # pi / tan(pi x), of the fractional part: exact however large x is
    fraction = safe - np.trunc(safe)
    result = np.where(reflected, result - math.pi / np.tan(math.pi * fraction), result)
    result = np.where(whole, np.where(x == 0, np.copysign(np.inf, -x), np.nan), result)
    return np.where(x == np.inf, np.inf, np.where(np.isnan(x) | (x == -np.inf), np.nan, result))


def _digamma_positive(x: np.ndarray) -> np.ndarray:
    """Recurrence up to 10, then the asymptotic series; near the root, a Taylor series there."""
    shift = np.zeros_like(x)
    large = x
    for _ in range(10):
        small = large < 10
        shift = shift + np.where(small, 1 / large, 0)
        large = np.where(small, large + 1, large)
    square = 1 / (large * large)
    series = np.zeros_like(x)
    power = square
    for k, number in enumerate(_BERNOULLI[:7], 1):
        series = series + number / (2 * k) * power
        power = power * square
    far = np.log(large) - 0.5 / large - series - shift
    return np.where(np.abs(x - _PSI_ROOT) < 0.05, _near_root(x), far)


def _near_root(x: np.ndarray) -> np.ndarray:
    """digamma around its positive root: sum of psi^(n)(root) / n! * (x - root)^n."""
    step = (x - _PSI_ROOT) - _PSI_ROOT_LOW
    result = np.zeros_like(x)
    for n in range(11, 0, -1):
        # psi^(n)(r) / n! = (-1)^(n+1) zeta(n + 1, r)
        slope = (-1) ** (n + 1) * _ZETA_AT_ROOT[n - 1]
        result = (result + slope) * step
    return result


ZETA_TERMS = 10  # of the sum, before its rest is a series
# Of Euler and Maclaurin's formula: B(2k) / (2k)!
ZETA_SERIES = tuple(n / math.factorial(2 * k) for k, n in enumerate(_BERNOULLI, 1))


def zeta(x: Any, q: np.ndarray) -> np.ndarray:
    """Hurwitz' zeta function, the sum of ``(k + q) ** -x`` over k = 0, 1, ...

    NaN for x < 1; infinite for x = 1 and at q = 0, -1, ...; NaN at other negative q unless x is
    whole: then terms of negative numbers are those of their sizes, but for the sign.
    """
    x, q = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(q, np.float64))
    with np.errstate(all="ignore"):
        below = q < 0
        last = np.ceil(np.where(below, q, 0))  # what is above the last negative term
        count = np.where(below, 1 - last, 0)
        total = _zeta_sum(x, q + count, np.where(below, last - q, 1), count)
    total = np.where(x == 1, np.inf, total)
    pole = (q <= 0) & (q == np.floor(q))
    total = np.where(pole, np.inf, total)
    outside = (x < 1) | (below & ~pole & (x != np.floor(x)))
    return np.where(outside, np.nan, total)


def _zeta_sum(x: np.ndarray, start: np.ndarray, size: np.ndarray, count: np.ndarray) -> np.ndarray:
    """All terms from the first positive one on, and ``count`` negative ones, the last of which has
    this size. What cancels is added first.
    """
    sign = np.where(x / 2 == np.floor(x / 2), 1, -1)
    far = size + np.maximum(count, ZETA_TERMS)
    total = sign * (_zeta_rest(x, size + ZETA_TERMS) - _zeta_rest(x, far))
    total = total + _zeta_rest(x, start + ZETA_TERMS)
    for k in reversed(range(ZETA_TERMS)):
        negative = np.where(k < count, sign * (size + k) ** -x, 0)
        total = total + ((start + k) ** -x + negative)
    return total


def _zeta_rest(x: np.ndarray, start: np.ndarray) -> np.ndarray:
    """All terms from ``start`` on: Euler and Maclaurin's summation formula."""
    power = start ** (1 - x)
    term = power / start
    total = power / (x - 1) + 0.5 * term
    term = term * (x / start)
    for k, number in enumerate(ZETA_SERIES, 1):
        total = total + number * term
        term = term * ((x + 2 * k - 1) / start) * ((x + 2 * k) / start)
    return np.where(power == 0, 0, total)


_ZETA_AT_ROOT = tuple(float(zeta(n + 1.0, np.asarray(_PSI_ROOT))) for n in range(1, 12))


def polygamma(n: int, x: np.ndarray) -> np.ndarray:
    """The n-th derivative of digamma (n = 0 is digamma itself)."""
    if n == 0:
        return digamma(x)
    if n == 1:
        return _trigamma(np.asarray(x, np.float64))
    return polygamma_factor(n) * zeta(n + 1.0, x)


def polygamma_factor(n: int) -> float:
    """What zeta(n + 1, x) is multiplied by; infinite where n! is."""
    size = math.gamma(n + 1) if n <= 170 else math.inf
    return size if n % 2 else -size


def _trigamma(x: np.ndarray) -> np.ndarray:
    """By reflection for x < 1/2, so that far negative arguments cost no more."""
    reflected = x < 0.5
    value = zeta(2.0, np.where(reflected, 1 - x, x))
    angle = math.pi * (x - np.trunc(x))
    sine = np.sin(angle)
    return np.where(reflected, (math.pi / sine) ** 2 - value, value)


# -- functions taken from SciPy --------------------------------------------------------------


def scipy_special(name: str) -> Any:
    """``scipy.special.<name>``, or an error that says what to install."""
    try:
        import scipy.special
    except ImportError:
        raise ImportError(
            f"torch.special.{name} needs SciPy: pip install taimatsu[scipy]"
        ) from None
    return getattr(scipy.special, name)
