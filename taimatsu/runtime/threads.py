"""Worker threads: one call into compiled code carries out a program.

A ``Program`` is a list of phases; threads claim the chunks of each from a counter, the calling
thread among them (``compiler/codegen/dispatch.py`` is the code that does it, and says how). Workers
are Python threads that spend their lives in one ctypes call, without the GIL. Which thread carries
out a chunk never decides what it computes, so results do not depend on how many there are.

Ctrl-C while a program runs is answered when the program is done: what programs write stays whole.
A fork waits for what was started in the background; the child starts threads of its own when it
first needs them.
"""

from __future__ import annotations

import atexit
import ctypes
import struct
import sys
import threading
import time
import weakref
from collections.abc import Iterable
from typing import Any, NamedTuple

from taimatsu import forks
from taimatsu.runtime.cores import allowed_processors, default_num_threads
from taimatsu.runtime.loader import LoadedObject

SPIN_SECONDS = 200e-6  # before a thread without work goes to sleep: what Python takes for a step
CROWDED_SPIN_SECONDS = 2e-6  # the same where threads outnumber processors
MOST_CHUNKS = 2**32 - 1
MOST_THREADS = 1024

_ROW = struct.Struct("<qqq")
_SLOT = 3  # the word of a launch that says in which slot it runs; -1: in none
_I64, _PTR = ctypes.c_int64, ctypes.c_void_p


_NOT_DONE = -1  # the first word of a report before a program has ended


class Interrupted(KeyboardInterrupt):
    """Ctrl-C came while a program ran, which was carried out to its end all the same."""


class KernelError(RuntimeError):
    """A kernel returned a code other than 0.

    Attributes:
        code: what the kernel returned.
        phase: the index of the phase in the list that the program was made from.
        chunk: the failing chunk, the lowest if several failed.
    """

    def __init__(self, code: int, phase: int, chunk: int) -> None:
        super().__init__(f"[run] phase {phase} failed with code {code} in chunk {chunk}")
        self.code = code
        self.phase = phase
        self.chunk = chunk


class Phase(NamedTuple):
    """A function called once for each chunk, in any order.

    ``function`` is the address of ``i64 kernel(ptr arguments, i64 chunk, i64 worker)``, which
    returns 0 or an error code; ``offset`` is where its arguments lie in the launch's block.
    """

    function: int
    chunks: int
    offset: int = 0


class Program:
    """Phases, carried out one after the other. Immutable; any number of launches may share it.

    Args:
        phases: what to carry out; phases without chunks are left out.
        owners: what must stay alive with it: the loaded objects.
    """

    __slots__ = ("_numbers", "_table", "address", "count", "is_shared", "owners")

    def __init__(self, phases: Iterable[Phase], owners: Iterable[Any] = ()) -> None:
        phases = list(phases)
        for phase in phases:
            if not 0 <= phase.chunks <= MOST_CHUNKS:
                raise ValueError(f"[run] expected 0 to {MOST_CHUNKS} chunks; got {phase.chunks}")
            if not phase.function:
                raise ValueError("[run] a phase has no function")
        self._numbers = [number for number, phase in enumerate(phases) if phase.chunks]
        rows = b"".join(_ROW.pack(*phases[number]) for number in self._numbers)
        self._table = ctypes.create_string_buffer(rows, max(len(rows), 1))
        self.address = ctypes.addressof(self._table)
        self.count = len(self._numbers)
        self.is_shared = any(phase.chunks > 1 for phase in phases)
        self.owners = tuple(owners)

    def error(self, report: Any) -> KernelError:
        """The error that compiled code reported."""
        return KernelError(report[0], self._numbers[report[1]], report[2])


class Dispatch:
    """The functions of the dispatch code.

    Args:
        code: the loaded object.
        system: how it sleeps, ``"futex"`` or ``"pthread"``; as it was compiled.
    """

    def __init__(self, code: LoadedObject, system: str = "") -> None:
        self.system = system or ("futex" if sys.platform == "linux" else "pthread")
        self.pool_bytes = code.function("pool_bytes", _I64)()
        self.init = code.function("pool_init", None, _PTR, _I64, _PTR)
        self.worker = code.function("worker", None, _PTR, _I64)
        self.stop = code.function("stop", None, _PTR)
        self.run_alone = code.function("run_alone", _I64, _PTR, _I64, _PTR, _PTR)
        self.run = code.function("run", _I64, _PTR, _PTR, _I64, _PTR, _PTR)
        self.start = code.function("start", None, _PTR, _PTR, _I64, _PTR, _PTR)
        self.join = code.function("join", None, _PTR, _PTR)
        self.is_done = code.function("is_done", _I64, _PTR, _I64)
        self.is_idle = code.function("is_idle", _I64, _PTR)
        self._spins_per_second = self._measure(code.function("spin", None, _I64))

    def spins(self, threads: int) -> int:
        """How often a thread looks for work before it sleeps."""
        crowded = threads > len(allowed_processors())
        seconds = CROWDED_SPIN_SECONDS if crowded else SPIN_SECONDS
        return max(1, int(self._spins_per_second * seconds))

    @staticmethod
    def _measure(spin: Any) -> float:
        count, best = 500, float("inf")
        for _ in range(5):
            begin = time.perf_counter()
            spin(count)
            best = min(best, time.perf_counter() - begin)
        return count / max(best, 1e-9)


