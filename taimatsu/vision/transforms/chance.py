"""Transforms by chance. They draw from the default generator, call for call as PyTorch's do."""

from __future__ import annotations

import math
import numbers
import random
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from taimatsu import creation
from taimatsu.ops.base import REGISTRY
from taimatsu.tensor import Tensor
from taimatsu.vision.transforms import adjust
from taimatsu.vision.transforms import functional as F
from taimatsu.vision.transforms.basic import Transform, listed, size_pair
from taimatsu.vision.transforms.functional import InterpolationMode, interpolation_mode

_TRIES = 10


def _rand() -> float:
    return REGISTRY["rand"](1).item()


def _uniform(low: float, high: float) -> float:
    return float(creation.empty(1).uniform_(low, high).item())


def _randint(high: int) -> int:
    """0 to ``high - 1``."""
    return REGISTRY["randint"](0, high, (1,)).item()


# -- one of several -----------------------------------------------------------------------------


class RandomTransforms(Transform):
    """Base of the transforms that hold others."""

    def __init__(self, transforms: Sequence[Callable]) -> None:
        if not isinstance(transforms, Sequence):
            raise TypeError(
                f"[{type(self).__name__}] Argument transforms should be a sequence, got "
                f"{type(transforms).__name__}"
            )
        self.transforms = transforms

    def __repr__(self) -> str:
        return listed(type(self).__name__, self.transforms)


class RandomApply(Transform):
    """All of the given transforms with probability ``p``, or none."""

    def __init__(self, transforms: Sequence[Callable], p: float = 0.5) -> None:
        self.transforms = transforms
        self.p = p

    def forward(self, img: Any) -> Any:
        if self.p < _rand():
            return img
        for transform in self.transforms:
            img = transform(img)
        return img

    def __repr__(self) -> str:
        return listed(type(self).__name__, self.transforms, [f"p={self.p}"])


class RandomOrder(RandomTransforms):
    """All of the given transforms, in random order (Python's ``random``)."""

    def forward(self, img: Any) -> Any:
        order = list(range(len(self.transforms)))
        random.shuffle(order)
        for index in order:
            img = self.transforms[index](img)
        return img


class RandomChoice(RandomTransforms):
    """One of the given transforms (Python's ``random``), with weights ``p``."""

    def __init__(self, transforms: Sequence[Callable], p: Sequence[float] | None = None) -> None:
        super().__init__(transforms)
        if p is not None and not isinstance(p, Sequence):
            raise TypeError("[RandomChoice] Argument p should be a sequence")
        self.p = p

    def __call__(self, *args: Any) -> Any:
        chosen = random.choices(self.transforms, weights=self.p)[0]
        return chosen(*args)

    def __repr__(self) -> str:
        return f"{super().__repr__()}(p={self.p})"


# -- mirrors, windows, angles -------------------------------------------------------------------


