"""Watches one process of the soak: memory, descriptors, caches, and whether everything moves."""

from __future__ import annotations

import faulthandler
import os
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from taimatsu import recorder
from taimatsu.compiler.cache import MIB
from taimatsu.config import config
from taimatsu.recorder import state

PERIOD = 1.0  # seconds between two samples
GROWTH = 1.25  # of memory, from the second quarter of the time to the last
SLACK = 64 * MIB
MORE_DESCRIPTORS = 32
MORE_THREADS = 16
TRIE_SLACK = 1.25
FOLDER_SLACK = 1.25


class Sample(NamedTuple):
    """One look at the process."""

    memory: int  # bytes
    descriptors: int
    threads: int
    states: int
    folder: int  # bytes of compiled code on disk


class Watch:
    """Takes samples in a thread of its own.

    Threads tell of their progress; where one does not for ``patience`` seconds, all stacks are
    printed and the process ends. Should even that not be possible (a thread keeps the GIL), the
    fault handler's own thread ends it.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.samples: list[Sample] = []
        self._progress: dict[str, tuple[float, str]] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def tell(self, what: str) -> None:
        """This thread begins something."""
        self._progress[threading.current_thread().name] = (time.monotonic(), what)

    def leave(self) -> None:
        """This thread has ended its work."""
        self._progress.pop(threading.current_thread().name, None)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()

    def _run(self) -> None:
        while not self._stopped.wait(PERIOD):
            faulthandler.dump_traceback_later(2 * self.patience, exit=True)
            self.samples.append(take_sample())
            now = time.monotonic()
            for name, (since, what) in list(self._progress.items()):
                if now - since > self.patience:
                    say(f"hang: {name} has been at {what} for {now - since:.0f} seconds")
                    faulthandler.dump_traceback(all_threads=True)
                    os._exit(3)

    def complaints(self) -> list[str]:
        """What grew beyond its bound; empty if nothing did, or too little was seen."""
        found = []
        most = max((sample.states for sample in self.samples), default=0)
        if most > TRIE_SLACK * state.TRIE_LIMIT:
            found.append(f"{most} states in the trie, {state.TRIE_LIMIT} allowed")
        folder = max((sample.folder for sample in self.samples), default=0)
        if folder > FOLDER_SLACK * config.cache_size * MIB:
            found.append(f"{folder} bytes of compiled code, {config.cache_size} MiB allowed")
        quarter = len(self.samples) // 4
        if quarter < 10:
            return found
        early, late = self.samples[quarter : 2 * quarter], self.samples[-quarter:]
        before, after = (statistics.median(s.memory for s in part) for part in (early, late))
        if after > GROWTH * before + SLACK:
            found.append(f"memory grew from {before / MIB:.0f} to {after / MIB:.0f} MiB")
        for name, more in (("descriptors", MORE_DESCRIPTORS), ("threads", MORE_THREADS)):
            before, after = (statistics.median(getattr(s, name) for s in p) for p in (early, late))
            if after > before + more:
                found.append(f"{name} grew from {before:.0f} to {after:.0f}")
        return found

    def summary(self) -> str:
        if not self.samples:
            return "no samples"
        first, last = self.samples[len(self.samples) // 4], self.samples[-1]
        most = [max(s[i] for s in self.samples) for i in range(len(Sample._fields))]
        return (
            f"memory {first.memory // MIB} to {last.memory // MIB} MiB (most {most[0] // MIB}), "
            f"descriptors {first.descriptors} to {last.descriptors}, threads at most {most[2]}, "
            f"states at most {most[3]}, compiled code at most {most[4] / MIB:.1f} MiB"
        )


def take_sample() -> Sample:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Sample(
        pages * os.sysconf("SC_PAGESIZE"),
        len(os.listdir("/proc/self/fd")),
        len(os.listdir("/proc/self/task")),
        recorder.STATISTICS.live,
        folder_size(Path(config.cache)),
    )


def folder_size(folder: Path) -> int:
    """The bytes of all files in a folder, some of which may just be going."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def say(text: str) -> None:
    """A line on standard error, in one piece: also in a forked child."""
    sys.stderr.flush()
    os.write(2, f"[{os.getpid()}] {text}\n".encode())
