"""What fusion gives to schedules, and what schedules give to plans.

Fusion puts stages into groups; a group becomes one kernel, or a few that run one after the other.
A schedule turns a group into launches: kernels, and which memory their arguments are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from taimatsu.ir.index import Index, Var, index
from taimatsu.ir.loops import Buffer, Kernel, row_major
from taimatsu.ir.stages import Cell, Stage, loads

ZERO = index(0)


@dataclass(eq=False)
class Pooled:
    """How a stage meets a contraction window by window.

    Attributes:
        rows: for each row of the group the stage's variable, None where there is one window.
        taps: by row, the variable of a reduction that goes through the window; none in maps.
    """

    rows: tuple[Var | None, ...]
    taps: dict[int, Var]


@dataclass(eq=False)
class Group:
    """Stages that are computed together.

    Attributes:
        kind: the schedule that it needs: "loops" (maps, reductions, scans), "contraction" (a sum of
            products and what is done with it), "scatter", "update" or "opaque".
        stages: in order; stages that a fused one replaced are no longer there.
        outputs: those of them that get memory. The others live inside of a row, for as long as the
            kernel is at it.
        rows: for each stage its variables of the shared (row) axes, outermost first; equal in
            number and extents for all of them; none of extent 1. A stage loads another one of the
            group at its own row variables, so rows are independent; what is left of a stage's axes,
            and its reduce axes, are loops inside of the row.
        pools: of a contraction: stages that reduce windows of its rows which do not overlap, and
            maps of these. They are members that have no ``rows``.
        window: by row, how many elements of it a window of the pools has.
    """

    kind: str
    stages: list[Stage]
    outputs: list[Stage]
    rows: dict[Stage, tuple[Var, ...]] = field(default_factory=dict)
    pools: dict[Stage, Pooled] = field(default_factory=dict)
    window: dict[int, int] = field(default_factory=dict)

    def inner(self, stage: Stage) -> tuple[Var, ...]:
        """A stage's axes that are not shared; those of extent 1 are neither (they stand at 0)."""
        shared = self.rows[stage]
        return tuple([v for v in stage.axes if v.extent != 1 and not any(v is s for s in shared)])

    def pooled(self) -> list[Stage]:
        """The stages whose elements pools read: they need memory where no tile holds windows."""
        read = {node.detail[0] for stage in self.pools for node in loads(stage)}
        return [s for s in self.stages if s in read and s not in self.pools]


@dataclass(frozen=True)
class Layout:
    """Where the elements of a stage lie: strides (in elements) for each dimension.

    ``size`` is what it takes in all, ``origin`` the element of coordinates 0 (a halo is before it).
    """

    strides: tuple[Index, ...]
    size: Index
    origin: Index = ZERO
    aligned: bool = True

    def buffer(self, name: str, stage: Stage) -> Buffer:
        return Buffer(
            name,
            stage.dtype,
            stage.shape,
            "argument",
            self.strides,
            self.origin,
            self.aligned,
            size=self.size,
        )


def ordered_layout(shape: tuple[Index, ...], order: tuple[int, ...]) -> Layout:
    """Elements without gaps; ``order`` names the dimensions from the outermost to the innermost."""
    packed = row_major(tuple([shape[d] for d in order]))
    strides: list[Index] = [index(0)] * len(shape)
    for dimension, stride in zip(order, packed, strict=True):
        strides[dimension] = stride
    size = index(1)
    for extent in shape:
        size = size * extent
    return Layout(tuple(strides), size)


def layout_of(stage: Stage, chosen: dict[Stage, Layout]) -> Layout:
    """A window's own layout, else the one that was chosen for the stage."""
    if stage.kind == "window":
        size = index(1)
        for extent, stride in zip(stage.shape, stage.strides, strict=True):
            size = size + (extent - 1) * stride
        return Layout(stage.strides, size, index(0), False)
    return chosen[stage]


@dataclass(eq=False)
class Temporary:
    """Memory between the kernels of one group: partial results, packed weights."""

    name: str
    dtype: str
    size: Index


Memory = Stage | Cell | Temporary


@dataclass(eq=False)
class Launch:
    """A kernel and what it is launched with.

    Attributes:
        kernel: its symbols are the program's, by name.
        memory: for each buffer of ``kernel.arguments``. A window stands for its cell at its offset;
            an update for the window that it writes.
        numbers: for each number of the kernel its place among the program's.
        nodes: the graph's nodes that it carries out, for messages and profiles.
        messages: by error code, what a failed check says.
        flops: floating-point operations, bytes: memory that must be read and written.
        extents: symbols of the kernel that are not the program's: what they stand for.
        kind: of the group that it belongs to.
    """

    kernel: Kernel
    memory: tuple[Memory, ...]
    numbers: tuple[int, ...] = ()
    nodes: tuple[Any, ...] = ()
    messages: dict[int, str] = field(default_factory=dict)
    flops: Index = ZERO
    bytes: Index = ZERO
    extents: dict[str, Index] = field(default_factory=dict)
    kind: str = ""
