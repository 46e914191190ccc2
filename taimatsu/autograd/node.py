"""``grad_fn``: one step of the graph as an object, made when somebody asks for it."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import Any

from taimatsu import recorder
from taimatsu.recorder.state import Info, State

_ids = itertools.count()


class RemovableHandle:
    """Removes a hook: by ``remove()``, or at the end of a ``with`` block."""

    def __init__(self, hooks: dict) -> None:
        self.hooks = weakref.ref(_HookTable.of(hooks))
        self.id = next(_ids)

    def remove(self) -> None:
        hooks = self.hooks()
        if hooks is not None:
            hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()


class _HookTable(dict):
    """A dict that can be referred to weakly; hooks by the id of their handle."""

    __slots__ = ("__weakref__",)

    @staticmethod
    def of(hooks: dict) -> _HookTable:
        assert isinstance(hooks, _HookTable)
        return hooks


def new_hooks() -> dict:
    """An empty table of hooks."""
    return _HookTable()


def add_hook(hooks: dict, hook: Callable) -> RemovableHandle:
    """Enters a hook; the handle removes it."""
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle


def step_name(step: State) -> str:
    """What PyTorch calls the step's gradient function."""
    chooser = getattr(step.operation, "backward_name_for", None)
    if chooser is None:
        return step.operation.backward_name
    assert step.parent is not None, "only the state before every step has no parent"
    table = step.parent.infos()
    described = [
        table[r].meta
        if type(r) is int
        else (r[1] if r is not None and r[0] == "static" else 0.0)
        if r is not None
        else None
        for r in step.inputs
    ]
    return chooser(described, step.attributes)


class Node:
    """A step of the graph: the function that carries gradients from its results to its inputs."""

    __slots__ = ("_tape", "_step", "__weakref__")

    def __init__(self, tape: Any, step: State) -> None:
        self._tape = tape
        self._step = step

    def name(self) -> str:
        return type(self).__name__

    @property
    def next_functions(self) -> tuple:
        """(node, which of its results) for each tensor input; (None, 0) without gradient."""
        assert self._step.parent is not None, "a node is a step"
        table = self._step.parent.infos()
        found = []
        for reference in self._step.inputs:
            if type(reference) is int:
                found.append(edge_of(self._tape, table[reference]))
        return tuple(found)

    @property
    def metadata(self) -> dict:
        key = ("metadata", self._step.results[0].tid)
        return self._tape.hooks.setdefault(key, {})

    def register_hook(self, hook: Callable) -> RemovableHandle:
        """``hook(grad_inputs, grad_outputs)`` may give other gradients for the inputs."""
        return self._add("node", hook)

    def register_prehook(self, hook: Callable) -> RemovableHandle:
        """``hook(grad_outputs)`` may give other gradients for the results."""
        return self._add("pre", hook)

    def _add(self, kind: str, hook: Callable) -> RemovableHandle:
        key = (kind, self._step.results[0].tid)
        return add_hook(self._tape.hooks.setdefault(key, new_hooks()), hook)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Node):
            return False
        return self._tape is other._tape and self._step is other._step

    def __hash__(self) -> int:
        return hash((id(self._tape), id(self._step)))

    def __repr__(self) -> str:
        return f"<{self.name()} object at {id(self._step) ^ id(self._tape):#x}>"


class AccumulateGrad:
    """Where gradients end: adds them to the ``grad`` of a leaf."""

    __slots__ = ("variable",)

    def __init__(self, variable: Any) -> None:
        self.variable = variable

    next_functions: tuple = ()

    def name(self) -> str:
        return "torch::autograd::AccumulateGrad"

    def __repr__(self) -> str:
        return f"<AccumulateGrad object at {id(self.variable):#x}>"


_types: dict[str, type] = {}
_alive: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


def node_of(tape: Any, info: Info) -> Any:
    """The node that made a tensor of the tape (the same object while somebody holds it)."""
    if info.state.kind == "input":
        source = tape.sources[info.tid]
        if isinstance(source, recorder.TensorBase):
            return AccumulateGrad(source)
        older, gid = source
        return node_of(older, older.final.infos()[gid])
    key = (id(tape), info.state.results[0].tid)
    found = _alive.get(key)
    if found is not None and found._tape is tape:
        return found
    context = tape.contexts.get(info.state.results[0].tid)
    if context is not None:
        return context
    name = step_name(info.state)
    kind = _types.get(name)
    if kind is None:
        kind = _types.setdefault(name, type(name, (Node,), {"__slots__": ()}))
    made = kind(tape, info.state)
    _alive[key] = made
    return made


def edge_of(tape: Any, info: Info) -> tuple:
    """The node and result number that a tensor's gradient goes to."""
    if not info.grad:
        return (None, 0)
    origin = tape.final.infos()[info.gid]
    return (node_of(tape, origin), origin.index if origin.state.kind != "input" else 0)


def grad_fn(tensor: Any) -> Any:
    """The node that made a tensor; None for leaves."""
    if tensor._tape is None:
        return None
    return node_of(tensor._tape, tensor._tape.final.infos()[tensor._gid])
