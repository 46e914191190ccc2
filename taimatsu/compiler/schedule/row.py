"""One row of a nest, or a few vectors of rows: the loops of its passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from taimatsu.compiler.schedule.common import (
    Access,
    Axes,
    Piece,
    Values,
    accesses,
    collapsed,
    composed,
    known_points,
    operations,
    storage_order,
)
from taimatsu.compiler.schedule.elements import Held, elements, read_by
from taimatsu.compiler.schedule.frame import (
    Frame,
    Scope,
    Scratch,
    allocated,
    part,
    serial_loop,
    vector_loop,
)
from taimatsu.compiler.schedule.passes import Pass, copies_within, price_along
from taimatsu.compiler.schedule.pointwise import unroll_of
from taimatsu.compiler.schedule.reduction import Accumulator, each_copy
from taimatsu.ir.expression import Expression, load, walk
from taimatsu.ir.index import Index, Var, ceil_div, index
from taimatsu.ir.loops import Buffer, Statement, Store, Transpose, row_major
from taimatsu.ir.stages import Stage

BLOCK = 4096  # values of a block of a sum along vectors
BLOCK_ROWS = 512  # the same where each lane has a sum of its own
SMALL_DOMAIN = 16  # loops of so few iterations are written out
TURNED = 0.4  # what turning a square twice costs for each of its numbers, in loads of vectors

Body = Callable[[Index, Index], list[Statement]]


def strips(
    extent: Index,
    copies: int,
    width: int,
    strip: Callable[[Index, int, Index], list[Statement]],
) -> list[Statement]:
    """Goes through an axis by several vectors at once, then by one, then by what is left."""
    step = copies * width
    full = extent // step
    whole = index(width)
    made = serial_loop(full, lambda s: strip(s * step, copies, whole), "strip")
    begin, rest = full * step, extent % step
    if copies > 1:
        more = rest // width
        made += serial_loop(more, lambda s: strip(begin + s * width, 1, whole), "strip")
        begin, rest = begin + more * width, rest % width
    if rest != 0:
        made += strip(begin, 1, rest)
    return made


@dataclass(eq=False)
class Lanes:
    """Rows that are done at once: ``copies`` vectors of ``extent`` lanes each, along an axis."""

    copies: int
    width: int
    extent: Index
    along: Var
    unit: Values = field(default_factory=dict)

    def shifted(self, values: Values, u: Index, v: Index) -> Values:
        """The row variables for a lane."""
        step = u * self.width + v
        return {k: f + step * self.unit[k] if k in self.unit else f for k, f in values.items()}


ALONE = Lanes(1, 1, index(1), Var("alone", 1))


class Row:
    """The statements for one row, or for a few vectors of rows.

    Args:
        values: the row variables in terms of the loops' (for the first of several rows).
        width: of vectors.
        lanes: the rows that are done at once; None for one row.
        outer: the row around, for parts of a row that are treated like rows.
    """

    def __init__(
        self,
        frame: Frame,
        passes: list[Pass],
        values: Values,
        width: int,
        lanes: Lanes | None = None,
        outer: Row | None = None,
    ) -> None:
        self.frame = frame
        self.nest = frame.nest
        self.passes = passes
        self.values = values
        self.width = width
        self.lanes = lanes or ALONE
        self.single = lanes is None
        self.registers: dict[Stage, Buffer] = {}
        self.outer = outer
        self.scratch: dict[Stage, Scratch] = {} if outer is None else outer.scratch

    def statements(self) -> list[Statement]:
        """All passes, with the registers and the scratch memory that they need."""
        needed = [self._needed_later(k) for k in range(len(self.passes))]
        buffers: list[Buffer] = []
        for step, later in zip(self.passes, needed, strict=True):
            for piece in step.pieces:
                if piece.stage not in later:
                    continue
                if not piece.axes:
                    buffers.append(self._register(piece))
                elif piece.place is None:
                    buffers.append(self._array(piece))
        body: list[Statement] = []
        for step in self.passes:
            body += self._pass(step)
        return allocated(buffers, body)

    def _needed_later(self, k: int) -> set[Stage]:
        """The stages of a pass that other passes read."""
        own = {p.stage for p in self.passes[k].pieces}
        others = [p for j, step in enumerate(self.passes) if j != k for p in step.pieces]
        return own & read_by(self.nest, others)

    def _register(self, piece: Piece) -> Buffer:
        shape = () if self.single else (self.lanes.copies,)
        lanes = self.lanes.width
        made = Buffer(self.frame.name("x"), piece.stage.dtype, shape, "register", lanes=lanes)
        self.registers[piece.stage] = made
        return made

    def _array(self, piece: Piece) -> Buffer:
        """Scratch memory for a value with axes of the domain, in the order of the domain."""
        order = storage_order(piece.axes, accesses(self.nest))
        extents = tuple([v.extent for v in order])
        each = self.lanes.copies * self.lanes.width
        steps = dict(zip(order, row_major((*extents, index(each))), strict=False))
        size = index(each)
        for n in extents:
            size = size * n
        buffer = Buffer(self.frame.name("t"), piece.stage.dtype, (size,), "scratch")
        strides = []
        for c in piece.coordinates:
            own = [v for v in order if c.coefficient(v)]
            strides.append(steps[own[0]] if own else index(0))
        self.scratch[piece.stage] = Scratch(buffer, tuple(strides))
        return buffer

    # -- scopes ----------------------------------------------------------------------------

    def scope(self, domain: Values, u: Index, v: Index) -> Scope:
        """Expressions at a point of the domain, in a lane."""
        values = self.lanes.shifted(self.values, u, v)
        lane = None if self.single else u * self.lanes.width + v
        if self.outer is not None:
            lane = None
        scope = Scope(self.frame, {**values, **domain}, {}, self.scratch, lane)
        row: Row | None = self
        while row is not None:
            for stage, buffer in row.registers.items():
                where = (u,) if buffer.shape else ()
                scope.registers[stage] = load(buffer, where)
            row = row.outer
        return scope

    def held(self, step: Pass, u: Index) -> dict[Stage, Held]:
        """The registers that results of a pass are kept in."""
        return {
            p.stage: (self.registers[p.stage], (u,) if self.registers[p.stage].shape else ())
            for p in step.pieces
            if p.stage in self.registers
        }

    def each(self, body: Body) -> list[Statement]:
        """For all rows that are done at once."""
        return each_copy(self.lanes.copies, self.lanes.width, self.lanes.extent, body)

    # -- passes ----------------------------------------------------------------------------

    def _pass(self, step: Pass) -> list[Statement]:
        if step.kind == "scalar":
            return self._scalars(step)
        if step.kind == "scan":
            return self._scan(step)
        if step.kind == "kept":
            return self._kept(step)
        if self.single:
            return self._along_vectors(step)
        return self._in_lanes(step)

    def _scalars(self, step: Pass) -> list[Statement]:
        return self.each(
            lambda u, v: elements(
                self.scope({}, u, v), step.pieces, self.lanes.width, self.held(step, u)
            )
        )

    def _axes(self, axes: tuple[Var, ...], step: Pass) -> Axes:
        found = accesses(self.nest, step.pieces)
        return collapsed(storage_order(axes, found), [*found, *self._own_accesses(step)])

    def _own_accesses(self, step: Pass) -> list[Access]:
        """Where a pass goes in the row's own arrays: axes that lie apart there are no one axis."""
        found: list[Access] = []
        seen: set[Expression] = set()
        for piece in step.pieces:
            if piece.stage in self.scratch:
                found.append(Access(self._address(piece.stage, piece.coordinates), "memory"))
            for root in piece.roots:
                for node in walk(root, seen):
                    if node.op == "load" and node.detail[0] in self.scratch:
                        source, where = node.detail
                        plain = [c if type(c) is Index else index(0) for c in where]
                        found.append(Access(self._address(source, plain), "memory"))
        return found

    def _address(self, stage: Stage, where: Sequence[Index]) -> Index:
        total = index(0)
        for coordinate, stride in zip(where, self.scratch[stage].strides, strict=True):
            total = total + coordinate * stride
        return total

    def _extent(self, var: Var) -> Index:
        return var.extent.substitute(dict(self.values))

    def _finished(
        self, step: Pass, accumulators: dict[Stage, Accumulator], domain: Values
    ) -> list[Statement]:
        """Results of reductions go where they are wanted; one row's own."""

        def body(u: Index, v: Index) -> list[Statement]:
            scope = self.scope(domain, u, v)
            made: list[Statement] = []
            for piece in step.reductions:
                results = accumulators[piece.stage].results(u)
                made += self._put(scope, piece, results, u)
            return made

        return self.each(body)

    def _put(
        self, scope: Scope, piece: Piece, results: list[Expression], u: Index
    ) -> list[Statement]:
        made: list[Statement] = []
        for place, result in zip(piece.parts, results, strict=False):
            address = scope.index(place.address(piece.coordinates))
            made.append(Store(self.frame.flat(place), (address,), result))
        value = results[-1]
        register = self.registers.get(piece.stage)
        if register is not None:
            where = (u,) if register.shape else ()
            made.append(Store(register, where, value))
            value = load(register, where)
        return made + scope.stores(piece, value)

    # -- along vectors ---------------------------------------------------------------------

    def _along_vectors(self, step: Pass, kept: Values | None = None) -> list[Statement]:
        """One row, in vectors along the last axis of the domain."""
        kept = kept or {}
        axes = self._axes(step.reduced if step.reduced else step.axes, step)
        if not step.reductions:
            costs = operations(step.roots)
            return self._loops(
                axes.loops[:-1],
                lambda at: vector_loop(
                    self._extent(axes.loops[-1]),
                    self.width,
                    lambda v: self._body(step, axes, {**at, axes.loops[-1]: v}, kept, {}, 0),
                    unroll_of(costs),
                ),
            )
        copies = self._vector_copies(step, axes.loops)
        is_long = known_points(axes.loops) > BLOCK
        found = {
            p.stage: Accumulator(self.frame, p, copies, self.width, is_long)
            for p in step.reductions
        }
        last = axes.loops[-1]

        def vectors(at: Values, begin: Index, extent: Index) -> list[Statement]:
            return self._vectors(
                extent,
                copies,
                lambda u, k: self._body(step, axes, {**at, last: begin + k}, kept, found, u),
            )

        body = [s for a in found.values() for s in a.start()]
        body += self._blocks(
            axes.loops, BLOCK, copies, self.width, index(self.width), found, vectors
        )
        registers = [r for a in found.values() for r in a.registers]
        scope = self.scope(kept, index(0), index(0))
        for piece in step.reductions:
            accumulator = found[piece.stage]
            body += accumulator.join()
            more, finish, results = accumulator.across(self.frame)
            registers += more
            body += finish + self._put(scope, piece, results, index(0))
        return allocated(registers, body)

    def _body(
        self,
        step: Pass,
        axes: Axes,
        at: Values,
        kept: Values,
        found: dict[Stage, Accumulator],
        u: Index | int,
    ) -> list[Statement]:
        domain = {**kept, **composed(axes.values, at)}
        scope = self.scope(domain, index(0), index(0))
        takes = {s: a.step(index(u)) for s, a in found.items()}
        return elements(scope, step.pieces, self.width, {}, takes)

    def _vector_copies(self, step: Pass, loops: list[Var]) -> int:
        """How many vectors of partial results there are: more for what is quickly computed."""
        costs = operations(step.roots)
        most = 4 if costs <= 8 else 2
        last = loops[-1].extent
        if last.is_constant:
            while most > 1 and last.constant < 2 * most * self.width:
                most //= 2
        return most

    def _vectors(self, extent: Index, copies: int, body: Body) -> list[Statement]:
        """Vectors in turns, one for each copy; what is left goes to the first."""
        width = self.width
        if copies == 1:
            return vector_loop(extent, width, lambda v: body(index(0), v))
        step = copies * width
        main = extent // step
        made = serial_loop(
            main,
            lambda i: serial_loop(
                index(copies),
                lambda u: vector_loop(
                    index(width), width, lambda v: body(u, i * step + u * width + v)
                ),
                "u",
                "unroll",
            ),
        )
        rest = extent % step
        return made + vector_loop(rest, width, lambda v: body(index(0), main * step + v))

    def _loops(
        self,
        loops: list[Var],
        inner: Callable[[Values], list[Statement]],
        at: Values | None = None,
        kind: str = "serial",
    ) -> list[Statement]:
        """Loops over axes around ``inner``, which gets their values."""
        at = at or {}
        if not loops:
            return inner(at)
        var = loops[0]
        return serial_loop(
            self._extent(var),
            lambda k: self._loops(loops[1:], inner, {**at, var: k}, kind),
            "k",
            kind,
        )

    def _blocks(
        self,
        loops: list[Var],
        block: int,
        copies: int,
        width: int,
        lanes: Index,
        found: dict[Stage, Accumulator],
        innermost: Callable[[Values, Index, Index], list[Statement]],
        kind: str = "serial",
    ) -> list[Statement]:
        """Loops with the last axis left to ``innermost(values, begin, extent)``, in blocks."""
        blocked = [a for a in found.values() if a.blocked]
        last = loops[-1]
        if not blocked:
            return self._loops(
                loops[:-1],
                lambda at: innermost(at, index(0), self._extent(last)),
                kind=kind,
            )
        level = len(loops)
        inside = 1
        while level and inside * known_points([loops[level - 1]]) <= block:
            level -= 1
            inside *= known_points([loops[level]])
        cut = loops[level - 1]
        count = max(block // inside, 1)
        extent = self._extent(cut)

        def one(at: Values, b: Index) -> list[Statement]:
            begin = b * count
            length = part(extent, begin, count)
            made = [s for a in blocked for s in a.start_block()]
            if cut is last:
                made += innermost(at, begin, length)
            else:
                made += serial_loop(
                    length,
                    lambda k: self._loops(
                        loops[level:-1],
                        lambda more: innermost(more, index(0), self._extent(last)),
                        {**at, cut: begin + k},
                    ),
                )
            return made + each_copy(
                copies, width, lanes, lambda u, v: [s for a in blocked for s in a.end_block(u)]
            )

        return self._loops(
            loops[: level - 1],
            lambda at: serial_loop(ceil_div(extent, count), lambda b: one(at, b), "block"),
        )

    # -- in lanes --------------------------------------------------------------------------

    def _in_lanes(self, step: Pass, kept: Values | None = None) -> list[Statement]:
        """Several rows, each in a lane of its own: loops over the domain are serial."""
        kept = kept or {}
        axes = self._axes(step.reduced if step.reduced else step.axes, step)
        lanes = self.lanes
        is_long = known_points(axes.loops) > BLOCK_ROWS
        found = {
            p.stage: Accumulator(self.frame, p, lanes.copies, lanes.width, is_long)
            for p in step.reductions
        }
        last = axes.loops[-1]
        fixed = all(self._extent(v).is_constant for v in axes.loops)
        kind = "unroll" if fixed and known_points(axes.loops) <= SMALL_DOMAIN else "serial"

        def innermost(at: Values, begin: Index, extent: Index) -> list[Statement]:
            return serial_loop(extent, lambda k: point({**at, last: begin + k}), "k", kind)

        def point(at: Values) -> list[Statement]:
            domain = {**kept, **composed(axes.values, at)}
            return self.each(lambda u, v: lane(domain, u, v))

        def lane(domain: Values, u: Index, v: Index) -> list[Statement]:
            takes = {s: a.step(u) for s, a in found.items()}
            return elements(self.scope(domain, u, v), step.pieces, lanes.width, {}, takes)

        body = [s for a in found.values() for s in a.start()]
        body += self._blocks(
            axes.loops, BLOCK_ROWS, lanes.copies, lanes.width, lanes.extent, found, innermost, kind
        )
        body += self._finished(step, found, kept)
        return allocated([r for a in found.values() for r in a.registers], body)

    # -- reductions that keep axes of the row, and scans --------------------------------------

    def _kept(self, step: Pass) -> list[Statement]:
        """Reductions whose results have axes inside of the row."""
        axes = self._axes(step.axes, step)
        if not self.single:
            return self._loops(
                axes.loops, lambda at: self._in_lanes(step, composed(axes.values, at))
            )
        along = step.along(self.nest, axes, self.width)
        if along is None:
            return self._loops(
                axes.loops, lambda at: self._along_vectors(step, composed(axes.values, at))
            )
        others = [v for v in axes.loops if v is not along]
        copies = copies_within(step, along, self.width)

        def strip(at: Values, begin: Index, copies: int, extent: Index) -> list[Statement]:
            values = {**self.values, **composed(axes.values, {**at, along: begin})}
            lanes = Lanes(copies, self.width, extent, along)
            lanes.unit = composed(
                axes.values, {v: index(1 if v is along else 0) for v in axes.loops}
            )
            return Row(self.frame, [step], values, self.width, lanes, self)._in_lanes(step)

        return self._loops(
            others,
            lambda at: strips(
                self._extent(along),
                copies,
                self.width,
                lambda begin, copies, extent: strip(at, begin, copies, extent),
            ),
        )

    def _scan(self, step: Pass) -> list[Statement]:
        """One value after the other along an axis, for all others."""
        (piece,) = step.pieces
        along = step.scanned
        others = tuple([v for v in piece.axes if v is not along])
        axes = self._axes(others, step)
        return self._loops(axes.loops, lambda at: self._scanned(step, composed(axes.values, at)))

    def _scanned(self, step: Pass, kept: Values) -> list[Statement]:
        (piece,) = step.pieces
        lanes = self.lanes
        accumulator = Accumulator(self.frame, piece, lanes.copies, lanes.width)
        extent = self._extent(step.scanned)

        def scope(k: Index, u: Index, v: Index) -> Scope:
            at = {**kept, step.scanned: extent - 1 - k if piece.stage.reverse else k}
            return self.scope(at, u, v)

        def lane(k: Index, u: Index, v: Index) -> list[Statement]:
            here = scope(k, u, v)
            body = here.checks(piece)
            position = None if piece.position is None else here.value(piece.position)
            body += accumulator.step(u)(here.value(piece.value), position)
            return body + here.stores(piece, accumulator.results(u)[-1])

        body = accumulator.start()
        begin = index(0)
        if self._is_turned(step):
            blocks = extent // lanes.width
            begin = blocks * lanes.width
            square = partial(self._square, piece, accumulator, scope)
            body += serial_loop(blocks, lambda b: square(b * lanes.width), "block")
        rest = serial_loop(extent - begin, lambda k: self.each(partial(lane, begin + k)), "k")
        return allocated(accumulator.registers, body + rest)

    def _is_turned(self, step: Pass) -> bool:
        """Whether rows that scan along memory are read and written in squares."""
        (piece,) = step.pieces
        lanes = self.lanes
        if lanes.copies > 1 or lanes.width == 1 or lanes.extent != lanes.width:
            return False
        if self.registers or self.scratch or piece.checks or piece.position is not None:
            return False
        found = accesses(self.nest, step.pieces)
        (row,) = [v for v, unit in lanes.unit.items() if unit != 0]
        turned = price_along(found, step.scanned, lanes.width) + TURNED * lanes.width
        return turned < price_along(found, row, lanes.width)

    def _square(
        self,
        piece: Piece,
        accumulator: Accumulator,
        scope: Callable[[Index, Index, Index], Scope],
        begin: Index,
    ) -> list[Statement]:
        """As many steps of a scan as there are rows: vectors go along rows in memory only."""
        width = self.lanes.width
        lanes, zero = index(width), index(0)
        square = Buffer(self.frame.name("q"), piece.value.dtype, [width], "register", lanes=width)

        def vectors(body: Body) -> list[Statement]:
            return serial_loop(
                lanes, lambda r: vector_loop(lanes, width, lambda v: body(r, v)), "r", "unroll"
            )

        def read(row: Index, v: Index) -> list[Statement]:
            return [Store(square, [row], scope(begin + v, zero, row).value(piece.value))]

        def take(k: Index, v: Index) -> list[Statement]:
            taken = accumulator.step(zero)(load(square, [k]), None)
            return [*taken, Store(square, [k], accumulator.results(zero)[-1])]

        def write(row: Index, v: Index) -> list[Statement]:
            return scope(begin + v, zero, row).stores(piece, load(square, [row]))

        turn = Transpose(square)
        body = [*vectors(read), turn, *vectors(take), turn, *vectors(write)]
        return allocated([square], body)
