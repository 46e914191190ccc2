"""The loops of a contraction: tiles of sums in registers, what is done with them, panels.

See ``contraction_plan`` for how work is divided. A position says for each axis (and for the panel
that a packed operand is read from) where the code being written is, as an index over loop
variables.
"""

from __future__ import annotations

from collections.abc import Callable
from math import gcd, prod

from taimatsu.compiler.schedule.contraction_finish import (
    Position,
    ahead,
    finished,
    lanes_apart,
    partial_address,
)
from taimatsu.compiler.schedule.contraction_plan import Plan, count
from taimatsu.compiler.schedule.contraction_problem import Operand, Problem, hint
from taimatsu.compiler.schedule.contraction_region import Region
from taimatsu.compiler.schedule.contraction_stretches import (
    Stretch,
    counted_loop,
    lane_stretches,
    nested,
    row_stretches,
)
from taimatsu.ir import expression as ex
from taimatsu.ir.expression import FLOATS, Expression
from taimatsu.ir.index import Index, Var, index, minimum
from taimatsu.ir.loops import Allocate, Buffer, Loop, Prefetch, Statement, Store

UNROLLED = 252  # multiply-adds of a body up to which short inner loops are written out
UNROLLED_REST = 64  # the same of tiles that are there for what an unknown extent may leave over
SOON = 64  # steps of a reduction that give memory no time to answer meanwhile
FINISHED = 400  # operations to finish a tile up to which they are written out
# They stand for the numbers of panels in addresses of packed operands: along the lane axis, and
# along an axis of rows.
PANEL, ROW_PANEL = Var("panel", 1), Var("panel", 1)


def panel_of(chosen: Plan, axis: Var) -> Var:
    """What stands for the number of a panel along an axis."""
    return PANEL if axis is chosen.lane else ROW_PANEL


def cut(extent: Index, block: int, at: Index) -> tuple[Index, Index]:
    """Begin and length of a block."""
    begin = at * block
    return begin, minimum(block, extent - begin)


class ChunkCounter:
    """Divides the number of a chunk into the numbers of blocks along axes."""

    def __init__(self, counts: list[Index]) -> None:
        total = index(1)
        for n in counts:
            total = total * n
        self.var = Var("chunk", total)
        self.parts: list[Index] = []
        inner = index(1)
        for n in reversed(counts):
            part = index(0) if n == 1 else index(self.var) // inner
            if n != 1 and inner * n != total:
                part = part % n
            self.parts.append(part)
            inner = inner * n
        self.parts.reverse()


