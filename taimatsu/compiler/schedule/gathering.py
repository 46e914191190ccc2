"""Sums of products whose second factor is read at computed places (``compiler/gathered.py``).

A part of the sum's outermost axis makes partial sums of its own, as those of other contractions do.
Within it the reduction goes on block by block: where elements of the second factor stand, and the
first factor, are computed for a block and kept near the core; then, tile by tile, the partial sums
are loaded into registers, and each element of the first factor is multiplied with its block of the
second one, whose vectors follow one another. A block reads no more of the second factor than stays
in the first cache while all tiles go over it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import prod

from taimatsu.compiler.gathered import Gathered, gathered
from taimatsu.compiler.groups import Group, Launch, Layout
from taimatsu.compiler.schedule.contraction import Combiner, partial_size
from taimatsu.compiler.schedule.contraction_kernel import (
    ChunkCounter,
    cut,
    partial_address,
)
from taimatsu.compiler.schedule.contraction_launch import launch_of
from taimatsu.compiler.schedule.contraction_plan import (
    CHUNK_CYCLES,
    LOADS,
    MOST_CHUNKS,
    UNKNOWN,
    Plan,
    count,
)
from taimatsu.compiler.schedule.contraction_problem import Problem, flattened, hint, problem_of
from taimatsu.compiler.schedule.contraction_stretches import nested
from taimatsu.ir import expression as ex
from taimatsu.ir.expression import SIZES, Expression
from taimatsu.ir.index import Index, Var, index, minimum
from taimatsu.ir.loops import Allocate, Buffer, Loop, Statement, Store
from taimatsu.ir.stages import Stage
from taimatsu.ir.target import Target

TERMS = 256  # that a part of the sum has at least, the outermost axis permitting
MOST_TILES = 7  # elements of the shared axis that are at hand together
FOUND = 2.0  # cycles to load a place and a factor

Position = dict[object, "Index | int"]


@dataclass(eq=False)
class Tiling:
    """How a sum is computed.

    Attributes:
        lane: axes whose elements follow one another in the second factor, the innermost last; as
            one they are ``length`` elements, in vectors of ``lanes``.
        rows: the other axes of its blocks.
        groups: the elements of ``rows``, those of each group being at hand together.
        vectors: how many of the vectors along the lanes are at hand together.
        axis: the last shared axis, of which ``factor`` elements are.
    """

    lane: list[Var]
    length: int
    lanes: int
    rows: list[Var]
    groups: list[list[tuple[int, ...]]]
    vectors: int
    axis: Var
    factor: int

    @property
    def tail(self) -> int:
        """Lanes of the last vector, 0 if it is full."""
        return self.length % self.lanes


def schedule(group: Group, layouts: dict[Stage, Layout], target: Target) -> list[Launch]:
    """The launches that carry out a group whose first stage is such a sum."""
    form = gathered(group.stages[0])
    assert form is not None
    problem = problem_of(group, layouts, whole=True)
    if any(v.extent == 0 for v in problem.axes):
        return []
    writer = Gatherer(problem, form, target)
    body = writer.body()
    launches = [launch_of("gathered", problem, body, is_main=True)]
    combined = Combiner(problem, writer.plan, writer.partial, target).body()
    launches.append(launch_of("combine", problem, combined, is_last=True))
    return launches


class Gatherer:
    """Writes the main kernel."""

    def __init__(self, problem: Problem, form: Gathered, target: Target) -> None:
        self.problem = problem
        self.form = form
        self.target = target
        self.item = SIZES[problem.dtype]
        memories = problem.memories
        first, where = form.first.detail
        self.first = ex.cast(memories.load(first, where, form.first.dtype), problem.dtype)
        self.array: Stage = form.second.detail[0]  # what places are in
        self.second = memories.buffer(self.array)
        self.known, self.computed = self.address()
        one = Var("one", 1)
        self.reduced = list(problem.reduced) or [one]
        self.shared = list(form.shared) or [one]
        self.shape = self.tiling()
        problem.axes = [*form.shared, *self.shape.rows, *self.shape.lane]
        axis = self.reduced[0]
        rest = prod([v.extent.evaluate(lambda _: UNKNOWN) for v in self.reduced[1:]])
        self.part = (axis, max(1, -(-TERMS // rest)))
        lanes = max(target.lanes(self.item), 1)
        self.plan = Plan(self.shape.lane[-1], False, lanes, {}, 1, {}, [], split=self.part)
        size = partial_size(problem, self.plan)
        self.partial = memories.temporary("partial", problem.dtype, size)

    def address(self) -> tuple[Index, Expression]:
        """The element of the second factor: what is known of it, and what is computed."""
        layout = self.problem.memories.layout(self.array)
        known, computed = layout.origin, ex.constant(0, "int64")
        for (place, number), stride in zip(self.form.places, layout.strides, strict=True):
            known = known + place * stride
            if number is not None:
                step = number if stride == 1 else number * ex.index_value(stride)
                computed = step if computed.op == "constant" else computed + step
        return known, flattened(computed, self.problem.memories, {}, {}, {})

    # -- the shape of tiles ----------------------------------------------------------------

    def tiling(self) -> Tiling:
        lane, length = self._lane()
        rows = [v for v in self.form.blocks if v not in lane]
        lanes = max(self.target.lanes(self.item), 1)
        while lanes // 2 >= length:
            lanes //= 2
        vectors = -(-length // lanes)
        registers = self.target.vector_registers - 2
        places = list(product(*[range(v.extent.constant) for v in rows]))
        together = max(1, min(vectors, registers // len(places)))
        together = -(-vectors // -(-vectors // together))
        pieces = -(-len(places) * together // registers)
        size = -(-len(places) // pieces)
        groups = [places[n : n + size] for n in range(0, len(places), size)]
        axis = (self.form.shared or self.shared)[-1]
        factor = _divisor(
            axis.extent.constant, min(MOST_TILES, (registers + 1) // (size * together + 1))
        )
        return Tiling(lane, length, lanes, rows, groups, together, axis, factor)

    def _lane(self) -> tuple[list[Var], int]:
        """The axes that lie in vectors: one that is contiguous, and those that go on from it where
        vectors would not be full otherwise.
        """
        blocks = self.form.blocks
        lanes = max(self.target.lanes(self.item), 1)
        first = next((v for v in blocks if self.known.stride(v) == 1), None)
        if first is None:
            longest = max(blocks, key=lambda v: v.extent.constant)
            return [longest], longest.extent.constant
        lane, length = [first], first.extent.constant
        while True:
            following = [v for v in blocks if v not in lane and self.known.stride(v) == length]
            if not following:
                return lane, length
            longer = length * following[0].extent.constant
            apart = -(-length // lanes) * following[0].extent.constant
            if -(-longer // lanes) >= apart:
                return lane, length
            lane.insert(0, following[0])
            length = longer

    # -- loops -----------------------------------------------------------------------------

    def body(self) -> list[Statement]:
        axis, block = self.part
        shape = self.shape
        parts = count(axis.extent, block)
        whole = shape.axis.extent.constant
        cuts = min(-(-whole // shape.factor), -(-self._wanted() // hint(parts)))
        self.width = -(-whole // (cuts * shape.factor)) * shape.factor
        chunks = ChunkCounter([parts, count(shape.axis.extent, self.width)])
        self.number = chunks.parts[0]
        self.start = chunks.parts[1] * self.width
        self.wide = index(self.width)
        if whole % self.width:
            self.wide = minimum(self.width, whole - self.start)
        bounds = (*cut(axis.extent, block, self.number), index(block))
        made = [*self._zeros(), *self.blocks(bounds, {})]
        return [Loop(chunks.var, "parallel", made)]

    def _wanted(self) -> int:
        """How many chunks are worth their while."""
        shape = self.shape
        steps = prod([hint(v.extent) for v in (*self.reduced, *self.shared)])
        vectors = -(-shape.length // shape.lanes) * sum(map(len, shape.groups))
        cycles = steps * (vectors / LOADS + FOUND)
        return min(MOST_CHUNKS, max(1, int(cycles / CHUNK_CYCLES)))

    def _zeros(self) -> list[Statement]:
        """The partial sums begin at zero."""
        shape = self.shape
        first = Var("first", self.wide)
        others = {v: Var(v.name, v.extent) for v in (*self.shared[:-1], *shape.rows)}
        lane = Var("l", shape.length)
        where = self.partial_at({**others, shape.axis: self.start + first}, lane)
        zero = Store(self.partial, (where,), ex.constant(0, self.problem.dtype))
        loop = Loop(lane, "vector", [zero], width=shape.lanes)
        return nested([*others.values(), first], "serial", [loop])

    def partial_at(self, at: Mapping[Var, Index | Var | int], lane: Index | Var) -> Index:
        """Where a partial sum is, ``lane`` standing for all axes in vectors."""
        position: Position = dict.fromkeys(self.shape.lane, 0)
        position |= {v: index(i) for v, i in at.items()}
        return partial_address(self.problem, self.number).substitute(position) + lane

    def blocks(self, bounds: tuple[Index, Index, Index], at: Position) -> list[Statement]:
        """The loops over blocks of the reduction, and what is done for each.

        ``bounds`` are the outermost axis's begin, extent and greatest extent; ``at`` says where
        loops around these stand.
        """
        depth, size = self._block()
        outer = [Var(v.name, v.extent) for v in self.shared[:-1]]
        self.at: Position = {**at, **dict(zip(self.shared, map(index, outer), strict=False))}
        self.inner: dict[Var, Var] = {}
        self.bound = index(1)
        self.farthest = index(0)  # that a place may be from where its block of places begins
        layout = self.problem.memories.layout(self.array)
        for (_, computed), n, stride in zip(
            self.form.places, self.array.shape, layout.strides, strict=True
        ):
            self.farthest = self.farthest + (n * stride if computed is not None else 0)
        for number, axis in enumerate(self.reduced):
            first, length, most = index(0), axis.extent, axis.extent
            if number == 0:
                first, length, most = bounds
            if number < depth:
                outer.append(Var(axis.name, length))
                self.at[axis] = first + outer[-1]
                continue
            if number == depth and not (most.is_constant and most.constant <= size):
                outer.append(Var(f"{axis.name}b", count(length, size)))
                first = first + index(outer[-1]) * size
                length = minimum(size, length - index(outer[-1]) * size)
                most = index(size)
            self.inner[axis] = Var(axis.name, length)
            self.at[axis] = first
            self.bound = self.bound * most
            self.farthest = self.farthest + self.known.stride(axis) * most
        near = Near(self)
        body = [*near.fill(), *self.tiles(near)]
        made = [Allocate(near.places, [Allocate(near.factors, body)])]
        return nested(outer, "serial", made)

    def outer_at(self) -> dict[Var, Index]:
        """Where the loops stand along the shared axes but the last one."""
        return {v: index(self.at[v]) for v in self.shared[:-1]}

    def _block(self) -> tuple[int, int]:
        """At which axis of the reduction blocks are cut, and how many of its elements they take."""
        budget = self.target.l1_bytes // 2
        for depth in range(len(self.reduced)):
            whole = self._touched(depth, 1)
            if whole <= budget or depth == len(self.reduced) - 1:
                return depth, max(1, budget // whole)
        raise AssertionError("a reduction has axes")

    def size(self, extent: Index) -> int:
        """An extent, for the choice of blocks: no bit depends on that."""
        return hint(extent)

    def _touched(self, depth: int, size: int) -> int:
        """About how many bytes of the second factor are read along the axes from ``depth`` on."""
        own = {v: self.size(v.extent) for v in self.reduced[depth + 1 :]}
        own[self.reduced[depth]] = size
        for v in (*self.form.blocks,):
            own[v] = v.extent.constant
        touched = self.item
        for (known, computed), extent in zip(self.form.places, self.array.shape, strict=True):
            steps = [abs(known.coefficient(v)) * (n - 1) for v, n in own.items()]
            reach = 1 + sum(steps)
            if computed is not None:
                reach += max([abs(known.coefficient(v)) for v in self.reduced], default=1)
            touched *= min(reach, self.size(extent))
        vectors = -(-self.shape.length // self.shape.lanes)
        return max(1, touched * self.shape.vectors // max(vectors, 1))

    # -- tiles -----------------------------------------------------------------------------

    def tiles(self, near: Near) -> list[Statement]:
        factor = self.shape.factor
        whole, rest = self.wide // factor, self.wide % factor
        var = Var("t", whole)
        made: list[Statement] = [Loop(var, "serial", self._tile(near, index(var) * factor, factor))]
        if rest != 0 and self.shape.axis.extent.constant % factor:
            var = Var("r", rest)
            made.append(Loop(var, "serial", self._tile(near, whole * factor + var, 1)))
        return made

    def _tile(self, near: Near, first: Index, size: int) -> list[Statement]:
        """All of a block for some elements of the shared axis."""
        shape = self.shape
        made: list[Statement] = []
        vectors = shape.length // shape.lanes
        panels = vectors // shape.vectors
        for places in shape.groups:
            if panels:
                panel = Var("p", panels)
                begin = index(panel) * (shape.vectors * shape.lanes)
                tile = Tile(near, first, size, places, begin, shape.vectors, 0)
                made.append(Loop(panel, "serial", tile.body()))
            left = vectors - panels * shape.vectors + (1 if shape.tail else 0)
            if left:
                begin = index(panels * shape.vectors * shape.lanes)
                made += Tile(near, first, size, places, begin, left, shape.tail).body()
        return made


class Near:
    """Memory near the core: places in the second factor, and the first factor, of a block."""

    def __init__(self, writer: Gatherer) -> None:
        self.writer = writer
        self.total = index(1)
        for v in writer.inner.values():
            self.total = self.total * v.extent
        # Vectors go along the shared axis where that is contiguous.
        _, (address,) = _load_of(writer.first).detail
        self.across = address.stride(writer.shape.axis) == 1
        shape = [index(writer.width), writer.bound]
        shape = shape[::-1] if self.across else shape
        far = writer.farthest
        is_near = far.is_constant and abs(far.constant) < 2**31
        self.places = Buffer("places", "int32" if is_near else "int64", shape, "scratch")
        self.factors = Buffer("factors", writer.problem.dtype, shape, "scratch")

    def where(self, element: Index, step: Index) -> tuple[Index, Index]:
        """The coordinates of an element of the shared axis at a step of the block."""
        return (step, element) if self.across else (element, step)

    def fill(self) -> list[Statement]:
        """Computes places and factors of a block, in vectors along what is contiguous."""
        writer = self.writer
        axis, step = Var("e", writer.wide), Var("s", self.total)
        at = self._at_step(index(step))
        moved = index(0)
        here: Position = {**writer.at, writer.shape.axis: writer.start + axis}
        for own, number in at.items():
            moved = moved + writer.known.stride(own) * number
            here[own] = writer.at[own] + number
        place = ex.substitute(writer.computed, here, {}) + ex.index_value(moved)  # type: ignore
        factor = ex.substitute(writer.first, here, {})  # type: ignore[arg-type]
        where = self.where(index(axis), index(step))
        body = [
            Store(self.places, where, ex.cast(place, self.places.dtype)),
            Store(self.factors, where, factor),
        ]
        lanes = max(writer.target.lanes(4), 1)
        outer, inner = (step, axis) if self.across else (axis, step)
        if self.across:
            return [Loop(outer, "serial", [Loop(inner, "vector", body, width=lanes)])]
        # What places have in common for all elements is computed once.
        return [Loop(inner, "vector", [Loop(outer, "serial", body)], width=lanes)]

    def _at_step(self, step: Index) -> dict[Var, Index]:
        """Where the block's axes stand at a step, the innermost going on first."""
        found: dict[Var, Index] = {}
        axes = list(self.writer.inner.items())
        for number in range(len(axes) - 1, -1, -1):
            own, var = axes[number]
            found[own] = step if number == 0 else step % var.extent
            step = step // var.extent
        return found


