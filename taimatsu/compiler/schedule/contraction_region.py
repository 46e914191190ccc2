"""A chunk's sums near the core, finished together in the order in which outputs lie in memory.

Tiles finish their own sums where the outputs, and what is read beside the sums, follow the lane
axis. Where they follow another one, every number would be stored on its own: there the tiles of a
chunk put their sums into scratch memory, in the outputs' order (turned in registers), and what is
done with them follows for the whole chunk, row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from taimatsu.compiler.schedule.contraction_finish import Position, finished, places_of
from taimatsu.compiler.schedule.contraction_problem import Problem, hint, step_along
from taimatsu.compiler.schedule.contraction_stretches import nested
from taimatsu.ir import expression as ex
from taimatsu.ir.expression import SIZES
from taimatsu.ir.index import Index, Var, index
from taimatsu.ir.loops import Allocate, Buffer, Loop, Statement, Store, Transpose

if TYPE_CHECKING:
    from taimatsu.compiler.schedule.contraction_kernel import ContractionWriter, Tile
    from taimatsu.compiler.schedule.contraction_plan import Plan
    from taimatsu.ir.target import Target

SHARE = 8  # a chunk's sums take at most this part of the second cache
LEAST_TURNED = 4  # rows of a tile that are turned in registers; fewer are stored one by one
CROWDED_BYTES = 1024  # rows so far apart (or a multiple of it) compete for places in the cache


def run_to_finish_along(problem: Problem, lane: Var, lanes: int) -> tuple[Var, ...]:
    """The axes, outermost first, that the outputs follow in memory one number after the other, if
    they do not follow the lane axis: () where each tile finishes its own sums.
    """
    if lanes == 1 or problem.pools:
        return ()
    places = places_of(problem)
    weights = {
        axis: sum(weight for where, weight in places if step_along(where, axis) == 1)
        for axis in problem.axes
    }
    last = max(problem.axes, key=lambda v: (weights[v], v is lane))
    if weights[last] <= weights[lane]:
        return ()
    run = _run(problem, [where for where, _ in places], last, lane)
    length = prod([hint(v.extent) for v in run])
    return tuple(run) if 2 * length >= lanes else ()


def _run(problem: Problem, places: list[Index], last: Var, lane: Var) -> list[Var]:
    """The axes that can be gone over as one with the last: all places step through them as one. The
    lane axis, whose tiles may reach past its end, is the outermost then.
    """
    run, pitch = [last], last.extent
    while run[0] is not lane and pitch.is_constant and not problem.checks:
        steps = [step_along(where, last) for where in places]
        wanted = [None if step is None else step * pitch for step in steps]
        if None in wanted:
            break
        found = next(
            (
                axis
                for axis in problem.axes
                if axis not in run and [step_along(where, axis) for where in places] == wanted
            ),
            None,
        )
        if found is None:
            break
        run.insert(0, found)
        pitch = pitch * found.extent
    return run


def fit_region(
    problem: Problem, chosen: Plan, axes: list[Var], blocks: dict[Var, int], target: Target
) -> None:
    """Makes blocks (in tiles) so small that a chunk's sums stay in the second cache. The outermost
    axis of the run that outputs follow is the last to be cut, its others are not.
    """
    blocks.update({v: -(-hint(v.extent) // chosen.step(v)) for v in chosen.finish[1:]})
    for axis in axes:
        size = prod([b * chosen.step(v) for v, b in blocks.items()]) * SIZES[problem.dtype]
        fitting = blocks[axis] * target.l2_bytes // (size * SHARE)
        blocks[axis] = max(1, min(fitting, blocks[axis]))


class Region:
    """The sums of a chunk.

    Attributes:
        buffer: scratch memory; by axis its coordinates, outermost first.
        begins, lengths: by axis, the chunk's first element and how many there are.
    """

    def __init__(
        self, writer: ContractionWriter, blocks: dict[Var, tuple[Index, Index]], run: Sequence[Var]
    ) -> None:
        self.problem = writer.problem
        self.plan = writer.plan
        self.run = run
        self.along = run[-1]
        self.order = outer_axes(self.problem, run)
        self.begins = {v: begin for v, (begin, _) in blocks.items()}
        self.lengths = {v: length for v, (_, length) in blocks.items()}
        shape = [index(self.plan.blocks[v]) for v in self.order]
        self.pitch = prod([v.extent.constant for v in run[1:]])  # of the run's outermost axis
        width = self.plan.blocks[run[0]] * self.pitch
        if run[0] is not self.plan.lane and width * SIZES[writer.dtype] % CROWDED_BYTES == 0:
            width += self.plan.lanes
        self.buffer = Buffer("region", writer.dtype, [*shape, index(width)], "scratch")

    def around(self, tiles: list[Statement]) -> list[Statement]:
        """The tiles, and what becomes of their sums."""
        return [Allocate(self.buffer, [*tiles, *self._finish()])]

    def _place(self, here: Position) -> list[Index]:
        within = index(0)
        for axis in self.run:
            within = within * axis.extent + (index(here[axis]) - self.begins[axis])
        return [*[index(here[v]) - self.begins[v] for v in self.order], within]

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
        return nested(list(tile.rows.values()), "unroll", body)

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
        return nested([*others, number], "unroll", made)

    # -- what becomes of them --------------------------------------------------------------

    def _finish(self) -> list[Statement]:
        """Goes over the chunk's elements in the order of memory."""
        lane = Var("e", self.lengths[self.run[0]] * self.pitch)
        rows = [Var(f"{v.name}f", self.lengths[v]) for v in self.order]
        at = [index(0) if v.extent == 1 else index(v) for v in rows]
        here: Position = {
            axis: self.begins[axis] + step for axis, step in zip(self.order, at, strict=True)
        }
        left = index(lane)
        for axis in reversed(self.run[1:]):
            here[axis] = left % axis.extent
            left = left // axis.extent
        here[self.run[0]] = self.begins[self.run[0]] + left
        at.append(index(lane))
        each = finished(self.problem, ex.load(self.buffer, at), here, self.plan.lanes)
        body: list[Statement] = [Loop(lane, "vector", each, width=self.plan.lanes)]
        for var in reversed(rows):
            if var.extent != 1:
                body = [Loop(var, "serial", body)]
        return body


def outer_axes(problem: Problem, run: Sequence[Var]) -> list[Var]:
    """The axes out of a run, in the order in which the first output lies in memory."""
    address = problem.outputs[0].address

    def far(axis: Var) -> int:
        step = step_along(address, axis)
        return 0 if step is None else abs(step.hint())

    return sorted([v for v in problem.axes if v not in run], key=far, reverse=True)
