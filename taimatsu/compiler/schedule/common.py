"""Groups as schedules take them: stages over common variables, and where everything lies.

``bind`` gives the stages of a group the same variables: those of the rows, and one tuple of inner
variables for each set of extents (a domain). What a stage becomes is a ``Piece``. Axes of extent 1
disappear. ``collapsed`` merges axes that every access goes through as if they were one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from taimatsu.compiler.groups import Group, Layout, Memory, layout_of
from taimatsu.ir.expression import (
    BINARY_FUNCTIONS,
    FLOATS,
    SIZES,
    UNARY_FUNCTIONS,
    Expression,
    index_value,
    substitute,
    walk,
)
from taimatsu.ir.index import Index, Var, bounds, index
from taimatsu.ir.stages import Stage

Values = dict[Var, Index]
MANY = 1 << 20  # stands for an extent that nothing is known of


@dataclass(frozen=True, eq=False)
class Place:
    """Memory and how a stage lies in it. Places with equal keys begin at the same element."""

    memory: Memory
    dtype: str
    layout: Layout
    key: Any

    def address(self, where: Iterable[Index]) -> Index:
        """The element (from the memory's begin) at coordinates."""
        total = self.layout.origin
        for coordinate, stride in zip(where, self.layout.strides, strict=True):
            total = total + coordinate * stride
        return total


def place_of(stage: Stage, layouts: dict[Stage, Layout]) -> Place:
    """Where the values of a stage lie."""
    if stage.cell is None:
        return Place(stage, stage.dtype, layouts[stage], stage)
    owner = stage.cell.slot if stage.cell.stage is None else stage.cell.stage
    if stage.kind == "window":
        layout = layout_of(stage, layouts)
    else:
        layout = Layout(stage.strides, reach(stage.shape, stage.strides), aligned=False)
    return Place(stage, stage.dtype, layout, (owner, stage.offset))


def reach(shape: Sequence[Index], strides: Sequence[Index]) -> Index:
    """How many elements there are from the first to the last one of a layout."""
    total = index(1)
    for extent, stride in zip(shape, strides, strict=True):
        total = total + (extent - 1) * stride
    return total


@dataclass(eq=False)
class Piece:
    """A stage over its nest's variables.

    Attributes:
        stage: by which others load it.
        kind: "map" (updates too), "reduce" or "scan".
        axes: the inner variables of its result, those of a scan's own axis included.
        reduced: the variables that it combines over.
        value: what it is computed from.
        position: of argmax and argmin: the position (int64) that belongs to a value.
        coordinates: of its element, for each dimension of the stage.
        checks: conditions with their messages.
        place: where it is stored; None if it lives inside of a row.
        parts: for a split argmax or argmin: where value and position are stored.
        divided: whether it is one step of a reduction that was divided.
    """

    stage: Stage
    kind: str
    axes: tuple[Var, ...]
    reduced: tuple[Var, ...]
    value: Expression
    position: Expression | None
    coordinates: tuple[Index, ...]
    checks: tuple[tuple[Expression, str], ...] = ()
    place: Place | None = None
    parts: tuple[Place, ...] = ()
    divided: bool = False

    @property
    def combine(self) -> str:
        return self.stage.combine

    @property
    def domain(self) -> tuple[Var, ...]:
        """All its loops inside of a row."""
        return self.axes + self.reduced

    @property
    def roots(self) -> list[Expression]:
        """Its expressions."""
        found = [self.value, *[condition for condition, _ in self.checks]]
        return found if self.position is None else [*found, self.position]


@dataclass(eq=False)
class Nest:
    """Pieces over the same rows.

    Attributes:
        rows: the variables that all pieces have, outermost first.
        pieces: in an order in which they can be computed.
        places: where stages lie that are loaded from memory or stored there.
        name: of its kernels, for people.
        apart: rows that are not merged with others, since extents depend on them.
    """

    rows: tuple[Var, ...]
    pieces: list[Piece]
    layouts: dict[Stage, Layout]
    name: str
    places: dict[Stage, Place] = field(default_factory=dict)
    apart: tuple[Var, ...] = ()
    members: dict[Stage, Piece] = field(init=False)
    written: dict[Any, Piece] = field(init=False)

    def __post_init__(self) -> None:
        self.members = {p.stage: p for p in self.pieces}
        self.written = {p.place.key: p for p in self.pieces if p.place and p.stage.cell}

    def place(self, stage: Stage) -> Place:
        """Where a stage lies in memory."""
        found = self.places.get(stage)
        if found is None:
            found = place_of(stage, self.layouts)
            self.places[stage] = found
        return found

    def member(self, stage: Stage) -> Piece | None:
        """The piece that a load reads; None for what other kernels have computed.

        A window that is read after an update of the same nest sees what that writes; if it shows
        other elements, they are not among those (``overwriting`` sees to it).
        """
        found = self.members.get(stage)
        if found is None and stage.kind == "window" and stage.after in self.members:
            update = stage.after
            if update.strides == stage.strides and update.offset == stage.offset:
                return self.members[update]
        return found

    @property
    def stages(self) -> list[Stage]:
        return [p.stage for p in self.pieces]


def bind(group: Group, layouts: dict[Stage, Layout]) -> Nest:
    """The stages of a group (maps, updates, reductions and scans) over common variables."""
    first = group.stages[0]
    rows: list[Index] = []
    kept: list[Var] = []
    for k, var in enumerate(group.rows[first]):
        if var.extent == 1:
            rows.append(index(0))
            continue
        kept.append(Var(f"r{k}", var.extent))
        rows.append(index(kept[-1]))
    domains: dict[tuple[Index, ...], tuple[Var, ...]] = {}
    outputs = set(group.outputs)
    pieces = []
    for stage in group.stages:
        piece = _piece(stage, group, rows, domains)
        if stage in outputs:
            piece.place = place_of(stage, layouts)
        pieces.append(piece)
    return Nest(tuple(kept), pieces, layouts, "_".join(s.kind for s in group.stages)[:60])


def _piece(
    stage: Stage,
    group: Group,
    rows: list[Index],
    domains: dict[tuple[Index, ...], tuple[Var, ...]],
) -> Piece:
    values: Values = dict(zip(group.rows[stage], rows, strict=True))
    own = [v for v in (*group.inner(stage), *stage.reduce_axes) if v.extent != 1]
    extents = tuple([v.extent for v in own])
    domain = domains.get(extents)
    if domain is None:
        names = f"d{len(domains)}_"
        domain = tuple([Var(f"{names}{k}", n) for k, n in enumerate(extents)])
        domains[extents] = domain
    for var in (*stage.axes, *stage.reduce_axes):
        if var.extent == 1:
            values.setdefault(var, index(0))
    values.update({v: index(d) for v, d in zip(own, domain, strict=True)})
    over = {id(v) for v in stage.reduce_axes}
    axes = tuple([d for v, d in zip(own, domain, strict=True) if id(v) not in over])
    reduced = tuple([d for v, d in zip(own, domain, strict=True) if id(v) in over])
    done: dict[Expression, Expression] = {}
    assert stage.value is not None
    kind = stage.kind if stage.kind in ("reduce", "scan") else "map"
    value = substitute(stage.value, dict(values), done)
    position = _position(stage, values)
    alone = stage.kind == "scan" and stage.axes[stage.scan_axis].extent == 1
    if alone or (kind == "reduce" and not reduced):  # of one value: nothing to combine
        kind, value, position = "map", position or value, None
    checks = tuple([(substitute(c, dict(values), done), m) for c, m in stage.checks])
    where = tuple([values[v] for v in stage.axes])
    return Piece(stage, kind, axes, reduced, value, position, where, checks)


def _position(stage: Stage, values: Values) -> Expression | None:
    """What argmax and argmin answer for a value: its row-major position."""
    if stage.combine not in ("argmax", "argmin"):
        return None
    if stage.kind == "scan":
        return index_value(values[stage.axes[stage.scan_axis]])
    total = index(0)
    for var in stage.reduce_axes:
        total = total * var.extent + values[var]
    return index_value(total)


# -- accesses ------------------------------------------------------------------------------


@dataclass(eq=False)
class Access:
    """An index that depends on the loops: an address, a coordinate of a gather, or a value.

    ``stored`` says whether it is where something is written; ``kind`` is "memory", "gather" (one
    coordinate of a computed place) or "value".
    """

    form: Index
    kind: str
    stored: bool = False
    size: int = 4

    def __post_init__(self) -> None:
        self._strides: dict[Var, Index | None] = {}

    def stride(self, var: Var) -> Index | None:
        """What a step of the variable adds; None where that is not the same everywhere."""
        if var not in self._strides:
            try:
                self._strides[var] = self.form.stride(var)
            except ValueError:
                self._strides[var] = None
        return self._strides[var]


def accesses(nest: Nest, pieces: Iterable[Piece] | None = None) -> list[Access]:
    """Every access to memory outside of rows, and every index, of a nest's pieces."""
    found: list[Access] = []
    seen: set[Expression] = set()
    for piece in nest.pieces if pieces is None else pieces:
        for root in piece.roots:
            for node in walk(root, seen):
                if node.op == "index":
                    found.append(Access(node.detail, "value"))
                elif node.op == "load":
                    found += _of_load(nest, node)
        if piece.place is not None:
            form = piece.place.address(piece.coordinates)
            found.append(Access(form, "memory", True, SIZES[piece.place.dtype]))
    return found


def _of_load(nest: Nest, node: Expression) -> list[Access]:
    source, where = node.detail
    piece = nest.member(source)
    if piece is not None and piece.place is None:
        # A row's own values: where they lie follows the domain; other places are plain values.
        if tuple(where) == piece.coordinates:
            return []
        return [Access(c, "value") for c in where if type(c) is Index]
    place = nest.place(source) if piece is None else piece.place
    assert place is not None
    size = SIZES[place.dtype]
    if all(type(c) is Index for c in where):
        return [Access(place.address(where), "memory", False, size)]
    return [Access(c, "gather", False, size) for c in where if type(c) is Index] or [
        Access(index(0), "gather", False, size)
    ]


# -- order and merging of axes -----------------------------------------------------------------


def extent_hint(extent: Index) -> int:
    """The extent; for one that comes from data, what it was when the program was made."""
    return max(extent.hint(), 1)


def points(axes: Iterable[Var]) -> int:
    """How many points a domain has, about."""
    total = 1
    for var in axes:
        total *= extent_hint(var.extent)
    return total


def known_points(axes: Iterable[Var]) -> int:
    """The same by constants alone: an extent that comes from data counts as many.

    What decides the order in which numbers are combined goes by this, so that it does not depend
    on the sizes a program met first.
    """
    total = 1
    for var in axes:
        _, most = bounds(var.extent)
        total *= MANY if most is None else max(most, 1)
    return total


def storage_order(axes: Sequence[Var], found: Sequence[Access]) -> list[Var]:
    """The axes from the outermost to the innermost, as the largest access goes through memory.

    Writing counts before reading. Axes that it does not go along stay outermost.
    """
    best: Access | None = None
    most = (-1, False)
    for access in found:
        if access.kind != "memory":
            continue
        along = sum(1 for v in axes if access.stride(v) not in (None, 0))
        if (along, access.stored) > most:
            best, most = access, (along, access.stored)
    if best is None:
        return list(axes)

    def step(var: Var) -> int:
        stride = best.stride(var)
        hint = 0 if stride is None else abs(stride.hint())
        return -hint if hint else -(1 << 62)

    return sorted(axes, key=step)


@dataclass(eq=False)
class Axes:
    """Axes in the order of their loops, some of them merged.

    Attributes:
        loops: the axes to go through, outermost first.
        values: each original axis in these.
        like: for each axis of ``loops`` an original one that has its strides.
    """

    loops: list[Var]
    values: Values
    like: dict[Var, Var]


def collapsed(axes: Sequence[Var], found: Sequence[Access], apart: Sequence[Var] = ()) -> Axes:
    """Neighbouring axes become one where every access allows it; those ``apart`` stay."""
    merged: list[Var] = []
    inner: list[Var] = []
    values: Values = {}
    for var in reversed(axes):
        free = merged and var not in apart and inner[-1] not in apart
        if free and _are_one(var, inner[-1], merged[-1].extent, found):
            merged[-1] = Var(merged[-1].name, merged[-1].extent * var.extent)
            values[var] = index(0)
        else:
            merged.append(var)
            inner.append(var)
        values[inner[-1]] = index(merged[-1])
    return Axes(merged[::-1], values, dict(zip(merged, inner, strict=True)))


def composed(values: Values, inner: Values) -> Values:
    """The variables of ``values`` in terms of what the others stand for."""
    atoms: dict[Any, Index | int] = dict(inner)
    return {var: form.substitute(atoms) for var, form in values.items()}


def _are_one(outer: Var, inner: Var, extent: Index, found: Sequence[Access]) -> bool:
    for access in found:
        step, small = access.stride(outer), access.stride(inner)
        if step is None or small is None or step != small * extent:
            return False
    return True


# -- what things cost --------------------------------------------------------------------------

_FREE = frozenset({"constant", "number", "index", "load", "bitcast", "across"})
_CHEAP_FUNCTIONS = frozenset({"floor", "ceil", "trunc", "round_half_even"})
_SLOW: dict[str, float] = {"div": 4.0, "floordiv": 12.0, "modulo": 12.0, "truncdiv": 12.0}
_SLOW.update({f: 16.0 for f in (*UNARY_FUNCTIONS, *BINARY_FUNCTIONS) if f not in _CHEAP_FUNCTIONS})
_SLOW.update({"sqrt": 4.0, "reciprocal": 4.0, "rsqrt": 6.0, "exp": 12.0, "pow": 40.0, "gcd": 300.0})


def operations(roots: Iterable[Expression]) -> float:
    """How long expressions take for one element, in additions; memory not counted."""
    total = 0.0
    seen: set[Expression] = set()
    for root in roots:
        for node in walk(root, seen):
            if node.op not in _FREE:
                total += _SLOW.get(node.op, 1.0)
    return total


def float_operations(roots: Iterable[Expression]) -> int:
    """Floating-point operations of one element; a function counts as one."""
    total = 0
    seen: set[Expression] = set()
    for root in roots:
        for node in walk(root, seen):
            if node.args and node.dtype in FLOATS and node.op not in ("cast", "select", "bitcast"):
                total += 1
    return total


def lane_count(nest: Nest, target: Any) -> int:
    """The width of a nest's vectors: registers full of the widest floats that it computes with.

    Integers of 64 bits count where there are no floats of 32 (they are positions, mostly).
    """
    sizes: set[int] = set()
    wide = False
    for piece in nest.pieces:
        for root in piece.roots:
            for node in walk(root):
                if node.dtype == "float64":
                    wide = wide or node.op not in ("number", "constant")
                elif node.dtype in ("float16", "bfloat16"):
                    sizes.add(4)
                elif node.op not in ("number", "constant", "index") and node.dtype != "bool":
                    sizes.add(SIZES[node.dtype])
        sizes.add(SIZES[piece.stage.dtype])
    if wide:
        return max(int(target.lanes(8)), 1)
    narrow = max((s for s in sizes if s < 8), default=8)
    return max(int(target.lanes(max(narrow, 4) if 8 in sizes else narrow)), 1)
