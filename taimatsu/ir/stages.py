"""Stages: a program as definitions of arrays, element by element, before loops are chosen.

A stage defines an array by an expression over its axes: what operations mean, without order, place
or layout. Loads inside of expressions name other stages and coordinates (indices, or computed int64
values). Axes keep their identity: a consumer that loads ``x[n, h + 1, c]`` says in its coordinates
how it meets the producer along each axis.

Kinds:

- ``"window"``: elements of a ``Cell`` (memory), seen through a layout.
- ``"map"``: ``out[axes] = value(axes)``.
- ``"reduce"``: ``out[axes] = combine over reduce_axes of value(axes, reduce_axes)``.
- ``"scan"``: ``out[axes] = combine of value over positions 0 to axes[scan_axis]`` along one axis.
- ``"scatter"``: a copy of ``initial`` (a stage), then for each point of ``axes``, in row-major
  order, ``out[where] = combine(out[where], value)``.
- ``"update"``: writes ``value(axes)`` into a window of a cell; windows ``after`` it see it.
- ``"opaque"``: computed by the operation's reference from whole arrays.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from taimatsu.ir.expression import Expression, constant, load
from taimatsu.ir.index import Index, Var

KINDS = ("window", "map", "reduce", "scan", "scatter", "update", "opaque")

# What reductions, scans and scatters combine with. "first" keeps the one that was there.
# "argmax" and "argmin" give the row-major position (int64) among the reduce axes of the first
# greatest (least) value; a nan counts as greatest (least).
COMBINES = ("add", "mul", "min", "max", "and", "or", "xor", "argmax", "argmin")
# Scatters may also replace.
REPLACE = "replace"


class Item(NamedTuple):
    """A number that is given at launch: its place among the launch's items."""

    place: int


Offset = int | Item


class Cell:
    """Memory that windows see and updates write: a slot's buffer, or that of a stage.

    A stage's cell holds its values in its ``order``, without gaps.
    """

    __slots__ = ("slot", "stage")

    def __init__(self, slot: int, stage: Stage | None = None) -> None:
        self.slot = slot
        self.stage = stage

    def __repr__(self) -> str:
        return f"slot {self.slot}" if self.stage is None else f"memory of {self.stage}"


class Stage:
    """One array; see the module's text.

    Args:
        kind: one of ``KINDS``.
        shape: the extents of the result.
        dtype: of the result; for reductions the dtype of ``value`` too, except argmax and argmin.
        axes: for each dimension of the result its variable; for "scatter" the variables of the
            points.
        value: the expression; None for windows and opaque stages.

    Attributes:
        reduce_axes: of "reduce".
        combine: of "reduce", "scan" and "scatter".
        scan_axis: of "scan", the position of the axis; ``reverse`` scans from the end.
        initial: of "scatter".
        where: of "scatter": a coordinate for each dimension of the result.
        checks: conditions (bool expressions over the axes) that must hold, or the launch fails with
            the error that ``node`` names: pairs (condition, message).
        node: the graph's node it comes from (messages, profile); None for windows.
        fused: the nodes of maps that were substituted into it.
        order: the dimensions from the outermost to the innermost as the value lies in memory where
            somebody outside sees it; row-major unless said.
        cell: of "window" and "update": the memory.
        strides: of "window" and "update": how it is seen, in elements.
        offset: of "window" and "update": its first element: an int, or the place of the launch's
            item that says it.
        after: of "window": the last update before it is read, or None; of "update": the one before.
        readers: of "update": windows that must be read before it is done.
        picks: of a map of places in windows: the reduction "max" over the windows, each of which
            has its greatest element there.
        opaque_inputs: of "opaque": what the reference reads (windows; ``Item`` for the launch's
            items; other objects as they are); ``result`` says which of its results this is.
    """

    __slots__ = (
        "_loads",
        "after",
        "axes",
        "cell",
        "checks",
        "combine",
        "dtype",
        "fused",
        "initial",
        "kind",
        "node",
        "number",
        "offset",
        "opaque_inputs",
        "order",
        "picks",
        "readers",
        "reduce_axes",
        "result",
        "reverse",
        "scan_axis",
        "shape",
        "strides",
        "value",
        "where",
    )

    def __init__(
        self,
        kind: str,
        shape: tuple[Index, ...],
        dtype: str,
        axes: tuple[Var, ...] = (),
        value: Expression | None = None,
    ) -> None:
        self.kind = kind
        self.shape = shape
        self.dtype = dtype
        self.axes = axes
        self.value = value
        self.number = -1
        self.reduce_axes: tuple[Var, ...] = ()
        self.combine = ""
        self.scan_axis = -1
        self.reverse = False
        self.initial: Stage | None = None
        self.where: tuple[Any, ...] = ()
        self.checks: tuple[tuple[Expression, str], ...] = ()
        self.node: Any = None
        self.fused: tuple[Any, ...] = ()
        self.order = tuple(range(len(shape)))
        self.cell: Cell | None = None
        self.strides: tuple[Index, ...] = ()
        self.offset: Offset = 0
        self.after: Stage | None = None
        self.readers: tuple[Stage, ...] = ()
        self.picks: Stage | None = None
        self.result = 0
        self.opaque_inputs: tuple[Any, ...] = ()
        self._loads: tuple[Any, ...] | None = None  # what ``loads`` found in which expressions

    def __getitem__(self, coordinates: Any) -> Expression:
        if type(coordinates) is not tuple:
            coordinates = (coordinates,)
        if len(coordinates) != len(self.shape):
            raise ValueError(f"{self}: {len(coordinates)} coordinates for {len(self.shape)} dims")
        return load(self, coordinates, self.dtype)

    def __repr__(self) -> str:
        return f"s{self.number}:{self.kind}:{self.dtype}[{', '.join(map(str, self.shape))}]"


