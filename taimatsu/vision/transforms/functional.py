"""Image operations as functions, on tensors (..., C, H, W) and, most of them, on PIL images."""

from __future__ import annotations

import enum
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from taimatsu import dtypes
from taimatsu.ops.base import REGISTRY
from taimatsu.recorder import constant
from taimatsu.recorder import value as value_of
from taimatsu.tensor import Tensor
from taimatsu.vision.images import is_pil, pillow
from taimatsu.vision.resample import weights

_LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, the digits PyTorch uses
_PIL_DTYPES = {"I": np.int32, "I;16": np.int16, "F": np.float32}


class InterpolationMode(enum.Enum):
    """How pixels between pixels are made; box, hamming and lanczos for PIL images only."""

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


_GRAY_MODES = {"|u1": "L", "<i2": "I;16", "<u2": "I;16", "<i4": "I", "<f4": "F"}
_COLOUR_MODES = {2: ("LA",), 3: ("RGB", "YCbCr", "HSV"), 4: ("RGBA", "CMYK", "RGBX")}
_PIL_NUMBERS = {0: "nearest", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming", 1: "lanczos"}
_PIL_FILTERS = {mode.value: number for number, mode in (
    (0, InterpolationMode.NEAREST),
    (0, InterpolationMode.NEAREST_EXACT),
    (2, InterpolationMode.BILINEAR),
    (3, InterpolationMode.BICUBIC),
    (4, InterpolationMode.BOX),
    (5, InterpolationMode.HAMMING),
    (1, InterpolationMode.LANCZOS),
)}  # fmt: skip


def interpolation_mode(given: InterpolationMode | int) -> InterpolationMode:
    """The mode; also from the number that Pillow gives it."""
    if isinstance(given, int) and given in _PIL_NUMBERS:
        return InterpolationMode(_PIL_NUMBERS[given])
    if not isinstance(given, InterpolationMode):
        raise TypeError(
            "[transforms] Argument interpolation should be a InterpolationMode or a corresponding "
            f"Pillow integer constant, got {given!r}"
        )
    return given


# -- what kind of image ---------------------------------------------------------------------


def is_tensor_image(img: Any) -> bool:
    return isinstance(img, Tensor) and img.ndim >= 2


def check_image(img: Any) -> None:
    """Raises TypeError for what is neither a PIL image nor a tensor image."""
    if is_pil(img) or is_tensor_image(img):
        return
    if isinstance(img, Tensor):
        raise TypeError(
            "[transforms] Tensor is not a torch image: expected shape (..., H, W), got "
            f"{tuple(img.shape)}"
        )
    raise TypeError(
        f"[transforms] img should be PIL Image or Tensor Image. Got {type(img)}; ToTensor() makes "
        "a tensor of an array, Image.fromarray(array) a PIL image"
    )


def get_dimensions(img: Any) -> list[int]:
    """[channels, height, width]."""
    check_image(img)
    if isinstance(img, Tensor):
        channels = 1 if img.ndim == 2 else img.shape[-3]
        return [channels, *img.shape[-2:]]
    return [len(img.getbands()), img.height, img.width]


def get_image_size(img: Any) -> list[int]:
    """[width, height]."""
    _, height, width = get_dimensions(img)
    return [width, height]


def get_image_num_channels(img: Any) -> int:
    return get_dimensions(img)[0]


# -- between PIL, NumPy and tensors -----------------------------------------------------------


def _pil_to_array(pic: Any) -> np.ndarray:
    """(C, H, W), values as they are; mode "1" becomes 0 and 255."""
    array = np.array(pic, _PIL_DTYPES.get(pic.mode, np.uint8))
    if pic.mode == "1":
        array = 255 * array
    if array.ndim == 2:
        array = array[:, :, None]
    return array.transpose(2, 0, 1)


def to_tensor(pic: Any) -> Tensor:
    """A PIL image or array (H, W, C) or (H, W) as a tensor (C, H, W).

    uint8 values are divided by 255 and become the default floating dtype; others keep their value
    and dtype.
    """
    if is_pil(pic):
        array = _pil_to_array(pic)
        scale = pic.mode not in _PIL_DTYPES
    elif isinstance(pic, np.ndarray):
        if pic.ndim not in (2, 3):
            raise ValueError(
                f"[to_tensor] pic should be 2/3 dimensional. Got {pic.ndim} dimensions; "
                "give one image (H, W) or (H, W, C) at a time"
            )
        array = (pic if pic.ndim == 3 else pic[:, :, None]).transpose(2, 0, 1)
        scale = pic.dtype == np.uint8
    else:
        raise TypeError(
            f"[to_tensor] pic should be PIL Image or ndarray. Got {type(pic)}; a tensor needs no "
            "ToTensor, convert_image_dtype scales one"
        )
    if scale:
        array = array / array_type(dtypes.get_default_dtype())(255)
    return constant(np.array(array, order="C"))


def array_type(dtype: Any) -> Any:
    """NumPy's scalar type for a dtype."""
    return dtype.numpy.type


def pil_to_tensor(pic: Any) -> Tensor:
    """A PIL image as a tensor (C, H, W) of the same values and type."""
    if not is_pil(pic):
        raise TypeError(f"[pil_to_tensor] pic should be PIL Image. Got {type(pic)}")
    array = np.array(pic)
    if array.ndim == 2:
        array = array[:, :, None]
    return constant(np.array(array.transpose(2, 0, 1), order="C"))


def to_pil_image(pic: Any, mode: str | None = None) -> Any:
    """A tensor (C, H, W) or array (H, W, C) as a PIL image.

    Floating values from 0 to 1 become 0 to 255 (mode "F" keeps them). One channel gives mode "L",
    two "LA", three "RGB", four "RGBA", unless ``mode`` says otherwise.
    """
    array = _array_for_pil(pic)
    if np.issubdtype(array.dtype, np.floating) and mode != "F":
        array = (array * 255).astype(np.uint8)
    channels = array.shape[2]
    if channels > 4:
        raise ValueError(
            f"[to_pil_image] pic should not have > 4 channels. Got {channels} channels."
        )
    if channels == 1:
        array = array[:, :, 0]
        natural = _GRAY_MODES.get(array.dtype.str)
        allowed: tuple[str | None, ...] = (natural,)
    else:
        allowed = _COLOUR_MODES[channels]
        natural = allowed[0] if array.dtype == np.uint8 else None
    if mode is not None and mode not in allowed:
        raise ValueError(
            f"[to_pil_image] Incorrect mode ({mode}) supplied for input type {array.dtype}. "
            f"Should be {' or '.join(map(str, allowed))}"
        )
    if natural is None:
        raise TypeError(f"[to_pil_image] Input type {array.dtype} is not supported")
    size = (array.shape[1], array.shape[0])
    return pillow().frombytes(mode or natural, size, np.ascontiguousarray(array).tobytes())


def _array_for_pil(pic: Any) -> np.ndarray:
    if isinstance(pic, Tensor):
        if pic.ndim not in (2, 3):
            raise ValueError(
                f"[to_pil_image] pic should be 2/3 dimensional. Got {pic.ndim} dimensions."
            )
        array = value_of(pic.detach())
        return array[:, :, None] if array.ndim == 2 else array.transpose(1, 2, 0)
    if isinstance(pic, np.ndarray):
        if pic.ndim not in (2, 3):
            raise ValueError(
                f"[to_pil_image] pic should be 2/3 dimensional. Got {pic.ndim} dimensions."
            )
        return pic[:, :, None] if pic.ndim == 2 else pic
    raise TypeError(f"[to_pil_image] pic should be Tensor or ndarray. Got {type(pic)}.")


def convert_image_dtype(image: Tensor, dtype: Any = dtypes.float32) -> Tensor:
    """The image in another dtype, scaled so that white stays white."""
    if not isinstance(image, Tensor):
        raise TypeError(
            f"[convert_image_dtype] Input img should be Tensor Image, got {type(image)}"
        )
    if image.dtype == dtype:
        return image
    if image.dtype.is_floating_point:
        return _from_unit_range(image, dtype)
    highest = _highest(image.dtype)
    if dtype.is_floating_point:
        return image.to(dtype) / highest
    wanted = _highest(dtype)
    if highest > wanted:
        factor = (highest + 1) // (wanted + 1)
        return (image // factor).to(dtype)
    factor = (wanted + 1) // (highest + 1)
    return image.to(dtype) * factor


def _from_unit_range(image: Tensor, dtype: Any) -> Tensor:
    if dtype.is_floating_point:
        return image.to(dtype)
    wide = (dtypes.int32, dtypes.int64)
    if (image.dtype == dtypes.float32 and dtype in wide) or (
        image.dtype == dtypes.float64 and dtype == dtypes.int64
    ):
        raise RuntimeError(
            f"[convert_image_dtype] The cast from {image.dtype} to {dtype} cannot be performed "
            "safely."
        )
    # Just under highest + 1: all integers get an equal share of [0, 1].
    return image.mul(_highest(dtype) + 1.0 - 1e-3).to(dtype)


def _highest(dtype: Any) -> int:
    return 1 if dtype == dtypes.bool else dtypes.iinfo(dtype).max


# -- values -----------------------------------------------------------------------------------


def normalize(
    tensor: Tensor, mean: Sequence[float], std: Sequence[float], inplace: bool = False
) -> Tensor:
    """``(tensor - mean) / std`` per channel, for a floating tensor (..., C, H, W)."""
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"[normalize] img should be Tensor Image. Got {type(tensor)}; put ToTensor() before it"
        )
    if not tensor.dtype.is_floating_point:
        raise TypeError(
            f"[normalize] Input tensor should be a float tensor. Got {tensor.dtype}; ToTensor "
            "before Normalize gives one"
        )
    if tensor.ndim < 3:
        raise ValueError(
            "[normalize] Expected tensor to be a tensor image of size (..., C, H, W). Got "
            f"tensor.size() = {tensor.size()}"
        )
    shift = _per_channel(mean, tensor.dtype)
    scale = _per_channel(std, tensor.dtype)
    channels = tensor.shape[-3]
    if any(v.ndim == 3 and v.shape[0] not in (1, channels) for v in (shift, scale)):
        raise RuntimeError(
            f"[normalize] The size of tensor a ({channels}) must match the size of tensor b "
            f"({len(shift)}) at non-singleton dimension 0: the image has {channels} channels, mean "
            f"and std {len(shift)} and {len(scale)}; give one mean and std for each channel"
        )
    if (scale == 0).any():
        raise ValueError(
            f"[normalize] std evaluated to zero after conversion to {tensor.dtype}, leading to "
            f"division by zero; got std={std}; give a positive one for each channel"
        )
    if inplace:
        return tensor.sub_(constant(shift)).div_(constant(scale))
    if tensor.requires_grad:
        return tensor.sub(constant(shift)).div(constant(scale))
    # An image of its own, between two others in a loader: NumPy at once costs least.
    return constant((value_of(tensor) - shift) / scale)


def _per_channel(values: Any, dtype: Any) -> np.ndarray:
    if isinstance(values, Tensor):
        values = value_of(values.detach())
    array = np.asarray(values, dtype.numpy)
    return array.reshape(-1, 1, 1) if array.ndim == 1 else array


def rgb_to_grayscale(img: Any, num_output_channels: int = 1) -> Any:
    """Brightness of an RGB image, in one or in three equal channels."""
    if num_output_channels not in (1, 3):
        raise ValueError(
            "[rgb_to_grayscale] num_output_channels should be either 1 or 3, got "
            f"{num_output_channels}"
        )
    check_image(img)
    if not isinstance(img, Tensor):
        gray = img.convert("L")
        return gray if num_output_channels == 1 else pillow().merge("RGB", (gray,) * 3)
    channels = get_dimensions(img)[0]
    if channels == 3:
        red, green, blue = img.unbind(-3)
        gray = (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue).to(img.dtype).unsqueeze(-3)
    elif channels == 1:
        return img.clone()  # whatever the number of channels asked for, as PyTorch does
    else:
        raise TypeError(
            f"[rgb_to_grayscale] Input image tensor permitted channel values are 1 or 3, but found "
            f"{channels}"
        )
    return gray if num_output_channels == 1 else gray.expand(*gray.shape[:-3], 3, *gray.shape[-2:])


def to_grayscale(img: Any, num_output_channels: int = 1) -> Any:
    """Brightness of a PIL image."""
    if not is_pil(img):
        raise TypeError("[to_grayscale] Input should be PIL Image; rgb_to_grayscale takes tensors")
    return rgb_to_grayscale(img, num_output_channels)


# -- geometry ---------------------------------------------------------------------------------


def hflip(img: Any) -> Any:
    """The image mirrored left to right."""
    check_image(img)
    if isinstance(img, Tensor):
        return img.flip(-1)
    return img.transpose(pillow().Transpose.FLIP_LEFT_RIGHT)


def vflip(img: Any) -> Any:
    """The image mirrored top to bottom."""
    check_image(img)
    if isinstance(img, Tensor):
        return img.flip(-2)
    return img.transpose(pillow().Transpose.FLIP_TOP_BOTTOM)


def crop(img: Any, top: int, left: int, height: int, width: int) -> Any:
    """A window; what lies outside the image is black."""
    check_image(img)
    if not isinstance(img, Tensor):
        return img.crop((left, top, left + width, top + height))
    total_height, total_width = img.shape[-2:]
    bottom = top + height
    right = left + width
    inside = img[..., max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if left >= 0 and top >= 0 and right <= total_width and bottom <= total_height:
        return inside
    borders = [
        max(min(-left, width), 0),
        max(-top, 0),
        max(right - max(total_width, left), 0),
        max(bottom - max(total_height, top), 0),
    ]
    return pad(inside, borders)


def center_crop(img: Any, output_size: int | Sequence[int]) -> Any:
    """The middle of the image, with a black border where it is too small."""
    height, width = pair_of(output_size)
    _, total_height, total_width = get_dimensions(img)
    if width > total_width or height > total_height:
        missing_x = max(width - total_width, 0)
        missing_y = max(height - total_height, 0)
        borders = [missing_x // 2, missing_y // 2, (missing_x + 1) // 2, (missing_y + 1) // 2]
        img = pad(img, borders)
        _, total_height, total_width = get_dimensions(img)
    top = round((total_height - height) / 2.0)
    left = round((total_width - width) / 2.0)
    return crop(img, top, left, height, width)


def pair_of(size: Any) -> tuple[int, int]:
    """(height, width) from a number or a sequence of one or two."""
    if isinstance(size, numbers.Number):
        return int(size), int(size)  # type: ignore[call-overload]
    if len(size) == 1:
        return size[0], size[0]
    height, width = size
    return height, width


def pad(
    img: Any,
    padding: int | Sequence[int],
    fill: float | Sequence[float] = 0,
    padding_mode: str = "constant",
) -> Any:
    """The image with a border: one width, (left/right, top/bottom), or (left, top, right, bottom).

    ``padding_mode`` is constant (with ``fill``), edge, reflect or symmetric.
    """
    left, top, right, bottom = _borders(padding)
    if padding_mode not in ("constant", "edge", "reflect", "symmetric"):
        raise ValueError(
            "[pad] Padding mode should be either constant, edge, reflect or symmetric, got "
            f"{padding_mode!r}"
        )
    check_image(img)
    if not isinstance(img, Tensor):
        return _pad_pil(img, (left, top, right, bottom), fill, padding_mode)
    mode = {"edge": "replicate", "reflect": "reflect", "constant": "constant"}.get(padding_mode)
    if mode == "constant":
        value = fill[0] if isinstance(fill, Sequence) else fill
        return REGISTRY["nn.functional.pad"](img, (left, right, top, bottom), "constant", value)
    return _gather_border(img, (left, top, right, bottom), padding_mode)


def _borders(padding: Any) -> tuple[int, int, int, int]:
    if not isinstance(padding, (numbers.Number, tuple, list)):
        raise TypeError(f"[pad] Got inappropriate padding arg: {padding!r}")
    if isinstance(padding, numbers.Number):
        padding = (padding,) * 4
    if len(padding) not in (1, 2, 4):
        raise ValueError(
            "[pad] Padding must be an int or a 1, 2, or 4 element tuple, not a "
            f"{len(padding)} element tuple"
        )
    if len(padding) == 1:
        padding = tuple(padding) * 4
    if len(padding) == 2:
        padding = tuple(padding) * 2
    return tuple(int(width) for width in padding)  # type: ignore[return-value]


def _gather_border(img: Tensor, borders: tuple[int, int, int, int], mode: str) -> Tensor:
    """Padding whose pixels are the image's: rows and columns picked by index."""
    left, top, right, bottom = borders
    height, width = img.shape[-2:]
    numpy_mode = {"edge": "edge", "reflect": "reflect", "symmetric": "symmetric"}[mode]
    rows = np.pad(np.arange(height), (top, bottom), numpy_mode)  # type: ignore[call-overload]
    columns = np.pad(np.arange(width), (left, right), numpy_mode)  # type: ignore[call-overload]
    picked = img.index_select(-2, constant(rows))
    return picked.index_select(-1, constant(columns))


def _pad_pil(img: Any, borders: tuple[int, int, int, int], fill: Any, mode: str) -> Any:
    left, top, right, bottom = borders
    if mode == "constant":
        if isinstance(fill, Sequence) and not isinstance(fill, str):
            fill = tuple(fill) if len(fill) > 1 else fill[0]
        elif isinstance(fill, numbers.Number) and len(img.getbands()) > 1:
            fill = (int(fill),) * len(img.getbands())  # type: ignore[call-overload]
        return pillow("ImageOps").expand(img, border=borders, fill=fill)
    palette = img.getpalette() if img.mode == "P" else None
    array = np.asarray(img)
    widths = ((top, bottom), (left, right)) + ((0, 0),) * (array.ndim - 2)
    image = pillow().fromarray(np.pad(array, widths, mode))  # type: ignore[call-overload]
    if palette is not None:
        image.putpalette(palette)
    return image


def resize(
    img: Any,
    size: int | Sequence[int],
    interpolation: InterpolationMode = InterpolationMode.BILINEAR,
    max_size: int | None = None,
    antialias: bool | None = True,
) -> Any:
    """The image at ``size`` (height, width); one number is for the shorter side.

    ``max_size`` bounds the longer side. ``antialias`` matters for tensors, where it averages over
    the pixels that a smaller image leaves out; PIL images always do so.
    """
    mode = interpolation_mode(interpolation).value
    _, height, width = get_dimensions(img)
    new_height, new_width = _resized_shape(height, width, size, max_size)
    if (new_height, new_width) == (height, width):
        return img
    if not isinstance(img, Tensor):
        return img.resize((new_width, new_height), _PIL_FILTERS[mode])
    smooth = bool(antialias) and mode in ("bilinear", "bicubic")
    return _resize_tensor(img, new_height, new_width, mode, smooth)


def _resized_shape(height: int, width: int, size: Any, max_size: int | None) -> tuple[int, int]:
    if isinstance(size, Sequence) and len(size) == 2:
        if max_size is not None:
            raise ValueError(
                "[resize] max_size should only be passed if size specifies the length of the "
                f"smaller edge, got size={size}"
            )
        return int(size[0]), int(size[1])
    wanted = size[0] if isinstance(size, Sequence) else size
    short, long = min(height, width), max(height, width)
    new_short, new_long = wanted, int(wanted * long / short)
    if max_size is not None:
        if max_size <= wanted:
            raise ValueError(
                f"[resize] max_size = {max_size} must be strictly greater than the requested size "
                f"for the smaller edge size = {size}"
            )
        if new_long > max_size:
            new_short, new_long = int(max_size * new_short / new_long), max_size
    return (new_short, new_long) if height <= width else (new_long, new_short)


def _resize_tensor(img: Tensor, height: int, width: int, mode: str, antialias: bool) -> Tensor:
    dtype = img.dtype if img.dtype.is_floating_point else dtypes.float32
    rows = weights(height, img.shape[-2], mode, antialias).astype(dtype.numpy)
    columns = weights(width, img.shape[-1], mode, antialias).astype(dtype.numpy)
    resized = constant(rows) @ img.to(dtype) @ constant(columns.T.copy())
    if img.dtype.is_floating_point:
        return resized
    if mode == "bicubic" and img.dtype == dtypes.uint8:
        resized = resized.clamp(0, 255)
    return resized.round().to(img.dtype)


def resized_crop(
    img: Any,
    top: int,
    left: int,
    height: int,
    width: int,
    size: Sequence[int],
    interpolation: InterpolationMode = InterpolationMode.BILINEAR,
    antialias: bool | None = True,
) -> Any:
    """A window, at ``size``."""
    return resize(crop(img, top, left, height, width), size, interpolation, None, antialias)


def five_crop(img: Any, size: int | Sequence[int]) -> tuple[Any, ...]:
    """The four corners (upper left and right, lower left and right) and the middle."""
    height, width = pair_of(size)
    _, total_height, total_width = get_dimensions(img)
    if width > total_width or height > total_height:
        raise ValueError(
            f"[five_crop] Requested crop size {(height, width)} is bigger than input size "
            f"{(total_height, total_width)}"
        )
    bottom = total_height - height
    right = total_width - width
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    crops = [crop(img, top, left, height, width) for top, left in corners]
    return (*crops, center_crop(img, (height, width)))


def erase(img: Tensor, i: int, j: int, h: int, w: int, v: Any, inplace: bool = False) -> Tensor:
    """The tensor with the window at row i, column j, of height h and width w set to ``v``."""
    if not isinstance(img, Tensor):
        raise TypeError(f"[erase] expected a Tensor Image, got {type(img)}")
    if not inplace:
        img = img.clone()
    img[..., i : i + h, j : j + w] = v
    return img
