"""Lowering rules of reductions, products, convolutions and pooling, where samples do not reach.

Cases whose batch must stay a symbol are lowered once more with ``data_varies``: no rule may ask
for the number of samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ops.lowering import Call, Lowered, assert_close, assert_lowers, collected, magnitude

import taimatsu as torch
import taimatsu.nn.functional as F
from taimatsu.ir.stages import Stage, loads

BATCH = 7  # no other extent of these tests


def leaf(*shape: int, dtype: Any = torch.float32) -> Any:
    values = np.random.default_rng(len(shape)).uniform(-2, 2, shape)
    return torch.tensor(values, dtype=dtype, requires_grad=True)


def calls_of(compute: Callable[[], Any], *names: str) -> list[Call]:
    """The calls of the named operations while something and its gradients are computed."""
    with collected() as calls:
        made = compute()
        if made.requires_grad:
            weight = torch.arange(1.0, made.numel() + 1).reshape(made.shape)
            (made * weight.to(made.dtype)).sum().backward()
    found = [c for c in calls if c.operation.name in names]
    assert {c.operation.name for c in found} == set(names)
    return found


def assert_all_lower(compute: Callable[[], Any], *names: str) -> None:
    for each in calls_of(compute, *names):
        assert assert_lowers(each, summed=True)


def data_varies(compute: Callable[[], Any], *names: str) -> list[Lowered]:
    """As ``assert_all_lower``, and with the batch a symbol, which no rule may need to know."""
    assert_all_lower(compute, *names)
    made = []
    for each in calls_of(compute, *names):
        lowered = Lowered(each, symbolic=(BATCH,))  # raises NotKnownError where one does
        for found, wanted in zip(lowered.values(), each.results, strict=True):
            assert_close(found, wanted, magnitude(each))
        made.append(lowered)
    return made


# -- convolution -------------------------------------------------------------------------------

WINDOWS = [
    # kernel, stride, padding, dilation
    (3, 1, 0, 1),
    (3, 1, 1, 1),
    (3, 1, 2, 2),
    (5, 1, 4, 1),
    (1, 1, 2, 1),  # more padding than kernel: its transpose crops
    (3, 2, 1, 1),
    (1, 2, 0, 1),  # phases without taps
    (4, 2, 1, 1),  # phases of one size
    (2, 3, 0, 1),
    (3, 2, 2, 2),
    (3, 3, 1, 2),
    (2, 5, 1, 1),  # many phases
    (5, 5, 0, 1),
    (3, 4, 2, 3),
    (3, 5, 0, 2),
]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), WINDOWS)
def test_convolution(kernel: int, stride: int, padding: int, dilation: int, groups: int) -> None:
    x, w, bias = leaf(BATCH, 4, 11, 8), leaf(6, 4 // groups, kernel, 1), leaf(6)
    data_varies(
        lambda: F.conv2d(x, w, bias, (stride, 1), (padding, 0), (dilation, 1), groups),
        "convolution",
        "convolution_weight",
    )


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), WINDOWS)
def test_transposed_convolution(
    kernel: int, stride: int, padding: int, dilation: int, extra: int
) -> None:
    if padding > dilation * (kernel - 1) or extra >= max(stride, dilation):
        pytest.skip("no such convolution")
    x, w = leaf(BATCH, 4, 5, 4), leaf(4, 3, kernel, 2)
    data_varies(
        lambda: F.conv_transpose2d(
            x,
            w,
            None,
            (stride, 2),
            (padding, 0),
            output_padding=(extra, 0),
            groups=2,
            dilation=(dilation, 1),
        ),
        "convolution",
        "convolution_weight",
    )


def test_convolution_of_large_stride_in_both_axes() -> None:
    x, w = leaf(BATCH, 2, 13, 12), leaf(3, 2, 6, 5)
    names = ("convolution", "convolution_weight")
    data_varies(lambda: F.conv2d(x, w, None, (5, 4), 1), *names)


def test_convolutions_are_one_product_of_two_loads() -> None:
    """What the generator of contractions recognises, in all three directions."""
    x, w = leaf(BATCH, 4, 9, 8), leaf(6, 4, 3, 3)
    names = ("convolution", "convolution_weight")
    for stride in (1, 2):
        for lowered in data_varies(lambda s=stride: F.conv2d(x, w, None, s, 1), *names):
            sums = [s for s in lowered.builder.stages if s.kind == "reduce"]
            assert sums
            for stage in sums:
                assert stage.value is not None
                assert stage.combine == "add"
                assert stage.value.op == "mul"
                assert [a.op for a in stage.value.args] == ["load", "load"]


# -- products ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right"),
    [((7, 4), (4, 5)), ((7, 3, 4), (7, 4, 5)), ((7, 1, 3, 4), (2, 4, 5)), ((7, 3, 4), (4,))],
)
def test_products_of_a_batch(left: tuple, right: tuple) -> None:
    x, y = leaf(*left), leaf(*right)
    data_varies(lambda: torch.matmul(x, y), "matmul")


def test_linear_layer() -> None:
    x, w, bias = leaf(BATCH, 4), leaf(5, 4), leaf(5)
    data_varies(lambda: F.linear(x, w, bias), "addmm", "matmul")


# -- reductions and normalisation --------------------------------------------------------------


@pytest.mark.parametrize("dim", [None, 0, 1, (0, 2)])
@pytest.mark.parametrize("name", ["sum", "mean", "amax", "var", "logsumexp"])
def test_reductions_of_a_batch(name: str, dim: Any) -> None:
    x = leaf(BATCH, 4, 5)
    if name == "logsumexp" and dim is None:
        dim = (0, 1, 2)
    data_varies(lambda: getattr(torch, name)(x) if dim is None else getattr(x, name)(dim), name)


@pytest.mark.parametrize("combine", ["max", "min"])
def test_extremes_of_booleans_and_nan(combine: str) -> None:
    truth = torch.tensor([[True, False], [False, False]])
    assert_all_lower(lambda: getattr(truth, combine)(), f"{combine}_all")
    assert_all_lower(lambda: getattr(truth, combine)(1)[0], f"{combine}_dim")
    odd = torch.tensor([[1.0, float("nan"), 3.0, float("nan")], [-0.0, 0.0, -1.0, -2.0]])
    assert_all_lower(lambda: getattr(odd, combine)(1)[0], f"{combine}_dim")
    assert_all_lower(lambda: getattr(torch, f"cum{combine}")(odd, 1)[0], f"cum{combine}")


def test_normalisation_of_a_batch() -> None:
    x, w, bias = leaf(BATCH, 4, 3, 2), leaf(4), leaf(4)
    data_varies(lambda: F.batch_norm(x, None, None, w, bias, training=True), "standardize")
    data_varies(lambda: F.group_norm(x, 2, w, bias), "standardize")
    data_varies(lambda: F.layer_norm(x, (3, 2), leaf(3, 2), None), "standardize")
    mean, var = leaf(4).detach(), leaf(4).detach().abs()
    data_varies(lambda: F.batch_norm(x, mean, var, w, bias), "normalize_with")


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_losses_of_a_batch(reduction: str) -> None:
    x = leaf(BATCH, 4)
    labels = torch.tensor([0, 3, -100, 1, 1, 2, 3])
    weight = torch.tensor([0.5, 1.0, 0.0, 2.0])
    names = ("nll_loss", "nll_loss_gradient", "log_softmax")
    data_varies(lambda: F.cross_entropy(x, labels, reduction=reduction), *names)
    data_varies(lambda: F.cross_entropy(x, labels, weight, reduction=reduction), *names)
    other = leaf(BATCH, 4).detach().sigmoid()
    data_varies(lambda: F.mse_loss(x, other, reduction=reduction), "mse_loss")
    data_varies(
        lambda: F.binary_cross_entropy(x.sigmoid(), other, reduction=reduction),
        "binary_cross_entropy",
    )


def test_a_label_that_is_no_class_fails_the_launch() -> None:
    x, labels = leaf(4, 3), torch.tensor([0, 2, 1, 0])
    [call] = calls_of(lambda: F.nll_loss(x, labels), "nll_loss")
    for wrong in (3, -1):
        target = np.array([0, wrong, 1, 0])
        with pytest.raises(IndexError, match="out of bounds"):
            Lowered(call._replace(inputs=(call.inputs[0], target, None))).values()


# -- pooling -----------------------------------------------------------------------------------

POOLS = [
    # kernel, stride, padding, dilation, ceil_mode
    (2, 2, 0, 1, False),
    (2, 2, 0, 1, True),
    (3, 2, 1, 1, False),
    (3, 2, 1, 1, True),
    (3, 1, 1, 1, False),
    (2, 3, 1, 1, False),
    (3, 2, 2, 2, False),
    (2, 4, 1, 3, True),
]


def window_options(case: tuple) -> dict[str, Any]:
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    return dict(zip(names, case, strict=True))


@pytest.mark.parametrize("case", POOLS)
def test_max_pool(case: tuple) -> None:
    x = leaf(BATCH, 2, 10, 9)
    with torch.no_grad():
        x[0] = float("-inf")  # nothing is greater than the border
        x[1, :, 2:5, 3:6] = float("nan")
        x[2] = 1.0
    names = ("max_pool", "max_pool_gradient")
    data_varies(lambda: F.max_pool2d(x, **window_options(case)), *names)
    with_places = {**window_options(case), "return_indices": True}
    assert_all_lower(lambda: F.max_pool2d(x, **with_places)[0], *names, "winning_places")


def test_second_derivatives_of_max_pool() -> None:
    x = leaf(BATCH, 2, 6, 5)

    def twice() -> Any:
        made = F.max_pool2d(x * x, 3, 2, 1)
        (g,) = torch.autograd.grad(made.square().sum(), x, create_graph=True)
        return g

    data_varies(twice, "max_pool_take", "max_pool_gradient")


def test_max_pool_of_many_elements() -> None:
    x = leaf(BATCH, 1, 40, 34)
    data_varies(lambda: F.max_pool2d(x, (20, 17)), "max_pool", "max_pool_gradient")


def test_gradients_of_separate_windows_are_maps() -> None:
    x = leaf(BATCH, 2, 8, 6)
    for lowered in data_varies(lambda: F.max_pool2d(x, 2), "max_pool_gradient"):
        assert [s.kind for s in lowered.builder.stages if s.kind != "window"] == ["map"]


def test_places_that_nobody_asks_for_are_no_numbers() -> None:
    """The pool's own places are bytes, and a gradient compares them as they are."""
    x = leaf(BATCH, 2, 8, 6)
    for lowered in data_varies(lambda: F.max_pool2d(x, 2), "max_pool", "max_pool_gradient"):
        assert all("int64" not in dtypes_of(s) for s in lowered.builder.stages)


