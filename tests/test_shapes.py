"""Shapes and strides: by definition (against NumPy), and against PyTorch where it is installed."""

from __future__ import annotations

import copy
import pickle
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taimatsu import shapes as S
from taimatsu.shapes import Size

SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


def test_size_stays_a_size():
    size = Size([2, 3])
    assert repr(size) == "torch.Size([2, 3])"
    assert size == (2, 3)
    assert hash(size) == hash((2, 3))
    for made in (size[:1], size + (4,), (4,) + size, size * 2, 2 * size):
        assert type(made) is Size
    assert (4,) + size == (4, 2, 3)
    assert type(size[0]) is int
    assert size.numel() == 6
    assert Size().numel() == 1
    for again in (pickle.loads(pickle.dumps(size)), copy.deepcopy(size)):
        assert type(again) is Size
        assert again == size


def test_size_takes_integers_only():
    assert type(Size([np.int64(3)])[0]) is int
    with pytest.raises(TypeError, match=r"takes an iterable of 'int' \(item 1 is 'float'\)"):
        Size([1, 1.5])
    with pytest.raises(TypeError, match="can only concatenate tuple"):
        _ = Size([1]) + [2]


@given(SHAPES)
def test_contiguous_strides_are_numpys(shape):
    strides = S.contiguous_strides(shape)
    assert S.is_contiguous(shape, strides)
    assert S.is_dense(shape, strides)
    if S.count(shape):
        expected = np.empty(shape, dtype=np.int8).strides
        assert all(a == b for a, b, n in zip(strides, expected, shape, strict=True) if n > 1)


def test_strides_of_zero_extents():
    assert S.contiguous_strides((2, 0, 3)) == (3, 3, 1)
    assert S.contiguous_strides(()) == ()


@given(SHAPES, SHAPES)
def test_broadcast_shapes_are_numpys(a, b):
    try:
        expected = np.broadcast_shapes(a, b)
    except ValueError:
        with pytest.raises(RuntimeError, match="must match the size of tensor b"):
            S.broadcast_shapes(a, b)
    else:
        assert S.broadcast_shapes(a, b) == expected


def test_broadcast_error_names_sizes_and_dimension():
    expected = r"size of tensor a \(3\) must match the size of tensor b \(4\).* dimension 1"
    with pytest.raises(RuntimeError, match=expected):
        S.broadcast_shapes((2, 3), (2, 4))


@given(st.data())
def test_broadcast_strides_read_what_numpy_reads(data):
    target = data.draw(st.lists(st.integers(1, 3), max_size=3).map(tuple))
    kept = data.draw(st.integers(0, len(target)))
    shape = tuple(data.draw(st.sampled_from([1, n])) for n in target[kept:])
    array = np.arange(S.count(shape), dtype=np.int64).reshape(shape)
    strides = S.broadcast_strides(shape, S.contiguous_strides(shape), target)
    read = np.lib.stride_tricks.as_strided(array, target, [8 * s for s in strides])
    assert (read == np.broadcast_to(array, target)).all()


def test_normalize_axis():
    assert [S.normalize_axis(d, 3) for d in (-3, -1, 0, 2)] == [0, 2, 0, 2]
    assert [S.normalize_axis(d, 0) for d in (-1, 0)] == [0, 0]
    message = r"expected to be in range of \[-2, 1\], but got 2"
    with pytest.raises(IndexError, match=message):
        S.normalize_axis(2, 2)
    with pytest.raises(IndexError, match=r"\[-1, 0\], but got 1"):
        S.normalize_axis(1, 0)
    with pytest.raises(TypeError, match="argument 'dim' must be int, not str"):
        S.normalize_axis("a", 2)


def test_normalize_axes():
    assert S.normalize_axes((-1, 0), 3) == (2, 0)
    assert S.normalize_axes(-1, 3) == (2,)
    with pytest.raises(RuntimeError, match="dim 0 appears multiple times in the list of dims"):
        S.normalize_axes((0, -2), 2)


def test_resolve_shape():
    assert S.resolve_shape((2, -1), 6) == (2, 3)
    assert S.resolve_shape((), 1) == ()
    assert S.resolve_shape((-1, 2), 0) == (0, 2)
    for shape, numel, message in [
        ((2, -1), 3, r"shape '\[2, -1\]' is invalid for input of size 3"),
        ((2, 2), 3, r"shape '\[2, 2\]' is invalid for input of size 3"),
        ((0, -1), 3, "is invalid for input of size 3"),
        ((-1, -1), 3, "only one dimension can be inferred"),
        ((-2, 1), 3, "invalid shape dimension -2 at index 0"),
        ((-1, 0), 0, "unspecified dimension size -1 can be any value"),
    ]:
        with pytest.raises(RuntimeError, match=message):
            S.resolve_shape(shape, numel)


def test_elementwise_results_keep_the_layout():
    transposed = ((3, 2), (1, 3))
    assert S.elementwise_strides([transposed], (3, 2)) == (1, 3)
    assert S.elementwise_strides([transposed, ((3, 2), (2, 1))], (3, 2)) == (1, 3)
    assert S.elementwise_strides([((3, 2), (2, 1)), transposed], (3, 2)) == (2, 1)
    assert S.elementwise_strides([((3, 2), (20, 2))], (3, 2)) == (2, 1)  # gaps are closed
    channels_last = ((2, 3, 4, 5), (60, 1, 15, 3))
    bias = ((3, 1, 1), (1, 1, 1))
    assert S.elementwise_strides([channels_last, bias], (2, 3, 4, 5)) == (60, 1, 15, 3)


