"""Kernels in the making: arguments, expressions over loop variables, chunks, launches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from taimatsu.compiler.groups import Launch, Memory
from taimatsu.compiler.schedule.common import Nest, Piece, Place, Values, extent_hint
from taimatsu.compiler.schedule.parts import in_parts
from taimatsu.ir.expression import (
    FLOATS,
    Expression,
    binary,
    index_value,
    load,
    number,
    rewrite,
    walk,
)
from taimatsu.ir.index import Index, Symbol, Var, ceil_div, index, minimum
from taimatsu.ir.loops import (
    Allocate,
    Buffer,
    Check,
    If,
    Kernel,
    Loop,
    Statement,
    Store,
    statements,
)
from taimatsu.ir.stages import Stage

CHUNK_WORK = 1 << 17  # what a chunk takes at least, in loads or four additions


class Frame:
    """What one kernel is launched with, as it turns out while its body is written."""

    def __init__(self, nest: Nest) -> None:
        self.nest = nest
        self.memory: dict[Buffer, Memory] = {}
        self.messages: dict[int, str] = {}
        self._flat: dict[Any, Buffer] = {}
        self._shaped: dict[Any, Buffer] = {}
        self._numbers: dict[tuple[int, str], int] = {}
        self._names = 0

    def name(self, prefix: str) -> str:
        self._names += 1
        return f"{prefix}{self._names}"

    def flat(self, place: Place) -> Buffer:
        """The memory as one row of elements; places that begin at one element share it."""
        size = place.layout.size
        found = self._flat.get(place.key)
        if found is None:
            aligned = place.layout.aligned
            found = Buffer(self.name("a"), place.dtype, (size,), aligned=aligned, size=size)
            self._flat[place.key] = found
            self.memory[found] = place.memory
        elif found.size.hint() < size.hint():
            found.shape, found.size = (size,), size
        return found

    def shaped(self, place: Place, stage: Stage) -> Buffer:
        """The memory with the stage's dimensions, for coordinates that are computed."""
        key = (place.key, place.layout.strides)
        found = self._shaped.get(key)
        if found is None:
            found = place.layout.buffer(self.name("a"), stage)
            self._shaped[key] = found
            self.memory[found] = place.memory
        return found

    def number(self, node: Expression) -> Expression:
        """A number of the program as one of the kernel's."""
        kind = "float64" if node.dtype in FLOATS else "int64"
        place = self._numbers.setdefault((node.detail, kind), len(self._numbers))
        return number(place, node.dtype)

    def code(self, message: str) -> int:
        """The code that a kernel ends with where a check with this message fails."""
        for code, known in self.messages.items():
            if known == message:
                return code
        code = len(self.messages) + 1
        self.messages[code] = message
        return code

    def launch(
        self,
        body: Iterable[Statement],
        flops: Index,
        extents: dict[str, Index] | None = None,
        name: str = "",
    ) -> Launch:
        """The finished kernel."""
        body = in_parts(body)
        symbols = _symbols(body, self.memory)
        kernel = Kernel(
            name or self.nest.name,
            tuple(self.memory),
            symbols,
            tuple([kind for _, kind in self._numbers]),
            body,
        )
        nodes = {id(s.node): s.node for s in self.nest.stages if s.node is not None}
        moved = index(0)
        for buffer in self.memory:
            moved = moved + buffer.size * buffer.item_bytes
        return Launch(
            kernel,
            tuple(self.memory.values()),
            tuple([place for place, _ in self._numbers]),
            tuple(nodes.values()),
            self.messages,
            flops,
            moved.substitute({Symbol(n): v for n, v in (extents or {}).items()}),
            extents or {},
        )


def _symbols(body: tuple[Statement, ...], buffers: Iterable[Buffer]) -> tuple[Symbol, ...]:
    """All symbols that a kernel's indices use, by name."""
    found: set[Symbol] = set()
    seen: set[Expression] = set()

    def read(value: Expression) -> None:
        for node in walk(value, seen):
            if node.op == "index":
                found.update(node.detail.symbols())
            elif node.op == "load":
                for c in node.detail[1]:
                    if type(c) is Index:
                        found.update(c.symbols())

    def measure(buffer: Buffer) -> None:
        for extent in (*buffer.shape, *buffer.strides, buffer.size, buffer.origin):
            found.update(extent.symbols())

    for buffer in buffers:
        measure(buffer)
    for statement in statements(body):
        kind = type(statement)
        if kind is Store:
            read(statement.value)  # type: ignore[attr-defined]
            for c in statement.coordinates:  # type: ignore[attr-defined]
                if type(c) is Expression:
                    read(c)
                else:
                    found.update(c.symbols())
        elif kind is Loop:
            found.update(statement.extent.symbols())  # type: ignore[attr-defined]
        elif kind is If or kind is Check:
            read(statement.condition)  # type: ignore[attr-defined]
        elif kind is Allocate:
            measure(statement.buffer)  # type: ignore[attr-defined]
    return tuple(sorted(found, key=lambda s: s.name))


