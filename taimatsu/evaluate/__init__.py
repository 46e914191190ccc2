"""Carries out recorded programs: the one place that joins the compiler and the runtime."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from taimatsu.evaluate.statistics import STATISTICS
from taimatsu.generator import twister
from taimatsu.ir.graph import Graph
from taimatsu.runtime import buffers

__all__ = ["STATISTICS", "execute"]

_execute: Callable[..., dict[int, np.ndarray]] | None = None


def execute(graph: Graph, buffers: dict[int, np.ndarray], items: list, *more: Any) -> Any:
    """``compiled.execute``; the compiler is imported by the first program."""
    return (_execute or _imported())(graph, buffers, items, *more)


def _imported() -> Callable[..., dict[int, np.ndarray]]:
    """``compiled.execute``. A thread of its own imports it: Ctrl-C reaches the main thread alone,
    and in the middle of an import it would leave Python's import lock taken for good.
    """
    failed: list[BaseException] = []

    def load() -> None:
        global _execute
        try:
            from taimatsu.evaluate.compiled import execute as found
        except BaseException as error:
            failed.append(error)
        else:
            _execute = found

    thread = threading.Thread(target=load, name="taimatsu import", daemon=True)
    thread.start()
    thread.join()
    if _execute is None:
        raise failed[0]
    return _execute


def _twister_blocks(state: np.ndarray, words: np.ndarray) -> np.ndarray | None:
    from taimatsu.evaluate import draws

    return draws.twister_blocks(state, words)


def _shuffled(steps: np.ndarray) -> np.ndarray | None:
    from taimatsu.evaluate import draws

    return draws.shuffled(steps)


MANY_DRAWS = 16  # from so many on, a kernel for small ones pays

_drawn = 0


def _normals(units: np.ndarray, mean: Any, std: Any) -> np.ndarray | None:
    global _drawn
    _drawn += 1
    if _drawn < MANY_DRAWS or _execute is None:
        return None
    from taimatsu.evaluate import draws

    return draws.normals(units, mean, std)


twister.registered.normals = _normals
twister.registered.twister_blocks = _twister_blocks
twister.registered.shuffled = _shuffled
twister.registered.empty = buffers.pool.empty
