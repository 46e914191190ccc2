"""Losses that ask for a margin: between pairs, triplets, classes and labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from taimatsu import recorder
from taimatsu.errors import OperationError
from taimatsu.ops.base import Sample, array, composite, integers
from taimatsu.ops.classification_losses import reduced, reduction_of
from taimatsu.shapes import broadcast_shapes


def _signs(*shape: int, seed: int = 0) -> np.ndarray:
    return np.where(array(*shape, seed=seed) > 0, 1.0, -1.0)


@composite(
    "nn.functional.hinge_embedding_loss",
    "hinge_embedding_loss",
    methods=(),
    samples=lambda: iter([Sample(array(3, 4), _signs(3, 4, seed=1), 1.5)]),
)
def hinge_embedding_loss(
    input: Any,
    target: Any,
    margin: float = 1.0,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    """x where the target is 1, max(0, margin - x) where it is -1."""
    reduction = reduction_of("hinge_embedding_loss", size_average, reduce, reduction)
    far = (margin - input).clamp(min=0).masked_fill(target == 1, 0)
    near = input.masked_fill(target == -1, 0)
    return reduced(far + near, reduction)


@composite(
    "nn.functional.margin_ranking_loss",
    "margin_ranking_loss",
    methods=(),
    samples=lambda: iter([Sample(array(5), array(5, seed=1), _signs(5, seed=2), 0.3)]),
)
def margin_ranking_loss(
    input1: Any,
    input2: Any,
    target: Any,
    margin: float = 0,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    """max(0, -target * (input1 - input2) + margin); target 1 ranks the first input higher."""
    reduction = reduction_of("margin_ranking_loss", size_average, reduce, reduction)
    if not input1.ndim == input2.ndim == target.ndim:
        raise OperationError.make(
            "margin_ranking_loss",
            "margin_ranking_loss : All input tensors should have same dimension but got sizes: "
            f"input1: {input1.shape}, input2: {input2.shape}, target: {target.shape} ",
        )
    return reduced((-target * (input1 - input2) + margin).clamp(min=0), reduction)


@composite(
    "nn.functional.cosine_embedding_loss",
    "cosine_embedding_loss",
    methods=(),
    samples=lambda: iter([Sample(array(3, 4), array(3, 4, seed=1), _signs(3, seed=2), -0.5)]),
)
def cosine_embedding_loss(
    input1: Any,
    input2: Any,
    target: Any,
    margin: float = 0,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    """1 - cos where the target is 1, max(0, cos - margin) where it is -1."""
    reduction = reduction_of("cosine_embedding_loss", size_average, reduce, reduction)
    if target.ndim not in (0, 1) or input1.ndim != target.ndim + 1 or input2.ndim != input1.ndim:
        raise OperationError.make(
            "cosine_embedding_loss",
            f"{target.ndim}D target tensor expects {target.ndim + 1}D input tensors, but found "
            f"inputs with sizes {list(input1.shape)} and {list(input2.shape)}",
        )
    floor = 1e-12  # PyTorch's: added to the squares, so that zero vectors have a direction
    product = (input1 * input2).sum(-1)
    squares = ((x * x).sum(-1) + floor for x in (input1, input2))
    cosine = product / (next(squares) * next(squares)).sqrt()
    near = (1 - cosine).masked_fill(target != 1, 0)
    far = (cosine - margin).clamp(min=0).masked_fill(target != -1, 0)
    return reduced(near + far, reduction)


def _triplet_samples() -> Iterator[Sample]:
    yield Sample(array(3, 4), array(3, 4, seed=1), array(3, 4, seed=2), 3.0)
    yield Sample(array(3, 4), array(3, 4, seed=1), array(3, 4, seed=2), 3.0, swap=True)


@composite(
    "nn.functional.triplet_margin_loss",
    "triplet_margin_loss",
    methods=(),
    samples=_triplet_samples,
)
def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    """max(0, |a - p| - |a - n| + margin). ``swap`` takes |p - n| where it is smaller.

    Balntas et al. 2016.
    """
    reduction = reduction_of("triplet_margin_loss", size_average, reduce, reduction)
    if margin <= 0:
        raise OperationError.make(
            "triplet_margin_loss", f"margin must be greater than 0, got {margin}", kind=ValueError
        )

    def distance(a: Any, b: Any) -> Any:
        return (a - b + eps).norm(p, -1)

    return reduced(_triplet(anchor, positive, negative, distance, margin, swap), reduction)


def _triplet(
    anchor: Any, positive: Any, negative: Any, distance: Callable, margin: float, swap: bool
) -> Any:
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = far.minimum(distance(positive, negative))
    return (near - far + margin).clamp(min=0)


@composite(
    "nn.functional.triplet_margin_with_distance_loss",
    samples=lambda: iter(
        [Sample(array(3, 4), array(3, 4, seed=1), array(3, 4, seed=2), margin=3.0, swap=True)]
    ),
)
def triplet_margin_with_distance_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    *,
    distance_function: Callable | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Any:
    """``triplet_margin_loss`` with a distance of one's own (default: the Euclidean)."""
    reduction = reduction_of("triplet_margin_with_distance_loss", None, None, reduction)
    if margin <= 0:
        raise OperationError.make(
            "triplet_margin_with_distance_loss",
            f"margin must be greater than 0, got {margin}",
            kind=ValueError,
        )
    distance = distance_function or (lambda a, b: (a - b + 1e-6).norm(2, -1))
    return reduced(_triplet(anchor, positive, negative, distance, margin, swap), reduction)


