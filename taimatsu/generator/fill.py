"""Distributions: from the words of a ``Generator`` to NumPy arrays, with PyTorch's numbers.

Every function takes a generator, how many numbers are wanted and their ``np.dtype``, and returns
a new one-dimensional array. Arguments were checked by the caller. Integers and uniforms are
PyTorch's bit for bit, normals too where PyTorch has AVX2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from taimatsu.generator.fma import fma
from taimatsu.generator.normal import box_muller_blocks, by_libm, pairs
from taimatsu.generator.state import Generator, doubled
from taimatsu.generator.twister import COMPILED_FROM, registered

_DIGITS = {"bfloat16": 8, "float16": 11, "float32": 24, "float64": 53}  # of the significand
_WIDE_RANGE = 1 << 28  # from here on, random integers take 64 bits each
_AT_ONCE = 1 << 13  # words used in one stretch, so that its temporaries stay in the cache
_DRAWN = 1 << 18  # numbers whose words are drawn together: compiled code does many at a time


def digits(dtype: np.dtype) -> int:
    """Binary digits of the significand of a floating dtype: integers to 2**digits are exact."""
    return _DIGITS[dtype.name]


def rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """``values`` as ``dtype``; to the half precisions through float32, as PyTorch rounds."""
    if dtype.itemsize == 2 and values.dtype == np.float64 and dtype.name in _DIGITS:
        values = values.astype(np.float32)
    return values.astype(dtype, copy=False)


def unit_doubles(generator: Generator, count: int) -> np.ndarray:
    """``count`` float64 numbers in [0, 1) with 53 random bits."""
    return doubles_of(generator.double_words(count))


def unit_floats(generator: Generator, count: int) -> np.ndarray:
    """``count`` float32 numbers in [0, 1) with 24 random bits."""
    return units_of(generator.words(count))


def doubles_of(words: np.ndarray) -> np.ndarray:
    """float64 numbers in [0, 1) of the low 53 bits of uint64 words."""
    units = (words & np.uint64((1 << 53) - 1)).view(np.int64).astype(np.float64)
    units *= 2.0**-53
    return units


def units_of(words: np.ndarray) -> np.ndarray:
    """float32 numbers in [0, 1) of the low 24 bits of uint32 words."""
    # Signed integers become floats faster.
    units = (words & np.uint32((1 << 24) - 1)).view(np.int32).astype(np.float32)
    units *= np.float32(2.0**-24)
    return units


def stretches(generator: Generator, count: int, wide: bool) -> Iterator[tuple[slice, np.ndarray]]:
    """Words for ``count`` numbers (uint64 where ``wide``, else uint32), and which numbers they are
    for: as many as stay in the cache with what is made of them.
    """
    each = 2 if wide else 1
    with generator.lock():
        for begin in range(0, count, _DRAWN):
            drawn = generator.words(each * min(_DRAWN, count - begin))
            for start in range(0, len(drawn), _AT_ONCE):
                words = drawn[start : start + _AT_ONCE]
                first = begin + start // each
                place = slice(first, first + len(words) // each)
                yield place, doubled(words) if wide else words


def uniform(
    generator: Generator, count: int, dtype: np.dtype, low: float = 0.0, high: float = 1.0
) -> np.ndarray:
    """Uniform in [low, high)."""
    wide = dtype == np.float64
    compute = np.float64 if wide else np.float32
    low_, high_ = compute(low), compute(high)
    end, begin = dtype.type(high), dtype.type(low)
    result = registered.empty(count, dtype)
    for place, words in stretches(generator, count, wide):
        unit = doubles_of(words) if wide else units_of(words)
        if (low, high) != (0.0, 1.0):
            unit = fma(unit, high_ - low_, low_)
        part = result[place]
        part[:] = unit
        if part.max() == end:
            part[part == end] = begin  # rounding may reach the end, which is excluded
    return result


def normal(
    generator: Generator, count: int, dtype: np.dtype, mean: float = 0.0, std: float = 1.0
) -> np.ndarray:
    """Normal: from 16 numbers on in blocks of 16, fewer in pairs of which the second is kept."""
    if count < 16:
        return normal_in_pairs(generator, count, dtype, mean, std)
    wide = dtype == np.float64
    draw = unit_doubles if wide else unit_floats
    compute = np.float64 if wide else np.float32
    result = registered.empty(count, dtype)
    whole = count - count % 16
    with generator.lock():
        for begin in range(0, whole, _AT_ONCE):
            part = result[begin : min(begin + _AT_ONCE, whole)]
            part[:] = box_muller_blocks(draw(generator, len(part)), compute(mean), compute(std))
        if count != whole and dtype.itemsize > 2:
            draw(generator, count - whole)  # PyTorch draws for these and then draws 16 again
        if count != whole:
            result[-16:] = box_muller_blocks(draw(generator, 16), compute(mean), compute(std))
    return result


def normal_words(generator: Generator, count: int) -> np.ndarray:
    """The words that ``normal`` of float32 draws for ``count`` numbers, 16 or more.

    One for each number in blocks of 16; where the last block is not whole, 16 more for the last 16
    numbers, which are computed anew.
    """
    return generator.words(count + 16 if count % 16 else count)


def normal_in_pairs(
    generator: Generator, count: int, dtype: np.dtype, mean: float = 0.0, std: float = 1.0
) -> np.ndarray:
    """Normal, one after the other: how PyTorch fills short or non-contiguous tensors."""
    return rounded(fma(_standard_normals(generator, count), float(std), float(mean)), dtype)


def _standard_normals(generator: Generator, count: int) -> np.ndarray:
    with generator.lock():
        kept = generator.kept_normal
        if count == 0:
            return np.empty(0)
        start = 0 if kept is None else 1
        made = pairs(unit_doubles(generator, (count - start + 1) // 2 * 2))
        result = np.empty(start + len(made))
        result[:start] = kept
        result[start:] = made
        generator.kept_normal = float(result[count]) if len(result) > count else None
        return result[:count]


def log_normal(
    generator: Generator, count: int, dtype: np.dtype, mean: float = 1.0, std: float = 2.0
) -> np.ndarray:
    """exp of a normal with this mean and standard deviation."""
    with np.errstate(over="ignore"):
        return rounded(np.exp(normal_in_pairs(generator, count, np.dtype(float), mean, std)), dtype)


def bernoulli(generator: Generator, count: int, dtype: np.dtype, p: float = 0.5) -> np.ndarray:
    """1 with probability ``p``, else 0."""
    result = registered.empty(count, dtype)
    for place, words in stretches(generator, count, True):
        result[place] = doubles_of(words) < p
    return result


def bernoulli_of(generator: Generator, probabilities: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """1 with the probability given for each element (a floating array of one dimension)."""
    if probabilities.dtype == np.float64:
        return (unit_doubles(generator, probabilities.size) < probabilities).astype(dtype)
    drawn = unit_floats(generator, probabilities.size)
    return (drawn < probabilities.astype(np.float32)).astype(dtype)


def exponential(generator: Generator, count: int, dtype: np.dtype, rate: float = 1.0) -> np.ndarray:
    """Exponential with this rate (PyTorch's ``lambd``)."""
    negative = -unit_doubles(generator, count)
    wide = dtype == np.float64
    logarithms = by_libm(math.log1p, negative) if wide else np.log1p(negative)
    return rounded(-1.0 / rate * logarithms, dtype)


def geometric(generator: Generator, count: int, dtype: np.dtype, p: float) -> np.ndarray:
    """How many trials until the first success, each with probability ``p``."""
    with np.errstate(divide="ignore"):
        values = np.ceil(np.log(unit_doubles(generator, count)) / math.log1p(-p))
    return rounded(values, dtype)


def cauchy(
    generator: Generator, count: int, dtype: np.dtype, median: float = 0.0, sigma: float = 1.0
) -> np.ndarray:
    """Cauchy around ``median`` with the scale ``sigma``."""
    angles = np.pi * (unit_doubles(generator, count) - 0.5)
    tangents = by_libm(math.tan, angles) if dtype == np.float64 else np.tan(angles)
    with np.errstate(over="ignore"):
        return rounded(fma(tangents, float(sigma), float(median)), dtype)


def integers(generator: Generator, count: int, dtype: np.dtype) -> np.ndarray:
    """All values from 0 to the dtype's greatest; to 2**digits for floating dtypes."""
    if dtype.name in _DIGITS:
        limit = (1 << _DIGITS[dtype.name]) + 1
    elif dtype.kind == "b":
        limit = 2
    else:
        limit = int(np.iinfo(dtype).max) + 1
    wide = dtype in (np.float64, np.int64)
    result = registered.empty(count, dtype)
    for place, words in stretches(generator, count, wide):
        result[place] = rounded(_below(words, limit).astype(np.int64), dtype)
    return result


def integers_between(
    generator: Generator, count: int, dtype: np.dtype, low: int, high: int
) -> np.ndarray:
    """Integers in [low, high), of any dtype; ``high`` at most 2**63, or 2**64 for uint64."""
    extent = high - low
    wide = extent >= _WIDE_RANGE
    half = dtype.itemsize == 2 and dtype.name in _DIGITS
    least = np.uint64(low & 0xFFFFFFFFFFFFFFFF)
    result = registered.empty(count, dtype)
    for place, words in stretches(generator, count, wide):
        drawn = _below(words, extent)
        if low:
            drawn = drawn + least  # wraps around, as two's complement should
        if drawn.dtype == np.uint64:
            drawn = drawn.view(np.int64)
        result[place] = drawn.astype(np.float32) if half else drawn
    return result


def _below(words: np.ndarray, limit: int) -> np.ndarray:
    """Words modulo ``limit``, in their place."""
    if limit < 1 << 8 * words.itemsize:
        divisor = words.dtype.type(limit)
        words -= words // divisor * divisor  # NumPy divides by one number faster than it takes %
    return words


def permutation(generator: Generator, count: int, dtype: np.dtype) -> np.ndarray:
    """The numbers below ``count``, shuffled (Fisher and Yates, from the front)."""
    if count >= 0xFFFFFFFF // 20:
        return _long_permutation(generator, count, dtype)
    words = generator.words(max(count - 1, 0))
    if count >= COMPILED_FROM and registered.shuffled is not None:
        made = registered.shuffled(words)
        if made is not None:
            return rounded(made.astype(np.int64), dtype)
    words %= np.arange(count, 1, -1, dtype=np.uint32)
    order = list(range(count))
    for i, step in enumerate(words.tolist()):
        j = i + step
        order[i], order[j] = order[j], order[i]
    return rounded(np.array(order, np.int64), dtype)


def _long_permutation(generator: Generator, count: int, dtype: np.dtype) -> np.ndarray:
    """For lengths near the words' own range: 64-bit draws, and PyTorch keeps each place in them."""
    order = np.arange(count, dtype=np.int64)
    for i in range(count - 1):
        j = i + int(generator.double_words(1)[0]) % (count - i)
        order[i], order[j] = order[j], order[i]
    return rounded(order, dtype)
