"""Max pooling: the greatest element of windows or parts of an image, and where it stood.

Inside, a place is its number in its window (row-major, in uint8 where that holds it): a whole
program can then keep and compare small numbers. Users get flat positions in the image (int64).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from taimatsu.dtypes import dtype as DType
from taimatsu.dtypes import int32, int64, uint8
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import FLOATS, Expression
from taimatsu.ir.index import Index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage, identity
from taimatsu.ops.base import register
from taimatsu.ops.coordinates import all_of, chosen, clamped, ravel, unravel, within
from taimatsu.ops.filling import filled
from taimatsu.ops.reduced_stages import value_of
from taimatsu.ops.reducing import Wide
from taimatsu.ops.window_stages import Windows
from taimatsu.ops.windows import Extents, pooled_extents, pooling_windows


def winner_dtype(kernel: Extents) -> DType:
    """The dtype of places in a window."""
    return uint8 if prod(kernel) <= 256 else int32


def lowest(dtype: np.dtype) -> Any:
    """What every element is at least."""
    return np.iinfo(dtype).min if dtype.kind in "iu" else dtype.type(-np.inf)


@register
class MaxPool(Wide):
    """Maxima of windows: input (N, C, *spatial) -> values and places in the windows (N, C, *out).

    The first of equal elements wins; NaN wins over everything, the last of them.
    """

    hidden = True
    outputs = 2
    saves = ("out[1]",)

    def infer(
        self,
        input: Meta,
        *,
        kernel: Extents,
        stride: Extents,
        padding: Extents,
        dilation: Extents,
        ceil_mode: bool,
    ) -> tuple[Meta, Meta]:
        out = pooled_extents(
            f"max_pool{len(kernel)}d", input, kernel, stride, padding, dilation, ceil_mode
        )
        shape = (*input.shape[:2], *out)
        return meta(shape, input.dtype), meta(shape, winner_dtype(kernel))

    def reference(
        self,
        input: np.ndarray,
        *,
        kernel: Extents,
        stride: Extents,
        padding: Extents,
        dilation: Extents,
        ceil_mode: bool,
    ) -> tuple[np.ndarray, np.ndarray]:
        extents = input.shape[2:]
        out = tuple(
            pooling_windows(n, k, s, p, d, ceil_mode)
            for n, k, s, p, d in zip(extents, kernel, stride, padding, dilation, strict=True)
        )
        padded = _padded(input, lowest(input.dtype), kernel, stride, padding, dilation, out)
        best = np.full((*input.shape[:2], *out), lowest(input.dtype), input.dtype)
        # The number of the winner in its window, from 1. Numbers grow, so later ones are larger.
        numbers = np.uint8 if prod(kernel) < 256 else np.int32
        winner = np.zeros(best.shape, numbers)
        with_nan = input.dtype.kind not in "iub" and bool(np.isnan(input).any())
        for number, window in enumerate(_taps(kernel, stride, dilation, out), 1):
            seen = padded[window]
            better = seen > best
            if with_nan:
                better |= np.isnan(seen)
            np.maximum(best, seen, out=best)  # keeps NaN
            np.maximum(winner, better * numbers(number), out=winner)
        if winner.all():
            return best, np.subtract(winner, 1)
        first = _first_inside(out, kernel, stride, padding, dilation)
        return best, np.where(winner == 0, first, winner.astype(np.int32) - 1)

    def lower(
        self,
        b: Builder,
        input: Any,
        *,
        kernel: Extents,
        stride: Extents,
        padding: Extents,
        dilation: Extents,
        ceil_mode: bool,
    ) -> tuple[Stage, Stage]:
        window = Windows(b, input.shape[2:], kernel, stride, padding, dilation)
        shape = (*input.shape[:2], *window.counts(ceil_mode))
        size = prod(kernel)
        kind = input.dtype

        def seen(i: tuple, r: tuple) -> tuple[Expression, Expression]:
            """An element of a window, and whether it is inside of the image."""
            places = window.places(i[2:], r)
            pairs = list(zip(places, input.shape[2:], strict=True))
            inside = all_of(b, [within(b, at, n) for at, n in pairs])
            value = input[(*i[:2], *[clamped(at, n) for at, n in pairs])]
            return chosen(b, inside, value, identity("max", kind)), inside

        def score(i: tuple, r: tuple) -> Expression:
            """Greatest for the winner: the first greatest element, or the last nan."""
            value, inside = seen(i, r)
            number = value_of(b, ravel(r, kernel), "int32")
            found = b.where(value.eq(best[i]), size - number, 0)
            if kind in FLOATS:
                found = b.where(b.isnan(value), number + (size + 1), found)
            return chosen(b, inside, found, 0)

        def winner(*i: Index) -> Expression:
            found = scores[i]
            return b.where(found > size, found - (size + 1), size - found)

        best = b.reduce("max", shape, kernel, kind, lambda i, r: seen(i, r)[0])
        scores = b.reduce("max", shape, kernel, "int32", score)
        return best, b.map(shape, "int32", winner)

    def stages(self, b: Any, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> Any:
        best, places = super().stages(b, inputs, attributes, metas, outs)
        places.picks = best
        return best, places

    def gradient(
        self,
        g: Any,
        out: Any,
        input: Any,
        *,
        kernel: Extents,
        stride: Extents,
        padding: Extents,
        dilation: Extents,
        ceil_mode: bool,
    ) -> Any:
        if g[0] is None:
            return None
        return MaxPoolGradient.apply(
            g[0],
            out[1],
            extents=tuple(input.shape[2:]),
            kernel=kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
        )

    def backward_name_for(self, inputs: tuple, attributes: dict) -> str:
        return f"MaxPool{max(2, len(attributes['kernel']))}DWithIndicesBackward0"


@register
class MaxPoolGradient(Wide):
    """Gradients to the winners: g, winners (N, C, *out) -> (N, C, *extents), zero elsewhere.

    Each element of the image looks at the few windows that cover it.
    """

    hidden = True
    backward_name = "MaxPool2DWithIndicesBackwardBackward0"
    saves = {"g": ("winners",)}

    def infer(
        self,
        g: Meta,
        winners: Meta,
        *,
        extents: Extents,
        kernel: Extents,
        stride: Extents,
        padding: Extents,
        dilation: Extents,
    ) -> Meta:
        return meta((*g.shape[:2], *extents), g.dtype)

    def reference(
        self,
        g: np.ndarray,
        winners: np.ndarray,
        *,
        extents: Extents,
        kernel: Extents,
        stride: Extents,
        padding: Extents,
        dilation: Extents,
    ) -> np.ndarray:
        out = g.shape[2:]
        zeros = np.zeros((*g.shape[:2], *extents), g.dtype)
        padded = _padded(zeros, 0, kernel, stride, padding, dilation, out)
        for number, window in enumerate(_taps(kernel, stride, dilation, out)):
            padded[window] += np.where(winners == number, g, g.dtype.type(0))
        return np.ascontiguousarray(padded[_image(extents, padding)])

    def lower(
        self,
        b: Builder,
        g: Any,
        winners: Any,
        *,
        extents: Extents,
        kernel: Extents,
        stride: Extents,
        padding: Extents,
        dilation: Extents,
    ) -> Stage:
        sizes = tuple([b.extent(n) for n in extents])
        window = Windows(b, sizes, kernel, stride, padding, dilation)
        counts = g.shape[2:]

        def part(i: tuple, r: tuple) -> Expression:
            """What the window number ``r`` of those that cover an element gives it."""
            above, number, conditions = window.cover(i[2:], r, counts)
            where = (*i[:2], *above)
            place = value_of(b, number, "int32")
            won = b.cast(winners[where], "int32").eq(place)
            return b.where(all_of(b, [won, *conditions]), g[where], 0)

        shape = (*g.shape[:2], *sizes)
        return window.sum_over(shape, g.dtype, part)

    def gradient(self, v: Any, out: Any, g: Any, winners: Any, **window: Extents) -> Any:
        del window["extents"]
        return MaxPoolTake.apply(v, winners, **window), None


@register
class MaxPoolTake(Wide):
    """The elements of an image at the winners' places: the adjoint of ``MaxPoolGradient``."""

    hidden = True
    saves = {"input": ("winners",)}

    def infer(
        self,
        input: Meta,
        winners: Meta,
        *,
        kernel: Extents,
        stride: Extents,
        padding: Extents,
        dilation: Extents,
    ) -> Meta:
        return meta(winners.shape, input.dtype)

    def reference(
        self,
        input: np.ndarray,
        winners: np.ndarray,
        *,
        kernel: Extents,
        stride: Extents,
        padding: Extents,
        dilation: Extents,
    ) -> np.ndarray:
        out = winners.shape[2:]
        padded = _padded(input, 0, kernel, stride, padding, dilation, out)
        made = np.zeros(winners.shape, input.dtype)
        for number, window in enumerate(_taps(kernel, stride, dilation, out)):
            np.copyto(made, padded[window], where=winners == number)
        return made

    def lower(
        self,
        b: Builder,
        input: Any,
        winners: Any,
        *,
        kernel: Extents,
        stride: Extents,
        padding: Extents,
        dilation: Extents,
    ) -> Stage:
        window = Windows(b, input.shape[2:], kernel, stride, padding, dilation)

        def taken(*i: Index) -> Expression:
            return input[(*i[:2], *window.winning(i[2:], winners[i]))]

        return b.map(winners.shape, input.dtype, taken)

    def gradient(self, g: Any, out: Any, input: Meta, winners: Any, **window: Extents) -> Any:
        return MaxPoolGradient.apply(g, winners, extents=tuple(input.shape[2:]), **window), None


