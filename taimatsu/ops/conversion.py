"""Between dtypes, devices and memory orders: ``to``, ``float``, ``contiguous`` and kin."""

from __future__ import annotations

from typing import Any

from taimatsu import devices, dtypes, recorder
from taimatsu.ops.base import Sample, array, composite, integers
from taimatsu.ops.casting import Cast, Clone
from taimatsu.ops.view_base import shape_arguments
from taimatsu.shapes import is_channels_last


def _to_samples():
    yield Sample(array(2, 3), dtypes.float64, copy=True)
    yield Sample(array(2, 3), dtypes.float16, grad=False)
    yield Sample(array(2, 3), array(seed=1))
    yield Sample(integers(3), dtypes.float32)


@composite("to", methods=("to",), torch_name="Tensor.to", samples=_to_samples)
def to(self, *args, dtype=None, device=None, non_blocking=False, copy=False, memory_format=None):
    """The tensor in a dtype, on a device; itself where nothing changes (unless ``copy``)."""
    for given in args:
        if isinstance(given, recorder.TensorBase):
            dtype = given._meta.dtype
        elif isinstance(given, dtypes.dtype) or given in (float, int, bool, complex):
            dtype = dtypes.as_dtype(given)
        elif given is not None and not isinstance(given, bool):  # a bool is non_blocking
            device = given
    if device is not None:
        devices.resolve(device)
    if dtype is not None and dtype is not self._meta.dtype:
        made = Cast.apply(self, dtype=dtypes.as_dtype(dtype))
    elif copy:
        made = Clone(self)
    else:
        made = self
    if memory_format is None or "preserve" in str(memory_format):
        return made
    return made.contiguous(memory_format=memory_format)


def _conversion(name: str, dtype: Any) -> None:
    def convert(self: Any, memory_format: Any = None) -> Any:
        return self if self._meta.dtype is dtype else Cast.apply(self, dtype=dtype)

    convert.__name__ = name
    convert.__doc__ = f"The tensor as {dtype}; itself if it is."

    def samples():
        yield Sample(array(2, 3), grad=False)

    entered = composite(name, methods=(name,), torch_name=f"Tensor.{name}", samples=samples)
    entered(convert).functions = ()


for _name, _dtype in {
    "float": dtypes.float32,
    "double": dtypes.float64,
    "half": dtypes.float16,
    "bfloat16": dtypes.bfloat16,
    "int": dtypes.int32,
    "long": dtypes.int64,
    "short": dtypes.int16,
    "char": dtypes.int8,
    "byte": dtypes.uint8,
    "bool": dtypes.bool_,
    "cfloat": dtypes.complex64,
    "cdouble": dtypes.complex128,
}.items():
    _conversion(_name, _dtype)


def _method(name: str, **options: Any) -> Any:
    """A composite that is a Tensor method only."""

    def enter(function: Any) -> Any:
        made = composite(name, methods=(name,), torch_name=f"Tensor.{name}", **options)(function)
        made.functions = ()
        return made

    return enter


def _contiguous_samples():
    yield Sample(array(3, 4))
    yield Sample(array(2, 3, 4).transpose(2, 0, 1))


@_method("contiguous", samples=_contiguous_samples)
def contiguous(self, memory_format=None):
    """The tensor in row-major order (or the format's); itself if it is."""
    if memory_format is None or "contiguous" in str(memory_format):
        if self._meta.contiguous:
            return self
        return Clone(self, memory_format="contiguous_format")
    if "preserve" in str(memory_format):
        raise RuntimeError("preserve memory format is unsupported by the contiguous operator")
    if is_channels_last(self._meta.shape, self._meta.strides):
        return self
    return Clone(self, memory_format=memory_format)


def _type_as_samples():
    yield Sample(array(3), integers(2))
    yield Sample(array(3), array())


@_method("type_as", samples=_type_as_samples)
def type_as(self, other):
    """The tensor in the other's dtype."""
    return to(self, other._meta.dtype)


@_method("cpu")
def cpu(self, memory_format=None):
    """The tensor in main memory (itself if it is)."""
    return self


@_method("cuda")
def cuda(self, device=None, non_blocking=False, memory_format=None):
    """The tensor on a GPU."""
    devices.resolve("cuda" if device is None else device)
    return self


@_method("pin_memory")
def pin_memory(self, device=None):
    """The tensor itself: without a GPU there is nothing to pin for."""
    return self


@_method("share_memory_")
def share_memory_(self):
    """The tensor itself."""
    return self


def _sum_samples():
    yield Sample(array(2, 3, 4), 3, 1)
    yield Sample(array(2, 3), (1, 3))
    yield Sample(array(2, 3), 2, 3)


@_method("sum_to_size", samples=_sum_samples)
def sum_to_size(self, *size):
    """Sums the dimensions that broadcasting ``size`` to this shape would have added."""
    wanted = shape_arguments(size)
    shape = tuple(self._meta.shape)
    if wanted == shape:
        return self
    lead = len(shape) - len(wanted)
    dims = list(range(lead))
    for i, n in enumerate(wanted):
        if n == 1 and shape[lead + i] != 1:
            dims.append(lead + i)
        elif lead < 0 or n != shape[lead + i]:
            raise RuntimeError(
                f"size {{{list(shape)}}} is not expandable to size {{{list(wanted)}}}."
            )
    summed = self.sum(tuple(dims), keepdim=True) if dims else self
    return summed.reshape(wanted) if lead else summed


@composite("detach_copy", methods=(), samples=lambda: iter([Sample(array(3))]))
def detach_copy(input):
    """A copy outside the graph."""
    return Clone(input.detach())
