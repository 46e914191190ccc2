"""One library in a process of its own, which answers requests: a line of JSON each.

    python -m benchmarks.worker taimatsu --threads 2            serves until its input ends
    python -m benchmarks.worker taimatsu --first cnn --begun T  the first steps, and the memory

Requests: ``{"do": "prepare", "work": "cnn"}`` warms a work up, ``{"do": "time", "seconds": 0.5}``
times its steps, ``{"do": "drop"}`` forgets it. ``T`` is ``time.monotonic()`` when the process was
started. An answer with ``"error"`` says what went wrong.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import resource
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.works import WORKS, Step

LIBRARIES = ("taimatsu", "pytorch", "jax")
COMPARED = 5  # first steps, whose values are told
TURN_SECONDS = 0.2  # between two results that are waited for, while a work warms up
QUIET_SECONDS = 1.0  # without compiling, before a work counts as warm
LONGEST_WARMUP = 30.0
STEADY_STEPS = 10  # after which the time of one more is that of a known batch size
NEW_SIZE = 0.73  # of the batch size, never seen before


def prepare_for(library: str, threads: int) -> Callable[[str], Step]:
    """Imports a library; what makes its works ready."""
    if library == "jax":
        works_jax = importlib.import_module("benchmarks.works_jax")
        return lambda name: works_jax.PREPARE[name](WORKS[name].size)
    module = importlib.import_module("torch" if library == "pytorch" else library)
    module.set_num_threads(threads)
    return lambda name: WORKS[name].prepare(module, WORKS[name].size)


def counts(library: str) -> dict[str, int]:
    """What taimatsu has recorded, interpreted and compiled so far."""
    if library != "taimatsu":
        return {}
    from taimatsu import evaluate, recorder

    recorded, executed = recorder.STATISTICS, evaluate.STATISTICS
    return {
        "states": recorded.states,
        "programs": recorded.programs,
        "references": executed.references,
        "compilations": executed.compilations,
        "plans": executed.plans,
        "bindings": executed.bindings,
        "specialisations": executed.specialisations,
    }


def difference(after: dict, before: dict) -> dict[str, int | None]:
    return {name: None if count is None else count - before[name] for name, count in after.items()}


def number(value: Any) -> float:
    """A step's result, which is waited for."""
    return float(value.item() if hasattr(value, "item") else value)


class Runner:
    """Carries out the steps of one work."""

    def __init__(self, library: str, prepare: Callable[[str], Step]) -> None:
        self.library = library
        self.prepare = prepare
        self.step: Step | None = None
        self.name = ""
        self.done = 0
        self.each = 0.0  # seconds of a step, roughly

    def answer(self, request: dict) -> dict:
        if request["do"] == "prepare":
            return self.warm(request["work"])
        if request["do"] == "time":
            return self.time(request["seconds"])
        self.step = None
        gc.collect()
        return {}

    def warm(self, name: str) -> dict:
        """Steps until nothing new is compiled; the values of the first ones."""
        self.name, self.done = name, 0
        self.step = self.prepare(name)
        values = []
        for _ in range(COMPARED):
            begin = time.perf_counter()
            values.append(number(self.run(1)))
            self.each = time.perf_counter() - begin
        begin = quiet = time.perf_counter()
        known = counts(self.library)
        while (now := time.perf_counter()) - quiet < QUIET_SECONDS:
            if now - begin > LONGEST_WARMUP:
                break
            steps = self.steps_in(TURN_SECONDS)
            number(self.run(steps))
            self.each = (time.perf_counter() - now) / steps
            if (present := counts(self.library)) != known and self.is_compiling(known, present):
                known, quiet = present, now
        return {"values": values}

    @staticmethod
    def is_compiling(known: dict, present: dict) -> bool:
        return any(present[name] != known[name] for name in present if name != "references")

    def time(self, seconds: float) -> dict:
        """Seconds of a step: the time of many, the last one's result waited for, by their number.

        Also what taimatsu has recorded, interpreted and compiled in them.
        """
        steps = self.steps_in(seconds)
        before = counts(self.library)
        begin = time.perf_counter()
        number(self.run(steps))
        spent = time.perf_counter() - begin
        self.each = spent / steps
        return {"each": self.each, "steps": steps, "new": difference(counts(self.library), before)}

    def steps_in(self, seconds: float) -> int:
        """How many steps take about so long, in whole periods."""
        period = WORKS[self.name].period
        steps = max(3, int(seconds / max(self.each, 1e-7)))
        return -(-steps // period) * period

    def run(self, steps: int) -> Any:
        assert self.step is not None
        value = None
        for i in range(self.done, self.done + steps):
            value = self.step(i)
        self.done += steps
        return value


def peak_memory() -> int:
    """The most bytes of memory this process has had at a time."""
    status = Path("/proc/self/status")
    if status.exists():  # its count begins with this program; getrusage's with the parent's
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def first_steps(library: str, threads: int, name: str, begun: float) -> dict:
    """Seconds from the start of the process to the first result, and what comes after."""
    prepare = prepare_for(library, threads)
    imported, memory = time.monotonic() - begun, peak_memory()
    step = prepare(name)
    value = number(step(0))
    first = time.monotonic() - begun
    known = [seconds_of(step, i) for i in range(1, 1 + 2 * STEADY_STEPS)][STEADY_STEPS:]
    answer = {"import": imported, "first": first, "value": value}
    if WORKS[name].has_batches:
        size = int(WORKS[name].size * NEW_SIZE)
        begin = time.perf_counter()
        number(step(0, size))
        answer["new_size"] = time.perf_counter() - begin - statistics.median(known)
    answer["memory"], answer["memory_imported"] = peak_memory(), memory
    answer["compile_workers"] = len(compile_workers(library))
    return answer


def seconds_of(step: Step, i: int) -> float:
    begin = time.perf_counter()
    number(step(i))
    return time.perf_counter() - begin


def compile_workers(library: str) -> list[int]:
    if library != "taimatsu":
        return []
    from taimatsu.compiler.service import service

    return service.processes()


def serve(library: str, threads: int, answers: Any) -> None:
    runner = Runner(library, prepare_for(library, threads))
    answers.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        try:
            answer = runner.answer(json.loads(line))
        except Exception:
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--processors", default="", help="the numbers of those to run on")
    parser.add_argument("--first", choices=list(WORKS))
    parser.add_argument("--begun", type=float, default=0.0)
    options = parser.parse_args()
    # What libraries print goes to standard error: answers alone go to standard output.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        if options.processors:
            os.sched_setaffinity(0, map(int, options.processors.split(",")))
        if options.first:
            found = first_steps(options.library, options.threads, options.first, options.begun)
            answers.write(json.dumps(found) + "\n")
        else:
            serve(options.library, options.threads, answers)
    except Exception:
        answers.write(json.dumps({"error": traceback.format_exc()}) + "\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
