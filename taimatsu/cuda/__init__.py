"""``torch.cuda`` on a machine without GPU, as PyTorch's build without CUDA.

What only asks is answered (``is_available()`` is False), what needs a GPU raises AssertionError.
Under ``taimatsu run --device cpu`` the CPU stands in: a program that synchronises, takes times
with events or asks for the current device goes on.
"""

from __future__ import annotations

import importlib
from typing import Any

from taimatsu.cuda import memory, random, streams
from taimatsu.cuda.host import (
    can_device_access_peer,
    current_device,
    device,
    device_count,
    device_of,
    get_arch_list,
    get_device_capability,
    get_device_name,
    get_device_properties,
    get_gencode_flags,
    init,
    is_available,
    is_bf16_supported,
    is_initialized,
    is_tf32_supported,
    need_gpu,
    set_device,
    synchronize,
)
from taimatsu.cuda.memory import (
    OutOfMemoryError,
    empty_cache,
    ipc_collect,
    max_memory_allocated,
    max_memory_reserved,
    mem_get_info,
    memory_allocated,
    memory_reserved,
    memory_stats,
    memory_summary,
    reset_max_memory_allocated,
    reset_peak_memory_stats,
    set_per_process_memory_fraction,
)
from taimatsu.cuda.random import (
    get_rng_state,
    get_rng_state_all,
    initial_seed,
    manual_seed,
    manual_seed_all,
    seed,
    seed_all,
    set_rng_state,
    set_rng_state_all,
)
from taimatsu.cuda.streams import (
    Event,
    Stream,
    StreamContext,
    current_stream,
    default_stream,
    set_stream,
    stream,
)

_TENSOR_TYPES = frozenset(
    f"{kind}Tensor"
    for kind in ("BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long")
) | {"ShortTensor"}


def __getattr__(name: str) -> Any:
    """``amp``, which stands above this module; and old names of types: ``FloatTensor``."""
    if name == "amp":
        return importlib.import_module("taimatsu.cuda.amp")
    if name in _TENSOR_TYPES:
        need_gpu()
        return getattr(importlib.import_module("taimatsu"), name)
    raise AttributeError(
        f"module 'torch.cuda' has no attribute {name!r}: taimatsu has no 'torch.cuda.{name}'"
    )
