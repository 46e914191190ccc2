"""Regions of memory: views with any strides, writes into them, and their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from taimatsu import recorder
from taimatsu.ir.meta import meta
from taimatsu.ops.base import Operation, register
from taimatsu.ops.coordinates import is_empty
from taimatsu.ops.filling import filled, zeros_of
from taimatsu.ops.region_stages import replaced_region
from taimatsu.ops.view_base import ViewOperation, shape_arguments, view_samples


@register
class AsStrided(ViewOperation):
    """Elements at ``offset + sum(index * stride)`` of the storage."""

    parameters = ("input", "start")
    samples = view_samples(((2, 2), (1, 2), 1), ((3,), (4,)), size=(4, 4))

    def __call__(self, input, size, stride, storage_offset=None):
        size, stride = shape_arguments((size,)), shape_arguments((stride,))
        start = input._offset if storage_offset is None else int(storage_offset)
        if len(size) != len(stride):
            raise self.error("mismatch in length of strides and shape")
        if any(s < 0 for s in stride):
            raise self.error("as_strided: Negative strides are not supported at the moment")
        if all(size):
            last = start + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
            available = recorder.storage_size(input)
            if last >= available or start < 0:
                raise self.error(
                    f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset "
                    f"{start} are out of bounds for storage of size {available} elements"
                )
        return self.make(input, start - input._offset, size=size, stride=stride)

    def layout(self, input, *, size, stride):
        return meta(size, input.dtype, stride)

    def shift(self, input, start, *, size, stride):
        return start

    def gradient(self, g, out, input, start, *, size, stride):
        if not input.contiguous or start < 0:
            raise self.error(
                "the gradient of as_strided needs a contiguous input that holds the whole view",
                hint="call .contiguous() first",
            )
        flat = g.new_zeros(input.numel)
        positions = recorder.constant(region_positions(size, stride)) + start
        return flat.index_add(0, positions.reshape(-1), g.reshape(-1)).reshape(input.shape)


def region_positions(size: Sequence[int], stride: Sequence[int]) -> np.ndarray:
    """Flat positions (int64, of shape ``size``) that a layout sees."""
    positions = np.zeros(tuple(size), np.int64)
    for axis, (n, s) in enumerate(zip(size, stride, strict=True)):
        shape = [1] * len(size)
        shape[axis] = n
        positions += (np.arange(n, dtype=np.int64) * s).reshape(shape)
    return positions


def overlaps(size: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether a layout may see an element twice (expanded dimensions, windows)."""
    reach = 0
    pairs = zip(stride, size, strict=True)
    for step, extent in sorted(p for p in pairs if p[1] > 1):
        if step <= reach:
            return True
        reach += step * (extent - 1)
    return False


@register
class RegionScatter(Operation):
    """A copy of ``input`` with the elements that a layout sees replaced by ``src``.

    The layout is a start and strides over ``input`` in row-major order. ``boxed`` promises that no
    dimension of it leads beyond the end of the dimensions of ``input`` that it runs along, as
    slices, integer indices and diagonals do not.
    """

    hidden = True

    def infer(self, input, src, start, *, stride, boxed=False):
        return meta(input.shape, input.dtype)

    def reference(self, input, src, start, *, stride, boxed=False):
        result = np.array(input, order="C")
        flat = result.reshape(-1)
        recorder.window(flat, src.shape, stride, start)[...] = src
        return result

    def lower(self, b, input, src, start, *, stride, boxed=False):
        if is_empty(src.shape):
            return b.stage(input)
        return replaced_region(b, input, src, start, stride, boxed)

    def gradient(self, g, out, input, src, start, *, stride, boxed=False):
        whole = g.contiguous()
        region = Region.make(whole, start, size=tuple(src.shape), stride=stride, boxed=boxed)

        def rest():
            zeros = zeros_of(region)
            return RegionScatter.apply(whole, zeros, start, stride=stride, boxed=boxed)

        return rest, region


@register
class Region(ViewOperation):
    """A region of a contiguous tensor; the inverse of ``RegionScatter``."""

    name = "region"
    backward_name = "AsStridedBackward0"
    hidden = True
    parameters = ("input", "start")

    def layout(self, input, *, size, stride, boxed=False):
        return meta(size, input.dtype, stride)

    def shift(self, input, start, *, size, stride, boxed=False):
        return start

    def gradient(self, g, out, input, start, *, size, stride, boxed=False):
        if not overlaps(size, stride):
            return put_region(g, input, stride, start, boxed)
        positions = recorder.constant(region_positions(size, stride).reshape(-1)) + start
        flat = g.new_zeros(input.numel)
        return flat.index_add(0, positions, g.reshape(-1)).reshape(input.shape)


@register
class CopySlices(ViewOperation):
    """A base after a write through a view of it: a step of the graph without computation.

    Inputs: the base as it was, the values written, where the view starts (in row-major order).
    """

    hidden = True
    backward_name = "CopySlices"
    parameters = ("input", "src", "start")

    def gradient(self, g, out, input, src, start, *, size, stride, order, boxed):
        whole = g.permute(order).contiguous()
        back = tuple(int(i) for i in np.argsort(order))
        region = Region.make(whole, start, size=size, stride=stride, boxed=boxed)

        def rest():
            zeros = zeros_of(region)
            cleared = RegionScatter.apply(whole, zeros, start, stride=stride, boxed=boxed)
            return cleared.permute(back)

        return rest, region


def put_region(g: Any, whole: Any, stride: tuple[int, ...], start: int, boxed: bool = False) -> Any:
    """Zeros of ``whole``'s shape with ``g`` where a view (row-major strides) saw it."""
    zeros = filled(tuple(whole.shape), 0, g.dtype)
    return RegionScatter.apply(zeros, g, start, stride=tuple(stride), boxed=boxed)


@register
class UnfoldWindows(ViewOperation):
    """The windows that ``Tensor.unfold`` gives."""

    hidden = True
    backward_name = "UnfoldBackward0"

    def layout(self, input, *, dim, size, step):
        if input.ndim == 0:
            return meta((size,), input.dtype, (1,))
        shape, strides = list(input.shape), list(input.strides)
        shape[dim] = (shape[dim] - size) // step + 1
        strides[dim] *= step
        return meta([*shape, size], input.dtype, (*strides, input.strides[dim]))

    def gradient(self, g, out, input, *, dim, size, step):
        plain = meta(input.shape, input.dtype)
        target = self.layout(plain, dim=dim, size=size, step=step)
        positions = recorder.constant(region_positions(target.shape, target.strides))
        flat = g.new_zeros(input.numel)
        return flat.index_add(0, positions.reshape(-1), g.reshape(-1)).reshape(input.shape)
