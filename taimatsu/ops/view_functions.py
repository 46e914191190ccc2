"""Functions made of views: reshape, flatten, split, unbind and kin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from taimatsu import recorder
from taimatsu.errors import OperationError
from taimatsu.ir.meta import Meta
from taimatsu.ops.base import Sample, array, composite
from taimatsu.ops.regions import UnfoldWindows
from taimatsu.ops.view_base import shape_arguments, view_samples
from taimatsu.ops.views import Expand, Permute, Slice, Transpose, View, split_part, unbind_part
from taimatsu.shapes import (
    broadcast_shapes,
    count,
    infer_view_strides,
    normalize_axes,
    normalize_axis,
    resolve_shape,
)


@composite(samples=view_samples((6, 4), ((4, -1),), (-1,)), torch_name="Tensor.reshape")
def reshape(input, *shape):
    """The elements in row-major order under another shape; a view where possible."""
    described = input._meta
    wanted = shape_arguments(shape)
    new, viewable = described.remember(("reshape", wanted), _reshaping, wanted)
    return View.make(input if viewable else input.contiguous(), shape=new)


reshape.functions = ("reshape",)  # a function too; it is tested by the method, which spreads sizes


def _reshaping(described: Meta, wanted: tuple[int, ...]) -> tuple[tuple[int, ...], bool]:
    """The shape meant (one -1 worked out), and whether a view can have it."""
    new = tuple(resolve_shape(wanted, described.numel))
    return new, infer_view_strides(described.shape, described.strides, new) is not None


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
    key = ("flatten", start_dim, end_dim)
    shape = input._meta.remember(key, _flattened, start_dim, end_dim)
    return input if shape is None else reshape(input, shape)


def _flattened(described: Meta, start_dim: int, end_dim: int) -> tuple[int, ...] | None:
    """The shape with dimensions merged; None where nothing changes."""
    ndim = described.ndim
    if ndim == 0:
        return (1,)
    first, last = normalize_axis(start_dim, ndim), normalize_axis(end_dim, ndim)
    if first > last:
        raise View.error("flatten() has invalid args: start_dim cannot come after end_dim")
    if first == last:
        return None
    shape = described.shape
    return (*shape[:first], count(shape[first : last + 1]), *shape[last + 1 :])


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
        extra.made = recorder.counter_of(extra.base).version
        if part._recording is not None:
            part._recording.fragile.add(part._storage.slot)
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
            raise OperationError.make(
                "split",
                f"split_with_sizes expects split_sizes to sum exactly to {total} (input tensor's "
                f"size at dimension {dim})",
                f"split_sizes={list(given)}, which sum to {sum(given)}",
                "one number in place of the list gives pieces of that size",
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


@composite("unsafe_split", samples=view_samples((2,), (2, 1)))
def unsafe_split(tensor, split_size, dim=0):
    """``split`` into pieces of equal size; promises that none of them is written to."""
    return tensor.split(split_size, dim)


@composite("unsafe_split_with_sizes", samples=view_samples(([1, 1],), ([1, 3], 2)))
def unsafe_split_with_sizes(tensor, split_sizes, dim=0):
    """``split`` into listed sizes; promises that no piece is written to."""
    return tensor.split(list(split_sizes), dim)


@composite("unsafe_chunk", samples=view_samples((2, 2), (3, 2)))
def unsafe_chunk(input, chunks, dim=0):
    """``chunk``; promises that no piece is written to."""
    return input.chunk(chunks, dim)


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
    flipped: Any = Transpose(input, -2, -1)
    return flipped.conj() if input._meta.dtype.is_complex else flipped


@composite(
    "unfold",
    methods=("unfold",),
    torch_name="Tensor.unfold",
    samples=view_samples((2, 2, 1), (1, 2, 2)),
)
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
