"""Plans: the launches of a program, and which memory each needs for how long.

A plan is made once for a structure; sizes in it are indices over the program's symbols. It refers
to nothing of the program that it was made for: slots, items and nodes are numbered by the
canonical text, so that it can be kept on disk. For sizes that are known it is laid out: every array
that lives only inside of the program gets its place in one arena, shared by arrays that are not
needed at the same time.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from taimatsu.compiler.groups import Launch, Layout, Memory, Temporary
from taimatsu.compiler.transport import pack_kernel
from taimatsu.ir.graph import Graph
from taimatsu.ir.index import Index, Symbol, index
from taimatsu.ir.stages import Cell, Item, Stage

ALIGNMENT = 64
# Groups whose kernels are compiled again for known extents. Others gain nothing that shows.
SPECIALISED_KINDS = frozenset({"contraction"})


@dataclass(eq=False)
class Reference:
    """A node that the reference carries out between launches: its result stages."""

    stages: list[Stage]


Step = Launch | Reference


# -- what is kept ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where an array lies: in a slot's memory, or in the arena.

    Attributes:
        kind: "slot" (canonical number), or "space" (number in ``Plan.spaces``).
        number: which one.
        offset: elements from its begin.
        item: the canonical item that says more elements, or -1.
        dtype: of the elements.
    """

    kind: str
    number: int
    offset: int
    item: int
    dtype: str


@dataclass(frozen=True)
class Seen:
    """An array at a place: its shape and strides, in elements."""

    place: Place
    shape: tuple[Index, ...]
    strides: tuple[Index, ...]


@dataclass(eq=False)
class Call:
    """The launch of a kernel.

    Attributes:
        key: its object's.
        name: for people.
        places: of the kernel's buffers.
        symbols: the values of the kernel's symbols, over the program's.
        numbers: pairs (place among the program's numbers, "float64" or "int64").
        scratch: bytes for each worker; None if the kernel takes none.
        chunks: how many.
        nodes: of the graph, by place.
        flops, bytes: what it computes and moves.
        may_fail: whether it checks anything.
        specialises: whether code for known extents is worth having.
        kernel: the loops; None once there is code, unless somebody watches.
        packed: then the loops as bytes, compressed, where they may be wanted again.
    """

    key: str
    name: str
    places: tuple[Place, ...]
    symbols: tuple[Index, ...]
    numbers: tuple[tuple[int, str], ...]
    scratch: Index | None
    chunks: Index
    nodes: tuple[int, ...]
    flops: Index
    bytes: Index
    may_fail: bool
    specialises: bool = False
    kernel: Any = None
    packed: Any = b""  # bytes, a name that is taken here

    def loops(self) -> Any:
        """The kernel's loops as bytes."""
        return zlib.decompress(self.packed) if self.packed else pack_kernel(self.kernel)

    def forget_loops(self) -> None:
        """Keeps of the loops what may be wanted again: they are most of a plan's memory."""
        self.packed, self.kernel = self._kept(), None

    def _kept(self) -> Any:
        if self.kernel is None or not self.specialises:
            return self.packed
        return zlib.compress(pack_kernel(self.kernel), 1)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "kernel": None, "packed": self._kept()}


@dataclass(eq=False)
class ReferenceCall:
    """A node, by place, carried out by the reference.

    Attributes:
        inputs: what it reads: ``Seen``, ``Item`` (canonical), others as they are.
        results: for each result that is wanted its number, its place, its size in elements and the
            order of its dimensions in memory.
    """

    node: int
    inputs: tuple[Any, ...]
    results: tuple[tuple[int, Place, Index, tuple[int, ...]], ...]


@dataclass(eq=False)
class Space:
    """An array in the arena: its bytes, and the first and last step that need it."""

    name: str
    bytes: Index
    first: int
    last: int


@dataclass(eq=False)
class Plan:
    """See the module's text.

    Attributes:
        calls: in order.
        spaces: what lies in the arena.
        outputs: slots that get memory of their own: (canonical slot, elements, dtype).
        updated: canonical slots whose memory is written in place.
    """

    calls: list[Call | ReferenceCall]
    spaces: list[Space]
    outputs: list[tuple[int, Index, str]]
    updated: list[int]
    keys: list[str] = field(default_factory=list)

    def has_loops(self) -> bool:
        """Whether the kernels can be shown."""
        return all(call.kernel is not None for call in self.calls if isinstance(call, Call))

    def forget_loops(self) -> None:
        """See ``Call.forget_loops``."""
        for call in self.calls:
            if isinstance(call, Call):
                call.forget_loops()


# -- how it is made ----------------------------------------------------------------------------


def owner(memory: Memory) -> Memory:
    """The stage or temporary whose memory an argument is; a window's or an update's cell's."""
    if isinstance(memory, Stage) and memory.cell is not None:
        return memory.cell if memory.cell.stage is None else memory.cell.stage
    return memory


def touched(step: Step) -> list[Memory]:
    """All memory that a step reads or writes."""
    if isinstance(step, Launch):
        return list(step.memory)
    inputs = [x for x in step.stages[0].opaque_inputs if isinstance(x, Stage)]
    return [*step.stages, *inputs]


