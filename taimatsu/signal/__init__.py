"""Signal processing: the window functions."""

from taimatsu.signal import windows

__all__ = ["windows"]
