"""Hot kernels compiled again, in the background, for the extents that they run with.

A program that has been launched often hands its large kernels to one thread, which has a compile
worker of low priority make code for these extents (``compiler/specialise.py``), or finds it in the
cache, and puts it in the program's place for the generic code's, between two launches. Nothing
waits for it; whatever goes wrong, the generic code stays.

The code is shared by programs that run a kernel with the same extents, and goes with the last of
them.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from taimatsu import forks
from taimatsu.compiler.objects import specialised_object
from taimatsu.compiler.plan import Call
from taimatsu.compiler.service import CompileError
from taimatsu.config import config
from taimatsu.evaluate.statistics import STATISTICS
from taimatsu.runtime import loader

if TYPE_CHECKING:
    from taimatsu.evaluate.program import Bound

HOT_LAUNCHES = 24  # after so many a program is taken to go on
WORTH_SECONDS = 50e-6  # of a launch of a kernel: what smaller ones gain does not show
VARIANTS = 4  # of one kernel, by its extents, at a time
MOST = 512  # of all kernels at a time
REFUSALS = 4096  # kernels known not to compile

Request = tuple[str, tuple[int, ...]]  # a generic object's key, the values of its symbols


class Code:
    """A loaded kernel: its address, and what keeps it there."""

    __slots__ = ("__weakref__", "address", "owner")

    def __init__(self, loaded: Any) -> None:
        self.owner = loaded
        self.address = loaded.address("kernel")


def request(bound: Bound, call: Call) -> Request:
    """What a program runs a kernel with."""
    return call.key, tuple([bound.size(value) for value in call.symbols])


def requests(bound: Bound) -> dict[Request, Call]:
    """The kernels of a program that are worth it."""
    found: dict[Request, Call] = {}
    for call in bound.plan.calls:
        if isinstance(call, Call) and call.specialises and bound.seconds(call) >= WORTH_SECONDS:
            found[request(bound, call)] = call
    return found


class Specialist:
    """The programs that wait, and the code there is."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # of what follows
        self.thread: threading.Thread | None = None  # while there is something to do
        self.waiting: deque[weakref.ref[Bound]] = deque()
        # Of the thread alone.
        self.codes: weakref.WeakValueDictionary[Request, Code] = weakref.WeakValueDictionary()
        self.refused: set[Request] = set()

    def ask(self, bound: Bound) -> None:
        """Has a program's kernels specialised; returns at once."""
        if not config.specialise:
            return
        with self.lock:
            self.waiting.append(weakref.ref(bound))
            if self.thread is None:
                thread = threading.Thread(
                    target=self._serve, name="taimatsu-specialise", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError as error:  # no more threads, or the interpreter is leaving
                    self.waiting.clear()
                    say(f"nothing is specialised: {error}")
                else:
                    self.thread = thread

    def settle(self, timeout: float | None = None) -> bool:
        """Waits until all is done that was asked for; False when it took too long."""
        thread = self.thread
        if thread is not None:
            thread.join(timeout)
        return thread is None or not thread.is_alive()

    def reset(self) -> None:
        """In a forked child: the thread is the parent's. What waits does so until the next one."""
        self.lock = threading.Lock()
        self.thread = None

    # -- the thread ------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while (reference := self._next()) is not None:
                self._specialise(reference)
        except BaseException:
            with self.lock:
                self.thread = None  # another one goes on
            raise

    def _next(self) -> weakref.ref[Bound] | None:
        """The next program; None, after which the thread is no longer counted: it shall leave."""
        with self.lock:
            # Once the main thread has left, workers are no longer to be started.
            if self.waiting and threading.main_thread().is_alive():
                return self.waiting.popleft()
            self.thread = None
            return None

    def _specialise(self, reference: weakref.ref[Bound]) -> None:
        bound = reference()
        if bound is None:
            return
        wanted, target = requests(bound), bound.target
        del bound  # while compilers run, it may go
        codes: dict[Request, Code] = {}
        for key, call in wanted.items():
            if reference() is None:
                return
            code = self._code(key, call, target)
            if code is not None:
                codes[key] = code
        bound = reference()
        if bound is not None and codes:
            bound.specialise(codes)
            say(
                f"{len(codes)} kernels specialised to {bound.extents()}; the others of "
                f"{len(bound.plan.calls)} steps are small, or of kinds that gain nothing"
            )

    def _code(self, key: Request, call: Call, target: Any) -> Code | None:
        """The code for a request, unless there is a reason not to have it."""
        code = self.codes.get(key)
        if code is not None:
            return code
        reason = self._refusal(key)
        if not reason:
            try:
                data, is_new = specialised_object(key[0], call.loops(), key[1], target)
                code = self.codes[key] = Code(loader.load(data))
                STATISTICS.specialisations += is_new
                return code
            except (CompileError, loader.LoadError) as error:
                if len(self.refused) < REFUSALS:
                    self.refused.add(key)
                reason = str(error)
        say(f"{call.name} {key[0][:8]} for {key[1]} stays generic: {reason}")
        return None

    def _refusal(self, key: Request) -> str:
        """Why a kernel is not specialised; empty if it may be."""
        if key in self.refused:
            return "it could not be compiled"
        alive = list(self.codes.keys())
        if len(alive) >= MOST:
            return f"there are {MOST} specialised kernels already"
        if sum(1 for other, _ in alive if other == key[0]) >= VARIANTS:
            return f"{VARIANTS} variants of it are in use"
        return ""


def say(text: str) -> None:
    """A line for people who watch."""
    if config.logs("cache"):
        print(f"[cache] {text}", file=sys.stderr)


SPECIALIST = Specialist()
forks.register(in_child=SPECIALIST.reset)
ask = SPECIALIST.ask
settle = SPECIALIST.settle
