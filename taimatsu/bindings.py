"""Derives Tensor methods and public functions from the registry of operations."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from taimatsu import creation, dtypes, legacy, recorder  # noqa: F401 (they enter new_zeros, type)
from taimatsu.config import config
from taimatsu.ops import REGISTRY, Operation, load_all
from taimatsu.refusal import refusal
from taimatsu.tensor import Tensor

_BINARY = {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "truediv": "div",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "pow",
    "matmul": "matmul",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "bitwise_left_shift",
    "rshift": "bitwise_right_shift",
}
# In-place forms that PyTorch has as functions too; the others are methods only.
_ROOT_NAMES = """
    abs acos acosh addmv alpha_dropout arccos arccosh arcsin arcsinh arctan arctanh asin
    asinh atan atanh ceil celu clamp clamp_max clamp_min clip conj_physical cos cosh deg2rad
    dropout erf erfc exp2 exp expm1 feature_alpha_dropout feature_dropout fix floor frac gcd
    i0 index_put lcm ldexp log10 log1p log2 log logit nan_to_num neg negative rad2deg
    reciprocal relu round rrelu rsqrt selu sigmoid sin sinc sinh sqrt square tan tanh
    threshold trunc xlogy
"""
_INPLACE_FUNCTIONS = {
    "": frozenset(_ROOT_NAMES.split()),
    "nn.functional": frozenset(
        ("relu", "leaky_relu", "elu", "hardtanh", "celu", "selu", "rrelu", "threshold")
    ),
}
# Views that a tensor can become in place: it keeps its memory and takes another layout.
_INPLACE_VIEWS = ("squeeze", "unsqueeze", "t", "transpose", "swapaxes", "swapdims", "as_strided")
_COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")
_UNARY = {"neg": "neg", "pos": "positive", "abs": "abs", "invert": "bitwise_not"}
_OPERANDS = (int, float, complex, bool, np.generic, recorder.Number)


def _operand(given: Any) -> Any:
    """Something a tensor can be combined with, or NotImplemented."""
    if isinstance(given, recorder.TensorBase):
        return given
    if isinstance(given, np.generic):
        return given.item()
    if isinstance(given, np.ndarray):
        return recorder.constant(np.array(given))
    return given if isinstance(given, _OPERANDS) else NotImplemented


def _dunder(operation: Any, reflected: bool) -> Callable:
    """``__add__`` or ``__radd__``: converts the operand, gives way to types it does not know."""

    def method(self: Any, other: Any) -> Any:
        other = _operand(other)
        if other is NotImplemented:
            return NotImplemented
        return operation(other, self) if reflected else operation(self, other)

    return method


def _fast(operation: Any, general: Callable) -> Callable:
    plain = isinstance(operation, Operation) and not operation.static_scalars
    if not plain or config.eager or operation.checked:
        return general
    return recorder.binary_method(operation, general)


def _install_operators() -> None:
    for suffix, name in _BINARY.items():
        operation = REGISTRY[name]
        general = _dunder(operation, False)
        setattr(Tensor, f"__{suffix}__", _fast(operation, general))
        setattr(Tensor, f"__r{suffix}__", _dunder(operation, True))
        setattr(Tensor, f"__i{suffix}__", _inplace_dunder(name))
    for name in _COMPARE:
        operation = REGISTRY[name]
        setattr(Tensor, f"__{name}__", _fast(operation, _dunder(operation, False)))
    for suffix, name in _UNARY.items():
        setattr(Tensor, f"__{suffix}__", getattr(Tensor, name))
    Tensor.__invert__ = _invert
    Tensor.__div__, Tensor.__rdiv__ = Tensor.__truediv__, Tensor.__rtruediv__
    for name, mirror in {"T": _all_dims, "mT": _last_two, "H": _conjugate, "mH": _adjoint}.items():
        setattr(Tensor, name, property(mirror))
    for name in ("real", "imag"):
        composite: Any = REGISTRY[name]
        setattr(Tensor, name, property(composite.function))


def _inplace_dunder(name: str) -> Callable:
    method = name + "_"

    def inplace(self: Any, other: Any) -> Any:
        other = _operand(other)
        if other is NotImplemented:
            return NotImplemented
        return getattr(self, method)(other)

    return inplace


def _invert(self: Any) -> Any:
    if self._meta.dtype.category > dtypes.INTEGER:
        raise TypeError(
            "~ (operator.invert) is only implemented on integer and Boolean-type tensors; got "
            f"{self.dtype}; x.bool() converts a mask, 1 - x inverts floats"
        )
    return self.bitwise_not()


def _all_dims(self: Any) -> Any:
    return self.permute(tuple(range(self.ndim - 1, -1, -1)))


def _last_two(self: Any) -> Any:
    if self.ndim < 2:
        raise RuntimeError(
            f"tensor.mT is only supported on matrices or batches of matrices. Got {self.ndim}-D "
            "tensor."
        )
    return self.transpose(-2, -1)


def _conjugate(self: Any) -> Any:
    if self.ndim not in (0, 2):
        raise RuntimeError(
            "tensor.H is only supported on matrices (2-D tensors). "
            f"Got {self.ndim}-D tensor. For batches of matrices, consider using tensor.mH"
        )
    return self.adjoint() if self.ndim else self.conj()


def _adjoint(self: Any) -> Any:
    if self.ndim < 2:
        raise RuntimeError(
            "tensor.mH is only supported on matrices or batches of matrices. "
            f"Got {self.ndim}-D tensor."
        )
    return self.adjoint()


def _method(operation: Any) -> Callable:
    if isinstance(operation, Operation) and not config.eager and not operation.checked:
        own_call = type(operation).__call__.__qualname__
        simple = own_call.startswith(("Operation.", "Unary."))
        if simple and operation.parameters == ("input",):
            return recorder.unary_method(operation)
    function = operation.function if not isinstance(operation, Operation) else operation.__call__

    @functools.wraps(function)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(self, *args, **kwargs)
        except (AttributeError, TypeError, IndexError) as error:
            better = refusal(operation.name, function, error, (self, *args), kwargs)
            if better is None:
                raise
            raise better from None

    return method


def _inplace_method(operation: Any, name: str) -> Callable:
    """``name_``: the out-of-place form, written over the tensor."""

    function = operation.function if not isinstance(operation, Operation) else operation.__call__

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._refuse_write(name)
        recorder.refuse_overlap(self, (*args, *kwargs.values()) if kwargs else args, name)
        return self._assign(function(self, *args, **kwargs), name)

    method.__name__ = method.__qualname__ = name + "_"
    method.__doc__ = f"In-place form of ``{name}``."
    return method


def _function(operation: Any) -> Callable:
    """The public function: the operation, with ``out=`` where PyTorch takes it."""
    inner = operation.function if not isinstance(operation, Operation) else operation.__call__
    takes_out = _takes(inner, "out")  # its dtype matters to random numbers

    @functools.wraps(inner)
    def function(*args: Any, **kwargs: Any) -> Any:
        if "out" in kwargs and not takes_out:
            return _into(operation, args, kwargs)
        try:
            return inner(*args, **kwargs)
        except (AttributeError, TypeError, IndexError) as error:
            better = refusal(operation.name, inner, error, args, kwargs)
            if better is None:
                raise
            raise better from None

    function.__name__ = function.__qualname__ = operation.name
    function.__doc__ = operation.__doc__ if isinstance(operation, Operation) else inner.__doc__
    return function


def _takes(function: Callable, name: str) -> bool:
    """Whether a function has a parameter (``inspect.signature`` would slow the import down)."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code = getattr(function, "__code__", None)
    if code is None:
        return False
    return name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _into(operation: Any, args: tuple, kwargs: dict) -> Any:
    """Writes the results into the tensors given as ``out``, resized where the shape differs."""
    out = kwargs.pop("out")
    made = operation(*args, **kwargs)
    if out is None:
        return made
    if isinstance(made, tuple):
        for target, source in zip(out, made, strict=True):
            _write_out(target, source)
        return tuple(out) if type(made) is tuple else type(made)(out)
    _write_out(out, made)
    return out


