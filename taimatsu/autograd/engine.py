"""The backward walk: from roots to leaves through the tapes, newest first.

A tape's steps stand in the order of recording, so walking them backward is a topological order;
closed tapes are ranked by when they closed, and depend on lower ranks only.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from taimatsu import recorder
from taimatsu.autograd import anomaly
from taimatsu.errors import OperationError
from taimatsu.ir.meta import Meta
from taimatsu.recorder.state import INPUT, VIEW, WRITE, Info, State
from taimatsu.recorder.tape import (
    CLOSED,
    input_names,
    saved_names,
    saved_tensors,
    saves_result,
    written_over,
)


class Saved(NamedTuple):
    """A value that a step's rule reads."""

    step: State
    info: Info
    after: bool  # a tensor that the step's result was written over at once, not what it read


class Walk:
    """One backward pass. ``targets`` (for ``grad``) collects instead of accumulating."""

    def __init__(self, retain: bool, create: bool, targets: Sequence[Any] | None) -> None:
        self.retain = retain
        self.create = create
        self.waiting: dict[Any, dict[int, Any]] = {}  # tape -> number -> gradient
        self.targets: dict[Any, int] = {}  # leaf's id or (tape, number) -> position
        self.found: list[Any] = [None] * len(targets or ())
        self.needed: dict[Any, set[int]] | None = None
        self.leaves: dict[int, tuple[Any, Any]] = {}  # id -> leaf, its gradient so far
        self.numbers: Any = None  # what stands for the tape's runtime numbers in a macro
        self.given: dict[Saved, Any] | None = None  # saved values that entered before a macro
        if targets is not None:
            for position, tensor in enumerate(targets):
                self.targets[place_of(tensor)] = position
            self.needed = {}

    # -- what is needed --------------------------------------------------------------------

    def needed_of(self, tape: Any) -> set[int]:
        """Numbers of the tape's tensors from which a target can be reached."""
        assert self.needed is not None
        known = self.needed.get(tape)
        if known is not None:
            return known
        reach: set[int] = set()
        table = tape.infos()
        for number, source in tape.sources.items():
            if isinstance(source, recorder.TensorBase):
                reaches = id(source) in self.targets
            else:
                reaches = source[1] in self.needed_of(source[0])
            if reaches or (tape, number) in self.targets:
                reach.add(number)
        for step in tape.final.graph_steps():
            sources = [table[r].gid for r in step.inputs if type(r) is int and table[r].grad]
            reaches = not reach.isdisjoint(sources)
            for info in step.results:
                if reaches or (tape, info.gid) in self.targets:
                    reach.add(info.gid)
        self.needed[tape] = reach
        return reach

    # -- the walk --------------------------------------------------------------------------

    def start(self, root: Any, gradient: Any) -> None:
        """Enters the gradient of a root."""
        if root._tape is None:
            self.add_leaf(root, gradient.clone())  # the caller keeps his own
        else:
            self.add(root._tape, root._gid, gradient)

    def add(self, tape: Any, number: int, gradient: Any) -> None:
        _sum_into(self.waiting.setdefault(tape, {}), number, gradient)

    def add_leaf(self, leaf: Any, gradient: Any) -> None:
        _, before = self.leaves.get(id(leaf), (leaf, None))
        self.leaves[id(leaf)] = leaf, gradient if before is None else before + gradient

    def run(self) -> None:
        while self.waiting:
            tape = max(self.waiting, key=lambda t: t.order)
            self.walk_tape(tape, self.waiting.pop(tape))
        for leaf, gradient in self.leaves.values():
            self.deliver_leaf(leaf, gradient)
        self.leaves.clear()

    def walk_tape(self, tape: Any, gradients: dict[int, Any]) -> None:
        final = tape.final
        table = tape.infos()
        needed = None if self.needed is None else self.needed_of(tape)
        alike = self.meet_sources(tape, gradients)
        walked: list[int] = []
        try:
            for step in reversed(final.graph_steps()):
                given = [gradients.pop(info.gid, None) for info in step.results]
                if all(g is None for g in given):
                    continue
                if needed is not None and needed.isdisjoint(info.gid for info in step.results):
                    continue
                given = self.apply_hooks(tape, step, given)
                if needed is not None and not _leads_on(step, table, needed):
                    continue
                self.backward_step(tape, step, table, given, gradients, needed, alike)
                walked.append(step.results[0].tid)
        finally:
            if not self.retain:
                free(tape, walked)
        for number, gradient in gradients.items():
            if table[number].state.kind is INPUT:
                self.leave(tape, number, gradient, needed)

    def meet_sources(self, tape: Any, gradients: dict[int, Any]) -> dict[int, int]:
        """Goes on with what younger tapes gave the tape's inputs, so that sums are made in one
        order however the steps are divided among tapes. Gives the inputs that are one tensor.
        """
        first: dict[Any, int] = {}
        alike = {}
        for number, source in tape.sources.items():
            leaf = isinstance(source, recorder.TensorBase)
            known = first.setdefault(id(source) if leaf else source, number)
            if known != number:
                alike[number] = known
            elif leaf:
                if id(source) in self.leaves:
                    _sum_into(gradients, number, self.leaves.pop(id(source))[1])
            elif source[1] in self.waiting.get(source[0], ()):
                # An input that a younger tape saved has a gradient of its own already.
                _sum_into(gradients, number, self.waiting[source[0]].pop(source[1]))
        return alike

    def leave(self, tape: Any, number: int, gradient: Any, needed: set[int] | None) -> None:
        """A gradient that has reached an input of the tape: a leaf, or an older tape's result."""
        if needed is not None and number not in needed:
            return
        source = tape.sources[number]
        if isinstance(source, recorder.TensorBase):
            self.add_leaf(source, gradient)
        else:
            self.add(source[0], source[1], gradient)

    def apply_hooks(self, tape: Any, step: State, given: list) -> list:
        """Tensor hooks and capture, for the results of a step whose gradients are complete."""
        hooks = tape.hooks
        for position, info in enumerate(step.results):
            gradient = given[position]
            if gradient is None:
                continue
            if hooks and info.gid in hooks:
                for hook in list(hooks[info.gid].values()):
                    gradient = _replaced(hook(gradient), gradient)
                given[position] = gradient
            target = self.targets.get((tape, info.gid)) if self.targets else None
            if target is not None:
                self.found[target] = gradient
        if hooks:
            for hook in list(hooks.get(("pre", step.results[0].tid), {}).values()):
                changed = hook(tuple(given))
                if changed is not None:
                    given = list(changed) if isinstance(changed, (tuple, list)) else [changed]
        return given

    def backward_step(
        self,
        tape: Any,
        step: State,
        table: list[Info],
        given: list,
        gradients: dict[int, Any],
        needed: set[int] | None,
        alike: dict[int, int],
    ) -> None:
        results = self.input_gradients(tape, step, table, given, needed)
        if anomaly.checks_nan():
            anomaly.refuse_nan(tape, step, results)
        hooks = tape.hooks.get(("node", step.results[0].tid)) if tape.hooks else None
        if hooks:
            results = _run_node_hooks(hooks, step, results, given)
        for reference, gradient in zip(step.inputs, results, strict=True):
            if gradient is None:
                continue
            number = table[reference].gid
            _sum_into(gradients, alike.get(number, number), gradient)

    def input_gradients(
        self, tape: Any, step: State, table: list[Info], given: list, needed: set[int] | None
    ) -> list[Any]:
        """The rule's gradients, one for each input, shaped and typed like it; None if unneeded."""
        inputs, out = saved_values(tape, step, table, self.create, self.numbers, self.given)
        g: Any = tuple(given)
        if step.operation.outputs == 1:
            g, out = given[0], out[0]
        context = tape.contexts.get(step.results[0].tid)
        if context is not None:
            raw = step.operation.run_backward(context, given)
            _check_own_gradients(step, table, raw)
        else:
            raw = step.operation.gradient(g, out, *inputs, **step.attributes)
        if not isinstance(raw, tuple):
            raw = (raw,)
        results: list[Any] = []
        for position, reference in enumerate(step.inputs):
            gradient = raw[position] if position < len(raw) else None
            wanted = type(reference) is int and table[reference].grad
            if wanted and needed is not None:
                wanted = table[reference].gid in needed
            if not wanted or gradient is None:
                results.append(None)
                continue
            if callable(gradient) and not isinstance(gradient, recorder.TensorBase):
                gradient = gradient()
            results.append(None if gradient is None else fit(gradient, table[reference].meta))
        return results

    # -- leaves ----------------------------------------------------------------------------

    def deliver_leaf(self, leaf: Any, gradient: Any) -> None:
        """A complete gradient of a leaf: hooks, then collected or accumulated in ``grad``."""
        if not leaf._requires_grad:
            return  # it no longer wants one
        extra = leaf._extra
        if extra is not None and extra.hooks:
            for hook in list(extra.hooks.values()):
                gradient = _replaced(hook(gradient), gradient)
        if self.needed is not None:
            position = self.targets.get(id(leaf))
            if position is not None:
                self.found[position] = gradient
            return
        accumulate(leaf, gradient, self.create)
        if extra is not None and extra.accumulated:
            for hook in list(extra.accumulated.values()):
                hook(leaf)


