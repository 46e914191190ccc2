"""Long programs cut where they repeat themselves: pieces that are programs of their own.

The steps of a loop, unrolled by recording, are the same operations again and again. Where one is
found, the program is cut between groups of its steps, so that a loop of any length is made of a few
different pieces. A piece is a graph with slots and items of its own; what crosses a cut has memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from taimatsu.ir.graph import Argument, Given, Graph, Node, Operand

LEAST_NODES = 192  # shorter programs are compiled as they are
LONGEST_STEP = 400  # nodes of one step
PIECE_NODES = 160  # about as many nodes are in a piece of several steps


class Loop(NamedTuple):
    """Nodes that repeat: ``steps`` times ``length`` of them from ``begin`` on."""

    begin: int
    length: int
    steps: int
    kind: tuple[int, ...]  # equal for loops that do the same


class Piece(NamedTuple):
    """A part of a program.

    Attributes:
        graph: what it does; equal pieces share it.
        reads: its slots that have memory, and the program's values that lie there.
        makes: its slots whose content it changes or makes, and the values that are there then.
        items: the program's item for each of the graph's.
        last: the program's values that nothing after it needs.
    """

    graph: Graph
    reads: tuple[tuple[int, int], ...]
    makes: tuple[tuple[int, int], ...]
    items: tuple[int, ...]
    last: tuple[int, ...]


def loops(graph: Graph) -> list[Loop]:
    """The loops of a program, in order; parts that do not repeat for long are left out."""
    if len(graph.nodes) < LEAST_NODES or graph.is_piece:
        return []
    rough = [_rough(node) for node in graph.nodes]
    exact = [hash((k, _layouts(n))) for k, n in zip(rough, graph.nodes, strict=True)]
    return _loops(np.array(exact, np.int64), rough, 0, len(exact))


def _rough(node: Node) -> int:
    """A number that is equal for nodes that do the same, whatever the arrays' extents are."""
    read = [o.meta.ndim if type(o) is Operand else type(o) for o in node.operands]
    return hash((node.operation, *read, *[m.dtype.name for m in node.metas]))


def _layouts(node: Node) -> tuple:
    read = [o.meta for o in node.operands if type(o) is Operand]
    return repr(node.attributes), *read, *node.metas


