"""Windows over images in lowering rules: their elements, and the windows over an element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index, index
from taimatsu.ir.stages import Stage
from taimatsu.ops.coordinates import clamped, ravel, unravel, within
from taimatsu.ops.windows import Extents, pooling_windows


class Windows:
    """Where windows stand, for lowering rules: ``sizes`` are the image's extents."""

    def __init__(
        self,
        b: Builder,
        sizes: Sequence[Index],
        kernel: Extents,
        stride: Extents,
        padding: Extents,
        dilation: Extents,
    ) -> None:
        self.b = b
        self.sizes = tuple(sizes)
        self.kernel = kernel
        self.axes = list(zip(kernel, stride, padding, dilation, strict=True))

    def counts(self, ceil_mode: bool) -> tuple[Index, ...]:
        """How many there are along each axis."""
        if ceil_mode:
            known = [self.b.known(n) for n in self.sizes]
            return tuple(
                index(pooling_windows(n, *axis, True))
                for n, axis in zip(known, self.axes, strict=True)
            )
        return tuple(
            (n + (2 * p - d * (k - 1) - 1)) // s + 1
            for n, (k, s, p, d) in zip(self.sizes, self.axes, strict=True)
        )

    def places(self, o: Sequence[Index], k: Sequence[Index]) -> list[Index]:
        """The coordinates of an element of a window, perhaps outside."""
        return [at * s - p + tap * d for at, tap, (_, s, p, d) in zip(o, k, self.axes, strict=True)]

    def winning(self, o: Sequence[Index], winner: Expression) -> list[Expression]:
        """The coordinates of a window's winner, inside."""
        b = self.b
        made = []
        taps = unravel(b, b.cast(winner, "int64"), self.kernel)
        for at, tap, n, (_, s, p, d) in zip(o, taps, self.sizes, self.axes, strict=True):
            offset = tap if isinstance(tap, Expression) else b.index(tap)
            place = offset * d + b.index(at * s - p)
            made.append(b.max(b.min(place, b.index(n - 1)), 0))
        return made

    def covering(self) -> tuple[int, ...]:
        """How many windows cover an element along each axis, at most."""
        return tuple(-(-(d * (k - 1) + 1) // s) for k, s, _, d in self.axes)

    def cover(
        self, at: Sequence[Index], which: Sequence[Index], counts: Sequence[Index]
    ) -> tuple[list[Index], Index, list[Expression]]:
        """One of the windows over an element: (its place, the element's number in it, conditions).

        Only where the conditions hold there is such a window; else place and number are any.
        """
        b = self.b
        places, taps, conditions = [], [], []
        for x, j, n, (k, s, p, d) in zip(at, which, counts, self.axes, strict=True):
            window = (x + p) // s - j
            offset = (x + p) % s + j * s
            places.append(clamped(window, n))
            taps.append(clamped(offset // d, k))
            conditions += [within(b, window, n), within(b, offset, d * (k - 1) + 1)]
            if d > 1:
                conditions.append(b.index(offset % d).eq(0))
        return places, ravel(taps, self.kernel), conditions

    def sum_over(
        self,
        shape: Sequence[Index],
        dtype: str,
        part: Callable[[tuple, tuple], Expression],
    ) -> Stage:
        """The sum of ``part(place, window)`` over the windows that cover each element."""
        covering = self.covering()
        if prod(covering) > 1:
            return self.b.reduce("add", shape, covering, dtype, part)
        only = (index(0),) * len(covering)  # a map, which fuses with what reads it
        return self.b.map(shape, dtype, lambda *i: part(i, only))
