"""Views: operations whose result shares the input's storage, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from taimatsu import dtypes, recorder
from taimatsu.ir.meta import Meta, meta
from taimatsu.ops.base import register
from taimatsu.ops.regions import put_region
from taimatsu.ops.view_base import ViewOperation, shape_arguments, view_samples
from taimatsu.shapes import (
    contiguous_strides,
    infer_view_strides,
    normalize_axes,
    normalize_axis,
    resolve_shape,
)


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
        wanted = shape_arguments(shape)
        return self.make(input, shape=input._meta.remember(("view", wanted), _meant, wanted))

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


def _meant(described: Meta, wanted: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with one -1 worked out."""
    return tuple(resolve_shape(wanted, described.numel))


def view_as_dtype(input: Any, dtype: Any) -> Any:
    """``Tensor.view(dtype)``: the same bytes read as another dtype."""
    given = input._meta.dtype
    if dtype is given:
        return Alias.make(input)
    buffer = recorder.materialize(input)
    recorder.release(input._storage)
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
                f"number of dimensions in the tensor ({described.ndim})",
                f"sizes {list(wanted)} for shape {list(described.shape)}",
                "-1 keeps a dimension as it is",
            )
        shape = []
        for i, n in enumerate(wanted):
            old = described.shape[i - lead] if i >= lead else 1
            if n == -1 and i < lead:
                raise self.error(
                    f"The expanded size of the tensor ({n}) isn't allowed in a leading, "
                    f"non-existing dimension {i}"
                )
            if n < -1:
                raise self.error(
                    f"The expanded size of the tensor ({n}) isn't allowed: expected 0 or more",
                    f"sizes {list(wanted)}",
                    "-1 keeps a dimension as it is",
                )
            n = old if n == -1 else n
            if old != n and old != 1:
                raise self.error(
                    f"The expanded size of the tensor ({n}) must match the existing size ({old}) "
                    f"at non-singleton dimension {i}.  Target sizes: {list(wanted)}.  "
                    f"Tensor sizes: {list(described.shape)}",
                    hint="only a dimension of size 1 expands; repeat() copies longer ones",
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
                f"permute(): number of dimensions in the tensor input does not match "
                f"the length of the desired ordering of dimensions i.e. input.dim() = {ndim} is "
                f"not equal to len(dims) = {len(dims)}",
                hint="name every dimension once; transpose(a, b) exchanges two",
            )
        if len({normalize_axis(d, ndim) for d in dims}) != ndim:
            raise self.error(
                "permute(): duplicate dims are not allowed.",
                f"dims {list(dims)}",
                "name each dimension once",
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
                hint=f"indices run from {-size} to {size - 1}",
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
        rest = plain[:dim] + plain[dim + 1 :]
        return put_region(g, input, rest, index * plain[dim], boxed=True)


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
        return put_region(g, input, tuple(plain), offset, boxed=True)


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
        return (
            self._start(input.strides, offset, dim1, dim2)
            if self._length(input.shape, offset, dim1, dim2)
            else 0
        )

    @staticmethod
    def _start(strides, offset, dim1, dim2):
        return offset * strides[dim2] if offset >= 0 else -offset * strides[dim1]

    @staticmethod
    def _length(shape, offset, dim1, dim2):
        return _diagonal_length(shape, offset, dim1, dim2)

    def gradient(self, g, out, input, *, offset, dim1, dim2):
        plain = contiguous_strides(input.shape)
        target = _diagonal(input.shape, plain, input.dtype, offset, dim1, dim2)
        start = self._start(plain, offset, dim1, dim2)
        return put_region(g, input, target.strides, start, boxed=True)


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
