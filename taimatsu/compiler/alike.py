"""Groups that are alike are scheduled once: equal layers, time steps, the next program's passes.

A group's *form* is all that a schedule may look at: its stages' expressions, extents, rows and
memory, with stages, variables, cells and numbers called by the order in which they are met. Groups
of equal form get the same kernels, launched on their own memory. What a schedule comes to read must
be part of the form; with ``Report.verify`` every group is scheduled anyhow, and compared.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from taimatsu.compiler.groups import Group, Launch, Layout, Pooled, Temporary
from taimatsu.ir.expression import Expression, walk
from taimatsu.ir.index import Index, Product, Symbol, Var
from taimatsu.ir.stages import Item, Stage
from taimatsu.ir.target import Target

KEPT = 512  # forms whose kernels are remembered: a hundredth of a megabyte each, or a tenth


class Form:
    """What a schedule sees of a group.

    Attributes:
        key: equal for groups that are alike.
        stages: those that it computes or reads, in the order in which they are met.
        numbers: the places of its numbers among the program's, in increasing order.
    """

    def __init__(self, group: Group, layouts: dict[Stage, Layout], target: Target) -> None:
        self.stages: list[Stage] = []
        self.layouts = layouts
        self._places: dict[Stage, int] = {}
        self._others: dict[Any, int] = {}  # cells, owners of memory, offsets, variables
        self._indices: dict[Index, Any] = {}
        self._nodes: dict[Expression, int] = {}
        self._parts: list[Any] = []
        self.numbers = _numbers(group)
        self._ranks = {place: rank for rank, place in enumerate(self.numbers)}
        outputs = set(group.outputs)
        for stage in group.stages:
            self._number(stage)
        self._members = set(group.stages)
        for stage in group.stages:
            self._outside(stage)
            rows = tuple([self._var(v) for v in group.rows.get(stage, ())])
            self._parts.append((rows, stage in outputs))
            self._definition(stage)
            if stage in group.pools:
                self._pooled(group.pools[stage])
        window = tuple(sorted(group.window.items()))
        self.key = (group.kind, target, window, tuple(self._parts))

    def _pooled(self, pooled: Pooled) -> None:
        """How a stage goes through windows of the rows."""
        rows = tuple([None if v is None else self._var(v) for v in pooled.rows])
        taps = tuple([(row, self._var(v)) for row, v in sorted(pooled.taps.items())])
        self._parts.append(("pooled", rows, taps))

    # -- stages ----------------------------------------------------------------------------

    def _number(self, stage: Stage) -> int:
        place = self._places[stage] = len(self.stages)
        self.stages.append(stage)
        return place

    def _place(self, stage: Stage) -> int:
        place = self._places.get(stage)
        if place is None:
            place = self._number(stage)
            self._outside(stage)
        return place

    def _outside(self, stage: Stage) -> None:
        """What can be known of a stage without what it is computed from: its array."""
        layout = self.layouts.get(stage)
        lies = None
        if layout is not None:
            strides = tuple([self._index(n) for n in layout.strides])
            lies = (strides, self._index(layout.size), self._index(layout.origin), layout.aligned)
        shape = tuple([self._index(n) for n in stage.shape])
        self._parts.append((stage.kind, stage.dtype, shape, stage.order, lies))
        if stage.cell is None:
            return
        cell = stage.cell
        owner = cell.slot if cell.stage is None else cell.stage
        offset = stage.offset
        if isinstance(offset, Item):
            offset = -1 - self._other(offset)
        strides = tuple([self._index(n) for n in stage.strides])
        after = self._places[stage.after] if stage.after in self._members else -1
        self._parts.append((self._other(cell), self._other(owner), offset, strides, after))

    def _definition(self, stage: Stage) -> None:
        """What a stage computes."""
        axes = tuple([self._var(v) for v in stage.axes])
        over = tuple([self._var(v) for v in stage.reduce_axes])
        self._parts.append((axes, over, stage.combine, stage.scan_axis, stage.reverse))
        if stage.initial is not None:
            self._parts.append(("initial", self._place(stage.initial)))
            if stage.initial.kind == "map" and stage.initial not in self.layouts:
                self._definition(stage.initial)  # computed where it is copied
        if stage.value is not None:
            self._parts.append(("value", self._expression(stage.value)))
        for c in stage.where:
            self._parts.append(("where", self._coordinate(c)))
        for condition, message in stage.checks:
            self._parts.append(("check", self._expression(condition), message))

    # -- what they are made of -------------------------------------------------------------

    def _other(self, thing: Any) -> int:
        return self._others.setdefault(thing, len(self._others))

    def _var(self, var: Var) -> int:
        number = self._others.get(var)
        if number is None:
            number = self._other(var)
            self._parts.append(("var", self._index(var.extent)))
        return number

    def _index(self, value: Index) -> Any:
        if not value.terms:
            return value.constant
        found = self._indices.get(value)
        if found is None:
            terms = tuple([(self._atom(atom), factor) for atom, factor in value.terms])
            found = self._indices[value] = (value.constant, terms)
        return found

    def _atom(self, atom: Any) -> Any:
        kind = type(atom)
        if kind is Var:
            return self._var(atom)
        if kind is Symbol:
            return (atom.name, atom.hint, atom.least)
        if kind is Product:
            return ("product", *[self._atom(f) for f in atom.factors])
        return (kind.__name__, self._index(atom.left), self._index(atom.right))

    def _coordinate(self, c: Any) -> Any:
        return ("node", self._expression(c)) if type(c) is Expression else self._index(c)

    def _expression(self, root: Expression) -> int:
        nodes, parts = self._nodes, self._parts
        for node in walk(root):
            if node not in nodes:
                args = tuple([nodes[a] for a in node.args])
                parts.append((node.op, node.dtype, args, self._detail(node)))
                nodes[node] = len(nodes)
        return nodes[root]

    def _detail(self, node: Expression) -> Any:
        if node.op == "load":
            source, where = node.detail
            coordinates = [
                ("node", self._nodes[c]) if type(c) is Expression else self._index(c) for c in where
            ]
            return (self._place(source), *coordinates)
        if node.op == "index":
            return self._index(node.detail)
        if node.op == "number":
            return self._ranks[node.detail]
        return repr(node.detail)  # constants: nan is nan, and 0 is not -0


def _numbers(group: Group) -> list[int]:
    """The places of the numbers that a group's expressions use, in order."""
    found: set[int] = set()
    seen: set[Expression] = set()
    for stage in group.stages:
        initial = () if stage.initial is None else (stage.initial.value,)
        roots = (stage.value, *stage.where, *[c for c, _ in stage.checks], *initial)
        for root in roots:
            if type(root) is Expression:
                found |= {node.detail for node in walk(root, seen) if node.op == "number"}
    return sorted(found)