def _sum_into(gradients: dict[int, Any], number: int, gradient: Any) -> None:
    before = gradients.get(number)
    gradients[number] = gradient if before is None else before + gradient


def place_of(tensor: Any) -> Any:
    """What identifies a tensor in the graph."""
    return id(tensor) if tensor._tape is None else (tensor._tape, tensor._gid)


def _leads_on(step: State, table: list[Info], needed: set[int]) -> bool:
    return any(type(r) is int and table[r].grad and table[r].gid in needed for r in step.inputs)


def _check_own_gradients(step: State, table: list[Info], raw: tuple) -> None:
    """Refuses what a program's own ``backward`` gave where it is no gradient of that input."""
    name = step.operation.backward_name
    for position, (reference, gradient) in enumerate(zip(step.inputs, raw, strict=False)):
        if gradient is None or type(reference) is not int:
            continue
        if not isinstance(gradient, recorder.TensorBase):
            raise TypeError(
                f"function {name}: expected Variable or None (got {type(gradient).__name__}) as "
                f"the gradient at index {position}; give a tensor of the input's shape"
            )
        wanted, got = tuple(table[reference].meta.shape), tuple(gradient.shape)
        lead = len(got) - len(wanted)
        fits = lead >= 0 and all(
            w in (1, g) for w, g in zip(wanted, got[max(lead, 0) :], strict=False)
        )
        if not fits:
            raise RuntimeError(
                f"Function {name} returned an invalid gradient at index {position} - got "
                f"{list(got)} but expected shape compatible with {list(wanted)}; the gradient of "
                "an argument has its shape"
            )


