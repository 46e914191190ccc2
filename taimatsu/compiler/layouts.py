"""In which order the elements of intermediates lie in memory.

What somebody outside sees lies in its own order. Everything else is the compiler's to choose.
"""

from __future__ import annotations

from collections.abc import Iterable

from taimatsu.compiler.groups import Group, Layout, ordered_layout
from taimatsu.ir.stages import Stage
from taimatsu.ir.target import Target


def choose(groups: list[Group], fixed: Iterable[Stage], target: Target) -> dict[Stage, Layout]:
    """The layout of every stage that gets memory of its own.

    Args:
        groups: in order; their ``outputs`` get memory.
        fixed: stages that are seen from outside: they lie in their ``order``.
        target: the machine.
    """
    chosen: dict[Stage, Layout] = {}
    for group in groups:
        for stage in group.outputs:
            if stage.kind != "update":
                chosen[stage] = ordered_layout(stage.shape, stage.order)
    return chosen