@dataclass(eq=False)
class _Known:
    """The launches of a form. Memory is the number of a stage, or a temporary."""

    launches: list[Launch]
    memory: list[tuple[int | Temporary, ...]]
    numbers: list[tuple[int, ...]]


class Schedules:
    """The kernels of groups by form; the least recently used ones are forgotten."""

    def __init__(self, limit: int = KEPT) -> None:
        self.limit = limit
        self._known: OrderedDict[Any, _Known] = OrderedDict()

    def find(self, form: Form) -> list[Launch] | None:
        """The launches of a group of this form, on its own memory and numbers."""
        known = self._known.get(form.key)
        if known is None:
            return None
        self._known.move_to_end(form.key)
        own: dict[Temporary, Temporary] = {}

        def place(held: int | Temporary) -> Stage | Temporary:
            if isinstance(held, Temporary):
                return own.setdefault(held, Temporary(held.name, held.dtype, held.size))
            return form.stages[held]

        return [
            Launch(
                launch.kernel,
                tuple([place(m) for m in memory]),
                tuple([form.numbers[n] for n in numbers]),
                messages=launch.messages,
                flops=launch.flops,
                bytes=launch.bytes,
                extents=launch.extents,
            )
            for launch, memory, numbers in zip(
                known.launches, known.memory, known.numbers, strict=True
            )
        ]

    def keep(self, form: Form, launches: list[Launch]) -> None:
        """Remembers what a group of this form became."""
        stages: dict[Any, int] = {stage: n for n, stage in enumerate(form.stages)}
        ranks = {place: rank for rank, place in enumerate(form.numbers)}
        kept = []
        memories: list[tuple[int | Temporary, ...]] = []
        for launch in launches:
            memory = [m if isinstance(m, Temporary) else stages.get(m, -1) for m in launch.memory]
            if -1 in memory:
                return  # memory that is none of the form's: it cannot be told whose it would be
            memories.append(tuple(memory))
            kept.append(
                Launch(
                    launch.kernel,
                    (),
                    messages=launch.messages,
                    flops=launch.flops,
                    bytes=launch.bytes,
                    extents=launch.extents,
                )
            )
        numbers = [tuple([ranks[n] for n in launch.numbers]) for launch in launches]
        self._known[form.key] = _Known(kept, memories, numbers)
        if len(self._known) > self.limit:
            self._known.popitem(last=False)


schedules = Schedules()
