"""Old spellings: ``torch.Tensor(2, 3)``, ``torch.FloatTensor`` and kin, ``Tensor.type``."""

from __future__ import annotations

from typing import Any

import numpy as np

from taimatsu import devices, dtypes
from taimatsu.creation import from_data, is_sequence
from taimatsu.ops.base import composite
from taimatsu.recorder import TensorBase, constant, make_tensor


def legacy_tensor(kind: Any, *data: Any, device: Any = None, **named: Any) -> Any:
    """``torch.FloatTensor(2, 3)``: sizes give uninitialised memory, a sequence or array data."""
    devices.resolve(device)
    if "size" in named:
        data = tuple(named["size"])
    if not data:
        return constant(np.empty(0, kind.numpy), kind)
    first = data[0]
    if len(data) == 1 and isinstance(first, TensorBase):
        if first._meta.dtype is not kind:
            raise TypeError(
                f"expected {kind} (got {first.dtype}); convert with .to({kind}) instead"
            )
        return make_tensor(first._meta, first._storage, first._offset)
    if all(isinstance(n, (int, np.integer)) for n in data):
        return constant(np.zeros(tuple(map(int, data)), kind.numpy), kind)
    if len(data) == 1 and type(first).__name__ == "Size":
        return constant(np.zeros(tuple(first), kind.numpy), kind)
    if len(data) == 1 and (is_sequence(first) or isinstance(first, np.ndarray)):
        return from_data(first, kind)
    raise TypeError(
        f"new() received an invalid combination of arguments - got {data!r}; "
        "give extents (2, 3) or one sequence [1., 2.]"
    )


class TypedTensor(type):
    """The class of ``torch.FloatTensor`` and kin: instances are tensors of their dtype."""

    kind: Any

    def __instancecheck__(cls, given: Any) -> bool:
        return isinstance(given, TensorBase) and given._meta.dtype is cls.kind

    def __call__(cls, *data: Any, **named: Any) -> Any:
        return legacy_tensor(cls.kind, *data, **named)


_LEGACY = {
    "FloatTensor": dtypes.float32,
    "DoubleTensor": dtypes.float64,
    "HalfTensor": dtypes.float16,
    "BFloat16Tensor": dtypes.bfloat16,
    "ByteTensor": dtypes.uint8,
    "CharTensor": dtypes.int8,
    "ShortTensor": dtypes.int16,
    "IntTensor": dtypes.int32,
    "LongTensor": dtypes.int64,
    "BoolTensor": dtypes.bool_,
}
TYPED = {
    name: TypedTensor(name, (), {"kind": kind, "dtype": kind, "__module__": "torch"})
    for name, kind in _LEGACY.items()
}
TYPE_NAMES = {kind: f"torch.{name}" for name, kind in _LEGACY.items()}


@composite("type", methods=("type",), torch_name="Tensor.type")
def type_(self, dtype=None, non_blocking=False):
    """The old name of the dtype (``torch.FloatTensor``), or the tensor in another dtype."""
    if dtype is None:
        return TYPE_NAMES[self._meta.dtype]
    if isinstance(dtype, str):
        name = dtype.rsplit(".", 1)[-1]
        if "cuda" in dtype:
            devices.resolve("cuda")
        if name not in TYPED:
            raise ValueError(f"invalid type: '{dtype}'; give for example torch.float32")
        dtype = TYPED[name].kind
    elif not isinstance(dtype, dtypes.dtype):
        dtype = dtypes.as_dtype(getattr(dtype, "kind", dtype))
    return self.to(dtype)
