"""Whether operations enter the graph: per thread, as context manager, decorator or function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from taimatsu import recorder
from taimatsu.recorder import GRAD, INFERENCE, NO_GRAD


def is_grad_enabled() -> bool:
    """Whether operations on tensors that require gradients are recorded in the graph."""
    return recorder.local.mode == GRAD


def is_inference_mode_enabled() -> bool:
    """Whether ``inference_mode`` is on."""
    return recorder.local.mode == INFERENCE


class _Mode:
    """A grad mode for a ``with`` block or a decorated function (generators too)."""

    mode = NO_GRAD

    def __init__(self) -> None:
        self.before: list[int] = []

    def __enter__(self) -> None:
        self.before.append(recorder.local.mode)
        recorder.set_mode(self.mode)

    def __exit__(self, *_: Any) -> None:
        recorder.set_mode(self.before.pop())

    def clone(self) -> _Mode:
        return type(self)()

    def __call__(self, function: Callable) -> Callable:
        if inspect.isclass(function):
            raise TypeError(f"{type(self).__name__} decorates functions, not classes")
        if inspect.isgeneratorfunction(function):
            return self._wrap_generator(function)

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self.clone():
                return function(*args, **kwargs)

        return wrapped

    def _wrap_generator(self, function: Callable) -> Callable:
        """Each step of the generator runs in the mode; its consumer does not."""

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            generator = function(*args, **kwargs)
            sent: Any = None
            try:
                while True:
                    with self.clone():
                        item = generator.send(sent)
                    sent = yield item
            except StopIteration as stop:
                return stop.value
            finally:
                generator.close()

        return wrapped


class no_grad(_Mode):  # noqa: N801 (PyTorch's name)
    """Operations do not enter the graph; results do not require gradients."""

    def __new__(cls, function: Callable | None = None) -> Any:
        return super().__new__(cls) if function is None else cls()(function)

    def __init__(self, function: Callable | None = None) -> None:
        super().__init__()


class enable_grad(no_grad):  # noqa: N801 (PyTorch's name)
    """Operations enter the graph again, inside ``no_grad``."""

    mode = GRAD


class set_grad_enabled(_Mode):  # noqa: N801 (PyTorch's name)
    """Sets the grad mode at once, and back at the end where used as a context manager."""

    def __init__(self, mode: bool) -> None:
        super().__init__()
        self.mode = GRAD if mode else NO_GRAD
        self.before.append(recorder.local.mode)
        recorder.set_mode(self.mode)

    def __enter__(self) -> None:
        recorder.set_mode(self.mode)

    def __call__(self, function: Callable) -> Callable:
        recorder.set_mode(self.before[-1])  # a decorator changes nothing until it is called
        return super().__call__(function)

    def clone(self) -> _Mode:
        return type(self)(self.mode == GRAD)


class inference_mode(_Mode):  # noqa: N801 (PyTorch's name)
    """``no_grad`` whose results can never enter a graph."""

    def __new__(cls, mode: Any = True) -> Any:
        return cls(True)(mode) if callable(mode) else super().__new__(cls)

    def __init__(self, mode: bool = True) -> None:
        super().__init__()
        self.mode = INFERENCE if mode else GRAD

    def __enter__(self) -> None:
        self.before.append(recorder.local.mode)
        if self.mode == INFERENCE or recorder.local.mode == INFERENCE:
            recorder.set_mode(self.mode)

    def clone(self) -> _Mode:
        return type(self)(self.mode == INFERENCE)
