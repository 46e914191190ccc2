"""What operations on sliding windows share: arguments, extents, windows of an array."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from taimatsu.errors import OperationError

Extents = tuple[int, ...]
_CHUNK_BYTES = 64 << 20  # how much unrolled input a reference holds at once
_SHAPE_WORDS = {1: "(N, C, L)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}


def ntuple(name: str, what: str, value: Any, n: int, empty: Extents | None = None) -> Extents:
    """An int or a sequence of 1 or ``n`` ints as ``n`` ints; ``empty`` stands for None and ()."""
    if empty is not None and (value is None or (isinstance(value, (tuple, list)) and not value)):
        return empty
    items = value if isinstance(value, (tuple, list)) else (value,)
    try:
        items = tuple(map(operator.index, items))
    except TypeError:
        raise OperationError.make(
            name,
            f"{name}(): argument '{what}' must be an int or a tuple of {n} ints",
            f"got {value!r}",
            kind=TypeError,
        ) from None
    if len(items) == n:
        return items
    if len(items) == 1:
        return items * n
    raise OperationError.make(
        name,
        f"expected {what} to be a single integer value or a list of {n} values to match the "
        f"{n} spatial dimensions, but got {what}={list(items)}",
    )


def batched(name: str, input: Any, n: int) -> bool:
    """Whether the input has a batch dimension before channels and ``n`` spatial dimensions."""
    if input.ndim == n + 2:
        return True
    if input.ndim == n + 1:
        return False
    raise OperationError.make(
        name,
        f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {name}, "
        f"but got input of size: {list(input.shape)}",
        hint=f"the input's dimensions are {_SHAPE_WORDS[n]}; "
        "x.unsqueeze(1) adds a channel dimension after the batch's",
    )


def window_count(extent: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """How many windows fit into an extent padded on both sides."""
    return (extent + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def pooling_windows(
    extent: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> int:
    """How many windows a pooling has along an axis."""
    span = extent + 2 * padding - dilation * (kernel - 1) - 1
    count = (-(-span // stride) if ceil_mode else span // stride) + 1
    if ceil_mode and (count - 1) * stride >= extent + padding:
        count -= 1  # the last window would begin in the padding behind the image
    return count


def pooled_extents(
    name: str,
    input: Any,
    kernel: Extents,
    stride: Extents,
    padding: Extents,
    dilation: Extents,
    ceil_mode: bool,
) -> Extents:
    """The extents after pooling; raises for windows that do not fit."""

    def refuse(words: str, hint: str = "") -> Exception:
        return OperationError.make(name, words, hint=hint)

    if min(kernel) < 1:
        raise refuse(f"kernel size should be greater than zero, but got {list(kernel)}")
    if min(stride) < 1:
        raise refuse(f"stride should not be zero (or negative), but got {list(stride)}")
    if min(dilation) < 1:
        raise refuse(f"dilation should be greater than zero, but got {list(dilation)}")
    for k, p, d in zip(kernel, padding, dilation, strict=True):
        if p < 0 or p > (d * (k - 1) + 1) // 2:
            raise refuse(
                "pad should be non-negative and at most half of effective kernel size, but got "
                f"pad={p}, kernel_size={k} and dilation={d}"
            )
    extents = tuple(input.shape[2:])
    out = tuple(
        pooling_windows(n, k, s, p, d, ceil_mode)
        for n, k, s, p, d in zip(extents, kernel, stride, padding, dilation, strict=True)
    )
    if min(out) < 1 or input.shape[1] == 0:
        channels = input.shape[1]
        sizes = ["x".join(map(str, (channels, *e))) for e in (extents, out)]
        raise refuse(
            f"Given input size: ({sizes[0]}). Calculated output size: ({sizes[1]}). "
            "Output size is too small",
            "pool less often, with a smaller kernel, or give larger images",
        )
    return out


def pad_spatial(x: np.ndarray, padding: Extents, value: Any = 0) -> np.ndarray:
    """``x`` (N, C, *spatial) with ``padding`` elements of ``value`` on both sides."""
    if not any(padding):
        return x
    extents = tuple(n + 2 * p for n, p in zip(x.shape[2:], padding, strict=True))
    padded = np.full((*x.shape[:2], *extents), value, x.dtype)
    inner: Any = tuple(slice(p, p + n) for n, p in zip(x.shape[2:], padding, strict=True))
    padded[(..., *inner)] = x
    return padded


def unpad_spatial(x: np.ndarray, padding: Extents) -> np.ndarray:
    """The view of ``x`` (N, C, *spatial) without ``padding`` elements on both sides."""
    inner: Any = tuple(slice(p, n - p) for n, p in zip(x.shape[2:], padding, strict=True))
    return x[(..., *inner)]


def windows(
    x: np.ndarray, kernel: Extents, stride: Extents, dilation: Extents, out: Extents
) -> np.ndarray:
    """A read-only view (N, C, *kernel, *out) of the windows of ``x`` (N, C, *spatial)."""
    steps = x.strides[2:]
    within = tuple(s * d for s, d in zip(steps, dilation, strict=True))
    between = tuple(s * d for s, d in zip(steps, stride, strict=True))
    return np.lib.stride_tricks.as_strided(
        x, (*x.shape[:2], *kernel, *out), (*x.strides[:2], *within, *between), writeable=False
    )


def overlap_add(
    columns: np.ndarray, extents: Extents, stride: Extents, dilation: Extents
) -> np.ndarray:
    """The adjoint of ``windows``: (N, C, *kernel, *out) added up into (N, C, *extents)."""
    n = len(extents)
    kernel, out = columns.shape[2 : 2 + n], columns.shape[2 + n :]
    result = np.zeros((*columns.shape[:2], *extents), columns.dtype)
    for offset in np.ndindex(*kernel):
        place = tuple(
            slice(o * d, o * d + (m - 1) * s + 1, s)
            for o, d, m, s in zip(offset, dilation, out, stride, strict=True)
        )
        result[(..., *place)] += columns[(slice(None), slice(None), *offset)]
    return result


def sample_chunks(samples: int, bytes_each: int) -> Iterator[slice]:
    """Cuts a batch so that the unrolled windows of one part stay small."""
    step = max(1, _CHUNK_BYTES // max(1, bytes_each))
    for start in range(0, samples, step):
        yield slice(start, min(start + step, samples))


def times(extents: Sequence[int]) -> str:
    """Extents as PyTorch's messages write them: ``3 x 3``."""
    return " x ".join(map(str, extents))
