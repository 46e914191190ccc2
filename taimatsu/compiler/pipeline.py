"""The compiler's passes, in order: from stages to a plan of launches.

    lower      graph -> stages               (compiler/lower.py; rules: ops/)
    demand     axes shrink to what is read   (compiler/demand.py)
    fuse       stages -> groups              (compiler/fusion.py)
    layouts    order of intermediates        (compiler/layouts.py)
    schedule   groups -> kernels             (compiler/schedule/)
    plan       kernels -> steps and memory   (compiler/plan.py)
    codegen    kernels -> machine code       (compiler/codegen/, in worker processes)

Each pass is a function of its arguments. ``Report`` takes what they have to say and how long they
took; with ``verify`` every kernel is checked.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from taimatsu.compiler import layouts, plan
from taimatsu.compiler.alike import Form, schedules
from taimatsu.compiler.demand import shrink
from taimatsu.compiler.fusion import fuse
from taimatsu.compiler.gathered import gathered, scattered
from taimatsu.compiler.groups import Group, Launch, Layout, Temporary
from taimatsu.compiler.lower import Lowered
from taimatsu.compiler.schedule import contraction, cpu, gathering, spreading
from taimatsu.compiler.transport import pack_kernel
from taimatsu.ir.loops import Kernel
from taimatsu.ir.printer import kernel_text
from taimatsu.ir.stages import Stage
from taimatsu.ir.target import Target
from taimatsu.ir.verifier import verify as verify_kernel


class Report:
    """What passes say, by topic; ``wants`` tells whether anybody listens. Override to listen."""

    verify = False

    def wants(self, topic: str) -> bool:
        return False

    def say(self, topic: str, text: str) -> None:
        """Takes a line (or more) on a topic: fusion, schedule, memory, ir."""

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        if self.wants("schedule"):
            self.say("schedule", f"{name}: {(time.perf_counter() - begin) * 1e3:.2f} ms")


def compile_stages(
    lowered: Lowered, target: Target, report: Report, ready: Callable[[Kernel], object]
) -> tuple[list[plan.Step], dict[Stage, Layout]]:
    """The steps of a lowered program, and the layouts of all stages that have memory.

    ``ready`` is given each kernel as soon as there is one, to be compiled while others are made.
    """
    outputs = lowered.outputs
    with report.timed("demand"):
        shrink(lowered.stages, outputs.values(), lambda line: report.say("fusion", line))
    with report.timed("fuse"):
        log = functools.partial(report.say, "fusion")
        groups = fuse(lowered.stages, outputs.values(), log, target)
    with report.timed("layouts"):
        chosen = layouts.choose(groups, fixed(lowered), target)
    steps: list[plan.Step] = []
    with report.timed("schedule"):
        for group in groups:
            made = scheduled(group, chosen, target, report)
            for step in made:
                if isinstance(step, Launch):
                    ready(step.kernel)
            steps += made
    if report.verify or report.wants("ir"):
        for step in steps:
            if isinstance(step, Launch):
                if report.wants("ir"):
                    report.say("ir", f"{step.kernel.name}\n{kernel_text(step.kernel)}")
                verify_kernel(step.kernel)
    return steps, chosen


def fixed(lowered: Lowered) -> set[Stage]:
    """Stages whose memory is seen from outside of the kernels: they lie in their own order."""
    seen = set(lowered.outputs.values())
    for stage in lowered.stages:
        if stage.cell is not None and stage.cell.stage is not None:
            seen.add(stage.cell.stage)
        if stage.kind == "opaque":
            seen.add(stage)
    return seen


def scheduled(
    group: Group, chosen: dict[Stage, Layout], target: Target, report: Report
) -> list[plan.Step]:
    """The steps of a group."""
    if group.kind == "opaque":
        return [plan.Reference(group.stages)]
    if all(any(v.extent == 0 for v in stage.axes) for stage in group.stages):
        return []  # there is nothing to compute
    form = Form(group, chosen, target)
    launches = schedules.find(form)
    if launches is None:
        launches = _schedule(group, chosen, target)
        schedules.keep(form, launches)
    elif report.verify:
        _verify_alike(launches, _schedule(group, chosen, target))
    nodes: dict[Any, None] = {}
    for stage in group.stages:
        nodes |= dict.fromkeys((*stage.fused, stage.node))
    for launch in launches:
        launch.nodes = tuple(nodes)
        launch.kind = "contraction" if _is_product(group) else group.kind
    return list(launches)


def _is_product(group: Group) -> bool:
    """Whether there is something to multiply."""
    over = group.stages[0].reduce_axes
    return group.kind == "contraction" and not any(v.extent == 0 for v in over)


def _schedule(group: Group, chosen: dict[Stage, Layout], target: Target) -> list[Launch]:
    schedule = contraction.schedule if _is_product(group) else cpu.schedule
    if _is_product(group) and gathered(group.stages[0]) is not None:
        schedule = gathering.schedule
    if group.kind == "scatter" and scattered(group.stages[0]) is not None:
        schedule = spreading.schedule
    return schedule(group, chosen, target)


def _verify_alike(found: list[Launch], made: list[Launch]) -> None:
    """What was found for a group of equal form must be what its own schedule is."""
    for a, b in zip(found, made, strict=True):
        own = [m for m in zip(a.memory, b.memory, strict=True) if not isinstance(m[0], Temporary)]
        if any(x is not y for x, y in own) or a.numbers != b.numbers:
            raise AssertionError(f"{a.kernel.name}: groups of one form differ in memory")
        if pack_kernel(a.kernel) != pack_kernel(b.kernel):
            raise AssertionError(f"{a.kernel.name}: groups of one form differ in their kernels")
