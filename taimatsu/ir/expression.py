"""Scalar expressions: what one element of a result is computed from.

An expression is a tree with sharing: a node has an operation of ``OPERATIONS``, arguments, a dtype
(its name: ``"float32"``) and a detail. Every operation rounds to its dtype; nothing is reassociated
or contracted, except that ``fma`` may be done with one rounding or with two, as the target has it.

Details by operation: ``constant`` the number; ``number`` the place among the launch's numbers;
``index`` an ``Index`` (an int64 value); ``load`` the pair (source, coordinates), where coordinates
are ``Index`` or, computed, expressions of dtype int64; ``across`` the combining operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from taimatsu.ir.index import Index, Var, index

# Operation -> number of arguments.
OPERATIONS: dict[str, int] = {
    "constant": 0,
    "number": 0,
    "index": 0,
    "load": 0,
    "cast": 1,  # value conversion: to integers truncates, to bool compares with 0
    "bitcast": 1,  # the same bits in a dtype of the same size
    "add": 2,
    "sub": 2,
    "mul": 2,
    "div": 2,  # of floats
    "floordiv": 2,  # of integers, rounded towards minus infinity; 0 where the divisor is 0
    "modulo": 2,  # of integers, with the divisor's sign; 0 where the divisor is 0
    "truncdiv": 2,  # of integers, rounded towards zero; 0 where the divisor is 0
    "neg": 1,
    "abs": 1,
    "min": 2,  # nan where either is nan
    "max": 2,
    "fma": 3,  # a * b + c
    "fused": 3,  # of float32: a * b + c rounded once on every target
    "eq": 2,
    "ne": 2,  # true for nan
    "lt": 2,
    "le": 2,
    "gt": 2,
    "ge": 2,
    "and": 2,  # of bool and integers, bit by bit; so or, xor, not
    "or": 2,
    "xor": 2,
    "not": 1,
    "shl": 2,  # 0 where the shift is not below the width
    "shr": 2,  # keeps the sign of signed integers
    "mulhi": 2,  # upper half of the product of unsigned integers
    "gcd": 2,  # of integers, by remainders; may be negative where one is the least integer
    "select": 3,  # condition, where true, where false
    "copysign": 2,
    "pow": 2,
    "across": 1,  # combines the lanes of a vector loop's register, in a fixed tree
}
# Functions of floats, by the names of compiler/codegen/vector_math; accurate to 2 ulp.
UNARY_FUNCTIONS = [
    *["acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "erf"],
    *["erfc", "exp", "exp2", "expm1", "floor", "log", "log10", "log1p", "log2"],
    *["reciprocal", "round_half_even", "rsqrt", "sigmoid", "sin", "sinh", "sqrt", "tan"],
    *["tanh", "trunc"],
]
BINARY_FUNCTIONS = ("atan2", "fmod", "hypot", "remainder")
OPERATIONS.update(dict.fromkeys(UNARY_FUNCTIONS, 1))
OPERATIONS.update(dict.fromkeys(BINARY_FUNCTIONS, 2))
COMPARISONS = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})

FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})
SIGNED = frozenset({"int8", "int16", "int32", "int64"})
UNSIGNED = frozenset({"uint8", "uint16", "uint32", "uint64"})
SIZES: dict[str, int] = {
    "bool": 1,
    "uint8": 1,
    "int8": 1,
    "uint16": 2,
    "int16": 2,
    "float16": 2,
    "bfloat16": 2,
    "uint32": 4,
    "int32": 4,
    "float32": 4,
    "uint64": 8,
    "int64": 8,
    "float64": 8,
}  # bytes of an element in memory


class Expression:
    """One node; see the module's text. Python's operators make further ones of the same dtype."""

    __slots__ = ("args", "detail", "dtype", "op")

    def __init__(
        self, op: str, args: tuple[Expression, ...], dtype: str, detail: Any = None
    ) -> None:
        self.op = op
        self.args = args
        self.dtype = dtype
        self.detail = detail

    def __repr__(self) -> str:
        from taimatsu.ir.printer import expression_text

        return expression_text(self)

    def __add__(self, other: Any) -> Expression:
        return binary("add", self, other)

    def __radd__(self, other: Any) -> Expression:
        return binary("add", constant(other, self.dtype), self)

    def __sub__(self, other: Any) -> Expression:
        return binary("sub", self, other)

    def __rsub__(self, other: Any) -> Expression:
        return binary("sub", constant(other, self.dtype), self)

    def __mul__(self, other: Any) -> Expression:
        return binary("mul", self, other)

    def __rmul__(self, other: Any) -> Expression:
        return binary("mul", constant(other, self.dtype), self)

    def __truediv__(self, other: Any) -> Expression:
        return binary("div", self, other)

    def __rtruediv__(self, other: Any) -> Expression:
        return binary("div", constant(other, self.dtype), self)

    def __neg__(self) -> Expression:
        return Expression("neg", (self,), self.dtype)

    def __and__(self, other: Any) -> Expression:
        return binary("and", self, other)

    def __or__(self, other: Any) -> Expression:
        return binary("or", self, other)

    def __xor__(self, other: Any) -> Expression:
        return binary("xor", self, other)

    def __invert__(self) -> Expression:
        return Expression("not", (self,), self.dtype)

    def __lt__(self, other: Any) -> Expression:
        return binary("lt", self, other)

    def __le__(self, other: Any) -> Expression:
        return binary("le", self, other)

    def __gt__(self, other: Any) -> Expression:
        return binary("gt", self, other)

    def __ge__(self, other: Any) -> Expression:
        return binary("ge", self, other)

    # == stays identity: expressions are keys of dictionaries. Use eq() and ne().

    def eq(self, other: Any) -> Expression:
        return binary("eq", self, other)

    def ne(self, other: Any) -> Expression:
        return binary("ne", self, other)


def constant(value: Any, dtype: str) -> Expression:
    """A number known now."""
    if dtype in FLOATS:
        value = float(value)
    elif dtype == "bool":
        value = bool(value)
    else:
        value = int(value)
    return Expression("constant", (), dtype, value)


def number(place: int, dtype: str) -> Expression:
    """A number given at launch: the program's ``place``-th, float64 or int64, cast to ``dtype``."""
    return Expression("number", (), dtype, place)


