"""Gradients through max pooling: sums over what is not zero give what sums over all give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compiler.stage_executor import StageExecutor
from compiler.test_programs_on_targets import FEATURES, afresh

import taimatsu as torch
from taimatsu.compiler import fusion, sparse
from taimatsu.config import config
from taimatsu.evaluate import compiled, interpreter
from taimatsu.recorder.base import registered

nn = torch.nn
pytestmark = pytest.mark.skipif(
    config.eager, reason="with TAIMATSU_EAGER=1 each operation is a program of its own"
)

Layers = Callable[[], list[Any]]
# By name: layers, and the shape of a batch.
NETS: dict[str, tuple[Layers, tuple[int, ...]]] = {
    "two layers": (
        lambda: [
            *[nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2)],
            *[nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2)],
        ],
        (9, 1, 18, 18),
    ),
    "large kernels": (
        lambda: [
            *[nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.MaxPool2d(2)],
            *[nn.Conv2d(6, 10, 5), nn.Tanh(), nn.MaxPool2d(2)],
        ],
        (5, 1, 28, 28),
    ),
    "pooled before the activation": (
        lambda: [
            *[nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()],
            *[nn.Conv2d(8, 12, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()],
        ],
        (6, 3, 16, 16),
    ),
    "many channels": (
        lambda: [nn.Conv2d(4, 40, 3), nn.ReLU(), nn.Conv2d(40, 72, 3), nn.ReLU(), nn.MaxPool2d(2)],
        (3, 4, 14, 14),
    ),
    "stride, border dropped": (
        lambda: [
            *[nn.Conv2d(2, 10, 3), nn.ReLU(), nn.MaxPool2d(3)],
            *[nn.Conv2d(10, 20, 3, stride=2), nn.ReLU(), nn.MaxPool2d((2, 1))],
        ],
        (6, 2, 28, 28),
    ),
    "padding, dilation, gaps": (
        lambda: [
            *[nn.Conv2d(2, 10, 3), nn.ReLU(), nn.MaxPool2d(3, 3, 1)],
            *[nn.Conv2d(10, 20, 3, dilation=2), nn.ReLU(), nn.MaxPool2d(2, 3)],
        ],
        (6, 2, 28, 28),
    ),
    "ceil mode, groups": (
        lambda: [
            *[nn.Conv2d(2, 10, 3), nn.ReLU(), nn.MaxPool2d(3, ceil_mode=True)],
            *[nn.Conv2d(10, 20, 3, groups=2), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)],
        ],
        (6, 2, 28, 28),
    ),
    "one dimension": (
        lambda: [
            *[nn.Conv1d(4, 24, 5), nn.ReLU(), nn.MaxPool1d(2)],
            *[nn.Conv1d(24, 40, 5), nn.ReLU(), nn.MaxPool1d(4)],
        ],
        (6, 4, 70),
    ),
    "three dimensions": (
        lambda: [
            *[nn.Conv3d(2, 12, 3), nn.ReLU(), nn.MaxPool3d(2)],
            *[nn.Conv3d(12, 16, 2), nn.ReLU(), nn.MaxPool3d((1, 2, 2))],
        ],
        (3, 2, 12, 12, 12),
    ),
    "one window": (
        lambda: [
            *[nn.Conv2d(4, 24, 3), nn.ReLU(), nn.MaxPool2d(2)],
            *[nn.Conv2d(24, 40, 3), nn.LeakyReLU(), nn.MaxPool2d(4)],
        ],
        (6, 4, 14, 14),
    ),
    "normalized": (
        lambda: [
            *[nn.Conv2d(4, 24, 3, bias=False), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2)],
            *[nn.Conv2d(24, 40, 3), nn.Sigmoid(), nn.MaxPool2d(2)],
        ],
        (6, 4, 14, 14),
    ),
}  # fmt: skip


def gradients(name: str, dtype: Any = torch.float32, size: int | None = None) -> list[np.ndarray]:
    """The gradients of a step: of all parameters, and of the images."""
    torch.manual_seed(0)
    layers, shape = NETS[name]
    net = nn.Sequential(*layers(), nn.Flatten()).to(dtype)
    x = torch.randn(*shape).to(dtype)[:size].clone().requires_grad_()
    out = net(x)
    weights = torch.linspace(-1, 1, out.shape[1]).to(dtype)
    (out * weights).sum().backward()
    return [t.grad.numpy().copy() for t in (*net.parameters(), x)]


def close(found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    for a, b in zip(found, wanted, strict=True):
        tolerance = 2e-5 if a.dtype == np.float32 else 1e-11
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


SLOW = ("stride, border dropped", "padding, dilation, gaps")  # to compile


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.exhaustive] * (n in SLOW)) for n in NETS]
)
def test_gradients(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for dtype, size in ((torch.float32, None), (torch.float32, 1), (torch.float64, 2)):
        monkeypatch.setattr(registered, "execute", interpreter.execute)
        wanted = gradients(name, dtype, size)
        monkeypatch.setattr(registered, "execute", compiled.execute)
        close(gradients(name, dtype, size), wanted)
    monkeypatch.setattr(registered, "execute", StageExecutor())
    close(gradients(name, dtype, size), wanted)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("name", ["two layers", "large kernels", "ceil mode, groups"])
def test_no_bit_depends_on_threads(
    name: str, features: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registered, "execute", interpreter.execute)
    wanted = gradients(name)
    monkeypatch.setattr(compiled.Target, "host", lambda: FEATURES[features])
    monkeypatch.setattr(registered, "execute", afresh)
    before = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(gradients(name))
    finally:
        torch.set_num_threads(before)
    close(found[0], wanted)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def said(name: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the pass says of a net's step."""
    lines: list[str] = []
    before = sparse.sparse

    def listening(stages: Any, outside: Any, target: Any, log: Any) -> Any:
        return before(stages, outside, target, lines.append)

    monkeypatch.setattr(fusion.sparse, "sparse", listening)
    monkeypatch.setattr(registered, "execute", StageExecutor())
    gradients(name)
    return lines


