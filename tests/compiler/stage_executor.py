"""Carries out graphs by lowering them, fusing them, and evaluating stages with NumPy.

What lowering and fusion do is tested by it alone: no schedule, no machine code.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from taimatsu import dtypes
from taimatsu.compiler.demand import shrink
from taimatsu.compiler.fusion import fuse
from taimatsu.compiler.lower import NotLoweredError, lower
from taimatsu.evaluate import interpreter
from taimatsu.ir.graph import Graph
from taimatsu.ir.stage_interpreter import evaluate
from taimatsu.ir.stages import Item, Stage, producers
from taimatsu.ir.target import Target
from taimatsu.recorder.base import registered
from taimatsu.recorder.number import plain
from taimatsu.storage import window


class StageExecutor:
    """``execute`` of the evaluator; ``fused`` says whether stages are fused first, ``moving``
    whether all numbers are taken to vary from launch to launch.
    """

    def __init__(self, fused: bool = True, moving: bool = False) -> None:
        self.fused = fused
        self.moving = moving
        self.lowered = 0  # programs carried out by stages
        self.refused = 0
        self.groups: list[Any] = []

    @contextmanager
    def installed(self) -> Iterator[StageExecutor]:
        """Has programs carried out by it."""
        before = registered.execute
        registered.execute = self
        yield self
        registered.execute = before

    def __call__(
        self,
        graph: Graph,
        buffers: dict[int, np.ndarray],
        items: list,
        background: bool = False,
    ) -> dict[int, np.ndarray]:
        numbers = [plain(x) for x in items]
        sizes = {slot: buffer.size for slot, buffer in buffers.items()}
        try:
            moving = frozenset(range(len(items)) if self.moving else ())
            program = lower(graph, numbers, sizes, moving=moving)
        except NotLoweredError:
            self.refused += 1
            return interpreter.execute(graph, buffers, items)
        self.lowered += 1
        stages = program.stages
        if self.fused:
            shrink(stages, program.outputs.values())
            self.groups = fuse(stages, program.outputs.values(), target=Target.host())
            stages = _with_windows([s for g in self.groups for s in g.stages])
        symbols = {s.name: v for s, v in program.symbols.items()}

        def sees(stage: Stage) -> np.ndarray:
            assert stage.cell is not None
            flat = buffers[stage.cell.slot]
            offset = numbers[stage.offset.place] if isinstance(stage.offset, Item) else stage.offset
            shape = tuple(n.evaluate(lambda s: symbols[s.name]) for n in stage.shape)
            strides = tuple(n.evaluate(lambda s: symbols[s.name]) for n in stage.strides)
            return window(flat, shape, strides, int(offset))

        values = evaluate(stages, sees, [numbers[i] for i, _ in program.numbers], symbols, numbers)
        made = {}
        for slot in graph.outputs:
            stage = program.outputs.get(slot)
            if stage is None:
                made[slot] = buffers[slot]
                continue
            content = values[stage].transpose(stage.order)
            made[slot] = np.array(content, dtypes.by_name(stage.dtype).numpy).reshape(-1)
        return made


def _with_windows(ordered: list[Stage]) -> list[Stage]:
    """Each stage after the windows that it reads: they show what is in memory by then."""
    found: list[Stage] = []
    for stage in ordered:
        initial = stage.initial
        if initial is not None and initial.kind == "map" and initial not in ordered:
            found += [s for s in producers(initial) if s.kind == "window"]
            found.append(initial)
        found += [s for s in producers(stage) if s.kind == "window"]
        found.append(stage)
    return found
