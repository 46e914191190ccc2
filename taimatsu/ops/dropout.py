"""Dropout: elements, or whole channels, set to zero at random while training.

The masks come from Philox, in bits, forward and again backward: they are kept only within a
program. The default generator goes on as if PyTorch's mask had been
drawn from it: what is drawn later has PyTorch's numbers.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from taimatsu import dtypes
from taimatsu.generator import default_generator, philox_uniform
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index, index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage, View
from taimatsu.ops.base import Operation, Sample, array, composite, register
from taimatsu.ops.coordinates import ravel, wide
from taimatsu.ops.philox_lowering import uniform_below
from taimatsu.ops.random import error
from taimatsu.shapes import count

# Of the self-normalising network: the value far to the left (Klambauer et al. 2017).
_ALPHA = 1.7580993408473766


def _kept(seed: int, offset: int, shape: tuple[int, ...], p: float) -> np.ndarray:
    """True where an element stays: its number, in row-major order, is below ``1 - p``."""
    return (philox_uniform(seed, offset, count(shape)) < np.float32(1 - p)).reshape(shape)


def _keeping(
    b: Builder,
    seed: Expression,
    offset: Expression,
    shape: tuple[Index, ...],
    p: float,
    feature: bool,
) -> Callable[[tuple[Index, ...]], Expression]:
    """``_kept`` of an input of this shape, as a function of the place."""
    numbered = shape[:2] if feature else shape
    count = index(1)
    for extent in numbered:
        count = count * extent
    is_below = uniform_below(b, seed, offset, count, float(np.float32(1 - p)))
    return lambda where: is_below(ravel(where[: len(numbered)], numbered))


def _mask_shape(shape: tuple[int, ...], feature: bool) -> tuple[int, ...]:
    """One number for each element, or for each channel of (N, C, ...)."""
    return (*shape[:2], *(1 for _ in shape[2:])) if feature else tuple(shape)


@register
class Dropout(Operation):
    """``input`` times a mask that is 0 with probability ``p`` and else ``1 / (1 - p)``.

    ``seed`` and ``offset`` are runtime integers (see ``Generator.dropout_key``).
    """

    name = "dropout_by_key"
    backward_name = "MulBackward0"
    hidden = True

    def infer(self, input: Any, seed: int, offset: int, *, p: float, feature: bool) -> Meta:
        return meta(input.shape, input.dtype)

    def reference(
        self, input: np.ndarray, seed: int, offset: int, *, p: float, feature: bool
    ) -> np.ndarray:
        kept = _kept(seed, offset, _mask_shape(input.shape, feature), p)
        compute = np.float32 if input.dtype.itemsize == 2 else input.real.dtype.type
        scale = (compute(1) / compute(1 - p)).astype(input.dtype)
        return input * np.where(kept, scale, input.dtype.type(0))

    def lower(
        self,
        b: Builder,
        input: View,
        seed: Expression,
        offset: Expression,
        *,
        p: float,
        feature: bool,
    ) -> Stage:
        kind = wide(input.dtype)
        compute = np.float32 if kind == "float32" else np.float64
        scale = (compute(1) / compute(1 - p)).astype(getattr(dtypes, input.dtype).numpy)
        factor = b.constant(float(scale), kind)

        kept = _keeping(b, seed, offset, input.shape, p, feature)

        def element(*i: Index) -> Expression:
            return b.cast(b.cast(input[i], kind) * b.where(kept(i), factor, 0), input.dtype)

        return b.map(input.shape, input.dtype, element)

    def gradient(
        self, g: Any, out: Any, input: Any, seed: Any, offset: Any, *, p: float, feature: bool
    ) -> Any:
        return self.apply(g, seed, offset, p=p, feature=feature), None, None


@register
class DropoutMask(Operation):
    """1 where ``input`` is to be kept, else 0: of its dtype, of its shape or one per channel."""

    hidden = True
    differentiable = False

    def infer(self, input: Any, seed: int, offset: int, *, p: float, feature: bool) -> Meta:
        return meta(_mask_shape(input.shape, feature), input.dtype)

    def reference(
        self, input: np.ndarray, seed: int, offset: int, *, p: float, feature: bool
    ) -> np.ndarray:
        return _kept(seed, offset, _mask_shape(input.shape, feature), p).astype(input.dtype)

    def lower(
        self,
        b: Builder,
        input: View,
        seed: Expression,
        offset: Expression,
        *,
        p: float,
        feature: bool,
    ) -> Stage:
        kept = _keeping(b, seed, offset, input.shape, p, feature)

        def element(*i: Index) -> Expression:
            return b.cast(kept(i), input.dtype)

        shape = (*input.shape[:2], *(1 for _ in input.shape[2:])) if feature else input.shape
        return b.map(shape, input.dtype, element)


def _key(numel: int) -> tuple[int, int]:
    """Seed and first counter of the next mask, each as a signed 64-bit integer."""
    seed, offset = default_generator.dropout_key(numel)
    return seed - (1 << 64) if seed >> 63 else seed, offset


def _checked(name: str, p: float, kind: type[Exception]) -> None:
    if not 0.0 <= p <= 1.0:
        raise error(
            name, "dropout probability has to be between 0 and 1", f"but got {p}",
            "p is the share of elements set to zero", kind,
        )  # fmt: skip


def _dropped(name: str, input: Any, p: float, train: bool, feature: bool, alpha: bool) -> Any:
    """The result of any of the functions below; ``input`` itself where nothing is to be done."""
    if not train or p == 0 or input._meta.numel == 0:
        return input
    if p == 1:
        return input * 0
    if feature and input._meta.ndim < 2:
        raise error(
            name, "Feature dropout requires at least 2 dimensions in the input",
            f"{input._meta.ndim}", "the channels are dimension 1",
        )  # fmt: skip
    dtype = input._meta.dtype
    if not (dtype.is_floating_point or dtype.is_complex):
        raise error(
            name, f"result type Float can't be cast to the desired output type {dtype.scalar_type}",
            f"{dtype}", "convert the input with .float()",
        )  # fmt: skip
    p = float(p)
    seed, offset = _key(count(_mask_shape(input._meta.shape, feature)))
    if not alpha:
        return Dropout.apply(input, seed, offset, p=p, feature=feature)
    # Dropped elements become -alpha; the line through it keeps mean 0 and variance 1.
    kept = DropoutMask.apply(input, seed, offset, p=p, feature=feature)
    slope = 1.0 / math.sqrt((_ALPHA * _ALPHA * p + 1) * (1 - p))
    shift = (kept - 1) * (_ALPHA * slope) + _ALPHA * slope * p
    return input * (kept * slope) + shift


def _in_place(name: str, input: Any, result: Any) -> Any:
    input._refuse_write(name.removesuffix("_"))
    return input if result is input else input._assign(result, name.removesuffix("_"))


def _functional(
    name: str, input: Any, p: float, training: bool, inplace: bool, feature: bool, alpha: bool
) -> Any:
    _checked(name, p, ValueError)
    result = _dropped(name, input, p, training, feature, alpha)
    return _in_place(name, input, result) if inplace else result


def _samples() -> Iterator[Sample]:
    yield Sample(array(3, 4), 0.5, False)
    yield Sample(array(3, 4), 0.0, True)
    yield Sample(array(3, 4), 1.0, True)


@composite("nn.functional.dropout", methods=(), samples=_samples)
def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """While training, sets elements to zero with probability ``p`` and scales the others by
    ``1 / (1 - p)`` (Srivastava et al. 2014); else ``input`` itself.
    """
    return _functional("dropout", input, p, training, inplace, False, False)


@composite("nn.functional.alpha_dropout", methods=(), samples=_samples)
def alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Any:
    """Dropout that keeps the mean and variance of SELU activations (Klambauer et al. 2017)."""
    return _functional("alpha_dropout", input, p, training, inplace, False, True)


@composite("nn.functional.feature_alpha_dropout", methods=(), samples=_samples)
def feature_alpha_dropout(
    input: Any, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Any:
    """``alpha_dropout`` of whole channels: (N, C, ...)."""
    return _functional("feature_alpha_dropout", input, p, training, inplace, True, True)


@composite("nn.functional.dropout1d", methods=())
def dropout1d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Sets whole channels to zero: input (N, C, L) or (C, L)."""
    _checked("dropout1d", p, ValueError)
    ndim = input._meta.ndim
    if ndim not in (2, 3):
        raise error(
            "dropout1d", "Expected 2D or 3D input",
            f"but received a {ndim}D input", "dropout1d drops channels of (N, C, L) or (C, L)",
        )  # fmt: skip
    return _channels("dropout1d", input, p, training, inplace, ndim == 2)


