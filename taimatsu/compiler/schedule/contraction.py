"""Schedules of contractions: matrix products, convolutions, their gradients.

One generator for all of them. It knows no operation, only along which axes each of two operands is
read, and with which strides (``contraction_problem``); it chooses tiles (``contraction_plan``),
copies what is read badly (``contraction_packing``) and writes the loops (``contraction_kernel``).
"""

from __future__ import annotations

from math import prod

from taimatsu.compiler.groups import Group, Launch, Layout
from taimatsu.compiler.schedule import contraction_windows as windows
from taimatsu.compiler.schedule import cpu
from taimatsu.compiler.schedule.contraction_finish import partial_address
from taimatsu.compiler.schedule.contraction_kernel import (
    ContractionWriter,
    Tile,
)
from taimatsu.compiler.schedule.contraction_launch import launch_of
from taimatsu.compiler.schedule.contraction_packing import computed, is_computed, packed
from taimatsu.compiler.schedule.contraction_plan import (
    CHUNK_CYCLES,
    MOST_CHUNKS,
    Cut,
    Plan,
    count,
    cut_of,
    plan,
)
from taimatsu.compiler.schedule.contraction_problem import Problem, hint, merge_axes, problem_of
from taimatsu.compiler.schedule.contraction_region import (
    fit_region,
    outer_axes,
    run_to_finish_along,
)
from taimatsu.ir import expression as ex
from taimatsu.ir.expression import SIZES, Expression
from taimatsu.ir.index import Index, Var, index
from taimatsu.ir.loops import Buffer, Loop, Statement, Store
from taimatsu.ir.stages import Stage
from taimatsu.ir.target import Target

COMBINED_VECTORS = 4


def schedule(group: Group, layouts: dict[Stage, Layout], target: Target) -> list[Launch]:
    """The launches that carry out a group of kind "contraction".

    Args:
        group: its first stage is the sum of products; the others are maps of its elements.
        layouts: where stages lie that are no windows and no updates.
        target: the machine.

    Raises:
        ValueError: the first stage is no sum of products of two factors.
    """
    if group.pools:
        return _with_windows(group, layouts, target)
    problem, parts = prepared(group, layouts, target)
    if any(v.extent == 0 for v in problem.axes):
        return []
    if not problem.axes:
        problem.axes.append(Var("one", 1))
    launches = _factors(problem, target)
    chosen = plan(problem, target, parts)
    launches += _panels(problem, chosen)
    if chosen.split is None:
        body = ContractionWriter(problem, chosen, None).body()
        launches.append(launch_of("contraction", problem, body, is_main=True, is_last=True))
        return launches
    # In partial sums the lane axis is contiguous.
    problem.axes.sort(key=lambda v: v is chosen.lane)
    partial = problem.memories.temporary("partial", problem.dtype, partial_size(problem, chosen))
    body = ContractionWriter(problem, chosen, partial).body()
    launches.append(launch_of("contraction", problem, body, is_main=True))
    body = Combiner(problem, chosen, partial, target).body()
    launches.append(launch_of("combine", problem, body, is_last=True))
    return launches


def _with_windows(group: Group, layouts: dict[Stage, Layout], target: Target) -> list[Launch]:
    """The launches of a group with pools: in one kernel where its tiles can hold whole windows and
    no sum is computed in another order for it.
    """
    elements, pools = windows.apart(group)
    try:
        problem, parts = prepared(group, layouts, target)
    except ValueError:
        return [*schedule(elements, layouts, target), *cpu.schedule(pools, layouts, target)]
    usual, _ = prepared(elements, layouts, target)
    if parts is None and all(v.extent != 0 for v in problem.axes):
        launches = _factors(problem, target)
        _factors(usual, target)
        chosen = windows.plan(problem, target)
        if chosen is not None and windows.pays(chosen, plan(usual, target, None), problem):
            launches += _panels(problem, chosen)
            body = windows.WindowWriter(problem, chosen).body()
            launches.append(launch_of("contraction", problem, body, is_main=True, is_last=True))
            return launches
    return [*schedule(elements, layouts, target), *cpu.schedule(pools, layouts, target)]


