"""Scatters: a copy of the initial values, then the points, one after the other.

Points are in row-major order wherever they may meet. Axes of the points that are a dimension of the
result as they are never meet: threads share these, and vectors go along the innermost of them.
"""

from __future__ import annotations

from typing import Any

from taimatsu.compiler.groups import Group, Launch, Layout
from taimatsu.compiler.inline import at
from taimatsu.compiler.schedule import pointwise
from taimatsu.compiler.schedule.common import Nest, Piece, Values, operations, place_of, points
from taimatsu.compiler.schedule.frame import Frame, Scope, chunked, serial_loop, vector_loop
from taimatsu.ir.expression import SIZES, Expression, binary, cast, load
from taimatsu.ir.index import Index, Var, index
from taimatsu.ir.loops import Statement, Store
from taimatsu.ir.stages import REPLACE, Stage
from taimatsu.ir.target import Target


def schedule(group: Group, layouts: dict[Stage, Layout], target: Target) -> list[Launch]:
    """The kernels of scatters, each after the one that makes its copy."""
    made: list[Launch] = []
    for stage in group.stages:
        made += pointwise.schedule(_copy(stage, layouts), target)
        made.append(_points(stage, layouts, target))
    return made


def _copy(stage: Stage, layouts: dict[Stage, Layout]) -> Nest:
    """What the points come into."""
    assert stage.initial is not None
    rows = tuple([Var(f"r{d}", n) for d, n in enumerate(stage.shape)])
    where = tuple([index(0) if v.extent == 1 else index(v) for v in rows])
    copy = Stage("map", stage.shape, stage.dtype, rows)
    copy.node = stage.node
    initial = stage.initial
    if initial.kind == "map" and initial not in layouts:  # computed here, nowhere else
        value = at(initial, where)
    else:
        value = load(initial, where, stage.dtype)
    piece = Piece(copy, "map", (), (), value, None, where)
    piece.place = place_of(stage, layouts)
    kept = tuple([v for v in rows if v.extent != 1])
    return Nest(kept, [piece], layouts, "scatter_initial")


def _points(stage: Stage, layouts: dict[Stage, Layout], target: Target) -> Launch:
    assert stage.value is not None
    piece = Piece(stage, "map", (), (), stage.value, None, (), stage.checks)
    piece.place = place_of(stage, layouts)
    nest = Nest((), [piece], layouts, f"scatter_{stage.combine}")
    nest.members = {}
    frame = Frame(nest)
    apart = _apart(stage)
    strides = {v: layouts[stage].strides[d] for v, d in apart.items()}
    free = sorted(apart, key=lambda v: -strides[v].hint())
    meeting = [v for v in stage.axes if v not in apart]
    costs = operations([stage.value, *[c for c in stage.where if type(c) is Expression]])
    work = (costs / 4 + 4) * points(meeting)
    inner = free[-1] if free and strides[free[-1]] == 1 else None
    width = target.lanes(max(SIZES[stage.dtype], 4)) if inner is not None else 1
    chunks = chunked(free, work, width)

    def body(at: Values) -> list[Statement]:
        return _point(Scope(frame, at), piece)

    def along(at: Values) -> list[Statement]:
        if inner is None:
            return body(at)
        return vector_loop(chunks.extent, width, lambda v: body({**at, inner: chunks.begin + v}), 2)

    def all_points(at: Values) -> list[Statement]:
        return _serial(meeting, at, along)

    at = dict(chunks.values)
    if free and inner is None:  # its points lie apart in memory: one after the other
        nested = serial_loop(
            chunks.extent, lambda k: all_points({**at, free[-1]: chunks.begin + k})
        )
    else:
        nested = all_points(at)
    loops = chunks.wrap(nested)
    count = index(1)
    for var in stage.axes:
        count = count * var.extent
    return frame.launch(loops, count)


def _serial(axes: list[Var], at: Values, inner: Any) -> list[Statement]:
    """Loops over axes in their order."""
    if not axes:
        made: list[Statement] = inner(at)
        return made
    var = axes[0]
    return serial_loop(var.extent, lambda k: _serial(axes[1:], {**at, var: k}, inner), var.name)


def _apart(stage: Stage) -> dict[Var, int]:
    """The points' axes that never meet, each with the dimension of the result that it is."""
    found: dict[Var, int] = {}
    for d, c in enumerate(stage.where):
        if type(c) is not Index or c.constant or len(c.terms) != 1:
            continue
        (atom, factor) = c.terms[0]
        if type(atom) is Var and factor == 1 and atom.extent != 1:
            found.setdefault(atom, d)
    return found


def _point(scope: Scope, piece: Piece) -> list[Statement]:
    """Combines a point's value into its place."""
    stage, place = piece.stage, piece.place
    assert place is not None
    buffer = scope.frame.shaped(place, stage)
    where = tuple(
        [scope.value(c) if type(c) is Expression else scope.index(c) for c in stage.where]
    )
    value = cast(scope.value(piece.value), stage.dtype)
    if stage.combine != REPLACE:
        value = binary(stage.combine, load(buffer, where), value)
    return [*scope.checks(piece), Store(buffer, where, value)]