@st.composite
def layouts(draw):
    """A shape and strides as permuting, slicing and expanding make them, within 4,096 elements."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    strides = [0] * len(shape)
    step = 1
    for i in draw(st.permutations(range(len(shape)))):
        strides[i] = draw(st.sampled_from([step, step, step, 0]))
        step *= shape[i] + draw(st.sampled_from([0, 0, 1]))
    return tuple(shape), tuple(strides)


def factorisations(n):
    """Shapes of n elements."""
    return st.permutations(prime_factors(n) + [1]).flatmap(
        lambda factors: st.integers(0, len(factors)).map(
            lambda cut: (*factors[:cut], S.count(factors[cut:]))
        )
    )


def prime_factors(n):
    factors = []
    while n > 1:
        factor = next(k for k in range(2, n + 1) if n % k == 0)
        factors.append(factor)
        n //= factor
    return factors


@given(st.data())
def test_views_show_the_same_elements_in_order(data):
    shape, strides = data.draw(layouts())
    new_shape = data.draw(factorisations(S.count(shape)))
    memory = np.arange(4096)
    new_strides = S.infer_view_strides(shape, strides, new_shape)
    old = np.lib.stride_tricks.as_strided(memory, shape, [8 * s for s in strides])
    if new_strides is not None:
        new = np.lib.stride_tricks.as_strided(memory, new_shape, [8 * s for s in new_strides])
        assert (new == old.reshape(new_shape)).all()
    elif new_shape:
        assert not S.is_contiguous(shape, strides)


def random_tensor(torch, draw, shape):
    """A tensor of this shape in a random layout: permuted, sliced, expanded, channels last."""
    order = draw.sample(range(len(shape)), len(shape))
    stretch = draw.choice([1, 1, 2])
    tensor = torch.empty([shape[i] * stretch for i in order])
    tensor = tensor.permute([order.index(i) for i in range(len(shape))])
    tensor = tensor[tuple(slice(None, None, stretch) for _ in shape)] if stretch > 1 else tensor
    if shape and shape[0] and draw.random() < 0.1:
        tensor = tensor[:1].expand(shape)
    if len(shape) == 4 and draw.random() < 0.2:
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    return tensor


def layout_of(tensor):
    return tuple(tensor.shape), tensor.stride()


@pytest.mark.parametrize("seed", range(8))
def test_strides_are_pytorchs(torch, seed):
    draw = random.Random(seed)
    for _ in range(250):
        shape = [draw.choice([0, 1, 2, 2, 3, 4]) for _ in range(draw.randint(0, 4))]
        tensors = []
        for _ in range(draw.randint(1, 3)):
            narrow = [1 if draw.random() < 0.2 else n for n in shape]
            tensors.append(
                random_tensor(torch, draw, narrow[draw.choice([0, 0, len(shape) // 2]) :])
            )
        compute = [torch.neg, torch.add, torch.addcmul][len(tensors) - 1]
        expected = compute(*tensors)
        result = S.broadcast_shapes(*(t.shape for t in tensors))
        assert result == expected.shape
        found = S.elementwise_strides([layout_of(t) for t in tensors], result)
        assert found == expected.stride(), [layout_of(t) for t in tensors]
        check_layout(torch, tensors[0])


def check_layout(torch, tensor):
    shape, strides = layout_of(tensor)
    assert S.contiguous_strides(shape) == torch.empty(shape).stride()
    assert S.is_contiguous(shape, strides) == tensor.is_contiguous()
    dense = torch.ops.aten.is_non_overlapping_and_dense(tensor)
    assert S.is_dense(shape, strides) == dense
    if len(shape) == 4:
        channels_last = tensor.is_contiguous(memory_format=torch.channels_last)
        assert S.is_channels_last(shape, strides) == channels_last


@pytest.mark.parametrize("seed", range(8))
def test_views_are_pytorchs(torch, seed):
    draw = random.Random(seed)
    for _ in range(250):
        shape = [draw.choice([0, 1, 2, 3, 4]) for _ in range(draw.randint(0, 4))]
        tensor = random_tensor(torch, draw, shape)
        factors = prime_factors(tensor.numel()) + [1] if tensor.numel() else [0, 2, 3]
        draw.shuffle(factors)
        cut = draw.randint(0, len(factors))
        wanted = [*factors[:cut], S.count(factors[cut:])]
        try:
            expected = tensor.view(wanted).stride()
        except RuntimeError:
            expected = None
        assert S.infer_view_strides(*layout_of(tensor), wanted) == expected


@pytest.mark.parametrize("seed", range(4))
def test_reshape_errors_are_pytorchs(torch, seed):
    draw = random.Random(seed)
    for _ in range(250):
        numel = draw.choice([0, 1, 3, 4, 6])
        wanted = [draw.choice([-2, -1, -1, 0, 1, 2, 3]) for _ in range(draw.randint(0, 3))]
        expected = shape_or_message(lambda: torch.empty(numel).view(wanted).shape)  # noqa: B023
        found = shape_or_message(lambda: S.resolve_shape(wanted, numel))  # noqa: B023
        assert found[: len(expected)] == expected  # our messages may say more


def shape_or_message(call):
    try:
        return tuple(call())
    except RuntimeError as error:
        return str(error)