class RandomHorizontalFlip(Transform):
    """Mirrored left to right with probability ``p``."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def forward(self, img: Any) -> Any:
        return F.hflip(img) if _rand() < self.p else img

    def __repr__(self) -> str:
        return f"{type(self).__name__}(p={self.p})"


class RandomVerticalFlip(RandomHorizontalFlip):
    """Mirrored top to bottom with probability ``p``."""

    def forward(self, img: Any) -> Any:
        return F.vflip(img) if _rand() < self.p else img


class RandomGrayscale(RandomHorizontalFlip):
    """Without colour, in as many channels, with probability ``p``."""

    def __init__(self, p: float = 0.1) -> None:
        super().__init__(p)

    def forward(self, img: Any) -> Any:
        channels = F.get_image_num_channels(img)
        if _rand() < self.p:
            return F.rgb_to_grayscale(img, num_output_channels=channels)
        return img


class RandomCrop(Transform):
    """A window of ``size`` anywhere in the image, after padding."""

    @staticmethod
    def get_params(img: Any, output_size: tuple[int, int]) -> tuple[int, int, int, int]:
        """(top, left, height, width) of a window."""
        _, height, width = F.get_dimensions(img)
        wanted_height, wanted_width = output_size
        if height < wanted_height or width < wanted_width:
            raise ValueError(
                f"[RandomCrop] Required crop size {(wanted_height, wanted_width)} is larger than "
                f"input image size {(height, width)}; pad_if_needed=True enlarges the image"
            )
        if (width, height) == (wanted_width, wanted_height):
            return 0, 0, height, width
        top = _randint(height - wanted_height + 1)
        left = _randint(width - wanted_width + 1)
        return top, left, wanted_height, wanted_width

    def __init__(
        self,
        size: int | Sequence[int],
        padding: int | Sequence[int] | None = None,
        pad_if_needed: bool = False,
        fill: float | Sequence[float] = 0,
        padding_mode: str = "constant",
    ) -> None:
        self.size = size_pair(size)
        self.padding = padding
        self.pad_if_needed = pad_if_needed
        self.fill = fill
        self.padding_mode = padding_mode

    def forward(self, img: Any) -> Any:
        if self.padding is not None:
            img = F.pad(img, self.padding, self.fill, self.padding_mode)
        _, height, width = F.get_dimensions(img)
        if self.pad_if_needed and width < self.size[1]:
            img = F.pad(img, [self.size[1] - width, 0], self.fill, self.padding_mode)
        if self.pad_if_needed and height < self.size[0]:
            img = F.pad(img, [0, self.size[0] - height], self.fill, self.padding_mode)
        return F.crop(img, *self.get_params(img, self.size))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self.size}, padding={self.padding})"


class RandomResizedCrop(Transform):
    """A window of random area (``scale``, of the whole) and shape (``ratio``), resized to ``size``.

    C. Szegedy et al.: Going deeper with convolutions, arXiv:1409.4842.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3.0 / 4.0, 4.0 / 3.0),
        interpolation: InterpolationMode = InterpolationMode.BILINEAR,
        antialias: bool | None = True,
    ) -> None:
        self.size = size_pair(size)
        for name, bounds in (("Scale", scale), ("Ratio", ratio)):
            if not isinstance(bounds, Sequence):
                raise TypeError(f"[RandomResizedCrop] {name} should be a sequence, got {bounds!r}")
            if bounds[0] > bounds[1]:
                warnings.warn(f"{name} should be of kind (min, max), got {bounds}", stacklevel=2)
        self.interpolation = interpolation_mode(interpolation)
        self.antialias = antialias
        self.scale = scale
        self.ratio = ratio

    @staticmethod
    def get_params(
        img: Any, scale: Sequence[float], ratio: Sequence[float]
    ) -> tuple[int, int, int, int]:
        """(top, left, height, width) of a window; the middle if none fits in ten tries."""
        _, height, width = F.get_dimensions(img)
        area = height * width
        log_ratio = creation.tensor(list(ratio)).log().tolist()
        for _ in range(_TRIES):
            target = area * _uniform(scale[0], scale[1])
            drawn = creation.empty(1).uniform_(log_ratio[0], log_ratio[1])
            aspect = drawn.exp().item()
            wanted_width = round(math.sqrt(target * aspect))
            wanted_height = round(math.sqrt(target / aspect))
            if 0 < wanted_width <= width and 0 < wanted_height <= height:
                top = _randint(height - wanted_height + 1)
                left = _randint(width - wanted_width + 1)
                return top, left, wanted_height, wanted_width
        return _middle(height, width, ratio)

    def forward(self, img: Any) -> Any:
        window = self.get_params(img, self.scale, self.ratio)
        return F.resized_crop(img, *window, self.size, self.interpolation, self.antialias)

    def __repr__(self) -> str:
        scale = tuple(round(s, 4) for s in self.scale)
        ratio = tuple(round(r, 4) for r in self.ratio)
        return (
            f"{type(self).__name__}(size={self.size}, scale={scale}, ratio={ratio}, "
            f"interpolation={self.interpolation.value}, antialias={self.antialias})"
        )


