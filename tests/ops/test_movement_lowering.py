"""Lowering rules of operations that move elements, at the cases that samples do not reach."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import taimatsu as torch
import taimatsu.nn.functional as F
from tests.ops.lowering import assert_lowers, collected


def assert_all_lower(compute: Callable[[], Any], *names: str) -> None:
    """All calls of the named operations (and their gradients') agree with their references."""
    with collected() as calls:
        made = compute()
        if made.requires_grad:
            weight = torch.arange(1.0, made.numel() + 1).reshape(made.shape)
            (made * weight.to(made.dtype)).sum().backward()
    found = [c for c in calls if c.operation.name in names]
    assert {c.operation.name for c in found} == set(names)
    for each in found:
        assert assert_lowers(each, summed=True)


def leaf(*shape: int, dtype: Any = torch.float32) -> Any:
    values = np.random.default_rng(len(shape)).uniform(-2, 2, shape)
    return torch.tensor(values, dtype=dtype, requires_grad=True)


# -- resampling ------------------------------------------------------------------------------

SIZES = [(1, 1), (1, 4), (5, 1), (5, 2), (5, 5), (4, 7), (3, 12), (11, 4)]


@pytest.mark.parametrize(("extent", "out"), SIZES)
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear"])
def test_interpolation_of_a_line(mode: str, extent: int, out: int) -> None:
    x = leaf(2, 3, extent)
    names = ("interpolate", "resample_adjoint")
    assert_all_lower(lambda: F.interpolate(x, size=out, mode=mode), *names)
    if mode == "linear":
        assert_all_lower(lambda: F.interpolate(x, size=out, mode=mode, align_corners=True), *names)


@pytest.mark.parametrize("factor", [0.3, 0.7, 1.3, 2.0, 3.7])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear"])
def test_interpolation_by_a_factor(mode: str, factor: float) -> None:
    x = leaf(1, 2, 7)
    names = ("interpolate", "resample_adjoint")
    assert_all_lower(lambda: F.interpolate(x, scale_factor=factor, mode=mode), *names)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (7, 3), (13, 5)])
def test_interpolation_of_images(mode: str, size: tuple[int, int], antialias: bool) -> None:
    if mode == "lanczos" and not antialias:
        return
    x = leaf(1, 2, 5, 6)
    names = ("interpolate", "resample_adjoint")
    assert_all_lower(lambda: F.interpolate(x, size=size, mode=mode, antialias=antialias), *names)


def test_interpolation_of_bytes_rounds() -> None:
    x = torch.tensor(np.random.default_rng(0).integers(0, 256, (1, 2, 5, 6)), dtype=torch.uint8)
    assert_all_lower(lambda: F.interpolate(x, size=(7, 4), mode="bilinear"), "interpolate")
    assert_all_lower(lambda: F.interpolate(x, size=(7, 4)), "interpolate")


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("pair", list(itertools.product((-2, 0, 1, 3), repeat=2)))
def test_borders(mode: str, pair: tuple[int, int]) -> None:
    x = leaf(2, 3, 5)
    assert_all_lower(lambda: F.pad(x, pair, mode), "border_pad", "resample_adjoint")


def test_borders_of_one_element() -> None:
    x = leaf(2, 3, 1)
    assert_all_lower(lambda: F.pad(x, (2, 1), "replicate"), "border_pad", "resample_adjoint")
    assert_all_lower(lambda: F.pad(x, (1, 1), "circular"), "border_pad", "resample_adjoint")


@pytest.mark.parametrize("shape", [(2, 3), (2, 0), (1, 3)])
def test_constant_pads(shape: tuple[int, ...]) -> None:
    x = leaf(*shape)
    assert_all_lower(lambda: F.pad(x, (1, 2, 0, 1), value=1.5), "constant_pad")
    assert_all_lower(lambda: F.pad(x, (1, 0, -1, 1)), "constant_pad")
