"""Schedules of groups with loops inside of rows: reductions, softmax, norms, scans.

A nest is carried out row by row, in passes: pieces over the same domain share the loops of a pass
unless one needs a result of another. There are two forms. Either a row is done at a time, in
vectors along the innermost axis of its domain; or a vector of rows is done at a time, each lane a
row of its own. Which of them suits is estimated from how memory is gone through.

Values that live inside of a row are in registers, or in scratch memory if they have axes of the
domain.
"""

from __future__ import annotations

from taimatsu.compiler.groups import Launch
from taimatsu.compiler.schedule.common import (
    Axes,
    Nest,
    accesses,
    collapsed,
    composed,
    float_operations,
    operations,
    points,
    storage_order,
)
from taimatsu.compiler.schedule.frame import (
    Frame,
    chunked,
    serial_loop,
)
from taimatsu.compiler.schedule.passes import Pass, copies_of
from taimatsu.compiler.schedule.row import Lanes, Row, strips
from taimatsu.ir.index import Index, Var, index
from taimatsu.ir.loops import Statement


def schedule(nest: Nest, passes: list[Pass], along: Var | None, width: int) -> Launch:
    """One kernel that goes through the rows of a nest, vectors of them along ``along``."""
    frame = Frame(nest)
    work = 0.0
    flops = index(0)
    for step in passes:
        cost = operations(step.roots) / 4 + len(accesses(nest, step.pieces))
        work += cost * points(step.domain)
        flops = flops + _volume(step.domain) * float_operations(step.roots)
    flops = flops * _volume(nest.rows)
    if along is None:
        body = _row_by_row(frame, passes, width, work)
    else:
        body = _rows_in_lanes(frame, passes, along, width, work)
    return frame.launch(body, flops)


def _volume(axes: tuple[Var, ...]) -> Index:
    total = index(1)
    for var in axes:
        if not var.extent.variables():
            total = total * var.extent
        else:
            total = total * var.extent.substitute(dict.fromkeys(var.extent.variables(), 0))
    return total


def _row_axes(nest: Nest) -> Axes:
    found = accesses(nest)
    return collapsed(storage_order(nest.rows, found), found, nest.apart)


def _row_by_row(frame: Frame, passes: list[Pass], width: int, work: float) -> list[Statement]:
    axes = _row_axes(frame.nest)
    chunks = chunked(axes.loops, max(work, 1.0))

    def row(k: Index) -> list[Statement]:
        at = dict(chunks.values)
        if axes.loops:
            at[axes.loops[-1]] = chunks.begin + k
        return Row(frame, passes, composed(axes.values, at), width).statements()

    return chunks.wrap(serial_loop(chunks.extent, row, "row"))


def _rows_in_lanes(
    frame: Frame, passes: list[Pass], along: Var, width: int, work: float
) -> list[Statement]:
    """A vector of rows at a time, or several vectors where that costs few registers."""
    axes = _row_axes(frame.nest)
    last = next(v for v in axes.loops if axes.like[v] is along)
    loops = [*[v for v in axes.loops if v is not last], last]
    copies = copies_of(passes, last, width)
    chunks = chunked(loops, max(work, 1.0), copies * width)

    def strip(begin: Index, copies: int, extent: Index) -> list[Statement]:
        at = {**chunks.values, last: chunks.begin + begin}
        values = composed(axes.values, at)
        lanes = Lanes(copies, width, extent, last)
        lanes.unit = composed(axes.values, {v: index(1 if v is last else 0) for v in loops})
        return Row(frame, passes, values, width, lanes).statements()

    return chunks.wrap(strips(chunks.extent, copies, width, strip))
