"""Modules whose attributes are checked when they are set."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from typing import Any


def checked(name: str, value: Any, kind: type, owner: str) -> Any:
    """``value``, if it is of ``kind``; RuntimeError with PyTorch's words if not."""
    if isinstance(value, kind):
        return value
    raise RuntimeError(
        f"set_{name}_{owner} expects a {kind.__name__}, but got {type(value).__name__}"
    )


class SwitchModule(types.ModuleType):
    """A module that takes only True and False for those of its attributes that are switches."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(self.__dict__.get(name), bool):
            checked(name, value, bool, self.__name__.rpartition(".")[2])
        super().__setattr__(name, value)


@contextlib.contextmanager
def switched(module: Any, values: dict[str, Any]) -> Iterator[None]:
    """Sets attributes of ``module`` for a block."""
    before = {name: getattr(module, name) for name in values}
    try:
        for name, value in values.items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)
