"""Devices and layouts: ``torch.device``, the default device, and what a ``device=`` means here.

``resolve`` is what every ``device=`` argument goes through: it refuses devices that this machine
does not have, and honours ``config.device``, with which a program that asks for ``cuda:0`` runs on
the CPU all the same (``taimatsu run --device cpu script.py``).
"""

from __future__ import annotations

import multiprocessing
import re
import sys
import threading
from typing import Any

from taimatsu.config import config

# PyTorch's list, in its order: its message names them all.
TYPES = (
    "cpu",
    "cuda",
    "ipu",
    "xpu",
    "mkldnn",
    "opengl",
    "opencl",
    "ideep",
    "hip",
    "ve",
    "fpga",
    "maia",
    "xla",
    "lazy",
    "vulkan",
    "mps",
    "meta",
    "hpu",
    "mtia",
    "privateuseone",
)
_TEXT = re.compile(r"([A-Za-z_]+)(?::(0|[1-9][0-9]*))?")
_HINT = (
    "run the program on the CPU with `taimatsu run --device cpu script.py`, or choose the device "
    "by `'cuda' if torch.cuda.is_available() else 'cpu'`"
)


class device:  # noqa: N801 (PyTorch's name)
    """A kind of device and which one of them: ``device("cuda:0")``, ``device("cuda", 0)``.

    Naming a device does not need it: that is checked when a tensor shall be there. Attributes:
    ``type`` ("cpu", "cuda", ...) and ``index`` (an int, or None for the current one of its kind).
    As a context manager it is the device of tensors made in the block without ``device=``.

    Raises RuntimeError for texts that name no device, TypeError for other arguments.
    """

    __slots__ = ("index", "type")

    type: str
    index: int | None

    def __new__(cls, *args: Any, **kwargs: Any) -> device:
        kind, index = _arguments(args, kwargs)
        if isinstance(kind, device):
            return kind
        if isinstance(kind, int):
            return _numbered(kind)
        return _make(*_parse(kind, index))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in device.__slots__:
            raise AttributeError(f"attribute '{name}' of 'torch.device' objects is not writable")
        raise AttributeError(f"'torch.device' object has no attribute '{name}'")

    def __repr__(self) -> str:
        tail = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{tail})"

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, device):
            return NotImplemented
        return self.type == other.type and self.index == other.index

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __reduce__(self) -> tuple:
        return device, ((self.type,) if self.index is None else (self.type, self.index))

    def __enter__(self) -> device:
        resolve(self)
        _defaults.stack = [*_stack(), self]
        return self

    def __exit__(self, *exception: Any) -> None:
        _defaults.stack = _stack()[:-1]


