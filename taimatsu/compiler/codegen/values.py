"""Scalar expressions as code, for one number or for the lanes of a vector loop.

What does not differ between lanes is computed once, as a scalar. The 16-bit floats are computed in
float32 and rounded after each operation.
"""

from __future__ import annotations

from typing import Any

from taimatsu.compiler.codegen import arithmetic, casts
from taimatsu.compiler.codegen.functions import Library
from taimatsu.compiler.codegen.integers import Indices, Place
from taimatsu.compiler.codegen.memory import Memory
from taimatsu.compiler.codegen.writer import KINDS, STORED, Value, Writer
from taimatsu.ir.expression import (
    BINARY_FUNCTIONS,
    COMPARISONS,
    FLOATS,
    UNARY_FUNCTIONS,
    Expression,
)
from taimatsu.ir.target import Target

HALVES = frozenset({"float16", "bfloat16"})
# Operations whose result is a 16-bit float whenever their operands are: nothing to round.
EXACT = frozenset(
    {"neg", "abs", "min", "max", "select", "copysign", "load", "cast", "bitcast", "constant"}
    | {"number", "across", "ceil", "floor", "trunc", "round_half_even"}
)
FUNCTIONS = frozenset({*UNARY_FUNCTIONS, *BINARY_FUNCTIONS})


