"""Lines in order: sorting and selection, for the references of sort, topk, median and their like.

Elements become integers that compare as they do. A sort packs each with its position into one
number, so that NumPy's fast sort of plain numbers, which is not stable, gives the one stable order.
A selection first finds a bound for what it looks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from taimatsu.runtime.buffers import pool
from taimatsu.runtime.shares import share

_SORTED = 1 << 16  # elements that a thread sorts at once: they stay in its cache
_SEARCHED = 1 << 18  # elements that it searches at once: passes are short, so larger shares pay
_FEW = 1 << 11  # keys for which packing does not pay
_LONG = 1 << 17  # elements of a line that threads sort in parts
_PARTS = 4
_SAMPLE = 32  # keys of a line that are looked at, and how often one of them is frequent
_OFTEN = 8
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
    values = pool.array((len(lines), width), x.dtype)
    order = pool.array((len(lines), width), np.int64)

    def work(few: np.ndarray, start: int, stop: int) -> None:
        keys = keys_of(few)
        if first is None:
            order_of(keys, descending, order[start:stop])
        else:
            order[start:stop] = first_of(~keys if descending else keys, first)
        _gather(few, order[start:stop], values[start:stop])

    _share_lines(lines, work, _SORTED if first is None else _SEARCHED)
    shape = (*shape, width)
    return _back(values.reshape(shape), dim), _back(order.reshape(shape), dim)


def place_of_kth(x: np.ndarray, k: int) -> np.ndarray:
    """The position in the last axis of element number ``k`` (from 0) of that axis in order."""
    return places_in_lines(x, lambda few: kth_of(keys_of(few), k), _SEARCHED)


def places_in_lines(
    x: np.ndarray, rule: Callable[[np.ndarray], np.ndarray], size: int = _SORTED
) -> np.ndarray:
    """What ``rule`` gives for some lines (m, n), a position (m,) for each, for all of ``x``."""
    lines, shape = _lines(x, -1)
    made = np.empty(len(lines), np.int64)

    def work(few: np.ndarray, start: int, stop: int) -> None:
        made[start:stop] = rule(few)

    _share_lines(lines, work, size)
    return made.reshape(shape)


def _lines(x: np.ndarray, dim: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """The lines along ``dim`` as a matrix, and the shape of the other dimensions."""
    moved = x if dim in (-1, x.ndim - 1) else np.moveaxis(x, dim, -1)
    shape = moved.shape[:-1]
    return moved.reshape(math.prod(shape), moved.shape[-1]), shape


def _back(made: np.ndarray, dim: int) -> np.ndarray:
    """An array with its last axis where it came from."""
    if dim in (-1, made.ndim - 1):
        return made
    return np.ascontiguousarray(np.moveaxis(made, -1, dim))


def _share_lines(
    lines: np.ndarray, work: Callable[[np.ndarray, int, int], None], size: int
) -> None:
    """Calls ``work`` for (contiguous) lines of about ``size`` elements, several threads at once."""
    if lines.size:
        share(
            lambda start, stop: work(np.ascontiguousarray(lines[start:stop]), start, stop),
            len(lines),
            max(1, size // lines.shape[-1]),
        )


def distinct(x: np.ndarray, places: bool) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """The different elements of a vector in order, which of them each one is, their counts."""
    integers = x.dtype.kind in "biu"
    if integers:
        low, high = x.min(), x.max()
        if int(high) - int(low) <= x.size:
            return _counted(x, low, places)
    if places or not integers:
        ordered, order = in_order(x, 0)
    else:
        ordered, order = pool.array(x.shape, x.dtype), None
        ordered[...] = x
        sort_lines(ordered[None])
    starts = np.ones(len(x), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=starts[1:])
    first = np.flatnonzero(starts)
    which = None
    if order is not None:
        which = np.empty(len(x), np.int64)
        which[order] = np.cumsum(starts) - 1
    return ordered[first], which, np.diff(first, append=len(x))


def _counted(
    x: np.ndarray, low: np.generic, places: bool
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """``distinct`` of integers, the lowest ``low``, that are not much apart: they are counted."""
    place = np.subtract(x, low, dtype=np.int64, casting="unsafe")
    counts = np.bincount(place)
    present = np.flatnonzero(counts)
    values = np.add(present, low, dtype=x.dtype, casting="unsafe")
    which = (np.cumsum(counts > 0) - 1)[place] if places else None
    return values, which, counts[present]


def keys_of(x: np.ndarray) -> np.ndarray:
    """Integers that compare as the elements do: zeros are equal, NaN is the largest.

    Of 32 or 64 bits, which NumPy sorts and partitions fast.
    """
    if x.dtype.kind in "biu":
        return x if x.itemsize >= 4 else x.astype(np.int32)
    bits = x.view(f"i{x.itemsize}")
    greatest = np.iinfo(bits.dtype).max
    negative = bits >> (8 * x.itemsize - 1)  # 0 or -1
    keys = bits & greatest
    keys ^= negative  # the magnitude, negated where the sign says so
    keys -= negative
    unknown = x != x
    if unknown.any():
        keys[unknown] = greatest
    return keys if x.itemsize >= 4 else keys.astype(np.int32)


def order_of(
    keys: np.ndarray, descending: bool = False, out: np.ndarray | None = None
) -> np.ndarray:
    """Positions (m, n), int64, that sort each line of (m, n) keys; equal ones keep their order."""
    n = keys.shape[-1]
    order = pool.array(keys.shape, np.int64) if out is None else out
    if keys.size < _FEW:
        order[...] = np.argsort(~keys if descending else keys, -1, kind="stable")
        return order
    low, high = keys.min(), keys.max()
    span, place = (int(high) - int(low)).bit_length(), (n - 1).bit_length()
    if span <= 16 and n >= _RADIX:
        few_bits = pool.array(keys.shape, np.uint8 if span <= 8 else np.uint16)
        _set_distances(few_bits, keys, low, high, descending)
        order[...] = np.argsort(few_bits, -1, kind="stable")
        return order
    packed = order if span + place > 31 else pool.array(keys.shape, np.int32)
    _set_distances(packed, keys, low, high, descending)
    dropped = max(span + place - 63, 0)
    if dropped:
        distances = packed.view(np.uint64)
        distances >>= dropped
    packed <<= place
    packed |= np.arange(n, dtype=packed.dtype)
    sort_lines(packed)
    np.bitwise_and(packed, (1 << place) - 1, out=order)
    if dropped:
        _repair(keys, order, descending)
    return order


def _set_distances(
    out: np.ndarray, keys: np.ndarray, low: np.integer, high: np.integer, descending: bool
) -> None:
    """How far each key is from the one that comes first; ``out`` has room for it, unsigned."""
    if descending:
        np.subtract(high, keys, out=out, dtype=out.dtype, casting="unsafe")
    else:
        np.subtract(keys, low, out=out, dtype=out.dtype, casting="unsafe")


def sort_lines(packed: np.ndarray) -> None:
    """Sorts lines (m, n) of integers in place."""
    if packed.shape[-1] < _LONG:
        packed.sort(-1)
        return
    for line in packed:
        _sort_long(line)


def _sort_long(line: np.ndarray) -> None:
    size = -(-len(line) // _PARTS)
    share(lambda start, stop: line[start:stop].sort(), len(line), size)
    line.sort(kind="stable")  # timsort: merges what is in order already


def _repair(keys: np.ndarray, order: np.ndarray, descending: bool) -> None:
    """Makes the order that of whole keys, where their last bits did not count."""
    ordered = _gather(keys, order)
    if descending:
        ordered = ~ordered
    if (ordered[:, 1:] < ordered[:, :-1]).any():
        order[...] = _gather(order, np.argsort(ordered, -1, kind="stable"))


def _gather(x: np.ndarray, places: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """The elements of each line of ``x`` (contiguous) at that line's ``places``."""
    if len(x) > 1:
        places = places + np.arange(0, x.size, x.shape[-1])[:, None]
    return x.reshape(-1).take(places, out=out, mode="clip")


