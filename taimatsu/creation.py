"""Making tensors: from data, from NumPy arrays, of one value, of sequences."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu import devices, dtypes, recorder
from taimatsu.errors import OperationError
from taimatsu.ops import filling
from taimatsu.ops.base import Sample, array, composite
from taimatsu.ops.casting import converted
from taimatsu.ops.view_base import shape_arguments
from taimatsu.recorder import TensorBase, constant, make_tensor, meta
from taimatsu.shapes import is_dense


def creation_error(name: str, text: str, hint: str = "", kind: type = RuntimeError) -> Exception:
    return OperationError.make(name, text, "", hint, kind)


def finish(tensor: Any, requires_grad: bool) -> Any:
    """What every creation function ends with."""
    return tensor.requires_grad_(True) if requires_grad else tensor


# -- from data ---------------------------------------------------------------------------------


def tensor(
    data: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Any:
    """A tensor that holds a copy of ``data``: numbers, nested sequences, arrays or tensors."""
    devices.resolve(device)
    dtype = dtypes.as_dtype(dtype) if dtype is not None else None
    if isinstance(data, TensorBase):
        warnings.warn(
            "To copy construct from a tensor, it is recommended to use "
            "sourceTensor.detach().clone() or sourceTensor.detach().clone().requires_grad_(True), "
            "rather than torch.tensor(sourceTensor).",
            stacklevel=2,
        )
        made = data.detach().clone()
        return finish(made if dtype is None else made.to(dtype), requires_grad)
    return finish(from_data(data, dtype), requires_grad)


def from_data(data: Any, dtype: Any) -> Any:
    if isinstance(data, (np.ndarray, np.generic)):
        kind = dtype or dtypes.from_numpy(data.dtype)
        return constant(converted(np.array(data, order="C"), kind), kind)
    if isinstance(data, (bool, int, float, complex)):
        kind = dtype or dtypes.of_python(data)
        return constant(_number_array(data, kind), kind)
    if isinstance(data, str):
        raise creation_error(
            "tensor",
            f"new(): invalid data type 'str': expected numbers, got {data!r}",
            "convert text to numbers first",
            TypeError,
        )
    array = _nested_array(data)
    kind = dtype or _inferred(array, data)
    if array.dtype == object:
        return constant(_number_array(data, kind), kind)
    return constant(converted(array, kind), kind)


def _number_array(data: Any, kind: Any) -> np.ndarray:
    """Numbers in a dtype, refused where they do not fit (as PyTorch refuses them)."""
    try:
        if kind.category == dtypes.INTEGER and not isinstance(data, float):
            return np.array(data, kind.numpy)
        return converted(np.array(data), kind)
    except OverflowError as error:
        raise creation_error(
            "tensor",
            f"value cannot be converted to type {kind.name} without overflow",
            "give a wider dtype",
        ) from error


def _inferred(array: np.ndarray, data: Any) -> Any:
    if array.size == 0 and array.dtype == np.float64:
        return dtypes.get_default_dtype()
    if array.dtype.kind == "f" and not _holds_arrays(data):
        return dtypes.get_default_dtype()
    if array.dtype.kind == "c" and not _holds_arrays(data):
        return dtypes.get_default_dtype().to_complex()
    if array.dtype == object:
        raise creation_error("tensor", "Overflow when unpacking long", "give dtype=torch.float64")
    return dtypes.from_numpy(array.dtype)


def _holds_arrays(data: Any) -> bool:
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return isinstance(data, (np.ndarray, np.generic))


def _nested_array(data: Any) -> np.ndarray:
    """Nested sequences (of numbers, arrays, tensors) as one array; errors name the level."""
    shape = _sequence_shape(data)
    flat: list[Any] = []
    _flatten(data, shape, 0, flat)
    if any(isinstance(x, (np.ndarray, np.generic)) for x in flat):
        return np.array(flat).reshape(shape)
    made = np.array(flat) if flat else np.empty(0)
    return made.reshape(shape)


def _sequence_shape(data: Any) -> tuple[int, ...]:
    shape: list[int] = []
    while True:
        if isinstance(data, TensorBase):
            return (*shape, *data._meta.shape)
        if isinstance(data, np.ndarray):
            return (*shape, *data.shape)
        if isinstance(data, str) or not is_sequence(data):
            return tuple(shape)
        shape.append(len(data))
        if not len(data):
            return tuple(shape)
        data = data[0]


def is_sequence(data: Any) -> bool:
    return hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, dict)


def _flatten(data: Any, shape: tuple[int, ...], level: int, flat: list) -> None:
    if isinstance(data, TensorBase):
        data = recorder.value(data)
    if isinstance(data, np.ndarray):
        if data.shape != shape[level:]:
            raise _unequal(shape[level] if level < len(shape) else 0, level, data.shape)
        flat.extend(data.reshape(-1))
        return
    if level == len(shape):
        flat.append(_number(data))
        return
    if not is_sequence(data) or isinstance(data, str):
        raise creation_error(
            "tensor",
            f"expected a sequence of length {shape[level]} at dim {level}, got "
            f"{type(data).__name__}",
            "nested lists must all have the same depth",
            TypeError,
        )
    if len(data) != shape[level]:
        raise _unequal(shape[level], level, len(data))
    for item in data:
        _flatten(item, shape, level + 1, flat)


def _unequal(expected: int, level: int, got: Any) -> Exception:
    return creation_error(
        "tensor",
        f"expected sequence of length {expected} at dim {level} (got {got})",
        "pad the rows to one length",
        ValueError,
    )


def _number(data: Any) -> Any:
    if isinstance(data, (bool, int, float, complex, np.generic)):
        return data
    if isinstance(data, str):
        raise creation_error(
            "tensor",
            f"too many dimensions 'str': expected numbers, got {data!r}",
            "convert text to numbers first: float(text), or a number for each name",
            ValueError,
        )
    if hasattr(data, "__float__") and not is_sequence(data):
        return float(data)
    if is_sequence(data):
        raise _unequal(0, 0, len(data))
    raise creation_error(
        "tensor",
        f"Could not infer dtype of {type(data).__name__}",
        "give numbers, lists of numbers, or a NumPy array",
    )


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Any:
    """``data`` as a tensor, sharing memory with a tensor or array of the same dtype."""
    devices.resolve(device)
    if isinstance(data, TensorBase):
        return data if dtype is None else data.to(dtype)
    if isinstance(data, np.ndarray):
        made = from_numpy(data)
        return made if dtype is None else made.to(dtype)
    return tensor(data, dtype=dtype)


def asarray(
    obj: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    copy: bool | None = None,
    requires_grad: bool = False,
) -> Any:
    """``obj`` as a tensor; ``copy`` says whether memory may (None), must (False) or must not be
    shared.
    """
    if copy:
        made = obj.clone() if isinstance(obj, TensorBase) else tensor(obj)
        made = made if dtype is None else made.to(dtype)
    else:
        made = as_tensor(obj, dtype=dtype, device=device)
        if copy is False and (
            not isinstance(obj, (TensorBase, np.ndarray))
            or (dtype is not None and made is not obj and isinstance(obj, TensorBase))
        ):
            raise ValueError("can't alias this object with the given dtype; let copy be None")
    if not requires_grad and isinstance(made, TensorBase) and made._requires_grad:
        made = made.detach()
    return finish(made, requires_grad and not made._requires_grad)


def from_numpy(ndarray: np.ndarray) -> Any:
    """A tensor on the memory of a NumPy array: writes to either are seen by both."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(
            f"expected np.ndarray (got {type(ndarray).__name__}); torch.tensor(data) takes lists "
            "and numbers"
        )
    kind = dtypes.from_numpy(ndarray.dtype)
    size = ndarray.itemsize
    if any(s < 0 for s in ndarray.strides):
        raise ValueError(
            "At least one stride in the given numpy array is negative, and tensors with negative "
            "strides are not currently supported. (You can probably work around this by making a "
            "copy of your array with array.copy().)"
        )
    if any(s % size for s in ndarray.strides) or not ndarray.dtype.isnative:
        raise ValueError(
            "given numpy array has strides that are not a multiple of the element byte size, or "
            "foreign byte order; make a copy with np.ascontiguousarray(array)"
        )
    if not ndarray.flags.writeable:
        warnings.warn(
            "The given NumPy array is not writable; writing to the tensor would fail. Copy the "
            "array (array.copy()) to have one that can be written.",
            stacklevel=2,
        )
    strides = tuple(s // size for s in ndarray.strides)
    buffer = _flat_memory(ndarray, strides)
    described = meta(ndarray.shape, kind, strides)
    del ndarray
    return make_tensor(described, recorder.Storage(buffer))


def _flat_memory(array: np.ndarray, strides: tuple[int, ...]) -> np.ndarray:
    """The memory that an array spans, as a flat array that keeps it alive."""
    if is_dense(array.shape, strides):
        order = sorted(range(array.ndim), key=lambda d: -strides[d])
        return array.transpose(order).reshape(-1)
    span = 1 + sum((n - 1) * s for n, s in zip(array.shape, strides, strict=True))
    if array.size == 0:
        return array.reshape(-1)
    return np.lib.stride_tricks.as_strided(array, (span,), (array.itemsize,))


def frombuffer(
    buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False
) -> Any:
    """A 1-d tensor on the memory of an object with the buffer protocol."""
    with warnings.catch_warnings():
        array = np.frombuffer(buffer, dtype.numpy, count, offset)
        return finish(from_numpy(array), requires_grad)


# -- of one value ------------------------------------------------------------------------------


def dtype_option(dtype: Any, device: Any, default: Any = None) -> Any:
    devices.resolve(device)
    if dtype is None:
        return default or dtypes.get_default_dtype()
    return dtypes.as_dtype(dtype)


def filled(shape: tuple, value: Any, dtype: Any, requires_grad: bool) -> Any:
    """A recorded fresh tensor of one value."""
    if any(n < 0 for n in shape):
        raise creation_error(
            "full",
            f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}",
            "extents must be 0 or more",
        )
    return finish(filling.filled(shape, value, dtype), requires_grad)


