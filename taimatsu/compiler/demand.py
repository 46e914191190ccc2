"""Region demand: of every intermediate only the part is computed that somebody reads.

From the last stage to the first: what a stage loads of another one is a box, found from the ranges
of its coordinates; the axes of the other one shrink to what all its readers want. Memory that is
seen from outside keeps its size. A pooling that drops the last rows of its image, a window, a slice
so shorten all that came before them.

Backwards it is zeros that are not wanted: the gradient of what was dropped. A sum goes over the
part of its terms only that may differ from zero, and a map that reads beyond the part of a stage
that may differ puts zero there itself. Only what constants decide is done: extents that come from
data stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from taimatsu.compiler.reads import needed_stages
from taimatsu.compiler.zeros import Range, Ranges, as_index, decided, where_nonzero
from taimatsu.ir.expression import (
    COMPARISONS,
    Expression,
    constant,
    index_value,
    load,
    rewrite,
    select,
    substitute,
)
from taimatsu.ir.index import Index, Var, bounds, index, minimum
from taimatsu.ir.stages import Stage, loads

Box = tuple[Range | None, ...]  # by dimension; None where the extent comes from data
Log = Callable[[str], None]


def shrink(stages: list[Stage], outputs: Iterable[Stage], log: Log | None = None) -> None:
    """Shrinks axes to what is read of them; the stages' shapes and values are changed.

    Args:
        stages: a program's, in order.
        outputs: those whose memory somebody outside gets.
        log: is given a line for each stage that shrinks.
    """
    outputs = set(outputs)
    work = _Demand(needed_stages(stages, outputs), outputs, log or (lambda line: None))
    for stage in work.stages:
        work.find_zeros(stage)
    for stage in reversed(work.stages):
        work.cut(stage)
        work.ask(stage)
    for stage in work.stages:
        work.settle(stage)
        work.compare(stage)


class _Demand:
    def __init__(self, stages: list[Stage], outputs: set[Stage], log: Log) -> None:
        self.stages = stages
        self.log = log
        self.whole = set(outputs)  # stages that keep their size
        for stage in stages:
            if stage.cell is not None and stage.cell.stage is not None:
                self.whole.add(stage.cell.stage)
            if stage.initial is not None:
                self.whole.add(stage.initial)
            if stage.kind not in ("map", "reduce", "scan") or stage.checks:
                self.whole.add(stage)
        self.support: dict[Stage, Box] = {}  # outside of it a stage is zero
        self.wanted: dict[Stage, Box] = {}
        self.begins: dict[Stage, Box] = {}  # what is left of stages that were cut
        self.changed: set[Stage] = set()

    # -- zeros -----------------------------------------------------------------------------

    def find_zeros(self, stage: Stage) -> None:
        """Finds where a stage is zero; a sum goes over terms that may differ from zero."""
        if stage.kind not in ("map", "reduce", "update") or stage.value is None:
            return
        is_sum = stage.combine == "add"
        if stage.kind == "reduce" and not is_sum and not _keeps_zero(stage):
            return
        ranges = where_nonzero(stage.value, self._support, is_sum)
        if ranges is not None and is_sum:
            self._shorten(stage, ranges)
        box = [(0, 0) if ranges is None else ranges.get(v) for v in stage.axes]
        if any(span is not None for span in box):
            self.support[stage] = tuple(box)

    def _support(self, stage: object) -> Box | None:
        return self.support.get(stage)  # type: ignore[call-overload, no-any-return]

    def _shorten(self, stage: Stage, ranges: Ranges) -> None:
        moved: dict[Any, Index | int] = {}
        axes = list(stage.reduce_axes)
        for place, var in enumerate(axes):
            if var in ranges:
                axes[place], moved[var] = _part(var, ranges[var])
        if moved:
            self.log(f"{stage} goes over {_extents(axes)} of {_extents(stage.reduce_axes)}")
            stage.reduce_axes = tuple(axes)
            self._substitute(stage, moved)

    def _substitute(self, stage: Stage, moved: dict[Any, Index | int]) -> None:
        assert stage.value is not None
        stage.value = substitute(stage.value, moved, {})
        self.changed.add(stage)

    # -- demand ----------------------------------------------------------------------------

    def ask(self, stage: Stage) -> None:
        """Notes what a stage reads."""
        if stage not in self.whole and stage not in self.wanted:
            return  # nobody reads it
        guards = stage.kind in ("map", "update")
        for node in loads(stage):
            source, where = node.detail
            if source in self.whole:
                continue
            box = _read(source, where)
            if guards and source in self.support:
                box = _common(box, self.support[source])
            if any(span is not None and span[0] >= span[1] for span in box):
                continue
            before = self.wanted.get(source)
            self.wanted[source] = box if before is None else _hull(before, box)

    def cut(self, stage: Stage) -> None:
        """Shrinks a stage to what was asked for."""
        box = self.wanted.get(stage)
        if box is None or stage in self.whole:
            return
        best = stage.picks
        if best is not None and best in self.wanted and len(best.shape) == len(box):
            box = self.wanted[best] = _hull(box, self.wanted[best])  # they are read together
        moved: dict[Any, Index | int] = {}
        axes, shape = list(stage.axes), list(stage.shape)
        kept: list[Range | None] = [None] * len(axes)
        for d, span in enumerate(box):
            if span is None or d == stage.scan_axis or span == (0, shape[d].constant):
                continue
            axes[d], moved[stage.axes[d]] = _part(stage.axes[d], span)
            shape[d] = axes[d].extent
            kept[d] = span
        if not moved:
            return
        self.log(f"{stage} shrinks to {_extents(axes)}")
        stage.axes, stage.shape = tuple(axes), tuple(shape)
        self.begins[stage] = tuple(kept)
        self._substitute(stage, moved)

    def compare(self, stage: Stage) -> None:
        """Places of winners are those of a maximum whose elements stand where theirs do."""
        if stage.picks is not None and self._first(stage) != self._first(stage.picks):
            stage.picks = None

    def _first(self, stage: Stage) -> list[int]:
        """The coordinates, in the whole, of the first element that is left."""
        kept = self.begins.get(stage, (None,) * len(stage.axes))
        return [0 if span is None else span[0] for span in kept]

    # -- what is left ----------------------------------------------------------------------

    def settle(self, stage: Stage) -> None:
        """Reads what is left of other stages; decides what shorter axes decide."""
        reads = any(node.detail[0] in self.begins for node in loads(stage))
        if not reads and stage not in self.changed:
            return
        done: dict[Expression, Expression] = {}
        inside: Ranges | None = None
        if stage.value is not None and stage.kind in ("map", "update"):
            inside = where_nonzero(stage.value, lambda source: None)

        def settled(root: Expression) -> Expression:
            known = (inside or {}) if root is stage.value else {}
            return rewrite(root, lambda node: self._settled(node, known), done)

        if stage.value is not None:
            stage.value = settled(stage.value)
        stage.where = tuple([settled(c) if type(c) is Expression else c for c in stage.where])
        stage.checks = tuple([(settled(c), message) for c, message in stage.checks])

    def _settled(self, node: Expression, inside: Ranges) -> Expression | None:
        if node.op == "load":
            kept = self.begins.get(node.detail[0])
            return None if kept is None else _moved(node, kept, inside)
        return folded(node)


def _keeps_zero(stage: Stage) -> bool:
    """Whether a reduction of zeros is zero."""
    extents = [v.extent for v in stage.reduce_axes]
    return stage.combine in ("min", "max", "or", "xor") and all(
        n.is_constant and n.constant > 0 for n in extents
    )


def _part(var: Var, span: Range) -> tuple[Var, Index]:
    """The axis of a part of an axis, and its place in the whole."""
    first, end = span
    made = Var(var.name, end - first)
    return made, index(first) if end - first == 1 else index(made) + first


def _extents(axes: Iterable[Var]) -> list[Index]:
    return [v.extent for v in axes]


# -- boxes -------------------------------------------------------------------------------------


def _read(source: Stage, where: tuple) -> Box:
    """The box of a stage that a load reads."""
    found: list[Range | None] = []
    for at, extent in zip(where, source.shape, strict=True):
        if extent.terms:
            found.append(None)
            continue
        low, high = bounds(at) if type(at) is Index else (None, None)
        first = 0 if low is None else max(low, 0)
        end = extent.constant if high is None else min(high + 1, extent.constant)
        found.append((first, end))
    return tuple(found)


def _common(a: Box, b: Box) -> Box:
    return tuple(
        [
            x if x is None or y is None else (max(x[0], y[0]), min(x[1], y[1]))
            for x, y in zip(a, b, strict=True)
        ]
    )


def _hull(a: Box, b: Box) -> Box:
    return tuple(
        [
            None if x is None or y is None else (min(x[0], y[0]), max(x[1], y[1]))
            for x, y in zip(a, b, strict=True)
        ]
    )


# -- expressions -------------------------------------------------------------------------------


def _moved(node: Expression, kept: Box, inside: Ranges) -> Expression:
    """A load of what is left of a stage; zero where it reads beyond.

    ``inside`` is where it matters what is loaded.
    """
    source, where = node.detail
    conditions: list[Expression] = []
    moved = list(where)
    for d, span in enumerate(kept):
        if span is None:
            continue
        at, extent = _within(where[d], inside) - span[0], span[1] - span[0]
        low, high = _bounds_within(at, inside)
        if low is None or low < 0:
            conditions.append(index_value(at) >= 0)
        if high is None or high >= extent:
            conditions.append(index_value(at) < extent)
        moved[d] = _clamped(at, extent)
    made = load(source, moved, node.dtype)
    return select(_all(conditions), made, 0) if conditions else made


def _parts(inside: Ranges) -> dict[Any, tuple[Var, Index]]:
    return {var: _part(var, span) for var, span in inside.items()}


def _bounds_within(at: Index, inside: Ranges) -> tuple[int | None, int | None]:
    """The least and the greatest value of an index where variables are in ranges."""
    moved: dict[Any, Index | int] = {v: place for v, (_, place) in _parts(inside).items()}
    return bounds(at.substitute(moved))


def _within(at: Index, inside: Ranges) -> Index:
    """An index that is the same where variables are in ranges: clamps that do nothing are gone."""
    parts = _parts(inside)
    short = at.substitute({v: place for v, (_, place) in parts.items()})
    back: dict[Any, Index | int] = {v: index(var) - inside[var][0] for var, (v, _) in parts.items()}
    return short.substitute(back)


def _clamped(at: Index, extent: int) -> Index:
    low, high = bounds(at)
    if low is None or low < 0:
        at = -minimum(-at, 0)
    return at if high is not None and high < extent else minimum(at, extent - 1)


def _all(conditions: list[Expression]) -> Expression:
    """Whether all conditions hold; those that others imply are left out."""
    total: Expression | None = None
    for n, one in enumerate(conditions):
        if not any(_implies(other, one, m < n) for m, other in enumerate(conditions) if m != n):
            total = one if total is None else total & one
    assert total is not None
    return total


def _implies(one: Expression, other: Expression, if_equal: bool) -> bool:
    """Whether a comparison of indices tells another one of the same difference."""
    if one.op != other.op or one.op not in ("lt", "ge"):
        return False
    parts = [as_index(a) for a in (*one.args, *other.args)]
    if any(p is None for p in parts):
        return False
    a, b, c, d = parts
    stronger = (a - b) - (c - d) if one.op == "lt" else (c - d) - (a - b)  # type: ignore[operator]
    if stronger.terms:
        return False
    return stronger.constant > 0 or (stronger.constant == 0 and if_equal)


def _conjuncts(condition: Expression) -> list[Expression]:
    if condition.op != "and":
        return [condition]
    return [c for part in condition.args for c in _conjuncts(part)]


def folded(node: Expression) -> Expression | None:
    """What a node is where the ranges of its indices decide; None where they do not."""
    op, args = node.op, node.args
    if op in COMPARISONS:
        known = decided(node)
        return None if known is None else constant(known, "bool")
    if op == "select" and args[0].op == "constant":
        return args[1] if args[0].detail else args[2]
    if op == "select" and args[1].op == "select" and _is_zero(args[2]):
        inner, value, zero = args[1].args
        if _is_zero(zero):
            return select(_all([*_conjuncts(args[0]), *_conjuncts(inner)]), value, args[2])
    if op == "not" and args[0].op == "constant" and node.dtype == "bool":
        return constant(not args[0].detail, "bool")
    if op in ("and", "or") and node.dtype == "bool":
        for one, other in (args, args[::-1]):
            if one.op == "constant":
                return one if one.detail == (op == "or") else other
    return None


def _is_zero(value: Expression) -> bool:
    return value.op == "constant" and repr(value.detail) in ("0", "0.0")
