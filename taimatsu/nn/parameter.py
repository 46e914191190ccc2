"""Parameter and Buffer: tensors that a module registers when they are assigned to it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from taimatsu.nn.functions import empty
from taimatsu.tensor import Tensor

__all__ = ["Buffer", "Parameter"]


class Parameter(Tensor):
    """A tensor to be learned: assigned to a module it appears in ``module.parameters()``.

    Shares the storage of ``data`` (an empty tensor when None). Unlike the results of operations
    it is a leaf, and requires a gradient unless ``requires_grad=False``.
    """

    __slots__ = ()

    _printed_as = "tensor"

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        if data is None:
            data = empty(0)
        if not isinstance(data, Tensor):
            raise TypeError(
                f"[Parameter] expected data to be a Tensor, got {type(data).__name__}; "
                "make one with tensor(data)"
            )
        made: Any = data.detach()
        made.__class__ = cls  # the layout is Tensor's: only the type differs
        return made.requires_grad_(requires_grad)

    def __init__(self, data: Tensor | None = None, requires_grad: bool = True) -> None:
        """Everything happens in ``__new__``."""

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return "Parameter containing:\n" + super().__repr__(tensor_contents=tensor_contents)

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        found = memo.get(id(self))
        if found is not None:
            return found
        made = type(self)(self.detach().clone(), self.requires_grad)
        memo[id(self)] = made
        return made

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return _rebuild_parameter, (self.detach(), self.requires_grad, OrderedDict())


def _rebuild_parameter(data: Tensor, requires_grad: bool, backward_hooks: Any) -> Parameter:
    """What a pickled parameter calls. Hooks are not pickled; the argument keeps the form."""
    return Parameter(data, requires_grad)


class _BufferMeta(type):
    """``isinstance(t, Buffer)`` asks for the mark, since a buffer stays a plain tensor."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor) and getattr(instance, "_is_buffer", False)


class Buffer(metaclass=_BufferMeta):
    """A tensor that belongs to a module without being learned, such as running statistics.

    ``Buffer(data, persistent=True)`` returns a tensor that shares ``data``'s storage; assigned to
    a module it is registered as by ``register_buffer``. Only persistent ones enter ``state_dict``.
    """

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Any:
        if data is None:
            data = empty(0)
        made: Any = data.detach().requires_grad_(data.requires_grad)
        made.persistent = persistent
        made._is_buffer = True
        return made
