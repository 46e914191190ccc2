"""The trie of recordings: each state is a sequence of operations seen before.

Everything that follows from the sequence alone is kept here, once: shapes, dtypes, which tensors
require gradients, the autograd graph, the programs compiled for it. A recording (``recording.py``)
is a walk along this trie with the values that belong to one run.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from taimatsu.config import config
from taimatsu.ir.graph import Argument, Given, Graph, Node, Operand
from taimatsu.ir.meta import Meta

INPUT = "input"
OPERATION = "operation"
VIEW = "view"
WRITE = "write"

SOFT_BOUND = 2000  # operations after which a recording is cut where its first one comes again
HARD_BOUND = 20000
TRIE_LIMIT = 200_000  # states kept before those not carried out lately are forgotten
PROGRAM_LIMIT = 64  # programs kept per state, for as many sets of live values


class Info:
    """What a state knows of one tensor: its number, its storage, its place in the graph."""

    __slots__ = ("tid", "slot", "meta", "offset", "grad", "gid", "state", "index", "whole")

    def __init__(
        self,
        tid: int,
        slot: int,
        meta: Meta,
        offset: int,
        grad: bool,
        gid: int,
        state: State,
        index: int,
        whole: bool,
    ) -> None:
        self.tid = tid  # number of the tensor in the recording
        self.slot = slot  # number of its storage in the recording
        self.meta = meta
        self.offset = offset  # index of the runtime argument that holds its offset, or -1
        self.grad = grad  # requires a gradient
        self.gid = gid  # the tensor whose gradient this one's is (itself, but after a write)
        self.state = state  # the step that made it
        self.index = index  # which of that step's results it is
        self.whole = whole  # sees every element of its storage


class Missing(dict):
    """Edges of a state at which every step must take the slow path (its edges are ``known``)."""

    __slots__ = ("known",)

    def __init__(self) -> None:
        super().__init__()
        self.known: dict = {}


class State:
    """A sequence of recorded steps; ``edges`` lead to the sequences that are one step longer."""

    __slots__ = (
        "edges",
        "meta",  # of the first result, as `tid`, `slot`, `grad`: what the fast path reads
        "tid",
        "slot",
        "grad",
        "extra",  # anything the fast path cannot do: several results, checked values
        "parent",
        "kind",
        "operation",
        "attributes",
        "inputs",  # per input: tid | ("argument", index) | ("static", value) | None
        "results",  # Info of the new tensors
        "recorded_grad",  # the step is part of the autograd graph
        "tensors",  # how many tensors exist at this state
        "slots",  # how many storages and runtime arguments (they share one numbering)
        "depth",
        "site",
        "programs",
        "memo",
        "stamp",  # when the sequence was last carried out; 0: never
    )

    def __init__(self, parent: State | None, kind: str) -> None:
        self.parent = parent
        self.kind = kind
        self.operation: Any = None
        self.attributes: dict[str, Any] = {}
        self.inputs: tuple = ()
        self.results: tuple[Info, ...] = ()
        self.recorded_grad = False
        self.meta: Any = None
        self.tid = -1
        self.slot = -1
        self.grad = False
        self.extra = False
        self.site = ""
        self.programs: dict = {}
        self.memo: dict = {}
        self.stamp = 0
        if parent is None:
            self.tensors = self.slots = self.depth = 0
            self.edges: dict = Missing()
            return
        self.tensors = parent.tensors
        self.slots = parent.slots
        self.depth = parent.depth + 1
        self.edges = {} if self.depth < SOFT_BOUND else Missing()

    def known(self) -> dict:
        """The edges, however they are looked up."""
        edges = self.edges
        return edges.known if type(edges) is Missing else edges

    def edge(self, key: tuple) -> State | None:
        edges = self.edges
        return (edges.known if type(edges) is Missing else edges).get(key)

    def connect(self, key: tuple, following: State) -> State:
        """Adds an edge; if another thread was first, its state is the one to use."""
        made = self.known().setdefault(key, following)
        if made is following:
            STATISTICS.states += 1
            STATISTICS.live += 1
        return made

    def add_result(
        self, slot: int, meta: Meta, offset: int, grad: bool, whole: bool, gid: int = -1
    ) -> Info:
        """Numbers one more tensor; ``slot`` is ``self.slots`` for a new storage."""
        tid = self.tensors
        info = Info(
            tid,
            slot,
            meta,
            offset,
            grad,
            tid if gid < 0 else gid,
            self,
            len(self.results),
            whole,
        )
        self.results = (*self.results, info)
        self.tensors += 1
        if slot == self.slots:
            self.slots += 1
        if tid == self.results[0].tid:
            self.meta, self.tid, self.slot, self.grad = meta, tid, slot, grad
        return info

    def add_argument(self) -> int:
        """Numbers one more runtime argument."""
        self.slots += 1
        return self.slots - 1

    def path(self) -> list[State]:
        """The states from the first step to this one."""
        steps = []
        state = self
        while state.parent is not None:
            steps.append(state)
            state = state.parent
        steps.reverse()
        return steps

    def infos(self) -> list[Info]:
        """All tensors of the sequence, by number."""
        table: list[Info] = []
        for step in self.path():
            table.extend(step.results)
        return table

    def final_infos(self) -> list[Info]:
        """The same, remembered: for states where recordings end, whose graphs are walked."""
        found = self.memo.get("infos")
        if found is None:
            found = self.memo["infos"] = self.infos()
        return found

    def owned(self) -> tuple[tuple[int, ...], Callable]:
        """The storages that the sequence makes or writes, and how to pick them (remembered)."""
        found = self.memo.get("owned")
        if found is None:
            steps = [s for s in self.path() if s.kind in (OPERATION, WRITE)]
            slots = tuple(sorted({info.slot for s in steps for info in s.results}))
            if len(slots) > 1:
                found = slots, operator.itemgetter(*slots)
            else:
                found = slots, lambda items: tuple(items[s] for s in slots)
            self.memo["owned"] = found
        return found

    def work(self) -> float:
        """About how many operations on numbers the sequence takes (remembered).

        A step with several operands counts as the product of matrices of their sizes would.
        """
        found = self.memo.get("work")
        if found is None:
            table = self.infos()
            found = 0.0
            for step in self.path():
                if step.kind == OPERATION:
                    sizes = [table[x].meta.numel for x in step.inputs if type(x) is int]
                    sizes += [info.meta.numel for info in step.results]
                    most = sorted(sizes)[-3:]
                    found += math.sqrt(math.prod(most)) if len(most) == 3 else max(most, default=0)
            self.memo["work"] = found
        return found

    def graph_steps(self) -> tuple[State, ...]:
        """The steps of the autograd graph, in order (remembered)."""
        found = self.memo.get("graph_steps")
        if found is None:
            found = tuple(s for s in self.path() if s.recorded_grad)
            self.memo["graph_steps"] = found
        return found


class Statistics:
    """Counts that tests read: a steady loop adds no states."""

    __slots__ = ("states", "live", "flushes", "programs")

    def __init__(self) -> None:
        self.states = 0
        self.live = 0  # of them, those not forgotten
        self.flushes = 0
        self.programs = 0


STATISTICS = Statistics()


def program_for(final: State, live: frozenset[int]) -> Graph:
    """The program of a sequence that writes the storages ``live`` (remembered by state)."""
    program = final.programs.get(live)
    if program is None:
        program = build_graph(final, live)
        if config.verify:
            program.verify()
        if len(final.programs) >= PROGRAM_LIMIT:
            final.programs.clear()
        final.programs[live] = program
        STATISTICS.programs += 1
    return program


def serving_program(final: State, live: frozenset[int], items: list) -> Graph:
    """A program of a sequence that writes the storages ``live``, and perhaps others too.

    A set that was never there before is served by the program of a larger one, if that is ready
    for ``items``: what else it writes is dropped. A set that comes again gets its own.
    """
    program = final.programs.get(live)
    if program is not None:
        return program
    served = final.memo.setdefault("served", set())
    if live not in served:
        larger = [
            (len(other), program)
            for other, program in final.programs.items()
            if live < other and program.is_ready(items)
        ]
        if larger:
            if len(served) >= PROGRAM_LIMIT:
                served.clear()
            served.add(live)
            return min(larger, key=operator.itemgetter(0))[1]
    served.discard(live)
    return program_for(final, live)


def build_graph(final: State, live: frozenset[int]) -> Graph:
    """The program of a sequence of steps that writes the storages ``live``."""
    nodes: list[Node] = []
    values: dict[int, int] = {}  # slot -> its present value
    inputs: dict[int, int] = {}
    given: dict[int, Given] = {}
    written: set[int] = set()
    table: list[Info] = []
    count = 0

    def operand(reference: Any) -> Any:
        if type(reference) is int:
            info = table[reference]
            return Operand(values[info.slot], info.meta, info.offset)
        if reference is None:
            return None
        kind, content = reference
        return Argument(content) if kind == "argument" else content

    for step in final.path():
        for info in step.results:
            if info.slot not in values:
                values[info.slot] = count
                if step.kind is INPUT:
                    inputs[info.slot] = count
                    given[info.slot] = Given(info.meta, info.grad)
                else:
                    written.add(info.slot)
                count += 1
        if step.kind is OPERATION:
            operands = tuple(map(operand, step.inputs))
            results = tuple(values[info.slot] for info in step.results)
            metas = tuple(info.meta for info in step.results)
            made = Node(step.operation, operands, step.attributes, results, metas, step.site)
            nodes.append(made)
        elif step.kind is WRITE:
            slot = step.results[0].slot
            operands = tuple(map(operand, step.inputs))
            values[slot] = count
            written.add(slot)
            whole = {"whole": table[step.inputs[0]].whole}
            nodes.append(Node(None, operands, whole, (count,), (step.results[0].meta,), step.site))
            count += 1
        table.extend(step.results)
    outputs = {slot: values[slot] for slot in sorted(written & live)}
    return Graph(nodes, inputs, outputs, given)
