"""How a layout over a value's memory meets the value's own axes.

A graph's operand reads a value's memory through shape, strides and offset. Where each dimension of
such a view steps along one dimension of the value, coordinates map one to one; dimensions that
merge or split others go through positions (quotients and remainders, which mostly cancel).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taimatsu.ir.builder import from_end
from taimatsu.ir.expression import Expression, binary, index_value
from taimatsu.ir.index import Index, index
from taimatsu.ir.meta import Meta
from taimatsu.ir.stages import Stage, View


def dense_order(meta: Meta) -> tuple[int, ...]:
    """The dimensions of a value from the outermost to the innermost in memory."""
    if meta.contiguous:
        return tuple(range(meta.ndim))
    ranked = sorted(range(meta.ndim), key=lambda d: (-meta.strides[d], d))
    # Dimensions of extent 1 say nothing by their strides: they go outermost.
    return tuple(sorted(ranked, key=lambda d: meta.shape[d] != 1))


def memory_strides(shape: Sequence[Index], order: Sequence[int]) -> list[Index]:
    """Strides of a value that lies in memory without gaps."""
    strides = [index(1)] * len(shape)
    step = index(1)
    for d in reversed(order):
        strides[d] = step
        step = step * shape[d]
    return strides


class Mapping:
    """From a view's coordinates to those of the value.

    Args:
        shape, order: the value's extents and its order in memory.
        meta: the view: concrete shape and strides.
        offset: its first element.
        extent: gives the extent (maybe a symbol) for a size that is none of the value's.
    """

    def __init__(
        self, shape: Sequence[Index], order: Sequence[int], meta: Meta, offset: int, extent: Any
    ) -> None:
        self.order = tuple(order)
        self.value_shape = tuple(shape)
        self.value_strides = memory_strides(shape, order)
        self.hints = [n.hint() for n in shape]
        self.stride_hints = [s.hint() for s in self.value_strides]
        self.base = self._base(offset)
        self.begin = [from_end(n, b) for n, b in zip(shape, self.base, strict=True)]
        self.direct = True  # each dimension steps along one of the value's, within its bounds
        taken: set[int] = set()
        self.shape: list[Index] = []
        self.strides: list[Index] = []
        self.along: list[int] = []
        for size, stride in zip(meta.shape, meta.strides, strict=True):
            self._dimension(size, stride, taken, extent)
        self._follow(meta)

    def _follow(self, meta: Meta) -> None:
        """Dimensions that go on where another one ends step by what that one goes through."""
        reach: dict[int, Index] = {}
        for d in sorted(range(meta.ndim), key=lambda d: meta.strides[d]):
            if self.along[d] < 0 and meta.shape[d] != 1 and meta.strides[d] in reach:
                self.strides[d] = reach[meta.strides[d]]
            whole = self.shape[d] * self.strides[d]
            if meta.shape[d] != 1 and whole.terms:
                reach.setdefault(meta.shape[d] * meta.strides[d], whole)

    def _base(self, offset: int) -> list[int]:
        base = [0] * len(self.hints)
        for d in self.order:
            step = self.stride_hints[d]
            base[d], offset = divmod(offset, step) if step else (0, offset)
        return base

    def _dimension(self, size: int, stride: int, taken: set[int], extent: Any) -> None:
        """Finds what one dimension of the view runs along."""
        if size == 1 or stride == 0:
            self.shape.append(extent(size))
            self.strides.append(index(0))
            self.along.append(-1)
            return
        found = self._matching(stride)
        if (
            found is not None
            and found not in taken
            and size + self.base[found] <= self.hints[found]
        ):
            taken.add(found)
            self.shape.append(self._part(found, size, extent))
            self.strides.append(self.value_strides[found])
            self.along.append(found)
            return
        self.direct = False
        self.along.append(-1)
        merged = None if found is None else self._merged(found, size)
        self.shape.append(merged if merged is not None else extent(size))
        self.strides.append(self._stride(stride, extent))

    def _part(self, along: int, size: int, extent: Any) -> Index:
        """The extent of so many elements of a dimension: by its symbols where it has some.

        All of it, a few less, or one of the dimensions that it joins.
        """
        whole = self.value_shape[along]
        if size == self.hints[along] or not whole.terms:
            return whole if size == self.hints[along] else index(size)
        named = index(extent(size))
        return named if named.terms else from_end(whole, size)

    def _matching(self, stride: int) -> int | None:
        for d in reversed(self.order):
            if self.stride_hints[d] == stride and self.hints[d] != 1:
                return d
        return None

    def _merged(self, inner: int, size: int) -> Index | None:
        """The product of neighbouring dimensions that a size covers, from ``inner`` outwards."""
        product, total = index(1), 1
        for d in reversed(self.order[: self.order.index(inner) + 1]):
            product, total = product * self.value_shape[d], total * self.hints[d]
            if total == size:
                return product
            if total > size:
                return None
        return None

    def _stride(self, stride: int, extent: Any) -> Index:
        """A stride as a multiple of one of the value's, so that symbols in it are kept."""
        best = index(stride)
        reach = 0
        for d in self.order:
            step = self.stride_hints[d]
            if step and stride % step == 0 and step > reach:
                times = stride // step
                named = extent(times) if self.value_shape[d].terms else times
                best, reach = self.value_strides[d] * named, step
        return best

    def __call__(self, where: Sequence[Any]) -> tuple[Any, ...]:
        if 0 in self.hints:  # nothing is ever read
            return tuple([index(0)] * len(self.order))
        if self.direct:
            found: list[Any] = list(self.begin)
            for d, c in zip(self.along, where, strict=True):
                if d >= 0:
                    found[d] = _plus(c, self.begin[d])
            return tuple(found)
        if any(type(c) is Expression for c in where):
            return self._computed(where)
        flat = self._start()
        for c, stride in zip(where, self.strides, strict=True):
            flat = flat + index(c) * stride
        coordinates = [index(0)] * len(self.order)
        for position, d in enumerate(self.order):
            step = self.value_strides[d]
            coordinates[d] = flat // step
            if position + 1 < len(self.order):
                flat = flat % step
        return tuple(coordinates)

    def _start(self) -> Index:
        """The first element's position in memory."""
        start = index(0)
        for begin, stride in zip(self.begin, self.value_strides, strict=True):
            start = start + begin * stride
        return start

    def _computed(self, where: Sequence[Any]) -> tuple[Any, ...]:
        flat = index_value(self._start())
        for c, stride in zip(where, self.strides, strict=True):
            flat = flat + _expression(c) * index_value(stride)
        coordinates: list[Any] = [index(0)] * len(self.order)
        for d in self.order:
            step = index_value(self.value_strides[d])
            coordinates[d] = binary("floordiv", flat, step)
            flat = binary("modulo", flat, step)
        return tuple(coordinates)


def _plus(coordinate: Any, base: Index) -> Any:
    if base == 0:
        return coordinate
    if type(coordinate) is Expression:
        return coordinate + index_value(base)
    return index(coordinate) + base


def _expression(coordinate: Any) -> Expression:
    return coordinate if type(coordinate) is Expression else index_value(coordinate)


def view_of(stage: Stage, described: Meta, meta: Meta, offset: int, extent: Any) -> View:
    """A read of a stage, whose value's memory is as ``described`` says, through a layout."""
    same = meta is described or (
        meta.shape == described.shape and meta.strides == described.strides
    )
    if same and offset == 0:
        made = View(stage, stage.shape, stage.dtype, tuple)
    else:
        mapping = Mapping(stage.shape, stage.order, meta, offset, extent)
        made = View(stage, tuple(mapping.shape), stage.dtype, mapping)
    made.meta = meta
    return made
