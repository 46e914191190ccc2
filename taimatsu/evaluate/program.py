"""A compiled program bound to one graph: sizes known, machine code loaded, ready to launch.

Binding evaluates a plan's sizes for the graph's extents and prepares a block of words, those that
kernels are launched with: what does not change from launch to launch is written once. A launch
fills in addresses and numbers, and makes one call for each stretch of kernels. Blocks are used
again: memory comes back to the same places, so that few words change from one to the next.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from taimatsu import dtypes
from taimatsu.compiler.plan import Call, Place, Plan, ReferenceCall, Seen, Space, lay_out
from taimatsu.config import config
from taimatsu.errors import OperationError
from taimatsu.evaluate import specialisation
from taimatsu.evaluate.interpreter import evaluate_node
from taimatsu.evaluate.profile import PROFILE
from taimatsu.evaluate.specialisation import HOT_LAUNCHES, Request
from taimatsu.evaluate.statistics import STATISTICS
from taimatsu.ir.expression import SIZES
from taimatsu.ir.graph import Graph
from taimatsu.ir.index import Index, Symbol, index
from taimatsu.ir.stages import Item
from taimatsu.ir.target import Target
from taimatsu.recorder.number import plain
from taimatsu.runtime import threads
from taimatsu.runtime.buffers import ALIGNMENT, Mapping, class_size
from taimatsu.runtime.buffers import pool as memory_pool
from taimatsu.storage import OWN_MEMORY, finish, postpone_interrupt, take_off, window

OWN_MEMORY.add(Mapping)

WORTH_FLYING = 50e-6  # seconds of work from which on waking another thread pays
ARENA = -1  # the source of addresses in the arena
BYTES = np.dtype(np.uint8)
_Byte = ctypes.c_char  # by its from_buffer an address is found in a quarter of NumPy's time

Segment = tuple[threads.Program, list[Call], list[threads.Phase]]


def numpy_dtype(name: str) -> np.dtype:
    """The NumPy dtype of a stage's dtype."""
    found: np.dtype = dtypes.by_name(name).numpy
    return found


def item_bytes(name: str) -> int:
    """Bytes of an element."""
    return SIZES.get(name) or numpy_dtype(name).itemsize


class _Words:
    """The block's words: which are constants, addresses and numbers."""

    def __init__(self) -> None:
        self.constants: list[int] = []
        self.addresses: list[tuple[int, int, int]] = []  # word, source, bytes to add
        self.floats: list[tuple[int, int]] = []  # word, item
        self.integers: list[tuple[int, int]] = []
        self.scratch: list[int] = []
        self.sources: dict[tuple[int, int, int], int] = {}  # (root, item or -1, item's bytes)

    def add(self, value: int = 0) -> int:
        self.constants.append(value)
        return len(self.constants) - 1

    def address(self, source: tuple[int, int, int], add: int) -> None:
        number = self.sources.setdefault(source, len(self.sources))
        self.addresses.append((self.add(), number, add))


class _Block:
    """The words of one launch, which change in place; free again when that is done."""

    __slots__ = ("address", "floats", "integers", "known", "launch", "roots", "words")

    def __init__(self, template: Any, roots: int, moving: int) -> None:
        self.words = template.copy()
        self.address = address_of(self.words)
        flat = memoryview(self.words).cast("B")
        self.integers = flat.cast("q")
        self.floats = flat.cast("d")
        self.roots = [-1] * roots  # the addresses that its words have: of memory,
        self.known = [-1] * moving  # and of what lies there at an offset that came in
        self.launch: threads.Launch | None = None  # that may still read it

    def is_free(self) -> bool:
        """Whether no launch in the background reads it."""
        if self.launch is not None and self.launch.owner is None:
            self.launch = None
        return self.launch is None


