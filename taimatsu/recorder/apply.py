"""Recording one operation: the fast paths of the hot operators, and the general path."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from taimatsu.config import config
from taimatsu.dtypes import INTEGER
from taimatsu.errors import OperationError
from taimatsu.ir.meta import Meta
from taimatsu.ir.meta import meta as make_meta
from taimatsu.recorder.base import TensorBase, counter_of, extra_of, make_tensor, registered
from taimatsu.recorder.number import Number, plain
from taimatsu.recorder.recording import CLOSED, GRAD, LOCK, Recording, current, local
from taimatsu.recorder.state import HARD_BOUND, OPERATION, SOFT_BOUND, VIEW, Info, Missing, State
from taimatsu.storage import Storage, finish_writing, is_exposed, window

_PACKAGE = str(Path(__file__).resolve().parent.parent)
_own_code: dict[int, Any] = {}  # the package's functions, by id
_NONE: dict[str, Any] = {}
_NUMBERS = (int, float, complex)
_new_storage = Storage.__new__
_new = object.__new__


def call_site() -> str:
    """``file:line`` of the innermost frame outside the package."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if id(code) not in _own_code:
            name = code.co_filename
            if name.startswith(_PACKAGE):
                _own_code[id(code)] = code
            elif not name.startswith("<"):
                return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


def apply(operation: Any, inputs: tuple, attributes: dict[str, Any] = _NONE) -> Any:
    """Records one operation and gives its result (a tuple where it has several).

    ``inputs`` are tensors, Python numbers or None; ``attributes`` must be hashable.
    """
    recording = local.recording
    if recording is None or recording.state is CLOSED:
        recording = current()
    if recording.begin is None:
        recording.begin = (operation, call_site())
    arguments: list = []
    key = _key(recording, operation, inputs, attributes, arguments)
    if operation.checked:
        _check_values(operation, inputs, attributes)
    state = recording.state
    if state is CLOSED or recording.done:
        return _again(operation, inputs, attributes)  # carried out while inputs came in
    following = state.edges.get(key)
    if following is None:
        following = _slow(recording, operation, inputs, attributes, key)
        if following is None:
            return _again(operation, inputs, attributes)
    results: Any
    if operation.outputs == 1:
        results = _result(recording, following.results[0])
        items = [results._storage, *arguments]
    else:
        results = tuple([_result(recording, info) for info in following.results])
        items = [*[each._storage for each in results], *arguments]
    if type(state.edges) is Missing:
        with LOCK:
            if recording.state is not state:
                return _again(operation, inputs, attributes)
            recording.state = following
            recording.items += items
    else:
        if recording.state is not state:
            return _again(operation, inputs, attributes)  # another thread carried it out
        recording.state = following
        recording.items += items
    if config.eager or recording.must_run:
        recording.run()
    return results


def _again(operation: Any, inputs: tuple, attributes: dict) -> Any:
    """Records the operation where the recording was carried out meanwhile.

    Nobody else can do so now: threads that share inputs do not take them from one another forever.
    """
    with LOCK:
        return apply(operation, inputs, attributes)


def _key(
    recording: Recording, operation: Any, inputs: tuple, attributes: dict, arguments: list
) -> tuple:
    """The edge's key; what is not in the key (runtime numbers) goes to ``arguments``."""
    key: list[Any] = [operation, recording.mode]
    for given in attributes.values():
        kind = given.__class__
        if kind is float:
            key.append((kind, given, str(given)) if given == 0.0 else (kind, given))
        else:
            key.append((kind, given) if kind is bool else given)
    for given in inputs:
        if isinstance(given, TensorBase):
            if given._recording is recording:
                key.append(given._tid)
            else:
                with LOCK:
                    key.append(recording.bring_in(given))
        elif given is None:
            key.append(None)
        elif given.__class__ in _NUMBERS and not operation.static_scalars:
            key.append(given.__class__)
            arguments.append(given)
        elif isinstance(given, (bool, int, float, complex, Number)):
            key.append(_static_number(operation, given, arguments))
        else:
            raise _not_an_input(operation, inputs, given)
    return tuple(key)


