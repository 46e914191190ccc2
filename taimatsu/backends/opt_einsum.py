"""``torch.backends.opt_einsum``: a package for einsum's order, which taimatsu does not use."""

from __future__ import annotations

enabled = False
strategy: str | None = None


def is_available() -> bool:
    """False: ``einsum`` contracts from left to right."""
    return False
