"""Views: operations whose result shares the input's storage, and what is made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from taimatsu import dtypes, recorder
from taimatsu.ir.meta import Meta, meta
from taimatsu.ops.base import Operation, Sample, array, composite, register
from taimatsu.shapes import (
    broadcast_shapes,
    contiguous_strides,
    infer_view_strides,
    normalize_axes,
    normalize_axis,
    resolve_shape,
)


class ViewOperation(Operation, abstract=True):
    """Base of views: ``layout`` gives the static description, ``shift`` the offset's change.

    Numbers that change from call to call (where a slice starts) are runtime integers: they come
    to ``shift`` and ``gradient`` as further positional arguments and stay out of the trie's keys.
    """

    view = True

    def layout(self, input: Meta, **attributes: Any) -> Meta:
        raise NotImplementedError

    def shift(self, input: Meta, *numbers: int, **attributes: Any) -> int:
        return 0

    def infer(self, input):
        raise AssertionError("views are not computed")

    def make(self, tensor: Any, *numbers: int, **attributes: Any) -> Any:
        return recorder.apply_view(self, tensor, numbers, attributes)


def shape_arguments(given: tuple) -> tuple[int, ...]:
    """``view(2, 3)``, ``view((2, 3))`` and ``view(torch.Size([2, 3]))`` alike."""
    if len(given) == 1 and isinstance(given[0], (tuple, list)):
        given = tuple(given[0])
    return tuple([n if type(n) is int else n.__index__() for n in given])


def view_samples(*shapes: tuple, size: tuple[int, ...] = (2, 3, 4)):
    def samples() -> Iterator[Sample]:
        for arguments in shapes:
            yield Sample(array(*size), *arguments)

    return staticmethod(samples)


@register
class Alias(ViewOperation):
    """The same elements: what ``view_as``, ``detach`` and no-op views give."""

    hidden = True

    def layout(self, input):
        return input

    def gradient(self, g, out, input):
        return g


@register
class View(ViewOperation):
    """The elements in row-major order under another shape, without copying."""

    functions = ()
    methods = ("view",)
    hidden = True
    torch_name = "Tensor.view"
    samples = view_samples((6, 4), ((4, -1),), (-1,), (2, 3, 2, 2))

    def __call__(self, input, *shape):
        if len(shape) == 1 and isinstance(shape[0], dtypes.dtype):
            return view_as_dtype(input, shape[0])
        new = resolve_shape(shape_arguments(shape), input._meta.numel)
        return self.make(input, shape=tuple(new))

    def layout(self, input, *, shape):
        strides = infer_view_strides(input.shape, input.strides, shape)
        if strides is None:
            raise self.error(
                "view size is not compatible with input tensor's size and stride (at least one "
                "dimension spans across two contiguous subspaces)",
                f"shape {list(input.shape)} with strides {list(input.strides)} to {list(shape)}",
                "use .reshape(...) instead, or call .contiguous() first",
            )
        return meta(shape, input.dtype, tuple(strides))

    def gradient(self, g, out, input, *, shape):
        return g.reshape(input.shape)


def view_as_dtype(input: Any, dtype: Any) -> Any:
    """``Tensor.view(dtype)``: the same bytes read as another dtype."""
    given = input._meta.dtype
    if dtype is given:
        return Alias.make(input)
    buffer = recorder.materialize(input)
    shape, strides, offset = list(input.shape), list(input._meta.strides), input._offset
    if dtype.itemsize != given.itemsize:
        if not shape or strides[-1] != 1:
            raise View.error(
                "self.stride(-1) must be 1 to view as a dtype of another size",
                f"strides {strides}",
                "call .contiguous() first",
            )
        old, new = given.itemsize, dtype.itemsize
        fits = (shape[-1] * old) % new == 0 and (offset * old) % new == 0
        if not fits or any((s * old) % new for s in strides[:-1]):
            raise View.error(
                f"self.size(-1) must be divisible by {new // old} to view as {dtype}",
                f"shape {shape}",
            )
        shape[-1] = shape[-1] * old // new
        strides = [s * old // new for s in strides[:-1]] + [1]
        offset = offset * old // new
    storage = recorder.Storage(buffer.view(dtype.numpy))
    return recorder.make_tensor(meta(shape, dtype, tuple(strides), bool(offset)), storage, offset)


@register
class Expand(ViewOperation):
    """Repeats dimensions of extent 1 (and new leading ones) without copying."""

    functions = ()
    methods = ("expand",)
    hidden = True
    torch_name = "Tensor.expand"
    samples = view_samples((5, 2, 3), (-1, 3), ((2, 3),), size=(1, 3))

    def __call__(self, input, *size, implicit=False):
        described = input._meta
        wanted = shape_arguments(size)
        lead = len(wanted) - described.ndim
        if lead < 0:
            raise self.error(
                f"the number of sizes provided ({len(wanted)}) must be greater or equal to the "
                f"number of dimensions in the tensor ({described.ndim})"
            )
        shape = []
        for i, n in enumerate(wanted):
            old = described.shape[i - lead] if i >= lead else 1
            if n == -1 and i < lead:
                raise self.error(
                    f"The expanded size of the tensor ({n}) isn't allowed in a leading, "
                    f"non-existing dimension {i}"
                )
            n = old if n == -1 else n
            if old != n and old != 1:
                raise self.error(
                    f"The expanded size of the tensor ({n}) must match the existing size ({old}) "
                    f"at non-singleton dimension {i}.  Target sizes: {list(wanted)}.  "
                    f"Tensor sizes: {list(described.shape)}"
                )
            shape.append(n)
        return self.make(input, shape=tuple(shape))

    def layout(self, input, *, shape):
        lead = len(shape) - input.ndim
        strides: list[int] = []
        for old, stride, new in zip(input.shape, input.strides, shape[lead:], strict=True):
            strides.append(0 if old == 1 and new != 1 else stride)
        for d in range(lead - 1, -1, -1):
            whole = shape[d + 1] * strides[0] if strides else 0
            strides.insert(0, 0 if shape[d] != 1 else whole)
        return meta(shape, input.dtype, tuple(strides))

    def gradient(self, g, out, input, *, shape):
        return g.sum_to_size(input.shape)


@register
class Permute(ViewOperation):
    """Dimensions in another order."""

    samples = view_samples(((2, 0, 1),), ((0, -1, 1),))

    def __call__(self, input, *dims):
        dims = shape_arguments(dims)
        ndim = input._meta.ndim
        if len(dims) != ndim:
            raise self.error(
                f"permute(sparse_coo): number of dimensions in the tensor input does not match "
                f"the length of the desired ordering of dimensions i.e. input.dim() = {ndim} is "
                f"not equal to len(dims) = {len(dims)}"
            )
        return self.make(input, dims=normalize_axes(dims, ndim))

    def layout(self, input, *, dims):
        shape = [input.shape[d] for d in dims]
        return meta(shape, input.dtype, tuple(input.strides[d] for d in dims))

    def gradient(self, g, out, input, *, dims):
        return g.permute(tuple(int(i) for i in np.argsort(dims)))


class TwoDims(ViewOperation, abstract=True):
    """Exchanges two dimensions."""

    def layout(self, input, *, dim0, dim1):
        order = list(range(input.ndim))
        order[dim0], order[dim1] = dim1, dim0
        shape = [input.shape[d] for d in order]
        return meta(shape, input.dtype, tuple(input.strides[d] for d in order))

    def gradient(self, g, out, input, *, dim0, dim1):
        return Transpose(g, dim0, dim1)


@register
class Transpose(TwoDims):
    """Exchanges dimensions ``dim0`` and ``dim1``."""

    functions = ("transpose", "swapaxes", "swapdims")
    inplace = False
    samples = view_samples((0, 1), (-1, 0))

    def __call__(self, input, dim0, dim1):
        ndim = input._meta.ndim
        dim0, dim1 = normalize_axis(dim0, ndim), normalize_axis(dim1, ndim)
        if ndim == 0:
            return Alias.make(input)
        return self.make(input, dim0=dim0, dim1=dim1)


@register
class T(TwoDims):
    """Transpose of a matrix; vectors and scalars as they are."""

    name = "t"
    samples = view_samples((), size=(2, 3))

    def __call__(self, input):
        ndim = input._meta.ndim
        if ndim > 2:
            raise self.error(
                "t() expects a tensor with <= 2 dimensions",
                f"self is {ndim}D",
                "use .transpose(0, 1) or .mT",
            )
        if ndim < 2:
            return Alias.make(input)
        return self.make(input, dim0=0, dim1=1)


@register
class Unsqueeze(ViewOperation):
    """A new dimension of extent 1 at ``dim``."""

    samples = view_samples((0,), (-1,), (2,))

    def __call__(self, input, dim):
        return self.make(input, dim=normalize_axis(dim, input._meta.ndim + 1))

    def layout(self, input, *, dim):
        shape, strides = list(input.shape), list(input.strides)
        stride = shape[dim] * strides[dim] if dim < len(shape) else 1
        shape.insert(dim, 1)
        strides.insert(dim, stride)
        return meta(shape, input.dtype, tuple(strides))

    def gradient(self, g, out, input, *, dim):
        return g.squeeze(dim)


@register
class Squeeze(ViewOperation):
    """Without the dimensions of extent 1 (all, or those named)."""

    samples = view_samples((), (1,), (0,), ((1, 2),), size=(2, 1, 3, 1))

    def __call__(self, input, dim=None):
        described = input._meta
        if dim is None:
            dims = tuple(range(described.ndim))
        elif isinstance(dim, (tuple, list)):
            dims = normalize_axes(dim, described.ndim) if described.ndim else ()
        else:
            dims = (normalize_axis(dim, described.ndim),) if described.ndim else ()
        dims = tuple(d for d in dims if described.shape[d] == 1)
        return self.make(input, dims=dims, named=dim is not None)

    def backward_name_for(self, inputs, attributes):
        return "SqueezeBackward1" if attributes["named"] else "SqueezeBackward0"

    def layout(self, input, *, dims, named):
        kept = [d for d in range(input.ndim) if d not in dims]
        shape = [input.shape[d] for d in kept]
        return meta(shape, input.dtype, tuple(input.strides[d] for d in kept))

    def gradient(self, g, out, input, *, dims, named):
        return g.reshape(input.shape)


@register
class Select(ViewOperation):
    """The slice at ``index`` along ``dim``, without that dimension."""

    samples = view_samples((0, 1), (1, -1), (-1, 2))
    parameters = ("input", "index")

    def __call__(self, input, dim, index):
        described = input._meta
        if described.ndim == 0:
            raise self.error("select() cannot be applied to a 0-dim tensor.", kind=IndexError)
        dim = normalize_axis(dim, described.ndim)
        size = described.shape[dim]
        index = index if type(index) is int else index.__index__()
        if not -size <= index < size:
            raise self.error(
                f"index {index} is out of bounds for dimension {dim} with size {size}",
                kind=IndexError,
            )
        return self.make(input, index + size if index < 0 else index, dim=dim)

    def layout(self, input, *, dim):
        shape = input.shape[:dim] + input.shape[dim + 1 :]
        return meta(shape, input.dtype, input.strides[:dim] + input.strides[dim + 1 :])

    def shift(self, input, index, *, dim):
        return index * input.strides[dim]

    def gradient(self, g, out, input, index, *, dim):
        plain = contiguous_strides(input.shape)
        return put_region(g, input, out, plain[:dim] + plain[dim + 1 :], index * plain[dim])


@register
class Slice(ViewOperation):
    """``length`` elements along ``dim`` from a runtime start, every ``step``-th."""

    hidden = True
    parameters = ("input", "start")

    def __call__(self, input, dim, start, length, step=1):
        return self.make(input, start, dim=dim, length=length, step=step)

    def layout(self, input, *, dim, length, step):
        shape, strides = list(input.shape), list(input.strides)
        shape[dim] = length
        strides[dim] *= step
        return meta(shape, input.dtype, tuple(strides))

    def shift(self, input, start, *, dim, length, step):
        return start * input.strides[dim]

    def gradient(self, g, out, input, start, *, dim, length, step):
        plain = list(contiguous_strides(input.shape))
        offset = start * plain[dim]
        plain[dim] *= step
        return put_region(g, input, out, tuple(plain), offset)


class UnbindPart(type(Select)):  # type: ignore[misc]
    """One of the tensors that ``unbind`` gives."""

    name = "unbind_part"
    backward_name = "UnbindBackward0"
    parameters = ("input", "index")
    hidden = True
    functions = ()
    methods = ()
    samples = None


class SplitPart(type(Slice)):  # type: ignore[misc]
    """One of the tensors that ``split`` and ``chunk`` give."""

    name = "split_part"
    backward_name = "SplitBackward0"
    parameters = ("input", "start")


unbind_part = register(UnbindPart)
split_part = register(SplitPart)


@register
class Diagonal(ViewOperation):
    """The diagonal of two dimensions, as the last one."""

    samples = view_samples((), (1, 1, 2), (-1, 0, 1))

    def __call__(self, input, offset=0, dim1=0, dim2=1):
        ndim = input._meta.ndim
        dim1, dim2 = normalize_axis(dim1, ndim), normalize_axis(dim2, ndim)
        if dim1 == dim2:
            raise self.error(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
        return self.make(input, offset=int(offset), dim1=dim1, dim2=dim2)

    def layout(self, input, *, offset, dim1, dim2):
        return _diagonal(input.shape, input.strides, input.dtype, offset, dim1, dim2)

    def shift(self, input, *, offset, dim1, dim2):
        return self._start(input.strides, offset, dim1, dim2) if self._length(
            input.shape, offset, dim1, dim2
        ) else 0

    @staticmethod
    def _start(strides, offset, dim1, dim2):
        return offset * strides[dim2] if offset >= 0 else -offset * strides[dim1]

    @staticmethod
    def _length(shape, offset, dim1, dim2):
        return _diagonal_length(shape, offset, dim1, dim2)

    def gradient(self, g, out, input, *, offset, dim1, dim2):
        plain = contiguous_strides(input.shape)
        target = _diagonal(input.shape, plain, input.dtype, offset, dim1, dim2)
        return put_region(g, input, out, target.strides, self._start(plain, offset, dim1, dim2))


def _diagonal_length(shape: Sequence[int], offset: int, dim1: int, dim2: int) -> int:
    rows, columns = shape[dim1], shape[dim2]
    return max(min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns), 0)


def _diagonal(
    shape: Sequence[int], strides: Sequence[int], dtype: Any, offset: int, dim1: int, dim2: int
) -> Meta:
    kept = [d for d in range(len(shape)) if d not in (dim1, dim2)]
    new_shape = [shape[d] for d in kept] + [_diagonal_length(shape, offset, dim1, dim2)]
    new_strides = tuple(strides[d] for d in kept) + (strides[dim1] + strides[dim2],)
    return meta(new_shape, dtype, new_strides, dynamic=offset != 0)


@register
class AsStrided(ViewOperation):
    """Elements at ``offset + sum(index * stride)`` of the storage."""

    parameters = ("input", "start")
    samples = view_samples(((2, 2), (1, 2), 1), ((3,), (4,)), size=(4, 4))

    def __call__(self, input, size, stride, storage_offset=None):
        size, stride = shape_arguments((size,)), shape_arguments((stride,))
        start = input._offset if storage_offset is None else int(storage_offset)
        if len(size) != len(stride):
            raise self.error("mismatch in length of strides and shape")
        if any(s < 0 for s in stride):
            raise self.error("as_strided: Negative strides are not supported at the moment")
        if all(size):
            last = start + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
            available = recorder.storage_size(input)
            if last >= available or start < 0:
                raise self.error(
                    f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset "
                    f"{start} are out of bounds for storage of size {available} elements"
                )
        return self.make(input, start - input._offset, size=size, stride=stride)

    def layout(self, input, *, size, stride):
        return meta(size, input.dtype, stride)

    def shift(self, input, start, *, size, stride):
        return start

    def gradient(self, g, out, input, start, *, size, stride):
        if not input.contiguous or start < 0:
            raise self.error(
                "the gradient of as_strided needs a contiguous input that holds the whole view",
                hint="call .contiguous() first",
            )
        flat = g.new_zeros(input.numel)
        positions = recorder.constant(region_positions(size, stride)) + start
        return flat.index_add(0, positions.reshape(-1), g.reshape(-1)).reshape(input.shape)


def region_positions(size: Sequence[int], stride: Sequence[int]) -> np.ndarray:
    """Flat positions (int64, of shape ``size``) that a layout sees."""
    positions = np.zeros(tuple(size), np.int64)
    for axis, (n, s) in enumerate(zip(size, stride, strict=True)):
        shape = [1] * len(size)
        shape[axis] = n
        positions += (np.arange(n, dtype=np.int64) * s).reshape(shape)
    return positions


def overlaps(size: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether a layout may see an element twice (expanded dimensions, windows)."""
    reach = 0
    pairs = zip(stride, size, strict=True)
    for step, extent in sorted(p for p in pairs if p[1] > 1):
        if step <= reach:
            return True
        reach += step * (extent - 1)
    return False


