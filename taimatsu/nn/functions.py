"""The functions that ``nn`` is built with, taken from the registry of operations by public name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taimatsu.ops import REGISTRY


def function(name: str) -> Callable[..., Any]:
    """The public function called ``name`` (``"cat"``, ``"nn.functional.relu"``).

    Raises KeyError when no operation carries that name.
    """
    for entry in REGISTRY.values():
        if name in entry.functions:
            return plain(entry)
    raise KeyError(f"no operation is registered under the public name {name!r}")


def plain(entry: Any) -> Callable[..., Any]:
    """The callable behind a registry entry, without the call through the entry object."""
    made = getattr(entry, "function", None)
    return made if made is not None else entry.__call__


cat = function("cat")
empty = function("empty")
full = function("full")
ones = function("ones")
randperm = function("randperm")
stack = function("stack")
tensor = function("tensor")
zeros = function("zeros")
