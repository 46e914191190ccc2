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
from itertools import product
from math import gcd, prod
from operator import itemgetter
from typing import NamedTuple

from taimatsu.compiler.schedule.contraction_problem import Operand, Problem, hint, step_along
from taimatsu.compiler.schedule.contraction_region import (
    fit_region,
    outer_axes,
    run_to_finish_along,
)
from taimatsu.ir.expression import SIZES, walk
from taimatsu.ir.index import Index, Var, index
from taimatsu.ir.target import Target

UNKNOWN = 128  # what an extent that comes from data counts as where the order of sums is decided
LATENCY = 4.0  # cycles of a multiply-add
LOADS = 2.0  # loads in a cycle, and multiply-adds
GATHERED = 1.0  # cycles for each number that is loaded on its own into a vector
SCATTERED = 1.0  # cycles to store a number on its own
TURNED = 0.5  # the same where a tile has many rows of them, which are turned in registers
PACK_COPY = 0.25  # cycles to pack an element that follows others
PACK_FAR = 1.5  # the same where the second cache does not hold what is read and written
FAR_BYTES = 2048  # steps of so many bytes are not foreseen, and soon on pages of their own,
FAR = 8.0  # which costs so many cycles each
PACK_TURNED = 0.5  # cycles to pack an element that lies along the reduction
SQUARE_COLUMNS = 4  # what is turned with fewer columns than this part of its lanes is gathered
PACK_CHUNK = 20_000  # elements that a chunk packs
CROWDED = 2.5  # loads that one costs which pushes others out of the first cache
CACHE_LINE = 64
WAY_BYTES = 4096  # addresses so far apart compete for the same places in the first cache
PACK_LAUNCH = 4000.0  # cycles of a kernel that packs, beside its elements
MOST_VECTORS = 6
LEAST_STAGE = 128  # terms that are summed at a time at least
LONG_SUM = 1024  # terms after which a sum that is cut begins anew
MOST_PARTIAL = 1 << 20  # bytes of a result of which each part of a cut sum has its own
CHUNK_CYCLES = 20_000.0
MOST_CHUNKS = 48
TILES_TO_SHARE = 16  # fewer tiles than that are too few for many cores
Size = Callable[[Index], int]
Cut = tuple[Var, int]  # an axis of the reduction, and how many of its elements make a part


@dataclass(eq=False)
class Plan:
    """How a contraction is computed.

    Attributes:
        lane: the axis that lies in vectors; ``across`` if it is one of the reduction.
        lanes: the width of vectors.
        factors: by axis of the result, how many of its elements a tile takes.
        vectors: how many vectors a tile takes along the lane axis.
        packed: the operands (0, 1) that are copied into panels, and the axis along which these
            are cut: the lane axis, or one of ``factors``.
        order: the reduction's axes, outermost first: as the sum is written, whatever layouts are,
            so that a sum has the same bits wherever it is computed; but the lane axis is innermost.
        loops: the result's axes, in the order of the loops over tiles.
        blocks: by axis of the result, how many of its elements a chunk takes; in the order in
            which chunks follow one another, so that neighbours read the same rows.
        split: the reduction's axis that is cut into parts, each with sums of its own; and how many
            of its elements a part takes.
        stages: of a cut sum, how many elements of the reduction's outer axes are summed before the
            next tile's turn comes, so that what tiles share stays in the first cache.
        cycles: the estimate.
        finish: the axes along which a chunk's outputs are made of its sums, all at once; () where
            each tile makes its own.
    """

    lane: Var
    across: bool
    lanes: int
    factors: dict[Var, int]
    vectors: int
    packed: dict[int, Var]
    order: list[Var]
    loops: list[Var] = field(default_factory=list)
    blocks: dict[Var, int] = field(default_factory=dict)
    split: Cut | None = None
    stages: dict[Var, int] = field(default_factory=dict)
    cycles: float = 0.0
    finish: tuple[Var, ...] = ()

    def step(self, axis: Var) -> int:
        """Elements of a tile along an axis of the result."""
        if axis is self.lane:
            return self.vectors * self.lanes
        return self.factors.get(axis, 1)


