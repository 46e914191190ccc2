"""Correlations of one-hot arrays: each window's value goes to where it counts.

``sum over o, j of hot[o, y + j] * w[o, j]`` adds, for each window, its value times ``w[o, j]`` to
the elements ``place - j`` of the result, all zero at first: a scatter over windows and taps.
"""

from __future__ import annotations

from typing import Any

from taimatsu.compiler.onehot import NotOneHotError, OneHot, Place
from taimatsu.compiler.windowed import LOADS, WINNER, added, elements, fill, product_of
from taimatsu.ir import expression as ex
from taimatsu.ir.expression import SIZES, Expression
from taimatsu.ir.index import Index, Var, bounds, index
from taimatsu.ir.stages import Stage
from taimatsu.ir.target import Target


def spreads(hot: OneHot, stage: Stage) -> bool:
    """Whether a sum reads a one-hot map at places that its result's axes shift."""
    try:
        own = _own(hot, stage)
    except NotOneHotError:
        return False
    axes = set(stage.axes)
    return any(axes & own[0].detail[1][d].variables() for d in hot.places)


def _own(hot: OneHot, stage: Stage) -> tuple[Expression, Expression]:
    """The load of the map, and the other factor's."""
    if stage.combine != "add" or stage.value is None:
        raise NotOneHotError("it is no sum")
    factors = product_of(stage.value)
    mine = [n for n, f in enumerate(factors) if f.detail[0] is hot.stage]
    if len(factors) != 2 or len(mine) != 1:
        raise NotOneHotError("it is no product with another array")
    return factors[mine[0]], factors[1 - mine[0]]


