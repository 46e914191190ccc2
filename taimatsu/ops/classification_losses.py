"""Losses on class scores: nll_loss and cross_entropy."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu.dtypes import int64, uint8
from taimatsu.errors import OperationError
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage
from taimatsu.ops.base import Sample, array, composite, integers, register
from taimatsu.ops.coordinates import Coordinate, Places, Source, is_empty
from taimatsu.ops.reduced_stages import fold
from taimatsu.ops.reducing import Wide

REDUCTIONS = ("none", "mean", "sum")


def reduction_of(name: str, size_average: Any, reduce: Any, reduction: str) -> str:
    """The reduction that is meant, with the legacy arguments ``size_average`` and ``reduce``."""
    if size_average is not None or reduce is not None:
        if reduce is False:
            reduction = "none"
        else:
            reduction = "sum" if size_average is False else "mean"
        warnings.warn(
            "size_average and reduce args will be deprecated, please use "
            f"reduction='{reduction}' instead.",
            stacklevel=3,
        )
    if reduction not in REDUCTIONS:
        raise OperationError.make(
            name,
            f"{reduction} is not a valid value for reduction",
            hint="use 'none', 'mean' or 'sum'",
            kind=ValueError,
        )
    return reduction


def reduced(loss: Any, reduction: str) -> Any:
    """The elements of a loss tensor, their mean or their sum."""
    return loss if reduction == "none" else loss.mean() if reduction == "mean" else loss.sum()


class OfClasses(Wide, abstract=True):
    """Base of nll_loss and its gradient: labels, their weights, and the check of labels."""

    hidden = True
    checked = True

    def working_dtype(self, operand: Meta, outs: tuple) -> str:
        """Labels are read as int64, whatever they are stored as."""
        if not operand.dtype.is_floating_point:
            return "int64"
        return super().working_dtype(operand, outs)

    def check_labels(self, target: np.ndarray | None, classes: int, ignore_index: int) -> None:
        """IndexError for a label that is no class; None (not known yet) passes."""
        if target is None or target.size == 0:
            return
        if target.dtype == np.int64 and np.maximum.reduce(target.view(np.uint64), None) < classes:
            return  # negative labels would be huge
        bad = (target != ignore_index) & ((target < 0) | (target >= classes))
        if bad.any():
            label = target[bad].reshape(-1)[0]
            raise OperationError.make(
                "nll_loss",
                f"Target {label} is out of bounds.",
                hint=f"labels of {classes} classes run from 0 to {classes - 1} "
                f"(ignore_index={ignore_index} is skipped); does the last layer have an output "
                "for every class?",
                kind=IndexError,
            )


def _label_weights(
    target: np.ndarray, weight: np.ndarray | None, ignore_index: int, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """Labels with the ignored ones as class 0, and each label's weight (0 for the ignored)."""
    kept = target != ignore_index
    labels = np.where(kept, target, 0).astype(np.int64)
    weights = np.ones(labels.shape, dtype) if weight is None else weight[labels]
    return labels, np.where(kept, weights, dtype.type(0))


class _Labels:
    """``_label_weights`` for lowering rules: expressions at a place of the target."""

    def __init__(
        self, b: Builder, target: Source, weight: Source | None, ignore_index: int, classes: Index
    ) -> None:
        self.b = b
        self.target = target
        self.weights = weight
        self.ignore_index = ignore_index
        self.classes = classes

    def kept(self, where: tuple) -> Expression:
        return self.target[where].ne(self.ignore_index)

    def label(self, where: tuple, places: Places | None = None) -> Coordinate:
        """The class, as a coordinate: 0 for ignored labels."""
        places = Places(self.b) if places is None else places
        return places.place(self.b.where(self.kept(where), self.target[where], 0), self.classes)

    def weight(self, where: tuple, dtype: str) -> Expression:
        """The label's weight, 0 for ignored labels."""
        b = self.b
        one = b.constant(1, dtype)
        of_class = one if self.weights is None else self.weights[self.label(where)]
        return b.where(self.kept(where), of_class, 0)

    def total(self, dtype: str) -> Stage:
        """The sum of all labels' weights."""
        return fold(
            self.b, "add", self.target, None, False, lambda *i: self.weight(i, dtype), dtype
        )