def _replaced(given: Any, before: Any) -> Any:
    """What a hook gave, or the gradient as it was."""
    if given is None:
        return before
    if not isinstance(given, recorder.TensorBase):
        raise TypeError(f"expected a hook to give a Tensor or None, but got {type(given).__name__}")
    if given._meta.shape != before._meta.shape:
        raise RuntimeError(
            f"hook has changed the size of value: expected {list(before.shape)}, "
            f"got {list(given.shape)}; give a gradient of the shape that came, or None"
        )
    return given


def _run_node_hooks(hooks: dict, step: State, results: list, given: list) -> list:
    """Node hooks see and may replace the gradients of the tensor inputs."""
    places = [i for i, r in enumerate(step.inputs) if type(r) is int]
    for hook in list(hooks.values()):
        changed = hook(tuple(results[i] for i in places), tuple(given))
        if changed is None:
            continue
        changed = changed if isinstance(changed, (tuple, list)) else (changed,)
        for i, gradient in zip(places, changed, strict=True):
            results[i] = gradient
    return results


def fit(gradient: Any, described: Meta) -> Any:
    """A gradient summed over broadcast dimensions and cast to what its input is."""
    if gradient._meta.shape != described.shape:
        gradient = gradient.sum_to_size(tuple(described.shape))
    kind = gradient._meta.dtype
    if kind is not described.dtype:
        if kind.is_complex and not described.dtype.is_complex:
            gradient = gradient.real
        gradient = gradient.to(described.dtype)
    return gradient


