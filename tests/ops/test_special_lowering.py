"""Special functions as machine code, where they are hard: against mpmath, and PyTorch at the ends.

Tiny and huge arguments, both sides of each place where one series takes over from another, and
what is not a number or not finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from schedule_runner import compiled

from taimatsu import dtypes
from taimatsu.ir.meta import meta
from taimatsu.ops import REGISTRY

EPSILON = 2.0**-52


def of_code(name: str, *arrays: np.ndarray, **attributes: Any) -> np.ndarray:
    """The operation's compiled rule."""
    operation: Any = REGISTRY[name]
    metas = tuple([meta(x.shape, dtypes.from_numpy(x.dtype)) for x in arrays])
    out = operation.infer(*metas, **attributes)

    def write(b: Any, source: Any) -> list:
        inputs = tuple([source.window(k) for k in range(len(arrays))])
        return [b.stage(made) for made in operation.stages(b, inputs, attributes, metas, (out,))]

    return np.asarray(compiled(write, dict(enumerate(arrays))).values[0])


def around(*points: float) -> list[float]:
    """Points, and those beside them."""
    return [x for p in points for x in (np.nextafter(p, -1e9), p, np.nextafter(p, 1e9))]


def exactly(function: Callable, x: np.ndarray) -> np.ndarray:
    with mp.workdps(40):
        return np.array([float(function(mp.mpf(float(value)))) for value in x])


def quantile(p: mp.mpf) -> mp.mpf:
    """By Newton's steps on the logarithm of the smaller tail."""
    low = min(p, 1 - p)
    if low == 0:
        return -mp.inf if p == 0 else mp.inf
    x = mp.sqrt(-2 * mp.log(low)) if low < 0.01 else mp.mpf(0)
    for _ in range(60):
        tail, density = mp.erfc(x / mp.sqrt(2)) / 2, mp.npdf(x)
        x += mp.log(tail / low) * tail / density
    return -x if p < 0.5 else x


TINY = [5e-324, 1e-310, 1e-300, 1e-30, 1e-9]
WAVES = [*TINY, *around(0.5, 2.404825557695773, 5, 5.520078110286312), 30.5, 1e3, 1e6, 1e10, 1e15]
DECAYS = [*TINY[1:], *around(0.7, 2), 10.5, 300.0, 700.0]
AIRY = [*TINY, *around(-4, 1.5, -2.338107410459767), 0.0, 25.0, 100.0, -1e2, -1e4, -5e5, 1e6, 1e30]
TAILS = [*TINY, *around(0.5, 0.25, 0.000620, 1e-16), 1 - 2.0**-53, 1 - 1e-9, 0.9]
SERIES: dict[str, tuple[Callable, list[float]]] = {
    "bessel_j0": (lambda x: mp.besselj(0, x), [*WAVES, *[-x for x in WAVES]]),
    "bessel_j1": (lambda x: mp.besselj(1, x), [*WAVES, *[-x for x in WAVES]]),
    "bessel_y0": (lambda x: mp.bessely(0, x), WAVES),
    "bessel_y1": (lambda x: mp.bessely(1, x), WAVES),
    "modified_bessel_k0": (lambda x: mp.besselk(0, x), DECAYS),
    "modified_bessel_k1": (lambda x: mp.besselk(1, x), DECAYS),
    "scaled_modified_bessel_k0": (lambda x: mp.exp(x) * mp.besselk(0, x), [*DECAYS, 1e4]),
    "scaled_modified_bessel_k1": (lambda x: mp.exp(x) * mp.besselk(1, x), [*DECAYS, 1e4]),
    "airy_ai": (mp.airyai, AIRY),
    "ndtri": (quantile, TAILS),
}


def amplitude(name: str, x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """What errors are relative to: for waves how high they are there."""
    size = np.maximum(np.abs(x), 1)
    if name.startswith("bessel"):
        return np.maximum(np.abs(values), np.minimum(0.5, np.sqrt(2 / np.pi / size)))
    if name == "airy_ai":
        return np.where(x < -1, np.maximum(np.abs(values), 0.5 / np.sqrt(np.sqrt(size))), values)
    return np.abs(values)


@pytest.mark.parametrize("name", SERIES)
def test_series(name: str) -> None:
    function, points = SERIES[name]
    x = np.array(points)
    wanted = exactly(function, x)
    found = of_code(name, x)
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(found[~finite], wanted[~finite])
    gap = np.abs(found - wanted)[finite] / (amplitude(name, x, wanted)[finite] + 1e-300)
    assert gap.max() < 6 * EPSILON, x[finite][gap.argmax()]
    narrow = x.astype(np.float32)
    exact = exactly(function, narrow[np.abs(narrow) > 1e-37])
    got = of_code(name, narrow)[np.abs(narrow) > 1e-37]
    np.testing.assert_allclose(got, exact.astype(np.float32), rtol=2.0**-23, atol=1e-37)


ENDS = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, -5.5, -1e-30, -5e-324, 1.5])


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("name", SERIES)
def test_ends(name: str, kind: str) -> None:
    torch = pytest.importorskip("torch")
    x = ENDS.astype(kind)
    wanted = getattr(torch.special, name)(torch.from_numpy(x)).numpy()
    found = of_code(name, x)
    zero = (wanted == 0) & (x == 0)
    np.testing.assert_array_equal(np.signbit(found[zero]), np.signbit(wanted[zero]))
    np.testing.assert_allclose(found, wanted, rtol=4e-5 if kind == "float32" else 3e-5, atol=3e-7)


