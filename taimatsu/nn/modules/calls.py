"""What happens when a module is called: hooks around ``forward``, the boundary of a recording."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from taimatsu import recorder
from taimatsu.nn.modules.hooks import BackwardHooks, RemovableHandle, add_hook

_global_forward_pre_hooks: OrderedDict[int, Callable] = OrderedDict()
_global_forward_hooks: OrderedDict[int, Callable] = OrderedDict()
_global_forward_hooks_with_kwargs: OrderedDict[int, bool] = OrderedDict()
_global_forward_hooks_always_called: OrderedDict[int, bool] = OrderedDict()
_global_backward_pre_hooks: OrderedDict[int, Callable] = OrderedDict()
_global_backward_hooks: OrderedDict[int, Callable] = OrderedDict()


class _Depth(threading.local):
    """Per thread: how many module calls without gradients are inside one another."""

    value: int = 0


_depth = _Depth()

INSTANCE_HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_pre_hooks",
    "_backward_hooks",
)


class HookedCalls:
    """The part of a module that registers call hooks and makes calls that have some.

    ``_hooked`` is the one thing a call looks at: False on the class, True on an instance that
    was given a hook, and True on the class once a global hook exists. It is never reset (a call
    that finds no hook left is only slower).
    """

    _hooked: bool = False

    _forward_pre_hooks: OrderedDict[int, Callable]
    _forward_pre_hooks_with_kwargs: OrderedDict[int, bool]
    _forward_hooks: OrderedDict[int, Callable]
    _forward_hooks_with_kwargs: OrderedDict[int, bool]
    _forward_hooks_always_called: OrderedDict[int, bool]
    _backward_pre_hooks: OrderedDict[int, Callable]
    _backward_hooks: OrderedDict[int, Callable]
    _is_full_backward_hook: bool | None
    forward: Callable[..., Any]

    # -- registration ------------------------------------------------------------------------

    def register_forward_pre_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Calls ``hook(module, args)`` before ``forward``; what it returns replaces ``args``.

        With ``with_kwargs`` it is ``hook(module, args, kwargs)`` and may return a pair of both.
        """
        self.__dict__["_hooked"] = True
        marks = (self._forward_pre_hooks_with_kwargs, with_kwargs)
        return add_hook(self._forward_pre_hooks, hook, marks, prepend=prepend)

    def register_forward_hook(
        self,
        hook: Callable,
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Calls ``hook(module, args, output)`` after ``forward``; a result replaces the output.

        With ``with_kwargs`` it is ``hook(module, args, kwargs, output)``; with ``always_call`` it
        runs even when the call raises.
        """
        self.__dict__["_hooked"] = True
        return add_hook(
            self._forward_hooks,
            hook,
            (self._forward_hooks_with_kwargs, with_kwargs),
            (self._forward_hooks_always_called, always_call),
            prepend=prepend,
        )

    def register_full_backward_pre_hook(
        self, hook: Callable, prepend: bool = False
    ) -> RemovableHandle:
        """Calls ``hook(module, grad_output)`` when the outputs' gradients are known.

        What it returns replaces ``grad_output``.
        """
        self.__dict__["_hooked"] = True
        return add_hook(self._backward_pre_hooks, hook, prepend=prepend)

    def register_full_backward_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Calls ``hook(module, grad_input, grad_output)`` when the inputs' gradients are known.

        What it returns replaces ``grad_input``.
        """
        self.__dict__["_hooked"] = True
        self._is_full_backward_hook = True
        return add_hook(self._backward_hooks, hook, prepend=prepend)

    def register_backward_hook(self, hook: Callable) -> RemovableHandle:
        """The old name of ``register_full_backward_hook``; the hook is called the same way."""
        return self.register_full_backward_hook(hook)

    # -- the call ----------------------------------------------------------------------------

    def _call_without_gradients(self, args: tuple, kwargs: dict) -> Any:
        """A call under ``no_grad``; at the end of an outermost one the recording runs."""
        _depth.value += 1
        try:
            result = (self._call_impl if self._hooked else self.forward)(*args, **kwargs)
        finally:
            _depth.value -= 1
        if _depth.value == 0:
            recorder.module_boundary()
        return result

    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        """A call of ``forward`` with every hook that applies."""
        called: set[int] = set()
        try:
            return self._call_hooked(args, kwargs, called)
        except Exception:
            self._call_always(args, kwargs, called)
            raise

    def _call_hooked(self, args: tuple, kwargs: dict, called: set[int]) -> Any:
        args, kwargs = self._run_forward_pre_hooks(args, kwargs)
        backward = None
        hooks = [*_global_backward_hooks.values(), *self._backward_hooks.values()]
        pre_hooks = [*_global_backward_pre_hooks.values(), *self._backward_pre_hooks.values()]
        if hooks or pre_hooks:
            backward = BackwardHooks(self, hooks, pre_hooks)
            args = backward.watch_inputs(args)
        result = self.forward(*args, **kwargs)
        for key, hook, with_kwargs in self._forward_hooks_in_order():
            called.add(key)
            given = (args, kwargs, result) if with_kwargs else (args, result)
            answer = hook(self, *given)
            if answer is not None:
                result = answer
        return result if backward is None else backward.watch_outputs(result)

    def _run_forward_pre_hooks(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        for hook in list(_global_forward_pre_hooks.values()):
            answer = hook(self, args)
            if answer is not None:
                args = answer if isinstance(answer, tuple) else (answer,)
        for key, hook in list(self._forward_pre_hooks.items()):
            if key not in self._forward_pre_hooks_with_kwargs:
                answer = hook(self, args)
                if answer is not None:
                    args = answer if isinstance(answer, tuple) else (answer,)
                continue
            answer = hook(self, args, kwargs)
            if answer is None:
                continue
            if not isinstance(answer, tuple) or len(answer) != 2:
                raise RuntimeError(
                    "forward pre-hook must return None or a tuple of (new_args, new_kwargs), "
                    f"but got {answer}."
                )
            args, kwargs = answer
        return args, kwargs

    def _forward_hooks_in_order(self) -> list[tuple[int, Callable, bool]]:
        listed = [
            (key, hook, key in _global_forward_hooks_with_kwargs)
            for key, hook in _global_forward_hooks.items()
        ]
        listed += [
            (key, hook, key in self._forward_hooks_with_kwargs)
            for key, hook in self._forward_hooks.items()
        ]
        return listed

    def _call_always(self, args: tuple, kwargs: dict, called: set[int]) -> None:
        """After an error: the hooks registered with ``always_call`` that have not run yet."""
        always = {**_global_forward_hooks_always_called, **self._forward_hooks_always_called}
        for key, hook, with_kwargs in self._forward_hooks_in_order():
            if key in always and key not in called:
                hook(self, *((args, kwargs, None) if with_kwargs else (args, None)))


def register_module_forward_pre_hook(hook: Callable) -> RemovableHandle:
    """``hook(module, args)`` before the ``forward`` of every module."""
    HookedCalls._hooked = True
    return add_hook(_global_forward_pre_hooks, hook)


def register_module_forward_hook(
    hook: Callable, *, with_kwargs: bool = False, always_call: bool = False
) -> RemovableHandle:
    """``hook(module, args, output)`` after the ``forward`` of every module."""
    HookedCalls._hooked = True
    return add_hook(
        _global_forward_hooks,
        hook,
        (_global_forward_hooks_with_kwargs, with_kwargs),
        (_global_forward_hooks_always_called, always_call),
    )


def register_module_full_backward_pre_hook(hook: Callable) -> RemovableHandle:
    """``hook(module, grad_output)`` in the backward of every module."""
    HookedCalls._hooked = True
    return add_hook(_global_backward_pre_hooks, hook)


def register_module_full_backward_hook(hook: Callable) -> RemovableHandle:
    """``hook(module, grad_input, grad_output)`` in the backward of every module."""
    HookedCalls._hooked = True
    return add_hook(_global_backward_hooks, hook)


def register_module_backward_hook(hook: Callable) -> RemovableHandle:
    """The old name of ``register_module_full_backward_hook``."""
    return register_module_full_backward_hook(hook)