def _arguments(args: tuple, kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """The device or its type, and the index (None without one), from either way to call."""
    given = dict(zip(("type", "index"), args, strict=False), **kwargs)
    kind = given.pop("device", None) if "type" not in given else given.pop("type")
    index = given.pop("index", None)
    if given or len(args) > 2 or isinstance(kind, bool) or not isinstance(kind, str | int | device):
        raise TypeError(_invalid_combination(args, kwargs))
    if index is not None and not isinstance(kind, str):
        name = "torch.device" if isinstance(kind, device) else type(kind).__name__
        raise TypeError(f"device(): argument 'type' (position 1) must be str, not {name}")
    if index is not None and (isinstance(index, bool) or not isinstance(index, int)):
        name = type(index).__name__
        raise TypeError(f"device(): argument 'index' (position 2) must be int, not {name}")
    return kind, index


def _invalid_combination(args: tuple, kwargs: dict[str, Any]) -> str:
    got = [type(a).__name__ for a in args]
    got += [f"{name}={type(value).__name__}" for name, value in kwargs.items()]
    return (
        f"device() received an invalid combination of arguments - got ({', '.join(got)}), but "
        "expected one of: device('cuda:0'), device('cuda', 0), or another device"
    )


def _parse(text: str, index: int | None) -> tuple[str, int | None]:
    if not text:
        raise RuntimeError("Device string must not be empty; give for example 'cpu' or 'cuda:0'")
    found = _TEXT.fullmatch(text)
    if found is None:
        raise RuntimeError(
            f"Invalid device string: '{text}'; give for example 'cpu' or 'cuda:0' (a dtype such as "
            "torch.float32 is written without quotes)"
        )
    kind, number = found.groups()
    if kind not in TYPES:
        raise RuntimeError(
            f"Expected one of {', '.join(TYPES)} device type at start of device string: {text}; "
            "give for example 'cpu' or 'cuda:0' (a dtype such as torch.float32 is no text)"
        )
    if number is None:
        return kind, _checked_index(index)
    if index is not None:
        raise RuntimeError(
            "type (string) must not include an index because index was passed explicitly: " + text
        )
    return kind, _checked_index(int(number))


def _checked_index(index: int | None) -> int | None:
    if index is not None and index < 0:
        raise RuntimeError("Device index must not be negative")
    return index


def _numbered(index: int) -> device:
    """``device(0)``: a device of the kind of accelerator there is; here a GPU, if it were."""
    _checked_index(index)
    if config.device:
        return _make("cuda", index)
    raise RuntimeError(
        f"Cannot access accelerator device when none is available: device({index}) means the GPU "
        f"number {index}; {_HINT}"
    )


def _make(kind: str, index: int | None = None) -> device:
    made = object.__new__(device)
    object.__setattr__(made, "type", kind)
    object.__setattr__(made, "index", index)
    return made


CPU = _make("cpu")


# -- the default device --------------------------------------------------------------------


class _Defaults(threading.local):
    chosen: device | None = None  # by set_default_device
    stack: list[device] = []  # replaced, never changed: of the `with device` blocks


_defaults = _Defaults()


def _stack() -> list[device]:
    return _defaults.stack


def set_default_device(device: Any) -> None:
    """Sets where this thread's tensors made without ``device=`` are; None: the CPU again."""
    _defaults.chosen = None if device is None else resolve(device)


def get_default_device() -> device:
    """Where tensors made without ``device=`` are."""
    if _defaults.stack:
        return resolve(_defaults.stack[-1])
    return CPU if _defaults.chosen is None else _defaults.chosen


# -- what a device= means on this machine --------------------------------------------------


def resolve(given: device | str | int | None = None) -> device:
    """The device that tensors are on when a call says ``device=given``; None: the default.

    AssertionError for a GPU (as PyTorch's build without CUDA), NotImplementedError for other
    kinds, unless ``config.device`` is "cpu": then they all mean the CPU, and one line on standard
    error says so. RuntimeError and TypeError for what names no device.
    """
    if given is None:
        return CPU
    found = given if isinstance(given, device) else _named(given)
    if found.type == "cpu":
        return CPU
    if config.device == "cpu" and found.type != "meta":
        _tell_once(found)
        return CPU
    raise _unavailable(found)


def _named(given: Any) -> device:
    if isinstance(given, str) or (isinstance(given, int) and not isinstance(given, bool)):
        return device(given)
    name = type(given).__name__
    raise TypeError(f"argument 'device' must be torch.device, not {name}; give 'cpu', say")


def _unavailable(asked: device) -> Exception:
    if asked.type == "meta":
        return NotImplementedError(
            "[device] tensors without values (device='meta') are not supported; make them on "
            "'cpu': what is not used is not computed"
        )
    if asked.type == "cuda":
        return AssertionError(
            f"[device] expected a device of this machine (cpu), got {str(asked)!r}: Torch not "
            f"compiled with CUDA enabled; {_HINT}"
        )
    return NotImplementedError(
        f"[device] expected a device of this machine (cpu), got {str(asked)!r}; {_HINT}"
    )


_told = False


def _tell_once(asked: device) -> None:
    """One line for the whole program: worker processes leave it to the main one."""
    global _told
    if _told or multiprocessing.parent_process() is not None:
        return
    _told = True
    print(f"taimatsu: the program asks for {str(asked)!r}; it runs on the CPU", file=sys.stderr)


# -- layouts -------------------------------------------------------------------------------


class _Named:
    """A constant that prints as ``torch.name``; there is one object per name."""

    __slots__ = ("_name",)

    _name: str

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"cannot create 'torch.{cls.__name__}' instances")

    def __repr__(self) -> str:
        return f"torch.{self._name}"

    def __reduce__(self) -> str:
        return self._name


class layout(_Named):  # noqa: N801 (PyTorch's name)
    """How a tensor's elements are stored; there is only ``torch.strided``."""

    __slots__ = ()


class memory_format(_Named):  # noqa: N801 (PyTorch's name)
    """The order of a tensor's elements in memory, where a call can choose it."""

    __slots__ = ()


def _constant(kind: Any, name: str) -> Any:
    made = object.__new__(kind)
    made._name = name
    return made


strided: layout = _constant(layout, "strided")
contiguous_format: memory_format = _constant(memory_format, "contiguous_format")
preserve_format: memory_format = _constant(memory_format, "preserve_format")
channels_last: memory_format = _constant(memory_format, "channels_last")
channels_last_3d: memory_format = _constant(memory_format, "channels_last_3d")

__all__ = [
    "channels_last",
    "channels_last_3d",
    "contiguous_format",
    "device",
    "get_default_device",
    "layout",
    "memory_format",
    "preserve_format",
    "set_default_device",
    "strided",
]
