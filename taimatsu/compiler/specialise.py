"""Kernels with numbers in place of their symbols: the same loops, known extents.

Nothing is scheduled again: loops, statements and the order of sums stay, so bits do. What is gained
is what code generation makes of numbers: no remainders where vectors fit, no tests of extents,
strides and quotients that are constants. Such a kernel takes the words that the generic one is
launched with, and can stand in for it at any launch with these extents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taimatsu.ir import expression as ex
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index, Var, index, is_at_most
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

# What a comparison of indices says: whether left - right is at most so much, or the opposite.
_CERTAIN = {
    "lt": (-1, 0),
    "le": (0, -1),
}
_MIRRORED = {"gt": "lt", "ge": "le"}


def specialised(kernel: Kernel, values: Sequence[int]) -> Kernel:
    """The kernel for these values of its symbols."""
    return _Specialiser(kernel, values).kernel()


class _Specialiser:
    """The parts made so far."""

    def __init__(self, kernel: Kernel, values: Sequence[int]) -> None:
        self.given = kernel
        self.values: dict[Any, Index | int] = dict(zip(kernel.symbols, values, strict=True))
        self.variables: dict[Var, Var] = {}
        self.buffers: dict[Buffer, Buffer] = {}
        self.expressions: dict[Expression, Expression] = {}

    def kernel(self) -> Kernel:
        given = self.given
        return Kernel(
            given.name,
            [self._buffer(b) for b in given.arguments],
            given.symbols,
            given.numbers,
            self._body(given.body),
        )

    def _index(self, value: Index) -> Index:
        return value.substitute(self.values)

    def _buffer(self, buffer: Buffer) -> Buffer:
        made = self.buffers.get(buffer)
        if made is None:
            made = self.buffers[buffer] = Buffer(
                buffer.name,
                buffer.dtype,
                map(self._index, buffer.shape),
                buffer.scope,
                map(self._index, buffer.strides),
                self._index(buffer.origin),
                buffer.aligned,
                buffer.lanes,
                self._index(buffer.size),
            )
        return made

    # -- statements ------------------------------------------------------------------------

    def _body(self, body: Sequence[Statement]) -> list[Statement]:
        made: list[Statement] = []
        for statement in body:
            made += self._statement(statement)
        return made

    def _statement(self, statement: Any) -> list[Statement]:
        kind = type(statement)
        if kind is Store:
            where = [self._coordinate(c) for c in statement.coordinates]
            value = self._expression(statement.value)
            return [Store(self._buffer(statement.buffer), where, value)]
        if kind is Loop:
            return [self._loop(statement)]
        if kind is Allocate:
            return [Allocate(self._buffer(statement.buffer), self._body(statement.body))]
        if kind is Transpose:
            return [Transpose(self._buffer(statement.buffer))]
        if kind is Prefetch:
            where = [self._index(c) for c in statement.coordinates]
            return [Prefetch(self._buffer(statement.buffer), where, statement.is_written)]
        condition = self._expression(statement.condition)
        if kind is Check:
            return [Check(condition, statement.code)]
        if condition.op != "constant":
            return [If(condition, self._body(statement.body))]
        return self._body(statement.body) if condition.detail else []

    def _loop(self, loop: Loop) -> Loop:
        var = self.variables.get(loop.var)
        if var is None:  # loops that follow one another may share theirs, and what is made of it
            var = self.variables[loop.var] = Var(loop.var.name, self._index(loop.extent))
            self.values[loop.var] = index(var)
        return Loop(var, loop.kind, self._body(loop.body), loop.width, loop.unroll)

    # -- expressions -----------------------------------------------------------------------

    def _coordinate(self, coordinate: Any) -> Any:
        if type(coordinate) is Expression:
            return self._expression(coordinate)
        return self._index(coordinate)

    def _expression(self, root: Expression) -> Expression:
        return ex.rewrite(root, self._changed, self.expressions)

    def _changed(self, node: Expression) -> Expression | None:
        op = node.op
        if op == "index":
            return ex.index_value(self._index(node.detail))
        if op == "load":
            source, where = node.detail
            moved = [c if type(c) is Expression else self._index(c) for c in where]
            return Expression("load", (), node.dtype, (self._buffer(source), tuple(moved)))
        if op in ex.COMPARISONS:
            return _decided(node)
        if op in ("and", "or") and node.dtype == "bool":
            return _without_constants(node)
        return None


def _decided(node: Expression) -> Expression | None:
    """A comparison of indices that always comes out the same."""
    left, right = node.args
    if left.op != "index" or right.op != "index":
        return None
    op = node.op
    if op in _MIRRORED:
        op, left, right = _MIRRORED[op], right, left
    if op not in _CERTAIN:
        return None
    holds, fails = _CERTAIN[op]
    difference = left.detail - right.detail
    if is_at_most(difference, holds):
        return ex.constant(True, "bool")
    if is_at_most(-difference, fails):
        return ex.constant(False, "bool")
    return None


def _without_constants(node: Expression) -> Expression | None:
    """``and`` and ``or`` of what is known already."""
    decides = node.op == "or"
    for one, other in (node.args, node.args[::-1]):
        if one.op == "constant":
            return one if bool(one.detail) is decides else other
    return None