def index_value(value: Any) -> Expression:
    """An index (a position along an axis) as an int64 value."""
    return Expression("index", (), "int64", index(value))


def load(source: Any, coordinates: Iterable[Any], dtype: str | None = None) -> Expression:
    """An element of a buffer (or stage): one coordinate for each of its dimensions."""
    where = tuple([c if type(c) is Expression else index(c) for c in coordinates])
    return Expression("load", (), dtype or source.dtype, (source, where))


def cast(value: Expression, dtype: str) -> Expression:
    """The value in another dtype; itself where it has it."""
    if value.dtype == dtype:
        return value
    if value.op == "constant":
        return _constant_cast(value, dtype)
    return Expression("cast", (value,), dtype)


def _constant_cast(value: Expression, dtype: str) -> Expression:
    plain = value.detail
    finite = not isinstance(plain, float) or abs(plain) < float("inf")
    if dtype in FLOATS or dtype == "bool" or (finite and dtype in ("int32", "int64")):
        return constant(plain if dtype != "bool" else plain != 0, dtype)
    return Expression("cast", (value,), dtype)


def unary(op: str, x: Expression) -> Expression:
    return Expression(op, (x,), x.dtype)


def binary(op: str, x: Expression, y: Any) -> Expression:
    """An operation on two values of one dtype; a Python number takes the other's."""
    if type(y) is not Expression:
        y = constant(y, x.dtype)
    if x.dtype != y.dtype:
        raise TypeError(f"{op} of {x.dtype} and {y.dtype}: cast first")
    return Expression(op, (x, y), "bool" if op in COMPARISONS else x.dtype)