@dataclass(eq=False)
class Scratch:
    """Where a row's own array lies: a flat buffer, and strides for the stage's dimensions.

    Dimensions of the rows have stride 0.
    """

    buffer: Buffer
    strides: tuple[Index, ...]


@dataclass(eq=False)
class Scope:
    """Expressions of pieces as they are at one place in the loops.

    Attributes:
        values: the nest's variables in terms of the loops'.
        registers: for stages whose element at hand is in a register, what loads it.
        scratch: where the arrays of a row lie; ``lane`` is added to their addresses.
        copied: loads whose elements were copied elsewhere, and the loads from there.
    """

    frame: Frame
    values: Values
    registers: dict[Stage, Expression] = field(default_factory=dict)
    scratch: dict[Stage, Scratch] = field(default_factory=dict)
    lane: Index | None = None
    copied: dict[Expression, Expression] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._done: dict[Expression, Expression] = {}
        self._atoms: dict[Any, Index | int] = dict(self.values)

    def value(self, root: Expression) -> Expression:
        """The expression with loop variables, buffers and the kernel's numbers."""
        return rewrite(root, self._changed, self._done)

    def index(self, form: Index) -> Index:
        return form.substitute(self._atoms)

    def checks(self, piece: Piece) -> list[Statement]:
        """The statements that check a piece's conditions."""
        return [
            Check(self.value(condition), self.frame.code(message))
            for condition, message in piece.checks
        ]

    def stores(self, piece: Piece, value: Expression) -> list[Statement]:
        """The statements that put a piece's element where it lies in memory."""
        made: list[Statement] = []
        if piece.place is not None:
            address = self.index(piece.place.address(piece.coordinates))
            made.append(Store(self.frame.flat(piece.place), (address,), value))
        held = self.scratch.get(piece.stage)
        if held is not None:
            made.append(Store(held.buffer, (self._scratch(held, piece.coordinates),), value))
        return made

    def _changed(self, node: Expression) -> Expression | None:
        if node.op == "load":
            return self.copied.get(node) or self._load(node)
        if node.op == "index":
            return index_value(self.index(node.detail))
        if node.op == "number":
            return self.frame.number(node)
        return None

    def _load(self, node: Expression) -> Expression:
        source, where = node.detail
        nest = self.frame.nest
        piece = nest.member(source)
        if piece is not None:
            held = self.registers.get(piece.stage)
            if held is not None and tuple(map(_plain, where)) == piece.coordinates:
                return held
            kept = self.scratch.get(piece.stage)
            if kept is not None:
                return load(kept.buffer, (self._scratch(kept, where),), node.dtype)
            if piece.place is None:
                raise ValueError(f"{source} is read where it is not kept")
        place = nest.place(source) if piece is None else piece.place
        assert place is not None
        if all(type(c) is Index for c in where):
            address = self.index(place.address(where))
            return load(self.frame.flat(place), (address,), node.dtype)
        moved = [c if type(c) is Expression else self.index(c) for c in where]
        return load(self.frame.shaped(place, source), moved, node.dtype)

    def _scratch(self, held: Scratch, where: Sequence[Any]) -> Any:
        """The place in scratch memory: an index, or computed."""
        plain = index(0) if self.lane is None else self.lane
        computed: list[Expression] = []
        for c, stride in zip(where, held.strides, strict=True):
            if type(c) is not Expression:
                plain = plain + self.index(c) * stride
            elif stride != 0:
                computed.append(binary("mul", c, index_value(stride)))
        if not computed:
            return plain
        total = index_value(plain)
        for part in computed:
            total = total + part
        return total


# -- chunks ------------------------------------------------------------------------------------


