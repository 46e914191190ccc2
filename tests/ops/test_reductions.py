"""Conventions of reductions that samples do not show: ties, NaN, names, messages."""

from __future__ import annotations

import numpy as np
import pytest

import taimatsu as tm
from taimatsu import return_types


def test_named_result_has_names_and_repr() -> None:
    made = tm.tensor([[1.0, 3.0], [2.0, 0.0]]).max(1)
    assert isinstance(made, return_types.max)
    assert isinstance(made, tuple)
    values, indices = made
    assert made.values is values
    assert made.indices is indices
    assert repr(made) == (
        "torch.return_types.max(\nvalues=tensor([3., 2.]),\nindices=tensor([1, 0]))"
    )


def test_named_result_takes_one_sequence_of_the_right_length() -> None:
    assert return_types.aminmax((1, 2)).max == 2
    with pytest.raises(TypeError, match="2-sequence"):
        return_types.sort((1, 2, 3))


def test_max_gradient_goes_to_first_index_and_amax_shares() -> None:
    x = tm.tensor([[1.0, 3.0, 3.0]], requires_grad=True)
    x.max(1).values.sum().backward()
    assert x.grad.tolist() == [[0.0, 1.0, 0.0]]
    x.grad = None
    x.amax(1).sum().backward()
    assert x.grad.tolist() == [[0.0, 0.5, 0.5]]
    x.grad = None
    x.max().backward()
    assert x.grad.tolist() == [[0.0, 0.5, 0.5]]


def test_nan_wins() -> None:
    x = tm.tensor([1.0, float("nan"), 3.0, float("nan")])
    assert x.argmax().item() == 1
    assert x.argmin().item() == 1
    assert np.isnan(x.max().item())
    assert np.isnan(x.median().item())
    assert x.nanmedian().item() == 1.0


def test_integers_sum_in_int64_and_keep_a_given_dtype() -> None:
    x = tm.tensor([100, 100], dtype=tm.uint8)
    assert x.sum().dtype is tm.int64
    assert x.sum().item() == 200
    assert x.sum(dtype=tm.uint8).dtype is tm.uint8
    assert x.prod().item() == 10000
    assert tm.tensor([True, True]).cumsum(0).tolist() == [1, 2]


def test_all_and_any_of_bytes_are_bytes() -> None:
    assert tm.tensor([1, 2], dtype=tm.uint8).all().dtype is tm.uint8
    assert tm.tensor([1, 2]).any().dtype is tm.bool


def test_numpy_names() -> None:
    x = tm.ones(2, 3)
    assert x.sum(axis=1, keepdims=True).shape == (2, 1)
    assert x.mean(axis=(0, 1)).item() == 1.0


def test_sum_of_many_float32_is_accurate_in_any_layout() -> None:
    x = tm.full((1 << 20, 3), 0.1)
    for total in (x.sum(0), x.t().contiguous().t().sum(0)):
        assert total.tolist() == pytest.approx([0.1 * (1 << 20)] * 3, rel=1e-6)


def test_layout_does_not_change_a_value() -> None:
    """Up to rounding: sums go through memory in its order."""
    x = tm.randn(37, 53)
    other = x.t().contiguous().t()
    assert x.sum(0).tolist() == pytest.approx(other.sum(0).tolist(), rel=1e-5, abs=1e-5)
    assert x.sum().item() == pytest.approx(other.sum().item(), rel=1e-5, abs=1e-5)


def test_half_sums_do_not_saturate() -> None:
    x = tm.ones(5000, dtype=tm.float16)
    assert x.sum().item() == 5000.0


def test_grad_fn_names() -> None:
    x = tm.ones(2, 3, requires_grad=True)
    names = {
        "SumBackward0": x.sum(),
        "SumBackward1": x.sum(0),
        "MeanBackward0": x.mean(),
        "MeanBackward1": x.mean(0),
        "MaxBackward0": x.max(0).values,
        "MaxBackward1": x.max(),
        "LinalgVectorNormBackward0": x.norm(),
        "MmBackward0": x @ x.t(),
        "MvBackward0": x @ x[0],
        "LogSoftmaxBackward0": x.log_softmax(0),
    }
    assert {type(t.grad_fn).__name__ for t in names.values()} == set(names)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: tm.arange(3).mean(), RuntimeError, "could not infer output dtype.*Got: Long"),
        (lambda: tm.ones(2, 3).sum(2), IndexError, "Dimension out of range"),
        (lambda: tm.ones(2, 3).sum((0, 0)), RuntimeError, "appears multiple times"),
        (lambda: tm.ones(0).max(), RuntimeError, "Expected reduction dim to be specified"),
        (lambda: tm.ones(0, 3).max(0), IndexError, "non-zero size"),
        (lambda: tm.ones(0).argmax(), IndexError, "Expected reduction dim"),
        (lambda: tm.arange(3).std(), RuntimeError, "only support floating point"),
        (lambda: tm.arange(3).norm(), RuntimeError, "Expected a floating point or complex"),
        (lambda: tm.arange(3).softmax(0), NotImplementedError, "not implemented for 'Long'"),
        (lambda: tm.ones(3).topk(4), RuntimeError, "selected index k out of range"),
        (lambda: tm.ones(3).kthvalue(0), RuntimeError, "selected number k out of range"),
        (lambda: tm.ones(3).quantile(1.5), RuntimeError, r"q must be in the range \[0, 1\]"),
        (lambda: tm.bincount(tm.tensor([-1])), RuntimeError, "1-d non-negative integral"),
    ],
)
def test_errors_at_the_call(call, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        call()