@register
class WinningPlaces(Wide):
    """Winners as users see them: flat positions in the image, int64."""

    hidden = True
    differentiable = False

    def infer(
        self,
        winners: Meta,
        *,
        extents: Extents,
        kernel: Extents,
        stride: Extents,
        padding: Extents,
        dilation: Extents,
    ) -> Meta:
        return meta(winners.shape, int64)

    def reference(
        self,
        winners: np.ndarray,
        *,
        extents: Extents,
        kernel: Extents,
        stride: Extents,
        padding: Extents,
        dilation: Extents,
    ) -> np.ndarray:
        begin: Any = 0
        for n, m, s, p in zip(extents, winners.shape[2:], stride, padding, strict=True):
            begin = np.asarray(begin)[..., None] * n + (np.arange(m) * s - p)
        within_window: Any = 0
        for n, k, d in zip(extents, kernel, dilation, strict=True):
            within_window = np.asarray(within_window)[..., None] * n + np.arange(k) * d
        return begin + within_window.reshape(-1)[winners]

    def lower(
        self,
        b: Builder,
        winners: Any,
        *,
        extents: Extents,
        kernel: Extents,
        stride: Extents,
        padding: Extents,
        dilation: Extents,
    ) -> Stage:
        sizes = tuple([b.extent(n) for n in extents])
        window = Windows(b, sizes, kernel, stride, padding, dilation)

        def flat(*i: Index) -> Expression:
            total = b.constant(0, "int64")
            for at, n in zip(window.winning(i[2:], winners[i]), sizes, strict=True):
                total = total * b.index(n) + at
            return total

        return b.map(winners.shape, "int64", flat)


