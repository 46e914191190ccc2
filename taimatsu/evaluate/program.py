"""A compiled program bound to one graph: sizes known, machine code loaded, ready to launch.

Binding evaluates a plan's sizes for the graph's extents and prepares a block of words, those that
kernels are launched with: what does not change from launch to launch is written once. A launch
copies the block, fills in addresses and numbers, and makes one call for each stretch of kernels.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from taimatsu import dtypes
from taimatsu.compiler.groups import Launch, Temporary
from taimatsu.compiler.lower import Lowered
from taimatsu.compiler.plan import Plan, Reference, Space, lay_out, owner
from taimatsu.config import config
from taimatsu.errors import OperationError
from taimatsu.evaluate.interpreter import evaluate_node
from taimatsu.evaluate.profile import PROFILE
from taimatsu.evaluate.statistics import STATISTICS
from taimatsu.ir.expression import SIZES
from taimatsu.ir.graph import Graph
from taimatsu.ir.index import Index
from taimatsu.ir.stages import Cell, Item, Stage
from taimatsu.recorder.number import plain
from taimatsu.runtime import threads
from taimatsu.runtime.buffers import Mapping
from taimatsu.runtime.buffers import pool as memory_pool
from taimatsu.storage import OWN_MEMORY, finish, take_off, window

OWN_MEMORY.add(Mapping)

WORTH_FLYING = 100e-6  # seconds of work from which on waking another thread pays

Segment = tuple[threads.Program, list[Launch], list[threads.Phase]]


def numpy_dtype(name: str) -> np.dtype:
    """The NumPy dtype of a stage's dtype."""
    found: np.dtype = dtypes.by_name(name).numpy
    return found


def item_bytes(name: str) -> int:
    return SIZES.get(name) or numpy_dtype(name).itemsize


class _Words:
    """The block's words: which are constants, addresses and numbers."""

    def __init__(self) -> None:
        self.constants: list[int] = []
        self.addresses: list[tuple[int, int, int]] = []  # word, source, bytes to add
        self.floats: list[tuple[int, int]] = []  # word, number's place
        self.integers: list[tuple[int, int]] = []
        self.scratch: list[tuple[int, int]] = []  # word, bytes for each worker
        self.sources: dict[Any, int] = {}

    def add(self, value: int = 0) -> int:
        self.constants.append(value)
        return len(self.constants) - 1

    def address(self, source: Any, add: int) -> None:
        number = self.sources.setdefault(source, len(self.sources))
        self.addresses.append((self.add(), number, add))


