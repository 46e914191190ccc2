"""What a contraction is to its schedule: axes, two operands, and what is done with the sums.

Loads become loads from flat buffers, whose one coordinate is affine in the axes: layouts, views and
dimensions are gone, an access is its strides. Axes of extent 1 are dropped and neighbours that all
accesses step through as through one are merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod

from taimatsu.compiler.groups import Group, Layout, Memory, Temporary, layout_of
from taimatsu.ir import expression as ex
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index, Quotient, Remainder, Var, index
from taimatsu.ir.loops import Buffer
from taimatsu.ir.stages import Stage, loads

MOST_TAPS = 11  # of a window along an axis; what slides further is an image
LEAST_CHANNELS, MOST_CHANNELS = 8, 32  # that are summed one after the other


class Memories:
    """The flat buffers of a group's kernels; windows and updates of one place share one."""

    def __init__(self, layouts: dict[Stage, Layout]) -> None:
        self.layouts = layouts
        self.of: dict[Buffer, Memory] = {}
        self._made: dict[object, Buffer] = {}

    def layout(self, stage: Stage) -> Layout:
        """Where a stage's elements lie; an update's are those of the window that it writes."""
        if stage.kind != "update":
            return layout_of(stage, self.layouts)
        size = index(1)
        for extent, stride in zip(stage.shape, stage.strides, strict=True):
            size = size + (extent - 1) * stride
        return Layout(stage.strides, size, index(0), False)

    def buffer(self, stage: Stage) -> Buffer:
        """A stage's memory as one row of elements."""
        key: object = stage
        if stage.kind in ("window", "update"):
            key = (stage.cell, stage.offset, stage.dtype)
        found = self._made.get(key)
        layout = self.layout(stage)
        if found is None:
            found = self._flat(stage.dtype, layout.size, layout.aligned)
            self._made[key] = found
            self.of[found] = stage
        elif found.size != layout.size and found.size.hint() < layout.size.hint():
            found.size = layout.size
            found.shape = (layout.size,)
        return found

    def temporary(self, name: str, dtype: str, size: Index) -> Buffer:
        """Memory between the group's kernels."""
        memory = Temporary(f"{name}{len(self.of)}", dtype, size)
        found = self._flat(dtype, size, True)
        self.of[found] = memory
        return found

    def _flat(self, dtype: str, size: Index, aligned: bool) -> Buffer:
        return Buffer(f"m{len(self.of)}", dtype, (size,), "argument", aligned=aligned, size=size)

    def load(self, stage: Stage, where: Iterable[Index | Expression], dtype: str) -> Expression:
        """An element at coordinates that are indices, or computed."""
        return ex.load(self.buffer(stage), (self.address(stage, where),), dtype)

    def address(self, stage: Stage, where: Iterable[Index | Expression]) -> Index | Expression:
        layout = self.layout(stage)
        known: Index = layout.origin
        computed: Expression | None = None
        for coordinate, stride in zip(where, layout.strides, strict=True):
            if type(coordinate) is Expression and coordinate.op == "index":
                known = known + coordinate.detail * stride
            elif type(coordinate) is Expression:
                part = coordinate * ex.index_value(stride)
                computed = part if computed is None else computed + part
            else:
                known = known + index(coordinate) * stride
        return known if computed is None else computed + ex.index_value(known)


