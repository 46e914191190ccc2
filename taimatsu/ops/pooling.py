"""Pooling: maxima, means and norms over windows, and over a fixed number of parts of an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from taimatsu.errors import OperationError
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index, index, minimum
from taimatsu.ops.base import Sample, array, composite, register
from taimatsu.ops.coordinates import all_of, clamped, within
from taimatsu.ops.filling import filled
from taimatsu.ops.max_pooling import (
    AdaptiveMaxPool,
    MaxPool,
    WinningPlaces,
    part_bounds,
    part_limits,
)
from taimatsu.ops.reduced_stages import value_of
from taimatsu.ops.resampling import Axis, Reading, Resampling, Tap, Taps, need_float
from taimatsu.ops.windows import Extents, ntuple, pooled_extents


@dataclass(frozen=True)
class WindowAxis(Axis):
    """Means over windows along one axis; ``divisor`` 0 counts the window's elements."""

    extent: int
    out: int
    kernel: int
    stride: int
    padding: int
    count_padding: bool
    divisor: int

    def taps(self) -> Taps:
        start = np.arange(self.out) * self.stride - self.padding
        end = np.minimum(start + self.kernel, self.extent + self.padding)
        padded = end - start
        first, last = np.maximum(start, 0), np.minimum(end, self.extent)
        count = padded if self.count_padding else last - first
        index = first[:, None] + np.arange(self.kernel)
        index = np.where(index < last[:, None], index, -1)
        divisor = np.full(self.out, self.divisor) if self.divisor else np.maximum(count, 1)
        return index, np.broadcast_to(1.0 / divisor[:, None], index.shape)

    def reading(self, b: Builder) -> Reading:
        start = -self.padding
        inside = start == 0 and self._last_end() <= self.extent

        def place(o: Index, k: Tap) -> Index:
            return o * self.stride + start + k

        return Reading(
            self.kernel,
            lambda o, k: clamped(place(o, k), self.extent),
            lambda o, k: self._share(b, o),
            None if inside else lambda o, k: within(b, place(o, k), self.extent),
        )

    def adjoint_reading(self, b: Builder) -> Reading:
        covering = -(-self.kernel // self.stride)

        def window(x: Index, j: Tap) -> Index:
            return (x + self.padding) // self.stride - j

        def present(x: Index, j: Tap) -> Expression:
            within_it = (x + self.padding) % self.stride + j * self.stride
            covers = within(b, within_it, self.kernel)
            return all_of(b, [within(b, window(x, j), self.out), covers])

        return Reading(
            covering,
            lambda x, j: clamped(window(x, j), self.out),
            lambda x, j: self._share(b, clamped(window(x, j), self.out)),
            present,
        )

    def _last_end(self) -> int:
        """One past the last element of the last window, as if there were no end."""
        return (self.out - 1) * self.stride - self.padding + self.kernel

    def _share(self, b: Builder, o: Index) -> Expression:
        """What each element of a window counts for."""
        limit = self.extent + self.padding if self.count_padding else self.extent
        size = index(self.kernel)
        if self.divisor:
            size = index(self.divisor)
        elif self._last_end() > limit or not (self.count_padding or self.padding == 0):
            start = o * self.stride - self.padding
            first = start if self.count_padding else -minimum(-start, 0)
            size = minimum(start + self.kernel, limit) - first
            size = -minimum(-size, -1)
        return _reciprocal(b, size)


@dataclass(frozen=True)
class PartAxis(Axis):
    """Means over ``out`` parts that cover the axis, overlapping where it does not divide."""

    extent: int
    out: int

    def taps(self) -> Taps:
        first, last = part_bounds(self.extent, self.out)
        width = int((last - first).max(initial=1))
        index = first[:, None] + np.arange(width)
        index = np.where(index < last[:, None], index, -1)
        weight = 1.0 / np.maximum(last - first, 1)
        return index, np.broadcast_to(weight[:, None], index.shape)

    def reading(self, b: Builder) -> Reading | None:
        if self.out == 0:
            return None
        first, last = part_bounds(self.extent, self.out)
        even = self.extent % self.out == 0

        def present(o: Index, k: Tap) -> Expression:
            begin, end = part_limits(self.extent, self.out, o)
            return b.index(begin + k) < b.index(end)

        return Reading(
            int((last - first).max()),
            lambda o, k: clamped(part_limits(self.extent, self.out, o)[0] + k, self.extent),
            lambda o, k: self._share(b, o),
            None if even else present,
        )

    def adjoint_reading(self, b: Builder) -> Reading | None:
        if self.out == 0:
            return None
        number = np.arange(self.extent)
        parts = ((number + 1) * self.out - 1) // self.extent - number * self.out // self.extent + 1

        def part(x: Index, j: Tap) -> Index:
            return x * self.out // self.extent + j

        def present(x: Index, j: Tap) -> Expression:
            return b.index(part(x, j)) <= b.index(((x + 1) * self.out - 1) // self.extent)

        return Reading(
            int(parts.max()),
            lambda x, j: clamped(part(x, j), self.out),
            lambda x, j: self._share(b, clamped(part(x, j), self.out)),
            None if parts.max() == 1 else present,
        )

    def _share(self, b: Builder, o: Index) -> Expression:
        begin, end = part_limits(self.extent, self.out, o)
        if self.extent % self.out == 0:
            return _reciprocal(b, index(self.extent // self.out))
        return _reciprocal(b, end - begin)


def _reciprocal(b: Builder, size: Index) -> Expression:
    if size.is_constant:
        return b.constant(1.0 / size.value(), "float64")
    return 1 / value_of(b, size, "float64")


@register
class AvgPool(Resampling):
    """Means of windows: input (N, C, *spatial) -> (N, C, *out)."""

    hidden = True


@register
class AdaptiveAvgPool(Resampling):
    """Means of parts: input (N, C, *spatial) -> (N, C, *out)."""

    hidden = True


def as_batch(name: str, input: Any, n: int) -> tuple[Any, bool]:
    """The input with a batch dimension, and whether it was there."""
    if input.ndim not in (n + 1, n + 2):
        raise OperationError.make(
            name,
            f"non-empty {n + 1}D or {n + 2}D (batch mode) tensor expected for input "
            "(Input dimension should be "
            f"{n + 1} or {n + 2})",
            f"got input of size: {list(input.shape)}",
            kind=ValueError if name.startswith("adaptive") else RuntimeError,
        )
    has_batch = input.ndim == n + 2
    return (input if has_batch else input.unsqueeze(0)), has_batch


# -- public functions --------------------------------------------------------------------------


def _max_pool(n: int) -> tuple[Callable, Callable]:
    name = f"max_pool{n}d"

    def function(
        input: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        image, has_batch = as_batch(name, input, n)
        kernel = ntuple(name, "kernel_size", kernel_size, n)
        window = {
            "kernel": kernel,
            "stride": ntuple(name, "stride", stride, n, empty=kernel),
            "padding": ntuple(name, "padding", padding, n),
            "dilation": ntuple(name, "dilation", dilation, n),
        }
        values, winners = MaxPool.apply(image, ceil_mode=bool(ceil_mode), **window)
        if not has_batch:
            values = values.squeeze(0)
        if not return_indices:
            return values
        indices = WinningPlaces.apply(winners, extents=tuple(image.shape[2:]), **window)
        return values, indices if has_batch else indices.squeeze(0)

    def with_indices(
        input: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        return function(input, kernel_size, stride, padding, dilation, ceil_mode, True)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""Maxima of windows of (N, C, *spatial) or (C, *spatial), {n} spatial.

    ``stride`` is the kernel's size unless given. ``return_indices`` gives positions (int64, flat
    in the image) too. Raises RuntimeError for windows that do not fit.
    """
    with_indices.__name__ = with_indices.__qualname__ = f"{name}_with_indices"
    with_indices.__doc__ = f"``{name}`` that gives (values, positions)."
    return function, with_indices


def _avg_pool(n: int) -> Callable:
    name = f"avg_pool{n}d"
    backward = f"AvgPool{max(2, n)}DBackward0"

    def function(
        input: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Any:
        need_float(name, input)
        image, has_batch = as_batch(name, input, n)
        kernel = ntuple(name, "kernel_size", kernel_size, n)
        strides = ntuple(name, "stride", stride, n, empty=kernel)
        paddings = ntuple(name, "padding", padding, n)
        if divisor_override == 0:
            raise OperationError.make(name, "divisor must be not zero")
        outs = pooled_extents(name, image, kernel, strides, paddings, (1,) * n, bool(ceil_mode))
        # With a divisor the axes sum, and the first one divides.
        divisors = (divisor_override, *(1,) * (n - 1)) if divisor_override else (0,) * n
        axes = tuple(
            WindowAxis(extent, out, k, s, p, bool(count_include_pad), divisor)
            for extent, out, k, s, p, divisor in zip(
                image.shape[2:], outs, kernel, strides, paddings, divisors, strict=True
            )
        )
        out = AvgPool.apply(image, axes=axes, backward=backward)
        return out if has_batch else out.squeeze(0)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""Means of windows of (N, C, *spatial) or (C, *spatial), {n} spatial.

    Padding counts as zeros unless ``count_include_pad`` is False; ``divisor_override`` divides the
    sums instead of the window's size. Raises RuntimeError for windows that do not fit.
    """
    return function


def _outputs(name: str, image: Any, output_size: Any, n: int) -> Extents:
    """The output extents: None keeps the image's."""
    items = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * n
    if len(items) == 1:
        items = tuple(items) * n
    if len(items) != n:
        raise OperationError.make(name, f"{name}: output_size must be {n}", f"got {items}")
    outs = tuple(
        extent if item is None else int(item)
        for extent, item in zip(image.shape[2:], items, strict=True)
    )
    if min(outs) < 0:
        raise OperationError.make(
            name,
            f"{name}: elements of output_size must be greater than or equal to 0",
            f"got {outs}",
        )
    if 0 in image.shape[1:]:
        raise OperationError.make(
            name,
            f"{name}(): Expected input to have non-zero size for non-batch dimensions, "
            f"but input has sizes {list(image.shape)}",
        )
    return outs


def _adaptive_avg_pool(n: int) -> Callable:
    name = f"adaptive_avg_pool{n}d"
    backward = f"AdaptiveAvgPool{max(2, n)}DBackward0"

    def function(input: Any, output_size: Any) -> Any:
        need_float(name, input)
        image, has_batch = as_batch(name, input, n)
        outs = _outputs(name, image, output_size, n)
        if all(out == 1 for out in outs):
            out = image.mean(tuple(range(2, n + 2)), keepdim=True)
        else:
            axes = tuple(PartAxis(e, o) for e, o in zip(image.shape[2:], outs, strict=True))
            out = AdaptiveAvgPool.apply(image, axes=axes, backward=backward)
        return out if has_batch else out.squeeze(0)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""Means of ``output_size`` parts of each of the {n} spatial dimensions.

    An entry None keeps the input's extent.
    """
    return function


def _adaptive_max_pool(n: int) -> Callable:
    name = f"adaptive_max_pool{n}d"

    def function(input: Any, output_size: Any, return_indices: bool = False) -> Any:
        image, has_batch = as_batch(name, input, n)
        values, indices = AdaptiveMaxPool.apply(image, parts=_outputs(name, image, output_size, n))
        if not has_batch:
            values, indices = values.squeeze(0), indices.squeeze(0)
        return (values, indices) if return_indices else values

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""Maxima of ``output_size`` parts of each of the {n} spatial dimensions.

    ``return_indices`` gives positions (int64, flat in the image) too.
    """
    return function


def _lp_pool(n: int) -> Callable:
    name = f"lp_pool{n}d"

    def function(
        input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
    ) -> Any:
        kernel = ntuple(name, "kernel_size", kernel_size, n)
        mean = AVG_POOLS[n - 1](input.pow(norm_type), kernel, stride, 0, ceil_mode)
        return (mean.sign() * mean.abs().relu()).mul(prod(kernel)).pow(1.0 / norm_type)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""p-norms of windows ({n} spatial dimensions), p = ``norm_type``."""
    return function


def _max_unpool(n: int) -> Callable:
    name = f"max_unpool{n}d"

    def function(
        input: Any,
        indices: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        output_size: Any = None,
    ) -> Any:
        image, has_batch = as_batch(name, input, n)
        if tuple(indices.shape) != tuple(input.shape):
            raise OperationError.make(
                name,
                "Expected shape of indices to be same as that of the input tensor "
                f"({list(input.shape)}), but got indices tensor with shape: {list(indices.shape)}",
            )
        kernel = ntuple(name, "kernel_size", kernel_size, n)
        strides = ntuple(name, "stride", stride, n, empty=kernel)
        paddings = ntuple(name, "padding", padding, n)
        outs = tuple(
            (m - 1) * s - 2 * p + k
            for m, k, s, p in zip(image.shape[2:], kernel, strides, paddings, strict=True)
        )
        if output_size is not None:
            outs = _unpooled(name, tuple(output_size)[-n:], outs, strides)
        where = indices if has_batch else indices.unsqueeze(0)
        flat = filled((*image.shape[:2], prod(outs)), 0, image.dtype)
        flat = flat.scatter(2, where.flatten(2), image.flatten(2))
        out = flat.reshape(*image.shape[:2], *outs)
        return out if has_batch else out.squeeze(0)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""Puts maxima back where ``indices`` say they came from; zeros elsewhere.

    The partial inverse of ``max_pool{n}d`` with ``return_indices``.
    """
    return function


def _unpooled(name: str, wanted: Extents, default: Extents, stride: Extents) -> Extents:
    if len(wanted) != len(default) or any(
        not d - s < w < d + s for w, d, s in zip(wanted, default, stride, strict=True)
    ):
        raise OperationError.make(
            name,
            f"invalid output_size {list(wanted)}: each must be less than a stride "
            f"({list(stride)}) away from {list(default)}",
            kind=ValueError,
        )
    return wanted


_SPATIAL = (6, 7, 5)


def _window_samples(n: int, *extra: Any, **more: Any) -> Callable[[], Iterator[Sample]]:
    def samples() -> Iterator[Sample]:
        image = array(2, 2, *_SPATIAL[:n])
        yield Sample(image, *extra, 2)
        yield Sample(image, *extra, 3, 2, ceil_mode=True)
        yield Sample(image[0], *extra, 3, stride=1)
        if more:
            yield Sample(image, *extra, 3, 2, **more)

    return samples


def _unpool_samples(n: int) -> Callable[[], Iterator[Sample]]:
    def samples() -> Iterator[Sample]:
        places = np.arange(2**n).reshape(1, 1, *(2,) * n) * 3
        yield Sample(array(*places.shape), places, 2)
        yield Sample(array(*places.shape), places, 3, 2, 1, (1, 1, *(4,) * n))

    return samples


def _part_samples(n: int) -> Callable[[], Iterator[Sample]]:
    def samples() -> Iterator[Sample]:
        image = array(2, 2, *_SPATIAL[:n])
        for size in (1, 3, 4):
            yield Sample(image, size)

    return samples


def _enter(function: Callable, samples: Callable | None, top: bool) -> Any:
    name = function.__name__
    names = (f"nn.functional.{name}", name) if top else (f"nn.functional.{name}",)
    return composite(*names, methods=(), samples=samples)(function)


_PAIRS = [_max_pool(n) for n in (1, 2, 3)]
MAX_POOLS = [
    _enter(_PAIRS[n - 1][0], _window_samples(n, padding=1, return_indices=True), True)
    for n in (1, 2, 3)
]
MAX_POOLS_WITH_INDICES = [
    _enter(_PAIRS[n - 1][1], _window_samples(n), top=n == 1) for n in (1, 2, 3)
]
AVG_POOLS = [
    _enter(_avg_pool(n), _window_samples(n, padding=1, count_include_pad=False), top=n == 1)
    for n in (1, 2, 3)
]
ADAPTIVE_AVG_POOLS = [_enter(_adaptive_avg_pool(n), _part_samples(n), n == 1) for n in (1, 2, 3)]
ADAPTIVE_MAX_POOLS = [_enter(_adaptive_max_pool(n), _part_samples(n), False) for n in (1, 2, 3)]
LP_POOLS = [_enter(_lp_pool(n), _window_samples(n, 2.0), False) for n in (1, 2, 3)]
MAX_UNPOOLS = [_enter(_max_unpool(n), _unpool_samples(n), False) for n in (1, 2, 3)]