class Bound:
    """See the module's text.

    Args:
        plan: for the graph's structure.
        graph, lowered: what is launched; ``slots`` and ``items`` are the canonical ones.
        functions: the loaded code of each launch, in order.
    """

    def __init__(
        self,
        plan: Plan,
        graph: Graph,
        lowered: Lowered,
        slots: Sequence[int],
        items: Sequence[int],
        functions: dict[Launch, Any],
    ) -> None:
        self.graph = graph
        self.plan = plan
        self.guards = tuple(lowered.guards.items())
        self.numbers = [item for item, _ in lowered.numbers]
        self.kinds = [kind for _, kind in lowered.numbers]
        # Nodes of the program that the plan was made for, and those of this one.
        self._nodes = {id(a): b for a, b in zip(plan.nodes, graph.nodes, strict=False)}
        self._slot = dict(zip(plan.slots, slots, strict=True))
        self._item = dict(zip(plan.items, items, strict=True))
        self._values = {s.name: v for s, v in lowered.symbols.items()}
        self._offsets, self.arena_bytes = lay_out(plan.spaces, self._space_bytes)
        self.outputs = [
            (self._slot[slot], stage, self.size(plan.layouts[stage].size), stage.dtype)
            for slot, stage in plan.outputs.items()
        ]
        self._owned = {stage: slot for slot, stage, _, _ in self.outputs}
        self._words = _Words()
        self._scratch_bytes = 0
        self.segments: list[Segment | Reference] = []
        self._cut(functions)
        self._settle()

    # -- binding ---------------------------------------------------------------------------

    def size(self, extent: Index) -> int:
        """The number that an index over the program's symbols has here."""
        return extent.evaluate(lambda symbol: self._values[symbol.name])

    def size_of(self, launch: Launch, extent: Index) -> int:
        """The same for an index over a launch's symbols."""
        own = {name: self.size(value) for name, value in launch.extents.items()}
        return extent.evaluate(
            lambda symbol: own[symbol.name] if symbol.name in own else self._values[symbol.name]
        )

    def _space_bytes(self, space: Space) -> int:
        return self.size(space.size) * item_bytes(space.dtype)

    def _cut(self, functions: dict[Launch, Any]) -> None:
        """Stretches of launches between reference calls, as programs of phases."""
        stretch: list[Launch] = []
        for step in [*self.plan.steps, None]:
            if isinstance(step, Launch):
                stretch.append(step)
                continue
            if stretch:
                phases = [self._phase(launch, functions[launch]) for launch in stretch]
                owners = [functions[launch] for launch in stretch]
                self.segments.append((threads.Program(phases, owners), stretch, phases))
                stretch = []
            if step is not None:
                self.segments.append(step)

    def _phase(self, launch: Launch, code: Any) -> threads.Phase:
        words = self._words
        begin = len(words.constants)
        for memory in launch.memory:
            words.address(*self._place(memory))
        values = {name: self.size(value) for name, value in launch.extents.items()}
        for symbol in launch.kernel.symbols:
            found = values.get(symbol.name)
            words.add(self._values[symbol.name] if found is None else found)
        for place, kind in zip(launch.numbers, launch.kernel.numbers, strict=True):
            target = words.floats if kind == "float64" else words.integers
            target.append((words.add(), place))

        scratch = self.size_of(launch, launch.kernel.scratch_bytes)
        if launch.kernel.scratch():
            words.scratch.append((words.add(), 0))
            self._scratch_bytes = max(self._scratch_bytes, scratch)
        chunks = self.size_of(launch, launch.kernel.chunks)
        return threads.Phase(code.address, max(chunks, 0), begin * 8)

    def _place(self, memory: Any) -> tuple[Any, int]:
        """The source of an argument's address, and the bytes to add to it."""
        held = owner(memory)
        add = 0
        item = -1
        if isinstance(memory, Stage) and memory.cell is not None:
            size = item_bytes(memory.dtype)
            if isinstance(memory.offset, Item):
                item = self._item[memory.offset.place]
            else:
                add = memory.offset * size
            if item >= 0:
                return ("moving", self._root(held), item, size), add + self._in_arena(held)
        return ("fixed", self._root(held)), add + self._in_arena(held)

    def _root(self, held: Any) -> Any:
        """What an array's address is counted from: a slot, an output or the arena."""
        if isinstance(held, Cell):
            return self._slot[held.slot]
        if isinstance(held, Stage) and held in self._owned:
            return self._owned[held]
        return -1

    def _in_arena(self, held: Any) -> int:
        if isinstance(held, (Stage, Temporary)) and held not in self._owned:
            return self._offsets[held]
        return 0

    def _settle(self) -> None:
        """Turns the lists of words into arrays for NumPy's indexing."""
        words = self._words
        self._template = np.array(words.constants or [0], np.int64)
        table = np.array(words.addresses or np.zeros((0, 3)), np.int64).reshape(-1, 3)
        self._address_words, self._address_sources, self._address_adds = table.T.copy()
        self._float_words = [w for w, _ in words.floats]
        self._float_places = [p for _, p in words.floats]
        self._integer_words = [w for w, _ in words.integers]
        self._integer_places = [p for _, p in words.integers]
        self._scratch_words = [w for w, _ in words.scratch]
        self._sources = list(words.sources)
        self._updated = sorted(
            {
                self._slot[s.cell.slot]
                for g in self.plan.groups
                for s in g.stages
                if s.kind == "update" and s.cell is not None and s.cell.stage is None
            }
        )
        self._may_fail = any(
            isinstance(step, Reference) or step.messages for step in self.plan.steps
        )

        self._may_fly = (
            not self._may_fail and len(self.segments) == 1 and self._work() >= WORTH_FLYING
        )

    def _work(self) -> float:
        """About how many seconds a launch takes one thread."""
        launches = [step for step in self.plan.steps if isinstance(step, Launch)]
        flops = sum(self.size_of(launch, launch.flops) for launch in launches)
        moved = sum(self.size_of(launch, launch.bytes) for launch in launches)
        return flops / 50e9 + moved / 10e9

    def memory_text(self) -> str:
        """Where intermediate values lie, a line each."""
        lines = [f"arena of {self.arena_bytes} bytes, {len(self.outputs)} results"]
        for space in self.plan.spaces:
            begin, size = self._offsets[space.memory], self._space_bytes(space)
            lines.append(f"  {begin} + {size}: {space.memory}, steps {space.first}-{space.last}")
        return "\n".join(lines)

    # -- launching -------------------------------------------------------------------------

    def fits(self, items: Sequence[Any]) -> bool:
        """Whether the numbers of a launch are of the kind, and value, that it was made for."""
        for item, value in self.guards:
            if plain(items[item]) != value:
                return False
        for item, kind in zip(self.numbers, self.kinds, strict=True):
            if isinstance(plain(items[item]), float) is not (kind == "float64"):
                return False
        return True

    def run(
        self, buffers: dict[int, np.ndarray], items: Sequence[Any], background: bool = False
    ) -> dict[int, np.ndarray]:
        """Carries the program out; see ``evaluate.execute``.

        Raises ``KernelError`` where a check fails; buffers are as before then.
        """
        finish()
        made = dict(buffers)
        for slot, _, size, kind in self.outputs:
            made[slot] = self._memory(size, kind)
        arena = memory_pool.empty(self.arena_bytes) if self.arena_bytes else None
        saved = None
        if self._may_fail and self._updated:
            saved = [(made[slot], made[slot].copy()) for slot in self._updated]
        block, keep = self._filled(made, items, arena)
        if background and self._may_fly and not config.profile:
            STATISTICS.launches += 1
            owner = (block, keep, arena)
            program = self.segments[0][0]  # type: ignore[index]
            launch = threads.current_pool().start(program, address_of(block), owner)
            take_off(launch, {id(buffer): buffer for buffer in made.values()})
            return {slot: made[slot] for slot in self.graph.outputs}
        try:
            self._carry_out(block, made, items, arena)
        except BaseException:
            for target, content in saved or ():
                target[...] = content
            raise
        del keep
        return {slot: made[slot] for slot in self.graph.outputs}

    def _memory(self, size: int, kind: str) -> np.ndarray:
        try:
            return memory_pool.empty(size, numpy_dtype(kind))
        except MemoryError as error:
            raise OperationError.make(
                "memory",
                "enough memory for the result",
                f"{size} elements of {kind} do not fit",
                "use smaller batches or free tensors",
                MemoryError,
            ) from error

    def _filled(
        self, made: dict[int, np.ndarray], items: Sequence[Any], arena: np.ndarray | None
    ) -> tuple[np.ndarray, Any]:
        """The block of a launch, and what must live as long as it."""
        block = self._template.copy()
        known: dict[int, int] = {-1: 0 if arena is None else address_of(arena)}
        addresses = []
        for source in self._sources:
            root = source[1]
            address = known.get(root)
            if address is None:
                address = known[root] = address_of(made[root])
            if source[0] == "moving":
                address += int(plain(items[source[2]])) * source[3]
            addresses.append(address)
        if addresses:
            found = np.array(addresses, np.int64)
            block[self._address_words] = found[self._address_sources] + self._address_adds
        if self._float_words:
            numbers = self.numbers
            block.view(np.float64)[self._float_words] = [
                plain(items[numbers[p]]) for p in self._float_places
            ]
        if self._integer_words:
            numbers = self.numbers
            block[self._integer_words] = [plain(items[numbers[p]]) for p in self._integer_places]
        scratch = None
        if self._scratch_words:
            count = threads.current_pool().threads
            scratch = memory_pool.empty(self._scratch_bytes * count)
            block[self._scratch_words] = address_of(scratch)
        return block, scratch

    def _carry_out(
        self,
        block: np.ndarray,
        made: dict[int, np.ndarray],
        items: Sequence[Any],
        arena: np.ndarray | None,
    ) -> None:
        where = address_of(block)
        pool = threads.current_pool()
        for segment in self.segments:
            if isinstance(segment, Reference):
                self._refer(segment, made, items, arena)
                continue
            program = segment[0]
            STATISTICS.launches += 1
            if config.profile:
                self._carry_out_timed(segment, where)
                continue
            pool.run(program, where)

    def _carry_out_timed(self, segment: Segment, where: int) -> None:
        program, launches, phases = segment
        for launch, phase in zip(launches, phases, strict=True):
            PROFILE.run(phase, program.owners, where, launch, self)

    def _refer(
        self,
        step: Reference,
        made: dict[int, np.ndarray],
        items: Sequence[Any],
        arena: np.ndarray | None,
    ) -> None:
        """Has the reference carry out a node on windows of the program's memory."""
        STATISTICS.references += 1
        first = step.stages[0]
        inputs = []
        for read in first.opaque_inputs:
            if isinstance(read, Item):
                inputs.append(plain(items[self._item[read.place]]))
            elif isinstance(read, Stage):
                inputs.append(self._seen(read, made, items, arena))
            else:
                inputs.append(read)
        node = self._nodes[id(first.node)]
        begin = time.perf_counter()
        results = evaluate_node(node, tuple(inputs))
        if config.profile:
            PROFILE.note(node, time.perf_counter() - begin)
        for stage in step.stages:
            flat = self._flat(stage, made, arena)
            flat[...] = np.transpose(results[stage.result], stage.order).reshape(-1)

    def _seen(
        self,
        stage: Stage,
        made: dict[int, np.ndarray],
        items: Sequence[Any],
        arena: np.ndarray | None,
    ) -> np.ndarray:
        """A window as a NumPy array."""
        assert stage.cell is not None
        if stage.cell.stage is None:
            flat = made[self._slot[stage.cell.slot]]
        else:
            flat = self._flat(stage.cell.stage, made, arena)
        offset = stage.offset
        first = plain(items[self._item[offset.place]]) if isinstance(offset, Item) else offset
        shape = tuple([self.size(n) for n in stage.shape])
        strides = tuple([self.size(s) for s in stage.strides])
        return window(flat, shape, strides, int(first))

    def _flat(
        self, stage: Stage, made: dict[int, np.ndarray], arena: np.ndarray | None
    ) -> np.ndarray:
        """The memory of a stage as a flat array."""
        if stage in self._owned:
            return made[self._owned[stage]]
        assert arena is not None
        size = self.size(self.plan.layouts[stage].size)
        begin = self._offsets[stage]
        kind = numpy_dtype(stage.dtype)
        return arena[begin : begin + size * kind.itemsize].view(kind)


def address_of(array: np.ndarray) -> int:
    """The address of an array's first element."""
    found: int = array.__array_interface__["data"][0]
    return found
