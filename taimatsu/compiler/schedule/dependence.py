"""Which loops may change places: what one iteration writes and others use."""

from __future__ import annotations

from collections.abc import Sequence

from taimatsu.compiler.schedule.trees import Body, Coordinates, accesses, loops_of
from taimatsu.ir.index import Index, Var, bounds
from taimatsu.ir.loops import Allocate, Buffer, statements


def check_order(inside: Body, before: Sequence[Var], after: Sequence[Var], word: str) -> None:
    """ValueError where another order of loops might change what is computed.

    Iterations that differ in variables by which a buffer's element is told touch different
    elements; the other loops update one element and must keep their order. Without ``after`` the
    loops are distributed over their statements, and all of them must tell elements apart.

    Args:
        inside: what the loops hold.
        before: their variables, from the outermost on.
        after: the same in the new order, or nothing.
        word: names the caller in messages.
    """
    running = [*before, *(loop.var for loop in loops_of(inside))]
    private = {s.buffer for s in statements(inside) if type(s) is Allocate}
    written = {buffer for buffer, _, is_written in accesses(inside) if is_written} - private
    for buffer in sorted(written, key=lambda b: b.name):
        told = _told_by(buffer, inside, running)
        free = [var for var in before if var not in told]
        if free and (not after or free != [var for var in after if var in free]):
            names = ", ".join([var.name for var in free])
            raise ValueError(
                f"[{word}] iterations of {names} may use one element of {buffer}: "
                "their order matters"
            )


def _told_by(buffer: Buffer, inside: Body, running: Sequence[Var]) -> set[Var]:
    """Variables that differ only where the buffer's elements do, in all accesses to it."""
    places: list[Coordinates] = [where for b, where, _ in accesses(inside) if b is buffer]
    told: set[Var] = set()
    for coordinates in zip(*places, strict=True):
        found = [_digits(c, running) for c in coordinates]
        first = found[0]
        common = [d for d in found if d is not None and first is not None and d[0] == first[0]]
        if first is None or len(common) < len(found):
            continue
        told |= {
            v for v in first[1] if all(_higher(d[1], v) == _higher(first[1], v) for d in common)
        }
    return told


def _higher(factors: dict[Var, int], var: Var) -> list[int]:
    """The factor of a variable, and those of the digits above."""
    own = factors.get(var)
    return [] if own is None else [own, *sorted(f for f in factors.values() if f > own)]


def _digits(value: object, running: Sequence[Var]) -> tuple[Index, dict[Var, int]] | None:
    """An index as digits: what does not change, and for each running variable its factor.

    Digits tell values apart: each factor is greater than all that smaller ones add. None where
    that is not so.
    """
    if not isinstance(value, Index):
        return None
    factors: dict[Var, int] = {}
    fixed = []
    for atom, factor in value.terms:
        if atom in running:
            factors[atom] = factor
        elif Index(((atom, factor),), 0).variables() & set(running):
            return None
        else:
            fixed.append((atom, factor))
    reach: int | None = 0  # the greatest value of the digits so far
    for var, factor in sorted(factors.items(), key=lambda item: item[1]):
        if reach is None or factor <= reach:
            return None
        most = bounds(var.extent)[1]
        reach = None if most is None else reach + factor * max(most - 1, 0)
    return Index(tuple(fixed), value.constant), factors
