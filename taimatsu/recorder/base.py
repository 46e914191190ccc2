"""The part of a Tensor that the recorder and the operations know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taimatsu.ir.meta import Meta
from taimatsu.storage import Storage


class TensorBase:
    """A storage seen through a layout, its place in the open recording, its gradient state."""

    __slots__ = (
        "_meta",  # shape, dtype, strides
        "_storage",
        "_offset",  # first element in the storage
        "_recording",  # the recording that knows this tensor, under the number _tid
        "_tid",
        "_requires_grad",
        "_tape",  # the graph that computed it (None for leaves), where its number is _gid
        "_gid",
        "_extra",  # what few tensors have: see Extra
        "__dict__",
        "__weakref__",
    )

    _meta: Meta
    _storage: Storage
    _offset: int
    _recording: Any
    _tid: int
    _requires_grad: bool
    _tape: Any
    _gid: int
    _extra: Extra | None

    if TYPE_CHECKING:  # every tensor is a Tensor, whose methods come from the registry

        def __getattr__(self, name: str) -> Any: ...


class Extra:
    """What few tensors have: a gradient, hooks, a base (views), a version counter of their own."""

    __slots__ = (
        "grad",
        "hooks",
        "accumulated",
        "retains",
        "base",
        "seen",
        "rebased",
        "counter",
        "fragile",
        "made",
        "inference",
        "name",
    )

    def __init__(self) -> None:
        self.grad: Any = None
        self.hooks: Any = None  # leaf hooks: called with the gradient
        self.accumulated: Any = None  # leaf hooks after accumulation
        self.retains = False  # retain_grad() on a non-leaf
        self.base: Any = None  # the tensor this one is a view of
        self.seen = 0  # the base's `rebased` when this view's place in the graph was made
        self.rebased = 0  # in-place writes that gave this tensor (a base) a new place in the graph
        self.counter: Any = None  # VersionCounter of `.data`; None: the storage counts
        self.fragile = ""  # why an in-place write through this view cannot be differentiated
        self.made = 0  # the base's version when a fragile view was made
        self.inference = False
        self.name: Any = None


def extra_of(tensor: TensorBase) -> Extra:
    """The tensor's Extra, made if it has none."""
    if tensor._extra is None:
        tensor._extra = Extra()
    return tensor._extra


def counter_of(tensor: TensorBase) -> Any:
    """The object that counts writes to this tensor: its storage, or a counter of its own."""
    extra = tensor._extra
    if extra is not None and extra.counter is not None:
        return extra.counter
    return tensor._storage


class _Registered:
    """What layers above give to the recorder."""

    __slots__ = ("tensor", "execute", "refresh_view", "rebase", "look_ahead")

    tensor: Any  # the class of results
    execute: Any  # execute(graph, buffers, arguments) -> {slot: buffer}
    refresh_view: Any  # autograd: gives a view its place again after its base was written
    rebase: Any  # autograd: rebase(view, base, source) after a write through a view
    look_ahead: Any  # autograd: look_ahead(recording) records a backward that is expected


registered = _Registered()


def make_tensor(meta: Meta, storage: Storage, offset: int = 0, kind: type | None = None) -> Any:
    """A tensor outside any recording, without gradient."""
    tensor = object.__new__(kind or registered.tensor)
    tensor._meta = meta
    tensor._storage = storage
    tensor._offset = offset
    tensor._recording = None
    tensor._tid = -1
    tensor._requires_grad = False
    tensor._tape = None
    tensor._extra = None
    return tensor