def plan(problem: Problem, target: Target, parts: Cut | None) -> Plan:
    """The plan that is estimated to be the fastest."""
    lanes = max(target.lanes(SIZES[problem.dtype]), 1)
    fixed = _Search(problem, target, lanes, _decisive).best(None)
    chosen = fixed
    if any(v.extent.terms for v in (*problem.axes, *problem.reduced)):
        lane = fixed.lane if fixed.across else None
        chosen = _Search(problem, target, lanes, hint).best((fixed.across, lane))
    chosen.order = fixed.order
    chosen.split = parts
    if chosen.split is not None:
        chosen.stages = _stages(problem, chosen, target)
    if not chosen.across and chosen.split is None:
        chosen.finish = run_to_finish_along(problem, chosen.lane, chosen.lanes)
    _loops(problem, chosen)
    _chunks(problem, chosen, target)
    return chosen


def _decisive(extent: Index) -> int:
    """An extent, for what may not depend on sizes that come from data."""
    return extent.evaluate(lambda _: UNKNOWN)


class _Way(NamedTuple):
    """A way to read an operand.

    Attributes:
        load: what a vector (or number) costs, in plain loads.
        stall: cycles that each step of the reduction waits.
        more: cycles of packing.
        is_packed: whether it is packed.
        places: for how many loads of a tile that cost holds; others are ``CROWDED``.
    """

    load: float
    stall: float = 0.0
    more: float = 0.0
    is_packed: bool = False
    places: int = UNKNOWN

    def loads(self, entries: int) -> float:
        """What a tile's loads cost."""
        return entries * (self.load if entries <= self.places else max(self.load, CROWDED))


class _Tiles(NamedTuple):
    """A tile's size, and the kinds of tiles that the result falls into.

    Attributes:
        factors, vectors: as in ``Plan``.
        finish: cycles for each vector of sums at the end.
        kinds: how many tiles, their vectors of sums, and the registers each operand fills.
    """

    factors: dict[Var, int]
    vectors: int
    finish: float
    kinds: list[tuple[int, int, int, int]]


