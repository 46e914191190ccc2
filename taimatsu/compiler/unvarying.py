"""Reductions whose terms are the same along an axis: computed once, and read along it.

The gradient of ``(a @ b).sum()`` multiplies by a matrix of ones; a product of an expanded batch
repeats itself. What is left of them after substitution does not name the axis any more.
"""

from __future__ import annotations

from taimatsu.ir.expression import Expression, load, rewrite, variables
from taimatsu.ir.index import Var, index
from taimatsu.ir.stages import Stage


def computed_once(stage: Stage) -> Stage | None:
    """The reduction over the axes along which a stage varies; the stage becomes a map of it.

    None, and nothing changed, where it varies along all its axes.
    """
    if stage.kind != "reduce" or stage.value is None or stage.checks:
        return None
    value = rewrite(stage.value, _without_steps, {})
    varies = variables(value)
    kept = [d for d, v in enumerate(stage.axes) if v.extent == 1 or v in varies]
    if len(kept) == len(stage.axes):
        return None
    made = Stage("reduce", tuple([stage.shape[d] for d in kept]), stage.dtype)
    made.axes = tuple([stage.axes[d] for d in kept])
    made.value, made.reduce_axes, made.combine = value, stage.reduce_axes, stage.combine
    made.number, made.node, made.fused = stage.number, stage.node, stage.fused
    stage.kind, stage.combine, stage.reduce_axes, stage.picks = "map", "", (), None
    stage.axes = tuple([Var(v.name, v.extent) for v in stage.axes])
    stage.value = made[tuple([index(stage.axes[d]) for d in kept])]
    return made


def _without_steps(node: Expression) -> Expression | None:
    """A load of memory that is seen as if it were repeated: the first time will do."""
    if node.op != "load" or node.detail[0].kind != "window":
        return None
    source, where = node.detail
    if all(step != 0 for step in source.strides):
        return None
    pairs = zip(source.strides, where, strict=True)
    return load(source, [0 if step == 0 else at for step, at in pairs], node.dtype)
