"""``torch.backends.mps``: Apple's GPUs, which taimatsu does not use."""


def is_available() -> bool:
    """False: there is no code for these GPUs."""
    return False


def is_built() -> bool:
    """False, as ``is_available``."""
    return False


def is_macos13_or_newer(minor: int = 0) -> bool:
    """False: asked only to choose among features of these GPUs."""
    return False
