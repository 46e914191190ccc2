"""Padding layers: the sides of the last dimensions extended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from taimatsu.nn import functional as F
from taimatsu.nn.modules.module import Module
from taimatsu.nn.modules.utils import _ntuple, _pair, _quadruple
from taimatsu.tensor import Tensor

__all__ = [
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]

_sextuple = _ntuple(6, "_sextuple")


class _PadNd(Module):
    """``padding`` is one number, or left and right of each dimension from the last on."""

    sides: ClassVar[staticmethod[[Any], tuple[int, ...]]]
    mode: ClassVar[str]
    padding: Sequence[int]

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__()
        self.padding = type(self).sides(padding)

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPadNd(_PadNd):
    mode = "constant"
    value: float

    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPadNd):
    """Pads the last dimension with ``value``."""

    sides = staticmethod(_pair)


class ConstantPad2d(_ConstantPadNd):
    """Pads the last two dimensions with ``value``."""

    sides = staticmethod(_quadruple)


class ConstantPad3d(_ConstantPadNd):
    """Pads the last three dimensions with ``value``."""

    sides = staticmethod(_sextuple)


class ZeroPad1d(ConstantPad1d):
    """Pads the last dimension with zeros."""

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad2d(ConstantPad2d):
    """Pads the last two dimensions with zeros."""

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad3d(ConstantPad3d):
    """Pads the last three dimensions with zeros."""

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ReflectionPad1d(_PadNd):
    """Pads the last dimension with its mirror image, the edge not repeated."""

    mode = "reflect"
    sides = staticmethod(_pair)


class ReflectionPad2d(_PadNd):
    """Pads the last two dimensions with their mirror image, the edge not repeated."""

    mode = "reflect"
    sides = staticmethod(_quadruple)


class ReflectionPad3d(_PadNd):
    """Pads the last three dimensions with their mirror image, the edge not repeated."""

    mode = "reflect"
    sides = staticmethod(_sextuple)


class ReplicationPad1d(_PadNd):
    """Pads the last dimension with its edge."""

    mode = "replicate"
    sides = staticmethod(_pair)


class ReplicationPad2d(_PadNd):
    """Pads the last two dimensions with their edges."""

    mode = "replicate"
    sides = staticmethod(_quadruple)


class ReplicationPad3d(_PadNd):
    """Pads the last three dimensions with their edges."""

    mode = "replicate"
    sides = staticmethod(_sextuple)


class CircularPad1d(_PadNd):
    """Pads the last dimension with its other end."""

    mode = "circular"
    sides = staticmethod(_pair)


class CircularPad2d(_PadNd):
    """Pads the last two dimensions with their other ends."""

    mode = "circular"
    sides = staticmethod(_quadruple)


class CircularPad3d(_PadNd):
    """Pads the last three dimensions with their other ends."""

    mode = "circular"
    sides = staticmethod(_sextuple)
