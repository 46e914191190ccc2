"""Modified Bessel functions as expressions, in float64.

Chebyshev series of ``exp(-x) I(x)`` up to 8 and of ``exp(-x) sqrt(x) I(x)`` in ``1 / x`` from there
on (I1 up to 8 divided by x, too), the lowest degree first; computed with mpmath to 40 digits.
"""

from __future__ import annotations

from collections.abc import Sequence

from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression

_I0_NEAR = (
    3.383976372047380425e-1,
    -3.0468267234319839868e-1,
    1.7162090152220877535e-1,
    -9.4901097048047644421e-2,
    4.9305284239670708488e-2,
    -2.3737414805899468816e-2,
    1.0546460394594998318e-2,
    -4.3243099950505759443e-3,
    1.6394756169413357984e-3,
    -5.7637557453858236588e-4,
    1.8850288509584165573e-4,
    -5.754195010082103704e-5,
    1.6448448070728897089e-5,
    -4.4167383584587505636e-6,
    1.1173875391201037182e-6,
    -2.6707938539406117339e-7,
    6.0469950225419189493e-8,
    -1.3000250099862480421e-8,
    2.6598237246823866503e-9,
    -5.1897956016352629067e-10,
    9.6758090353732369122e-11,
    -1.7268262914415557072e-11,
    2.9550526631296398346e-12,
    -4.8564467831119294609e-13,
    7.6761854986049356169e-14,
    -1.1685332877993451681e-14,
    1.7153912855551330306e-15,
    -2.4312798465479546936e-16,
    3.3307945188222380978e-17,
    -4.4153416464793393795e-18,
)
_I0_FAR = (
    4.022452055070544158e-1,
    3.3691164782556940899e-3,
    6.8897583469168239843e-5,
    2.891370520834756483e-6,
    2.0489185894690637418e-7,
    2.2666689904981780646e-8,
    3.3962320257083863452e-9,
    4.9406023882249695891e-10,
    1.1889147107846438342e-11,
    -3.1499165279632413645e-11,
    -1.3215811840447713119e-11,
    -1.7941785315068061178e-12,
    7.1801244513836662337e-13,
    3.8527783827421427011e-13,
    1.5400862175214098269e-14,
    -4.1505693472872220866e-14,
    -9.5548466988283076487e-15,
    3.8116806693526224207e-15,
    1.7725601330565263836e-15,
    -3.4254856196772191346e-16,
    -2.8276239805165834849e-16,
    3.4612228676974610931e-17,
    4.465621420296759999e-17,
    -4.8305044859441820713e-18,
    -7.2331804878747539546e-18,
    9.9214754121736985989e-19,
    1.1936508908459820855e-18,
)
_I1_NEAR = (
    1.2629359322181682741e-1,
    -1.7641651835783405515e-1,
    1.0264365868984709538e-1,
    -5.2945981208094991427e-2,
    2.4726449030626516828e-2,
    -1.0564084894626198156e-2,
    4.1564229443128881567e-3,
    -1.513572450631253149e-3,
    5.122859561685757729e-4,
    -1.6176081582589674559e-4,
    4.7815651075500542264e-5,
    -1.3273163656039435828e-5,
    3.4702513081376784767e-6,
    -8.5687202646954547407e-7,
    2.0032947535521352623e-7,
    -4.4450591287963280807e-8,
    9.3815373864957717839e-9,
    -1.8872497517228292879e-9,
    3.625590281552117037e-10,
    -6.6634897235020277422e-11,
    1.1736186298890901631e-11,
    -1.9839743977649437152e-12,
    3.2237933659455747098e-13,
    -5.0421855047279116871e-14,
    7.6006842947354069341e-15,
    -1.105596947735386308e-15,
    1.5536319577362004689e-16,
    -2.1114212143581660782e-17,
    2.7779141127610463705e-18,
)
_I1_FAR = (
    3.8928811750914006024e-1,
    -9.7610974913614684078e-3,
    -1.1058893876262371629e-4,
    -3.8825648088776903935e-6,
    -2.5122362378702089253e-7,
    -2.6314688468895195068e-8,
    -3.835380385964237022e-9,
    -5.5897434621965838069e-10,
    -1.8974958123505412345e-11,
    3.2526035830154882386e-11,
    1.4125807436613781332e-11,
    2.0356285441470895072e-12,
    -7.1985517762459085121e-13,
    -4.0835511110921973182e-13,
    -2.101541842772664313e-14,
    4.2724400167119513543e-14,
    1.0420276984128802764e-14,
    -3.8144030724370078048e-15,
    -1.8803547755107824485e-15,
    3.3082023109209282827e-16,
    2.9626289976459501391e-16,
    -3.2095259219934239588e-17,
    -4.6503053684893583256e-17,
    4.4143483230717079499e-18,
    7.5172963108421048054e-18,
    -9.3141788673268833757e-19,
    -1.2421932751948909561e-18,
)


def chebyshev(b: Builder, t: Expression, coefficients: Sequence[float]) -> Expression:
    """The series at t, from -1 to 1 (Clenshaw's recurrence)."""
    after, present = b.constant(0, t.dtype), b.constant(0, t.dtype)
    double = t * 2
    for c in reversed(coefficients[1:]):
        after, present = present, b.fma(double, present, c - after)
    return b.fma(t, present, coefficients[0] - after)


def _scaled(b: Builder, size: Expression, near: Sequence[float], far: Sequence[float]) -> tuple:
    """The two series at a number that is not negative."""
    inner = chebyshev(b, b.min(size, 8) * 0.25 - 1, near)
    large = b.max(size, 8)
    return inner, chebyshev(b, 16 / large - 1, far) / b.sqrt(large)


def i0e(b: Builder, x: Expression) -> Expression:
    """``exp(-|x|) I0(x)``."""
    size = b.abs(x)
    inner, outer = _scaled(b, size, _I0_NEAR, _I0_FAR)
    return b.where(size <= 8, inner, outer)


def i1e(b: Builder, x: Expression) -> Expression:
    """``exp(-|x|) I1(x)``."""
    size = b.abs(x)
    inner, outer = _scaled(b, size, _I1_NEAR, _I1_FAR)
    return b.copysign(b.where(size <= 8, inner * size, outer), x)


def i0(b: Builder, x: Expression) -> Expression:
    """The modified Bessel function of the first kind, order 0."""
    return _grown(b, x, i0e(b, x))


def i1(b: Builder, x: Expression) -> Expression:
    """The modified Bessel function of the first kind, order 1."""
    return _grown(b, x, i1e(b, x))


def _grown(b: Builder, x: Expression, scaled: Expression) -> Expression:
    """Times ``exp(|x|)``, in two steps: the product may be finite where that is not."""
    half = b.exp(b.abs(x) * 0.5)
    limit = b.copysign(b.constant(float("inf"), x.dtype), scaled)
    return b.where(b.abs(x).eq(float("inf")), limit, half * scaled * half)
