"""The words of schedules: functions from loop trees to loop trees.

A tree is a tuple of statements; a loop is named by its variable. Each word gives a new tree (and
the variables or buffers that it made) and raises ValueError where it would change what is computed:

    body, outer, inner = split(body, i, 8)
    body = reorder(body, outer, k, inner)
    body = vectorize(body, inner, width=8)

What is computed stays the same to the bit: no word but ``rfactor``, whose purpose that is, changes
the order in which the elements of a sum are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taimatsu.compiler.schedule.dependence import check_order
from taimatsu.compiler.schedule.regions import Span, touched
from taimatsu.compiler.schedule.trees import (
    Body,
    Coordinates,
    accesses,
    find_loop,
    loops_of,
    replaced,
    substituted,
    with_body,
    with_kind,
)
from taimatsu.ir.expression import Expression, across, binary, load, walk
from taimatsu.ir.index import Index, Var, ceil_div, index, is_at_most, minimum
from taimatsu.ir.loops import Allocate, Buffer, If, Loop, Statement, Store, statements
from taimatsu.ir.stages import identity

# -- loops -----------------------------------------------------------------------------------


def split(body: Body, var: Var, factor: int) -> tuple[Body, Var, Var]:
    """A loop as two: blocks of ``factor`` iterations (the last may be shorter), and those of one.

    Returns the tree, the outer variable and the inner one.
    """
    loop = find_loop(body, var)
    if loop.kind not in ("serial", "parallel"):
        raise ValueError(f"[split] expected a serial or parallel loop; {var} is {loop.kind}")
    outer = Var(f"{var.name}_o", ceil_div(loop.extent, factor))
    left = loop.extent if outer.extent == 1 else loop.extent - index(outer) * factor
    inner = Var(f"{var.name}_i", minimum(factor, left))
    within = substituted(loop.body, {var: index(outer) * factor + inner})
    made = Loop(outer, loop.kind, [Loop(inner, "serial", within)])
    return replaced(body, loop, lambda _: [made]), outer, inner


def fuse(body: Body, outer: Var, inner: Var) -> tuple[Body, Var]:
    """Two loops, one just inside of the other, as one. Returns the tree and the new variable."""
    first = find_loop(body, outer)
    second = _only_loop_in(first, "fuse")
    if second.var is not inner:
        raise ValueError(f"[fuse] expected {inner} just inside of {outer}; there is {second.var}")
    if second.kind != "serial" or first.kind not in ("serial", "parallel"):
        raise ValueError(f"[fuse] expected serial loops; they are {first.kind}, {second.kind}")
    if outer in second.extent.variables():
        raise ValueError(f"[fuse] the extent {second.extent} of {inner} depends on {outer}")
    var = Var(f"{outer.name}_{inner.name}", first.extent * second.extent)
    place: dict[Any, Index | int] = {
        outer: index(var) // second.extent,
        inner: index(var) % second.extent,
    }
    made = Loop(var, first.kind, substituted(second.body, place))
    return replaced(body, first, lambda _: [made]), var


def reorder(body: Body, *order: Var) -> Body:
    """Loops that stand one just inside of the other, from the outermost on in another order.

    Each element must see what is written to it in the order it was before: loops over which one
    element is updated keep their order among themselves.
    """
    nest = _nest_of(body, order)
    if {loop.var for loop in nest} != set(order):
        there = ", ".join([loop.var.name for loop in nest])
        raise ValueError(f"[reorder] expected all the loops from the outermost on: {there}")
    for loop in nest:
        if loop.extent.variables() & set(order):
            raise ValueError(f"[reorder] the extent {loop.extent} of {loop.var} is not fixed")
    inside = nest[-1].body
    check_order(inside, [loop.var for loop in nest], list(order), "reorder")
    loops = {loop.var: loop for loop in nest}
    for var in reversed(order):
        inside = (with_body(loops[var], inside),)
    return replaced(body, nest[0], lambda _: inside)


def distribute(body: Body, var: Var) -> Body:
    """A loop over several statements as one loop for each of them.

    What a statement writes must be used by later ones in the same iteration only.
    """
    loop = find_loop(body, var)
    check_order(loop.body, [var], [], "distribute")
    parts: list[Statement] = []
    for statement in loop.body:
        own = Var(var.name, loop.extent) if parts else var
        inside = substituted([statement], {var: index(own)}) if parts else (statement,)
        parts.append(Loop(own, loop.kind, inside, loop.width, loop.unroll))
    return replaced(body, loop, lambda _: parts)


def vectorize(body: Body, var: Var, width: int, unroll: int = 1) -> Body:
    """Takes a serial loop's iterations ``width`` at a time, in lanes."""
    loop = _serial(body, var, "vectorize")
    allocated = {s.buffer for s in statements(loop.body) if type(s) is Allocate}
    for buffer, _, is_written in accesses(loop.body):
        outside = buffer.scope == "register" and buffer not in allocated
        if is_written and outside and buffer.lanes != width:
            raise ValueError(
                f"[vectorize] all iterations of {var} write to the register {buffer.name}; "
                f"rfactor it first"
            )
    return replaced(body, loop, lambda _: [with_kind(loop, "vector", width, unroll)])