def _cuts_of_lanes(size: int, vectors: int, lanes: int, is_open: bool) -> list[tuple[int, int]]:
    """How many tiles there are of how many vectors; ``is_open``: of an extent that comes from data,
    for what is left of which there are tiles of one vector.
    """
    whole, rest = divmod(size, vectors * lanes)
    left = -(-rest // lanes)
    cuts = [(whole, vectors), (left, 1) if is_open else (1, left)]
    return [(n, w) for n, w in cuts if n and w]


def _cuts_of_rows(size: int, factor: int, is_open: bool) -> list[tuple[int, int]]:
    """How many tiles there are of how many rows; what is left of an open extent is taken by powers
    of two.
    """
    whole, rest = divmod(size, factor)
    cuts = [(whole, factor)]
    if not is_open:
        cuts.append((1, rest))
    else:
        cuts += [(1, 1 << n) for n in range(rest.bit_length()) if rest >> n & 1]
    return [(n, f) for n, f in cuts if n and f]


class _Search:
    """The search over lane axes and tiles, for extents as ``size`` sees them."""

    def __init__(self, problem: Problem, target: Target, lanes: int, size: Size) -> None:
        self.problem = problem
        self.target = target
        self.lanes = lanes
        self.size = {v: max(size(v.extent), 1) for v in (*problem.axes, *problem.reduced)}
        self.terms = prod([self.size[v] for v in problem.reduced])
        self.registers = target.vector_registers - 1  # one is left for what comes between
        self.work = sum(
            1 for o in problem.outputs for node in walk(o.value) if node.op not in ("load", "index")
        )

        self.contiguous = [
            {v for v in problem.axes if step_along(o.address, v) == 1} for o in problem.outputs
        ]
        self.runs = {v: run_to_finish_along(problem, v, lanes) for v in problem.axes}

    def best(self, mode: tuple[bool, Var | None] | None) -> Plan:
        """The best plan; of the given kind, if one is given."""
        found: list[Plan] = []
        if mode is None or not mode[0]:
            found += [p for v in self.problem.axes for p in self._along(v)]
        if mode is None or mode[0]:
            axes = self.problem.reduced if mode is None or mode[1] is None else [mode[1]]
            found += [p for v in axes for p in self._across(v)]
        return min(found, key=lambda p: p.cycles)

    # -- lanes along an axis of the result -------------------------------------------------

    def _along(self, lane: Var) -> Iterator[Plan]:
        tiles = list(self._tiles(lane))
        order = list(self.problem.reduced)
        for ways in product(*[self._ways(o, lane) for o in self.problem.operands]):
            stall = sum(way.stall for way in ways)
            cycles, tile = min(
                ((self._cycles(tile, ways, stall), tile) for tile in tiles), key=itemgetter(0)
            )
            made = Plan(lane, False, self.lanes, tile.factors, tile.vectors, {}, order)
            made.cycles = cycles + sum(way.more for way in ways)
            for number, way in enumerate(ways):
                axis = self._panel_axis(number, made) if way.is_packed else None
                if axis is not None:
                    made.packed[number] = axis
            yield made

    def _ways(self, operand: Operand, lane: Var) -> list[_Way]:
        """How an operand may be read: where it is, or packed."""
        holds = lane in operand.axes
        load = self._vector_load(operand, lane) if holds else 1.0
        places = UNKNOWN if holds else self._places(operand, lane)
        direct = _Way(load, self._stall(operand), places=places)
        if load == 1.0 and not direct.stall and places >= self.registers:
            return [direct]
        elements = min(prod([self.size[v] for v in operand.axes]), operand.elements)
        along = lane if holds else next(iter(self._row_axes(lane)), None)
        if operand.overlaps():
            inner = operand.innermost()
            if inner not in self.problem.axes or (holds and inner is not lane):
                return [direct]
            along = inner
        copied = self._copied(operand, along, elements)
        return [direct, _Way(1.0, 0.0, PACK_LAUNCH + elements * copied, True)]

    def _copied(self, operand: Operand, along: Var | None, elements: int) -> float:
        """Cycles to pack an element: to move it, or to wait for memory."""
        both = 2 * elements * SIZES[self.problem.dtype]
        waits = PACK_FAR if both > self.target.l2_bytes else 0.0
        if along is not None and operand.is_contiguous(along):
            return max(PACK_COPY, waits)
        row = prod([self.size[v] for v in operand.run(self.problem.reduced)])
        whole, rest = divmod(row, self.lanes)
        if rest * SQUARE_COLUMNS >= self.lanes:
            whole, rest = whole + 1, 0
        moved = (whole * self.lanes * PACK_TURNED + rest * GATHERED) / row
        return max(moved, waits)

    def _panel_axis(self, number: int, made: Plan) -> Var | None:
        """The axis along which panels of an operand are cut: that of vectors, or of many rows."""
        operand = self.problem.operands[number]
        if made.lane in operand.axes:
            return made.lane
        mine = [v for v in made.factors if v in operand.axes]
        if operand.overlaps():
            inner = operand.innermost()
            return inner if inner in mine else None
        return max(mine, key=lambda v: made.factors[v], default=None)

    def _vector_load(self, operand: Operand, lane: Var) -> float:
        """What a load of a vector costs, in plain loads."""
        if not operand.is_contiguous(lane):
            return self.lanes * 2 * GATHERED
        item = SIZES[operand.load.dtype]
        strides = [s for v, s in (operand.strides or {}).items() if v is not lane]
        whole = all(not s.terms and s.constant * item % 64 == 0 for s in strides)
        cost = 1.0 if whole and operand.load.detail[0].aligned else 1.5
        return cost + (0.5 if operand.value is not operand.load else 0.0)

    def _places(self, operand: Operand, lane: Var) -> int:
        """How many rows of an operand that is loaded number by number the first cache can hold on
        to: few where these are so far apart that they compete for the same places.
        """
        axis = next((v for v in self._row_axes(lane) if v in operand.axes), None)
        if axis is None or operand.strides is None:
            return UNKNOWN
        apart = gcd(operand.stride(axis).hint() * SIZES[operand.load.dtype], WAY_BYTES)
        # A quarter is for what streams by.
        return self.target.l1_bytes * 3 // 4 // max(apart, CACHE_LINE)

    def _stall(self, operand: Operand) -> float:
        """What waiting for memory adds to each step of the reduction, in cycles."""
        if operand.strides is None or self.terms < 64:
            return 0.0
        item = SIZES[operand.load.dtype]
        steps = [
            abs(operand.stride(v).hint()) * item
            for v in self.problem.reduced
            if v in operand.axes and self.size[v] > 1
        ]
        return FAR if steps and min(steps) >= FAR_BYTES else 0.0

    def _tiles(self, lane: Var) -> Iterator[_Tiles]:
        """Tiles to choose from: factors along one axis or two, with all that they leave over."""
        axes = self._row_axes(lane)
        widest = -(-self.size[lane] // self.lanes)
        for vectors in range(1, min(MOST_VECTORS, widest) + 1):
            most = max(1, (self.registers - 1) // vectors - 1)
            yield self._tiled(lane, {}, vectors)
            for primary in axes[:3]:
                whole = self.size[primary]
                top = min(most, whole)
                for factor in range(max(2, top // 2), top + 1):
                    yield self._tiled(lane, {primary: factor}, vectors)
                if not 1 < whole <= most // 2:
                    continue
                for secondary in axes[:3]:
                    top = min(most // whole, self.size[secondary])
                    if secondary is not primary and top > 1:
                        for factor in range(max(2, top - 2), top + 1):
                            factors = {primary: whole, secondary: factor}
                            yield self._tiled(lane, factors, vectors)

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

    def _tiled(self, lane: Var, factors: dict[Var, int], vectors: int) -> _Tiles:
        """Tiles that cover the result, remainders included."""
        a, b = self.problem.operands
        others = 1
        for axis in self.problem.axes:
            if axis is not lane and axis not in factors:
                others *= self.size[axis]
        kinds = [
            (count * others, 1, w if lane in a.axes else 1, w if lane in b.axes else 1, w)
            for count, w in _cuts_of_lanes(
                self.size[lane], vectors, self.lanes, bool(lane.extent.terms)
            )
        ]
        for axis, factor in factors.items():
            cuts = _cuts_of_rows(self.size[axis], factor, bool(axis.extent.terms))
            kinds = [
                (
                    count * n,
                    rows * f,
                    x * f if axis in a.axes else x,
                    y * f if axis in b.axes else y,
                    w,
                )
                for count, rows, x, y, w in kinds
                for n, f in cuts
            ]
        finish = self._storing(lane, factors)
        return _Tiles(factors, vectors, finish, [(n, r * w, x, y) for n, r, x, y, w in kinds])

    def _cycles(self, tiles: _Tiles, ways: tuple[_Way, ...], stall: float) -> float:
        """The estimate for all tiles."""
        total = 0.0
        for count, sums, first, second in tiles.kinds:
            used = ways[0].loads(first) + ways[1].loads(second)
            step = max(sums / LOADS, used / LOADS, LATENCY) + 0.5 + stall
            spilled = sums + min(first, second) + 1 - self.registers
            if spilled > 0:
                step += 2.0 * spilled
            total += count * (30.0 + self.terms * step + sums * tiles.finish)
        return total

    def _storing(self, lane: Var, factors: dict[Var, int]) -> float:
        """Cycles to finish and store a vector."""
        cost = self.work / 2
        finish = lane
        if self.runs[lane]:  # a chunk's outputs are made together
            finish = self.runs[lane][-1]
            cost += self.lanes * (TURNED if finish in factors else SCATTERED)
        for contiguous in self.contiguous:
            if finish in contiguous:
                cost += 1.5
            elif any(v in contiguous for v in factors):
                cost += SCATTERED * self.lanes  # the next row's elements are on the same lines
            else:
                cost += 4 * SCATTERED * self.lanes
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
                    order = [v for v in self.problem.reduced if v is not lane] + [lane]
                    best = Plan(lane, True, self.lanes, factors, 1, {}, order, cycles=cycles)
        if best is not None:
            yield best

    def _sides(self) -> list[tuple[Operand, list[Operand]]]:
        a, b = self.problem.operands
        return [(a, [b]), (b, [a])]

    def _near(self, operand: Operand) -> list[Var]:
        """The result's axes of an operand, those with many elements first."""
        mine = [v for v in self.problem.axes if v in operand.axes]
        return sorted(mine, key=lambda v: -self.size[v])


# -- cutting ---------------------------------------------------------------------------------


def cut_of(problem: Problem, target: Target) -> Cut | None:
    """Whether a long sum with a small result is cut into parts.

    It decides from constants, before axes are merged: so no size that comes from data and no layout
    changes the order of summation.
    """
    if any(v.extent.terms or v.extent == 0 for v in problem.axes) or not problem.reduced:
        return None
    result = prod([v.extent.constant for v in problem.axes])
    tiles = result / (target.lanes(SIZES[problem.dtype]) * (target.vector_registers - 4))
    open_axes = [v for v in problem.reduced if v.extent.terms]
    axis = open_axes[0] if open_axes else problem.reduced[0]
    rest = [v for v in problem.reduced if v is not axis]
    inner = max(1, prod([v.extent.constant for v in rest if not v.extent.terms]))
    is_long = prod([_decisive(v.extent) for v in problem.reduced]) >= 4 * LONG_SUM
    few = tiles < TILES_TO_SHARE and (open_axes or is_long)
    if not few and not (is_long and result * SIZES[problem.dtype] <= MOST_PARTIAL):
        return None
    block = max(1, -(-LONG_SUM // inner))
    if not axis.extent.terms:
        block = max(block, -(-axis.extent.constant // MOST_CHUNKS))
        if block >= axis.extent.constant:
            return None
    return axis, block


def _stages(problem: Problem, chosen: Plan, target: Target) -> dict[Var, int]:
    """The outer axes of a cut sum, with the steps in which it advances."""
    assert chosen.split is not None
    if chosen.across:
        return {}  # a sum would be stored as one number and taken up again in every lane
    width = chosen.step(chosen.lane)
    steps = max(LEAST_STAGE, target.l1_bytes // 2 // (width * SIZES[problem.dtype]))
    inner = 1
    for place in range(len(chosen.order) - 1, -1, -1):
        axis = chosen.order[place]
        extent = chosen.split[1] if axis is chosen.split[0] else hint(axis.extent)
        if inner * extent > 2 * steps:
            block = max(1, steps // inner)
            return {**dict.fromkeys(chosen.order[:place], 1), axis: block}
        inner *= extent
    return {}


def _loops(problem: Problem, chosen: Plan) -> None:
    """Outermost what both operands have, then what the vectors have, innermost the rest."""
    a, b = problem.operands

    def rank(axis: Var) -> tuple[int, int]:
        if axis in a.axes and axis in b.axes and axis is not chosen.lane:
            return 0, problem.axes.index(axis)
        holders = [o for o in problem.operands if chosen.lane in o.axes]
        if axis is chosen.lane and len(holders) == 2:
            return 3, 0
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
        # Each part reads all of the operands' part: cutting the result too reads them again.
        wanted = -(-min(wanted, TILES_TO_SHARE) // max(1, -(-hint(axis.extent) // block)))
    blocks = {v: -(-hint(v.extent) // chosen.step(v)) for v in chosen.loops}  # in tiles
    _fit_cache(problem, chosen, blocks, target)
    axes = _by_use(problem, chosen)
    if chosen.finish:
        axes = [*outer_axes(problem, chosen.finish), chosen.finish[0]]
        fit_region(problem, chosen, axes, blocks, target)
    for axis, block in blocks.items():
        wanted = -(-wanted // -(-hint(axis.extent) // (block * chosen.step(axis))))
    for axis in axes:
        if wanted <= 1:
            break
        cuts = min(blocks[axis], wanted)
        blocks[axis] = -(-blocks[axis] // cuts)
        wanted = -(-wanted // cuts)
    order = sorted(chosen.loops, key=lambda v: _use(problem, chosen, v) == 1)
    chosen.blocks = {v: blocks[v] * chosen.step(v) for v in order}


def _by_use(problem: Problem, chosen: Plan) -> list[Var]:
    """The order in which axes are cut: those of both operands, those of the vectors, then rows."""
    return sorted(chosen.loops, key=lambda v: (_use(problem, chosen, v), problem.axes.index(v)))


def _use(problem: Problem, chosen: Plan, axis: Var) -> int:
    """Who has an axis of the result: 0 both operands, 1 that of vectors, 2 the other one; 3 if both
    have it in vectors.
    """
    if all(axis in o.axes for o in problem.operands):
        return 3 if axis is chosen.lane else 0
    return 1 if any(axis in o.axes and chosen.lane in o.axes for o in problem.operands) else 2


def _reads(problem: Problem, operand: Operand, blocks: dict[Var, int]) -> float:
    """The bytes of an operand that blocks of the result need."""
    elements = prod(blocks.values()) * prod(
        [hint(v.extent) for v in problem.reduced if v in operand.axes]
    )
    overlap = prod([hint(v.extent) for v in operand.axes]) / max(operand.elements, 1)
    return SIZES[problem.dtype] * elements / max(overlap, 1.0)


def _fit_cache(problem: Problem, chosen: Plan, blocks: dict[Var, int], target: Target) -> None:
    """Makes blocks (in tiles) along rows so small that what a chunk reads of them stays in the
    second cache while it goes over the vectors.
    """
    if chosen.across or chosen.split is not None:
        return
    if hint(chosen.lane.extent) <= chosen.step(chosen.lane):
        return
    for operand in problem.operands:
        if chosen.lane in operand.axes:
            continue
        mine = [v for v in chosen.loops if v in operand.axes]
        size = _reads(problem, operand, {v: blocks[v] * chosen.step(v) for v in mine})
        for axis in mine:
            if size <= target.l2_bytes // 2:
                break
            cuts = min(blocks[axis], -(-int(size) // (target.l2_bytes // 2)))
            size /= cuts
            blocks[axis] = -(-blocks[axis] // cuts)


def count(extent: Index, block: int) -> Index:
    """How many blocks an extent has."""
    return (extent + (block - 1)) // index(block)