def dtypes_of(stage: Stage) -> set[str]:
    return {stage.dtype} | {load.dtype for load in loads(stage)}


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("case", [c for c in POOLS if c[3] == 1])
def test_avg_pool(case: tuple, counted: bool) -> None:
    kernel, stride, padding, _, ceil = case
    x = leaf(BATCH, 2, 10, 9)
    data_varies(
        lambda: F.avg_pool2d(x, kernel, stride, padding, ceil, counted),
        "avg_pool",
        "resample_adjoint",
    )


@pytest.mark.parametrize("parts", [(2, 3), (5, 4), (10, 9), (12, 20), (1, 7)])
def test_adaptive_pools(parts: tuple) -> None:
    x = leaf(BATCH, 2, 10, 9)
    names = ("adaptive_avg_pool", "resample_adjoint")
    data_varies(lambda: F.adaptive_avg_pool2d(x, parts), *names)
    data_varies(lambda: F.adaptive_max_pool2d(x, parts), "adaptive_max_pool")


def test_blocks_as_columns_and_back() -> None:
    x = leaf(BATCH, 2, 9, 8)
    options = {"dilation": (1, 2), "padding": (1, 0), "stride": (2, 1)}
    data_varies(lambda: F.unfold(x, (3, 2), **options), "im2_col", "col2_im")
    data_varies(lambda: F.unfold(x, 3, stride=3), "im2_col", "col2_im")