@composite("nn.functional.dropout2d", methods=())
def dropout2d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Sets whole channels to zero: input (N, C, H, W)."""
    _checked("dropout2d", p, ValueError)
    ndim = input._meta.ndim
    if ndim not in (3, 4):
        _warn_of_dimensions("dropout2d", ndim, "3D or 4D")
    if ndim == 3:
        warnings.warn(
            "dropout2d: Received a 3D input to dropout2d and assuming that channel-wise 1D dropout "
            "behavior is desired: input is interpreted as shape (N, C, L), where C is the channel "
            "dim. Use dropout1d for that, or add a batch dimension to (C, H, W).",
            stacklevel=3,
        )
    return _channels("dropout2d", input, p, training, inplace, False)


@composite("nn.functional.dropout3d", methods=())
def dropout3d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Sets whole channels to zero: input (N, C, D, H, W) or (C, D, H, W)."""
    _checked("dropout3d", p, ValueError)
    ndim = input._meta.ndim
    if ndim not in (4, 5):
        _warn_of_dimensions("dropout3d", ndim, "4D or 5D")
    return _channels("dropout3d", input, p, training, inplace, ndim != 5)


def _warn_of_dimensions(name: str, ndim: int, expected: str) -> None:
    warnings.warn(
        f"{name}: Received a {ndim}-D input to {name}, which is deprecated and will result in an "
        f"error in a future release. Pass {expected}, or use dropout instead.",
        stacklevel=4,
    )


