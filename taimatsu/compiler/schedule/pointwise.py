"""Schedules of pieces without loops inside of rows: every point is computed by itself.

Axes that all buffers go through alike are one loop. The loops follow the order in which results lie
in memory; the innermost one is done in vectors. Where something is read along another axis, blocks
of both axes are done at a time, so that lines of memory are used up while they are near.
"""

from __future__ import annotations

from taimatsu.compiler.groups import Launch
from taimatsu.compiler.schedule.common import (
    Access,
    Axes,
    Nest,
    Values,
    accesses,
    collapsed,
    composed,
    extent_hint,
    float_operations,
    lane_count,
    operations,
    storage_order,
)
from taimatsu.compiler.schedule.elements import elements
from taimatsu.compiler.schedule.frame import (
    Chunks,
    Frame,
    Scope,
    allocated,
    chunked,
    part,
    serial_loop,
    vector_loop,
)
from taimatsu.ir.expression import Expression, load, walk
from taimatsu.ir.index import Index, Symbol, Var, ceil_div, index
from taimatsu.ir.loops import Buffer, Statement, Store
from taimatsu.ir.target import Target

TILE = 64  # elements along an axis that is read across, of a block
PITCH = TILE + 1  # how far its columns are apart in scratch memory
TOTAL = "total"  # the symbol for the number of elements


def schedule(nest: Nest, target: Target) -> list[Launch]:
    """One kernel for a nest of maps and updates over its rows."""
    found = accesses(nest)
    axes = collapsed(storage_order(nest.rows, found), found)
    width = lane_count(nest, target)
    roots = [root for piece in nest.pieces for root in piece.roots]
    costs = operations(roots)
    work = work_of(found, costs)
    flops = index(float_operations(roots))
    for var in nest.rows:
        flops = flops * var.extent
    frame = Frame(nest)
    if not axes.loops:
        scope = Scope(frame, axes.values)
        return [frame.launch(elements(scope, nest.pieces, 1), flops)]
    if _is_flat(axes, found):
        return [_flat(frame, axes, width, work, costs, flops)]
    across = _read_across(axes, found)
    if across is not None:
        return [frame.launch(_tiled(frame, axes, across, width, work), flops)]
    width = _fitting(axes.loops[-1].extent, width)
    chunks = chunked(axes.loops, work, 4 * width)
    return [frame.launch(_rows(frame, axes, chunks, width, costs), flops)]


def _fitting(extent: Index, width: int) -> int:
    """Lanes for a loop: fewer where it is known to leave half of them, or more, idle."""
    if not extent.terms:
        while 0 < extent.constant <= width // 2:
            width //= 2
    return width


def work_of(found: list[Access], costs: float) -> float:
    """How long a point takes, in loads."""
    return max(float(sum(1 for a in found if a.kind != "value")), 1.0) + costs / 4


def unroll_of(costs: float) -> int:
    """How many vectors are done together: fewer, the more there is to compute for each."""
    if costs <= 4:
        return 4
    return 2 if costs <= 40 else 1


def _rows(frame: Frame, axes: Axes, chunks: Chunks, width: int, costs: float) -> list[Statement]:
    """The chunks' loops, and vectors along the last axis."""

    def body(v: Index) -> list[Statement]:
        at = {**chunks.values, axes.loops[-1]: chunks.begin + v}
        scope = Scope(frame, composed(axes.values, at))
        return elements(scope, frame.nest.pieces, width)

    return chunks.wrap(vector_loop(chunks.extent, width, body, unroll_of(costs)))


# -- any number of elements --------------------------------------------------------------------


def _is_flat(axes: Axes, found: list[Access]) -> bool:
    """Whether there is one loop, and all goes along it by constant steps from constant places."""
    if len(axes.loops) != 1:
        return False
    along = axes.like[axes.loops[0]]
    for access in found:
        step = access.stride(along)
        if step is None or step.terms or access.form.symbols():
            return False
    return True