@register
class NllLoss(OfClasses):
    """-weight[t] * input[t]: input (N, C, *k) or (C,), target (N, *k) or ()."""

    saves = {"input": ("target", "weight")}

    def infer(
        self,
        input: Meta,
        target: Meta,
        weight: Meta | None,
        *,
        reduction: str,
        ignore_index: int,
        classes: int,
    ) -> Meta:
        _check_nll(input, target, weight, classes)
        return meta(target.shape if reduction == "none" else (), input.dtype)

    def check(
        self,
        input: Any,
        target: Any,
        weight: Any,
        *,
        reduction: str,
        ignore_index: int,
        classes: int,
    ) -> None:
        self.check_labels(target, classes, ignore_index)

    def reference(
        self,
        input: np.ndarray,
        target: np.ndarray,
        weight: np.ndarray | None,
        *,
        reduction: str,
        ignore_index: int,
        classes: int,
    ) -> np.ndarray:
        self.check_labels(target, classes, ignore_index)
        labels, weights = _label_weights(target, weight, ignore_index, input.dtype)
        axis = min(1, input.ndim - 1)
        chosen = np.take_along_axis(input, np.expand_dims(labels, axis), axis).squeeze(axis)
        loss = np.where(weights == 0, input.dtype.type(0), -weights * chosen)
        if reduction == "none":
            return loss
        with np.errstate(divide="ignore", invalid="ignore"):
            return loss.sum() / weights.sum() if reduction == "mean" else loss.sum()

    def lower(
        self,
        b: Builder,
        input: Any,
        target: Any,
        weight: Any,
        *,
        reduction: str,
        ignore_index: int,
        classes: int,
    ) -> Stage | None:
        axis = min(1, len(input.shape) - 1)
        kind = input.dtype
        if is_empty(input.shape):
            return None  # no place to read from for the labels that are not there
        labels = _Labels(b, target, weight, ignore_index, input.shape[axis])
        places = Places(b)

        def loss(*i: Index) -> Expression:
            place = labels.label(i, places)
            share = labels.weight(i, kind)
            score = input[(*i[:axis], place, *i[axis:])]
            return b.where(share.eq(0), 0, -share * score)

        if reduction == "none":
            return self._checked(b, places, b.map(target.shape, kind, loss))
        total = self._checked(b, places, fold(b, "add", target, None, False, loss, kind))
        if reduction == "sum":
            return total
        shares = labels.total(kind)
        return b.map((), kind, lambda: total[()] / shares[()])

    def _checked(self, b: Builder, places: Places, stage: Stage) -> Stage:
        return places.check(stage, "nll_loss: Target is out of bounds.")

    def gradient(
        self,
        g: Any,
        out: Any,
        input: Any,
        target: Any,
        weight: Any,
        *,
        reduction: str,
        ignore_index: int,
        classes: int,
    ) -> tuple:
        def for_input() -> Any:
            return NllLossGradient.apply(
                g,
                target,
                weight,
                reduction=reduction,
                ignore_index=ignore_index,
                classes=classes,
                shape=tuple(input.shape),
            )

        return for_input, None, None

    def backward_name_for(self, inputs: tuple, attributes: dict) -> str:
        return "NllLossBackward0" if inputs[0].ndim <= 2 else "NllLoss2DBackward0"