def first_of(keys: np.ndarray, count: int) -> np.ndarray:
    """Positions (m, count) of the least keys of each line, in order; of equal ones the first."""
    m, n = keys.shape
    if not m * count:
        return np.zeros((m, count), np.int64)
    if count == 1:
        return keys.argmin(-1)[:, None]
    if count > n // 4 or keys.size < _FEW:
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
    return _kth_key(keys, count - 1)


def _kth_key(keys: np.ndarray, k: int) -> np.ndarray:
    """The key number ``k`` (from 0) of each line in order, (m, 1)."""
    if _has_frequent_keys(keys):
        return np.sort(keys, -1)[:, k : k + 1]
    return np.partition(keys, k, -1)[:, k : k + 1]


def _has_frequent_keys(keys: np.ndarray) -> bool:
    """Whether some key makes up a good part of its line: NumPy's partition is slow then."""
    sample = np.sort(keys[:, :: max(1, keys.shape[-1] // _SAMPLE)], -1)
    return bool((sample[:, _OFTEN:] == sample[:, :-_OFTEN]).any())


def _up_to(keys: np.ndarray, bound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where keys do not exceed their line's bound, in all lines as one; where each line starts."""
    places = np.flatnonzero(keys <= bound)
    return places, np.searchsorted(places, np.arange(0, keys.size, keys.shape[-1]))


def kth_of(keys: np.ndarray, k: int) -> np.ndarray:
    """Positions (m,) of each line's element number ``k`` (from 0) in the stable order."""
    m, n = keys.shape
    if k < n // 8:
        return first_of(keys, k + 1)[:, k]
    short = np.iinfo(np.int32)
    if keys.itemsize > 4 and short.min <= keys.min() and keys.max() <= short.max:
        keys = keys.astype(np.int32)
    value = _kth_key(keys, k)
    before = np.count_nonzero(keys < value, axis=-1)
    places = np.flatnonzero(keys == value)
    starts = np.arange(0, m * n, n)
    return places[np.searchsorted(places, starts) + k - before] - starts
