"""Shapes and strides: broadcasting, axis numbers, views. Strides count elements, not bytes."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, SupportsIndex, overload

Strides = tuple[int, ...]


class Size(tuple):
    """A tensor's shape: a tuple of ints that stays a ``Size`` through slices and sums."""

    __slots__ = ()

    def __new__(cls, iterable: Iterable[Any] = ()) -> Size:
        made = super().__new__(cls, iterable)
        for item in tuple.__iter__(made):
            if type(item) is not int:
                return super().__new__(cls, _integers(made))
        return made

    def numel(self) -> int:
        """The number of elements of a tensor of this shape."""
        return prod(self)

    @overload
    def __getitem__(self, index: SupportsIndex) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Size: ...
    def __getitem__(self, index: Any) -> Any:
        got = tuple.__getitem__(self, index)
        return got if type(got) is int else tuple.__new__(Size, got)

    def __add__(self, other: Any) -> Size:
        if not isinstance(other, tuple):
            kind = type(other).__name__
            raise TypeError(f"can only concatenate tuple (not {kind}) to torch.Size")
        return Size(tuple.__add__(self, other))

    def __radd__(self, other: Any) -> Size:
        if not isinstance(other, tuple):
            kind = type(other).__name__
            raise TypeError(f"can only concatenate tuple (not {kind}) to torch.Size")
        return Size(tuple.__add__(tuple(other), self))

    def __mul__(self, times: Any) -> Size:
        return tuple.__new__(Size, tuple.__mul__(self, times))

    __rmul__ = __mul__

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(str, self))}])"


def _integers(items: Iterable[Any]) -> tuple[int, ...]:
    made = []
    for i, item in enumerate(items):
        try:
            made.append(operator.index(item))
        except TypeError:
            raise TypeError(
                f"torch.Size() takes an iterable of 'int' (item {i} is '{type(item).__name__}')"
            ) from None
    return tuple(made)


def count(shape: Sequence[int]) -> int:
    """The number of elements of a tensor of this shape."""
    return prod(shape)


def contiguous_strides(shape: Sequence[int]) -> Strides:
    """Row-major strides; extents of 0 count as 1, as PyTorch has it."""
    strides = []
    step = 1
    for extent in reversed(shape):
        strides.append(step)
        if extent > 1:
            step *= extent
    strides.reverse()
    return tuple(strides)


# -- broadcasting ----------------------------------------------------------------------------


def broadcast_shapes(*shapes: Sequence[int]) -> Size:
    """The shape in which an elementwise operation on these shapes runs.

    RuntimeError where two extents differ and neither is 1.
    """
    if not shapes:
        return Size()
    result = tuple(shapes[0])
    for shape in shapes[1:]:
        shape = tuple(shape)
        if shape != result:
            result = _broadcast_pair(result, shape)
    return Size(result)


