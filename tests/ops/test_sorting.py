"""Order: stability, NaN, unique, search; softmax's implicit dimension."""

from __future__ import annotations

import pytest

import taimatsu as tm
import taimatsu.nn.functional as F

NAN = float("nan")


def test_sort_is_stable_in_both_directions() -> None:
    x = tm.tensor([2, 1, 2, 1, 2])
    assert x.sort().indices.tolist() == [1, 3, 0, 2, 4]
    assert x.sort(descending=True).indices.tolist() == [0, 2, 4, 1, 3]


def test_nan_is_the_largest() -> None:
    x = tm.tensor([NAN, 1.0, 2.0, NAN])
    assert x.argsort().tolist() == [1, 2, 0, 3]
    assert x.argsort(descending=True).tolist() == [0, 3, 2, 1]
    assert x.topk(2, largest=False).values.tolist() == [1.0, 2.0]


def test_cummax_names_the_latest_of_equals() -> None:
    made = tm.tensor([1.0, 3.0, 3.0, 2.0, 3.0]).cummax(0)
    assert made.indices.tolist() == [0, 1, 2, 2, 4]


def test_unique_in_all_forms() -> None:
    x = tm.tensor([2, 1, 1, 2, 3])
    values, inverse, counts = x.unique(return_inverse=True, return_counts=True)
    assert values.tolist() == [1, 2, 3]
    assert inverse.tolist() == [1, 0, 0, 1, 2]
    assert counts.tolist() == [2, 2, 1]
    assert tm.unique_consecutive(tm.tensor([1, 1, 2, 1])).tolist() == [1, 2, 1]
    rows = tm.tensor([[1, 2], [1, 2], [0, 1]])
    assert tm.unique(rows, dim=0).tolist() == [[0, 1], [1, 2]]
    assert len(tm.tensor([NAN, NAN]).unique()) == 2


def test_complex_numbers_have_no_order() -> None:
    x = tm.ones(2, 3, dtype=tm.complex64)
    for sorts in (x.sort, x.argsort, lambda: x.topk(1)):
        with pytest.raises(RuntimeError, match="does not support complex dtypes on CPU"):
            sorts()
    for name, chooses in (
        ("kthvalue_cpu", lambda: x.kthvalue(1)),
        ("median_cpu", x.median),
        ("median_cpu", x.nanmedian),
        ("median_out", lambda: x.median(0)),
        ("median_out", lambda: x.nanmedian(0)),
        ("mode_cpu", x.mode),
    ):
        with pytest.raises(NotImplementedError, match=f"{name}.*ComplexFloat"):
            chooses()


def test_unique_of_complex_numbers_and_slices() -> None:
    x = tm.tensor([[1 + 1j, 2], [1 + 1j, 2], [0, 2]])
    assert x.unique().tolist() == [0, 1 + 1j, 2]
    assert x.real.unique(dim=0, return_inverse=True)[1].tolist() == [1, 1, 0]


def test_searchsorted_needs_one_dtype() -> None:
    with pytest.raises(RuntimeError, match="should have same dtype"):
        tm.searchsorted(tm.tensor([1.0, 2.0]), tm.tensor([1]))


def test_functional_softmax_guesses_the_dimension_with_a_warning() -> None:
    x = tm.randn(2, 3)
    with pytest.warns(UserWarning, match="Implicit dimension choice for log_softmax"):
        guessed = F.log_softmax(x)
    assert guessed.tolist() == x.log_softmax(1).tolist()


def test_gradients_at_zero_are_zero() -> None:
    x = tm.zeros(3, requires_grad=True)
    x.norm().backward()
    assert x.grad.tolist() == [0.0, 0.0, 0.0]
    y = tm.zeros(2, 3, requires_grad=True)
    tm.cdist(y, y).sum().backward()
    assert y.grad.abs().sum().item() == 0.0


def test_product_gradients_with_zeros() -> None:
    for values, expected in (
        ([2.0, 0.0, 3.0], [0.0, 6.0, 0.0]),
        ([0.0, 0.0, 3.0], [0.0, 0.0, 0.0]),
        ([2.0, 4.0, 3.0], [12.0, 6.0, 8.0]),
    ):
        x = tm.tensor(values, requires_grad=True)
        x.prod().backward()
        assert x.grad.tolist() == expected
    x = tm.tensor([2.0, 0.0, 3.0], requires_grad=True)
    x.cumprod(0).sum().backward()
    assert x.grad.tolist() == [1.0, 8.0, 0.0]
