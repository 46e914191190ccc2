"""CPU schedules of all groups but contractions: which one a group needs."""

from __future__ import annotations

from taimatsu.compiler.groups import Group, Launch, Layout
from taimatsu.compiler.schedule import pointwise, rows
from taimatsu.compiler.schedule.common import bind
from taimatsu.ir.stages import Stage
from taimatsu.ir.target import Target


def schedule(group: Group, layouts: dict[Stage, Layout], target: Target) -> list[Launch]:
    """The launches that compute a group, in their order.

    Args:
        group: of kind "loops", "scatter" or "update".
        layouts: where the stages lie that have memory (this group's and those that it reads),
            windows excepted.
        target: the machine. How numbers are combined follows from extents that are constants, and
            from the target; extents that come from data count as large.
    """
    nest = bind(group, layouts)
    if all(not p.domain for p in nest.pieces):
        return pointwise.schedule(nest, target)
    return rows.schedule(nest, target)
