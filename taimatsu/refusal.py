"""What a public function says of arguments that it could not work with.

Shape rules refuse what they know to be wrong. An argument of a kind that nobody thought of (a list
for a tensor, text for a number) makes Python itself complain, somewhere inside; here that becomes
an error of the function that was called, which says what came and what it takes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from taimatsu import recorder
from taimatsu.errors import OperationError

_PACKAGE = str(Path(__file__).resolve().parent)
_FEW_DIMENSIONS = ("tuple index out of range", "list index out of range")
_PYTHONS_WORDS = re.compile(
    "not supported between|is not iterable|cannot be interpreted as|unsupported operand|unhashable"
    "|argument must be a|__trunc__|not subscriptable|has no len|not callable|ufunc"
    "|positional argument|unexpected keyword|multiply sequence|must be real number|cannot unpack"
    "|object has no attribute"
)


def refusal(
    name: str, function: Callable, error: Exception, args: tuple, kwargs: dict
) -> Exception | None:
    """A better error for what came out of a call; None where the error is good as it is."""
    if isinstance(error, OperationError) or not _inside(error):
        return None
    names = parameter_names(function)
    text = str(error)
    if isinstance(error, AttributeError):
        found = _culprit(error.obj, names, args, kwargs)
        # __index__ and the like: no tensor was meant
        if found is not None and not str(error.name).startswith("__"):
            return recorder.not_a_tensor(name, *found)
        if isinstance(error.obj, recorder.TensorBase):
            return None
    if isinstance(error, IndexError):
        if text not in _FEW_DIMENSIONS:
            return None
        return OperationError.make(
            name,
            "Dimension specified as 0 but tensor has no dimensions, or fewer than needed",
            _shown(args, kwargs),
            "unsqueeze(dim) adds a dimension",
            IndexError,
        )
    if not _PYTHONS_WORDS.search(text):
        return None
    return OperationError.make(
        name,
        f"{name}() received an invalid combination of arguments",
        _shown(args, kwargs),
        f"expected ({', '.join(names)}); {text}",
        TypeError,
    )


def parameter_names(function: Callable) -> list[str]:
    """The names of a function's parameters, that of the instance left out."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code = function.__code__
    count = code.co_argcount + code.co_kwonlyargcount
    found = list(code.co_varnames[:count])
    if code.co_flags & inspect.CO_VARARGS:
        found.insert(code.co_argcount, "*" + code.co_varnames[count])
    return [n for n in found if n != "self" or code.co_name != "__call__"]


def _inside(error: Exception) -> bool:
    """Whether the error arose in the package (or NumPy), not in a function of the program."""
    frame = error.__traceback__
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        if not file.startswith(_PACKAGE) and "numpy" not in file:
            return False
        frame = frame.tb_next
    return True


def _culprit(used: Any, names: list[str], args: tuple, kwargs: dict) -> tuple | None:
    """Name, position and value of the argument that was used as a tensor and is none."""
    for position, (name, value) in enumerate([*zip(names, args, strict=False), *kwargs.items()]):
        if isinstance(value, recorder.TensorBase):
            continue
        if value is used or (isinstance(used, np.dtype) and getattr(value, "dtype", None) is used):
            return name, position, value
    return None


def _shown(args: tuple, kwargs: dict) -> str:
    parts = [_kind(value) for value in args]
    parts += [f"{name}={_kind(value)}" for name, value in kwargs.items()]
    return f"got ({', '.join(parts)})"


def _kind(value: Any) -> str:
    if isinstance(value, recorder.TensorBase):
        return f"Tensor of shape {list(value.shape)}"
    return repr(value) if isinstance(value, (str, int, float, type(None))) else type(value).__name__
