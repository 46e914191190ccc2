"""Resizing by weights: one small matrix per axis, whose rows say which pixels make a new one."""

from __future__ import annotations

import functools

import numpy as np

_SHARPNESS = {False: -0.75, True: -0.5}  # Keys' parameter: interpolation's and the antialiased one


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(0.0, 1.0 - np.abs(x))


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel (R. Keys, IEEE Trans. ASSP 29, 1981)."""
    x = np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    return np.where(x <= 1.0, near, np.where(x < 2.0, far, 0.0))


@functools.lru_cache(maxsize=64)
def weights(out: int, size: int, mode: str = "bilinear", antialias: bool = True) -> np.ndarray:
    """The matrix (out, size) that resizes ``size`` pixels to ``out``; rows sum to one.

    Pixel centres are at half integers. ``antialias`` widens the kernel when shrinking, so that
    every pixel takes part.
    """
    scale = size / out
    centres = (np.arange(out) + 0.5) * scale - 0.5
    if mode == "nearest":
        nearest = np.minimum((np.arange(out) * scale).astype(int), size - 1)
        return np.eye(size)[nearest]
    if mode == "nearest-exact":
        nearest = np.minimum(((np.arange(out) + 0.5) * scale).astype(int), size - 1)
        return np.eye(size)[nearest]
    if mode not in ("bilinear", "bicubic"):
        raise NotImplementedError(
            "[resize] expected interpolation nearest, nearest-exact, bilinear or bicubic for "
            f"tensors, got {mode}; the other filters work on PIL images"
        )
    reach = 1 if mode == "bilinear" else 2
    if antialias:
        stretch = max(scale, 1.0)
        distance = (np.arange(size)[None, :] - centres[:, None]) / stretch
        kernel = _triangle(distance) if reach == 1 else _cubic(distance, _SHARPNESS[True])
        return kernel / kernel.sum(1, keepdims=True)
    # Beyond the border the border pixel is repeated: its weights are added up.
    matrix = np.zeros((out, size))
    first = np.floor(centres).astype(int)
    for tap in range(1 - reach, reach + 1):
        distance = first + tap - centres
        kernel = _triangle(distance) if reach == 1 else _cubic(distance, _SHARPNESS[False])
        np.add.at(matrix, (np.arange(out), np.clip(first + tap, 0, size - 1)), kernel)
    return matrix


def resample(images: np.ndarray, height: int, width: int, mode: str = "bicubic") -> np.ndarray:
    """Images (..., H, W) resized to (..., height, width), in float64."""
    rows = weights(height, images.shape[-2], mode)
    columns = weights(width, images.shape[-1], mode)
    return rows @ images.astype(np.float64) @ columns.T
