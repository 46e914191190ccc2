"""Convolutions in one, two and three dimensions, and their transposes.

There are two operations. ``Convolution`` maps image and kernel to an image, along or against the
windows (``transposed``); ``ConvolutionWeight`` maps two images to the kernel's gradient. The three
are the partial derivatives of one trilinear form, so each one's gradients are the two others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np

from taimatsu.errors import OperationError
from taimatsu.ir.builder import Builder
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage
from taimatsu.ops.base import Sample, array, composite, register
from taimatsu.ops.convolution_rules import (
    check_channels,
    check_types,
    check_window,
    convolved_extents,
    transposed_extents,
)
from taimatsu.ops.convolution_stages import correlation, weight_gradient, with_bias
from taimatsu.ops.convolution_stages import transposed as transposed_stages
from taimatsu.ops.coordinates import is_empty
from taimatsu.ops.padding import pad
from taimatsu.ops.reducing import Wide
from taimatsu.ops.windows import (
    Extents,
    batched,
    ntuple,
    overlap_add,
    pad_spatial,
    sample_chunks,
    unpad_spatial,
    window_count,
    windows,
)


@register
class Convolution(Wide):
    """Cross-correlation of images with kernels, or (``transposed``) its adjoint.

    input (N, C, *spatial), weight (O, C / groups, *kernel), bias (O,) -> (N, O, *out).
    Transposed: weight (C, O / groups, *kernel), as the gradient of a convolution for its input
    takes it. Dumoulin and Visin, "A guide to convolution arithmetic for deep learning" (2016).
    """

    hidden = True
    saves = {"input": ("weight",), "weight": ("input",), "bias": ()}

    def infer(
        self,
        input: Meta,
        weight: Meta,
        bias: Meta | None,
        *,
        stride: Extents,
        padding: Extents,
        dilation: Extents,
        transposed: bool,
        output_padding: Extents,
        groups: int,
    ) -> Meta:
        name = f"conv{'_transpose' * transposed}{len(stride)}d"
        check_channels(name, input, weight, bias, transposed, groups)
        check_types(name, input.dtype, weight.dtype, bias and bias.dtype)
        kernel = weight.shape[2:]
        if transposed:
            channels = weight.shape[1] * groups
            extents = transposed_extents(
                name, input, kernel, stride, padding, dilation, output_padding
            )
        else:
            channels = weight.shape[0]
            extents = convolved_extents(name, input, kernel, stride, padding, dilation)
        return meta((input.shape[0], channels, *extents), input.dtype)

    def reference(
        self,
        input: np.ndarray,
        weight: np.ndarray,
        bias: np.ndarray | None,
        *,
        stride: Extents,
        padding: Extents,
        dilation: Extents,
        transposed: bool,
        output_padding: Extents,
        groups: int,
    ) -> np.ndarray:
        if transposed:
            out = _spread(input, weight, stride, padding, dilation, output_padding, groups)
        else:
            out = _correlate(input, weight, stride, padding, dilation, groups)
        if bias is not None:
            out += bias.reshape(-1, *(1,) * len(stride))
        return out

    def lower(
        self,
        b: Builder,
        input: Any,
        weight: Any,
        bias: Any,
        *,
        stride: Extents,
        padding: Extents,
        dilation: Extents,
        transposed: bool,
        output_padding: Extents,
        groups: int,
    ) -> Any:
        b.weight(weight)
        b.weight(bias)
        if is_empty(input.shape) or is_empty(weight.shape):
            return None  # no place to read from
        window = (stride, padding, dilation)
        if transposed:
            made = transposed_stages(b, input, weight, *window, output_padding, groups)
        else:
            made = correlation(b, input, weight, *window, groups)
        return with_bias(b, made, bias)

    def gradient(
        self,
        g: Any,
        out: Any,
        input: Any,
        weight: Any,
        bias: Any,
        *,
        stride: Extents,
        padding: Extents,
        dilation: Extents,
        transposed: bool,
        output_padding: Extents,
        groups: int,
    ) -> tuple:
        window = {"stride": stride, "padding": padding, "dilation": dilation}

        def for_input() -> Any:
            kernel = conjugate(weight)
            if transposed:
                found = convolve(g, kernel, groups=groups, **window)
                return _narrowed(found, input.shape[2:])
            return convolve_transposed(g, kernel, input.shape[2:], groups=groups, **window)

        def for_weight() -> Any:
            image, of = (g, conjugate(input)) if transposed else (conjugate(input), g)
            return ConvolutionWeight.apply(
                image, of, kernel=tuple(weight.shape[2:]), groups=groups, **window
            )

        def for_bias() -> Any:
            return g.sum((0, *range(2, g.ndim)))

        return for_input, for_weight, for_bias


@register
class ConvolutionWeight(Wide):
    """The gradient of a convolution for its weight.

    input (N, C, *spatial), g (N, O, *out) -> (O, C / groups, *kernel).
    """

    hidden = True
    backward_name = "ConvolutionBackwardBackward0"
    saves = {"input": ("g",), "g": ("input",)}

    def infer(
        self,
        input: Meta,
        g: Meta,
        *,
        kernel: Extents,
        groups: int,
        stride: Extents,
        padding: Extents,
        dilation: Extents,
    ) -> Meta:
        return meta((g.shape[1], input.shape[1] // groups, *kernel), input.dtype)

    def reference(
        self,
        input: np.ndarray,
        g: np.ndarray,
        *,
        kernel: Extents,
        groups: int,
        stride: Extents,
        padding: Extents,
        dilation: Extents,
    ) -> np.ndarray:
        samples, channels = input.shape[:2]
        outs, extents = g.shape[1], g.shape[2:]
        unrolled = (channels // groups * prod(kernel), prod(extents))
        padded = pad_spatial(input, padding)
        total = np.zeros((groups, outs // groups, unrolled[0]), input.dtype)
        if not padded.size or not g.size:
            samples = 0
        for part in sample_chunks(samples, groups * prod(unrolled) * input.itemsize):
            columns = windows(padded[part], kernel, stride, dilation, extents)
            columns = columns.reshape(-1, groups, *unrolled)
            of = g[part].reshape(-1, groups, outs // groups, unrolled[1])
            total += np.matmul(of, columns.swapaxes(2, 3)).sum(0)
        return total.reshape(outs, channels // groups, *kernel)

    def lower(
        self,
        b: Builder,
        input: Any,
        g: Any,
        *,
        kernel: Extents,
        groups: int,
        stride: Extents,
        padding: Extents,
        dilation: Extents,
    ) -> Stage | None:
        if is_empty(input.shape) or is_empty(g.shape):
            return None  # no place to read from
        return weight_gradient(b, input, g, kernel, stride, padding, dilation, groups)

    def gradient(
        self,
        v: Any,
        out: Any,
        input: Any,
        g: Any,
        *,
        kernel: Extents,
        groups: int,
        stride: Extents,
        padding: Extents,
        dilation: Extents,
    ) -> tuple:
        window = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}

        def for_input() -> Any:
            return convolve_transposed(conjugate(g), v, input.shape[2:], **window)

        def for_g() -> Any:
            return _narrowed(convolve(conjugate(input), v, **window), g.shape[2:])

        return for_input, for_g


def conjugate(x: Any) -> Any:
    """The complex conjugate; a real tensor is its own."""
    return x.conj() if x.dtype.is_complex else x


def convolve(
    input: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Extents,
    padding: Extents,
    dilation: Extents,
    groups: int,
) -> Any:
    """Records a convolution; arguments as the operation takes them."""
    return Convolution.apply(
        input,
        weight,
        bias,
        stride=stride,
        padding=padding,
        dilation=dilation,
        transposed=False,
        output_padding=(0,) * len(stride),
        groups=groups,
    )


def _narrowed(image: Any, extents: Extents) -> Any:
    """Without the last windows, which an output padding beyond the stride adds."""
    for d, extent in enumerate(extents, 2):
        if image.shape[d] != extent:
            image = image.narrow(d, 0, extent)
    return image


def convolve_transposed(
    g: Any,
    weight: Any,
    extents: Extents,
    *,
    stride: Extents,
    padding: Extents,
    dilation: Extents,
    groups: int,
) -> Any:
    """Records the transposed convolution whose result has these spatial extents."""
    least = (
        (m - 1) * s - 2 * p + d * (k - 1) + 1
        for m, s, p, d, k in zip(
            g.shape[2:], stride, padding, dilation, weight.shape[2:], strict=True
        )
    )
    return Convolution.apply(
        g,
        weight,
        None,
        stride=stride,
        padding=padding,
        dilation=dilation,
        transposed=True,
        output_padding=tuple(n - m for n, m in zip(extents, least, strict=True)),
        groups=groups,
    )


# -- values ------------------------------------------------------------------------------------


def _correlate(
    x: np.ndarray,
    weight: np.ndarray,
    stride: Extents,
    padding: Extents,
    dilation: Extents,
    groups: int,
) -> np.ndarray:
    samples, channels = x.shape[:2]
    outs, kernel = weight.shape[0], weight.shape[2:]
    extents = tuple(map(window_count, x.shape[2:], kernel, stride, padding, dilation))
    inner, places = weight.shape[1] * prod(kernel), prod(extents)
    out = np.zeros((samples, groups, outs // groups, places), x.dtype)
    if inner and out.size:
        padded = pad_spatial(x, padding)
        rows = weight.reshape(groups, outs // groups, inner)
        for part in sample_chunks(samples, channels * prod(kernel) * places * x.itemsize):
            columns = windows(padded[part], kernel, stride, dilation, extents)
            np.matmul(rows, columns.reshape(-1, groups, inner, places), out=out[part])
    return out.reshape(samples, outs, *extents)


def _spread(
    x: np.ndarray,
    weight: np.ndarray,
    stride: Extents,
    padding: Extents,
    dilation: Extents,
    output_padding: Extents,
    groups: int,
) -> np.ndarray:
    samples, channels = x.shape[:2]
    outs, kernel = weight.shape[1] * groups, weight.shape[2:]
    full = tuple(
        (n - 1) * s + d * (k - 1) + 1 + extra
        for n, s, d, k, extra in zip(
            x.shape[2:], stride, dilation, kernel, output_padding, strict=True
        )
    )
    places = prod(x.shape[2:])
    out = np.zeros((samples, outs, *full), x.dtype)
    if x.size and weight.size:
        rows = weight.reshape(groups, channels // groups, -1).swapaxes(1, 2)
        for part in sample_chunks(samples, outs * prod(kernel) * places * x.itemsize):
            values = x[part].reshape(-1, groups, channels // groups, places)
            columns = np.matmul(rows, values).reshape(-1, outs, *kernel, *x.shape[2:])
            out[part] = overlap_add(columns, full, stride, dilation)
    return np.ascontiguousarray(unpad_spatial(out, padding))


# -- public functions --------------------------------------------------------------------------


def _convolution(n: int) -> Callable:
    name = f"conv{n}d"

    def function(
        input: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Any:
        has_batch = batched(name, input, n)
        image = input if has_batch else input.unsqueeze(0)
        strides = ntuple(name, "stride", stride, n)
        dilations = ntuple(name, "dilation", dilation, n)
        if isinstance(padding, str):
            image, paddings = _named_padding(name, image, weight, padding, strides, dilations)
        else:
            paddings = ntuple(name, "padding", padding, n)
        check_window(name, strides, paddings, dilations)
        out = convolve(
            image,
            weight,
            bias,
            stride=strides,
            padding=paddings,
            dilation=dilations,
            groups=groups,
        )
        return out if has_batch else out.squeeze(0)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""{n}-d convolution (cross-correlation) of images with kernels.

    input (N, C, *spatial) or (C, *spatial), weight (O, C / groups, *kernel), bias (O,) give
    (N, O, *out). ``stride``, ``padding`` and ``dilation`` are one int or {n}; ``padding`` may be
    'valid' (none) or 'same' (the input's extents, stride 1). All tensors share one dtype.
    Raises RuntimeError for channels, dtypes and extents that do not fit.
    """
    return function


