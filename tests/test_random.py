"""Random tensors: creation, filling in place, sampling, dropout, seeds and states."""

from __future__ import annotations

import numpy as np
import pytest

import taimatsu as tm
from taimatsu.nn import functional as F


@pytest.fixture(autouse=True)
def seeded() -> None:
    tm.manual_seed(0)


# -- new tensors -----------------------------------------------------------------------------


def test_first_numbers_are_pytorchs() -> None:
    assert tm.rand(3).tolist() == [0.49625658988952637, 0.7682217955589294, 0.08847743272781372]
    np.testing.assert_allclose(tm.randn(3).numpy(), [0.36433819, 0.13439633, 0.16421625], 1e-6)
    assert tm.randint(0, 100, (5,)).tolist() == [66, 56, 99, 78, 76]
    assert tm.randperm(8).tolist() == [0, 3, 4, 6, 1, 7, 5, 2]


@pytest.mark.parametrize("make", ["rand", "randn"])
def test_size_is_given_in_any_form(make: str) -> None:
    function = getattr(tm, make)
    for made in (function(2, 3), function((2, 3)), function([2, 3]), function(size=(2, 3))):
        assert made.shape == (2, 3)
        assert made.dtype is tm.float32
    assert function(()).shape == ()
    assert function(0, 4).shape == (0, 4)


def test_options_of_new_tensors() -> None:
    made = tm.randn(2, dtype=tm.float64, requires_grad=True)
    assert made.dtype is tm.float64
    assert made.requires_grad
    assert made.is_leaf
    out = tm.empty(3)
    assert tm.rand(3, out=out) is out
    assert tm.rand_like(tm.ones(2, 3, dtype=tm.float64)).dtype is tm.float64
    assert tm.randn(2, dtype=tm.complex64).is_complex()


def test_the_order_of_calls_is_the_order_of_numbers() -> None:
    a, b = tm.rand(3), tm.rand(3)
    tm.manual_seed(0)
    a_again, b_again = tm.rand(3), tm.rand(3)
    assert (a_again + b_again).tolist() == (b + a).tolist()  # whichever is computed first
    assert a_again.tolist() == a.tolist()


def test_randint_forms() -> None:
    assert tm.randint(5, (100,)).max() < 5
    assert tm.randint(3, 5, (100,)).min() >= 3
    assert tm.randint(high=5, size=(3,)).dtype is tm.int64
    assert tm.randint(0, 2, (3,), dtype=tm.bool).dtype is tm.bool
    assert tm.randint_like(tm.zeros(2, 3), 10).shape == (2, 3)
    assert tm.randint_like(tm.zeros(2, 3), 5, 10).min() >= 5


def test_like_keeps_the_layout() -> None:
    made = tm.rand_like(tm.empty(3, 4).t())
    assert made.stride() == (1, 4)
    tm.manual_seed(0)
    assert made.t().flatten().tolist() == tm.rand(12).tolist()


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: tm.rand(3, dtype=tm.int64), NotImplementedError, "not implemented for 'Long'"),
        (lambda: tm.randn(3, dtype=tm.int64), NotImplementedError, "normal_kernel_cpu"),
        (lambda: tm.rand(-1), RuntimeError, "negative dimension -1"),
        (lambda: tm.rand(2.5), TypeError, "argument 'size' must be tuple of ints"),
        (lambda: tm.randint(3), TypeError, "invalid combination of arguments"),
        (lambda: tm.randint(3, 3, (2,)), RuntimeError, "from=3 >= to=3"),
        (lambda: tm.randint(300, (2,), dtype=tm.uint8), RuntimeError, "to - 1 is out of bounds"),
        (lambda: tm.normal(0.0, -1.0, (2,)), RuntimeError, "normal expects std >= 0.0"),
        (lambda: tm.normal(tm.zeros(2), -tm.ones(2)), RuntimeError, "all elements of std >= 0.0"),
        (lambda: tm.empty(2).uniform_(2, 1), RuntimeError, "from=2 > to=1"),
        (lambda: tm.empty(2).bernoulli_(2), RuntimeError, r"p to be in \[0, 1\]"),
        (lambda: tm.bernoulli(tm.full((2,), 2.0)), RuntimeError, "p_in >= 0 && p_in <= 1"),
        (lambda: tm.empty(2).exponential_(-1), RuntimeError, "lambda > 0.0"),
        (lambda: tm.empty(2).geometric_(1), RuntimeError, r"p to be in \(0, 1\)"),
        (lambda: tm.empty(2).cauchy_(0, -1), RuntimeError, "sigma > 0.0"),
        (lambda: tm.empty(2).log_normal_(0, 0), RuntimeError, "std > 0.0"),
        (lambda: tm.multinomial(tm.ones(3), 4), RuntimeError, "without replacement"),
        (lambda: tm.multinomial(tm.zeros(3), 1), RuntimeError, "sum of probabilities <= 0"),
        (lambda: tm.multinomial(-tm.ones(3), 1), RuntimeError, "element < 0"),
        (lambda: tm.multinomial(tm.ones(3, 3, 3), 1), RuntimeError, "1 or 2 dim"),
        (lambda: tm.poisson(-tm.ones(2)), RuntimeError, "invalid Poisson rate"),
        (lambda: tm.randperm(-1), RuntimeError, "negative dimension"),
        (lambda: tm.randperm(300, dtype=tm.uint8), RuntimeError, "n cannot be greater than 256"),
        (lambda: tm.rand(2, generator=3), TypeError, "torch.Generator"),
        (lambda: F.dropout(tm.ones(2), 1.5), ValueError, "dropout probability has to be between"),
        (lambda: tm.dropout(tm.ones(2), 1.5, True), RuntimeError, "dropout probability has to"),
        (lambda: tm.feature_dropout(tm.ones(2), 0.5, True), RuntimeError, "at least 2 dimensions"),
        (lambda: F.dropout1d(tm.ones(2), 0.5), RuntimeError, "Expected 2D or 3D input"),
    ],
)
def test_errors_say_what_was_wrong(call, kind, message) -> None:
    with pytest.raises(kind, match=message):
        call()


