"""Random tensors against PyTorch's: the same program on both, number by number."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import taimatsu as tm

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

# Each is written once for both libraries: T is the module.
PROGRAMS = {
    "rand": lambda T: T.rand(3, 4),
    "rand_float64": lambda T: T.rand(5, dtype=T.float64),
    "randn_short": lambda T: T.randn(7),
    "randn_blocks": lambda T: T.randn(5, 7),
    "randn_recorded": lambda T: T.randn(64, 70),
    "randn_recorded_rest": lambda T: T.randn(7, 700),
    "normal_recorded": lambda T: T.empty(5003).normal_(1, 3),
    "normal_like_recorded": lambda T: T.normal(T.zeros(70, 70), T.arange(70.0)),
    "randn_complex": lambda T: T.view_as_real(T.randn(20, dtype=T.complex64)),
    "randint": lambda T: T.randint(-5, 100, (4, 5)),
    "randint_wide": lambda T: T.randint(0, 1 << 40, (5,)),
    "randint_float": lambda T: T.randint(0, 9, (5,), dtype=T.float32),
    "randint_bool": lambda T: T.randint(0, 2, (9,), dtype=T.bool),
    "randperm": lambda T: T.randperm(100),
    "rand_like_transposed": lambda T: T.rand_like(T.empty(3, 4).t()),
    "randn_like_transposed": lambda T: T.randn_like(T.empty(8, 4).t()),
    "randn_like_permuted": lambda T: T.randn_like(T.empty(2, 3, 4).permute(1, 2, 0)),
    "randint_like": lambda T: T.randint_like(T.empty(3), 10),
    "normal_numbers": lambda T: T.normal(1.0, 2.0, (3, 4)),
    "normal_mean": lambda T: T.normal(T.arange(20.0), 0.5),
    "normal_std": lambda T: T.normal(1.0, T.arange(20.0)),
    "normal_both": lambda T: T.normal(T.arange(20.0), T.arange(20.0)),
    "normal_broadcast": lambda T: T.normal(T.zeros(4, 1), T.arange(5.0)),
    "bernoulli": lambda T: T.bernoulli(T.linspace(0, 1, 20)),
    "bernoulli_p": lambda T: T.bernoulli(T.zeros(20), 0.3),
    "multinomial": lambda T: T.multinomial(T.arange(1.0, 20.0), 5),
    "multinomial_rows": lambda T: T.multinomial(T.arange(1.0, 21.0).reshape(4, 5), 9, True),
    "poisson": lambda T: T.poisson(T.arange(20.0).reshape(4, 5)),
    "poisson_transposed": lambda T: T.poisson(T.arange(20.0).reshape(4, 5).t()),
    "uniform_": lambda T: T.empty(3, 4).uniform_(-1, 2),
    "uniform_columns": lambda T: T.zeros(4, 6)[:, ::2].uniform_(),
    "uniform_transposed": lambda T: T.empty(3, 4).t().uniform_(),
    "normal_columns": lambda T: T.zeros(8, 6)[:, ::2].normal_(1, 3),
    "normal_": lambda T: T.empty(40).normal_(1, 3),
    "random_": lambda T: T.empty(9).random_(),
    "random_to": lambda T: T.empty(9, dtype=T.int16).random_(7),
    "random_from_to": lambda T: T.empty(9, dtype=T.int64).random_(-7, 7),
    "random_from": lambda T: T.empty(9, dtype=T.int32).random_(100, None),
    "random_half_range": lambda T: T.empty(99, dtype=T.float16).random_(0, 65504),
    "bernoulli_": lambda T: T.empty(9).bernoulli_(0.3),
    "bernoulli_tensor": lambda T: T.empty(3, 9).bernoulli_(T.linspace(0, 1, 9)),
    "bernoulli_transposed": lambda T: T.empty(9, 3).t().bernoulli_(T.linspace(0, 1, 9)),
    "exponential_": lambda T: T.empty(9).exponential_(2),
    "geometric_": lambda T: T.empty(9, dtype=T.int64).geometric_(0.2),
    "cauchy_": lambda T: T.empty(9).cauchy_(1, 2),
    "log_normal_": lambda T: T.empty(9).log_normal_(),
    # Their masks are not PyTorch's, but what is drawn after them is.
    "dropout": lambda T: T.nn.functional.dropout(T.ones(50), 0.5) * 0,
    "dropout_none": lambda T: T.nn.functional.dropout(T.ones(50), 0.0),
    "dropout_all": lambda T: T.nn.functional.dropout(T.ones(50), 1.0),
    "dropout2d": lambda T: T.nn.functional.dropout2d(T.ones(2, 5, 3, 3), 0.5) * 0,
    "dropout3d": lambda T: T.nn.functional.dropout3d(T.ones(2, 5, 3, 3), 0.5) * 0,
    "alpha_dropout": lambda T: T.nn.functional.alpha_dropout(T.ones(50), 0.5, True) * 0,
    "feature_alpha_dropout": lambda T: T.feature_alpha_dropout(T.ones(5, 4, 3), 0.5, True) * 0,
}


def check(ours: Any, theirs: Any, label: str) -> None:
    assert str(ours.dtype) == str(theirs.dtype), label
    assert ours.stride() == theirs.stride(), label
    a, b = ours.detach().numpy(), theirs.detach().numpy()
    if a.dtype.kind == "f":
        np.testing.assert_array_max_ulp(a, b, 2)
    else:
        np.testing.assert_array_equal(a, b, label)


@pytest.mark.parametrize("seed", [0, 7, 2**40 + 1])
def test_programs_in_any_order(seed: int) -> None:
    names = list(PROGRAMS)
    tm.manual_seed(seed)
    torch.manual_seed(seed)
    for i in np.random.default_rng(seed).permutation(3 * len(names)):
        name = names[i % len(names)]
        check(PROGRAMS[name](tm), PROGRAMS[name](torch), name)


def test_values_of_alpha_dropout() -> None:
    ours = tm.nn.functional.alpha_dropout(tm.full((100,), 3.0), 0.3, True)
    theirs = torch.nn.functional.alpha_dropout(torch.full((100,), 3.0), 0.3, True)
    np.testing.assert_allclose(np.unique(ours.numpy()), np.unique(theirs.numpy()), rtol=1e-6)


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_values_of_dropout(p: float, dtype: str) -> None:
    found = []
    for T in (tm, torch):
        x = T.full((200,), 1.7, dtype=getattr(T, dtype))
        found.append(np.unique(T.nn.functional.dropout(x, p).numpy()))
    np.testing.assert_array_equal(*found)


def test_grad_fn_names() -> None:
    for T in (tm, torch):
        x = T.ones(30, requires_grad=True)
        assert T.nn.functional.dropout(x, 0.5).grad_fn.name() == "MulBackward0"


def test_errors_are_of_pytorchs_kind() -> None:
    calls = [
        lambda T: T.rand(3, dtype=T.int64),
        lambda T: T.randn(3, dtype=T.int64),
        lambda T: T.rand(-1),
        lambda T: T.rand(2.5),
        lambda T: T.randint(3),
        lambda T: T.randint(2**63, (2,)),
        lambda T: T.empty(2, dtype=T.int64).exponential_(),
        lambda T: T.empty(2, dtype=T.int64).cauchy_(),
        lambda T: T.empty(2, dtype=T.int64).log_normal_(),
        lambda T: T.bernoulli(T.ones(2, dtype=T.int64)),
        lambda T: T.multinomial(T.ones(3, dtype=T.int64), 1),
        lambda T: T.poisson(T.tensor([1])),
        lambda T: T.Generator("foo"),
        lambda T: T.normal(T.zeros(3), T.ones(2)),
        lambda T: T.nn.functional.dropout(T.ones(2, dtype=T.int64), 0.5),
        lambda T: T.nn.functional.dropout1d(T.ones(2), 0.5),
        lambda T: T.nn.functional.dropout2d(T.ones(2), 0.5),
        lambda T: T.nn.functional.alpha_dropout(T.ones(2), 2),
        lambda T: T.manual_seed("a"),
        lambda T: T.manual_seed(1 << 64),
        lambda T: T.Generator().manual_seed(1.5),
    ]
    for call in calls:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(Exception) as theirs:
                call(torch)
            with pytest.raises(theirs.type):
                call(tm)
