"""Memory of GPUs: none is used, which the statistics say."""

from __future__ import annotations

from typing import Any

from taimatsu.cuda.host import need_gpu


class OutOfMemoryError(RuntimeError):
    """A GPU's memory is used up."""


def empty_cache() -> None:
    """Gives unused memory back to the GPU: there is none."""


def ipc_collect() -> None:
    """Frees memory shared with other processes; AssertionError without a GPU."""
    need_gpu()


def memory_allocated(device: Any = None) -> int:
    """Bytes that tensors take on the GPU: 0."""
    return 0


def max_memory_allocated(device: Any = None) -> int:
    """The most bytes that tensors took on the GPU: 0."""
    return 0


def memory_reserved(device: Any = None) -> int:
    """Bytes taken from the GPU: 0."""
    return 0


def max_memory_reserved(device: Any = None) -> int:
    """The most bytes taken from the GPU: 0."""
    return 0


def memory_stats(device: Any = None) -> dict[str, Any]:
    """Statistics of the GPU's allocator: none."""
    return {}


def memory_summary(device: Any = None, abbreviated: bool = False) -> str:
    """The statistics as a text."""
    return "no memory of a GPU is used"


def reset_peak_memory_stats(device: Any = None) -> None:
    """Counts the most bytes from here on; AssertionError without a GPU."""
    need_gpu()


reset_max_memory_allocated = reset_peak_memory_stats


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """Free and total bytes of the GPU; AssertionError, for there is none."""
    raise AssertionError(
        "[cuda.mem_get_info] Torch not compiled with CUDA enabled: there is no GPU whose memory "
        "could be told; ask torch.cuda.is_available() first"
    )


def set_per_process_memory_fraction(fraction: float, device: Any = None) -> None:
    """Bounds the memory used of the GPU; AssertionError without one."""
    need_gpu()
