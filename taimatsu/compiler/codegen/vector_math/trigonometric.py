"""sin, cos, tan and their inverses.

Angles are reduced to a quarter turn (``reduction``); minimax polynomials do the rest. In float32
only the reduction is done in float64.
"""

from __future__ import annotations

from taimatsu.compiler.codegen.vector_math import coefficients as tables
from taimatsu.compiler.codegen.vector_math.double_word import Pair, minus_product
from taimatsu.compiler.codegen.vector_math.lanes import Lanes, function, polynomial
from taimatsu.compiler.codegen.vector_math.reduction import reduced

INFINITY = float("inf")
LARGE = {32: 2.0**120, 64: 2.0**1000}


def _reduced(x: Lanes) -> tuple[Pair, Lanes]:
    """The rest of |x| and the quarter turn, in x's format."""
    size = x.magnitude()
    if x.bits == 64:
        return reduced(size)
    rest, quarter = reduced(size.to_double(), short=True)
    high = rest.high.to_single()
    return Pair(high, (rest.high - high.to_double()).to_single()), quarter.resized(32)


def _sine(r: Pair, square: Lanes) -> Lanes:
    cube, tail = r.high * square, polynomial(square, tables.SIN[square.precision])
    if square.bits == 32:
        return cube.times_plus(tail, r.high)
    return r.high + cube.times_plus(tail, r.low.times_plus(square * -0.5, r.low))


def _cosine(r: Pair, square: Lanes) -> Lanes:
    tail = polynomial(square, tables.COS[square.precision])
    if square.bits == 32:
        return (square * square).times_plus(tail, square.times_plus(-0.5, 1))
    half = square * 0.5
    near = 1 - half
    rest = (-r.high).times_plus(r.low, (1 - near) - half)  # with what rounding left out of near
    return near + (square * square).times_plus(tail, rest)


def _sine_at(r: Pair, quarter: Lanes) -> Lanes:
    """The sine of r and as many quarter turns."""
    square = r.high * r.high
    value = ((quarter & 1) != 0).where(_cosine(r, square), _sine(r, square))
    return value.with_sign((quarter & 2) << (square.bits - 2))


@function
def sin(x: Lanes) -> Lanes:
    """The sine of an angle in radians."""
    rest, quarter = _reduced(x)
    return _sine_at(rest, quarter).with_sign(x.sign())


@function
def cos(x: Lanes) -> Lanes:
    """The cosine of an angle in radians."""
    rest, quarter = _reduced(x)
    return _sine_at(rest, quarter + 1)


@function
def tan(x: Lanes) -> Lanes:
    """The tangent of an angle in radians; in odd quarters it is ``-1 / tan(r)``."""
    (high, low), quarter = _reduced(x)
    square = high * high
    tail = high * square * polynomial(square, tables.TAN[x.precision])
    odd = (quarter & 1) != 0
    if x.bits == 32:
        near = high + (tail + low.times_plus(square, low))
        value = odd.where(-1 / near, near)
    else:
        near = high + tail
        rest = (high - near) + tail + low.times_plus(near * near, low)
        inverse = -1 / near
        residue = minus_product(near.like(1), -inverse, near)
        inverse = inverse + inverse * inverse.times_plus(rest, residue)
        value = odd.where(inverse, near + rest)
    return value.with_sign(x.sign())


# -- inverse functions -----------------------------------------------------------------------


def _asin_tail(s: Lanes, square: Lanes) -> Lanes:
    """``asin(s) - s`` for |s| <= 1 / 2."""
    return s * square * polynomial(square, tables.ASIN[s.precision])


def _halved(size: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """For sizes beyond 1/2: s with ``asin(size) = pi / 2 - 2 asin(s)``, its square, s's error."""
    square = (1 - size) * 0.5
    s = square.intrinsic("sqrt")
    rest = minus_product(square, s, s) / (s + s)
    return s, square, (square > 0).where(rest, 0)


def _chosen(size: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """s and asin(s) - s, of the size itself or, beyond 1/2, of ``_halved``; and whether it is."""
    far = size > 0.5
    s, square, rest = _halved(size)
    s = far.where(s, size)
    square = far.where(square, size * size)
    return s, far.where(rest, 0) + _asin_tail(s, square), far


@function
def asin(x: Lanes) -> Lanes:
    """The inverse sine; nan beyond 1."""
    size = x.magnitude()
    s, tail, far = _chosen(size)
    high, low = tables.HALF_PI[x.precision][:2]
    beyond = high - ((s + s) - (low - (tail + tail)))
    return far.where(beyond, s + tail).copy_sign(x)


@function
def acos(x: Lanes) -> Lanes:
    """The inverse cosine; nan beyond 1."""
    size = x.magnitude()
    s, tail, far = _chosen(size)
    high, low = tables.HALF_PI[x.precision][:2]
    double, double_tail = s + s, tail + tail
    signed, signed_tail = s.with_sign(x.sign()), tail.with_sign(x.sign())
    near = high - (signed - (low - signed_tail))
    obtuse = 2 * high - (double - (2 * low - double_tail))
    beyond = (x < 0).where(obtuse, double + double_tail)
    return far.where(beyond, near)


def _atan_of_ratio(above: Lanes, below: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """``atan(above / below)``, both non-negative, as eighths of a turn and a pair of floats.

    One division serves the ratio and its two reductions: to ``(t - 1) / (t + 1)`` beyond
    tan(pi / 8), and to ``-1 / t`` beyond its inverse.
    """
    middle = above > below * 0.41421356
    steep = above > below * 2.41421356
    upper = middle.where(above - below, above)
    lower = middle.where(above + below, below)
    upper = steep.where(-below, upper)
    lower = steep.where(above, lower)
    ratio = upper / lower
    square = ratio * ratio
    tail = ratio * square * polynomial(square, tables.ATAN[ratio.precision])
    eighths = steep.where(ratio.like(2), middle.where(ratio.like(1), 0))
    return eighths, ratio, tail


def _with_eighths(eighths: Lanes, ratio: Lanes, tail: Lanes) -> Lanes:
    """``eighths * pi / 4 + ratio + tail``; pi / 4 is cut so that its multiples are exact."""
    high, low = tables.QUARTER_PI[ratio.precision]
    return eighths.times_plus(high, ratio + eighths.times_plus(low, tail))


@function
def atan(x: Lanes) -> Lanes:
    """The inverse tangent."""
    return _with_eighths(*_atan_of_ratio(x.magnitude(), x.like(1))).copy_sign(x)


@function
def atan2(y: Lanes, x: Lanes) -> Lanes:
    """The angle of the point (x, y), between -pi and pi, with the sign of y."""
    above, below = y.magnitude(), x.magnitude()
    larger = (above > below).where(above, below)
    # Kept from overflowing, and from losing the bits that the comparisons need.
    factor = (larger > LARGE[x.bits]).where(x.like(0.25), 1)
    factor = (larger < 1 / LARGE[x.bits]).where(2.0**64, factor)
    corner = (above == below) & ((above == 0) | (above == INFINITY))
    above = corner.where((above == INFINITY).where(x.like(1), 0), above * factor)
    below = corner.where(1, below * factor)
    eighths, ratio, tail = _atan_of_ratio(above, below)
    left = x.as_bits() >= x.sign_bit
    eighths = left.where(4 - eighths, eighths)
    flip = left.where(x.like(-0.0).as_bits(), 0)
    return _with_eighths(eighths, ratio.with_sign(flip), tail.with_sign(flip)).copy_sign(y)
