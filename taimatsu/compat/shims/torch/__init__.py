"""Stands in for PyTorch in processes that a running script starts (``spawn`` workers).

The runner puts the folder above on ``sys.path``, which such processes inherit; the first
``import torch`` there comes here and becomes taimatsu.
"""

__taimatsu_shim__ = True

from taimatsu.compat.aliases import install

install()
