"""Sums over one-hot arrays become sums over their windows where that costs less.

The other factor is read where a window's winner is: at computed places (``gathered``). Terms that
are zero times something are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Protocol

from taimatsu.compiler.meeting import plain
from taimatsu.compiler.onehot import NotOneHotError, OneHot, analysed
from taimatsu.compiler.spread import Spread, spreads
from taimatsu.compiler.windowed import (
    LOADS,
    STORED,
    WINNER,
    elements,
    fill,
    hint,
    placed,
    product_of,
    vectors,
)
from taimatsu.ir import expression as ex
from taimatsu.ir.expression import SIZES
from taimatsu.ir.index import Index, Var, index
from taimatsu.ir.stages import Stage, producers
from taimatsu.ir.target import Target

Log = Callable[[str], None]


def sparse(stages: list[Stage], outside: set[Stage], target: Target, log: Log) -> list[Stage]:
    """The stages, sums over one-hot maps being sums over their windows where that costs less.

    Args:
        stages: in order; values of readers are changed.
        outside: stages that are seen from outside, or through other memory.
    """
    work = _Sparse(stages, outside, target, log)
    return work.stages()


class Reader(Protocol):
    """What reads a one-hot map, and could do with its values.

    Attributes:
        stage: the reader.
        cycles, dense: what it costs with values, and as it stands; about.
        is_product: whether it is a sum of products.
    """

    stage: Stage
    cycles: float
    dense: float
    is_product: bool

    def apply(self) -> list[Stage]:
        """Changes the stage; gives new ones that it reads."""


class _Sparse:
    """The search for one-hot maps among stages."""

    def __init__(self, given: list[Stage], outside: set[Stage], target: Target, log: Log) -> None:
        self.given, self.outside, self.target, self.log = given, outside, target, log
        self.hot: dict[Stage, OneHot] = {}
        self.readers: dict[Stage, list[Stage]] = {}
        for stage in given:
            for read in producers(stage):
                self.readers.setdefault(read, []).append(stage)

    def stages(self) -> list[Stage]:
        for stage in self.given:
            try:
                hot = analysed(stage, self.outside, self.hot)
            except NotOneHotError as error:
                self.log(f"{stage} is computed everywhere: {error}")
                continue
            if hot is not None:
                self.hot[stage] = hot
        new: dict[Stage, list[Stage]] = {}  # by the stage that they come before
        done: set[Stage] = set()
        for stage, hot in self.hot.items():
            for reader in self._chosen(hot, done):
                done.add(reader.stage)
                if hot.values not in done:
                    done.add(hot.values)
                    new.setdefault(self._first(hot), []).append(hot.values)
                new.setdefault(reader.stage, []).extend(reader.apply())
                self.log(f"{reader.stage} goes over windows of {stage}, from {hot.values}")
        return [s for stage in self.given for s in (*new.get(stage, ()), stage)]

    def _first(self, hot: OneHot) -> Stage:
        """The map that values were made for."""
        return next(s for s, other in self.hot.items() if other.values is hot.values)

    def _found(self, hot: OneHot, done: set[Stage]) -> tuple[list[Reader], bool]:
        """The readers that can do with values, and whether these are all."""
        found: list[Reader] = []
        is_all = hot.stage not in self.outside
        for stage in self.readers.get(hot.stage, ()):
            if stage in done:
                continue
            try:
                found += self._reader(hot, stage, done)
            except NotOneHotError as error:
                self.log(f"{stage} reads all of {hot.stage}: {error}")
                is_all = False
        return found, is_all

    def _reader(self, hot: OneHot, stage: Stage, done: set[Stage]) -> list[Reader]:
        other = self.hot.get(stage)
        if other is not None and other.values is hot.values:  # the same with a border
            found, is_all = self._found(other, done)
            if not is_all:
                raise NotOneHotError("others read all of that")
            for reader in found[:1]:
                reader.dense += STORED * elements(stage.axes)
            return found
        if stage.kind == "reduce" and spreads(hot, stage):
            return [Spread(hot, stage, self.target, stage in self.outside)]
        return [_Sum(hot, stage, self.target)]

    def _chosen(self, hot: OneHot, done: set[Stage]) -> list[Reader]:
        """The readers that become sums over windows."""
        found, is_all = self._found(hot, done)
        own = 0.0 if hot.values in done else STORED * elements(hot.values.axes)
        if is_all:
            everything = STORED * elements(hot.stage.axes)
            if own + sum(r.cycles for r in found) < everything + sum(r.dense for r in found):
                return found
        found = [r for r in found if r.is_product and r.cycles < r.dense]
        if own + sum(r.cycles for r in found) < sum(r.dense for r in found):
            return found
        for r in found:
            self.log(
                f"{r.stage} reads all of {hot.stage}: {r.dense:.0f} cycles, not {r.cycles:.0f}"
            )
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
        factors = product_of(stage.value)
        mine = [n for n, f in enumerate(factors) if f.detail[0] is hot.stage]
        if len(mine) != 1:
            raise NotOneHotError("it is no product with another array")
        self.own = factors[mine[0]]
        self.other = factors[1 - mine[0]] if len(factors) == 2 else None
        self.is_product = self.other is not None
        self.windows = self._windows()
        self._estimate(target)

    def _windows(self) -> dict[Var, int]:
        """The sum's axes that run along the pooled dimensions."""
        where = self.own.detail[1]
        found: dict[Var, int] = {}
        for dimension in self.hot.places:
            var = plain(where[dimension])
            over = any(var is v for v in self.stage.reduce_axes)
            if var is None or not over or var.extent != self.hot.stage.shape[dimension]:
                raise NotOneHotError("it does not sum over whole windows")
            found[var] = dimension
        for d, c in enumerate(where):
            if d not in self.hot.places and c.variables() & set(found):
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
        self.dense = elements(axes) / LOADS / max(fill(v, lanes) for v in axes)
        others = [v for v in axes if v not in own]
        at_once = min([vectors(others, v, lanes) for v in others], default=1.0)
        windows = elements([v for v in axes if v in own and v not in self.windows])
        windows *= prod([hint(hot.values.shape[d]) for d in self.windows.values()])
        if self.other is None:
            self.cycles = windows / LOADS / lanes
        else:
            self.cycles = windows * (at_once / LOADS + WINNER)

    def apply(self) -> list[Stage]:
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
            done[self.other] = ex.load(read, [placed(c, places) for c in there], self.other.dtype)
        assert stage.value is not None
        stage.value = ex.rewrite(stage.value, lambda node: None, done)
        stage.reduce_axes = tuple([numbers.get(v, v) for v in stage.reduce_axes])
        return []
