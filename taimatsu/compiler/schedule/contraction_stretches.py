"""Runs of equal tiles along an axis, and what is left over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from taimatsu.ir.index import Index, Var, ceil_div, index, minimum
from taimatsu.ir.loops import Loop, Statement

ZERO = index(0)


@dataclass(eq=False)
class Stretch:
    """A run of equal tiles along an axis.

    Attributes:
        var: the loop over them; None where there is one.
        start: the first element of a tile.
        size: elements of a tile; along the lane axis vectors.
        tail: along the lane axis: how many lanes of the last vector are used, None for all.
        panel: the number of the panel it belongs to.
        is_rest: whether it is one of several kinds that an unknown extent may leave over.
    """

    var: Var | None
    start: Index
    size: int
    tail: Index | None = None
    panel: Index = ZERO
    is_rest: bool = False

    def loop(self, body: Iterable[Statement]) -> list[Statement]:
        if self.var is None:
            return list(body)
        return [Loop(self.var, "serial", body)]


def counted_loop(name: str, times: Index) -> tuple[Var | None, Index] | None:
    """A loop's variable, and its value; None where it never runs."""
    if times.is_constant and times.constant <= 0:
        return None
    if times == 1:
        return None, index(0)
    var = Var(name, times)
    return var, index(var)


def row_stretches(axis: Var, start: Index, extent: Index, factor: int) -> list[Stretch]:
    """Tiles of ``factor`` elements that cover ``extent`` from ``start``, then smaller ones."""
    found: list[Stretch] = []

    def add(suffix: str, times: Index, begin: Index, size: int, is_rest: bool = False) -> None:
        counted = counted_loop(f"{axis.name}{suffix}", times)
        if counted is not None:
            panel = first + (counted[1] if size == factor else extent // factor)
            at = begin + counted[1] * size
            found.append(Stretch(counted[0], at, size, None, panel, is_rest))

    first = start // factor
    add("t", extent // factor, start, factor)
    whole = axis.extent
    if not whole.terms:
        rest = whole.constant % factor
        if rest:
            add("r", extent % factor // rest, start + extent // factor * factor, rest)
        return found
    size = 1
    while size * 2 < factor:
        size *= 2
    left, begin = extent % factor, start + extent // factor * factor
    while factor > 1 and size:
        add(f"r{size}", left // size, begin, size, is_rest=True)
        begin, left, size = begin + left // size * size, left % size, size // 2
    return found


def lane_stretches(
    axis: Var, start: Index, extent: Index, vectors: int, lanes: int
) -> list[Stretch]:
    """Panels of ``vectors`` vectors, then what is left: one smaller panel, or vector by vector."""
    found: list[Stretch] = []
    width = vectors * lanes
    counted = counted_loop(f"{axis.name}p", extent // width)
    if counted is not None:
        begin = start + counted[1] * width
        found.append(Stretch(counted[0], begin, vectors, None, start // width + counted[1]))
    begin = start + extent // width * width
    panel = start // width + extent // width
    whole = axis.extent
    if not whole.terms:
        rest = whole.constant % width
        counted = counted_loop(f"{axis.name}q", extent % width // rest) if rest else None
        if counted is not None:
            size = -(-rest // lanes)
            tail = index(rest - (size - 1) * lanes) if rest % lanes else None
            found.append(Stretch(counted[0], begin, size, tail, panel))
        return found
    left = extent % width
    counted = counted_loop(f"{axis.name}q", ceil_div(left, lanes))
    if counted is not None:
        at = counted[1] * lanes
        tail = minimum(lanes, left - at)
        found.append(Stretch(counted[0], begin + at, 1, tail, panel, is_rest=True))
    return found


def nested(variables: Sequence[Var], kind: str, body: Iterable[Statement]) -> list[Statement]:
    """Loops around statements, the first variable outermost."""
    made = list(body)
    for var in reversed(variables):
        made = [Loop(var, kind, made)]
    return made
