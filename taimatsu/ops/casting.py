"""Copies: to another dtype, and in the same one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from taimatsu import dtypes
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Var
from taimatsu.ir.meta import Meta, meta
from taimatsu.ops.base import Sample, array, integers, register
from taimatsu.ops.coordinates import element
from taimatsu.ops.elementwise import Unary, complex_array, is_complex, spread
from taimatsu.shapes import contiguous_strides, dense_strides

_CHANNELS_LAST = {"channels_last": (4, (1, 3, 2, 0)), "channels_last_3d": (5, (1, 4, 3, 2, 0))}


@register
class Cast(Unary):
    """A copy in another dtype; what ``Tensor.to(dtype)`` records."""

    name = "to_copy"
    backward_name = "ToCopyBackward0"
    hidden = True

    def infer(self, input: Any, *, dtype: dtypes.dtype) -> Meta:
        return spread(dtype, [input])

    def evaluate(self, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> tuple:
        with np.errstate(all="ignore"):
            return (converted(np.asarray(inputs[0]), attributes["dtype"]),)

    def operand_at(
        self, b: Builder, x: Any, axes: Sequence[Var], compute: dtypes.dtype
    ) -> Expression:
        return element(b, x, axes, compute.name)

    def lower(self, b: Builder, input: Expression, *, dtype: dtypes.dtype) -> Expression:
        return input

    def gradient(self, g: Any, out: Any, input: Any, *, dtype: dtypes.dtype) -> Any:
        if is_complex(g) and not is_complex(input):
            g = g.real
        return g if g.dtype is input.dtype else self.apply(g, dtype=input.dtype)


def converted(x: np.ndarray, dtype: dtypes.dtype) -> np.ndarray:
    """A copy of ``x`` in ``dtype`` by PyTorch's rules.

    Imaginary parts are dropped, fractions cut off; what does not fit a small integer type keeps
    its low bits, as C's conversion through a wide integer does.
    """
    if x.dtype.kind == "c" and not dtype.is_complex:
        x = x != 0 if dtype is dtypes.bool_ else x.real
    if x.dtype.kind not in "biuc" and dtype.category == dtypes.INTEGER and dtype.itemsize < 4:
        x = x.astype(np.int64)
    return x.astype(dtype.numpy)


@register
class Clone(Unary):
    """A copy. ``memory_format`` chooses the order in memory; by default it stays as it is."""

    def infer(self, input: Any, *, memory_format: str = "preserve_format") -> Meta:
        if memory_format == "preserve_format":
            return spread(input.dtype, [input])
        if memory_format == "contiguous_format":
            return meta(input.shape, input.dtype, contiguous_strides(input.shape))
        ndim, order = _CHANNELS_LAST[memory_format]
        if input.ndim != ndim:
            raise self.error(
                f"required rank {ndim} tensor to use {memory_format} format",
                f"{input.ndim} dimensions",
            )
        return meta(input.shape, input.dtype, dense_strides(input.shape, order))

    def __call__(self, input: Any, *, memory_format: Any = None) -> Any:
        if memory_format is None:
            return self.apply(input)
        return self.apply(input, memory_format=str(memory_format).removeprefix("torch."))

    def evaluate(self, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> tuple:
        return (np.array(inputs[0]),)

    def lower(
        self, b: Builder, input: Expression, *, memory_format: str = "preserve_format"
    ) -> Expression:
        return input

    def gradient(self, g: Any, out: Any, input: Any, **attributes: Any) -> Any:
        return g

    def samples(self) -> Iterator[Sample]:
        yield Sample(array(3, 4), dtypes=("float32", "float64"))
        yield Sample(array(2, 3, 4).transpose(2, 0, 1))
        yield Sample(integers(3))
        yield Sample(complex_array(3))
