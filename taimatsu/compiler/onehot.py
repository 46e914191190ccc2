"""One-hot arrays: zero but at one place of each window, as the gradients of max pooling are.

A map is one-hot if its element can be other than zero only where a number that is stored for each
window, the place of its winner, equals the element's own number in the window; windows do not
overlap (``analysed``). So it is known from one value for each window, a small map that all readers
share, and the stored places. ``zero`` times anything counts as zero here.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from taimatsu.compiler.meeting import plain
from taimatsu.ir import expression as ex
from taimatsu.ir.expression import FLOATS, SIGNED, UNSIGNED, Expression
from taimatsu.ir.index import Index, Minimum, Quotient, Var, index, is_at_most, is_below
from taimatsu.ir.stages import Stage

PLACES = ("uint8", "int16", "int32")  # dtypes of places in windows

Coordinate = Index | Expression
Place = tuple[Index, Expression | None]


@dataclass(eq=False)
class OneHot:
    """What is known of a one-hot stage.

    Attributes:
        stage: the map.
        values: a map with an element for each window: what stands at the winner's place.
        places: along pooled dimensions, and those with zeros around: where an element of
            ``values`` stands, as the sum of an index (over the axes of ``values``) and a computed
            number (or None).
        spans: along dimensions with zeros around: the first element that is none, how many are not.
    """

    stage: Stage
    values: Stage
    places: dict[int, Place]
    spans: dict[int, tuple[int, Index]]

    def span(self, dimension: int) -> tuple[int, Index]:
        """The first element along a dimension that may not be zero, and how many may not be."""
        return self.spans.get(dimension, (0, self.stage.shape[dimension]))

    def place(self, dimension: int, axes: dict[Var, Index]) -> Place:
        """Where an element stands, ``axes`` standing for those of ``values``."""
        known, computed = self.places[dimension]
        if computed is not None:
            computed = ex.substitute(computed, dict(axes), {})
        return known.substitute(dict(axes)), computed


class NotOneHotError(Exception):
    """Why a map that compares places of windows is not taken for one-hot."""


@dataclass(eq=False)
class _Axis:
    """An axis of the map that windows go along: ``axis = window * stride - before + tap``."""

    axis: Var
    dimension: int
    window: Var
    stride: int
    before: int
    tap: Var

    @property
    def first(self) -> Index:
        if self.window.extent == 1:
            return index(-self.before)
        return self.window * index(self.stride) - self.before


def analysed(stage: Stage, stored: set[Stage], found: dict[Stage, OneHot]) -> OneHot | None:
    """A map as one-hot; None if nothing looks like that. NotOneHotError says what is missing.

    Args:
        stored: stages that other memory shows, so that they may be overwritten.
        found: stages that are one-hot.
    """
    if stage.kind != "map" or stage.checks or stage.value is None:
        return None
    if stage.dtype not in FLOATS:
        return None
    value, own, before = _without_border(stage)
    source = value.detail[0] if value.op == "load" else None
    if source in found:
        return _bordered(stage, found[source], value, own, before)
    won = _winning(value)
    if won is None:
        return None
    comparison, winner, number = won
    axes = _pooled_axes(own, winner, number)
    if not axes:
        return None
    moved: dict[object, Index | int] = {a.axis: a.first + a.tap for a in axes}
    factors = _factors(number.substitute(moved), axes)
    place = tuple([c.substitute(moved) for c in winner.detail[1]])
    taps = {a.tap for a in axes}
    if any(taps & c.variables() for c in place):
        raise NotOneHotError("windows overlap")
    where_won = ex.load(winner.detail[0], place, winner.dtype)
    digits, is_valid = _digits(where_won, axes, factors)
    value = _simplified(ex.substitute(_known_true(value, comparison), dict(moved), {}))
    value = _at_winner(value, where_won, axes, digits, stored)
    places: dict[int, Place] = {d: (index(own[d]) + n, None) for d, n in before.items()}
    for a in axes:
        digit = digits[a.tap]
        extent = a.axis.extent
        first = index(before.get(a.dimension, 0))
        places[a.dimension] = (a.first + first, digit)
        if not is_below(a.first + a.tap, extent):
            there = ex.index_value(a.first) + digit
            inside = there.eq(_clamped(there, extent))
            is_valid = inside & is_valid
            places[a.dimension] = (first, _clamped(there, extent))
    made, places = _compressed(stage, own, axes, ex.select(is_valid, value, 0), places)
    spans = {d: (n, own[d].extent) for d, n in before.items()}
    return OneHot(stage, made, places, spans)


def _without_border(stage: Stage) -> tuple[Expression, list[Var], dict[int, int]]:
    """A map's value where it is not zero for being outside of bounds that its axes are compared
    with: over axes that begin within them, and how many elements are before that by dimension.
    """
    value = stage.value
    assert value is not None
    low: dict[Var, int] = {}
    high: dict[Var, Index] = {}
    for node in _needed(value) or ():
        if node.op not in ("ge", "lt") or not all(_is_index(a) for a in node.args):
            continue
        difference = _index_of(node.args[0]) - _index_of(node.args[1])
        met = [v for v in stage.axes if v in difference.variables()]
        if len(met) != 1 or not difference.is_affine_in(met[0]):
            continue
        rest = difference - met[0]
        if met[0] in rest.variables():
            continue
        if node.op == "ge" and rest.is_constant:
            low[met[0]] = max(low.get(met[0], 0), -rest.constant)
        if node.op == "lt":
            high[met[0]] = -rest
    own = list(stage.axes)
    before: dict[int, int] = {}
    for d, v in enumerate(stage.axes):
        first, end = low.get(v, 0), high.get(v, v.extent)
        if first or end != v.extent:
            before[d] = first
            own[d] = Var(f"{v.name}i", end - first)
    if not before:
        return value, own, before
    moved = {stage.axes[d]: index(own[d]) + n for d, n in before.items()}
    return _simplified(ex.substitute(value, dict(moved), {})), own, before


def _bordered(
    stage: Stage, inner: OneHot, load: Expression, own: list[Var], before: dict[int, int]
) -> OneHot | None:
    """A map that is another one with zeros around it."""
    if inner.stage.shape != tuple([v.extent for v in own]):
        return None
    for coordinate, var in zip(load.detail[1], own, strict=True):
        if var.extent != 1 and plain(coordinate) is not var:
            return None
    places, spans = dict(inner.places), dict(inner.spans)
    for d, n in before.items():
        known, computed = places.get(d, (index(inner.values.axes[d]), None))
        places[d] = (known + n, computed)
        first, count = inner.span(d)
        spans[d] = (first + n, count)
    return OneHot(stage, inner.values, places, spans)


def _compressed(
    stage: Stage,
    own: list[Var],
    axes: list[_Axis],
    value: Expression,
    places: dict[int, Place],
) -> tuple[Stage, dict[int, Place]]:
    """The map of the winners' values, whose axes are the stage's, windows for pooled ones."""
    windows = {a.dimension: a.window for a in axes}
    own = [windows.get(d, v) for d, v in enumerate(own)]
    fresh = [Var(f"{v.name}w", v.extent) for v in own]
    moved: dict[object, Index | int] = {
        old: index(0) if new.extent == 1 else index(new)
        for old, new in zip(own, fresh, strict=True)
    }
    made = Stage("map", tuple([v.extent for v in fresh]), stage.dtype, tuple(fresh))
    made.value = ex.substitute(value, dict(moved), {})
    made.number, made.node, made.fused = stage.number, stage.node, stage.fused
    found: dict[int, Place] = {}
    for d, (known, computed) in places.items():
        if computed is not None:
            computed = ex.substitute(computed, dict(moved), {})
        found[d] = (known.substitute(moved), computed)
    return made, found


def _clamped(value: Expression, extent: Index) -> Expression:
    low = ex.binary("max", value, 0)
    return ex.binary("min", low, ex.index_value(extent - 1))


# -- which comparison decides ------------------------------------------------------------------


def _winning(value: Expression) -> tuple[Expression, Expression, Index] | None:
    """A comparison of a stored number with an index that must hold where a value is not zero."""
    for node in _needed(value) or ():
        if node.op != "eq":
            continue
        for load, number in (node.args, node.args[::-1]):
            load, number = _without_casts(load), _without_casts(number)
            if load.op != "load" or number.op != "index":
                continue
            if load.dtype in PLACES and is_plain(load):
                return node, load, number.detail
    return None


def is_plain(load: Expression) -> bool:
    """Whether nothing of where an element is loaded from is computed."""
    return all(type(c) is Index for c in load.detail[1])


def _without_casts(value: Expression) -> Expression:
    while value.op == "cast" and value.args[0].dtype in SIGNED | UNSIGNED:
        value = value.args[0]
    return value


def _needed(value: Expression) -> dict[Expression, None] | None:
    """Conditions that all hold where a value is not zero; None for zero itself."""
    if value.op == "constant":
        return None if value.detail == 0 else {}
    if value.op in ("cast", "neg", "div"):
        return _needed(value.args[0])
    if value.op == "mul":
        a, b = map(_needed, value.args)
        return None if a is None or b is None else {**a, **b}
    if value.op in ("add", "sub"):
        return _in_both(*map(_needed, value.args))
    if value.op != "select":
        return {}
    condition, x, y = value.args
    one = _needed(x)
    if one is not None:
        one = {**_conjuncts(condition), **one}
    return _in_both(one, _needed(y))


def _in_both(
    a: dict[Expression, None] | None, b: dict[Expression, None] | None
) -> dict[Expression, None] | None:
    if a is None or b is None:
        return b if a is None else a
    return {c: None for c in a if c in b}


def _conjuncts(condition: Expression) -> dict[Expression, None]:
    if condition.op != "and":
        return {condition: None}
    return {**_conjuncts(condition.args[0]), **_conjuncts(condition.args[1])}


# -- windows -----------------------------------------------------------------------------------


def _pooled_axes(axes: list[Var], winner: Expression, number: Index) -> list[_Axis]:
    """The axes that windows go along, from how the winner's window depends on them."""
    source, where = winner.detail
    found: list[_Axis] = []
    for dimension, axis in enumerate(axes):
        if axis.extent == 1:
            continue
        own = [(d, c) for d, c in enumerate(where) if axis in c.variables()]
        if len(own) > 1 or (not own and axis not in number.variables()):
            raise NotOneHotError(f"windows do not follow axis {axis}")
        if not own:  # one window over all of the axis
            if axis.extent.terms:
                raise NotOneHotError(f"axis {axis} has no known extent")
            size = axis.extent.constant
            tap = Var(f"{axis.name}t", size)
            found.append(_Axis(axis, dimension, Var(f"{axis.name}o", 1), size, 0, tap))
            continue
        d, coordinate = own[0]
        if plain(coordinate) is axis:
            if axis in number.variables():
                raise NotOneHotError(f"axis {axis} is no window's")
            continue
        quotients = _quotients(coordinate)
        if len(quotients) != 1 or coordinate.variables() != {axis}:
            raise NotOneHotError(f"{coordinate} is no window's number")
        left, right = quotients[0].left, quotients[0].right
        if not right.is_constant or not (left - axis).is_constant:
            raise NotOneHotError(f"{coordinate} is no window's number")
        stride, before = right.constant, (left - axis).constant
        taps = _taps(number, axis, stride)
        window = Var(f"{axis.name}o", source.shape[d])
        tap = Var(f"{axis.name}t", taps)
        found.append(_Axis(axis, dimension, window, stride, before, tap))
    return found


