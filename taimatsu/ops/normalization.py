"""Normalisation by mean and variance: of batches, layers, groups, instances."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

from taimatsu.dtypes import finfo
from taimatsu.errors import OperationError
from taimatsu.ops.base import Sample, array, composite
from taimatsu.ops.padding import pad
from taimatsu.ops.pooling import AVG_POOLS
from taimatsu.ops.resampling import need_float
from taimatsu.ops.standardizing import NormalizeWith, Shape, Standardize, statistics_type


def _check_vectors(name: str, channels: int, **vectors: Any) -> None:
    for word, vector in vectors.items():
        if vector is not None and vector.numel() != channels:
            raise OperationError.make(
                name,
                f"{word} should contain {channels} elements not {vector.numel()}",
                hint="the input's dimension 1 holds the channels; a layer made with "
                f"num_features={channels} fits",
            )


# -- batch and instance ------------------------------------------------------------------------


def _batch_samples() -> Iterator[Sample]:
    statistics = (array(3), array(3, low=0.5, seed=1))
    affine = {"weight": array(3, seed=2), "bias": array(3, seed=3)}
    yield Sample(array(4, 3), None, None, training=True)
    yield Sample(array(2, 3, 2, 4), None, None, training=True, **affine)
    yield Sample(array(2, 3, 5), *statistics, **affine)
    yield Sample(array(4, 3), *statistics, eps=0.1)


@composite("nn.functional.batch_norm", samples=_batch_samples)
def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Normalises each channel (dim 1) of (N, C, *) over the others. Ioffe and Szegedy 2015.

    Training uses the batch's statistics and moves the running ones towards them in place
    (``running_var`` towards the unbiased variance); otherwise the running ones are used.
    """
    need_float("batch_norm", input)
    if input.ndim == 1 and input.numel() == 0:
        return input.clone()
    if input.ndim < 2:
        raise OperationError.make(
            "batch_norm",
            "Expected 2 or more dimensions (N, C, ...)",
            f"got shape {list(input.shape)}",
            kind=ValueError,
        )
    channels = input.shape[1]
    if training and prod((input.shape[0], *input.shape[2:])) == 1:
        raise OperationError.make(
            "batch_norm",
            f"Expected more than 1 value per channel when training, got input size {input.shape!r}",
            hint="use a batch of at least 2 (DataLoader(..., drop_last=True)), or module.eval()",
            kind=ValueError,
        )
    _check_vectors(
        "batch_norm",
        channels,
        running_mean=running_mean,
        running_var=running_var,
        weight=weight,
        bias=bias,
    )
    _check_same_type(input, running_mean, running_var, weight, bias)
    if training:
        return _over_batch(input, running_mean, running_var, weight, bias, momentum, eps)
    for word, statistic in (("running_mean", running_mean), ("running_var", running_var)):
        if statistic is None:
            raise OperationError.make(
                "batch_norm", f"{word} must be defined in evaluation mode", hint="or training=True"
            )
    return NormalizeWith.apply(input, running_mean, running_var, weight, bias, eps=float(eps))


def _check_same_type(input: Any, *others: Any) -> None:
    allowed = {input.dtype, statistics_type(input.dtype)}
    for other in others:
        if other is not None and other.dtype not in allowed:
            raise OperationError.make(
                "batch_norm",
                "mixed dtype (CPU): all inputs must share same datatype.",
                f"got input {input.dtype!r} and {other.dtype!r}",
                f"x.to({other.dtype!r}) converts the input",
            )


def _over_batch(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any,
    bias: Any,
    momentum: Any,
    eps: float,
) -> Any:
    axes = (0, *range(2, input.ndim))
    affine = (1, input.shape[1], *(1,) * (input.ndim - 2))
    out, mean, var = Standardize.apply(
        input,
        weight,
        bias,
        view=tuple(input.shape),
        axes=axes,
        affine=affine,
        eps=float(eps),
        kind="Batch",
    )
    rate = 0.0 if momentum is None else momentum
    if running_mean is not None:
        _move(running_mean, mean, rate)
    if running_var is not None:
        size = prod(input.shape[d] for d in axes)
        _move(running_var, var * (size / max(size - 1, 1)), rate)
    return out


