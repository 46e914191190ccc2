"""Regions in stages: which place of a region an element of the whole is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from taimatsu.ir.builder import Builder, from_end
from taimatsu.ir.expression import Expression, walk
from taimatsu.ir.index import Index, index
from taimatsu.ir.stages import REPLACE, Stage, View
from taimatsu.ops.coordinates import (
    Coordinate,
    Source,
    all_of,
    chosen,
    clamped,
    converted,
    unravel,
    within,
)
from taimatsu.shapes import contiguous_strides


class Run(NamedTuple):
    """What a dimension of a region runs along: one dimension of the whole in steps, or several at
    once, in the same steps (diagonals).
    """

    along: tuple[int, ...]
    step: int
    extent: Index
    whole: bool  # each element of the dimension once: the region has it as it is


class Layout:
    """A region whose dimensions run along those of the whole, each along its own.

    Counted from its start, the region's elements then have coordinates in the whole that are
    multiples of the steps, whatever the start is.
    """

    def __init__(self, shape: Sequence[Index], runs: list[Run]) -> None:
        self.shape = shape
        self.runs = runs  # of the region's dimensions in order

    @staticmethod
    def of(shape: Sequence[Index], size: Sequence[Index], stride: tuple[int, ...]) -> Layout | None:
        """The layout of a region of this size and these row-major strides; None where a dimension
        does not run along dimensions of its own. It goes by the sizes of this program.
        """
        hints = [n.hint() for n in shape]
        plain = contiguous_strides(hints)
        runs = []
        used: set[int] = set()
        for n, s in zip(size, stride, strict=True):
            if n == 1:
                runs.append(Run((), 1, n, False))
                continue
            along = dimensions_along(hints, plain, n.hint(), s)
            if along is None or used.intersection(along):
                return None
            used.update(along)
            step = s // sum(plain[d] for d in along)
            whole = len(along) == 1 and step == 1 and shape[along[0]] == n
            runs.append(Run(along, step, n, whole))
        return Layout(shape, runs)

    def selected(self, b: Builder, input: Source, src: Source, first: tuple, boxed: bool) -> Stage:
        """The input with the region's elements replaced, as a choice for each element; ``first``
        is where the region starts.
        """

        def at(*i: Index) -> Expression:
            digits = self._plain(b, i, first) if boxed else self._borrowed(b, i, first)
            inside, place = self._place(b, digits)
            return chosen(b, inside, src[place], input[i])

        return b.map(input.shape, input.dtype, at)

    def written(self, b: Builder, input: Source, src: Source, first: tuple) -> Stage:
        """The input with the elements of a boxed region replaced, as writes."""

        def where(*i: Index) -> tuple:
            place = list(first)
            for at, run in zip(i, self.runs, strict=True):
                for d in run.along:
                    place[d] = at if run.whole else _sum(b, place[d], at * run.step)
            return tuple(place)

        return b.scatter(input, src.shape, where, lambda *i: src[i], REPLACE)

    def _plain(self, b: Builder, where: tuple, first: tuple) -> list[Coordinate]:
        """An element's coordinates counted from the start's, where the region is boxed. Along a
        dimension that it has as a whole it begins at 0.
        """
        wholes = {run.along[0] for run in self.runs if run.whole}
        pairs = enumerate(zip(where, first, strict=True))
        return [at if d in wholes else _minus(b, at, begin) for d, (at, begin) in pairs]

    def _borrowed(self, b: Builder, where: tuple, first: tuple) -> list[Any]:
        """An element's position minus the start's, as coordinates: subtraction with borrowing.
        The first one is negative for elements before the start.
        """
        made: list[Any] = []
        borrow: Expression | None = None
        for d in range(len(where) - 1, -1, -1):
            if self.shape[d] == 1:
                made.append(index(0))
                continue
            digit = _value(b, _minus(b, where[d], first[d]))
            if borrow is not None:
                digit = digit - borrow
            if any(n != 1 for n in self.shape[:d]):
                below = digit < 0
                borrow = b.cast(below, "int64")
                digit = b.where(below, digit + b.index(self.shape[d]), digit)
            made.append(digit)
        return made[::-1]

    def _place(self, b: Builder, digits: list[Coordinate]) -> tuple[Expression, tuple]:
        """Whether an element belongs to the region, and its place there (one inside if not)."""
        conditions: list[Expression] = []
        place: list[Coordinate] = []
        used: set[int] = set()
        wholes = {run.along[0] for run in self.runs if run.whole}
        for run in self.runs:
            used.update(run.along)
            if not run.along:
                place.append(index(0))
                continue
            digit = digits[run.along[0]]
            for other in run.along[1:]:
                conditions.append(_value(b, digits[other]).eq(_value(b, digit)))
            if run.along[0] in wholes and type(digit) is Index:
                place.append(digit)
                continue
            inside, at = _stepped(b, digit, run)
            conditions += inside
            place.append(at)
        for d, digit in enumerate(digits):
            if d not in used and self.shape[d] != 1:
                conditions.append(_value(b, digit).eq(0))
        return all_of(b, conditions), tuple(place)


def _stepped(b: Builder, digit: Coordinate, run: Run) -> tuple[list[Expression], Coordinate]:
    """Whether a distance from a run's start is that of one of its elements, and of which."""
    reach = run.extent * run.step
    if type(digit) is Index:
        inside, at = [within(b, digit, reach)], clamped(digit, reach)
        if run.step > 1:
            inside.append(b.index(at % run.step).eq(0))
        return inside, at // run.step
    assert isinstance(digit, Expression)
    inside = [digit >= 0, digit < b.index(reach)]
    if run.step > 1:
        inside.append(b.binary("modulo", digit, run.step).eq(0))
        digit = b.binary("floordiv", digit, run.step)
    return inside, b.max(b.min(digit, b.index(run.extent - 1)), 0)