@dataclass(eq=False)
class Operand:
    """One of the two factors.

    Attributes:
        value: its element as an expression over the axes; loads are flat.
        strides: by axis, what a step adds to the address; None where the factor is more than one
            load at an affine address.
        axes: those it depends on.
        elements: about how many elements its memory has.
        source: the factor as it stands in the problem's product.
        is_padded: whether vectors along the lane axis can be loaded past the end.
    """

    value: Expression
    strides: dict[Var, Index] | None
    axes: set[Var]
    elements: int
    source: Expression
    is_padded: bool = False

    @property
    def load(self) -> Expression:
        """The load of a factor that is one, perhaps cast."""
        return self.value.args[0] if self.value.op == "cast" else self.value

    def stride(self, axis: Var) -> Index:
        assert self.strides is not None
        return self.strides.get(axis, index(0))

    def is_contiguous(self, axis: Var) -> bool:
        return self.strides is not None and self.stride(axis) == 1

    def run(self, axes: Iterable[Var]) -> list[Var]:
        """Those axes whose elements follow one another in memory (forwards or backwards), innermost
        first: each goes on where the one before it ends.
        """
        found: list[Var] = []
        left = [v for v in axes if v in self.axes] if self.strides is not None else []
        step = index(1)
        while True:
            following = next((v for v in left if self.stride(v) in (step, -step)), None)
            if following is None:
                return found
            found.append(following)
            left.remove(following)
            if following.extent.terms:
                return found
            step = step * following.extent

    def overlaps(self) -> bool:
        """Whether different positions read one element: windows of a convolution."""
        return prod([hint(v.extent) for v in self.axes]) > 1.05 * self.elements

    def innermost(self) -> Var | None:
        """The axis whose elements follow one another, all other axes (and the memory's end) being
        at multiples of its extent: the channels of images whose windows overlap.
        """
        for axis in self.axes:
            if not self.is_contiguous(axis) or axis.extent.terms:
                continue
            buffer, (address,) = self.load.detail
            extent = axis.extent.constant
            rest = address - axis
            if all(f % extent == 0 for _, f in rest.terms) and rest.constant % extent == 0:
                return axis if buffer.size % extent == 0 else None
        return None


@dataclass(eq=False)
class Output:
    """What is stored: a value over the axes, and where."""

    stage: Stage
    value: Expression
    buffer: Buffer
    address: Index


@dataclass(eq=False)
class Pool:
    """What is made of windows of the result, or of what was made of them.

    Attributes:
        combine: how the values of a window's elements are combined; "" for maps.
        value: over the axes; it may use the ``node`` of pools before it.
        node: stands for it in values.
        buffer, address: where it is stored; None where it is not.
    """

    stage: Stage
    combine: str
    value: Expression
    node: Expression
    buffer: Buffer | None
    address: Index


@dataclass(eq=False)
class Problem:
    """``sums[axes] = sum over reduced of product(a, b)``, and the outputs made of the sums.

    Attributes:
        axes, reduced: variables with extents other than 1.
        operands: the two factors; ``product`` is the expression over them (their ``value`` nodes).
        sums: the node in the outputs' values that stands for the sum.
        pools: what is made of windows; ``taps``: the axes of the result within a window.
    """

    axes: list[Var]
    reduced: list[Var]
    operands: tuple[Operand, Operand]
    product: Expression
    sums: Expression
    outputs: list[Output]
    checks: list[tuple[Expression, str]] = field(default_factory=list)
    memories: Memories = field(default_factory=lambda: Memories({}))
    nodes: tuple[object, ...] = ()
    pools: list[Pool] = field(default_factory=list)
    taps: list[Var] = field(default_factory=list)

    @property
    def dtype(self) -> str:
        """In which it is summed."""
        return self.product.dtype


def hint(extent: Index) -> int:
    """An extent's number, or what it was when the program was made; 1 for none."""
    return max(extent.hint(), 1)


def step_along(address: Index, axis: Var) -> Index | None:
    """What a step along an axis adds to an address; None where that is not the same everywhere."""
    try:
        return address.stride(axis)
    except ValueError:
        return None


