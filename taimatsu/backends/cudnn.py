"""``torch.backends.cudnn``: switches that programs set at their beginning, kept as set."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import Any

from taimatsu.backends.switches import SwitchModule, switched

enabled = True
benchmark = False
benchmark_limit: int | None = None
deterministic = False
allow_tf32 = True


def is_available() -> bool:
    """False: convolutions are taimatsu's own."""
    return False


def version() -> int | None:
    """None: there is no cuDNN."""
    return None


def is_acceptable(tensor: Any) -> bool:
    """Whether cuDNN would be used for ``tensor``: never."""
    return False


def set_flags(
    _enabled: bool | None = None,
    _benchmark: bool | None = None,
    _benchmark_limit: int | None = None,
    _deterministic: bool | None = None,
    _allow_tf32: bool | None = None,
) -> tuple:
    """Sets the switches that are not None; returns all as they were."""
    module = sys.modules[__name__]
    before = (enabled, benchmark, benchmark_limit, deterministic, allow_tf32)
    names = ("enabled", "benchmark", "benchmark_limit", "deterministic", "allow_tf32")
    given = (_enabled, _benchmark, _benchmark_limit, _deterministic, _allow_tf32)
    for name, value in zip(names, given, strict=True):
        if value is not None:
            setattr(module, name, value)
    return before


def flags(
    enabled: bool = False,
    benchmark: bool = False,
    benchmark_limit: int | None = 10,
    deterministic: bool = False,
    allow_tf32: bool = True,
) -> AbstractContextManager[None]:
    """Context manager: sets the switches for a block."""
    return switched(sys.modules[__name__], dict(locals()))


sys.modules[__name__].__class__ = SwitchModule
