"""Vector loops in parts, for each thing that an element may be made of.

``cat``, ``pad``, ``roll`` and the gradients of slices choose for each element what it is made of,
and clamp the places of what it is not, so that they may be read. In one loop a vector would come to
all of the choices, and clamped places are read element by element. In parts that begin and end
where the choices change, one is left, and its places follow one another. What is chosen by outer
loops is chosen around the loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from taimatsu.compiler.demand import folded
from taimatsu.compiler.schedule.trees import Body, accesses, roots_of, substituted, with_body
from taimatsu.compiler.zeros import as_index
from taimatsu.ir.expression import COMPARISONS, Expression, constant, walk
from taimatsu.ir.index import Index, Minimum, Remainder, Var, index, is_at_most, nested
from taimatsu.ir.loops import Allocate, If, Loop, Statement, statements

MOST = 8  # loops in the place of one, and cuts one after another


def in_parts(body: Iterable[Statement]) -> Body:
    """Statements, their vector loops in parts where that spares reads or makes them follow."""
    made: list[Statement] = []
    for statement in body:
        if type(statement) is Loop and statement.kind == "vector":
            made += _parts(statement)
            continue
        inner: Body = getattr(statement, "body", ())
        again = in_parts(inner)
        same = len(inner) == len(again) and all(a is b for a, b in zip(inner, again, strict=True))
        made.append(statement if same else with_body(statement, again))
    return tuple(made)


def _parts(loop: Loop) -> list[Statement]:
    """The loop, or what is carried out in its place."""
    folds = _may_be_cut(loop) and any(_has_folds(at, loop.var) for at in _places(loop.body))
    if not folds and _choice(loop) is None:
        return [loop]
    if sum(1 for node in _nodes(loop.body) if node.op == "select") > MOST:
        return [loop]  # there would be more parts than that
    made = _divided(loop)
    many = sum(1 for s in statements(made) if type(s) is Loop and s.kind == "vector") > MOST
    return [loop] if many else made


def _may_be_cut(loop: Loop) -> bool:
    """Whether it does not matter which lane an iteration is in: registers from outside, in which
    rows have a lane each, are not touched.
    """
    own = {s.buffer for s in statements(loop.body) if type(s) is Allocate}
    touched = {buffer for buffer, _, _ in accesses(loop.body)}
    return all(b.scope != "register" or b.lanes == 1 for b in touched - own)


def _divided(loop: Loop, depth: int = 0) -> list[Statement]:
    if depth > MOST:
        return [loop]
    point = _turn(loop) if _may_be_cut(loop) else None
    if point is not None:
        parts = (_part(loop, index(0), point), _part(loop, point, loop.extent - point))
        return [s for part in parts for s in _divided(part, depth + 1)]
    choice = _choice(loop)
    if choice is None:
        return [loop]
    chosen, other = (_divided(_where(loop, choice, truth), depth + 1) for truth in (True, False))
    return [If(choice, chosen), If(~choice, other)]


def _part(loop: Loop, begin: Index, length: Index) -> Loop:
    """A loop's iterations from ``begin`` on, with what is certain there decided."""
    var = Var(loop.var.name, length)
    body = substituted(loop.body, {loop.var: begin + var}, change=folded)
    return Loop(var, "vector", body, loop.width, loop.unroll)


def _where(loop: Loop, condition: Expression, truth: bool) -> Loop:
    """The loop where a condition has a value."""
    key = _key(condition)

    def change(node: Expression) -> Expression | None:
        if node.op == condition.op and _key(node) == key:
            return constant(truth, "bool")
        return folded(node)

    body = substituted(loop.body, change=change)
    return Loop(loop.var, "vector", body, loop.width, loop.unroll)


def _turn(loop: Loop) -> Index | None:
    """The first iteration, of one where a choice changes, that is certain to be between others."""
    for difference in (*_compared(loop.body), *_folds(loop.body)):
        # The least v for which the difference is not negative, or no longer is.
        point = _change_of_sign(difference, loop.var)
        if point is None:
            continue
        if is_at_most(index(1) - point, 0) and is_at_most(point + 1 - loop.extent, 0):
            return point
    return None


def _change_of_sign(difference: Index, var: Var) -> Index | None:
    """The iteration that begins the values of a loop for which ``difference >= 0`` is another
    truth than before; None where it has not one step for each iteration, or moves with others.
    """
    step = difference.coefficient(var)
    rest = difference - index(var) * step
    if abs(step) != 1 or rest.variables():
        return None
    return -rest if step == 1 else rest + 1


# -- what is chosen by -------------------------------------------------------------------------


def _choice(loop: Loop) -> Expression | None:
    """A condition that is the same in all iterations, and decides what is read: the outermost."""
    for node in reversed(list(_nodes(loop.body))):
        if node.op == "select" and _is_same(node.args[0], loop.var):
            if any(n.op == "load" for branch in node.args[1:] for n in walk(branch)):
                return node.args[0]
    return None


def _key(condition: Expression) -> tuple | None:
    """What a condition made of comparisons of indices says; None where it is made of others."""
    if condition.op in COMPARISONS:
        sides = [as_index(a) for a in condition.args]
        return None if None in sides else (condition.op, *sides)
    if condition.op in ("and", "or", "not") and condition.dtype == "bool":
        parts = [_key(part) for part in condition.args]
        return None if None in parts else (condition.op, *parts)
    return None


def _is_same(condition: Expression, var: Var) -> bool:
    """Whether a condition made of comparisons of indices does not move with a variable."""
    if _key(condition) is None:
        return False
    found = [node.detail for node in walk(condition) if node.op == "index"]
    return all(var not in at.variables() for at in found)


def _compared(body: Body) -> Iterator[Index]:
    """What comparisons of indices ask to be zero or more."""
    for node in _nodes(body):
        if node.op not in COMPARISONS:
            continue
        left, right = (as_index(a) for a in node.args)
        if left is None or right is None:
            continue
        if node.op in ("lt", "ge"):
            yield left - right
        elif node.op in ("gt", "le"):
            yield right - left


def _folds(body: Body) -> Iterator[Index]:
    """The same for the minima and remainders in places."""
    for at in _places(body):
        yield from _within(at)


def _within(at: Index) -> Iterator[Index]:
    for atom in nested(at):
        is_roll = type(atom) is Remainder and is_at_most(atom.left + 1, atom.right * 2)
        if is_roll or type(atom) is Minimum:
            yield atom.left - atom.right


def _has_folds(at: Index, var: Var) -> bool:
    """Whether a coordinate does not follow a variable everywhere."""
    folds = [atom for atom in nested(at) if type(atom) in (Minimum, Remainder)]
    return any(var in index(atom).variables() for atom in folds)


def _nodes(body: Body) -> Iterator[Expression]:
    """All expressions of statements."""
    seen: set[Expression] = set()
    for statement in statements(body):
        for root in roots_of(statement):
            yield from walk(root, seen)


def _places(body: Body) -> Iterator[Index]:
    """The coordinates of what is read."""
    for node in _nodes(body):
        if node.op == "load":
            yield from [c for c in node.detail[1] if type(c) is Index]
