"""``Variable``: what wrapped tensors in the first versions of PyTorch; a name that programs use."""

from __future__ import annotations

import warnings
from typing import Any

from taimatsu.recorder import TensorBase


class _VariableMeta(type):
    """Every tensor is a Variable, and calling the class gives a tensor."""

    def __instancecheck__(cls, other: object) -> bool:
        return isinstance(other, TensorBase)

    def __call__(cls, data: Any, requires_grad: bool = False, volatile: Any = None) -> Any:
        if not isinstance(data, TensorBase):
            raise TypeError(f"Variable data has to be a tensor, but got {type(data).__name__}")
        if volatile is not None:
            warnings.warn(
                "volatile was removed and now has no effect. Use `with torch.no_grad():` instead.",
                stacklevel=2,
            )
        tensor: Any = data
        made = tensor.detach()
        return made.requires_grad_(True) if requires_grad else made


class Variable(metaclass=_VariableMeta):
    """``Variable(tensor, requires_grad=False)``: a tensor on the same memory, without history."""