def _shown(size: tuple) -> str:
    return repr(size[0] if len(size) == 1 else size)


def _sizes(size: tuple, named: Any) -> tuple[int, ...]:
    try:
        return shape_arguments(size if named is None else (named,))
    except (AttributeError, TypeError):
        raise creation_error(
            "creation",
            f"expected extents of type int, got {_shown(size if named is None else (named,))}",
            "int(n) or // gives whole numbers; a tensor of data is made by torch.tensor(...)",
            TypeError,
        ) from None


def zeros(
    *size: Any,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    out: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
    names: Any = None,
    **named: Any,
) -> Any:
    """Zeros of shape ``size``."""
    made = filled(_sizes(size, named.get("size")), 0, dtype_option(dtype, device), requires_grad)
    return made if out is None else out.copy_(made)


def ones(
    *size: Any,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    out: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
    **named: Any,
) -> Any:
    """Ones of shape ``size``."""
    made = filled(_sizes(size, named.get("size")), 1, dtype_option(dtype, device), requires_grad)
    return made if out is None else out.copy_(made)


def empty(
    *size: Any,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    out: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
    memory_format: Any = None,
    **named: Any,
) -> Any:
    """A tensor of shape ``size`` whose values mean nothing (here zeros)."""
    return zeros(*size, dtype=dtype, device=device, requires_grad=requires_grad, **named)


