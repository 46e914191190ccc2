"""How many threads computing starts with."""

from __future__ import annotations

import os
from math import ceil
from pathlib import Path

CPUS = Path("/sys/devices/system/cpu")
CGROUP = Path("/sys/fs/cgroup")


def default_num_threads() -> int:
    """``OMP_NUM_THREADS`` where it is set, as PyTorch has it; else the cores this process may use.

    That is the physical cores among the processors it is allowed to run on, and not more than a
    container's share of processor time amounts to.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    allowed = allowed_processors()
    return max(1, ceil(min(_physical(allowed), quota())))


def allowed_processors() -> set[int]:
    """The processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def quota() -> float:
    """The processors' worth of time that the container may use; infinity without a limit."""
    try:
        limit, period = (CGROUP / "cpu.max").read_text().split()
        return float(limit) / float(period) if limit != "max" else float("inf")
    except (OSError, ValueError, ZeroDivisionError):
        return float("inf")


def _physical(allowed: set[int]) -> int:
    """The cores behind the processors: two threads of one core share its arithmetic units."""
    cores = set()
    for processor in allowed:
        siblings = CPUS / f"cpu{processor}" / "topology" / "thread_siblings_list"
        try:
            cores.add(siblings.read_text())
        except OSError:
            cores.add(str(processor))
    return len(cores)