def _quotients(coordinate: Index) -> list[Quotient]:
    found: dict[Quotient, None] = {}
    waiting = [atom for atom, _ in coordinate.terms]
    while waiting:
        atom = waiting.pop()
        if type(atom) is Quotient:
            found[atom] = None
        elif type(atom) is Minimum:
            waiting += [a for side in (atom.left, atom.right) for a, _ in side.terms]
    return list(found)


def _taps(number: Index, axis: Var, stride: int) -> int:
    """How many elements of a window there are along an axis; fewer than the stride if bounded."""
    for atom, _ in number.terms:
        if type(atom) is Minimum and axis in index(atom).variables():
            bound = atom.right if atom.right.is_constant else atom.left
            if bound.is_constant:
                return min(bound.constant + 1, stride)
    return stride


def _factors(number: Index, axes: list[_Axis]) -> dict[Var, int]:
    """What each tap counts in an element's number; together they are the digits of a number."""
    factors = {a.tap: number.coefficient(a.tap) for a in axes if a.tap.extent != 1}
    rest = number
    for tap, factor in factors.items():
        rest = rest - index(tap) * factor
    counted = 1
    for tap, factor in sorted(factors.items(), key=lambda item: item[1]):
        if factor != counted:
            raise NotOneHotError(f"{number} does not number the elements of a window")
        counted *= tap.extent.constant
    if any(a.tap in rest.variables() and a.tap.extent != 1 for a in axes):
        raise NotOneHotError(f"{number} does not number the elements of a window")
    if rest.substitute({a.tap: 0 for a in axes}) != 0:
        raise NotOneHotError(f"{number} does not number the elements of a window")
    return factors