@register
class RegionScatter(Operation):
    """A copy of ``input`` with the elements that a layout sees replaced by ``src``.

    The layout is a start and strides over ``input`` in row-major order.
    """

    hidden = True

    def infer(self, input, src, start, *, stride):
        return meta(input.shape, input.dtype)

    def reference(self, input, src, start, *, stride):
        result = np.array(input, order="C")
        flat = result.reshape(-1)
        recorder.window(flat, src.shape, stride, start)[...] = src
        return result

    def gradient(self, g, out, input, src, start, *, stride):
        whole = g.contiguous()
        region = Region.make(whole, start, size=tuple(src.shape), stride=stride)
        return lambda: RegionScatter.apply(whole, zeros_like(region), start, stride=stride), region


@register
class Region(ViewOperation):
    """A region of a contiguous tensor; the inverse of ``RegionScatter``."""

    name = "region"
    backward_name = "AsStridedBackward0"
    hidden = True
    parameters = ("input", "start")

    def layout(self, input, *, size, stride):
        return meta(size, input.dtype, stride)

    def shift(self, input, start, *, size, stride):
        return start

    def gradient(self, g, out, input, start, *, size, stride):
        if not overlaps(size, stride):
            return put_region(g, input, out, stride, start)
        positions = recorder.constant(region_positions(size, stride).reshape(-1)) + start
        flat = g.new_zeros(input.numel)
        return flat.index_add(0, positions, g.reshape(-1)).reshape(input.shape)


