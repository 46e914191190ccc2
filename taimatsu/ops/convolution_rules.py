"""The rules of convolutions' arguments: channels, dtypes, extents, and what to say if they fail."""

from __future__ import annotations

from taimatsu.dtypes import dtype as DType
from taimatsu.errors import OperationError
from taimatsu.ir.meta import Meta
from taimatsu.ops.windows import Extents, times, window_count

_C_NAMES = {
    "uint8": "unsigned char",
    "int8": "signed char",
    "int64": "long int",
    "int32": "int",
    "int16": "short int",
    "float16": "c10::Half",
    "bfloat16": "c10::BFloat16",
    "float32": "float",
    "float64": "double",
    "complex64": "c10::complex<float>",
    "complex128": "c10::complex<double>",
}


def check_channels(
    name: str, input: Meta, weight: Meta, bias: Meta | None, transposed: bool, groups: int
) -> None:
    """RuntimeError where channels, groups, weight and bias do not go together."""

    def refuse(words: str, hint: str = "") -> Exception:
        return OperationError.make(name, words, hint=hint)

    size = list(weight.shape)
    if groups <= 0:
        raise refuse("non-positive groups is not supported")
    if weight.ndim != input.ndim:
        raise refuse(
            f"Expected {input.ndim}-dimensional weight for {input.ndim}-dimensional input "
            f"{list(input.shape)}, but got {weight.ndim}-dimensional weight of size {size} instead"
        )
    given = f"Given {'transposed=1' if transposed else f'groups={groups}'}, weight of size {size}, "
    if weight.shape[0] % groups:
        raise refuse(
            f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, "
            f"but got weight of size {size} instead"
        )
    channels = weight.shape[0] if transposed else weight.shape[1] * groups
    if input.shape[1] != channels:
        raise refuse(
            f"{given}expected input{list(input.shape)} to have {channels} channels, "
            f"but got {input.shape[1]} channels instead",
            _channels_hint(input, channels),
        )
    outs = weight.shape[1] * groups if transposed else weight.shape[0]
    if bias is not None and tuple(bias.shape) != (outs,):
        raise refuse(
            f"{given}expected bias to be 1-dimensional with {outs} elements, "
            f"but got bias of size {list(bias.shape)} instead"
        )


def _channels_hint(input: Meta, channels: int) -> str:
    if input.ndim > 2 and input.shape[-1] == channels:
        order = (0, input.ndim - 1, *range(1, input.ndim - 1))
        return (
            "the channels look to be the last dimension, as in NumPy images: "
            f"x.permute{order} puts them first"
        )
    if channels == 1 and input.ndim == 3:
        return "x.unsqueeze(1) adds the channel dimension that images without colour lack"
    return (
        f"the layer was made for {channels} input channels (dimension 1), as its in_channels says"
    )


def check_types(name: str, input: DType, weight: DType, bias: DType | None) -> None:
    """RuntimeError where the tensors are of several dtypes."""
    which, other = ("weight", weight) if input is not weight else ("bias", bias)
    if other is None or input is other:
        return
    if bias is not None:
        which = "bias"
    given, wanted = (_C_NAMES.get(d.name, d.name) for d in (input, other))
    hint = f"x.to({other!r}) converts the input"
    if input.category <= 1:
        hint = "convert the input: x.float() (and / 255 for 8-bit images)"
    raise OperationError.make(
        name,
        f"Input type ({given}) and {which} type ({wanted}) should be the same "
        f"(expected scalar type {input.scalar_type} but found {other.scalar_type})",
        hint=hint,
    )


def convolved_extents(
    name: str, input: Meta, kernel: Extents, stride: Extents, padding: Extents, dilation: Extents
) -> Extents:
    """The spatial extents of a convolution; RuntimeError where no window fits."""
    extents = tuple(map(window_count, input.shape[2:], kernel, stride, padding, dilation))
    if min(extents) < 1:
        padded = [n + 2 * p for n, p in zip(input.shape[2:], padding, strict=True)]
        span = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        raise OperationError.make(
            name,
            f"Calculated padded input size per channel: ({times(padded)}). "
            f"Kernel size: ({times(span)}). Kernel size can't be greater than actual input size",
            hint="use padding, a smaller kernel, or fewer layers that shrink the image before",
        )
    return extents


def transposed_extents(
    name: str,
    input: Meta,
    kernel: Extents,
    stride: Extents,
    padding: Extents,
    dilation: Extents,
    output_padding: Extents,
) -> Extents:
    """The spatial extents of a transposed convolution; RuntimeError where none are left."""
    extents = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + extra + 1
        for n, k, s, p, d, extra in zip(
            input.shape[2:], kernel, stride, padding, dilation, output_padding, strict=True
        )
    )
    if min(extents) < 1:
        raise OperationError.make(
            name,
            f"Given input size per channel: ({times(input.shape[2:])}). Calculated output size "
            f"per channel: ({times(extents)}). Output size is too small",
        )
    return extents


def check_window(name: str, stride: Extents, padding: Extents, dilation: Extents) -> None:
    """RuntimeError for negative padding, and for strides and dilations below 1."""
    words = ""
    if min(padding) < 0:
        words = "negative padding is not supported"
    elif min(stride) <= 0:
        words = "non-positive stride is not supported"
    elif min(dilation) <= 0:
        words = "dilation should be greater than zero"
    if words:
        got = f"got stride={list(stride)}, padding={list(padding)}, dilation={list(dilation)}"
        raise OperationError.make(name, words, got)
