"""Lines in order: sorting and selection, for the references of sort, topk, median and their like.

Elements become integers that compare as they do. A sort packs each with its position into one
number, so that NumPy's fast sort of plain numbers, which is not stable, gives the one stable order.
A selection first finds a bound for what it looks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from taimatsu.runtime.shares import share

_SHARE = 1 << 16  # elements that a thread takes at once: they stay in its cache
_LONG = 1 << 17  # elements of a line that threads sort in parts
_PARTS = 4
_RADIX = 512  # from this length on NumPy's radix sort of 16 bits is the faster one


def in_order(
    x: np.ndarray, dim: int, descending: bool = False, first: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(values, positions) of the elements along ``dim`` in order, or of the ``first`` so many.

    Equal elements keep their order in both directions; NaN is the largest.
    """
    n = x.shape[dim]
    lines, shape = _lines(x, dim)
    width = n if first is None else first
    values = np.empty((len(lines), width), x.dtype)
    order = np.empty((len(lines), width), np.int64)

    def work(few: np.ndarray, start: int, stop: int) -> None:
        keys = keys_of(few)
        if first is None:
            places = order_of(keys, descending)
        else:
            places = first_of(~keys if descending else keys, first)
        order[start:stop] = places
        places += np.arange(0, few.size, n)[:, None]
        few.reshape(-1).take(places, out=values[start:stop], mode="clip")

    _share_lines(lines, work)
    values, order = (made.reshape(*shape, width) for made in (values, order))
    if dim in (-1, x.ndim - 1):
        return values, order
    return tuple(np.ascontiguousarray(np.moveaxis(made, -1, dim)) for made in (values, order))


def place_of_kth(x: np.ndarray, k: int) -> np.ndarray:
    """The position in the last axis of element number ``k`` (from 0) of that axis in order."""
    lines, shape = _lines(x, -1)
    made = np.empty(len(lines), np.int64)

    def work(few: np.ndarray, start: int, stop: int) -> None:
        made[start:stop] = kth_of(keys_of(few), k)

    _share_lines(lines, work)
    return made.reshape(shape)


