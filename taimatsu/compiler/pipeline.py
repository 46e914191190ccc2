"""The compiler's passes, in order: from stages to a plan of launches.

    lower      graph -> stages               (compiler/lower.py; rules: ops/)
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
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from taimatsu.compiler import layouts, plan
from taimatsu.compiler.fusion import fuse
from taimatsu.compiler.gathered import gathered, scattered
from taimatsu.compiler.groups import Group, Launch, Layout
from taimatsu.compiler.lower import Lowered
from taimatsu.compiler.schedule import contraction, cpu, gathering, spreading
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
    lowered: Lowered, target: Target, report: Report
) -> tuple[list[plan.Step], dict[Stage, Layout]]:
    """The steps of a lowered program, and the layouts of all stages that have memory."""
    outputs = lowered.outputs
    with report.timed("fuse"):
        log = functools.partial(report.say, "fusion")
        groups = fuse(lowered.stages, outputs.values(), log, target)
    with report.timed("layouts"):
        chosen = layouts.choose(groups, fixed(lowered), target)
    steps: list[plan.Step] = []
    with report.timed("schedule"):
        for group in groups:
            steps += scheduled(group, chosen, target)
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


def scheduled(group: Group, chosen: dict[Stage, Layout], target: Target) -> list[plan.Step]:
    """The steps of a group."""
    if group.kind == "opaque":
        return [plan.Reference(group.stages)]
    if all(any(v.extent == 0 for v in stage.axes) for stage in group.stages):
        return []  # there is nothing to compute
    over = group.stages[0].reduce_axes
    is_product = group.kind == "contraction" and not any(v.extent == 0 for v in over)
    schedule = contraction.schedule if is_product else cpu.schedule
    if is_product and gathered(group.stages[0]) is not None:
        schedule = gathering.schedule
    if group.kind == "scatter" and scattered(group.stages[0]) is not None:
        schedule = spreading.schedule
    launches = schedule(group, chosen, target)
    nodes: dict[Any, None] = {}
    for stage in group.stages:
        nodes |= dict.fromkeys((*stage.fused, stage.node))
    for launch in launches:
        launch.nodes = tuple(nodes)
    return list(launches)
