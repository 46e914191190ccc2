"""Macro edges: a known backward or optimizer step is replayed, not walked.

A call that only records operations, and whose control flow follows from its key and the state it
starts from, always takes the same steps. Its first run is captured: the state it ends in, which
of its storages outlive it, how its runtime numbers follow from those that came in. Later runs
move there at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from taimatsu.config import config
from taimatsu.recorder.base import TensorBase, counter_of, make_tensor
from taimatsu.recorder.number import Number
from taimatsu.recorder.recipe import release
from taimatsu.recorder.recording import CLOSED, LOCK, Recording, current
from taimatsu.recorder.state import State
from taimatsu.storage import Storage, is_exposed

EFFECTS_PER_KEY = 4  # macros kept for one key under different guards


class Effect:
    """What one captured call did."""

    __slots__ = (
        "final",
        "template",
        "fresh",
        "constants",
        "numbers",
        "results",
        "written",
        "guards",
    )

    final: State
    template: list[Any]  # the new slots' content where it is the same each time
    fresh: list[int]  # positions among them of storages that outlive the call
    constants: list[tuple[int, np.ndarray]]
    numbers: list[tuple[int, Callable]]
    results: list[tuple[Any, int, int]]  # (Meta, slot, number) of each tensor handed back
    # (position among the tensors, its number, writes, who wrote last) of each written one
    written: list[tuple[int, int, int, Any]]
    guards: list[Callable]


def call(
    key: tuple,
    tensors: Sequence[TensorBase],
    numbers: Sequence[Any] | None,
    function: Callable[[Sequence[Any]], Sequence[TensorBase]],
) -> list[Any]:
    """``function(numbers)``, replayed where it is known.

    ``tensors`` are all that it uses or writes in place; ``key`` and the state decide its control
    flow. ``numbers`` are the runtime numbers that it takes (None: those of the recording, by
    slot). It gives tensors whose storages are fresh.
    """
    if config.eager:
        return list(function(_given(current(), numbers)))
    with LOCK:
        recording = current()
        places = [t._tid if t._recording is recording else recording.bring_in(t) for t in tensors]
        copied = any(t._recording is not recording for t in tensors)  # of memory that NumPy sees
        if copied or recording is not current() or recording.must_run:
            return list(function(_given(current(), numbers)))
        state = recording.state
        table = state.memo.setdefault("macros", {})
        known = table.setdefault((key, recording.mode, *places), [])
        given = _given(recording, numbers)
        for effect in known:
            if all(guard(given) for guard in effect.guards):
                made = _replay(effect, recording, tensors, given)
                if made is not None:
                    return made
        return _capture(known, recording, tensors, given, function)


def _given(recording: Recording, numbers: Sequence[Any] | None) -> Sequence[Any]:
    return recording.items if numbers is None else numbers


def wrap(values: Sequence[Any], guards: list) -> list[Any]:
    """The numbers among ``values`` as ``Number``s that are known by position."""

    def rule_of(position: int) -> Callable:
        return lambda given: given[position]

    return [
        Number(v, rule_of(i), guards) if isinstance(v, (int, float, complex)) else v
        for i, v in enumerate(values)
    ]


def _capture(
    known: list[Effect],
    recording: Recording,
    tensors: Sequence[TensorBase],
    given: Sequence[Any],
    function: Callable,
) -> list[Any]:
    start = recording.state
    versions = [counter_of(t).version for t in tensors]
    guards: list[Callable] = []
    made = list(function(wrap(given, guards)))
    if recording.done or recording.state is CLOSED or len(known) >= EFFECTS_PER_KEY:
        _settle_numbers(recording, start)
        return made
    effect = Effect()
    effect.final = recording.state
    effect.guards = guards
    # One object for all dead slots: reference counts, by which live sets are found again, repeat.
    dead = object()
    effect.template = []
    effect.fresh, effect.constants, effect.numbers = [], [], []
    fresh = {t._storage.slot for t in made}
    whole = all(t._recording is recording and t._extra is None for t in made)
    for slot in range(start.slots, effect.final.slots):
        whole = _note(effect, recording.items[slot], slot in fresh, dead) and whole
    _settle_numbers(recording, start)
    effect.results = [(t._meta, t._storage.slot, t._tid) for t in made]
    effect.written = []
    for position, (tensor, before) in enumerate(zip(tensors, versions, strict=True)):
        counter = counter_of(tensor)
        bumps = counter.version - before
        if bumps:
            effect.written.append((position, tensor._tid, bumps, counter.writer))
    if whole and not recording.must_run:
        known.append(effect)
    return made


def _note(effect: Effect, item: Any, fresh: bool, dead: object) -> bool:
    """Notes how the next slot is filled again; False if the call cannot be replayed."""
    position = len(effect.template)
    effect.template.append(dead)
    if type(item) is Number:
        effect.numbers.append((position, item.rule))
    elif type(item) is not Storage:
        effect.template[position] = item
    elif fresh:
        effect.fresh.append(position)
    elif item.buffer is not None:
        effect.constants.append((position, item.buffer))
    else:
        return sys.getrefcount(item) <= _HELD_BY_CAPTURE
    return True


_HELD_BY_CAPTURE = 3  # the recording's list, this function's argument, getrefcount's


def _settle_numbers(recording: Recording, start: State) -> None:
    items = recording.items
    for slot in range(start.slots, len(items)):
        if type(items[slot]) is Number:
            items[slot] = items[slot].value


def _replay(
    effect: Effect, recording: Recording, tensors: Sequence[TensorBase], given: Sequence[Any]
) -> list[Any] | None:
    for position, *_ in effect.written:
        storage = tensors[position]._storage
        if storage.buffer is not None:
            if is_exposed(storage):
                return None
            release(storage)
    items = effect.template.copy()
    first = recording.state.slots
    for position in effect.fresh:
        items[position] = _pending(recording, first + position)
    for position, buffer in effect.constants:
        items[position] = _constant(recording, first + position, buffer)
    for position, rule in effect.numbers:
        items[position] = rule(given)
    recording.state = effect.final
    recording.items += items
    for position, number, bumps, writer in effect.written:
        _mark_written(recording, tensors[position], number, bumps, writer)
    made = []
    for described, slot, number in effect.results:
        tensor = make_tensor(described, items[slot - first])
        tensor._recording = recording
        tensor._tid = number
        made.append(tensor)
    return made


def _pending(recording: Recording, slot: int) -> Storage:
    storage = Storage.__new__(Storage)
    storage.buffer = None
    storage.recording = recording
    storage.version = 0
    storage.slot = slot
    return storage


def _constant(recording: Recording, slot: int, buffer: np.ndarray) -> Storage:
    storage = Storage(buffer)
    storage.recording = recording
    storage.slot = slot
    return storage


def _mark_written(
    recording: Recording, tensor: TensorBase, number: int, bumps: int, writer: Any
) -> None:
    storage = tensor._storage
    if storage.buffer is not None:
        recording.old[storage.slot] = storage.buffer
        storage.buffer = None
    counter = counter_of(tensor)
    counter.version += bumps
    counter.writer = writer
    tensor._recording = recording
    tensor._tid = number
