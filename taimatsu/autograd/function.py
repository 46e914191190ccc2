"""``Function``: an operation whose forward and backward a program writes itself."""

from __future__ import annotations

from typing import Any

from taimatsu import recorder
from taimatsu.autograd.modes import no_grad
from taimatsu.autograd.node import add_hook, edge_of, new_hooks
from taimatsu.errors import OperationError
from taimatsu.ops.base import Operation
from taimatsu.ops.filling import zeros_of
from taimatsu.ops.views import Alias
from taimatsu.recorder.state import VIEW, State


class Saved:
    """A tensor kept for backward, without a reference to the graph that it is part of."""

    __slots__ = ("tensor", "meta", "storage", "offset", "gid", "grad", "version", "counter")

    def __init__(self, tensor: Any, tape: Any) -> None:
        self.counter = recorder.counter_of(tensor)
        self.version = self.counter.version
        self.tensor = tensor if tensor._tape is not tape or tensor._tape is None else None
        self.meta = tensor._meta
        self.storage = tensor._storage
        self.offset = tensor._offset
        self.gid = tensor._gid if tensor._tape is not None else -1
        self.grad = tensor._requires_grad

    def unpack(self, tape: Any) -> Any:
        if self.counter.version != self.version:
            raise OperationError.make(
                "save_for_backward",
                "one of the variables needed for gradient computation has been modified by an "
                "inplace operation",
                f"it is at version {self.counter.version}; expected version {self.version} "
                f"instead; written by {self.counter.writer}",
                "write to a clone() instead",
            )
        if self.tensor is not None:
            return self.tensor
        made = recorder.make_tensor(self.meta, self.storage, self.offset)
        made._requires_grad = self.grad
        made._tape = tape
        made._gid = self.gid
        return made


class FunctionCtx:
    """What ``forward`` leaves for ``backward``."""

    def __init__(self) -> None:
        self.needs_input_grad: tuple[bool, ...] = ()
        self.materialize_grads = True
        self._to_save: tuple = ()
        self._saved: tuple | None = ()
        self._dirty: tuple = ()
        self._non_differentiable: tuple = ()
        self._tape: Any = None
        self._state: State | None = None
        self._results: tuple = ()

    def save_for_backward(self, *tensors: Any) -> None:
        """Keeps tensors (or None) for ``saved_tensors``; checked against in-place writes."""
        for tensor in tensors:
            if tensor is not None and not isinstance(tensor, recorder.TensorBase):
                raise TypeError(
                    "save_for_backward can only save variables, but argument is of type "
                    f"{type(tensor).__name__}; keep other things as attributes of ctx"
                )
        self._to_save = tensors

    def save_for_forward(self, *tensors: Any) -> None:
        """Accepted for forward-mode functions; this walk is reverse-mode only."""

    def mark_dirty(self, *tensors: Any) -> None:
        """Says which inputs ``forward`` wrote in place."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """Says which outputs have no gradient."""
        self._non_differentiable = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether ``backward`` gets zeros (else None) for outputs without a gradient."""
        self.materialize_grads = value

    @property
    def saved_tensors(self) -> tuple:
        if self._saved is None:
            raise OperationError.make(
                type(self).__name__,
                "Trying to backward through the graph a second time (or directly access saved "
                "tensors after they have already been freed)",
                "",
                "give retain_graph=True to the first backward",
            )
        return tuple(None if s is None else s.unpack(self._tape) for s in self._saved)

    saved_variables = saved_tensors

    def release(self) -> None:
        """Forgets the saved tensors (the graph was freed)."""
        self._saved = None

    # -- as a node of the graph ---------------------------------------------------------------

    def name(self) -> str:
        return type(self).__name__

    @property
    def next_functions(self) -> tuple:
        assert self._state is not None
        assert self._state.parent is not None
        table = self._state.parent.infos()
        return tuple(
            edge_of(self._tape, table[r]) if type(r) is int else (None, 0)
            for r in self._state.inputs
        )

    def register_hook(self, hook: Any) -> Any:
        assert self._state is not None
        key = ("node", self._state.results[0].tid)
        return add_hook(self._tape.hooks.setdefault(key, new_hooks()), hook)


class FunctionOperation(Operation):
    """A custom function's step in the graph."""

    hidden = True
    outputs = 0

    def __init__(self, function: type) -> None:
        self.function = function
        self.backward_name = function.__name__ + "Backward"  # type: ignore[misc]
        self.saves = ()  # type: ignore[misc]

    parameters = ("*",)

    def infer(self, *inputs: Any) -> Any:
        raise AssertionError("custom functions are not computed by the recorder")

    def run_backward(self, context: FunctionCtx, given: list) -> tuple:
        """The program's backward: one gradient for each argument of forward."""
        if context.materialize_grads:
            given = [
                zeros_of(result) if g is None else g
                for g, result in zip(given, context._results, strict=True)
            ]
        function: Any = self.function
        made = function.backward(context, *given)
        made = made if isinstance(made, tuple) else (made,)
        count = len(context.needs_input_grad)
        if len(made) < count or any(g is not None for g in made[count:]):
            raise RuntimeError(
                f"function {function.__name__}Backward returned an incorrect number of gradients "
                f"(expected {count}, got {len(made)}); give one for each argument of forward, None "
                "where it has no gradient"
            )
        return made


