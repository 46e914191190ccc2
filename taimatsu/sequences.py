"""Tensors of sequences: ``arange``, ``linspace``, ``logspace``, ``eye``."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from taimatsu import dtypes
from taimatsu.creation import creation_error, dtype_option, finish
from taimatsu.ops.casting import converted
from taimatsu.ops.spacing import halves, spaced, stepped
from taimatsu.recorder import TensorBase, constant
from taimatsu.runtime.buffers import pool

Values = Callable[[int, int], np.ndarray]  # (begin, end) -> those numbers of a sequence
_AT_ONCE = 1 << 13  # numbers computed in one stretch, so that its temporaries stay in the cache
_RECORDED_FROM = 1 << 13  # numbers: from here on a program takes less time than NumPy


def _sequence(count: int, kind: Any, values: Values) -> Any:
    """A new tensor of numbers that ``values`` gives."""
    if count <= _AT_ONCE:
        return constant(converted(values(0, count), kind), kind)
    result = pool.empty(count, kind.numpy)
    for begin in range(0, count, _AT_ONCE):
        end = min(begin + _AT_ONCE, count)
        part = values(begin, end)
        result[begin:end] = part if part.dtype == result.dtype else converted(part, kind)
    return constant(result, kind)


def _whole_steps(start: int, step: int, count: int, kind: Any) -> Any:
    first = start + np.arange(min(count, _AT_ONCE), dtype=np.int64) * step
    if count <= _AT_ONCE:
        return constant(converted(first, kind), kind)
    result = pool.empty(count, kind.numpy)
    for begin in range(0, count, _AT_ONCE):
        part = result[begin : begin + _AT_ONCE]
        # What does not fit wraps around, in 64 bits and then in those of the dtype.
        further = np.uint64(begin * step & 0xFFFFFFFFFFFFFFFF).view(np.int64)
        np.add(first[: len(part)], further, out=part, casting="unsafe")
    return constant(result, kind)


def _steps(start: Any, step: Any, count: int, kind: Any) -> Any:
    if kind in (dtypes.float32, dtypes.float64) and count >= _RECORDED_FROM:
        return stepped(start, step, count, kind)
    return _sequence(
        count, kind, lambda begin, end: start + np.arange(begin, end, dtype=np.float64) * step
    )


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
        made = _whole_steps(int(start), int(step), count, kind)
    else:
        made = _steps(start, step, count, kind)
    made = finish(made, requires_grad)
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
    made = _steps(start, step, count, kind)
    return finish(made, options.get("requires_grad", False))


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
    made = finish(_evenly(start, end, int(steps), kind), requires_grad)
    return made if out is None else out.copy_(made)


def _evenly(start: Any, end: Any, steps: int, kind: Any) -> Any:
    """A new tensor of evenly spaced numbers."""
    if kind is dtypes.float32 and steps >= _RECORDED_FROM:
        first, step, last = map(float, _distances(start, end, steps, kind))
        return spaced(first, step, last, steps)
    return _sequence(steps, kind, _spaced(start, end, steps, kind))


def _spaced(start: Any, end: Any, steps: int, kind: Any) -> Values:
    """The numbers of PyTorch's ``linspace``, in the arithmetic that it computes them with."""
    if steps == 1:
        return lambda begin, end: np.array([start])
    with np.errstate(over="ignore", invalid="ignore"):
        first, step, last = _distances(start, end, steps, kind)
    if step.dtype.itemsize > 2 and step.dtype.kind == "f":
        return lambda begin, end: halves(first, step, last, steps, begin, end)

    # float16 and bfloat16 round each result; complex numbers are not fused.
    through = np.dtype(np.float32) if step.dtype.itemsize == 2 else step.dtype

    def rounded(begin: int, end: int) -> np.ndarray:
        index = np.arange(begin, end)
        with np.errstate(over="ignore", invalid="ignore"):
            forwards, backwards = (
                i.astype(through).astype(step.dtype) for i in (index, steps - 1 - index)
            )
            return np.where(index < steps // 2, first + step * forwards, last - step * backwards)

    return rounded


def _distances(start: Any, end: Any, steps: int, kind: Any) -> tuple[Any, Any, Any]:
    """First number, step and last number; for integers in float64."""
    work = kind.numpy.type
    if kind.category == dtypes.INTEGER:
        work = np.float64
        start, end = (converted(np.array(x), kind) for x in (start, end))
    first, last = work(start), work(end)
    return first, (last - first) / work(max(steps - 1, 1)), last


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
    if steps < 0:
        raise creation_error("logspace", "number of steps must be non-negative")
    work = np.dtype(np.complex128 if kind.is_complex else np.float64)
    # The whole distance is rounded to the dtype, a step is not.
    distances = _distances(_plain(start), _plain(end), 2, kind)
    first, whole, last = (np.array(x).astype(work) for x in distances)
    step = whole / max(steps - 1, 1)
    if steps == 1 and kind.category != dtypes.INTEGER:
        first = np.array(_plain(start)).astype(work)  # PyTorch does not round it

    def powers(begin: int, end: int) -> np.ndarray:
        """In float64, rounded to the dtype; to the half precisions through float32."""
        index = np.arange(begin, end)
        half = min(max(steps // 2 if steps > 1 else 1, begin), end) - begin
        exponents = np.empty(end - begin, work)
        exponents[:half] = first + step * index[:half]
        exponents[half:] = last - step * (steps - 1 - index[half:])
        with np.errstate(over="ignore"):
            made = np.power(base, exponents)
            return made.astype(np.float32) if kind.itemsize == 2 else made

    made = finish(_sequence(int(steps), kind, powers), requires_grad)
    return made if out is None else out.copy_(made)


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