def _static_number(operation: Any, given: Any, arguments: list) -> Any:
    """Numbers that are part of the key; those that a macro captures stay runtime arguments."""
    if type(given) is Number:
        if operation.static_scalars or isinstance(given.value, bool):
            content = given._plain()
            return (content.__class__, content)
        arguments.append(given)
        return given.value.__class__
    if isinstance(given, bool) or operation.static_scalars:
        return (given.__class__, given)
    arguments.append(given)
    return float if isinstance(given, float) else int


def _not_an_input(operation: Any, inputs: tuple, given: Any) -> Exception:
    position = next(i for i, each in enumerate(inputs) if each is given)
    names = operation.parameters
    name = names[position] if position < len(names) and "*" not in names else "tensors"
    return not_a_tensor(operation.name, name, position, given)


def not_a_tensor(function: str, name: str, position: int, given: Any) -> Exception:
    """PyTorch's error for an argument that should be a tensor."""
    kind = type(given)
    foreign = kind.__module__ == "numpy"
    return OperationError.make(
        function,
        f"{function}(): argument '{name}' (position {position + 1}) must be Tensor, not "
        f"{'numpy.' if foreign else ''}{kind.__name__}",
        "",
        f"torch.{'from_numpy' if foreign else 'tensor'}(...) makes a tensor of it",
        TypeError,
    )


def plain_number(given: Any) -> Any:
    """NumPy scalars as Python numbers; other things unchanged."""
    return given.item() if isinstance(given, np.generic) else given


def _check_values(operation: Any, inputs: tuple, attributes: dict) -> None:
    """Lets the operation look at the index values that are concrete already.

    What passed once is known by the storage's version, unless others can change the memory: a
    window, or the whole storage where windows move over it (the labels of a data set).
    """
    known = (operation, *attributes.values())
    arrays: list[Any] = [None] * len(inputs)
    passed = []
    for position, given in enumerate(inputs):
        if isinstance(given, TensorBase) and given._meta.dtype.category == INTEGER:
            storage = given._storage
            if storage.buffer is not None:
                every = (position, known, storage.version)
                token = (*every, given._meta, plain(given._offset))
                found = getattr(storage, "checked", None)
                if found is None or (found[:5] != token and found != every):
                    arrays[position] = _peek(given)
                    passed.append((position, storage, token, found))
    if not passed:
        return
    operation.check(*arrays, **attributes)
    arrays.clear()  # else they would be seen as somebody's eyes on the memory
    for position, storage, token, found in passed:
        if is_exposed(storage):
            continue
        every = token[:3]
        if found is None or found[:3] != every:
            storage.checked = token
        elif len(found) == 5 and _passes(operation, position, storage, len(inputs), attributes):
            storage.checked = every
        else:
            storage.checked = (*token, False)  # not all of it would pass


def _passes(operation: Any, position: int, storage: Storage, count: int, attributes: dict) -> bool:
    """Whether all of a storage's values would pass as index values."""
    arrays: list[Any] = [None] * count
    arrays[position] = storage.buffer
    try:
        operation.check(*arrays, **attributes)
    except (IndexError, RuntimeError, ValueError):
        return False
    return True


def _peek(tensor: TensorBase) -> np.ndarray:
    finish_writing(tensor._storage.buffer)
    described = tensor._meta
    offset = plain(tensor._offset)  # a replayed step's indices were looked at when they came in
    return window(tensor._storage.buffer, described.shape, described.strides, offset)


def _slow(
    recording: Recording, operation: Any, inputs: tuple, attributes: dict, key: tuple
) -> State | None:
    """Finds or makes an edge under the lock; None if the recording was carried out instead."""
    with LOCK:
        state = recording.state
        if state is CLOSED or recording.done or cut_here(recording, operation):
            return None
        following = state.edge(key)
        if following is None:
            following = state.connect(key, _extend(recording, operation, inputs, attributes, key))
        return following


def cut_here(recording: Recording, operation: Any) -> bool:
    """Past the soft bound, carries the recording out where its first operation comes again."""
    depth = recording.state.depth
    if depth < SOFT_BOUND:
        return False
    if recording.begin[0] is operation and recording.begin[1] == call_site():
        recording.run()
        return True
    if depth >= HARD_BOUND:
        if config.logs("record"):
            print(f"[recorder] {depth} steps without an end, cut at {call_site()}", file=sys.stderr)
        recording.run()
        return True
    return False


