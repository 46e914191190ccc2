"""Pooling: maxima, means and norms over windows, and over a fixed number of parts of an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from taimatsu.dtypes import int64
from taimatsu.errors import OperationError
from taimatsu.ir.meta import Meta, meta
from taimatsu.ops.base import Operation, Sample, array, composite, register
from taimatsu.ops.filling import filled
from taimatsu.ops.resampling import Axis, Resampling, Taps, need_float
from taimatsu.ops.windows import Extents, ntuple


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


def part_bounds(extent: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """First and one past last element of each part in adaptive pooling."""
    number = np.arange(parts)
    return number * extent // parts, -(-(number + 1) * extent // parts)


@register
class AvgPool(Resampling):
    """Means of windows: input (N, C, *spatial) -> (N, C, *out)."""

    hidden = True


@register
class AdaptiveAvgPool(Resampling):
    """Means of parts: input (N, C, *spatial) -> (N, C, *out)."""

    hidden = True


class MaxPooling(Operation, abstract=True):
    """Base of the max pools: values and flat positions in the image (int64)."""

    hidden = True
    outputs = 2
    saves = ("out[1]",)

    def gradient(self, g: Any, out: Any, input: Any, **attributes: Any) -> Any:
        if g[0] is None:
            return None
        places = out[1].flatten(2)
        flat = filled((*input.shape[:2], prod(input.shape[2:])), 0, g[0].dtype)
        return flat.scatter_add(2, places, g[0].flatten(2)).reshape(input.shape)


@register
class MaxPool(MaxPooling):
    """Maxima of windows: input (N, C, *spatial) -> values and positions (N, C, *out).

    The first of equal elements wins, NaN wins over everything.
    """

    hidden = True

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
        return meta(shape, input.dtype), meta(shape, int64)

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
            _windows(n, k, s, p, d, ceil_mode)
            for n, k, s, p, d in zip(extents, kernel, stride, padding, dilation, strict=True)
        )
        reach = tuple(
            (m - 1) * s + (k - 1) * d + 1
            for m, k, s, d in zip(out, kernel, stride, dilation, strict=True)
        )
        padded = _padded_with_lowest(input, padding, reach)
        best = np.full((*input.shape[:2], *out), lowest(input.dtype), input.dtype)
        # The number of the winner in its window, from 1. Numbers grow, so later ones are larger.
        numbers = np.uint8 if prod(kernel) < 256 else np.int32
        winner = np.zeros(best.shape, numbers)
        with_nan = input.dtype.kind not in "iub" and bool(np.isnan(input).any())
        for number, offset in enumerate(np.ndindex(*kernel), 1):
            window: Any = tuple(
                slice(o * d, o * d + (m - 1) * s + 1, s)
                for o, d, m, s in zip(offset, dilation, out, stride, strict=True)
            )
            seen = padded[(..., *window)]
            better = seen > best
            if with_nan:
                better |= np.isnan(seen)
            np.maximum(best, seen, out=best)  # keeps NaN
            np.maximum(winner, better * numbers(number), out=winner)
        where = _winning_places(winner, extents, kernel, stride, padding, dilation)
        return best, where

    def backward_name_for(self, inputs: tuple, attributes: dict) -> str:
        return f"MaxPool{max(2, len(attributes['kernel']))}DWithIndicesBackward0"


@register
class AdaptiveMaxPool(MaxPooling):
    """Maxima of parts: input (N, C, *spatial) -> values and positions (N, C, *out)."""

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

    def backward_name_for(self, inputs: tuple, attributes: dict) -> str:
        return f"AdaptiveMaxPool{max(2, len(attributes['parts']))}DBackward0"


# -- windows -----------------------------------------------------------------------------------


def lowest(dtype: np.dtype) -> Any:
    """What every element is at least."""
    return np.iinfo(dtype).min if dtype.kind in "iu" else dtype.type(-np.inf)


def _windows(
    extent: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> int:
    span = extent + 2 * padding - dilation * (kernel - 1) - 1
    count = (-(-span // stride) if ceil_mode else span // stride) + 1
    if ceil_mode and (count - 1) * stride >= extent + padding:
        count -= 1  # the last window would begin in the padding behind the image
    return count


def pooled_extents(
    name: str,
    input: Any,
    kernel: Extents,
    stride: Extents,
    padding: Extents,
    dilation: Extents,
    ceil_mode: bool,
) -> Extents:
    """The extents after pooling; raises for windows that do not fit."""

    def refuse(words: str, hint: str = "") -> Exception:
        return OperationError.make(name, words, hint=hint)

    if min(kernel) < 1:
        raise refuse(f"kernel size should be greater than zero, but got {list(kernel)}")
    if min(stride) < 1:
        raise refuse(f"stride should not be zero (or negative), but got {list(stride)}")
    if min(dilation) < 1:
        raise refuse(f"dilation should be greater than zero, but got {list(dilation)}")
    for k, p, d in zip(kernel, padding, dilation, strict=True):
        if p < 0 or p > (d * (k - 1) + 1) // 2:
            raise refuse(
                "pad should be non-negative and at most half of effective kernel size, but got "
                f"pad={p}, kernel_size={k} and dilation={d}"
            )
    extents = tuple(input.shape[2:])
    out = tuple(
        _windows(n, k, s, p, d, ceil_mode)
        for n, k, s, p, d in zip(extents, kernel, stride, padding, dilation, strict=True)
    )
    if min(out) < 1 or input.shape[1] == 0:
        channels = input.shape[1]
        sizes = ["x".join(map(str, (channels, *e))) for e in (extents, out)]
        raise refuse(
            f"Given input size: ({sizes[0]}). Calculated output size: ({sizes[1]}). "
            "Output size is too small",
            "pool less often, with a smaller kernel, or give larger images",
        )
    return out


def _padded_with_lowest(x: np.ndarray, padding: Extents, reach: Extents) -> np.ndarray:
    """``x`` with padding before, and as much behind as the last window reaches."""
    extents = tuple(max(n + p, r) for n, p, r in zip(x.shape[2:], padding, reach, strict=True))
    if extents == x.shape[2:]:
        return x
    padded = np.full((*x.shape[:2], *extents), lowest(x.dtype), x.dtype)
    inner: Any = tuple(slice(p, p + n) for n, p in zip(x.shape[2:], padding, strict=True))
    padded[(..., *inner)] = x
    return padded


def _winning_places(
    winner: np.ndarray,
    extents: Extents,
    kernel: Extents,
    stride: Extents,
    padding: Extents,
    dilation: Extents,
) -> np.ndarray:
    """Flat positions in the image of what won; of a window's first element where nothing did."""
    out = winner.shape[2:]
    begin: Any = 0
    for n, m, s, p in zip(extents, out, stride, padding, strict=True):
        begin = np.asarray(begin)[..., None] * n + (np.arange(m) * s - p)
    within: Any = 0
    for n, k, d in zip(extents, kernel, dilation, strict=True):
        within = np.asarray(within)[..., None] * n + np.arange(k) * d
    places = begin + np.append(0, within)[winner]
    if not winner.all():
        first = _first_places(extents, out, stride, padding, dilation)
        places = np.where(winner == 0, first, places)
    return places


def _first_places(
    extents: Extents, out: Extents, stride: Extents, padding: Extents, dilation: Extents
) -> np.ndarray:
    """Flat positions of the first element inside the image of every window."""
    flat: Any = 0
    for n, m, s, p, d in zip(extents, out, stride, padding, dilation, strict=True):
        start = np.arange(m) * s - p
        start = np.where(start < 0, start + -(start // d) * d, start)
        flat = np.asarray(flat)[..., None] * n + start
    return flat


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

    def with_indices(
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
        values, indices = MaxPool.apply(
            image,
            kernel=kernel,
            stride=ntuple(name, "stride", stride, n, empty=kernel),
            padding=ntuple(name, "padding", padding, n),
            dilation=ntuple(name, "dilation", dilation, n),
            ceil_mode=bool(ceil_mode),
        )
        return (values, indices) if has_batch else (values.squeeze(0), indices.squeeze(0))

    def function(
        input: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        both = with_indices(input, kernel_size, stride, padding, dilation, ceil_mode)
        return both if return_indices else both[0]

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
