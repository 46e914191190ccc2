"""One process of the soak: threads that compute, and everything that may disturb them.

    python -m benchmarks.soak_process --seconds 60 --seed 1 [--threads 3] [--ending normal]

``soak.py`` starts it. It ends with status 0 if all results were right and nothing grew; ``--ending
exit`` leaves the interpreter while the threads are still computing.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gc
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import taimatsu as torch
from benchmarks.soak_cases import Case, carry_out, differences, draw
from benchmarks.soak_oracle import Oracle
from benchmarks.soak_watch import Watch, say
from taimatsu import evaluate
from taimatsu.compiler.service import service
from taimatsu.recorder import state
from taimatsu.runtime import threads

TRIE_LIMIT = 20_000  # so that states are forgotten early on
MOST_THREADS = 4
CHILD_PATIENCE = 0.7  # of the patience with a thread, so that a child's stacks are printed first
WRITES = 20  # of a program that is interrupted
WRONG, FAILED = 9, 8  # exit statuses of children


class Soak:
    """The state of this process."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.deadline = time.monotonic() + options.seconds
        self.rng = random.Random(options.seed)
        self.oracle = Oracle(options.oracle)
        self.watch = Watch(options.patience)
        self.done: Counter[str] = Counter()
        self.failures: list[str] = []
        self.is_armed = False  # an interrupt may come
        self.stopped = threading.Event()
        signal.signal(signal.SIGINT, self._on_interrupt)
        sys.unraisablehook = self._on_unraisable
        threading.excepthook = lambda found: self.fail("a thread", found.exc_value)

    def is_over(self) -> bool:
        return self.stopped.is_set() or time.monotonic() > self.deadline

    def fail(self, what: str, error: BaseException | None = None) -> None:
        """Something is wrong: the process will end with it."""
        if error is not None:
            what += "\n" + "".join(traceback.format_exception(error))
        self.failures.append(what)
        say(f"FAILED: {what}")
        self.stopped.set()

    # What threads do.

    def check(self, case: Case) -> None:
        """Carries a case out and compares."""
        self.watch.tell(f"expecting {case}")
        expected = self.oracle.expect(case)
        self.watch.tell(f"running {case}")
        self.compare(carry_out(torch, case), expected, case)
        self.done[case.kind] += 1

    def compare(self, found: list, expected: list, case: Case) -> None:
        wrong = differences(found, expected, case)
        if wrong:
            self.fail(f"{case} with {torch.get_num_threads()} threads: {'; '.join(wrong)}")

    def compute(self, number: int) -> None:
        """The life of a thread."""
        rng = random.Random(1000 * self.options.seed + number)
        try:
            while not self.is_over():
                self.check(draw(rng, fresh=rng.random() < 0.2))
        except Exception as error:
            self.fail("a computing thread", error)
        self.watch.leave()

    def disturb(self) -> None:
        """The life of the main thread."""
        actions = [self.interrupt, self.fork, self.multiprocess, self.kill_compilers]
        actions += [self.interrupt_writes, self.change_threads, self.collect, self.compute_here]
        while not self.is_over():
            action = self.rng.choice(actions)
            self.watch.tell(action.__name__)
            try:
                action()
            except Exception as error:
                self.fail(action.__name__, error)
            self.done[action.__name__] += 1
            time.sleep(self.rng.uniform(0.0, 0.1))

    # Disturbances.

    def compute_here(self) -> None:
        self.check(draw(self.rng))

    def collect(self) -> None:
        gc.collect()

    def change_threads(self) -> None:
        count = self.rng.randint(1, MOST_THREADS)
        torch.set_num_threads(count)
        threads.set_num_threads(count)

    def kill_compilers(self) -> None:
        """One of the compile workers dies, whatever it is doing."""
        workers = service.processes()
        if workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.rng.choice(workers), signal.SIGKILL)
                self.done["killed"] += 1

    def interrupt(self) -> None:
        """Ctrl-C during the first run of a program; then it has to run."""
        case = draw(self.rng, fresh=True)
        expected = self.oracle.expect(case)
        where = self.interrupted(lambda: carry_out(torch, case))
        self.watch.tell(f"running {case} after an interrupt")
        try:
            self.compare(carry_out(torch, case), expected, case)
        finally:
            if self.failures or sys.exc_info()[0] is not None:
                say(f"the interrupt before came at\n{where}")

    def interrupt_writes(self) -> None:
        """Ctrl-C while tensors are written that live on: each write was done, or was not."""
        shape = (self.rng.randint(1, 40), self.rng.randint(1, 9))
        ones, first = np.ones(shape), np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
        a, b = torch.tensor(first), torch.tensor(ones)

        def program() -> None:
            for _ in range(WRITES):
                a.add_(b)
                (a * b).sum(1)[-1].item()
                a[0] += b[0] * 0

        where = self.interrupted(program)
        after = a.numpy().copy()
        done = after.flat[0]
        right = 0 <= done <= WRITES and np.array_equal(after, first + done)
        if not right or not np.array_equal((a * b).sum(1).numpy(), after.sum(1)):
            self.fail(f"tensors after an interrupt: {after - first}, which came at\n{where}")

    def interrupted(self, work: Callable[[], object]) -> str:
        """Carries something out, with Ctrl-C in between; where that came."""
        where = "no point: it came too late"
        seconds = 10 ** self.rng.uniform(-4.0, -0.7)
        timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
        timer.daemon = True
        timer.start()
        try:
            self.is_armed = True
            work()
            self.is_armed = False
        except KeyboardInterrupt as found:
            self.done["interrupted"] += 1
            where = "".join(traceback.format_tb(found.__traceback__)[-4:])
        finally:
            self.is_armed = False
        timer.join()
        return where

    def _on_interrupt(self, number: int, frame: Any) -> None:
        if self.is_armed:
            self.is_armed = False
            raise KeyboardInterrupt

    def _on_unraisable(self, found: Any) -> None:
        if not isinstance(found.exc_value, KeyboardInterrupt):  # it cannot come out of a finalizer
            self.fail(f"in {found.object!r}", found.exc_value)

    def fork(self) -> None:
        """A child computes; the parent goes on with it."""
        case = draw(self.rng, fresh=self.rng.random() < 0.5)
        expected = self.oracle.expect(case)
        child = os.fork()
        if child == 0:
            os._exit(self.in_child(case, expected))
        self.compute_here()
        self.wait_for(child, case)

    def multiprocess(self) -> None:
        """The same through multiprocessing, whose children leave the usual way."""
        case = draw(self.rng)
        expected = self.oracle.expect(case)
        context = multiprocessing.get_context("fork")
        child = context.Process(target=leave_with, args=(self, case, expected))
        child.start()
        child.join(CHILD_PATIENCE * self.options.patience)
        if child.exitcode != 0:
            if child.pid is not None and child.exitcode is None:
                end_child(child.pid)
            self.fail(f"a multiprocessing child at {case}: exit code {child.exitcode}")

    def in_child(self, case: Case, expected: list) -> int:
        """The exit status of a forked child, which carries a case out twice."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for _ in range(2):
                wrong = differences(carry_out(torch, case), expected, case)
                if wrong:
                    say(f"a forked child at {case}: {'; '.join(wrong)}")
                    return WRONG
            return 0
        except BaseException:
            say(f"a forked child at {case}: {traceback.format_exc()}")
            return FAILED

    def wait_for(self, child: int, case: Case) -> None:
        end = time.monotonic() + CHILD_PATIENCE * self.options.patience
        while time.monotonic() < end:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                code = os.waitstatus_to_exitcode(status)
                if code != 0:
                    self.fail(f"a forked child at {case}: exit code {code}")
                return
            time.sleep(0.01)
        end_child(child)
        os.waitpid(child, 0)
        self.fail(f"a forked child at {case} hung")


def end_child(child: int) -> None:
    """Kills a child that hangs; it prints its stacks first."""
    os.kill(child, signal.SIGUSR1)
    time.sleep(1.0)
    os.kill(child, signal.SIGKILL)


def leave_with(soak: Soak, case: Case, expected: list) -> None:
    sys.exit(soak.in_child(case, expected))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=3, help="that compute")
    parser.add_argument("--patience", type=float, default=180.0, help="seconds until it is a hang")
    parser.add_argument("--oracle", choices=["taimatsu", "torch"], default="taimatsu")
    parser.add_argument("--ending", choices=["normal", "exit"], default="normal")
    return parser.parse_args()


def main() -> int:
    options = parse()
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    warnings.simplefilter("ignore", DeprecationWarning)  # forking with several threads is meant
    state.TRIE_LIMIT = TRIE_LIMIT
    for part in ("nn", "optim"):  # a child of a fork cannot import what a thread was importing
        getattr(torch, part)
    soak = Soak(options)
    computing = [
        threading.Thread(target=soak.compute, args=(n,), name=f"computing-{n}", daemon=True)
        for n in range(options.threads)
    ]
    for thread in computing:
        thread.start()
    soak.disturb()
    soak.watch.leave()
    if options.ending == "exit" and not soak.failures:
        return 0  # the others are still at it
    for thread in computing:
        thread.join()
    soak.oracle.close()
    soak.watch.stop()
    for complaint in soak.watch.complaints():
        soak.fail(complaint)
    soak.done["specialisations"] = evaluate.STATISTICS.specialisations
    counted = ", ".join(f"{name} {count}" for name, count in sorted(soak.done.items()))
    say(f"{'FAILED' if soak.failures else 'ended well'}: {counted}; {soak.watch.summary()}")
    return int(bool(soak.failures))


if __name__ == "__main__":
    sys.exit(main())