def _middle(height: int, width: int, ratio: Sequence[float]) -> tuple[int, int, int, int]:
    """The largest centred window whose shape is within ``ratio``."""
    wanted_height, wanted_width = height, width
    if width / height < min(ratio):
        wanted_height = round(width / min(ratio))
    elif width / height > max(ratio):
        wanted_width = round(height * max(ratio))
    top = (height - wanted_height) // 2
    left = (width - wanted_width) // 2
    return top, left, wanted_height, wanted_width


class RandomRotation(Transform):
    """Turned by a random angle: from ``-degrees`` to ``degrees``, or within (low, high)."""

    def __init__(
        self,
        degrees: float | Sequence[float],
        interpolation: InterpolationMode = InterpolationMode.NEAREST,
        expand: bool = False,
        center: Sequence[float] | None = None,
        fill: float | Sequence[float] = 0,
    ) -> None:
        if isinstance(degrees, numbers.Number):
            if degrees < 0:  # type: ignore[operator]
                raise ValueError(
                    "[RandomRotation] If degrees is a single number, it must be positive, got "
                    f"{degrees}"
                )
            degrees = (-degrees, degrees)  # type: ignore[operator, assignment]
        if len(degrees) != 2:  # type: ignore[arg-type]
            raise ValueError(f"[RandomRotation] degrees should be of length 2, got {degrees}")
        self.degrees = [float(d) for d in degrees]  # type: ignore[union-attr]
        self.interpolation = interpolation_mode(interpolation)
        self.expand = expand
        self.center = center
        self.fill = fill

    @staticmethod
    def get_params(degrees: Sequence[float]) -> float:
        """The angle."""
        return _uniform(float(degrees[0]), float(degrees[1]))

    def forward(self, img: Any) -> Any:
        fill = self.fill
        if isinstance(img, Tensor) and isinstance(fill, numbers.Number):
            fill = [float(fill)] * F.get_image_num_channels(img)  # type: ignore[arg-type]
        angle = self.get_params(self.degrees)
        return adjust.rotate(img, angle, self.interpolation, self.expand, self.center, fill)

    def __repr__(self) -> str:
        center = "" if self.center is None else f", center={self.center}"
        fill = "" if self.fill is None else f", fill={self.fill}"
        return (
            f"{type(self).__name__}(degrees={self.degrees}, "
            f"interpolation={self.interpolation.value}, expand={self.expand}{center}{fill})"
        )


# -- values ---------------------------------------------------------------------------------------


