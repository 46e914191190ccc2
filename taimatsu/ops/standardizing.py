"""Standardisation: elements less their mean, by their standard deviation, then an affine map.

What batch, instance, layer and group normalisation have in common.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from taimatsu.dtypes import dtype as DType
from taimatsu.dtypes import float32
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index, index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage
from taimatsu.ops.base import register
from taimatsu.ops.coordinates import ravel
from taimatsu.ops.reduced_stages import count_value, fold, mean_of
from taimatsu.ops.reducing import Wide

Shape = tuple[int, ...]


def statistics_type(dtype: DType) -> DType:
    """The dtype of means and variances: float32 for the 16-bit floats."""
    return float32 if dtype.itemsize < 4 else dtype


@register
class Standardize(Wide):
    """(x - mean) / sqrt(var + eps) * weight + bias, with mean and variance over ``axes``.

    The input is seen in the shape ``view``; weight and bias in the shape ``affine``, broadcast
    against it. Gives the result (in the input's shape), the means and the biased variances.
    """

    hidden = True
    outputs = 3
    saves = {
        "input": ("input", "weight", "out[1]", "out[2]"),
        "weight": ("input", "out[1]", "out[2]"),
        "bias": (),
    }

    def infer(
        self,
        input: Meta,
        weight: Meta | None,
        bias: Meta | None,
        *,
        view: Shape,
        axes: Shape,
        affine: Shape,
        eps: float,
        kind: str,
    ) -> tuple[Meta, Meta, Meta]:
        kept = tuple(1 if d in axes else n for d, n in enumerate(view))
        statistics = meta(kept, statistics_type(input.dtype))
        return meta(input.shape, input.dtype), statistics, statistics

    def reference(
        self,
        input: np.ndarray,
        weight: np.ndarray | None,
        bias: np.ndarray | None,
        *,
        view: Shape,
        axes: Shape,
        affine: Shape,
        eps: float,
        kind: str,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x = input.reshape(view)
        with np.errstate(divide="ignore", invalid="ignore"):
            size = x.dtype.type(prod(view[d] for d in axes))
            mean = x.sum(axes, keepdims=True, dtype=np.float64) / size
            mean = mean.astype(x.dtype)
            centred = x - mean
            var = np.square(centred).sum(axes, keepdims=True, dtype=np.float64) / size
            var = var.astype(x.dtype)
            out = centred / np.sqrt(var + x.dtype.type(eps))
        if weight is not None:
            out *= weight.reshape(affine)
        if bias is not None:
            out += bias.reshape(affine)
        return out.reshape(input.shape), mean, var

    def lower(
        self,
        b: Builder,
        input: Any,
        weight: Any,
        bias: Any,
        *,
        view: Shape,
        axes: Shape,
        affine: Shape,
        eps: float,
        kind: str,
    ) -> tuple:
        b.weight(weight)
        b.weight(bias)
        x = _Seen(b, input, view)
        mean = mean_of(b, x, axes, True)  # type: ignore[arg-type]

        def statistic(where: tuple) -> tuple:
            return tuple([index(0) if d in axes else at for d, at in enumerate(where)])

        def squared(*i: Index) -> Expression:
            away = x[i] - mean[statistic(i)]
            return away * away

        total = fold(b, "add", x, axes, True, squared)  # type: ignore[arg-type]
        size = count_value(b, [x.shape[d] for d in axes], x.dtype)
        var = b.map(total.shape, x.dtype, lambda *i: total[i] / size)
        scale = inverse_deviation(b, var, eps)

        def standard(*i: Index) -> Expression:
            at = x.split(i)
            made = (input[i] - mean[statistic(at)]) * scale[statistic(at)]
            if weight is not None:
                made = made * _affine(weight, affine, at)
            return made if bias is None else made + _affine(bias, affine, at)

        return b.map(input.shape, input.dtype, standard), mean, var

    def gradient(
        self,
        g: tuple,
        out: Any,
        input: Any,
        weight: Any,
        bias: Any,
        *,
        view: Shape,
        axes: Shape,
        affine: Shape,
        eps: float,
        kind: str,
    ) -> tuple:
        size = prod(view[d] for d in axes)
        kind_of = statistics_type(input.dtype)
        whole = None if g[0] is None else g[0].reshape(view).to(kind_of)

        def standard() -> Any:
            _, mean, var = out
            return (input.reshape(view).to(kind_of) - mean) * (var + eps).rsqrt()

        def for_input() -> Any:
            total: Any = 0
            if whole is not None:
                x = standard()
                scaled = whole if weight is None else whole * weight.reshape(affine).to(kind_of)
                mean = scaled.mean(axes, keepdim=True)
                along = (scaled * x).mean(axes, keepdim=True)
                total = (scaled - mean - x * along) * (out[2] + eps).rsqrt()
            if g[1] is not None:
                total = total + g[1] / size
            if g[2] is not None:
                total = total + g[2] * (input.reshape(view).to(kind_of) - out[1]) * (2 / size)
            return total.expand(view).reshape(input.shape)

        def for_weight() -> Any:
            return _sum_to(whole * standard(), affine).reshape(weight.shape)

        def for_bias() -> Any:
            return _sum_to(whole, affine).reshape(bias.shape)

        if whole is None:
            return for_input, None, None
        return for_input, for_weight, for_bias

    def backward_name_for(self, inputs: tuple, attributes: dict) -> str:
        return f"Native{attributes['kind']}NormBackward0"


@register
class NormalizeWith(Wide):
    """(x - mean) / sqrt(var + eps) * weight + bias with given statistics, per channel (dim 1)."""

    hidden = True
    backward_name = "NativeBatchNormBackward0"
    saves = {"input": ("weight", "var"), "weight": ("input", "mean", "var"), "bias": ()}

    def infer(
        self,
        input: Meta,
        mean: Meta,
        var: Meta,
        weight: Meta | None,
        bias: Meta | None,
        *,
        eps: float,
    ) -> Meta:
        return meta(input.shape, input.dtype)

    def reference(
        self,
        input: np.ndarray,
        mean: np.ndarray,
        var: np.ndarray,
        weight: np.ndarray | None,
        bias: np.ndarray | None,
        *,
        eps: float,
    ) -> np.ndarray:
        channel = (-1, *(1,) * (input.ndim - 2))
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = 1 / np.sqrt(var + var.dtype.type(eps))
            out = (input - mean.reshape(channel)) * scale.reshape(channel)
        if weight is not None:
            out *= weight.reshape(channel)
        if bias is not None:
            out += bias.reshape(channel)
        return out

    def lower(
        self,
        b: Builder,
        input: Any,
        mean: Any,
        var: Any,
        weight: Any,
        bias: Any,
        *,
        eps: float,
    ) -> Stage:
        for vector in (mean, var, weight, bias):
            b.weight(vector)
        scale = inverse_deviation(b, var, eps)

        def standard(*i: Index) -> Expression:
            channel = i[1]
            made = (input[i] - mean[channel]) * scale[channel]
            if weight is not None:
                made = made * weight[channel]
            return made if bias is None else made + bias[channel]

        return b.map(input.shape, input.dtype, standard)

    def gradient(
        self,
        g: Any,
        out: Any,
        input: Any,
        mean: Any,
        var: Any,
        weight: Any,
        bias: Any,
        *,
        eps: float,
    ) -> tuple:
        channel = (1, -1, *(1,) * (input.ndim - 2))
        others = (0, *range(2, input.ndim))

        def for_input() -> Any:
            scale = (var + eps).rsqrt()
            return g * (scale if weight is None else scale * weight).reshape(channel)

        def for_weight() -> Any:
            standard = (input - mean.reshape(channel)) * (var + eps).rsqrt().reshape(channel)
            return (g * standard).sum(others)

        return for_input, None, None, for_weight, lambda: g.sum(others)


def _sum_to(x: Any, shape: Shape) -> Any:
    """Sums over the dimensions in which ``shape`` has extent 1."""
    axes = tuple(d for d, n in enumerate(shape) if n == 1 and x.shape[d] != 1)
    return x.sum(axes, keepdim=True) if axes else x


# -- stages ------------------------------------------------------------------------------------


class _Seen:
    """An array in the shape that ``Standardize`` sees: its own, or with the channels in groups."""

    def __init__(self, b: Builder, input: Any, view: Shape) -> None:
        self.input = input
        self.dtype = input.dtype
        self.in_groups = len(view) > len(input.shape)
        self.shape = input.shape
        if self.in_groups:
            samples, channels, *rest = input.shape
            self.each = b.known(channels) // view[1]  # channels of a group
            self.shape = (samples, index(view[1]), index(self.each), *rest)

    def split(self, where: tuple) -> tuple:
        """A place of the array as one of the shape seen."""
        if not self.in_groups:
            return where
        sample, channel, *rest = where
        return (sample, channel // self.each, channel % self.each, *rest)

    def __getitem__(self, where: tuple) -> Expression:
        if self.in_groups:
            sample, group, channel, *rest = where
            where = (sample, group * self.each + channel, *rest)
        found: Expression = self.input[where]
        return found


def inverse_deviation(b: Builder, var: Any, eps: float) -> Stage:
    """1 / sqrt(var + eps), once for each variance."""
    return b.map(var.shape, var.dtype, lambda *i: 1 / b.sqrt(var[i] + eps))


def _affine(vector: Any, affine: Shape, where: tuple) -> Expression:
    """The element of a weight or bias for a place of the shape seen."""
    if len(vector.shape) > 1:  # that of the last dimensions
        found: Expression = vector[where[-len(vector.shape) :]]
        return found
    used = [(at, n) for at, n in zip(where, affine, strict=True) if n != 1]
    return vector[ravel([at for at, _ in used], [n for _, n in used])]
