"""``arange``, ``linspace`` and ``logspace`` against PyTorch's, bit for bit."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import taimatsu as tm

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore:overflow")]

COUNTS = (0, 1, 2, 7, 100, 8191, 8192, 16385, 40_001)
ENDS = ((0, 1), (-3, 7.5), (2.5, -1), (1e-3, 100.3))
KINDS = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int8")


def assert_same(call: Callable[[Any], Any], label: str) -> None:
    ours, theirs = call(tm), call(torch)
    assert str(ours.dtype) == str(theirs.dtype), label
    if ours.dtype is tm.bfloat16:
        ours, theirs = ours.view(tm.int16), theirs.view(torch.int16)
    a, b = ours.numpy(), theirs.numpy()
    np.testing.assert_array_equal(a, b, label)
    assert np.array_equal(np.signbit(a), np.signbit(b)), label


@pytest.mark.parametrize("kind", KINDS)
def test_linspace(kind: str) -> None:
    for count, (start, end) in itertools.product(COUNTS, ENDS):
        label = f"{start} to {end} in {count}"
        if kind.startswith("int") and start in (1e-3, 2.5):
            continue
        assert_same(lambda T: T.linspace(start, end, count, dtype=getattr(T, kind)), label)  # noqa: B023


@pytest.mark.parametrize("kind", KINDS)
def test_logspace(kind: str) -> None:
    for count, (start, end) in itertools.product(COUNTS, ((0, 1), (0.3, 1.7), (-1, 2))):
        for base in (10.0, 2.0, 3.3):
            label = f"{start} to {end} in {count} to {base}"

            def call(T: Any) -> Any:
                return T.logspace(start, end, count, base, dtype=getattr(T, kind))  # noqa: B023

            if kind == "float64":  # NumPy's powers differ in the last digit
                np.testing.assert_array_max_ulp(call(tm).numpy(), call(torch).numpy(), 2)
            else:
                assert_same(call, label)


@pytest.mark.parametrize("kind", ["float32", "float64", "int64", "int32", "int16"])
def test_arange_of_whole_numbers(kind: str) -> None:
    for count in (0, 1, 7, 16_384, 16_385, 32_767):
        assert_same(lambda T: T.arange(count, dtype=getattr(T, kind)), f"{count}")  # noqa: B023
        assert_same(
            lambda T: T.arange(5, 5 - count, -1, dtype=getattr(T, kind)),  # noqa: B023
            f"{count} downwards",
        )
    assert_same(lambda T: T.arange(-20_000, 20_000, 3), "in threes")