class Spread:
    """A correlation of a one-hot map, as a scatter of its values. See ``sparse.Reader``."""

    is_product = True

    def __init__(self, hot: OneHot, stage: Stage, target: Target, is_fixed: bool) -> None:
        self.hot, self.stage = hot, stage
        if is_fixed:
            raise NotOneHotError("its result lies in a given order")
        self.own, self.other = _own(hot, stage)
        self.moved: dict[Var, int] = {}  # axes of the result, with the map's dimension
        self.numbers: dict[int, Var] = {}  # by dimension: the axis of its windows
        for d, c in enumerate(self.own.detail[1]):
            met = [v for v in stage.axes if v in c.variables()]
            if d not in hot.places and len(c.variables()) < 2:
                continue
            if len(met) != 1 or c.coefficient(met[0]) != 1 or not _is_affine(c):
                raise NotOneHotError(f"{c} does not slide along one axis")
            self.moved[met[0]] = d
            self.numbers[d] = Var(f"{met[0].name}w", hot.values.shape[d])
        self._check()
        self.margins = {v: self._margin(v, d) for v, d in self.moved.items()}
        self._estimate(target)

    def _check(self) -> None:
        for d, c in enumerate(self.own.detail[1]):
            if d not in self.numbers and set(self.moved) & c.variables():
                raise NotOneHotError(f"{c} slides along two dimensions")
        if len(self.moved) != len(self.numbers):
            raise NotOneHotError("two dimensions slide along one axis")
        for c in self.other.detail[1]:
            if set(self.moved) & c.variables():
                raise NotOneHotError("the other factor slides along")

    def _margin(self, axis: Var, dimension: int) -> tuple[int, int]:
        """How many places before and behind the result's are reached."""
        first, count = self.hot.span(dimension)
        least, most = bounds(self.own.detail[1][dimension] - axis)
        if least is None or most is None:
            raise NotOneHotError("nothing bounds where values go")
        behind = first + count - least - axis.extent
        if not behind.is_constant:
            raise NotOneHotError("it is not known whether values go beyond the result")
        return max(0, most - first), max(0, behind.constant)

    def _estimate(self, target: Target) -> None:
        stage, windows = self.stage, list(self.numbers.values())
        axes = (*stage.axes, *stage.reduce_axes)
        lanes = max(target.lanes(SIZES[stage.dtype]), 1)
        self.dense = elements(axes) / LOADS / max(fill(v, lanes) for v in axes)
        used = {v for c in self.own.detail[1] for v in c.variables()}
        free = [v for v in axes if v not in used or v in self._taps()]
        shared = [v for v in axes if v in used and v not in free and v not in self.moved]
        adding = min([added(free, v, lanes) for v in free], default=1.0)
        self.cycles = elements([*shared, *windows]) * (adding + WINNER)
        self.cycles += elements(stage.axes) / lanes

    def _taps(self) -> set[Var]:
        """Axes of the sum that only shift."""
        where = self.own.detail[1]
        shifting = {v for d in self.numbers for v in where[d].variables()}
        return shifting - set(self.moved) - self._elsewhere()

    def _elsewhere(self) -> set[Var]:
        where = self.own.detail[1]
        return {v for d, c in enumerate(where) if d not in self.numbers for v in c.variables()}

    def apply(self) -> list[Stage]:
        """Makes the stage a scatter, or a map that reads one with margins; gives new stages."""
        stage = self.stage
        extents = [
            n + sum(self.margins.get(v, (0, 0)))
            for v, n in zip(stage.axes, stage.shape, strict=True)
        ]
        shape = tuple([index(n) for n in extents])
        zeros = Stage(
            "map", shape, stage.dtype, tuple([Var(f"z{d}", n) for d, n in enumerate(shape)])
        )
        zeros.value = ex.constant(0, stage.dtype)
        has_margins = any(sum(m) for m in self.margins.values())
        made = Stage("scatter", shape, stage.dtype) if has_margins else stage
        for new in (zeros, made):
            new.number, new.node, new.fused = stage.number, stage.node, stage.fused
        axes = stage.axes
        self._scatter(made, zeros)
        if not has_margins:
            return [zeros]
        stage.kind, stage.combine, stage.reduce_axes = "map", "", ()
        where = [
            index(0) if v.extent == 1 else index(v) + self.margins.get(v, (0, 0))[0] for v in axes
        ]
        stage.value = ex.load(made, where, stage.dtype)
        return [zeros, made]

    def _scatter(self, made: Stage, zeros: Stage) -> None:
        stage, hot = self.stage, self.hot
        old = self.own.detail[1]
        at = [_whole(self.numbers[d]) if d in self.numbers else c for d, c in enumerate(old)]
        axes = dict(zip(hot.values.axes, at, strict=True))
        done = {self.own: ex.load(hot.values, at, self.own.dtype)}
        assert stage.value is not None
        value = ex.rewrite(stage.value, lambda node: None, done)
        where: list[Any] = []
        for v in stage.axes:
            if v not in self.moved:
                where.append(_whole(v))
                continue
            d = self.moved[v]
            known, computed = self._place(d, axes)
            known = known - (old[d] - v) + self.margins[v][0]
            where.append(known if computed is None else computed + ex.index_value(known))
        elsewhere = self._elsewhere()
        outer = [v for v in stage.reduce_axes if v in elsewhere]
        inner = [v for v in stage.reduce_axes if v not in elsewhere]
        kept = [v for v in stage.axes if v not in self.moved]
        made.kind, made.combine, made.reduce_axes = "scatter", "add", ()
        made.axes = (*kept, *outer, *self.numbers.values(), *inner)
        made.value, made.initial, made.where = value, zeros, tuple(where)

    def _place(self, dimension: int, axes: dict[Var, Index]) -> Place:
        if dimension in self.hot.places:
            return self.hot.place(dimension, axes)
        return _whole(self.numbers[dimension]), None


def _whole(axis: Var) -> Index:
    return index(0) if axis.extent == 1 else index(axis)


def _is_affine(coordinate: Index) -> bool:
    return all(coordinate.is_affine_in(v) for v in coordinate.variables())
