"""``torch.backends.openmp``: OpenMP, which taimatsu does not use."""


def is_available() -> bool:
    """False."""
    return False
