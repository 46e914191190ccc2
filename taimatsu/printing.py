"""How tensors are written: ``repr(tensor)`` with PyTorch's layout, to the character.

One number format is chosen for a whole tensor from the values that will be shown (two for a
complex one), so that columns line up. ``tensor_text`` is the entry; it works on NumPy arrays.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from taimatsu import dtypes


@dataclasses.dataclass
class PrintOptions:
    """What ``set_printoptions`` sets; ``sci_mode`` None lets the values decide."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}

_options = PrintOptions()


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Sets how tensors are printed.

    Args:
        precision: digits after the decimal point (default 4).
        threshold: tensors with more elements than this are summarised (default 1000).
        edgeitems: how many items a summary shows at each end of a dimension (default 3).
        linewidth: characters per line, at which rows are wrapped (default 80).
        profile: ``"default"``, ``"short"`` or ``"full"``: values for all of the above, which the
            other arguments then override.
        sci_mode: True or False forces or forbids scientific notation. As in PyTorch, every
            call sets it: leaving it out means "decide by the values" again.
    """
    if profile is not None:
        _apply_profile(profile)
    given = {
        "precision": precision,
        "threshold": threshold,
        "edgeitems": edgeitems,
        "linewidth": linewidth,
    }
    for name, value in given.items():
        if value is not None:
            setattr(_options, name, value)
    _options.sci_mode = sci_mode


def _apply_profile(profile: str) -> None:
    values = PROFILES.get(profile.lower())
    if values is None:
        warnings.warn(
            f"[set_printoptions] there is no profile {profile!r}, nothing is changed by it; "
            f"the profiles are {', '.join(PROFILES)}",
            stacklevel=3,
        )
        return
    for name, value in values.items():
        setattr(_options, name, value)


def get_printoptions() -> dict[str, Any]:
    """The options in force, by the names ``set_printoptions`` takes."""
    return dataclasses.asdict(_options)


@contextlib.contextmanager
def printoptions(**options: Any) -> Iterator[None]:
    """Context manager: ``set_printoptions`` for a block, the old options afterwards."""
    before = get_printoptions()
    set_printoptions(**options)
    try:
        yield
    finally:
        set_printoptions(**before)


# -- one number ----------------------------------------------------------------------------

# Beyond these a column of fixed-point numbers would be unreadable.
_WIDEST_RATIO = 1000.0
_LARGEST_FIXED = 1e8
_SMALLEST_FIXED = 1e-4


class NumberFormat:
    """How every number of a tensor is written: the text, padded on the left to ``width``."""

    def __init__(self, write: Callable[[Any], str], width: int) -> None:
        self.write = write
        self.width = width

    def __call__(self, value: Any) -> str:
        return self.write(value).rjust(self.width)


def number_format(values: np.ndarray) -> NumberFormat:
    """The format for real ``values`` (any shape; float64, integers or bool)."""
    if values.dtype.kind == "f":
        return _float_format(values)
    width = max((len(str(v)) for v in values.ravel().tolist()), default=0)
    return NumberFormat(str, max(width, 1))


def _float_format(values: np.ndarray) -> NumberFormat:
    shown = values[np.isfinite(values) & (values != 0)]
    if shown.size == 0:
        return NumberFormat(_write_whole, 1)
    whole = bool((shown == np.ceil(shown)).all())
    scientific = _options.sci_mode
    if scientific is None:
        scientific = _needs_exponent(shown, whole)
    precision = _options.precision
    write: Callable[[float], str]
    if scientific:
        write = f"{{:.{precision}e}}".format
    elif whole:
        write = _write_whole
    else:
        write = f"{{:.{precision}f}}".format
    # Zeros, infinities and NaN do not widen the columns; this is PyTorch's choice.
    return NumberFormat(write, max(len(write(v)) for v in shown.tolist()))


def _needs_exponent(shown: np.ndarray, whole: bool) -> bool:
    magnitudes = np.abs(shown)
    smallest = float(magnitudes.min())
    largest = float(magnitudes.max())
    if largest / smallest > _WIDEST_RATIO or largest > _LARGEST_FIXED:
        return True
    return not whole and smallest < _SMALLEST_FIXED


def _write_whole(value: float) -> str:
    text = f"{value:.0f}"
    return f"{text}." if math.isfinite(value) else text


def complex_format(values: np.ndarray) -> NumberFormat:
    """The format for complex ``values``: real and imaginary parts have a format each."""
    real = number_format(values.real)
    imaginary = number_format(values.imag)

    def write(value: complex) -> str:
        tail = imaginary(value.imag).lstrip() + "j"
        sign = "" if tail.startswith("-") else "+"
        return real(value.real) + sign + tail

    # The imaginary part is not padded, so the width only says how many fit on a line.
    return _Unpadded(write, real.width + imaginary.width + 1)


class _Unpadded(NumberFormat):
    def __call__(self, value: Any) -> str:
        return self.write(value)


# -- brackets and lines --------------------------------------------------------------------


def contents_text(array: np.ndarray, indent: int = 0) -> str:
    """The nested brackets for ``array``; lines after the first start ``indent`` columns in."""
    if array.size == 0:
        return "[]"
    edge = _options.edgeitems if array.size > _options.threshold else None
    values = _as_printed(array)
    shown = values if edge is None else _edges(values, edge)
    choose = complex_format if values.dtype.kind == "c" else number_format
    return _brackets(values, indent, edge, choose(shown))


def _as_printed(array: np.ndarray) -> np.ndarray:
    """Floats of any width as float64, where PyTorch's arithmetic for the format takes place."""
    if array.dtype.kind in "biu":
        return array
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _edges(array: np.ndarray, edge: int) -> np.ndarray:
    """The part of ``array`` that a summary shows."""
    for axis, extent in enumerate(array.shape):
        if extent > 2 * edge:
            kept = [*range(edge), *range(extent - edge, extent)]
            array = array.take(np.array(kept, np.intp), axis)
    return array