class Values:
    """Writes expressions.

    Args:
        words: the address of the launch's words.
        numbers: for each of the launch's numbers its dtype and the place of its word.
    """

    def __init__(
        self,
        writer: Writer,
        indices: Indices,
        memory: Memory,
        library: Library,
        target: Target,
        words: Value,
        numbers: list[tuple[str, int]],
    ) -> None:
        self.writer = writer
        self.indices = indices
        self.memory = memory
        self.library = library
        self.target = target
        self.words = words
        self.numbers = numbers

    def value(self, root: Expression) -> Value:
        """The value of an expression: a vector if it differs between lanes."""
        done: dict[Expression, Value] = {}
        waiting = [root]
        while waiting:
            node = waiting[-1]
            if node in done:
                waiting.pop()
                continue
            missing = [a for a in operands_of(node) if a not in done]
            if missing:
                waiting.extend(reversed(missing))
                continue
            waiting.pop()
            done[node] = self._node(node, done)
        return done[root]

    def place(self, coordinate: Any) -> Place:
        """A coordinate: an index, or an int64 expression."""
        if type(coordinate) is not Expression:
            return self.indices.place(coordinate)
        return self._sum(coordinate, {p: self.value(p) for p in _computed_parts(coordinate)})

    def _sum(self, coordinate: Expression, done: dict[Expression, Value]) -> Place:
        """A computed coordinate: what indices add to it stays known."""
        total = Place()
        for part in _parts(coordinate):
            known = part.op == "index"
            place = self.indices.place(part.detail) if known else self._as_place(done[part])
            self.indices.add(total, place)
        return total

    def _as_place(self, value: Value) -> Place:
        if value.width:
            return Place(vector=value)
        if value.constant is not None:
            return Place(value.constant)
        return Place(0, {value: 1})

    def _node(self, node: Expression, done: dict[Expression, Value]) -> Value:
        operation = node.op
        if operation == "load":
            return self._load(node, done)
        values = [done[a] for a in node.args]
        if operation == "constant":
            return self._constant(node)
        if operation == "index":
            return self.indices.value(node.detail)
        if operation == "number":
            return self._number(node)
        made = self._operation(operation, node, values)
        if node.dtype in HALVES and operation not in EXACT:
            made = casts.rounded(self.library, made, node.dtype)
        return made

    def _operation(self, operation: str, node: Expression, values: list[Value]) -> Value:
        dtype = node.args[0].dtype
        if operation == "cast":
            return casts.cast(self.writer, self.library, values[0], dtype, node.dtype)
        if operation == "bitcast":
            return casts.bitcast(self.writer, self.memory, values[0], dtype, node.dtype)
        if operation == "across":
            return self._across(node.detail, values[0], dtype)
        if operation == "select":
            return self.writer.select(*values)
        if operation == "pow":
            return self._power(node, values)
        if operation in FUNCTIONS:
            kind = KINDS[node.dtype]
            return self.library.call(operation, values, kind)
        if operation in COMPARISONS:
            return arithmetic.comparison(self.writer, operation, dtype, *values)
        if dtype in FLOATS:
            return arithmetic.floats(self.writer, self.target, operation, values)
        return arithmetic.integers(self.writer, operation, dtype, values)

    # -- leaves ----------------------------------------------------------------------------

    def _constant(self, node: Expression) -> Value:
        value = node.detail
        if node.dtype in HALVES:
            value = casts.rounded_constant(value, node.dtype)
        return self.writer.constant(value, KINDS[node.dtype])

    def _number(self, node: Expression) -> Value:
        dtype, word = self.numbers[node.detail]
        raw = self.word(word, STORED[dtype])
        if dtype == node.dtype:
            return raw
        made = casts.cast(self.writer, self.library, raw, dtype, node.dtype)
        return made

    def word(self, place: int, kind: str) -> Value:
        """A word of the launch."""
        text = f"getelementptr i8, ptr {self.words.name}, i64 {8 * place}"
        pointer = self.writer.pure(text, "ptr", 0, self.words)
        notes = ", !invariant.load !0"
        text = f"load {kind}, ptr {pointer.name}, align 8"
        return self.writer.pure(text + notes, kind, 0, pointer)

    def _load(self, node: Expression, done: dict[Expression, Value]) -> Value:
        buffer, where = node.detail
        places = [
            self._sum(c, done) if type(c) is Expression else self.indices.place(c) for c in where
        ]
        return self.memory.load(buffer, places)

    # -- the rest --------------------------------------------------------------------------

    def _across(self, operation: str, value: Value, dtype: str) -> Value:
        """The upper half of the lanes is combined with the lower one until one lane is left."""
        writer = self.writer
        if self.indices.width:
            raise ValueError("[codegen] across stands inside a vector loop")
        if not value.width:
            return value
        if value.width & (value.width - 1):
            raise ValueError(f"[codegen] across expects a power of two of lanes; {value.width}")
        while value.width > 1:
            half = value.width // 2
            low, high = (self._half(value, half, start) for start in (0, half))
            if dtype in FLOATS:
                value = arithmetic.floats(writer, self.target, operation, [low, high])
            else:
                value = arithmetic.integers(writer, operation, dtype, [low, high])
            if dtype in HALVES and operation not in EXACT:
                value = casts.rounded(self.library, value, dtype)
        text = f"extractelement {value.type} {value.name}, i64 0"
        return writer.pure(text, value.kind, 0, value)

    def _half(self, value: Value, half: int, start: int) -> Value:
        order = ", ".join([f"i32 {lane}" for lane in range(start, start + half)])
        text = (
            f"shufflevector {value.type} {value.name}, {value.type} poison, "
            f"<{half} x i32> <{order}>"
        )
        return self.writer.pure(text, value.kind, half, value)

    def _power(self, node: Expression, values: list[Value]) -> Value:
        base, exponent = node.args
        if base.dtype not in FLOATS:
            return arithmetic.integer_power(self.writer, base.dtype, *values)
        kind = KINDS[base.dtype]
        if exponent.op == "constant" and exponent.dtype in FLOATS:
            return self.library.call("pow_constant", values[:1], kind, float(exponent.detail))
        return self.library.call("pow", values, kind)


def operands_of(node: Expression) -> list[Expression]:
    """The expressions that a node's value is made from, coordinates of loads included."""
    if node.op != "load":
        return list(node.args)
    return [p for c in node.detail[1] if type(c) is Expression for p in _computed_parts(c)]


def _parts(coordinate: Expression) -> list[Expression]:
    """What a computed coordinate is the sum of."""
    if coordinate.op != "add":
        return [coordinate]
    return [part for a in coordinate.args for part in _parts(a)]


def _computed_parts(coordinate: Expression) -> list[Expression]:
    return [part for part in _parts(coordinate) if part.op != "index"]
