"""Work of NumPy shared between threads: what the reference carries out line by line.

NumPy gives the GIL up in its loops, so plain Python threads serve. They live for one call, which is
why a fork finds nothing to mend; work within shared work is not shared again.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable

from taimatsu.runtime.threads import get_num_threads

_sharing = threading.local()  # .inside: this thread carries out a share


def share(work: Callable[[int, int], None], count: int, grain: int) -> None:
    """Calls ``work(start, stop)`` for ranges of at most ``grain`` that make up ``range(count)``.

    Threads, as many as a program has, take one range after the other: the results must not depend
    on which thread takes which. An exception of ``work`` is raised here.
    """
    if count <= grain or get_num_threads() == 1 or getattr(_sharing, "inside", False):
        for start in range(0, count, grain):
            work(start, min(start + grain, count))
        return
    starts = iter(range(0, count, grain))
    failures: list[BaseException] = []

    def take() -> None:
        _sharing.inside = True
        try:
            for start in starts:  # the GIL keeps two threads from taking the same
                work(start, min(start + grain, count))
        except BaseException as failure:
            failures.append(failure)
        finally:
            _sharing.inside = False

    helpers = _helpers(take, -(-count // grain) - 1)
    take()
    for helper in helpers:
        helper.join()
    if failures:
        raise failures[0]


def _helpers(take: Callable[[], None], most: int) -> list[threading.Thread]:
    """Started threads that carry out ``take`` under this thread's NumPy settings."""
    started = []
    for _ in range(min(get_num_threads() - 1, most)):
        context = contextvars.copy_context()
        helper = threading.Thread(target=context.run, args=(take,), daemon=True)
        try:
            helper.start()
        except RuntimeError:  # no more threads: fewer will do
            break
        started.append(helper)
    return started
