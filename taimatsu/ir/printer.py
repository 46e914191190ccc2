"""Expressions and kernels as text.

``kernel_text`` is complete and canonical: it is what compiled code is cached under. Two kernels
with the same text mean the same code, and names (of the kernel, of loop variables, of buffers) do
not matter: variables are called i0, i1, ... and buffers a0, ... (arguments), r0 (registers) and t0
(scratch) in the order in which they appear. Symbols keep their names, without their hints.

How an expression reads: a node's dtype stands after its operation (``cast.int32(x)``) unless it is
that of the last argument (bool for comparisons; the buffer's for loads; int64 for indices). What is
used more than once, or is long, has a line of its own above the statement: ``%0 = ...``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

from taimatsu.ir.expression import COMPARISONS, Expression
from taimatsu.ir.index import Index, Minimum, Product, Quotient, Remainder, Symbol, Var
from taimatsu.ir.loops import (
    Allocate,
    Buffer,
    Check,
    If,
    Kernel,
    Loop,
    Prefetch,
    Statement,
    Store,
    Transpose,
)

INFIX = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "and": "&",
    "or": "|",
    "xor": "^",
    "shl": "<<",
    "shr": ">>",
}
LEAVES = frozenset({"constant", "number", "index"})
PREFIXES = {"argument": "a", "register": "r", "scratch": "t"}
LONG = 160  # characters: a longer expression gets a name, so that text stays linear in size


def expression_text(expression: Expression) -> str:
    """The expression with the names its variables and buffers have; several lines if it shares.

    For people. Different variables or buffers of one name are told apart by a mark (``i'1``).
    """
    printer = Printer(canonical=False)
    lines, text = printer.expressions([expression])
    return "\n".join([*lines, text[0]])


def kernel_text(kernel: Kernel) -> str:
    """The canonical, complete text of a kernel; see the module's text."""
    printer = Printer(canonical=True)
    lines = []
    for buffer in kernel.arguments:
        lines.append(f"{printer.named_buffer(buffer)}: {printer.buffer_text(buffer)}")
    lines.append(f"symbols {', '.join(map(_symbol_text, kernel.symbols))}".rstrip())
    lines.append(f"numbers {', '.join(kernel.numbers)}".rstrip())
    printer.body(kernel.body, "", lines)
    return "\n".join(lines)


def statement_text(statement: Statement) -> str:
    """A statement with the names its variables and buffers have, for messages."""
    lines: list[str] = []
    Printer(canonical=False).body([statement], "", lines)
    return "\n".join(lines)


class Printer:
    """Names given so far, and the text of indices made with them."""

    def __init__(self, canonical: bool) -> None:
        self.canonical = canonical
        self._names: dict[Any, str] = {}  # variables and buffers, by identity
        self._used: dict[str, int] = {}  # how often a name (or a canonical prefix) was given
        self._indices: dict[Index, str] = {}

    # -- names -----------------------------------------------------------------------------

    def named_variable(self, var: Var) -> str:
        """A new name for a variable whose loop begins."""
        return self._new(var, "i", var.name)

    def named_buffer(self, buffer: Buffer) -> str:
        """A new name for a buffer that is listed or allocated."""
        return self._new(buffer, PREFIXES.get(buffer.scope, "b"), buffer.name)

    def _new(self, thing: Any, prefix: str, own: str) -> str:
        if thing in self._names:
            self._indices.clear()  # it is bound again, and gets another name
        key = prefix if self.canonical else own
        count = self._used.get(key, 0)
        self._used[key] = count + 1
        if self.canonical:
            name = f"{prefix}{count}"
        else:
            name = f"{own}'{count}" if count else own
        self._names[thing] = name
        return name

    def _name(self, thing: Any) -> str:
        """The name of a variable or buffer (or stage); those never bound are marked so."""
        found = self._names.get(thing)
        if found is not None:
            return found
        own = getattr(thing, "name", None) or repr(thing)
        return self._new(thing, f"?{own}.", own)

    # -- indices and buffers ---------------------------------------------------------------

    def index_text(self, value: Index) -> str:
        """``2*i0 + n + 3``: terms in the order of their text, the constant last."""
        found = self._indices.get(value)
        if found is not None:
            return found
        parts = []
        for atom, factor in value.terms:
            text = self._atom_text(atom)
            parts.append(text if factor == 1 else f"{factor}*{text}")
        if len(parts) > 1:
            parts.sort()
        if value.constant or not parts:
            parts.append(str(value.constant))
        text = " + ".join(parts)
        self._indices[value] = text
        return text

    def _atom_text(self, atom: Any) -> str:
        kind = type(atom)
        if kind is Var:
            return self._name(atom)
        if kind is Symbol:
            return _symbol_text(atom)
        if kind is Product:
            return "*".join(sorted(map(self._atom_text, atom.factors)))
        left, right = self.index_text(atom.left), self.index_text(atom.right)
        if kind is Minimum:
            return f"min({left}, {right})"
        mark = {Quotient: "//", Remainder: "%"}[kind]
        return f"(({left}) {mark} ({right}))"

    def buffer_text(self, buffer: Buffer) -> str:
        """All that a buffer is, but for its name."""
        shape = ", ".join(map(self.index_text, buffer.shape))
        strides = ", ".join(map(self.index_text, buffer.strides))
        return (
            f"{buffer.scope} {buffer.dtype}[{shape}] strides [{strides}]"
            f" origin {self.index_text(buffer.origin)} size {self.index_text(buffer.size)}"
            f"{' aligned' if buffer.aligned else ''}"
            f"{f' lanes {buffer.lanes}' if buffer.lanes != 1 else ''}"
        )

    # -- expressions -----------------------------------------------------------------------

    def expressions(self, roots: Iterable[Expression]) -> tuple[list[str], list[str]]:
        """The lines that define named parts, and the text of each root."""
        roots = list(roots)
        order, uses = _order_and_uses(roots)
        texts: dict[Expression, str] = {}
        lines: list[str] = []
        for node in order:
            text = self._node_text(node, texts)
            if (uses[node] > 1 and node.op not in LEAVES) or len(text) > LONG:
                name = f"%{len(lines)}"
                lines.append(f"{name} = {text}")
                text = name
            texts[node] = text
        return lines, [texts[root] for root in roots]

    def _node_text(self, node: Expression, texts: dict[Expression, str]) -> str:
        op = node.op
        args = node.args
        if not args:
            return self._leaf_text(node, texts)
        usual = "bool" if op in COMPARISONS else args[-1].dtype
        name = op if node.detail is None else f"{op}[{node.detail!r}]"
        if node.dtype != usual:
            name = f"{name}.{node.dtype}"
        elif len(args) == 2 and op in INFIX and node.detail is None:
            return f"({texts[args[0]]} {INFIX[op]} {texts[args[1]]})"
        return f"{name}({', '.join([texts[a] for a in args])})"

    def _leaf_text(self, node: Expression, texts: dict[Expression, str]) -> str:
        op = node.op
        detail = node.detail
        if op == "load":
            source, where = detail
            text = f"{self._name(source)}[{self._coordinates(where, texts)}]"
            return text if node.dtype == source.dtype else f"{text}.{node.dtype}"
        if op == "constant":
            return f"{_constant_text(detail)}:{node.dtype}"
        if op == "index":
            text = f"index({self.index_text(detail)})"
            return text if node.dtype == "int64" else f"{text}.{node.dtype}"
        return f"{op}[{detail!r}]:{node.dtype}"

    def _coordinates(self, where: Iterable[Any], texts: dict[Expression, str]) -> str:
        """Computed coordinates stand in braces: they are not indices."""
        return ", ".join(
            [f"{{{texts[c]}}}" if type(c) is Expression else self.index_text(c) for c in where]
        )

    # -- statements ------------------------------------------------------------------------

    def body(self, body: Iterable[Statement], indent: str, lines: list[str]) -> None:
        """Appends the lines of statements; inner ones are indented by two spaces."""
        for statement in body:
            _STATEMENTS[type(statement)](self, statement, indent, lines)

    def loop(self, loop: Loop, indent: str, lines: list[str]) -> None:
        extent = self.index_text(loop.extent)
        text = f"{indent}{loop.kind} {self.named_variable(loop.var)} < {extent}"
        if loop.width != 1:
            text += f" width {loop.width}"
        if loop.unroll != 1:
            text += f" unroll {loop.unroll}"
        lines.append(text + ":")
        self.body(loop.body, indent + "  ", lines)

    def store(self, store: Store, indent: str, lines: list[str]) -> None:
        computed = [c for c in store.coordinates if type(c) is Expression]
        defined, texts = self.expressions([*computed, store.value])
        lines.extend([indent + line for line in defined])
        where = self._coordinates(store.coordinates, dict(zip(computed, texts, strict=False)))
        lines.append(f"{indent}{self._name(store.buffer)}[{where}] = {texts[-1]}")

    def condition(self, statement: If, indent: str, lines: list[str]) -> None:
        defined, texts = self.expressions([statement.condition])
        lines.extend([indent + line for line in defined])
        lines.append(f"{indent}if {texts[0]}:")
        self.body(statement.body, indent + "  ", lines)

    def check(self, check: Check, indent: str, lines: list[str]) -> None:
        defined, texts = self.expressions([check.condition])
        lines.extend([indent + line for line in defined])
        lines.append(f"{indent}check {texts[0]} else {check.code}")

    def transpose(self, statement: Transpose, indent: str, lines: list[str]) -> None:
        lines.append(f"{indent}transpose {self._name(statement.buffer)}")

    def prefetch(self, statement: Prefetch, indent: str, lines: list[str]) -> None:
        where = self._coordinates(statement.coordinates, {})
        why = " to write" if statement.is_written else ""
        lines.append(f"{indent}prefetch {self._name(statement.buffer)}[{where}]{why}")

    def allocate(self, statement: Allocate, indent: str, lines: list[str]) -> None:
        buffer = statement.buffer
        text = self.buffer_text(buffer)
        lines.append(f"{indent}allocate {self.named_buffer(buffer)}: {text}:")
        self.body(statement.body, indent + "  ", lines)


_STATEMENTS: dict[type, Callable[[Printer, Any, str, list[str]], None]] = {
    Loop: Printer.loop,
    Store: Printer.store,
    If: Printer.condition,
    Check: Printer.check,
    Transpose: Printer.transpose,
    Prefetch: Printer.prefetch,
    Allocate: Printer.allocate,
}


def _symbol_text(symbol: Symbol) -> str:
    return f"${symbol.name}"


def _constant_text(value: Any) -> str:
    """A number so that its bits can be read back."""
    if value != value and isinstance(value, float):
        return f"nan 0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016x}"
    return repr(value)


def _order_and_uses(roots: list[Expression]) -> tuple[list[Expression], dict[Expression, int]]:
    """Every node once, arguments before what uses them, and how often each is used.

    Without recursion: chains of operations may be long.
    """
    order: list[Expression] = []
    uses: dict[Expression, int] = {}
    waiting: list[tuple[Expression, bool]] = [(root, False) for root in reversed(roots)]
    while waiting:
        node, ready = waiting.pop()
        if ready:
            order.append(node)
            continue
        count = uses.get(node, 0)
        uses[node] = count + 1
        if count:
            continue
        args: Iterable[Expression] = node.args
        if node.op == "load":
            args = [*args, *(c for c in node.detail[1] if type(c) is Expression)]
        if args:
            waiting.append((node, True))
            waiting.extend([(a, False) for a in reversed(tuple(args))])
        else:
            order.append(node)
    return order, uses
