"""Convolutions, their adjoints and their weights' gradients as stages.

Each is one sum of products of two loads, of an image with explicit borders and of a kernel, so
that it can be computed as matrix products are. A transposed convolution with strides splits into
phases: results that lie a stride apart take the same elements of the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from math import gcd, prod
from typing import Any, NamedTuple

from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index, ceil_div, index
from taimatsu.ir.stages import Stage
from taimatsu.ops.coordinates import Source, all_of, chosen, clamped, within
from taimatsu.ops.windows import Extents

_PHASES = 16  # more than these are one sum with an axis of phases, zeros among its factors


def bordered(b: Builder, x: Source, before: Sequence[int], extents: Sequence[Index]) -> Source:
    """``x`` (N, C, *spatial) in zeros: ``before`` of them, then as many as the extents leave."""
    lead, sizes = x.shape[:2], x.shape[2:]
    if not any(before) and all(n == m for n, m in zip(sizes, extents, strict=True)):
        return x

    def element(*i: Index) -> Expression:
        moved = [at - m for at, m in zip(i[2:], before, strict=True)]
        pairs = list(zip(moved, sizes, strict=True))
        inside = all_of(b, [within(b, at, n) for at, n in pairs])
        value = x[(*i[:2], *[clamped(at, n) for at, n in pairs])]
        return chosen(b, inside, value, 0)

    return b.map((*lead, *extents), x.dtype, element)


def with_bias(b: Builder, made: Source, bias: Any) -> Source:
    """The result with a number added to each channel."""
    if bias is None:
        return made
    return b.map(made.shape, made.dtype, lambda *i: made[i] + bias[i[1]])


def _channels_joined(b: Builder, made: Stage, groups: int) -> Stage:
    """(N, G, O / G, *) as (N, O, *)."""
    samples, _, each, *rest = made.shape
    return b.map(
        (samples, each * groups, *rest),
        made.dtype,
        lambda n, o, *i: made[(n, o // each, o % each, *i)],
    )


def _grouped(
    b: Builder,
    samples: Index,
    groups: int,
    outs: Index,
    inners: Index,
    extents: Sequence[Index],
    taps: Sequence[Any],
    dtype: str,
    factors: Callable[[Index, Index, Index, Index, tuple, tuple], Expression],
) -> Stage:
    """The sum over a group's channels and over taps, for each of the group's results.

    ``factors`` takes sample, group, result channel and inner channel of the group, place, tap.
    """
    if groups == 1:
        return b.reduce(
            "add",
            (samples, outs, *extents),
            (inners, *taps),
            dtype,
            lambda i, r: factors(i[0], index(0), i[1], r[0], i[2:], r[1:]),
        )
    return b.reduce(
        "add",
        (samples, groups, outs, *extents),
        (inners, *taps),
        dtype,
        lambda i, r: factors(i[0], i[1], i[2], r[0], i[3:], r[1:]),
    )


def correlation(
    b: Builder,
    input: Any,
    weight: Any,
    stride: Extents,
    padding: Extents,
    dilation: Extents,
    groups: int,
) -> Stage:
    """input (N, C, *spatial), weight (O, C / groups, *kernel) -> (N, O, *out)."""
    kernel = weight.shape[2:]
    sizes = [n + 2 * p for n, p in zip(input.shape[2:], padding, strict=True)]
    outs = [
        (n - (k - 1) * d - 1) // s + 1
        for n, k, d, s in zip(sizes, kernel, dilation, stride, strict=True)
    ]
    image = bordered(b, input, padding, sizes)
    each, inners = weight.shape[0] // groups, weight.shape[1]

    def factors(n: Any, g: Any, o: Any, c: Any, place: tuple, tap: tuple) -> Expression:
        at = [y * s + k * d for y, s, k, d in zip(place, stride, tap, dilation, strict=True)]
        return image[(n, g * inners + c, *at)] * weight[(g * each + o, c, *tap)]

    made = _grouped(b, input.shape[0], groups, each, inners, outs, kernel, input.dtype, factors)
    return made if groups == 1 else _channels_joined(b, made, groups)


def weight_gradient(
    b: Builder,
    input: Any,
    g: Any,
    kernel: Extents,
    stride: Extents,
    padding: Extents,
    dilation: Extents,
    groups: int,
) -> Stage:
    """input (N, C, *spatial), g (N, O, *out) -> (O, C / groups, *kernel)."""
    sizes = [n + 2 * p for n, p in zip(input.shape[2:], padding, strict=True)]
    image = bordered(b, input, padding, sizes)
    each, inners = g.shape[1] // groups, input.shape[1] // groups
    over = (g.shape[0], *g.shape[2:])

    def factors(group: Any, o: Any, c: Any, tap: tuple, r: tuple) -> Expression:
        at = [y * s + k * d for y, s, k, d in zip(r[1:], stride, tap, dilation, strict=True)]
        of = g[(r[0], group * each + o, *r[1:])]
        return of * image[(r[0], group * inners + c, *at)]

    if groups == 1:
        return b.reduce(
            "add",
            (each, inners, *kernel),
            over,
            input.dtype,
            lambda i, r: factors(index(0), i[0], i[1], i[2:], r),
        )
    made = b.reduce(
        "add",
        (groups, each, inners, *kernel),
        over,
        input.dtype,
        lambda i, r: factors(i[0], i[1], i[2], i[3:], r),
    )
    return b.map(
        (each * groups, inners, *kernel),
        input.dtype,
        lambda o, *i: made[(o // each, o % each, *i)],
    )


# -- transposed --------------------------------------------------------------------------------


class _Phase(NamedTuple):
    """Along one axis: ``stride * (start + a) + phase - padding`` for all a below ``results``.

    They sum over taps m: the image at ``start + a - reach - m * apart`` times the kernel at
    ``tap + m * step``.
    """

    phase: int
    start: int
    results: Index
    taps: int
    tap: int
    step: int
    reach: int
    apart: int


def _phases(out: Index, kernel: int, stride: int, padding: int, dilation: int) -> list[_Phase]:
    """The phases of an axis that have results; one without taps is zero."""
    made = []
    common = gcd(stride, dilation)
    for phase in range(stride):
        start = max(0, -((phase - padding) // stride))
        first = start * stride + phase - padding  # the first result
        count = (out + (stride - 1 - first)) // stride
        taps = [k for k in range(kernel) if k * dilation % stride == phase]
        tap = taps[0] if taps else 0
        reach = tap * dilation // stride
        if count == 0:
            continue
        made.append(
            _Phase(phase, start, count, len(taps), tap, stride // common, reach, dilation // common)
        )
    return made


def transposed(
    b: Builder,
    input: Any,
    weight: Any,
    stride: Extents,
    padding: Extents,
    dilation: Extents,
    output_padding: Extents,
    groups: int,
) -> Stage:
    """input (N, C, *spatial), weight (C, O / groups, *kernel) -> (N, O, *out)."""
    kernel = tuple([b.known(k) for k in weight.shape[2:]])
    outs = [
        (n - 1) * s + (d * (k - 1) + extra + 1 - 2 * p)
        for n, k, s, p, d, extra in zip(
            input.shape[2:], kernel, stride, padding, dilation, output_padding, strict=True
        )
    ]
    window = list(zip(outs, kernel, stride, padding, dilation, strict=True))
    if prod(stride) == prod(dilation) == 1 and _is_small(input.shape[2:], kernel):
        return _over_image(b, input, weight, outs, padding, groups)
    # With as many taps in each phase, one sum with the phases as further channels is best.
    even = all(s == 1 or (d == 1 and k % s == 0) for _, k, s, _, d in window)
    if prod(stride) > 1 and (even or prod(stride) > _PHASES):
        return _with_axes_of_phases(b, input, weight, window, groups)
    return _phase_by_phase(b, input, weight, window, groups)


def _is_small(image: Sequence[Index], kernel: Sequence[int]) -> bool:
    """Whether a sum over the image is much shorter than one over the kernel."""
    return all(n.is_constant for n in image) and 2 * prod(n.constant for n in image) <= prod(kernel)


def _over_image(
    b: Builder, input: Any, weight: Any, outs: list[Index], padding: Extents, groups: int
) -> Stage:
    """Sums over the elements of a small image, which slides over the kernel."""
    each, inners = weight.shape[1], weight.shape[0] // groups
    sizes = [n.constant for n in input.shape[2:]]
    before = [max(0, n - 1 - p) for n, p in zip(sizes, padding, strict=True)]
    extents = [out + p + m for out, p, m in zip(outs, padding, before, strict=True)]
    kernel = bordered(b, weight, before, extents)

    def factors(n: Any, g: Any, o: Any, c: Any, place: tuple, image: tuple) -> Expression:
        moved = zip(place, image, padding, before, strict=True)
        at = [y - i + (p + m) for y, i, p, m in moved]
        return input[(n, g * inners + c, *image)] * kernel[(g * inners + c, o, *at)]

    dtype, samples = input.dtype, input.shape[0]
    made = _grouped(b, samples, groups, each, inners, outs, sizes, dtype, factors)
    return made if groups == 1 else _channels_joined(b, made, groups)


def _phase_by_phase(b: Builder, input: Any, weight: Any, window: list, groups: int) -> Stage:
    """A sum for each phase, joined by where results lie."""
    axes = [_phases(*axis) for axis in window]
    before = [
        max(0, *(p.reach + (p.taps - 1) * p.apart - p.start for p in phases)) for phases in axes
    ]
    sizes = [
        (out + padding - 1) // s + 1 + m
        for (out, _, s, padding, _), m in zip(window, before, strict=True)
    ]
    image = bordered(b, input, before, sizes)
    parts = [
        (phases, _phase_sum(b, image, weight, before, phases, groups))
        for phases in product(*axes)
        if all(p.taps for p in phases)
    ]
    each, samples = weight.shape[1], input.shape[0]
    if len(parts) == 1 and all(s == 1 for _, _, s, _, _ in window):
        return parts[0][1]

    def joined(n: Index, o: Index, *y: Index) -> Expression:
        made = b.constant(0, input.dtype)
        for phases, part in parts:
            at, conditions = [], []
            for place, p, (_, _, s, padding, _) in zip(y, phases, window, strict=True):
                at.append(clamped((place + padding) // s - p.start, p.results))
                if s > 1:
                    conditions.append(b.index((place + padding) % s).eq(p.phase))
            made = b.where(all_of(b, conditions), part[(n, o, *at)], made)
        return made

    outs = [out for out, *_ in window]
    return b.map((samples, each * groups, *outs), input.dtype, joined)


def _phase_sum(
    b: Builder, image: Source, weight: Any, before: list[int], phases: Any, groups: int
) -> Stage:
    """The results of one phase, (N, O, *counts)."""
    each, inners = weight.shape[1], weight.shape[0] // groups

    def factors(n: Any, g: Any, o: Any, c: Any, place: tuple, r: tuple) -> Expression:
        at, tap = [], []
        for a, j, m, p in zip(place, r, before, phases, strict=True):
            shift = m + p.start - p.reach - (p.taps - 1) * p.apart
            at.append(a + j * p.apart + shift)
            tap.append((p.taps - 1 - j) * p.step + p.tap)
        return image[(n, g * inners + c, *at)] * weight[(g * inners + c, o, *tap)]

    counts = [p.results for p in phases]
    taps = [p.taps for p in phases]
    made = _grouped(b, image.shape[0], groups, each, inners, counts, taps, image.dtype, factors)
    return made if groups == 1 else _channels_joined(b, made, groups)


def _with_axes_of_phases(b: Builder, input: Any, weight: Any, window: list, groups: int) -> Stage:
    """One sum whose results have an axis of phases for each axis of the image."""
    each, inners = weight.shape[1], weight.shape[0] // groups
    taps = [-(-((k - 1) * d + 1) // s) for _, k, s, _, d in window]
    counts = [ceil_div(out + padding, s) for out, _, s, padding, _ in window]
    image = bordered(
        b, input, [t - 1 for t in taps], [n + (t - 1) for n, t in zip(counts, taps, strict=True)]
    )
    strides = [s for _, _, s, _, _ in window]
    n_axes = len(window)

    def spread(c: Index, o: Index, *i: Index) -> Expression:
        """The kernel by phase and tap, zero where there is no such element."""
        at, conditions = [], []
        for phase, j, t, (_, k, s, _, d) in zip(i[:n_axes], i[n_axes:], taps, window, strict=True):
            place = (t - 1 - j) * s + phase
            at.append(clamped(place // d, k))
            conditions.append(within(b, place, (k - 1) * d + 1))
            if d > 1:
                conditions.append(b.index(place % d).eq(0))
        return chosen(b, all_of(b, conditions), weight[(c, o, *at)], 0)

    kernels = b.map((*weight.shape[:2], *strides, *taps), weight.dtype, spread)

    def factors(n: Any, g: Any, o: Any, c: Any, place: tuple, j: tuple) -> Expression:
        phases, a = place[:n_axes], place[n_axes:]
        at = [x + tap for x, tap in zip(a, j, strict=True)]
        return image[(n, g * inners + c, *at)] * kernels[(g * inners + c, o, *phases, *j)]

    extents = (*map(index, strides), *counts)
    made = _grouped(b, input.shape[0], groups, each, inners, extents, taps, input.dtype, factors)

    def result(n: Index, o: Index, *y: Index) -> Expression:
        phases, a = [], []
        for place, (_, _, s, padding, _) in zip(y, window, strict=True):
            phases.append((place + padding) % s)
            a.append((place + padding) // s)
        channel = (o,) if groups == 1 else (o // each, o % each)
        return made[(n, *channel, *phases, *a)]

    outs = [out for out, *_ in window]
    return b.map((input.shape[0], each * groups, *outs), input.dtype, result)
