"""Random numbers whose distribution is given by tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from taimatsu import recorder
from taimatsu.generator import Generator, discrete, fill
from taimatsu.ir.meta import meta
from taimatsu.ops.base import composite
from taimatsu.ops.lines import in_order
from taimatsu.ops.random import (
    Refill,
    check_device,
    check_std,
    dtype_of,
    error,
    finished,
    generator_of,
    memory_of,
    normals,
    refill,
    size_of,
)
from taimatsu.shapes import broadcast_shapes

_MOST_CATEGORIES = 1 << 24


def _with_zero_gradient(input: Any, values: Any) -> Any:
    """The numbers drawn; they stay in the graph of what they depend on, with gradient zero."""
    if recorder.local.mode == recorder.GRAD and input._requires_grad:
        return Refill.apply(input, values)
    return values


@composite(methods=())
def normal(
    mean: Any = 0.0,
    std: Any = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    out: Any = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Any:
    """Normal numbers; ``mean`` and ``std`` are numbers (then ``size`` is needed) or tensors."""
    mean_given, std_given = (isinstance(x, recorder.TensorBase) for x in (mean, std))
    check_device("normal", device)
    if not (mean_given or std_given):
        if size is None:
            raise error(
                "normal", "a tensor as mean or std, or a size", "two numbers and no size",
                "normal() received an invalid combination of arguments", TypeError,
            )  # fmt: skip
        check_std("normal", std)
        extents = size_of("normal", (), size)
        kind = dtype_of(dtype, out)
        made = normals("normal", generator, meta(extents, kind), mean, std)
        return finished("normal", made, requires_grad, out)
    if std_given:
        _check_std_values(std)
    else:
        check_std("normal", std)
    made = _normal_of(mean, std, mean_given, std_given, generator)
    return finished("normal", made, requires_grad, out)


def _check_std_values(std: Any) -> None:
    if std._meta.dtype.is_complex:
        raise error("normal", "normal expects standard deviation to be non-complex", f"{std.dtype}")
    if std._meta.numel and not (recorder.value(std) >= 0).all():
        raise error("normal", "normal expects all elements of std >= 0.0", "negative ones")


def _normal_of(mean: Any, std: Any, mean_given: bool, std_given: bool, generator: Any) -> Any:
    """Standard normals scaled, then shifted, each rounded to the dtype of the result."""
    first = mean if mean_given else std
    shapes = [x._meta.shape for x in (mean, std) if isinstance(x, recorder.TensorBase)]
    shape = tuple(broadcast_shapes(*shapes))
    kind = first._meta.dtype
    made = normals("normal", generator, meta(shape, kind), 0.0, 1.0 if std_given else std)
    if std_given:
        made = (made * std.detach()).to(kind)
    made = (made + (mean.detach() if mean_given else mean)).to(kind)
    return _with_zero_gradient(first, made) if first._meta.shape == shape else made


def _checked_probabilities(name: str, p: Any) -> np.ndarray:
    if not p._meta.dtype.is_floating_point:
        raise error(
            name, f'"bernoulli_tensor_cpu_p_" not implemented for \'{p._meta.dtype.scalar_type}\'',
            "", "give the probabilities as floating numbers", NotImplementedError,
        )  # fmt: skip
    values = recorder.value(p)
    if not ((values >= 0) & (values <= 1)).all():
        raise error(
            name, "Expected p_in >= 0 && p_in <= 1 to be true, but got false",
            f"values from {values.min()} to {values.max()}",
            "probabilities are from 0 to 1; torch.sigmoid(scores) gives some",
        )  # fmt: skip
    return values


def _check_probability(p: float) -> None:
    if not 0 <= p <= 1:
        raise error("bernoulli_", "bernoulli_ expects p to be in [0, 1]", f"but got p={p}")


@composite("bernoulli", methods=("bernoulli",))
def bernoulli(
    input: Any, p: float | None = None, *, generator: Generator | None = None, out: Any = None
) -> Any:
    """0 or 1 for each element of ``input``, which holds the probabilities of 1; or with the one
    probability ``p`` for all.
    """
    source = generator_of("bernoulli", generator)
    described = meta(input._meta.shape, input._meta.dtype)
    if p is None:
        probabilities = _checked_probabilities("bernoulli", input)
        values = fill.bernoulli_of(source, probabilities.ravel(), described.dtype.numpy)
    else:
        _check_probability(p)
        values = fill.bernoulli(source, described.numel, described.dtype.numpy, p)
    made = recorder.constant(values.reshape(tuple(described.shape)), described.dtype)
    return finished("bernoulli", _with_zero_gradient(input, made), False, out)


@composite("bernoulli_", methods=("bernoulli_",), torch_name="Tensor.bernoulli_")
def bernoulli_(input: Any, p: Any = 0.5, *, generator: Any = None) -> Any:
    """Fills with 0 and 1; ``p`` is the probability of 1, or a tensor of them (broadcast)."""
    source = generator_of("bernoulli_", generator)
    kind = input._meta.dtype.numpy
    if not isinstance(p, recorder.TensorBase):
        _check_probability(p)
        return refill(
            "bernoulli_", input, lambda: fill.bernoulli(source, input._meta.numel, kind, p)
        )
    given = np.broadcast_to(_checked_probabilities("bernoulli_", p), tuple(input._meta.shape))
    ordered = _in_memory_order(given, input)
    return refill("bernoulli_", input, lambda: fill.bernoulli_of(source, ordered, kind))


def _in_memory_order(values: np.ndarray, target: Any) -> np.ndarray:
    """The elements in the order in which the target's lie in memory."""
    strides = memory_of(target).strides
    order = sorted(range(values.ndim), key=lambda d: -strides[d])
    return values.transpose(order).ravel()


