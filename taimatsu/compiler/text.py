"""The canonical text of lowered programs: equal text, equal code and plan.

Slots and items are written by their order of appearance, so that programs that differ in where
they got their memory and numbers from share one plan. Sizes behind symbols are not part of it, but
which symbols there are, and nodes that the reference carries out, are.
"""

from __future__ import annotations

from typing import Any

from taimatsu.compiler.lower import Lowered
from taimatsu.ir.expression import Expression
from taimatsu.ir.graph import Graph
from taimatsu.ir.stages import Item, Stage


class Canonical:
    """The text, and what its numbers stand for in this program.

    Attributes:
        text: of the stages.
        slots: the slot behind each of the text's.
        items: the item behind each offset of the text (those of ``numbers`` come apart).
    """

    def __init__(self, graph: Graph, lowered: Lowered) -> None:
        self.slots: list[int] = []
        self.items: list[int] = []
        self._slots: dict[int, int] = {}
        self._items: dict[int, int] = {}
        self._places = {id(node): place for place, node in enumerate(graph.nodes)}
        self._names: dict[Expression, str] = {}
        self._lines: list[str] = []
        for stage in lowered.stages:
            self._stage(stage)
        for slot, stage in lowered.outputs.items():
            self._lines.append(f"out {self.slot(slot)} = s{stage.number}")
        self._lines.append("numbers " + " ".join(kind for _, kind in lowered.numbers))
        self.text = "\n".join(self._lines)

    def slot(self, slot: int) -> int:
        number = self._slots.setdefault(slot, len(self.slots))
        if number == len(self.slots):
            self.slots.append(slot)
        return number

    def item(self, place: int) -> int:
        number = self._items.setdefault(place, len(self.items))
        if number == len(self.items):
            self.items.append(place)
        return number

    def _stage(self, stage: Stage) -> None:
        self._names = {}
        parts = [f"s{stage.number} {stage.kind} {stage.dtype}{list(stage.shape)}"]
        if stage.axes:
            parts.append(f"axes {stage.axes}")
        if stage.order != tuple(range(len(stage.shape))):
            parts.append(f"order {stage.order}")
        if stage.reduce_axes:
            parts.append(f"over {[(v, v.extent) for v in stage.reduce_axes]}")
        if stage.combine:
            parts.append(f"{stage.combine} {stage.scan_axis} {stage.reverse}")
        if stage.initial is not None:
            parts.append(f"from s{stage.initial.number} at {self._coordinates(stage.where)}")
            parts.append(f"points {[v.extent for v in stage.axes]}")
        if stage.cell is not None:
            parts.append(self._memory(stage))
        if stage.opaque_inputs:
            parts.append(f"result {stage.result} of {self._opaque(stage)}")
        if stage.value is not None:
            parts.append(f"= {self._expression(stage.value)}")
        for condition, message in stage.checks:
            place = self._places[id(stage.node)]
            parts.append(f"check {self._expression(condition)} {message!r} {place}")
        self._lines.append(" ".join(parts))

    def _memory(self, stage: Stage) -> str:
        cell, offset = stage.cell, stage.offset
        assert cell is not None
        name = f"slot {self.slot(cell.slot)}" if cell.stage is None else f"s{cell.stage.number}"
        where = f"item {self.item(offset.place)}" if isinstance(offset, Item) else str(offset)
        after = "" if stage.after is None else f" after s{stage.after.number}"
        readers = [s.number for s in stage.readers]
        return f"in {name} + {where} by {list(stage.strides)}{after} readers {readers}"

    def _opaque(self, stage: Stage) -> str:
        node: Any = stage.node
        reads = [
            f"s{x.number}"
            if isinstance(x, Stage)
            else f"item {self.item(x.place)}"
            if isinstance(x, Item)
            else repr(x)
            for x in stage.opaque_inputs
        ]
        # Its attributes are no part of the plan: they are those of the graph that is carried out.
        return f"{self._places[id(node)]} {node.operation.name}({', '.join(reads)})"

    def _coordinates(self, where: tuple) -> str:
        parts = [self._expression(c) if type(c) is Expression else repr(c) for c in where]
        return f"[{', '.join(parts)}]"

    def _expression(self, node: Expression) -> str:
        found = self._names.get(node)
        if found is not None:
            return found
        made = self._written(node)
        if node.args or node.op == "load":
            # Shared nodes are written once; later ones refer to them.
            name = f"%{len(self._names)}"
            self._names[node] = name
            return f"{name}:{made}"
        self._names[node] = made
        return made

    def _written(self, node: Expression) -> str:
        if node.op == "load":
            source, where = node.detail
            return f"s{source.number}{self._coordinates(where)}"
        if node.op == "constant":
            return f"{node.detail!r}:{node.dtype}"
        if node.args:
            inner = ", ".join([self._expression(a) for a in node.args])
            detail = "" if node.detail is None else f" {node.detail}"
            return f"{node.op}{detail}.{node.dtype}({inner})"
        return f"{node.op}({node.detail}):{node.dtype}"
