"""Connectionist temporal classification. Graves et al. 2006."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu import recorder
from taimatsu.errors import OperationError
from taimatsu.ir.meta import Meta, meta
from taimatsu.ops.base import Sample, array, composite, integers, register
from taimatsu.ops.classification_losses import reduction_of
from taimatsu.ops.reducing import Wide


@register
class CtcLoss(Wide):
    """Negative log likelihoods (N,) of label sequences, and their gradients (T, N, C).

    log_probs (T, N, C) are log-softmax values; labels (N, S) padded; lengths (N,). As PyTorch's,
    the gradient is that for the scores before the log-softmax, and is not differentiable again.
    """

    # No ``lower``: each step of the recursion takes the step before, which no scan combines.

    hidden = True
    outputs = 2
    saves = {"log_probs": ("out",)}

    def infer(
        self,
        log_probs: Meta,
        labels: Meta,
        input_lengths: Meta,
        target_lengths: Meta,
        *,
        blank: int,
    ) -> tuple[Meta, Meta]:
        return meta((log_probs.shape[1],), log_probs.dtype), meta(log_probs.shape, log_probs.dtype)

    def reference(
        self,
        log_probs: np.ndarray,
        labels: np.ndarray,
        input_lengths: np.ndarray,
        target_lengths: np.ndarray,
        *,
        blank: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        loss = np.zeros(log_probs.shape[1], log_probs.dtype)
        gradient = np.zeros_like(log_probs)
        for n, (steps, count) in enumerate(zip(input_lengths, target_lengths, strict=True)):
            loss[n], gradient[:steps, n] = _of_sample(
                log_probs[:steps, n].astype(np.float64), labels[n, :count], blank
            )
        return loss, gradient

    def gradient(
        self,
        g: tuple,
        out: tuple,
        log_probs: Any,
        labels: Any,
        input_lengths: Any,
        target_lengths: Any,
        *,
        blank: int,
    ) -> tuple:
        if g[1] is not None:
            raise self.error("the gradient of ctc_loss is not differentiable again")
        return (lambda: g[0].reshape(1, -1, 1) * out[1]), None, None, None


def _of_sample(log_p: np.ndarray, labels: np.ndarray, blank: int) -> tuple[float, np.ndarray]:
    """One sample's loss and gradient: the forward and the backward recursion over its paths."""
    path = np.full(2 * len(labels) + 1, blank)
    path[1::2] = labels
    # A state may be reached from two before it if that skips a blank between different labels.
    skips = np.zeros(len(path), bool)
    skips[2:] = (path[2:] != blank) & (path[2:] != path[:-2])
    if len(log_p) == 0:
        return (0.0 if len(labels) == 0 else np.inf), np.zeros_like(log_p)
    emitted = log_p[:, path]
    ahead = _recursion(emitted, skips)
    back_skips = np.zeros(len(path), bool)
    back_skips[2:] = skips[::-1][:-2]
    behind = _recursion(emitted[::-1, ::-1], back_skips)[::-1, ::-1]
    with np.errstate(invalid="ignore"):
        likelihood = np.logaddexp.reduce(ahead[-1, -2:])
        occupied = np.full(log_p.shape, -np.inf)
        for state, label in enumerate(path):
            both = ahead[:, state] + behind[:, state] - emitted[:, state]
            occupied[:, label] = np.logaddexp(occupied[:, label], both)
        gradient = np.exp(log_p) - np.exp(occupied - likelihood)
    return -likelihood, gradient


def _recursion(emitted: np.ndarray, skips: np.ndarray) -> np.ndarray:
    """Log-probabilities of being in each state at each step, over all paths up to there."""
    reached = np.full(emitted.shape, -np.inf)
    reached[0, :2] = emitted[0, :2]
    for t in range(1, len(emitted)):
        before = reached[t - 1]
        total = before.copy()
        total[1:] = np.logaddexp(total[1:], before[:-1])
        total[2:] = np.where(skips[2:], np.logaddexp(total[2:], before[:-2]), total[2:])
        reached[t] = total + emitted[t]
    return reached


