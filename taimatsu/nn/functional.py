"""The functions of neural networks, taken from the registry of operations.

Every operation with a public name under ``nn.functional`` appears here by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taimatsu.nn.functions import plain
from taimatsu.ops import REGISTRY

_PREFIX = "nn.functional."


def _collect() -> dict[str, Callable[..., Any]]:
    """Every registered function of this namespace by its short name."""
    return {
        name.removeprefix(_PREFIX): plain(entry)
        for entry in REGISTRY.values()
        for name in entry.functions
        if name.startswith(_PREFIX)
    }


globals().update(_collect())


def __getattr__(name: str) -> Callable[..., Any]:
    # Reached for what was registered after this module was imported.
    found = _collect().get(name)
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found