# -- zeta ------------------------------------------------------------------------------------


def pairs(first: list[float], second: list[float]) -> tuple[np.ndarray, np.ndarray]:
    grids = np.meshgrid(np.array(first), np.array(second))
    return grids[0].ravel(), grids[1].ravel()


def hurwitz(x: float, q: float) -> float:
    """By its terms up to a positive one, and mpmath from there."""
    with mp.workdps(int(40 + x * math.log10(max(abs(q), 1) + 1))):
        below = max(0, math.ceil(-q))
        terms = [(mp.mpf(q) + k) ** (-int(x) if below else -x) for k in range(below)]
        return float(mp.fsum(terms) + mp.zeta(mp.mpf(x), mp.mpf(q) + below))


ARGUMENTS = [1e-30, 1e-3, 0.5, 1.0, 9.99, 10.0, 41.5, 1e5, -0.5, -0.75, -5.25, -9.5, -10.5, -200.75]


def test_zeta() -> None:
    x, q = pairs([1.0 + 2.0**-40, 2.0, 2.5, 3.0, 8.0, 21.0, 60.0], ARGUMENTS)
    wanted = np.array(
        [hurwitz(a, b) if b > 0 or a % 1 == 0 else np.nan for a, b in zip(x, q, strict=True)]
    )
    found = of_code("zeta", x, q)
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    # Of terms with both signs the greatest says how exact their sum is.
    scale = np.maximum(np.abs(wanted), np.where(q < 0, np.abs(q - np.round(q)) ** -x, 0) * 0.1)
    usual = np.isfinite(wanted) & (wanted != 0)
    gap = np.abs(found - wanted)[usual] / scale[usual]
    assert gap.max() < 10 * EPSILON, (x[usual][gap.argmax()], q[usual][gap.argmax()])
    narrow = of_code("zeta", x.astype(np.float32), np.float32(0.5) + 0 * x.astype(np.float32))
    exact = np.array([hurwitz(float(a), 0.5) for a in x.astype(np.float32)[narrow < np.inf]])
    np.testing.assert_allclose(narrow[narrow < np.inf], exact.astype(np.float32), rtol=2.0**-23)


def test_zeta_where_terms_cancel() -> None:
    """Those of -1/2 and 1/2 come to nothing; what is left has all digits."""
    x = np.array([3.0, 11.0, 21.0])
    wanted = [hurwitz(a, 1.5) for a in x]
    np.testing.assert_allclose(of_code("zeta", x, np.full(3, -0.5)), wanted, rtol=4 * EPSILON)


def test_zeta_at_ends() -> None:
    torch = pytest.importorskip("torch")
    ends = [np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, -7.0, -2.5, 5e-324, 0.5, 1.0, 1e300]
    x, q = pairs([np.nan, 1.0, 0.5, 0.0, -1.0, np.inf, 1e30, 2.5, 3.0, 1000.0], ends)
    wanted = torch.special.zeta(torch.from_numpy(x), torch.from_numpy(q)).numpy()
    found = of_code("zeta", x, q)
    # Sums that tend to 0 are 0; PyTorch multiplies 0 by infinity.
    vanish = (x > 1) & (q > 1) & np.isnan(wanted)
    assert vanish.any()
    np.testing.assert_array_equal(found[vanish], 0)
    np.testing.assert_allclose(found[~vanish], wanted[~vanish], rtol=1e-13, atol=1e-290)


@pytest.mark.parametrize("n", [2, 3, 20, 170, 171])
def test_polygamma(n: int) -> None:
    torch = pytest.importorskip("torch")
    x = np.array([*ARGUMENTS, np.nan, -np.inf, 0.0, -1.0, -30.0])
    wanted = torch.polygamma(n, torch.from_numpy(x)).numpy()
    found = of_code("polygamma", x, n=n)
    usual = (x > 0) | (x % 0.5 != 0)  # at halves PyTorch's terms cancel, and leave a rounding
    np.testing.assert_allclose(found[usual], wanted[usual], rtol=1e-11, atol=1e-300)
    reference = REGISTRY["polygamma"].reference(x, n=n)
    np.testing.assert_allclose(found, reference, rtol=1e-14)
