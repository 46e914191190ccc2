"""Compile workers: LLVM in processes of its own, behind a pipe.

``submit`` (LLVM IR) and ``submit_kernel`` (the loop IR) give a ``Job`` at once. Two processes at
most serve what a program waits for, one more, at low priority, what is compiled in the background;
each is started by the first request that finds none free, and leaves after a while without work. A
thread of this process sits with each worker: it writes requests, reads answers and settles jobs.

A worker that dies (LLVM aborts on what it cannot do; somebody kills it) or takes too long fails
the job it was at, with what it had printed; the next job starts a new worker. Workers have sessions
of their own, so Ctrl-C reaches the program alone. A forked child starts its own workers, and
there, jobs under way at the fork are done again when somebody asks for them.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from taimatsu import forks
from taimatsu.compiler.codegen.emit import FrameError, read_frame, write_frame
from taimatsu.compiler.toolchain import llvmlite_folder

EMIT = Path(__file__).parent / "codegen" / "emit.py"
LOG_TAIL = 8192  # bytes of a dead worker's output that an error message quotes
NICENESS = 10  # of the worker for what is compiled in the background


class CompileError(RuntimeError):
    """A module could not be compiled: LLVM refused it, or the worker died of it.

    ``log`` is what the worker printed.
    """

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(f"[compile] {message}" + (f"\n{log.rstrip()}" if log else ""))
        self.log = log


class Job:
    """A request and, once it is done, the code or the error."""

    def __init__(self, service: CompileService, fields: tuple[bytes, ...], lane: _Lane) -> None:
        self.fields = fields
        self.log = ""
        self._service = service
        self._lane = lane
        self._settled = threading.Event()
        self._lost = False
        self._code = b""
        self._error: CompileError | None = None
        self._callbacks: list[Callable[[Job], object]] = []

    def done(self) -> bool:
        """Whether ``result`` would return, or raise, at once."""
        self._recover()
        return self._settled.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the job is done; False when ``timeout`` (seconds) passed before."""
        self._recover()
        return self._settled.wait(timeout)

    def result(self, timeout: float | None = None) -> bytes:
        """The code. CompileError where there is none, TimeoutError when it takes too long."""
        if not self.wait(timeout):
            raise TimeoutError(f"[compile] not done after {timeout} seconds")
        if self._error is not None:
            raise self._error
        return self._code

    def add_done_callback(self, callback: Callable[[Job], object]) -> None:
        """Calls ``callback(job)`` when the job is done: on the service's thread, or now."""
        with self._service._lock:
            if not self._settled.is_set():
                self._callbacks.append(callback)
                return
        callback(self)

    def _recover(self) -> None:
        if self._lost:
            self._service._submit_again(self)

    def _settle(self, code: bytes, error: CompileError | None) -> list[Callable[[Job], object]]:
        """Keeps the outcome, under the service's lock; returns whom to tell, outside of it."""
        self._code, self._error = code, error
        callbacks, self._callbacks = self._callbacks, []
        self._settled.set()
        return callbacks


class _Lane:
    """The queue of one kind of request, and how many workers may serve it."""

    def __init__(self, name: str, limit: int, niceness: int) -> None:
        self.name = name
        self.limit = limit
        self.niceness = niceness
        self.waiting: deque[Job] = deque()
        self.idle = 0
        self.threads: set[threading.Thread] = set()

    def take(self) -> Job:
        """The largest job: two workers are done soonest if none begins a large one at the end."""
        job = max(self.waiting, key=lambda job: len(job.fields[-1]))
        self.waiting.remove(job)
        return job


