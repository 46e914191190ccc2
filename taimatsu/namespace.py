"""Public functions that are neither operations nor creation."""

from __future__ import annotations

from typing import Any

from taimatsu import dtypes, recorder
from taimatsu.recorder import TensorBase
from taimatsu.runtime import threads


def is_tensor(obj: Any) -> bool:
    """Whether ``obj`` is a tensor."""
    return isinstance(obj, TensorBase)


def is_storage(obj: Any) -> bool:
    """Whether ``obj`` is a storage."""
    return isinstance(obj, recorder.Storage)


def is_floating_point(input: Any) -> bool:
    """Whether the tensor's dtype is a floating one."""
    return input._meta.dtype.is_floating_point


def is_complex(input: Any) -> bool:
    """Whether the tensor's dtype is complex."""
    return input._meta.dtype.is_complex


def is_nonzero(input: Any) -> bool:
    """Whether a tensor of one element is not zero."""
    return bool(input)


def numel(input: Any) -> int:
    """The number of elements."""
    return input._meta.numel


def result_type(tensor1: Any, tensor2: Any) -> Any:
    """The dtype of arithmetic between two tensors or numbers."""
    return dtypes.result_type(
        *[t._meta if isinstance(t, TensorBase) else t for t in (tensor1, tensor2)]
    )


def set_default_dtype(d: Any) -> None:
    """The dtype of new floating-point tensors; what was recorded under the old one is run."""
    recorder.flush()
    recorder.local.recording = None
    dtypes.set_default_dtype(d)


def set_default_tensor_type(t: Any) -> None:
    """The default dtype by an old type name, such as ``torch.DoubleTensor``."""
    from taimatsu.legacy import TYPED

    kind = TYPED[t.rsplit(".", 1)[-1]] if isinstance(t, str) else t
    set_default_dtype(kind.kind)


def get_num_threads() -> int:
    """How many threads carry out a program, the calling one included."""
    return threads.get_num_threads()


def set_num_threads(count: int) -> None:
    """Sets how many threads carry out programs. TypeError, RuntimeError for other than 1, 2, ..."""
    threads.set_num_threads(count)
