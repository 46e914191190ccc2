"""A backward as one macro edge: over the open recording, or over one closed before."""

from __future__ import annotations

from typing import Any

from taimatsu import recorder
from taimatsu.autograd import anomaly
from taimatsu.autograd.ahead import handed_over
from taimatsu.autograd.engine import Walk, free, saved_tensor
from taimatsu.autograd.modes import no_grad
from taimatsu.autograd.plans import Plan, as_recorded, leaves_of, plan_of
from taimatsu.ops.filling import filled
from taimatsu.recorder.recipe import habit_of
from taimatsu.recorder.state import State


def replayed_backward(root: Any, gradient: Any, retain: bool) -> bool:
    """Does ``root.backward(gradient)`` as a macro edge; False where the ordinary walk must.

    That is so with hooks, custom functions, anomaly mode, graphs that lead to older ones.
    """
    tape = root._tape if root.requires_grad else None
    if tape is None or tape.hooks or tape.contexts or anomaly.is_anomaly_enabled():
        return False
    recording = recorder.local.recording
    is_open = tape.recording is not None
    if is_open and (recording is None or tape.recording is not recording or recording.done):
        return False
    if gradient is None:
        described = root._meta
        if described.numel != 1 or described.dtype.category != 2:
            return False
    elif gradient._meta.shape != root._meta.shape or gradient._requires_grad:
        return False
    plan = plan_of(tape.final, root._gid, tape.freed)
    leaves = None if plan is None else leaves_of(tape, plan)
    if plan is None or leaves is None or not as_recorded(tape, plan.ends, leaves):
        return False
    if not is_open and gradient is None and not retain:
        if handed_over(root, plan, leaves):
            return True
        habit_of(tape.state).came(root._gid)
    with no_grad():
        if is_open:
            _run_open(root, gradient, retain, leaves)
        else:
            _run_closed(root, gradient, retain, leaves, plan)
    if not is_open and not retain:
        free(tape, plan.walked)
    elif not retain and tape.recording is recording:
        tape.freed = tape.freed | plan.walked if tape.freed else plan.walked
    if recorder.local.recording is not None:
        soft_point(recorder.local.recording)
    return True


def _run_open(root: Any, gradient: Any, retain: bool, leaves: list) -> None:
    walk = Walk(retain, False, None)
    _run(("backward", root._gid, retain), [root], None, walk, root, gradient, leaves)


def _run_closed(root: Any, gradient: Any, retain: bool, leaves: list, plan: Plan) -> None:
    """As over an open recording, after the values that the tape saved have come in."""
    tape = root._tape
    values = {saved: saved_tensor(tape, saved, False) for saved in plan.saved}
    entering: dict[int, Any] = {}
    for info in plan.owners:  # leaves come in themselves: the optimizer will write them
        leaf = tape.sources.get(info.tid)
        if isinstance(leaf, recorder.TensorBase) and leaf._storage is tape.items[info.slot]:
            entering[info.tid] = leaf
    for saved, value in values.items():
        known = entering.get(saved.info.tid)
        if known is None or known._storage is not value._storage:
            entering[saved.info.tid] = value

    def prepare() -> None:
        for saved, value in values.items():
            known = entering[saved.info.tid]
            value._recording, value._tid = known._recording, known._tid

    walk = Walk(retain, False, None)
    walk.given = values
    key = ("backward", tape.state, tape.freed, root._gid, retain)
    _run(key, list(entering.values()), tape.items, walk, root, gradient, leaves, prepare)


def _run(
    key: tuple,
    tensors: list,
    numbers: Any,
    walk: Walk,
    root: Any,
    gradient: Any,
    leaves: list,
    prepare: Any = None,
) -> None:
    before = [None if leaf._extra is None else leaf._extra.grad for leaf in leaves]
    old = [g for g in before if g is not None]
    for g in old:
        if g._requires_grad:
            raise RuntimeError(
                "a leaf's grad requires grad itself: call backward(create_graph=True)"
            )
    new = [leaf for leaf, g in zip(leaves, before, strict=True) if g is None]
    given = [] if gradient is None else [gradient]

    def record(numbers: Any) -> list:
        if prepare is not None:
            prepare()
        walk.numbers = numbers
        first = gradient
        if first is None:
            first = filled(tuple(root._meta.shape), 1, root._meta.dtype)
        walk.start(root, first)
        walk.run()
        return [leaf._extra.grad for leaf in new]

    key = (*key, gradient is None, *[g is None for g in before])
    gradients = recorder.macro.call(key, [*tensors, *given, *old], numbers, record)
    for leaf, made in zip(new, gradients, strict=True):
        recorder.extra_of(leaf).grad = made


_launched: set[int] = set()  # outlines of the states at which a backward's end is carried out
OUTLINES = 4096  # that are remembered


def soft_point(recording: Any) -> None:
    """The end of a backward: recording goes on to the optimizer's step, if one follows.

    Where another backward came first (gradient accumulation, updates by hand), this one is carried
    out, and so are later ones that end after the same operations as that one, of whatever shapes.
    """
    state = recording.state
    if _outline(state) in _launched:
        recording.run(background=True)
        return
    if recording.soft is not None and recording.soft is not state:
        if len(_launched) >= OUTLINES:
            _launched.clear()
        _launched.add(_outline(recording.soft))
        recording.run(background=True)
        return
    recording.soft = state


def _outline(state: State) -> int:
    """A hash of the operations that led to a state, without their shapes."""
    path = []
    found: int | None = None
    at: State | None = state
    while at is not None and found is None:
        path.append(at)
        found = at.memo.get("outline")
        at = at.parent
    outline = 0 if found is None else found
    for step in reversed(path if found is None else path[:-1]):
        name = "" if step.operation is None else step.operation.name
        outline = hash((outline, step.kind, name))
    state.memo["outline"] = outline
    return outline
