"""Where values may differ from zero: ranges of variables, found from conditions and coordinates.

A ``Ranges`` maps variables of constant extent to (first, end): for a variable outside of its range
the value is certain to be zero (or the condition not to hold). Variables that are not in it are
free. ``NOWHERE`` (None) says that it is zero everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from taimatsu.ir.expression import FLOATS, Expression
from taimatsu.ir.index import Index, Minimum, Quotient, Var, bounds, index, is_at_most

Range = tuple[int, int]
Ranges = dict[Var, Range]
NOWHERE = None
Support = Callable[[object], "tuple[Range | None, ...] | None"]  # by dimension, of what is loaded

# Functions that are zero at zero.
_KEEPING = frozenset(
    [
        *["cast", "neg", "abs", "sqrt", "trunc", "floor", "ceil", "round_half_even"],
        *["sin", "tan", "tanh", "asin", "asinh", "atan", "atanh", "erf", "expm1", "log1p"],
    ]
)
_SWAPPED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le", "eq": "eq", "ne": "ne"}
_OPPOSITE = {"lt": "ge", "le": "gt", "gt": "le", "ge": "lt", "eq": "ne", "ne": "eq"}
# A comparison fails where sign * (right - left) is at most so much.
_FAILS = {"lt": (1, 0), "le": (1, -1), "gt": (-1, 0), "ge": (-1, -1)}


# -- ranges ------------------------------------------------------------------------------------


def both(a: Ranges | None, b: Ranges | None) -> Ranges | None:
    """Where both may be."""
    if a is None or b is None:
        return NOWHERE
    made = dict(a)
    for var, (first, end) in b.items():
        if var in made:
            first, end = max(first, made[var][0]), min(end, made[var][1])
        if first >= end:
            return NOWHERE
        made[var] = first, end
    return made


def either(a: Ranges | None, b: Ranges | None) -> Ranges | None:
    """Where one of them may be."""
    if a is None or b is None:
        return b if a is None else a
    return {var: (min(a[var][0], b[var][0]), max(a[var][1], b[var][1])) for var in a if var in b}


def where_positive(value: Index) -> Ranges | None:
    """Where ``value >= 0`` may hold."""
    low, high = bounds(value)
    if high is not None and high < 0:
        return NOWHERE
    if low is not None and low >= 0:
        return {}
    found: Ranges | None = {}
    for atom, factor in value.terms:
        _, rest = bounds(value - index(atom) * factor)
        if rest is None:
            continue
        # factor * atom >= -rest
        if factor > 0:
            found = both(found, _at_least(atom, -(rest // factor)))
        else:
            found = both(found, _at_most(atom, rest // -factor))
    return found


def _at_least(atom: object, least: int) -> Ranges | None:
    """Where an atom may be ``least`` or more."""
    if type(atom) is Var and atom.extent.is_constant:
        return _cut(atom, least, atom.extent.constant)
    if type(atom) is Quotient and atom.right.is_constant and atom.right.constant > 0:
        return where_positive(atom.left - least * atom.right.constant)
    if type(atom) is Minimum:
        return both(where_positive(atom.left - least), where_positive(atom.right - least))
    return {}


def _at_most(atom: object, most: int) -> Ranges | None:
    """Where an atom may be ``most`` or less."""
    if type(atom) is Var and atom.extent.is_constant:
        return _cut(atom, 0, most + 1)
    if type(atom) is Quotient and atom.right.is_constant and atom.right.constant > 0:
        return where_positive((most + 1) * atom.right.constant - 1 - atom.left)
    if type(atom) is Minimum:
        return either(where_positive(most - atom.left), where_positive(most - atom.right))
    return {}


def _cut(var: Var, first: int, end: int) -> Ranges | None:
    first, end = max(first, 0), min(end, var.extent.constant)
    if first >= end:
        return NOWHERE
    return {} if end - first == var.extent.constant else {var: (first, end)}


def inside(coordinates: tuple, box: tuple[Range | None, ...]) -> Ranges | None:
    """Where coordinates may be inside of a box; those that are computed may be anywhere."""
    found: Ranges | None = {}
    for at, span in zip(coordinates, box, strict=True):
        if span is not None and type(at) is Index:
            found = both(found, where_positive(at - span[0]))
            found = both(found, where_positive(span[1] - 1 - at))
    return found


# -- conditions --------------------------------------------------------------------------------


def where_holds(condition: Expression, wanted: bool = True) -> Ranges | None:
    """Where a condition may be ``wanted``."""
    op = condition.op
    if op == "constant":
        return {} if condition.detail == wanted else NOWHERE
    if op == "not":
        return where_holds(condition.args[0], not wanted)
    if op in ("and", "or") and condition.dtype == "bool":
        parts = [where_holds(a, wanted) for a in condition.args]
        return (both if (op == "and") == wanted else either)(*parts)
    if op in _OPPOSITE:
        left, right = (as_index(a) for a in condition.args)
        if left is not None and right is not None:
            return _where_compared(op if wanted else _OPPOSITE[op], left, right)
    return {}


def as_index(value: Expression) -> Index | None:
    """What a value is as an index; None where it is none."""
    if value.op == "index":
        found: Index = value.detail
        return found
    if value.op == "constant" and value.dtype not in FLOATS and value.dtype != "bool":
        return index(value.detail)
    return None


def _where_compared(op: str, left: Index, right: Index) -> Ranges | None:
    if op in ("lt", "le"):
        op, left, right = _SWAPPED[op], right, left
    if op == "ge":
        return where_positive(left - right)
    if op == "gt":
        return where_positive(left - right - 1)
    if op == "eq":
        return both(where_positive(left - right), where_positive(right - left))
    return {}


def decided(condition: Expression) -> bool | None:
    """What a comparison of indices is everywhere; None where it is not certain."""
    if condition.op not in _OPPOSITE:
        return None
    if where_holds(condition) is NOWHERE or _never(condition.op, *condition.args):
        return False
    opposite = _OPPOSITE[condition.op]
    if where_holds(condition, False) is NOWHERE or _never(opposite, *condition.args):
        return True
    return None


def _never(op: str, x: Expression, y: Expression) -> bool:
    """Whether a comparison fails whatever extents are."""
    left, right = as_index(x), as_index(y)
    if left is None or right is None or op not in _FAILS:
        return False
    sign, least = _FAILS[op]
    return is_at_most((right - left) * sign, least)


# -- values ------------------------------------------------------------------------------------


def where_nonzero(root: Expression, support: Support, of_sum: bool = False) -> Ranges | None:
    """Where a value may differ from zero.

    Args:
        root: the value.
        support: for what is loaded: by dimension where it may differ from zero, or None.
        of_sum: whether it is a term of a sum of products: then a product is zero where one of its
            factors is. Else that is certain only where the other one is no infinity and no nan.
    """
    done: dict[Expression, Ranges | None] = {}
    visit = partial(_visited, support=support, of_sum=of_sum, done=done)
    waiting = [root]
    while waiting:
        node = waiting[-1]
        missing = [a for a in _parts(node) if a not in done]
        if missing:
            waiting.extend(missing)
            continue
        waiting.pop()
        if node not in done:
            done[node] = visit(node)
    return done[root]


def _parts(node: Expression) -> tuple[Expression, ...]:
    """The arguments that decide where a node is zero."""
    if node.op == "select":
        return node.args[1:]
    if node.op in _KEEPING or node.op in ("add", "sub", "min", "max", "mul", "or", "xor", "and"):
        return node.args
    return ()


def _visited(
    node: Expression, support: Support, of_sum: bool, done: dict[Expression, Ranges | None]
) -> Ranges | None:
    op = node.op
    if op == "constant":
        return {} if node.detail else NOWHERE
    if op == "load":
        source, where = node.detail
        box = support(source)
        return {} if box is None else inside(where, box)
    if op == "select":
        condition = node.args[0]
        return either(
            both(where_holds(condition), done[node.args[1]]),
            both(where_holds(condition, False), done[node.args[2]]),
        )
    if op in _KEEPING:
        return done[node.args[0]]
    if op in ("add", "sub", "min", "max", "or", "xor"):
        return either(done[node.args[0]], done[node.args[1]])
    if op in ("mul", "and"):
        a, b = node.args
        if of_sum or node.dtype not in FLOATS:
            return both(done[a], done[b])
        found: Ranges | None = {}
        for one, other in ((a, b), (b, a)):
            if is_finite(other):
                found = both(found, done[one])
        return found
    return {}


def is_finite(value: Expression) -> bool:
    """Whether a value is certain to be no infinity and no nan."""
    while value.op in ("cast", "neg", "abs"):
        value = value.args[0]
    if value.dtype not in FLOATS:
        return True
    return value.op == "constant" and abs(value.detail) < float("inf")
