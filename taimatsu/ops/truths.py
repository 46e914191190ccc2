"""Where arrays are not zero: what nonzero, masks and indices with masks go by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from taimatsu.runtime.buffers import pool
from taimatsu.runtime.shares import share

_SHARE = 1 << 16  # elements that a thread searches at once: their places stay in its cache


def places_of(values: np.ndarray) -> np.ndarray:
    """Where elements are not zero, in the order of elements: int64 (count, dimensions)."""
    flat, ends = _counted(values)
    made = pool.array((ends[-1], values.ndim), np.int64)
    _write_places(flat, values.shape, ends, list(made.T))
    return made


def coordinates_of(values: np.ndarray) -> list[np.ndarray]:
    """Where elements are not zero, in the order of elements: a vector for each dimension."""
    flat, ends = _counted(values)
    made = [pool.empty(ends[-1], np.int64) for _ in values.shape]
    _write_places(flat, values.shape, ends, made)
    return made


def _counted(values: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Which elements are not zero, flat; how many there are before each share, and at the end."""
    flat = (values if values.dtype.kind == "b" else values != 0).reshape(-1)
    ends = [0]
    for start in range(0, flat.size, _SHARE):
        ends.append(ends[-1] + int(np.count_nonzero(flat[start : start + _SHARE])))
    return flat, ends


def _write_places(
    flat: np.ndarray, shape: tuple[int, ...], ends: list[int], columns: Sequence[np.ndarray]
) -> None:
    def work(start: int, stop: int) -> None:
        found = np.flatnonzero(flat[start:stop])
        found += start
        first, last = ends[start // _SHARE], ends[start // _SHARE + 1]
        for d in range(len(shape) - 1, 0, -1):
            line = found // shape[d]
            np.subtract(found, line * shape[d], out=columns[d][first:last])
            found = line
        if shape:
            columns[0][first:last] = found

    share(work, flat.size, _SHARE)
