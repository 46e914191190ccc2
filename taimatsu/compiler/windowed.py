"""What rewriting needs to know of sums over one-hot arrays: factors, places, costs."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from taimatsu.compiler.onehot import Coordinate, NotOneHotError, Place, is_plain
from taimatsu.ir import expression as ex
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index, Var

LOADS = 2.0  # loads in a cycle, and multiply-adds
WINNER = 2.0  # cycles to find the place of a window's winner
ADDED = 1.0  # cycles to load a vector from near memory, to add to it and to store it
ADDED_MASKED = 6.0  # the same where not all lanes are used
STORED = 1.0  # cycles to compute an element, to store it and to load it again


def product_of(value: Expression) -> tuple[Expression, ...]:
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


def placed(coordinate: Index, places: dict[Var, Place]) -> Coordinate:
    """A coordinate with axes replaced by places of winners: ``computed + index``."""
    total: Expression | None = None
    for var, (known, computed) in places.items():
        factor = coordinate.coefficient(var)
        if not factor:
            continue
        if computed is not None:
            part = computed if factor == 1 else computed * factor
            total = part if total is None else total + part
        coordinate = coordinate + (known - var) * factor
    return coordinate if total is None else total + ex.index_value(coordinate)


def elements(axes: Iterable[Var]) -> float:
    """How many points there are over axes, about."""
    return float(prod([hint(v.extent) for v in axes]))


def hint(extent: Index) -> int:
    """An extent's number, or what it was when the program was made."""
    return max(extent.hint(), 1)


def fill(axis: Var, lanes: int) -> float:
    """How many lanes are used if an axis lies in vectors."""
    return hint(axis.extent) / -(-hint(axis.extent) // lanes)


def vectors(axes: list[Var], along: Var, lanes: int) -> float:
    """How many vectors there are over axes, one of them in lanes; two if they are short."""
    length, others = hint(along.extent), [v for v in axes if v is not along]
    best = elements(others) * -(-length // lanes)
    if length < lanes:
        for v in others:
            rest = elements(others) / hint(v.extent)
            best = min(best, rest * -(-length * hint(v.extent) // lanes))
    return best


def added(axes: list[Var], along: Var, lanes: int) -> float:
    """Cycles to add to vectors in memory over axes, one of them in lanes.

    What a store with a mask has written is not at hand for the next load.
    """
    whole, rest = divmod(hint(along.extent), lanes)
    tail = 0.0 if not rest else ADDED if rest & (rest - 1) == 0 else ADDED_MASKED
    return elements([v for v in axes if v is not along]) * (whole * ADDED + tail)
