"""Which elements of a buffer some loops touch: bounds inferred from coordinates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from taimatsu.ir.expression import Expression
from taimatsu.ir.index import (
    Index,
    Minimum,
    Product,
    Quotient,
    Remainder,
    Symbol,
    Var,
    bounds,
    index,
    minimum,
)


class Span(NamedTuple):
    """Positions along one dimension: ``extent`` of them, from ``low`` on.

    ``most`` is a number that the extent does not exceed; None where none is known.
    """

    low: Index
    extent: Index
    most: int | None


def touched(places: Sequence[Sequence[Any]], inner: Iterable[Var], what: str) -> list[Span]:
    """For each dimension the span that coordinates take while inner variables run.

    Args:
        places: the coordinates of each access.
        inner: the variables that run, outer before inner.
        what: names the buffer in messages.

    Raises ValueError where a coordinate is computed, or places have no common begin.
    """
    variables = list(inner)
    for place in places:
        if any(type(c) is Expression for c in place):
            raise ValueError(f"[schedule] {what} is accessed at computed coordinates")
    spans = []
    for coordinates in zip(*places, strict=True):
        lows = [extreme(c, variables, False) for c in coordinates]
        highs = [extreme(c, variables, True) for c in coordinates]
        low = _outermost(lows, False, what)
        extent = _outermost(highs, True, what) - low + 1
        spans.append(Span(low, extent, bounds(extent)[1]))
    return spans


def extreme(value: Index, inner: Sequence[Var], greatest: bool) -> Index:
    """The least or greatest value while inner variables run; others stay as they are."""
    for var in reversed(inner):  # the extents of inner loops may depend on outer ones
        value = _extreme_in(value, var, greatest)
    return value


def _extreme_in(value: Index, var: Var, greatest: bool) -> Index:
    if all(leaf is not var for leaf in value.atoms()):
        return value
    total = index(value.constant)
    for atom, factor in value.terms:
        total += _extreme_of_atom(atom, var, greatest == (factor > 0)) * factor
    return total


def _extreme_of_atom(atom: Any, var: Var, greatest: bool) -> Index:
    """Atoms grow with the variables inside of them, but for remainders."""
    kind = type(atom)
    last = var.extent - 1 if greatest else index(0)
    if atom is var:
        return last
    if kind is Var or kind is Symbol:
        return index(atom)
    if kind is Product:
        total = index(1)
        for factor in atom.factors:
            total = total * _extreme_of_atom(factor, var, greatest)
        return total
    left = _extreme_in(atom.left, var, greatest)
    if kind is Minimum:
        return minimum(left, _extreme_in(atom.right, var, greatest))
    if any(leaf is var for leaf in atom.right.atoms()):
        raise ValueError(f"[schedule] the bounds of {atom} while {var} runs are not known")
    if kind is Quotient:
        return left // atom.right
    assert kind is Remainder
    if left == atom.left:
        return index(atom)
    return atom.right - 1 if greatest else index(0)


def _outermost(values: Sequence[Index], greatest: bool, what: str) -> Index:
    """The greatest (least) of indices that differ by constants."""
    chosen = values[0]
    for value in values[1:]:
        difference = value - chosen
        if not difference.is_constant:
            raise ValueError(
                f"[schedule] {what} is accessed at {chosen} and {value}, which are unrelated"
            )
        if difference.value() != 0 and (difference.value() > 0) == greatest:
            chosen = value
    return chosen
