"""Parameters as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from taimatsu.nn.functions import cat
from taimatsu.tensor import Tensor


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All entries of all parameters in one 1-dimensional tensor, differentiably."""
    listed = list(parameters)
    _check_devices(listed)
    return cat([p.reshape(-1) for p in listed])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Gives each parameter its slice of ``vec`` as data."""
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected torch.Tensor, but got: {type(vec).__qualname__}")
    listed = list(parameters)
    _check_devices(listed)
    start = 0
    for p in listed:
        p.data = vec[start : start + p.numel()].view_as(p).data
        start += p.numel()


def _check_devices(parameters: list[Tensor]) -> None:
    devices: Any = {p.device for p in parameters}
    if len(devices) > 1:
        raise TypeError(
            "Found two parameters on different devices, this is currently not supported. "
            f"Got: {sorted(map(str, devices))}"
        )
