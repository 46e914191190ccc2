"""Contractions whose tiles hold whole windows: what a pool makes of them never leaves registers.

The axes that windows lie along are two each: which window, and which of its elements (a *tap*). A
tile takes all taps of the windows that it covers, so their sums are in registers together when the
reduction is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from math import prod

from taimatsu.compiler.groups import Group
from taimatsu.compiler.schedule import contraction_plan
from taimatsu.compiler.schedule.contraction_kernel import (
    ContractionWriter,
    Position,
    Tile,
    finished,
)
from taimatsu.compiler.schedule.contraction_plan import Plan
from taimatsu.compiler.schedule.contraction_problem import Pool, Problem, step_along
from taimatsu.compiler.schedule.contraction_stretches import nested
from taimatsu.ir import expression as ex
from taimatsu.ir.expression import SIZES, Expression
from taimatsu.ir.index import Index, Var, index
from taimatsu.ir.loops import Allocate, Buffer, Statement, Store
from taimatsu.ir.target import Target

PASS = 12.0  # cycles to store a vector of elements, and to load it again for its window
WRITTEN_OUT = 800  # operations to finish a tile up to which they are written out

Taps = dict[object, Index | int]  # an element of a window
Sums = Callable[[Taps], Expression]


def apart(group: Group) -> tuple[Group, Group]:
    """The contraction and its pools as two groups."""
    pools = [s for s in group.stages if s in group.pools]
    elements = [s for s in group.stages if s not in group.pools]
    read = group.pooled()
    first = Group("contraction", elements, [], dict(group.rows))
    first.outputs = [s for s in elements if s in group.outputs or s in read]
    second = Group("loops", pools, [s for s in pools if s in group.outputs])
    for stage in pools:
        rows = [v for v in group.pools[stage].rows if v is not None and v.extent != 1]
        second.rows[stage] = tuple(rows)
    return first, second


# -- the plan ----------------------------------------------------------------------------------


def plan(problem: Problem, target: Target) -> Plan | None:
    """The plan that is estimated to be the fastest; None where no tile holds a window."""
    lanes = max(target.lanes(SIZES[problem.dtype]), 1)
    found = _WindowSearch(problem, target, lanes, contraction_plan.hint).plans()
    if not found:
        return None
    chosen = min(found, key=lambda p: p.cycles)
    contraction_plan._loops(problem, chosen)
    contraction_plan._chunks(problem, chosen, target)
    return chosen


def pays(chosen: Plan, usual: Plan, problem: Problem) -> bool:
    """Whether it is faster than to store the elements and go over them; not if the usual plan sums
    in another order.
    """
    if usual.across or usual.split is not None:
        return False
    elements = prod([contraction_plan.hint(v.extent) for v in problem.axes])
    return chosen.cycles <= usual.cycles + PASS * elements / chosen.lanes


class _WindowSearch(contraction_plan._Search):
    """The search over tiles that hold whole windows."""

    def plans(self) -> list[Plan]:
        free = [v for v in self.problem.axes if v not in self.problem.taps]
        return [p for lane in free if list(self._tiles(lane)) for p in self._along(lane)]

    def _row_axes(self, lane: Var) -> list[Var]:
        return [v for v in super()._row_axes(lane) if v not in self.problem.taps]

    def _panel_axis(self, number: int, made: Plan) -> Var | None:
        axis = super()._panel_axis(number, made)
        return None if axis in self.problem.taps else axis

    def _tiles(self, lane: Var) -> Iterator[contraction_plan._Tiles]:
        """Some windows along one axis, times vectors."""
        window = {v: self.size[v] for v in self.problem.taps}
        each = prod(window.values())
        widest = -(-self.size[lane] // self.lanes)
        for vectors in range(1, min(contraction_plan.MOST_VECTORS, widest) + 1):
            most = ((self.registers - 1) // vectors - 1) // each
            if most < 1:
                return
            yield self._tiled(lane, window, vectors)
            for axis in self._row_axes(lane)[:3]:
                for factor in range(2, min(most, self.size[axis]) + 1):
                    yield self._tiled(lane, {**window, axis: factor}, vectors)

    def _storing(self, lane: Var, factors: dict[Var, int]) -> float:
        """Cycles to finish and store a vector, and its share of what is stored for windows. What
        pools compute takes as long elsewhere.
        """
        cost = super()._storing(lane, factors)
        taps = prod([self.size[v] for v in self.problem.taps])
        for pool in self.problem.pools:
            if pool.buffer is not None:
                along = step_along(pool.address, lane) == 1
                cost += (1.5 if along else contraction_plan.SCATTERED * self.lanes) / taps
        return cost


# -- the kernel --------------------------------------------------------------------------------


class WindowWriter(ContractionWriter):
    """Writes the kernel of a contraction with pools."""

    def __init__(self, problem: Problem, chosen: Plan) -> None:
        super().__init__(problem, chosen, None)
        self.tile_class = WindowTile


class WindowTile(Tile):
    """A tile that holds whole windows."""

    def finish(self) -> list[Statement]:
        outer = {a: v for a, v in self.rows.items() if a not in self.problem.taps}
        if self._is_heavy():
            return self._finish_near(outer)
        rows = list(outer.values())

        def make(vector: Index, here: Position) -> list[Statement]:
            def total(taps: Taps) -> Expression:
                return ex.load(self.sums, [*self._at(taps, outer), vector])

            return finished_windows(self.problem, total, here, self.plan.lanes)

        return nested(rows, "unroll", self.vector(make, masked=True))

    def _at(self, taps: Taps, outer: dict[Var, Var]) -> list[Index]:
        """Where the sums of an element are: a coordinate for each axis of rows."""
        return [index(taps[a]) if a in taps else index(outer[a]) for a in self.rows]

    def _is_heavy(self) -> bool:
        problem = self.problem
        windows = self.vectors * prod([v.extent.constant for v in self.rows.values()])
        taps = prod([v.extent.constant for v in problem.taps])
        nodes = [sum(1.0 for _ in ex.walk(o.value)) + 1 for o in problem.outputs]
        nodes += [
            sum(1 for _ in ex.walk(p.value)) / (1 if p.combine else taps) for p in problem.pools
        ]
        return sum(nodes) * windows > WRITTEN_OUT

    def _finish_near(self, outer: dict[Var, Var]) -> list[Statement]:
        """Puts the sums into memory near the core, and goes over the windows one by one."""
        lane = self.plan.lane
        near, start, puts = self.near()
        again = {axis: Var(f"{var.name}s", var.extent) for axis, var in outer.items()}
        turned: Position = {outer[a]: index(v) for a, v in again.items()}

        def make(_: Index, here: Position) -> list[Statement]:
            def total(taps: Taps) -> Expression:
                return ex.load(near, [*self._at(taps, again), index(here[lane]) - start])

            moved: Position = {v: index(at).substitute(turned) for v, at in here.items()}  # type: ignore[arg-type]
            return finished_windows(self.problem, total, moved, self.plan.lanes)

        body = nested(list(again.values()), "serial", self.vector(make, masked=True))
        return [Allocate(near, [*puts, *body])]


def finished_windows(problem: Problem, total: Sums, here: Position, lanes: int) -> list[Statement]:
    """Everything that is stored for one window; ``total`` gives the sum of one of its elements."""
    extents = [range(v.extent.constant) for v in problem.taps]
    elements: list[Taps] = [dict(zip(problem.taps, at, strict=True)) for at in product(*extents)]
    made: list[Statement] = []
    for taps in elements:
        made += finished(problem, total(taps), {**here, **taps}, lanes)
    values: dict[Expression, Expression] = {}
    stores: list[Statement] = []
    kept: list[Buffer] = []
    for pool in problem.pools:
        held = Buffer(f"p{len(kept)}", pool.stage.dtype, (), "register", lanes=lanes)
        kept.append(held)
        made.append(Store(held, (), _made_of(problem, pool, total, here, elements, values)))
        values[pool.node] = ex.load(held, ())
        if pool.buffer is not None:
            where = pool.address.substitute(here)  # type: ignore[arg-type]
            stores.append(Store(pool.buffer, (where,), values[pool.node]))
    made += stores
    for held in reversed(kept):
        made = [Allocate(held, made)]
    return made


def _made_of(
    problem: Problem,
    pool: Pool,
    total: Sums,
    here: Position,
    elements: list[Taps],
    values: dict[Expression, Expression],
) -> Expression:
    """What a pool makes of a window: its elements' values combined in their order."""
    if not pool.combine:
        return ex.substitute(pool.value, here, dict(values))  # type: ignore[arg-type]
    made: Expression | None = None
    for taps in elements:
        done = {problem.sums: total(taps), **values}
        value = ex.substitute(pool.value, {**here, **taps}, done)  # type: ignore[dict-item]
        made = value if made is None else ex.binary(pool.combine, made, value)
    assert made is not None
    return made
