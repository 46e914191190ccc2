"""A recorded program as a graph of values, before it becomes loops.

A value is the whole content of one storage; operands read it through a layout (``Meta`` and an
offset), so views cost nothing. An in-place write is a node that takes the old value and gives the
new one. Values are assigned once; nodes stand in the order in which they were recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from taimatsu.ir.meta import Meta


class Operand(NamedTuple):
    """A read of ``value`` through ``meta``; ``offset`` is a runtime argument's index or -1."""

    value: int
    meta: Meta
    offset: int


class Argument(NamedTuple):
    """A number given at run time: its index in the launch's list."""

    index: int  # type: ignore[assignment]  # in place of tuple's method of that name


class Node:
    """One operation, or (``operation`` None) the write of ``operands[1]`` over ``operands[0]``.

    A write has one attribute, ``whole``: whether it replaces every element of the storage.
    """

    __slots__ = ("operation", "operands", "attributes", "results", "metas", "site", "dies")

    def __init__(
        self,
        operation: Any,
        operands: tuple,
        attributes: dict[str, Any],
        results: tuple[int, ...],
        metas: tuple[Meta, ...],
        site: str,
    ) -> None:
        self.operation = operation
        self.operands = operands
        self.attributes = attributes
        self.results = results
        self.metas = metas
        self.site = site
        self.dies: tuple[int, ...] = ()  # values whose last use is here

    @property
    def is_write(self) -> bool:
        return self.operation is None

    def reads(self) -> Iterable[int]:
        for operand in self.operands:
            if type(operand) is Operand:
                yield operand.value


class Given(NamedTuple):
    """A storage that had memory before the program: the tensor by which it came in."""

    meta: Meta
    grad: bool  # requires a gradient: a parameter, by all appearances


class Graph:
    """Nodes, what comes in (slot -> value) and what must be written to memory (slot -> value).

    ``given`` describes the slots that have memory already: results for them are written there.
    """

    def __init__(
        self,
        nodes: list[Node],
        inputs: dict[int, int],
        outputs: dict[int, int],
        given: dict[int, Given] | None = None,
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.given = given or {}
        self.program: Any = None  # what the evaluator made of it
        self.is_piece = False  # of a longer program, cut from it
        self.nodes = self._only_needed(nodes)
        self._mark_deaths()

    def _only_needed(self, nodes: list[Node]) -> list[Node]:
        needed = set(self.outputs.values())
        kept = []
        for node in reversed(nodes):
            if not needed.isdisjoint(node.results):
                kept.append(node)
                reads = list(node.reads())
                if node.is_write and node.attributes["whole"]:
                    reads = reads[1:]  # nothing of the old value remains
                needed.update(reads)
        kept.reverse()
        self.inputs = {slot: v for slot, v in self.inputs.items() if v in needed}
        return kept

    def _mark_deaths(self) -> None:
        alive = set(self.outputs.values())
        for node in reversed(self.nodes):
            used = set(node.reads()) | set(node.results)
            node.dies = tuple(sorted(used - alive))
            alive |= used

    def is_ready(self, items: Sequence[Any]) -> bool:
        """Whether the evaluator has what it takes to run it with such numbers."""
        return any(made is None or made.fits(items) for made in self.program or ())

    def __str__(self) -> str:
        lines = [f"input %{v} = slot {slot}" for slot, v in self.inputs.items()]
        for node in self.nodes:
            results = ", ".join(f"%{r}" for r in node.results)
            name = "write" if node.is_write else node.operation.name
            operands = ", ".join(map(_operand_text, node.operands))
            attributes = "".join(f" {k}={v}" for k, v in node.attributes.items())
            lines.append(f"{results} = {name}({operands}){attributes} : {node.metas[0]}")
        lines += [f"output slot {slot} = %{v}" for slot, v in self.outputs.items()]
        return "\n".join(lines)

    def verify(self) -> None:
        """Raises AssertionError unless values are assigned once, before they are read."""
        known = set(self.inputs.values())
        for node in self.nodes:
            for value in node.reads():
                replaced = node.is_write and value == node.operands[0].value
                if value not in known and not (replaced and node.attributes["whole"]):
                    raise AssertionError(f"%{value} is read before it is written\n{self}")
            for value in node.results:
                if value in known:
                    raise AssertionError(f"%{value} is written twice\n{self}")
                known.add(value)
        missing = set(self.outputs.values()) - known
        if missing:
            raise AssertionError(f"outputs {missing} are never written\n{self}")


def _operand_text(operand: Any) -> str:
    if operand is None:
        return "none"
    if isinstance(operand, Argument):
        return f"arg{operand.index}"
    if not isinstance(operand, Operand):
        return repr(operand)
    offset = f"+arg{operand.offset}" if operand.offset >= 0 else ""
    return f"%{operand.value}:{operand.meta}{offset}"
