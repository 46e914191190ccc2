"""From a recorded graph to stages: each node's ``lower`` rule, views folded into coordinates.

Values that are whole become stages. Memory that is written in regions, and what came in, are cells,
seen through windows; the order of reads and writes of a cell is kept by ``after`` and ``readers``.
What somebody outside holds ends in memory of its own or, where a slot has memory already, in a last
update of it.

Extents that come from data are symbols: the outermost dimension of inputs that are no parameters,
and every extent that was seen to vary (``varying``). Equal values share a symbol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from taimatsu.compiler.views import Mapping, dense_order, view_of
from taimatsu.dtypes import INTEGER
from taimatsu.ir.builder import Builder, NotKnownError
from taimatsu.ir.expression import SIZES, Expression, number
from taimatsu.ir.graph import Argument, Graph, Node, Operand
from taimatsu.ir.index import Index, Symbol, Var, index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Cell, Item, Stage, View

LEAST_SYMBOL = 2  # extents of 0 and 1 mean programs of their own


class NotLoweredError(Exception):
    """The program has what no compiled code exists for (complex numbers): the reference serves."""


@dataclass(eq=False)
class Memory:
    """A value that lives in a cell: its last update, and the windows read since."""

    cell: Cell
    dtype: str
    after: Stage | None = None
    readers: tuple[Stage, ...] = ()
    windows: dict[Any, Stage] = field(default_factory=dict)


@dataclass(eq=False)
class Whole:
    """A value that a stage defines; ``described`` says how it lies in memory."""

    stage: Stage
    described: Meta


@dataclass(eq=False)
class Lowered:
    """A program as stages.

    Attributes:
        stages: in order of the recording.
        outputs: for slots without memory: the stage whose memory they get.
        symbols: each symbol and the value it has in this program.
        numbers: the items that the launch's numbers are read from, with their dtypes.
        guards: items whose values the stages were made for.
    """

    stages: list[Stage]
    outputs: dict[int, Stage]
    symbols: dict[Symbol, int]
    numbers: list[tuple[int, str]]
    guards: dict[int, int]


def lower(
    graph: Graph,
    items: Sequence[Any],
    sizes: dict[int, int],
    varying: frozenset[tuple[int, int]] = frozenset(),
    moving: frozenset[int] = frozenset(),
) -> Lowered:
    """The stages of a graph.

    Args:
        graph: the program.
        items: the numbers of this launch by slot (others there are not looked at).
        sizes: elements of the memory that slots have, by slot.
        varying: extents, as (slot, size), that were seen to vary.
        moving: items whose numbers were seen to vary.
    """
    # Extents of what is written in place (parameters, their states, caches) are constants.
    known = {slot for slot in graph.outputs if slot in graph.given}
    fixed: set[int] = set()
    while True:
        work = _Lowering(graph, items, sizes, varying, moving, known, fixed)
        unknown: set[Symbol] = set()
        try:
            lowered = work.run()
        except NotKnownError as error:
            unknown = error.symbols
        builder = work.builder
        if not unknown and not builder.weights and not builder.sizes:
            return lowered
        known |= builder.weights
        fixed |= builder.sizes
        if not builder.weights:
            fixed |= {s.hint for s in unknown}


class _Lowering:
    def __init__(
        self,
        graph: Graph,
        items: Sequence[Any],
        sizes: dict[int, int],
        varying: frozenset[tuple[int, int]],
        moving: frozenset[int],
        known: set[int],
        fixed: set[int],
    ) -> None:
        self.graph = graph
        self.items = items
        self.sizes = sizes
        self.varying = varying
        self.moving = moving
        self.known = known  # slots whose extents are constants
        self.fixed = fixed  # sizes that are constants
        self.symbols: dict[int, Symbol] = {}
        self.builder = Builder(self.symbols)
        self.builder.settle = self._settled_number
        self.values: dict[int, Memory | Whole] = {}
        self.numbers: list[tuple[int, str]] = []
        self.places: dict[int, int] = {}
        self.guards: dict[int, int] = {}
        self.cells: dict[int, Memory] = {}  # the last content of each slot's cell

    def run(self) -> Lowered:
        for slot, value in self.graph.inputs.items():
            self._enter(slot, value)
        self._name_extents()
        for node in self.graph.nodes:
            self.builder.node = node
            if node.is_write:
                self._write(node)
            else:
                self._compute(node)
        outputs: dict[int, Stage] = {}
        for slot, value in self.graph.outputs.items():
            self._leave(slot, self.values[value], outputs)
        symbols = {s: s.hint for s in self.symbols.values()}
        return Lowered(self.builder.stages, outputs, symbols, self.numbers, self.guards)

    # -- what comes in ---------------------------------------------------------------------

    def _enter(self, slot: int, value: int) -> None:
        memory = Memory(Cell(slot), _dtype(self.graph.given[slot].meta))
        self.values[value] = memory
        self.cells[slot] = memory

    def _name_extents(self) -> None:
        """Makes the symbols of what comes in, also for sizes met before they are read."""
        entered = dict(self.values)
        for node in self.graph.nodes:
            for operand in node.operands:
                if type(operand) is Operand and operand.value in entered:
                    memory = entered[operand.value]
                    assert isinstance(memory, Memory)
                    self._extents(memory.cell, operand.meta)

    def _symbol(self, size: int) -> Index:
        if size < LEAST_SYMBOL or size in self.fixed:
            return index(size)
        found = self.symbols.get(size)
        if found is None:
            found = Symbol(f"n{len(self.symbols)}", size, LEAST_SYMBOL)
            self.symbols[size] = found
        return index(found)

    def _window(self, memory: Memory, described: Meta, offset: int) -> Stage:
        """The stage that sees a cell through a layout; one for each layout and content."""
        key = (described.shape, described.strides, offset)
        found = memory.windows.get(key)
        if found is None:
            shape, strides = self._extents(memory.cell, described)
            found = Stage("window", shape, memory.dtype)
            found.strides = strides
            found.cell = memory.cell
            found.offset = Item(offset) if offset >= 0 else 0
            found.after = memory.after
            memory.windows[key] = self.builder._add(found)
            found.node = None
            memory.readers += (found,)
        return found

    def _extents(self, cell: Cell, described: Meta) -> tuple[tuple[Index, ...], tuple[Index, ...]]:
        """Shape and strides of a window: symbols where extents come from data."""
        if cell.stage is not None:
            stage = cell.stage
            mapping = Mapping(stage.shape, stage.order, described, 0, self.builder.extent)
            return tuple(mapping.shape), tuple(mapping.strides)
        slot = cell.slot
        shape = [index(n) for n in described.shape]
        # A step that is never made says nothing: programs that differ in it are the same.
        strides = [
            index(s if n != 1 else 0)
            for n, s in zip(described.shape, described.strides, strict=True)
        ]
        if slot in self.known or self.graph.given[slot].grad:
            return tuple(shape), tuple(strides)
        outermost = max(described.strides, default=0)
        for d, (n, s) in enumerate(zip(described.shape, described.strides, strict=True)):
            if (s and s == outermost) or (slot, n) in self.varying:
                shape[d] = self._symbol(n)
        varied = [(slot, s) in self.varying for s in described.strides]
        if not any(n.terms for n in shape) and not any(varied):
            return tuple(shape), tuple(strides)
        return tuple(shape), self._symbolic_strides(shape, strides, described, varied)

    def _symbolic_strides(
        self, shape: list[Index], strides: list[Index], described: Meta, varied: list[bool]
    ) -> tuple[Index, ...]:
        """Strides as products of extents where rows follow one another, else as symbols.

        ``varied`` says which of them were seen to vary.
        """
        order = sorted(range(len(shape)), key=lambda d: described.strides[d])
        step, hint = index(1), 1
        inner, length = index(1), 1  # the stride of the dimension before
        for d in order:
            stride = described.strides[d]
            if stride == 0 or described.shape[d] == 1:
                continue
            if stride == hint:
                strides[d] = step
            elif hint and stride % hint == 0:
                times = stride // hint
                strides[d] = step * (self._symbol(times) if varied[d] else times)
            elif step.terms and length and stride % length == 0:
                strides[d] = inner * self._symbol(stride // length)
            inner, length = strides[d], stride
            step, hint = inner * shape[d], stride * described.shape[d]
        return tuple(strides)

    # -- nodes -----------------------------------------------------------------------------

    def _read(self, operand: Any) -> Any:
        """An operand as a rule takes it: a view, an expression, None or a constant."""
        if type(operand) is Operand:
            return self._view(operand)
        if type(operand) is Argument:
            if isinstance(self.items[operand.index], complex):
                return self.items[operand.index]
            return self._number(operand.index)
        return operand

    def _view(self, operand: Operand) -> View:
        value = self.values[operand.value]
        if isinstance(value, Whole) and operand.offset in self.moving:
            value = self._celled(value)  # windows may stand anywhere in memory
        if isinstance(value, Memory):
            stage = self._window(value, operand.meta, operand.offset)
            made = View(stage, stage.shape, stage.dtype, tuple)
            made.meta = operand.meta
            return made
        offset = self._guarded(operand.offset) if operand.offset >= 0 else 0
        return view_of(value.stage, value.described, operand.meta, offset, self.builder.extent)

    def _guarded(self, item: int) -> int:
        found = int(self.items[item])
        self.guards[item] = found
        return found

    def _number(self, item: int) -> Expression:
        found = self.items[item]
        kind = "float64" if isinstance(found, float) else "int64"
        if item not in self.places:
            self.places[item] = len(self.numbers)
            self.numbers.append((item, kind))
        return number(self.places[item], kind)

    def _settled_number(self, value: Expression) -> int | None:
        """The value of a whole number, guarded, unless it was seen to vary."""
        if value.op != "number":
            return None
        item, kind = self.numbers[value.detail]
        return None if kind != "int64" or item in self.moving else self._guarded(item)

    def _compute(self, node: Node) -> None:
        inputs = tuple([self._read(o) for o in node.operands])
        described = tuple([o.meta if type(o) is Operand else None for o in node.operands])
        self.builder.trusts = self._is_looked_at(node)
        made = node.operation.stages(self.builder, inputs, node.attributes, described, node.metas)
        if made is None:
            made = self._opaque(node, inputs)
        for value, source, result in zip(node.results, made, node.metas, strict=True):
            stage = self.builder.stage(source)
            self.values[value] = Whole(self._settled(stage, result), result)

    def _settled(self, stage: Stage, result: Meta) -> Stage:
        """The stage with the order that the value has in memory; a copy if it serves already."""
        order = dense_order(result)
        if tuple(n.hint() for n in stage.shape) != tuple(result.shape):
            raise AssertionError(f"the rule gave {stage}, the shape rule {result}")
        if stage.dtype != _dtype(result):
            raise AssertionError(f"the rule gave {stage}, the dtype rule {result}")
        fresh = stage.kind != "window" and stage.node is self.builder.node
        if fresh and order == tuple(range(len(order))):
            return stage
        if fresh and stage.order == tuple(range(len(order))):
            stage.order = order
            return stage
        copy = self._copied(View(stage, stage.shape, stage.dtype, tuple))
        copy.order = order
        return copy

    def _is_looked_at(self, node: Node) -> bool:
        """Whether the recorder has seen the index values: those of memory that came in.

        Programs that check nothing fly in the background and need no copy of what they overwrite.
        Coordinates stay inside of their arrays all the same: ``Places`` moves them there.
        """
        if not node.operation.checked:
            return False
        given = self.graph.inputs.values()
        operands = [o for o in node.operands if type(o) is Operand]
        values = [o for o in operands if o.meta.dtype.category <= INTEGER]
        return all(o.meta.dtype.category == INTEGER and o.value in given for o in values)

    def _opaque(self, node: Node, inputs: tuple) -> tuple[Stage, ...]:
        """The results of a node that the reference computes."""
        reads: list[Any] = []
        for operand, read in zip(node.operands, inputs, strict=True):
            if type(operand) is Operand:
                reads.append(self._in_memory(operand))
            else:
                reads.append(Item(operand.index) if type(operand) is Argument else read)
        results = []
        for position, described in enumerate(node.metas):
            shape = tuple([self._extent_of(n, reads) for n in described.shape])
            stage = Stage("opaque", shape, _dtype(described))
            stage.axes = tuple([Var(f"o{d}", n) for d, n in enumerate(shape)])
            stage.order = dense_order(described)
            stage.opaque_inputs = tuple(reads)
            stage.result = position
            results.append(self.builder._add(stage))
        return tuple(results)

    def _extent_of(self, size: int, reads: list[Any]) -> Index:
        """An extent of what the reference makes: by symbols that what it reads has, if by any."""
        there = {a for x in reads if isinstance(x, Stage) for n in x.shape for a in n.symbols()}
        named = index(self.builder.extent(size))
        return named if there.issuperset(named.symbols()) else index(size)

    def _in_memory(self, operand: Operand) -> Stage:
        """A window that shows an operand as it lies in memory."""
        value = self.values[operand.value]
        if isinstance(value, Whole):
            value = self._celled(value)
        return self._window(value, operand.meta, operand.offset)

    def _celled(self, value: Whole) -> Memory:
        """The memory of a stage, seen as a cell."""
        return Memory(Cell(-1, value.stage), value.stage.dtype)

    # -- writes ----------------------------------------------------------------------------

    def _write(self, node: Node) -> None:
        target, source = node.operands
        content = self._read(source)
        if not isinstance(content, View):
            raise NotLoweredError("a write of a number")
        described: Meta = target.meta
        if node.attributes["whole"]:
            self.values[node.results[0]] = Whole(self._whole(content, described), described)
            return
        old = self.values[target.value]
        if isinstance(old, Whole):
            copy = self._copied(View(old.stage, old.stage.shape, old.stage.dtype, tuple))
            copy.order = old.stage.order
            old = self._celled(Whole(copy, old.described))
        elif target.value not in node.dies:
            old = self._copied_memory(old)
        self.values[node.results[0]] = self._updated(old, described, target.offset, content)

    def _whole(self, content: View, described: Meta) -> Stage:
        """The stage of a value that is replaced as a whole by what a view shows."""
        order = dense_order(described)
        stage = content.stage
        if content.coordinates is tuple and stage.kind != "window" and stage.order == order:
            return stage
        copy = self._copied(content)
        copy.order = order
        return copy

    def _copied(self, content: View) -> Stage:
        if content.dtype not in SIZES:
            raise NotLoweredError(f"a copy of {content.dtype}")
        return self.builder.map(content.shape, content.dtype, lambda *i: content[i])

    def _copied_memory(self, old: Memory) -> Memory:
        """A copy of a whole cell, for a write while the old content is still wanted."""
        if old.cell.stage is not None:
            stage = old.cell.stage
            layout = meta(
                tuple(n.hint() for n in stage.shape),
                _dtypes(old.dtype, self.graph),
                tuple(_strides(stage)),
            )
        else:
            layout = meta((self.sizes[old.cell.slot],), _dtypes(old.dtype, self.graph))
        window = self._window(old, layout, -1)
        copy = self._copied(View(window, window.shape, window.dtype, tuple))
        if old.cell.stage is not None:
            copy.order = old.cell.stage.order
        return self._celled(Whole(copy, layout))

    def _updated(self, old: Memory, described: Meta, offset: int, content: View) -> Memory:
        """A cell after a region of it was replaced."""
        if content.dtype not in SIZES:
            raise NotLoweredError(f"a write of {content.dtype}")
        shape, strides = self._extents(old.cell, described)
        shape = tuple(
            [b if a.hint() == b.hint() else a for a, b in zip(shape, content.shape, strict=True)]
        )
        stage = self.builder.map(shape, content.dtype, lambda *i: content[i])
        stage.kind = "update"
        stage.cell = old.cell
        stage.strides = strides
        stage.offset = Item(offset) if offset >= 0 else 0
        stage.after = old.after
        stage.readers = old.readers
        made = Memory(old.cell, old.dtype, stage)
        if old.cell.stage is None:
            self.cells[old.cell.slot] = made
        return made

    # -- what goes out ---------------------------------------------------------------------

    def _leave(self, slot: int, value: Memory | Whole, outputs: dict[int, Stage]) -> None:
        given = self.graph.given.get(slot)
        if isinstance(value, Memory) and value.cell.slot == slot and value.cell.stage is None:
            return  # it is there already
        if given is None:
            outputs[slot] = self._own(value, outputs)
            return
        cell = self.cells.get(slot)
        if cell is None:  # written as a whole, never read
            cell = Memory(Cell(slot), _dtype(given.meta))
            self.cells[slot] = cell
        if isinstance(value, Whole):
            view = View(value.stage, value.stage.shape, value.stage.dtype, tuple)
            described = value.described
        else:
            assert value.cell.stage is not None
            stage = value.cell.stage
            described = meta(
                tuple(n.hint() for n in stage.shape),
                given.meta.dtype,
                tuple(_strides(stage)),
            )
            window = self._window(value, described, -1)
            view = View(window, window.shape, window.dtype, tuple)
        self._updated(cell, described, -1, view)

    def _own(self, value: Memory | Whole, outputs: dict[int, Stage]) -> Stage:
        """The stage whose memory a slot gets; no two slots share one."""
        if isinstance(value, Memory):
            assert value.cell.stage is not None
            return value.cell.stage
        stage = value.stage
        taken = any(stage is other for other in outputs.values())
        order = dense_order(value.described)
        if taken or stage.kind == "window" or stage.order != order:
            copy = self._copied(View(stage, stage.shape, stage.dtype, tuple))
            copy.order = order
            return copy
        return stage


def _strides(stage: Stage) -> list[int]:
    """How a stage's cell lies in memory, as numbers."""
    strides = [1] * len(stage.shape)
    step = 1
    for d in reversed(stage.order):
        strides[d] = step
        step *= stage.shape[d].hint()
    return strides


def _dtype(described: Meta) -> str:
    name: str = described.dtype.name
    return name


def _dtypes(name: str, graph: Graph) -> Any:
    """The dtype object of a name, from the graph's descriptions."""
    for given in graph.given.values():
        if given.meta.dtype.name == name:
            return given.meta.dtype
    for node in graph.nodes:
        for described in node.metas:
            if described.dtype.name == name:
                return described.dtype
    raise AssertionError(name)
