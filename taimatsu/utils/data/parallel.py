"""The parent's side of a loader with workers: who loads what, and an orderly end in every case."""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import signal
import time
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from taimatsu.utils.data import worker as protocol

if TYPE_CHECKING:
    from taimatsu.utils.data.dataloader import DataLoader

_END_SECONDS = 5.0  # how long a worker may take to finish its sample before it is terminated


class Pool:
    """The worker processes of one iterator, each with its pipe.

    It ends once, whoever comes first: exhaustion, an error, garbage collection of the iterator
    or the interpreter's exit.
    """

    def __init__(self, context: Any, tasks: list[protocol.WorkerTask]) -> None:
        self.owner = os.getpid()
        self.pipes: list[Connection] = []
        self.processes: list[Any] = []
        self.ended = False
        forked = context.get_start_method() == "fork"
        try:
            for task in tasks:
                self._start(context, task, forked)
        except BaseException:
            self.end()
            raise

    def _start(self, context: Any, task: protocol.WorkerTask, forked: bool) -> None:
        ours, theirs = context.Pipe()
        self.pipes.append(ours)
        if forked:
            object.__setattr__(task, "inherited", tuple(self.pipes))
        process = context.Process(target=protocol.run_worker, args=(task, theirs), daemon=True)
        process.start()
        self.processes.append(process)
        # Only the worker may hold this end, so that its death reads as end of file here.
        theirs.close()

    def send(self, index: int, order: tuple) -> None:
        try:
            self.pipes[index].send(order)
        except OSError:
            raise self.death(index) from None

    def receive(self, index: int) -> tuple:
        try:
            return self.pipes[index].recv()
        except (EOFError, OSError):
            raise self.death(index) from None

    def death(self, index: int) -> RuntimeError:
        """The error for a worker whose pipe has closed."""
        process = self.processes[index]
        process.join(_END_SECONDS)
        code = process.exitcode
        if code is not None and code < 0:
            reason = f"killed by signal: {signal.Signals(-code).name}"
        else:
            reason = f"exit code {code}"
        return RuntimeError(
            f"[DataLoader] DataLoader worker (pid {process.pid}) exited unexpectedly ({reason}); "
            "num_workers=0 runs the dataset in this process, where its error can be seen"
        )

    def end(self) -> None:
        """Ends all workers and reaps them; those that do not finish are terminated, then killed."""
        if self.ended or os.getpid() != self.owner:  # a fork's copy must leave the workers alone
            return
        self.ended = True
        for pipe in self.pipes:
            with contextlib.suppress(OSError):  # that worker is gone already
                pipe.send((protocol.STOP,))
            pipe.close()
        deadline = time.monotonic() + _END_SECONDS
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        for process in self.processes:
            if process.is_alive():
                process.terminate()
                process.join(1.0)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()


