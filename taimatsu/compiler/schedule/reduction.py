"""Accumulators: how the values of a reduction are combined, in which order.

A reduction along vectors has several vectors of partial results (``copies``), each lane of which
takes in its values one after the other. Sums of floats are made in blocks: what a block has come to
is added to totals, lane by lane, so that errors grow with the block's length and with the number of
blocks instead of with all that is summed. At the end copies are combined in pairs, then lanes.
"""

from __future__ import annotations

from collections.abc import Callable

from taimatsu.compiler.schedule.common import Piece
from taimatsu.compiler.schedule.elements import Accumulate
from taimatsu.compiler.schedule.frame import Frame, serial_loop, vector_loop
from taimatsu.ir.expression import FLOATS, Expression, across, binary, constant, load, select
from taimatsu.ir.index import Index, Var, index
from taimatsu.ir.loops import Buffer, Loop, Statement, Store
from taimatsu.ir.stages import identity

NOWHERE = 2**63 - 1  # a position behind all others


class Accumulator:
    """The partial results of a piece that reduces or scans, in registers.

    Args:
        copies: how many vectors there are.
        lanes: their width.
        blocked: whether totals are kept apart from what a block has come to.

    Arguments ``u`` of the methods say which vector.
    """

    def __init__(
        self, frame: Frame, piece: Piece, copies: int, lanes: int, blocked: bool = False
    ) -> None:
        self.piece = piece
        self.copies = copies
        self.lanes = lanes
        self.is_arg = piece.position is not None
        self.compares = {"argmax": "max", "argmin": "min"}.get(piece.combine, piece.combine)
        self.blocked = blocked and piece.combine == "add" and piece.value.dtype in FLOATS
        dtypes = [piece.value.dtype, "int64"] if self.is_arg else [piece.value.dtype]
        self.now = [self._register(frame, d) for d in dtypes]
        self.total = [self._register(frame, d) for d in dtypes] if self.blocked else self.now
        self.flag = Buffer(frame.name("s"), "bool", (), "register", lanes=lanes)
        first = identity(self.compares, piece.value.dtype)
        self.initial = [first, constant(-1, "int64")] if self.is_arg else [first]

    def _register(self, frame: Frame, dtype: str) -> Buffer:
        return Buffer(frame.name("s"), dtype, (self.copies,), "register", lanes=self.lanes)

    @property
    def registers(self) -> list[Buffer]:
        held = [*self.now, *self.total] if self.blocked else self.now
        return [*held, self.flag] if self.is_arg else held

    # -- steps -----------------------------------------------------------------------------

    def start(self) -> list[Statement]:
        """Before all: outside of vector loops."""
        return self._set(self.total)

    def start_block(self) -> list[Statement]:
        """Before a block: outside of vector loops."""
        return self._set(self.now) if self.blocked else []

    def _set(self, registers: list[Buffer]) -> list[Statement]:
        return [
            Store(register, (u,), value)
            for u in range(self.copies)
            for register, value in zip(registers, self.initial, strict=True)
        ]

    def step(self, u: Index) -> Accumulate:
        """Takes a value into a vector, inside of a vector loop."""

        def take(value: Expression, position: Expression | None) -> list[Statement]:
            if position is None:
                return [Store(self.now[0], (u,), self._plain(load(self.now[0], (u,)), value))]
            best, held = (load(r, (u,)) for r in self.now)
            better = self._is_better(value, best) | (held < 0)
            return self._chosen(self.now, u, better, [value, position])

        return take

    def end_block(self, u: Index) -> list[Statement]:
        """Adds what a block has come to, inside of a vector loop."""
        if not self.blocked:
            return []
        value = self._plain(load(self.total[0], (u,)), load(self.now[0], (u,)))
        return [Store(self.total[0], (u,), value)]

    def results(self, u: Index) -> list[Expression]:
        """What a lane has come to: the value, and the position of argmax and argmin."""
        return [load(r, (u,)) for r in self.total]

    # -- across lanes ----------------------------------------------------------------------

    def join(self) -> list[Statement]:
        """Combines all vectors in the first, outside of vector loops."""
        made: list[Statement] = []
        lanes = index(self.lanes)
        distance = 1
        while distance < self.copies:
            for u in range(0, self.copies - distance, 2 * distance):
                merged = self._merge(index(u), index(u + distance))
                made.append(Loop(Var("v", lanes), "vector", merged, self.lanes))
            distance *= 2
        return made

    def across(self, frame: Frame) -> tuple[list[Buffer], list[Statement], list[Expression]]:
        """Combines the lanes of the first vector: registers, statements, then the results."""
        values = [load(r, (0,)) for r in self.total]
        if self.lanes == 1:
            return [], [], values
        if not self.is_arg:
            return [], [], [across(self.compares, values[0])]
        best = Buffer(frame.name("s"), values[0].dtype, (), "register")
        made: list[Statement] = [Store(best, (), across(self.compares, values[0]))]

        def keep(v: Index) -> list[Statement]:
            same = values[0].eq(load(best, ()))
            if values[0].dtype in FLOATS:
                same = same | (values[0].ne(values[0]) & load(best, ()).ne(load(best, ())))
            first = select(same & (values[1] >= 0), values[1], NOWHERE)
            return [Store(self.total[1], (0,), first)]

        made += vector_loop(index(self.lanes), self.lanes, keep)
        return [best], made, [load(best, ()), across("min", values[1])]

    # -- combination -----------------------------------------------------------------------

    def _plain(self, held: Expression, value: Expression) -> Expression:
        return binary(self.compares, held, value)

    def _is_better(self, value: Expression, best: Expression) -> Expression:
        """Whether a value replaces one that came before it; nan replaces numbers and stays."""
        better = value > best if self.compares == "max" else value < best
        if value.dtype in FLOATS:
            better = (better | value.ne(value)) & best.eq(best)
        return better

    def _merge(self, u: Index, other: Index) -> list[Statement]:
        """Combines vector ``other`` into ``u``, inside of a vector loop."""
        if not self.is_arg:
            register = self.total[0]
            return [
                Store(register, (u,), self._plain(load(register, (u,)), load(register, (other,))))
            ]
        best, held = (load(r, (u,)) for r in self.total)
        value, position = (load(r, (other,)) for r in self.total)
        same = best.eq(value)
        if value.dtype in FLOATS:
            same = same | (best.ne(best) & value.ne(value))
        better = self._is_better(value, best) | (same & (position < held)) | (held < 0)
        return self._chosen(self.total, u, better & (position >= 0), [value, position])

    def _chosen(
        self, registers: list[Buffer], u: Index, better: Expression, values: list[Expression]
    ) -> list[Statement]:
        """Value and position take the place of those held where they are better."""
        made: list[Statement] = [Store(self.flag, (), better)]
        for register, value in zip(registers, values, strict=True):
            made.append(
                Store(register, (u,), select(load(self.flag, ()), value, load(register, (u,))))
            )
        return made


def each_copy(
    copies: int, lanes: int, extent: Index, body: Callable[[Index, Index], list[Statement]]
) -> list[Statement]:
    """For all vectors, one after the other: ``body(u, v)`` inside of a vector loop."""
    if lanes == 1 and copies == 1 and extent == 1:
        return body(index(0), index(0))
    return serial_loop(
        index(copies),
        lambda u: vector_loop(extent, lanes, lambda v: body(u, v)),
        "u",
        "unroll",
    )