@register
class CopySlices(ViewOperation):
    """A base after a write through a view of it: a step of the graph without computation.

    Inputs: the base as it was, the values written, where the view starts (in row-major order).
    """

    hidden = True
    backward_name = "CopySlices"
    parameters = ("input", "src", "start")

    def gradient(self, g, out, input, src, start, *, size, stride, order):
        whole = g.permute(order).contiguous()
        back = tuple(int(i) for i in np.argsort(order))
        region = Region.make(whole, start, size=size, stride=stride)

        def rest():
            cleared = RegionScatter.apply(whole, zeros_like(region), start, stride=stride)
            return cleared.permute(back)

        return rest, region


def zeros_like(tensor: Any) -> Any:
    return recorder.constant(np.zeros(tuple(tensor.shape), tensor.dtype.numpy))


def put_region(g: Any, whole: Any, part: Any, stride: tuple[int, ...], start: int) -> Any:
    """Zeros of ``whole``'s shape with ``g`` where a view (row-major strides) saw it."""
    zeros = recorder.constant(np.zeros(tuple(whole.shape), g.dtype.numpy))
    return RegionScatter.apply(zeros, g, start, stride=tuple(stride))


# -- functions made of views -------------------------------------------------------------------


@composite(samples=view_samples((6, 4), ((4, -1),), (-1,)), torch_name="Tensor.reshape")
def reshape(input, *shape):
    """The elements in row-major order under another shape; a view where possible."""
    new = tuple(resolve_shape(shape_arguments(shape), input._meta.numel))
    if infer_view_strides(input._meta.shape, input._meta.strides, new) is None:
        input = input.contiguous()
    return View(input, new)