class Function:
    """Base of custom operations: static ``forward(ctx, *args)`` and ``backward(ctx, *grads)``.

    ``forward`` may leave ctx to ``setup_context(ctx, inputs, output)``, as PyTorch allows.
    """

    _operation: FunctionOperation

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._operation = FunctionOperation(cls)
        name = cls.__name__ + "Backward"
        cls._context = type(name, (FunctionCtx,), {"_forward_cls": cls})  # type: ignore

    def __init__(self, *_: Any) -> None:
        raise RuntimeError(
            "Legacy autograd function with non-static forward method is deprecated. Please use "
            f"{type(self).__name__}.apply(...) with a static forward method (@staticmethod)."
        )

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        raise NotImplementedError("You must implement the forward function for custom Function.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        raise NotImplementedError

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise NotImplementedError(
            "You must implement the backward method for your custom Function: a static method "
            "backward(ctx, *grads) that gives one gradient for each argument of forward"
        )

    vjp = backward

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Runs forward without a graph, then enters the function as one step of the graph."""
        context: FunctionCtx = cls._context()  # type: ignore[attr-defined]
        tensors = [a for a in args if isinstance(a, recorder.TensorBase)]
        wanted = any(t._requires_grad for t in tensors) and recorder.local.mode == recorder.GRAD
        context.needs_input_grad = tuple(
            isinstance(a, recorder.TensorBase) and a.requires_grad for a in args
        )
        with no_grad():
            if cls.setup_context is not Function.setup_context:
                output = cls.forward(*args)
                cls.setup_context(context, args, output)
            else:
                output = cls.forward(context, *args)
        several = isinstance(output, (tuple, list))
        outputs = list(output) if several else [output]
        if wanted:
            _enter(cls, context, args, outputs)
        else:
            context._saved = tuple(None if t is None else Saved(t, None) for t in context._to_save)
        context._to_save = context._dirty = context._non_differentiable = ()
        return tuple(outputs) if several else outputs[0]


def _enter(cls: type, context: FunctionCtx, args: tuple, outputs: list) -> None:
    """Records the step: the outputs get a place in the graph as its results."""
    skipped = {id(t) for t in context._non_differentiable}
    dirty = {id(t) for t in context._dirty}
    places = []
    for i, tensor in enumerate(outputs):
        if not isinstance(tensor, recorder.TensorBase) or id(tensor) in skipped:
            continue
        if tensor._meta.dtype.category < 2:
            continue
        if any(tensor is a for a in args) and id(tensor) not in dirty:
            with no_grad():
                outputs[i] = Alias.make(tensor)
            outputs[i]._extra.fragile = ""
        elif id(tensor) in dirty and tensor._requires_grad and tensor._tape is None:
            raise RuntimeError(
                "a leaf Variable that requires grad is being used in an in-place operation."
            )
        places.append(i)
    if not places:
        return
    operation: FunctionOperation = cls._operation  # type: ignore[attr-defined]
    while True:
        recording = recorder.current()
        with recorder.LOCK:
            numbers = tuple(
                recording.bring_in(a) if isinstance(a, recorder.TensorBase) else None for a in args
            )
            made = tuple(recording.bring_in(outputs[i]) for i in places)
            if recording.done or recording is not recorder.current():
                continue
            state = recording.state
            key = (operation, VIEW, len(args), *numbers, *made)
            following = state.edge(key)
            if following is None:
                table = recording.infos()
                following = State(state, VIEW)
                following.operation = operation
                following.inputs = numbers
                for number in made:
                    old = table[number]
                    following.add_result(old.slot, old.meta, old.offset, True, old.whole)
                following.recorded_grad = True
                following.site = recorder.call_site()
                following = state.connect(key, following)
            recording.state = following
            tape = recording.tape
            for i, info in zip(places, following.results, strict=True):
                tensor = outputs[i]
                tensor._recording, tensor._tid = recording, info.tid
                tensor._requires_grad, tensor._tape, tensor._gid = True, tape, info.gid
            break
    context._tape = tape
    context._state = following
    context._results = tuple(info.meta for info in following.results)
    context._saved = tuple(None if t is None else Saved(t, tape) for t in context._to_save)
    tape.contexts[following.results[0].tid] = context


def once_differentiable(function: Any) -> Any:
    """Decorates a backward that is not itself differentiable."""
    import functools

    @functools.wraps(function)
    def wrapped(ctx: Any, *grads: Any) -> Any:
        with no_grad():
            return function(ctx, *grads)

    return wrapped
