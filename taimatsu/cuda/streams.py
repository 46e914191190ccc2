"""Streams and events. Where the CPU stands in for a GPU, everything is in one order already."""

from __future__ import annotations

import time
from typing import Any

from taimatsu import recorder
from taimatsu.cuda.host import need_gpu


class Stream:
    """A queue of work; AssertionError without a GPU."""

    def __init__(self, device: Any = None, priority: int = 0, **kwargs: Any) -> None:
        need_gpu()

    def query(self) -> bool:
        """Whether its work is done."""
        return True

    def synchronize(self) -> None:
        """Waits for its work."""
        recorder.flush()

    def wait_stream(self, stream: Any) -> None:
        """Later work waits for what the other stream has now: it does."""

    def wait_event(self, event: Any) -> None:
        """Later work waits for the event: it does."""

    def record_event(self, event: Event | None = None) -> Event:
        """An event that is reached when the work so far is done."""
        event = Event() if event is None else event
        event.record(self)
        return event


class Event:
    """A point in a stream, with its time if asked for; AssertionError without a GPU."""

    def __init__(
        self,
        enable_timing: bool = False,
        blocking: bool = False,
        interprocess: bool = False,
        external: bool = False,
    ) -> None:
        need_gpu()
        self.enable_timing = enable_timing
        self._time: float | None = None

    def record(self, stream: Any = None) -> None:
        """Puts the event here: what is recorded so far is carried out, and the clock read."""
        recorder.flush()
        self._time = time.perf_counter()

    def query(self) -> bool:
        """Whether it was reached."""
        return True

    def synchronize(self) -> None:
        """Waits until it is reached: it is."""

    def wait(self, stream: Any = None) -> None:
        """Makes a stream wait for it: it was reached."""

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to the other; both made with ``enable_timing=True``."""
        if not (self.enable_timing and end_event.enable_timing):
            raise RuntimeError(
                "[Event.elapsed_time] Both events must be created with argument "
                "'enable_timing=True'."
            )
        if self._time is None or end_event._time is None:
            raise RuntimeError(
                "[Event.elapsed_time] Both events must be recorded before calculating elapsed time."
            )
        return (end_event._time - self._time) * 1e3


class StreamContext:
    """Context manager: work of the block goes to a stream (None: as before)."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: Any) -> None:
        pass


def stream(stream: Stream | None) -> StreamContext:
    """Context manager: work of the block goes to ``stream``."""
    return StreamContext(stream)


def current_stream(device: Any = None) -> Stream:
    """The stream in use; AssertionError without a GPU."""
    return Stream()


def default_stream(device: Any = None) -> Stream:
    """The stream there is from the start; AssertionError without a GPU."""
    return Stream()


def set_stream(stream: Stream) -> None:
    """Makes a stream the one in use."""
