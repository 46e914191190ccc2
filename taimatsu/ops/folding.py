"""unfold and fold: sliding blocks of images as columns, and columns added up into images."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from taimatsu.errors import OperationError
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index, index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage
from taimatsu.ops.base import Sample, array, composite, register
from taimatsu.ops.convolution_stages import bordered
from taimatsu.ops.coordinates import all_of, chosen, ravel, unravel
from taimatsu.ops.reducing import Wide
from taimatsu.ops.window_stages import Windows
from taimatsu.ops.windows import (
    Extents,
    ntuple,
    overlap_add,
    pad_spatial,
    unpad_spatial,
    window_count,
    windows,
)


@register
class Im2Col(Wide):
    """Sliding blocks: input (N, C, H, W) -> (N, C * kernel elements, blocks)."""

    hidden = True
    backward_name = "Im2ColBackward0"

    def infer(
        self, input: Meta, *, kernel: Extents, dilation: Extents, padding: Extents, stride: Extents
    ) -> Meta:
        blocks = tuple(map(window_count, input.shape[2:], kernel, stride, padding, dilation))
        return meta((input.shape[0], input.shape[1] * prod(kernel), prod(blocks)), input.dtype)

    def reference(
        self,
        input: np.ndarray,
        *,
        kernel: Extents,
        dilation: Extents,
        padding: Extents,
        stride: Extents,
    ) -> np.ndarray:
        blocks = tuple(map(window_count, input.shape[2:], kernel, stride, padding, dilation))
        columns = windows(pad_spatial(input, padding), kernel, stride, dilation, blocks)
        return columns.reshape(len(input), input.shape[1] * prod(kernel), prod(blocks)).copy()

    def lower(
        self,
        b: Builder,
        input: Any,
        *,
        kernel: Extents,
        dilation: Extents,
        padding: Extents,
        stride: Extents,
    ) -> Stage:
        sizes = [n + 2 * p for n, p in zip(input.shape[2:], padding, strict=True)]
        blocks = [
            (n - (d * (k - 1) + 1)) // s + 1
            for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)
        ]
        image = bordered(b, input, padding, sizes)
        samples, channels = input.shape[:2]

        def element(n: Index, column: Index, block: Index) -> Expression:
            channel, *tap = unravel(b, column, (channels, *kernel))
            place = unravel(b, block, blocks)
            at = [y * s + k * d for y, s, k, d in zip(place, stride, tap, dilation, strict=True)]
            return image[(n, channel, *at)]

        shape = (samples, channels * prod(kernel), blocks[0] * blocks[1])
        return b.map(shape, input.dtype, element)

    def gradient(self, g: Any, out: Any, input: Any, **window: Extents) -> Any:
        return Col2Im.apply(g, extents=tuple(input.shape[2:]), **window)


@register
class Col2Im(Wide):
    """The adjoint of ``Im2Col``: overlapping blocks are summed."""

    hidden = True
    backward_name = "Col2ImBackward0"

    def infer(
        self,
        input: Meta,
        *,
        extents: Extents,
        kernel: Extents,
        dilation: Extents,
        padding: Extents,
        stride: Extents,
    ) -> Meta:
        return meta((input.shape[0], input.shape[1] // prod(kernel), *extents), input.dtype)

    def reference(
        self,
        input: np.ndarray,
        *,
        extents: Extents,
        kernel: Extents,
        dilation: Extents,
        padding: Extents,
        stride: Extents,
    ) -> np.ndarray:
        blocks = tuple(map(window_count, extents, kernel, stride, padding, dilation))
        channels = input.shape[1] // prod(kernel)
        columns = input.reshape(len(input), channels, *kernel, *blocks)
        padded = tuple(n + 2 * p for n, p in zip(extents, padding, strict=True))
        summed = overlap_add(columns, padded, stride, dilation)
        return np.ascontiguousarray(unpad_spatial(summed, padding))

    def lower(
        self,
        b: Builder,
        input: Any,
        *,
        extents: Extents,
        kernel: Extents,
        dilation: Extents,
        padding: Extents,
        stride: Extents,
    ) -> Stage:
        blocks = tuple(map(window_count, extents, kernel, stride, padding, dilation))
        window = Windows(b, [b.extent(n) for n in extents], kernel, stride, padding, dilation)

        def part(i: tuple, r: tuple) -> Expression:
            above, number, conditions = window.cover(i[2:], r, [index(n) for n in blocks])
            column = i[1] * prod(kernel) + number
            value = input[i[0], column, ravel(above, blocks)]
            return chosen(b, all_of(b, conditions), value, b.constant(0, input.dtype))

        shape = (input.shape[0], input.shape[1] // prod(kernel), *window.sizes)
        return window.sum_over(shape, input.dtype, part)

    def gradient(self, g: Any, out: Any, input: Any, *, extents: Extents, **window: Extents) -> Any:
        return Im2Col.apply(g, **window)


def _window(name: str, kernel: Any, dilation: Any, padding: Any, stride: Any) -> dict[str, Extents]:
    window = {
        "kernel": ntuple(name, "kernel_size", kernel, 2),
        "dilation": ntuple(name, "dilation", dilation, 2),
        "padding": ntuple(name, "padding", padding, 2),
        "stride": ntuple(name, "stride", stride, 2),
    }
    for word, values in window.items():
        if min(values) < (0 if word == "padding" else 1):
            raise OperationError.make(
                name, f"{word} should be greater than zero, but got {word}={values}"
            )
    return window


def _blocks(window: dict[str, Extents], extents: Extents) -> Extents:
    return tuple(
        map(
            window_count,
            extents,
            window["kernel"],
            window["stride"],
            window["padding"],
            window["dilation"],
        )
    )


@composite(
    "nn.functional.unfold",
    samples=lambda: iter(
        [Sample(array(2, 3, 5, 6), (2, 3), padding=1, stride=2), Sample(array(3, 5, 6), 2)]
    ),
)
def unfold(
    input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Any:
    """Sliding blocks of (N, C, H, W) or (C, H, W) as columns: (N, C * kernel elements, blocks)."""
    if input.ndim not in (3, 4) or 0 in input.shape[-3:]:
        raise OperationError.make(
            "unfold",
            "Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and other non-zero "
            f"dimensions for input, but got: {list(input.shape)}",
        )
    window = _window("unfold", kernel_size, dilation, padding, stride)
    extents = tuple(input.shape[-2:])
    blocks = _blocks(window, extents)
    if min(blocks) < 1:
        raise OperationError.make(
            "unfold",
            f"Given input with spatial size {extents}, kernel_size={window['kernel']}, "
            f"dilation={window['dilation']}, padding={window['padding']}, calculated shape of the "
            f"array of sliding blocks as {blocks}, but its components must be at least one.",
        )
    if input.ndim == 3:
        return Im2Col.apply(input.unsqueeze(0), **window).squeeze(0)
    return Im2Col.apply(input, **window)


@composite(
    "nn.functional.fold",
    samples=lambda: iter(
        [Sample(array(2, 12, 12), (4, 5), 2), Sample(array(8, 4), (4, 4), 2, stride=2)]
    ),
)
def fold(
    input: Any,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Any:
    """Columns (N, C * kernel elements, blocks) added up into an image (N, C, *output_size)."""
    if input.ndim not in (2, 3):
        raise OperationError.make(
            "fold",
            "Expected 2D or 3D (batch mode) tensor for input with possibly 0 batch size and "
            f"non-zero dimensions for input, but got: {list(input.shape)}",
        )
    window = _window("fold", kernel_size, dilation, padding, stride)
    extents = ntuple("fold", "output_size", output_size, 2)
    if input.shape[-2] % prod(window["kernel"]):
        raise OperationError.make(
            "fold",
            "Expected size of input's dimension 1 to be divisible by the product of kernel_size, "
            f"but got input.size(1)={input.shape[-2]} and kernel_size={window['kernel']}.",
        )
    blocks = _blocks(window, extents)
    if min(blocks) < 1 or input.shape[-1] != prod(blocks):
        raise OperationError.make(
            "fold",
            f"Given output_size={extents}, kernel_size={window['kernel']}, "
            f"dilation={window['dilation']}, padding={window['padding']}, "
            f"stride={window['stride']}, expected size of input's dimension 2 to match the "
            f"calculated number of sliding blocks {' * '.join(map(str, blocks))} = {prod(blocks)}, "
            f"but got input.size(2)={input.shape[-1]}.",
        )
    if input.ndim == 2:
        return Col2Im.apply(input.unsqueeze(0), extents=extents, **window).squeeze(0)
    return Col2Im.apply(input, extents=extents, **window)
