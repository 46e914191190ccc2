"""A backward as one macro edge: over the open recording, or over one closed before."""

from __future__ import annotations

from typing import Any, NamedTuple

from taimatsu import recorder
from taimatsu.autograd import anomaly
from taimatsu.autograd.engine import Saved, Walk, free, saved_by, saved_tensor
from taimatsu.autograd.modes import no_grad
from taimatsu.ops.filling import filled
from taimatsu.recorder.state import INPUT, Info, State


class Plan(NamedTuple):
    """What a backward from one result does, as far as the states tell."""

    ends: tuple[int, ...]  # the inputs that it reaches
    walked: frozenset[int]  # first results of the steps
    saved: tuple[Saved, ...]  # the values that it reads, in order
    owners: tuple[Info, ...]  # the inputs with gradients by which those came in


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
    plan = _plan(tape.final, root._gid, tape.freed)
    if plan is None:
        return False
    leaves = [tape.sources[number] for number in plan.ends]
    if not all(isinstance(leaf, recorder.TensorBase) for leaf in leaves):
        return False
    if len({id(leaf) for leaf in leaves}) != len(leaves) or any(map(_unusual, leaves)):
        return False
    if not _as_recorded(tape, plan.ends, leaves):
        return False
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


def _unusual(leaf: Any) -> bool:
    extra = leaf._extra
    hooked = extra is not None and bool(extra.hooks or extra.accumulated)
    return hooked or not leaf._requires_grad


def _as_recorded(tape: Any, ends: tuple[int, ...], leaves: list) -> bool:
    """Whether the leaves, and what was copied for an open recording, still hold what was recorded.

    A closed tape knows only the storages that it saved.
    """
    is_open = tape.recording is not None
    snapshots = tape.snapshots
    table = tape.recording.infos() if is_open else tape.infos()
    for number, leaf in zip(ends, leaves, strict=True):
        info = table[number]
        item = tape.items[info.slot]
        if leaf._storage is not item and number not in snapshots and (is_open or item is not None):
            return False
        if leaf._meta.strides != info.meta.strides or leaf._meta.dtype is not info.meta.dtype:
            return False
    return not is_open or not any(map(tape.snapshot_changed, snapshots))


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
    if any(g is not None and g._requires_grad for g in before):
        raise RuntimeError("a leaf's grad requires grad itself: call backward(create_graph=True)")
    old = [g for g in before if g is not None]
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


def _plan(state: State, root: int, freed: frozenset) -> Plan | None:
    """The plan of a backward from the result numbered ``root`` (remembered); None if it meets a
    freed step.
    """
    key = ("plan", root, freed)
    found = state.memo.get(key, 0)
    if found == 0:
        found = state.memo[key] = _reach(state, root, freed)
    return found


def _reach(state: State, root: int, freed: frozenset) -> Plan | None:
    table = state.infos()
    reached = {root}
    walked = []
    saved: list[Saved] = []
    for step in reversed(state.graph_steps()):
        if reached.isdisjoint(info.gid for info in step.results):
            continue
        walked.append(step.results[0].tid)
        saved += saved_by(state, step, table)
        for reference in step.inputs:
            if type(reference) is int and table[reference].grad:
                reached.add(table[reference].gid)
    if not freed.isdisjoint(walked):
        return None
    ends = sorted(number for number in reached if table[number].state.kind is INPUT)
    slots = {each.info.slot for each in saved}
    inputs = [info for info in table if info.state.kind is INPUT and info.grad]
    owners = {info.slot: info for info in reversed(inputs) if info.slot in slots}
    return Plan(tuple(ends), frozenset(walked), tuple(dict.fromkeys(saved)), tuple(owners.values()))


_launched: set[int] = set()  # outlines of the states at which a backward's end is carried out
OUTLINES = 4096  # that are remembered


def soft_point(recording: Any) -> None:
    """The end of a backward: recording goes on to the optimizer's step, if one follows.

    Where another backward came first (gradient accumulation, updates by hand), this one is carried
    out, and so are later ones that end after the same operations as that one, of whatever shapes.
    """
    state = recording.state
    if _outline(state) in _launched:
        recording.run()
        return
    if recording.soft is not None and recording.soft is not state:
        if len(_launched) >= OUTLINES:
            _launched.clear()
        _launched.add(_outline(recording.soft))
        recording.run()
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
