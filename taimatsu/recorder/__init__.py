"""The recorder: operations are entered here and carried out when a value is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from taimatsu import dtypes
from taimatsu.ir.meta import meta
from taimatsu.recorder import macro
from taimatsu.recorder.apply import (
    apply,
    apply_view,
    binary_method,
    call_site,
    not_a_tensor,
    place,
    plain_number,
    record_view,
    unary_method,
)
from taimatsu.recorder.base import (
    Extra,
    TensorBase,
    counter_of,
    extra_of,
    make_tensor,
    registered,
)
from taimatsu.recorder.number import Number
from taimatsu.recorder.overlap import refuse_overlap, refuse_repeated, repeated_dims
from taimatsu.recorder.recipe import release
from taimatsu.recorder.recording import (
    GRAD,
    INFERENCE,
    NO_GRAD,
    Recording,
    current,
    flush,
    is_idle,
    local,
    materialize,
    set_mode,
    value,
)
from taimatsu.recorder.state import STATISTICS
from taimatsu.recorder.tape import LOCK, Tape, saved_slots
from taimatsu.recorder.write import fragile_error, write
from taimatsu.storage import Storage, VersionCounter, is_exposed, window

__all__ = [
    "GRAD",
    "INFERENCE",
    "LOCK",
    "NO_GRAD",
    "Number",
    "STATISTICS",
    "Extra",
    "Recording",
    "Storage",
    "Tape",
    "TensorBase",
    "VersionCounter",
    "apply",
    "apply_view",
    "binary_method",
    "call_site",
    "constant",
    "counter_of",
    "current",
    "extra_of",
    "flush",
    "is_idle",
    "fragile_error",
    "is_exposed",
    "local",
    "macro",
    "make_tensor",
    "materialize",
    "not_a_tensor",
    "meta",
    "module_boundary",
    "place",
    "plain_number",
    "record_view",
    "refuse_overlap",
    "refuse_repeated",
    "repeated_dims",
    "register_executor",
    "register_tensor",
    "registered",
    "release",
    "saved_slots",
    "set_mode",
    "storage_size",
    "unary_method",
    "value",
    "window",
    "write",
]


LITTLE_WORK = 1e6  # operations; carrying a program out takes about as long as such a one


def register_tensor(tensor: type) -> None:
    """Called once by ``tensor.py``: the class of results."""
    registered.tensor = tensor


def register_executor(execute: Callable) -> None:
    """Called once by the package: what carries out programs."""
    registered.execute = execute


def constant(array: np.ndarray, dtype: Any = None, wrapped: bool = False) -> Any:
    """A tensor that owns ``array`` (which the caller gives away); its dtype, unless one is given
    for a NumPy type that stands for several.
    """
    kind = dtype or dtypes.from_numpy(array.dtype)
    described = meta(array.shape, kind, None, False, wrapped)
    flat = np.ascontiguousarray(array).reshape(-1)
    return make_tensor(described, Storage(flat))


def storage_size(tensor: TensorBase) -> int:
    """How many elements the tensor's storage holds."""
    storage = tensor._storage
    if storage.buffer is not None:
        return storage.buffer.size
    recording = storage.recording
    with LOCK:
        if not recording.done and storage.slot in recording.old:
            return recording.old[storage.slot].size
        if not recording.done:
            for info in recording.infos():
                if info.slot == storage.slot and info.whole:
                    return info.meta.numel
    return materialize(tensor).size


def module_boundary() -> None:
    """After an outermost module call without gradients: carries out what it recorded.

    A little work waits for more: several small layers are one program.
    """
    if local.mode != GRAD and current().state.work() > LITTLE_WORK:
        flush()
