"""Transforms without chance: conversions, sizes, values; and the ones that hold others."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import Any

from taimatsu.tensor import Tensor
from taimatsu.vision.transforms import functional as F
from taimatsu.vision.transforms.functional import InterpolationMode, interpolation_mode


class Transform:
    """Base: a transform is called with an image and gives an image.

    A subclass writes ``forward``. Transforms hold no parameters; they are not ``nn.Module``, so
    that loading images needs no networks.
    """

    def __call__(self, *args: Any) -> Any:
        return self.forward(*args)

    def forward(self, img: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} should implement forward(img)")

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Compose:
    """Transforms one after another."""

    def __init__(self, transforms: Sequence[Callable]) -> None:
        self.transforms = transforms

    def __call__(self, img: Any) -> Any:
        for transform in self.transforms:
            img = transform(img)
        return img

    def __repr__(self) -> str:
        return listed(type(self).__name__, self.transforms)


def listed(name: str, transforms: Any, first: Sequence[str] = ()) -> str:
    """``Name(`` and a line for each part, as containers show themselves."""
    lines = [*first, *(repr(transform) for transform in transforms)]
    return "\n".join([f"{name}(", *(f"    {line}" for line in lines), ")"])


class ToTensor(Transform):
    """PIL image or array (H, W, C), 0 to 255, to a float tensor (C, H, W), 0 to 1."""

    def forward(self, pic: Any) -> Tensor:
        return F.to_tensor(pic)


class PILToTensor(Transform):
    """PIL image to a tensor (C, H, W) of the same values."""

    def forward(self, pic: Any) -> Tensor:
        return F.pil_to_tensor(pic)


class ConvertImageDtype(Transform):
    """A tensor image in another dtype, scaled so that white stays white."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    def forward(self, image: Tensor) -> Tensor:
        return F.convert_image_dtype(image, self.dtype)


class ToPILImage(Transform):
    """Tensor (C, H, W) or array (H, W, C) to a PIL image."""

    def __init__(self, mode: str | None = None) -> None:
        self.mode = mode

    def forward(self, pic: Any) -> Any:
        return F.to_pil_image(pic, self.mode)

    def __repr__(self) -> str:
        inside = "" if self.mode is None else f"mode={self.mode}"
        return f"{type(self).__name__}({inside})"


class Normalize(Transform):
    """``(tensor - mean) / std`` per channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], inplace: bool = False) -> None:
        self.mean = mean
        self.std = std
        self.inplace = inplace

    def forward(self, tensor: Tensor) -> Tensor:
        return F.normalize(tensor, self.mean, self.std, self.inplace)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(mean={self.mean}, std={self.std})"


class Resize(Transform):
    """The image at ``size``: (height, width), or one number for the shorter side."""

    def __init__(
        self,
        size: int | Sequence[int],
        interpolation: InterpolationMode = InterpolationMode.BILINEAR,
        max_size: int | None = None,
        antialias: bool | None = True,
    ) -> None:
        if not isinstance(size, (int, Sequence)):
            raise TypeError(f"[Resize] Size should be int or sequence. Got {type(size)}")
        if isinstance(size, Sequence) and len(size) not in (1, 2):
            raise ValueError(
                f"[Resize] If size is a sequence, it should have 1 or 2 values, got {len(size)}"
            )
        self.size = size
        self.max_size = max_size
        self.interpolation = interpolation_mode(interpolation)
        self.antialias = antialias

    def forward(self, img: Any) -> Any:
        return F.resize(img, self.size, self.interpolation, self.max_size, self.antialias)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(size={self.size}, interpolation={self.interpolation.value}, "
            f"max_size={self.max_size}, antialias={self.antialias})"
        )


def size_pair(size: Any) -> tuple[int, int]:
    """(height, width) from what a constructor was given.

    Raises:
        ValueError: for a sequence of another length.
    """
    if isinstance(size, numbers.Number):
        return int(size), int(size)  # type: ignore[call-overload]
    if isinstance(size, Sequence) and len(size) == 1:
        return size[0], size[0]
    if len(size) != 2:
        raise ValueError(
            f"[transforms] Please provide only two dimensions (h, w) for size, got {size}"
        )
    return tuple(size)


class CenterCrop(Transform):
    """The middle of the image, with a black border where it is too small."""

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = size_pair(size)

    def forward(self, img: Any) -> Any:
        return F.center_crop(img, self.size)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self.size})"


class FiveCrop(CenterCrop):
    """The four corners and the middle, as a tuple of five."""

    def forward(self, img: Any) -> Any:
        return F.five_crop(img, self.size)


class Pad(Transform):
    """The image with a border."""

    def __init__(
        self,
        padding: int | Sequence[int],
        fill: float | Sequence[float] = 0,
        padding_mode: str = "constant",
    ) -> None:
        if not isinstance(fill, (numbers.Number, str, tuple, list)):
            raise TypeError(f"[Pad] Got inappropriate fill arg: {fill!r}")
        F._borders(padding)  # raises for what is no border
        if padding_mode not in ("constant", "edge", "reflect", "symmetric"):
            raise ValueError(
                "[Pad] Padding mode should be either constant, edge, reflect or symmetric, got "
                f"{padding_mode!r}"
            )
        self.padding = padding
        self.fill = fill
        self.padding_mode = padding_mode

    def forward(self, img: Any) -> Any:
        return F.pad(img, self.padding, self.fill, self.padding_mode)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(padding={self.padding}, fill={self.fill}, "
            f"padding_mode={self.padding_mode})"
        )


class Lambda(Transform):
    """A function of the user's."""

    def __init__(self, lambd: Callable) -> None:
        if not callable(lambd):
            raise TypeError(
                f"[Lambda] Argument lambd should be callable, got {type(lambd).__name__!r}"
            )
        self.lambd = lambd

    def forward(self, img: Any) -> Any:
        return self.lambd(img)


class Grayscale(Transform):
    """Brightness, in one or in three equal channels."""

    def __init__(self, num_output_channels: int = 1) -> None:
        self.num_output_channels = num_output_channels

    def forward(self, img: Any) -> Any:
        return F.rgb_to_grayscale(img, self.num_output_channels)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_output_channels={self.num_output_channels})"
