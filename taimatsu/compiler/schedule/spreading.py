"""Sums of products into computed places (``compiler/gathered.py``): each block of the result that a
place says gets an element of the first factor times its block of the second one.

Threads share an axis along which results lie apart. For each element of it the result is zero at
first; then, block by block of the first factor, tile by tile of the second one, whose vectors stay
in registers, products are added in memory near the core.
"""

from __future__ import annotations

from math import prod

from taimatsu.compiler.gathered import Scattered, scattered
from taimatsu.compiler.groups import Group, Launch, Layout
from taimatsu.compiler.schedule.contraction_kernel import ChunkCounter, cut, nested
from taimatsu.compiler.schedule.contraction_launch import launch_of
from taimatsu.compiler.schedule.contraction_plan import CHUNK_CYCLES, MOST_CHUNKS, UNKNOWN, count
from taimatsu.compiler.schedule.contraction_problem import (
    Memories,
    Problem,
    flattened,
    hint,
    operand_of,
)
from taimatsu.compiler.schedule.gathering import FOUND, Gatherer, Near, Position, Tile
from taimatsu.ir import expression as ex
from taimatsu.ir.expression import SIZES, Expression
from taimatsu.ir.index import Index, Var, index
from taimatsu.ir.loops import Allocate, Loop, Statement, Store
from taimatsu.ir.stages import Stage
from taimatsu.ir.target import Target

ADDED = 2.0  # cycles to add a vector in memory
PACKED = 8192  # elements that a chunk packs


def schedule(group: Group, layouts: dict[Stage, Layout], target: Target) -> list[Launch]:
    """The launches that carry out a group of one such scatter."""
    (stage,) = group.stages
    form = scattered(stage)
    assert form is not None
    writer = Spreader(stage, form, layouts, target)
    packed = writer.pack()
    launches = [launch_of("pack", writer.problem, packed)]
    launches.append(launch_of("spread", writer.problem, writer.body(), is_main=True))
    return launches


def _problem(stage: Stage, form: Scattered, layouts: dict[Stage, Layout]) -> Problem:
    """What a launch's figures are counted from."""
    memories = Memories(layouts)
    done: dict[Expression, Expression] = {}
    assert stage.value is not None
    product = flattened(stage.value, memories, {}, {}, done)
    factors = (operand_of(done[form.first]), operand_of(done[form.second]))
    axes = [v for v in stage.axes if v.extent != 1]
    sums = Expression("load", (), stage.dtype, (stage, ()))
    nodes = () if stage.node is None else (stage.node,)
    return Problem(axes, [], factors, product, sums, [], memories=memories, nodes=nodes)


