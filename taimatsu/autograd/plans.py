"""What a backward from one result will do, as far as the recorded states tell."""

from __future__ import annotations

from typing import Any, NamedTuple

from taimatsu import recorder
from taimatsu.autograd.engine import Saved, saved_by
from taimatsu.recorder.state import INPUT, Info, State


class Plan(NamedTuple):
    """What a backward from one result does, as far as the states tell."""

    ends: tuple[Info, ...]  # the inputs that it reaches
    walked: frozenset[int]  # first results of the steps
    saved: tuple[Saved, ...]  # the values that it reads, in order
    owners: tuple[Info, ...]  # the inputs with gradients by which those came in


def plan_of(state: State, root: int, freed: frozenset) -> Plan | None:
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
    ends = [table[number] for number in sorted(reached)]
    ends = [info for info in ends if info.state.kind is INPUT]
    slots = {each.info.slot for each in saved}
    inputs = [info for info in table if info.state.kind is INPUT and info.grad]
    owners = {info.slot: info for info in reversed(inputs) if info.slot in slots}
    return Plan(tuple(ends), frozenset(walked), tuple(dict.fromkeys(saved)), tuple(owners.values()))


def leaves_of(tape: Any, plan: Plan) -> list[Any] | None:
    """The leaves that a backward gives gradients to; None if the ordinary walk must."""
    leaves = []
    sources = tape.sources
    for info in plan.ends:
        leaf = sources[info.tid]
        if not isinstance(leaf, recorder.TensorBase) or not leaf._requires_grad:
            return None
        extra = leaf._extra
        if extra is not None and (extra.hooks or extra.accumulated):
            return None
        leaves.append(leaf)
    return leaves if len(set(map(id, leaves))) == len(leaves) else None


def as_recorded(tape: Any, ends: tuple[Info, ...], leaves: list) -> bool:
    """Whether the leaves, and what was copied for an open recording, still hold what was recorded.

    A closed tape knows only the storages that it saved.
    """
    is_open = tape.recording is not None
    snapshots = tape.snapshots
    items = tape.items
    for info, leaf in zip(ends, leaves, strict=True):
        item = items[info.slot]
        if (
            leaf._storage is not item
            and info.tid not in snapshots
            and (is_open or item is not None)
        ):
            return False
        described, recorded = leaf._meta, info.meta
        if described is not recorded and (
            described.strides != recorded.strides or described.dtype is not recorded.dtype
        ):
            return False
    return not (is_open and snapshots and any(map(tape.snapshot_changed, snapshots)))
