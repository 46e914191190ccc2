"""The autograd graph of one recording, and what its backward reads."""

from __future__ import annotations

import itertools
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from taimatsu.recorder.state import WRITE, Info, State
from taimatsu.storage import Storage, finish_writing, window

if TYPE_CHECKING:
    from taimatsu.recorder.recording import Recording

# Held by everything that changes a recording other than by one atomic step (the fast paths of
# apply.py), and while a recording is closed. Taken before any recording's own lock.
LOCK = threading.RLock()

CLOSED = State(None, "closed")  # where a recording stands while and after it is carried out

RUNNING: set[Any] = set()  # recordings and recipes being carried out, by some thread


class Tape:
    """The autograd graph of one recording: outlives it while a tensor refers to it.

    ``state`` describes the steps; the rest are this run's values. ``sources`` maps an input's
    number to its leaf tensor, or to (tape, number) of the graph that computed it; ``snapshots``
    maps a copied input's number to the memory it was copied from.
    """

    __slots__ = (
        "state",
        "items",
        "sources",
        "versions",
        "snapshots",
        "contexts",
        "hooks",
        "freed",
        "order",
        "lines",
        "recording",
        "ahead",
        "saved",
        "__weakref__",
    )

    def __init__(self, recording: Recording) -> None:
        self.recording: Any = recording  # while it is open
        self.state: State = CLOSED  # the last one, once closed
        self.items: list = recording.items
        self.sources: dict[int, Any] = {}
        self.versions: dict[int, tuple[Any, int]] = {}  # input -> its counter, version then
        self.snapshots: dict[int, tuple[Storage, Any, int]] = {}  # storage, Meta, offset
        self.contexts: dict[int, Any] = {}  # custom functions' ctx, by first result
        self.hooks: dict[Any, Any] = {}  # number or ("node", number) -> hooks
        self.freed: frozenset[int] = frozenset()  # numbers of first results of freed steps
        self.order = sys.maxsize  # rank among closed tapes: a tape depends on lower ones only
        self.lines: dict[int, str] = {}  # anomaly mode: where each step was recorded
        self.ahead: Any = None  # Foreseen: a backward recorded before it was asked for
        self.saved: Any = (
            None  # Kept, Recipe or Ahead: values that only this graph holds, once closed
        )

    def infos(self) -> list[Info]:
        """What is known of the tensors, by number."""
        if self.recording is None:
            return self.state.final_infos()
        return self.final.infos()

    @property
    def final(self) -> State:
        """The last state: the present one while the recording is open."""
        if self.recording is None:
            return self.state
        state = self.recording.state
        return self.state if state is CLOSED else state

    def snapshot_changed(self, tid: int) -> bool:
        """Whether the memory that an input was copied from holds other values by now."""
        storage, described, offset = self.snapshots[tid]
        if storage.buffer is None:
            return True
        finish_writing(storage.buffer)
        copy = self.items[self.infos()[tid].slot].buffer
        view = window(storage.buffer, described.shape, described.strides, offset)
        return not same_bits(view.reshape(-1), copy)


tape_order = itertools.count()


def saved_slots(final: State, freed: frozenset[int]) -> frozenset[int]:
    """The storages that the graph's backward would read (remembered by state)."""
    key = ("saved", freed)
    found = final.memo.get(key)
    if found is None:
        table = final.infos()
        slots: set[int] = set()
        for step in final.graph_steps():
            if step.results[0].tid not in freed:
                slots.update(table[tid].slot for tid in saved_tensors(final, step, table))
        found = frozenset(slots)
        final.memo[key] = found
    return found


def kept_slots(final: State, freed: frozenset[int]) -> tuple[int, ...]:
    """What a closed tape keeps: those storages, and all runtime numbers (remembered by state)."""
    key = ("kept", freed)
    found = final.memo.get(key)
    if found is None:
        dropped = {info.slot for info in final.final_infos()} - saved_slots(final, freed)
        found = tuple([slot for slot in range(final.slots) if slot not in dropped])
        final.memo[key] = found
    return found


def written_over(final: State) -> dict[int, Info]:
    """Results that an in-place form wrote over a whole tensor at once, and what they became:
    the saved result is the tensor's memory then, not a copy of it.
    """
    state, steps = final, []
    found = state.memo.get("written_over")
    while found is None and state.parent is not None:  # what is known of the nearest state before
        steps.append(state)
        state = state.parent
        found = state.memo.get("written_over")
    found = found or {}
    table: list[Info] | None = None
    for step in reversed(steps):
        if step.kind is WRITE and step.attributes["takes_place"]:
            table = final.infos() if table is None else table
            source, target = table[step.inputs[1]], step.results[0]
            if source.meta is target.meta and target.whole and source.gid == source.tid:
                found = {**found, source.tid: target}
    final.memo["written_over"] = found
    return found


def saved_tensors(final: State, step: State, table: list[Info]) -> list[int]:
    """The numbers of the tensors whose values the step's gradient rule reads."""
    names = saved_names(step, table)
    saved = []
    for name, reference in zip(input_names(step), step.inputs, strict=True):
        if type(reference) is int and name in names:
            saved.append(reference)
    wanted = [info for info in step.results if saves_result(names, info)]
    if wanted:
        moved = written_over(final)
        saved.extend(moved.get(info.tid, info).tid for info in wanted)
    return saved


def saves_result(names: set[str], info: Info) -> bool:
    """Whether a result's value is saved: ``"out"`` names all of them, ``"out[1]"`` one."""
    return "out" in names or f"out[{info.index}]" in names


def saved_names(step: State, table: list[Info]) -> set[str]:
    """The names that the operation says its gradient needs, for the inputs that want one."""
    saves = step.operation.saves
    if not isinstance(saves, dict):
        return set(saves)
    names: set[str] = set()
    for name, reference in zip(input_names(step), step.inputs, strict=True):
        if type(reference) is int and table[reference].grad:
            names.update(saves.get(name, ()))
    return names


def input_names(step: State) -> tuple[str, ...]:
    """A name for each input: the parameters of infer(), the last one repeated after ``*``."""
    names = step.operation.parameters
    if names and names[-1] == "*":
        fixed = names[:-1]
        return fixed + ("*",) * (len(step.inputs) - len(fixed))
    return names[: len(step.inputs)]


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two flat arrays of one dtype hold the same values, zeros' signs and NaNs included."""
    if a.itemsize <= 8:
        kind = f"u{a.itemsize}"
        a, b = np.ascontiguousarray(a).view(kind), b.view(kind)
    return bool(np.array_equal(a, b))
