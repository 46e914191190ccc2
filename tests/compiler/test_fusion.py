"""Which stages share kernels: groups of recorded programs, and that they compute what was meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from compiler.stage_executor import StageExecutor

import taimatsu as torch
from taimatsu.compiler.groups import Group
from taimatsu.config import config
from taimatsu.evaluate import interpreter
from taimatsu.recorder.base import registered

pytestmark = pytest.mark.skipif(
    config.eager, reason="with TAIMATSU_EAGER=1 each operation is a program of its own"
)


@pytest.fixture
def executor() -> Iterator[StageExecutor]:
    with StageExecutor().installed() as made:
        yield made


def carried_out(executor: StageExecutor, function: Callable[[], Any]) -> list[Group]:
    """The groups of one program that must give what the reference gives."""
    registered.execute = interpreter.execute
    wanted = [t.numpy().copy() for t in function()]
    registered.execute = executor
    executor.lowered = 0
    got = function()
    first = got[0].numpy()
    groups = executor.groups
    assert executor.lowered == 1
    for value, want in zip([first, *[t.numpy() for t in got[1:]]], wanted, strict=True):
        np.testing.assert_allclose(value, want, rtol=1e-4, atol=1e-4)
    return groups


def kinds(groups: list[Group]) -> list[list[str]]:
    return [[s.combine or s.kind for s in g.stages] for g in groups]


X = torch.randn(96, 200)
Y = torch.randn(96, 200)


def test_reductions_of_one_array_share_a_pass(executor: StageExecutor) -> None:
    groups = carried_out(executor, lambda: (X.sum(), X.amax(), X.argmax()))
    assert kinds(groups) == [["add", "max", "argmax"]]


def test_sums_that_do_not_depend_on_an_axis_are_computed_once(executor: StageExecutor) -> None:
    def column_sums() -> tuple[Any, ...]:
        w = torch.ones(200, 50, requires_grad=True)
        (X @ w).sum().backward()
        return (w.grad,)

    groups = carried_out(executor, column_sums)
    (sums,) = [s for g in groups for s in g.stages if s.kind == "reduce"]
    assert [n.hint() for n in sums.shape] == [200]


def test_a_batch_that_repeats_itself_is_multiplied_once(executor: StageExecutor) -> None:
    w = torch.randn(200, 50)
    groups = carried_out(executor, lambda: (X.expand(6, 96, 200) @ w,))
    (sums,) = [s for g in groups for s in g.stages if s.kind == "reduce"]
    assert [n.hint() for n in sums.shape] == [96, 50]


def test_column_sums_of_one_array_share_a_pass(executor: StageExecutor) -> None:
    groups = carried_out(executor, lambda: (Y.sum(0), (X * Y).sum(0)))
    assert kinds(groups) == [["add", "add"]]


def test_sums_along_different_axes_stay_apart(executor: StageExecutor) -> None:
    square = torch.randn(80, 80)
    groups = carried_out(executor, lambda: (square.sum(0), square.sum(1)))
    assert kinds(groups) == [["add"], ["add"]]


def test_what_a_sum_of_a_result_needs_is_no_second_pass(executor: StageExecutor) -> None:
    def function() -> tuple:
        total = X.sum()
        return total, (X - total).abs().sum()

    assert kinds(carried_out(executor, function)) == [["add"], ["add"]]


def test_maps_that_share_inputs_share_a_kernel(executor: StageExecutor) -> None:
    groups = carried_out(executor, lambda: (X * Y, X - Y, X + 1))
    assert kinds(groups) == [["map", "map", "map"]]


def test_small_maps_of_one_extent_share_a_kernel(executor: StageExecutor) -> None:
    small = [torch.randn(n) for n in (30, 30, 40, 30)]
    groups = carried_out(executor, lambda: [t + 1 for t in small])
    assert sorted(map(len, kinds(groups))) == [1, 3]


def test_equal_maps_are_computed_once(executor: StageExecutor) -> None:
    images = torch.randn(3, 4, 9, 9)
    weight = torch.randn(5, 4, 3, 3)
    g = torch.randn(3, 5, 9, 9)

    def function() -> tuple:
        w = weight.clone().requires_grad_()
        out = torch.nn.functional.conv2d(images, w, padding=1)
        out.backward(g)
        return out.detach(), w.grad

    groups = carried_out(executor, function)
    padded = [s for g in groups for s in g.stages if str(s.shape[-1]) == "11"]
    assert len(padded) == 1


def test_maps_of_other_elements_are_not_equal(executor: StageExecutor) -> None:
    weight = torch.randn(100, 100)

    def function() -> tuple:
        return (X[:, :100] + 1) @ weight, (X[:, 100:] + 1) @ weight, (X[:, :100] - 1) @ weight

    groups = carried_out(executor, function)
    assert sum(s.kind == "map" for g in groups for s in g.stages) == 3


def test_what_a_scatter_begins_with_is_computed_in_its_copy(executor: StageExecutor) -> None:
    places = torch.tensor([3, 0, 3])

    def function() -> tuple:
        return ((X * 2).index_add(0, places, Y[:3]),)

    assert kinds(carried_out(executor, function)) == [["add"]]


def test_large_maps_of_nothing_common_stay_apart(executor: StageExecutor) -> None:
    assert len(carried_out(executor, lambda: (X + 1, Y + 1))) == 2


def test_what_waits_for_a_group_does_not_join_it(executor: StageExecutor) -> None:
    weight = torch.randn(200, 96) * 0.01

    def function() -> tuple:
        product = X.exp() @ weight
        return product, X.exp() * product.mean()

    groups = carried_out(executor, function)
    assert [g.kind for g in groups].count("contraction") == 1
    for group in groups:
        assert len(group.stages) < 4


def test_softmax_along_an_inner_dimension_is_one_kernel(executor: StageExecutor) -> None:
    images = torch.randn(4, 10, 16, 16)
    groups = carried_out(executor, lambda: (images.softmax(1),))
    assert len(groups) == 1


@pytest.mark.parametrize(("size", "count"), [(12, 1), (60, 2)])
def test_windows_slide_within_a_kernel_over_small_images(
    size: int, count: int, executor: StageExecutor
) -> None:
    images = torch.randn(4, 16, size, size)

    def function() -> tuple:
        x = images.exp()
        return torch.nn.functional.max_pool2d(x, 2), x

    assert len(carried_out(executor, function)) == count


def test_sums_of_long_rows_join_the_map_that_they_read(executor: StageExecutor) -> None:
    long = torch.randn(4, 50_000)

    def function() -> tuple:
        y = long.exp() * long
        return y, y.sum(1)

    assert kinds(carried_out(executor, function)) == [["map", "add"]]


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_an_optimizer_updates_momentum_and_parameter_at_once(
    decay: float, executor: StageExecutor
) -> None:
    def function() -> tuple:
        generator = np.random.default_rng(3)
        p = torch.from_numpy(generator.standard_normal((64, 100)).astype(np.float32)).clone()
        p.requires_grad_()
        optimizer = torch.optim.SGD([p], lr=0.1, momentum=0.9, weight_decay=decay)
        for _ in range(3):
            optimizer.zero_grad()
            p.exp().sum().backward()
            optimizer.step()
        return (p.detach(),)

    registered.execute = interpreter.execute
    (want,) = [t.numpy().copy() for t in function()]
    registered.execute = executor
    (got,) = [t.numpy() for t in function()]
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)
    groups = [g for g in executor.groups if any(s.kind == "update" for s in g.stages)]
    assert len(groups) == 1


def test_channels_gradients_share_a_pass(executor: StageExecutor) -> None:
    images = torch.randn(8, 6, 20, 20)
    g = torch.randn(8, 6, 20, 20)
    groups = carried_out(executor, lambda: (g.sum((0, 2, 3)), (g * images).sum((0, 2, 3))))
    assert kinds(groups) == [["add", "add"]]


def test_gradients_and_their_sums_over_all_but_channels_share_a_pass(
    executor: StageExecutor,
) -> None:
    images = torch.randn(8, 6, 40, 40)

    def function() -> tuple:
        g = images.exp() * images
        return g, g.sum((0, 2, 3))

    assert kinds(carried_out(executor, function)) == [["map", "add"]]