class ParallelIterator:
    """Batches loaded by worker processes.

    Task number n goes to the next worker in turn; ``pending`` remembers who has it, in order of
    the tasks. With ``in_order`` only the first pending task may be given out, so one pipe is
    waited on; else the first result of any worker is.
    """

    def __init__(self, loader: DataLoader, base_seed: int) -> None:
        if not loader.prefetch_factor:
            raise AssertionError(
                "[DataLoader] prefetch_factor must be greater than 0 with workers, got "
                f"{loader.prefetch_factor}; leave it out for 2"
            )
        self.loader = loader
        self.prefetch = loader.prefetch_factor
        self.num_workers = loader.num_workers
        self.persistent = loader.persistent_workers
        tasks = [
            protocol.WorkerTask(
                worker_id,
                loader.num_workers,
                base_seed,
                loader.dataset,
                loader._fetcher_factory(),
                loader.worker_init_fn,
                inherited=(),
            )
            for worker_id in range(loader.num_workers)
        ]
        self.pool = Pool(loader._context(), tasks)
        self._finalizer = weakref.finalize(self, self.pool.end)
        self.epoch = 0
        self._begin_epoch()

    # -- the epoch ----------------------------------------------------------------------------

    def _begin_epoch(self) -> None:
        self.indices: Iterator = iter(self.loader._index_sampler)
        self.task_numbers = itertools.count()
        self.pending: OrderedDict[int, int] = OrderedDict()  # task -> worker
        self.active = [True] * self.num_workers
        self.turn = itertools.cycle(range(self.num_workers))
        self.yielded = 0
        for _ in range(self.prefetch * self.num_workers):
            self._order_next()

    def restart(self) -> None:
        """Begins the next epoch with the same workers; what is left of the last one is dropped."""
        self.epoch += 1
        for index in range(self.num_workers):
            self.pool.send(index, (protocol.EPOCH, self.epoch))
        for index in range(self.num_workers):
            while True:
                self._wait([index])
                kind, number, _ = self.pool.receive(index)
                if kind == protocol.READY and number == self.epoch:
                    break
        self._begin_epoch()

    def _order_next(self) -> None:
        """Gives the next task to the next worker that still has samples."""
        if not any(self.active):
            return
        try:
            indices = next(self.indices)
        except StopIteration:
            return
        worker = self._next_worker()
        number = next(self.task_numbers)
        self.pool.send(worker, (protocol.FETCH, number, indices))
        self.pending[number] = worker

    def _next_worker(self) -> int:
        if self.loader.in_order:
            return next(index for index in self.turn if self.active[index])
        loads = dict.fromkeys((i for i in range(self.num_workers) if self.active[i]), 0)
        for index in self.pending.values():
            if index in loads:
                loads[index] += 1
        return min(loads, key=loads.__getitem__)

    # -- iteration ------------------------------------------------------------------------------

    def __iter__(self) -> ParallelIterator:
        return self

    def __len__(self) -> int:
        return len(self.loader._index_sampler)

    def __next__(self) -> Any:
        if self.pool.ended:
            raise StopIteration
        try:
            kind, payload = self._next_result()
        except StopIteration:
            if not self.persistent:
                self.end()
            raise
        except BaseException:  # timeout, a dead worker, Ctrl-C
            self.end()
            raise
        if kind == protocol.ERROR:
            # Bytes of our own worker; the iteration may go on after the error.
            pickle.loads(payload).reraise()
        self.yielded += 1
        self.loader._check_stream_length(self.yielded)
        return protocol.unpack(payload)

    def _next_result(self) -> tuple[str, bytes]:
        while True:
            self._drop_exhausted()
            if not self.pending:
                raise StopIteration
            candidates = (
                [next(iter(self.pending.values()))]
                if self.loader.in_order
                else sorted(set(self.pending.values()))
            )
            worker = self._wait(candidates)
            kind, number, payload = self.pool.receive(worker)
            if self.pending.pop(number, None) is None:
                continue  # left over by a worker whose stream had ended
            if kind == protocol.EXHAUSTED:
                self.active[worker] = False
            self._order_next()
            if kind != protocol.EXHAUSTED:
                return kind, payload

    def _drop_exhausted(self) -> None:
        """Forgets the tasks that workers without samples still have."""
        for number in [n for n, worker in self.pending.items() if not self.active[worker]]:
            del self.pending[number]

    def _wait(self, workers: list[int]) -> int:
        """The first of ``workers`` with a reply, or whose pipe has closed."""
        pipes = {self.pool.pipes[index]: index for index in workers}
        timeout = self.loader.timeout or None
        ready = connection.wait(list(pipes), timeout)
        if not ready:
            raise RuntimeError(
                f"[DataLoader] DataLoader timed out after {timeout} seconds waiting for workers "
                f"{workers}; raise timeout, or look at what the dataset waits for"
            )
        return pipes[ready[0]]  # type: ignore[index]

    def end(self) -> None:
        self._finalizer()


def warn_of_many_workers(count: int) -> None:
    """Warns, as PyTorch does, when there are more workers than processors to run them."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    processors = processors or os.cpu_count() or 1
    if count > processors:
        warnings.warn(
            f"This DataLoader will create {count} worker processes in total. Our suggested max "
            f"number of worker in current system is {processors}; more of them than processors "
            "may run slowly or even freeze",
            stacklevel=4,
        )