def _channels(
    name: str, input: Any, p: float, training: bool, inplace: bool, unbatched: bool
) -> Any:
    batched = input.unsqueeze(0) if unbatched else input
    result = _dropped(name, batched, p, training, True, False)
    if unbatched:
        result = result.squeeze(0)
    return _in_place(name, input, result) if inplace else result


# -- torch.dropout and its kin -----------------------------------------------------------------


def _plain(name: str, feature: bool, alpha: bool) -> None:
    """Registers ``torch.<name>(input, p, train)`` and its in-place form."""

    def function(input: Any, p: float, train: bool) -> Any:
        _checked(name, p, RuntimeError)
        return _dropped(name, input, p, train, feature, alpha)

    def function_(input: Any, p: float, train: bool) -> Any:
        return _in_place(name, input, function(input, p, train))

    what = "channels of (N, C, ...)" if feature else "elements"
    how = "keeping mean and variance of SELU activations" if alpha else "scaling the others"
    function.__name__ = name
    function.__doc__ = f"Sets {what} to zero with probability ``p`` while training, {how}."
    function_.__name__ = name + "_"
    function_.__doc__ = f"In-place ``{name}``."
    composite(name, methods=())(function)
    composite(name + "_", methods=())(function_)


_plain("dropout", False, False)
_plain("feature_dropout", True, False)
_plain("alpha_dropout", False, True)
_plain("feature_alpha_dropout", True, True)
