"""taimatsu: PyTorch's programs, unchanged. ``import taimatsu as torch``."""

from __future__ import annotations

import importlib as _importlib
import math as _math
import sys as _sys
from typing import Any as _Any

from taimatsu import dtypes as _dtypes
from taimatsu.autograd import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from taimatsu.autograd.modes import is_inference_mode_enabled
from taimatsu.bindings import FUNCTIONS as _FUNCTIONS
from taimatsu.creation import (
    as_tensor,
    asarray,
    empty,
    empty_strided,
    from_numpy,
    frombuffer,
    full,
    ones,
    scalar_tensor,
    tensor,
    zeros,
)
from taimatsu.devices import *
from taimatsu.dtypes import can_cast, dtype, finfo, get_default_dtype, iinfo, promote_types
from taimatsu.legacy import TYPED as _TYPED
from taimatsu.namespace import (
    get_num_threads,
    is_complex,
    is_floating_point,
    is_nonzero,
    is_storage,
    is_tensor,
    numel,
    result_type,
    set_default_dtype,
    set_default_tensor_type,
    set_num_threads,
)
from taimatsu.printing import set_printoptions
from taimatsu.random import (
    Generator,
    default_generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)
from taimatsu.sequences import arange, eye, linspace, logspace
from taimatsu.sequences import range_ as range
from taimatsu.shapes import Size
from taimatsu.tensor import Tensor

__version__ = "0.1.0"

globals().update({d.name: d for d in _dtypes.ALL})
globals().update(_dtypes.ALIASES)
globals().update(_TYPED)
globals().update(_FUNCTIONS[""])

e, pi, inf, nan, newaxis = _math.e, _math.pi, _math.inf, _math.nan, None

_SUBMODULES = frozenset(
    ("amp", "autograd", "backends", "compat", "cuda", "fft", "linalg", "nn", "optim", "random",
     "return_types", "serialization", "signal", "special", "utils", "vision", "version", "types")
)  # fmt: skip
_WINDOWS = frozenset(
    ("bartlett_window", "blackman_window", "hamming_window", "hann_window", "kaiser_window")
)


def __getattr__(name: str) -> _Any:
    """Submodules load when first named; other names give an error that helps."""
    if name in _SUBMODULES:
        try:
            return _importlib.import_module(f"taimatsu.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"taimatsu.{name}":
                raise
    if name in _WINDOWS:
        return getattr(_importlib.import_module("taimatsu.signal.windows"), name)
    from taimatsu.errors import numpy_hint

    message = f"module 'torch' has no attribute {name!r}: taimatsu has no 'torch.{name}'"
    hint = numpy_hint("torch", name)
    if hint:
        raise AttributeError(message + hint)
    # With the name and the module Python suggests what may have been meant.
    raise AttributeError(message, name=name, obj=_sys.modules[__name__])
