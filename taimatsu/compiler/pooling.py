"""Which stages reduce windows of a contraction's elements, so that its tiles can hold them whole.

A convolution's tile has the sums of neighbouring pixels in registers: what a pool makes of them can
be made there, and where nobody else reads the pixels they are not stored. The windows must cover
the rows without gaps and overlaps. Only what is exact in any order is combined (maxima, minima), so
no bit depends on where it is done.
"""

from __future__ import annotations

from math import prod

from taimatsu.compiler.gathered import gathered
from taimatsu.compiler.groups import Group, Pooled
from taimatsu.compiler.meeting import plain, wide
from taimatsu.ir.index import Index, Var
from taimatsu.ir.stages import Stage, loads

EXACT = ("max", "min", "and", "or")
LARGEST_WINDOW = 16  # elements; registers hold several windows


class NotPooledError(Exception):
    """Why a stage does not meet a group window by window."""


def is_pool(group: Group, stage: Stage) -> bool:
    """Whether a stage reads windows of a group's elements, or what was made of them."""
    if group.kind != "contraction" or gathered(group.stages[0]) is not None:
        return False
    for node in loads(stage):
        source, where = node.detail
        if source in group.pools:
            return True
        if source in group.rows and stage.kind == "reduce" and stage.combine in EXACT:
            return any(
                type(c) is Index and any(v in c.variables() for v in stage.reduce_axes)
                for c in where
            )
    return False


def pooled(group: Group, stage: Stage) -> tuple[Pooled, dict[int, int]]:
    """How a stage that ``is_pool`` meets a group, and the windows. NotPooledError where not."""
    if stage.kind not in ("map", "reduce") or stage.checks:
        raise NotPooledError(f"a {stage.kind} is no pool")
    if stage.kind == "reduce" and stage.combine not in EXACT:
        raise NotPooledError(f"{stage.combine} depends on its order")
    if any(s.kind == "update" for s in group.stages):
        raise NotPooledError("memory is overwritten element by element only")
    found = _Meeting(group, stage)
    for node in loads(stage):
        source, where = node.detail
        if source in group.pools:
            found.window_by_window(source, where)
        elif source in group.rows:
            found.tap_by_tap(source, where)
    return found.result()


class _Meeting:
    def __init__(self, group: Group, stage: Stage) -> None:
        self.group = group
        self.stage = stage
        self.rows: dict[int, Var | None] = {}
        self.taps: dict[int, Var] = {}

    def tap_by_tap(self, source: Stage, where: tuple) -> None:
        """A load of an element of a window."""
        if self.stage.kind != "reduce":
            raise NotPooledError("it reads elements and windows")
        for k, row in enumerate(self.group.rows[source]):
            at = where[next(d for d, v in enumerate(source.axes) if v is row)]
            tap = _tap(at, self.stage)
            if tap is None:
                self._row(k, plain(at), row.extent)
                continue
            if self.taps.setdefault(k, tap) is not tap or not row.extent.is_constant:
                raise NotPooledError("its windows are not known")
            size = tap.extent.constant
            of = self._window(at, tap, size)
            count = 1 if of is None else of.extent.constant
            if row.extent.constant != size * count:
                raise NotPooledError("its windows do not cover all rows")
            self._row(k, of, None)

    def _window(self, at: Index, tap: Var, size: int) -> Var | None:
        """The variable of windows in ``size * variable + tap``; None where there is one window."""
        rest = at - tap
        if not rest.terms and not rest.constant:
            return None
        if len(rest.terms) != 1 or rest.constant or rest.terms[0][1] != size:
            raise NotPooledError("its windows overlap, leave gaps or are padded")
        atom = rest.terms[0][0]
        if type(atom) is not Var or not atom.extent.is_constant:
            raise NotPooledError("its windows are not known")
        return atom

    def window_by_window(self, source: Stage, where: tuple) -> None:
        """A load of what was made of a window."""
        for k, var in enumerate(self.group.pools[source].rows):
            if var is None:
                self._row(k, None, None)
                continue
            at = where[next(d for d, v in enumerate(source.axes) if v is var)]
            self._row(k, plain(at), var.extent)

    def _row(self, k: int, var: Var | None, extent: Index | None) -> None:
        if extent is not None and (var is None or var.extent != extent):
            raise NotPooledError("it does not meet the group window by window")
        if var is not None and not any(var is a for a in self.stage.axes):
            raise NotPooledError("it does not meet the group window by window")
        if self.rows.setdefault(k, var) is not var:
            raise NotPooledError("it reads several windows")

    def result(self) -> tuple[Pooled, dict[int, int]]:
        group, stage = self.group, self.stage
        count = len(group.rows[group.stages[0]])
        rows = tuple([self.rows.get(k) for k in range(count)])
        mine = {id(v) for v in rows if v is not None}
        if len(self.rows) != count or mine != {id(v) for v in wide(stage.axes)}:
            raise NotPooledError("it has other axes")
        if len(mine) != sum(v is not None for v in rows):
            raise NotPooledError("it reads the diagonal of windows")
        if {id(v) for v in self.taps.values()} != {id(v) for v in wide(stage.reduce_axes)}:
            raise NotPooledError("it reduces more than a window")
        window = {k: v.extent.constant for k, v in self.taps.items()}
        if stage.kind == "map":
            window = group.window
        if group.window not in ({}, window) or not 1 < prod(window.values()) <= LARGEST_WINDOW:
            raise NotPooledError("the group has other windows, or windows are too large")
        return Pooled(rows, self.taps), window


def _tap(at: object, stage: Stage) -> Var | None:
    """The variable of a reduction that a coordinate steps with, element by element."""
    if type(at) is not Index:
        raise NotPooledError("it reads places that the data says")
    met = [v for v in stage.reduce_axes if v in at.variables()]
    if not met:
        return None
    if len(met) > 1 or at.coefficient(met[0]) != 1 or not at.is_affine_in(met[0]):
        raise NotPooledError("its windows overlap, leave gaps or are padded")
    return met[0]
