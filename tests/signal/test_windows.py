"""Window functions against PyTorch, of every parity, symmetric and periodic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import taimatsu

WINDOWS: list[tuple[str, dict[str, Any]]] = [
    ("bartlett", {}),
    ("blackman", {}),
    ("cosine", {}),
    ("exponential", {"tau": 2.5}),
    ("gaussian", {"std": 3.0}),
    ("general_cosine", {"a": [0.46, 0.23, 0.31]}),
    ("general_hamming", {"alpha": 0.6}),
    ("hamming", {}),
    ("hann", {}),
    ("kaiser", {"beta": 3.0}),
    ("nuttall", {}),
]
OLD = ["bartlett_window", "blackman_window", "hamming_window", "hann_window", "kaiser_window"]


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("name", "options"), WINDOWS)
def test_windows_are_pytorchs(torch: Any, name: str, options: dict, symmetric: bool) -> None:
    for length in (0, 1, 2, 5, 8):
        found = []
        for library in (taimatsu, torch):
            function = getattr(library.signal.windows, name)
            found.append(function(length, sym=symmetric, dtype=library.float64, **options).numpy())
        np.testing.assert_allclose(found[0], found[1], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", OLD)
def test_older_names_are_periodic(torch: Any, name: str) -> None:
    for arguments in ((0,), (1,), (7,), (8, False)):
        mine, wanted = getattr(taimatsu, name)(*arguments), getattr(torch, name)(*arguments)
        assert str(mine.dtype) == str(wanted.dtype)
        np.testing.assert_allclose(mine.numpy(), wanted.numpy(), rtol=1e-5, atol=2e-6)


def test_refusals() -> None:
    windows = taimatsu.signal.windows
    with pytest.raises(ValueError, match="non-negative window length"):
        windows.hann(-1)
    with pytest.raises(ValueError, match="floating point dtypes"):
        windows.hann(3, dtype=taimatsu.int32)
    with pytest.raises(ValueError, match="must be positive"):
        windows.gaussian(3, std=0)
    with pytest.raises(ValueError, match="Center must be None"):
        windows.exponential(3, center=1.0)
    with pytest.raises(RuntimeError, match="non-negative window length"):
        taimatsu.hann_window(-1)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        windows.hann(3, symmetric=True)


def test_a_signal_comes_back_from_its_spectra() -> None:
    taimatsu.manual_seed(0)
    signal = taimatsu.randn(2, 100, dtype=taimatsu.float64)
    window = taimatsu.hann_window(16, dtype=taimatsu.float64)
    spectra = taimatsu.stft(signal, 16, window=window, return_complex=True)
    back = taimatsu.istft(spectra, 16, window=window, length=100)
    np.testing.assert_allclose(back.numpy(), signal.numpy(), atol=1e-12)