def _samples() -> Iterator[Sample]:
    log_p = array(6, 2, 4)
    log_p = log_p - np.log(np.exp(log_p).sum(-1, keepdims=True))
    labels = integers(2, 3, low=1, high=4)
    lengths = np.array([6, 5]), np.array([3, 2])
    for reduction in ("mean", "sum", "none"):
        yield Sample(log_p, labels, *lengths, reduction=reduction, grad=False)


@composite("nn.functional.ctc_loss", samples=_samples)
def ctc_loss(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Any:
    """CTC loss of log_probs (T, N, C) or (T, C) against label sequences.

    targets: (N, S) padded, or all sequences one after the other; lengths: (N,) tensors or
    sequences. "mean" divides by the targets' lengths first. ``zero_infinity`` gives 0 for targets
    that are too long for their input.
    """
    reduction = reduction_of("ctc_loss", None, None, reduction)
    single = log_probs.ndim == 2
    scores = log_probs.unsqueeze(1) if single else log_probs
    steps, samples, classes = scores.shape
    inputs, counts = (_lengths(v, samples) for v in (input_lengths, target_lengths))
    labels = _padded(np.asarray(recorder.value(targets)), counts, samples)
    _check(inputs, counts, labels, steps, classes, blank)
    arrays = (recorder.constant(a) for a in (labels, inputs, counts))
    loss, _ = CtcLoss.apply(scores, *arrays, blank=blank)
    if zero_infinity:
        loss = loss.masked_fill(loss == float("inf"), 0)
    if reduction == "mean":
        return (loss / recorder.constant(np.maximum(counts, 1)).to(loss.dtype)).mean()
    if reduction == "sum":
        return loss.sum()
    return loss.squeeze(0) if single else loss


def _lengths(given: Any, samples: int) -> np.ndarray:
    values = recorder.value(given) if isinstance(given, recorder.TensorBase) else given
    found = np.array(values, np.int64).reshape(-1)
    if len(found) != samples:
        raise OperationError.make(
            "ctc_loss",
            "input_lengths and target_lengths must be of size batch_size",
            f"got {len(found)} for {samples} samples",
        )
    return found


def _padded(targets: np.ndarray, counts: np.ndarray, samples: int) -> np.ndarray:
    """Labels as (N, S), from that or from sequences one after the other."""
    if targets.ndim == 2:
        return targets.astype(np.int64)
    if counts.sum() > targets.size:
        raise OperationError.make(
            "ctc_loss",
            f"Expected targets of at least {counts.sum()} labels, the sum of target_lengths",
            f"got {targets.size}",
        )
    labels = np.zeros((samples, counts.max(initial=0)), np.int64)
    ends = np.cumsum(counts)
    for n, (end, count) in enumerate(zip(ends, counts, strict=True)):
        labels[n, :count] = targets[end - count : end]
    return labels


def _check(
    inputs: np.ndarray,
    counts: np.ndarray,
    labels: np.ndarray,
    steps: int,
    classes: int,
    blank: int,
) -> None:
    def refuse(words: str) -> Exception:
        return OperationError.make("ctc_loss", words)

    if not 0 <= blank < classes:
        raise refuse(f"blank must be in label range, 0 to {classes - 1}; got {blank}")
    if inputs.size and (inputs.max() > steps or inputs.min() < 0):
        raise refuse(
            f"Expected input_lengths to have value at most {steps}, but got value {inputs.max()}"
        )
    if counts.size and (counts.max() > labels.shape[1] or counts.min() < 0):
        raise refuse(f"Expected target_lengths of at most {labels.shape[1]}, got {counts.max()}")
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise refuse(f"labels must be classes, 0 to {classes - 1}; got {labels.max()}")
