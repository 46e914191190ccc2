"""The programs that a callable records, as text: for people who want to see what runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from taimatsu.compiler.plan import Call, Plan, ReferenceCall
from taimatsu.ir.graph import Graph
from taimatsu.ir.printer import kernel_text

Programs = list[tuple[Graph, Any]]  # with what they were bound to, None for the reference

_watchers: list[Programs] = []
_readers: list[Programs] = []  # of these, those that read the kernels' loops


def watched(graph: Graph, bound: Any) -> None:
    """Called for each program that is carried out."""
    for watcher in _watchers:
        watcher.append((graph, bound))


def is_watched() -> bool:
    return bool(_watchers)


def wants_loops() -> bool:
    """Whether plans shall keep their kernels' loops, and be made anew if they have not."""
    return bool(_readers)


@contextmanager
def watching(loops: bool = False) -> Iterator[Programs]:
    """Collects the programs that are carried out in the block; ``loops``: see ``wants_loops``."""
    found: Programs = []
    lists = [_watchers, _readers] if loops else [_watchers]
    for watchers in lists:
        watchers.append(found)
    try:
        yield found
    finally:
        for watchers in lists:
            watchers[:] = [x for x in watchers if x is not found]


def program_text(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """Calls a function and shows what it had carried out: graphs, kernels, memory.

    For each program: the recorded operations, the kernels in order with the operations that each
    one fused, their loops, and how large the arena for intermediate values is (bytes).
    """
    from taimatsu import recorder

    recorder.flush()
    with watching(loops=True) as found:
        function(*args, **kwargs)
        recorder.flush()
    parts = []
    for number, (graph, bound) in enumerate(found):
        parts.append(f"# program {number}\n{graph}")
        if bound is None:
            parts.append("# carried out by the NumPy reference")
        else:
            parts.append(_plan_text(graph, bound.plan))
            parts.append(f"# intermediate values: {bound.arena_bytes} bytes")
    return "\n\n".join(parts)


def _plan_text(graph: Graph, plan: Plan) -> str:
    parts = []
    for number, call in enumerate(plan.calls):
        parts.append(f"# step {number}: {title(graph, call)}")
        if isinstance(call, Call) and call.kernel is not None:
            parts[-1] += f"\n{kernel_text(call.kernel)}"
    return "\n\n".join(parts)


def title(graph: Graph, call: Call | ReferenceCall) -> str:
    """A kernel's name and its operations with the lines that recorded them."""
    if isinstance(call, ReferenceCall):
        node = graph.nodes[call.node]
        return f"NumPy reference: {node.operation.name} ({node.site})"
    found: dict[str, None] = {}
    for place in call.nodes:
        node = graph.nodes[place]
        name = "write" if node.is_write else node.operation.name
        found[f"{name} ({node.site})"] = None
    return f"{call.name}: {', '.join(found)}"