class _Reports(threading.local):
    """Where compiled code tells a thread what went wrong: three words."""

    def __init__(self) -> None:
        self.words = (ctypes.c_int64 * 3)()
        self.address = ctypes.addressof(self.words)


_reports = _Reports()
_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


class Pool:
    """A number of threads that carry out programs: the one that calls, and workers.

    Workers are started by the first program that has work for several. Any Python thread may
    launch; several launches share the workers, and one that finds all of the pool's slots taken is
    carried out by its own thread alone.
    """

    def __init__(self, dispatch: Dispatch, threads: int) -> None:
        self.threads = threads  # kernels get worker numbers below this
        self.dispatch = dispatch
        self._lock = threading.RLock()  # finalizers of garbage may come back here
        self._workers: list[threading.Thread] = []
        self._is_stopped = False
        self._is_alone = True  # until a worker is there
        self._needs_workers = threads > 1
        self._memory = ctypes.create_string_buffer(dispatch.pool_bytes + 63)
        self._address = -(-ctypes.addressof(self._memory) // 64) * 64
        self._sleep, calls = _sleep_calls(dispatch.system)
        dispatch.init(self._address, dispatch.spins(threads), calls)
        _pools.add(self)

    def run(self, program: Program, block: int) -> None:
        """Carries out a program; returns when it is done.

        Args:
            program: the phases.
            block: the address that the phases' offsets count from.

        Raises:
            KernelError: a kernel returned an error. The chunks of its phase that were under way
                are done, no later ones.
            Interrupted: Ctrl-C came meanwhile; the program was carried out.
        """
        if self._needs_workers and program.is_shared:
            self._start_workers()
        reports = _reports
        words = reports.words
        words[0] = _NOT_DONE
        try:
            if self._is_alone or not program.is_shared:
                code = self.dispatch.run_alone(
                    program.address, program.count, block, reports.address
                )
            else:
                code = self.dispatch.run(
                    self._address, program.address, program.count, block, reports.address
                )
        except KeyboardInterrupt:
            if words[0]:  # it was not begun, or failed
                raise
            raise Interrupted from None
        if code:
            raise program.error(words)

    def start(self, program: Program, block: int, owner: Any = None) -> Launch:
        """Has the workers carry out a program; returns at once.

        Where there are no workers (one thread; all slots taken), the program is carried out now;
        an error of it is raised by ``wait`` all the same. ``owner`` is kept until it is done.
        """
        if self._needs_workers:
            self._start_workers()
        launch = Launch(self, program, owner)
        if program.count:
            with self._lock:
                if not self._is_alone and not self._is_stopped:
                    self.dispatch.start(
                        self._address, program.address, program.count, block, launch.address
                    )
            if launch.words[_SLOT] < 0:
                self.dispatch.run_alone(program.address, program.count, block, launch.address)
        return launch

    def stop(self) -> None:
        """Ends the workers, after the launches under way. What is launched later runs alone."""
        with self._lock:
            self._is_stopped = True
            self._needs_workers = False
        self._drain()
        self.dispatch.stop(self._address)
        for worker in self._workers:
            if worker.is_alive():
                worker.join(timeout=10.0)
        self._is_alone = True

    def _drain(self) -> None:
        """Waits until no launch is under way; the workers see to that."""
        while not self.dispatch.is_idle(self._address):
            time.sleep(0.0002)

    def _lose_workers(self) -> None:
        """In a forked child, where they do not exist: what is launched here runs alone."""
        self._lock = threading.RLock()  # finalizers of garbage may come back here
        self._workers = []
        self._is_alone = True
        self._needs_workers = False

    def _start_workers(self) -> None:
        with self._lock:
            while self._needs_workers and len(self._workers) < self.threads - 1:
                number = len(self._workers) + 1
                worker = threading.Thread(
                    target=self._serve, args=(number,), name=f"taimatsu-{number}", daemon=True
                )
                self._workers.append(worker)
                try:
                    worker.start()
                except RuntimeError:  # no more threads: fewer will do
                    self._workers.remove(worker)
                    break
                self._is_alone = False
            self._needs_workers = False

    def _serve(self, number: int) -> None:
        self.dispatch.worker(self._address, number)


class Launch:
    """A program that is carried out in the background. ``wait`` for it; forgetting it waits too."""

    __slots__ = ("_generation", "_lock", "address", "owner", "pool", "program", "words")

    def __init__(self, pool: Pool, program: Program, owner: Any) -> None:
        self.words = (ctypes.c_int64 * 4)(0, 0, 0, -1)  # what compiled code knows of it
        self.address = ctypes.addressof(self.words)
        self.pool = pool
        self.program = program
        self.owner = owner
        self._lock = threading.Lock()
        self._generation = _state.generation

    def done(self) -> bool:
        """Whether ``wait`` would return at once."""
        slot = self.words[_SLOT]
        return slot < 0 or bool(self.pool.dispatch.is_done(self.pool._address, slot))

    def wait(self) -> None:
        """Joins in until the program is done. KernelError if a kernel returned an error."""
        self._join()
        if self.words[0]:
            raise self.program.error(self.words)

    def _join(self) -> None:
        if self.words[_SLOT] >= 0:
            if self._generation != _state.generation:  # a thread of the parent may have the lock
                self._generation = _state.generation
                self._lock = threading.Lock()
            with self._lock:
                self.pool.dispatch.join(self.pool._address, self.address)
        self.owner = None

    def __del__(self) -> None:
        self._join()


class _State:
    """What this process has: the dispatch code, the number of threads, the pool."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.dispatch: Dispatch | None = None
        self.threads = 0  # 0: not asked for yet
        self.pool: Pool | None = None
        self.generation = 0  # counts the forks that led to this process
        self.forking: list[Pool] = []  # whose locks the forking thread holds
        self.exit_registered = False


_state = _State()


def install(dispatch: Dispatch) -> None:
    """Sets the dispatch code that pools are made with."""
    with _state.lock:
        if not _state.exit_registered:
            _state.exit_registered = True
            atexit.register(shut_down)
        _state.dispatch = dispatch


def is_installed() -> bool:
    """Whether there is dispatch code."""
    return _state.dispatch is not None


def get_num_threads() -> int:
    """How many threads carry out a program, the calling one included."""
    if not _state.threads:
        _state.threads = default_num_threads()
    return _state.threads


def set_num_threads(count: int) -> None:
    """Sets how many threads carry out a program; the old workers leave after their work.

    Raises:
        TypeError: ``count`` is no int.
        RuntimeError: ``count`` is not positive.
    """
    if not isinstance(count, int) or isinstance(count, bool):
        raise TypeError(f"set_num_threads expects an int, but got {type(count).__name__}")
    if not 0 < count <= MOST_THREADS:
        raise RuntimeError(
            f"set_num_threads expects a positive integer, at most {MOST_THREADS}; got {count}"
        )
    with _state.lock:
        _state.threads = count
        old, _state.pool = _state.pool, None
    if old is not None:
        old.stop()


def current_pool() -> Pool:
    """The pool, with the number of threads asked for. RuntimeError before ``install``."""
    pool = _state.pool
    if pool is not None:
        return pool
    if _state.dispatch is None:
        raise RuntimeError("[run] the dispatch code is not installed")
    made = Pool(_state.dispatch, get_num_threads())
    with _state.lock:
        if _state.pool is None:
            _state.pool = made
        return _state.pool


def shut_down() -> None:
    """Ends the workers; a later program starts new ones where the interpreter still can."""
    with _state.lock:
        old, _state.pool = _state.pool, None
    if old is not None:
        old.stop()


def _sleep_calls(system: str) -> tuple[Any, Any]:
    """What must stay alive, and the six pointers that ``pool_init`` takes."""
    library = ctypes.CDLL(None)
    calls = (ctypes.c_void_p * 6)()
    if system == "futex":
        calls[0] = _address_of(library.syscall)
        return None, calls
    names = ("mutex_lock", "mutex_unlock", "cond_wait", "cond_broadcast")
    for index, name in enumerate(names):
        calls[index] = _address_of(getattr(library, f"pthread_{name}"))
    memory = (ctypes.c_int64 * 64)()  # more than any system's mutex and condition take
    mutex, condition = ctypes.addressof(memory), ctypes.addressof(memory) + 256
    library.pthread_mutex_init(ctypes.c_void_p(mutex), None)
    library.pthread_cond_init(ctypes.c_void_p(condition), None)
    calls[4], calls[5] = mutex, condition
    return memory, calls


def _address_of(function: Any) -> int | None:
    return ctypes.cast(function, ctypes.c_void_p).value


def _before_fork() -> None:
    """What runs in the background is finished first, so that the child has its results."""
    _state.lock.acquire()
    _state.forking = list(_pools)
    for pool in _state.forking:
        pool._lock.acquire()
        pool._drain()


def _after_fork_in_parent() -> None:
    for pool in _state.forking:
        pool._lock.release()
    _state.forking = []
    _state.lock.release()


def _after_fork_in_child() -> None:
    for pool in _state.forking:
        pool._lose_workers()
    _state.forking = []
    _state.pool = None
    _state.generation += 1
    _state.lock = threading.RLock()


forks.register(_before_fork, _after_fork_in_parent, _after_fork_in_child)
