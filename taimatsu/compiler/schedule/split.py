"""Few rows of many values: reductions that several threads share.

The domain is cut into chunks whose size follows from constants alone. A first nest reduces each
chunk, a second one combines what they have come to, in their order, and goes on with the rest of
the row. Between nests, values that lived inside of a row are in temporary memory.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from taimatsu.compiler.groups import Layout, Temporary
from taimatsu.compiler.schedule.common import (
    Axes,
    Nest,
    Piece,
    Place,
    Values,
    accesses,
    collapsed,
    composed,
    known_points,
    operations,
    storage_order,
)
from taimatsu.compiler.schedule.frame import CHUNK_WORK, part
from taimatsu.compiler.schedule.overwriting import keep
from taimatsu.compiler.schedule.passes import Pass, copies_of
from taimatsu.ir.expression import Expression, load, substitute
from taimatsu.ir.index import Index, Var, ceil_div, index
from taimatsu.ir.loops import row_major
from taimatsu.ir.stages import Stage

ENOUGH = 16  # rows (or vectors of rows) that keep all threads busy
FEW = 16  # values that are gone through again without much ado
PIECES = 4  # of a row of memory that are read one after the other within a chunk
EVEN = 1024  # chunks of single values are a multiple of this


def divided(nest: Nest, passes: list[Pass], along: Var | None, width: int) -> list[Nest] | None:
    """The nests to carry out instead, or None where rows are short, or many."""
    if _units(nest, passes, along, width) >= ENOUGH:
        return None
    for k, step in enumerate(passes):
        if step.kind != "plain" or not step.reductions or any(p.divided for p in step.pieces):
            continue
        price = operations(step.roots) / 4 + len(accesses(nest, step.pieces))
        work = price * known_points(nest.rows)
        if work * known_points(step.domain) > 2 * CHUNK_WORK:
            return _Cut(nest, passes, k, work).nests()
    return None


def _units(nest: Nest, passes: list[Pass], along: Var | None, width: int) -> int:
    """How many parts there are that threads can share without a division.

    Rows in lanes whose values are gone through once count by how much of memory is read in one
    piece: fewer, longer pieces are faster, and a division makes that possible.
    """
    units = known_points(nest.rows)
    if along is None:
        return units
    lanes = known_points([along])
    if sum(1 for step in passes if known_points(step.domain) > FEW) > 1:
        return units // lanes * -(-lanes // width)
    return units // lanes * -(-lanes // (PIECES * width * copies_of(passes, along, width)))


class _Cut:
    """One pass of a nest, cut; ``work`` is what a point of its domain takes, for all rows."""

    def __init__(self, nest: Nest, passes: list[Pass], k: int, work: float) -> None:
        self.nest = nest
        self.step = passes[k]
        self.before = [p for step in passes[:k] for p in step.pieces]
        self.after = [p for step in passes[k + 1 :] for p in step.pieces]
        self.places = dict(nest.places)
        found = accesses(nest, self.step.pieces)
        axes = collapsed(storage_order(self.step.domain, found), found)
        self.chunk, self.inner, self.values = self._chunks(axes, work)

    def nests(self) -> list[Nest]:
        nest = self.nest
        made = []
        if self.before:
            keep(nest, self.before, [*self.step.pieces, *self.after], self.places)
            made.append(self._nest(self.nest.rows, self.before, "before"))
        maps = [p for p in self.step.pieces if p.kind == "map"]
        keep(nest, maps, self.after, self.places)
        partial: list[Piece] = []
        combined: list[Piece] = []
        for piece in self.step.pieces:
            if piece.kind == "map":
                partial.append(self._moved(piece))
            else:
                first, second = self._reduced(piece)
                partial.append(first)
                combined.append(second)
        rows = (self.chunk, *self.nest.rows)
        made.append(self._nest(rows, partial, "chunks", (self.chunk,)))
        made.append(self._nest(self.nest.rows, [*combined, *self.after], "combined"))
        return made

    def _nest(
        self, rows: tuple[Var, ...], pieces: list[Piece], name: str, apart: tuple[Var, ...] = ()
    ) -> Nest:
        name = f"{self.nest.name}_{name}"
        apart = (*self.nest.apart, *apart)
        return Nest(rows, pieces, self.nest.layouts, name, self.places, apart)

    def _chunks(self, axes: Axes, work: float) -> tuple[Var, tuple[Var, ...], Values]:
        """The variable of chunks, the axes inside of one, and the domain in terms of these."""
        loops = axes.loops
        inner = [work * known_points(loops[j + 1 :]) for j in range(len(loops))]
        cut = next((j for j, w in enumerate(inner) if w <= CHUNK_WORK), len(loops) - 1)
        count = max(int(CHUNK_WORK / inner[cut]), 1)
        if count > EVEN:
            count = count // EVEN * EVEN
        blocks = ceil_div(loops[cut].extent, count)
        total = blocks
        for var in loops[:cut]:
            total = total * var.extent
        chunk = Var("c", total)
        rest = index(chunk)
        block = rest % blocks if cut else rest
        rest = rest // blocks
        at: Values = {}
        for j in range(cut - 1, -1, -1):
            at[loops[j]] = rest % loops[j].extent if j else rest
            rest = rest // loops[j].extent
        begin = block * count
        within = Var("w", part(loops[cut].extent, begin, count))
        at[loops[cut]] = begin + within
        return chunk, (within, *loops[cut + 1 :]), composed(axes.values, at)

    def _moved(self, piece: Piece) -> Piece:
        """A piece over a chunk's part of the domain."""
        done: dict[Expression, Expression] = {}
        atoms: dict[Any, Index | int] = dict(self.values)
        return replace(
            piece,
            axes=self.inner if piece.axes else (),
            reduced=self.inner if piece.reduced else (),
            value=substitute(piece.value, atoms, done),
            position=None if piece.position is None else substitute(piece.position, atoms, done),
            coordinates=tuple([c.substitute(atoms) for c in piece.coordinates]),
            checks=tuple([(substitute(c, atoms, done), m) for c, m in piece.checks]),
        )

    def _reduced(self, piece: Piece) -> tuple[Piece, Piece]:
        """A reduction of each chunk, and the one of what they come to."""
        rows = self.nest.rows
        dtypes = [piece.value.dtype] + (["int64"] if piece.position is not None else [])
        stages = [self._partial(piece, dtype) for dtype in dtypes]
        places = tuple([self._temporary(s, piece.stage) for s in stages])
        where = (*map(index, rows), index(self.chunk))
        first = replace(self._moved(piece), stage=stages[0], coordinates=where, place=None)
        if piece.position is None:
            first.place = places[0]
        else:
            first.parts = places
        again = Var("c", self.chunk.extent)
        read = [load(s, (*map(index, rows), index(again))) for s in stages]
        position = read[1] if piece.position is not None else None
        second = Piece(piece.stage, "reduce", (), (again,), read[0], position, piece.coordinates)
        second.place = piece.place
        first.divided = second.divided = True
        return first, second

    def _partial(self, piece: Piece, dtype: str) -> Stage:
        axes = (*self.nest.rows, self.chunk)
        stage = Stage("reduce", tuple([v.extent for v in axes]), dtype, axes)
        stage.combine = piece.combine
        stage.node = piece.stage.node
        return stage

    def _temporary(self, stage: Stage, of: Stage) -> Place:
        """Memory for a stage: chunks outermost where there are rows for vectors."""
        rank = len(stage.shape)
        wide = known_points(self.nest.rows) >= ENOUGH // 2
        order = [rank - 1, *range(rank - 1)] if wide else list(range(rank))
        packed = row_major(tuple([stage.shape[d] for d in order]))
        strides = [index(0)] * rank
        for d, step in zip(order, packed, strict=True):
            strides[d] = step
        size = prod(stage.shape, start=index(1))
        memory = Temporary(f"chunks of {of}", stage.dtype, size)
        place = Place(memory, stage.dtype, Layout(tuple(strides), size), memory)
        self.places[stage] = place
        return place