def _flat(frame: Frame, axes: Axes, width: int, work: float, costs: float, flops: Index) -> Launch:
    """A kernel for any number of elements, so that its code serves all sizes."""
    (old,) = axes.loops
    total = index(Symbol(TOTAL, extent_hint(old.extent)))
    var = Var(old.name, total)
    renamed = Axes([var], composed(axes.values, {old: index(var)}), {var: axes.like[old]})
    loops = _rows(frame, renamed, chunked([var], work, 4 * width), width, costs)
    for buffer in frame.memory:
        if buffer.shape == (old.extent,):
            buffer.shape, buffer.size = (total,), total
    return frame.launch(loops, flops, {TOTAL: old.extent})


# -- transpositions ----------------------------------------------------------------------------


def _read_across(axes: Axes, found: list[Access]) -> Var | None:
    """An axis that something is read along while results lie along the last one."""
    for access in found:
        if access.kind == "memory" and not access.stored:
            for var in axes.loops[:-1]:
                if _goes_across(access, axes, var):
                    return var
    return None


def _goes_across(access: Access, axes: Axes, var: Var) -> bool:
    """Whether what lies along an axis is read in steps along the last one."""
    step = access.stride(axes.like[axes.loops[-1]])
    if step is None or step == 0 or step == 1:
        return False
    return access.stride(axes.like[var]) == 1


def _tiled(frame: Frame, axes: Axes, across: Var, width: int, work: float) -> list[Statement]:
    """Blocks of TILE by TILE elements.

    What is read across goes through scratch memory, in whole lines: lines of memory that are a
    power of two apart would push each other out of the nearest cache.
    """
    last = axes.loops[-1]
    rows = Var("rows", ceil_div(across.extent, TILE))
    columns = Var("columns", ceil_div(last.extent, TILE))
    others = [v for v in axes.loops[:-1] if v is not across]
    chunks = chunked([*others, rows, columns], work * TILE * TILE)
    turned = _turned(frame, axes, across)
    held = {node: _tile(frame, node) for node in turned}

    def at(row: Index, column: Index) -> Values:
        return composed(axes.values, {**chunks.values, across: row, last: column})

    def block(c: Index) -> list[Statement]:
        row, column = chunks.values[rows] * TILE, (chunks.begin + c) * TILE
        height, length = part(across.extent, row, TILE), part(last.extent, column, TILE)

        def copy(k: Index, v: Index) -> list[Statement]:
            scope = Scope(frame, at(row + v, column + k))
            return [Store(b, (k * PITCH + v,), scope.value(n)) for n, b in held.items()]

        def body(r: Index, v: Index) -> list[Statement]:
            copied = {n: load(b, (v * PITCH + r,)) for n, b in held.items()}
            scope = Scope(frame, at(row + r, column + v), copied=copied)
            return elements(scope, frame.nest.pieces, width)

        copies = serial_loop(length, lambda k: vector_loop(height, width, lambda v: copy(k, v)))
        return copies + serial_loop(
            height, lambda r: vector_loop(length, width, lambda v: body(r, v))
        )

    return chunks.wrap(allocated(held.values(), serial_loop(chunks.extent, block)))


def _turned(frame: Frame, axes: Axes, across: Var) -> list[Expression]:
    """The loads that go across."""
    nest = frame.nest
    found: list[Expression] = []
    seen: set[Expression] = set()
    for piece in nest.pieces:
        for root in piece.roots:
            for node in walk(root, seen):
                if node.op != "load" or nest.member(node.detail[0]) is not None:
                    continue
                source, where = node.detail
                if all(type(c) is Index for c in where):
                    access = Access(nest.place(source).address(where), "memory")
                    if _goes_across(access, axes, across):
                        found.append(node)
    return found


def _tile(frame: Frame, node: Expression) -> Buffer:
    return Buffer(frame.name("t"), node.dtype, (index(TILE * PITCH),), "scratch")
