"""Sums over one-hot arrays become sums over their windows where that costs less.

The other factor is read where a window's winner is: at computed places (``gathered``). Terms that
are zero times something are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod

from taimatsu.compiler.meeting import plain
from taimatsu.compiler.onehot import Coordinate, NotOneHotError, OneHot, analysed, is_plain
from taimatsu.ir import expression as ex
from taimatsu.ir.expression import SIZES, Expression
from taimatsu.ir.index import Index, Var, index
from taimatsu.ir.stages import Stage, producers
from taimatsu.ir.target import Target

LOADS = 2.0  # loads in a cycle, and multiply-adds
WINNER = 2.0  # cycles to find the place of a window's winner
STORED = 1.0  # cycles to compute an element, to store it and to load it again

Log = Callable[[str], None]


def sparse(stages: list[Stage], outside: set[Stage], target: Target, log: Log) -> list[Stage]:
    """The stages, sums over one-hot maps being sums over their windows where that costs less.

    Args:
        stages: in order; values of readers are changed.
        outside: stages that are seen from outside, or through other memory.
    """
    readers: dict[Stage, list[Stage]] = {}
    for stage in stages:
        for read in producers(stage):
            readers.setdefault(read, []).append(stage)
    made: list[Stage] = []
    for stage in stages:
        made.append(stage)
        try:
            hot = analysed(stage, outside)
        except NotOneHotError as error:
            log(f"{stage} is computed everywhere: {error}")
            continue
        if hot is None:
            continue
        chosen = _chosen(hot, readers.get(stage, []), stage in outside, target, log)
        for reader in chosen:
            reader.apply()
            log(f"{reader.stage} sums over windows of {stage}, from {hot.values}")
        if chosen:
            made.insert(len(made) - 1, hot.values)
    return made


def _chosen(
    hot: OneHot, readers: list[Stage], is_kept: bool, target: Target, log: Log
) -> list[_Sum]:
    """The readers that become sums over windows."""
    sums: list[_Sum] = []
    for stage in readers:
        try:
            sums.append(_Sum(hot, stage, target))
        except NotOneHotError as error:
            log(f"{stage} reads all of {hot.stage}: {error}")
    own = STORED * _elements(hot.values.axes)
    if len(sums) == len(readers) and not is_kept:
        everything = STORED * _elements(hot.stage.axes)
        if own + sum(s.cycles for s in sums) < everything + sum(s.dense for s in sums):
            return sums
    products = [s for s in sums if s.other is not None and s.cycles < s.dense]
    if own + sum(s.cycles for s in products) < sum(s.dense for s in products):
        return products
    for s in sums:
        log(f"{s.stage} reads all of {hot.stage}: that costs less than {s.cycles:.0f} cycles")
    return []


class _Sum:
    """A sum of a one-hot map's elements, perhaps times another factor, as one over its windows.

    Attributes:
        other: the other factor's load.
        cycles, dense: what the sum costs over windows, and as it stands; about.
    """

    def __init__(self, hot: OneHot, stage: Stage, target: Target) -> None:
        self.hot = hot
        self.stage = stage
        if stage.kind != "reduce" or stage.combine != "add" or stage.value is None:
            raise NotOneHotError("it is no sum")
        factors = _product(stage.value)
        mine = [n for n, f in enumerate(factors) if f.detail[0] is hot.stage]
        if len(mine) != 1:
            raise NotOneHotError("it is no product with another array")
        self.own = factors[mine[0]]
        self.other = factors[1 - mine[0]] if len(factors) == 2 else None
        self.windows = self._windows()
        self._estimate(target)

    def _windows(self) -> dict[Var, int]:
        """The sum's axes that run along the pooled dimensions."""
        where = self.own.detail[1]
        found: dict[Var, int] = {}
        for dimension in self.hot.dimensions:
            var = plain(where[dimension])
            over = any(var is v for v in self.stage.reduce_axes)
            if var is None or not over or var.extent != self.hot.stage.shape[dimension]:
                raise NotOneHotError("it does not sum over whole windows")
            found[var] = dimension
        for d, c in enumerate(where):
            if d not in self.hot.dimensions and c.variables() & set(found):
                raise NotOneHotError("its windows are cut askew")
        if self.other is not None:
            for c in self.other.detail[1]:
                if not all(c.is_affine_in(v) for v in found):
                    raise NotOneHotError(f"{c} cannot be computed with")
        return found

    def _estimate(self, target: Target) -> None:
        stage, hot = self.stage, self.hot
        axes = (*stage.axes, *stage.reduce_axes)
        own = set().union(*[c.variables() for c in self.own.detail[1]])
        lanes = max(target.lanes(SIZES[stage.dtype]), 1)
        self.dense = _elements(axes) / LOADS / max(_fill(v, lanes) for v in axes)
        others = [v for v in axes if v not in own]
        at_once = min([_vectors(others, v, lanes) for v in others], default=1.0)
        windows = _elements([v for v in axes if v in own and v not in self.windows])
        windows *= prod([hint(hot.values.shape[d]) for d in self.windows.values()])
        if self.other is None:
            self.cycles = windows / LOADS / lanes
        else:
            self.cycles = windows * (at_once / LOADS + WINNER)

    def apply(self) -> None:
        """Changes the stage."""
        hot, stage = self.hot, self.stage
        numbers = {v: Var(v.name, hot.values.shape[d]) for v, d in self.windows.items()}
        moved: dict[object, Index | int] = {
            v: index(0) if n.extent == 1 else index(n) for v, n in numbers.items()
        }
        where = [c.substitute(moved) for c in self.own.detail[1]]
        axes = dict(zip(hot.values.axes, where, strict=True))
        places = {v: hot.place(d, axes) for v, d in self.windows.items()}
        done = {self.own: ex.load(hot.values, where, self.own.dtype)}
        if self.other is not None:
            read, there = self.other.detail
            done[self.other] = ex.load(read, [_placed(c, places) for c in there], self.other.dtype)
        assert stage.value is not None
        stage.value = ex.rewrite(stage.value, lambda node: None, done)
        stage.reduce_axes = tuple([numbers.get(v, v) for v in stage.reduce_axes])


