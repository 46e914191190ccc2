"""Stands in for torchvision in processes that a running script starts; see ``shims/torch``."""

import importlib
import sys

__taimatsu_shim__ = True

from taimatsu.compat.aliases import install

install()
sys.modules[__name__] = importlib.import_module("taimatsu.vision")
