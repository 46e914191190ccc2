"""Values that only a graph holds: kept in memory, or computed again if a backward asks for them.

Each final state has a ``Habit``: whether backward comes to its graphs. As long as it does, what
they save is written to memory (``Kept``). After graphs that nobody asked it is not: they get a
``Recipe``, which holds the memory that the recording read and can carry out that part of it
again. Who overwrites such memory, or shows it to NumPy, has the recipe carried out first
(``release``). Random numbers are drawn when they are recorded, or computed from recorded counters:
both repeat.

Where a backward has come each time, its gradients are computed with the forward pass, ahead of
being asked for (``Ahead``, which is a recipe for all else that the graph saves).
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

from taimatsu.config import config
from taimatsu.recorder.base import registered
from taimatsu.recorder.number import plain
from taimatsu.recorder.state import State, program_for
from taimatsu.recorder.tape import LOCK, RUNNING, Tape, saved_slots
from taimatsu.storage import Storage, is_exposed

PATIENCE = 1  # graphs that must die unasked before a state recomputes
PATIENCE_LIMIT = 1024
TRUST = 1  # backwards in a row that it takes to compute ahead
TRUST_LIMIT = 32


class Habit:
    """How many graphs of a state in a row died unasked, and how many it takes to recompute.

    Twice as many after each recipe that had to be carried out. Also how many in a row had a
    backward from one and the same result, ``root``, and how many it takes to compute its gradients
    ahead: twice as many after each time that they were not asked for.
    """

    __slots__ = ("unasked", "patience", "root", "asked", "trust")

    def __init__(self) -> None:
        self.unasked = 0
        self.patience = PATIENCE
        self.root = -1
        self.asked = 0
        self.trust = TRUST

    def died(self) -> None:
        """A graph went without a backward."""
        self.unasked += 1
        self.asked = 0

    def came(self, root: int) -> None:
        """A backward from a result came to a closed graph."""
        self.asked = self.asked + 1 if root == self.root else 1
        self.root = root

    def deceived(self) -> None:
        """What was computed ahead was of no use."""
        self.asked = 0
        self.trust = min(2 * self.trust, TRUST_LIMIT)

    @property
    def may_look_ahead(self) -> bool:
        return self.asked >= self.trust


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
            self.habit.died()


class Recipe:
    """How to compute again what a graph saves: the storages ``slots`` of a recording.

    Refers to memory that the recording read, not to the graph or to what it will compute.
    """

    __slots__ = ("final", "slots", "items", "lock", "done", "reader", "watched")

    def __init__(
        self, tape: Tape, final: State, slots: frozenset[int], items: Sequence[Any]
    ) -> None:
        self.done = False
        self.final = final
        self.slots = slots
        self.items: list[Any] = []
        self.watched: list[Storage] = []
        self.lock = threading.RLock()
        self.reader = weakref.ref(tape)
        inputs = program_for(final, slots).inputs
        self.items = [
            item if slot in inputs or type(item) is not Storage else None
            for slot, item in enumerate(map(plain, items))
        ]
        for storage in self.items:
            if type(storage) is Storage:
                self._watch(storage)

    def _watch(self, storage: Storage) -> None:
        """Has whoever changes the storage's memory carry this out before."""
        if not hasattr(storage, "readers"):
            storage.readers = set()
        self.watched.append(storage)
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
            made = registered.execute(program, buffers, self.items, False) if live else {}
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
        for storage in self.watched:
            storage.readers.discard(self.reader)
        self.watched = []
        self.items = []

    def __del__(self) -> None:
        if not self.done:
            habit_of(self.final).died()
            self._finish()


class Foreseen(NamedTuple):
    """What was recorded of a backward before it was asked for."""

    start: State  # where it was foreseen
    final: State
    gradients: list[Any]  # of the leaves that it reaches, in the order of its plan


class Ahead(Recipe):
    """Gradients computed with the forward pass; a recipe for whatever else the graph saves.

    They serve until the recipe is carried out: that is done before any memory changes that they
    follow from.
    """

    __slots__ = ("foreseen",)

    def __init__(
        self, tape: Tape, foreseen: Foreseen, slots: frozenset[int], items: Sequence[Any]
    ) -> None:
        self.foreseen = foreseen
        super().__init__(tape, foreseen.final, slots, items)
        for slot in saved_slots(foreseen.final, tape.freed) - slots:
            self._watch(items[slot])

    @property
    def root(self) -> int:
        """The result whose gradients these are."""
        return habit_of(self.foreseen.start).root

    def take(self) -> list[Any]:
        """The gradients, for the backward that they were made for."""
        habit = habit_of(self.foreseen.start)
        habit.came(habit.root)
        self._finish()
        return self.foreseen.gradients

    def wanted(self, tape: Tape) -> None:
        if not self.done:
            habit_of(self.foreseen.start).deceived()
        super().wanted(tape)

    def __del__(self) -> None:
        if not self.done:
            habit_of(self.foreseen.start).deceived()
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
    """Carries out the recipes that read a storage: its memory is about to change. What was found
    right about index values there is forgotten.
    """
    storage.checked = None
    readers = getattr(storage, "readers", None)
    if not readers:
        return
    for reader in list(readers):
        tape = reader()
        recipe = None if tape is None else tape.saved
        if recipe is not None:
            recipe.wanted(tape)
