"""Loads and stores: addresses, vectors with and without masks, gathers, scatters, registers.

Buffers do not overlap, which is said to LLVM by alias scopes; what a kernel only reads is said to
be invariant. Registers become memory that LLVM promotes to values; within straight-line code their
content is known here already.
"""

from __future__ import annotations

from math import gcd
from typing import Any

from taimatsu.compiler.codegen.functions import Library
from taimatsu.compiler.codegen.integers import Indices, Place
from taimatsu.compiler.codegen.writer import BITS, KINDS, STORED, Value, Writer, suffix
from taimatsu.ir.loops import Buffer

CACHE_LINE = 64
GROUP = 128  # bits of a vector within which most instructions move numbers


class Register:
    """A register buffer: for each element, memory that holds a number or a vector."""

    __slots__ = ("kind", "names", "shape", "width")

    def __init__(self, buffer: Buffer, width: int) -> None:
        self.kind = KINDS[buffer.dtype]
        self.width = width
        self.shape = [extent.value() for extent in buffer.shape]
        self.names: dict[int, str] = {}

    @property
    def type(self) -> str:
        return f"<{self.width} x {self.kind}>" if self.width else self.kind


class Memory:
    """Writes accesses to buffers.

    Attributes:
        bases: the address of each argument and scratch buffer.
        registers: the register buffers in scope.
        notes: the metadata of accesses to each buffer.
        mask: which lanes are active (a vector of ``i1``); None for all.
        may_be_empty: whether perhaps none of them is.
        anywhere: an address that can be read.
    """

    def __init__(self, writer: Writer, indices: Indices, library: Library, words: Value) -> None:
        self.writer = writer
        self.indices = indices
        self.library = library
        self.anywhere = words
        self.bases: dict[Buffer, Value] = {}
        self.registers: dict[Buffer, Register] = {}
        self.notes: dict[Buffer, str] = {}
        self.contents: dict[str, Value] = {}
        self.mask: Value | None = None
        self.may_be_empty = False

    # -- addresses -------------------------------------------------------------------------

    def element(self, buffer: Buffer, coordinates: list[Place]) -> Place:
        """The element, counted from the buffer's begin."""
        indices = self.indices
        total = indices.place(buffer.origin)
        for coordinate, stride in zip(coordinates, buffer.strides, strict=True):
            if stride.is_constant:
                indices.add(total, coordinate, stride.constant)
            else:
                indices.add(total, indices.times(indices.place(stride), coordinate))
        return total

    def pointer(self, buffer: Buffer, where: Place) -> Value:
        """The address of an element that is the same for all lanes; outer terms are added first."""
        writer, size = self.writer, buffer.item_bytes
        total = self.bases[buffer]
        by_level: dict[int, Place] = {}
        for term, factor in where.terms.items():
            place = by_level.setdefault(term.level, Place())
            place.terms[term] = factor * size
        for level in sorted(by_level):
            total = self._moved(total, self.indices.scalar(by_level[level]))
        if where.constant:
            total = self._moved(total, writer.constant(where.constant * size, "i64"))
        return total

    def _moved(self, pointer: Value, by: Value) -> Value:
        if by.constant == 0:
            return pointer
        text = f"getelementptr i8, ptr {pointer.name}, i64 {by.name}"
        return self.writer.pure(text, "ptr", 0, pointer, by)

    def pointers(self, buffer: Buffer, where: Place) -> Value:
        """The address of each lane's element."""
        writer = self.writer
        common = self.pointer(buffer, where.without_lanes())
        lanes = Place(lanes=where.lanes * buffer.item_bytes)
        if where.vector is not None:
            self.indices.add(lanes, Place(vector=where.vector), buffer.item_bytes)
        if lanes.is_uniform:
            return writer.splat(common, self.indices.width)
        offsets = self.indices.full(lanes)
        text = f"getelementptr i8, ptr {common.name}, {offsets.type} {offsets.name}"
        return writer.pure(text, "ptr", offsets.width, common, offsets)

    def alignment(self, buffer: Buffer, where: Place) -> int:
        """What is known to divide the address: an element's size at least."""
        size = buffer.item_bytes
        if not buffer.aligned and buffer.scope != "scratch":
            return size
        return gcd(where.divisor() * size, CACHE_LINE) or CACHE_LINE

    # -- loads -----------------------------------------------------------------------------

    def load(self, buffer: Buffer, coordinates: list[Place]) -> Value:
        """An element, or those of the lanes."""
        if buffer.scope == "register":
            return self._read_register(buffer, coordinates)
        where = self.element(buffer, coordinates)
        if where.is_uniform:
            raw = self._load_one(buffer, where)
        elif where.vector is None and where.lanes == 1:
            raw = self._load_vector(buffer, where, self.mask)
        elif where.vector is None and where.lanes == -1:
            first = self._first(where)
            mask = None if self.mask is None else self._reversed(self.mask)
            raw = self._reversed(self._load_vector(buffer, first, mask))
        else:
            raw = self._gather(buffer, where)
        return self.from_memory(raw, buffer.dtype)

    def _load_one(self, buffer: Buffer, where: Place) -> Value:
        pointer = self.pointer(buffer, where)
        if self.mask is not None and self.may_be_empty:
            pointer = self.writer.select(self.any_lane(), pointer, self.anywhere)
        text = self._load_text(buffer, where, pointer, 0)
        kind = STORED[buffer.dtype]
        return self.writer.load(text, self.notes[buffer], kind, 0, buffer, pointer)

    def _load_text(self, buffer: Buffer, where: Place, pointer: Value, width: int) -> str:
        kind = STORED[buffer.dtype]
        whole = f"<{width} x {kind}>" if width else kind
        return f"load {whole}, ptr {pointer.name}, align {self.alignment(buffer, where)}"

    def _load_vector(self, buffer: Buffer, where: Place, mask: Value | None) -> Value:
        """Elements that follow one another."""
        kind, width = STORED[buffer.dtype], self.indices.width
        pointer = self.pointer(buffer, where.without_lanes())
        notes = self.notes[buffer]
        if mask is None:
            text = self._load_text(buffer, where, pointer, width)
            return self.writer.load(text, notes, kind, width, buffer, pointer)
        whole = f"<{width} x {kind}>"
        name = f"@llvm.masked.load.{suffix(kind, width)}.p0"
        self.writer.globals[name] = f"declare {whole} {name}(ptr, i32, <{width} x i1>, {whole})"
        text = (
            f"call {whole} {name}(ptr {pointer.name}, i32 {self.alignment(buffer, where)}, "
            f"{mask.type} {mask.name}, {whole} zeroinitializer)"
        )
        return self.writer.load(text, notes, kind, width, buffer, pointer, mask)

    def _gather(self, buffer: Buffer, where: Place) -> Value:
        kind, width = STORED[buffer.dtype], self.indices.width
        if self.mask is None and where.vector is None and buffer.item_bytes < 4:
            return self._gather_one_by_one(buffer, where)
        pointers, mask = self.pointers(buffer, where), self._mask()
        whole = f"<{width} x {kind}>"
        name = f"@llvm.masked.gather.{suffix(kind, width)}.{suffix('ptr', width)}"
        self.writer.globals[name] = (
            f"declare {whole} {name}(<{width} x ptr>, i32, <{width} x i1>, {whole})"
        )
        text = (
            f"call {whole} {name}({pointers.type} {pointers.name}, i32 {buffer.item_bytes}, "
            f"{mask.type} {mask.name}, {whole} zeroinitializer)"
        )
        notes = self.notes[buffer]
        return self.writer.load(text, notes, kind, width, buffer, pointers, mask)

    def _gather_one_by_one(self, buffer: Buffer, where: Place) -> Value:
        """Short elements at equal distances, for which there is no instruction."""
        writer, kind, width = self.writer, STORED[buffer.dtype], self.indices.width
        first = where.without_lanes()
        made = Value("poison", kind, width)
        for lane in range(width):
            at = Place(first.constant + lane * where.lanes, first.terms)
            raw = self._load_one(buffer, at)
            text = f"insertelement {made.type} {made.name}, {kind} {raw.name}, i64 {lane}"
            made = writer.pure(text, kind, width, made, raw)
        return made

    # -- stores ----------------------------------------------------------------------------

    def store(self, buffer: Buffer, coordinates: list[Place], value: Value) -> None:
        """Writes an element, or those of the active lanes."""
        if buffer.scope == "register":
            self._write_register(buffer, coordinates, value)
            return
        where = self.element(buffer, coordinates)
        raw = self.to_memory(value, buffer.dtype)
        if where.is_uniform and not raw.width:
            self._store_one(buffer, where, raw)
        elif where.vector is None and where.lanes == 1:
            self._store_vector(buffer, where, raw, self.mask)
        elif where.vector is None and where.lanes == -1:
            mask = None if self.mask is None else self._reversed(self.mask)
            raw = self._reversed(self.writer.splat(raw, self.indices.width))
            self._store_vector(buffer, self._first(where), raw, mask)
        else:
            self._scatter(buffer, where, raw)

    def _store_one(self, buffer: Buffer, where: Place, raw: Value) -> None:
        writer = self.writer
        pointer = self.pointer(buffer, where)
        align = self.alignment(buffer, where)
        line = f"store {raw.kind} {raw.name}, ptr {pointer.name}, align {align}"
        if self.mask is None or not self.may_be_empty:
            writer.line(line + self.notes[buffer])
            writer.changed([buffer])
            writer.remember(self._load_text(buffer, where, pointer, 0), buffer, raw)
            return
        inside, after = writer.new_block(), writer.new_block()
        writer.branch_if(self.any_lane(), inside, after)
        writer.go_on(inside)
        writer.line(line + self.notes[buffer])
        writer.branch(after)
        writer.go_on(after)
        writer.changed([buffer])

    def _store_vector(self, buffer: Buffer, where: Place, raw: Value, mask: Value | None) -> None:
        writer, width = self.writer, self.indices.width
        raw = writer.splat(raw, width)
        pointer = self.pointer(buffer, where.without_lanes())
        align = self.alignment(buffer, where)
        notes = self.notes[buffer]
        if mask is None:
            writer.line(f"store {raw.type} {raw.name}, ptr {pointer.name}, align {align}{notes}")
            writer.changed([buffer])
            writer.remember(self._load_text(buffer, where, pointer, width), buffer, raw)
            return
        name = f"@llvm.masked.store.{suffix(raw.kind, width)}.p0"
        writer.globals[name] = f"declare void {name}({raw.type}, ptr, i32, <{width} x i1>)"
        writer.line(
            f"call void {name}({raw.type} {raw.name}, ptr {pointer.name}, i32 {align}, "
            f"{mask.type} {mask.name}){notes}"
        )
        writer.changed([buffer])

    def _scatter(self, buffer: Buffer, where: Place, raw: Value) -> None:
        """Where lanes have one address, the last active one stays."""
        writer, width = self.writer, self.indices.width
        raw = writer.splat(raw, width)
        pointers, mask = self.pointers(buffer, where), self._mask()
        name = f"@llvm.masked.scatter.{suffix(raw.kind, width)}.{suffix('ptr', width)}"
        writer.globals[name] = (
            f"declare void {name}({raw.type}, <{width} x ptr>, i32, <{width} x i1>)"
        )
        writer.line(
            f"call void {name}({raw.type} {raw.name}, {pointers.type} {pointers.name}, "
            f"i32 {buffer.item_bytes}, {mask.type} {mask.name}){self.notes[buffer]}"
        )
        writer.changed([buffer])

    def prefetch(self, buffer: Buffer, coordinates: list[Place], is_written: bool) -> None:
        """Asks memory for an element's line, into the second cache."""
        writer, name = self.writer, "@llvm.prefetch.p0"
        writer.globals[name] = f"declare void {name}(ptr, i32, i32, i32)"
        pointer = self.pointer(buffer, self.element(buffer, coordinates))
        writer.line(f"call void {name}(ptr {pointer.name}, i32 {int(is_written)}, i32 2, i32 1)")

    # -- elements in memory and in registers -----------------------------------------------

    def from_memory(self, raw: Value, dtype: str) -> Value:
        """What is computed with: truth values from bytes, float32 from 16-bit floats."""
        if dtype == "bool":
            return self.writer.binary("icmp ne", raw, self.writer.constant(0, "i8"), "i1")
        if dtype == "float16":
            return self.library.call("half_to_float", [raw], "float")
        if dtype == "bfloat16":
            return self.library.call("bfloat16_to_float", [raw], "float")
        return raw

    def to_memory(self, value: Value, dtype: str) -> Value:
        """The opposite of ``from_memory``."""
        if dtype == "bool":
            return self.writer.convert("zext", value, "i8")
        if dtype == "float16":
            return self.library.call("float_to_half", [value], "i16")
        if dtype == "bfloat16":
            return self.library.call("float_to_bfloat16", [value], "i16")
        return value

    # -- registers -------------------------------------------------------------------------

    def forget_contents(self) -> None:
        """At a join of control flow nothing is known of what registers hold."""
        self.contents.clear()

    def _place_of(self, buffer: Buffer, coordinates: list[Place]) -> tuple[Register, str]:
        register = self.registers[buffer]
        element = 0
        for place, extent in zip(coordinates, register.shape, strict=True):
            if not place.is_constant:
                raise ValueError(f"[codegen] a coordinate of register {buffer} is no constant")
            if not 0 <= place.constant < extent:
                raise ValueError(f"[codegen] register {buffer} has no element {place.constant}")
            element = element * extent + place.constant
        width = self.indices.width
        if width and register.width not in (0, width):
            raise ValueError(
                f"[codegen] register {buffer} has {register.width} lanes in a loop of {width}"
            )
        name = register.names.get(element)
        if name is None:
            name = self.writer.alloca(register.kind, register.width)
            register.names[element] = name
        return register, name

    def _read_register(self, buffer: Buffer, coordinates: list[Place]) -> Value:
        register, name = self._place_of(buffer, coordinates)
        found = self.contents.get(name)
        if found is None:
            text = f"load {register.type}, ptr {name}"
            found = self.writer.here(text, register.kind, register.width)
            self.contents[name] = found
        return found

    def transpose(self, buffer: Buffer) -> None:
        """Swaps elements and lanes of a register."""
        places = range(buffer.lanes)
        rows = [self._read_register(buffer, [Place(n)]) for n in places]
        for n, row in enumerate(columns(self.writer, rows, GROUP // BITS[rows[0].kind])):
            self._write_register(buffer, [Place(n)], row)

    def _write_register(self, buffer: Buffer, coordinates: list[Place], value: Value) -> None:
        writer = self.writer
        register, name = self._place_of(buffer, coordinates)
        if value.width and not register.width:
            raise ValueError(f"[codegen] register {buffer} has no lanes for a vector's numbers")
        value = writer.splat(value, register.width)
        if self.mask is not None and (register.width or self.may_be_empty):
            active = self.mask if register.width else self.any_lane()
            value = writer.select(active, value, self._read_register(buffer, coordinates))
        writer.line(f"store {value.type} {value.name}, ptr {name}")
        self.contents[name] = value

    # -- lanes -----------------------------------------------------------------------------

    def any_lane(self) -> Value:
        """Whether any lane is active."""
        assert self.mask is not None
        return any_of(self.writer, self.mask)

    def _mask(self) -> Value:
        if self.mask is not None:
            return self.mask
        return self.writer.splat(self.writer.constant(True, "i1"), self.indices.width)

    def _first(self, where: Place) -> Place:
        """Of lanes that go backwards: the place of the last, from which they go forwards."""
        return Place(where.constant - (self.indices.width - 1), where.terms, 1)

    def _reversed(self, value: Value) -> Value:
        width = value.width
        order = ", ".join([f"i32 {lane}" for lane in range(width - 1, -1, -1)])
        text = (
            f"shufflevector {value.type} {value.name}, {value.type} poison, "
            f"<{width} x i32> <{order}>"
        )
        return self.writer.pure(text, value.kind, width, value)


def columns(writer: Writer, rows: list[Value], group: int) -> list[Value]:
    """The columns of a square: first those of squares as wide as the groups of lanes that most
    instructions stay within, then whole groups change places.
    """
    width = len(rows)
    group = min(group, width)
    narrow = [_interleaved(writer, rows[g : g + group], group, 1) for g in range(0, width, group)]
    by_lane = [_parted(writer, list(same), group) for same in zip(*narrow, strict=True)]
    return [column for same in zip(*by_lane, strict=True) for column in same]


def _interleaved(writer: Writer, rows: list[Value], group: int, unit: int) -> list[Value]:
    """Rows to columns within each group; ``unit`` lanes stay together."""
    if len(rows) == 1:
        return rows
    width, half = rows[0].width, group // 2
    made: list[Value] = []
    for start in (0, half):
        order = [
            source + place + start + at + lane
            for place in range(0, width, group)
            for at in range(0, half, unit)
            for source in (0, width)
            for lane in range(unit)
        ]
        pairs = [_shuffled(writer, a, b, order) for a, b in zip(rows[::2], rows[1::2], strict=True)]
        made += _interleaved(writer, pairs, group, 2 * unit)
    return made


def _parted(writer: Writer, rows: list[Value], group: int) -> list[Value]:
    """Rows to columns of groups, by taking the even and the odd groups of pairs of rows."""
    if len(rows) == 1:
        return rows
    width = rows[0].width
    parts: list[list[Value]] = []
    for start in (0, group):
        order = [at + lane for at in range(start, 2 * width, 2 * group) for lane in range(group)]
        pairs = [_shuffled(writer, a, b, order) for a, b in zip(rows[::2], rows[1::2], strict=True)]
        parts.append(_parted(writer, pairs, group))
    return [row for both in zip(*parts, strict=True) for row in both]


def _shuffled(writer: Writer, a: Value, b: Value, order: list[int]) -> Value:
    listed = ", ".join([f"i32 {lane}" for lane in order])
    text = f"shufflevector {a.type} {a.name}, {b.type} {b.name}, <{a.width} x i32> <{listed}>"
    return writer.pure(text, a.kind, a.width, a, b)


def any_of(writer: Writer, lanes: Value) -> Value:
    """Whether a vector of truth values has one that holds; itself if it is one truth value."""
    if not lanes.width:
        return lanes
    whole = f"i{lanes.width}"
    bits = writer.pure(f"bitcast {lanes.type} {lanes.name} to {whole}", whole, 0, lanes)
    return writer.pure(f"icmp ne {whole} {bits.name}, 0", "i1", 0, bits)


def scopes_of(buffers: list[Buffer], written: set[Any]) -> tuple[dict[Buffer, str], list[str]]:
    """The notes of accesses to each buffer, and the module's metadata they refer to."""
    notes: dict[Buffer, str] = {}
    stored = [b for b in buffers if b in written]
    scopes = {b: f"!{2 + 3 * n}" for n, b in enumerate(stored)}
    metadata = ["!0 = !{}", "!1 = distinct !{!1}"]
    everywhere = f"!{2 + 3 * len(stored)}"
    metadata.append(f"{everywhere} = !{{{', '.join(scopes.values())}}}")
    for number, buffer in enumerate(stored):
        scope, alone, others = (f"!{2 + 3 * number + k}" for k in range(3))
        metadata.append(f"{scope} = distinct !{{{scope}, !1}}")
        metadata.append(f"{alone} = !{{{scope}}}")
        rest = [s for b, s in scopes.items() if b is not buffer]
        metadata.append(f"{others} = !{{{', '.join(rest)}}}")
        notes[buffer] = f", !alias.scope {alone}" + (f", !noalias {others}" if rest else "")
    for buffer in buffers:
        if buffer not in notes:
            notes[buffer] = ", !invariant.load !0" + (f", !noalias {everywhere}" if stored else "")
    return notes, metadata
