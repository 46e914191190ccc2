"""Generators of GPUs. There are none: random numbers come from the CPU's default generator."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from taimatsu.cuda.host import need_gpu


def manual_seed(seed: int) -> None:
    """Seeds the current GPU's generator; does nothing without one."""


def manual_seed_all(seed: int) -> None:
    """Seeds the generators of all GPUs; does nothing without them."""


def seed() -> None:
    """Seeds the current GPU's generator with a random number; does nothing without one."""


def seed_all() -> None:
    """Seeds the generators of all GPUs with a random number; does nothing without them."""


def initial_seed() -> int:
    """The seed of the current GPU's generator; AssertionError without one."""
    need_gpu()
    return 0


def get_rng_state(device: Any = "cuda") -> Any:
    """The state of a GPU's generator; AssertionError without one."""
    raise AssertionError(
        "[cuda.get_rng_state] Torch not compiled with CUDA enabled: no GPU, no generator there; "
        "torch.get_rng_state() is the CPU's"
    )


def get_rng_state_all() -> list[Any]:
    """The states of all GPUs' generators: none."""
    return []


def set_rng_state(new_state: Any, device: Any = "cuda") -> None:
    """Sets the state of a GPU's generator; does nothing without one, as in PyTorch."""


def set_rng_state_all(new_states: Iterable[Any]) -> None:
    """Sets the states of all GPUs' generators; does nothing without them."""