def test_what_becomes_sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = said("two layers", monkeypatch)
    over_windows = [line for line in lines if "goes over windows" in line]
    assert sum("reduce:float32[32, 16, 3, 3]" in line for line in over_windows) == 1
    assert sum("scatter:float32[n0, 16, 8, 8]" in line for line in over_windows) == 1


def test_overlapping_windows_are_summed_as_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        NETS,
        "overlapping",
        (lambda: [nn.Conv2d(4, 24, 3), nn.ReLU(), nn.MaxPool2d(3, 2)], (6, 4, 14, 14)),
    )
    assert not any("over windows" in line for line in said("overlapping", monkeypatch))


def test_what_pooling_did_not_choose_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """0 * inf is left out: what is not finite spreads no further than in sums over everything."""

    def gradient() -> np.ndarray:
        torch.manual_seed(0)
        x = torch.randn(40, 16, 8, 8)
        w = torch.randn(16, 16, 3, 3)
        x[0, 0, 0, 0] = float("inf")
        w[:, 0, 0, 0] = -1.0  # so that results with it are the least
        w.requires_grad_()
        nn.functional.max_pool2d(nn.functional.conv2d(x, w), 2).sum().backward()
        return w.grad.numpy().copy()

    monkeypatch.setattr(registered, "execute", interpreter.execute)
    wanted = gradient()
    monkeypatch.setattr(registered, "execute", compiled.execute)
    found = gradient()
    assert np.isnan(wanted[:, 0, 0, 0]).all()
    assert np.isfinite(found).all()
    finite = np.isfinite(wanted)
    np.testing.assert_allclose(found[finite], wanted[finite], rtol=1e-4, atol=1e-4)
