"""The memory behind tensors: a flat NumPy buffer, or a value that a recording still owes."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np

from taimatsu import forks

OWN_MEMORY: set[type] = set()  # types of memory under buffers that nothing outside can see
SNAPSHOT_LIMIT = 16 << 20  # bytes of visible memory that a recorded read copies


class _InFlight:
    """The program that other threads are carrying out, and the buffers that it reads and writes."""

    __slots__ = ("buffers", "launch", "lock", "written")

    def __init__(self) -> None:
        self.launch: Any = None  # has wait()
        self.buffers: dict[int, Any] = {}  # by id
        self.written: frozenset[int] = frozenset()  # ids of those that it writes
        self.lock = threading.RLock()


IN_FLIGHT = _InFlight()


def finish() -> None:
    """Waits for the program in flight: then what buffers hold may be looked at."""
    if IN_FLIGHT.launch is not None:
        with IN_FLIGHT.lock:
            launch = IN_FLIGHT.launch
            if launch is not None:
                launch.wait()
                IN_FLIGHT.launch = None
                IN_FLIGHT.buffers = {}


def finish_writing(buffer: Any) -> None:
    """Waits for the program in flight if it writes the buffer: then that may be read."""
    if IN_FLIGHT.launch is not None and id(buffer) in IN_FLIGHT.written:
        finish()


def take_off(launch: Any, buffers: dict[int, Any], written: frozenset[int]) -> None:
    """Notes what is in flight from now on. What another thread has noted meanwhile lands first."""
    with IN_FLIGHT.lock:
        finish()
        IN_FLIGHT.buffers = buffers
        IN_FLIGHT.written = written
        IN_FLIGHT.launch = launch


class _Postponed(threading.local):
    interrupt = False  # Ctrl-C that this thread has yet to answer


_postponed = _Postponed()


def postpone_interrupt() -> None:
    """Notes Ctrl-C that came while a program was carried out: it must not count as undone."""
    _postponed.interrupt = True


def answer_interrupt() -> None:
    """Raises the KeyboardInterrupt that was put off, if any."""
    if _postponed.interrupt:
        _postponed.interrupt = False
        raise KeyboardInterrupt


class Storage:
    """A flat buffer shared by a tensor and its views.

    ``buffer`` is None while the value is pending; then ``recording`` will produce it. ``version``
    counts in-place writes; ``writer`` is where the last one was made.
    """

    __slots__ = ("buffer", "recording", "slot", "version", "writer", "checked", "readers")

    buffer: Any  # a flat np.ndarray, or None
    recording: Any  # the trace.Recording that last used this storage
    slot: int  # its number in that recording
    version: int
    writer: Any
    checked: Any  # what an operation found right about index values at one version (may be unset)
    readers: set[Any]  # weak references to graphs that would recompute from it (may be unset)

    def __init__(self, buffer: np.ndarray) -> None:
        self.buffer = buffer
        self.recording = None
        self.slot = -1
        self.version = 0
        self.writer = None


class VersionCounter:
    """Counts writes made through ``.data``, apart from the storage's own count."""

    __slots__ = ("version", "writer")

    def __init__(self) -> None:
        self.version = 0
        self.writer = None


def _count_of_sole_reference() -> tuple[int, int]:
    """What getrefcount says where only a storage (buffer) or only a buffer (its base) refers."""
    owner = np.empty(2)
    storage = Storage(owner[:])
    del owner
    return sys.getrefcount(storage.buffer), sys.getrefcount(storage.buffer.base)


_SOLE_BUFFER, _SOLE_BASE = _count_of_sole_reference()


def is_exposed(storage: Storage) -> bool:
    """Whether anything outside can see the buffer (an array from ``.numpy()``, or given by the
    user to ``from_numpy`` and still held): its values may then change without notice.
    """
    holders = sys.getrefcount(storage.buffer) - _SOLE_BUFFER
    if holders > 0 and (holders > 1 or id(storage.buffer) not in IN_FLIGHT.buffers):
        return True
    base = storage.buffer.base
    if base is None or (type(base) is memoryview and type(base.obj) in OWN_MEMORY):
        return False
    if type(base) is not np.ndarray:
        return True  # bytes, a memory map, another library's object: nobody can tell
    del base
    return sys.getrefcount(storage.buffer.base) > _SOLE_BASE


def window(
    buffer: np.ndarray, shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> np.ndarray:
    """The part of a flat buffer that a tensor sees (strides and offset count elements)."""
    size = buffer.itemsize
    if 0 in shape:
        offset = 0  # an empty view may begin past the end of its buffer
    return np.ndarray(
        shape,
        buffer.dtype,
        buffer,
        offset * size,
        tuple([s * size for s in strides]),
    )


def _renew_lock() -> None:
    """In a forked child: another thread may have held it. What was in flight is done."""
    IN_FLIGHT.lock = threading.RLock()


forks.register(in_child=_renew_lock)