def _as_samples() -> Iterator[Sample]:
    yield Sample(array(2, 3), array(3, 2, seed=1))


@composite(methods=("view_as",), torch_name="Tensor.view_as", samples=_as_samples)
def view_as(input, other):
    """``input.view(other.size())``."""
    return View(input, tuple(other.shape))


@composite(methods=("reshape_as",), torch_name="Tensor.reshape_as", samples=_as_samples)
def reshape_as(input, other):
    """``input.reshape(other.size())``."""
    return input.reshape(tuple(other.shape))


@composite(
    methods=("expand_as",),
    torch_name="Tensor.expand_as",
    samples=lambda: iter([Sample(array(2, 1), array(2, 3))]),
)
def expand_as(input, other):
    """``input.expand(other.size())``."""
    return Expand(input, tuple(other.shape))


@composite(samples=view_samples((), (1,), (0, 1), (-2,)))
def flatten(input, start_dim=0, end_dim=-1):
    """Merges the dimensions from ``start_dim`` to ``end_dim``."""
    ndim = input._meta.ndim
    if ndim == 0:
        return View(input, (1,))
    first, last = normalize_axis(start_dim, ndim), normalize_axis(end_dim, ndim)
    if first > last:
        raise View.error("flatten() has invalid args: start_dim cannot come after end_dim")
    if first == last:
        return input
    shape = input._meta.shape
    merged = int(np.prod(shape[first : last + 1], dtype=np.int64))
    return input.reshape((*shape[:first], merged, *shape[last + 1 :]))


