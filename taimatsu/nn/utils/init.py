"""Modules without the time their initialisation takes."""

from __future__ import annotations

import inspect
from typing import Any

from taimatsu.nn.modules.module import Module


def skip_init(module_cls: type[Module], *args: Any, **kwargs: Any) -> Module:
    """A module made as ``module_cls(*args, **kwargs)``, whose values are not to be relied on.

    Raises RuntimeError unless ``module_cls`` is a Module that takes ``device``.
    """
    if not issubclass(module_cls, Module):
        raise RuntimeError(f"Expected a Module; got {module_cls}")
    if "device" not in inspect.signature(module_cls).parameters:
        raise RuntimeError("Module must support a 'device' arg to skip initialization")
    return module_cls(*args, **kwargs)