def identity(combine: str, dtype: str) -> Expression:
    """The value that changes nothing: what a reduction over nothing gives."""
    if combine in ("add", "or", "xor"):
        return constant(0, dtype)
    if combine in ("mul", "and"):
        return constant(-1 if combine == "and" and dtype != "bool" else 1, dtype)
    least = combine == "max"
    if dtype == "bool":
        return constant(not least, dtype)
    if dtype.startswith(("float", "bfloat")):
        return constant(float("-inf") if least else float("inf"), dtype)
    bits = int(dtype.lstrip("uint"))
    if dtype.startswith("u"):
        return constant(0 if least else 2**bits - 1, dtype)
    return constant(-(2 ** (bits - 1)) if least else 2 ** (bits - 1) - 1, dtype)


def loads(stage: Stage) -> list[Expression]:
    """Every load in a stage's expressions (value, coordinates, checks), each node once."""
    from taimatsu.ir.expression import walk

    value, where, checks = stage.value, stage.where, stage.checks
    known = stage._loads
    if known is not None and known[0] is value and known[1] is where and known[2] is checks:
        found: list[Expression] = known[3]
        return found
    roots = [] if value is None else [value]
    roots += [c for c in where if type(c) is Expression]
    roots += [condition for condition, _ in checks]
    seen: set[Expression] = set()
    found = [node for root in roots for node in walk(root, seen) if node.op == "load"]
    stage._loads = (value, where, checks, found)
    return found


def producers(stage: Stage) -> list[Stage]:
    """The stages that a stage reads, each once, in the order of their first use."""
    found: dict[Stage, None] = {}
    for node in loads(stage):
        found[node.detail[0]] = None
    for needed in (stage.initial, stage.after, *stage.readers):
        if needed is not None:
            found[needed] = None
    if stage.cell is not None and stage.cell.stage is not None:
        found[stage.cell.stage] = None
    for read in stage.opaque_inputs:
        if isinstance(read, Stage):
            found[read] = None
    return list(found)


class View:
    """A read of a stage through a layout: what a rule's tensor operands are.

    ``view[i, j]`` is the expression of an element. ``shape`` holds indices: ints are sizes known
    now, others come from data.
    """

    __slots__ = ("coordinates", "dtype", "meta", "shape", "stage")

    def __init__(
        self, stage: Stage, shape: tuple[Index, ...], dtype: str, coordinates: Any
    ) -> None:
        self.stage = stage
        self.shape = shape
        self.dtype = dtype
        self.coordinates = coordinates  # view's indices -> the stage's coordinates
        self.meta: Any = None  # the operand's description in the graph

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, where: Any) -> Expression:
        if type(where) is not tuple:
            where = (where,)
        if len(where) != len(self.shape):
            raise ValueError(f"{len(where)} coordinates for a view of {len(self.shape)} dims")
        return load(self.stage, self.coordinates(where), self.dtype)