@dataclass(eq=False)
class Chunks:
    """Loops over axes, the outer part of them divided into chunks for threads.

    Attributes:
        values: the axes, but for the last, in terms of the loops'.
        begin, extent: the part of the last axis that a chunk (or an iteration) goes through.
    """

    parallel: Var | None
    serial: list[Var]
    values: Values
    begin: Index
    extent: Index

    def wrap(self, body: Iterable[Statement]) -> list[Statement]:
        """The loops around the statements."""
        made = list(body)
        for var in reversed(self.serial):
            made = [Loop(var, "serial", made)]
        if self.parallel is not None:
            made = [Loop(self.parallel, "parallel", made)]
        return made


def chunked(axes: Sequence[Var], work: float, granule: int = 1) -> Chunks:
    """Divides the points of axes, each of which takes ``work``, into chunks.

    The last axis is left for the caller to go through; it is divided at multiples of ``granule``.
    """
    if not axes:
        return Chunks(None, [], {}, index(0), index(1))
    hints = [extent_hint(v.extent) for v in axes]
    last = len(axes) - 1
    inner = [work] * len(axes)
    for j in range(last - 1, -1, -1):
        inner[j] = inner[j + 1] * hints[j + 1]
    cut = next((j for j in range(last) if inner[j] <= CHUNK_WORK), last)
    count = _chunk_extent(axes[cut].extent, inner[cut], granule if cut == last else 1)
    blocks = ceil_div(axes[cut].extent, count)
    total = blocks
    for var in axes[:cut]:
        total = total * var.extent
    values: Values = {}
    parallel = None if total == 1 else Var("p", total)
    rest = index(0) if parallel is None else index(parallel)
    block = rest % blocks if cut else rest
    rest = rest // blocks
    for j in range(cut - 1, -1, -1):
        values[axes[j]] = rest % axes[j].extent if j else rest
        rest = rest // axes[j].extent
    begin = block * count
    extent = part(axes[cut].extent, begin, count)
    if cut == last:
        return Chunks(parallel, [], values, begin, extent)
    serial = []
    for j in range(cut, last):
        if j == cut and extent == 1:
            values[axes[j]] = begin
            continue
        var = Var(f"i{j}", extent if j == cut else axes[j].extent)
        values[axes[j]] = begin + var if j == cut else index(var)
        serial.append(var)
    return Chunks(parallel, serial, values, index(0), axes[last].extent)


def _chunk_extent(extent: Index, work: float, granule: int) -> int:
    """How many iterations a chunk has, so that chunks are about equal."""
    count = max(int(CHUNK_WORK / max(work, 0.01)), 1)
    count = -(-count // granule) * granule
    if not extent.is_constant:
        return count
    blocks = max(-(-extent.constant // count), 1)
    even = max(-(-extent.constant // blocks), 1)
    return -(-even // granule) * granule


def part(extent: Index, begin: Index, count: int) -> Index:
    """The length of the block that begins at a multiple of ``count``; the last may be shorter."""
    if extent.is_constant and extent.constant % count == 0:
        return index(count)
    if begin == 0 and extent.is_constant and extent.constant <= count:
        return extent
    return minimum(count, extent - begin)


def vector_loop(
    extent: Index, width: int, body: Callable[[Index], list[Statement]], unroll: int = 1
) -> list[Statement]:
    """A vector loop, unless it has no iterations."""
    if extent == 0:
        return []
    var = Var("v", extent)
    return [Loop(var, "vector", body(index(var)), width, unroll)]


def serial_loop(
    extent: Index, body: Callable[[Index], list[Statement]], name: str = "k", kind: str = "serial"
) -> list[Statement]:
    """A loop of a kind, or its body alone if that is carried out once."""
    if extent == 0:
        return []
    if extent == 1:
        return body(index(0))
    var = Var(name, extent)
    return [Loop(var, kind, body(index(var)))]


def allocated(buffers: Iterable[Buffer], body: Iterable[Statement]) -> list[Statement]:
    """The statements with buffers allocated around them."""
    made = list(body)
    for buffer in buffers:
        made = [Allocate(buffer, made)]
    return made


def _plain(coordinate: Index | Expression) -> Index | Expression:
    """A computed coordinate that is an index, as one."""
    if isinstance(coordinate, Expression) and coordinate.op == "index":
        return coordinate.detail  # type: ignore[no-any-return]
    return coordinate