@composite("ravel", samples=view_samples(()))
def ravel(input):
    """The elements in row-major order, in one dimension."""
    return input.reshape(-1)


@composite("unflatten", samples=view_samples((2, (2, 2)), (-1, (2, -1))))
def unflatten(input, dim, sizes):
    """Splits a dimension into several."""
    shape = input._meta.shape
    dim = normalize_axis(dim, len(shape))
    sizes = shape_arguments((sizes,)) if not isinstance(sizes, int) else (sizes,)
    if not sizes:
        raise View.error("unflatten: sizes must be non-empty")
    parts = resolve_shape(sizes, shape[dim])
    return input.reshape((*shape[:dim], *parts, *shape[dim + 1 :]))


@composite("narrow", samples=view_samples((1, 1, 2), (-1, 0, 3)))
def narrow(input, dim, start, length):
    """``length`` elements along ``dim`` from ``start``."""
    if input._meta.ndim == 0:
        raise View.error("narrow() cannot be applied to a 0-dim tensor.")
    dim = normalize_axis(dim, input._meta.ndim)
    size = input._meta.shape[dim]
    start = int(start)
    if not -size <= start <= size:
        raise View.error(
            f"start out of range (expected to be in range of [{-size}, {size}], but got {start})",
            kind=IndexError,
        )
    start = start + size if start < 0 else start
    if length < 0 or start + length > size:
        raise View.error(f"start ({start}) + length ({length}) exceeds dimension size ({size}).")
    return Slice(input, dim, start, int(length))


