"""The programs that a callable records, as text: for people who want to see what runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from taimatsu.compiler.groups import Launch
from taimatsu.compiler.plan import Plan, Reference
from taimatsu.ir.graph import Graph
from taimatsu.ir.printer import kernel_text

_watchers: list[list[tuple[Graph, Any]]] = []


def watched(graph: Graph, bound: Any) -> None:
    """Called for each program that is carried out."""
    for watcher in _watchers:
        watcher.append((graph, bound))


def is_watched() -> bool:
    return bool(_watchers)


@contextmanager
def watching() -> Iterator[list[tuple[Graph, Any]]]:
    """Collects the programs that are carried out in the block, with what they were bound to."""
    found: list[tuple[Graph, Any]] = []
    _watchers.append(found)
    try:
        yield found
    finally:
        _watchers.remove(found)


def program_text(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """Calls a function and shows what it had carried out: graphs, kernels, memory.

    For each program: the recorded operations, the kernels in order with the operations that each
    one fused, their loops, and how large the arena for intermediate values is (bytes).
    """
    from taimatsu import recorder

    recorder.flush()
    with watching() as found:
        function(*args, **kwargs)
        recorder.flush()
    parts = []
    for number, (graph, bound) in enumerate(found):
        parts.append(f"# program {number}\n{graph}")
        if bound is None:
            parts.append("# carried out by the NumPy reference")
        else:
            parts.append(_plan_text(bound.plan))
            parts.append(f"# intermediate values: {bound.arena_bytes} bytes")
    return "\n\n".join(parts)


def _plan_text(plan: Plan) -> str:
    parts = []
    for number, step in enumerate(plan.steps):
        if isinstance(step, Reference):
            parts.append(
                f"# step {number}: NumPy reference of {step.stages[0].node.operation.name}"
            )
            continue
        parts.append(f"# step {number}: {title(step)}\n{kernel_text(step.kernel)}")
    return "\n\n".join(parts)


def title(launch: Launch) -> str:
    """A kernel's name and its operations with the lines that recorded them."""
    found: dict[str, None] = {}
    for node in launch.nodes:
        if node is not None:
            name = "write" if node.is_write else node.operation.name
            found[f"{name} ({node.site})"] = None
    return f"{launch.kernel.name}: {', '.join(found)}"
