"""Sorting, selection, distinct elements and transforms of arrays large enough to be shared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import taimatsu as tm
from taimatsu.runtime import threads

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

DTYPES = ("float32", "float64", "int64", "int16", "uint8", "float16", "bfloat16")


@pytest.fixture(params=[1, 3], ids=lambda n: f"{n} threads", autouse=True)
def shared(request: pytest.FixtureRequest) -> Iterator[None]:
    before = threads.get_num_threads()
    threads.set_num_threads(request.param)
    yield
    threads.set_num_threads(before)


def pairs(dtype: str) -> Iterator[tuple[Any, Any]]:
    """The same array for taimatsu and PyTorch: much that is equal, little, odd elements."""
    random = np.random.default_rng(11)
    shape = (300, 500)
    made = [random.integers(0, 90, shape), random.integers(0, 1 << 15, shape)]
    if "float" in dtype:
        made += [random.standard_normal(shape), random.standard_normal((2, 200_000))]
        made.append(random.choice([0.0, -0.0, np.nan, np.inf, -np.inf, 1.5, -2.5], shape))
    elif dtype == "int64":
        made.append(random.integers(-(1 << 63), (1 << 63) - 1, (1, 150_000)))
    for x in made:
        if dtype.endswith("float16"):
            x = x.astype(np.float32)  # so that it is rounded once
        yield (
            tm.from_numpy(x).to(getattr(tm, dtype)),
            torch.from_numpy(x).to(getattr(torch, dtype)),
        )


def plain(x: Any) -> np.ndarray:
    """Values as NumPy has them, 16-bit floats as float32."""
    if x.dtype in (tm.float16, tm.bfloat16, torch.float16, torch.bfloat16):
        x = x.float()
    return x.numpy()


def assert_same(made: Any, expected: Any) -> None:
    np.testing.assert_array_equal(plain(made), plain(expected))


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sorted(dtype: str, dim: int) -> None:
    for ours, theirs in pairs(dtype):
        for descending in (False, True):
            made = ours.sort(dim, descending, stable=True)
            expected = theirs.sort(dim=dim, descending=descending, stable=True)
            assert_same(made.values, expected.values)
            assert_same(made.indices, expected.indices)


@pytest.mark.parametrize("dtype", DTYPES)
def test_selected(dtype: str) -> None:
    """The values are PyTorch's; of equal elements it may name another."""
    for ours, theirs in pairs(dtype):
        results: list[tuple[str, Any, Any]] = []
        for k in (1, 9, 70):
            results.append((f"kthvalue {k}", ours.kthvalue(k, 1), theirs.kthvalue(k, 1)))
        for largest in (False, True):
            results.append(("topk", ours.topk(7, 1, largest), theirs.topk(7, 1, largest)))
        results.append(("median", ours.median(1), theirs.median(1)))
        results.append(("nanmedian", ours.nanmedian(1), theirs.nanmedian(1)))
        for name, made, expected in results:
            np.testing.assert_array_equal(plain(made[0]), plain(expected[0]), name)
            index = made[1] if made[1].ndim == 2 else made[1].unsqueeze(1)
            assert_same(ours.gather(1, index).reshape(made[0].shape), made[0])
        assert_same(ours.median(), theirs.median())
        assert_same(ours.nanmedian(), theirs.nanmedian())


@pytest.mark.parametrize("dtype", DTYPES)
def test_distinct(dtype: str) -> None:
    for ours, theirs in pairs(dtype):
        made = ours.unique(return_inverse=True, return_counts=True)
        expected = theirs.unique(return_inverse=True, return_counts=True)
        assert_same(ours.unique(), expected[0])
        assert_same(made[0], expected[0])
        if not (theirs != theirs).any():  # which NaN is which is not said
            assert_same(made[1], expected[1])
            assert_same(made[2], expected[2])
            assert_same(ours.mode(1).values, theirs.mode(1).values)


@pytest.mark.parametrize("dtype", DTYPES)
def test_places(dtype: str) -> None:
    for ours, theirs in pairs(dtype):
        ours, theirs = ours - ours[0, 0], theirs - theirs[0, 0]
        for x, y in ((ours, theirs), (ours > 0, theirs > 0), (ours.t(), theirs.t())):
            assert_same(x.nonzero(), y.nonzero())
            for made, expected in zip(
                x.nonzero(as_tuple=True), y.nonzero(as_tuple=True), strict=True
            ):
                assert_same(made, expected)
        assert_same(ours[ours > 0], theirs[theirs > 0])


@pytest.mark.parametrize("norm", ["backward", "ortho"])
@pytest.mark.parametrize("shape", [(300, 500), (5, 200, 3, 64), (1, 100_003), (400, 1, 401)])
def test_transforms(shape: tuple[int, ...], norm: str) -> None:
    x = np.random.default_rng(2).standard_normal(shape)
    for dtype, precision in (("float32", 2e-5), ("float64", 1e-12)):
        ours = tm.from_numpy(x).to(getattr(tm, dtype))
        theirs = torch.from_numpy(x).to(getattr(torch, dtype))
        for dim in {0, 1, len(shape) - 1}:
            for name in ("fft", "ifft", "rfft", "ihfft"):
                made = getattr(tm.fft, name)(ours, dim=dim, norm=norm)
                expected = getattr(torch.fft, name)(theirs, dim=dim, norm=norm).resolve_conj()
                assert made.numpy().dtype == expected.numpy().dtype
                close(made, expected, precision)
            half, theirs_half = tm.fft.rfft(ours, dim=dim), torch.fft.rfft(theirs, dim=dim)
            for n in (shape[dim], shape[dim] + 3):
                made = tm.fft.irfft(half, n, dim, norm)
                close(made, torch.fft.irfft(theirs_half, n, dim, norm), precision)
        close(tm.fft.fftn(ours, norm=norm), torch.fft.fftn(theirs, norm=norm), precision)
        for n in (shape[-1] - 1, shape[-1] + 4, 1, 2):
            close(tm.fft.fft(ours, n), torch.fft.fft(theirs, n), precision)
        close(tm.fft.rfft2(ours, norm=norm), torch.fft.rfft2(theirs, norm=norm), precision)
        made = tm.fft.irfftn(tm.fft.rfftn(ours), shape)
        expected = torch.fft.irfftn(torch.fft.rfftn(theirs), shape)
        close(made, expected, precision)


def close(made: Any, expected: Any, precision: float) -> None:
    expected = expected.numpy()
    size = np.abs(expected).max()
    np.testing.assert_allclose(made.numpy(), expected, rtol=precision, atol=precision * size)