def unroll(body: Body, var: Var) -> Body:
    """Writes a serial loop out."""
    loop = _serial(body, var, "unroll")
    if loop.extent.symbols():
        raise ValueError(f"[unroll] expected a constant extent; that of {var} is {loop.extent}")
    return replaced(body, loop, lambda _: [with_kind(loop, "unroll")])


def parallel(body: Body, var: Var) -> Body:
    """Makes the iterations of the outermost loop the chunks that threads claim."""
    loop = _serial(body, var, "parallel")
    if body != (loop,):
        raise ValueError(f"[parallel] expected {var} alone at the top")
    return (with_kind(loop, "parallel"),)


def simplify(body: Body) -> Body:
    """Without loops of no or one iteration, conditions that are decided, and empty statements."""
    made: list[Statement] = []
    for statement in body:
        made.extend(_simplified(statement))
    return tuple(made)


def _simplified(statement: Any) -> Body:
    kind = type(statement)
    if kind is Loop and statement.extent.is_constant and statement.extent.value() <= 1:
        if statement.extent.value() <= 0:
            return ()
        if statement.kind != "vector" or not _uses_lanes(statement):
            return simplify(substituted(statement.body, {statement.var: 0}))
    if kind is If and statement.condition.op == "constant":
        return simplify(statement.body) if statement.condition.detail else ()
    inner = getattr(statement, "body", None)
    if inner is None:
        return (statement,)
    again = simplify(inner)
    return (with_body(statement, again),) if again else ()


def _uses_lanes(loop: Loop) -> bool:
    return any(buffer.lanes > 1 for buffer, _, _ in accesses(loop.body))


# -- buffers ---------------------------------------------------------------------------------


def cache_write(
    body: Body, at: Var, buffer: Buffer, scope: str = "register"
) -> tuple[Body, Buffer]:
    """Keeps what an iteration of ``at`` does to a buffer in a small one, and writes it after.

    The part of the buffer that the loops inside of ``at`` touch is allocated there, loaded if it is
    read before it is written, and stored after. In vector loops of one vector a register has lanes.

    Returns the tree and the small buffer. For a register the loops inside must be unrolled or
    vectors, as far as the buffer's coordinates depend on them.
    """
    loop = find_loop(body, at)
    cached = _Cached(loop, buffer, scope)
    inside = [*substituted(loop.body, None, cached.access), cached.copy(False)]
    if not _is_written_first(loop, buffer):
        inside.insert(0, cached.copy(True))
    made = with_body(loop, [Allocate(cached.small, inside)])
    return replaced(body, loop, lambda _: [made]), cached.small