class Tile:
    """Partial sums in registers while a block of the reduction goes on.

    Args:
        first, size: elements of the shared axis, counted from the chunk's first one.
        places: elements of the rows.
        begin, vectors, tail: where along the lanes it begins, and how many vectors it takes; lanes
            of the last one, 0 if it is full.
    """

    def __init__(
        self,
        near: Near,
        first: Index,
        size: int,
        places: list[tuple[int, ...]],
        begin: Index,
        vectors: int,
        tail: int,
    ) -> None:
        self.near, self.writer = near, near.writer
        self.first, self.size = first, size
        self.places = places
        self.begin, self.vectors, self.tail = begin, vectors, tail
        self.lanes = self.writer.shape.lanes
        shape = [index(size), index(len(places)), index(vectors)]
        dtype = self.writer.problem.dtype
        self.sums = Buffer("sums", dtype, shape, "register", lanes=self.lanes)

    def body(self) -> list[Statement]:
        step = Var("w", self.near.total)
        made = [*self._each(self._resume), Loop(step, "serial", self._step(step))]
        return [Allocate(self.sums, [*made, *self._each(self._store)])]

    def _vector(self, number: int, make: Callable[[Index], Statement]) -> Statement:
        """A statement for a vector; ``make`` gets the number of an element along the lanes."""
        is_last = number == self.vectors - 1
        lane = Var("l", self.tail if self.tail and is_last else self.lanes)
        at = self.begin + number * self.lanes + lane
        return Loop(lane, "vector", [make(at)], width=self.lanes)

    def _each(self, make: Callable[[tuple[int, int, int], Index], Statement]) -> list[Statement]:
        """A statement for each vector of sums."""
        numbers = product(range(self.size), range(len(self.places)), range(self.vectors))
        return [self._vector(at[2], partial(make, at)) for at in numbers]

    def _partial(self, at: tuple[int, int, int], lane: Index) -> Index:
        writer = self.writer
        rows = dict(zip(writer.shape.rows, self.places[at[1]], strict=True))
        position: dict[Var, Index | Var | int] = {**writer.outer_at(), **rows}
        position[writer.shape.axis] = self._element(at[0])
        return writer.partial_at(position, lane)

    def _element(self, number: int) -> Index:
        return self.writer.start + self.first + number

    def _resume(self, at: tuple[int, int, int], lane: Index) -> Statement:
        return Store(self.sums, at, ex.load(self.writer.partial, (self._partial(at, lane),)))

    def _store(self, at: tuple[int, int, int], lane: Index) -> Statement:
        return Store(self.writer.partial, (self._partial(at, lane),), ex.load(self.sums, at))

    def _step(self, step: Var) -> list[Statement]:
        """Multiplies an element of the first factor with its block, for each of the tile's."""
        writer, near = self.writer, self.near
        made: list[Statement] = []
        for element in range(self.size):
            where = near.where(self.first + element, index(step))
            place = ex.cast(ex.load(near.places, where), "int64")
            factor = ex.load(near.factors, where)
            at: Position = {**writer.at, writer.shape.axis: self._element(element)}
            at |= dict.fromkeys(writer.form.blocks, 0)
            base = writer.known.substitute(at)
            for number, taps in enumerate(self.places):
                moved = base
                for row, tap in zip(writer.shape.rows, taps, strict=True):
                    moved = moved + writer.known.stride(row) * tap
                for vector in range(self.vectors):
                    added = partial(self._added, (element, number, vector), place, factor, moved)
                    made.append(self._vector(vector, added))
        return made

    def _added(
        self,
        at: tuple[int, int, int],
        place: Expression,
        factor: Expression,
        address: Index,
        lane: Index,
    ) -> Statement:
        writer = self.writer
        other = ex.load(
            writer.second, (self._there(place, address, lane),), writer.form.second.dtype
        )
        total = ex.fma(factor, ex.cast(other, writer.problem.dtype), ex.load(self.sums, at))
        return Store(self.sums, at, total)

    def _there(self, place: Expression, address: Index, lane: Index) -> Expression:
        """Where in memory a block's element is that is so many lanes from ``address``."""
        writer = self.writer
        where = address + lane * writer.known.stride(writer.shape.lane[-1])
        return place + ex.index_value(where)


def _load_of(factor: Expression) -> Expression:
    return factor.args[0] if factor.op == "cast" else factor


def _divisor(extent: int, most: int) -> int:
    """The greatest number up to ``most`` that divides an extent, unless that is small."""
    most = max(1, min(most, extent))
    found = next(n for n in range(most, 0, -1) if extent % n == 0)
    return found if 2 * found > most else most
