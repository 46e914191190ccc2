"""Which axis lies in vectors, how large a register tile is, what is packed, how work is cut.

A contraction is computed tile by tile: a few elements along some axes times a few vectors along the
*lane* axis, all of whose sums stay in registers over the whole reduction. For each step of the
reduction every operand is loaded once for the part of the tile that it depends on: as vectors if it
has the lane axis, as single numbers (spread over the lanes) if not. The lane axis is an axis of the
result; or one of the reduction, whose partial sums are added up across lanes at the end.

Choices are made by estimated cycles. What decides the order of summation is chosen from constants
alone, so that a size which comes from data changes no bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod

from taimatsu.compiler.schedule.contraction_problem import Operand, Problem, hint
from taimatsu.ir.expression import SIZES, walk
from taimatsu.ir.index import Index, Var, index
from taimatsu.ir.target import Target

UNKNOWN = 128  # what an extent that comes from data counts as where the order of sums is decided
LATENCY = 4.0  # cycles of a multiply-add
LOADS = 2.0  # loads in a cycle, and multiply-adds
GATHERED = 1.0  # cycles for each number that is loaded on its own into a vector
PACK_COPY = 0.25  # cycles to pack an element, where elements follow one another
PACK_LAUNCH = 4000.0  # cycles of a kernel that packs, beside its elements
MOST_VECTORS = 6
LONG_SUM = 1024  # terms after which a sum that is cut begins anew
MOST_PARTIAL = 1 << 20  # bytes of a result of which each part of a cut sum has its own
CHUNK_CYCLES = 20_000.0
MOST_CHUNKS = 64
TILES_TO_SHARE = 16  # fewer tiles than that are too few for many cores
Size = Callable[[Index], int]


@dataclass(eq=False)
class Plan:
    """How a contraction is computed.

    Attributes:
        lane: the axis that lies in vectors; ``across`` if it is one of the reduction.
        lanes: the width of vectors.
        factors: by axis of the result, how many of its elements a tile takes.
        vectors: how many vectors a tile takes along the lane axis.
        packed: the operands (0, 1) that are copied into panels of ``vectors`` vectors.
        order: the reduction's axes, outermost first.
        loops: the result's axes, in the order of the loops over tiles.
        blocks: by axis of the result, how many of its elements a chunk takes.
        split: the reduction's axis that is cut into parts, each with sums of its own; and how many
            of its elements a part takes.
        cycles: the estimate.
    """

    lane: Var
    across: bool
    lanes: int
    factors: dict[Var, int]
    vectors: int
    packed: frozenset[int]
    order: list[Var]
    loops: list[Var] = field(default_factory=list)
    blocks: dict[Var, int] = field(default_factory=dict)
    split: tuple[Var, int] | None = None
    cycles: float = 0.0

    @property
    def panel(self) -> int:
        """Elements of a tile along the lane axis."""
        return 1 if self.across else self.vectors * self.lanes


def plan(problem: Problem, target: Target) -> Plan:
    """The plan that is estimated to be the fastest."""
    lanes = max(target.lanes(SIZES[problem.dtype]), 1)
    fixed = _Search(problem, target, lanes, _decisive).best(None)
    chosen = fixed
    if any(v.extent.terms for v in (*problem.axes, *problem.reduced)):
        lane = fixed.lane if fixed.across else None
        chosen = _Search(problem, target, lanes, hint).best((fixed.across, lane))
    chosen.order = fixed.order
    chosen.split = _split(problem, fixed, lanes)
    _loops(problem, chosen)
    _chunks(problem, chosen, target)
    return chosen


def _decisive(extent: Index) -> int:
    """An extent, for what may not depend on sizes that come from data."""
    return UNKNOWN if extent.terms else extent.constant


class _Search:
    """The search over lane axes and tiles, for extents as ``size`` sees them."""

    def __init__(self, problem: Problem, target: Target, lanes: int, size: Size) -> None:
        self.problem = problem
        self.target = target
        self.lanes = lanes
        self.size = {v: size(v.extent) for v in (*problem.axes, *problem.reduced)}
        self.terms = prod([self.size[v] for v in problem.reduced])
        self.registers = target.vector_registers - (0 if target.fma else 1)
        self.work = sum(
            1 for o in problem.outputs for node in walk(o.value) if node.op not in ("load", "index")
        )

    def best(self, mode: tuple[bool, Var | None] | None) -> Plan:
        """The best plan; of the given kind, if one is given."""
        found: list[Plan] = []
        if mode is None or not mode[0]:
            found += [p for v in self.problem.axes for p in self._along(v)]
        if mode is None or mode[0]:
            axes = self.problem.reduced if mode is None or mode[1] is None else [mode[1]]
            found += [p for v in axes for p in self._across(v)]
        return min(found, key=lambda p: p.cycles)

    def order(self, lane: Var | None) -> list[Var]:
        """The reduction's axes as they follow one another in memory, the contiguous one inside."""

        def reach(axis: Var) -> tuple[int, int]:
            # The operand without vectors decides: packing puts the other one in this order.
            strides = [
                o.stride(axis).hint() if o.strides is not None else 0
                for o in sorted(self.problem.operands, key=lambda o: lane in o.axes)
            ]
            return abs(next((s for s in strides if s), 0)), self.problem.reduced.index(axis)

        return sorted(self.problem.reduced, key=lambda v: (-reach(v)[0], reach(v)[1]))

    # -- lanes along an axis of the result -------------------------------------------------

    def _along(self, lane: Var) -> Iterator[Plan]:
        holders = [n for n, o in enumerate(self.problem.operands) if lane in o.axes]
        choices: list[tuple[frozenset[int], list[float], float]] = [(frozenset(), [1.0, 1.0], 0.0)]
        for n in holders:
            operand = self.problem.operands[n]
            direct = self._vector_load(operand, lane)
            packing = self._packing(operand, lane)
            choices = [
                (kept, [*loads[:n], direct, *loads[n + 1 :]], more) for kept, loads, more in choices
            ] + [
                (kept | {n}, [*loads[:n], 1.0, *loads[n + 1 :]], more + packing)
                for kept, loads, more in choices
                if packing < float("inf")
            ]
        for packed, loads, more in choices:
            cycles, factors, vectors = self._best_tile(lane, loads)
            cycles += more
            order = self.order(lane)
            yield Plan(lane, False, self.lanes, factors, vectors, packed, order, cycles=cycles)

    def _vector_load(self, operand: Operand, lane: Var) -> float:
        """What a load of a vector costs, in plain loads."""
        if operand.strides is None:
            return self.lanes * 2 * GATHERED
        if operand.stride(lane) != 1:
            return self.lanes * 2 * GATHERED
        item = SIZES[operand.load.dtype]
        strides = [s for v, s in operand.strides.items() if v is not lane]
        whole = all(not s.terms and s.constant * item % 64 == 0 for s in strides)
        cost = 1.0 if whole and operand.load.detail[0].aligned else 1.5
        far = [
            operand.stride(v).hint() * item
            for v in self.problem.reduced
            if v in operand.axes and self.size[v] >= 64
        ]
        if far and min(far) >= 2048:
            cost += 3.0  # each step is on a page of its own
        return cost + (0.5 if operand.value is not operand.load else 0.0)

    def _packing(self, operand: Operand, lane: Var) -> float:
        """What packing costs, in cycles; infinite where it would store elements repeatedly."""
        elements = prod([self.size[v] for v in operand.axes])
        if operand.elements and elements > 1.05 * max(operand.elements, 1):
            if any(not v.extent.terms for v in operand.axes) and self._overlaps(operand):
                return float("inf")
        each = PACK_COPY if operand.is_contiguous(lane) else GATHERED
        return PACK_LAUNCH + elements * each

    def _overlaps(self, operand: Operand) -> bool:
        """Whether different positions read one element: windows of a convolution."""
        return prod([hint(v.extent) for v in operand.axes]) > 1.05 * operand.elements

    def _best_tile(self, lane: Var, loads: list[float]) -> tuple[float, dict[Var, int], int]:
        width = self.size[lane]
        best: tuple[float, dict[Var, int], int] | None = None
        for vectors in range(1, min(MOST_VECTORS, -(-width // self.lanes)) + 1):
            for factors in self._tiles(lane, vectors):
                cycles = self._tile_cycles(lane, factors, vectors, loads)
                if best is None or cycles < best[0]:
                    best = (cycles, factors, vectors)
        assert best is not None
        return best

    def _tiles(self, lane: Var, vectors: int) -> Iterator[dict[Var, int]]:
        """Factors along one axis or two."""
        most = max(1, (self.registers - 1) // vectors - 1)
        axes = self._row_axes(lane)
        yield {}
        for primary in axes[:3]:
            whole = self.size[primary]
            for factor in range(2, min(most, whole) + 1):
                yield {primary: factor}
            if not 1 < whole <= most // 2:
                continue
            for secondary in axes[:4]:
                if secondary is not primary:
                    for factor in range(2, min(most // whole, self.size[secondary]) + 1):
                        yield {primary: whole, secondary: factor}

    def _row_axes(self, lane: Var) -> list[Var]:
        """The axes a tile may extend along: first those that vectors are used again along."""

        def rank(axis: Var) -> tuple[bool, int]:
            again = all(axis not in o.axes for o in self.problem.operands if lane in o.axes)
            strides = [
                abs(o.stride(axis).hint())
                for o in self.problem.operands
                if o.strides is not None and axis in o.axes
            ]
            return not again, min(strides, default=0)

        return sorted([v for v in self.problem.axes if v is not lane], key=rank)

    def _tile_cycles(
        self, lane: Var, factors: dict[Var, int], vectors: int, loads: list[float]
    ) -> float:
        """All tiles, remainders included."""
        parts: list[tuple[float, dict[Var, int], int]] = [(1.0, {}, 0)]
        whole, rest = divmod(self.size[lane], vectors * self.lanes)
        widths = [(whole, vectors)] if whole else []
        if rest:
            widths.append((1, -(-rest // self.lanes)))
        parts = [(float(count), {}, width) for count, width in widths]
        for axis in self.problem.axes:
            if axis is lane:
                continue
            factor = factors.get(axis, 1)
            whole, rest = divmod(self.size[axis], factor)
            cuts = [(whole, factor)] if whole else []
            if rest:
                cuts.append((1, rest))
            parts = [
                (count * n, {**tile, axis: f} if f > 1 else tile, width)
                for count, tile, width in parts
                for n, f in cuts
            ]
        return sum(count * self._one_tile(lane, tile, width, loads) for count, tile, width in parts)

    def _one_tile(self, lane: Var, tile: dict[Var, int], vectors: int, loads: list[float]) -> float:
        sums = prod(tile.values()) * vectors
        used, held = 0.0, []
        for operand, load in zip(self.problem.operands, loads, strict=True):
            entries = prod([f for v, f in tile.items() if v in operand.axes])
            if lane in operand.axes:
                entries *= vectors
                used += entries * load
            else:
                used += entries
            held.append(entries)
        step = max(sums / LOADS, used / LOADS, LATENCY) + 0.5
        if sums + min(held) + 1 > self.registers:
            step += 2.0 * (sums + min(held) + 1 - self.registers)
        return 30.0 + self.terms * step + sums * self._storing(lane)

    def _storing(self, lane: Var) -> float:
        cost = self.work / 2
        for output in self.problem.outputs:
            cost += 1.5 if _step(output.address, lane) == 1 else 1.5 * self.lanes
        return cost

    # -- lanes along the reduction ---------------------------------------------------------

    def _across(self, lane: Var) -> Iterator[Plan]:
        loads = [
            self._vector_load(o, lane) if lane in o.axes else 1.0 for o in self.problem.operands
        ]
        size = self.size
        first, second = (
            next((v for v in self._near(o) if all(v not in p.axes for p in others)), None)
            for o, others in self._sides()
        )
        best: Plan | None = None
        steps = self.terms // max(size[lane], 1) * (-(-size[lane] // self.lanes))
        rows = min(size[first], 8) if first is not None else 1
        for r in range(1, rows + 1):
            most = min(size[second], 16) if second is not None else 1
            for c in range(1, most + 1):
                if r * c + min(r, c) + 1 > self.registers:
                    break
                used = r * loads[0] + c * loads[1]
                step = max(r * c / LOADS, used / LOADS, LATENCY) + 0.5
                tiles: float = prod([size[v] for v in self.problem.axes])
                tiles = tiles / (size[first] if first is not None else 1)
                tiles = tiles / (size[second] if second is not None else 1)
                tiles *= -(-size[first] // r) if first is not None else 1
                tiles *= -(-size[second] // c) if second is not None else 1
                cycles = tiles * (30.0 + steps * step + r * c * (10.0 + self.work))
                if best is None or cycles < best.cycles:
                    factors = {first: r} if first is not None else {}
                    if second is not None:
                        factors[second] = c
                    factors = {v: f for v, f in factors.items() if f > 1}
                    order = [v for v in self.order(None) if v is not lane] + [lane]
                    best = Plan(
                        lane, True, self.lanes, factors, 1, frozenset(), order, cycles=cycles
                    )
        if best is not None:
            yield best

    def _sides(self) -> list[tuple[Operand, list[Operand]]]:
        a, b = self.problem.operands
        return [(a, [b]), (b, [a])]

    def _near(self, operand: Operand) -> list[Var]:
        """The result's axes of an operand, those with many elements first."""
        mine = [v for v in self.problem.axes if v in operand.axes]
        return sorted(mine, key=lambda v: -self.size[v])


def _step(address: Index, axis: Var) -> Index | None:
    try:
        return address.stride(axis)
    except ValueError:
        return None


# -- cutting ---------------------------------------------------------------------------------


def _split(problem: Problem, fixed: Plan, lanes: int) -> tuple[Var, int] | None:
    """Whether a long sum with a small result is cut into parts; from constants alone."""
    if any(v.extent.terms for v in problem.axes) or not fixed.order:
        return None
    result = prod([v.extent.constant for v in problem.axes])
    tiles = result / max(prod(fixed.factors.values()) * fixed.panel, 1)
    open_axes = [v for v in fixed.order if v.extent.terms]
    axis = open_axes[0] if open_axes else fixed.order[0]
    if fixed.across and axis is fixed.lane:
        return None
    inner = prod([v.extent.constant for v in fixed.order if v is not axis and not v.extent.terms])
    length = inner * _decisive(axis.extent)
    few = tiles < TILES_TO_SHARE and (open_axes or length >= 4 * LONG_SUM)
    far = inner >= LONG_SUM // 4 and (open_axes or length >= 4 * LONG_SUM)
    if not few and not (far and result * SIZES[problem.dtype] <= MOST_PARTIAL):
        return None
    block = max(1, -(-LONG_SUM // inner))
    if not axis.extent.terms:
        block = max(block, -(-axis.extent.constant // MOST_CHUNKS))
        if block >= axis.extent.constant:
            return None
    return axis, block


def _loops(problem: Problem, chosen: Plan) -> None:
    """Outermost what both operands have, then what the vectors have, innermost the rest."""
    a, b = problem.operands

    def rank(axis: Var) -> tuple[int, int]:
        if axis in a.axes and axis in b.axes and axis is not chosen.lane:
            return 0, problem.axes.index(axis)
        holders = [o for o in problem.operands if chosen.lane in o.axes]
        shared = axis is chosen.lane or any(axis in o.axes for o in holders)
        if chosen.across:
            shared = axis in b.axes
        return (1 if shared else 2), problem.axes.index(axis)

    chosen.loops = sorted(problem.axes, key=rank)


def _chunks(problem: Problem, chosen: Plan, target: Target) -> None:
    """Cuts the result's axes into blocks: enough of them for many cores, each worth its while.

    No bit of the result depends on these, so sizes that come from data may decide.
    """
    wanted = min(MOST_CHUNKS, max(1, int(chosen.cycles / CHUNK_CYCLES)))
    if chosen.split is not None:
        axis, block = chosen.split
        wanted = -(-wanted // max(1, -(-hint(axis.extent) // block)))
    steps = {v: chosen.factors.get(v, 1) for v in chosen.loops}
    if not chosen.across:
        steps[chosen.lane] = chosen.panel
    blocks = {v: -(-hint(v.extent) // steps[v]) for v in chosen.loops}  # in tiles
    for axis in sorted(chosen.loops, key=lambda v: _cut_rank(problem, chosen, v)):
        most = blocks[axis]
        cuts = min(most, wanted)
        blocks[axis] = -(-most // cuts)
        wanted = -(-wanted // -(-most // blocks[axis]))
    chosen.blocks = {v: blocks[v] * steps[v] for v in chosen.loops}
    _fit_cache(problem, chosen, steps, target)


def _cut_rank(problem: Problem, chosen: Plan, axis: Var) -> tuple[int, int]:
    """Which axes are cut first: those of both operands, then rows, then vectors."""
    a, b = problem.operands
    if axis in a.axes and axis in b.axes:
        return 0, problem.axes.index(axis)
    if axis is chosen.lane:
        return 2, 0
    return 1, problem.axes.index(axis)


def _fit_cache(problem: Problem, chosen: Plan, steps: dict[Var, int], target: Target) -> None:
    """Makes blocks along rows so small that what a chunk reads of them stays in the second cache,
    while it goes over the vectors.
    """
    if chosen.across or chosen.split is not None:
        return
    if hint(chosen.lane.extent) <= chosen.panel:
        return
    for operand in problem.operands:
        if chosen.lane in operand.axes:
            continue
        mine = [v for v in chosen.loops if v in operand.axes]
        size = SIZES[problem.dtype] * prod([hint(v.extent) for v in problem.reduced])
        size *= prod([chosen.blocks[v] for v in mine])
        overlap = prod([hint(v.extent) for v in operand.axes]) / max(operand.elements, 1)
        size = int(size / max(overlap, 1.0))
        for axis in mine:
            if size <= target.l2_bytes // 2:
                break
            tiles = -(-chosen.blocks[axis] // steps[axis])
            cuts = min(tiles, -(-size // (target.l2_bytes // 2)))
            size //= cuts
            chosen.blocks[axis] = -(-tiles // cuts) * steps[axis]


def count(extent: Index, block: int) -> Index:
    """How many blocks an extent has."""
    return (extent + (block - 1)) // index(block)