class RandomErasing(Transform):
    """A rectangle of a tensor image set to ``value`` with probability ``p``.

    ``value`` is a number, one per channel, or "random" for normal noise.
    Z. Zhong et al.: Random erasing data augmentation, arXiv:1708.04896.
    """

    def __init__(
        self,
        p: float = 0.5,
        scale: Sequence[float] = (0.02, 0.33),
        ratio: Sequence[float] = (0.3, 3.3),
        value: float | str | Sequence[float] = 0,
        inplace: bool = False,
    ) -> None:
        if not isinstance(value, (numbers.Number, str, tuple, list)):
            raise TypeError(
                "[RandomErasing] Argument value should be either a number or str or a sequence, "
                f"got {value!r}"
            )
        if isinstance(value, str) and value != "random":
            raise ValueError(f"[RandomErasing] If value is str, it should be 'random', got {value}")
        if scale[0] < 0 or scale[1] > 1:
            raise ValueError(f"[RandomErasing] Scale should be between 0 and 1, got {scale}")
        if not 0 <= p <= 1:
            raise ValueError(
                f"[RandomErasing] Random erasing probability should be between 0 and 1, got {p}"
            )
        self.p = p
        self.scale = scale
        self.ratio = ratio
        self.value = value
        self.inplace = inplace

    @staticmethod
    def get_params(
        img: Tensor, scale: Sequence[float], ratio: Sequence[float], value: list[float] | None
    ) -> tuple[int, int, int, int, Any]:
        """(top, left, height, width, what to write); the whole image if nothing fits."""
        channels, height, width = img.shape[-3:]
        area = height * width
        log_ratio = creation.tensor(list(ratio)).log().tolist()
        for _ in range(_TRIES):
            target = area * _uniform(scale[0], scale[1])
            aspect = creation.empty(1).uniform_(log_ratio[0], log_ratio[1]).exp().item()
            erased_height = round(math.sqrt(target * aspect))
            erased_width = round(math.sqrt(target / aspect))
            if not (erased_height < height and erased_width < width):
                continue
            if value is None:
                written = creation.empty((channels, erased_height, erased_width)).normal_()
            else:
                written = creation.tensor(value)[:, None, None]
            top = _randint(height - erased_height + 1)
            left = _randint(width - erased_width + 1)
            return top, left, erased_height, erased_width, written
        return 0, 0, height, width, img

    def forward(self, img: Tensor) -> Tensor:
        if _rand() >= self.p:
            return img
        channels = img.shape[-3]
        if isinstance(self.value, str):
            value = None
        elif isinstance(self.value, (tuple, list)):
            value = [float(v) for v in self.value]
        else:
            value = [float(self.value)]
        if value is not None and len(value) not in (1, channels):
            raise ValueError(
                "[RandomErasing] If value is a sequence, it should have either a single value or "
                f"{channels} (number of input channels), got {len(value)}"
            )
        return F.erase(img, *self.get_params(img, self.scale, self.ratio, value), self.inplace)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(p={self.p}, scale={self.scale}, ratio={self.ratio}, "
            f"value={self.value}, inplace={self.inplace})"
        )


class ColorJitter(Transform):
    """Brightness, contrast, saturation and hue changed at random, in random order.

    A number x stands for factors from max(0, 1 - x) to 1 + x (for hue: -x to x).
    """

    def __init__(
        self,
        brightness: float | Sequence[float] = 0,
        contrast: float | Sequence[float] = 0,
        saturation: float | Sequence[float] = 0,
        hue: float | Sequence[float] = 0,
    ) -> None:
        self.brightness = _factors(brightness, "brightness")
        self.contrast = _factors(contrast, "contrast")
        self.saturation = _factors(saturation, "saturation")
        self.hue = _factors(hue, "hue", centre=0.0, bounds=(-0.5, 0.5))

    def forward(self, img: Any) -> Any:
        order = REGISTRY["randperm"](4).tolist()
        ranges = (self.brightness, self.contrast, self.saturation, self.hue)
        factors = [None if bounds is None else _uniform(*bounds) for bounds in ranges]
        functions = (
            adjust.adjust_brightness,
            adjust.adjust_contrast,
            adjust.adjust_saturation,
            adjust.adjust_hue,
        )
        for index in order:
            factor = factors[index]
            if factor is not None:
                img = functions[index](img, factor)
        return img

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(brightness={self.brightness}, contrast={self.contrast}, "
            f"saturation={self.saturation}, hue={self.hue})"
        )


def _factors(
    value: Any,
    name: str,
    centre: float = 1.0,
    bounds: tuple[float, float] = (0.0, math.inf),
) -> tuple[float, float] | None:
    """The range of a factor; None where it changes nothing."""
    if isinstance(value, numbers.Number):
        if value < 0:  # type: ignore[operator]
            raise ValueError(
                f"[ColorJitter] If {name} is a single number, it must be non negative, got {value}"
            )
        low, high = centre - value, centre + value  # type: ignore[operator]
        if centre == 1.0:
            low = max(low, 0.0)
    elif isinstance(value, (tuple, list)) and len(value) == 2:
        low, high = float(value[0]), float(value[1])
    else:
        raise TypeError(
            f"[ColorJitter] {name} should be a single number or a list/tuple with length 2, got "
            f"{value!r}"
        )
    if not bounds[0] <= low <= high <= bounds[1]:
        raise ValueError(
            f"[ColorJitter] {name} values should be between {bounds}, but got {[low, high]}."
        )
    return None if low == high == centre else (float(low), float(high))