def full(
    size: Any,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    out: Any = None,
    layout: Any = None,
    pin_memory: bool = False,
) -> Any:
    """``fill_value`` in shape ``size``; its dtype unless one is given."""
    if isinstance(fill_value, TensorBase):
        fill_value = fill_value.item()
    fill_value = recorder.plain_number(fill_value)
    kind = dtype_option(dtype, device, dtypes.of_python(fill_value))
    made = filled(_sizes((size,), None), fill_value, kind, requires_grad)
    return made if out is None else out.copy_(made)


def empty_strided(
    size: Any,
    stride: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    layout: Any = None,
    pin_memory: bool = False,
) -> Any:
    """A tensor with these strides whose values mean nothing (here zeros)."""
    size, stride = shape_arguments((size,)), shape_arguments((stride,))
    if len(size) != len(stride):
        raise creation_error(
            "empty_strided",
            f"mismatch in length of strides and shape: {len(stride)} strides for {len(size)} "
            "extents",
            "give one stride for each extent",
        )
    span = 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    count = span if all(size) else 0
    kind = dtype_option(dtype, device)
    buffer = np.zeros(count, kind.numpy)
    return finish(make_tensor(meta(size, kind, stride), recorder.Storage(buffer)), requires_grad)


def _like(name: str, value: Any) -> Any:
    def samples() -> Iterator[Sample]:
        yield Sample(np.ones((2, 3)))

    def like(
        input: Any,
        *,
        dtype: Any = None,
        device: Any = None,
        requires_grad: bool = False,
        layout: Any = None,
        memory_format: Any = None,
        pin_memory: bool = False,
    ) -> Any:
        kind = dtype_option(dtype, device, input._meta.dtype)
        return filled(tuple(input._meta.shape), value, kind, requires_grad)

    like.__name__ = name
    like.__doc__ = f"``torch.{name.removesuffix('_like')}`` of the input's shape, dtype."
    return composite(name, methods=(), samples=samples)(like)


