"""How tensors are pickled and deep-copied: tensors that share memory share it afterwards too."""

from __future__ import annotations

import copy
import copyreg
from typing import Any

import numpy as np

from taimatsu.ir.meta import Meta
from taimatsu.recorder import make_tensor, materialize
from taimatsu.storage import Storage, finish


def reduce_tensor(tensor: Any) -> tuple:
    """What pickle keeps of a tensor: storage, layout, ``requires_grad`` and its attributes.

    The value is computed first; the graph that computed it is left out, so that the copy is a
    leaf.
    """
    materialize(tensor)
    layout = (tensor._storage, tensor._meta, tensor._offset, tensor.requires_grad)
    return rebuild_tensor, (type(tensor), *layout), tensor.__dict__ or None


def rebuild_tensor(
    kind: type, storage: Storage, meta: Meta, offset: int, requires_grad: bool
) -> Any:
    """What a pickled tensor calls."""
    made = make_tensor(meta, storage, offset)
    made.__class__ = kind
    return made.requires_grad_(requires_grad) if requires_grad else made


def deepcopy_tensor(tensor: Any, memo: dict[int, Any]) -> Any:
    """A copy with memory and gradient of its own; RuntimeError for results of the graph."""
    found = memo.get(id(tensor))
    if found is not None:
        return found
    if not tensor.is_leaf:
        raise RuntimeError(
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy "
            "protocol at the moment, but this one was computed from tensors that require "
            "gradients; copy its detach() or clone() instead"
        )
    rebuild, (kind, storage, meta, offset, requires_grad), attributes = reduce_tensor(tensor)
    made = rebuild(kind, copy.deepcopy(storage, memo), meta, offset, requires_grad)
    memo[id(tensor)] = made
    if attributes:
        made.__dict__.update(copy.deepcopy(attributes, memo))
    if tensor.grad is not None:
        made.grad = copy.deepcopy(tensor.grad, memo)
    return made


def _reduce_storage(storage: Storage) -> tuple:
    finish()
    return _rebuild_storage, (storage.buffer,)


def _rebuild_storage(buffer: np.ndarray) -> Storage:
    # A copy that owns its memory: an unpickled array may stand on bytes that others hold.
    return Storage(np.array(buffer))


copyreg.pickle(Storage, _reduce_storage)
