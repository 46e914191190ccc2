"""``module.to(...)``, ``half()``, ``cpu()``, ...: changing all tensors of a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self

from taimatsu import dtypes
from taimatsu.autograd import no_grad
from taimatsu.nn.parameter import Parameter
from taimatsu.tensor import Tensor


class Conversion:
    """The part of a module that applies a function to every tensor it holds."""

    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    children: Callable[[], Iterator[Any]]

    def apply(self, fn: Callable[[Any], None]) -> Self:
        """Calls ``fn`` on every module below, then on this one (to initialise, for example)."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Replaces the values of parameters, gradients and buffers; the objects stay."""
        if recurse:
            for child in self.children():
                child._apply(fn)
        for param in self._parameters.values():
            if param is None:
                continue
            with no_grad():
                made = fn(param)
            if made is not param:
                param.data = made
            if param.grad is not None:
                _replace_gradient(param, fn)
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = fn(buffer)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Moves to a device and casts floating point tensors, in place.

        ``to(device=None, dtype=None, non_blocking=False)``, ``to(dtype)``, ``to(tensor)``; integer
        tensors keep their dtype. Raises TypeError for a dtype that is not floating or complex.
        """
        device, dtype, non_blocking = _parse_to(*args, **kwargs)
        if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
            raise TypeError(
                "nn.Module.to only accepts floating point or complex dtypes, "
                f"but got desired dtype={dtype}"
            )

        def convert(t: Tensor) -> Tensor:
            cast = dtype if t.is_floating_point() or t.is_complex() else None
            if device is None:
                return t if cast is None else t.to(cast)
            return t.to(device, t.dtype if cast is None else cast, non_blocking)

        return self._apply(convert)

    def type(self, dst_type: Any) -> Self:
        """Casts every tensor, integer ones too."""
        return self._apply(lambda t: t.type(dst_type))

    def _cast_floating(self, dtype: dtypes.dtype) -> Self:
        return self._apply(lambda t: t.to(dtype) if t.is_floating_point() else t)

    def float(self) -> Self:
        """Casts floating point tensors to float32."""
        return self._cast_floating(dtypes.float32)

    def double(self) -> Self:
        """Casts floating point tensors to float64."""
        return self._cast_floating(dtypes.float64)

    def half(self) -> Self:
        """Casts floating point tensors to float16."""
        return self._cast_floating(dtypes.float16)

    def bfloat16(self) -> Self:
        """Casts floating point tensors to bfloat16."""
        return self._cast_floating(dtypes.bfloat16)

    def cpu(self) -> Self:
        """Moves every tensor to the CPU."""
        return self._apply(lambda t: t.cpu())

    def cuda(self, device: Any = None) -> Self:
        """Moves every tensor to the GPU."""
        return self._apply(lambda t: t.cuda(device))

    def to_empty(self, *, device: Any, recurse: bool = True) -> Self:
        """Moves to ``device`` without copying values: all tensors become uninitialised."""
        return self._apply(lambda t: t.new_empty(t.shape, device=device), recurse=recurse)

    def share_memory(self) -> Self:
        """Moves every tensor into memory shared between processes."""
        return self._apply(lambda t: t.share_memory_())


def _replace_gradient(param: Parameter, fn: Callable[[Tensor], Tensor]) -> None:
    gradient = param.grad
    with no_grad():
        made = fn(gradient)
    if made is not gradient:
        param.grad = made.requires_grad_(gradient.requires_grad)


def _parse_to(*args: Any, **kwargs: Any) -> tuple[Any, dtypes.dtype | None, bool]:
    """Device, dtype and non_blocking out of the overloads of ``to``."""
    device, dtype = kwargs.get("device"), kwargs.get("dtype")
    rest = list(args)
    if "tensor" in kwargs:
        rest.insert(0, kwargs["tensor"])
    if rest and isinstance(rest[0], Tensor):
        other = rest.pop(0)
        device, dtype = other.device, other.dtype
    elif rest and isinstance(rest[0], dtypes.dtype):
        dtype = rest.pop(0)
    elif rest:
        device = rest.pop(0)
        if rest and (rest[0] is None or isinstance(rest[0], dtypes.dtype)):
            dtype = rest.pop(0)
    non_blocking = rest.pop(0) if rest else kwargs.get("non_blocking", False)
    unknown = set(kwargs) - {
        "device", "dtype", "tensor", "non_blocking", "copy", "memory_format"
    }  # fmt: skip
    if unknown:
        raise TypeError(f"to() got an unexpected keyword argument '{sorted(unknown)[0]}'")
    return device, dtype, non_blocking