class _Cached:
    """The part of a buffer that an iteration of a loop touches, held in a small buffer."""

    def __init__(self, loop: Loop, buffer: Buffer, scope: str) -> None:
        places = [where for b, where, _ in accesses(loop.body) if b is buffer]
        if not places:
            raise ValueError(f"[cache_write] there is no access to {buffer} in {loop.var}")
        inner = loops_of(loop.body)
        self.buffer = buffer
        self.scope = scope
        self.spans = touched(places, [one.var for one in inner], buffer.name)
        self.lane_dimension, self.width = -1, 1
        if scope == "register":
            self._find_lanes(places, inner)
        shape = [self._room(d, span) for d, span in enumerate(self.spans)]
        name = f"{buffer.name}_{scope[0]}"
        self.small = Buffer(name, buffer.dtype, shape, scope, lanes=self.width)

    def _find_lanes(self, places: Sequence[Coordinates], inner: Sequence[Loop]) -> None:
        """The dimension along which vector loops go, which the lanes of a register take."""
        for loop in inner:
            dimensions = {
                d for where in places for d, c in enumerate(where) if loop.var in c.variables()
            }
            if loop.kind != "vector" or not dimensions:
                continue
            if loop.extent != loop.width or len(dimensions) > 1:
                raise ValueError(
                    f"[cache_write] expected {loop.var} to go over one vector of {self.buffer}; "
                    f"its extent is {loop.extent}"
                )
            (self.lane_dimension,) = dimensions
            self.width = loop.width
        for where in places if self.width > 1 else ():
            self._check_lanes(where[self.lane_dimension], inner)

    def _check_lanes(self, coordinate: Index, inner: Sequence[Loop]) -> None:
        place = coordinate - self.spans[self.lane_dimension].low
        lanes = {loop.var for loop in inner if loop.kind == "vector"} & place.variables()
        if len(lanes) != 1 or place % self.width != index(lanes.pop()):
            raise ValueError(
                f"[cache_write] expected {self.buffer} in whole vectors of {self.width} everywhere;"
                f" it is accessed at {coordinate}"
            )

    def _room(self, dimension: int, span: Span) -> int:
        if span.most is None or (self.scope == "register" and not span.extent.is_constant):
            raise ValueError(
                f"[cache_write] expected a known extent; {self.buffer} is accessed over {span}"
            )
        return span.most // self.width if dimension == self.lane_dimension else span.most

    def access(self, buffer: Buffer, where: Coordinates) -> tuple[Buffer, Coordinates]:
        if buffer is not self.buffer:
            return buffer, where
        moved = [c - span.low for c, span in zip(where, self.spans, strict=True)]
        if self.lane_dimension >= 0:
            moved[self.lane_dimension] = moved[self.lane_dimension] // self.width
        return self.small, tuple(moved)

    def copy(self, into: bool) -> Statement:
        """Loops that load the part, or store it."""
        kinds = "unroll" if self.small.scope == "register" else "serial"
        inside: list[Index] = []
        loops: list[Loop] = []
        for dimension, span in enumerate(self.spans):
            if dimension == self.lane_dimension:
                vectors = Var("c", span.extent // self.width)
                lane = Var("lane", self.width)
                loops += [Loop(vectors, kinds, []), Loop(lane, "vector", [], self.width)]
                inside.append(index(vectors) * self.width + lane)
            else:
                var = Var("c", span.extent)
                loops.append(Loop(var, kinds, []))
                inside.append(index(var))
        far = [span.low + i for span, i in zip(self.spans, inside, strict=True)]
        _, near = self.access(self.buffer, tuple(far))
        there = (self.small, near), (self.buffer, tuple(far))
        (target, to), (source, place) = there if into else there[::-1]
        made: Statement = Store(target, to, load(source, place))
        for loop in reversed(loops):
            made = with_body(loop, [made])
        return simplify((made,))[0]


def _is_written_first(loop: Loop, buffer: Buffer) -> bool:
    """Whether the first statement that has to do with the buffer writes all that follows uses.

    That is taken for certain where the first such statement of the body only writes: the loops
    over it then cover what is touched later, since spans are the same.
    """
    for statement in loop.body:
        met = [(where, w) for b, where, w in accesses([statement]) if b is buffer]
        if not met:
            continue
        if any(not is_written for _, is_written in met) or _has_conditions(statement):
            return False
        written = touched([w for w, _ in met], _variables([statement]), buffer.name)
        every = [where for b, where, _ in accesses(loop.body) if b is buffer]
        return written == touched(every, _variables(loop.body), buffer.name)
    return False


def _has_conditions(statement: Statement) -> bool:
    return any(type(s) is If for s in statements([statement]))


def _variables(body: Sequence[Statement]) -> list[Var]:
    return [loop.var for loop in loops_of(body)]


def rfactor(body: Body, var: Var, width: int, unroll: int = 1) -> tuple[Body, Buffer]:
    """A reduction over a loop in lanes: each keeps a partial result, which are combined after it.

    The loop holds one statement ``a[c] = a[c] op value`` (or a multiply-add) whose coordinates do
    not depend on ``var``. This changes the order of the combination: lane k takes the iterations
    k, k + width, ... Returns the tree and the register of the partial results.
    """
    loop = _serial(body, var, "rfactor")
    store, op = _reduction_in(loop)
    partial = Buffer(f"{store.buffer.name}_p", store.buffer.dtype, [1], "register", lanes=width)

    def own(node: Expression) -> bool:
        return node.op == "load" and node.detail == (store.buffer, store.coordinates)

    args = [load(partial, [0]) if own(a) else a for a in store.value.args]
    value = Expression(store.value.op, tuple(args), store.value.dtype)
    combined = binary(op, load(store.buffer, store.coordinates), across(op, load(partial, [0])))
    made = [
        Store(partial, [0], identity(op, partial.dtype)),
        Loop(var, "vector", [Store(partial, [0], value)], width, unroll),
        Store(store.buffer, store.coordinates, combined),
    ]
    return replaced(body, loop, lambda _: [Allocate(partial, made)]), partial


REDUCTIONS = ("add", "mul", "min", "max", "and", "or", "xor")


def _reduction_in(loop: Loop) -> tuple[Store, str]:
    """The one statement of a loop, and by what it combines."""
    store = loop.body[0] if len(loop.body) == 1 else None
    if not isinstance(store, Store):
        raise ValueError(f"[rfactor] expected one store in the loop of {loop.var}")
    here = (store.buffer, store.coordinates)
    if not all(isinstance(c, Index) and loop.var not in c.variables() for c in store.coordinates):
        raise ValueError(f"[rfactor] {store.buffer} is stored at another place in each iteration")
    value = store.value
    own = [a for a in value.args if a.op == "load" and a.detail == here]
    uses = [n for n in walk(value) if n.op == "load" and n.detail[0] is store.buffer]
    is_sum = value.op == "fma" and value.args[2] in own
    if len(own) != 1 or len(uses) != 1 or not (is_sum or value.op in REDUCTIONS):
        raise ValueError(
            f"[rfactor] expected {store.buffer}[..] = {store.buffer}[..] op value; got {value}"
        )
    return store, "add" if is_sum else value.op


def compute_at(body: Body, buffer: Buffer, at: Var, scope: str = "scratch") -> tuple[Body, Buffer]:
    """Computes a buffer piece by piece: in each iteration of ``at`` what that iteration loads.

    The buffer is allocated around statements that fill it, each with a nest whose loops are (or
    begin with) the buffer's dimensions, and the loop ``at``, which loads from it. The region that
    an iteration loads is inferred from its coordinates; pieces overlap where that says so (a halo),
    and what lies there is computed again.

    Returns the tree and the buffer of a piece, which takes the place of the whole one.
    """
    producers = _producers(body, buffer)
    consumer = find_loop(body, at)
    places = [where for b, where, _ in accesses(consumer.body) if b is buffer]
    if not places:
        raise ValueError(f"[compute_at] {at} does not load {buffer}")
    spans = touched(places, _variables(consumer.body), buffer.name)
    shape = [span.most for span in spans]
    if any(extent is None for extent in shape):
        raise ValueError(f"[compute_at] what {at} loads of {buffer} has no bound: {spans}")
    piece = Buffer(f"{buffer.name}_{at.name}", buffer.dtype, [n or 0 for n in shape], scope)

    def moved(b: Buffer, where: Coordinates) -> tuple[Buffer, Coordinates]:
        if b is not buffer:
            return b, where
        return piece, tuple([c - span.low for c, span in zip(where, spans, strict=True)])

    filled = [_restricted(p, buffer, spans) for p in producers]
    inside = Allocate(piece, substituted([*filled, *consumer.body], None, moved))
    body = replaced(body, consumer, lambda _: [with_body(consumer, [inside])])

    def without(whole: Allocate) -> list[Statement]:
        rest = [s for s in whole.body if s not in producers]
        if any(b is buffer for b, _, _ in accesses(rest)):
            raise ValueError(f"[compute_at] {buffer} is loaded outside of {at} too")
        return rest

    (allocation,) = [s for s in statements(body) if type(s) is Allocate and s.buffer is buffer]
    return replaced(body, allocation, without), piece


def _producers(body: Body, buffer: Buffer) -> list[Statement]:
    """The statements that fill a buffer, and do nothing else."""
    found = [s for s in statements(body) if type(s) is Allocate and s.buffer is buffer]
    if not found:
        raise ValueError(f"[compute_at] {buffer} is not allocated in this tree")
    writing = [s for s in found[0].body if any(b is buffer and w for b, _, w in accesses([s]))]
    if not writing:
        raise ValueError(f"[compute_at] nothing fills {buffer}")
    rest = [s for s in found[0].body if s not in writing]
    own = {s.buffer for s in statements(writing) if type(s) is Allocate} | {buffer}
    also = {b for b, _, w in accesses(writing) if w} - own
    if also:
        raise ValueError(f"[compute_at] what fills {buffer} writes to {also} as well")
    needed = {b for b, _, _ in accesses(writing)} - own
    changed = {b for b, _, w in accesses(rest) if w} & needed
    if changed:
        raise ValueError(f"[compute_at] what fills {buffer} reads {changed}, which changes later")
    return writing


def _restricted(producer: Statement, buffer: Buffer, spans: Sequence[Span]) -> Statement:
    """A nest that fills a buffer, over a region of it."""
    places = {where for b, where, _ in accesses([producer]) if b is buffer}
    if len(places) != 1:
        raise ValueError(f"[compute_at] {buffer} is filled at more than one place: {places}")
    (where,) = places
    made: Body = (producer,)
    for coordinate, span in zip(where, spans, strict=True):
        variables = list(coordinate.variables())
        if len(variables) != 1 or coordinate != index(variables[0]) + coordinate.constant:
            raise ValueError(f"[compute_at] expected a loop for each dimension; got {coordinate}")
        made = _shifted(made, variables[0], span, coordinate.constant)
    return made[0]


def _shifted(body: Body, var: Var, span: Span, offset: int) -> Body:
    """The loop of a dimension, over a span of coordinates that are ``var + offset``."""
    loop = find_loop(body, var)
    if loop.kind != "serial":
        raise ValueError(f"[compute_at] expected serial loops; {var} is {loop.kind}")
    begin = span.low - offset
    if not is_at_most(-begin, 0):
        raise ValueError(f"[compute_at] {span.low} may lie before what the loop of {var} fills")
    if begin == 0 and span.extent == loop.extent:
        return body
    part = Var(var.name, minimum(span.extent, loop.extent - begin))
    inside = substituted(loop.body, {var: begin + part})
    return replaced(body, loop, lambda _: [Loop(part, "serial", inside)])


# -- finding ----------------------------------------------------------------------------------


def _serial(body: Body, var: Var, word: str) -> Loop:
    loop = find_loop(body, var)
    if loop.kind != "serial":
        raise ValueError(f"[{word}] expected a serial loop; {var} is {loop.kind}")
    return loop


def _only_loop_in(loop: Loop, word: str) -> Loop:
    if len(loop.body) != 1 or not isinstance(loop.body[0], Loop):
        raise ValueError(f"[{word}] expected a loop and nothing else in the loop of {loop.var}")
    return loop.body[0]


def _nest_of(body: Body, order: Sequence[Var]) -> list[Loop]:
    """The loops of some variables, from the outermost on."""
    first = next(loop for loop in loops_of(body) if loop.var in order)
    nest = [first]
    while len(nest) < len(order):
        nest.append(_only_loop_in(nest[-1], "reorder"))
    return nest