@composite("unbind", samples=view_samples((), (1,), (-1,)))
def unbind(input, dim=0):
    """A tuple of all slices along ``dim``, each without that dimension."""
    dim = normalize_axis(dim, input._meta.ndim)
    parts = [unbind_part.make(input, i, dim=dim) for i in range(input._meta.shape[dim])]
    return _fragile(parts, "UnbindBackward0")


def _fragile(parts: list, name: str) -> tuple:
    for part in parts:
        extra = recorder.extra_of(part)
        extra.fragile = extra.fragile or name
    return tuple(parts)


def _split(input: Any, sizes: Sequence[int], dim: int) -> tuple:
    parts = []
    start = 0
    for length in sizes:
        parts.append(split_part.make(input, start, dim=dim, length=length, step=1))
        start += length
    return _fragile(parts, "SplitBackward0")


@composite("split", samples=view_samples((2,), (2, 1), ([1, 2, 1], 2)))
def split(tensor, split_size_or_sections, dim=0):
    """A tuple of pieces along ``dim``: of equal size (the last may be smaller), or as listed."""
    dim = normalize_axis(dim, tensor._meta.ndim)
    total = tensor._meta.shape[dim]
    given = split_size_or_sections
    if isinstance(given, (list, tuple)):
        if sum(given) != total or any(n < 0 for n in given):
            raise View.error(
                f"split_with_sizes expects split_sizes to sum exactly to {total} (input tensor's "
                f"size at dimension {dim})",
                f"split_sizes={list(given)}",
            )
        return _split(tensor, [int(n) for n in given], dim)
    size = int(given)
    if size < 0 or (size == 0 and total):
        raise View.error("split expects split_size be positive", f"split_size={size}")
    sizes = [min(size, total - i) for i in range(0, total, size)] if size else [0]
    return _split(tensor, sizes or [0], dim)


