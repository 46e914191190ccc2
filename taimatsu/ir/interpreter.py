"""Carries out kernels number by number: the definition of what statements mean.

Slow and plain. Compiled code must give the same, but for functions (2 ulp) and the sign of zeros
that ``min`` and ``max`` give. What is undefined is an error here: an element outside of its buffer,
a register or scratch element that is read before it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from taimatsu.ir import scalars
from taimatsu.ir.expression import Expression, walk
from taimatsu.ir.index import Index, Symbol
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
from taimatsu.ir.printer import statement_text
from taimatsu.ir.scalars import Value

_MEMORY_KINDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
UNDEFINED = object()  # the content of a fresh register or scratch element


def run(
    kernel: Kernel,
    buffers: Sequence[np.ndarray],
    symbols: dict[str, int],
    numbers: Sequence[float | int] = (),
    chunks: Iterable[int] | None = None,
    fused: bool = True,
    backwards: bool = False,
) -> int:
    """Carries out a kernel on memory; 0, or the code of the first check that did not hold.

    Args:
        buffers: for each of ``kernel.arguments`` a flat array of its dtype (bfloat16 may also be
            uint16 bits) that begins at the buffer's memory. Written in place.
        symbols: values by name.
        numbers: the launch's numbers.
        chunks: which chunks, in which order; all of them unless given.
        fused: whether ``fma`` rounds once.
        backwards: takes the lanes of each vector from the last to the first: where iterations are
            independent, as they must be, the result is the same.

    Raises AssertionError where the kernel does what is undefined, with the statement's text.
    """
    interpreter = _Interpreter(kernel, symbols, numbers, fused, backwards)
    for buffer, array in zip(kernel.arguments, buffers, strict=True):
        interpreter.bind(buffer, array)
    if chunks is None:
        chunks = range(kernel.chunks.evaluate(interpreter.atom))
    with np.errstate(all="ignore"):
        for chunk in chunks:
            try:
                interpreter.chunk(chunk)
            except _CheckError as failed:
                return failed.code
    return 0


class _CheckError(Exception):
    """A check did not hold."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Memory:
    """A buffer's elements as bits, and where coordinates lie."""

    def __init__(self, buffer: Buffer, at: Callable[[Index], int]) -> None:
        self.buffer = buffer
        self.shape = [at(n) for n in buffer.shape]
        self.strides = [at(n) for n in buffer.strides]
        self.origin = at(buffer.origin)
        self.size = at(buffer.size)
        self.content: Any = None

    def place(self, coordinates: list[int]) -> int:
        """The element at coordinates. AssertionError where it is outside."""
        inside = all(0 <= c < n for c, n in zip(coordinates, self.shape, strict=True))
        assert inside, f"{self.buffer.name}{coordinates} is outside of {self.shape}"
        place = self.origin + sum(c * s for c, s in zip(coordinates, self.strides, strict=True))
        assert 0 <= place < self.size, f"{self.buffer.name}{coordinates} lies outside its memory"
        return place