def _digits(
    winner: Expression, axes: list[_Axis], factors: dict[Var, int]
) -> tuple[dict[Var, Expression], Expression]:
    """Each tap of a stored number, and whether the number is one of a window's elements.

    Whatever is stored, taps are those of an element.
    """
    size = prod([t.extent.constant for t in factors])
    stored = ex.cast(winner, "int32")
    is_valid = stored < size
    if winner.dtype in SIGNED:
        is_valid = is_valid & (stored >= 0)
    safe = ex.binary("min", stored, size - 1)
    if winner.dtype in SIGNED:
        safe = ex.binary("max", safe, 0)
    digits: dict[Var, Expression] = {a.tap: ex.constant(0, "int64") for a in axes}
    for tap, factor in factors.items():
        digit = _quotient(safe, factor)
        if factor * tap.extent.constant < size:
            digit = _remainder(digit, tap.extent.constant)
        digits[tap] = ex.cast(digit, "int64")
    return digits, is_valid


def _quotient(value: Expression, by: int) -> Expression:
    if by & (by - 1) == 0:
        return value if by == 1 else ex.binary("shr", value, by.bit_length() - 1)
    return ex.binary("truncdiv", value, by)


def _remainder(value: Expression, by: int) -> Expression:
    if by & (by - 1) == 0:
        return value & (by - 1)
    return value - _quotient(value, by) * by


