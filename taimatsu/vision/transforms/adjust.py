"""Rotation and colour adjustments, as functions on PIL images and tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from taimatsu import dtypes
from taimatsu.ops.base import REGISTRY
from taimatsu.recorder import constant
from taimatsu.recorder import value as value_of
from taimatsu.tensor import Tensor
from taimatsu.vision.images import pillow
from taimatsu.vision.transforms import functional as F
from taimatsu.vision.transforms.functional import InterpolationMode, check_image

# -- rotation ---------------------------------------------------------------------------------


def rotate(
    img: Any,
    angle: float,
    interpolation: InterpolationMode = InterpolationMode.NEAREST,
    expand: bool = False,
    center: Sequence[float] | None = None,
    fill: float | Sequence[float] | None = None,
) -> Any:
    """The image turned counter-clockwise by ``angle`` degrees about ``center`` (x, y).

    ``expand`` enlarges the result so that all of the image fits (about its middle); ``fill`` is
    what comes in from outside.
    """
    mode = F.interpolation_mode(interpolation).value
    check_image(img)
    if not isinstance(img, Tensor):
        colour = fill
        if isinstance(fill, Sequence):
            colour = tuple(fill) if len(img.getbands()) > 1 else fill[0]
        elif fill is not None and len(img.getbands()) > 1:
            colour = (fill,) * len(img.getbands())
        return img.rotate(angle, F._PIL_FILTERS[mode], expand, center, fillcolor=colour)
    if mode not in ("nearest", "bilinear"):
        raise ValueError(
            f"[rotate] This interpolation mode is unsupported with Tensor input: {mode}; use "
            "nearest or bilinear"
        )
    height, width = img.shape[-2:]
    out_height, out_width = _turned_shape(height, width, angle) if expand else (height, width)
    rows, columns = _turned_grid(height, width, out_height, out_width, angle, center)
    background = 0.0 if fill is None else fill
    return _sample(img, rows, columns, mode, background)


def _turned_shape(height: int, width: int, angle: float) -> tuple[int, int]:
    """Extents of the upright rectangle around the turned image."""
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    half = np.array([width, height], np.float32) / 2
    corners = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]], np.float32) * half
    turned = corners @ np.array([[cosine, -sine], [sine, cosine]], np.float32)
    # Rounded towards zero to a thousandth: a quarter turn must not grow by a pixel.
    lowest = np.floor(np.trunc((turned.min(0) + half) * 1000) / 1000)
    highest = np.ceil(np.trunc((turned.max(0) + half) * 1000) / 1000)
    new_width, new_height = (highest - lowest).astype(int)
    return int(new_height), int(new_width)


def _turned_grid(
    height: int,
    width: int,
    out_height: int,
    out_width: int,
    angle: float,
    center: Sequence[float] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """For every new pixel the (row, column) it comes from, as float32 pixel coordinates.

    Computed by way of coordinates from -1 to 1, as PyTorch does: which of two pixels is nearer
    can hang on the last bit.
    """
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    from_middle = (0.0, 0.0)
    if center is not None:
        from_middle = (center[0] - width * 0.5, center[1] - height * 0.5)
    shift_x = from_middle[0] - cosine * from_middle[0] + sine * from_middle[1]
    shift_y = from_middle[1] - sine * from_middle[0] - cosine * from_middle[1]
    theta = np.array([[cosine, sine], [-sine, cosine], [shift_x, shift_y]], np.float32)
    theta /= np.array([0.5 * width, 0.5 * height], np.float32)
    grid = np.ones((out_height, out_width, 3), np.float32)
    grid[..., 0] = np.arange(out_width, dtype=np.float32) + np.float32(0.5 - out_width * 0.5)
    grid[..., 1] = (np.arange(out_height, dtype=np.float32) + np.float32(0.5 - out_height * 0.5))[
        :, None
    ]
    unit = grid.reshape(-1, 3) @ theta
    columns = ((unit[:, 0] + 1) * np.float32(width) - 1) / 2
    rows = ((unit[:, 1] + 1) * np.float32(height) - 1) / 2
    return rows.reshape(out_height, out_width), columns.reshape(out_height, out_width)


def _sample(img: Tensor, rows: np.ndarray, columns: np.ndarray, mode: str, fill: Any) -> Tensor:
    """Pixels at the given places; outside the image there is ``fill``."""
    array = value_of(img.detach())
    background = np.asarray(fill, np.float64)
    if background.ndim == 1:
        background = background[:, None, None]
    if mode == "nearest":
        sampled, weight = _tap(array, np.rint(rows), np.rint(columns), np.ones_like(rows))
    else:
        top, left = np.floor(rows), np.floor(columns)
        sampled = weight = np.zeros(())
        for dy in (0, 1):
            for dx in (0, 1):
                share = (1 - np.abs(rows - (top + dy))) * (1 - np.abs(columns - (left + dx)))
                pixels, inside = _tap(array, top + dy, left + dx, share)
                sampled = sampled + pixels
                weight = weight + inside
    values = sampled + (1 - weight) * background
    if not img.dtype.is_floating_point:
        values = np.rint(values)
    return constant(values.astype(array.dtype))


def _tap(
    array: np.ndarray, rows: np.ndarray, columns: np.ndarray, share: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``share`` of the pixels at whole coordinates, and the share itself; zero outside."""
    height, width = array.shape[-2:]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    y = np.clip(rows, 0, height - 1).astype(int)
    x = np.clip(columns, 0, width - 1).astype(int)
    weight = np.where(inside, share, 0.0)
    return array[..., y, x] * weight, weight


