"""Loop trees as values: finding loops, rebuilding statements with something replaced.

Trees are never changed: whatever is replaced, what lies around it is made anew and the rest shared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from taimatsu.ir.expression import Expression, index_value, rewrite, walk
from taimatsu.ir.index import Index, Var
from taimatsu.ir.loops import (
    Allocate,
    Buffer,
    Check,
    If,
    Loop,
    Prefetch,
    Statement,
    Store,
    Transpose,
    statements,
)

Body = tuple[Statement, ...]
Coordinates = tuple[Any, ...]
# Gives the buffer and the coordinates that stand in place of an access.
Access = Callable[[Buffer, Coordinates], tuple[Buffer, Coordinates]]
Change = Callable[[Expression], Expression | None]


def with_body(statement: Any, body: Iterable[Statement]) -> Any:
    """A loop, If or Allocate around other statements."""
    kind = type(statement)
    if kind is Loop:
        return Loop(statement.var, statement.kind, body, statement.width, statement.unroll)
    if kind is If:
        return If(statement.condition, body)
    return Allocate(statement.buffer, body)


def with_kind(loop: Loop, kind: str, width: int = 1, unroll: int = 1) -> Loop:
    """The same loop, carried out otherwise."""
    return Loop(loop.var, kind, loop.body, width, unroll)


def loops_of(body: Iterable[Statement]) -> list[Loop]:
    """All loops, outer before inner."""
    return [s for s in statements(body) if type(s) is Loop]


def find_loop(body: Iterable[Statement], var: Var) -> Loop:
    """The loop of a variable. ValueError where there is none."""
    loops = loops_of(body)
    for loop in loops:
        if loop.var is var:
            return loop
    there = ", ".join([loop.var.name for loop in loops]) or "none"
    raise ValueError(f"[schedule] there is no loop of {var}; there are: {there}")


def replaced(body: Body, old: Statement, change: Callable[[Any], Iterable[Statement]]) -> Body:
    """The statements with one of them replaced by those that ``change`` makes of it."""
    made: list[Statement] = []
    for statement in body:
        if statement is old:
            made.extend(change(old))
            continue
        inner: Body = getattr(statement, "body", ())
        again = replaced(inner, old, change)
        same = all(a is b for a, b in zip(inner, again, strict=False))
        unchanged = len(inner) == len(again) and same
        made.append(statement if unchanged else with_body(statement, again))
    return tuple(made)


def roots_of(statement: Statement) -> list[Expression]:
    """The expressions that a statement is made with, coordinates of a store first."""
    if isinstance(statement, Store):
        return [c for c in statement.coordinates if type(c) is Expression] + [statement.value]
    return [statement.condition] if isinstance(statement, (If, Check)) else []


def accesses(body: Iterable[Statement]) -> Iterator[tuple[Buffer, Coordinates, bool]]:
    """Buffer, coordinates and whether it is written, for each access; loads before their store."""
    for statement in statements(body):
        seen: set[Expression] = set()
        for root in roots_of(statement):
            for node in walk(root, seen):
                if node.op == "load":
                    yield (*node.detail, False)
        if isinstance(statement, Store):
            yield statement.buffer, statement.coordinates, True


def substituted(
    body: Iterable[Statement],
    values: dict[Any, Index | int] | None = None,
    access: Access | None = None,
    change: Change | None = None,
) -> Body:
    """Statements with variables replaced by indices, and with accesses replaced.

    ``access`` sees coordinates in which the variables are replaced already, ``change`` expressions,
    from the leaves up, in which all is (None: as it is). Loops whose extents change get new
    variables.
    """
    return _Substitution(values or {}, access, change).body(body)


class _Substitution:
    """One rebuilding of statements; see ``substituted``."""

    def __init__(
        self, values: dict[Any, Index | int], access: Access | None, change: Change | None
    ) -> None:
        self.values = values
        self.access = access
        self.change = change

    def body(self, body: Iterable[Statement]) -> Body:
        return tuple([self.statement(s) for s in body])

    def statement(self, statement: Any) -> Statement:
        kind = type(statement)
        done: dict[Expression, Expression] = {}
        if kind is Store:
            moved = tuple([self.coordinate(c, done) for c in statement.coordinates])
            buffer, where = self.accessed(statement.buffer, moved)
            return Store(buffer, where, self.expression(statement.value, done))
        if kind is Check:
            return Check(self.expression(statement.condition, done), statement.code)
        if kind is If:
            return If(self.expression(statement.condition, done), self.body(statement.body))
        if kind is Allocate:
            return Allocate(statement.buffer, self.body(statement.body))
        if kind is Transpose:
            return statement
        if kind is Prefetch:
            moved = tuple([c.substitute(self.values) for c in statement.coordinates])
            return Prefetch(*self.accessed(statement.buffer, moved), statement.is_written)
        return self.loop(statement)

    def loop(self, loop: Loop) -> Loop:
        extent = loop.extent.substitute(self.values)
        var = loop.var
        if extent == loop.extent:
            return Loop(var, loop.kind, self.body(loop.body), loop.width, loop.unroll)
        made = Var(var.name, extent)
        values = {**self.values, var: Index(((made, 1),), 0)}
        inner = _Substitution(values, self.access, self.change)
        return Loop(made, loop.kind, inner.body(loop.body), loop.width, loop.unroll)

    def coordinate(self, given: Any, done: dict[Expression, Expression]) -> Any:
        if type(given) is Expression:
            return self.expression(given, done)
        return given.substitute(self.values)

    def accessed(self, buffer: Buffer, where: Coordinates) -> tuple[Buffer, Coordinates]:
        return (buffer, where) if self.access is None else self.access(buffer, where)

    def expression(self, root: Expression, done: dict[Expression, Expression]) -> Expression:
        def change(node: Expression) -> Expression | None:
            if node.op == "index":
                return index_value(node.detail.substitute(self.values))
            if node.op == "load":
                buffer, where = node.detail
                moved = [c if type(c) is Expression else c.substitute(self.values) for c in where]
                detail = self.accessed(buffer, tuple(moved))
                return Expression("load", (), node.dtype, detail)
            return None if self.change is None else self.change(node)

        return rewrite(root, change, done)
