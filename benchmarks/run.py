"""taimatsu beside PyTorch and JAX: time, first steps and memory of the works in ``works.py``.

    python benchmarks/run.py [--work cnn mlp] [--rounds 5] [--peers pytorch,jax] [--check]
                             [--write docs/performance.md]

Each library has a process of its own, with the same threads on the same processors. They are asked
in turn, round after round, while the others sleep; medians of the rounds are printed, and how many
times as long as ours the others took. Beside them stands the floor: the least time that the work's
operations and bytes take at the machine's measured limits. ``--check`` fails where a goal is
missed; ``--write`` writes the page of the documentation.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import peak, report
from benchmarks.report import OURS, Results
from benchmarks.works import WORKS
from taimatsu.runtime.cores import CPUS, allowed_processors

ROOT = Path(__file__).resolve().parents[1]
PEERS = ("pytorch", "jax")
PATIENCE = 300.0  # seconds that an answer may take
PAUSE = 0.05  # seconds between two libraries' turns, until the threads of the first one sleep


class WorkerError(RuntimeError):
    """A library's process did not do what it was asked for."""


class Machine:
    """How the processes are started: threads, processors, folder of compiled code."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.processors = choose_processors(threads)

    def command(self, library: str, *more: str) -> list[str]:
        base = [sys.executable, "-m", "benchmarks.worker", library, "--threads", str(self.threads)]
        return [*base, "--processors", ",".join(map(str, self.processors)), *more]

    def environment(self, cache: str) -> dict[str, str]:
        count = str(self.threads)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        chosen = dict.fromkeys(names, count) | {"TAIMATSU_CACHE": cache, "JAX_PLATFORMS": "cpu"}
        # Others were compiled to bytecode when they were installed; ours at the first import.
        kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        return {**kept, **chosen}


def choose_processors(threads: int) -> list[int]:
    """Processors to run on, on different cores if possible; none where this cannot be chosen.

    Libraries that cannot be told a number of threads (JAX) go by the processors they may use.
    """
    if not hasattr(os, "sched_setaffinity"):
        return []
    cores: dict[str, int] = {}
    allowed = sorted(allowed_processors())
    for processor in allowed:
        siblings = CPUS / f"cpu{processor}" / "topology" / "thread_siblings_list"
        core = siblings.read_text() if siblings.exists() else str(processor)
        cores.setdefault(core, processor)
    chosen = list(cores.values())
    chosen += [processor for processor in allowed if processor not in chosen]
    return chosen[:threads]


class Worker:
    """A library's long-lived process."""

    def __init__(self, machine: Machine, library: str, cache: str) -> None:
        self.library = library
        self.process = subprocess.Popen(
            machine.command(library),
            env=machine.environment(cache),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._receive()

    def ask(self, **request: Any) -> dict:
        """The answer. WorkerError if there is none, or it is an error."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        return self._receive()

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            self.process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _receive(self) -> dict:
        out = self.process.stdout
        assert out is not None
        if not select.select([out], [], [], PATIENCE)[0]:
            self.process.kill()
            raise WorkerError(f"{self.library}: no answer within {PATIENCE:g} seconds")
        line = out.readline()
        if not line:
            raise WorkerError(f"{self.library}: the process ended ({self.process.wait()})")
        return checked(self.library, line)


def checked(library: str, line: bytes | str) -> dict:
    answer = json.loads(line)
    if "error" in answer:
        raise WorkerError(f"{library}: {answer['error'].rstrip()}")
    return answer


def is_installed(library: str) -> bool:
    """Whether a library can be imported; says so if not."""
    name = {"pytorch": "torch"}.get(library, library)
    tried = subprocess.run(
        [sys.executable, "-c", f"import {name}"], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        reason = (tried.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"{library}: left out, it cannot be imported ({reason})", flush=True)
    return not tried.returncode


# -- the rounds --------------------------------------------------------------------------------


def run_rounds(options: argparse.Namespace, machine: Machine, results: Results) -> None:
    """Fills in the times of all works in all libraries."""
    with tempfile.TemporaryDirectory(prefix="taimatsu-benchmark-") as cache:
        workers: dict[str, Worker] = {}
        try:
            for name in options.work:
                for library in results.libraries:
                    if library not in workers:
                        workers[library] = Worker(machine, library, cache)
                time_work(options, name, workers, results)
        finally:
            for worker in workers.values():
                worker.close()


def time_work(
    options: argparse.Namespace, name: str, workers: dict[str, Worker], results: Results
) -> None:
    taking_part = []
    for library in results.libraries:
        try:
            answer = workers[library].ask(do="prepare", work=name)
        except WorkerError as error:
            lose(workers, library, name, error, results)
        else:
            results.values[name, library] = answer["values"]
            taking_part.append(library)
    for _ in range(options.rounds):
        for library in list(taking_part):
            time.sleep(PAUSE)
            try:
                answer = workers[library].ask(do="time", seconds=options.seconds)
            except WorkerError as error:
                taking_part.remove(library)
                lose(workers, library, name, error, results)
            else:
                results.times.setdefault((name, library), []).append(answer["each"])
                results.new.setdefault((name, library), []).append(answer["new"])
    for library in taking_part:
        workers[library].ask(do="drop")
    print(report.time_line(results, name), flush=True)


def lose(
    workers: dict[str, Worker], library: str, name: str, error: WorkerError, results: Results
) -> None:
    """A library failed at a work: it is left out there, and starts anew for the next one."""
    results.errors[name, library] = str(error)
    print(f"{name}: {error}", flush=True)
    workers.pop(library).close()


# -- fresh processes ---------------------------------------------------------------------------


def run_first_steps(options: argparse.Namespace, machine: Machine, results: Results) -> None:
    """Fills in first steps and memory: each in a process that does nothing else."""
    for name in options.work:
        for _ in range(options.first_rounds):
            with tempfile.TemporaryDirectory(prefix="taimatsu-benchmark-") as cache:
                for state in ("empty", "filled"):
                    one_first_step(machine, OURS, name, cache, state, results)
                for library in results.libraries[1:]:
                    one_first_step(machine, library, name, cache, "", results)
        print(report.first_line(results, name), flush=True)


def one_first_step(
    machine: Machine, library: str, name: str, cache: str, state: str, results: Results
) -> None:
    begun = time.monotonic()
    done = subprocess.run(
        machine.command(library, "--first", name, "--begun", repr(begun)),
        env=machine.environment(cache),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    try:
        answer = checked(library, (done.stdout or '{"error": "the process ended"}').strip())
    except WorkerError as error:
        results.errors[name, library] = str(error)
        print(f"{name}: {error}", flush=True)
    else:
        results.first.setdefault((name, library, state), []).append(answer)


def measure_peak(machine: Machine) -> peak.Peak:
    """In a process of its own, so that its memory and threads are gone afterwards."""
    command = [sys.executable, "-m", "benchmarks.peak", "--json", "--threads", str(machine.threads)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return peak.from_json(done.stdout)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", nargs="+", choices=list(WORKS), default=list(WORKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one library's turn")
    parser.add_argument("--first-rounds", type=int, default=3, help="of first steps; 0: none")
    parser.add_argument("--peers", default=",".join(PEERS), help="to compare with; may be empty")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", type=Path, help="the page to write")
    parser.add_argument("--check", action="store_true", help="fail where a goal is missed")
    options = parser.parse_args()
    options.peers = [name for name in options.peers.split(",") if name]
    if unknown := set(options.peers) - set(PEERS):
        parser.error(f"no such peers: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    return options


def main() -> int:
    options = parse()
    machine = Machine(options.threads)
    limits = measure_peak(machine)
    peers = [name for name in options.peers if is_installed(name)]
    results = Results(limits, options.rounds, [OURS, *peers])
    print(limits.machine)
    print(report.time_header(results), flush=True)
    run_rounds(options, machine, results)
    if options.first_rounds:
        print("\n" + report.first_header(results), flush=True)
        run_first_steps(options, machine, results)
    if options.write:
        options.write.write_text(report.page(results), encoding="utf-8")
    goals = report.goals(results)
    if options.check:
        print("\n" + "\n".join(map(str, goals)))
        return int(not goals or not all(goal.is_met for goal in goals))
    return int(bool(results.errors))


if __name__ == "__main__":
    sys.exit(main())
