"""A soak: mixed networks, threads, forks, interrupts and killed compile workers, for minutes.

    python benchmarks/soak.py --minutes 20 [--seed 0] [--oracle taimatsu|torch]

One process runs the whole time; beside it, short ones come and go that share the folder of compiled
code with it: they end as they should, or leave while their threads compute, or are killed. Every
result is compared with another process's, which computes operation by operation. What fails the
soak: a wrong value, an error, a crash, a hang, memory or descriptors that grow, a cache beyond its
bound, a process left behind.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
CACHE_MIB = 8  # little, so that old entries have to go
BRIEF_SECONDS = (5.0, 30.0)
GRACE = 30.0  # seconds until processes have to be gone, beyond their time
ENDINGS = ("normal", "exit", "killed")


class Child(NamedTuple):
    """A process of the soak."""

    process: subprocess.Popen
    ending: str
    until: float  # when it is killed, or has to be gone


class Soak:
    """Starts the processes and looks after them."""

    def __init__(self, options: argparse.Namespace, cache: str) -> None:
        self.options = options
        self.rng = random.Random(options.seed)
        self.environment = {
            **os.environ,
            "TAIMATSU_CACHE": cache,
            "TAIMATSU_CACHE_SIZE": str(CACHE_MIB),
            "OPENBLAS_NUM_THREADS": "1",  # its threads do not like forks
        }
        self.started = 0
        self.failures: list[str] = []

    def start(self, seconds: float, threads: int, ending: str) -> Child:
        self.started += 1
        command = [
            *(sys.executable, "-m", "benchmarks.soak_process"),
            *("--seconds", str(seconds), "--threads", str(threads)),
            *("--seed", str(1000 * self.options.seed + self.started)),
            *("--patience", str(self.options.patience), "--oracle", self.options.oracle),
            *("--ending", "exit" if ending == "exit" else "normal"),
        ]
        process = subprocess.Popen(command, env=self.environment, cwd=ROOT, start_new_session=True)
        until = time.monotonic() + seconds
        if ending == "killed":
            until -= self.rng.uniform(0.0, 0.9 * seconds)
        else:
            until += GRACE + 2.5 * self.options.patience
        return Child(process, ending, until)

    def run(self) -> None:
        end = time.monotonic() + 60.0 * self.options.minutes
        lasting = self.start(60.0 * self.options.minutes, 3, "normal")
        brief: Child | None = None
        try:
            while not self.failures and self.is_running(lasting):
                if brief is not None and not self.is_running(brief):
                    brief = None
                left = end - time.monotonic()
                if brief is None and left > BRIEF_SECONDS[0]:
                    seconds = self.rng.uniform(*BRIEF_SECONDS)
                    ending = self.rng.choice(ENDINGS)
                    brief = self.start(min(seconds, left), 2, ending)
                time.sleep(0.5)
            while brief is not None and not self.failures and self.is_running(brief):
                time.sleep(0.5)
        finally:
            for child in (lasting, brief):
                if child is not None and child.process.poll() is None:
                    child.process.kill()
                    child.process.wait()
        self.look_for_leftovers()

    def is_running(self, child: Child) -> bool:
        """Whether a process goes on; judges how it ended, and ends it when it is time."""
        status = child.process.poll()
        if status is None and time.monotonic() > child.until:
            if child.ending != "killed":
                self.failures.append(f"process {child.process.pid} hung")
                child.process.send_signal(signal.SIGUSR1)  # it prints its stacks
                time.sleep(2.0)
            child.process.kill()
            child.process.wait()
            return False
        if status:
            self.failures.append(f"process {child.process.pid} ended with status {status}")
        return status is None

    def look_for_leftovers(self) -> None:
        """Compile workers and other processes of the soak leave when their parent is gone."""
        end = time.monotonic() + GRACE
        while (left := self.leftovers()) and time.monotonic() < end:
            time.sleep(1.0)
        if left:
            self.failures.append(f"processes left behind: {', '.join(map(str, left))}")
            for process in left:
                os.kill(process, signal.SIGKILL)

    def leftovers(self) -> list[int]:
        """The processes that this soak's environment tells apart from all others."""
        mark = f"TAIMATSU_CACHE={self.environment['TAIMATSU_CACHE']}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=float, default=180.0, help="seconds until it is a hang")
    parser.add_argument("--oracle", choices=["taimatsu", "torch"], default="taimatsu")
    options = parser.parse_args()
    if not sys.platform.startswith("linux"):
        print("the soak reads /proc: it runs on Linux")
        return 2
    with tempfile.TemporaryDirectory(prefix="taimatsu-soak-") as cache:
        soak = Soak(options, cache)
        soak.run()
    for failure in soak.failures:
        print(f"FAILED: {failure}")
    print(f"{soak.started} processes, {'FAILED' if soak.failures else 'all went well'}")
    return int(bool(soak.failures))


if __name__ == "__main__":
    sys.exit(main())
