"""Products whose second factor is read at computed places: what fusion and schedules know of them.

``sum over r of first[a, r] * second[known(b, r) + computed(a, r)]``: the axes ``b`` that the first
factor and the computed numbers do not depend on are blocks of the second one.
"""

from __future__ import annotations

from dataclasses import dataclass

from taimatsu.ir.expression import FLOATS, Expression, variables
from taimatsu.ir.index import Index, Var
from taimatsu.ir.stages import Stage


@dataclass(eq=False)
class Scattered:
    """A sum of such products into computed places: the opposite, see ``scattered``.

    ``result[known(b, r) + computed(a, r)] += first[a, r] * second[a, b]``.

    Attributes:
        first, second: the loads of the factors.
        places: for each coordinate of the result what is known of it, and what is computed.
        apart: axes that are a dimension of the result, and of the first factor.
        shared: axes that both factors have, or the second one.
        windows: axes that the second factor does not have.
        blocks: axes that only the second factor has.
    """

    first: Expression
    second: Expression
    places: list[tuple[Index, Expression | None]]
    apart: list[Var]
    shared: list[Var]
    windows: list[Var]
    blocks: list[Var]


def scattered(stage: Stage) -> Scattered | None:
    """A scatter into zeros as such a sum; None if it is another one."""
    if stage.kind != "scatter" or stage.combine != "add" or stage.dtype not in FLOATS:
        return None
    initial, value = stage.initial, stage.value
    if initial is None or initial.value is None or value is None or value.op != "mul":
        return None
    if initial.kind != "map" or initial.value.op != "constant" or initial.value.detail != 0:
        return None
    places = [_split(c) for c in stage.where]
    computed = {v for _, c in places if c is not None for v in variables(c)}
    axes = [v for v in stage.axes if v.extent != 1]
    if stage.checks or not all(known.is_affine_in(v) for known, _ in places for v in axes):
        return None
    for first, second in (value.args, value.args[::-1]):
        a, b = _load(first), _load(second)
        if a is None or b is None:
            return None
        if not all(type(c) is Index for c in (*a.detail[1], *b.detail[1])):
            return None
        mine = {v for c in a.detail[1] for v in c.variables()}
        theirs = {v for c in b.detail[1] for v in c.variables()}
        if computed <= mine and not mine <= theirs:
            return _divided(axes, a, b, places, mine, theirs)
    return None


def _divided(
    axes: list[Var],
    first: Expression,
    second: Expression,
    places: list[tuple[Index, Expression | None]],
    mine: set[Var],
    theirs: set[Var],
) -> Scattered | None:
    own = {v for known, c in places if c is None for v in axes if _is_one(known, v)}
    apart = [v for v in axes if v in own and v in mine]
    shared = [v for v in axes if v in mine and v in theirs and v not in apart]
    windows = [v for v in axes if v in mine and v not in theirs and v not in apart]
    blocks = [v for v in axes if v not in mine]
    if not blocks or not windows or any(v.extent.terms for v in (*shared, *blocks)):
        return None
    return Scattered(first, second, places, apart, shared, windows, blocks)


def _is_one(coordinate: Index, axis: Var) -> bool:
    return coordinate.terms == ((axis, 1),) and not coordinate.constant


@dataclass(eq=False)
class Gathered:
    """A sum of such products.

    Attributes:
        first, second: the loads of the factors.
        places: for each coordinate of the second one what is known of it, and what is computed.
        shared: the result's axes that the first factor, or a computed number, depends on.
        blocks: the others.
    """

    first: Expression
    second: Expression
    places: list[tuple[Index, Expression | None]]
    shared: list[Var]
    blocks: list[Var]


def gathered(stage: Stage) -> Gathered | None:
    """A stage as a sum of such products; None if it is another one."""
    if stage.kind != "reduce" or stage.combine != "add" or stage.dtype not in FLOATS:
        return None
    value = stage.value
    if value is None or value.op != "mul":
        return None
    for first, second in (value.args, value.args[::-1]):
        a, b = _load(first), _load(second)
        if a is None or b is None or not all(type(c) is Index for c in a.detail[1]):
            continue
        if all(type(c) is Index for c in b.detail[1]):
            continue
        return _found(stage, a, b)
    return None


def _load(factor: Expression) -> Expression | None:
    while factor.op == "cast":
        factor = factor.args[0]
    return factor if factor.op == "load" else None


def _found(stage: Stage, first: Expression, second: Expression) -> Gathered | None:
    places = [_split(c) for c in second.detail[1]]
    shared = {v for c in first.detail[1] for v in c.variables()}
    for _, computed in places:
        if computed is not None:
            shared |= variables(computed)
    axes = [v for v in stage.axes if v.extent != 1]
    reduced = [v for v in stage.reduce_axes if v.extent != 1]
    if any(v not in shared for v in reduced):
        return None
    if not all(known.is_affine_in(v) for known, _ in places for v in (*axes, *reduced)):
        return None
    blocks = [v for v in axes if v not in shared]
    if not blocks or any(v.extent.terms for v in axes):
        return None
    return Gathered(first, second, places, [v for v in axes if v in shared], blocks)


def _split(coordinate: Index | Expression) -> tuple[Index, Expression | None]:
    """``computed + index`` as the pair."""
    if type(coordinate) is not Expression:
        return coordinate, None  # type: ignore[return-value]
    if coordinate.op == "add" and coordinate.args[1].op == "index":
        return coordinate.args[1].detail, coordinate.args[0]
    return Index((), 0), coordinate
