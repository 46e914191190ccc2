"""Views in the graph: what an in-place write through one view means for the others."""

from __future__ import annotations

import operator
from typing import Any

from taimatsu import recorder
from taimatsu.errors import OperationError
from taimatsu.ops.region_stages import is_boxed
from taimatsu.ops.regions import CopySlices, Region
from taimatsu.ops.views import Permute
from taimatsu.shapes import is_dense


def refresh_view(tensor: Any) -> None:
    """Gives a view its place again if its base got a new one since."""
    extra = tensor._extra
    if extra is None or extra.base is None:
        return
    base = extra.base
    if extra.fragile:
        _refuse_fragile(extra, base)
        return
    base_extra = base._extra
    if base_extra is None or base_extra.rebased == extra.seen:
        return
    extra.seen = base_extra.rebased
    if base._requires_grad:
        regenerate(tensor, base)


def _refuse_fragile(extra: Any, base: Any) -> None:
    """The error for a view that cannot get a new place, once its base was written."""
    stale = base._requires_grad and recorder.counter_of(base).version != extra.made
    if stale and recorder.local.mode == recorder.GRAD:
        what = "its base or another view of its base has been modified inplace"
        raise recorder.fragile_error("view", extra.fragile, what)


def rebase(target: Any, base: Any, source: Any) -> None:
    """After a write through the view ``target``: its base is the old one with a region replaced,
    the view a view of that.
    """
    order = memory_order(base)
    start = target._offset - base._offset
    attributes = _layout(target, base, order) | {"order": order}
    recorder.record_view(CopySlices, base, base, (start,), attributes, (source,))
    extra = recorder.extra_of(base)
    extra.rebased += 1
    target._extra.seen = extra.rebased
    regenerate(target, base)


def regenerate(tensor: Any, base: Any) -> None:
    """Makes the tensor a region of its base in the graph."""
    order = memory_order(base)
    plain = base if order == tuple(range(len(order))) else Permute(base, order)
    start = tensor._offset - base._offset
    recorder.record_view(Region, plain, tensor, (start,), _layout(tensor, base, order))


def _layout(tensor: Any, base: Any, order: tuple[int, ...]) -> dict[str, Any]:
    """How a view lies over its base in the order of memory: attributes of ``Region``."""
    size, stride = tuple(tensor._meta.shape), tensor._meta.strides
    shape = [base._meta.shape[d] for d in order]
    boxed = is_boxed(shape, size, stride, tensor._offset - base._offset)
    return {"size": size, "stride": stride, "boxed": boxed}


def memory_order(base: Any) -> tuple[int, ...]:
    """The base's dimensions from the slowest to the fastest in memory."""
    described = base._meta
    if not is_dense(described.shape, described.strides):
        raise OperationError.make(
            "in-place",
            "a base tensor whose elements fill its memory without gaps or overlap",
            f"shape {list(described.shape)} with strides {list(described.strides)}",
            "call .contiguous() on the tensor that was viewed",
        )
    pairs = [(-s, i) for i, s in enumerate(described.strides)]
    return tuple(i for _, i in sorted(pairs, key=operator.itemgetter(0)))
