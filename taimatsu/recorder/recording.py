"""One thread's open recording: the values of one walk along the trie, until it is carried out."""

from __future__ import annotations

import itertools
import operator
import os
import sys
import threading
from typing import Any

import numpy as np

from taimatsu import dtypes
from taimatsu.config import config
from taimatsu.errors import OperationError
from taimatsu.ir.meta import meta as make_meta
from taimatsu.recorder import state as state_module
from taimatsu.recorder.base import TensorBase, counter_of, registered
from taimatsu.recorder.forget import forget
from taimatsu.recorder.state import INPUT, STATISTICS, WRITE, Info, State, build_graph
from taimatsu.storage import SNAPSHOT_LIMIT, Storage, finish, is_exposed, window

NO_GRAD, GRAD, INFERENCE = 0, 1, 2
LIVE_SETS = 64  # remembered by state; most have one or two

# Held by everything that changes a recording other than by one atomic step (the fast paths of
# apply.py), and while a recording is closed. Taken before any recording's own lock.
LOCK = threading.RLock()

CLOSED = State(None, "closed")  # where a recording stands while and after it is carried out


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
        finish()
        copy = self.items[self.final.infos()[tid].slot].buffer
        view = window(storage.buffer, described.shape, described.strides, offset)
        return not same_bits(view.reshape(-1), copy)


_tape_order = itertools.count()
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
        passing = False
        if not known and not for_write and is_exposed(storage):
            if tensor._meta.numel * storage.buffer.itemsize <= SNAPSHOT_LIMIT:
                return self.enter_snapshot(tensor)
            self.must_run = passing = True
        if known and storage.buffer is not None and not for_write and is_exposed(storage):
            self.must_run = passing = True
        description = tensor._meta
        whole = not known and tensor._offset == 0 and _fills(description, storage)
        slot, new = (storage.slot, None) if known else (self.state.slots, storage)
        number = self._step_input(tensor, description, slot, new, whole)
        if not passing:
            tensor._recording = self
            tensor._tid = number
        if self.mode == GRAD and tensor._extra is not None and tensor._extra.fragile:
            self.fragile.add(storage.slot)
        return number

    def enter_snapshot(self, tensor: TensorBase) -> int:
        """Copies what a recorded read sees of memory that others can change meanwhile."""
        source = tensor._meta
        finish()
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
        with LOCK:
            self.lock.acquire()
            final, self.state = self.state, CLOSED  # one step: the fast paths see either
            _running.add(self)
        try:
            if self.done or final is CLOSED:
                return
            self.tape.state = final
            try:
                self._execute(final, background)
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
            _running.discard(self)
            self.lock.release()
        if STATISTICS.live > state_module.TRIE_LIMIT:
            with LOCK:
                forget(_roots.values(), state_module.TRIE_LIMIT)

    def _execute(self, final: State, background: bool) -> None:
        items = self.items
        live = self._live(final)
        program = final.programs.get(live)
        if program is None:
            program = build_graph(final, live)
            if config.verify:
                program.verify()
            if len(final.programs) >= state_module.PROGRAM_LIMIT:
                final.programs.clear()
            final.programs[live] = program
            STATISTICS.programs += 1
        buffers = {}
        old = self.old
        for slot in program.inputs:
            buffer = old.get(slot)
            buffers[slot] = items[slot].buffer if buffer is None else buffer
        buffers.update(old)  # what is written in place keeps its memory
        made = registered.execute(program, buffers, items, background)
        for slot, buffer in made.items():
            items[slot].buffer = buffer
        STATISTICS.flushes += 1
        final.stamp = STATISTICS.flushes

    def _live(self, final: State) -> frozenset[int]:
        """The storages whose values somebody can still ask for."""
        slots, pick = final.owned()
        counts = tuple(map(sys.getrefcount, pick(self.items)))
        graph = sys.getrefcount(self.tape) > _TAPE_SOLE
        key = (counts, graph and self.tape.freed)
        known = final.memo.setdefault("live", {})
        found = known.get(key)
        if found is None:
            found = {slot for slot, n in zip(slots, counts, strict=True) if n > _SOLE}
            if graph:
                found |= saved_slots(final, self.tape.freed) & set(slots)
            found = frozenset(slot for slot in found if type(self.items[slot]) is Storage)
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
        tape.order = next(_tape_order)
        tape.state = final
        if sys.getrefcount(tape) > _TAPE_SOLE + 1:
            saved = saved_slots(final, tape.freed)
            tape.items = [
                item if slot in saved or type(item) is not Storage else None
                for slot, item in enumerate(self.items)
            ]
        tape.recording = None
        self.done = True
        self.tape = None
        self.items = []
        self.old = {}
        self.table = []
        self.table_state = CLOSED


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


def written_over(final: State) -> dict[int, Info]:
    """Results that an in-place form wrote over a whole tensor at once, and what they became:
    the saved result is the tensor's memory then, not a copy of it.
    """
    found = final.memo.get("written_over")
    if found is None:
        found = {}
        table = final.infos()
        for step in final.path():
            if step.kind is WRITE and step.attributes["takes_place"]:
                source, target = table[step.inputs[1]], step.results[0]
                if source.meta is target.meta and target.whole and source.gid == source.tid:
                    found[source.tid] = target
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


_running: set[Recording] = set()  # being carried out, by some thread


def _before_fork() -> None:
    """No other thread may be half-way through a program: the child would never see its end."""
    LOCK.acquire()
    for recording in tuple(_running):
        with recording.lock:
            pass


os.register_at_fork(before=_before_fork, after_in_parent=LOCK.release, after_in_child=LOCK.release)


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
