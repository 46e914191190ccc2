"""One thread's open recording: the values of one walk along the trie, until it is carried out."""

from __future__ import annotations

import operator
import sys
import threading
from typing import Any

import numpy as np

from taimatsu import dtypes, forks
from taimatsu.errors import OperationError
from taimatsu.ir.graph import Graph
from taimatsu.ir.meta import meta as make_meta
from taimatsu.recorder import state as state_module
from taimatsu.recorder.base import TensorBase, counter_of, registered
from taimatsu.recorder.forget import forget
from taimatsu.recorder.recipe import Ahead, Kept, Recipe, habit_of, may_recompute
from taimatsu.recorder.state import (
    INPUT,
    STATISTICS,
    Info,
    State,
    program_for,
    serving_program,
)
from taimatsu.recorder.tape import CLOSED, LOCK, RUNNING, Tape, kept_slots, saved_slots, tape_order
from taimatsu.storage import (
    SNAPSHOT_LIMIT,
    Storage,
    answer_interrupt,
    finish,
    finish_writing,
    is_exposed,
    window,
)

NO_GRAD, GRAD, INFERENCE = 0, 1, 2
LIVE_SETS = 64  # remembered by state; most have one or two

_roots: dict[Any, State] = {}


def root() -> State:
    """Where recordings begin: one trie per default dtype, which shape rules depend on."""
    default = dtypes.get_default_dtype()
    found = _roots.get(default)
    if found is None:
        found = _roots.setdefault(default, State(None, "root"))
    return found


