"""nn.functional.pad: constants, reflections, replicated edges, and the other side's elements."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from taimatsu.errors import OperationError
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage
from taimatsu.ops.base import Operation, Sample, array, composite, register
from taimatsu.ops.coordinates import (
    Coordinate,
    all_of,
    chosen,
    clamped,
    converted,
    is_empty,
    within,
)
from taimatsu.ops.resampling import Axis, Reading, Resampling, Tap, Taps

Pairs = tuple[tuple[int, int], ...]  # (before, after) of every dimension; negative ones crop
_WORDS = {"reflect": "Reflection", "replicate": "Replication", "circular": "Circular"}


@register
class ConstantPad(Operation):
    """input with ``value`` around it (where a pair is negative: with elements cut off)."""

    hidden = True
    backward_name = "ConstantPadNdBackward0"

    def infer(self, input: Meta, *, pairs: Pairs, value: float) -> Meta:
        shape = tuple(n + a + b for n, (a, b) in zip(input.shape, pairs, strict=True))
        if min(shape, default=0) < 0:
            raise OperationError.make(
                "pad",
                f"The input size {list(input.shape)}, plus negative padding, resulted in a "
                f"negative output size {list(shape)}",
                hint="cut off at most what is there",
            )
        return meta(shape, input.dtype)

    def reference(self, input: np.ndarray, *, pairs: Pairs, value: float) -> np.ndarray:
        shape = tuple(n + a + b for n, (a, b) in zip(input.shape, pairs, strict=True))
        out = np.full(shape, value, input.dtype)
        places = tuple(
            slice(max(a, 0), m - max(b, 0)) for m, (a, b) in zip(shape, pairs, strict=True)
        )
        sources = tuple(
            slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(input.shape, pairs, strict=True)
        )
        if out.size:
            out[places] = input[sources]
        return out

    def lower(self, b: Builder, input: Any, *, pairs: Pairs, value: float) -> Stage:
        shape = [n + before + after for n, (before, after) in zip(input.shape, pairs, strict=True)]
        padding = converted(b, value, input.dtype)
        if is_empty(input.shape):
            return b.map(shape, input.dtype, lambda *i: padding)

        def at(*i: Index) -> Expression:
            moved = [c - before for c, (before, _) in zip(i, pairs, strict=True)]
            both = list(zip(moved, input.shape, strict=True))
            inside = all_of(b, [within(b, c, n) for c, n in both])
            return chosen(b, inside, input[tuple([clamped(c, n) for c, n in both])], padding)

        return b.map(shape, input.dtype, at)

    def gradient(self, g: Any, out: Any, input: Any, *, pairs: Pairs, value: float) -> Any:
        return ConstantPad.apply(g, pairs=tuple((-a, -b) for a, b in pairs), value=0)


@dataclass(frozen=True)
class BorderAxis(Axis):
    """An axis continued beyond its ends by its own elements."""

    extent: int
    before: int
    after: int
    mode: str

    @property
    def out(self) -> int:
        return self.extent + self.before + self.after

    def taps(self) -> Taps:
        index = np.arange(-self.before, self.extent + self.after)
        if self.mode == "replicate":
            index = np.clip(index, 0, self.extent - 1)
        elif self.mode == "circular":
            index %= self.extent
        else:
            last = self.extent - 1
            index = last - np.abs(last - np.abs(index))
        return index[:, None], np.ones((len(index), 1))

    def reading(self, b: Builder) -> Reading:
        n, before = self.extent, self.before

        def place(o: Index, k: Tap) -> Coordinate:
            at = o - before
            if self.mode == "replicate":
                return clamped(at, n)
            if self.mode == "circular":
                return (o + -before % n) % n
            last = b.constant(n - 1, "int64")
            return last - b.abs(last - b.abs(b.index(at)))

        return Reading(1, place)

    def adjoint_reading(self, b: Builder) -> Reading:
        if self.mode == "replicate":
            return self._summed_ends(b)
        images = self._reflected if self.mode == "reflect" else self._turned

        def present(c: Index, k: Tap) -> Expression:
            place, exists = images(c)[int(k)]
            return within(b, place, self.out) & within(b, exists, self.extent)

        return Reading(3, lambda c, k: clamped(images(c)[int(k)][0], self.out), None, present)

    def _reflected(self, c: Index) -> list[tuple[Index, Index]]:
        """The results that an element may go into: reflected at the start, itself, reflected at
        the end; each with an index that is inside of the axis where there is such an image.
        """
        last = self.extent - 1
        return [
            (self.before - c, c - 1),
            (self.before + c, c),
            (self.before + 2 * last - c, last - 1 - c),
        ]

    def _turned(self, c: Index) -> list[tuple[Index, Index]]:
        return [(c + self.before + turn * self.extent, c) for turn in (-1, 0, 1)]

    def _summed_ends(self, b: Builder) -> Reading:
        """Replicated borders: the first and the last element go into all results beyond them."""
        last = self.extent - 1
        beyond = self.out if self.extent == 1 else max(self.before, self.after, 0) + 1

        def bounds(c: Index) -> tuple[Expression, Expression]:
            here = b.index(c + self.before)
            first, final = here, here
            if self.before > 0:
                first = b.where(b.index(c).eq(0), 0, here)
            if self.after > 0:
                final = b.where(b.index(c).eq(last), self.out - 1, here)
            return first, final

        def place(c: Index, k: Tap) -> Expression:
            return b.max(b.min(bounds(c)[0] + b.index(k), self.out - 1), 0)

        def present(c: Index, k: Tap) -> Expression:
            first, final = bounds(c)
            at = first + b.index(k)
            return (at >= 0) & (at <= final) & (at < self.out)

        return Reading(beyond, place, None, present)


@register
class BorderPad(Resampling):
    """input (..., *extents) continued by its own elements: reflected, replicated or circular."""

    hidden = True


def _samples() -> Iterator[Sample]:
    yield Sample(array(2, 3), (1, 2))
    yield Sample(array(2, 3, 4), (1, 2, -1, 0), value=1.5)
    yield Sample(array(2, 3, 4), (2, 1), "reflect")
    yield Sample(array(2, 2, 4, 5), (2, 1, 0, 3), "replicate")
    yield Sample(array(2, 2, 4, 5), (2, 1, 0, 3), "circular")


@composite("nn.functional.pad", samples=_samples)
def pad(input: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Any:
    """``input`` with elements added at the ends of its last dimensions (negative: cut off).

    ``pad`` holds pairs (before, after), the last dimension's first. ``mode`` is 'constant'
    (with ``value``, default 0), 'reflect', 'replicate' or 'circular'; the last three pad up to 3
    spatial dimensions of (N, C, *spatial) or (C, *spatial).
    """
    given = _pad_argument(pad)
    if len(given) % 2:
        raise OperationError.make(
            "pad",
            "Padding length must be divisible by 2",
            f"{len(given)} widths, {list(given)}",
            "give pairs (before, after) for each dimension, the last dimension's first",
        )
    if len(given) // 2 > input.ndim:
        raise OperationError.make(
            "pad",
            "Padding length should be less than or equal to two times the input dimension but got "
            f"padding length {len(given)} and input of dimension {input.ndim}",
        )
    pairs = tuple((given[k], given[k + 1]) for k in range(len(given) - 2, -1, -2))
    if mode == "constant":
        whole = ((0, 0),) * (input.ndim - len(pairs)) + pairs
        return ConstantPad.apply(input, pairs=whole, value=0 if value is None else value)
    _check_border(input, pairs, mode, value)
    extents = tuple(input.shape[input.ndim - len(pairs) :])
    axes = tuple(BorderAxis(n, a, b, mode) for n, (a, b) in zip(extents, pairs, strict=True))
    return BorderPad.apply(input, axes=axes, backward=f"{_WORDS[mode]}Pad{len(pairs)}DBackward0")


def _pad_argument(given: Any) -> tuple[int, ...]:
    try:
        return tuple(map(operator.index, given))
    except TypeError:
        raise OperationError.make(
            "pad",
            "pad(): argument 'pad' must be tuple of ints",
            f"got {given!r}",
            kind=TypeError,
        ) from None


def _check_border(input: Any, pairs: Pairs, mode: str, value: float | None) -> None:
    def refuse(words: str, kind: type[Exception] = RuntimeError) -> Exception:
        return OperationError.make("pad", words, kind=kind)

    if mode not in _WORDS:
        raise refuse(
            f"Unrecognised padding mode {mode}; expected one of constant, reflect, replicate, "
            "circular",
            NotImplementedError,
        )
    if value is not None and value != 0:
        raise refuse(f'Padding mode "{mode}" doesn\'t take in value argument')
    if not 1 <= len(pairs) <= 3 or input.ndim - len(pairs) not in (1, 2):
        raise refuse(
            f"Padding size {2 * len(pairs)} is not supported for {input.ndim}D input tensor. "
            "Supported for non-constant padding: 2 numbers for 2D or 3D input, 4 for 3D or 4D, "
            "6 for 4D or 5D",
            NotImplementedError,
        )
    first = input.ndim - len(pairs)
    for number, pair in enumerate(pairs):
        extent = input.shape[first + number]
        if mode == "reflect" and max(pair) >= extent:
            raise refuse(
                "Padding size should be less than the corresponding input dimension, but got: "
                f"padding {pair} at dimension {first + number} of input {list(input.shape)}; only "
                "what is there can be reflected: pad less, or with mode='replicate'"
            )
        if mode == "circular" and max(pair) > extent:
            raise refuse("Padding value causes wrapping around more than once.")
        if extent + sum(pair) < 1:
            raise refuse(
                f"padding {pair} of dimension {first + number} with {extent} elements leaves none"
            )


_functional_pad = pad


@composite(
    "constant_pad_nd",
    methods=(),
    samples=lambda: iter([Sample(array(2, 3), (1, 2), 0.5)]),
)
def constant_pad_nd(input: Any, pad: Any, value: float = 0) -> Any:
    """``nn.functional.pad`` with a constant."""
    return _functional_pad(input, pad, "constant", value)
