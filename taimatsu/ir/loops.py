"""Loop nests: the last form of a program before machine code, and what schedules work on.

A ``Kernel`` is a tree of statements over buffers. Its outermost loop may be ``"parallel"``: its
iterations are the chunks that threads claim. Everything about memory is said here: a buffer has a
scope, and strides apart from its shape (storage order, halo and padding are strides and origin).

Loop kinds:

- ``"parallel"``: iterations may run at once, on any thread. Outermost only.
- ``"serial"``: one iteration after the other.
- ``"unroll"``: the same, written out (the extent is a constant).
- ``"vector"``: iterations are taken ``width`` at a time, in the lanes of vectors; what they do is
  independent but for registers with lanes. The extent may be any index: the last, incomplete vector
  is masked. ``unroll`` vectors are interleaved where the extent allows; the result is the same.

A register is a small buffer of constant shape whose coordinates are constants once loops are
unrolled. With ``lanes`` it holds a vector for each element: inside a vector loop of that width an
iteration sees its own lane, outside only a store of one value to all lanes, ``across`` and
``Transpose`` are allowed. Lanes that a masked vector leaves out keep their content.

Reductions are written out (init, combine, finish): the order of combination is in the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from taimatsu.ir.expression import SIZES, Expression
from taimatsu.ir.index import Index, Symbol, Var, index

KINDS = ("parallel", "serial", "unroll", "vector")


class Buffer:
    """Memory that a kernel reads or writes.

    Args:
        name: unique in the kernel.
        dtype: of the elements ("bool" takes a byte each).
        shape: extents; coordinates run from 0 to below them.
        scope: "argument" (given at launch), "scratch" (of the thread, lost after each chunk) or
            "register".
        strides: in elements, for each dimension; row-major unless given. Not for registers.
        origin: the element at which coordinates 0 lie.
        aligned: whether the memory begins at a multiple of 64 bytes.
        lanes: for registers: the width of the vectors they hold, 1 for plain numbers.
        size: how many elements it takes; from shape and strides unless given.
    """

    __slots__ = ("aligned", "dtype", "lanes", "name", "origin", "scope", "shape", "size", "strides")

    def __init__(
        self,
        name: str,
        dtype: str,
        shape: Iterable[Index | int],
        scope: str = "argument",
        strides: Iterable[Index | int] | None = None,
        origin: Index | int = 0,
        aligned: bool = False,
        lanes: int = 1,
        size: Index | int | None = None,
    ) -> None:
        self.name = name
        self.dtype = dtype
        self.shape = tuple([index(n) for n in shape])
        self.scope = scope
        self.strides = row_major(self.shape) if strides is None else tuple(map(index, strides))
        self.origin = index(origin)
        self.aligned = aligned
        self.lanes = lanes
        self.size = self._reach() if size is None else index(size)

    def _reach(self) -> Index:
        total = self.origin + 1
        for extent, stride in zip(self.shape, self.strides, strict=True):
            total = total + (extent - 1) * stride
        return total

    def address(self, coordinates: Iterable[Index | int]) -> Index:
        """The element (counted from the memory's begin) at coordinates."""
        total = self.origin
        for coordinate, stride in zip(coordinates, self.strides, strict=True):
            total = total + index(coordinate) * stride
        return total

    @property
    def item_bytes(self) -> int:
        return SIZES[self.dtype]

    def __repr__(self) -> str:
        return self.name


def row_major(shape: tuple[Index, ...]) -> tuple[Index, ...]:
    """Strides of rows that follow one another without gaps."""
    strides: list[Index] = []
    step = index(1)
    for extent in reversed(shape):
        strides.append(step)
        step = step * extent
    return tuple(reversed(strides))


class Statement:
    """Base: ``Loop``, ``Store``, ``If``, ``Check``, ``Transpose``, ``Prefetch``,
    ``Allocate``."""

    __slots__ = ()


class Loop(Statement):
    """``body`` for each value of ``var``, as ``kind`` says."""

    __slots__ = ("body", "kind", "unroll", "var", "width")

    def __init__(
        self,
        var: Var,
        kind: str,
        body: Iterable[Statement],
        width: int = 1,
        unroll: int = 1,
    ) -> None:
        self.var = var
        self.kind = kind
        self.body = tuple(body)
        self.width = width
        self.unroll = unroll

    @property
    def extent(self) -> Index:
        return self.var.extent


class Store(Statement):
    """``buffer[coordinates] = value``. Coordinates are indices or, computed, int64 expressions."""

    __slots__ = ("buffer", "coordinates", "value")

    def __init__(self, buffer: Buffer, coordinates: Iterable[Any], value: Expression) -> None:
        self.buffer = buffer
        self.coordinates = tuple([c if type(c) is Expression else index(c) for c in coordinates])
        self.value = value


class If(Statement):
    """``body`` where the condition (bool) holds; in a vector loop lane by lane."""

    __slots__ = ("body", "condition")

    def __init__(self, condition: Expression, body: Iterable[Statement]) -> None:
        self.condition = condition
        self.body = tuple(body)


class Check(Statement):
    """The kernel ends with ``code`` (not 0) unless the condition holds (in every active lane)."""

    __slots__ = ("code", "condition")

    def __init__(self, condition: Expression, code: int) -> None:
        self.condition = condition
        self.code = code


class Transpose(Statement):
    """Swaps the numbers of lane j of element i and lane i of element j of a register.

    It has as many elements, in a row, as lanes, which are more than one; all of them are written
    already. The statement stands outside of vector loops.
    """

    __slots__ = ("buffer",)

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer


class Prefetch(Statement):
    """Says that ``buffer[coordinates]`` is needed soon, so that memory can be asked for it.

    Coordinates may be outside. ``is_written``: it will be written, and is perhaps not read before.
    """

    __slots__ = ("buffer", "coordinates", "is_written")

    def __init__(
        self, buffer: Buffer, coordinates: Iterable[Index], is_written: bool = False
    ) -> None:
        self.buffer = buffer
        self.coordinates = tuple(map(index, coordinates))
        self.is_written = is_written


class Allocate(Statement):
    """A scratch or register buffer for the statements of ``body``; its content is arbitrary."""

    __slots__ = ("body", "buffer")

    def __init__(self, buffer: Buffer, body: Iterable[Statement]) -> None:
        self.buffer = buffer
        self.body = tuple(body)


class Kernel:
    """Code for one phase: ``i64 kernel(ptr words, i64 chunk, i64 worker)``.

    The words that it is launched with, 8 bytes each, in this order: the address of each buffer of
    ``arguments``; each of ``symbols`` (int64); each of ``numbers`` (float64, or int64 for integer
    dtypes; the dtype in which expressions read it); the address of the scratch memory, of which
    worker w has ``scratch_bytes`` at w * scratch_bytes (the word is there only if that is not 0).

    Args:
        name: for people; not part of what the code is.
        arguments: buffers of scope "argument", in the order of the words.
        symbols: what indices may use.
        numbers: dtypes of the launch's numbers ("float64" or "int64").
        body: the statements. If there is a parallel loop it is the only statement at the top.
    """

    __slots__ = ("arguments", "body", "name", "numbers", "symbols")

    def __init__(
        self,
        name: str,
        arguments: Iterable[Buffer],
        symbols: Iterable[Symbol],
        numbers: Iterable[str],
        body: Iterable[Statement],
    ) -> None:
        self.name = name
        self.arguments = tuple(arguments)
        self.symbols = tuple(symbols)
        self.numbers = tuple(numbers)
        self.body = tuple(body)

    @property
    def chunks(self) -> Index:
        """How many chunks there are; 1 without a parallel loop."""
        top = self.body[0]
        if type(top) is Loop and top.kind == "parallel":
            return top.extent
        return index(1)

    def scratch(self) -> list[Buffer]:
        """The scratch buffers, in the order of their allocation; each has memory of its own."""
        return [
            s.buffer
            for s in statements(self.body)
            if type(s) is Allocate and s.buffer.scope == "scratch"
        ]

    @property
    def scratch_bytes(self) -> Index:
        """What one worker needs; each buffer begins at a multiple of 64 bytes."""
        total = index(0)
        for buffer in self.scratch():
            total = total + padded_bytes(buffer)
        return total


def padded_bytes(buffer: Buffer) -> Index:
    """The bytes of a buffer, rounded up to a multiple of 64."""
    return (buffer.size * buffer.item_bytes + 63) // 64 * 64


def statements(body: Iterable[Statement]) -> Iterator[Statement]:
    """All statements of a tree, outer before inner."""
    for statement in body:
        yield statement
        inner: Any = getattr(statement, "body", ())
        yield from statements(inner)
