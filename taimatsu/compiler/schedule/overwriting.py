"""Memory that is written in place while other elements of it are still to be read.

Iterations of a kernel are carried out in any order, so a kernel may read what it overwrites only at
the very element that it is about to write. A nest that does more is taken apart: new values go to
temporary memory first, and what must see them comes in a nest of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from taimatsu.compiler.groups import Layout, Temporary
from taimatsu.compiler.schedule.common import Nest, Piece, Place
from taimatsu.compiler.schedule.elements import read_by
from taimatsu.ir.expression import Expression, load, walk
from taimatsu.ir.index import Index, bounds, index
from taimatsu.ir.loops import row_major
from taimatsu.ir.stages import Stage


def settled(nest: Nest) -> list[Nest]:
    """The nests to carry out one after the other; the nest itself where all is well."""
    if not any(_is_update(p) for p in nest.pieces):
        return [nest]
    parts = _Parts(nest).parts
    if len(parts) == 1:
        return [nest]
    places = dict(nest.places)
    made = []
    for k, pieces in enumerate(parts):
        keep(nest, pieces, [p for part in parts[k + 1 :] for p in part], places)
        made.append(Nest(nest.rows, pieces, nest.layouts, f"{nest.name}_{k}", places, nest.apart))
    return made


def keep(
    nest: Nest, pieces: Iterable[Piece], later: Iterable[Piece], places: dict[Stage, Place]
) -> None:
    """Gives memory to values inside of rows that later nests read, and says where it is."""
    read = read_by(nest, later)
    for piece in pieces:
        if piece.place is None and piece.stage in read:
            piece.place = temporary(piece.stage, "row")
        if piece.place is not None:
            places[piece.stage] = piece.place


def temporary(stage: Stage, what: str) -> Place:
    """Memory between kernels for the values of a stage."""
    size = prod(stage.shape, start=index(1))
    memory = Temporary(f"{what} of {stage}", stage.dtype, size)
    return Place(memory, stage.dtype, Layout(row_major(stage.shape), size), memory)


def _is_update(piece: Piece) -> bool:
    return piece.place is not None and piece.stage.cell is not None


@dataclass(frozen=True)
class _Region:
    """Elements of a cell; ``form`` is None where they are computed."""

    owner: Any
    offset: Any
    form: Index | None

    def meets(self, other: _Region) -> bool:
        """Whether an element may be touched by different iterations of the two."""
        if self.owner != other.owner:
            return False
        if self.form is None or other.form is None:
            return True
        if self.offset == other.offset and self.form == other.form:
            return False
        if type(self.offset) is not int or type(other.offset) is not int:
            return True
        low, high = bounds(self.form)
        other_low, other_high = bounds(other.form)
        before = high is not None and other_low is not None
        if before and high + self.offset < other_low + other.offset:  # type: ignore[operator]
            return False
        behind = low is not None and other_high is not None
        return not (behind and other_high + other.offset < low + self.offset)  # type: ignore


def _region(place: Place, form: Index | None) -> _Region:
    owner, offset = place.key
    return _Region(owner, offset, form)


class _Parts:
    """The pieces of each nest."""

    def __init__(self, nest: Nest) -> None:
        self.nest = nest
        self.parts: list[list[Piece]] = [[]]
        for piece in nest.pieces:
            self._add(piece)

    def _add(self, piece: Piece) -> None:
        part = self.parts[-1]
        written = [self._stored(p) for p in part if _is_update(p)]
        own = [self._stored(piece)] if _is_update(piece) else []
        seen = [r for r, fresh in self._reads(piece) if fresh]
        if any(a.meets(b) for a in written for b in (*own, *seen)):
            self.parts.append([])
            part = self.parts[-1]
        part.append(piece)
        old = [r for p in part for r, fresh in self._reads(p) if not fresh]
        if own and any(own[0].meets(r) for r in old):
            part[-1], copy = self._postponed(piece)
            self.parts.append([copy])

    def _stored(self, piece: Piece) -> _Region:
        assert piece.place is not None
        return _region(piece.place, piece.place.address(piece.coordinates))

    def _reads(self, piece: Piece) -> list[tuple[_Region, bool]]:
        """What a piece reads of cells, each with whether it is the content after an update."""
        found: list[tuple[_Region, bool]] = []
        seen: set[Expression] = set()
        updates = [p.stage for p in self.nest.pieces if _is_update(p)]
        for root in piece.roots:
            for node in walk(root, seen):
                if node.op != "load" or node.detail[0].kind != "window":
                    continue
                window, where = node.detail
                place = self.nest.place(window)
                plain = all(type(c) is Index for c in where)
                form = place.address(where) if plain else None
                region = _region(place, form)
                found.append((region, any(window.after is u for u in updates)))
        return found

    def _postponed(self, piece: Piece) -> tuple[Piece, Piece]:
        """An update that writes to temporary memory, and the copy to where it belongs."""
        stage = piece.stage
        place = temporary(stage, "new values")
        held = Stage("map", stage.shape, stage.dtype, stage.axes)
        self.nest.places[held] = place
        first = replace(piece, place=place)
        second = replace(
            piece, value=load(held, piece.coordinates), checks=(), position=None, kind="map"
        )
        return first, second
