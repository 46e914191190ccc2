"""``TAIMATSU_PROFILE=1``: what each kernel took, against what the machine can do.

While profiling, the phases of a program are launched one by one and timed. At exit a table is
printed to standard error, the longest first: the operations that a kernel fused with the lines that
recorded them, launches, time, GFLOP/s and GB/s with their share of the machine's measured peak.
"""

from __future__ import annotations

import atexit
import sys
from typing import Any

from taimatsu.evaluate.explain import title
from taimatsu.runtime import threads

MOST_ROWS = 40


class Entry:
    """What one kernel of a program has taken so far."""

    __slots__ = ("bytes", "count", "flops", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.flops = 0
        self.bytes = 0


class Profile:
    """Times by launch (and by reference calls)."""

    def __init__(self) -> None:
        self.entries: dict[Any, Entry] = {}
        self._registered = False

    def note(self, bound: Any, call: Any, seconds: float, flops: int, moved: int) -> None:
        """Adds a launch of one of a program's kernels."""
        if not self._registered:
            self._registered = True
            atexit.register(self.show)
        entry = self.entries.setdefault((bound, call), Entry())
        entry.count += 1
        entry.seconds += seconds
        entry.flops += flops
        entry.bytes += moved

    def show(self) -> None:
        """Prints the table."""
        print(self.table(), file=sys.stderr)

    def table(self) -> str:
        """The table as text."""
        from taimatsu.evaluate.peak import peak_bandwidth, peak_flops

        count = threads.get_num_threads()
        flops, bandwidth = peak_flops(count), peak_bandwidth(count)
        total = sum(e.seconds for e in self.entries.values()) or 1.0
        lines = [
            f"profile: {count} threads, peak {flops / 1e9:.0f} GFLOP/s float32, "
            f"{bandwidth / 1e9:.0f} GB/s read; {total * 1e3:.2f} ms in kernels",
            f"{'share':>6} {'ms each':>9} {'times':>7} {'GFLOP/s':>13} {'GB/s':>12}  kernel",
        ]
        ranked = sorted(self.entries.items(), key=lambda pair: -pair[1].seconds)
        for (bound, call), entry in ranked[:MOST_ROWS]:
            rate, moved = entry.flops / entry.seconds, entry.bytes / entry.seconds
            lines.append(
                f"{entry.seconds / total:6.1%} {entry.seconds / entry.count * 1e3:9.4f} "
                f"{entry.count:7d} {rate / 1e9:7.1f} {rate / flops:5.0%} "
                f"{moved / 1e9:6.1f} {moved / bandwidth:5.0%}  {title(bound.graph, call)}"
            )
        if len(ranked) > MOST_ROWS:
            lines.append(f"... and {len(ranked) - MOST_ROWS} more")
        return "\n".join(lines)


PROFILE = Profile()
