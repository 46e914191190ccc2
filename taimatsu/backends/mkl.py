"""``torch.backends.mkl``: Intel's MKL, which taimatsu does not use."""


def is_available() -> bool:
    """False."""
    return False