# -- colour -----------------------------------------------------------------------------------


def adjust_brightness(img: Any, brightness_factor: float) -> Any:
    """0 gives black, 1 the image, 2 one twice as bright."""
    _check_factor("brightness_factor", brightness_factor)
    check_image(img)
    if not isinstance(img, Tensor):
        return pillow("ImageEnhance").Brightness(img).enhance(brightness_factor)
    return _blend(img, REGISTRY["zeros_like"](img), brightness_factor)


def adjust_contrast(img: Any, contrast_factor: float) -> Any:
    """0 gives the mean grey, 1 the image, 2 one with twice the contrast."""
    _check_factor("contrast_factor", contrast_factor)
    check_image(img)
    if not isinstance(img, Tensor):
        return pillow("ImageEnhance").Contrast(img).enhance(contrast_factor)
    gray = F.rgb_to_grayscale(img) if F.get_image_num_channels(img) == 3 else img
    dtype = img.dtype if img.dtype.is_floating_point else dtypes.float32
    return _blend(img, gray.to(dtype).mean(dim=(-3, -2, -1), keepdim=True), contrast_factor)


def adjust_saturation(img: Any, saturation_factor: float) -> Any:
    """0 gives grey, 1 the image, 2 one with twice the saturation."""
    _check_factor("saturation_factor", saturation_factor)
    check_image(img)
    if not isinstance(img, Tensor):
        return pillow("ImageEnhance").Color(img).enhance(saturation_factor)
    if F.get_image_num_channels(img) == 1:
        return img
    return _blend(img, F.rgb_to_grayscale(img), saturation_factor)


def adjust_hue(img: Any, hue_factor: float) -> Any:
    """Colours moved round the circle: by half of it for 0.5 and -0.5, not at all for 0."""
    if not -0.5 <= hue_factor <= 0.5:
        raise ValueError(f"[adjust_hue] hue_factor ({hue_factor}) is not in [-0.5, 0.5].")
    check_image(img)
    if not isinstance(img, Tensor):
        if img.mode in ("L", "1", "I", "F"):
            return img
        hue, saturation, value = img.convert("HSV").split()
        # Hue is an uint8 that wraps round.
        turned = np.asarray(hue) + np.uint8(int(hue_factor * 255) % 256)
        hsv = (pillow().fromarray(turned), saturation, value)
        return pillow().merge("HSV", hsv).convert(img.mode)
    if F.get_image_num_channels(img) == 1:
        return img
    unit = F.convert_image_dtype(img, dtypes.float32)
    turned_image = constant(_turn_hue(value_of(unit.detach()), hue_factor))
    return F.convert_image_dtype(turned_image, img.dtype)


def _check_factor(name: str, factor: float) -> None:
    if factor < 0:
        raise ValueError(f"[adjust] {name} ({factor}) is not non-negative.")


def _blend(img: Tensor, other: Tensor, ratio: float) -> Tensor:
    bound = 1.0 if img.dtype.is_floating_point else F._highest(img.dtype)
    return (ratio * img + (1.0 - ratio) * other).clamp(0, bound).to(img.dtype)


def _turn_hue(rgb: np.ndarray, factor: float) -> np.ndarray:
    """RGB (..., 3, H, W) in [0, 1] to HSV, hue moved, and back."""
    red, green, blue = np.moveaxis(rgb, -3, 0)
    value = rgb.max(-3)
    chroma = value - rgb.min(-3)
    safe = np.where(chroma == 0, 1, chroma)
    sector = np.select(
        [chroma == 0, value == red, value == green],
        [np.zeros_like(value), (green - blue) / safe, (blue - red) / safe + 2],
        (red - green) / safe + 4,
    )
    hue = np.mod(sector / 6 + factor, 1.0)
    channels = []
    for n in (5, 3, 1):
        k = np.mod(n + hue * 6, 6)
        channels.append(value - chroma * np.clip(np.minimum(k, 4 - k), 0, 1))
    return np.stack(channels, -3).astype(np.float32)
