"""CPU schedules of all groups but contractions: which one a group needs."""

from __future__ import annotations

from taimatsu.compiler.groups import Group, Launch, Layout
from taimatsu.compiler.schedule import pointwise, rows, scatter
from taimatsu.compiler.schedule.common import Nest, bind, lane_count
from taimatsu.compiler.schedule.overwriting import settled
from taimatsu.compiler.schedule.passes import chosen_row, passes_of
from taimatsu.compiler.schedule.split import divided
from taimatsu.ir.stages import Stage
from taimatsu.ir.target import Target


def schedule(group: Group, layouts: dict[Stage, Layout], target: Target) -> list[Launch]:
    """The launches that compute a group, in their order; none where there is nothing to compute.

    Args:
        group: of kind "loops", "scatter" or "update".
        layouts: where the stages lie that have memory (this group's and those that it reads),
            windows excepted.
        target: the machine. How numbers are combined follows from extents that are constants, and
            from the target; extents that come from data count as large.
    """
    if group.kind == "scatter":
        made = scatter.schedule(group, layouts, target)
    else:
        nests = settled(bind(group, layouts))
        made = [launch for nest in nests for launch in _launches(nest, target)]
    return [launch for launch in made if launch.kernel.body]


def _launches(nest: Nest, target: Target) -> list[Launch]:
    if all(not p.domain for p in nest.pieces):
        return pointwise.schedule(nest, target)
    passes = passes_of(nest)
    width = lane_count(nest, target)
    along = chosen_row(nest, passes, width)
    parts = divided(nest, passes, along, width)
    if parts is not None:
        return [launch for part in parts for launch in _launches(part, target)]
    return [rows.schedule(nest, passes, along, width)]
