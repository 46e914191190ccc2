"""An update that is recorded once and replayed: ``optimizer.step()`` as a macro edge."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from taimatsu import recorder
from taimatsu.tensor import Tensor


def replayed(update: Callable) -> Callable:
    """Decorates an update: a function of lists of tensors (or None), written in place, and of
    keyword options. Floats among the options are runtime numbers (a new learning rate takes the
    same steps); what else they are decides the control flow, and is part of the macro's key.
    """

    @functools.wraps(update)
    def wrapper(*lists: Sequence[Tensor] | None, **options: Any) -> None:
        tensors = [t for given in lists if given is not None for t in given]
        names = [k for k, v in options.items() if type(v) is float]
        flags = {k: v for k, v in options.items() if type(v) is not float}
        if not all(map(_is_key, flags.values())):
            update(*lists, **options)
            return
        shape = tuple([-1 if given is None else len(given) for given in lists])
        key = (update, shape, tuple(names), *flags.items())

        def record(numbers: Sequence[Any]) -> tuple:
            update(*lists, **dict(zip(names, numbers, strict=True)), **flags)
            return ()

        recorder.macro.call(key, tensors, [options[k] for k in names], record)

    return wrapper


def _is_key(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, str))
