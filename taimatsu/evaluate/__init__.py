"""Carries out recorded programs: the one place that joins the compiler and the runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from taimatsu.evaluate.statistics import STATISTICS
from taimatsu.ir.graph import Graph

__all__ = ["STATISTICS", "execute"]

_execute: Callable[..., dict[int, np.ndarray]] | None = None


def execute(graph: Graph, buffers: dict[int, np.ndarray], items: list, *more: Any) -> Any:
    """``compiled.execute``; the compiler is imported by the first program."""
    global _execute
    if _execute is None:
        from taimatsu.evaluate.compiled import execute as found

        _execute = found
    return _execute(graph, buffers, items, *more)
