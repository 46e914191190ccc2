"""Substitution of maps into what reads them, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taimatsu.ir.expression import (
    BINARY_FUNCTIONS,
    UNARY_FUNCTIONS,
    Expression,
    binary,
    index_value,
    load,
    rewrite,
    walk,
)
from taimatsu.ir.index import Index, Var, index
from taimatsu.ir.stages import Stage

# What an operation costs beside an addition. Others cost 1.
_FREE = frozenset({"constant", "number", "index", "load", "bitcast"})
_SLOW = {"div": 4.0, "floordiv": 8.0, "modulo": 8.0, "truncdiv": 8.0, "cast": 0.5, "sqrt": 4.0}
_CHEAP_FUNCTIONS = frozenset({"floor", "ceil", "trunc", "round_half_even", "reciprocal", "sqrt"})
_SLOW.update(
    {name: 10.0 for name in (*UNARY_FUNCTIONS, *BINARY_FUNCTIONS) if name not in _CHEAP_FUNCTIONS}
)
_SLOW.update({"pow": 20.0, "gcd": 200.0})


class NotInlinedError(Exception):
    """A computed coordinate meets an index that cannot be computed with."""


def cost(value: Expression) -> float:
    """How long one element takes, in additions; loads are free."""
    total = 0.0
    for node in walk(value):
        if node.op not in _FREE:
            total += _SLOW.get(node.op, 1.0)
    return total


def inlined(
    value: Expression, chosen: set[Stage], done: dict[Expression, Expression]
) -> Expression:
    """The expression with loads of chosen maps replaced by what they load.

    The maps' own values must have been treated already. NotInlinedError if one cannot be.
    """

    def change(node: Expression) -> Expression | None:
        if node.op != "load":
            return None
        source, where = node.detail
        if source not in chosen:
            return None
        return at(source, where)

    return rewrite(value, change, done)


def at(stage: Stage, where: Sequence[Any]) -> Expression:
    """The value of a map's element at coordinates."""
    assert stage.value is not None
    values: dict[Any, Any] = dict(zip(stage.axes, where, strict=True))
    if all(type(c) is Index for c in where):
        made = _moved(stage.value, values)
    else:
        made = _moved_computed(stage.value, values)
    return made


def _moved(value: Expression, values: dict[Any, Index]) -> Expression:
    if all(index(var) == where or var.extent == 1 for var, where in values.items()):
        return value

    def change(node: Expression) -> Expression | None:
        if node.op == "index":
            return index_value(node.detail.substitute(values))
        if node.op == "load":
            source, where = node.detail
            moved = [c if type(c) is Expression else c.substitute(values) for c in where]
            return load(source, moved, node.dtype)
        return None

    return rewrite(value, change, {})


def _moved_computed(value: Expression, values: dict[Any, Any]) -> Expression:
    """The same where some coordinates are computed: indices become arithmetic on values."""

    def change(node: Expression) -> Expression | None:
        if node.op == "index":
            return _as_value(_placed(node.detail, values))
        if node.op == "load":
            source, where = node.detail
            moved = [c if type(c) is Expression else _placed(c, values) for c in where]
            return load(source, moved, node.dtype)
        return None

    return rewrite(value, change, {})


def _as_value(coordinate: Any) -> Expression:
    return coordinate if type(coordinate) is Expression else index_value(coordinate)


def _placed(coordinate: Index, values: dict[Any, Any]) -> Any:
    """An index with variables replaced by indices or by computed values."""
    computed = {v: e for v, e in values.items() if type(e) is Expression}
    plain = {v: e for v, e in values.items() if type(e) is not Expression}
    met = coordinate.variables() & set(computed)
    if not met:
        return coordinate.substitute(plain)
    if not all(coordinate.is_affine_in(var) for var in met):
        raise NotInlinedError(str(coordinate))
    rest = coordinate
    parts: list[Expression] = []
    for var in sorted(met, key=lambda v: v.name):
        factor = coordinate.coefficient(var)
        rest = rest - index(var) * factor
        value: Expression = computed[var]
        parts.append(value if factor == 1 else binary("mul", value, factor))
    rest = rest.substitute(plain)
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total if rest == 0 else total + index_value(rest)


def size_hint(extents: Sequence[Index | Var]) -> int:
    """How many elements there were when the program was made."""
    total = 1
    for n in extents:
        total *= n.extent.hint() if isinstance(n, Var) else n.hint()
    return total
