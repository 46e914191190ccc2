"""What parts do about a fork, in an order that does not hang on when they were imported.

A part that has locks takes them before a fork and gives them back after it. They are taken from the
outermost to the innermost: a program under way takes the locks of the compiler and the runtime, so
its end is awaited before these are held.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import NamedTuple

OUTERMOST = 0  # waits for programs under way
INNER = 1  # the locks that programs take


def _nothing() -> None:
    pass


class _Handler(NamedTuple):
    rank: int
    before: Callable[[], object]
    in_parent: Callable[[], object]
    in_child: Callable[[], object]


class _Entered(threading.local):
    """The handlers whose ``before`` the forking thread has called, in that order."""

    handlers: tuple[_Handler, ...] = ()


_handlers: list[_Handler] = []
_entered = _Entered()


def register(
    before: Callable[[], object] = _nothing,
    in_parent: Callable[[], object] = _nothing,
    in_child: Callable[[], object] = _nothing,
    rank: int = INNER,
) -> None:
    """Has functions called around each fork of this process.

    Args:
        before: called by the forking thread; lower ranks first, what was registered last before
            others of its rank.
        in_parent, in_child: called after it, in the opposite order.
    """
    _handlers.append(_Handler(rank, before, in_parent, in_child))


def _before() -> None:
    _entered.handlers = ()
    # While one waits, a program may import others.
    while waiting := [h for h in _handlers if h not in _entered.handlers]:
        following = min(reversed(waiting), key=lambda h: h.rank)
        _entered.handlers += (following,)
        following.before()


def _in_parent() -> None:
    for handler in reversed(_entered.handlers):
        handler.in_parent()


def _in_child() -> None:
    for handler in reversed(_entered.handlers):
        handler.in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