def _extend(
    recording: Recording, operation: Any, inputs: tuple, attributes: dict, key: tuple
) -> State:
    """A new state: runs the shape rule once."""
    table = recording.infos()
    ids = key[len(key) - len(inputs) :]
    given = [
        table[number].meta if type(number) is int else plain(content)
        for number, content in zip(ids, inputs, strict=True)
    ]
    inferred = operation.infer(*given, **attributes)
    metas = inferred if isinstance(inferred, tuple) else (inferred,)
    made = State(recording.state, OPERATION)
    made.operation = operation
    made.attributes = dict(attributes)
    grad = any(type(number) is int and table[number].grad for number in ids)
    grad = grad and operation.differentiable and recording.mode == GRAD
    for each in metas:
        with_grad = grad and each.dtype.category >= 2
        made.add_result(made.slots, each, -1, with_grad, True)
        made.recorded_grad = made.recorded_grad or with_grad
    references: list[Any] = []
    for number, content in zip(ids, inputs, strict=True):
        if number is None or type(number) is int:
            references.append(number)
        elif type(number) is tuple:
            references.append(("static", plain(content)))
        else:
            references.append(("argument", made.add_argument()))
    made.inputs = tuple(references)
    made.extra = operation.checked or len(metas) > 1
    made.site = call_site()
    return made


def _result(recording: Recording, info: Info) -> Any:
    """A tensor for a step's result, on a storage that joins the recording with the step."""
    storage = _new_storage(Storage)
    storage.buffer = None
    storage.recording = recording
    storage.version = 0
    storage.slot = info.slot
    result = _new(registered.tensor)
    result._meta = info.meta
    result._storage = storage
    result._offset = 0
    result._recording = recording
    result._tid = info.tid
    result._extra = None
    if info.grad:
        result._requires_grad = True
        result._tape = recording.tape
        result._gid = info.tid
    else:
        result._requires_grad = False
        result._tape = None
    return result


# -- views -------------------------------------------------------------------------------------


def apply_view(
    operation: Any, tensor: TensorBase, numbers: tuple = (), attributes: dict[str, Any] = _NONE
) -> Any:
    """A tensor on the same storage. Recorded only where the graph needs it.

    ``operation.layout(meta, **attributes)`` gives the static description,
    ``operation.shift(meta, *numbers, **attributes)`` the offset; ``numbers`` are runtime integers.
    """
    described = tensor._meta
    key = (operation, tuple(attributes.values()), bool(numbers))
    target = described.remember(key, _view_meta, operation, attributes, bool(numbers))
    offset = tensor._offset + operation.shift(described, *numbers, **attributes)
    result = make_tensor(target, tensor._storage, offset)
    extra = extra_of(result)
    base = tensor if tensor._extra is None or tensor._extra.base is None else tensor._extra.base
    extra.base = base
    base_extra = base._extra
    if base_extra is not None:
        extra.seen = base_extra.rebased
        if base_extra.rebased:
            registered.refresh_view(tensor)
    if tensor._extra is not None:
        extra.counter = tensor._extra.counter
        extra.inference = tensor._extra.inference
        extra.fragile = tensor._extra.fragile
        extra.made = tensor._extra.made
    if local.mode != GRAD:
        extra.fragile = "no_grad"
        extra.made = counter_of(base).version
    elif tensor._requires_grad and target.dtype.category >= 2 and operation.differentiable:
        record_view(operation, tensor, result, numbers, attributes)
    return result


def _view_meta(described: Meta, operation: Any, attributes: dict, moving: bool) -> Meta:
    made = operation.layout(described, **attributes)
    return make_meta(
        made.shape,
        made.dtype,
        made.strides,
        described.dynamic or moving or made.dynamic,
        described.wrapped and made.ndim == 0,
    )


def record_view(
    operation: Any,
    tensor: TensorBase,
    result: TensorBase,
    numbers: tuple,
    attributes: dict[str, Any],
    others: tuple = (),
) -> None:
    """Enters a view as a step of the graph: no computation, but a gradient rule.

    ``others`` are further tensors the rule takes (the written values of ``CopySlices``).
    """
    while True:
        recording = current()
        with LOCK:
            source = recording.bring_in(tensor)
            rest = tuple([recording.bring_in(t) for t in others])
            copied = None
            if source in recording.tape.snapshots:
                copied = recording.enter_snapshot(result)
            state = recording.state
            if state is CLOSED or recording.done:
                continue
            described = result._meta
            key = (operation, VIEW, described, *attributes.values(), source, *rest, copied)
            following = state.edge(key)
            if following is None:
                following = _extend_view(
                    recording, operation, described, attributes, numbers, (source, *rest), copied
                )
                following = state.connect(key, following)
            moving = described.dynamic and copied is None
            items = (*numbers, result._offset) if moving else numbers
            recording.state = following
            recording.items += items
            if copied is not None:
                recording.tape.snapshots[following.tid] = recording.tape.snapshots[copied]
            place(result, recording, following)
            return


