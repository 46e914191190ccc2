"""The families of operations whose samples these tests draw on, and how they meet PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import taimatsu
from taimatsu import dtypes
from taimatsu.ops import REGISTRY, Operation
from taimatsu.ops.base import Sample

MODULES = (
    "reductions",
    "cumulative",
    "differences",
    "histograms",
    "softmax",
    "matmul",
    "products",
    "einsum",
    "sorting",
    "statistics",
    "norms",
)
LAYERS = (
    "classification_losses",
    "convolution",
    "ctc",
    "embedding",
    "folding",
    "gather",
    "index_along",
    "losses",
    "margin_losses",
    "masks",
    "normalization",
    "padding",
    "pooling",
    "resize",
)
NO_DERIVATIVE = {
    "histogram",
    "histogramdd",
    "unique",
    "unique_consecutive",
    "bincount",
    "searchsorted",
    "bucketize",
}


def family(operation: Any) -> str:
    """The file that an operation is written in."""
    owner = type(operation) if isinstance(operation, Operation) else operation.function
    return owner.__module__.rsplit(".", 1)[-1]


def cases(*modules: str) -> Iterator[Any]:
    """(public name, sample) of every public operation of the families."""
    for operation in REGISTRY.values():
        if family(operation) not in (modules or MODULES) or not operation.functions:
            continue
        name = operation.functions[0]
        for number, sample in enumerate(operation.samples()):
            yield pytest.param(name, sample, id=f"{name}-{number}")


def function(library: Any, name: str) -> Any:
    """The function of a library (ours or PyTorch) with a dotted name."""
    for part in name.split("."):
        library = getattr(library, part)
    return library


def tensors(library: Any, value: Any, floating: str) -> Any:
    """Arrays as tensors, floating ones in the dtype ``floating``; dtypes as the library's."""
    if isinstance(value, np.ndarray):
        tensor = library.tensor(value.tolist(), dtype=getattr(library, value.dtype.name))
        tensor = tensor.reshape(value.shape)
        return tensor.to(getattr(library, floating)) if value.dtype.kind == "f" else tensor
    if isinstance(value, dtypes.dtype):
        return getattr(library, value.name)
    if isinstance(value, list):
        return [tensors(library, v, floating) for v in value]
    return value


def call(library: Any, name: str, sample: Sample, floating: str) -> list:
    """The results of one call, as a list of tensors."""
    args = [tensors(library, a, floating) for a in sample.args]
    kwargs = {k: tensors(library, v, floating) for k, v in sample.kwargs.items()}
    return list(flat(function(library, name)(*args, **kwargs)))


def flat(made: Any) -> Iterator[Any]:
    """The tensors in a result."""
    if isinstance(made, tuple):
        for part in made:
            yield from flat(part)
    else:
        yield made


def leaves(value: Any) -> Iterator[Any]:
    """The floating tensors in arguments."""
    if isinstance(value, taimatsu.Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from leaves(v)
