"""Many images as one: for looking at batches."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from taimatsu.recorder import constant
from taimatsu.recorder import value as value_of
from taimatsu.tensor import Tensor
from taimatsu.vision.images import pillow


def make_grid(
    tensor: Tensor | list[Tensor],
    nrow: int = 8,
    padding: int = 2,
    normalize: bool = False,
    value_range: tuple[float, float] | None = None,
    scale_each: bool = False,
    pad_value: float = 0.0,
) -> Tensor:
    """Images (B, C, H, W), or a list of (C, H, W), side by side: one image (3 or C, H', W').

    ``nrow`` images in a row, ``padding`` pixels of ``pad_value`` between them. ``normalize`` maps
    ``value_range`` (default: smallest to largest value, of each image with ``scale_each``) to
    0 to 1. One channel becomes three.
    """
    images = _batch(tensor)
    if normalize:
        parts = images if scale_each else images[None]
        images = np.stack([_to_unit(part, value_range) for part in parts])
        images = images if scale_each else images[0]
    count, channels, height, width = images.shape
    if count == 1:
        return constant(images[0].copy())
    columns = min(nrow, count)
    rows = math.ceil(count / columns)
    shape = (channels, (height + padding) * rows + padding, (width + padding) * columns + padding)
    grid = np.full(shape, pad_value, images.dtype)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        top = row * (height + padding) + padding
        left = column * (width + padding) + padding
        grid[:, top : top + height, left : left + width] = image
    return constant(grid)


def _batch(tensor: Any) -> np.ndarray:
    """(B, C, H, W) with three channels where there was one."""
    if isinstance(tensor, (list, tuple)) and all(isinstance(t, Tensor) for t in tensor):
        images = np.stack([value_of(t.detach()) for t in tensor])
    elif isinstance(tensor, Tensor):
        images = value_of(tensor.detach())
    else:
        raise TypeError(f"[make_grid] tensor or list of tensors expected, got {type(tensor)}")
    if images.ndim == 2:
        images = images[None]
    if images.ndim == 3:
        images = images[None]
    return np.repeat(images, 3, 1) if images.shape[1] == 1 else images


def _to_unit(values: np.ndarray, value_range: tuple[float, float] | None) -> np.ndarray:
    low, high = value_range or (values.min(), values.max())
    span = max(float(high) - float(low), 1e-5)
    return ((np.clip(values, low, high) - low) / span).astype(values.dtype)


def save_image(
    tensor: Tensor | list[Tensor],
    fp: str | os.PathLike | Any,
    format: str | None = None,
    **kwargs: Any,
) -> None:
    """Writes :func:`make_grid` of the images (values 0 to 1) to a file; needs Pillow."""
    grid = value_of(make_grid(tensor, **kwargs))
    pixels = np.clip(grid * 255 + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0)
    pillow().fromarray(np.ascontiguousarray(pixels)).save(fp, format=format)