class Recording:
    """Operations recorded and not carried out yet."""

    __slots__ = (
        "state",
        "mode",
        "items",
        "tape",
        "old",
        "done",
        "lock",
        "error",
        "begin",
        "must_run",
        "soft",
        "table",
        "table_state",
        "fragile",
    )

    def __init__(self, mode: int) -> None:
        self.state = root()
        self.mode = mode
        self.items: list = []  # storages and runtime numbers (scalars, offsets), by slot
        self.tape: Any = Tape(self)
        self.old: dict[int, np.ndarray] = {}  # slot -> buffer before a pending write
        self.done = False
        self.lock = threading.RLock()
        self.error: BaseException | None = None
        self.begin: Any = None  # the first operation and its call site
        self.must_run = False
        self.soft: State | None = None  # where the last backward ended
        self.table: list[Info] = []
        self.table_state = self.state
        self.fragile: set[int] = set()  # slots seen through views that no write may leave behind

    def infos(self) -> list[Info]:
        """What is known of the tensors so far, by number (kept up to date step by step)."""
        steps = []
        state = self.state
        while state is not self.table_state:
            steps.append(state)
            if state.parent is None:
                return self.state.infos()
            state = state.parent
        added = [info for step in reversed(steps) for info in step.results]
        # No call between the two: Ctrl-C finds both done or neither.
        self.table += added
        self.table_state = self.state
        return self.table

    # -- inputs ----------------------------------------------------------------------------

    def bring_in(self, tensor: TensorBase, for_write: bool = False) -> int:
        """The tensor's number in this recording; enters it as an input if it is not known.

        Under LOCK, so that no other thread carries the recording out in between.
        """
        if tensor._recording is self:
            return tensor._tid
        extra = tensor._extra
        if extra is not None and extra.base is not None:
            registered.refresh_view(tensor)
            if tensor._recording is self:
                return tensor._tid
        storage = tensor._storage
        owner = storage.recording
        if owner is not self and owner is not None and not owner.done:
            owner.run()  # another thread's: it makes the value, or has yet to read the present one
        if storage.buffer is None and owner is not self:
            raise _lost(storage)
        if self.state is CLOSED:
            return -1  # carried out meanwhile: the caller sees it and begins again
        known = owner is self
        description = tensor._meta
        passing = not for_write and storage.buffer is not None and is_exposed(storage)
        if passing:
            if not known and description.numel * storage.buffer.itemsize <= SNAPSHOT_LIMIT:
                return self.enter_snapshot(tensor)
            self.must_run = True
        whole = not known and tensor._offset == 0 and _fills(description, storage)
        slot, new = (storage.slot, None) if known else (self.state.slots, storage)
        number = self._step_input(tensor, description, slot, new, whole)
        if not passing:
            tensor._recording = self
            tensor._tid = number
        if extra is not None and extra.fragile and self.mode == GRAD:
            self.fragile.add(storage.slot)
        return number

    def enter_snapshot(self, tensor: TensorBase) -> int:
        """Copies what a recorded read sees of memory that others can change meanwhile."""
        source = tensor._meta
        finish_writing(tensor._storage.buffer)
        view = window(tensor._storage.buffer, source.shape, source.strides, tensor._offset)
        copy = Storage(np.array(view, order="C").reshape(-1))
        del view
        plain = make_meta(source.shape, source.dtype, None, False, source.wrapped)
        tid = self._step_input(tensor, plain, self.state.slots, copy, True)
        counter = counter_of(tensor)
        self.tape.versions[tid] = (counter, counter.version)
        self.tape.snapshots[tid] = (tensor._storage, source, tensor._offset)
        return tid

    def _step_input(
        self, tensor: Any, description: Any, slot: int, new: Storage | None, whole: bool
    ) -> int:
        grad = tensor._requires_grad
        key = (INPUT, description, slot if new is None else -1, grad, whole)
        state = self.state
        following = state.edge(key)
        if following is None:
            following = State(state, INPUT)
            offset = following.slots + (new is not None) if description.dynamic else -1
            following.add_result(slot, description, offset, grad, whole)
            if description.dynamic:
                following.add_argument()
            following = state.connect(key, following)
        items: tuple = () if new is None else (new,)
        if description.dynamic:
            items = (*items, tensor._offset)
        # No call among these: Ctrl-C finds all done or none.
        if new is not None:
            new.recording = self
            new.slot = slot
        self.state = following
        self.items += items
        tid = following.tid
        if grad:
            tape = self.tape
            tape.sources[tid] = tensor if tensor._tape is None else (tensor._tape, tensor._gid)
        counter = counter_of(tensor)
        if counter.version or counter is not tensor._storage:
            self.tape.versions[tid] = (counter, counter.version)
        return tid

    # -- carrying out ----------------------------------------------------------------------

    def run(self, background: bool = False) -> None:
        """Carries out what was recorded; afterwards every storage in use is concrete.

        With ``background`` other threads may still be at it: ``storage.finish`` waits for them.
        """
        habit = self.state.memo.get("habit")
        if habit is not None and habit.may_look_ahead and self is local.recording:
            registered.look_ahead(self)
        with LOCK:
            self.lock.acquire()
            final, self.state = self.state, CLOSED  # one step: the fast paths see either
            RUNNING.add(self)
        try:
            if self.done or final is CLOSED:
                return
            self.tape.state = final
            try:
                final = self._execute_ahead(final, background)
            except Exception as error:
                self.error = error
                self._restore()
                self._close(final)
                raise
            except BaseException:
                self.state = final  # interrupted: nothing was changed, it can run again
                raise
            self._close(final)
        finally:
            RUNNING.discard(self)
            self.lock.release()
        answer_interrupt()
        if STATISTICS.live > state_module.TRIE_LIMIT:
            with LOCK:
                forget(_roots.values(), state_module.TRIE_LIMIT)

    def _execute_ahead(self, final: State, background: bool) -> State:
        """Carries the recording out, if need be without a backward that was foreseen: an error of
        that belongs to the backward. Gives the state that was carried out.
        """
        ahead = self.tape.ahead
        if ahead is None:
            self._execute(final, background)
            return final
        try:
            if ahead.final is final:
                self._execute(final, background)
                return final
        except Exception:
            habit_of(ahead.start).deceived()
        self.tape.ahead = None
        if ahead.final is final:
            final = self.tape.state = ahead.start
            del self.items[final.slots :]
        self._execute(final, background)
        return final

    def _execute(self, final: State, background: bool) -> None:
        items = self.items
        live, saved = self._live(final)
        kept: Any = None
        if self.tape.ahead is not None:
            kept = Ahead(self.tape, self.tape.ahead, saved, items)
        elif saved and may_recompute(final, saved, items, self.old):
            kept = Recipe(self.tape, final, saved, items)
        elif saved:
            kept = Kept(habit_of(final), saved)
            live |= saved
        if type(kept) in (Recipe, Ahead):  # what they leave out is not to be written now
            program = program_for(final, live)
        else:
            program = serving_program(final, live, items)
        try:
            made = self._made(program, background)
        except Exception:
            own = program_for(final, live)
            if own is program:
                raise
            made = self._made(own, background)  # what nobody asks for may have failed
        for slot, buffer in made.items():
            if slot in live:
                items[slot].buffer = buffer
        STATISTICS.flushes += 1
        final.stamp = STATISTICS.flushes
        self.tape.saved, self.tape.ahead = kept, None

    def _made(self, program: Graph, background: bool) -> dict[int, np.ndarray]:
        """What a program makes of the present values."""
        items, old = self.items, self.old
        buffers = {}
        for slot in program.inputs:
            buffer = old.get(slot)
            buffers[slot] = items[slot].buffer if buffer is None else buffer
        buffers.update(old)  # what is written in place keeps its memory
        made: dict[int, np.ndarray] = registered.execute(program, buffers, items, background)
        return made

    def _live(self, final: State) -> tuple[frozenset[int], frozenset[int]]:
        """The storages whose values somebody can still ask for, and those that only a backward
        can.
        """
        slots, pick = final.owned()
        counts = tuple(map(sys.getrefcount, pick(self.items)))
        graph = sys.getrefcount(self.tape) > _TAPE_SOLE
        key = (counts, graph and self.tape.freed)
        known = final.memo.setdefault("live", {})
        found = known.get(key)
        if found is None:
            storages = {slot for slot in slots if type(self.items[slot]) is Storage}
            held = {slot for slot, n in zip(slots, counts, strict=True) if n > _SOLE}
            saved = saved_slots(final, self.tape.freed) if graph else frozenset()
            found = frozenset(held & storages), frozenset((saved & storages) - held)
            if len(known) > LIVE_SETS:
                known.clear()
            known[key] = found
        return found

    def _restore(self) -> None:
        """After a failure: storages are as they were before this recording."""
        for slot, buffer in self.old.items():
            storage = self.items[slot]
            if storage is not None:
                storage.buffer = buffer

    def _close(self, final: State) -> None:
        tape = self.tape
        tape.order = next(tape_order)
        tape.state = final
        if sys.getrefcount(tape) > _TAPE_SOLE + 1:
            tape.items = [None] * len(self.items)
            for slot in kept_slots(final, tape.freed):
                tape.items[slot] = self.items[slot]
        tape.recording = None
        self.done = True
        self.tape = None
        self.items = []
        self.old = {}
        self.table = []
        self.table_state = CLOSED