# -- in place --------------------------------------------------------------------------------


FILLS = ["uniform_", "normal_", "exponential_", "cauchy_", "log_normal_"]


@pytest.mark.parametrize("method", FILLS)
def test_filling_returns_the_tensor_and_counts_as_a_write(method: str) -> None:
    x = tm.zeros(3, 4)
    assert getattr(x, method)() is x
    assert x._version == 1
    assert len(set(x.flatten().tolist())) == 12


def test_filling_a_view_writes_through() -> None:
    x = tm.zeros(4, 4)
    x[1:3, ::2].uniform_(1, 2)
    assert ((x > 0).sum()).item() == 4
    assert (x[1:3, ::2] >= 1).all()


def test_memory_order_is_the_order_of_numbers() -> None:
    x = tm.empty(3, 5)
    x.t().uniform_()
    tm.manual_seed(0)
    assert x.flatten().tolist() == tm.rand(15).tolist()


def test_a_leaf_that_requires_grad_is_not_filled() -> None:
    x = tm.zeros(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        x.uniform_()
    with tm.no_grad():
        x.uniform_()
    assert x.requires_grad
    tm.manual_seed(0)
    assert x.tolist() == tm.rand(2).tolist()  # the refused call drew nothing


def test_filling_cuts_the_gradient() -> None:
    x = tm.ones(3, requires_grad=True)
    y = x * 2
    y.uniform_()
    (y * 3).sum().backward()
    assert x.grad.tolist() == [0, 0, 0]


def test_random_fills_integers() -> None:
    assert tm.empty(50, dtype=tm.uint8).random_().max() > 100
    assert tm.empty(50).random_(5).max() < 5
    assert tm.empty(50, dtype=tm.int32).random_(3, 5).min() >= 3
    assert tm.empty(50, dtype=tm.int8).random_(100, None).min() >= 100


# -- sampling --------------------------------------------------------------------------------


def test_normal_of_tensors() -> None:
    mean, std = tm.tensor([0.0, 100.0]), tm.tensor([1.0, 0.0])
    assert tm.normal(mean, std)[1] == 100
    assert abs(tm.normal(mean, 0.5)[1] - 100) < 5
    assert tm.normal(3.0, std).shape == (2,)
    assert tm.normal(0, 1, (2, 3)).shape == (2, 3)
    assert tm.normal(tm.zeros(2, 1), tm.ones(3)).shape == (2, 3)


def test_bernoulli() -> None:
    drawn = tm.bernoulli(tm.tensor([0.0, 1.0]))
    assert drawn.tolist() == [0, 1]
    assert tm.bernoulli(tm.zeros(100), 0.5).sum() > 20
    assert tm.zeros(2, 3).bernoulli_(tm.tensor([0.0, 1.0, 1.0])).sum() == 4
    assert tm.tensor([0.5]).bernoulli().shape == (1,)


def test_multinomial_and_poisson() -> None:
    drawn = tm.multinomial(tm.tensor([[0.0, 1.0], [1.0, 0.0]]), 3, replacement=True)
    assert drawn.tolist() == [[1, 1, 1], [0, 0, 0]]
    assert drawn.dtype is tm.int64
    assert sorted(tm.multinomial(tm.ones(5), 5).tolist()) == [0, 1, 2, 3, 4]
    assert tm.poisson(tm.tensor([0.0, 1e4])).dtype is tm.float32


# -- seeds and states ------------------------------------------------------------------------


def test_generators_are_independent() -> None:
    g = tm.Generator().manual_seed(0)
    first = tm.rand(3, generator=g)
    tm.rand(5)
    second = tm.rand(3, generator=g)
    g.manual_seed(0)
    assert tm.rand(6, generator=g).tolist() == first.tolist() + second.tolist()


def test_state_is_a_tensor() -> None:
    state = tm.get_rng_state()
    assert state.dtype is tm.uint8
    assert state.shape == (5056,)
    first = tm.randn(3).tolist()
    tm.set_rng_state(state)
    assert tm.randn(3).tolist() == first


def test_fork_rng_leaves_the_stream_alone() -> None:
    first = tm.rand(2).tolist()
    tm.manual_seed(0)
    with tm.random.fork_rng():
        tm.manual_seed(5)
        tm.rand(100)
    assert tm.rand(2).tolist() == first


def test_seeds() -> None:
    assert tm.manual_seed(3) is tm.default_generator
    assert tm.initial_seed() == 3
    assert tm.seed() == tm.initial_seed()


# -- dropout ---------------------------------------------------------------------------------


def test_dropout_zeroes_and_scales() -> None:
    y = F.dropout(tm.ones(10_000), 0.25)
    values = set(y.tolist())
    assert values == {0.0, float(np.float32(1) / np.float32(0.75))}
    assert abs(float((y == 0).float().mean()) - 0.25) < 0.02


def test_dropout_is_the_identity_where_nothing_is_dropped() -> None:
    x = tm.ones(3)
    assert F.dropout(x, 0.5, training=False) is x
    assert F.dropout(x, 0.0) is x
    assert F.dropout(x, 1.0).tolist() == [0, 0, 0]


def test_gradient_of_dropout_takes_the_same_mask() -> None:
    x = tm.ones(1000, requires_grad=True)
    y = F.dropout(x, 0.5)
    y.sum().backward()
    assert x.grad.tolist() == y.tolist()


def test_masks_differ_and_repeat_with_the_seed() -> None:
    def masks() -> list:
        return [F.dropout(tm.ones(64), 0.5).tolist() for _ in range(3)]

    first = masks()
    assert first[0] != first[1] != first[2]
    tm.manual_seed(0)
    assert masks() == first
    tm.manual_seed(1)
    assert masks() != first


def test_a_restored_state_repeats_the_mask() -> None:
    F.dropout(tm.ones(10), 0.5)
    state = tm.get_rng_state()
    first = F.dropout(tm.ones(64), 0.5).tolist()
    tm.set_rng_state(state)
    assert F.dropout(tm.ones(64), 0.5).tolist() == first


def test_channels_are_dropped_whole() -> None:
    y = F.dropout2d(tm.ones(8, 16, 3, 3), 0.5)
    share = (y != 0).float().mean((2, 3))
    assert set(share.flatten().tolist()) == {0.0, 1.0}
    assert F.dropout1d(tm.ones(4, 5), 0.5).shape == (4, 5)
    assert F.dropout3d(tm.ones(4, 5, 2, 2), 0.5).shape == (4, 5, 2, 2)


def test_dropout2d_warns_of_dimensions() -> None:
    with pytest.warns(UserWarning, match="dropout1d"):
        F.dropout2d(tm.ones(2, 3, 4), 0.5)
    with pytest.warns(UserWarning, match="deprecated"):
        F.dropout2d(tm.ones(2, 3), 0.5)


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    x = tm.randn(200_000)
    y = F.alpha_dropout(x, 0.3, training=True)
    assert abs(float(y.mean())) < 0.02
    assert abs(float(y.var()) - 1) < 0.03


def test_dropout_in_place() -> None:
    x = tm.ones(100)
    assert F.dropout(x, 0.5, inplace=True) is x
    assert set(x.tolist()) == {0.0, 2.0}
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        F.dropout(tm.ones(2, requires_grad=True), 0.5, inplace=True)


def test_steady_loops_with_dropout_record_nothing_new() -> None:
    from taimatsu.recorder import STATISTICS

    weight = tm.ones(8, requires_grad=True)

    def step() -> list:
        weight.grad = None
        (F.dropout(weight, 0.5) * 3).sum().backward()
        return weight.grad.tolist()

    for _ in range(4):
        step()
    before = STATISTICS.states
    masks = {tuple(step()) for _ in range(10)}
    assert len(masks) > 3
    assert STATISTICS.states == before


def test_out_decides_the_dtype_of_the_numbers() -> None:
    out = tm.empty(0, dtype=tm.float64)
    assert tm.rand(3, out=out) is out
    tm.manual_seed(0)
    assert out.tolist() == tm.rand(3, dtype=tm.float64).tolist()
