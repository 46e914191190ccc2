"""Matrix products: messages, names, zero factors, chains."""

from __future__ import annotations

import pytest

import taimatsu as tm
import taimatsu.nn.functional as F


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tm.ones(2, 3) @ tm.ones(4, 5), r"cannot be multiplied \(2x3 and 4x5\)"),
        (lambda: tm.mm(tm.ones(2, 3), tm.ones(4, 5)), r"cannot be multiplied \(2x3 and 4x5\)"),
        (lambda: tm.ones(7, 2, 3) @ tm.ones(4, 5), r"cannot be multiplied \(14x3 and 4x5\)"),
        (lambda: F.linear(tm.ones(2, 3), tm.ones(5, 4), tm.ones(5)), r"\(2x3 and 4x5\)"),
        (lambda: tm.ones(2, 3) @ tm.ones(4), r"got input \(2\), mat \(2x3\), vec \(4\)"),
        (lambda: tm.ones(3) @ tm.ones(4), "but got 3 and 4 elements"),
        (lambda: tm.ones(3, 2, 3) @ tm.ones(3, 4, 3), r"to be: \[3, 3\] but got: \[3, 4\]"),
        (lambda: tm.ones(3, 2, 3) @ tm.ones(2, 3, 3), "must match the size of tensor b"),
        (lambda: tm.tensor(1.0) @ tm.ones(2, 2), "need to be at least 1D"),
        (
            lambda: tm.ones(2, 3) @ tm.ones(3, 2, dtype=tm.float64),
            "expected m1 and m2 to have the same dtype, but got: float != double",
        ),
        (
            lambda: tm.ones(2, 3) @ tm.ones(3, 2, dtype=tm.int64),
            "but got: float != long int",
        ),
        (lambda: tm.mm(tm.ones(2, 3), tm.ones(3)), "mat2 must be a matrix"),
        (lambda: tm.bmm(tm.ones(2, 3), tm.ones(2, 3)), "batch1 must be a 3D tensor"),
        (lambda: tm.dot(tm.ones(2, 3), tm.ones(3)), "1D tensors expected"),
        (lambda: tm.addmm(tm.ones(7), tm.ones(2, 3), tm.ones(3, 2)), "expanded size"),
        (lambda: tm.outer(tm.ones(2, 2), tm.ones(2)), "Expected 1-D argument self"),
        (lambda: tm.linalg.cross(tm.ones(4), tm.ones(4)), "must have length 3"),
    ],
)
def test_errors_at_the_call(call, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        call()


def test_linear_is_one_addmm() -> None:
    x = tm.ones(2, 3)
    w = tm.ones(4, 3, requires_grad=True)
    assert type(F.linear(x, w, tm.ones(4)).grad_fn).__name__ == "AddmmBackward0"


def test_beta_zero_ignores_nan() -> None:
    x = tm.full((2, 2), float("nan"))
    assert tm.addmm(x, tm.ones(2, 3), tm.ones(3, 2), beta=0).tolist() == [[3.0, 3.0], [3.0, 3.0]]


def test_nothing_to_sum_over_gives_zeros() -> None:
    assert (tm.ones(2, 0) @ tm.ones(0, 3)).tolist() == [[0.0] * 3] * 2


def test_integer_products_stay_integers() -> None:
    x = tm.tensor([[1, 2], [3, 4]])
    assert (x @ x).tolist() == [[7, 10], [15, 22]]
    assert tm.addmm(x, x, x, beta=2.5).tolist() == [[9, 14], [21, 30]]


def test_half_products_accumulate_in_float32() -> None:
    x = tm.ones(1, 5000, dtype=tm.float16)
    assert (x @ x.t()).item() == 5000.0


@pytest.mark.parametrize("n", [-2, -1, 0, 1, 3])
def test_matrix_power(n: int) -> None:
    x = tm.tensor([[2.0, 1.0], [1.0, 1.0]])
    made = tm.matrix_power(x, n) @ tm.matrix_power(x, -n if n < 0 else 0)
    expected = tm.matrix_power(x, max(n, 0))
    assert tm.allclose(made, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("equation", "message"),
    [
        ("ij,jk->ik", "fewer operands were provided"),
        ("ijk", "does not match the number of dimensions"),
        ("ij->iz", "output subscript z does not appear"),
        ("ij->ii", "appears more than once"),
        ("i1", "subscripts must be in"),
        ("ii", "repeated for operand 0 but the sizes don't match"),
    ],
)
def test_einsum_errors(equation: str, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        tm.einsum(equation, tm.ones(2, 3))


def test_einsum_extents_must_agree() -> None:
    with pytest.raises(RuntimeError, match="does not broadcast with previously seen size 3"):
        tm.einsum("ij,jk->ik", tm.ones(2, 3), tm.ones(2, 3))


def test_einsum_sorts_implicit_output() -> None:
    assert tm.einsum("bA,bc", tm.ones(2, 3), tm.ones(2, 4)).shape == (3, 4)
