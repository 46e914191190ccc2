"""Losses that compare input and target element by element."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from math import log, pi
from typing import Any, ClassVar

import numpy as np

from taimatsu import recorder
from taimatsu.dtypes import result_type
from taimatsu.errors import OperationError
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage
from taimatsu.ops.base import Operation, Sample, array, composite, register
from taimatsu.ops.classification_losses import reduced, reduction_of
from taimatsu.ops.coordinates import broadcast_at, broadcast_extents, count_of
from taimatsu.ops.filling import filled
from taimatsu.ops.reduced_stages import converted_view, in_result_dtype, value_of
from taimatsu.ops.reducing import compute_dtype
from taimatsu.shapes import broadcast_shapes, count


class PointwiseLoss(Operation, abstract=True):
    """Base: an elementwise loss of input and target (broadcast), then their mean or sum.

    A subclass gives ``pointwise`` on arrays and ``slopes`` (the derivatives) on tensors.
    """

    hidden = True
    saves: ClassVar[tuple[str, ...]] = ("input", "target")

    def infer(self, input: Meta, target: Meta, *, reduction: str, parameter: float = 0) -> Meta:
        return self._result(input, target, reduction)

    def _result(self, input: Meta, target: Meta, reduction: str) -> Meta:
        kind = result_type(input, target)
        if not kind.is_floating_point:
            raise self.error(
                f"\"{self.name}\" not implemented for '{kind.scalar_type}'",
                hint="convert input and target: x.float()",
                kind=NotImplementedError,
            )
        shape = broadcast_shapes(input.shape, target.shape)
        return meta(shape if reduction == "none" else (), kind)

    def evaluate(self, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> tuple:
        kind = compute_dtype(outs[0].dtype)
        cast = [x if x is None else np.asarray(x).astype(kind, copy=False) for x in inputs]
        return (np.asarray(self.reference(*cast, **attributes)).astype(outs[0].dtype.numpy),)

    def reference(self, *inputs: Any, reduction: str, **parameters: Any) -> np.ndarray:
        loss = np.asarray(self.pointwise(*inputs, **parameters))
        if reduction == "none":
            return loss
        with np.errstate(divide="ignore", invalid="ignore"):
            total = np.ascontiguousarray(loss).reshape(-1).sum()
            return total / loss.dtype.type(loss.size) if reduction == "mean" else total

    def pointwise(self, *inputs: np.ndarray, **parameters: Any) -> np.ndarray:
        raise NotImplementedError

    def stages(self, b: Any, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> Any:
        kind = str(compute_dtype(outs[0].dtype))
        cast = tuple([converted_view(x, kind) for x in inputs])
        made = super().stages(b, cast, attributes, metas, outs)
        return made and (in_result_dtype(b, made[0], outs[0].dtype.name),)

    def lower(self, b: Builder, *inputs: Any, reduction: str, **parameters: Any) -> Stage:
        present = [x for x in inputs if x is not None]
        kind = present[0].dtype
        shape = broadcast_extents([x.shape for x in present])
        conditions: list[Expression] = []

        def loss(*i: Index) -> Expression:
            elements = [None if x is None else broadcast_at(x, i) for x in inputs]
            conditions.extend(self.conditions(b, *elements))
            return self.pointwise_stages(b, *elements, **parameters)

        if reduction == "none" or not shape:
            made = b.map(shape, kind, loss)
        else:
            made = b.reduce("add", (), shape, kind, lambda i, r: loss(*r))
        b.check(made, conditions, self.refusal)
        if reduction != "mean":
            return made
        size = value_of(b, count_of(shape), kind)
        return b.map((), kind, lambda: made[()] / size)

    refusal = ""  # what the error says where a condition does not hold

    def conditions(self, b: Builder, *inputs: Any) -> list[Expression]:
        """What must hold for elements."""
        return []

    def pointwise_stages(self, b: Builder, *inputs: Any, **parameters: Any) -> Expression:
        """``pointwise`` for lowering rules."""
        raise NotImplementedError

    def gradient(self, g: Any, out: Any, *inputs: Any, reduction: str, **parameters: Any) -> tuple:
        if reduction == "mean":
            g = g / count(broadcast_shapes(inputs[0].shape, inputs[1].shape))
        return self.slopes(g, *inputs, **parameters)

    def slopes(self, g: Any, *inputs: Any, **parameters: Any) -> tuple:
        raise NotImplementedError


def loss_samples(**parameters: Any) -> Any:
    """Samples of a loss: each reduction."""

    def samples() -> Iterator[Sample]:
        for reduction in ("mean", "sum", "none"):
            yield Sample(array(3, 4), array(3, 4, seed=1), reduction=reduction, **parameters)

    return samples


@register
class MseLoss(PointwiseLoss):
    """(input - target) ** 2."""

    hidden = True

    def pointwise(self, input: Any, target: Any, parameter: float = 0) -> np.ndarray:
        return np.square(input - target)

    def pointwise_stages(self, b: Builder, input: Any, target: Any, parameter: float = 0) -> Any:
        gap = input - target
        return gap * gap

    def slopes(self, g: Any, input: Any, target: Any, parameter: float = 0) -> tuple:
        def slope() -> Any:
            return g * (input - target) * 2

        return slope, lambda: -slope()


@register
class SmoothL1Loss(PointwiseLoss):
    """Square below ``parameter`` (beta), absolute difference above."""

    hidden = True

    def pointwise(self, input: Any, target: Any, parameter: float = 0) -> np.ndarray:
        gap = np.abs(input - target)
        return np.where(gap < parameter, 0.5 * gap * gap / parameter, gap - 0.5 * parameter)

    def pointwise_stages(self, b: Builder, input: Any, target: Any, parameter: float = 0) -> Any:
        gap = b.abs(input - target)
        return b.where(gap < parameter, 0.5 * gap * gap / parameter, gap - 0.5 * parameter)

    def slopes(self, g: Any, input: Any, target: Any, parameter: float = 0) -> tuple:
        def slope() -> Any:
            return g * ((input - target) / parameter).clamp(-1, 1)

        return slope, lambda: -slope()


@register
class HuberLoss(PointwiseLoss):
    """Half the square below ``parameter`` (delta), a line above. Huber 1964."""

    hidden = True

    def pointwise(self, input: Any, target: Any, parameter: float = 0) -> np.ndarray:
        gap = np.abs(input - target)
        return np.where(gap <= parameter, 0.5 * gap * gap, parameter * (gap - 0.5 * parameter))

    def pointwise_stages(self, b: Builder, input: Any, target: Any, parameter: float = 0) -> Any:
        gap = b.abs(input - target)
        return b.where(gap <= parameter, 0.5 * gap * gap, parameter * (gap - 0.5 * parameter))

    def slopes(self, g: Any, input: Any, target: Any, parameter: float = 0) -> tuple:
        def slope() -> Any:
            return g * (input - target).clamp(-parameter, parameter)

        return slope, lambda: -slope()


@register
class BinaryCrossEntropy(PointwiseLoss):
    """-(t log x + (1 - t) log(1 - x)) * weight, logarithms at least -100."""

    hidden = True
    saves = ("input", "target", "weight")

    def infer(self, input: Meta, target: Meta, weight: Meta | None, *, reduction: str) -> Meta:
        if target.dtype is not input.dtype:
            raise self.error(
                f"Found dtype {target.dtype.scalar_type} but expected {input.dtype.scalar_type}",
                hint="the target should have the input's dtype: target.float()",
            )
        return self._result(input, target, reduction)

    def refuse_outside(self, input: np.ndarray) -> None:
        """RuntimeError for values that are no probabilities."""
        if input.size and not (input.min() >= 0 and input.max() <= 1):
            raise self.error(
                "all elements of input should be between 0 and 1",
                f"values from {input.min()} to {input.max()}",
                "apply a sigmoid first, or use binary_cross_entropy_with_logits",
            )

    def pointwise(self, input: Any, target: Any, weight: Any) -> np.ndarray:
        self.refuse_outside(input)
        with np.errstate(divide="ignore"):
            log_one = np.maximum(np.log(input), -100)
            log_zero = np.maximum(np.log1p(-input), -100)
        loss = (target - 1) * log_zero - target * log_one
        return loss if weight is None else loss * weight

    refusal = "all elements of input should be between 0 and 1"

    def conditions(self, b: Builder, input: Any, target: Any, weight: Any) -> list[Expression]:
        return [(input >= 0) & (input <= 1)]

    def pointwise_stages(self, b: Builder, input: Any, target: Any, weight: Any) -> Any:
        log_one = b.max(b.log(input), -100)
        log_zero = b.max(b.log1p(-input), -100)
        loss = (target - 1) * log_zero - target * log_one
        return loss if weight is None else loss * weight

    def slopes(self, g: Any, input: Any, target: Any, weight: Any) -> tuple:
        if weight is not None:
            g = g * weight

        def for_input() -> Any:
            return g * (input - target) / ((1 - input) * input).clamp(min=1e-12)

        def for_target() -> Any:
            return g * ((1 - input).log().clamp(min=-100) - input.log().clamp(min=-100))

        return for_input, for_target, None


@register
class BinaryCrossEntropyWithLogits(PointwiseLoss):
    """Binary cross entropy of sigmoid(input), computed stably from the logits."""

    hidden = True
    saves = ("input", "target", "weight", "pos_weight")

    def infer(
        self,
        input: Meta,
        target: Meta,
        weight: Meta | None,
        pos_weight: Meta | None,
        *,
        reduction: str,
    ) -> Meta:
        for name, factor in (("weight", weight), ("pos_weight", pos_weight)):
            if factor is not None and broadcast_shapes(factor.shape, input.shape) != input.shape:
                raise self.error(
                    f"{name} must broadcast to the input's shape {list(input.shape)}",
                    f"shape {list(factor.shape)}",
                    "give one number for each class (the last dimension)",
                )
        return self._result(input, target, reduction)

    def pointwise(self, input: Any, target: Any, weight: Any, pos_weight: Any) -> np.ndarray:
        soft = np.log1p(np.exp(-np.abs(input))) + np.maximum(-input, 0)  # log(1 + exp(-x))
        if pos_weight is not None:
            soft = soft * ((pos_weight - 1) * target + 1)
        loss = (1 - target) * input + soft
        return loss if weight is None else loss * weight

    def pointwise_stages(
        self, b: Builder, input: Any, target: Any, weight: Any, pos_weight: Any
    ) -> Any:
        soft = b.log1p(b.exp(-b.abs(input))) + b.max(-input, 0)
        if pos_weight is not None:
            soft = soft * ((pos_weight - 1) * target + 1)
        loss = (1 - target) * input + soft
        return loss if weight is None else loss * weight

    def slopes(self, g: Any, input: Any, target: Any, weight: Any, pos_weight: Any) -> tuple:
        if weight is not None:
            g = g * weight
        extra = 0 if pos_weight is None else pos_weight - 1

        def soft() -> Any:
            return (-input.abs()).exp().log1p() + (-input).clamp(min=0)

        def for_input() -> Any:
            if pos_weight is None:
                return g * (input.sigmoid() - target)
            return g * ((1 - target) - (extra * target + 1) * (-input).sigmoid())

        def for_target() -> Any:
            return g * (-input if pos_weight is None else extra * soft() - input)

        for_pos = None if pos_weight is None else (lambda: g * target * soft())
        return for_input, for_target, None, for_pos


def _warn_sizes(input: Any, target: Any) -> None:
    if tuple(input.shape) != tuple(target.shape):
        warnings.warn(
            f"Using a target size ({target.shape!r}) that is different to the input size "
            f"({input.shape!r}). This will likely lead to incorrect results due to broadcasting. "
            "Please ensure they have the same size.",
            stacklevel=4,
        )


def _weighted(loss: Any, weight: Any, reduction: str) -> Any:
    if weight is None:
        return reduced(loss, reduction)
    return reduced(loss * weight, reduction)


@composite("nn.functional.mse_loss", samples=loss_samples())
def mse_loss(
    input: Any,
    target: Any,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    weight: Any = None,
) -> Any:
    """Mean squared error; warns where input and target are of different sizes."""
    reduction = reduction_of("mse_loss", size_average, reduce, reduction)
    _warn_sizes(input, target)
    if weight is not None:
        loss = MseLoss.apply(input, target, reduction="none", parameter=0)
        return _weighted_mean(loss, weight, reduction)
    return MseLoss.apply(input, target, reduction=reduction, parameter=0)


def _weighted_mean(loss: Any, weight: Any, reduction: str) -> Any:
    if tuple(weight.shape) != tuple(loss.shape):
        raise OperationError.make(
            "mse_loss", "Weights and input must have the same size.", kind=ValueError
        )
    weighted = loss * weight
    if reduction == "mean":
        return weighted.sum() / weight.sum()
    return reduced(weighted, reduction)


@composite("nn.functional.l1_loss", samples=loss_samples())
def l1_loss(
    input: Any,
    target: Any,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    weight: Any = None,
) -> Any:
    """Mean absolute error; warns where input and target are of different sizes."""
    reduction = reduction_of("l1_loss", size_average, reduce, reduction)
    _warn_sizes(input, target)
    loss = (input - target).abs()
    return reduced(loss, reduction) if weight is None else _weighted_mean(loss, weight, reduction)


@composite("nn.functional.smooth_l1_loss", samples=loss_samples(beta=0.7))
def smooth_l1_loss(
    input: Any,
    target: Any,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Any:
    """Squared below ``beta``, absolute above (Girshick 2015). ``beta`` 0 is l1_loss."""
    reduction = reduction_of("smooth_l1_loss", size_average, reduce, reduction)
    _warn_sizes(input, target)
    if beta < 0:
        raise OperationError.make(
            "smooth_l1_loss",
            f"smooth_l1_loss does not support negative values for beta, got {beta}",
        )
    if beta == 0:
        return l1_loss(input, target, reduction=reduction)
    return SmoothL1Loss.apply(input, target, reduction=reduction, parameter=float(beta))


@composite("nn.functional.huber_loss", samples=loss_samples(delta=0.7))
def huber_loss(
    input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None
) -> Any:
    """Half the square below ``delta``, a line above. Huber 1964."""
    reduction = reduction_of("huber_loss", None, None, reduction)
    _warn_sizes(input, target)
    if delta <= 0:
        raise OperationError.make(
            "huber_loss", f"huber_loss does not support non-positive values for delta, got {delta}"
        )
    if weight is not None:
        loss = HuberLoss.apply(input, target, reduction="none", parameter=float(delta))
        return _weighted_mean(loss, weight, reduction)
    return HuberLoss.apply(input, target, reduction=reduction, parameter=float(delta))


def _bce_samples() -> Iterator[Sample]:
    for reduction in ("mean", "sum", "none"):
        yield Sample(
            array(3, 4, low=0.1, high=0.9),
            array(3, 4, low=0.1, high=0.9, seed=1),
            array(4, low=0.1),
            reduction=reduction,
        )


@composite("nn.functional.binary_cross_entropy", samples=_bce_samples)
def binary_cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    """Binary cross entropy of probabilities and targets in [0, 1], of one shape and dtype."""
    reduction = reduction_of("binary_cross_entropy", size_average, reduce, reduction)
    if tuple(target.shape) != tuple(input.shape):
        raise OperationError.make(
            "binary_cross_entropy",
            f"Using a target size ({target.shape!r}) that is different to the input size "
            f"({input.shape!r}) is deprecated. Please ensure they have the same size.",
            hint="target.unsqueeze(1) or input.squeeze(1) often mends it",
            kind=ValueError,
        )
    if weight is not None:
        weight = weight.expand(broadcast_shapes(target.shape, weight.shape))
    if input._storage.buffer is not None:  # known already: refused here, not when it is computed
        BinaryCrossEntropy.refuse_outside(recorder.value(input))
    return BinaryCrossEntropy.apply(input, target, weight, reduction=reduction)


def _logits_samples() -> Iterator[Sample]:
    target = array(3, 4, low=0.1, high=0.9, seed=1)
    yield Sample(array(3, 4), target)
    yield Sample(array(3, 4), target, array(4, low=0.1), reduction="sum")
    yield Sample(array(3, 4), target, pos_weight=array(4, low=0.1), reduction="none")


@composite("nn.functional.binary_cross_entropy_with_logits", samples=_logits_samples)
def binary_cross_entropy_with_logits(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    pos_weight: Any = None,
) -> Any:
    """Binary cross entropy of logits and targets in [0, 1]; ``pos_weight`` scales the positives."""
    reduction = reduction_of("binary_cross_entropy_with_logits", size_average, reduce, reduction)
    if tuple(target.shape) != tuple(input.shape):
        raise OperationError.make(
            "binary_cross_entropy_with_logits",
            f"Target size ({target.shape!r}) must be the same as input size ({input.shape!r})",
            hint="target.unsqueeze(1) or input.squeeze(1) often mends it",
            kind=ValueError,
        )
    return BinaryCrossEntropyWithLogits.apply(
        input, target, weight, pos_weight, reduction=reduction
    )


def _kl_samples() -> Iterator[Sample]:
    for reduction in ("batchmean", "sum", "none"):
        yield Sample(array(3, 4), array(3, 4, low=0.1, seed=1), reduction=reduction)
    yield Sample(array(3, 4), array(3, 4, seed=1), reduction="batchmean", log_target=True)


@composite(
    "kl_div",
    methods=(),
    samples=lambda: iter([Sample(array(3, 4), array(3, 4, low=0.1, seed=1), 2)]),
)
def plain_kl_div(input: Any, target: Any, reduction: int = 1, *, log_target: bool = False) -> Any:
    """``torch.kl_div``: the reduction is a number (0 none, 1 mean, 2 sum)."""
    words = ("none", "mean", "sum")
    return reduced(_kl_terms(input, target, log_target), words[reduction])


def _kl_terms(input: Any, target: Any, log_target: bool) -> Any:
    if log_target:
        return target.exp() * (target - input)
    return target.xlogy(target) - target * input


@composite("nn.functional.kl_div", samples=_kl_samples)
def kl_div(
    input: Any,
    target: Any,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Any:
    """Kullback-Leibler divergence: input log-probabilities, target probabilities (or their logs).

    "batchmean" divides by the batch size, as the mathematical definition does.
    """
    if reduction == "batchmean":
        total = _kl_terms(input, target, log_target).sum()
        return total / input.shape[0] if input.ndim else total
    reduction = reduction_of("kl_div", size_average, reduce, reduction)
    if reduction == "mean":
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support "
            "size.'batchmean' divides only by the batch size, and aligns with the KL div math "
            "definition.'mean' will be changed to behave the same as 'batchmean' in the next "
            "major release.",
            stacklevel=2,
        )
    return reduced(_kl_terms(input, target, log_target), reduction)


@composite(
    "nn.functional.poisson_nll_loss",
    samples=lambda: iter(
        [
            Sample(array(3, 4), array(3, 4, low=0.1, seed=1)),
            Sample(array(3, 4, low=0.1), array(3, 4, low=0.1, seed=1), False, True),
        ]
    ),
)
def poisson_nll_loss(
    input: Any,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    size_average: Any = None,
    eps: float = 1e-8,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    """Negative log likelihood of counts; ``full`` adds Stirling's approximation of log(t!)."""
    reduction = reduction_of("poisson_nll_loss", size_average, reduce, reduction)
    loss = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        stirling = target * target.log() - target + 0.5 * (2 * pi * target).log()
        loss = loss + stirling.masked_fill(target <= 1, 0)
    return reduced(loss, reduction)