def problem_of(group: Group, layouts: dict[Stage, Layout], whole: bool = False) -> Problem:
    """The group as a ``Problem``, ``whole`` axes not being divided.

    ValueError where its first stage is no sum of products.
    """
    main = group.stages[0]
    memories = Memories(layouts)
    factors = _factors(main)
    parts = _axes_in_parts(group, whole)
    channels = None if whole else _channels(main, parts)
    values_of: dict[object, Index | int] = {v: at for v, (_, at) in parts.items()}
    done: dict[Expression, Expression] = {}
    assert main.value is not None
    product = flattened(main.value, memories, values_of, {}, done)
    sums = Expression("load", (), main.dtype, (main, ()))
    values: dict[Stage, Expression] = {main: sums}
    checks = []
    for stage in group.stages[1:]:
        if stage in group.pools:
            continue
        assert stage.value is not None
        renamed: dict[object, Index | int] = {v: 0 for v in stage.axes if v.extent == 1}
        for own, shared in zip(group.rows[stage], group.rows[main], strict=True):
            renamed[own] = values_of.get(shared, index(shared))
        memo: dict[Expression, Expression] = {}
        values[stage] = flattened(stage.value, memories, renamed, values, memo)
        for condition, message in stage.checks:
            checks.append((flattened(condition, memories, renamed, values, memo), message))
    outputs = []
    for stage in group.outputs:
        if stage in group.pools:
            continue
        rows = dict(zip(group.rows[stage], group.rows[main], strict=True))
        # Axes of extent 1 are no rows: they stand at 0.
        where = [
            index(values_of.get(rows[v], rows[v])) if v in rows else index(0) for v in stage.axes
        ]
        address = memories.address(stage, where)
        assert isinstance(address, Index)
        outputs.append(Output(stage, values[stage], memories.buffer(stage), address))
    reduced = [p for v in main.reduce_axes for p in parts.get(v, ([v], None))[0]]
    if channels is not None:
        inner = parts.get(channels, ([channels], None))[0][-1]
        reduced = [v for v in reduced if v is not inner] + [inner]
    problem = Problem(
        [p for v in main.axes for p in parts.get(v, ([v], None))[0]],
        reduced,
        (operand_of(done[factors[0]]), operand_of(done[factors[1]])),
        product,
        sums,
        outputs,
        checks,
        memories,
        tuple(dict.fromkeys(s.node for s in group.stages if s.node is not None)),
    )
    if group.pools:
        _add_pools(problem, group, parts, values)
    return problem


def _add_pools(
    problem: Problem, group: Group, parts: Parts, values: dict[Stage, Expression]
) -> None:
    """Adds what is made of windows; ValueError where an axis has no digit for a window."""
    rows = group.rows[group.stages[0]]
    window_of: list[Index] = []  # the number of the window, by row
    tap_of: dict[int, Var] = {}
    for k, axis in enumerate(rows):
        digits, at = parts.get(axis, ([axis], index(axis)))
        size = group.window.get(k, 1)
        if size > 1:
            if digits[-1].extent != size:
                raise ValueError(f"{axis} has no windows of {size}")
            tap_of[k] = digits[-1]
            at = (at - digits[-1]) // size
        window_of.append(at)
    problem.taps = list(tap_of.values())
    for stage in group.stages:
        if stage not in group.pools:
            continue
        met = group.pools[stage]
        renamed: dict[object, Index | int] = dict.fromkeys((*stage.axes, *stage.reduce_axes), 0)
        renamed |= {v: window_of[k] for k, v in enumerate(met.rows) if v is not None}
        renamed |= {v: index(tap_of[k]) for k, v in met.taps.items()}
        assert stage.value is not None
        value = flattened(stage.value, problem.memories, renamed, values, {})
        node = Expression("load", (), stage.dtype, (stage, ()))
        values[stage] = node
        buffer, address = None, index(0)
        if stage in group.outputs:
            where = [index(renamed[v]) for v in stage.axes]
            place = problem.memories.address(stage, where)
            assert isinstance(place, Index)
            buffer, address = problem.memories.buffer(stage), place
        problem.pools.append(Pool(stage, stage.combine, value, node, buffer, address))