class CompileService:
    """Hands requests to worker processes.

    Args:
        workers: processes for what somebody waits for; one more serves the background.
        timeout: seconds until a worker is taken to hang, and is killed.
        idle: seconds without work until a worker leaves.
    """

    def __init__(self, workers: int = 2, timeout: float = 300.0, idle: float = 60.0) -> None:
        self._workers_limit = workers
        self._timeout = timeout
        self._idle = idle
        self._exit_registered = False
        self._reset()
        forks.register(self._before_fork, self._after_fork_in_parent, self._after_fork_in_child)

    def submit(
        self,
        ir: str,
        triple: str,
        cpu: str = "",
        features: str = "",
        *,
        output: str = "object",
        background: bool = False,
    ) -> Job:
        """Has a module compiled; identical requests under way share one job.

        Args:
            ir: LLVM IR as text.
            triple, cpu, features: the target, as LLVM names them.
            output: ``"object"``, ``"assembly"`` or ``"ir"``.
            background: whether nobody waits for it: it is done at low priority.
        """
        fields = tuple(text.encode() for text in (triple, cpu, features, output, ir))
        return self._submit(fields, background)

    def submit_kernel(
        self,
        kernel: bytes,
        target: bytes,
        *,
        output: str = "object",
        background: bool = False,
        values: bytes = b"",
    ) -> Job:
        """Has a kernel compiled: ``kernel`` and ``target`` as ``compiler/transport.py`` packs them.

        With ``values`` (of the kernel's symbols) it is specialised to them first. The rest is as
        for ``submit``; in the code the kernel's function is called ``kernel``.
        """
        more = (values,) if values else ()
        return self._submit((target, output.encode(), kernel, *more), background)

    def _submit(self, fields: tuple[bytes, ...], background: bool) -> Job:
        with self._lock:
            lane = self._background if background else self._foreground
            job = self._under_way.get(fields)
            if job is None:
                job = Job(self, fields, lane)
                self._enqueue(job)
            elif not background and job in self._background.waiting:
                self._background.waiting.remove(job)
                job._lane = lane
                self._enqueue(job)
            return job

    def warm(self) -> None:
        """Starts a worker if there is none, ahead of the first request."""
        with self._lock:
            if not self._foreground.threads:
                self._start_thread(self._foreground)

    def processes(self) -> list[int]:
        """The workers' process ids."""
        with self._lock:
            return [worker.process.pid for worker in self._workers]

    def close(self) -> None:
        """Kills the workers and fails the jobs under way; a later request starts anew."""
        with self._lock:
            self._closing = True
            told = [(job, job._settle(b"", _closed())) for job in self._under_way.values()]
            self._under_way.clear()
            threads = list(self._foreground.threads | self._background.threads)
            for lane in (self._foreground, self._background):
                lane.waiting.clear()
            for worker in self._workers:
                worker.kill()
            self._work.notify_all()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(timeout=10.0)
        for job, callbacks in told:
            _tell(job, callbacks)
        with self._lock:
            self._closing = False

    # Under the lock.

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._work = threading.Condition(self._lock)
        self._starting = threading.Lock()  # held while a worker's pipes come into being
        self._closing = False
        self._foreground = _Lane("foreground", self._workers_limit, 0)
        self._background = _Lane("background", 1, NICENESS)
        self._under_way: dict[tuple[bytes, ...], Job] = {}
        self._workers: set[_Worker] = set()

    def _enqueue(self, job: Job) -> None:
        lane = job._lane
        self._under_way[job.fields] = job
        lane.waiting.append(job)
        if len(lane.waiting) > lane.idle and len(lane.threads) < lane.limit:
            try:
                self._start_thread(lane)
            except RuntimeError as error:  # no more threads, or the interpreter is leaving
                if not lane.threads:
                    lane.waiting.remove(job)
                    del self._under_way[job.fields]
                    raise CompileError(f"cannot start a thread: {error}") from error
        self._work.notify_all()

    def _start_thread(self, lane: _Lane) -> None:
        if not self._exit_registered:
            self._exit_registered = True
            atexit.register(self.close)
        name = f"taimatsu-compile-{lane.name}"
        thread = threading.Thread(target=self._serve, args=(lane,), name=name, daemon=True)
        thread.start()
        lane.threads.add(thread)

    def _submit_again(self, job: Job) -> None:
        """A job that was under way when this process was forked off."""
        with self._lock:
            if not job._lost:
                return
            job._lost = False
            twin = self._under_way.get(job.fields)
            if twin is None:
                job._lane = self._foreground
                self._enqueue(job)
            else:
                twin.add_done_callback(lambda other: self._copy(other, job))

    def _copy(self, done: Job, job: Job) -> None:
        with self._lock:
            callbacks = job._settle(done._code, done._error)
        _tell(job, callbacks)

    # The threads that sit with the workers.

    def _serve(self, lane: _Lane) -> None:
        worker: _Worker | None = None
        try:
            with contextlib.suppress(CompileError):  # the job will say so
                worker = self._start_worker(lane)
            while (job := self._next(lane)) is not None:
                worker = self._carry_out(worker, job, lane)
        finally:
            self._discard(worker)

    def _next(self, lane: _Lane) -> Job | None:
        """The next job; None, after which the thread is no longer counted, when it shall leave."""
        with self._lock:
            lane.idle += 1
            self._work.wait_for(lambda: self._closing or lane.waiting, self._idle)
            lane.idle -= 1
            if self._closing or not lane.waiting:
                lane.threads.discard(threading.current_thread())
                return None
            return lane.take()

    def _carry_out(self, worker: _Worker | None, job: Job, lane: _Lane) -> _Worker | None:
        """Settles a job; returns the worker, another one where the last is gone."""
        code, error = b"", None
        try:
            if worker is None or not worker.alive():
                self._discard(worker)
                worker = None
                worker = self._start_worker(lane)
            code, job.log = worker.compile(job.fields)
        except CompileError as reason:
            error = reason
            job.log = reason.log
        callbacks: list[Callable[[Job], object]] = []
        with self._lock:
            if self._under_way.get(job.fields) is job:  # else `close` has settled it
                del self._under_way[job.fields]
                callbacks = job._settle(code, error)
        _tell(job, callbacks)
        return worker

    def _start_worker(self, lane: _Lane) -> _Worker:
        try:
            with self._starting:
                worker = _Worker(lane.niceness, self._timeout)
                with self._lock:
                    self._workers.add(worker)
        except (OSError, ImportError) as error:
            raise CompileError(f"cannot start a compile worker: {error}") from error
        with self._lock:
            if self._closing:
                worker.kill()
        return worker

    def _discard(self, worker: _Worker | None) -> None:
        if worker is not None:
            with self._lock:
                self._workers.discard(worker)
            worker.close()

    # Forks.

    def _before_fork(self) -> None:
        self._starting.acquire()
        self._lock.acquire()

    def _after_fork_in_parent(self) -> None:
        self._lock.release()
        self._starting.release()

    def _after_fork_in_child(self) -> None:
        for worker in self._workers:
            worker.abandon()
        jobs = list(self._under_way.values())
        self._reset()
        for job in jobs:
            job._settled = threading.Event()
            job._lost = True