# -- the value at the winner's place -----------------------------------------------------------


def _known_true(value: Expression, comparison: Expression) -> Expression:
    true = ex.constant(True, "bool")
    return ex.rewrite(value, lambda node: None, {comparison: true})


def _simplified(value: Expression) -> Expression:
    """Comparisons of indices, conjunctions and choices that are decided are carried out."""

    def change(node: Expression) -> Expression | None:
        if node.op in ("lt", "ge", "eq") and all(_is_index(a) for a in node.args):
            a, b = (_index_of(x) for x in node.args)
            if node.op == "lt" and is_at_most(a + 1, b):
                return ex.constant(True, "bool")
            if node.op == "ge" and is_at_most(b, a):
                return ex.constant(True, "bool")
            if node.op == "eq" and a == b:
                return ex.constant(True, "bool")
        if node.op == "and":
            for x, other in (node.args, node.args[::-1]):
                if x.op == "constant":
                    return other if x.detail else x
        if node.op == "select" and node.args[0].op == "constant":
            return node.args[1] if node.args[0].detail else node.args[2]
        return None

    return ex.rewrite(value, change, {})


def _is_index(value: Expression) -> bool:
    return value.dtype == "int64" and value.op in ("index", "constant")


def _index_of(value: Expression) -> Index:
    return index(value.detail)


def _at_winner(
    value: Expression,
    winner: Expression,
    axes: list[_Axis],
    digits: dict[Var, Expression],
    stored: set[Stage],
) -> Expression:
    """A value over windows and taps, the taps being those of the winner.

    What the winner was chosen from is, at its place, the greatest element.
    """
    taps = set(digits)
    source, _ = winner.detail
    best = source.picks if source.picks not in stored else None

    def change(node: Expression) -> Expression | None:
        if node.op == "index" and taps & node.detail.variables():
            return _computed(node.detail, digits)
        if node.op != "load":
            return None
        if best is not None and _is_chosen(best, node, winner, axes):
            return ex.load(best, winner.detail[1], node.dtype)
        read, where = node.detail
        moved = [
            _coordinate(c, digits) if type(c) is Index and taps & c.variables() else c
            for c in where
        ]
        return ex.load(read, moved, node.dtype)

    return ex.rewrite(value, change, {})


def _is_chosen(best: Stage, load: Expression, winner: Expression, axes: list[_Axis]) -> bool:
    """Whether a load is of the window's element that ``best`` is the greatest of."""
    value = best.value
    if best.kind != "reduce" or best.combine != "max" or value is None or value.op != "load":
        return False
    read, where = value.detail
    if read is not load.detail[0] or not is_plain(value) or not is_plain(load):
        return False
    moved: dict[object, Index | int] = dict(zip(best.axes, winner.detail[1], strict=True))
    spatial = best.axes[len(best.axes) - len(best.reduce_axes) :]
    by_window = {a.window: a.tap for a in axes}
    for own, tap in zip(spatial, best.reduce_axes, strict=True):
        coordinate = index(moved[own])
        met = [by_window[v] for v in coordinate.variables() if v in by_window]
        if tap.extent != 1 and len(met) != 1:
            met = [a.tap for a in axes if a.window.extent == 1 and a.tap.extent == tap.extent]
            if len(met) != 1:
                return False
        moved[tap] = index(met[0]) if tap.extent != 1 else 0
    for own in best.axes:
        if own.extent == 1:
            moved[own] = 0
    return all(a.substitute(moved) == b for a, b in zip(where, load.detail[1], strict=True))


def _computed(coordinate: Index, digits: dict[Var, Expression]) -> Expression:
    """An index that taps stand in as a computed number."""
    made = _coordinate(coordinate, digits)
    return made if type(made) is Expression else ex.index_value(made)


def _coordinate(coordinate: Index, digits: dict[Var, Expression]) -> Coordinate:
    """``coordinate`` with taps computed: ``computed + index``."""
    met = [v for v in digits if v in coordinate.variables()]
    if not all(coordinate.is_affine_in(v) for v in met):
        raise NotOneHotError(f"{coordinate} cannot be computed with")
    total: Expression | None = None
    for tap in met:
        factor = coordinate.coefficient(tap)
        part = digits[tap] if factor == 1 else digits[tap] * factor
        total = part if total is None else total + part
        coordinate = coordinate - index(tap) * factor
    return coordinate if total is None else total + ex.index_value(coordinate)
