"""A backward over the open recording as one macro edge."""

from __future__ import annotations

from typing import Any

from taimatsu import recorder
from taimatsu.autograd import anomaly
from taimatsu.autograd.engine import Walk
from taimatsu.autograd.modes import no_grad
from taimatsu.ops.filling import filled
from taimatsu.recorder.state import INPUT, State


def replayed_backward(root: Any, gradient: Any, retain: bool) -> bool:
    """Does ``root.backward(gradient)`` as a macro edge; False where the ordinary walk must.

    That is so with hooks, custom functions, anomaly mode, graphs of earlier recordings.
    """
    tape = root._tape if root.requires_grad else None
    recording = recorder.local.recording
    if tape is None or recording is None or tape.recording is not recording:
        return False
    if tape.hooks or tape.contexts or anomaly.is_anomaly_enabled() or recording.done:
        return False
    if gradient is None:
        described = root._meta
        if described.numel != 1 or described.dtype.category != 2:
            return False
    elif gradient._meta.shape != root._meta.shape or gradient._requires_grad:
        return False
    plan = _plan(recording.state, root._gid, tape.freed)
    if plan is None:
        return False
    ends, freed = plan
    leaves = [tape.sources[number] for number in ends]
    if not all(isinstance(leaf, recorder.TensorBase) for leaf in leaves):
        return False
    if len({id(leaf) for leaf in leaves}) != len(leaves) or any(map(_unusual, leaves)):
        return False
    if not _as_recorded(tape, ends, leaves):
        return False
    with no_grad():
        _run(root, gradient, retain, leaves)
    if not retain and tape.recording is recording:
        tape.freed = tape.freed | freed if tape.freed else freed
    soft_point(recording)
    return True


def _unusual(leaf: Any) -> bool:
    extra = leaf._extra
    hooked = extra is not None and bool(extra.hooks or extra.accumulated)
    return hooked or not leaf._requires_grad


def _as_recorded(tape: Any, ends: tuple[int, ...], leaves: list) -> bool:
    """Whether the leaves and what was copied for the recording still hold what was recorded."""
    snapshots = tape.snapshots
    table = tape.recording.infos()
    for number, leaf in zip(ends, leaves, strict=True):
        if leaf._storage is not tape.items[table[number].slot] and number not in snapshots:
            return False
    return not any(map(tape.snapshot_changed, snapshots))


def _run(root: Any, gradient: Any, retain: bool, leaves: list) -> None:
    before = [None if leaf._extra is None else leaf._extra.grad for leaf in leaves]
    if any(g is not None and g._requires_grad for g in before):
        raise RuntimeError("a leaf's grad requires grad itself: call backward(create_graph=True)")
    old = [g for g in before if g is not None]
    new = [leaf for leaf, g in zip(leaves, before, strict=True) if g is None]
    tensors = [root, *old] if gradient is None else [root, gradient, *old]

    def walk(numbers: Any) -> list:
        made = Walk(retain, False, None)
        made.numbers = numbers
        first = gradient
        if first is None:
            first = filled(tuple(root._meta.shape), 1, root._meta.dtype)
        made.start(root, first)
        made.run()
        return [leaf._extra.grad for leaf in new]

    key = ("backward", root._gid, retain, gradient is None, *[g is None for g in before])
    gradients = recorder.macro.call(key, tensors, None, walk)
    for leaf, made in zip(new, gradients, strict=True):
        recorder.extra_of(leaf).grad = made


def _plan(state: State, root: int, freed: frozenset) -> Any:
    """The inputs that a backward from ``root`` reaches and the steps it walks (remembered);
    None if it meets a freed step.
    """
    key = ("plan", root, freed)
    found = state.memo.get(key, 0)
    if found == 0:
        found = state.memo[key] = _reach(state, root, freed)
    return found


def _reach(state: State, root: int, freed: frozenset) -> Any:
    table = state.infos()
    reached = {root}
    walked = []
    for step in reversed(state.graph_steps()):
        if reached.isdisjoint(info.gid for info in step.results):
            continue
        walked.append(step.results[0].tid)
        for reference in step.inputs:
            if type(reference) is int and table[reference].grad:
                reached.add(table[reference].gid)
    if not freed.isdisjoint(walked):
        return None
    ends = sorted(number for number in reached if table[number].state.kind is INPUT)
    return tuple(ends), frozenset(walked)


def soft_point(recording: Any) -> None:
    """The end of a backward: recording goes on to the optimizer's step, if one follows.

    Where another backward came first (gradient accumulation), the next pass through the same
    state is carried out here.
    """
    state = recording.state
    if state.memo.get("launch"):
        recording.run()
        return
    if recording.soft is not None and recording.soft is not state:
        recording.soft.memo["launch"] = True
    recording.soft = state
