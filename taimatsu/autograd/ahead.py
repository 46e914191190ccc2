"""Gradients computed with the forward pass, where a backward has come each time.

A program that looks at its loss before ``backward()`` has the forward pass carried out by then, and
everything that backward reads has to be written to memory. If backward came the last times, it is
recorded before the look and carried out with the forward pass, as one program. ``backward()`` then
hands its gradients over, after the checks that it would have made; whoever wants anything else of
the graph gets it by the recipe (``recorder/recipe.py``).
"""

from __future__ import annotations

from typing import Any

from taimatsu import recorder
from taimatsu.autograd import anomaly
from taimatsu.autograd.engine import Walk, accumulate, check_saved, free, own
from taimatsu.autograd.modes import no_grad
from taimatsu.autograd.plans import Plan, as_recorded, leaves_of, plan_of
from taimatsu.ops.filling import filled
from taimatsu.recorder.recipe import Ahead, Foreseen, habit_of
from taimatsu.recorder.state import State, program_for
from taimatsu.recorder.tape import saved_slots


class _Collecting(Walk):
    """A walk that hands gradients to nobody, and frees nothing."""

    def __init__(self, numbers: Any) -> None:
        super().__init__(True, False, None)
        self.numbers = numbers
        self.collected: dict[int, Any] = {}  # by the leaf's id

    def run(self) -> None:
        super().run()
        self.numbers = None

    def deliver_leaf(self, leaf: Any, gradient: Any) -> None:
        self.collected[id(leaf)] = own(gradient, leaf._meta)


def look_ahead(recording: Any) -> None:
    """Records the backward that is expected, unless anything about it is unusual.

    Called by the recording's own thread, before it is carried out. If a rule raises, then what was
    recorded is taken back: the error is for ``backward()`` to meet.
    """
    tape, start = recording.tape, recording.state
    if recording.must_run or recording.done or tape.freed or tape.ahead:
        return
    if tape.hooks or tape.contexts or anomaly.is_anomaly_enabled():
        return
    read = _read(start)
    if not read.isdisjoint(recording.old):
        return  # nothing could be computed again
    if any(recorder.is_exposed(recording.items[slot]) for slot in read):
        return
    habit = habit_of(start)
    plan = plan_of(start, habit.root, tape.freed)
    leaves = None if plan is None else leaves_of(tape, plan)
    if leaves is None or not as_recorded(tape, plan.ends, leaves):  # type: ignore[union-attr]
        return
    try:
        gradients = _recorded(recording, habit.root, leaves)
    except Exception:
        gradients = []
    if recording.done:
        return  # it became too long: the states remember
    if gradients and all(g._recording is recording for g in gradients):
        tape.ahead = Foreseen(start, recording.state, gradients)
        return
    habit.deceived()
    _take_back(recording, start)


def _read(state: State) -> frozenset[int]:
    """The slots of memory that came in which the graph saved, or saves what follows from
    (remembered).
    """
    found = state.memo.get("read")
    if found is None:
        saved = saved_slots(state, frozenset())
        owned, _ = state.owned()
        inputs = program_for(state, saved).inputs
        found = state.memo["read"] = frozenset(inputs) | saved.difference(owned)
    return found


def _recorded(recording: Any, number: int, leaves: list[Any]) -> list[Any]:
    """The leaves' gradients of a result, in the recording."""
    info = recording.infos()[number]
    root = recorder.make_tensor(info.meta, recording.items[info.slot])
    root._recording, root._tid = recording, info.tid
    root._requires_grad, root._tape, root._gid = True, recording.tape, number

    def record(numbers: Any) -> list[Any]:
        walk = _Collecting(numbers)
        walk.start(root, filled(tuple(info.meta.shape), 1, info.meta.dtype))
        walk.run()
        return [walk.collected.pop(id(leaf)) for leaf in leaves]

    with no_grad():
        return recorder.macro.call(("ahead", number), [root], None, record)


def _take_back(recording: Any, start: State) -> None:
    with recorder.LOCK:
        if not recording.done:
            recording.table, recording.table_state = start.infos(), start
            recording.state = start
            del recording.items[start.slots :]


def handed_over(root: Any, plan: Plan, leaves: list[Any]) -> bool:
    """Gives the leaves what was computed ahead for them; False if that does not serve."""
    tape = root._tape
    ahead = tape.saved
    if type(ahead) is not Ahead or ahead.done or ahead.root != root._gid:
        return False
    for saved in plan.saved:
        check_saved(tape, saved)
    if any(_is_another(tape, info.tid, info.slot) for _, info, _ in plan.saved):
        return False
    tape.saved = None
    with no_grad():
        for leaf, gradient in zip(leaves, ahead.take(), strict=True):
            accumulate(leaf, gradient, False)
    free(tape, plan.walked)
    return True


def _is_another(tape: Any, number: int, slot: int) -> bool:
    """Whether backward would read another value than was recorded: a leaf's that has got other
    data, or one of memory that NumPy sees and has changed.
    """
    if number in tape.snapshots:
        return bool(tape.snapshot_changed(number))
    leaf = tape.sources.get(number)
    return isinstance(leaf, recorder.TensorBase) and leaf._storage is not tape.items[slot]
