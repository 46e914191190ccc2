"""In-place writes: the storage gets a new value, the tensor a new place in the graph."""

from __future__ import annotations

import sys
from typing import Any

from taimatsu.config import config
from taimatsu.errors import OperationError
from taimatsu.recorder.apply import call_site, place
from taimatsu.recorder.base import TensorBase, counter_of, extra_of, registered
from taimatsu.recorder.recipe import release
from taimatsu.recorder.recording import CLOSED, GRAD, LOCK, Recording, current, local
from taimatsu.recorder.state import WRITE, State
from taimatsu.storage import is_exposed


def write(target: TensorBase, source: TensorBase, name: str) -> None:
    """Writes ``source`` (same shape and dtype) over what ``target`` sees.

    Values: the storage's new value is the old one with this region replaced. Gradients: the
    target (and, for a view, its base and the base's other views) take their place from ``source``.
    """
    grad = local.mode == GRAD and (source._requires_grad or target._requires_grad)
    base = None
    if grad:
        base = target._extra.base if target._extra is not None else None
        if base is not None:
            _refuse_fragile(target, name)
        _let_siblings_go(target, base)
    elif _leaves_views_behind(target._storage):
        local.recording.run()  # they learn of it when they next enter a recording
    recording, site = _record_write(target, source, grad and base is None)
    counter = counter_of(target)
    counter.version += 1
    counter.writer = f"{name}_() at {site}"
    if grad and base is not None:
        registered.rebase(target, base, source)
    elif grad:
        extra_of(target).rebased += 1
    if config.eager or recording.must_run:
        recording.run()


def _record_write(
    target: TensorBase, source: TensorBase, take_place: bool
) -> tuple[Recording, str]:
    """Enters a write; gives the recording and the line where such a write was first made."""
    while True:
        recording = current()
        with LOCK:
            storage = target._storage
            known = source._recording is recording
            first = source._tid if known else recording.bring_in(source)
            if storage.buffer is not None and is_exposed(storage):
                recording.must_run = True
            known = target._recording is recording
            tid = target._tid if known else recording.bring_in(target, for_write=True)
            state = recording.state
            if state is CLOSED or recording.done:
                continue
            counted = counter_of(target) is storage
            key = (WRITE, take_place, counted, tid, first)
            following = state.edge(key)
            if following is None:
                following = _extend_write(recording, state, tid, first, take_place, counted)
                following = state.connect(key, following)
            if storage.buffer is not None:
                release(storage)
                recording.old[storage.slot] = storage.buffer
                storage.buffer = None
            recording.state = following
            if take_place:
                place(target, recording, following)
            else:
                target._recording = recording
                target._tid = following.tid
            return recording, following.site


def _extend_write(
    recording: Recording, state: State, tid: int, source: int, take_place: bool, counted: bool
) -> State:
    table = recording.infos()
    old, new = table[tid], table[source]
    made = State(state, WRITE)
    made.inputs = (tid, source)
    made.attributes = {"counted": counted, "takes_place": take_place}
    grad, gid = old.grad, old.gid
    if take_place:
        grad, gid = new.grad, new.gid
    made.add_result(old.slot, old.meta, old.offset, grad, old.whole, gid)
    made.site = call_site()
    return made


def _leaves_views_behind(storage: Any) -> bool:
    """Whether the open recording knows views of it that lose their place by any write."""
    recording = local.recording
    if recording is None or recording is not storage.recording:
        return False
    return storage.slot in recording.fragile


def _let_siblings_go(target: TensorBase, base: TensorBase | None) -> None:
    """Carries the recording out if other tensors see the storage that gets a new place.

    They learn of it when they next enter a recording (``refresh_view``); a tensor that the open
    recording knows already would not.
    """
    storage = target._storage
    own = 1 if base is None else 2
    held = sys.getrefcount(storage) - 2  # this variable and getrefcount's argument
    recording = storage.recording
    if recording is not None and not recording.done:
        held -= 1
        if held > own:
            recording.run()
    elif held > own and local.recording is not None:
        local.recording.run()


def _refuse_fragile(target: TensorBase, name: str) -> None:
    """PyTorch's errors for in-place writes through views that cannot be differentiated."""
    extra: Any = target._extra  # a view has one
    base = extra.base
    if base._requires_grad and base._tape is None:
        raise OperationError.make(
            name + "_",
            "a view of a leaf Variable that requires grad is being used in an in-place operation.",
            "",
            "write under torch.no_grad(), or on a clone()",
        )
    if extra.fragile:
        raise fragile_error(name + "_", extra.fragile, "is being modified inplace")


def fragile_error(name: str, why: str, what: str) -> Exception:
    """The error for a view that cannot be given a new place in the graph."""
    if why == "no_grad":
        return OperationError.make(
            name,
            f"A view was created in no_grad mode and {what} with grad mode enabled.",
            "",
            "make the view inside the same mode, or clone() it before writing",
        )
    return OperationError.make(
        name,
        f"Output 0 of {why} is a view and {what}. This view is the output of a function that "
        "returns multiple views. Such functions do not allow the output views to be modified "
        "inplace.",
        "",
        "replace the in-place operation by an out-of-place one",
    )
