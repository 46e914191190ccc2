"""Hooks: functions a module calls around ``forward``, in backward, and around its state dict."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from taimatsu.autograd import Function
from taimatsu.tensor import Tensor


class RemovableHandle:
    """What registering a hook returns: ``remove()`` takes the hook away again.

    Also a context manager that removes the hook at the end of the block.
    """

    next_id: int = 0

    def __init__(self, hooks: dict, *, extra_dict: dict | Iterable[dict] | None = None) -> None:
        self.hooks_dict_ref = weakref.ref(hooks)
        self.id = RemovableHandle.next_id
        RemovableHandle.next_id += 1
        if extra_dict is None:
            extras: tuple[dict, ...] = ()
        elif isinstance(extra_dict, dict):
            extras = (extra_dict,)
        else:
            extras = tuple(extra_dict)
        self.extra_dict_ref = tuple(weakref.ref(extra) for extra in extras)

    def remove(self) -> None:
        """Takes the hook away. Calling it again does nothing."""
        for ref in (self.hooks_dict_ref, *self.extra_dict_ref):
            hooks = ref()
            if hooks is not None:
                hooks.pop(self.id, None)

    def __getstate__(self) -> tuple:
        return self.hooks_dict_ref(), self.id, tuple(ref() for ref in self.extra_dict_ref)

    def __setstate__(self, state: tuple) -> None:
        hooks, self.id, extras = state
        # A dictionary that has died stands for itself, empty: remove() then has nothing to do.
        self.hooks_dict_ref = weakref.ref(OrderedDict() if hooks is None else hooks)
        self.extra_dict_ref = tuple(
            weakref.ref(OrderedDict() if extra is None else extra) for extra in extras
        )
        RemovableHandle.next_id = max(RemovableHandle.next_id, self.id + 1)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.remove()


def add_hook(
    hooks: OrderedDict, hook: Callable, *marks: tuple[OrderedDict, bool], prepend: bool = False
) -> RemovableHandle:
    """Enters ``hook`` under a new id, and the id into each marking dictionary that applies."""
    handle = RemovableHandle(hooks, extra_dict=[mark for mark, _ in marks])
    hooks[handle.id] = hook
    for mark, applies in marks:
        if applies:
            mark[handle.id] = True
    if prepend:
        hooks.move_to_end(handle.id, last=False)
        for mark, applies in marks:
            if applies:
                mark.move_to_end(handle.id, last=False)
    return handle


# -- backward hooks ------------------------------------------------------------------------------


class _Boundary(Function):
    """Identity on its tensors; in backward it hands their gradients to ``on_gradients``."""

    @staticmethod
    def forward(ctx: Any, on_gradients: Callable, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.on_gradients = on_gradients
        ctx.set_materialize_grads(False)
        return tuple(t.view_as(t) for t in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple:
        return None, *ctx.on_gradients(gradients)


class BackwardHooks:
    """The backward hooks of one call of a module.

    The tensors that enter and leave ``forward`` pass through boundaries. The outer one, met
    first by the backward walk, sees the gradients of the outputs (and runs the pre-hooks), the
    inner one those of the inputs (and runs the hooks).
    """

    def __init__(self, module: Any, hooks: list[Callable], pre_hooks: list[Callable]) -> None:
        self.module = module
        self.hooks = hooks
        self.pre_hooks = pre_hooks
        self.grad_outputs: tuple | None = None
        self.inputs_watched = False
        self.n_inputs = 0
        self.input_positions: list[int] = []

    def watch_inputs(self, args: tuple) -> tuple:
        """``args`` with its tensors passed through the inner boundary."""
        self.n_inputs = len(args)
        watched, positions = self._through(args, self._on_input_gradients)
        self.input_positions = positions
        self.inputs_watched = bool(positions)
        return watched

    def watch_outputs(self, result: Any) -> Any:
        """``result`` (a tensor or a tuple of values) passed through the outer boundary."""
        if isinstance(result, Tensor):
            watched, positions = self._through((result,), self._on_output_gradients)
            self.n_outputs, self.output_positions = 1, positions
            return watched[0]
        if isinstance(result, tuple):
            watched, positions = self._through(result, self._on_output_gradients)
            self.n_outputs, self.output_positions = len(result), positions
            return type(result)(*watched) if hasattr(result, "_fields") else watched
        return result

    @staticmethod
    def _through(values: tuple, on_gradients: Callable) -> tuple[tuple, list[int]]:
        positions = [
            i
            for i, v in enumerate(values)
            if isinstance(v, Tensor) and (v.is_floating_point() or v.is_complex())
        ]
        if not any(values[i].requires_grad for i in positions):
            return values, []
        made = _Boundary.apply(on_gradients, *(values[i] for i in positions))
        passed = list(values)
        for i, t in zip(positions, made, strict=True):
            passed[i] = t
        return tuple(passed), positions

    def _on_output_gradients(self, gradients: tuple) -> tuple:
        spread = _spread(gradients, self.output_positions, self.n_outputs)
        for hook in self.pre_hooks:
            spread = _replaced(hook(self.module, spread), spread, "full_backward_pre_hook")
        self.grad_outputs = spread
        if not self.inputs_watched:
            # No input needs a gradient: the hooks run here, with nothing known of the inputs.
            for hook in self.hooks:
                answer = hook(self.module, (None,) * self.n_inputs, spread)
                if answer is not None and any(g is not None for g in _as_tuple(answer)):
                    raise RuntimeError(
                        "[full_backward_hook] expected None, got gradients: a backward hook may "
                        "only replace the gradients of inputs that require one"
                    )
        return tuple(spread[i] for i in self.output_positions)

    def _on_input_gradients(self, gradients: tuple) -> tuple:
        spread = _spread(gradients, self.input_positions, self.n_inputs)
        for hook in self.hooks:
            answer = hook(self.module, spread, self.grad_outputs)
            spread = _replaced(answer, spread, "full_backward_hook")
        self.grad_outputs = None
        return tuple(spread[i] for i in self.input_positions)


def _spread(values: tuple, positions: list[int], length: int) -> tuple:
    made: list[Any] = [None] * length
    for i, value in zip(positions, values, strict=True):
        made[i] = value
    return tuple(made)


def _as_tuple(value: Any) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def _replaced(answer: Any, gradients: tuple, name: str) -> tuple:
    if answer is None:
        return gradients
    answer = _as_tuple(answer)
    if len(answer) != len(gradients):
        raise RuntimeError(
            f"[{name}] Backward hook returned an invalid number of grad: expected "
            f"{len(gradients)}, got {len(answer)}"
        )
    return answer
