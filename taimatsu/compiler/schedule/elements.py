"""The statements that compute one element of each of several pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from taimatsu.compiler.schedule.common import Nest, Piece
from taimatsu.compiler.schedule.frame import Scope, allocated
from taimatsu.ir.expression import Expression, load, walk
from taimatsu.ir.index import Index
from taimatsu.ir.loops import Buffer, Statement, Store
from taimatsu.ir.stages import Stage

# Takes a value and, for argmax and argmin, its position into the accumulator of a reduction.
Accumulate = Callable[[Expression, "Expression | None"], list[Statement]]
Held = tuple[Buffer, tuple[Index, ...]]  # an element of a register


def read_by(nest: Nest, pieces: Iterable[Piece]) -> set[Stage]:
    """The members of a nest that some pieces load."""
    found: set[Stage] = set()
    seen: set[Expression] = set()
    for piece in pieces:
        for root in piece.roots:
            for node in walk(root, seen):
                if node.op == "load":
                    member = nest.member(node.detail[0])
                    if member is not None:
                        found.add(member.stage)
    return found


def elements(
    scope: Scope,
    pieces: Iterable[Piece],
    width: int,
    held: Mapping[Stage, Held] | None = None,
    accumulate: Mapping[Stage, Accumulate] | None = None,
) -> list[Statement]:
    """Computes and stores an element of each piece; reductions take theirs in.

    What others among them read goes through registers (given ones for the stages of ``held``).
    Memory that is written in place is written after everything was read.
    """
    pieces = list(pieces)
    held = held or {}
    inside = read_by(scope.frame.nest, pieces)
    single = len(pieces) == 1
    body: list[Statement] = []
    last: list[Statement] = []
    registers: list[Buffer] = []
    for piece in pieces:
        stage = piece.stage
        body += scope.checks(piece)
        value = scope.value(piece.value)
        if accumulate is not None and stage in accumulate:
            position = None if piece.position is None else scope.value(piece.position)
            body += accumulate[stage](value, position)
            continue
        deferred = stage.cell is not None and not single
        kept = held.get(stage)
        if kept is None and (stage in inside or deferred):
            register = Buffer(
                scope.frame.name("e"), value.dtype, (), "register", lanes=max(width, 1)
            )
            registers.append(register)
            kept = register, ()
        if kept is not None:
            body.append(Store(*kept, value))
            value = load(*kept)
            scope.registers[stage] = value
        (last if deferred else body).extend(scope.stores(piece, value))
    return allocated(registers, [*body, *last])