class _Worker:
    """One worker process, its pipes and what it prints."""

    def __init__(self, niceness: int, timeout: float) -> None:
        if not sys.executable:
            raise OSError("sys.executable is empty: no Python to run it with")
        command = [sys.executable, "-I", "-S", str(EMIT), str(llvmlite_folder())]
        if niceness:
            command.append(str(niceness))
        self._timeout = timeout
        self._guard = threading.Lock()
        self._request = 0  # the number of the request under way; guards against a late timer
        self._expired = False
        self._log = _scratch_file()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,
            **_own_session(),
        )

    def alive(self) -> bool:
        return not self._expired and self.process.poll() is None

    def compile(self, fields: tuple[bytes, ...]) -> tuple[bytes, str]:
        """The code, and what was printed; CompileError with LLVM's message or a crash's log."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        begin = os.fstat(self._log.fileno()).st_size
        timer = threading.Timer(self._timeout, self._expire, (self._request,))
        timer.daemon = True
        timer.start()
        try:
            write_frame(self.process.stdin.fileno(), list(fields))
            status, payload = read_frame(self.process.stdout.fileno())
        except (OSError, ValueError, FrameError) as error:
            self.kill()
            raise CompileError(self._cause_of_death(), self._printed(begin)) from error
        finally:
            timer.cancel()
            with self._guard:
                self._request += 1
        log = self._printed(begin)
        if status != b"ok":
            raise CompileError(payload.decode(errors="replace"), log)
        return payload, log

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            self.process.kill()

    def close(self) -> None:
        """Lets the process go: it leaves when its input ends, and is killed if it does not."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self.process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            self.kill()
            self.process.wait()
        self._log.close()

    def abandon(self) -> None:
        """In a forked child: the process is the parent's, these ends of its pipes are copies."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self._log.close()
        self.process.returncode = 0  # nothing that this process could wait for

    def _expire(self, request: int) -> None:
        with self._guard:
            if request == self._request:
                self._expired = True
                self.kill()

    def _cause_of_death(self) -> str:
        if self._expired:
            return f"the worker was killed: not done after {self._timeout:g} seconds"
        try:
            code = self.process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            return "the worker closed its pipe"
        if code < 0:
            return f"the worker died of signal {-code} while it compiled this module"
        return f"the worker left with status {code} while it compiled this module"

    def _printed(self, begin: int) -> str:
        """What the process has written since ``begin``, the end of it where it is long."""
        size = os.fstat(self._log.fileno()).st_size
        if size == begin:
            return ""
        self._log.seek(max(begin, size - LOG_TAIL))
        text = self._log.read(LOG_TAIL)
        self._log.seek(0, os.SEEK_END)  # the process writes on from here
        return text.decode(errors="replace")


def _scratch_file() -> IO[bytes]:
    """A file without a name."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("taimatsu-compile-log")
        return os.fdopen(descriptor, "r+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def _own_session() -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _closed() -> CompileError:
    return CompileError("the compile service was closed")


def _tell(job: Job, callbacks: list[Callable[[Job], object]]) -> None:
    for callback in callbacks:
        try:
            callback(job)
        except Exception:
            traceback.print_exc()


service = CompileService()