def _lines(x: np.ndarray, dim: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """The lines along ``dim`` as a matrix, and the shape of the other dimensions."""
    moved = np.moveaxis(x, dim, -1)
    shape = moved.shape[:-1]
    return moved.reshape(math.prod(shape), moved.shape[-1]), shape


def _share_lines(lines: np.ndarray, work: Callable[[np.ndarray, int, int], None]) -> None:
    """Calls ``work`` for some (contiguous) lines after the others, several threads at once."""
    if lines.size:
        share(
            lambda start, stop: work(np.ascontiguousarray(lines[start:stop]), start, stop),
            len(lines),
            max(1, _SHARE // lines.shape[-1]),
        )


def keys_of(x: np.ndarray) -> np.ndarray:
    """Integers that compare as the elements do: zeros are equal, NaN is the largest."""
    if x.dtype.kind == "b":
        return x.view(np.uint8)
    if x.dtype.kind != "f":
        return x
    kind = np.dtype(f"i{x.itemsize}")
    least = np.iinfo(kind).min
    bits = x.view(kind)
    keys = np.where(bits < 0, least - bits, bits)  # sign and magnitude to two's complement
    unknown = x != x
    if unknown.any():
        keys[unknown] = np.iinfo(kind).max
    return keys


def order_of(keys: np.ndarray, descending: bool = False) -> np.ndarray:
    """Positions (m, n), int64, that sort each line of (m, n) keys; equal ones keep their order."""
    n = keys.shape[-1]
    if not keys.size:
        return np.zeros(keys.shape, np.int64)
    low, high = keys.min(), keys.max()
    span, place = (int(high) - int(low)).bit_length(), (n - 1).bit_length()
    if span <= 16 and n >= _RADIX:
        kind = np.uint8 if span <= 8 else np.uint16
        return np.argsort(_distances(keys, low, high, descending, kind), -1, kind="stable")
    packed = _distances(keys, low, high, descending, np.int32 if span + place < 32 else np.int64)
    dropped = max(span + place - 63, 0)
    if dropped:
        packed = (packed.view(np.uint64) >> np.uint64(dropped)).view(np.int64)
    packed <<= place
    packed |= np.arange(n, dtype=packed.dtype)
    _sort_lines(packed)
    packed &= (1 << place) - 1
    order = packed.astype(np.int64, copy=False)
    return _repaired(keys, order, descending) if dropped else order


def _distances(
    keys: np.ndarray, low: np.integer, high: np.integer, descending: bool, kind: type
) -> np.ndarray:
    """How far each key is from the one that comes first; ``kind`` has room for it, unsigned."""
    if descending:
        return np.subtract(high, keys, dtype=kind, casting="unsafe")
    return np.subtract(keys, low, dtype=kind, casting="unsafe")


def _sort_lines(packed: np.ndarray) -> None:
    n = packed.shape[-1]
    if n < _LONG or n % _PARTS:
        packed.sort(-1)
        return
    for line in packed:
        parts = line.reshape(_PARTS, -1)
        share(lambda start, stop, parts=parts: parts[start:stop].sort(-1), _PARTS, 1)
        line.sort(kind="stable")  # timsort: merges what is in order already


def _repaired(keys: np.ndarray, order: np.ndarray, descending: bool) -> np.ndarray:
    """The order of whole keys, from one in which their last bits did not count."""
    ordered = np.take_along_axis(keys, order, -1)
    if descending:
        ordered = ~ordered
    if (ordered[:, 1:] >= ordered[:, :-1]).all():
        return order
    return np.take_along_axis(order, np.argsort(ordered, -1, kind="stable"), -1)


def first_of(keys: np.ndarray, count: int) -> np.ndarray:
    """Positions (m, count) of the least keys of each line, in order; of equal ones the first."""
    m, n = keys.shape
    if not m * count:
        return np.zeros((m, count), np.int64)
    if count > n // 4:
        return order_of(keys)[:, :count]
    places, starts = _up_to(keys, _bound(keys, count))
    widths = np.diff(starts, append=len(places))
    slots = np.arange(widths.max())
    few = np.full((m, len(slots)), np.iinfo(keys.dtype).max, keys.dtype)
    few[slots < widths[:, None]] = keys.reshape(-1)[places]
    chosen = order_of(few)[:, :count]
    return places[chosen + starts[:, None]] - np.arange(0, m * n, n)[:, None]


def _bound(keys: np.ndarray, count: int) -> np.ndarray:
    """A key of each line (m, 1) that at least ``count`` keys do not exceed, and not many more.

    The ``count``-th of the least keys of blocks is one: there are so many blocks with such a key.
    """
    m, n = keys.shape
    size = n // (8 * count)
    if size > 1:
        blocks = n // size
        keys = keys[:, : blocks * size].reshape(m, size, blocks).min(1)
    return np.partition(keys, count - 1, -1)[:, count - 1 : count]


def _up_to(keys: np.ndarray, bound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where keys do not exceed their line's bound, in all lines as one; where each line starts."""
    places = np.flatnonzero(keys <= bound)
    return places, np.searchsorted(places, np.arange(0, keys.size, keys.shape[-1]))


def kth_of(keys: np.ndarray, k: int) -> np.ndarray:
    """Positions (m,) of each line's element number ``k`` (from 0) in the stable order."""
    m, n = keys.shape
    if k < n // 8:
        return first_of(keys, k + 1)[:, k]
    value = np.partition(keys, k, -1)[:, k : k + 1]
    before = np.count_nonzero(keys < value, axis=-1)
    places = np.flatnonzero(keys == value)
    starts = np.arange(0, m * n, n)
    return places[np.searchsorted(places, starts) + k - before] - starts