def _factors(problem: Problem, target: Target) -> list[Launch]:
    """Computes factors once that are used often."""
    launches: list[Launch] = []
    lanes = max(target.lanes(SIZES[problem.dtype]), 1)
    for number, operand in enumerate(problem.operands):
        if is_computed(problem, operand):
            made, body = computed(problem, operand, lanes)
            _replace(problem, number, made)
            launches.append(launch_of("factor", problem, body))
    return launches


def _panels(problem: Problem, chosen: Plan) -> list[Launch]:
    """Packs operands as the plan says."""
    launches: list[Launch] = []
    for number in sorted(chosen.packed):
        made, body = packed(problem, chosen, number)
        _replace(problem, number, made)
        launches.append(launch_of("pack", problem, body))
    return launches


def prepared(
    group: Group, layouts: dict[Stage, Layout], target: Target
) -> tuple[Problem, Cut | None]:
    """The group as a problem, and how its sum is cut."""
    problem = problem_of(group, layouts)
    parts = cut_of(problem, target)
    merge_axes(problem, None if parts is None else parts[0])
    return problem, parts


def _replace(problem: Problem, number: int, made: object) -> None:
    operands = list(problem.operands)
    operands[number] = made  # type: ignore[call-overload]
    problem.operands = (operands[0], operands[1])


def _parts(chosen: Plan) -> Index:
    assert chosen.split is not None
    return count(chosen.split[0].extent, chosen.split[1])


def partial_size(problem: Problem, chosen: Plan) -> Index:
    """The elements of all parts' sums."""
    size = _parts(chosen)
    for axis in problem.axes:
        size = size * axis.extent
    return size


class Combiner(ContractionWriter):
    """Adds up partial sums, in order, and finishes."""

    def __init__(self, problem: Problem, chosen: Plan, parts: Buffer, target: Target) -> None:
        super().__init__(problem, _combining(problem, chosen, target), None)
        self.parts = parts
        self.part_var = Var("part", _parts(chosen))
        self.tile_class = _CombinedTile


def _combining(problem: Problem, chosen: Plan, target: Target) -> Plan:
    """Tiles of a few vectors along the lane axis, or squares where outputs follow another axis."""
    lane, lanes = problem.axes[-1], chosen.lanes
    run = run_to_finish_along(problem, lane, lanes)
    factors = {run[-1]: min(lanes, run[-1].extent.constant)} if run else {}
    vectors = 1 if run else min(COMBINED_VECTORS, -(-lane.extent.constant // lanes))
    made = Plan(lane, False, lanes, factors, vectors, {}, [], list(problem.axes), finish=run)
    tiles = {v: -(-v.extent.constant // made.step(v)) for v in problem.axes}
    axes = list(problem.axes)
    if run:
        axes = [*outer_axes(problem, run), run[0]]
        fit_region(problem, made, axes, tiles, target)
    seen: set[Expression] = set()
    each = sum(1 for o in problem.outputs for _ in ex.walk(o.value, seen))
    each += 4 * hint(_parts(chosen))
    work = prod([v.extent.constant for v in problem.axes]) * each / lanes
    cuts = min(MOST_CHUNKS, max(1, int(work / CHUNK_CYCLES)))
    for axis in axes:
        part = min(tiles[axis], cuts)
        tiles[axis] = -(-tiles[axis] // part)
        cuts = -(-cuts // part)
    made.blocks = {v: n * made.step(v) for v, n in tiles.items()}
    return made


class _CombinedTile(Tile):
    """A tile whose sums are those of the parts."""

    writer: Combiner

    def reduction(self, order: list[Var]) -> list[Statement]:
        address = partial_address(self.problem, index(self.writer.part_var))

        def make(at: list[Index], here: dict) -> list[Statement]:
            part = ex.load(self.writer.parts, (address.substitute(here),))
            return [Store(self.sums, at, ex.load(self.sums, at) + part)]

        return [Loop(self.writer.part_var, "serial", self.each(make))]
