"""Which pieces share loops inside of a row, and whether rows are done in the lanes of vectors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from taimatsu.compiler.schedule.common import (
    Access,
    Axes,
    Nest,
    Piece,
    accesses,
    collapsed,
    operations,
    points,
    storage_order,
)
from taimatsu.ir.expression import Expression, walk
from taimatsu.ir.index import Var
from taimatsu.ir.stages import Stage

GATHER = 0.6  # what a lane of a gather costs, as a part of a whole vector's load
ACROSS = 14.0  # what combining lanes costs, in loads of vectors
COPIES = 8  # vectors of rows that are done at once, at most
ACCUMULATORS = 8  # vectors of them that are kept
WRITTEN_OUT = 96.0  # operations of all of them
UNKNOWN = 256  # what an extent that comes from data is taken for


@dataclass(eq=False)
class Pass:
    """Pieces that are computed in the same loops.

    Attributes:
        kind: "scalar" (no loops), "plain" (maps and whole reductions over a domain), "kept"
            (reductions whose results have axes inside of the row) or "scan".
        axes: the inner axes of results (of "kept" and of maps).
        reduced: the axes that are reduced over.
    """

    kind: str
    axes: tuple[Var, ...]
    reduced: tuple[Var, ...]
    pieces: list[Piece]

    @property
    def domain(self) -> tuple[Var, ...]:
        if self.kind == "plain":
            return self.axes or self.reduced
        return self.axes + self.reduced

    @property
    def reductions(self) -> list[Piece]:
        return [p for p in self.pieces if p.kind == "reduce"]

    @property
    def roots(self) -> list[Expression]:
        return [root for piece in self.pieces for root in piece.roots]

    @property
    def scanned(self) -> Var:
        """The axis of a scan."""
        (piece,) = self.pieces
        form = piece.coordinates[piece.stage.scan_axis]
        return next(v for v in piece.axes if form.coefficient(v))

    def along(self, nest: Nest, axes: Axes, width: int) -> Var | None:
        """Of the kept axes, one to go along in vectors; None: the reduced ones."""
        found = accesses(nest, self.pieces)
        inner = storage_order(self.reduced, found)[-1]
        best = price_along(found, inner, width) + ACROSS * width / points([inner])
        chosen = None
        for var in axes.loops:
            price = price_along(found, axes.like[var], width)
            if price < best:
                best, chosen = price, var
        return chosen


def passes_of(nest: Nest) -> list[Pass]:
    """The passes in their order; each piece is in the first one that it can be in."""
    passes: list[Pass] = []
    place: dict[Stage, int] = {}
    for piece in nest.pieces:
        kind, axes, reduced = _shape(piece)
        earliest = 0
        for source, same in _members(nest, piece):
            at = place[source.stage]
            shared = (
                kind in ("plain", "scalar")
                and passes[at].kind == kind
                and source.kind == "map"
                and same
            )
            earliest = max(earliest, at if shared else at + 1)
        if piece.stage.cell is not None:
            earliest = max(earliest, len(passes) - 1)
        for k in range(earliest, len(passes)):
            if _fits(passes[k], kind, axes, reduced):
                break
        else:
            k = len(passes)
            passes.append(Pass(kind, axes, reduced, []))
        passes[k].pieces.append(piece)
        passes[k].axes = passes[k].axes or axes
        passes[k].reduced = passes[k].reduced or reduced
        place[piece.stage] = k
    return passes


def _shape(piece: Piece) -> tuple[str, tuple[Var, ...], tuple[Var, ...]]:
    if piece.kind == "scan":
        return "scan", piece.axes, ()
    if not piece.domain:
        return "scalar", (), ()
    if piece.kind == "reduce" and piece.axes:
        return "kept", piece.axes, piece.reduced
    return "plain", piece.axes, piece.reduced


def _fits(step: Pass, kind: str, axes: tuple[Var, ...], reduced: tuple[Var, ...]) -> bool:
    if step.kind != kind or kind == "scan":
        return False
    if kind == "kept":
        return step.axes == axes and step.reduced == reduced
    return step.domain == axes + reduced


def _members(nest: Nest, piece: Piece) -> Iterable[tuple[Piece, bool]]:
    """The pieces that a piece loads, each with whether it is at the element at hand."""
    seen: set[Expression] = set()
    for root in piece.roots:
        for node in walk(root, seen):
            if node.op == "load":
                source, where = node.detail
                member = nest.member(source)
                if member is not None:
                    yield member, tuple(where) == member.coordinates


# -- rows in lanes -------------------------------------------------------------------------


def chosen_row(nest: Nest, passes: list[Pass], width: int) -> Var | None:
    """The row axis along which rows are put into lanes; None to go along the inner axes.

    It goes by extents that are constants and by how memory is gone through, for the order in which
    numbers are combined depends on it.
    """
    inner = 0.0
    lanes: dict[Var, float] = {}
    found = accesses(nest)
    axes = collapsed(storage_order(nest.rows, found), found, nest.apart)
    rows = [axes.like[v] for v in axes.loops if v not in nest.apart]
    extents = {axes.like[v]: v for v in axes.loops}
    for step in passes:
        if step.kind == "scalar":
            continue
        mine = accesses(nest, step.pieces)
        costs = operations(step.roots) / 4 + 1
        volume = _volume(step.domain)
        inner += volume * _inner_price(step, mine, costs, width)
        for row in rows:
            price = price_along(mine, row, width) + costs
            lanes[row] = lanes.get(row, 0.0) + volume * price / _filled(extents[row], width)
    best = min(lanes, key=lambda v: lanes[v], default=None)
    return best if best is not None and lanes[best] < inner else None


def copies_of(passes: list[Pass], along: Var, width: int) -> int:
    """How many vectors of rows are done at once along an axis."""
    pieces = [p for step in passes for p in step.pieces]
    if any(p.kind == "scan" or (p.axes and p.place is None) for p in pieces):
        return 1  # each would take scratch memory of its own
    return min([copies_within(step, along, width) for step in passes], default=1)


def copies_within(step: Pass, along: Var, width: int) -> int:
    """The same for one pass: accumulators stay in registers, code stays short.

    Many rows at once read memory in long pieces.
    """
    costs = operations(step.roots)
    known = along.extent.constant if along.extent.is_constant else COPIES * width
    copies = COPIES
    while copies > 1 and (
        known < copies * width
        or len(step.reductions) * copies > ACCUMULATORS
        or costs * copies > WRITTEN_OUT
    ):
        copies //= 2
    return copies


def _volume(axes: tuple[Var, ...]) -> float:
    total = 1.0
    for var in axes:
        total *= var.extent.constant if var.extent.is_constant else UNKNOWN
    return total


def _inner_price(step: Pass, found: list[Access], costs: float, width: int) -> float:
    """What a vector of values costs, in loads, if vectors go along an axis of the domain."""
    if step.kind == "scan":
        return 5.0 * width
    best = float("inf")
    order = storage_order(step.domain, found)
    if not order:
        return float(width) * (costs + 1)
    candidates = order[-1:] if step.kind == "plain" else order
    for var in candidates:
        price = (price_along(found, var, width) + costs) / _filled(var, width)
        if step.reductions and (step.kind == "plain" or var in step.reduced):
            price += ACROSS * width * len(step.reductions) / _reduced(step)
        best = min(best, price)
    return best


def _reduced(step: Pass) -> float:
    return max(_volume(step.reduced or step.axes), 1.0)


def _filled(var: Var, width: int) -> float:
    """The part of the lanes that an axis fills."""
    if not var.extent.is_constant:
        return 1.0
    extent = max(var.extent.constant, 1)
    return extent / (-(-extent // width) * width)


def price_along(found: list[Access], var: Var, width: int) -> float:
    """What the accesses cost for vectors along an axis."""
    total = 0.0
    for access in found:
        if access.kind == "value":
            continue
        step = access.stride(var)
        if step == 0:
            total += 0.2
        elif step == 1:
            total += 1.0
        else:
            total += GATHER * width
    return total