class ContractionWriter:
    """Writes the main kernel: sums of products, then outputs or partial sums."""

    def __init__(self, problem: Problem, chosen: Plan, partial: Buffer | None) -> None:
        self.problem = problem
        self.plan = chosen
        self.partial = partial
        self.dtype = problem.dtype
        self.tile_class: type[Tile] = Tile
        # Of sums that are made in stages: whether one begins (False) or goes on (True).
        self.goes_on: bool | None = None
        self.region: Region | None = None
        self._vars = 0

    def body(self) -> list[Statement]:
        """The parallel loop over chunks."""
        chosen = self.plan
        counts = [count(v.extent, block) for v, block in chosen.blocks.items()]
        if chosen.split is not None:
            counts.insert(0, count(chosen.split[0].extent, chosen.split[1]))
        chunks = ChunkCounter(counts)
        parts = chunks.parts
        self.part = index(0)
        self.terms = {v: (index(0), v.extent) for v in chosen.order}
        if chosen.split is not None:
            axis, block = chosen.split
            self.part, parts = parts[0], parts[1:]
            self.terms[axis] = cut(axis.extent, block, self.part)
        blocks = {
            v: cut(v.extent, block, p)
            for (v, block), p in zip(chosen.blocks.items(), parts, strict=True)
        }
        if chosen.finish:
            self.region = Region(self, blocks, chosen.finish)
        if not chosen.stages:
            tiles = self._tiles(list(chosen.loops), blocks, {}, {})
            if self.region is not None:
                tiles = self.region.around(tiles)
            return [Loop(chunks.var, "parallel", tiles)]
        self.goes_on = False
        begin = self._tiles(list(chosen.loops), blocks, {}, {})
        self.goes_on = True
        loops = []
        for axis, step in chosen.stages.items():
            start, extent = self.terms[axis]
            var = Var(f"{axis.name}s", count(extent, step))
            at, length = cut(extent, step, index(var))
            self.terms[axis] = (start + at, length)
            loops.append(var)
        tiles = nested(loops, "serial", self._tiles(list(chosen.loops), blocks, {}, {}))
        return [Loop(chunks.var, "parallel", [*begin, *tiles])]

    def _tiles(
        self,
        loops: list[Var],
        blocks: dict[Var, tuple[Index, Index]],
        position: Position,
        tile: dict[Var, Stretch],
    ) -> list[Statement]:
        """The loops over tiles along the axes left, and the tiles."""
        if not loops:
            return self._tile(position, tile)
        axis, rest = loops[0], loops[1:]
        start, extent = blocks[axis]
        chosen = self.plan
        if axis is chosen.lane:
            runs = lane_stretches(axis, start, extent, chosen.vectors, chosen.lanes)
        else:
            runs = row_stretches(axis, start, extent, chosen.factors.get(axis, 1))
        made: list[Statement] = []
        for run in runs:
            inner = self._tiles(rest, blocks, {**position, axis: run.start}, {**tile, axis: run})
            made += run.loop(inner)
        return made

    # -- a tile ----------------------------------------------------------------------------

    def _tile(self, position: Position, tile: dict[Var, Stretch]) -> list[Statement]:
        chosen = self.plan
        run = self.tile_class(self, position, tile)
        sums = run.sums
        zero = ex.constant(0, self.dtype)
        start = run.each(lambda at, _: [Store(sums, at, zero)], vector=False)
        finish = run.finish()
        if self.goes_on is False:
            return [Allocate(sums, [*start, *finish])]
        if self.goes_on:
            start = run.resume()
        reduction = run.reduction(list(chosen.order))
        return [Allocate(sums, [*start, *run.ahead(), *reduction, *finish])]

    def fresh(self, name: str, extent: int) -> Var:
        self._vars += 1
        return Var(f"{name}{self._vars}", extent)


