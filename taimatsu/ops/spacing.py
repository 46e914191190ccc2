"""Evenly spaced numbers in compiled code: what long ``linspace`` and ``arange`` are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from taimatsu import dtypes, recorder
from taimatsu.generator.fma import fma
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage, View
from taimatsu.ops.base import Operation, register
from taimatsu.ops.normals import made_at_once


def spaced(first: float, step: float, last: float, count: int) -> Any:
    """A new tensor of ``count`` float32 numbers; see ``Spaced``."""
    return made_at_once(Spaced, _shaped(count), first, step, last)


def stepped(start: float, step: float, count: int, kind: Any) -> Any:
    """A new tensor of ``count`` numbers, float32 or float64; see ``Stepped``."""
    return made_at_once(Stepped, _shaped(count), float(start), float(step), dtype=kind)


def _shaped(count: int) -> Any:
    """One number that stands for ``count``: this is then the extent of an input, and programs are
    good for others.
    """
    one = recorder.Storage(np.zeros(1, np.float32))
    return recorder.make_tensor(meta((count,), dtypes.float32, (0,)), one)


def halves(first: Any, step: Any, last: Any, count: int, begin: int, end: int) -> np.ndarray:
    """Numbers ``begin`` to ``end`` of ``count``, as PyTorch computes them: those of the first half
    from the first number, the others from the last, each with one rounding.
    """
    index = np.arange(begin, end)
    half = count // 2
    if end <= half and begin < end:
        return fma(index.astype(step.dtype), step, first)
    high = fma((count - 1 - index).astype(step.dtype), -step, last)
    if begin >= half:
        return high
    return np.where(index < half, fma(index.astype(step.dtype), step, first), high)


@register
class Spaced(Operation):
    """``first + i * step`` in the first half, ``last - (count - 1 - i) * step`` in the second.

    ``shaped`` has as many elements; they are not read.
    """

    hidden = True
    differentiable = False

    def infer(self, shaped: Any, first: float, step: float, last: float) -> Meta:
        return meta(shaped.shape, dtypes.float32)

    def reference(self, shaped: np.ndarray, first: float, step: float, last: float) -> np.ndarray:
        numbers = np.float32(first), np.float32(step), np.float32(last)
        return halves(*numbers, len(shaped), 0, len(shaped))

    def lower(
        self, b: Builder, shaped: View, first: Expression, step: Expression, last: Expression
    ) -> Stage:
        count = shaped.shape[0]
        begin, distance, end = (b.cast(number, "float32") for number in (first, step, last))

        def single(place: Index) -> Expression:
            return b.cast(b.index(place), "float32")

        def element(i: Index) -> Expression:
            low = b.fused(single(i), distance, begin)
            high = b.fused(single(count - 1 - i), -distance, end)
            return b.where(b.index(i) < b.index(count // 2), low, high)

        return b.map([count], "float32", element)


@register
class Stepped(Operation):
    """``start + i * step``, computed in float64.

    ``shaped`` has as many elements; they are not read.
    """

    hidden = True
    differentiable = False

    def infer(self, shaped: Any, start: float, step: float, *, dtype: Any) -> Meta:
        return meta(shaped.shape, dtype)

    def reference(self, shaped: np.ndarray, start: float, step: float, *, dtype: Any) -> np.ndarray:
        return (start + np.arange(len(shaped), dtype=np.float64) * step).astype(dtype.numpy)

    def lower(
        self, b: Builder, shaped: View, start: Expression, step: Expression, *, dtype: Any
    ) -> Stage:
        def element(i: Index) -> Expression:
            return b.cast(b.cast(b.index(i), "float64") * step + start, dtype.name)

        return b.map([shaped.shape[0]], dtype.name, element)