def _move(running: Any, statistic: Any, rate: float) -> None:
    """Moves a running statistic towards this batch's, in place and outside the graph."""
    new = statistic.detach().reshape(running.shape).to(running.dtype)
    running.mul_(1 - rate).add_(new, alpha=rate)


@composite(
    "nn.functional.instance_norm",
    samples=lambda: iter(
        [
            Sample(array(2, 3, 5)),
            Sample(array(2, 3, 2, 4), weight=array(3, seed=2), bias=array(3, seed=3)),
        ]
    ),
)
def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Normalises each channel of each sample of (N, C, *spatial). Ulyanov et al. 2016."""
    if use_input_stats and prod(input.shape[2:]) == 1:
        raise OperationError.make(
            "instance_norm",
            f"Expected more than 1 spatial element when training, got input size {input.shape!r}",
            kind=ValueError,
        )
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    need_float("instance_norm", input)
    channels = input.shape[1]
    _check_vectors("instance_norm", channels, weight=weight, bias=bias)
    out, mean, var = Standardize.apply(
        input,
        weight,
        bias,
        view=tuple(input.shape),
        axes=tuple(range(2, input.ndim)),
        affine=(1, channels, *(1,) * (input.ndim - 2)),
        eps=float(eps),
        kind="Batch",
    )
    if running_mean is not None:
        _move(running_mean, mean.detach().mean(0), momentum)
    if running_var is not None:
        size = prod(input.shape[2:])
        _move(running_var, var.detach().mean(0) * (size / (size - 1)), momentum)
    return out


# -- layers and groups -------------------------------------------------------------------------


def _normalized_shape(name: str, input: Any, given: Any, weight: Any, bias: Any = None) -> Shape:
    if not isinstance(given, Sequence):
        raise OperationError.make(
            name,
            f"{name}(): argument 'normalized_shape' (position 2) must be tuple of ints, "
            f"not {type(given).__name__}",
            kind=TypeError,
        )
    shape = tuple(given)
    if not shape:
        raise OperationError.make(
            name,
            "Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one "
            "element, but got normalized_shape = []",
        )
    for word, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and tuple(tensor.shape) != shape:
            raise OperationError.make(
                name,
                f"Expected {word} to be of same shape as normalized_shape, but got {word} of shape "
                f"{list(tensor.shape)} and normalized_shape = {list(shape)}",
            )
    if tuple(input.shape[max(0, input.ndim - len(shape)) :]) != shape:
        stars = ", ".join(["*", *map(str, shape)])
        raise OperationError.make(
            name,
            f"Given normalized_shape={list(shape)}, expected input with shape [{stars}], "
            f"but got input of size{list(input.shape)}",
            hint="the last dimensions are normalised",
        )
    return shape


@composite(
    "layer_norm",
    "nn.functional.layer_norm",
    methods=(),
    samples=lambda: iter(
        [
            Sample(array(3, 4), (4,), dtypes=("float32", "float64", "bfloat16")),
            Sample(array(2, 3, 4), (3, 4), array(3, 4, seed=1), array(3, 4, seed=2)),
        ]
    ),
)
def layer_norm(
    input: Any,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Any:
    """Normalises over the last dimensions, ``normalized_shape``. Ba et al. 2016."""
    need_float("layer_norm", input)
    shape = _normalized_shape("layer_norm", input, normalized_shape, weight, bias)
    lead = input.ndim - len(shape)
    return Standardize.apply(
        input,
        weight,
        bias,
        view=tuple(input.shape),
        axes=tuple(range(lead, input.ndim)),
        affine=(1,) * lead + shape,
        eps=float(eps),
        kind="Layer",
    )[0]


@composite(
    "group_norm",
    "nn.functional.group_norm",
    methods=(),
    samples=lambda: iter(
        [
            Sample(array(2, 4, 3), 2),
            Sample(array(2, 6, 2, 3), 3, array(6, seed=1), array(6, seed=2)),
        ]
    ),
)
def group_norm(
    input: Any,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Any:
    """Normalises groups of channels of each sample of (N, C, *). Wu and He 2018."""
    need_float("group_norm", input)
    if input.ndim < 2:
        raise OperationError.make(
            "group_norm",
            f"Expected at least 2 dimensions for input tensor but received {input.ndim}",
        )
    samples, channels, *rest = input.shape
    if num_groups <= 0 or channels % num_groups:
        raise OperationError.make(
            "group_norm",
            "Expected number of channels in input to be divisible by num_groups, but got input of "
            f"shape {list(input.shape)} and num_groups={num_groups}",
        )
    for word, vector in (("weight", weight), ("bias", bias)):
        if vector is not None and tuple(vector.shape) != (channels,):
            raise OperationError.make(
                "group_norm",
                f"Expected {word} to be a vector of size equal to the number of channels in input, "
                f"but got {word} of shape {list(vector.shape)} and input of shape "
                f"{list(input.shape)}",
            )
    if samples * channels // num_groups * prod(rest) == 1:
        raise OperationError.make(
            "group_norm",
            "Expected more than 1 value per channel when training, got input size "
            f"{list(input.shape)}",
            kind=ValueError,
        )
    view = (samples, num_groups, channels // num_groups, *rest)
    return Standardize.apply(
        input,
        weight,
        bias,
        view=view,
        axes=tuple(range(2, len(view))),
        affine=(1, num_groups, channels // num_groups, *(1,) * len(rest)),
        eps=float(eps),
        kind="Group",
    )[0]


@composite(
    "rms_norm",
    "nn.functional.rms_norm",
    methods=(),
    samples=lambda: iter(
        [
            Sample(array(3, 4), (4,)),
            Sample(array(2, 3, 4), (3, 4), array(3, 4, seed=1), 0.1),
        ]
    ),
)
def rms_norm(
    input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None
) -> Any:
    """x / sqrt(mean(x ** 2) + eps) * weight over the last dimensions. Zhang and Sennrich 2019."""
    need_float("rms_norm", input)
    shape = _normalized_shape("rms_norm", input, normalized_shape, weight)
    wide = input.to(statistics_type(input.dtype))
    axes = tuple(range(input.ndim - len(shape), input.ndim))
    floor = finfo(wide.dtype).eps if eps is None else eps
    out = wide * (wide.square().mean(axes, keepdim=True) + floor).rsqrt()
    if weight is not None:
        out = out * weight
    return out.to(input.dtype)


@composite(
    "nn.functional.local_response_norm",
    samples=lambda: iter(
        [
            Sample(array(2, 5, 3), 3),
            Sample(array(2, 4, 3, 2), 2, alpha=0.1, beta=0.5, k=2.0),
        ]
    ),
)
def local_response_norm(
    input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Any:
    """x / (k + alpha * mean of squares in ``size`` neighbouring channels) ** beta."""
    if input.ndim < 3:
        raise OperationError.make(
            "local_response_norm",
            "Expected 3D or higher dimensionality input",
            f"(got {input.ndim} dimensions)",
            kind=ValueError,
        )
    if input.numel() == 0:
        return input
    samples, channels = input.shape[:2]
    squares = (input * input).reshape(samples, 1, channels, -1)
    squares = pad(squares, (0, 0, size // 2, (size - 1) // 2))
    near = AVG_POOLS[1](squares, (size, 1), 1).reshape(input.shape)
    return input / (near * alpha + k) ** beta