@register
class NllLossGradient(OfClasses):
    """The gradient of nll_loss for its input: -weight[t] * g at the labels, zero elsewhere."""

    saves = {"g": ("target", "weight")}

    def infer(
        self,
        g: Meta,
        target: Meta,
        weight: Meta | None,
        *,
        reduction: str,
        ignore_index: int,
        classes: int,
        shape: tuple[int, ...],
    ) -> Meta:
        return meta(shape, g.dtype)

    def check(self, *inputs: Any, **attributes: Any) -> None:
        """The labels were checked when the loss was computed."""

    def reference(
        self,
        g: np.ndarray,
        target: np.ndarray,
        weight: np.ndarray | None,
        *,
        reduction: str,
        ignore_index: int,
        classes: int,
        shape: tuple[int, ...],
    ) -> np.ndarray:
        labels, weights = _label_weights(target, weight, ignore_index, g.dtype)
        if reduction == "mean":
            with np.errstate(divide="ignore", invalid="ignore"):
                scale = g / weights.sum()
        else:
            scale = g
        values = np.where(weights == 0, g.dtype.type(0), -weights * scale)
        axis = min(1, len(shape) - 1)
        out = np.zeros(shape, g.dtype)
        places, values = np.expand_dims(labels, axis), np.expand_dims(values, axis)
        np.put_along_axis(out, places, values.astype(g.dtype), axis)
        return out

    def lower(
        self,
        b: Builder,
        g: Any,
        target: Any,
        weight: Any,
        *,
        reduction: str,
        ignore_index: int,
        classes: int,
        shape: tuple[int, ...],
    ) -> Stage | None:
        axis = min(1, len(shape) - 1)
        kind = g.dtype
        if classes == 0:
            return None  # no label is a class
        count = b.extent(classes) if weight is None else weight.shape[0]
        labels = _Labels(b, target, weight, ignore_index, count)
        total = labels.total(kind) if reduction == "mean" else None
        scale = None if total is None else b.map((), kind, lambda: g[()] / total[()])

        def slope(*i: Index) -> Expression:
            where = (*i[:axis], *i[axis + 1 :])
            share = labels.weight(where, kind)
            at = scale[()] if scale is not None else g[where if g.shape else ()]
            chosen = b.index(i[axis]).eq(target[where]) & share.ne(0)
            return b.where(chosen, -share * at, 0)

        outs = (*target.shape[:axis], count, *target.shape[axis:])
        return b.map(outs, kind, slope)

    def gradient(
        self,
        v: Any,
        out: Any,
        g: Any,
        target: Any,
        weight: Any,
        *,
        reduction: str,
        ignore_index: int,
        classes: int,
        shape: tuple[int, ...],
    ) -> tuple:
        options = {"reduction": reduction, "ignore_index": ignore_index, "classes": classes}
        return (lambda: NllLoss.apply(v, target, weight, **options)), None, None


def _check_nll(input: Meta, target: Meta, weight: Meta | None, classes: int) -> None:
    def refuse(
        words: str, hint: str = "", kind: type[Exception] = RuntimeError, got: str = ""
    ) -> Exception:
        return OperationError.make("nll_loss", words, got, hint, kind)

    if input.ndim == 0:
        raise refuse("Expected 1 or more dimensions", got="got a scalar", kind=ValueError)
    batched = input.ndim > 1
    if batched and target.ndim and input.shape[0] != target.shape[0]:
        raise refuse(
            f"Expected input batch_size ({input.shape[0]}) to match target batch_size "
            f"({target.shape[0]}).",
            "every sample needs one label; input and target must come from the same batch",
            ValueError,
        )
    if input.ndim == target.ndim == 1 and target.shape[0] != 1:
        raise refuse(
            f"For 1D input, 1D target must have size 1, but got target size: {target.shape[0]}",
            "the scores of a batch have shape (N, C)",
            ValueError,
        )
    if target.ndim != max(input.ndim - 1, 0):
        words = "0D or 1D target tensor expected, multi-target not supported"
        if input.ndim > 2:
            words = f"Expected target of {input.ndim - 1} dimensions {_without_classes(input)}"
        hint = "the target holds class indices, one per sample"
        if target.ndim == input.ndim and target.shape[-1] == classes:
            hint = "one-hot labels: target.argmax(1) gives indices; or give probabilities (float)"
        elif target.ndim == input.ndim and target.shape[-1] == 1:
            hint = "target.squeeze(1) drops the dimension of extent 1"
        raise refuse(words, hint, got=f"got input {list(input.shape)}, target {list(target.shape)}")
    if batched and tuple(target.shape) != _without_classes(input):
        wanted = list(_without_classes(input))
        hint = f"the target's shape should be {wanted}"
        if tuple(target.shape) == tuple(input.shape[:-1]):
            hint = "classes stand in dimension 1: input.transpose(1, -1) puts them there"
        raise refuse(
            f"Expected target size {wanted}, got {list(target.shape)}",
            hint,
            got=f"input {list(input.shape)}",
        )
    if target.dtype not in (int64, uint8):
        raise refuse(
            "expected scalar type Long but found "
            f"{target.dtype.scalar_type} (expected target dtype to be Long or Byte, but got "
            f"{target.dtype.scalar_type})",
            "labels are whole numbers: target.long() converts",
        )
    if weight is not None and tuple(weight.shape) != (classes,):
        raise refuse(
            f"weight tensor should be defined either for all {classes} classes or no classes but "
            f"got weight tensor of shape: {list(weight.shape)}",
            "give one weight for each class",
        )


def _without_classes(input: Meta) -> tuple[int, ...]:
    return (input.shape[0], *input.shape[2:])