def _extend_view(
    recording: Recording,
    operation: Any,
    described: Meta,
    attributes: dict,
    numbers: tuple,
    sources: tuple[int, ...],
    copied: int | None,
) -> State:
    """The new state of a view; one of a snapshot stands on a snapshot of its own (``copied``)."""
    table = recording.infos()
    made = State(recording.state, VIEW)
    made.operation = operation
    made.attributes = dict(attributes)
    made.inputs = (*sources, *[("argument", made.add_argument()) for _ in numbers])
    source = table[sources[0]]
    if copied is not None:
        copy = table[copied]
        made.add_result(copy.slot, copy.meta, -1, True, copy.whole)
    else:
        offset = made.add_argument() if described.dynamic else -1
        whole = source.whole and described.numel == source.meta.numel and described.contiguous
        made.add_result(source.slot, described, offset, True, whole and not described.dynamic)
    made.recorded_grad = True
    made.site = call_site()
    return made


def place(tensor: TensorBase, recording: Recording, state: State) -> None:
    """Gives a tensor the place of a step's first result (recording number and graph number)."""
    info = state.results[0]
    tensor._recording = recording
    tensor._tid = info.tid
    tensor._requires_grad = info.grad
    if not info.grad:
        tensor._tape = None
        return
    origin = recording.tape.sources.get(info.gid)  # an input's place is in an older graph
    if type(origin) is tuple:
        tensor._tape, tensor._gid = origin
    else:
        tensor._tape, tensor._gid = recording.tape, info.gid


# -- the hot operators -------------------------------------------------------------------------


def unary_method(operation: Any) -> Callable:
    """``method(self)`` that takes a known edge without any further call."""
    kind = registered.tensor

    def method(self):
        recording = local.recording
        try:
            if self._recording is recording:
                key = (operation, recording.mode, self._tid)
                storage = _new_storage(Storage)
                result = _new(kind)
                tape = recording.tape
                storage.buffer = None
                storage.recording = recording
                storage.version = 0
                recording.state = state = recording.state.edges[key]
                recording.items.append(storage)
                storage.slot = state.slot
                result._meta = state.meta
                result._storage = storage
                result._offset = 0
                result._recording = recording
                result._tid = state.tid
                result._extra = None
                if state.grad:
                    result._requires_grad = True
                    result._tape = tape
                    result._gid = state.tid
                else:
                    result._requires_grad = False
                    result._tape = None
                return result
        except (KeyError, AttributeError):
            pass
        return apply(operation, (self,))

    return method


def binary_method(operation: Any, general: Callable) -> Callable:
    """``method(self, other)`` for two tensors of the open recording or a tensor and a number."""
    kind = registered.tensor

    def method(self, other):
        recording = local.recording
        second = other.__class__
        try:
            if self._recording is recording:
                first = self._tid  # read at once: another thread may take the tensor over
                storage = _new_storage(Storage)
                if second is float or second is int:
                    key = (operation, recording.mode, first, second)
                    items: tuple = (storage, other)
                elif other._recording is recording:
                    key = (operation, recording.mode, first, other._tid)
                    items = (storage,)
                else:
                    return general(self, other)
                result = _new(kind)
                tape = recording.tape
                storage.buffer = None
                storage.recording = recording
                storage.version = 0
                recording.state = state = recording.state.edges[key]
                recording.items += items
                storage.slot = state.slot
                result._meta = state.meta
                result._storage = storage
                result._offset = 0
                result._recording = recording
                result._tid = state.tid
                result._extra = None
                if state.grad:
                    result._requires_grad = True
                    result._tape = tape
                    result._gid = state.tid
                else:
                    result._requires_grad = False
                    result._tape = None
                return result
        except (KeyError, AttributeError):
            pass
        return general(self, other)

    return method
