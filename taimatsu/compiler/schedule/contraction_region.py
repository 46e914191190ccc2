"""A chunk's sums near the core, finished together in the order in which outputs lie in memory.

Tiles finish their own sums where the outputs, and what is read beside the sums, follow the lane
axis. Where they follow another one, every number would be stored on its own: there the tiles of a
chunk put their sums into scratch memory, in the outputs' order (turned in registers), and what is
done with them follows for the whole chunk, row by row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taimatsu.compiler.schedule.contraction_finish import Position, finished, places_of
from taimatsu.compiler.schedule.contraction_problem import Problem
from taimatsu.ir import expression as ex
from taimatsu.ir.expression import SIZES
from taimatsu.ir.index import Index, Var, index
from taimatsu.ir.loops import Allocate, Buffer, Loop, Statement, Store, Transpose

if TYPE_CHECKING:
    from taimatsu.compiler.schedule.contraction_kernel import ContractionWriter, Tile
    from taimatsu.compiler.schedule.contraction_plan import Plan

LEAST_TURNED = 4  # rows of a tile that are turned in registers; fewer are stored one by one
CROWDED_BYTES = 1024  # rows so far apart (or a multiple of it) compete for places in the cache


def follows(problem: Problem, axis: Var) -> int:
    """How many of the outputs' places (twice each) and of what they read follow an axis."""
    return sum(weight for where, weight in places_of(problem) if _is_step(where, axis))


def _is_step(where: Index, axis: Var) -> bool:
    try:
        return where.stride(axis) == 1
    except ValueError:
        return False


def axis_to_finish_along(problem: Problem, chosen: Plan) -> Var | None:
    """The axis that a chunk's outputs follow in memory; None where each tile finishes its own."""
    if chosen.lanes == 1 or chosen.across or chosen.split is not None or problem.pools:
        return None
    lane = chosen.lane
    best = max(problem.axes, key=lambda v: (follows(problem, v), v is lane))
    return best if follows(problem, best) > follows(problem, lane) else None


class Region:
    """The sums of a chunk.

    Attributes:
        buffer: scratch memory; by axis its coordinates, outermost first.
        begins, lengths: by axis, the chunk's first element and how many there are.
    """

    def __init__(
        self, writer: ContractionWriter, blocks: dict[Var, tuple[Index, Index]], along: Var
    ) -> None:
        self.problem = writer.problem
        self.plan = writer.plan
        self.along = along
        self.order = outer_axes(self.problem, along)
        self.begins = {v: begin for v, (begin, _) in blocks.items()}
        self.lengths = {v: length for v, (_, length) in blocks.items()}
        shape = [index(self.plan.blocks[v]) for v in self.order]
        width = self.plan.blocks[along]
        if along is not self.plan.lane and width * SIZES[writer.dtype] % CROWDED_BYTES == 0:
            width += self.plan.lanes
        self.buffer = Buffer("region", writer.dtype, [*shape, index(width)], "scratch")

    def around(self, tiles: list[Statement]) -> list[Statement]:
        """The tiles, and what becomes of their sums."""
        return [Allocate(self.buffer, [*tiles, *self._finish()])]

    def _place(self, here: Position) -> list[Index]:
        return [index(here[v]) - self.begins[v] for v in (*self.order, self.along)]

    # -- a tile's sums ---------------------------------------------------------------------

    def put(self, tile: Tile) -> list[Statement]:
        """Stores the sums of a tile."""
        rows = tile.rows.get(self.along)
        if rows is not None and rows.extent.constant >= LEAST_TURNED:
            return self._turned(tile, rows)
        at = [index(v) for v in tile.rows.values()]

        def make(vector: Index, here: Position) -> list[Statement]:
            return [Store(self.buffer, self._place(here), ex.load(tile.sums, [*at, vector]))]

        body: list[Statement] = tile.vector(make, masked=False)
        return _unrolled(list(tile.rows.values()), body)

    def _turned(self, tile: Tile, rows: Var) -> list[Statement]:
        """Squares of sums are transposed, so that rows follow one another."""
        lanes, axis, lane = self.plan.lanes, self.along, self.plan.lane
        others = [v for v in tile.rows.values() if v is not rows]
        number = Var("c", tile.vectors)
        made: list[Statement] = []
        for first in range(0, rows.extent.constant, lanes):
            size = min(lanes, rows.extent.constant - first)
            square = Buffer("square", self.buffer.dtype, [lanes], "register", lanes=lanes)
            row, step = Var("row", size), Var("step", lanes)
            at = [index(row) + first if v is rows else index(v) for v in tile.rows.values()]
            value = ex.load(tile.sums, [*at, index(number)])
            fill = Loop(Var("l", lanes), "vector", [Store(square, [row], value)], width=lanes)
            body: list[Statement] = [Loop(row, "unroll", [fill])]
            if size < lanes:
                left = Var("left", lanes - size)
                zero = Store(square, [index(left) + size], ex.constant(0, self.buffer.dtype))
                body.append(Loop(left, "unroll", [zero]))
            along = Var("along", size)
            start = index(tile.position[axis]).substitute({rows: 0})
            here = {**tile.position, axis: start + first + index(along)}
            here[lane] = tile.lane_start + index(number) * lanes + index(step)
            write = Store(self.buffer, self._place(here), ex.load(square, [step]))
            writes = Loop(along, "vector", [write], width=lanes)
            body += [Transpose(square), Loop(step, "unroll", [writes])]
            made.append(Allocate(square, body))
        return _unrolled([*others, number], made)

    # -- what becomes of them --------------------------------------------------------------

    def _finish(self) -> list[Statement]:
        """Goes over the chunk's elements in the order of memory."""
        lane = Var("e", self.lengths[self.along])
        rows = [Var(f"{v.name}f", self.lengths[v]) for v in self.order]
        at = [*[index(0) if v.extent == 1 else index(v) for v in rows], index(lane)]
        here: Position = {
            axis: self.begins[axis] + step
            for axis, step in zip((*self.order, self.along), at, strict=True)
        }
        each = finished(self.problem, ex.load(self.buffer, at), here, self.plan.lanes)
        body: list[Statement] = [Loop(lane, "vector", each, width=self.plan.lanes)]
        for var in reversed(rows):
            if var.extent != 1:
                body = [Loop(var, "serial", body)]
        return body


def outer_axes(problem: Problem, along: Var) -> list[Var]:
    """The axes but one, in the order in which the first output lies in memory."""
    address = problem.outputs[0].address

    def far(axis: Var) -> int:
        try:
            return abs(address.stride(axis).hint())
        except ValueError:
            return 0

    return sorted([v for v in problem.axes if v is not along], key=far, reverse=True)


def _unrolled(variables: list[Var], body: list[Statement]) -> list[Statement]:
    for var in reversed(variables):
        body = [Loop(var, "unroll", body)]
    return body