def _broadcast_pair(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    ndim = max(len(a), len(b))
    given = a, b
    a = (1,) * (ndim - len(a)) + a
    b = (1,) * (ndim - len(b)) + b
    if a == b:
        return a
    result = []
    # From the last dimension on, so that a mismatch is reported where PyTorch reports it.
    for i in range(ndim - 1, -1, -1):
        if a[i] != b[i] and a[i] != 1 and b[i] != 1:
            raise RuntimeError(
                f"The size of tensor a ({a[i]}) must match the size of tensor b ({b[i]}) "
                f"at non-singleton dimension {i}; got shapes {list(given[0])} and "
                f"{list(given[1])}; shapes are aligned from the last dimension, and unsqueeze(dim) "
                "adds one of size 1"
            )
        result.append(b[i] if a[i] == 1 else a[i])
    return tuple(reversed(result))


def broadcast_strides(shape: Sequence[int], strides: Strides, target: Sequence[int]) -> Strides:
    """Strides that read a tensor as if it had the shape ``target``: 0 where it is repeated.

    ``shape`` must broadcast to ``target``.
    """
    new = len(target) - len(shape)
    read = [
        0 if extent == 1 and wanted != 1 else stride
        for extent, stride, wanted in zip(shape, strides, target[new:], strict=True)
    ]
    return (0,) * new + tuple(read)


# -- axes ------------------------------------------------------------------------------------


def normalize_axis(dim: int, ndim: int, name: str = "dim") -> int:
    """``dim`` counted from the front. A zero-dimensional tensor accepts 0 and -1.

    IndexError out of range, TypeError when ``dim`` is not an integer.
    """
    try:
        dim = operator.index(dim)
    except TypeError:
        kind = type(dim).__name__
        raise TypeError(f"argument '{name}' must be int, not {kind}") from None
    extent = ndim or 1
    if -extent <= dim < extent:
        return dim + extent if dim < 0 else dim
    raise IndexError(
        f"Dimension out of range (expected to be in range of [{-extent}, {extent - 1}], "
        f"but got {dim}); dimensions count from 0, or from -1 backwards"
    )


def normalize_axes(dims: int | Iterable[int], ndim: int, name: str = "dim") -> tuple[int, ...]:
    """Several axes counted from the front, in the given order; an int stands for one.

    IndexError out of range, RuntimeError where an axis is named twice.
    """
    if not isinstance(dims, Iterable):
        return (normalize_axis(dims, ndim, name),)
    axes: list[int] = []
    for dim in dims:
        axis = normalize_axis(dim, ndim, name)
        if axis in axes:
            raise RuntimeError(
                f"dim {axis} appears multiple times in the list of dims {list(dims)}; name each "
                "dimension once"
            )
        axes.append(axis)
    return tuple(axes)


# -- strides of results ----------------------------------------------------------------------


def is_contiguous(shape: Sequence[int], strides: Strides) -> bool:
    """Row-major order without gaps; dimensions of extent 1 may have any stride."""
    if 0 in shape:
        return True
    return _is_dense_in(range(len(shape) - 1, -1, -1), shape, strides)


def is_channels_last(shape: Sequence[int], strides: Strides) -> bool:
    """(N, C, H, W) stored as (N, H, W, C), or (N, C, D, H, W) as (N, D, H, W, C), no gaps."""
    if len(shape) == 4:
        return _is_dense_in((1, 3, 2, 0), shape, strides)
    return len(shape) == 5 and _is_dense_in((1, 4, 3, 2, 0), shape, strides)


def _is_dense_in(order: Sequence[int], shape: Sequence[int], strides: Strides) -> bool:
    """Whether the elements follow one another without gaps, ``order[0]`` varying fastest."""
    step = 1
    for i in order:
        if shape[i] != 1:
            if strides[i] != step:
                return False
            step *= shape[i]
    return True


def is_dense(shape: Sequence[int], strides: Strides) -> bool:
    """Some order of the dimensions walks the elements one by one: no overlap, no gap."""
    if 0 in shape:
        return True
    # Dimensions of extent 1 have no say: they come last, whatever their strides.
    order = sorted(range(len(shape)), key=lambda i: (shape[i] == 1, strides[i]))
    return _is_dense_in(order, shape, strides)


def elementwise_strides(
    shapes_and_strides: Sequence[tuple[Sequence[int], Strides]], shape: Sequence[int]
) -> Strides:
    """Strides of a fresh result of an elementwise operation, as PyTorch chooses them.

    Inputs of one layout give that layout; otherwise the first input that tells two dimensions
    apart decides which of them varies faster, and the result is dense in that order. ``shape``
    is the broadcast shape.
    """
    shape = tuple(shape)
    first_shape, first_strides = shapes_and_strides[0] if shapes_and_strides else ((), ())
    same_shape = all(tuple(s) == shape for s, _ in shapes_and_strides)
    if same_shape:
        if all(is_contiguous(s, t) for s, t in shapes_and_strides):
            return contiguous_strides(shape)
        if len(shape) == 4 and all(is_channels_last(s, t) for s, t in shapes_and_strides):
            return dense_strides(shape, (1, 3, 2, 0))
        if is_dense(first_shape, first_strides) and all(
            t == first_strides for _, t in shapes_and_strides
        ):
            return tuple(first_strides)
    reads = [broadcast_strides(s, t, shape) for s, t in shapes_and_strides]
    order = _iteration_order(reads, shape)
    if order == list(range(len(shape) - 1, -1, -1)):
        return contiguous_strides(shape)
    return dense_strides(shape, order)


def dense_strides(shape: Sequence[int], order: Sequence[int]) -> Strides:
    """Strides without gaps in which dimension ``order[0]`` varies fastest."""
    strides = [0] * len(shape)
    step = 1
    for i in order:
        strides[i] = step
        step *= shape[i]
    return tuple(strides)


def _iteration_order(reads: Sequence[Strides], shape: tuple[int, ...]) -> list[int]:
    """The dimensions, fastest first: an insertion sort from the row-major order.

    The comparison is partial ("cannot tell" for broadcast dimensions), so the algorithm is part
    of the result: each dimension sinks past those it is faster than and past the undecided, and
    stops at the first that is faster.
    """
    order = list(range(len(shape) - 1, -1, -1))
    for i in range(1, len(order)):
        at = i
        for j in range(i - 1, -1, -1):
            verdict = _slower(order[j], order[at], reads, shape)
            if verdict is False:
                break
            if verdict:
                order[j], order[at] = order[at], order[j]
                at = j
    return order


def _slower(a: int, b: int, reads: Sequence[Strides], shape: tuple[int, ...]) -> bool | None:
    """Whether dimension ``a`` should vary slower than ``b``; None when no input tells."""
    for strides in reads:
        if strides[a] == 0 or strides[b] == 0:
            continue
        if strides[a] != strides[b]:
            return strides[a] > strides[b]
        if shape[a] > shape[b]:
            return True
    return None


# -- views -----------------------------------------------------------------------------------


def resolve_shape(new_shape: Iterable[int], numel: int) -> Size:
    """The shape with its one -1 replaced by what ``numel`` elements leave for it.

    RuntimeError when the extents do not fit, or leave the -1 undetermined.
    """
    shape = Size(new_shape)
    unknown = False
    for i, extent in enumerate(shape):
        if extent < -1:
            raise RuntimeError(
                f"invalid shape dimension {extent} at index {i} of shape {list(shape)}"
            )
        if extent == -1 and unknown:
            raise RuntimeError(
                f"only one dimension can be inferred; got shape {list(shape)}; give the others as "
                "numbers"
            )
        unknown = unknown or extent == -1
    if not unknown:
        if count(shape) != numel:
            raise RuntimeError(_invalid_shape(shape, numel))
        return shape
    known = -count(shape)
    if known == 0 and numel == 0:
        raise RuntimeError(
            f"cannot reshape tensor of 0 elements into shape {list(shape)} because the "
            "unspecified dimension size -1 can be any value and is ambiguous"
        )
    if known == 0 or numel % known:
        raise RuntimeError(_invalid_shape(shape, numel))
    return Size(numel // known if extent == -1 else extent for extent in shape)


def _invalid_shape(shape: Size, numel: int) -> str:
    text = f"shape '{list(shape)}' is invalid for input of size {numel}"
    known = abs(count(shape))
    if -1 in shape:
        return f"{text}; {numel} is not a multiple of {known}, so that -1 stands for no extent"
    return f"{text}; the extents multiply to {known}; -1 in place of one has it computed"


def infer_view_strides(
    shape: Sequence[int], strides: Strides, new_shape: Sequence[int]
) -> Strides | None:
    """Strides that show the same elements in ``new_shape``; None when only a copy can.

    Both shapes have the same number of elements (``resolve_shape`` sees to it).
    """
    shape = tuple(shape)
    new_shape = tuple(new_shape)
    if 0 in shape:
        return tuple(strides) if new_shape == shape else contiguous_strides(new_shape)
    # From the back: each run of dimensions that lie one after another in memory must be
    # covered exactly by some of the new dimensions.
    result: list[int] = []
    remaining = list(new_shape)
    for extent, step in reversed(_memory_runs(shape, strides)):
        covered = 1
        while remaining and (covered < extent or remaining[-1] == 1):
            result.append(covered * step)
            covered *= remaining.pop()
        if covered != extent:
            return None
    result.reverse()
    return tuple(result)


def _memory_runs(shape: tuple[int, ...], strides: Strides) -> list[tuple[int, int]]:
    """Neighbouring dimensions merged where one continues the other: (extent, stride) each.

    Dimensions of extent 1 join the run behind them.
    """
    runs: list[tuple[int, int]] = []
    extent = 1
    step = strides[-1] if strides else 1
    for i in range(len(shape) - 1, -1, -1):
        extent *= shape[i]
        if i > 0 and (shape[i - 1] == 1 or strides[i - 1] == extent * step):
            continue
        runs.append((extent, step))
        if i > 0:
            extent = 1
            step = strides[i - 1]
    if not shape:
        runs.append((1, 1))
    runs.reverse()
    return runs