def accumulate(leaf: Any, gradient: Any, create: bool) -> None:
    """``leaf.grad += gradient``, in the same object where there is one."""
    extra = recorder.extra_of(leaf)
    if extra.grad is None:
        extra.grad = gradient if create else own(gradient, leaf._meta)
    elif create:
        extra.grad = extra.grad + gradient
    else:
        extra.grad.add_(gradient)


_SOLE_HOLDER = 3  # the tensor itself, this module's variable, getrefcount's argument


def own(gradient: Any, described: Meta) -> Any:
    """The gradient as a tensor that shares memory with nothing else."""
    storage = gradient._storage
    recording = storage.recording
    held = sys.getrefcount(storage)
    if recording is not None and not recording.done:
        held -= 1
    is_view = gradient._extra is not None and gradient._extra.base is not None
    # Referred to by the caller chain (walk, deliver, accumulate, own) and nobody else.
    shared = held > _SOLE_HOLDER or is_view or gradient._meta.strides != described.strides
    if shared or gradient._meta.dynamic or gradient._requires_grad:
        gradient = gradient.detach().clone()
        if gradient._meta.strides != described.strides and described.contiguous:
            gradient = gradient.contiguous()
        return gradient
    alias = recorder.make_tensor(gradient._meta, storage)
    if gradient._recording is recorder.local.recording:
        alias._recording, alias._tid = gradient._recording, gradient._tid
    return alias


# -- saved values ------------------------------------------------------------------------------


def saved_values(
    tape: Any,
    step: State,
    table: list[Info],
    create: bool,
    numbers: Any = None,
    given: dict[Saved, Any] | None = None,
) -> tuple[list, list]:
    """The rule's inputs and results: tensors where it says it needs values, else Meta.

    ``given`` are tensors made already.
    """

    def value(saved: Saved) -> Any:
        if given is not None:
            return given[saved]
        return saved_tensor(tape, saved, create, numbers)

    freed = step.results[0].tid in tape.freed
    if freed and (saved_tensors(tape.final, step, table) or _saves_number(step, table)):
        raise OperationError.make(
            step.operation.name,
            "Trying to backward through the graph a second time (or directly access saved tensors "
            "after they have already been freed)",
            "the values that this step saved were freed by the first backward",
            f"it was recorded at {step.site}; give retain_graph=True to the first backward, or "
            "compute the loss again; a state kept from an earlier step needs .detach()",
        )
    names = saved_names(step, table)
    inputs: list[Any] = []
    for name, reference in zip(input_names(step), step.inputs, strict=True):
        if type(reference) is int:
            info = table[reference]
            inputs.append(value(Saved(step, info, False)) if name in names else info.meta)
        elif reference is None:
            inputs.append(None)
        else:
            kind, content = reference
            known = tape.items if numbers is None else numbers
            inputs.append(known[content] if kind == "argument" else content)
    moved = written_over(tape.final)
    out = [
        value(saved_result(step, info, moved)) if saves_result(names, info) else info.meta
        for info in step.results
    ]
    return inputs, out


def _saves_number(step: State, table: list[Info]) -> bool:
    """Whether PyTorch, to which ``x * 2`` is a product of tensors, saves a number with the step."""
    names = saved_names(step, table)
    pairs = zip(input_names(step), step.inputs, strict=True)
    return any(type(given) is tuple and name in names for name, given in pairs)


def saved_result(step: State, info: Info, moved: dict[int, Info]) -> Saved:
    """A saved result: its own memory, or that of the tensor it was written over at once."""
    target = moved.get(info.tid)
    if target is None:
        return Saved(step, info, False)
    return Saved(target.state, target, True)


def saved_by(final: State, step: State, table: list[Info]) -> list[Saved]:
    """All values that the step's rule reads, in the order in which ``saved_values`` does."""
    names = saved_names(step, table)
    found = [
        Saved(step, table[reference], False)
        for name, reference in zip(input_names(step), step.inputs, strict=True)
        if type(reference) is int and name in names
    ]
    moved = written_over(final)
    wanted = [info for info in step.results if saves_result(names, info)]
    return found + [saved_result(step, info, moved) for info in wanted]


