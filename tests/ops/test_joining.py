"""Joining and rearranging: errors, dtypes and the corners that samples do not reach."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

import taimatsu

# What PyTorch refuses, by the type of its error and words of its message.
REFUSED: dict[str, tuple[Callable, type, str]] = {
    "cat 0-d": (lambda t: t.cat([t.zeros(2), t.zeros(())]), RuntimeError, "zero-dimensional tens"),
    "cat nothing": (lambda t: t.cat([]), (ValueError, RuntimeError), "non-empty list of Tensors"),
    "cat extents": (
        lambda t: t.cat([t.zeros(2, 3), t.zeros(2, 4)]),
        RuntimeError,
        "Sizes of tensors must match except in dimension 0. Expected size 3 but got size 4 for",
    ),
    "cat ndim": (
        lambda t: t.cat([t.zeros(2, 3), t.zeros(2)]),
        RuntimeError,
        "Tensors must have same number of dimensions: got 2 and 1",
    ),
    "cat dim": (lambda t: t.cat([t.zeros(2)], 5), IndexError, "Dimension out of range"),
    "cat one": (lambda t: t.cat(t.zeros(2)), TypeError, "must be tuple of Tensors, not Tensor"),
    "cat number": (lambda t: t.cat([t.zeros(2), 1]), TypeError, "expected Tensor as element 1"),
    "stack nothing": (lambda t: t.stack([]), RuntimeError, "stack expects a non-empty TensorList"),
    "stack shapes": (
        lambda t: t.stack([t.zeros(2), t.zeros(3)]),
        RuntimeError,
        "stack expects each tensor to be equal size, but got [2] at entry 0 and [3] at entry 1",
    ),
    "hstack nothing": (lambda t: t.hstack([]), RuntimeError, "hstack expects a non-empty Tens"),
    "block_diag 3-d": (
        lambda t: t.block_diag(t.zeros(1, 1, 1)),
        RuntimeError,
        "2 or fewer dimensions",
    ),
    "meshgrid order": (
        lambda t: t.meshgrid(t.zeros(2), indexing="yx"),
        RuntimeError,
        "indexing must be one of",
    ),
    "meshgrid 2-d": (
        lambda t: t.meshgrid(t.zeros(2, 2), indexing="ij"),
        RuntimeError,
        "0D or 1D tensor",
    ),
    "combinations": (lambda t: t.combinations(t.zeros(2, 2)), RuntimeError, "Expect a 1D vector"),
    "broadcast": (
        lambda t: t.broadcast_shapes((-1,), (2,)),
        ValueError,
        "negative length",
    ),
    "flip twice": (lambda t: t.zeros(2).flip(0, 0), RuntimeError, "multiple times"),
    "flip nothing": (lambda t: t.zeros(2).flip(), TypeError, "missing 1 required positional"),
    "fliplr": (lambda t: t.fliplr(t.zeros(2)), RuntimeError, "Input must be >= 2-d"),
    "rot90 same": (
        lambda t: t.rot90(t.zeros(2, 2), 1, (0, 0)),
        RuntimeError,
        "rotation dims to be different",
    ),
    "roll align": (
        lambda t: t.roll(t.zeros(2), (1, 2), 0),
        RuntimeError,
        "shifts and dimensions must align",
    ),
    "repeat few": (
        lambda t: t.zeros(2, 2).repeat(2),
        RuntimeError,
        "can not be smaller than number of dim",
    ),
    "repeat negative": (
        lambda t: t.zeros(2).repeat(-1),
        RuntimeError,
        "tensor with negative dimension -2",
    ),
    "repeats length": (
        lambda t: t.repeat_interleave(t.zeros(2), t.tensor([1, 2, 3]), 0),
        RuntimeError,
        "repeats must have the same size as input along dim",
    ),
    "repeats floating": (
        lambda t: t.repeat_interleave(t.zeros(2), t.ones(2), 0),
        RuntimeError,
        "\"repeat_interleave_cpu\" not implemented for 'Float'",
    ),
    "diag 3-d": (lambda t: t.diag(t.zeros(2, 2, 2)), RuntimeError, "Supports 1D or 2D tensors"),
    "diag_embed": (
        lambda t: t.diag_embed(t.zeros(2), 0, 1, 1),
        RuntimeError,
        "dimensions cannot be identical",
    ),
    "select_scatter": (
        lambda t: t.select_scatter(t.zeros(2, 3), t.zeros(3), 0, 5),
        IndexError,
        "out of range",
    ),
    "slice_scatter": (
        lambda t: t.slice_scatter(t.zeros(2, 3), t.zeros(3)),
        RuntimeError,
        "src to have a size equal to the slice of self",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("library", ["taimatsu", "torch"])
def test_refusals_are_pytorchs(library: str, name: str) -> None:
    module = pytest.importorskip(library)
    call, kind, words = REFUSED[name]
    with pytest.raises(kind) as caught:
        call(module)
    assert words in str(caught.value)


def test_meshgrid_warns_without_indexing() -> None:
    x = taimatsu.arange(3)
    with pytest.warns(UserWarning, match="it will be required to pass the indexing"):
        taimatsu.meshgrid(x, x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        taimatsu.meshgrid(x, x, indexing="ij")


def test_names_of_gradients() -> None:
    x = taimatsu.ones(2, 3, requires_grad=True)
    names: dict[str, Any] = {
        "CatBackward0": taimatsu.cat([x, x]),
        "StackBackward0": taimatsu.stack([x, x]),
        "BlockDiagBackward0": taimatsu.block_diag(x, x),
        "FlipBackward0": x.flip(0),
        "RollBackward0": x.roll(1),
        "Rot90Backward0": x.rot90(),
        "RepeatBackward0": x.repeat(2, 2),
        "DiagEmbedBackward0": x.diag_embed(),
        "SelectScatterBackward0": taimatsu.select_scatter(x, taimatsu.ones(3), 0, 1),
    }
    for name, made in names.items():
        assert made.grad_fn.name() == name


def test_out_is_written_and_resized() -> None:
    x = taimatsu.arange(3.0)
    out = taimatsu.empty(0)
    made = taimatsu.cat([x, x], out=out)
    assert made is out
    assert out.tolist() == [0, 1, 2, 0, 1, 2]


def test_cat_keeps_channels_last() -> None:
    x = taimatsu.ones(2, 3, 4, 5).contiguous(memory_format=taimatsu.channels_last)
    joined = taimatsu.cat([x, x], 1)
    assert joined.is_contiguous(memory_format=taimatsu.channels_last)
    assert taimatsu.cat([x, taimatsu.ones(2, 3, 4, 5)], 1).is_contiguous()


def test_one_tensor_used_twice_gets_both_gradients() -> None:
    x = taimatsu.arange(3.0, requires_grad=True)
    (taimatsu.cat([x, x * 2, x]) * taimatsu.arange(9.0)).sum().backward()
    assert x.grad.tolist() == [0 + 6 + 6, 1 + 8 + 7, 2 + 10 + 8]