class _Interpreter:
    """The state while a kernel is carried out."""

    def __init__(
        self,
        kernel: Kernel,
        symbols: dict[str, int],
        numbers: Sequence[float | int],
        fused: bool,
        backwards: bool,
    ) -> None:
        self.kernel = kernel
        self.symbols = symbols
        self.numbers = numbers
        self.fused = fused
        self.backwards = backwards
        self.variables: dict[Any, int] = {}
        self.memory: dict[Buffer, _Memory] = {}
        self.lane: int | None = None  # inside of a vector loop
        self.orders: dict[Expression, list[Expression]] = {}

    def bind(self, buffer: Buffer, array: np.ndarray) -> None:
        memory = _Memory(buffer, self.index)
        name = str(array.dtype)
        same = name == buffer.dtype or (buffer.dtype == "bfloat16" and name == "uint16")
        assert same, f"{buffer.name} is {buffer.dtype}, its array {name}"
        assert array.ndim == 1, f"the array of {buffer.name} is not flat"
        assert array.size >= memory.size, f"{buffer.name} takes {memory.size}, not {array.size}"
        memory.content = array.view(_MEMORY_KINDS[buffer.item_bytes])
        self.memory[buffer] = memory

    def chunk(self, chunk: int) -> None:
        top = self.kernel.body[0]
        if type(top) is Loop and top.kind == "parallel":
            self.variables[top.var] = chunk
            self.body(top.body)
        else:
            self.body(self.kernel.body)

    # -- indices ---------------------------------------------------------------------------

    def atom(self, atom: Any) -> int:
        return self.symbols[atom.name] if type(atom) is Symbol else self.variables[atom]

    def index(self, value: Index) -> int:
        return value.evaluate(self.atom)

    # -- statements ------------------------------------------------------------------------

    def body(self, body: Iterable[Statement]) -> None:
        for statement in body:
            _RULES[type(statement)](self, statement)

    def loop(self, loop: Loop) -> None:
        extent = self.index(loop.extent)
        if loop.kind == "vector" and loop.width > 1:
            self.vectors(loop, extent)
            return
        for iteration in range(extent):
            self.variables[loop.var] = iteration
            self.body(loop.body)

    def vectors(self, loop: Loop, extent: int) -> None:
        """Iteration k is lane k % width of a vector."""
        for first in range(0, extent, loop.width):
            lanes = range(min(loop.width, extent - first))
            for lane in reversed(lanes) if self.backwards else lanes:
                self.lane = lane
                self.variables[loop.var] = first + lane
                self.body(loop.body)
        self.lane = None

    def condition(self, statement: If) -> None:
        if self.value(statement.condition, statement):
            self.body(statement.body)

    def check(self, check: Check) -> None:
        if not self.value(check.condition, check):
            raise _CheckError(check.code)

    def transpose(self, statement: Transpose) -> None:
        memory, lanes = self.memory[statement.buffer], statement.buffer.lanes
        before = list(memory.content)
        written = all(bits is not UNDEFINED for bits in before)
        what = f"{statement.buffer.name} is read before it is written"
        assert written, f"{what}; in\n{statement_text(statement)}"
        for place in range(lanes * lanes):
            memory.content[place] = before[place % lanes * lanes + place // lanes]

    def prefetch(self, statement: Prefetch) -> None:
        assert statement.buffer in self.memory

    def allocate(self, statement: Allocate) -> None:
        buffer = statement.buffer
        memory = _Memory(buffer, self.index)
        memory.content = [UNDEFINED] * (memory.size * buffer.lanes)
        self.memory[buffer] = memory
        self.body(statement.body)
        del self.memory[buffer]

    def store(self, store: Store) -> None:
        value = self.value(store.value, store)
        memory = self.memory[store.buffer]
        where = [self.coordinate(c, store) for c in store.coordinates]
        try:
            place = memory.place(where)
        except AssertionError as error:
            raise _located(error, store) from None
        bits = scalars.to_bits(value, store.buffer.dtype)
        lanes = store.buffer.lanes
        if lanes == 1:
            memory.content[place] = bits
        elif self.lane is not None:
            memory.content[place * lanes + self.lane] = bits
        else:
            memory.content[place * lanes : (place + 1) * lanes] = [bits] * lanes

    # -- expressions -----------------------------------------------------------------------

    def coordinate(self, given: Any, statement: Statement) -> int:
        return self.value(given, statement) if type(given) is Expression else self.index(given)

    def value(self, root: Expression, statement: Statement) -> Value:
        """The value of an expression; each node is computed once."""
        order = self.orders.get(root)
        if order is None:
            order = self.orders[root] = list(walk(root))
        values: dict[Expression, Value] = {}
        try:
            for node in order:
                values[node] = self.node(node, values)
        except AssertionError as error:
            raise _located(error, statement) from None
        return values[root]

    def node(self, node: Expression, values: dict[Expression, Value]) -> Value:
        op = node.op
        if node.args:
            operands = [values[a] for a in node.args]
            if op == "across":
                return scalars.combine(node.detail, node.dtype, operands[0])
            return scalars.apply(op, node.dtype, node.args[-1].dtype, operands, self.fused)
        if op == "constant":
            return scalars.constant(node.detail, node.dtype)
        if op == "index":
            return self.index(node.detail)
        if op == "number":
            dtype = self.kernel.numbers[node.detail]
            given = scalars.constant(self.numbers[node.detail], dtype)
            return scalars.cast(given, dtype, node.dtype)
        return self.load(node, values)

    def load(self, node: Expression, values: dict[Expression, Value]) -> Value:
        """An element; all lanes (a list) of a register with lanes outside of a vector loop."""
        buffer, coordinates = node.detail
        memory = self.memory[buffer]
        where = [values[c] if type(c) is Expression else self.index(c) for c in coordinates]
        place = memory.place(where)
        lanes = buffer.lanes
        if lanes > 1 and self.lane is None:
            stored = memory.content[place * lanes : (place + 1) * lanes]
        else:
            lane = 0 if lanes == 1 else self.lane
            stored = [memory.content[place * lanes + lane]]
        written = all(bits is not UNDEFINED for bits in stored)
        assert written, f"{buffer.name}{where} is read before it is written"
        read = [scalars.from_bits(int(bits), buffer.dtype) for bits in stored]
        return read if len(read) > 1 else read[0]


_RULES: dict[type, Callable[[_Interpreter, Any], None]] = {
    Loop: _Interpreter.loop,
    Store: _Interpreter.store,
    If: _Interpreter.condition,
    Check: _Interpreter.check,
    Transpose: _Interpreter.transpose,
    Prefetch: _Interpreter.prefetch,
    Allocate: _Interpreter.allocate,
}


def _located(error: AssertionError, statement: Statement) -> AssertionError:
    return AssertionError(f"{error}; in\n{statement_text(statement)}")
