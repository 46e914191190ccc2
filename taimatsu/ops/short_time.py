"""Short-time Fourier transforms: spectra of windows that slide along a signal, and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu import dtypes, recorder
from taimatsu.errors import OperationError
from taimatsu.ops.base import REGISTRY, Sample, array, composite
from taimatsu.ops.elementwise import complex_array
from taimatsu.ops.fourier import fft, ifft, irfft, rfft
from taimatsu.ops.joining import Cat

_SMALLEST_ENVELOPE = 1e-11


def _error(name: str, expected: str, got: str = "", hint: str = "") -> Exception:
    return OperationError.make(name, expected, got, hint)


def _window(name: str, window: Any, win_length: int, n_fft: int, like: Any) -> Any:
    """The window in the middle of ``n_fft`` places; ones without one."""
    if window is None:
        window = like.new_ones((win_length,))
    if window.ndim != 1 or window.shape[0] != win_length:
        raise _error(
            name,
            f"expected a 1D window tensor of size equal to win_length={win_length}",
            f"window with size {list(window.shape)}",
        )
    before = (n_fft - win_length) // 2
    after = n_fft - win_length - before
    if not before and not after:
        return window
    return Cat([window.new_zeros((before,)), window, window.new_zeros((after,))])


def _lengths(name: str, n_fft: int, hop_length: Any, win_length: Any) -> tuple[int, int]:
    hop = n_fft // 4 if hop_length is None else hop_length
    win = n_fft if win_length is None else win_length
    if hop <= 0:
        raise _error(name, f"expected hop_length > 0, but got hop_length={hop}")
    if not 0 < win <= n_fft:
        raise _error(name, f"expected 0 < win_length <= n_fft, but got win_length={win}")
    return hop, win


def _stft_samples() -> Iterator[Sample]:
    shown = {"return_complex": True}
    yield Sample(array(20), 8, window=array(8, low=0.2, high=1, seed=1), **shown)
    yield Sample(array(2, 20), 8, 3, 5, array(5, low=0.2, high=1, seed=1), **shown)
    yield Sample(array(2, 20), 8, 4, center=False, normalized=True, onesided=False, **shown)
    yield Sample(array(20), 8, pad_mode="constant", return_complex=False)
    yield Sample(complex_array(20), 8)


@composite("stft", samples=_stft_samples)
def stft(
    input: Any,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Any = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Any:
    """Spectra of windows ``hop_length`` apart: (..., T) -> (..., frequencies, frames).

    A real signal gives the frequencies from 0 to n_fft/2 unless ``onesided=False``. With
    ``center`` frame t is centred at t * hop_length, the signal being continued at both ends by
    ``pad_mode``. ``return_complex=False`` gives pairs of real numbers as a last dimension.
    """
    if input.ndim not in (1, 2):
        raise _error("stft", f"expected a 1D or 2D tensor, but got a {input.ndim}D tensor")
    if input.dtype.category < dtypes.FLOAT:
        raise _error(
            "stft",
            "expected a tensor of floating point or complex values",
            f"{input.dtype}",
            "convert with .float()",
        )
    whole = input.dtype.is_complex or (window is not None and window.dtype.is_complex)
    if return_complex is None:
        if not whole:
            raise _error(
                "stft",
                "stft requires the return_complex parameter be given for real inputs",
                "",
                "return_complex=True gives complex numbers",
            )
        return_complex = True
    hop, win = _lengths("stft", n_fft, hop_length, win_length)
    signal = input if input.ndim == 2 else input.unsqueeze(0)
    if center:
        pad = REGISTRY["nn.functional.pad"]
        signal = pad(signal.unsqueeze(1), (n_fft // 2, n_fft // 2), mode=pad_mode).squeeze(1)
    if not 0 < n_fft <= signal.shape[-1]:
        raise _error("stft", f"expected 0 < n_fft <= {signal.shape[-1]}, but got n_fft={n_fft}")
    frames = signal.unfold(-1, n_fft, hop) * _window("stft", window, win, n_fft, signal)
    half = not whole if onesided is None else onesided
    if half and whole:
        raise _error("stft", "Cannot have onesided output if window or input is complex")
    spectrum = (rfft if half else fft)(frames, norm="ortho" if normalized else None)
    spectrum = spectrum.transpose(1, 2)
    if input.ndim == 1:
        spectrum = spectrum.squeeze(0)
    return spectrum if return_complex else REGISTRY["view_as_real"](spectrum)


def _istft_samples() -> Iterator[Sample]:
    spectrum = complex_array(5, 6)
    window = array(8, low=0.2, high=1, seed=1)
    yield Sample(spectrum, 8, window=window)
    yield Sample(complex_array(2, 5, 6), 8, 3, 6, window[:6], length=12)
    yield Sample(spectrum, 8, center=False, normalized=True)
    yield Sample(complex_array(8, 6), 8, window=window, onesided=False, return_complex=True)


@composite("istft", samples=_istft_samples)
def istft(
    input: Any,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Any = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Any:
    """The signal whose ``stft`` is nearest to ``input``: (..., frequencies, frames) -> (..., T).

    Overlapping windows are added and divided by the sum of the squared windows, which must not
    vanish anywhere (Griffin and Lim 1984). ``length`` cuts the signal or fills it up with zeros.
    """
    _refuse_spectrum(input, n_fft, onesided)
    hop, win = _lengths("istft", n_fft, hop_length, win_length)
    if hop > win:
        raise _error("istft", f"expected 0 < hop_length <= win_length={win}, but got {hop}")
    half = input.shape[-2] != n_fft if onesided is None else onesided
    if half and return_complex:
        raise _error("istft", "Cannot have onesided output if window or input is complex")
    spectrum = input if input.ndim == 3 else input.unsqueeze(0)
    norm = "ortho" if normalized else None
    spectrum = spectrum.transpose(1, 2)
    frames = irfft(spectrum, n_fft, norm=norm) if half else ifft(spectrum, n_fft, norm=norm)
    if not half and not return_complex:
        frames = frames.real
    like = frames.real if frames.dtype.is_complex else frames
    shape = _window("istft", window, win, n_fft, like)
    signal = _overlapped(frames * shape, hop)
    envelope = _overlapped((shape * shape).expand(1, frames.shape[1], n_fft), hop)
    start = n_fft // 2 if center else 0
    stop = signal.shape[-1] - start if length is None else start + length
    signal, envelope = signal[:, start:stop], envelope[:, start:stop]
    if not np.all(np.abs(recorder.value(envelope)) > _SMALLEST_ENVELOPE):
        raise _error(
            "istft",
            "window overlap add min: the sum of the squared windows must not be zero anywhere",
            "",
            "take a smaller hop_length, or center=True for windows that begin with zero",
        )
    signal = signal / envelope
    missing = 0 if length is None else length - signal.shape[-1]
    if missing > 0:
        signal = Cat([signal, signal.new_zeros((signal.shape[0], missing))], 1)
    return signal if input.ndim == 3 else signal.squeeze(0)


def _refuse_spectrum(input: Any, n_fft: int, onesided: bool | None) -> None:
    if not input.dtype.is_complex:
        raise _error(
            "istft",
            "istft requires a complex-valued input tensor",
            "",
            "torch.view_as_complex makes one of pairs of real numbers",
        )
    if input.ndim not in (2, 3):
        raise _error("istft", f"expected a tensor with 2 or 3 dimensions, got {input.ndim}")
    bins = input.shape[-2]
    half = bins != n_fft if onesided is None else onesided
    wanted = n_fft // 2 + 1 if half else n_fft
    if bins != wanted:
        raise _error(
            "istft",
            "expected the frequency dimension (3rd to the last) of the input tensor to match "
            f"n_fft: {wanted}, but got {bins}",
        )


def _overlapped(frames: Any, hop: int) -> Any:
    """Frames (B, T, n) added up where they stand, ``hop`` apart: (B, (T - 1) * hop + n)."""
    batch, count, n = frames.shape
    places = np.arange(count)[:, None] * hop + np.arange(n)
    total = frames.new_zeros((batch, (count - 1) * hop + n))
    return total.index_add(1, recorder.constant(places.reshape(-1)), frames.reshape(batch, -1))
