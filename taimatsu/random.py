"""``torch.random``: seeds and states of the default generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from taimatsu.generator import Generator, default_generator, initial_seed, manual_seed, seed

__all__ = [
    "Generator",
    "default_generator",
    "fork_rng",
    "get_rng_state",
    "initial_seed",
    "manual_seed",
    "seed",
    "set_rng_state",
]


def get_rng_state() -> Any:
    """The state of the default generator: a ByteTensor of 5056 elements, PyTorch's bytes."""
    return default_generator.get_state()


def set_rng_state(new_state: Any) -> None:
    """The default generator goes on from a state that ``get_rng_state()`` gave."""
    default_generator.set_state(new_state)


@contextmanager
def fork_rng(
    devices: Any = None,
    enabled: bool = True,
    _caller: str = "fork_rng",
    _devices_kw: str = "devices",
    device_type: str | None = None,
) -> Iterator[None]:
    """Within, the default generator may be seeded and used; afterwards it is as it was.

    ``devices`` and ``device_type`` name further devices, of which there are none.
    """
    if not enabled:
        yield
        return
    state = default_generator.snapshot()
    try:
        yield
    finally:
        default_generator.restore(state)