class Planner:
    """Makes the plan of scheduled steps.

    Args:
        steps: in order.
        layouts: of all stages that have memory.
        outputs: stages whose memory is handed out, by slot.
        graph: the program.
        slots, items: its slots and items in the canonical order.
        item_bytes: the size of a dtype's elements.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        layouts: dict[Stage, Layout],
        outputs: dict[int, Stage],
        graph: Graph,
        slots: Sequence[int],
        items: Sequence[int],
        item_bytes: Callable[[str], int],
    ) -> None:
        self.steps = steps
        self.layouts = layouts
        self.outputs = outputs
        self.owned = {stage: slot for slot, stage in outputs.items()}
        self.slots = {slot: n for n, slot in enumerate(slots)}
        self.items = {item: n for n, item in enumerate(items)}
        self.nodes = {id(node): n for n, node in enumerate(graph.nodes)}
        self.item_bytes = item_bytes
        self.spaces: list[Space] = []
        self.numbers: dict[Memory, int] = {}

    def plan(self, keys: dict[Launch, str]) -> Plan:
        """The plan; ``keys`` are those of the launches' objects."""
        self._find_spaces()
        calls = [
            self._call(step, keys[step]) if isinstance(step, Launch) else self._reference(step)
            for step in self.steps
        ]
        outputs = [
            (self.slots[slot], self.layouts[stage].size, stage.dtype)
            for slot, stage in self.outputs.items()
        ]
        updated = {
            self.slots[m.cell.slot]
            for step in self.steps
            if isinstance(step, Launch)
            for m in step.memory
            if isinstance(m, Stage)
            and m.kind == "update"
            and m.cell is not None
            and m.cell.stage is None
        }
        return Plan(calls, self.spaces, outputs, sorted(updated))

    def _find_spaces(self) -> None:
        for place, step in enumerate(self.steps):
            for memory in map(owner, touched(step)):
                if not isinstance(memory, (Stage, Temporary)) or memory in self.owned:
                    continue
                number = self.numbers.get(memory)
                if number is not None:
                    self.spaces[number].last = place
                    continue
                self.numbers[memory] = len(self.spaces)
                size = memory.size if isinstance(memory, Temporary) else self.layouts[memory].size
                name = memory.name if isinstance(memory, Temporary) else str(memory)
                total = index(size) * self.item_bytes(memory.dtype)
                self.spaces.append(Space(name, total, place, place))

    def _place(self, memory: Memory) -> Place:
        held = owner(memory)
        offset, item = 0, -1
        if isinstance(memory, Stage) and memory.cell is not None:
            if isinstance(memory.offset, Item):
                item = self.items[memory.offset.place]
            else:
                offset = memory.offset
        dtype = "uint8" if isinstance(memory, Cell) else memory.dtype
        if isinstance(held, Cell):
            return Place("slot", self.slots[held.slot], offset, item, dtype)
        if isinstance(held, Stage) and held in self.owned:
            return Place("slot", self.slots[self.owned[held]], offset, item, dtype)
        return Place("space", self.numbers[held], offset, item, dtype)

    def _call(self, launch: Launch, key: str) -> Call:
        kernel = launch.kernel
        own: dict[Any, Index | int] = {Symbol(n): v for n, v in launch.extents.items()}
        scratch = kernel.scratch_bytes.substitute(own) if kernel.scratch() else None
        return Call(
            key,
            kernel.name,
            tuple([self._place(m) for m in launch.memory]),
            tuple([index(s).substitute(own) for s in kernel.symbols]),
            tuple(zip(launch.numbers, kernel.numbers, strict=True)),
            scratch,
            kernel.chunks.substitute(own),
            tuple([self.nodes[id(n)] for n in launch.nodes if id(n) in self.nodes]),
            launch.flops.substitute(own),
            launch.bytes.substitute(own),
            bool(launch.messages),
            bool(kernel.symbols) and launch.kind in SPECIALISED_KINDS,
            kernel,
        )

    def _reference(self, step: Reference) -> ReferenceCall:
        first = step.stages[0]
        inputs: list[Any] = []
        for read in first.opaque_inputs:
            if isinstance(read, Stage):
                inputs.append(Seen(self._place(read), read.shape, read.strides))
            elif isinstance(read, Item):
                inputs.append(Item(self.items[read.place]))
            else:
                inputs.append(read)
        results = tuple(
            [(s.result, self._place(s), self.layouts[s].size, s.order) for s in step.stages]
        )
        return ReferenceCall(self.nodes[id(first.node)], tuple(inputs), results)


def lay_out(spaces: Sequence[Space], bytes_of: Callable[[Space], int]) -> tuple[list[int], int]:
    """Byte offsets in the arena, and its size: each array below those that live when it does.

    Large arrays are placed first, each at the lowest place that is free during its life.
    """
    sized = sorted(
        ((-(-bytes_of(s) // ALIGNMENT) * ALIGNMENT, n) for n, s in enumerate(spaces)),
        key=lambda pair: -pair[0],
    )
    placed: list[tuple[int, int, Space]] = []
    offsets = [0] * len(spaces)
    total = 0
    for size, number in sized:
        space = spaces[number]
        begin = 0
        for start, end, _ in sorted(
            (p for p in placed if p[2].first <= space.last and space.first <= p[2].last),
            key=lambda p: p[0],
        ):
            if begin + size <= start:
                break
            begin = max(begin, end)
        placed.append((begin, begin + size, space))
        offsets[number] = begin
        total = max(total, begin + size)
    return offsets, total