Parts = dict[Var, tuple[list[Var], Index]]


def _axes_in_parts(group: Group, whole: bool) -> Parts:
    """What axes are made of, and their values: nothing for those of extent 1; several where loads
    take quotients and remainders of an axis (a view that joins dimensions).
    """
    main = group.stages[0]
    axes = (*main.axes, *main.reduce_axes)
    found: Parts = {v: ([], index(0)) for v in axes if v.extent == 1}
    divisors: dict[Var, set[int]] = {}
    for k, size in group.window.items():
        divisors[group.rows[main][k]] = {size}
    for stage in () if whole else group.stages:
        if stage in group.pools:
            continue
        own = dict(zip(group.rows[stage], group.rows[main], strict=True))
        own.update({v: v for v in main.reduce_axes})
        for node in loads(stage):
            for c in node.detail[1]:
                for var, by in _divided(c) if type(c) is Index else ():
                    if var in own:
                        divisors.setdefault(own[var], set()).add(by)
    for axis, cuts in divisors.items():
        digits = _digits(axis, sorted(cuts))
        if digits is not None:
            found[axis] = digits
    return found


def _channels(main: Stage, parts: Parts) -> Var | None:
    """The axis of a reduction whose elements (or blocks of them) are summed within each tap of a
    window: a block is on one line where channels are innermost, and few lines where they are not.
    """
    taps: set[Var] = set()
    for node in loads(main):
        for c in node.detail[1]:
            met = [v for v in c.variables() if v.extent != 1] if type(c) is Index else []
            taps |= {v for v in met if len(met) > 1}
    short = [v for v in main.reduce_axes if v in taps]
    if not short or any(v.extent.terms or v.extent.constant > MOST_TAPS for v in short):
        return None
    for axis in main.reduce_axes:
        if axis in taps or axis in parts or axis.extent.terms:
            continue
        size = axis.extent.constant
        fitting = [n for n in range(LEAST_CHANNELS, MOST_CHANNELS + 1) if size % n == 0]
        if size > MOST_CHANNELS:
            digits = _digits(axis, [fitting[-1]]) if fitting else None
            if digits is None:
                return None
            parts[axis] = digits
        return axis
    return None


def _divided(coordinate: Index) -> Iterator[tuple[Var, int]]:
    """Variables that are divided by constants, and these."""
    for atom, _ in coordinate.terms:
        if type(atom) not in (Quotient, Remainder):
            continue
        yield from _divided(atom.left)
        variables = atom.left.variables()
        if len(variables) == 1 and atom.right.is_constant:
            yield next(iter(variables)), atom.right.constant