class Spreader(Gatherer):
    """Writes the kernels; see the module's text."""

    form: Scattered  # type: ignore[assignment]

    def __init__(
        self, stage: Stage, form: Scattered, layouts: dict[Stage, Layout], target: Target
    ) -> None:
        self.problem = _problem(stage, form, layouts)
        self.form = form
        self.target = target
        self.item = SIZES[stage.dtype]
        memories = self.problem.memories
        first, where = form.first.detail
        self.first = ex.cast(memories.load(first, where, form.first.dtype), stage.dtype)
        self.array = stage
        self.second = memories.buffer(stage)
        self.known, self.computed = self.address()
        one = Var("one", 1)
        self.reduced = list(form.windows)
        self.shared = list(form.shared) or [one]
        self.shape = self.tiling()
        self.start, self.width = index(0), self.shape.axis.extent.constant
        self.wide = index(self.width)
        size = prod([v.extent.constant for v in (*form.shared, *form.blocks)])
        self.weights = memories.temporary("weights", stage.dtype, index(size))

    def size(self, extent: Index) -> int:
        """An extent, for the choice of blocks: it decides the order of sums."""
        return extent.evaluate(lambda _: UNKNOWN)

    # -- the second factor, in the order in which it is needed -----------------------------

    def weight_at(self, at: Position, lane: Index | Var) -> Index:
        """Where a block's element is, ``lane`` standing for all axes in vectors."""
        total = index(0)
        for v in (*self.form.shared, *self.shape.rows):
            total = total * v.extent + at[v]
        return total * self.shape.length + lane

    def pack(self) -> list[Statement]:
        """Copies the second factor, vectors along the lanes."""
        stage, where = self.form.second.detail
        value = self.problem.memories.load(stage, where, self.form.second.dtype)
        axes = [*self.form.shared, *self.shape.rows, *self.shape.lane]
        rest = prod([v.extent.constant for v in axes[1:]])
        block = max(1, min(PACKED // max(rest, 1), axes[0].extent.constant))
        chunk = Var("chunk", count(axes[0].extent, block))
        begin, extent = cut(axes[0].extent, block, index(chunk))
        loops = {v: Var(v.name, extent if v is axes[0] else v.extent) for v in axes}
        at: Position = {v: index(own) for v, own in loops.items()}
        at[axes[0]] = begin + loops[axes[0]]
        lane = index(0)
        for v in self.shape.lane:
            lane = lane * v.extent + index(at[v])
        moved = ex.cast(ex.substitute(value, at, {}), self.problem.dtype)  # type: ignore[arg-type]
        store = Store(self.weights, (self.weight_at(at, lane),), moved)
        own = list(loops.values())
        vector = Loop(own[-1], "vector", [store], width=self.shape.lanes)
        return [Loop(chunk, "parallel", nested(own[:-1], "serial", [vector]))]

    # -- loops -----------------------------------------------------------------------------

    def body(self) -> list[Statement]:
        form = self.form
        whole = [(v, Var(v.name, v.extent)) for v in form.apart[1:]]
        at: Position = {v: index(own) for v, own in whole}
        first = form.apart[0] if form.apart else None
        chunks = ChunkCounter([index(1)])
        loop: list[Var] = []
        if first is not None:
            block = max(1, -(-hint(first.extent) // self._wanted()))
            chunks = ChunkCounter([count(first.extent, block)])
            begin, extent = cut(first.extent, block, chunks.parts[0])
            loop = [Var(first.name, extent)]
            at[first] = begin + loop[0]
        axis = self.reduced[0]
        inner = self.blocks((index(0), axis.extent, axis.extent), at)
        inner = nested([own for _, own in whole], "serial", inner)
        made = nested(loop, "serial", [*self._zeros_at(first, at), *inner])
        return [Loop(chunks.var, "parallel", made)]

    def _wanted(self) -> int:
        """How many chunks are worth their while."""
        form, shape = self.form, self.shape
        steps = prod([hint(v.extent) for v in (*form.apart, *form.shared, *form.windows)])
        vectors = -(-shape.length // shape.lanes) * sum(map(len, shape.groups))
        cycles = steps * (vectors * ADDED + FOUND)
        return min(MOST_CHUNKS, max(1, int(cycles / CHUNK_CYCLES)))

    def _zeros_at(self, first: Var | None, at: Position) -> list[Statement]:
        """The result of an element of the outermost axis is zero at first."""
        layout = self.problem.memories.layout(self.array)
        zero = ex.constant(0, self.problem.dtype)
        lanes = max(self.target.lanes(self.item), 1)
        address = layout.origin
        others: list[tuple[Index, Var]] = []
        for c, extent, stride in zip(
            self.form.places, self.array.shape, layout.strides, strict=True
        ):
            if first is not None and c[1] is None and c[0] == index(first):
                address = address + index(at[first]) * stride
            elif extent != 1:
                others.append((stride, Var("z", extent)))
        size = index(1)
        for _, var in others:
            size = size * var.extent
        outermost = first is None or all(
            index(first) != c[0] or s == size
            for c, s in zip(self.form.places, layout.strides, strict=True)
        )
        if outermost:
            lane = Var("z", size)
            return [Loop(lane, "vector", [Store(self.second, (address + lane,), zero)], lanes, 4)]
        others.sort(key=lambda pair: -pair[0].hint())
        for stride, var in others:
            address = address + stride * var
        loops = [var for _, var in others]
        vector = Loop(loops[-1], "vector", [Store(self.second, (address,), zero)], width=lanes)
        return nested(loops[:-1], "serial", [vector])

    def tiles(self, near: Near) -> list[Statement]:
        shape = self.shape
        made: list[Statement] = []
        vectors = shape.length // shape.lanes
        panels = vectors // shape.vectors
        for places in shape.groups:
            if panels:
                panel, element = Var("p", panels), Var("e", self.wide)
                begin = index(panel) * (shape.vectors * shape.lanes)
                tile = SpreadTile(near, index(element), 1, places, begin, shape.vectors, 0)
                made.append(Loop(panel, "serial", [Loop(element, "serial", tile.body())]))
            left = vectors - panels * shape.vectors + (1 if shape.tail else 0)
            if left:
                element = Var("e", self.wide)
                begin = index(panels * shape.vectors * shape.lanes)
                tile = SpreadTile(near, index(element), 1, places, begin, left, shape.tail)
                made.append(Loop(element, "serial", tile.body()))
        return made


class SpreadTile(Tile):
    """A block of the second factor in registers while the first one's elements are gone over."""

    writer: Spreader

    def body(self) -> list[Statement]:
        step = Var("w", self.near.total)
        made = [*self._each(self._weight), Loop(step, "serial", self._step(step))]
        return [Allocate(self.sums, made)]

    def _weight(self, at: tuple[int, int, int], lane: Index) -> Statement:
        writer = self.writer
        position: Position = dict(zip(writer.shape.rows, self.places[at[1]], strict=True))
        position |= {v: index(i) for v, i in writer.outer_at().items()}
        position[writer.shape.axis] = self._element(at[0])
        where = writer.weight_at(position, lane)
        return Store(self.sums, at, ex.load(writer.weights, (where,)))

    def _added(
        self,
        at: tuple[int, int, int],
        place: Expression,
        factor: Expression,
        address: Index,
        lane: Index,
    ) -> Statement:
        writer = self.writer
        there = self._there(place, address, lane)
        total = ex.fma(factor, ex.load(self.sums, at), ex.load(writer.second, (there,)))
        return Store(writer.second, (there,), total)
