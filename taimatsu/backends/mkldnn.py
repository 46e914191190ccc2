"""``torch.backends.mkldnn``: oneDNN, which taimatsu does not use; its switches are kept as set."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager

from taimatsu.backends.switches import SwitchModule, switched

enabled = True
deterministic = False
allow_tf32: bool | None = None


def is_available() -> bool:
    """False."""
    return False


def flags(
    enabled: bool = False, deterministic: bool = False, allow_tf32: bool | None = True
) -> AbstractContextManager[None]:
    """Context manager: sets the switches for a block."""
    return switched(sys.modules[__name__], dict(locals()))


sys.modules[__name__].__class__ = SwitchModule
