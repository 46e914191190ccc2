"""Copies of operands: panels that vectors are loaded from, and factors computed once.

A panel holds, for every step of the reduction in the order of the loops, the elements of one tile
along the lane axis, one vector after the other. So vectors are aligned, follow one another, and lie
on few pages. What lies past the end is zero.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import NamedTuple

from taimatsu.compiler.schedule.contraction_finish import Position
from taimatsu.compiler.schedule.contraction_kernel import (
    ChunkCounter,
    panel_of,
)
from taimatsu.compiler.schedule.contraction_plan import (
    FAR_BYTES,
    MOST_CHUNKS,
    PACK_CHUNK,
    SQUARE_COLUMNS,
    Plan,
    count,
)
from taimatsu.compiler.schedule.contraction_problem import Operand, Problem, hint, operand_of
from taimatsu.compiler.schedule.contraction_stretches import nested
from taimatsu.ir import expression as ex
from taimatsu.ir.expression import SIZES
from taimatsu.ir.index import Index, Var, ceil_div, index, minimum
from taimatsu.ir.loops import Allocate, Buffer, Loop, Prefetch, Statement, Store, Transpose

# Of which memory is asked for what will be packed: single steps, squares, rows of few squares.
STEPS_AHEAD, SQUARES_AHEAD, ROWS_AHEAD = 8, 4, 2
INLINE_USES = 4  # a factor that is computed is stored if it is used more often than that


def packed(problem: Problem, chosen: Plan, number: int) -> tuple[Operand, list[Statement]]:
    """An operand in panels, and the loops that make them."""
    operand = problem.operands[number]
    axis = chosen.packed[number]
    panel = _panel(chosen, axis, operand)
    if operand.overlaps():
        return _packed_windows(problem, panel, operand)
    outer = [v for v in problem.axes if v in operand.axes and v is not axis]
    inner = [v for v in chosen.order if v in operand.axes]
    buffer, address = _panels(problem, panel, outer, inner)
    made = operand_of(ex.load(buffer, (address,), problem.dtype))
    made.source, made.elements, made.is_padded = operand.source, operand.elements, True
    turned = _turned_axes(chosen, axis, operand)
    return made, _pack_loops(panel, operand, buffer, address, outer, inner, turned)


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
    address, step = index(panel.axis), index(panel.pitch)
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
    """Panels of ``width`` elements along an axis, in vectors of ``lanes``; ``pitch`` apart from one
    step of the reduction to the next.
    """

    axis: Var
    mark: Var
    width: int
    lanes: int
    pitch: int


def _panel(chosen: Plan, axis: Var, operand: Operand) -> _Panel:
    """Whole vectors are stored where that takes little more memory."""
    width, lanes = chosen.step(axis), chosen.lanes
    whole = -(-width // lanes) * lanes
    pitch = whole if _turned_axes(chosen, axis, operand) and 4 * width >= 3 * whole else width
    return _Panel(axis, panel_of(chosen, axis), width, lanes, pitch)


def _turned_axes(chosen: Plan, axis: Var, operand: Operand) -> list[Var]:
    """The axes of the reduction along which lie what is packed along another one."""
    if chosen.lanes == 1 or operand.is_contiguous(axis):
        return []
    return operand.run(chosen.order)


class _Run(NamedTuple):
    """What a chunk copies along an axis, or along axes that follow one another, innermost first."""

    axes: tuple[Var, ...]
    begin: Index
    extent: Index
    backward: frozenset[Var] = frozenset()  # those whose first element lies last: flipped kernels

    def at(self, var: Index) -> Position:
        """The places along the axes, for stores."""
        place = self.begin + var
        found: Position = {}
        for axis in self.axes:
            is_last = axis is self.axes[-1]
            found[axis] = self._counted(axis, place if is_last else place % axis.extent)
            place = place // axis.extent
        return found

    def read_at(self, var: Index) -> Position:
        """The same for loads, for which going on along the first axis is as good."""
        start: Position = {axis: self._counted(axis, index(0)) for axis in self.axes}
        return {**start, self.axes[0]: self._counted(self.axes[0], self.begin + var)}

    def moved(self, place: Position, steps: int) -> Position:
        """A place some steps further on."""
        axis = self.axes[0]
        return {**place, axis: index(place[axis]) + (-steps if axis in self.backward else steps)}

    def _counted(self, axis: Var, place: Index) -> Index:
        return axis.extent - 1 - place if axis in self.backward else place


def _pack_loops(
    panel: _Panel,
    operand: Operand,
    buffer: Buffer,
    address: Index,
    outer: list[Var],
    inner: list[Var],
    turned: list[Var] | None = None,
) -> list[Statement]:
    """The loops that fill panels; ``turned`` are the axes along which the operand lies."""
    panels = count(panel.axis.extent, panel.width)
    runs = _runs(operand, inner, turned or [])
    # One of the loops over the reduction is cut where there are too few panels to share.
    elements = panel.width * prod([hint(v.extent) for v in (*outer, *inner)]) * hint(panels)
    wanted = min(MOST_CHUNKS, max(1, int(elements / PACK_CHUNK)))
    cuts = -(-wanted // max(1, prod([hint(v.extent) for v in outer]) * hint(panels)))
    counts = [*[v.extent for v in outer], panels]
    cut = max(range(len(runs)), key=lambda n: min(hint(runs[n].extent), cuts), default=None)
    block = 1
    if cut is not None:
        block = -(-hint(runs[cut].extent) // cuts)
        if turned and cut == len(runs) - 1:
            block = -(-block // panel.lanes) * panel.lanes
        counts.append(count(runs[cut].extent, block))
    chunks = ChunkCounter(counts)
    position: Position = dict(zip(outer, chunks.parts, strict=False))
    position[panel.mark] = chunks.parts[len(outer)]
    if cut is not None:
        begin = chunks.parts[-1] * block
        runs[cut] = runs[cut]._replace(begin=begin, extent=minimum(block, runs[cut].extent - begin))
    filler = _Filler(panel, operand, buffer, address, position, runs)
    return [Loop(chunks.var, "parallel", filler.all(bool(turned)))]


def _runs(operand: Operand, inner: list[Var], turned: list[Var]) -> list[_Run]:
    """What is copied, in the order of the loops: innermost what is near, so that lines which are
    read are used at once.
    """
    plain = [v for v in inner if v not in turned]
    if operand.strides is not None:
        plain.sort(key=lambda v: -abs(operand.stride(v).hint()))
    runs = [_Run((v,), index(0), v.extent) for v in plain]
    if turned:
        extent = prod([v.extent for v in turned], start=index(1))
        backward = frozenset(v for v in turned if operand.stride(v).hint() < 0)
        runs.append(_Run(tuple(turned), index(0), extent, backward))
    return runs


class _Filler:
    """Fills the part of a panel that one chunk copies."""

    def __init__(
        self,
        panel: _Panel,
        operand: Operand,
        buffer: Buffer,
        address: Index,
        position: Position,
        runs: list[_Run],
    ) -> None:
        self.panel = panel
        self.operand = operand
        self.buffer = buffer
        self.address = address
        self.position = position
        self.runs = runs
        self.first = index(position[panel.mark]) * panel.width
        left = panel.axis.extent - self.first
        # The axis whose steps are too far apart for the machine to foresee.
        self.jumps = next((r.axes[0] for r in reversed(runs) if self._is_far(r.axes[0])), None)
        self.number = Var("vector", ceil_div(minimum(panel.width, left), panel.lanes))

    def _is_far(self, axis: Var) -> bool:
        operand = self.operand
        if operand.strides is None:
            return False
        return abs(operand.stride(axis).hint()) * SIZES[operand.load.dtype] >= FAR_BYTES

    def all(self, is_turned: bool) -> list[Statement]:
        """Loops over the runs; along the turned axes squares, then what is left."""
        if not is_turned:
            return self._loops(self.runs, self._step)
        *plain, last = self.runs

        def squares(read: Position, written: Position) -> list[Statement]:
            return self._squares(plain, last, read, written)

        return self._loops(plain, squares)

    def _squares(
        self, plain: list[_Run], last: _Run, read: Position, written: Position
    ) -> list[Statement]:
        """For each of the panel's vectors squares along the turned axes, and what is left."""
        lanes = self.panel.lanes
        whole, rest = last.extent // lanes, last.extent % lanes
        ahead = (last, SQUARES_AHEAD * lanes)
        if whole.hint() <= SQUARES_AHEAD and plain:
            ahead = (plain[-1], ROWS_AHEAD)

        def square(at: Index, columns: int) -> list[Statement]:
            return self._square(last, at, columns, ahead, read, written)

        made: list[Statement] = []
        if whole != 0:
            var = Var("square", whole)
            made.append(Loop(var, "serial", square(index(var) * lanes, lanes)))
        columns = prod([v.extent for v in last.axes], start=index(1)) % lanes
        if not columns.terms and (SQUARE_COLUMNS * columns.constant >= lanes or columns == 0):
            # All chunks but the last one copy whole squares.
            if columns != 0:
                once = Var("rest", rest // columns)
                made.append(Loop(once, "serial", square(whole * lanes, columns.constant)))
            rest = index(0)
        made = [Loop(self.number, "serial", made)]
        if rest != 0:
            left = last._replace(begin=last.begin + whole * lanes, extent=rest)
            made += self._loops([left], self._step, read, written)
        return made

    def _loops(
        self,
        runs: list[_Run],
        body: Callable[[Position, Position], list[Statement]],
        read: Position | None = None,
        written: Position | None = None,
    ) -> list[Statement]:
        """Loops around what is made of the places that are read and written."""
        read = dict(self.position if read is None else read)
        written = dict(self.position if written is None else written)
        loops: list[Var] = []
        for run in runs:
            var = Var(run.axes[0].name, run.extent)
            read |= run.read_at(index(var))
            written |= run.at(index(var))
            loops.append(var)
        return nested(loops, "serial", body(read, written))

    def _load(self, here: Position) -> ex.Expression:
        value = ex.substitute(self.operand.value, here, {})  # type: ignore[arg-type]
        return ex.cast(value, self.buffer.dtype)

    def _store(self, here: Position, value: ex.Expression) -> Store:
        return Store(self.buffer, (self.address.substitute(here),), value)  # type: ignore[arg-type]

    def _step(self, read: Position, written: Position) -> list[Statement]:
        """The elements of a panel for one step of the reduction; zeros past the end."""
        axis, _, width, lanes, pitch = self.panel
        made: list[Statement] = []
        if width % lanes == 0 and (axis.extent.terms or axis.extent.constant % width):
            c, zero_lane = Var("c", width // lanes), Var("z", lanes)
            here = {**written, axis: self.first + index(c) * lanes + zero_lane}
            zero = self._store(here, ex.constant(0, self.buffer.dtype))
            made += [Loop(c, "unroll", [Loop(zero_lane, "vector", [zero], width=lanes)])]
        start = self.first + index(self.number) * lanes
        used = minimum(lanes, axis.extent - start)
        if pitch % lanes:  # the next step's elements follow at once, maybe another chunk's
            used = minimum(used, width - index(self.number) * lanes)
        lane = Var("l", used)
        body: list[Statement] = []
        if self.jumps is not None:
            soon = {**read, axis: start, self.jumps: index(read[self.jumps]) + STEPS_AHEAD}
            body += self._ask(soon)
        value = self._load({**read, axis: start + lane})
        copy = self._store({**written, axis: start + lane}, value)
        body.append(Loop(lane, "vector", [copy], width=lanes))
        return [*made, Loop(self.number, "serial", body)]

    def _ask(self, here: Position) -> list[Statement]:
        """Asks memory for an element that is needed soon."""
        load = self.operand.load
        where = load.detail[1][0].substitute(here)
        return [Prefetch(load.detail[0], (where,))]

    def _square(
        self,
        last: _Run,
        at: Index,
        columns: int,
        ahead: tuple[_Run, int],
        read: Position,
        written: Position,
    ) -> list[Statement]:
        """From ``at`` on some elements along the turned axes (at most as many as a vector has
        lanes), for a vector of the panel. Past the end the last elements stand once more.
        """
        axis, _, width, lanes, pitch = self.panel
        begin = self.first + index(self.number) * lanes
        square = Buffer("square", self.buffer.dtype, [lanes], "register", lanes=lanes)
        row, along = Var("row", lanes), Var("along", columns)
        where = begin + row
        if width % lanes or axis.extent.terms or axis.extent.constant % lanes:
            where = minimum(where, axis.extent - 1)
        value = self._load({**read, axis: where, **last.read_at(at + along)})
        load = Loop(along, "vector", [Store(square, [row], value)], width=lanes)
        run, steps = ahead
        soon = run.moved({**read, axis: where, **last.read_at(at)}, steps)
        step = Var("step", columns)
        stored = lanes if pitch % lanes == 0 else minimum(lanes, width - index(self.number) * lanes)
        lane = Var("lane", stored)
        here = {**written, axis: begin + lane, **last.at(at + step)}
        write = self._store(here, ex.load(square, [step]))
        body = [
            Loop(row, "unroll", [*self._ask(soon), load]),
            Transpose(square),
            Loop(step, "unroll", [Loop(lane, "vector", [write], width=lanes)]),
        ]
        return [Allocate(square, body)]


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