def _nll_samples() -> Iterator[Sample]:
    target = integers(4, high=3)
    yield Sample(array(4, 3), target)
    yield Sample(array(4, 3), target, array(3, low=0.1), reduction="sum")
    yield Sample(array(4, 3), target, ignore_index=1, reduction="none")
    yield Sample(array(2, 3, 4, 2), integers(2, 4, 2, high=3))
    yield Sample(array(3), np.array(2))


@composite("nn.functional.nll_loss", samples=_nll_samples)
def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    """Negative log likelihood: input (N, C, *k) log-probabilities, target (N, *k) class indices.

    ``weight`` (C,) scales the classes (and "mean" divides by the labels' weights); labels equal
    to ``ignore_index`` count for nothing. Raises IndexError for a label that is no class.
    """
    reduction = reduction_of("nll_loss", size_average, reduce, reduction)
    shape = input.shape
    classes = shape[min(1, len(shape) - 1)] if shape else 0
    return NllLoss.apply(
        input, target, weight, reduction=reduction, ignore_index=ignore_index, classes=classes
    )


def _entropy_samples() -> Iterator[Sample]:
    target = integers(4, high=3)
    yield Sample(array(4, 3), target, dtypes=("float32", "float64", "bfloat16"))
    yield Sample(array(4, 3), target, array(3, low=0.1), label_smoothing=0.1)
    yield Sample(array(4, 3), target, ignore_index=1, reduction="none", label_smoothing=0.2)
    yield Sample(array(2, 3, 4), integers(2, 4, high=3), reduction="sum")
    yield Sample(array(3), np.array(2))
    yield Sample(array(4, 3), array(4, 3, low=0, seed=1), label_smoothing=0.1)


@composite("nn.functional.cross_entropy", samples=_entropy_samples)
def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Cross entropy between scores (N, C, *k) (logits) and labels.

    target: class indices (N, *k) of int64, or class probabilities of the input's shape.
    ``weight`` (C,) scales the classes; ``label_smoothing`` in [0, 1] mixes in the uniform
    distribution (Szegedy et al. 2016). Raises for labels, shapes and dtypes that do not fit.
    """
    reduction = reduction_of("cross_entropy", size_average, reduce, reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise OperationError.make(
            "cross_entropy",
            f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}",
        )
    shape = input.shape
    log_p = input.log_softmax(min(1, max(len(shape) - 1, 0)))
    if target.shape == shape and shape:
        return _with_probabilities(log_p, target, weight, reduction, label_smoothing)
    loss = nll_loss(log_p, target, weight, None, ignore_index, None, reduction)
    if label_smoothing == 0.0:
        return loss
    smooth = _uniform_loss(log_p, target, weight, ignore_index, reduction)
    classes = log_p.shape[min(1, log_p.ndim - 1)]
    return loss * (1 - label_smoothing) + smooth * (label_smoothing / classes)


def _per_class(weight: Any, like: Any) -> Any:
    """Class weights in a shape that broadcasts against scores (N, C, *k)."""
    return weight if like.ndim == 1 else weight.reshape(1, -1, *(1,) * (like.ndim - 2))


def _with_probabilities(
    log_p: Any, target: Any, weight: Any, reduction: str, smoothing: float
) -> Any:
    if not target.dtype.is_floating_point:
        raise OperationError.make(
            "cross_entropy",
            "Expected floating point type for target with class probabilities, got "
            f"{target.dtype.scalar_type}",
            hint="one-hot labels: target.argmax(1) gives class indices, target.float() "
            "probabilities",
        )
    axis = min(1, log_p.ndim - 1)
    if smoothing > 0:
        target = target * (1 - smoothing) + smoothing / log_p.shape[axis]
    terms = log_p * target
    if weight is not None:
        terms = terms * _per_class(weight, log_p)
    if reduction == "none":
        return -terms.sum(axis)
    total = -terms.sum()
    if reduction == "sum":
        return total
    return total / (log_p.numel() // log_p.shape[axis] if log_p.numel() else 0)


def _uniform_loss(log_p: Any, target: Any, weight: Any, ignore_index: int, reduction: str) -> Any:
    """The loss against the uniform distribution (times the number of classes)."""
    axis = min(1, log_p.ndim - 1)
    terms = log_p if weight is None else log_p * _per_class(weight, log_p)
    ignored = target == ignore_index
    loss = (-terms.sum(axis)).masked_fill(ignored, 0)
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if weight is None:
        return loss.sum() / (~ignored).sum()
    labels = target.masked_fill(ignored, 0)
    of_labels = weight.take(labels.long()).masked_fill(ignored, 0)
    return loss.sum() / of_labels.sum()
