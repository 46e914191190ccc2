"""What each operation means: one class each, one file a family, entered in ``REGISTRY``."""

from __future__ import annotations

import importlib
import pkgutil

from taimatsu.ops.base import REGISTRY, Composite, Operation

__all__ = ["REGISTRY", "Composite", "Operation", "load_all"]


def load_all() -> None:
    """Imports every family, which enters its operations."""
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"{__name__}.{module}")