def _digits(axis: Var, divisors: list[int]) -> tuple[list[Var], Index] | None:
    """An axis as several; None where the divisors do not divide one another."""
    bounds = [1, *divisors]
    if axis.extent.terms:
        return None
    bounds.append(axis.extent.constant)
    parts: list[Var] = []
    value = index(0)
    for low, high in pairwise(bounds):
        if low == 0 or high % low:
            return None
        if high != low:
            parts.append(Var(f"{axis.name}_{len(parts)}", high // low))
            value = value + index(parts[-1]) * low
    return parts[::-1], value


def _factors(main: Stage) -> tuple[Expression, Expression]:
    value = main.value
    while value is not None and value.op == "cast":
        value = value.args[0]
    if value is None or value.op != "mul":
        raise ValueError(f"{main} is no sum of products")
    return value.args[0], value.args[1]


def flattened(
    root: Expression,
    memories: Memories,
    renamed: dict[object, Index | int],
    values: dict[Stage, Expression],
    done: dict[Expression, Expression],
) -> Expression:
    """An expression with axes renamed, loads made flat and loads of the group's stages replaced."""

    def change(node: Expression) -> Expression | None:
        if node.op == "index":
            return ex.index_value(node.detail.substitute(renamed))
        if node.op != "load":
            return None
        source, where = node.detail
        if source in values:
            return values[source]
        moved = [c if type(c) is Expression else c.substitute(renamed) for c in where]
        return memories.load(source, moved, node.dtype)

    return ex.rewrite(root, change, done)


def operand_of(value: Expression) -> Operand:
    """A factor's axes and strides."""
    axes: set[Var] = set()
    elements = 1
    for node in ex.walk(value):
        for part in _indices(node):
            axes |= part.variables()
        if node.op == "load":
            elements = max(elements, hint(node.detail[0].size))
    plain = value.args[0] if value.op == "cast" else value
    strides: dict[Var, Index] | None = None
    if plain.op == "load" and type(plain.detail[1][0]) is Index:
        try:
            strides = {v: plain.detail[1][0].stride(v) for v in axes}
        except ValueError:
            strides = None
    return Operand(value, strides, axes, elements, value)


def _indices(node: Expression) -> list[Index]:
    if node.op == "index":
        return [node.detail]
    if node.op == "load":
        return [c for c in node.detail[1] if type(c) is Index]
    return []


# -- merging axes ----------------------------------------------------------------------------


def merge_axes(problem: Problem, kept: Var | None) -> None:
    """Makes one axis of two that every access steps through as through one; ``kept`` stays alone.

    Of the reduction's axes only neighbours are merged: the order of summation stays.
    """
    for axes in (problem.axes, problem.reduced):
        at = 0
        while at < len(axes):
            outer = axes[at]
            others = axes[at + 1 : at + 2] if axes is problem.reduced else axes
            free = [v for v in others if v is not outer and v is not kept]
            inner = next((v for v in free if outer is not kept and _meet(problem, outer, v)), None)
            if inner is None:
                at += 1
                continue
            merged = Var(outer.name, outer.extent * inner.extent)
            _replace(problem, outer, inner, merged)
            axes[at] = merged
            axes.remove(inner)
            at = 0


def _roots(problem: Problem) -> list[Expression]:
    found = [problem.operands[0].value, problem.operands[1].value]
    found += [o.value for o in problem.outputs]
    found += [p.value for p in problem.pools]
    return found + [c for c, _ in problem.checks]


def _meet(problem: Problem, outer: Var, inner: Var) -> bool:
    """Whether the outer axis goes on where the inner one ends, in every access."""
    seen: set[Expression] = set()
    if outer in problem.taps or inner in problem.taps:
        return False
    parts = [o.address for o in problem.outputs] + [p.address for p in problem.pools]
    if outer in problem.reduced:
        parts = []
    for root in _roots(problem):
        for node in ex.walk(root, seen):
            found = _indices(node)
            if node.op == "index" and any(v in found[0].variables() for v in (outer, inner)):
                return False
            parts += found
    for part in parts:
        try:
            if part.stride(outer) != part.stride(inner) * inner.extent:
                return False
        except ValueError:
            return False
    return True


def _replace(problem: Problem, outer: Var, inner: Var, merged: Var) -> None:
    done: dict[Expression, Expression] = {}

    def moved(part: Index) -> Index:
        return part.substitute({outer: 0, inner: index(merged)})

    def change(node: Expression) -> Expression | None:
        if node.op == "load" and type(node.detail[1]) is tuple and node.detail[1]:
            where = node.detail[1][0]
            if type(where) is Index:
                return ex.load(node.detail[0], (moved(where),), node.dtype)
        return None

    done[problem.sums] = problem.sums
    problem.product = ex.rewrite(problem.product, change, done)
    a, b = (operand_of(done[o.value]) for o in problem.operands)
    problem.operands = (a, b)
    made: list[Output | Pool] = [*problem.outputs, *problem.pools]
    for output in made:
        output.value = ex.rewrite(output.value, change, done)
        output.address = moved(output.address)
    problem.checks = [(ex.rewrite(c, change, done), m) for c, m in problem.checks]
