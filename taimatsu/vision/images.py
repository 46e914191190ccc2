"""Pillow, which is optional: loaded where an image is made or read, never at import."""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from typing import Any

import numpy as np


def pillow(module: str = "Image") -> Any:
    """The module ``PIL.<module>``.

    Raises:
        ImportError: where Pillow is not installed, with how to install it.
    """
    try:
        return importlib.import_module(f"PIL.{module}")
    except ImportError as error:
        raise ImportError(
            "[vision] PIL images need Pillow, which is not installed; install it with "
            "pip install 'taimatsu[vision]'"
        ) from error


def is_pil(value: Any) -> bool:
    """Whether ``value`` is a PIL image; without loading Pillow if nobody has."""
    loaded = sys.modules.get("PIL.Image")
    return loaded is not None and isinstance(value, loaded.Image)


@functools.cache
def _have_pillow() -> bool:
    try:
        pillow()
    except ImportError:
        warnings.warn(
            "Pillow is not installed: image datasets give NumPy arrays of shape (H, W), not PIL "
            "images (ToTensor takes both); pip install 'taimatsu[vision]' for PIL images",
            stacklevel=4,
        )
        return False
    return True


def image_of(array: np.ndarray) -> Any:
    """A uint8 array (H, W) as the PIL image that datasets give.

    Where Pillow is not installed the array itself, with a warning once: ``ToTensor`` makes the
    same tensor of both.
    """
    return pillow().fromarray(array) if _have_pillow() else array
