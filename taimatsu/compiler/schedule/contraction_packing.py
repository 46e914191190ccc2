"""Copies of operands: panels that vectors are loaded from, and factors computed once.

A panel holds, for every step of the reduction in the order of the loops, the elements of one tile
along the lane axis, one vector after the other. So vectors are aligned, follow one another, and lie
on few pages. What lies past the end is zero.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from taimatsu.compiler.schedule.contraction_kernel import (
    ChunkCounter,
    Position,
    nested,
    panel_of,
)
from taimatsu.compiler.schedule.contraction_plan import CHUNK_CYCLES, MOST_CHUNKS, Plan, count
from taimatsu.compiler.schedule.contraction_problem import Operand, Problem, hint, operand_of
from taimatsu.ir import expression as ex
from taimatsu.ir.index import Index, Var, ceil_div, index, minimum
from taimatsu.ir.loops import Buffer, Loop, Statement, Store

INLINE_USES = 4  # a factor that is computed is stored if it is used more often than that


def packed(problem: Problem, chosen: Plan, number: int) -> tuple[Operand, list[Statement]]:
    """An operand in panels, and the loops that make them."""
    operand = problem.operands[number]
    axis = chosen.packed[number]
    panel = _Panel(axis, panel_of(chosen, axis), chosen.step(axis), chosen.lanes)
    if operand.overlaps():
        return _packed_windows(problem, panel, operand)
    outer = [v for v in problem.axes if v in operand.axes and v is not axis]
    inner = [v for v in chosen.order if v in operand.axes]
    buffer, address = _panels(problem, panel, outer, inner)
    made = operand_of(ex.load(buffer, (address,), problem.dtype))
    made.source, made.elements, made.is_padded = operand.source, operand.elements, True
    return made, _pack_loops(panel, operand, buffer, address, outer, inner)


def _packed_windows(
    problem: Problem, panel: _Panel, operand: Operand
) -> tuple[Operand, list[Statement]]:
    """Of an operand whose windows overlap, the memory itself in panels along its innermost axis."""
    source, (address,) = operand.load.detail
    width = panel.axis.extent.constant
    pixel = Var("pixel", source.size // width)
    whole = operand_of(ex.load(source, (index(pixel) * width + panel.axis,), source.dtype))
    buffer, place = _panels(problem, panel, [], [pixel])
    body = _pack_loops(panel, whole, buffer, place, [], [pixel])
    rest = address - panel.axis
    at = Index(tuple([(a, f // width) for a, f in rest.terms]), rest.constant // width)
    made = operand_of(ex.load(buffer, (place.substitute({pixel: at}),), problem.dtype))
    made.source, made.elements, made.is_padded = operand.source, operand.elements, True
    return made, body


def _panels(
    problem: Problem, panel: _Panel, outer: list[Var], inner: list[Var]
) -> tuple[Buffer, Index]:
    """Memory for panels, and the address at a position."""
    address, step = index(panel.axis), index(panel.width)
    for axis in reversed(inner):
        address = address + step * axis
        step = step * axis.extent
    address = address + (step - panel.width) * panel.mark  # the axis runs on through panels
    step = step * count(panel.axis.extent, panel.width)
    for axis in reversed(outer):
        address = address + step * axis
        step = step * axis.extent
    return problem.memories.temporary("panels", problem.dtype, step), address


class _Panel(NamedTuple):
    """Panels of ``width`` elements along an axis, in vectors of ``lanes``."""

    axis: Var
    mark: Var
    width: int
    lanes: int


def _pack_loops(
    panel: _Panel,
    operand: Operand,
    buffer: Buffer,
    address: Index,
    outer: list[Var],
    inner: list[Var],
) -> list[Statement]:
    lane, width, lanes = panel.axis, panel.width, panel.lanes
    panels = count(lane.extent, width)
    # The outermost axis of the reduction is cut where there are too few panels to share.
    elements = width * prod([hint(v.extent) for v in (*outer, *inner)]) * hint(panels)
    wanted = min(MOST_CHUNKS, max(1, int(elements / CHUNK_CYCLES)))
    cuts = -(-wanted // max(1, prod([hint(v.extent) for v in outer]) * hint(panels)))
    block = -(-hint(inner[0].extent) // cuts) if inner else 1
    counts = [*[v.extent for v in outer], panels]
    if inner:
        counts.append(count(inner[0].extent, block))
    chunks = ChunkCounter(counts)
    position: Position = dict(zip(outer, chunks.parts, strict=False))
    first = chunks.parts[len(outer)] * width
    position[panel.mark] = chunks.parts[len(outer)]
    loops: list[Var] = []
    for axis in inner:
        extent, begin = axis.extent, index(0)
        if axis is inner[0]:
            begin = chunks.parts[-1] * block
            extent = minimum(block, axis.extent - begin)
        var = Var(axis.name, extent)
        position[axis] = begin + var
        loops.append(var)
    vectors = ceil_div(minimum(width, lane.extent - first), lanes)
    number = Var("vector", vectors)
    start = first + index(number) * lanes
    used = minimum(lanes, lane.extent - start)
    made: list[Statement] = []
    if width % lanes == 0 and (lane.extent.terms or lane.extent.constant % width):
        c, zero_lane = Var("c", width // lanes), Var("z", lanes)
        there: Position = {**position, lane: first + index(c) * lanes + zero_lane}
        where = address.substitute(there)
        zero = ex.constant(0, buffer.dtype)
        fill = Loop(zero_lane, "vector", [Store(buffer, (where,), zero)], width=lanes)
        made += [Loop(c, "unroll", [fill])]
    var = Var("l", used)
    here: Position = {**position, lane: start + var}
    value = ex.cast(ex.substitute(operand.value, here, {}), buffer.dtype)  # type: ignore[arg-type]
    store = Store(buffer, (address.substitute(here),), value)  # type: ignore[arg-type]
    made.append(Loop(number, "serial", [Loop(var, "vector", [store], width=lanes)]))
    return [Loop(chunks.var, "parallel", nested(loops, "serial", made))]


def uses(problem: Problem, operand: Operand) -> int:
    """How often each element of an operand is needed, about."""
    again = prod([hint(v.extent) for v in problem.axes if v not in operand.axes])
    positions = prod([hint(v.extent) for v in operand.axes])
    return int(again * max(1.0, positions / max(operand.elements, 1)))


def is_computed(problem: Problem, operand: Operand) -> bool:
    """Whether a factor is worth computing once for all: it is no plain load, and used often."""
    if operand.value.op == "load":
        return False
    return _common_source(operand) is not None and uses(problem, operand) > INLINE_USES


def _common_source(operand: Operand) -> tuple[Index, list[Buffer]] | None:
    """The one address at which all loads of a factor are; None where they differ."""
    found: Index | None = None
    buffers: list[Buffer] = []
    for node in ex.walk(operand.value):
        if node.op == "index":
            return None
        if node.op == "load":
            buffer, where = node.detail
            if not isinstance(where[0], Index) or (found is not None and where[0] != found):
                return None
            found = where[0]
            buffers.append(buffer)
    return None if found is None else (found, buffers)


def computed(problem: Problem, operand: Operand, lanes: int) -> tuple[Operand, list[Statement]]:
    """A factor stored element by element where its loads are, and the loops that do it."""
    source = _common_source(operand)
    assert source is not None
    address, buffers = source
    size = min((b.size for b in buffers), key=hint)
    buffer = problem.memories.temporary("factor", problem.dtype, size)
    block = -(-max(4096, -(-hint(size) // MOST_CHUNKS)) // 64) * 64
    chunk = Var("chunk", count(size, block))
    begin = index(chunk) * block
    lane = Var("i", minimum(block, size - begin))

    def change(node: ex.Expression) -> ex.Expression | None:
        if node.op == "load":
            return ex.load(node.detail[0], (begin + lane,), node.dtype)
        return None

    value = ex.cast(ex.rewrite(operand.value, change, {}), buffer.dtype)
    loop = Loop(lane, "vector", [Store(buffer, (begin + lane,), value)], width=lanes, unroll=2)
    made = operand_of(ex.load(buffer, (address,), buffer.dtype))
    made.source = operand.source
    return made, [Loop(chunk, "parallel", [loop])]