class Bound:
    """See the module's text.

    Args:
        plan: of the graph's structure.
        graph: what is launched.
        slots, items: the graph's slots and items, in the plan's (canonical) order.
        symbols: the values of the plan's symbols here.
        numbers: the items that numbers are read from, and their kinds.
        guards: items whose values the plan was made for.
        functions: the loaded code by object key.
        target: what it was compiled for.
    """

    def __init__(
        self,
        plan: Plan,
        graph: Graph,
        slots: Sequence[int],
        items: Sequence[int],
        symbols: dict[Symbol, int],
        numbers: Sequence[tuple[int, str]],
        guards: dict[int, int],
        functions: dict[str, Any],
        target: Target,
    ) -> None:
        self.target = target
        self.graph = graph
        self.plan = plan
        self.guards = tuple(guards.items())
        self.numbers = [item for item, _ in numbers]
        self._kinds = [(item, kind == "float64") for item, kind in numbers]
        self._slots = list(slots)
        self._items = list(items)
        self._values = {s.name: v for s, v in symbols.items()}
        self._offsets, self.arena_bytes = lay_out(plan.spaces, self._space_bytes)
        self.outputs = [
            (self._slots[slot], *self._memory(self.size(size), numpy_dtype(kind)))
            for slot, size, kind in plan.outputs
        ]
        self._updated = [self._slots[slot] for slot in plan.updated]
        self.may_fail = any(isinstance(call, ReferenceCall) or call.may_fail for call in plan.calls)
        self._scratch_bytes = 0
        self.segments: list[Segment | ReferenceCall] = []
        self._arenas: dict[int, tuple[int, int, np.dtype]] = {}
        self._words = _Words()
        self._cut(functions)
        self._settle()

    # -- binding ---------------------------------------------------------------------------

    def size(self, extent: Index) -> int:
        """The number that an index over the program's symbols has here."""
        if not extent.terms:
            return extent.constant
        return extent.evaluate(lambda symbol: self._values[symbol.name])

    @staticmethod
    def _memory(count: int, kind: np.dtype) -> tuple[int, int, np.dtype]:
        """What is asked of the pool for so many elements."""
        return class_size(count * kind.itemsize), count, kind

    def _arena(self, threads: int) -> tuple[int, int, np.dtype]:
        """What is asked for intermediate values, and behind them for each thread's scratch."""
        found = self._arenas.get(threads)
        if found is None:
            total = self._scratch_begin + self._scratch_bytes * threads
            found = self._arenas[threads] = self._memory(total, BYTES)
        return found

    def _space_bytes(self, space: Space) -> int:
        return self.size(space.bytes)

    def _cut(self, functions: dict[str, Any]) -> None:
        """Stretches of launches between reference calls, as programs of phases."""
        stretch: list[Call] = []
        for call in [*self.plan.calls, None]:
            if isinstance(call, Call):
                stretch.append(call)
                continue
            if stretch:
                phases = [self._phase(c, functions[c.key]) for c in stretch]
                owners = [functions[c.key] for c in stretch]
                self.segments.append((threads.Program(phases, owners), stretch, phases))
                stretch = []
            if call is not None:
                self.segments.append(self._here(call))

    def _here(self, call: ReferenceCall) -> ReferenceCall:
        """A reference call with the sizes that it has here."""

        def known(extents: tuple[Index, ...]) -> tuple[Index, ...]:
            return tuple([index(self.size(n)) for n in extents])

        inputs = [
            replace(x, shape=known(x.shape), strides=known(x.strides)) if isinstance(x, Seen) else x
            for x in call.inputs
        ]
        results = [(n, at, index(self.size(k)), order) for n, at, k, order in call.results]
        return replace(call, inputs=tuple(inputs), results=tuple(results))

    def _phase(self, call: Call, code: Any) -> threads.Phase:
        words = self._words
        begin = len(words.constants)
        for place in call.places:
            words.address(*self._source(place))
        for value in call.symbols:
            words.add(self.size(value))
        for number, kind in call.numbers:
            target = words.floats if kind == "float64" else words.integers
            target.append((words.add(), self.numbers[number]))
        if call.scratch is not None:
            words.scratch.append(words.add())
            self._scratch_bytes = max(self._scratch_bytes, self.size(call.scratch))
        return threads.Phase(code.address, max(self.size(call.chunks), 0), begin * 8)

    def _source(self, place: Place) -> tuple[tuple[int, int, int], int]:
        """What an address is counted from, and the bytes to add to it."""
        size = item_bytes(place.dtype)
        add = place.offset * size
        root = ARENA
        if place.kind == "slot":
            root = self._slots[place.number]
        else:
            add += self._offsets[place.number]
        item = self._items[place.item] if place.item >= 0 else -1
        return (root, item, size if item >= 0 else 0), add

    def _settle(self) -> None:
        """Puts the words in the order in which a launch writes them."""
        words = self._words
        self._template = np.array(words.constants or [0], np.int64)
        self._roots = list({root: None for root, _, _ in words.sources if root != ARENA})
        places = {root: n for n, root in enumerate([ARENA, *self._roots])}
        written: list[list[tuple[int, int]]] = [[] for _ in words.sources]
        for word, source, add in words.addresses:
            written[source].append((word, add))
        self._still: list[tuple[int, list]] = []  # place of the root, (word, bytes to add)
        self._moving: list[tuple[int, int, int, list]] = []  # with the item, and its bytes
        for (root, item, size), own in zip(words.sources, written, strict=True):
            if item < 0:
                self._still.append((places[root], own))
            else:
                self._moving.append((places[root], item, size, own))
        self._scratch_begin = -(-self.arena_bytes // ALIGNMENT) * ALIGNMENT
        self._has_arena = bool(self.arena_bytes or words.scratch)
        self._floats, self._integers, self._scratch_words = (
            words.floats,
            words.integers,
            words.scratch,
        )
        self._blocks: list[_Block] = []
        self._until_hot = HOT_LAUNCHES if specialisation.requests(self) else 0
        self._may_fly = (
            not self.may_fail and len(self.segments) == 1 and self._work() >= WORTH_FLYING
        )

    def _work(self) -> float:
        """About how many seconds a launch takes one thread."""
        return sum(self.seconds(call) for call in self.plan.calls if isinstance(call, Call))

    def seconds(self, call: Call) -> float:
        """About how many seconds a kernel takes one thread."""
        return self.size(call.flops) / 50e9 + self.size(call.bytes) / 10e9

    def specialise(self, codes: dict[Request, Any]) -> None:
        """Has other code carry out kernels from the next launch on."""
        segments: list[Segment | ReferenceCall] = []
        for segment in self.segments:
            if isinstance(segment, ReferenceCall):
                segments.append(segment)
                continue
            program, calls, phases = segment
            owners = list(program.owners)
            phases = list(phases)
            for place, call in enumerate(calls):
                code = codes.get(specialisation.request(self, call))
                if code is not None:
                    owners[place] = code
                    phases[place] = phases[place]._replace(function=code.address)
            segments.append((threads.Program(phases, owners), calls, phases))
        self.segments = segments  # in one step: a launch finds either

    def extents(self) -> str:
        """The values of the program's symbols."""
        return ", ".join([f"{name} = {value}" for name, value in self._values.items()])

    def memory_text(self) -> str:
        """Where intermediate values lie, a line each."""
        lines = [f"arena of {self.arena_bytes} bytes, {len(self.outputs)} results"]
        for space, begin in zip(self.plan.spaces, self._offsets, strict=True):
            size = self._space_bytes(space)
            lines.append(f"  {begin} + {size}: {space.name}, steps {space.first}-{space.last}")
        return "\n".join(lines)

    # -- launching -------------------------------------------------------------------------

    def fits(self, items: Sequence[Any]) -> bool:
        """Whether the numbers of a launch are of the kind, and value, that it was made for."""
        for item, value in self.guards:
            if plain(items[item]) != value:
                return False
        for item, is_float in self._kinds:
            if isinstance(plain(items[item]), float) is not is_float:
                return False
        return True

    def run(
        self, buffers: dict[int, np.ndarray], items: Sequence[Any], background: bool = False
    ) -> dict[int, np.ndarray]:
        """Carries the program out; see ``evaluate.execute``.

        Raises ``KernelError`` where a check fails; buffers are as before then.
        """
        self._until_hot -= 1
        if not self._until_hot:
            specialisation.ask(self)
        finish()
        made = dict(buffers)
        for slot, size, count, kind in self.outputs:
            made[slot] = _allocated(size, count, kind)
        arena = None
        if self._has_arena:
            arena = _allocated(*self._arena(threads.current_pool().threads))
        block = self._free_block()
        self._fill(block, made, items, arena)
        if background and self._may_fly and not config.profile:
            STATISTICS.launches += 1
            program = self.segments[0][0]  # type: ignore[index]
            launch = threads.current_pool().start(program, block.address, (block, arena))
            block.launch = launch
            written = frozenset([id(made[slot]) for slot in self.graph.outputs])
            take_off(launch, {id(buffer): buffer for buffer in made.values()}, written)
        elif self.may_fail and self._updated:
            self._carry_out_or_undo(block, made, items, arena)
        else:
            self._carry_out(block, made, items, arena)
        self._blocks.append(block)
        return {slot: made[slot] for slot in self.graph.outputs}

    def _free_block(self) -> _Block:
        try:
            block = self._blocks.pop()
        except IndexError:
            pass
        else:
            if block.is_free():
                return block
        return _Block(self._template, len(self._roots) + 1, len(self._moving))

    def _carry_out_or_undo(
        self,
        block: _Block,
        made: dict[int, np.ndarray],
        items: Sequence[Any],
        arena: np.ndarray | None,
    ) -> None:
        saved = [(made[slot], made[slot].copy()) for slot in self._updated]
        try:
            self._carry_out(block, made, items, arena)
        except BaseException:
            for target, content in saved:
                target[...] = content
            raise

    def _fill(
        self,
        block: _Block,
        made: dict[int, np.ndarray],
        items: Sequence[Any],
        arena: np.ndarray | None,
    ) -> None:
        """Writes what this launch has in other places than the block's last one, and numbers."""
        found = [0 if arena is None else address_of(arena)]
        found += [address_of(made[root]) for root in self._roots]
        if found != block.roots:
            self._fill_roots(block, found)
        known, integers, floats = block.known, block.integers, block.floats
        for number, (place, item, size, words) in enumerate(self._moving):
            address = found[place] + int(plain(items[item])) * size
            if known[number] != address:
                known[number] = address
                for word, add in words:
                    integers[word] = address + add
        for word, item in self._floats:
            floats[word] = plain(items[item])
        for word, item in self._integers:
            integers[word] = plain(items[item])

    def _fill_roots(self, block: _Block, found: list[int]) -> None:
        """Writes the addresses that follow from where memory is alone."""
        before, integers = block.roots, block.integers
        for place, words in self._still:
            address = found[place]
            if before[place] != address:
                for word, add in words:
                    integers[word] = address + add
        scratch = found[0] + self._scratch_begin
        for word in self._scratch_words:
            integers[word] = scratch
        block.roots = found

    def _carry_out(
        self,
        block: _Block,
        made: dict[int, np.ndarray],
        items: Sequence[Any],
        arena: np.ndarray | None,
    ) -> None:
        where = block.address
        for segment in self.segments:
            if isinstance(segment, ReferenceCall):
                self._refer(segment, made, items, arena)
                continue
            STATISTICS.launches += 1
            if config.profile:
                self._carry_out_timed(segment, where)
            else:
                _launch(segment[0], where)

    def _carry_out_timed(self, segment: Segment, where: int) -> None:
        program, calls, phases = segment
        for call, phase in zip(calls, phases, strict=True):
            begin = time.perf_counter()
            _launch(threads.Program([phase], program.owners), where)
            seconds = time.perf_counter() - begin
            PROFILE.note(self, call, seconds, self.size(call.flops), self.size(call.bytes))

    # -- the reference ---------------------------------------------------------------------

    def _refer(
        self,
        call: ReferenceCall,
        made: dict[int, np.ndarray],
        items: Sequence[Any],
        arena: np.ndarray | None,
    ) -> None:
        """Has the reference carry out a node on windows of the program's memory."""
        STATISTICS.references += 1
        inputs = []
        for read in call.inputs:
            if isinstance(read, Item):
                inputs.append(plain(items[self._items[read.place]]))
            elif isinstance(read, Seen):
                inputs.append(self._seen(read, made, items, arena))
            else:
                inputs.append(read)
        begin = time.perf_counter()
        results = evaluate_node(self.graph.nodes[call.node], tuple(inputs))
        if config.profile:
            PROFILE.note(self, call, time.perf_counter() - begin, 0, 0)
        for number, place, size, order in call.results:
            flat = self._flat(place, made, arena)[: size.constant]
            flat[...] = np.transpose(results[number], order).reshape(-1)

    def _seen(
        self,
        seen: Seen,
        made: dict[int, np.ndarray],
        items: Sequence[Any],
        arena: np.ndarray | None,
    ) -> np.ndarray:
        """An array at its place."""
        place = seen.place
        offset = place.offset
        if place.item >= 0:
            offset += int(plain(items[self._items[place.item]]))
        shape = tuple([n.constant for n in seen.shape])
        strides = tuple([n.constant for n in seen.strides])
        return window(self._flat(place, made, arena), shape, strides, offset)

    def _flat(
        self, place: Place, made: dict[int, np.ndarray], arena: np.ndarray | None
    ) -> np.ndarray:
        """The memory of a slot or a space as a flat array."""
        if place.kind == "slot":
            return made[self._slots[place.number]]
        kind = numpy_dtype(place.dtype)
        begin = self._offsets[place.number]
        size = self._space_bytes(self.plan.spaces[place.number]) // kind.itemsize * kind.itemsize
        if arena is None:
            return np.empty(0, kind)
        return arena[begin : begin + size].view(kind)


def _launch(program: threads.Program, where: int) -> None:
    """Carries phases out. Ctrl-C meanwhile is answered when the whole recording is done."""
    try:
        threads.current_pool().run(program, where)
    except threads.Interrupted:
        postpone_interrupt()


def _allocated(size: int, count: int, kind: np.dtype) -> np.ndarray:
    """Memory of a class's size, as an array of so many elements."""
    try:
        return memory_pool.take(size, count, kind)
    except MemoryError as error:
        raise OperationError.make(
            "memory",
            "enough memory for the result",
            f"{count} elements of {kind} do not fit",
            "use smaller batches or free tensors",
            MemoryError,
        ) from error


def address_of(array: Any) -> int:
    """The address of the first element of a NumPy array."""
    try:
        return ctypes.addressof(_Byte.from_buffer(array))
    except (TypeError, ValueError):  # read-only, or empty
        found: int = array.__array_interface__["data"][0]
        return found
