"""Carries out recorded programs: the one place that joins the compiler and the runtime.

A graph is lowered to stages; their text finds the plan of that structure, made once, or has the
compiler make it. Bound to the graph's sizes it stays with the graph, so that the next run of the
same program is one call. ``TAIMATSU_EAGER=1`` has the NumPy reference carry out everything.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections import OrderedDict
from typing import Any

import numpy as np

from taimatsu.compiler.dispatcher import dispatch_object
from taimatsu.compiler.groups import Launch
from taimatsu.compiler.kept import keep_plan, kept_plan, plan_key
from taimatsu.compiler.lower import Lowered, NotLoweredError, lower
from taimatsu.compiler.objects import Compilation
from taimatsu.compiler.pipeline import Report, compile_stages
from taimatsu.compiler.plan import Call, Plan, Planner
from taimatsu.compiler.service import CompileError, service
from taimatsu.compiler.text import Canonical
from taimatsu.compiler.transport import pack_kernel, pack_target
from taimatsu.config import config
from taimatsu.evaluate import explain, interpreter
from taimatsu.evaluate.pieces import Pieces, in_pieces
from taimatsu.evaluate.program import Bound, item_bytes
from taimatsu.evaluate.specialisation import Code
from taimatsu.evaluate.statistics import STATISTICS
from taimatsu.ir.graph import Argument, Graph, Operand
from taimatsu.ir.target import Target
from taimatsu.recorder.number import plain
from taimatsu.runtime import loader, threads
from taimatsu.runtime.loader import LoadError

PLANS = 512  # structures whose plans are kept: a quarter of a megabyte each
VARIANTS = 8  # programs of one graph, for numbers that it was specialised to

COMPILER_TOPICS = ("fusion", "schedule", "ir", "llvm", "asm")

Prepared = tuple[Plan, dict[str, Any]]  # a plan, and its code by object key

_ABSENT = object()
_lock = threading.RLock()
_plans: OrderedDict[str, Prepared] = OrderedDict()  # by the key that they have on disk
_loaded: dict[str, Code] = {}  # code, by its object's key
_shapes: dict[tuple, list[tuple]] = {}  # by what programs do: the shapes that came in


class _Log(Report):
    """Prints what passes say on the topics that TAIMATSU_LOG names."""

    @property
    def verify(self) -> bool:  # type: ignore[override]
        return config.verify

    def wants(self, topic: str) -> bool:
        return config.logs(topic)

    def say(self, topic: str, text: str) -> None:
        if config.logs(topic):
            print(f"[{topic}] {text}", file=sys.stderr)


REPORT = _Log()


def execute(
    graph: Graph, buffers: dict[int, np.ndarray], items: list, background: bool = False
) -> dict[int, np.ndarray]:
    """Runs a program: the buffers that its slots have, in; those of its outputs, out.

    ``items`` holds the runtime numbers by slot. A slot that has a buffer keeps it: its new
    content is written there. If a node fails, all buffers are as before. With ``background`` other
    threads may still be at it when this returns: ``storage.finish`` waits for them.
    """
    if config.eager or not graph.nodes or not _can_compile():
        return interpreter.execute(graph, buffers, items)
    bound = _found(graph, items)
    if bound is _ABSENT:
        bound = _prepared(graph, buffers, items)
    if explain.is_watched():
        if type(bound) is Bound and explain.wants_loops() and not bound.plan.has_loops():
            bound = _prepared(graph, buffers, items)
        if type(bound) is not Pieces:
            explain.watched(graph, bound)
    if bound is None:
        return interpreter.execute(graph, buffers, items)
    try:
        return bound.run(buffers, items, background)
    except threads.KernelError:
        # A check failed, and nothing was changed: the reference finds which, and says it in words.
        return interpreter.execute(graph, buffers, items)


def _found(graph: Graph, items: list) -> Any:
    """What the graph was bound to for such numbers; None: the reference; else ``_ABSENT``."""
    for bound in graph.program or ():
        if bound is None or bound.fits(items):
            return bound
    return _ABSENT


def _prepared(graph: Graph, buffers: dict[int, np.ndarray], items: list) -> Bound | Pieces | None:
    """Binds a graph to its plan; None where only the reference can carry it out."""
    with _lock:
        try:
            bound = in_pieces(graph, execute) or _bound(graph, buffers, items)
        except NotLoweredError:
            graph.program = [None]
            return None
        except CompileError as error:
            warnings.warn(
                f"a program could not be compiled, NumPy carries it out: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
            graph.program = [None]
            return None
        graph.program = [bound, *(graph.program or ())][:VARIANTS]
        return bound


def _bound(graph: Graph, buffers: dict[int, np.ndarray], items: list) -> Bound:
    numbers = [plain(x) for x in items]
    sizes = {slot: buffer.size for slot, buffer in buffers.items()}
    lowered = lower(graph, numbers, sizes, _varying(graph), _moving(graph, numbers))
    canonical = Canonical(graph, lowered)
    target = Target.host()
    key = plan_key(canonical.text, target)
    found = _plans.get(key)
    if found is None or (explain.wants_loops() and not found[0].has_loops()):
        found = _planned(key, graph, lowered, canonical, target)
        _plans[key] = found
        if len(_plans) > PLANS:
            _plans.popitem(last=False)
    else:
        _plans.move_to_end(key)
    plan, functions = found
    STATISTICS.bindings += 1
    bound = Bound(
        plan,
        graph,
        canonical.slots,
        canonical.items,
        lowered.symbols,
        lowered.numbers,
        lowered.guards,
        functions,
        target,
    )
    if REPORT.wants("memory"):
        REPORT.say("memory", bound.memory_text())
    return bound


def _planned(
    key: str, graph: Graph, lowered: Lowered, canonical: Canonical, target: Target
) -> Prepared:
    """A structure's plan and code: from the disk cache, else from the compiler."""
    if REPORT.wants("record"):
        REPORT.say("record", str(graph))
    if not explain.wants_loops() and not any(map(REPORT.wants, COMPILER_TOPICS)):
        found = kept_plan(key, _loaded)
        if found is not None:
            plan, codes = found
            REPORT.say("cache", f"a plan of {len(codes)} kernels found")
            return plan, _codes(codes)
    REPORT.say("ir", canonical.text)
    compilation = Compilation(target, _loaded)
    steps, layouts = compile_stages(lowered, target, REPORT, compilation.add)
    STATISTICS.plans += 1
    planner = Planner(
        steps, layouts, lowered.outputs, graph, canonical.slots, canonical.items, item_bytes
    )
    launches = [step for step in steps if isinstance(step, Launch)]
    plan = planner.plan({launch: compilation.add(launch.kernel) for launch in launches})
    codes = compilation.finish()
    made = compilation.made
    STATISTICS.compilations += made
    REPORT.say("cache", f"{len(launches)} kernels: {made} compiled, the others found")
    plan.keys = list(codes)
    _show(graph, plan, target)
    if not explain.wants_loops():
        plan.forget_loops()
    keep_plan(key, plan)
    return plan, _codes(codes)