def _write_out(target: Any, source: Any) -> None:
    if target.requires_grad or (source.requires_grad and recorder.local.mode == recorder.GRAD):
        raise RuntimeError(
            "out=... arguments don't support automatic differentiation, but one of the arguments "
            "requires grad; use the form without out="
        )
    if target.shape != source.shape:
        target.set_(source.new_zeros(tuple(source.shape), dtype=target.dtype))
    target._assign(source.detach(), "out")


def _entered() -> list:
    load_all()
    return list(REGISTRY.values())


def install() -> dict[str, dict[str, Callable]]:
    """Gives Tensor its methods; returns the public functions by module path ('' is the root)."""
    modules: dict[str, dict[str, Callable]] = {"": {}}
    own = set(vars(Tensor))
    for operation in _entered():
        for name in operation.methods or ():
            if name not in own:
                setattr(Tensor, name, _method(operation))
            if operation.inplace:
                setattr(Tensor, name + "_", _inplace_method(operation, name))
        for path in operation.functions:
            module, _, name = path.rpartition(".")
            names = modules.setdefault(module, {})
            names[name] = _function(operation)
            if operation.inplace and name in _INPLACE_FUNCTIONS.get(module, ()):
                names[name + "_"] = _inplace_function(operation, name)
    for name in _INPLACE_VIEWS:
        setattr(Tensor, name + "_", _inplace_view(name))
    _install_operators()
    return modules


def _inplace_view(name: str) -> Callable:
    """``name_``: the tensor takes the layout (and the place in the graph) of its view."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._refuse_leaf_write(name)
        return _become(self, getattr(self, name)(*args, **kwargs))

    method.__name__ = method.__qualname__ = name + "_"
    method.__doc__ = f"In-place form of ``{name}``."
    return method


def _become(tensor: Any, made: Any) -> Any:
    """Gives a tensor the layout and the place in the graph of a view of it."""
    tensor._meta, tensor._offset = made._meta, made._offset
    tensor._recording, tensor._tid = made._recording, made._tid
    tensor._requires_grad, tensor._tape = made._requires_grad, made._tape
    if made._tape is not None:
        tensor._gid = made._gid
    recorder.counter_of(tensor).version += 1
    return tensor


def _inplace_function(operation: Any, name: str) -> Callable:
    inner = _inplace_method(operation, name)

    def function(input: Any, *args: Any, **kwargs: Any) -> Any:
        return inner(input, *args, **kwargs)

    function.__name__ = function.__qualname__ = name + "_"
    function.__doc__ = inner.__doc__
    return function


FUNCTIONS = install()
