"""Plans: the launches of a program, and which memory each needs for how long.

A plan is made once for a structure; sizes in it are indices over the program's symbols. For sizes
that are known it is laid out: every array that lives only inside of the program gets its place in
one arena, shared by arrays that are not needed at the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from taimatsu.compiler.groups import Group, Launch, Layout, Memory, Temporary
from taimatsu.ir.graph import Node
from taimatsu.ir.index import Index, index
from taimatsu.ir.stages import Stage

ALIGNMENT = 64


@dataclass(eq=False)
class Reference:
    """A node that the reference carries out between launches: its result stages."""

    stages: list[Stage]


Step = Launch | Reference


@dataclass(eq=False)
class Space:
    """An array in the arena: how many elements, and the first and last step that need it."""

    memory: Stage | Temporary
    dtype: str
    size: Index
    first: int
    last: int


@dataclass(eq=False)
class Plan:
    """See the module's text.

    Attributes:
        steps: in order.
        spaces: what lies in the arena.
        layouts: of all stages that have memory.
        outputs: stages whose memory is handed out, by slot (of the first program).
        slots, items: the first program's slots and items, in the canonical order.
        groups: what fusion made, for people.
        nodes: the first program's graph nodes.
    """

    steps: list[Step]
    spaces: list[Space]
    layouts: dict[Stage, Layout]
    outputs: dict[int, Stage]
    slots: list[int] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)


def owner(memory: Memory) -> Memory:
    """The stage or temporary whose memory an argument is; a window's or an update's cell's."""
    if isinstance(memory, Stage) and memory.cell is not None:
        return memory.cell if memory.cell.stage is None else memory.cell.stage
    return memory


def reads_of(step: Step) -> list[Memory]:
    """All memory that a step touches."""
    if isinstance(step, Launch):
        return list(step.memory)
    inputs = [x for x in step.stages[0].opaque_inputs if isinstance(x, Stage)]
    return [*step.stages, *inputs]


def spaces_of(
    steps: list[Step], layouts: dict[Stage, Layout], outputs: dict[int, Stage]
) -> list[Space]:
    """What must be in the arena, and for how long."""
    held = set(outputs.values())
    found: dict[Memory, Space] = {}
    for place, step in enumerate(steps):
        for memory in map(owner, reads_of(step)):
            if not isinstance(memory, (Stage, Temporary)) or memory in held:
                continue
            space = found.get(memory)
            if space is not None:
                space.last = place
                continue
            size = memory.size if isinstance(memory, Temporary) else layouts[memory].size
            found[memory] = Space(memory, memory.dtype, index(size), place, place)
    return list(found.values())


def lay_out(
    spaces: list[Space], bytes_of: Callable[[Space], int]
) -> tuple[dict[Stage | Temporary, int], int]:
    """Byte offsets in the arena, and its size: each array below those that live when it does.

    Large arrays are placed first, each at the lowest place that is free during its life.
    """
    sized = sorted(
        ((-(-bytes_of(s) // ALIGNMENT) * ALIGNMENT, s) for s in spaces), key=lambda p: -p[0]
    )
    placed: list[tuple[int, int, Space]] = []
    offsets: dict[Stage | Temporary, int] = {}
    total = 0
    for size, space in sized:
        begin = 0
        for start, end, _ in sorted(
            (p for p in placed if p[2].first <= space.last and space.first <= p[2].last),
            key=lambda p: p[0],
        ):
            if begin + size <= start:
                break
            begin = max(begin, end)
        placed.append((begin, begin + size, space))
        offsets[space.memory] = begin
        total = max(total, begin + size)
    return offsets, total
