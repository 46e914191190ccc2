"""Whole contents: fresh tensors of one value, and what ``fill_``, ``zero_``, ``copy_`` write."""

from __future__ import annotations

from typing import Any

import numpy as np

from taimatsu import dtypes
from taimatsu.ir.meta import meta
from taimatsu.ops import coordinates
from taimatsu.ops.base import Operation, register
from taimatsu.ops.casting import converted
from taimatsu.shapes import broadcast_shapes


@register
class Full(Operation):
    """A fresh tensor of one value (a runtime number): what ``zeros``, ``ones``, ``full`` record."""

    name = "full_value"
    hidden = True
    differentiable = False

    def infer(self, value, *, shape, dtype):
        return meta(shape, dtype)

    def reference(self, value, *, shape, dtype):
        return np.full(shape, value, dtype.numpy)

    def evaluate(self, inputs, attributes, metas, outs):
        with np.errstate(all="ignore"):
            value = converted(np.asarray(inputs[0]), attributes["dtype"])
            return (np.full(attributes["shape"], value),)

    def lower(self, b, value, *, shape, dtype):
        extents = [b.extent(n) for n in shape]
        return b.map(extents, dtype.name, lambda *i: coordinates.converted(b, value, dtype.name))


@register
class FillValue(Operation):
    """``input`` with every element replaced by a number; its gradient to ``input`` is zero."""

    backward_name = "FillBackward0"
    hidden = True

    def infer(self, input, value):
        return meta(input.shape, input.dtype)

    def evaluate(self, inputs, attributes, metas, outs):
        with np.errstate(all="ignore"):
            value = converted(np.asarray(inputs[1]), outs[0].dtype)
            return (np.full(tuple(outs[0].shape), value.reshape(())),)

    def lower(self, b, input, value):
        kind = input.dtype
        return b.map(input.shape, kind, lambda *i: coordinates.element(b, value, i, kind))

    def gradient(self, g, out, input, value):
        return (lambda: zeros_of(input), lambda: g.sum())


@register
class ZeroValue(Operation):
    """``input`` with every element replaced by zero."""

    backward_name = "ZeroBackward0"
    hidden = True

    def infer(self, input):
        return meta(input.shape, input.dtype)

    def reference(self, input):
        return np.zeros_like(input)

    def lower(self, b, input):
        return coordinates.filled_stage(b, input.shape, 0, input.dtype)

    def gradient(self, g, out, input):
        return zeros_of(input)


@register
class CopyValue(Operation):
    """``src`` broadcast to ``input``'s shape and cast to its dtype: what ``copy_`` writes."""

    backward_name = "CopyBackwards"
    hidden = True

    def infer(self, input, src):
        if broadcast_shapes(input.shape, src.shape) != input.shape:
            raise self.error(
                f"The expanded size of the tensor must match: {list(src.shape)} cannot be "
                f"broadcast to {list(input.shape)}",
                hint="give one value, or values of the shape written",
            )
        return meta(input.shape, input.dtype)

    def evaluate(self, inputs, attributes, metas, outs):
        with np.errstate(all="ignore"):
            source = converted(np.asarray(inputs[1]), outs[0].dtype)
        return (np.broadcast_to(source, tuple(outs[0].shape)),)

    def lower(self, b, input, src):
        kind = input.dtype
        return b.map(input.shape, kind, lambda *i: coordinates.element(b, src, i, kind))

    def gradient(self, g, out, input, src):
        return (lambda: zeros_of(input), g)


def zeros_of(described: Any) -> Any:
    """Zeros of a tensor's (or Meta's) shape and dtype, as a recorded operation."""
    return Full.apply(0, shape=tuple(described.shape), dtype=described.dtype)


def filled(shape: tuple[int, ...], value: Any, dtype: Any = None) -> Any:
    """A fresh tensor of one value."""
    if dtype is None:
        dtype = dtypes.of_python(value)
    return Full.apply(value, shape=tuple(shape), dtype=dtype)