zeros_like = _like("zeros_like", 0)
ones_like = _like("ones_like", 1)
empty_like = _like("empty_like", 0)


@composite("full_like", methods=(), samples=lambda: iter([Sample(array(2, 3), 1.5, grad=False)]))
def full_like(
    input,
    fill_value,
    *,
    dtype=None,
    device=None,
    requires_grad=False,
    layout=None,
    memory_format=None,
    pin_memory=False,
):
    """``torch.full`` of the input's shape and dtype."""
    kind = dtype_option(dtype, device, input._meta.dtype)
    if isinstance(fill_value, TensorBase):
        fill_value = fill_value.item()
    return filled(tuple(input._meta.shape), recorder.plain_number(fill_value), kind, requires_grad)


def _new_samples() -> Iterator[Sample]:
    yield Sample(array(2, 3), 4, 5, grad=False)
    yield Sample(array(2, 3), (2,), dtype=dtypes.int64, grad=False)


def _new(name: str, value: Any) -> Any:
    def new(
        self: Any,
        *size: Any,
        dtype: Any = None,
        device: Any = None,
        requires_grad: bool = False,
        layout: Any = None,
        pin_memory: bool = False,
        **named: Any,
    ) -> Any:
        kind = dtype_option(dtype, device, self._meta.dtype)
        return filled(_sizes(size, named.get("size")), value, kind, requires_grad)

    new.__doc__ = f"``torch.{name.removeprefix('new_')}`` of this tensor's dtype."
    return composite(name, methods=(name,), torch_name=f"Tensor.{name}", samples=_new_samples)(new)


new_zeros = _new("new_zeros", 0)
new_ones = _new("new_ones", 1)
new_empty = _new("new_empty", 0)


@composite(
    "new_full",
    methods=("new_full",),
    torch_name="Tensor.new_full",
    samples=lambda: iter([Sample(array(2, 3), (2,), 1.5, grad=False)]),
)
def new_full(
    self,
    size,
    fill_value,
    *,
    dtype=None,
    device=None,
    requires_grad=False,
    layout=None,
    pin_memory=False,
):
    """``torch.full`` of this tensor's dtype."""
    return full(
        size,
        fill_value,
        dtype=dtype or self._meta.dtype,
        device=device,
        requires_grad=requires_grad,
    )


@composite("new_tensor", methods=("new_tensor",), torch_name="Tensor.new_tensor")
def new_tensor(self, data, *, dtype=None, device=None, requires_grad=False):
    """``torch.tensor`` of this tensor's dtype."""
    return tensor(data, dtype=dtype or self._meta.dtype, requires_grad=requires_grad)


@composite(
    "new_empty_strided",
    methods=("new_empty_strided",),
    torch_name="Tensor.new_empty_strided",
    samples=lambda: iter([Sample(array(2, 3), (2, 3), (1, 2), grad=False)]),
)
def new_empty_strided(
    self,
    size,
    stride,
    *,
    dtype=None,
    device=None,
    requires_grad=False,
    layout=None,
    pin_memory=False,
):
    """``torch.empty_strided`` of this tensor's dtype."""
    return empty_strided(size, stride, dtype=dtype or self._meta.dtype, requires_grad=requires_grad)


def scalar_tensor(
    s: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    layout: Any = None,
    pin_memory: bool = False,
) -> Any:
    """A 0-d tensor of the default dtype."""
    return tensor(s, dtype=dtype_option(dtype, device), requires_grad=requires_grad)