@composite("multinomial", methods=("multinomial",))
def multinomial(
    input: Any,
    num_samples: int,
    replacement: bool = False,
    *,
    generator: Generator | None = None,
    out: Any = None,
) -> Any:
    """Indices drawn with the weights in ``input``, (categories,) or (rows, categories): int64 of
    shape (num_samples,) or (rows, num_samples).
    """
    source = generator_of("multinomial", generator)
    _check_multinomial(input, num_samples, replacement)
    weights = recorder.value(input)
    weights = weights.reshape(-1, weights.shape[-1])
    half = weights.dtype.itemsize == 2
    if replacement and num_samples > 1:
        _check_weights_to_search(weights)
        wide = weights.astype(np.float32) if half else weights
        indices = discrete.multinomial_with_replacement(source, wide, num_samples)
    else:
        _check_weights(weights)
        indices = multinomial_without_replacement(source, weights, num_samples)
    shape = (*input._meta.shape[:-1], num_samples)
    return finished("multinomial", recorder.constant(indices.reshape(shape)), False, out)


def multinomial_without_replacement(
    generator: Generator, weights: np.ndarray, samples: int
) -> np.ndarray:
    """Rows of weights (not negative, with a positive sum) to different indices: int64, (rows,
    samples).
    """
    keys = discrete.race(generator, weights)
    if samples == 1:
        return np.argmax(keys, axis=-1)[:, None]
    return in_order(-keys, -1, first=samples)[1]  # the greatest first, what is no number last


def _check_multinomial(input: Any, num_samples: int, replacement: bool) -> None:
    described = input._meta
    if described.ndim not in (1, 2):
        raise error("multinomial", "prob_dist must be 1 or 2 dim", f"{described.ndim} dimensions")
    if not described.dtype.is_floating_point:
        raise error(
            "multinomial", "multinomial only supports floating-point dtypes for input",
            f"got: {described.dtype.scalar_type}",
        )  # fmt: skip
    if num_samples <= 0:
        raise error("multinomial", "cannot sample n_sample <= 0 samples", f"{num_samples}")
    categories = described.shape[-1]
    if not replacement and num_samples > categories:
        raise error(
            "multinomial",
            "cannot sample n_sample > prob_dist.size(-1) samples without replacement",
            f"{num_samples} samples of {categories} categories", "pass replacement=True",
        )  # fmt: skip
    if categories > _MOST_CATEGORIES:
        raise error("multinomial", "number of categories cannot exceed 2^24", f"{categories}")


def _check_weights(weights: np.ndarray) -> None:
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise error(
            "multinomial", "probability tensor contains either `inf`, `nan` or element < 0",
            f"values from {weights.min()} to {weights.max()}",
            "scores become probabilities by torch.softmax(scores, dim=-1)",
        )  # fmt: skip
    _check_sums(weights)


def _check_weights_to_search(weights: np.ndarray) -> None:
    problem = "negative or NaN" if not (weights >= 0).all() else ""
    if problem:
        raise error(
            "multinomial",
            "invalid multinomial distribution (encountering probability entry < 0)", problem,
        )  # fmt: skip
    if not np.isfinite(weights).all():
        raise error(
            "multinomial",
            "invalid multinomial distribution (encountering probability entry = infinity or NaN)",
        )
    _check_sums(weights)


def _check_sums(weights: np.ndarray) -> None:
    if not (weights.astype(np.float64).sum(axis=-1) > 0).all():
        raise error(
            "multinomial", "invalid multinomial distribution (sum of probabilities <= 0)",
            "a row of zeros",
        )  # fmt: skip


@composite(methods=())
def poisson(input: Any, generator: Generator | None = None) -> Any:
    """Poisson counts with the rates in ``input``, in its dtype."""
    described = input._meta
    if not described.dtype.is_floating_point:
        raise error(
            "poisson", f'"poisson_cpu" not implemented for \'{described.dtype.scalar_type}\'',
            "", "give the rates as floating numbers", NotImplementedError,
        )  # fmt: skip
    rates = recorder.value(input)
    if not (rates >= 0).all():
        raise error(
            "poisson", "invalid Poisson rate, expected rate to be non-negative", "negative ones"
        )
    counts = discrete.poisson(generator_of("poisson", generator), rates.ravel())
    values = fill.rounded(counts, described.dtype.numpy).reshape(tuple(described.shape))
    return _with_zero_gradient(input, recorder.constant(values, described.dtype))