def saved_tensor(tape: Any, wanted: Saved, create: bool, numbers: Any = None) -> Any:
    """A saved value as a tensor, after checking that nothing has overwritten it since the step
    read it (or, ``after``, made it).
    """
    check_saved(tape, wanted)
    _, info, _ = wanted
    source = tape.sources.get(info.tid)
    storage = tape.items[info.slot]
    if isinstance(source, recorder.TensorBase) and source._meta.shape == info.meta.shape:
        if create:
            return source
        if source._storage is not storage and info.tid not in tape.snapshots:
            return source.detach()  # its data was exchanged
    recording = tape.recording
    if recording is not None and recording.state is CLOSED:
        recording.run()  # another thread does: it may have found that nobody held the storage
    saved = tape.saved
    if saved is not None and info.slot in saved.slots:
        saved.wanted(tape)
    described, offset = info.meta, 0
    if info.tid in tape.snapshots and tape.snapshot_changed(info.tid):
        storage, described, offset = tape.snapshots[info.tid]
    elif info.offset >= 0:
        offset = (tape.items if numbers is None else numbers)[info.offset]
    tensor = recorder.make_tensor(described, storage, offset)
    if create and info.grad:
        tensor._requires_grad = True
        # An older tape's result goes by its place there: sums are made in one order then.
        tensor._tape, tensor._gid = source if type(source) is tuple else (tape, info.gid)
    opened = tape.recording is not None and tape.recording is recorder.local.recording
    if opened and described is info.meta and storage.recording is tape.recording:
        tensor._recording = tape.recording
        tensor._tid = info.tid
    return tensor


def check_saved(tape: Any, wanted: Saved) -> None:
    """Raises if a saved value was overwritten since the step read it."""
    step, info, after = wanted
    origin = _origin(tape, info)
    recorded = tape.versions.get(origin.tid)
    _check_version(step, info, origin, recorded or (tape.items[info.slot], 0), after)


def _origin(tape: Any, info: Info) -> Info:
    """The tensor by which the storage entered the recording: views and writes lead back to it."""
    if info.state.kind not in (VIEW, WRITE):
        return info
    table = tape.infos()
    while info.tid not in tape.versions and info.state.kind in (VIEW, WRITE):
        first = info.state.inputs[0]
        older = table[first] if type(first) is int else None
        if older is None or older.slot != info.slot:  # a custom function's result
            return next(i for i in table if i.slot == info.slot)
        info = older
    return info


def _check_version(step: State, info: Info, origin: Info, recorded: tuple, after: bool) -> None:
    """Raises if the value was written after the step saved it."""
    counter, base = recorded
    if counter.version == base:
        return
    last = step if after else step.parent
    expected = base + _writes_between(origin, last, isinstance(counter, recorder.Storage))
    if counter.version == expected:
        return
    writer = counter.writer or "an operation outside this graph"
    raise OperationError.make(
        "backward",
        "one of the variables needed for gradient computation has been modified by an inplace "
        "operation",
        f"[{info.meta!r}], saved at {step.site}, is at version {counter.version}; expected "
        f"version {expected} instead; written by {writer}",
        "use the out-of-place operation there, or write to a clone()",
    )


def _writes_between(origin: Info, last: State | None, counted: bool) -> int:
    """How many recorded writes to the storage lie between a tensor's entry and a state."""
    count = 0
    state = last
    while state is not None and state is not origin.state:
        if state.kind is WRITE and state.results[0].slot == origin.slot:
            count += state.attributes["counted"] == counted
        state = state.parent
    return count


def free(tape: Any, walked: list[int]) -> None:
    """Forgets what the walked steps saved."""
    tape.freed = tape.freed | frozenset(walked)
    if tape.recording is None:
        kept = recorder.saved_slots(tape.state, tape.freed)
        tape.items = [
            item if slot in kept or not isinstance(item, recorder.Storage) else None
            for slot, item in enumerate(tape.items)
        ]
        saved = tape.saved
        if saved is not None and kept.isdisjoint(saved.slots):
            tape.saved = None
    for tid in walked:
        context = tape.contexts.get(tid)
        if context is not None:
            context.release()
