"""Samples by search and by rejection: multinomial and Poisson."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from taimatsu.generator.fill import exponential, unit_doubles
from taimatsu.generator.state import Generator


class _Uniforms:
    """float64 numbers in [0, 1) one at a time, drawn ahead in stretches."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._ahead: list[float] = []
        self._next = 0
        self.taken = 0

    def __call__(self) -> float:
        if self._next == len(self._ahead):
            self._ahead = unit_doubles(self._generator, 1024).tolist()
            self._next = 0
        value = self._ahead[self._next]
        self._next += 1
        self.taken += 1
        return value


@contextmanager
def _uniforms(generator: Generator) -> Iterator[_Uniforms]:
    """Uniforms one at a time; afterwards the generator has advanced by those taken."""
    with generator.lock():
        before = generator.snapshot()
        source = _Uniforms(generator)
        try:
            yield source
        finally:
            generator.restore(before)
            generator.advance(2 * source.taken)


def multinomial_with_replacement(
    generator: Generator, weights: np.ndarray, samples: int
) -> np.ndarray:
    """Rows of weights (float32 or float64, not negative, with a positive sum) to indices, int64
    of shape (rows, samples): binary search in the cumulative weights.
    """
    cumulative = np.cumsum(weights, axis=-1, dtype=weights.dtype)  # in order, as PyTorch sums
    cumulative /= cumulative[:, -1:].copy()
    cumulative[:, -1] = 1
    drawn = unit_doubles(generator, len(weights) * samples).reshape(-1, samples)
    result = np.empty(drawn.shape, np.int64)
    for row, numbers, into in zip(cumulative, drawn, result, strict=True):
        into[:] = row.searchsorted(numbers)
    return result


def race(generator: Generator, weights: np.ndarray) -> np.ndarray:
    """Quotients of weights and exponential numbers, float64: in a row, the places of the greatest
    are a sample without repetition (Efraimidis and Spirakis 2006).
    """
    times = exponential(generator, weights.size, weights.dtype).reshape(weights.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (weights / times).astype(np.float64, copy=False)


def poisson(generator: Generator, rates: np.ndarray) -> np.ndarray:
    """A float64 count for each rate (one dimension, not negative)."""
    with _uniforms(generator) as uniform:
        counts = [_poisson(rate, uniform) for rate in rates.astype(np.float64).tolist()]
    return np.array(counts, np.float64)


def _poisson(rate: float, uniform: _Uniforms) -> int:
    if rate == 0:
        return 0
    if rate >= 10:
        return _poisson_by_rejection(rate, uniform)
    limit = math.exp(-rate)
    product = uniform()
    count = 0
    while product > limit:
        count += 1
        product *= uniform()
    return count


def _poisson_by_rejection(rate: float, uniform: _Uniforms) -> int:
    """Hörmann 1993, "The transformed rejection method for generating Poisson random variables",
    algorithm PTRS.
    """
    b = 0.931 + 2.53 * math.sqrt(rate)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    squeeze = 0.9277 - 3.6224 / (b - 2)
    log_rate = math.log(rate)
    while True:
        u = uniform() - 0.5
        v = uniform()
        us = 0.5 - abs(u)
        count = math.floor((2 * a / us + b) * u + rate + 0.43) if us else -1
        if us >= 0.07 and v <= squeeze:
            return count
        if count < 0 or (us < 0.013 and v > us):
            continue
        left = math.log(v) if v else -math.inf
        left += math.log(inverse_alpha) - math.log(a / (us * us) + b)
        if left <= -rate + count * log_rate - math.lgamma(count + 1):
            return count
