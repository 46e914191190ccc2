"""Box-Muller transforms with PyTorch's arithmetic.

PyTorch computes float32 normals with the Cephes polynomials (Moshier 1989) for log, sin and cos, in
vectors with fused multiply-add.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from taimatsu.generator import twister
from taimatsu.generator.fma import fma

TWO_PI = 2 * np.pi

SQRT_HALF = np.float32(0.707106781186547524)
LOG = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
LOG_2 = (-2.12194440e-4, 0.693359375)  # log(2) as a small and a large part
FOUR_OVER_PI = np.float32(1.27323954473516)
QUARTER_PI = (-0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8)
SIN = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
COS = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)


def box_muller_blocks(unit: np.ndarray, mean: np.floating, std: np.floating) -> np.ndarray:
    """Normals from uniforms in blocks of 16: number i of a block pairs with number i + 8."""
    blocks = unit.reshape(-1, 2, 8)
    if unit.dtype == np.float32:
        return _of_singles(blocks, mean, std).reshape(-1)
    radius = np.sqrt(-2 * by_libm(math.log, 1 - blocks[:, 0]))  # of numbers in (0, 1]
    angle = TWO_PI * blocks[:, 1]
    result = np.empty_like(blocks)
    result[:, 0] = fma(radius * by_libm(math.cos, angle), std, mean)
    result[:, 1] = fma(radius * by_libm(math.sin, angle), std, mean)
    return result.reshape(-1)


def _of_singles(blocks: np.ndarray, mean: np.floating, std: np.floating) -> np.ndarray:
    if twister.registered.normals is not None:
        made = twister.registered.normals(blocks, mean, std)
        if made is not None:
            return made
    radius = np.sqrt(np.float32(-2) * _log(1 - blocks[:, 0]))
    sine, cosine = _sine_and_cosine(np.float32(TWO_PI) * blocks[:, 1])
    result = np.empty_like(blocks)
    result[:, 0] = cosine
    result[:, 1] = sine
    result *= radius[:, None]
    return fma(result, std, mean)


def pairs(unit: np.ndarray) -> np.ndarray:
    """Normals from float64 uniforms two by two, cosine first."""
    angle = TWO_PI * unit[0::2]
    radius = np.sqrt(-2.0 * by_libm(math.log1p, -unit[1::2]))
    result = np.empty_like(unit)
    result[0::2] = radius * by_libm(math.cos, angle)
    result[1::2] = radius * by_libm(math.sin, angle)
    return result


def by_libm(function: Callable[[float], float], values: np.ndarray) -> np.ndarray:
    """A function of ``math``, elementwise: the C library's float64 result, which PyTorch's scalar
    loops give, while NumPy's vector code may differ in the last digits (and is much faster).
    """
    results = np.fromiter(map(function, values.ravel().tolist()), np.float64, values.size)
    return results.reshape(values.shape)


def _horner(coefficients: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    result = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        result = fma(result, x, np.float32(coefficient))
    return result


def _log(x: np.ndarray) -> np.ndarray:
    """Natural logarithm of positive float32 numbers (Cephes ``logf``)."""
    fraction, exponent = np.frexp(x)
    small = fraction < SQRT_HALF
    exponent = (exponent - small).astype(np.float32)
    x = fraction - np.float32(1) + np.where(small, fraction, np.float32(0))
    square = x * x
    series = _horner(LOG, x) * x
    y = fma(series, square, exponent * np.float32(LOG_2[0]))
    y = fma(square, np.float32(-0.5), y)
    return fma(exponent, np.float32(LOG_2[1]), x + y)


def _sine_and_cosine(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of non-negative float32 angles (Cephes ``sinf`` and ``cosf``)."""
    octant = (x * FOUR_OVER_PI).astype(np.int32)
    octant = (octant + 1) & ~1
    y = octant.astype(np.float32)
    for part in QUARTER_PI:
        x = fma(y, np.float32(part), x)
    square = x * x
    cosine = _horner(COS, square) * square
    cosine = fma(cosine, square, square * np.float32(-0.5)) + np.float32(1)
    sine = fma(_horner(SIN, square) * square, x, x)
    swapped = (octant & 2) != 0
    sine, cosine = np.where(swapped, cosine, sine), np.where(swapped, sine, cosine)
    sine = np.where(octant & 4, -sine, sine)
    cosine = np.where((octant + 2) & 4, -cosine, cosine)
    return sine, cosine
