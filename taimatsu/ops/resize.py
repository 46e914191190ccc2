"""Resizing of images and volumes: interpolate, pixel_shuffle, unfold and fold."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from taimatsu.errors import OperationError
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import FLOATS, Expression
from taimatsu.ir.index import Index, index
from taimatsu.ir.stages import Stage
from taimatsu.ops.base import Sample, array, composite, register
from taimatsu.ops.coordinates import converted, in_dtype
from taimatsu.ops.resampling import (
    Axes,
    Axis,
    Reading,
    Resampling,
    Tap,
    Taps,
    lowered,
    need_float,
    resampled,
    tabulated,
)


@dataclass(frozen=True)
class NearestAxis(Axis):
    """The element at floor(position * step); ``exact`` measures between pixel centres."""

    extent: int
    out: int
    step: float  # input elements per output element
    exact: bool

    def taps(self) -> Taps:
        # In float32, as PyTorch computes it: the floor depends on the rounding.
        place = np.arange(self.out, dtype=np.float32) + np.float32(0.5 if self.exact else 0)
        index = np.floor(place * np.float32(self.step)).astype(np.int64)
        index = np.clip(index, 0, self.extent - 1)
        return index[:, None], np.ones((self.out, 1))

    def reading(self, b: Builder) -> Reading:
        return Reading(1, lambda o, k: self._source(b, b.index(o)))

    def _source(self, b: Builder, o: Expression) -> Expression:
        """The element at a result's position, rounded as ``taps`` does it."""
        place = b.cast(o, "float32") + (0.5 if self.exact else 0.0)
        found = b.cast(b.floor(place * float(np.float32(self.step))), "int64")
        return b.max(b.min(found, self.extent - 1), 0)

    def adjoint_reading(self, b: Builder) -> Reading:
        # Position and step are rounded, so one result more than the width is looked at each side.
        count = min(self.out, math.ceil(1 / self.step) + 3)

        def nearby(c: Index, k: Tap) -> Expression:
            first = b.floor(b.cast(b.index(c), "float64") / self.step) - 1.0
            return run_inside(b, first, count, self.out) + b.index(k)

        def present(c: Index, k: Tap) -> Expression:
            return self._source(b, nearby(c, k)).eq(b.index(c))

        return Reading(count, nearby, None, present)