@composite("split_with_sizes", samples=view_samples(([1, 1],), ([1, 3], 2)))
def split_with_sizes(tensor, split_sizes, dim=0):
    """``split`` with a list of sizes."""
    return tensor.split(list(split_sizes), dim)


@composite("chunk", samples=view_samples((2, 2), (3, 2), (5, 1)))
def chunk(input, chunks, dim=0):
    """At most ``chunks`` pieces along ``dim``."""
    if chunks <= 0:
        raise View.error("chunk expects `chunks` to be greater than 0", f"{chunks}")
    dim = normalize_axis(dim, input._meta.ndim)
    total = input._meta.shape[dim]
    size = -(-total // chunks)
    if size == 0:
        return _split(input, [0] * chunks, dim)
    return input.split(size, dim)


@composite("tensor_split", samples=view_samples((3, 2), ((1, 2), 1), ([1], -1)))
def tensor_split(input, indices_or_sections, dim=0):
    """Pieces as NumPy's ``array_split`` makes them."""
    dim = normalize_axis(dim, input._meta.ndim)
    total = input._meta.shape[dim]
    given = indices_or_sections
    if hasattr(given, "tolist"):
        given = given.tolist()
    if isinstance(given, int):
        if given <= 0:
            raise View.error(f"number of sections must be larger than 0, got {given}")
        base, more = divmod(total, given)
        sizes = [base + 1] * more + [base] * (given - more)
        return _split(input, sizes, dim)
    bounds = [0, *[slice(i).indices(total)[1] for i in given], total]
    starts = bounds[:-1]
    stops = bounds[1:]
    parts = [
        split_part.make(input, a, dim=dim, length=max(b - a, 0), step=1)
        for a, b in zip(starts, stops, strict=True)
    ]
    return _fragile(parts, "SplitBackward0")


@composite("hsplit", "hsplit", samples=view_samples((3,)))
def hsplit(input, indices_or_sections):
    """``tensor_split`` along the second dimension (the first of a vector)."""
    return input.tensor_split(indices_or_sections, 0 if input._meta.ndim == 1 else 1)


@composite("vsplit", samples=view_samples((2,)))
def vsplit(input, indices_or_sections):
    """``tensor_split`` along the first dimension."""
    return input.tensor_split(indices_or_sections, 0)


@composite("dsplit", samples=view_samples((2,)))
def dsplit(input, indices_or_sections):
    """``tensor_split`` along the third dimension."""
    return input.tensor_split(indices_or_sections, 2)


@composite("movedim", "moveaxis", samples=view_samples((0, 2), ((0, 1), (2, 0))))
def movedim(input, source, destination):
    """Moves dimensions to new places; the others keep their order."""
    ndim = input._meta.ndim
    sources = normalize_axes(source if isinstance(source, (tuple, list)) else (source,), ndim)
    goal = destination if isinstance(destination, (tuple, list)) else (destination,)
    targets = normalize_axes(goal, ndim)
    if len(sources) != len(targets):
        raise View.error(
            "movedim: Invalid source or destination dims: source and destination must have the "
            "same number of dims",
            f"{sources} and {targets}",
        )
    rest = iter(d for d in range(ndim) if d not in sources)
    order = [sources[targets.index(i)] if i in targets else next(rest) for i in range(ndim)]
    return Permute(input, tuple(order))


@composite("broadcast_to", samples=view_samples(((2, 2, 3),), size=(2, 3)))
def broadcast_to(input, *size):
    """``input.expand(size)``."""
    return Expand(input, shape_arguments(size))


@composite(
    "broadcast_tensors",
    methods=(),
    samples=lambda: iter([Sample(array(2, 1), array(3), array())]),
)
def broadcast_tensors(*tensors):
    """The tensors expanded to their common shape."""
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    shape = broadcast_shapes(*[t._meta.shape for t in tensors])
    return tuple(Expand(t, tuple(shape)) for t in tensors)


@composite("adjoint", samples=view_samples(()))
def adjoint(input):
    """The last two dimensions exchanged, conjugated."""
    flipped = Transpose(input, -2, -1)
    return flipped.conj() if input._meta.dtype.is_complex else flipped


@composite("unfold", methods=("unfold",), torch_name="Tensor.unfold",
           samples=view_samples((2, 2, 1), (1, 2, 2)))
def unfold(input, dimension, size, step):
    """All windows of ``size`` along a dimension, ``step`` apart, as a new last dimension."""
    described = input._meta
    dim = normalize_axis(dimension, described.ndim)
    length = described.shape[dim] if described.ndim else 1
    if size > length:
        raise View.error(
            f"maximum size for tensor at dimension {dim} is {length} but size is {size}"
        )
    if step <= 0:
        raise View.error(f"step is {step} but must be > 0")
    return UnfoldWindows.make(input, dim=dim, size=int(size), step=int(step))


@register
class UnfoldWindows(ViewOperation):
    """The windows that ``Tensor.unfold`` gives."""

    hidden = True
    backward_name = "UnfoldBackward0"

    def layout(self, input, *, dim, size, step):
        if input.ndim == 0:
            return meta((size,), input.dtype, (1,))
        shape, strides = list(input.shape), list(input.strides)
        shape[dim] = (shape[dim] - size) // step + 1
        strides[dim] *= step
        return meta([*shape, size], input.dtype, (*strides, input.strides[dim]))

    def gradient(self, g, out, input, *, dim, size, step):
        plain = meta(input.shape, input.dtype)
        target = self.layout(plain, dim=dim, size=size, step=step)
        positions = recorder.constant(region_positions(target.shape, target.strides))
        flat = g.new_zeros(input.numel)
        return flat.index_add(0, positions.reshape(-1), g.reshape(-1)).reshape(input.shape)