def _show(graph: Graph, plan: Plan, target: Target) -> None:
    """Says which kernels there are, and what LLVM makes of them, where that is asked for."""
    if not any(map(REPORT.wants, ("schedule", "llvm", "asm"))):
        return
    for call in plan.calls:
        if not isinstance(call, Call):
            continue
        REPORT.say("schedule", f"{explain.title(graph, call)}: {call.chunks} chunks")
        for topic, output in (("llvm", "ir"), ("asm", "assembly")):
            if REPORT.wants(topic):
                packed = pack_kernel(call.kernel)
                job = service.submit_kernel(packed, pack_target(target), output=output)
                REPORT.say(topic, f"{call.name}\n{job.result().decode()}")


def _codes(objects: dict[str, bytes | None]) -> dict[str, Code]:
    """The code of objects by key; None stands for what is loaded already."""
    found = {key: _loaded[key] for key in objects if key in _loaded}
    for key, data in objects.items():
        if key not in found:
            assert data is not None
            found[key] = _loaded[key] = Code(loader.load(data))
    while len(_loaded) > 4 * PLANS:
        _loaded.pop(next(iter(_loaded)))
    return found


def _varying(graph: Graph) -> frozenset[tuple[int, int]]:
    """Extents and strides of inputs, as (slot, number), that differ between programs that do the
    same.
    """
    slots = {value: slot for slot, value in graph.inputs.items()}
    skeleton: list[Any] = []
    shapes: list[tuple[int, tuple[int, ...]]] = []
    for node in graph.nodes:
        skeleton.append("write" if node.is_write else node.operation.name)
        for operand in node.operands:
            if type(operand) is Operand:
                came_in = operand.value in slots
                described = operand.meta
                skeleton.append((operand.value, described.ndim, described.dtype.name, came_in))
                if came_in:
                    numbers = *described.shape, *described.strides
                    shapes.append((slots[operand.value], numbers))
    key = tuple(skeleton)
    present = tuple(shapes)
    seen = _shapes.setdefault(key, [])
    if present not in seen:
        seen.append(present)
        del seen[:-8]
    if len(_shapes) > 4 * PLANS:
        _shapes.pop(next(iter(_shapes)))
    found: set[tuple[int, int]] = set()
    for other in seen:
        for (slot, mine), (_, theirs) in zip(present, other, strict=True):
            found |= {(slot, a) for a, b in zip(mine, theirs, strict=True) if a != b}
    return frozenset(found)


def _moving(graph: Graph, numbers: list) -> frozenset[int]:
    """Items whose numbers are not those that earlier programs of the graph were made for.

    Others that are read for the same, as those of a loop's other steps, are taken to vary too.
    """
    guards = [guard for bound in graph.program or () if bound for guard in bound.guards]
    found = {item for item, value in guards if numbers[item] != value}
    if not found:
        return frozenset()
    uses = _uses(graph)
    varied = set().union(*(uses[item] for item in found))
    return frozenset(found | {item for item, own in uses.items() if own & varied})


def _uses(graph: Graph) -> dict[int, set]:
    """What each item is read for: operation, place among its operands, layout of what it reads."""
    found: dict[int, set] = {}
    for node in graph.nodes:
        for place, operand in enumerate(node.operands):
            if type(operand) is Operand and operand.offset >= 0:
                use = node.operation, place, operand.meta
                found.setdefault(operand.offset, set()).add(use)
            elif type(operand) is Argument:
                found.setdefault(operand.index, set()).add((node.operation, place, None))
    return found


_usable: bool | None = None


def _can_compile() -> bool:
    """Whether this machine runs compiled code; said once where it does not."""
    global _usable
    if _usable is None or (_usable and not threads.is_installed()):
        with _lock:
            if _usable is None or not threads.is_installed():
                _usable = _install()
    return _usable


def _install() -> bool:
    try:
        target = Target.host()
        loader.host_machine()
        if not threads.is_installed():
            threads.install(threads.Dispatch(loader.load(dispatch_object(target))))
    except (ValueError, LoadError, CompileError) as error:
        warnings.warn(
            f"programs cannot be compiled here, NumPy carries them out: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True
