"""Convolutions, pools, norms, losses, embeddings, gathers: values, gradients and errors."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from family_samples import LAYERS, call, cases, function, leaves, tensors

import taimatsu
from taimatsu.nn import functional as F
from taimatsu.ops.base import Sample

TOLERANCE = {"float64": 1e-10, "float32": 2e-5, "float16": 5e-3, "bfloat16": 4e-2}
VALUES_ONLY = {"tril_indices", "triu_indices", "nonzero", "argwhere", "nn.functional.one_hot"}


def as_array(tensor: Any) -> np.ndarray:
    """A tensor's values, 16-bit floats as float32."""
    if str(tensor.dtype) in ("torch.bfloat16", "torch.float16"):
        tensor = tensor.float()
    return np.asarray(tensor.detach().numpy())


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize(("name", "sample"), list(cases(*LAYERS)))
def test_agrees_with_pytorch(torch: Any, name: str, sample: Sample) -> None:
    for floating in {"float64", *sample.dtypes} & TOLERANCE.keys():
        ours = call(taimatsu, name, sample, floating)
        theirs = call(torch, name, sample, floating)
        assert len(ours) == len(theirs)
        for mine, wanted in zip(ours, theirs, strict=True):
            assert str(mine.dtype) == str(wanted.dtype)
            assert tuple(mine.shape) == tuple(wanted.shape)
            tolerance = TOLERANCE[floating]
            np.testing.assert_allclose(
                as_array(mine), as_array(wanted), rtol=tolerance, atol=tolerance
            )


@pytest.mark.parametrize(("name", "sample"), list(cases(*LAYERS)))
def test_gradients_of_both_orders(name: str, sample: Sample) -> None:
    args = [tensors(taimatsu, a, "float64") for a in sample.args]
    kwargs = {k: tensors(taimatsu, v, "float64") for k, v in sample.kwargs.items()}
    inputs = [t for t in leaves([args, *kwargs.values()]) if t.numel()]
    if not sample.grad or not inputs or name in VALUES_ONLY:
        pytest.skip("not differentiable here")
    if "loss" in name or "entropy" in name or "batch_norm" in name:
        inputs = inputs[:1]  # weights and running statistics get no gradient
    for t in inputs:
        t.requires_grad_(True)

    def results(*_: Any) -> tuple:
        made = function(taimatsu, name)(*args, **kwargs)
        made = made if isinstance(made, tuple) else (made,)
        return tuple(m for m in made if m.requires_grad)

    # The second backward is another program than the first, whose sums may round otherwise.
    near = {"fast_mode": True, "nondet_tol": 1e-12}
    assert taimatsu.autograd.gradcheck(results, inputs, **near)
    assert taimatsu.autograd.gradgradcheck(results, inputs, **near)


def zeros(*shape: int, dtype: str = "float32") -> Any:
    return taimatsu.zeros(shape, dtype=getattr(taimatsu, dtype))


ERRORS = {
    "channels last": (
        lambda: F.conv2d(zeros(1, 28, 28, 1), zeros(16, 1, 3, 3)),
        RuntimeError,
        r"weight of size \[16, 1, 3, 3\], expected input\[1, 28, 28, 1\] to have 1 channels, but "
        r"got 28 channels instead.*x\.permute\(0, 3, 1, 2\)",
    ),
    "bytes": (
        lambda: F.conv2d(zeros(1, 1, 8, 8, dtype="uint8"), zeros(1, 1, 3, 3), zeros(1)),
        RuntimeError,
        r"Input type \(unsigned char\) and bias type \(float\) should be the same.*float\(\)",
    ),
    "kernel": (
        lambda: F.conv2d(zeros(1, 1, 2, 8), zeros(1, 1, 3, 3)),
        RuntimeError,
        r"\(2 x 8\)\. Kernel size: \(3 x 3\)\. Kernel size can't be greater than actual input",
    ),
    "pool": (lambda: F.max_pool2d(zeros(2, 3, 8, 8), 9), RuntimeError, "Output size is too small"),
    "one value": (
        lambda: F.batch_norm(zeros(1, 3), None, None, training=True),
        ValueError,
        "Expected more than 1 value per channel when training",
    ),
    "float labels": (
        lambda: F.cross_entropy(zeros(4, 3), zeros(4)),
        RuntimeError,
        r"expected scalar type Long but found Float.*long\(\)",
    ),
    "label": (
        lambda: F.cross_entropy(zeros(1, 3), taimatsu.tensor([3])),
        IndexError,
        "Target 3 is out of bounds",
    ),
    "computed label": (
        lambda: F.cross_entropy(zeros(1, 3), taimatsu.tensor([2]) + 1).item(),
        IndexError,
        "Target 3 is out of bounds",
    ),
    "batch size": (
        lambda: F.cross_entropy(zeros(4, 3), zeros(3, dtype="int64")),
        ValueError,
        r"Expected input batch_size \(4\) to match target batch_size \(3\)",
    ),
    "one-hot": (
        lambda: F.cross_entropy(zeros(4, 3), zeros(4, 3, dtype="int64")),
        RuntimeError,
        "one-hot labels: target.argmax",
    ),
    "row": (
        lambda: F.embedding(taimatsu.tensor([5]), zeros(5, 2)),
        IndexError,
        "index out of range in self",
    ),
    "gather": (
        lambda: zeros(3, 4).gather(1, taimatsu.tensor([[4]])),
        RuntimeError,
        "index 4 is out of bounds for dimension 1 with size 4",
    ),
    "probabilities": (
        lambda: F.binary_cross_entropy(zeros(2) + 2, zeros(2)).item(),
        RuntimeError,
        "all elements of input should be between 0 and 1",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_helps(name: str) -> None:
    broken, kind, words = ERRORS[name]
    with pytest.raises(kind, match=words):
        broken()


def test_running_statistics_follow_pytorch(torch: Any, rng: np.random.Generator) -> None:
    x = rng.normal(size=(4, 3, 5)).astype("float32")
    found = []
    for library in (taimatsu, torch):
        mean, var = library.zeros(3), library.ones(3)
        for scale in (1, 2):
            batch = library.tensor(x * scale)
            library.nn.functional.batch_norm(batch, mean, var, training=True, momentum=0.3)
        found.append((mean.numpy(), var.numpy()))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def test_mse_loss_warns_of_broadcasting() -> None:
    with pytest.warns(UserWarning, match="different to the input size"):
        F.mse_loss(zeros(3, 1), zeros(3))


def test_max_pool_takes_the_first_of_equals_and_nan_over_all() -> None:
    x = taimatsu.tensor([[[1.0, 1.0, float("nan"), 0.0]]])
    values, places = F.max_pool1d(x, 2, return_indices=True)
    assert places.tolist() == [[[0, 2]]]
    assert values[0, 0, 0].item() == 1.0
    assert np.isnan(values[0, 0, 1].item())


@pytest.mark.parametrize("kind", ["int64", "bfloat16", "float16"])
def test_convolution_of_other_dtypes(torch: Any, rng: np.random.Generator, kind: str) -> None:
    x, w = rng.integers(-4, 4, (1, 2, 6, 6)), rng.integers(-4, 4, (3, 2, 3, 3))
    found = []
    for library in (taimatsu, torch):
        image, kernel = (library.tensor(v).to(getattr(library, kind)) for v in (x, w))
        made = library.nn.functional.conv2d(image, kernel)
        assert str(made.dtype) == f"torch.{kind}"
        found.append(made.float().numpy())
    np.testing.assert_array_equal(*found)