@composite(
    "nn.functional.gaussian_nll_loss",
    samples=lambda: iter(
        [
            Sample(array(3, 4), array(3, 4, seed=1), array(3, 4, low=0.1, seed=2)),
            Sample(array(3, 4), array(3, 4, seed=1), array(3, 1, low=0.1, seed=2), full=True),
        ]
    ),
)
def gaussian_nll_loss(
    input: Any,
    target: Any,
    var: Any,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Any:
    """Negative log likelihood of normal distributions with means ``input``, variances ``var``."""
    reduction = reduction_of("gaussian_nll_loss", None, None, reduction)
    if isinstance(var, (int, float)):
        if var < 0:
            raise OperationError.make(
                "gaussian_nll_loss", "var has negative entry/entries", kind=ValueError
            )
        var = filled(input.shape, float(var), input.dtype)
    elif tuple(var.shape) != tuple(input.shape):
        if tuple(input.shape[:-1]) == tuple(var.shape):
            var = var.unsqueeze(-1)
        elif tuple(var.shape) != (*input.shape[:-1], 1):
            raise OperationError.make(
                "gaussian_nll_loss",
                "var is of incorrect size",
                f"got {list(var.shape)}",
                kind=ValueError,
            )
    floor = (eps - var.detach()).clamp(min=0)
    var = var + floor  # clamped from below, the gradient passing through
    loss = 0.5 * (var.log() + (input - target) ** 2 / var)
    if full:
        loss = loss + 0.5 * log(2 * pi)
    return reduced(loss, reduction)