def select(condition: Expression, x: Any, y: Any) -> Expression:
    """``x`` where the condition holds, else ``y``; one of them may be a Python number."""
    if type(x) is not Expression:
        x = constant(x, y.dtype)
    if type(y) is not Expression:
        y = constant(y, x.dtype)
    if condition.dtype != "bool" or x.dtype != y.dtype:
        raise TypeError(f"select by {condition.dtype} of {x.dtype} and {y.dtype}")
    return Expression("select", (condition, x, y), x.dtype)


def fma(a: Expression, b: Expression, c: Expression) -> Expression:
    """``a * b + c``, rounded once where the target can."""
    return Expression("fma", (a, b, c), c.dtype)


def fused(a: Expression, b: Expression, c: Expression) -> Expression:
    """``a * b + c`` of float32, rounded once everywhere: slow where the target has no ``fma``."""
    return Expression("fused", (a, b, c), c.dtype)


def across(op: str, x: Expression) -> Expression:
    """The lanes of a register with lanes combined: one number."""
    return Expression("across", (x,), x.dtype, op)


Rewrite = Callable[[Expression], "Expression | None"]


def rewrite(root: Expression, change: Rewrite, done: dict[Expression, Expression]) -> Expression:
    """The tree with nodes replaced from the leaves up, sharing kept.

    ``change`` gives a node's replacement (its arguments are replaced already) or None; ``done``
    remembers what was made for each node.
    """
    waiting = [root]
    while waiting:
        node = waiting[-1]
        if node in done:
            waiting.pop()
            continue
        parts = node.args or _computed_coordinates(node)
        missing = [part for part in parts if part not in done]
        if missing:
            waiting.extend(reversed(missing))
            continue
        waiting.pop()
        made = _with_parts(node, done)
        changed = change(made)
        done[node] = made if changed is None else changed
    return done[root]


def _computed_coordinates(node: Expression) -> tuple[Expression, ...]:
    if node.op != "load":
        return ()
    return tuple([c for c in node.detail[1] if type(c) is Expression])


def _with_parts(node: Expression, done: dict[Expression, Expression]) -> Expression:
    """The node with what was made for its arguments and coordinates; itself if that is the same."""
    if node.args:
        args = tuple([done[a] for a in node.args])
        if all(a is b for a, b in zip(args, node.args, strict=True)):
            return node
        return Expression(node.op, args, node.dtype, node.detail)
    if all(done[c] is c for c in _computed_coordinates(node)):
        return node
    source, where = node.detail
    moved = tuple([done[c] if type(c) is Expression else c for c in where])
    return Expression("load", (), node.dtype, (source, moved))


def substitute(
    root: Expression, values: dict[Any, Index | int], done: dict[Expression, Expression]
) -> Expression:
    """The tree with loop variables and symbols replaced in all its indices."""

    def change(node: Expression) -> Expression | None:
        if node.op == "index":
            return index_value(node.detail.substitute(values))
        if node.op == "load":
            source, where = node.detail
            moved = tuple([c if type(c) is Expression else c.substitute(values) for c in where])
            return Expression("load", (), node.dtype, (source, moved))
        return None

    return rewrite(root, change, done)


def walk(root: Expression, seen: set[Expression] | None = None) -> Iterable[Expression]:
    """Every node once, arguments before what uses them. Chains may be of any length."""
    seen = set() if seen is None else seen
    waiting = [(root, False)]
    while waiting:
        node, ready = waiting.pop()
        if ready:
            yield node
        elif node not in seen:
            seen.add(node)
            waiting.append((node, True))
            if node.op == "load":
                computed = [c for c in node.detail[1] if type(c) is Expression]
                waiting.extend([(c, False) for c in reversed(computed)])
            waiting.extend([(a, False) for a in reversed(node.args)])


def variables(root: Expression) -> set[Var]:
    """The loop variables that a value is computed from, those of its coordinates included."""
    found: set[Var] = set()
    for node in walk(root):
        if node.op == "index":
            found |= node.detail.variables()
        elif node.op == "load":
            for coordinate in node.detail[1]:
                if type(coordinate) is Index:
                    found |= coordinate.variables()
    return found
