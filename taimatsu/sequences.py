"""Tensors of sequences: ``arange``, ``linspace``, ``logspace``, ``eye``."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from taimatsu import dtypes
from taimatsu.creation import creation_error, dtype_option, finish
from taimatsu.ops.casting import converted
from taimatsu.recorder import TensorBase, constant


def _plain(given: Any) -> Any:
    return given.item() if isinstance(given, (TensorBase, np.generic)) else given


def arange(
    start: Any,
    end: Any = None,
    step: Any = 1,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    out: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
) -> Any:
    """``start``, ``start + step``, ... up to but not ``end``."""
    if end is None:
        start, end = 0, start
    start, end, step = _plain(start), _plain(end), _plain(step)
    integral = all(isinstance(x, int) for x in (start, end, step))
    kind = dtype_option(dtype, device, dtypes.int64 if integral else None)
    if step == 0:
        raise creation_error("arange", "step must be nonzero")
    if (end - start) / step < 0:
        raise creation_error(
            "arange",
            f"upper bound and lower bound inconsistent with step sign: from {start} to {end} by "
            f"{step}",
            "a negative step counts down",
        )
    count = math.ceil((end - start) / step) if not integral else -((start - end) // step)
    if kind.category == dtypes.INTEGER:
        array = int(start) + np.arange(count, dtype=np.int64) * int(step)
    else:
        array = start + np.arange(count, dtype=np.float64) * step
    made = finish(constant(converted(array, kind), kind), requires_grad)
    return made if out is None else out.copy_(made)


def range_(start: Any = 0, end: Any = None, step: Any = 1, **options: Any) -> Any:
    """``torch.range``: like ``arange``, but includes the end (deprecated)."""
    warnings.warn(
        "torch.range is deprecated and will be removed in a future release because its behavior "
        "is inconsistent with Python's range builtin. Instead, use torch.arange, which produces "
        "values in [start, end).",
        stacklevel=2,
    )
    count = math.floor((end - start) / step) + 1
    kind = dtype_option(options.pop("dtype", None), options.pop("device", None))
    array = start + np.arange(count, dtype=np.float64) * step
    return finish(constant(converted(array, kind), kind), options.get("requires_grad", False))


def linspace(
    start: Any,
    end: Any,
    steps: int,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    out: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
) -> Any:
    """``steps`` values from ``start`` to ``end``, evenly spaced, both included."""
    start, end = _plain(start), _plain(end)
    kind = dtype_option(dtype, device)
    if isinstance(start, complex) or isinstance(end, complex):
        kind = kind.to_complex()
    if steps < 0:
        raise creation_error("linspace", "number of steps must be non-negative")
    made = finish(constant(_spaced(start, end, int(steps), kind), kind), requires_grad)
    return made if out is None else out.copy_(made)


def _spaced(start: Any, end: Any, steps: int, kind: Any) -> np.ndarray:
    """PyTorch's linspace: from the start in the first half, from the end in the second."""
    if steps == 1:
        return converted(np.array([start]), kind)
    work = np.dtype(np.float64) if kind.category == dtypes.INTEGER else kind.numpy
    if work.itemsize == 2:
        work = np.dtype(np.float32)
    first, last = work.type(start), work.type(end)
    step = (last - first) / work.type(max(steps - 1, 1))
    index = np.arange(steps)
    low = first + step * index.astype(work)
    high = last - step * (steps - 1 - index).astype(work)
    return converted(np.where(index < steps // 2, low, high), kind)


def logspace(
    start: Any,
    end: Any,
    steps: int,
    base: float = 10.0,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    out: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
) -> Any:
    """``steps`` values from ``base**start`` to ``base**end``, evenly spaced on a log scale."""
    kind = dtype_option(dtype, device)
    work = kind if kind.category >= dtypes.FLOAT else dtypes.float64
    powers = np.power(work.numpy.type(base), _spaced(_plain(start), _plain(end), steps, work))
    return finish(constant(converted(powers, kind), kind), requires_grad)


def eye(
    n: int,
    m: int | None = None,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    out: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
) -> Any:
    """A matrix of ``n`` rows and ``m`` columns with ones on the diagonal."""
    if n < 0 or (m is not None and m < 0):
        raise creation_error("eye", f"n must be greater or equal to 0, got {n if n < 0 else m}")
    kind = dtype_option(dtype, device)
    made = finish(constant(np.eye(n, m, dtype=kind.numpy), kind), requires_grad)
    return made if out is None else out.copy_(made)