def _brackets(array: np.ndarray, indent: int, edge: int | None, write: NumberFormat) -> str:
    if array.ndim == 0:
        return write(array.item())
    if array.ndim == 1:
        return _row(array, indent, edge, write)
    blocks = _summarised(
        array, edge, lambda part: [_brackets(a, indent + 1, edge, write) for a in part], "..."
    )
    separator = "," + "\n" * (array.ndim - 1) + " " * (indent + 1)
    return "[" + separator.join(blocks) + "]"


def _row(array: np.ndarray, indent: int, edge: int | None, write: NumberFormat) -> str:
    gap = " ..." if edge else "..."
    cells = _summarised(array, edge, lambda part: [write(v) for v in part.tolist()], gap)
    per_line = max(1, (_options.linewidth - indent) // (write.width + len(", ")))
    lines = [", ".join(cells[i : i + per_line]) for i in range(0, len(cells), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def _summarised(
    array: np.ndarray, edge: int | None, texts: Callable[[np.ndarray], list[str]], gap: str
) -> list[str]:
    extent = array.shape[0]
    if edge is None or extent <= 2 * edge:
        return texts(array)
    return [*texts(array[:edge]), gap, *texts(array[extent - edge :])]


# -- the whole text ------------------------------------------------------------------------


def tensor_text(
    array: np.ndarray,
    dtype: dtypes.dtype,
    *,
    requires_grad: bool = False,
    grad_fn_name: str | None = None,
    prefix: str = "tensor(",
    device: Any = "cpu",
    default_dtype: dtypes.dtype | None = None,
) -> str:
    """PyTorch's ``repr`` of a tensor.

    Args:
        array: the values, in any NumPy dtype that represents them exactly.
        dtype: the tensor's dtype, written unless the values imply it.
        requires_grad: written for leaves.
        grad_fn_name: the name of the node that made the tensor (``"AddBackward0"``), else None.
        prefix: ``"tensor("``, or the name of the subclass and a bracket.
        device: written unless it is the CPU.
        default_dtype: the floating dtype that goes without saying; None: the default dtype.
    """
    default = dtypes.get_default_dtype() if default_dtype is None else default_dtype
    suffixes = []
    if str(device) != "cpu":
        suffixes.append(f"device='{device}'")
    if array.size == 0:
        if array.ndim != 1:
            suffixes.append(f"size={tuple(array.shape)}")
        implied = dtype is default
    else:
        if not _options.edgeitems:  # a summary would not tell it otherwise
            suffixes.append(f"size={tuple(array.shape)}")
        implied = dtype in _implied_dtypes(default)
    if not implied:
        suffixes.append(f"dtype={dtype}")
    if grad_fn_name is not None:
        suffixes.append(f"grad_fn=<{grad_fn_name}>")
    elif requires_grad:
        suffixes.append("requires_grad=True")
    indent = len(prefix)
    return _with_suffixes(prefix + contents_text(array, indent), suffixes, indent)


def _implied_dtypes(default: dtypes.dtype) -> tuple[dtypes.dtype, ...]:
    matching = dtypes.complex128 if default is dtypes.float64 else dtypes.complex64
    return (default, matching, dtypes.int64, dtypes.bool_)


def _with_suffixes(text: str, suffixes: Sequence[str], indent: int) -> str:
    # PyTorch counts the last line two columns too long (the newline and the bracket to come).
    column = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if column + len(suffix) + len(", ") > _options.linewidth:
            text += ",\n" + " " * indent + suffix
            column = indent + len(suffix)
        else:
            text += ", " + suffix
            column += len(suffix) + len(", ")
    return text + ")"


def format_tensor(tensor: Any, spec: str, *, plain: bool) -> str:
    """``format(tensor, spec)``: a plain tensor without dimensions formats as its number.

    Others (``plain=False`` for Parameters and subclasses) are formatted as objects: their
    ``str`` for an empty ``spec``, else a TypeError, as in PyTorch.
    """
    if plain and tensor.ndim == 0:
        return format(tensor.item(), spec)
    return object.__format__(tensor, spec)