# -- adaptive ----------------------------------------------------------------------------------


def part_bounds(extent: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """First and one past last element of each part in adaptive pooling."""
    number = np.arange(parts)
    return number * extent // parts, -(-(number + 1) * extent // parts)


def part_limits(extent: int, parts: int, number: Index) -> tuple[Index, Index]:
    """``part_bounds`` of one part, for lowering rules."""
    return number * extent // parts, ((number + 1) * extent + (parts - 1)) // parts


@register
class AdaptiveMaxPool(Wide):
    """Maxima of parts: input (N, C, *spatial) -> values and positions (N, C, *out)."""

    hidden = True
    outputs = 2
    saves = ("out[1]",)

    hidden = True

    def infer(self, input: Meta, *, parts: Extents) -> tuple[Meta, Meta]:
        shape = (*input.shape[:2], *parts)
        return meta(shape, input.dtype), meta(shape, int64)

    def reference(self, input: np.ndarray, *, parts: Extents) -> tuple[np.ndarray, np.ndarray]:
        extents = input.shape[2:]
        bounds = [part_bounds(n, m) for n, m in zip(extents, parts, strict=True)]
        flat = np.arange(prod(extents)).reshape(extents)
        values = np.empty((*input.shape[:2], *parts), input.dtype)
        where = np.empty(values.shape, np.int64)
        for place in np.ndindex(*parts):
            part = tuple(
                slice(first[o], last[o]) for o, (first, last) in zip(place, bounds, strict=True)
            )
            seen = input[(..., *part)].reshape(*input.shape[:2], -1)
            best = seen.argmax(-1)
            values[(..., *place)] = np.take_along_axis(seen, best[..., None], -1)[..., 0]
            where[(..., *place)] = flat[part].reshape(-1)[best]
        return values, where

    def lower(self, b: Builder, input: Any, *, parts: Extents) -> tuple[Stage, Stage] | None:
        if 0 in parts:
            return None  # nothing to do, and no way to say where
        extents = [b.known(n) for n in input.shape[2:]]
        bounds = [part_bounds(n, m) for n, m in zip(extents, parts, strict=True)]
        widths = [int((last - first).max()) for first, last in bounds]
        kind = input.dtype

        def places(i: Sequence[Index], r: Sequence[Any]) -> tuple[list, list[Expression]]:
            """Where an element of a part stands, and whether it belongs to it."""
            limits = [part_limits(n, m, at) for n, m, at in zip(extents, parts, i, strict=True)]
            at = [begin + k for (begin, _), k in zip(limits, r, strict=True)]
            belongs = [
                b.index(here) < b.index(end) for here, (_, end) in zip(at, limits, strict=True)
            ]
            return at, belongs

        def seen(i: tuple, r: tuple) -> Expression:
            at, belongs = places(i[2:], r)
            inner = [clamped(here, n) for here, n in zip(at, extents, strict=True)]
            return b.where(all_of(b, belongs), input[(*i[:2], *inner)], identity("max", kind))

        def flat(*i: Index) -> Expression:
            inner = unravel(b, local[i], widths)
            total = b.constant(0, "int64")
            for n, m, o, k in zip(extents, parts, i[2:], inner, strict=True):
                offset = k if isinstance(k, Expression) else b.index(k)
                total = total * n + (b.index(part_limits(n, m, o)[0]) + offset)
            return total

        shape = (*input.shape[:2], *parts)
        values = b.reduce("max", shape, widths, kind, seen)
        local = b.reduce("argmax", shape, widths, "int64", seen)
        return values, b.map(shape, "int64", flat)

    def gradient(self, g: Any, out: Any, input: Any, *, parts: Extents) -> Any:
        if g[0] is None:
            return None
        places = out[1].flatten(2)
        flat = filled((*input.shape[:2], prod(input.shape[2:])), 0, g[0].dtype)
        return flat.scatter_add(2, places, g[0].flatten(2)).reshape(input.shape)

    def backward_name_for(self, inputs: tuple, attributes: dict) -> str:
        return f"AdaptiveMaxPool{max(2, len(attributes['parts']))}DBackward0"


# -- windows -----------------------------------------------------------------------------------


def _taps(kernel: Extents, stride: Extents, dilation: Extents, out: Extents) -> Any:
    """For each element of the window the slices of a padded image that hold it for all windows."""
    for offset in np.ndindex(*kernel):
        window = tuple(
            slice(o * d, o * d + (m - 1) * s + 1, s)
            for o, d, m, s in zip(offset, dilation, out, stride, strict=True)
        )
        yield (..., *window)


def _image(extents: Extents, padding: Extents) -> Any:
    """The slices of a padded image that hold the image."""
    return (..., *(slice(p, p + n) for n, p in zip(extents, padding, strict=True)))


def _padded(
    x: np.ndarray,
    value: Any,
    kernel: Extents,
    stride: Extents,
    padding: Extents,
    dilation: Extents,
    out: Extents,
) -> np.ndarray:
    """``x`` with padding before, and as much behind as the last window reaches."""
    extents = tuple(
        max(n + p, (m - 1) * s + (k - 1) * d + 1)
        for n, k, s, p, d, m in zip(
            x.shape[2:], kernel, stride, padding, dilation, out, strict=True
        )
    )
    if extents == x.shape[2:]:
        return x
    padded = np.full((*x.shape[:2], *extents), value, x.dtype)
    padded[_image(x.shape[2:], padding)] = x
    return padded


def _first_inside(
    out: Extents, kernel: Extents, stride: Extents, padding: Extents, dilation: Extents
) -> np.ndarray:
    """The number of the first element inside of the image, for every window."""
    flat: Any = 0
    for m, k, s, p, d in zip(out, kernel, stride, padding, dilation, strict=True):
        before = np.maximum(p - np.arange(m) * s, 0)
        tap = np.minimum(-(-before // d), k - 1)
        flat = np.asarray(flat)[..., None] * k + tap
    return flat