@dataclass(frozen=True)
class SmoothAxis(Axis):
    """Linear or cubic interpolation (Keys 1981, with a = -0.75) between neighbours."""

    extent: int
    out: int
    step: float
    align_corners: bool
    cubic: bool

    def taps(self) -> Taps:
        place = np.arange(self.out)
        source = place * self.step if self.align_corners else (place + 0.5) * self.step - 0.5
        if not self.cubic:
            source = np.maximum(source, 0)
        floor = np.floor(source)
        offsets = np.arange(-1, 3) if self.cubic else np.arange(2)
        distance = np.abs((source - floor)[:, None] - offsets)
        weight = _cubic(distance, -0.75) if self.cubic else _triangle(distance)
        index = np.clip(floor[:, None] + offsets, 0, self.extent - 1)
        return index.astype(np.int64), weight

    def _source(self, b: Builder, o: Expression) -> Expression:
        """Where a result lies among the elements (float64)."""
        place = b.cast(o, "float64")
        if self.align_corners:
            return place * self.step
        source = (place + 0.5) * self.step - 0.5
        return source if self.cubic else b.max(source, 0.0)

    def _tap(self, b: Builder, o: Expression, k: Tap) -> tuple[Expression, Expression]:
        """A tap's element and weight."""
        source = self._source(b, o)
        floor = b.floor(source)
        offset = b.index(index(k) - 1 if self.cubic else index(k))
        distance = b.abs(source - floor - b.cast(offset, "float64"))
        weight = _cubic_stage(b, distance, -0.75) if self.cubic else b.max(1.0 - distance, 0.0)
        return kept_inside(b, b.cast(floor, "int64") + offset, self.extent), weight

    def reading(self, b: Builder) -> Reading:
        return tabulated(
            b,
            Reading(
                4 if self.cubic else 2,
                lambda o, k: self._tap(b, b.index(o), k)[0],
                lambda o, k: self._tap(b, b.index(o), k)[1],
            ),
            self.out,
        )

    def adjoint_reading(self, b: Builder) -> Reading:
        taps = 4 if self.cubic else 2

        def weight(c: Index, at: Expression) -> Expression:
            total = b.constant(0.0, "float64")
            for k in range(taps):
                place, share = self._tap(b, at, k)
                total = total + b.where(place.eq(b.index(c)), share, 0.0)
            return total

        return nearby_results(b, self, taps // 2, 0.0 if self.align_corners else 0.5, weight)


@dataclass(frozen=True)
class AntialiasedAxis(Axis):
    """Interpolation whose filter widens with the reduction, as image libraries do it."""

    extent: int
    out: int
    step: float
    filter: str  # bilinear, bicubic or lanczos

    def taps(self) -> Taps:
        kernel, reach = _FILTERS[self.filter]
        widening = max(self.step, 1.0)
        support = reach * widening
        centre = self.step * (np.arange(self.out) + 0.5)
        first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
        last = np.minimum((centre + support + 0.5).astype(np.int64), self.extent)
        index = first[:, None] + np.arange(max(1, int((last - first).max(initial=1))))
        weight = kernel(np.abs((index - centre[:, None] + 0.5) / widening))
        weight[index >= last[:, None]] = 0
        weight /= weight.sum(1, keepdims=True)
        return np.where(index < last[:, None], index, -1), weight

    def _raw(self, b: Builder, o: Expression, at: Expression) -> Expression:
        """The weight of an element for a result before weights are made to sum to 1 (0: none)."""
        kernel = _STAGE_FILTERS[self.filter]
        widening = max(self.step, 1.0)
        centre = (b.cast(o, "float64") + 0.5) * self.step
        first, last = self._ends(b, o)
        distance = b.abs((b.cast(at, "float64") - centre + 0.5) / widening)
        return b.where((at >= first) & (at < last), kernel(b, distance), 0.0)

    def _ends(self, b: Builder, o: Expression) -> tuple[Expression, Expression]:
        support = _FILTERS[self.filter][1] * max(self.step, 1.0)
        centre = (b.cast(o, "float64") + 0.5) * self.step
        first = b.max(b.cast(centre - support + 0.5, "int64"), 0)
        return first, b.min(b.cast(centre + support + 0.5, "int64"), self.extent)

    def _width(self) -> int:
        return int(self.taps()[0].shape[1])

    def _totals(self, b: Builder) -> Stage:
        """The sum of each result's weights."""

        def raw(i: tuple[Index, ...], r: tuple[Index, ...]) -> Expression:
            o = b.index(i[0])
            return self._raw(b, o, self._ends(b, o)[0] + b.index(r[0]))

        return b.reduce("add", (b.extent(self.out),), (self._width(),), "float64", raw)

    def reading(self, b: Builder) -> Reading:
        totals = self._totals(b)

        def place(o: Index, k: Tap) -> Expression:
            return self._ends(b, b.index(o))[0] + b.index(k)

        return tabulated(
            b,
            Reading(
                self._width(),
                lambda o, k: kept_inside(b, place(o, k), self.extent),
                lambda o, k: self._raw(b, b.index(o), place(o, k)) / totals[o],
                lambda o, k: place(o, k) < self._ends(b, b.index(o))[1],
            ),
            self.out,
        )

    def adjoint_reading(self, b: Builder) -> Reading:
        totals = self._totals(b)
        reach = math.ceil(_FILTERS[self.filter][1] * max(self.step, 1.0)) + 1

        def weight(c: Index, at: Expression) -> Expression:
            return self._raw(b, at, b.index(c)) / totals[kept_inside(b, at, self.out)]

        return nearby_results(b, self, reach, 0.5, weight)


def kept_inside(b: Builder, at: Expression, extent: int) -> Expression:
    """A computed coordinate moved to the nearest one inside."""
    return b.max(b.min(at, extent - 1), 0)


def run_inside(b: Builder, first: Expression, count: int, extent: int) -> Expression:
    """The start nearest to ``first`` (a whole number) of ``count`` elements that are all inside."""
    return b.max(b.min(b.cast(first, "int64"), extent - count), 0)


def nearby_results(
    b: Builder,
    axis: SmoothAxis | AntialiasedAxis,
    reach: int,
    half: float,
    weight: Callable[[Index, Expression], Expression],
) -> Reading:
    """The adjoint reading of an axis whose results lie at ``(o + half) * step - half`` and read
    elements less than ``reach`` away; ``weight`` of an element for a result may be 0.
    """
    count = axis.out
    if axis.step > 0:
        count = min(axis.out, math.ceil(2 * reach / axis.step) + 2)

    def nearby(c: Index, k: Tap) -> Expression:
        if count == axis.out:
            return b.index(k)
        first = (b.cast(b.index(c), "float64") + (half - reach)) / axis.step - half
        return run_inside(b, b.floor(first), count, axis.out) + b.index(k)

    made = Reading(count, nearby, lambda c, k: weight(c, nearby(c, k)))
    return tabulated(b, made, axis.extent)


def _cubic_stage(b: Builder, distance: Expression, a: float) -> Expression:
    """``_cubic`` in stages."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1.0
    far = ((distance - 5.0) * distance + 8.0) * distance * a - 4 * a
    return b.where(distance <= 1.0, near, b.where(distance < 2.0, far, 0.0))


def _lanczos_stage(b: Builder, distance: Expression) -> Expression:
    def sinc(x: Expression) -> Expression:
        turns = x * math.pi
        return b.where(x.eq(0.0), 1.0, b.sin(turns) / b.where(x.eq(0.0), 1.0, turns))

    return b.where(distance < 3.0, sinc(distance) * sinc(distance / 3.0), 0.0)


def _triangle(distance: np.ndarray) -> np.ndarray:
    return np.maximum(1 - distance, 0)


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))


def _lanczos(distance: np.ndarray) -> np.ndarray:
    return np.where(distance < 3, np.sinc(distance) * np.sinc(distance / 3), 0)


_FILTERS: dict[str, tuple[Callable, int]] = {
    "bilinear": (_triangle, 1),
    "bicubic": (lambda distance: _cubic(distance, -0.5), 2),
    "lanczos": (_lanczos, 3),
}
_STAGE_FILTERS: dict[str, Callable[[Builder, Expression], Expression]] = {
    "bilinear": lambda b, distance: b.max(1.0 - distance, 0.0),
    "bicubic": lambda b, distance: _cubic_stage(b, distance, -0.5),
    "lanczos": _lanczos_stage,
}
_DIMENSIONS = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3, "lanczos": 2}
_MODES = ("nearest", *_DIMENSIONS, "area", "nearest-exact")


@register
class Interpolate(Resampling):
    """input (N, C, *spatial) at other extents; uint8 images are rounded to whole numbers."""

    hidden = True

    def reference(self, input: np.ndarray, *, axes: Axes, backward: str) -> np.ndarray:
        if input.dtype.kind in "fc" or isinstance(axes[0], NearestAxis):
            return resampled(input, axes)
        return np.clip(np.rint(resampled(input.astype(np.float32), axes)), 0, 255)

    def lower(self, b: Builder, input: Any, *, axes: Axes, backward: str) -> Stage | None:
        if input.dtype in FLOATS or isinstance(axes[0], NearestAxis):
            return lowered(b, input, axes)
        made = lowered(b, in_dtype(b, input, "float32"), axes)
        if made is None:
            return None

        def rounded(*i: Index) -> Expression:
            whole = b.round_half_even(made[i])
            return converted(b, b.max(b.min(whole, 255.0), 0.0), input.dtype)

        return b.map(made.shape, input.dtype, rounded)


def _interpolate_samples() -> Iterator[Sample]:
    yield Sample(array(2, 3, 5), size=7)
    yield Sample(array(2, 3, 4, 5), scale_factor=2.0, mode="bilinear")
    yield Sample(array(2, 3, 4, 5), size=(7, 3), mode="bilinear", align_corners=True)
    yield Sample(array(1, 2, 5, 6), size=(3, 9), mode="bicubic")
    yield Sample(array(1, 2, 8, 6), size=(3, 4), mode="bilinear", antialias=True)
    yield Sample(array(1, 2, 3, 4, 3), scale_factor=(2, 1.5, 1), mode="trilinear")
    yield Sample(array(1, 2, 6, 6), size=(4, 3), mode="area")
    yield Sample(array(1, 2, 6, 6), size=(4, 9), mode="nearest-exact")


@composite("nn.functional.interpolate", samples=_interpolate_samples)
def interpolate(
    input: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Any:
    """Resizes (N, C, *spatial) to ``size`` or by ``scale_factor`` (a number, or one per axis).

    Modes: nearest, nearest-exact, area (1 to 3 spatial dimensions), linear (1), bilinear and
    bicubic (2), trilinear (3). ``align_corners`` maps the corner elements' centres onto each
    other; ``antialias`` (bilinear, bicubic) filters before reducing.
    """
    n = input.ndim - 2
    _check_mode(input, n, mode, align_corners, antialias)
    outs, factors = _sizes(input, n, size, scale_factor, recompute_scale_factor)
    extents = tuple(input.shape[2:])
    if min(outs) < 1 or min(extents) < 1:
        raise OperationError.make(
            "interpolate",
            "Input and output sizes should be greater than 0, "
            f"but got input {extents} and output {outs}",
        )
    if mode == "area":
        from taimatsu.ops.pooling import ADAPTIVE_AVG_POOLS

        return ADAPTIVE_AVG_POOLS[n - 1](input, outs)
    if not mode.startswith("nearest") and input.dtype.name != "uint8":
        need_float(_backward_name(mode, n, False).lower(), input)
    axes = tuple(
        _axis(mode, extent, out, factor, bool(align_corners), antialias)
        for extent, out, factor in zip(extents, outs, factors, strict=True)
    )
    return Interpolate.apply(
        input, axes=axes, backward=_backward_name(mode, n, antialias) + "Backward0"
    )


def _axis(
    mode: str, extent: int, out: int, factor: float | None, align: bool, antialias: bool
) -> Axis:
    step = 1 / factor if factor else extent / out
    if mode.startswith("nearest"):
        return NearestAxis(extent, out, step, mode == "nearest-exact")
    if align:
        step = (extent - 1) / (out - 1) if out > 1 else 0.0
    if antialias:
        return AntialiasedAxis(extent, out, step, mode)
    return SmoothAxis(extent, out, step, align, mode == "bicubic")


def _backward_name(mode: str, n: int, antialias: bool) -> str:
    word = "NearestExact" if mode == "nearest-exact" else mode.capitalize()
    return f"Upsample{word}{n}D{'Aa' * antialias}"


def _check_mode(input: Any, n: int, mode: str, align_corners: bool | None, antialias: bool) -> None:
    def refuse(words: str, kind: type[Exception] = ValueError, hint: str = "") -> Exception:
        return OperationError.make("interpolate", words, hint=hint, kind=kind)

    if mode not in _MODES or not 1 <= n <= 3:
        raise refuse(
            f"Input Error: Only 3D, 4D and 5D input Tensors supported (got {input.ndim}D) for the "
            f"modes: {' | '.join(_MODES)} (got {mode})",
            NotImplementedError,
            "an image without batch or channel dimension needs x.unsqueeze(0)",
        )
    if _DIMENSIONS.get(mode, n) != n:
        raise refuse(
            f"Got {input.ndim}D input, but {mode} mode needs {_DIMENSIONS[mode] + 2}D input",
            NotImplementedError,
            "batch and channels come first: x.unsqueeze(0) adds one of them",
        )
    if align_corners is not None and mode not in _DIMENSIONS:
        raise refuse(
            "align_corners option can only be set with the interpolating modes: "
            "linear | bilinear | bicubic | trilinear"
        )
    if antialias and mode not in _FILTERS:
        raise refuse("Anti-alias option is restricted to bilinear, bicubic and lanczos modes")
    if mode == "lanczos" and not antialias:
        raise refuse("lanczos mode needs antialias=True")


def _sizes(
    input: Any, n: int, size: Any, scale_factor: Any, recompute: bool | None
) -> tuple[tuple[int, ...], tuple[float | None, ...]]:
    """The output extents, and the scale factors that decide positions (None: from extents)."""

    def refuse(words: str) -> Exception:
        return OperationError.make("interpolate", words, kind=ValueError)

    if size is not None and scale_factor is not None:
        raise refuse("only one of size or scale_factor should be defined")
    given = size if size is not None else scale_factor
    if given is None:
        raise refuse("either size or scale_factor should be defined; got None for both")
    items = tuple(given) if isinstance(given, (tuple, list)) else (given,) * n
    spatial = list(input.shape[2:])
    if len(items) != n:
        what = "output size of" if size is not None else "scale_factor of shape"
        raise refuse(
            "Input and output must have the same number of spatial dimensions, but got input with "
            f"spatial dimensions of {spatial} and {what} {items}. Please provide input tensor in "
            "(N, C, d1, d2, ...,dK) format and one number per spatial dimension."
        )
    if size is not None:
        if recompute:
            raise refuse("recompute_scale_factor is not meaningful with an explicit size.")
        return tuple(int(s) for s in items), (None,) * n
    factors = tuple(float(f) for f in items)
    outs = tuple(math.floor(extent * f) for extent, f in zip(spatial, factors, strict=True))
    return outs, (None,) * n if recompute else factors


@composite(
    "nn.functional.upsample",
    samples=lambda: iter([Sample(array(1, 2, 3), scale_factor=2, mode="linear")]),
)
def upsample(
    input: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Any:
    """The old name of ``interpolate``."""
    warnings.warn(
        "`nn.functional.upsample` is deprecated. Use `nn.functional.interpolate` instead.",
        stacklevel=2,
    )
    return interpolate(input, size, scale_factor, mode, align_corners)


@composite(
    "nn.functional.upsample_nearest",
    samples=lambda: iter([Sample(array(1, 2, 3, 4), (5, 7))]),
)
def upsample_nearest(input: Any, size: Any = None, scale_factor: Any = None) -> Any:
    """``interpolate`` with mode nearest."""
    return interpolate(input, size, scale_factor)


@composite(
    "nn.functional.upsample_bilinear",
    samples=lambda: iter([Sample(array(1, 2, 3, 4), (5, 7))]),
)
def upsample_bilinear(input: Any, size: Any = None, scale_factor: Any = None) -> Any:
    """``interpolate`` with mode bilinear and aligned corners."""
    return interpolate(input, size, scale_factor, "bilinear", True)


# -- channels to space and back ----------------------------------------------------------------


@composite(
    "pixel_shuffle",
    "nn.functional.pixel_shuffle",
    methods=(),
    samples=lambda: iter([Sample(array(2, 8, 3, 2), 2)]),
)
def pixel_shuffle(input: Any, upscale_factor: int) -> Any:
    """(..., C * r * r, H, W) -> (..., C, H * r, W * r). Shi et al. 2016."""
    r = upscale_factor
    if input.ndim < 3:
        raise _needs_three("pixel_shuffle", input)
    *lead, channels, height, width = input.shape
    if r <= 0:
        raise OperationError.make(
            "pixel_shuffle", f"pixel_shuffle expects a positive upscale_factor, but got {r}"
        )
    if channels % (r * r):
        raise OperationError.make(
            "pixel_shuffle",
            "pixel_shuffle expects its input's 'channel' dimension to be divisible by the square "
            f"of upscale_factor, but input.size(-3)={channels} is not divisible by {r * r}",
        )
    k = len(lead)
    split = input.reshape(*lead, channels // (r * r), r, r, height, width)
    mixed = split.permute(*range(k), k, k + 3, k + 1, k + 4, k + 2)
    return mixed.reshape(*lead, channels // (r * r), height * r, width * r)


@composite(
    "pixel_unshuffle",
    "nn.functional.pixel_unshuffle",
    methods=(),
    samples=lambda: iter([Sample(array(2, 2, 6, 4), 2)]),
)
def pixel_unshuffle(input: Any, downscale_factor: int) -> Any:
    """(..., C, H * r, W * r) -> (..., C * r * r, H, W): undoes ``pixel_shuffle``."""
    r = downscale_factor
    if input.ndim < 3:
        raise _needs_three("pixel_unshuffle", input)
    if r <= 0:
        raise OperationError.make(
            "pixel_unshuffle", f"pixel_unshuffle expects a positive downscale_factor, but got {r}"
        )
    *lead, channels, height, width = input.shape
    for word, place, extent in (("height", -2, height), ("width", -1, width)):
        if extent % r:
            raise OperationError.make(
                "pixel_unshuffle",
                f"pixel_unshuffle expects {word} to be divisible by downscale_factor, "
                f"but input.size({place})={extent} is not divisible by {r}",
            )
    k = len(lead)
    split = input.reshape(*lead, channels, height // r, r, width // r, r)
    mixed = split.permute(*range(k), k, k + 2, k + 4, k + 1, k + 3)
    return mixed.reshape(*lead, channels * r * r, height // r, width // r)


def _needs_three(name: str, input: Any) -> Exception:
    return OperationError.make(
        name,
        f"{name} expects input to have at least 3 dimensions, but got input with {input.ndim} "
        "dimension(s)",
    )


@composite(
    "channel_shuffle",
    "nn.functional.channel_shuffle",
    methods=(),
    samples=lambda: iter([Sample(array(2, 6, 3, 2), 3)]),
)
def channel_shuffle(input: Any, groups: int) -> Any:
    """(N, C, *) with the channels of ``groups`` groups interleaved. Zhang et al. 2017."""
    if input.ndim < 3 or groups <= 0 or input.shape[1] % groups:
        raise OperationError.make(
            "channel_shuffle",
            "Number of channels must be divisible by groups (and the input have 3 or more "
            "dimensions)",
            f"got input {list(input.shape)} and groups={groups}",
        )
    samples, channels, *rest = input.shape
    split = input.reshape(samples, groups, channels // groups, *rest)
    return split.transpose(1, 2).reshape(samples, channels, *rest)