@composite(
    "nn.functional.soft_margin_loss",
    samples=lambda: iter([Sample(array(3, 4), _signs(3, 4, seed=1))]),
)
def soft_margin_loss(
    input: Any,
    target: Any,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    """log(1 + exp(-target * input)) for targets 1 and -1."""
    reduction = reduction_of("soft_margin_loss", size_average, reduce, reduction)
    broadcast_shapes(input.shape, target.shape)
    score = -target * input
    return reduced((-score.abs()).exp().log1p() + score.clamp(min=0), reduction)


@composite(
    "nn.functional.multilabel_soft_margin_loss",
    samples=lambda: iter(
        [Sample(array(3, 4), (array(3, 4, seed=1) > 0).astype(float), array(4, low=0.1, seed=2))]
    ),
)
def multilabel_soft_margin_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    """Binary cross entropy of logits, averaged over the classes of each sample."""
    reduction = reduction_of("multilabel_soft_margin_loss", size_average, reduce, reduction)
    soft = (-input.abs()).exp().log1p()
    loss = target * (soft + (-input).clamp(min=0)) + (1 - target) * (soft + input.clamp(min=0))
    if weight is not None:
        loss = loss * weight
    return reduced(loss.mean(input.ndim - 1), reduction)


@composite(
    "nn.functional.multi_margin_loss",
    samples=lambda: iter(
        [
            Sample(array(3, 4), integers(3, high=4)),
            Sample(array(3, 4), integers(3, high=4), 2, 0.5, array(4, low=0.1)),
        ]
    ),
)
def multi_margin_loss(
    input: Any,
    target: Any,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    """Mean over the other classes of max(0, margin - x[target] + x[class]) ** p."""
    reduction = reduction_of("multi_margin_loss", size_average, reduce, reduction)
    if p not in (1, 2):
        raise OperationError.make("multi_margin_loss", "only p == 1 and p == 2 supported")
    single = input.ndim < 2
    scores = input.reshape(1, -1) if single else input
    labels = target.reshape(-1)
    if labels.numel() != scores.shape[0]:
        raise OperationError.make(
            "multi_margin_loss",
            f"inconsistent target size, expected {scores.shape[0]} but got {list(target.shape)}",
        )
    place = labels.unsqueeze(1)
    gaps = (margin - scores.gather(1, place) + scores).clamp(min=0)
    loss = gaps if p == 1 else gaps * gaps
    if weight is not None:
        loss = loss * weight.take(labels).unsqueeze(1)
    loss = loss.scatter(1, place, 0).sum(1) / scores.shape[1]
    return reduced(loss.squeeze(0) if single and target.ndim == 0 else loss, reduction)


@composite(
    "nn.functional.multilabel_margin_loss",
    samples=lambda: iter([Sample(array(2, 4), np.array([[3, 0, -1, 1], [1, -1, 0, 2]]))]),
)
def multilabel_margin_loss(
    input: Any,
    target: Any,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    """Mean over pairs of max(0, 1 - (x[label] - x[other])).

    target: class indices per sample, as many as classes; those from the first -1 on do not count.
    """
    reduction = reduction_of("multilabel_margin_loss", size_average, reduce, reduction)
    if tuple(target.shape) != tuple(input.shape):
        raise OperationError.make(
            "multilabel_margin_loss",
            f"inconsistent target size: {list(target.shape)} for input of size: "
            f"{list(input.shape)}",
        )
    single = input.ndim < 2
    scores = input.reshape(1, -1) if single else input
    labels = np.asarray(recorder.value(target)).reshape(scores.shape)
    counted = np.cumprod(labels >= 0, axis=1).astype(bool)
    other = np.ones(scores.shape, bool)
    sample, slot = np.nonzero(counted)
    other[sample, labels[sample, slot]] = False
    places = recorder.constant(np.where(counted, labels, 0))
    pairs = recorder.constant(counted[:, :, None] & other[:, None, :])
    gaps = 1 - scores.gather(1, places).unsqueeze(2) + scores.unsqueeze(1)
    loss = gaps.clamp(min=0).masked_fill(~pairs, 0).sum((1, 2)) / scores.shape[1]
    return reduced(loss.squeeze(0) if single else loss, reduction)