def _named_padding(
    name: str, image: Any, weight: Any, padding: str, stride: Extents, dilation: Extents
) -> tuple[Any, Extents]:
    """'same' and 'valid': the image (padded once more at the end if need be) and the padding."""
    if padding == "valid":
        return image, (0,) * len(stride)
    if padding != "same":
        raise OperationError.make(
            name, f"Invalid padding string: '{padding}'", hint="use 'same', 'valid' or numbers"
        )
    if max(stride) > 1:
        raise OperationError.make(
            name,
            "padding='same' is not supported for strided convolutions",
            hint="give the padding as a number: kernel_size // 2",
        )
    total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=False)]
    if any(t % 2 for t in total):
        ends: list[int] = []
        for t in reversed(total):
            ends += (0, t % 2)
        image = pad(image, tuple(ends))
    return image, tuple(t // 2 for t in total)


def _transposed_convolution(n: int) -> Callable:
    name = f"conv_transpose{n}d"

    def function(
        input: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Any:
        has_batch = batched(name, input, n)
        strides = ntuple(name, "stride", stride, n)
        paddings = ntuple(name, "padding", padding, n)
        dilations = ntuple(name, "dilation", dilation, n)
        extra = ntuple(name, "output_padding", output_padding, n)
        check_window(name, strides, paddings, dilations)
        if any(e < 0 or e >= max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
            raise OperationError.make(
                name,
                "output padding must be smaller than either stride or dilation",
                f"got output_padding={list(extra)}, stride={list(strides)}, "
                f"dilation={list(dilations)}",
            )
        out = Convolution.apply(
            input if has_batch else input.unsqueeze(0),
            weight,
            bias,
            stride=strides,
            padding=paddings,
            dilation=dilations,
            transposed=True,
            output_padding=extra,
            groups=groups,
        )
        return out if has_batch else out.squeeze(0)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""{n}-d transposed convolution: the adjoint of ``conv{n}d``.

    input (N, C, *spatial) or (C, *spatial), weight (C, O / groups, *kernel), bias (O,) give
    (N, O, *out) with out = (in - 1) * stride - 2 * padding + dilation * (kernel - 1)
    + output_padding + 1. Raises RuntimeError for what does not fit.
    """
    return function


def _conv_samples(n: int) -> Callable[[], Iterator[Sample]]:
    def samples() -> Iterator[Sample]:
        spatial, kernel = (6, 5, 4)[:n], (3, 2, 2)[:n]
        yield Sample(array(2, 3, *spatial), array(4, 3, *kernel), array(4))
        yield Sample(array(2, 3, *spatial), array(4, 3, *kernel), None, stride=2, padding=1)
        yield Sample(array(2, 4, *spatial), array(6, 2, *kernel), array(6), groups=2, dilation=2)
        yield Sample(array(3, *spatial), array(4, 3, *kernel), array(4), padding="same")

    return samples


def _transposed_samples(n: int) -> Callable[[], Iterator[Sample]]:
    def samples() -> Iterator[Sample]:
        spatial, kernel = (4, 3, 3)[:n], (3, 2, 2)[:n]
        yield Sample(array(2, 4, *spatial), array(4, 3, *kernel), array(3))
        yield Sample(
            array(2, 4, *spatial),
            array(4, 3, *kernel),
            array(6),
            stride=2,
            padding=1,
            output_padding=1,
            groups=2,
        )
        yield Sample(array(2, 4, *(2, 1, 2)[:n]), array(4, 3, *(4, 3, 4)[:n]), array(3), padding=1)

    return samples


def _public(function: Callable, samples: Callable) -> Any:
    name = function.__name__
    return composite(name, f"nn.functional.{name}", methods=(), samples=samples)(function)


conv1d, conv2d, conv3d = (_public(_convolution(n), _conv_samples(n)) for n in (1, 2, 3))
conv_transpose1d, conv_transpose2d, conv_transpose3d = (
    _public(_transposed_convolution(n), _transposed_samples(n)) for n in (1, 2, 3)
)
