"""Compiled objects into memory: linked in Python, written, and made executable.

Objects lie in arenas of 2 MiB, each on pages of its own: while a page can be written it cannot be
executed, and once an object is there its pages can be executed and no longer written. A page turns
executable once in its life (what is freed is given back to the system, which supplies fresh pages),
so that on machines with separate instruction caches the system keeps them coherent.

The code stays while its ``LoadedObject``, or a function taken from it, is held; whoever calls it by
its address holds on to the object himself.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from taimatsu import forks
from taimatsu.runtime import elf
from taimatsu.runtime.elf import LoadError

ARENA_BYTES = 2 << 20

_lock = threading.RLock()

_HOST_MACHINES = {
    "x86_64": elf.X86_64,
    "amd64": elf.X86_64,
    "aarch64": elf.AARCH64,
    "arm64": elf.AARCH64,
}


class LoadedObject:
    """Code in memory; ``symbols`` has the addresses of its global names."""

    __slots__ = ("__weakref__", "code", "symbols")

    def __init__(self, code: np.ndarray, symbols: dict[str, int]) -> None:
        self.code = code  # its bytes; they stay as long as this array does
        self.symbols = symbols

    def address(self, name: str) -> int:
        """Where a function is. LoadError for a name that the object does not define."""
        try:
            return self.symbols[name]
        except KeyError:
            known = ", ".join(sorted(self.symbols)) or "none"
            raise LoadError(f"the object has no symbol {name!r}; it has {known}") from None

    def function(self, name: str, restype: Any = None, *argtypes: Any) -> Any:
        """A function as ctypes calls it, without the GIL; it keeps the code in memory."""
        function: Any = ctypes.CFUNCTYPE(restype, *argtypes)(self.address(name))
        function.owner = self
        return function


class _Watch(weakref.ref):
    """Tells when the array over an object's code goes.

    The garbage collector knows no arrays: where code and its users are garbage together, the
    users' ``__del__`` (which may wait for code that runs) all come before the array goes, which
    would not hold of a ``__del__`` here.
    """

    __slots__ = ("arena", "begin", "end")
    arena: _Arena
    begin: int
    end: int


class _Arena:
    """A mapping, and the runs of its pages that nothing lies in, in ascending order."""

    def __init__(self, size: int) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.memory = mmap.mmap(-1, size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.size = size
        self.free = [(0, size)]

    def take(self, size: int) -> int | None:
        """The offset of the first run of free pages that is long enough; None if there is none."""
        for index, (begin, end) in enumerate(self.free):
            if end - begin >= size:
                self.free[index : index + 1] = [(begin + size, end)] if end - begin > size else []
                return begin
        return None

    def give_back(self, begin: int, end: int) -> None:
        """Makes pages writable and fresh again."""
        self.protect(begin, end, mmap.PROT_READ | mmap.PROT_WRITE)
        self.memory.madvise(mmap.MADV_DONTNEED, begin, end - begin)
        runs = sorted([*self.free, (begin, end)])
        self.free = runs[:1]
        for start, stop in runs[1:]:
            if start == self.free[-1][1]:
                self.free[-1] = (self.free[-1][0], stop)
            else:
                self.free.append((start, stop))

    def protect(self, begin: int, end: int, protection: int) -> None:
        if _mprotect()(self.address + begin, end - begin, protection):
            code = ctypes.get_errno()
            raise LoadError(
                f"the system does not let memory become executable: {os.strerror(code)}; "
                "a security policy (SELinux's execmem, for one) may forbid it"
            )


class Loader:
    """The arenas of this process."""

    def __init__(self) -> None:
        self._released: deque[_Watch] = deque()
        self._watches: dict[int, _Watch] = {}  # by address
        self._is_busy = False
        self._arenas: list[_Arena] = []

    def load(self, data: bytes) -> LoadedObject:
        """Puts an object into memory.

        Raises:
            LoadError: the object is malformed, for another machine, or needs what is not in it;
                the system is none whose objects can be loaded, or refuses executable memory.
        """
        image = elf.link(data, host_machine())
        size = -(-max(len(image.content), 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        with _lock:
            arena, begin = self._pages(size)
            address = arena.address + begin
            arena.memory[begin : begin + len(image.content)] = image.placed(address)
            code = self._watched(arena, begin, begin + size)
            arena.protect(begin, begin + size, mmap.PROT_READ | mmap.PROT_EXEC)
        symbols = {name: address + offset for name, offset in image.symbols.items()}
        return LoadedObject(code, symbols)

    def mapped(self) -> int:
        """The bytes of address space that the arenas take."""
        self.free_released()
        return sum(arena.size for arena in self._arenas)

    def free_released(self) -> None:
        """Frees what has no owner any more.

        Objects die at any moment, also while this thread is in here: if the lock is taken, the
        next caller frees them.
        """
        if _lock.acquire(blocking=False):
            try:
                self._exclusively(self._free_released)
            finally:
                _lock.release()

    # Under the lock. Garbage is collected at any moment, and finalizers may come back here.

    def _exclusively(self, function: Callable[[], None]) -> bool:
        """Calls a function unless this thread is in here already; whether it did."""
        if self._is_busy:
            return False
        self._is_busy = True
        try:
            function()
        finally:
            self._is_busy = False
        return True

    def _pages(self, size: int) -> tuple[_Arena, int]:
        """Pages to write to, in one of the arenas or a new one."""
        found: list[tuple[_Arena, int]] = []

        def look() -> None:
            self._free_released()
            for arena in self._arenas:
                begin = arena.take(size)
                if begin is not None:
                    found.append((arena, begin))
                    return

        self._exclusively(look)
        if found:
            return found[0]
        arena = _Arena(max(size, ARENA_BYTES))
        arena.free = [(size, arena.size)] if size < arena.size else []
        self._arenas.append(arena)
        return arena, 0

    def _watched(self, arena: _Arena, begin: int, end: int) -> np.ndarray:
        code = np.frombuffer(arena.memory, np.uint8, end - begin, begin)
        code.flags.writeable = False
        watch = _Watch(code, self._on_release)
        watch.arena, watch.begin, watch.end = arena, begin, end
        self._watches[arena.address + begin] = watch
        return code

    def _on_release(self, watch: _Watch) -> None:
        self._released.append(watch)
        self.free_released()

    def _free_released(self) -> None:
        while self._released:
            watch = self._released.popleft()
            del self._watches[watch.arena.address + watch.begin]
            self._give_back(watch.arena, watch.begin, watch.end)

    def _give_back(self, arena: _Arena, begin: int, end: int) -> None:
        with contextlib.suppress(LoadError):  # pages that stay as they are are not used again
            arena.give_back(begin, end)
        if arena.free == [(0, arena.size)]:
            self._arenas.remove(arena)


def host_machine() -> int:
    """The machine that objects must be for; LoadError where none can be loaded."""
    if sys.platform != "linux":
        raise LoadError(f"compiled code runs on Linux for now; this is {sys.platform}")
    machine = os.uname().machine.lower()
    if machine not in _HOST_MACHINES:
        raise LoadError(f"compiled code runs on x86-64 and AArch64; this is {machine}")
    return _HOST_MACHINES[machine]


_mprotect_function: Any = None


def _mprotect() -> Any:
    global _mprotect_function
    if _mprotect_function is None:
        function = ctypes.CDLL(None, use_errno=True).mprotect
        function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        function.restype = ctypes.c_int
        _mprotect_function = function
    return _mprotect_function


loader = Loader()
forks.register(_lock.acquire, _lock.release, _lock.release)


def load(data: bytes) -> LoadedObject:
    """Puts an object into memory; see ``Loader.load``."""
    return loader.load(data)
