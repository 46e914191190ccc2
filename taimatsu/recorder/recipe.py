"""Values that only a graph holds: kept in memory, or computed again if a backward asks for them.

Each final state has a ``Habit``: whether backward comes to its graphs. As long as it does, what
they save is written to memory (``Kept``). After graphs that nobody asked it is not: they get a
``Recipe``, which holds the memory that the recording read and can carry out that part of it
again. Who overwrites such memory, or shows it to NumPy, has the recipe carried out first
(``release``). Random numbers are drawn when they are recorded, or computed from recorded counters:
both repeat.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from typing import Any

from taimatsu.config import config
from taimatsu.recorder.base import registered
from taimatsu.recorder.number import plain
from taimatsu.recorder.state import State, program_for
from taimatsu.recorder.tape import LOCK, RUNNING, Tape
from taimatsu.storage import Storage, is_exposed

PATIENCE = 1  # graphs that must die unasked before a state recomputes
PATIENCE_LIMIT = 1024


class Habit:
    """How many graphs of a state in a row died unasked, and how many it takes to recompute.

    Twice as many after each recipe that had to be carried out.
    """

    __slots__ = ("unasked", "patience")

    def __init__(self) -> None:
        self.unasked = 0
        self.patience = PATIENCE


def habit_of(final: State) -> Habit:
    """The habit of the graphs that end in a state."""
    found = final.memo.get("habit")
    if found is None:
        found = final.memo.setdefault("habit", Habit())
    return found


class Kept:
    """Notes whether a backward asks for values that were kept in memory for it."""

    __slots__ = ("habit", "slots")

    def __init__(self, habit: Habit, slots: frozenset[int]) -> None:
        self.habit: Habit | None = habit
        self.slots = slots

    def wanted(self, tape: Tape) -> None:
        """A backward reads one of them."""
        habit, self.habit = self.habit, None
        if habit is not None:
            habit.unasked = 0
        tape.saved = None

    def __del__(self) -> None:
        if self.habit is not None:
            self.habit.unasked += 1


class Recipe:
    """How to compute again what a graph saves: the storages ``slots`` of a recording.

    Refers to memory that the recording read, not to the graph or to what it will compute.
    """

    __slots__ = ("final", "slots", "items", "lock", "done", "reader")

    def __init__(
        self, tape: Tape, final: State, slots: frozenset[int], items: Sequence[Any]
    ) -> None:
        self.done = False
        self.final = final
        self.slots = slots
        self.items: list[Any] = []
        self.lock = threading.RLock()
        self.reader = weakref.ref(tape)
        inputs = program_for(final, slots).inputs
        self.items = [
            item if slot in inputs or type(item) is not Storage else None
            for slot, item in enumerate(map(plain, items))
        ]
        for storage in self.items:
            if type(storage) is Storage:
                if not hasattr(storage, "readers"):
                    storage.readers = set()
                storage.readers.add(self.reader)

    def wanted(self, tape: Tape) -> None:
        """Computes the values that the graph still refers to.

        Whatever the executor raises leaves the recipe as it was.
        """
        with LOCK:
            self.lock.acquire()
            RUNNING.add(self)
        try:
            if self.done:
                return
            items = tape.items
            live = frozenset(slot for slot in self.slots if type(items[slot]) is Storage)
            program = program_for(self.final, live)
            buffers = {slot: self.items[slot].buffer for slot in program.inputs}
            made = registered.execute(program, buffers, self.items, False)
            for slot, buffer in made.items():
                items[slot].buffer = buffer
            habit = habit_of(self.final)
            habit.unasked = 0
            habit.patience = min(2 * habit.patience, PATIENCE_LIMIT)
            self._finish()
            tape.saved = None
        finally:
            RUNNING.discard(self)
            self.lock.release()

    def _finish(self) -> None:
        self.done = True
        for item in self.items:
            if type(item) is Storage:
                item.readers.discard(self.reader)
        self.items = []

    def __del__(self) -> None:
        if not self.done:
            habit_of(self.final).unasked += 1
            self._finish()


def may_recompute(
    final: State, saved: frozenset[int], items: Sequence[Any], old: dict[int, Any]
) -> bool:
    """Whether a recording may leave ``saved`` unwritten: backward does not seem to come, and what
    it would be computed from stays as it is until somebody writes there.
    """
    habit = habit_of(final)
    if habit.unasked < habit.patience or old or config.eager:
        return False
    inputs = program_for(final, saved).inputs
    return not any(is_exposed(items[slot]) for slot in inputs)


def release(storage: Storage) -> None:
    """Carries out the recipes that read a storage: its memory is about to change."""
    readers = getattr(storage, "readers", None)
    if not readers:
        return
    for reader in list(readers):
        tape = reader()
        recipe = None if tape is None else tape.saved
        if recipe is not None:
            recipe.wanted(tape)