def _product(value: Expression) -> tuple[Expression, ...]:
    """The loads that are multiplied; one that stands alone."""
    while value.op == "cast":
        value = value.args[0]
    parts = value.args if value.op == "mul" else (value,)
    found = []
    for part in parts:
        while part.op == "cast":
            part = part.args[0]
        if part.op != "load" or not is_plain(part):
            raise NotOneHotError("it is no sum of products of two arrays")
        found.append(part)
    return tuple(found)


def _placed(coordinate: Index, places: dict[Var, tuple[Index, Expression]]) -> Coordinate:
    """A coordinate with axes replaced by places of winners: ``computed + index``."""
    total: Expression | None = None
    for var, (known, computed) in places.items():
        factor = coordinate.coefficient(var)
        if factor:
            part = computed if factor == 1 else computed * factor
            total = part if total is None else total + part
            coordinate = coordinate + (known - var) * factor
    return coordinate if total is None else total + ex.index_value(coordinate)


def _elements(axes: Iterable[Var]) -> float:
    return float(prod([hint(v.extent) for v in axes]))


def hint(extent: Index) -> int:
    return max(extent.hint(), 1)


def _fill(axis: Var, lanes: int) -> float:
    """How many lanes are used if an axis lies in vectors."""
    return hint(axis.extent) / -(-hint(axis.extent) // lanes)


def _vectors(axes: list[Var], along: Var, lanes: int) -> float:
    """How many vectors there are over axes, one of them in lanes; two if they are short."""
    length, others = hint(along.extent), [v for v in axes if v is not along]
    best = _elements(others) * -(-length // lanes)
    if length < lanes:
        for v in others:
            rest = _elements(others) / hint(v.extent)
            best = min(best, rest * -(-length * hint(v.extent) // lanes))
    return best
