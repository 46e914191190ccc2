"""Programs that are carried out in pieces, as loops of varying length are.

A loop that is recorded with another number of steps each time gives a program that was never seen
before, and would be compiled each time. When the third number of steps comes, programs of that loop
are cut into pieces that come back whatever the number is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from taimatsu.compiler.repeats import Piece, cut, loops
from taimatsu.ir.graph import Graph
from taimatsu.storage import finish

LENGTHS = 2  # numbers of steps that programs of a loop are compiled for as they are
KEPT = 256  # loops that are remembered
GRAPHS = 1024  # pieces

Execute = Callable[[Graph, dict[int, np.ndarray], list, bool], dict[int, np.ndarray]]

_lengths: OrderedDict[Any, set[tuple[int, ...]]] = OrderedDict()  # by what loops do
_graphs: OrderedDict[Any, Graph] = OrderedDict()


class Pieces:
    """A program's pieces, in the place of what it would be bound to."""

    guards: tuple = ()

    def __init__(self, graph: Graph, pieces: list[Piece], execute: Execute) -> None:
        self.graph = graph
        self.pieces = pieces
        self.execute = execute
        entering = dict(graph.inputs)
        bases = {n.results[0]: n.operands[0].value for n in graph.nodes if n.is_write}
        for slot, value in graph.outputs.items():
            if slot in graph.given and slot not in entering:
                while value in bases:
                    value = bases[value]
                entering[slot] = value
        self._entering = tuple(entering.items())
        self._written = {slot for slot in graph.outputs if slot in graph.given}
        self._early = self._written_early(dict(zip(entering.values(), entering, strict=True)))

    def _written_early(self, lies: dict[int, int]) -> set[int]:
        """The slots with memory that pieces before the last one write; ``lies`` says which slots
        values lie in at first.
        """
        found: set[int] = set()
        for piece in self.pieces[:-1]:
            own = {slot: lies[value] for slot, value in piece.reads if value in lies}
            for slot, value in piece.makes:
                if slot in own:
                    if value not in lies:
                        found.add(own[slot])
                    lies[value] = own[slot]
        return found

    def fits(self, items: Sequence[Any]) -> bool:
        """Each piece sees to its numbers itself."""
        return True

    def run(
        self, buffers: dict[int, np.ndarray], items: Sequence[Any], background: bool = False
    ) -> dict[int, np.ndarray]:
        """Carries the pieces out, one after the other; see ``evaluate.execute``.

        If one fails, or is interrupted, all buffers are as before.
        """
        written = self._early | self._written if self._may_fail else self._early
        saved = [(buffers[slot], buffers[slot].copy()) for slot in written]
        there = {value: buffers[slot] for slot, value in self._entering}
        try:
            for piece in self.pieces:
                own = {slot: there[value] for slot, value in piece.reads}
                made = self.execute(piece.graph, own, [items[n] for n in piece.items], background)
                for slot, value in piece.makes:
                    there[value] = made[slot]
                for value in piece.last:
                    there.pop(value, None)
        except BaseException:
            finish()
            for target, content in saved:
                target[...] = content
            raise
        return {slot: there[value] for slot, value in self.graph.outputs.items()}

    @property
    def _may_fail(self) -> bool:
        """Whether a piece may fail, as far as is known; not whether the first one does."""
        return any(
            bound is None or bound.may_fail
            for piece in self.pieces[1:]
            for bound in piece.graph.program or (None,)
        )


def in_pieces(graph: Graph, execute: Execute) -> Pieces | None:
    """The pieces of a program with loops whose numbers of steps vary; None for others."""
    found = loops(graph)
    if not found:
        return None
    key = tuple(sorted(loop.kind for loop in found))
    seen = _lengths.setdefault(key, set())
    _lengths.move_to_end(key)
    if len(_lengths) > KEPT:
        _lengths.popitem(last=False)
    count = tuple([loop.steps for loop in found])
    if len(seen) < LENGTHS or count in seen:
        seen.add(count)
        return None
    pieces = cut(graph, found, _graphs)
    while len(_graphs) > GRAPHS:
        _graphs.popitem(last=False)
    return None if pieces is None else Pieces(graph, pieces, execute)
