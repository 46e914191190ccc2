"""``torch.backends.cuda``: precision of matrix products, choice of attention kernels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from taimatsu.backends.switches import checked


class MatmulSwitches:
    """Which reduced precisions a GPU's matrix products may use; kept, nothing depends on them."""

    allow_tf32: bool
    allow_fp16_reduced_precision_reduction: bool
    allow_bf16_reduced_precision_reduction: bool

    def __init__(self) -> None:
        self.__dict__.update(
            allow_tf32=False,
            allow_fp16_reduced_precision_reduction=True,
            allow_bf16_reduced_precision_reduction=True,
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dict__:
            raise AttributeError(f"Unknown attribute {name}; there are {', '.join(self.__dict__)}")
        self.__dict__[name] = checked(name, value, bool, "matmul")


matmul = MatmulSwitches()

_attention = {"flash": True, "math": True, "mem_efficient": True, "cudnn": True}


def is_built() -> bool:
    """False: there is no CUDA code."""
    return False


def flash_sdp_enabled() -> bool:
    """Whether the program allows flash attention (as set; nothing depends on it)."""
    return _attention["flash"]


def enable_flash_sdp(enabled: bool) -> None:
    """Allows flash attention, or not."""
    _attention["flash"] = bool(enabled)


def math_sdp_enabled() -> bool:
    """Whether the program allows attention as plain operations."""
    return _attention["math"]


def enable_math_sdp(enabled: bool) -> None:
    """Allows attention as plain operations, or not."""
    _attention["math"] = bool(enabled)


def mem_efficient_sdp_enabled() -> bool:
    """Whether the program allows memory-efficient attention."""
    return _attention["mem_efficient"]


def enable_mem_efficient_sdp(enabled: bool) -> None:
    """Allows memory-efficient attention, or not."""
    _attention["mem_efficient"] = bool(enabled)


def cudnn_sdp_enabled() -> bool:
    """Whether the program allows cuDNN's attention."""
    return _attention["cudnn"]


def enable_cudnn_sdp(enabled: bool) -> None:
    """Allows cuDNN's attention, or not."""
    _attention["cudnn"] = bool(enabled)


@contextlib.contextmanager
def sdp_kernel(
    enable_flash: bool = True,
    enable_math: bool = True,
    enable_mem_efficient: bool = True,
    enable_cudnn: bool = True,
) -> Iterator[None]:
    """Sets which kinds of attention are allowed, for a block."""
    before = dict(_attention)
    _attention.update(
        flash=enable_flash,
        math=enable_math,
        mem_efficient=enable_mem_efficient,
        cudnn=enable_cudnn,
    )
    try:
        yield
    finally:
        _attention.update(before)