def _fills(description: Any, storage: Storage) -> bool:
    """Whether a tensor at offset 0 sees every element of the buffer exactly once."""
    size = storage.buffer.size if storage.buffer is not None else -1
    if description.numel != size or description.dynamic:
        return False
    if description.contiguous:
        return True
    expected = 1
    pairs = zip(description.strides, description.shape, strict=True)
    for stride, extent in sorted(p for p in pairs if p[1] != 1):
        if stride != expected:
            return False
        expected *= extent
    return True


def _lost(storage: Storage) -> Exception:
    """The error for a value whose computation failed."""
    error = storage.recording.error if storage.recording is not None else None
    return OperationError.make(
        "value",
        "a value that was computed",
        f"the recorded computation of it failed: {error}",
        "the first error says which call it was",
    )


def _sole_counts() -> tuple[int, int]:
    """What getrefcount gives for an object that only a recording's list (attribute) refers to."""
    probe = [Storage(np.empty(1)), None]
    in_list = next(map(sys.getrefcount, operator.itemgetter(0, 1)(probe)))
    recording = Recording(NO_GRAD)
    return in_list, sys.getrefcount(recording.tape)


_SOLE, _TAPE_SOLE = _sole_counts()


def _before_fork() -> None:
    """No other thread may be half-way through a program: the child would never see its end."""
    LOCK.acquire()
    for recording in tuple(RUNNING):
        with recording.lock:
            pass


forks.register(_before_fork, LOCK.release, LOCK.release, rank=forks.OUTERMOST)


class Local(threading.local):
    """Per thread: the open recording and the grad mode."""

    recording: Any = None
    mode: int = GRAD


local = Local()


def current() -> Recording:
    """This thread's open recording; a new one if there is none."""
    recording = local.recording
    if recording is None or recording.state is CLOSED:
        recording = Recording(local.mode)
        local.recording = recording
    return recording


def flush() -> None:
    """Carries out what this thread has recorded so far."""
    recording = local.recording
    if recording is not None and not recording.done:
        recording.run(background=True)


def is_idle() -> bool:
    """Whether this thread has recorded nothing that is still to be carried out."""
    recording = local.recording
    return recording is None or recording.done or recording.state.depth == 0


def set_mode(mode: int) -> None:
    """Sets the thread's grad mode (NO_GRAD, GRAD or INFERENCE)."""
    local.mode = mode
    recording = local.recording
    if recording is not None:
        recording.mode = mode


def materialize(tensor: TensorBase) -> np.ndarray:
    """The tensor's storage buffer, after carrying out what it waits for."""
    storage = tensor._storage
    while storage.buffer is None:
        owner = storage.recording
        if owner is None or owner.done:
            raise _lost(storage)
        owner.run()
    finish()
    return storage.buffer


def value(tensor: TensorBase) -> np.ndarray:
    """The tensor's values as a NumPy array on its memory: for reading at once only."""
    buffer = materialize(tensor)
    described = tensor._meta
    return window(buffer, described.shape, described.strides, tensor._offset)