def _value(b: Builder, at: Coordinate) -> Expression:
    return at if isinstance(at, Expression) else b.index(at)


def _sum(b: Builder, x: Coordinate, y: Index) -> Coordinate:
    return x + y if type(x) is Index else _value(b, x) + b.index(y)


def _minus(b: Builder, at: Index, begin: Coordinate) -> Coordinate:
    return at - begin if type(begin) is Index else b.index(at) - _value(b, begin)


def is_boxed(shape: Sequence[int], size: Sequence[int], stride: Sequence[int], start: int) -> bool:
    """Whether a layout over an array in row-major order stays, along each of its dimensions,
    within the dimensions of the array that it runs along.
    """
    plain = contiguous_strides(shape)
    for count, step in zip(size, stride, strict=True):
        if count <= 1:
            continue
        along = dimensions_along(shape, plain, count, step)
        if along is None:
            return False
        reach = (count - 1) * (step // sum([plain[d] for d in along]))
        if any(start // plain[d] % shape[d] + reach >= shape[d] for d in along):
            return False
    return True


def dimensions_along(
    shape: Sequence[int], plain: Sequence[int], count: int, stride: int
) -> tuple[int, ...] | None:
    """The dimensions that elements this far apart run along without leaving them: one, or two at
    once; None where there are none.
    """
    real = [d for d, n in enumerate(shape) if n > 1]
    for d in real:
        step, rest = divmod(stride, plain[d])
        if rest == 0 and step and (count - 1) * step < shape[d]:
            return (d,)
    for d in real:
        for e in real:
            if d < e and plain[d] + plain[e] == stride and count <= min(shape[d], shape[e]):
                return (d, e)
    return None


def replaced_region(
    b: Builder, input: Source, src: Source, start: Any, stride: tuple[int, ...], boxed: bool
) -> Stage:
    """The input with what a layout sees of it replaced; see ``RegionScatter``.

    In an array of one value each element chooses, so that sums of such arrays need no memory for
    them; into another array the region is written, and the rest is not touched.
    """
    begin = converted(b, start, "int64")
    settled = b.settled(begin)
    first: Coordinate = begin if settled is None else index(settled)
    layout = Layout.of(input.shape, src.shape, stride)
    corner = unravel(b, first, input.shape) if settled is None else _corner(input.shape, settled)
    if settled is not None:
        extents = ([n.hint() for n in input.shape], [n.hint() for n in src.shape])
        boxed = boxed or is_boxed(*extents, stride, settled)
    if layout is not None and _is_constant(input):
        return layout.selected(b, input, src, corner, boxed)
    if layout is not None and boxed:
        return layout.written(b, input, src, corner)

    def where(*i: Index) -> tuple:
        offset = sum([c * s for c, s in zip(i, stride, strict=True)], index(0))
        return unravel(b, _sum(b, first, offset), input.shape)

    return b.scatter(input, src.shape, where, lambda *i: src[i], REPLACE)


def _corner(shape: Sequence[Index], start: int) -> tuple[Index, ...]:
    """The coordinates of the element at a position."""
    plain = contiguous_strides([n.hint() for n in shape])
    return tuple([from_end(n, start // s % n.hint()) for n, s in zip(shape, plain, strict=True)])


def _is_constant(source: Source) -> bool:
    """Whether all elements are one number, given or computed."""
    stage = source.stage if isinstance(source, View) else source
    value = stage.value
    if stage.kind != "map" or value is None:
        return False
    return all(node.op not in ("load", "index") for node in walk(value))
