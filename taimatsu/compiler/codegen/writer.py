"""LLVM IR as text: blocks, scopes, and values that are computed once.

A pure instruction is written where its operands are known: in the innermost scope that one of them
belongs to, so what does not change within a loop is computed before it. The same instruction on the
same operands is the same value, as long as the scope lasts. Loads follow both rules as far as no
store to their buffer, no condition and no check stands between.

LLVM IR is written as text, and not by llvmlite's builders, as these take longer than LLVM does.
"""

from __future__ import annotations

import struct
from typing import Any

# dtype -> the LLVM type of a number in registers. The 16-bit floats are kept as float32.
KINDS: dict[str, str] = {
    "bool": "i1",
    "uint8": "i8",
    "int8": "i8",
    "uint16": "i16",
    "int16": "i16",
    "uint32": "i32",
    "int32": "i32",
    "uint64": "i64",
    "int64": "i64",
    "float16": "float",
    "bfloat16": "float",
    "float32": "float",
    "float64": "double",
}
# dtype -> the LLVM type of an element in memory.
STORED: dict[str, str] = {**KINDS, "bool": "i8", "float16": "i16", "bfloat16": "i16"}
SUFFIXES = {"float": "f32", "double": "f64", "half": "f16", "ptr": "p0"}
BITS = {"i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "float": 32, "double": 64}


class Value:
    """An operand: its name (or the text of a constant), its type, the scope it belongs to.

    Attributes:
        kind: the LLVM type of one number.
        width: how many of them a vector has; 0 for one number alone.
        level: the index of the scope in which it was computed.
        constant: the number where it is known.
        multiple: an integer that is known to divide it.
    """

    __slots__ = ("constant", "kind", "level", "multiple", "name", "type", "width")

    def __init__(
        self,
        name: str,
        kind: str,
        width: int = 0,
        level: int = 0,
        constant: Any = None,
        multiple: int = 1,
    ) -> None:
        self.name = name
        self.kind = kind
        self.width = width
        self.level = level
        self.constant = constant
        self.multiple = multiple
        self.type = f"<{width} x {kind}>" if width else kind

    def __repr__(self) -> str:
        return f"{self.type} {self.name}"


def suffix(kind: str, width: int) -> str:
    """A type as it stands in the names of intrinsics."""
    item = SUFFIXES.get(kind, kind)
    return f"v{width}{item}" if width else item


def float_text(value: float, kind: str) -> str:
    """A float constant; rounded to float32 for that kind."""
    if kind == "float":
        value = rounded_to_single(value)
    if value != value:
        return "0x7FF8000000000000"
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def rounded_to_single(value: float) -> float:
    """The nearest float32."""
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


class Block:
    """A basic block: instructions, and how it ends."""

    __slots__ = ("end", "label", "lines")

    def __init__(self, label: str) -> None:
        self.label = label
        self.lines: list[str] = []
        self.end = ""


class Scope:
    """A stretch of code in which values, once computed, can be used; see ``Writer.scopes``.

    Attributes:
        block: where the next instruction goes.
        values: what was computed here, by the instruction's text (and for loads the version).
        stored: the buffers that are written somewhere within (of a loop's scope).
        holds_loads: whether loads must not be moved out of it.
        holds_all: whether nothing shall be moved out of it.
        moved: how many loads and vectors were moved here from inner scopes.
    """

    __slots__ = ("block", "holds_all", "holds_loads", "moved", "stored", "values")

    def __init__(
        self,
        block: Block,
        stored: frozenset[Any] = frozenset(),
        holds_loads: bool = False,
        holds_all: bool = False,
    ) -> None:
        self.block = block
        self.values: dict[Any, Value] = {}
        self.stored = stored
        self.holds_loads = holds_loads
        self.holds_all = holds_all
        self.moved = 0


class Writer:
    """One function in the making.

    Args:
        most_moved: how many loads and vectors may be moved ahead of one loop: while it runs each
            of them takes a register.

    Attributes:
        scopes: the open scopes, outermost first; the index of one is its level.
        versions: for each buffer a number that changes when it may have been written.
    """

    def __init__(self, most_moved: int) -> None:
        self.most_moved = most_moved
        self.blocks: list[Block] = []
        self.scopes: list[Scope] = []
        self.allocas: list[str] = []
        self.globals: dict[str, str] = {}  # name -> declaration or definition
        self.versions: dict[Any, int] = {}
        self._names = 0
        self._version = 0
        self._splats: dict[tuple[str, int], str] = {}
        self.scopes.append(Scope(self.new_block()))

    # -- blocks and scopes -----------------------------------------------------------------

    def fresh(self) -> str:
        self._names += 1
        return f"%v{self._names}"

    def new_block(self) -> Block:
        self._names += 1
        block = Block(f"b{self._names}")
        self.blocks.append(block)
        return block

    @property
    def block(self) -> Block:
        return self.scopes[-1].block

    @property
    def level(self) -> int:
        return len(self.scopes) - 1

    def go_on(self, block: Block) -> None:
        """Continues the innermost scope in another block."""
        self.scopes[-1].block = block

    def branch(self, target: Block) -> None:
        self.block.end = f"br label %{target.label}"

    def branch_if(self, condition: Value, yes: Block, no: Block) -> None:
        self.block.end = f"br i1 {condition.name}, label %{yes.label}, label %{no.label}"

    def line(self, text: str) -> None:
        """An instruction without result, here."""
        self.scopes[-1].block.lines.append(text)

    def changed(self, buffers: Any) -> None:
        """Says that buffers may have been written: later loads read them anew."""
        for buffer in buffers:
            self._version += 1
            self.versions[buffer] = self._version

    def hold_loads(self) -> None:
        """From here on no load is moved out of an open scope."""
        for scope in self.scopes:
            scope.holds_loads = True

    # -- values ----------------------------------------------------------------------------

    def pure(self, text: str, kind: str, width: int, *operands: Value) -> Value:
        """The value of an instruction that depends on its operands alone."""
        level = 0
        for operand in operands:
            if operand.level > level:
                level = operand.level
        scopes = self.scopes
        top = len(scopes) - 1
        while True:
            found = scopes[level].values.get(text)
            if found is not None:
                return found
            held = top
            while held > level and not scopes[held].holds_all:
                held -= 1
            if held == level:
                break
            level += 1
        if width and level < top:
            inner = self._with_space(level)
            for between in range(level + 1, inner + 1):
                found = scopes[between].values.get(text)
                if found is not None:
                    return found
            level = inner
            scopes[level].moved += level < top
        return self._define(text, text, kind, width, level)

    def _with_space(self, level: int) -> int:
        """The outermost scope from this one on to which something may be moved."""
        top = len(self.scopes) - 1
        while level < top and self.scopes[level].moved >= self.most_moved:
            level += 1
        return level

    def _define(self, key: Any, text: str, kind: str, width: int, level: int) -> Value:
        scope = self.scopes[level]
        self._names += 1
        made = Value(f"%v{self._names}", kind, width, level)
        scope.block.lines.append(f"{made.name} = {text}")
        scope.values[key] = made
        return made

    def here(self, text: str, kind: str, width: int) -> Value:
        """The value of an instruction that must be done here and now."""
        made = Value(self.fresh(), kind, width, self.level)
        self.line(f"{made.name} = {text}")
        return made

    def load(
        self, text: str, notes: str, kind: str, width: int, buffer: Any, *operands: Value
    ) -> Value:
        """The value of a load from a buffer; ``notes`` are its metadata."""
        least = 0
        for operand in operands:
            if operand.level > least:
                least = operand.level
        key = (text, self.versions.get(buffer, 0))
        level = self.level
        for outer in range(least, level + 1):
            found = self.scopes[outer].values.get(key)
            if found is not None:
                return found
        while level > least:
            scope = self.scopes[level]
            if scope.holds_loads or buffer in scope.stored:
                break
            level -= 1
        level = self._with_space(level)
        self.scopes[level].moved += level < self.level
        return self._define(key, text + notes, kind, width, level)

    def remember(self, text: str, buffer: Any, value: Value) -> None:
        """Says what a load that is written as ``text`` would give from here on."""
        self.scopes[-1].values[text, self.versions.get(buffer, 0)] = value

    # -- constants and vectors -------------------------------------------------------------

    def constant(self, value: Any, kind: str) -> Value:
        """A number: bool for ``i1``, int (any representative) or float."""
        if kind in ("float", "double"):
            return Value(float_text(value, kind), kind, 0, 0, value)
        bits = BITS[kind]
        if bits == 1:
            return Value("true" if value else "false", kind, 0, 0, bool(value))
        value = (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))
        return Value(str(value), kind, 0, 0, value)

    def splat(self, value: Value, width: int) -> Value:
        """A vector with the same number in each lane."""
        if value.width or not width:
            return value
        if value.constant is not None:
            key = (f"{value.kind} {value.name}", width)
            text = self._splats.get(key)
            if text is None:
                text = self._splats[key] = "<" + ", ".join([key[0]] * width) + ">"
            return Value(text, value.kind, width, 0, value.constant)
        kind = f"<{width} x {value.kind}>"
        first = self.pure(
            f"insertelement {kind} poison, {value.kind} {value.name}, i64 0",
            value.kind,
            width,
            value,
        )
        return self.pure(
            f"shufflevector {kind} {first.name}, {kind} poison, <{width} x i32> zeroinitializer",
            value.kind,
            width,
            first,
        )

    def iota(self, width: int, kind: str, step: int = 1) -> Value:
        """The vector 0, step, 2 step, ..."""
        text = "<" + ", ".join([f"{kind} {lane * step}" for lane in range(width)]) + ">"
        return Value(text, kind, width)

    def together(self, values: list[Value]) -> list[Value]:
        """The values, all of them vectors if one is."""
        width = 0
        for value in values:
            if value.width:
                width = value.width
        if not width:
            return values
        return [v if v.width else self.splat(v, width) for v in values]

    def binary(self, operation: str, a: Value, b: Value, kind: str | None = None) -> Value:
        """An instruction on two values of one kind, which are made vectors if one is."""
        if a.width != b.width:
            a, b = self.together([a, b])
        text = f"{operation} {a.type} {a.name}, {b.name}"
        return self.pure(text, kind or a.kind, a.width, a, b)

    def convert(self, operation: str, value: Value, kind: str) -> Value:
        """A conversion instruction (``fpext``, ``trunc``, ``bitcast``)."""
        to = f"<{value.width} x {kind}>" if value.width else kind
        text = f"{operation} {value.type} {value.name} to {to}"
        return self.pure(text, kind, value.width, value)

    def select(self, condition: Value, yes: Value, no: Value) -> Value:
        """``yes`` where the condition holds; it may be one for all lanes."""
        if condition.width:
            condition, yes, no = self.together([condition, yes, no])
        else:
            yes, no = self.together([yes, no])
        text = (
            f"select {condition.type} {condition.name}, {yes.type} {yes.name}, {no.type} {no.name}"
        )
        return self.pure(text, yes.kind, yes.width, condition, yes, no)

    def intrinsic(self, name: str, operands: list[Value], flags: str = "") -> Value:
        """A call of LLVM's intrinsic on operands of one type; ``flags`` are further operands."""
        operands = self.together(operands)
        first = operands[0]
        whole = f"@llvm.{name}.{suffix(first.kind, first.width)}"
        if whole not in self.globals:
            kinds = [o.type for o in operands] + (["i1"] if flags else [])
            self.globals[whole] = f"declare {first.type} {whole}({', '.join(kinds)})"
        listed = ", ".join([f"{o.type} {o.name}" for o in operands])
        text = f"call {first.type} {whole}({listed}{', ' + flags if flags else ''})"
        return self.pure(text, first.kind, first.width, *operands)

    def alloca(self, kind: str, width: int) -> str:
        """Memory for a number or a vector, for SROA to turn into values."""
        name = self.fresh()
        self.allocas.append(f"{name} = alloca {f'<{width} x {kind}>' if width else kind}")
        return name

    def body(self) -> str:
        """The blocks as text."""
        parts = []
        for number, block in enumerate(self.blocks):
            parts.append(f"{block.label}:")
            if number == 0:
                parts.extend(self.allocas)
            parts.extend(block.lines)
            parts.append(block.end)
        return "\n".join(parts)