def _loops(kinds: np.ndarray, rough: list[int], begin: int, end: int) -> list[Loop]:
    if end - begin < LEAST_NODES:
        return []
    own = kinds[begin:end]
    best: tuple[int, int, int] | None = None  # nodes covered, length, begin
    for length in range(2, min(LONGEST_STEP, len(own) // 3) + 1):
        first, run = _longest(own[length:] == own[:-length])
        if run >= 2 * length and (best is None or run + length > best[0] + best[1]):
            best = run + length, length, begin + first
    if best is None or best[0] < LEAST_NODES // 2:
        return []
    covered, length, first = best
    count = covered // length
    kind = tuple(sorted(rough[first : first + length]))
    before = _loops(kinds, rough, begin, first)
    after = _loops(kinds, rough, first + count * length, end)
    return [*before, Loop(first, length, count, kind), *after]


def _longest(equal: np.ndarray) -> tuple[int, int]:
    """Where the longest stretch of truth begins, and its length."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], equal.view(np.int8), [0]))))
    if not len(edges):
        return 0, 0
    begins, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - begins))
    return int(begins[longest]), int(ends[longest] - begins[longest])


def cut(graph: Graph, found: Sequence[Loop], known: dict[Any, Graph]) -> list[Piece] | None:
    """The pieces of a program with such loops; None where its memory does not let it be cut.

    ``known`` keeps the graphs of pieces.
    """
    roots = _roots(graph)
    if roots is None:
        return None
    last_use = dict.fromkeys(graph.outputs.values(), len(graph.nodes))
    for place in reversed(range(len(graph.nodes))):
        for value in graph.nodes[place].reads():
            last_use.setdefault(value, place)
    cuts = [0, *_cuts(found), len(graph.nodes)]
    return [_Cutter(graph, roots, last_use, a, b).piece(known) for a, b in pairwise(cuts) if a < b]


def _cuts(found: Iterable[Loop]) -> list[int]:
    """Where to cut: after groups of steps, and then after single ones."""
    made: list[int] = []
    for loop in found:
        several = max(PIECE_NODES // loop.length, 1)
        whole = loop.steps // several * several
        steps = [*range(0, whole, several), *range(whole, loop.steps + 1)]
        made += [loop.begin + step * loop.length for step in steps]
    return made


def _roots(graph: Graph) -> dict[int, int] | None:
    """The slots in whose memory values lie; None where one is made elsewhere than it must be."""
    before = {n.results[0]: n.operands[0].value for n in graph.nodes if n.is_write}
    made = {v for n in graph.nodes for v in n.results}
    roots = {value: slot for slot, value in graph.inputs.items()}
    for slot, value in graph.outputs.items():
        while value in before:
            value = before[value]
        if slot in graph.given and value not in made:
            roots.setdefault(value, slot)
    for node in graph.nodes:
        if node.is_write and node.operands[0].value in roots:
            roots[node.results[0]] = roots[node.operands[0].value]
            if node.operands[0].value not in node.dies:
                return None  # a copy is made, and written
    ends = list(graph.outputs.values())
    in_place = all(
        (roots.get(value) == slot) if slot in graph.given else value not in roots
        for slot, value in graph.outputs.items()
    )
    return roots if in_place and len(set(ends)) == len(ends) else None


class _Cutter:
    """Makes one piece: the nodes from ``begin`` to ``end``, with numbers of its own."""

    def __init__(
        self, graph: Graph, roots: dict[int, int], last_use: dict[int, int], begin: int, end: int
    ) -> None:
        self.whole = graph
        self.nodes = graph.nodes[begin:end]
        self.roots = roots
        self.last_use = last_use
        self.begin, self.end = begin, end
        self.values: dict[int, int] = {}  # the program's value -> the piece's
        self.items: dict[int, int] = {}
        self.slots: dict[int, int] = {}  # values with memory from outside -> slot
        self.given: dict[int, Given] = {}
        self.inputs: dict[int, int] = {}  # slot -> the program's value

    def piece(self, known: dict[Any, Graph]) -> Piece:
        made: set[int] = set()
        nodes: list[Node] = []
        kept: dict[int, int] = {}  # values that a copy is made of, to be written
        for place, node in enumerate(self.nodes, self.begin):
            for n, operand in enumerate(node.operands):
                if type(operand) is Operand and operand.value not in made:
                    unread = n == 0 and node.is_write and node.attributes["whole"]
                    self._enter(operand, not unread)
            if node.is_write:
                self._follow(node, place, made, kept)
            made.update(node.results)
            nodes.append(self._numbered(node))
        leaving = [v for v in sorted(made) if self.last_use.get(v, -1) >= self.end]
        outputs = {slot: value for value, slot in kept.items()}
        free = len(self.given)
        for value in leaving:
            slot = self.slots.get(value)
            if slot is None:
                slot, free = free, free + 1
            outputs[slot] = value
        graph = self._graph(nodes, outputs, known)
        used = {v for node in self.nodes for v in (*node.reads(), *node.results)}
        last = [v for v in sorted(used) if self.last_use.get(v, -1) < self.end]
        reads = {slot: value for value, slot in self.slots.items() if value not in made}
        return Piece(
            graph,
            tuple(sorted(reads.items())),
            tuple(sorted(outputs.items())),
            tuple(self.items),
            tuple(last),
        )

    def _enter(self, operand: Operand, is_read: bool) -> None:
        """Notes memory from outside."""
        value = operand.value
        if value not in self.slots:
            root = self.roots.get(value)
            if not is_read and root is None:
                return  # nothing of it is left
            slot = self.slots[value] = len(self.given)
            grad = root is not None and self.whole.given[root].grad
            self.given[slot] = Given(operand.meta, grad)
        if is_read:
            self.inputs[self.slots[value]] = value

    def _follow(self, node: Node, place: int, made: set[int], kept: dict[int, int]) -> None:
        """A write goes to the memory of what it replaces, unless that is wanted any longer."""
        old = node.operands[0].value
        slot = self.slots.get(old)
        if slot is None:
            return
        if self.last_use.get(old, -1) <= place:
            self.slots[node.results[0]] = slot
        elif self.last_use[old] >= self.end and old not in made:
            kept[old] = slot

    def _numbered(self, node: Node) -> Node:
        operands = tuple([self._operand(o) for o in node.operands])
        results = tuple([self._value(v) for v in node.results])
        return Node(node.operation, operands, node.attributes, results, node.metas, node.site)

    def _operand(self, operand: Any) -> Any:
        if type(operand) is Operand:
            offset = self._item(operand.offset) if operand.offset >= 0 else -1
            return Operand(self._value(operand.value), operand.meta, offset)
        return Argument(self._item(operand.index)) if type(operand) is Argument else operand

    def _value(self, value: int) -> int:
        return self.values.setdefault(value, len(self.values))

    def _item(self, item: int) -> int:
        return self.items.setdefault(item, len(self.items))

    def _graph(self, nodes: list[Node], outputs: dict[int, int], known: dict[Any, Graph]) -> Graph:
        inputs = {slot: self.values[value] for slot, value in self.inputs.items()}
        results = {slot: self.values[value] for slot, value in sorted(outputs.items())}
        key = (
            *[
                (n.operation, n.operands, repr(n.attributes), n.results, n.metas, n.site)
                for n in nodes
            ],
            *inputs.items(),
            *results.items(),
            *self.given.values(),
        )
        found = known.get(key)
        if found is None:
            found = known[key] = Graph(nodes, inputs, results, dict(self.given))
            found.is_piece = True
        return found