class Tile:
    """One tile's code."""

    def __init__(
        self, writer: ContractionWriter, position: Position, tile: dict[Var, Stretch]
    ) -> None:
        self.writer = writer
        self.problem = writer.problem
        self.plan = chosen = writer.plan
        self.lane_run = tile.get(chosen.lane)
        self.vectors = 1 if self.lane_run is None else self.lane_run.size
        self.tail = None if self.lane_run is None else self.lane_run.tail
        self.is_rest = any(run.is_rest for run in tile.values())
        self.rows = {
            v: writer.fresh("u", run.size)
            for v, run in tile.items()
            if v is not chosen.lane and run.size > 1
        }
        self.position: Position = dict(position)
        for axis, var in self.rows.items():
            self.position[axis] = index(position[axis]) + var
        for axis in chosen.packed.values():
            self.position[panel_of(chosen, axis)] = tile[axis].panel
        shape = [*[v.extent for v in self.rows.values()], index(self.vectors)]
        self.sums = Buffer("sums", writer.dtype, shape, "register", lanes=chosen.lanes)

    @property
    def lane_start(self) -> Index:
        """The first element along the lane axis."""
        return index(0) if self.lane_run is None else self.lane_run.start

    # -- loops over the tile ---------------------------------------------------------------

    def vector(
        self, make: Callable[[Index, Position], list[Statement]], masked: bool
    ) -> list[Statement]:
        """Statements for each vector of the tile; ``make`` gets its number and the position."""
        chosen, writer = self.plan, self.writer
        if self.lane_run is None:
            return make(index(0), self.position)
        start = self.lane_run.start
        plain = self.vectors - (1 if masked and self.tail is not None else 0)
        made: list[Statement] = []
        if plain:
            number = writer.fresh("c", plain)
            at = index(0) if plain == 1 else index(number)
            lane = writer.fresh("l", chosen.lanes)
            here = {**self.position, chosen.lane: start + at * chosen.lanes + lane}
            inner: list[Statement] = [Loop(lane, "vector", make(at, here), width=chosen.lanes)]
            made += inner if plain == 1 else [Loop(number, "unroll", inner)]
        if plain < self.vectors:
            assert self.tail is not None
            lane = Var("tail", self.tail)
            here = {**self.position, chosen.lane: start + plain * chosen.lanes + lane}
            made.append(Loop(lane, "vector", make(index(plain), here), width=chosen.lanes))
        return made

    def each(
        self, make: Callable[[list[Index], Position], list[Statement]], vector: bool = True
    ) -> list[Statement]:
        """Statements for each register of sums, inside of a vector loop or not."""
        rows = list(self.rows.values())
        at: list[Index] = [index(v) for v in rows]
        if vector:
            inner = self.vector(lambda c, here: make([*at, c], here), masked=True)
        else:
            number = self.writer.fresh("c", self.vectors)
            inner = nested([number], "unroll", make([*at, index(number)], self.position))
        return nested(rows, "unroll", inner)

    # -- the reduction ---------------------------------------------------------------------

    def reduction(self, order: list[Var]) -> list[Statement]:
        """The loops over the reduction's axes, outermost first."""
        return self._reduce(order, self._unrolled(order), {})

    def _unrolled(self, order: list[Var]) -> set[Var]:
        """Short inner loops that are written out."""
        chosen: set[Var] = set()
        size = 1
        for row in self.rows.values():
            size *= row.extent.constant
        size *= self.vectors
        most = UNROLLED_REST if self.is_rest else UNROLLED
        for axis in reversed(order):
            _, extent = self.writer.terms[axis]
            if (
                axis is self.plan.lane
                or not extent.is_constant
                or self._meets_rows(axis, extent.constant)
            ):
                break
            size *= extent.constant
            if size > most:
                break
            chosen.add(axis)
        return chosen

    def _meets_rows(self, axis: Var, length: int) -> bool:
        """Whether steps along an axis of the reduction read what other rows read: written out,
        they would hold on to it, and there are no registers left for that.
        """
        for operand in self.problem.operands:
            if operand.strides is None or axis not in operand.axes:
                continue
            step = operand.stride(axis)
            for row, var in self.rows.items():
                along = operand.stride(row)
                if step.terms or along.terms or not along.constant:
                    continue
                if not step.constant:
                    continue
                # The least number of steps that lead to where another row was.
                least = abs(along.constant) // gcd(step.constant, along.constant)
                rows = least * abs(step.constant) // abs(along.constant)
                if least < length and rows < var.extent.constant:
                    return True
        return False

    def _reduce(self, order: list[Var], short: set[Var], at: Position) -> list[Statement]:
        if not order:
            return self._step(at, None)
        axis, rest = order[0], order[1:]
        begin, extent = self.writer.terms[axis]
        if axis is self.plan.lane:
            return self._along_lanes(axis, rest, short, at)
        var = Var(axis.name, extent)
        inner = self._reduce(rest, short, {**at, axis: begin + var})
        return [Loop(var, "unroll" if axis in short else "serial", inner)]

    def _along_lanes(
        self, axis: Var, rest: list[Var], short: set[Var], at: Position
    ) -> list[Statement]:
        """Vectors along the reduction, which is the innermost loop."""
        assert not rest
        begin, extent = self.writer.terms[axis]
        lanes = self.plan.lanes
        made: list[Statement] = []
        counted = counted_loop(axis.name, extent // lanes)
        if counted is not None:
            lane = self.writer.fresh("l", lanes)
            where = {**at, axis: begin + counted[1] * lanes + lane}
            body = self._step(where, lane)
            made += body if counted[0] is None else [Loop(counted[0], "serial", body)]
        left = extent % lanes
        if not left.is_constant or left.constant:
            lane = Var("tail", left)
            made += self._step({**at, axis: begin + extent // lanes * lanes + lane}, lane)
        return made

    def _step(self, at: Position, lane: Var | None) -> list[Statement]:
        """One step of the reduction: operands are loaded, products added to all sums."""
        a, b = self.problem.operands
        kept, other = (b, a) if self._entries(b) <= self._entries(a) else (a, b)
        first, second = self._register("x", kept), self._register("y", other)
        outer = [v for axis, v in self.rows.items() if axis in other.axes]
        inner = [v for axis, v in self.rows.items() if axis not in other.axes]
        load = self._loads(first, kept, at, lane)
        loads = nested([v for axis, v in self.rows.items() if axis in kept.axes], "unroll", load)
        added = nested(inner, "unroll", self._added(first, kept, second, other, lane))
        streamed = nested(outer, "unroll", [*self._loads(second, other, at, lane), *added])
        return [Allocate(first, [Allocate(second, [*self._next_rows(at), *loads, *streamed])])]

    def _next_rows(self, at: Position) -> list[Statement]:
        """Asks memory for the next tile's rows, where they follow this one's: at each step for as
        many numbers as a step reads. They are too many streams for the machine to foresee.
        """
        axis = self.plan.loops[-1]
        if self.plan.across or axis not in self.rows:
            return []
        terms = prod([v.extent for v in self.plan.order], start=index(1))
        step = index(0)
        for v in self.plan.order:
            step = step * v.extent + at[v]
        rows = self.rows[axis].extent
        return [
            Prefetch(operand.load.detail[0], (self._first(operand) + (terms + step) * rows,))
            for operand in self.problem.operands
            if operand.strides is not None
            and not self._is_vector(operand)
            and operand.stride(axis) == terms
        ]

    def _first(self, operand: Operand) -> Index:
        """The address of the first of a tile's elements."""
        address: Index = operand.load.detail[1][0]
        begin: Position = {**self.position, **dict.fromkeys(self.plan.order, 0)}
        return address.substitute(begin).substitute(dict.fromkeys(self.rows.values(), 0))

    def _is_vector(self, operand: Operand) -> bool:
        return self.plan.lane in operand.axes

    def _entries(self, operand: Operand) -> int:
        size = self.vectors if self._is_vector(operand) and not self.plan.across else 1
        for axis, var in self.rows.items():
            if axis in operand.axes:
                size *= var.extent.constant
        return size

    def _register(self, name: str, operand: Operand) -> Buffer:
        """Registers for the part of a tile that an operand covers."""
        shape = [v.extent if a in operand.axes else index(1) for a, v in self.rows.items()]
        lanes = self.plan.lanes if self._is_vector(operand) else 1
        shape.append(index(self.vectors if lanes > 1 or self._is_vector(operand) else 1))
        return Buffer(name, self.writer.dtype, shape, "register", lanes=lanes)

    def _place(self, operand: Operand, vector: Index) -> list[Index]:
        """Where in its registers the operand's part for a row (and vector) is."""
        at = [index(v) if a in operand.axes else index(0) for a, v in self.rows.items()]
        return [*at, vector if self._is_vector(operand) else index(0)]

    def _loads(
        self, register: Buffer, operand: Operand, at: Position, lane: Var | None
    ) -> list[Statement]:
        def make(vector: Index, here: Position) -> list[Statement]:
            value = ex.substitute(operand.value, {**here, **at}, {})  # type: ignore[dict-item]
            value = ex.cast(value, self.writer.dtype)
            return [Store(register, self._place(operand, vector), value)]

        if not self._is_vector(operand):
            return make(index(0), self.position)
        # What is not loaded must be a number all the same: some slow multiply-adds down.
        place = self._place(operand, index(self.vectors - 1))
        zero = Store(register, place, ex.constant(0, self.writer.dtype))
        lanes = self.plan.lanes
        if lane is not None:
            load = Loop(lane, "vector", make(index(0), self.position), width=lanes)
            return [load] if lane.extent == lanes else [zero, load]
        if operand.is_padded or self.tail is None:
            return self.vector(make, masked=False)
        return [zero, *self.vector(make, masked=True)]

    def _added(
        self, first: Buffer, kept: Operand, second: Buffer, other: Operand, lane: Var | None
    ) -> list[Statement]:
        rows = [index(v) for v in self.rows.values()]

        def make(vector: Index, _: Position) -> list[Statement]:
            x = ex.load(first, self._place(kept, vector))
            y = ex.load(second, self._place(other, vector))
            place = [*rows, vector]
            total = ex.load(self.sums, place)
            value = self._sum(kept, x, other, y, total)
            return [Store(self.sums, place, value)]

        if lane is None:
            return self.vector(make, masked=False)
        # A variable of its own: one loop's is not another's.
        own = Var(lane.name, lane.extent)
        return [Loop(own, "vector", make(index(0), {}), width=self.plan.lanes)]

    def _sum(
        self, kept: Operand, x: Expression, other: Operand, y: Expression, total: Expression
    ) -> Expression:
        product = self.problem.product
        if product.op == "mul" and self.writer.dtype in FLOATS:
            return ex.fma(x, y, total)
        done = {kept.source: x, other.source: y}
        return total + ex.rewrite(product, lambda node: None, done)

    def resume(self) -> list[Statement]:
        """Loads partial sums."""

        def make(at: list[Index], here: Position) -> list[Statement]:
            assert self.writer.partial is not None
            where = partial_address(self.problem, self.writer.part)
            part = ex.load(self.writer.partial, (where.substitute(here),))  # type: ignore[arg-type]
            return [Store(self.sums, at, part)]

        return self.each(make)

    # -- what becomes of the sums ----------------------------------------------------------

    def finish(self) -> list[Statement]:
        """Stores partial sums, or the outputs."""
        across = self.plan.across
        if self.writer.region is not None:
            return self.writer.region.put(self)
        if self._is_heavy():
            return self._finish_by_rows()

        def make(at: list[Index], here: Position) -> list[Statement]:
            total = ex.load(self.sums, at)
            if across:
                total = ex.across("add", total)
            if self.writer.partial is not None:
                where = partial_address(self.problem, self.writer.part)
                where = where.substitute(here)
                return [Store(self.writer.partial, (where,), total)]
            return finished(self.problem, total, here, 1 if across else self.plan.lanes)

        return self.each(make)

    def ahead(self) -> list[Statement]:
        """Asks memory for what the outputs will need, so that it arrives during the reduction."""
        if self.writer.region is not None:
            return []
        if not self._is_heavy() or prod([hint(v.extent) for v in self.plan.order]) < SOON:
            return []
        number = self.writer.fresh("c", self.vectors)
        assert self.lane_run is not None
        lanes = self.plan.lanes
        here = {**self.position, self.plan.lane: self.lane_run.start + index(number) * lanes}
        asked: list[Statement] = [
            Prefetch(buffer, (address.substitute(here),), is_written)
            for (buffer, address), is_written in ahead(self.problem, self.plan.lane).items()
        ]
        return nested([*self.rows.values(), number], "unroll", asked) if asked else []

    def _is_heavy(self) -> bool:
        """Whether what is done with the sums is too much to be written out for each of them."""
        if self.writer.partial is not None or self.lane_run is None or not self.rows:
            return False
        seen: set[Expression] = set()
        nodes = [node for o in self.problem.outputs for node in ex.walk(o.value, seen)]
        places = lanes_apart(self.problem, nodes, self.plan.lane)
        vectors = self.vectors
        for var in self.rows.values():
            vectors *= var.extent.constant
        each = len(nodes) + len(self.problem.outputs) + places * self.plan.lanes
        return each * vectors > FINISHED

    def near(self) -> tuple[Buffer, Index, list[Statement]]:
        """Memory near the core for the sums, where the lane axis begins there, and the copy."""
        assert self.lane_run is not None
        start, lanes = self.lane_run.start, self.plan.lanes
        shape = [*[v.extent for v in self.rows.values()], index(self.vectors * lanes)]
        near = Buffer("near", self.writer.dtype, shape, "scratch")
        rows = [index(v) for v in self.rows.values()]

        def put(vector: Index, here: Position) -> list[Statement]:
            value = ex.load(self.sums, [*rows, vector])
            return [Store(near, [*rows, index(here[self.plan.lane]) - start], value)]

        puts = nested(list(self.rows.values()), "unroll", self.vector(put, masked=False))
        return near, index(start), puts

    def _finish_by_rows(self) -> list[Statement]:
        """Puts the sums into memory near the core, and goes over them row by row."""
        lane = self.plan.lane
        near, start, puts = self.near()
        again = {axis: Var(f"{var.name}s", var.extent) for axis, var in self.rows.items()}
        place = [index(v) for v in again.values()]
        turned: Position = {v: index(again[a]) for a, v in self.rows.items()}

        def make(_: Index, here: Position) -> list[Statement]:
            total = ex.load(near, [*place, index(here[lane]) - start])
            moved: Position = {v: index(at).substitute(turned) for v, at in here.items()}
            return finished(self.problem, total, moved, self.plan.lanes)

        body = nested(list(again.values()), "serial", self.vector(make, masked=True))
        return [Allocate(near, [*puts, *body])]
