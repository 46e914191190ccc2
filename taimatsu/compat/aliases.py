"""``import torch`` and ``import torchvision`` mean taimatsu, after ``install()``.

The modules are the same objects under two names (``sys.modules["torch.nn"]`` is
``sys.modules["taimatsu.nn"]``), so nothing is loaded twice and classes are equal to themselves.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

ROOTS = {"torch": "taimatsu", "torchvision": "taimatsu.vision"}

# Modules of PyTorch whose contents are elsewhere here.
ELSEWHERE = {
    "torch.nn.modules.module": "taimatsu.nn.modules",
    "torch.optim.optimizer": "taimatsu.optim",
    "torch.utils.data.dataloader": "taimatsu.utils.data",
    "torch.utils.data.dataset": "taimatsu.utils.data",
    "torch.utils.data.sampler": "taimatsu.utils.data",
}

SHIM_MARK = "__taimatsu_shim__"  # set by compat/shims/torch, which calls install()


def real_name(name: str) -> str | None:
    """The module of taimatsu that ``name`` ("torch.nn") stands for; None for other names."""
    root, _, rest = name.partition(".")
    if root not in ROOTS:
        return None
    plain = f"{ROOTS[root]}.{rest}" if rest else ROOTS[root]
    return plain if _exists(plain) else ELSEWHERE.get(name, plain)


def _exists(name: str) -> bool:
    if name in sys.modules:
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # a package that the module needs is missing
        return False


class AliasFinder(importlib.abc.MetaPathFinder):
    """Finds ``torch.x`` as the module ``taimatsu.x``."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        real = real_name(fullname)
        if real is None:
            return None
        if not _exists(real):
            raise ModuleNotFoundError(
                f"taimatsu has no {fullname!r} (it would be {real!r}); the program runs if it can "
                "do without this import",
                name=fullname,
            )
        return importlib.machinery.ModuleSpec(fullname, AliasLoader(real))


class AliasLoader(importlib.abc.Loader):
    """Gives the module of another name as it is."""

    def __init__(self, real: str) -> None:
        self.real = real
        self.spec: importlib.machinery.ModuleSpec | None = None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.real)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import machinery has put the alias's spec in; relative imports need the module's own.
        module.__spec__ = self.spec


_finder = AliasFinder()


def install() -> None:
    """From here on ``import torch`` and ``import torchvision`` give taimatsu's modules.

    ImportError if PyTorch itself is already loaded: both in one program would not fit together.
    Calling it again does nothing.
    """
    for root, target in ROOTS.items():
        loaded = sys.modules.get(root)
        if loaded is None or hasattr(loaded, SHIM_MARK) or loaded is sys.modules.get(target):
            continue
        raise ImportError(
            f"[aliases] expected that {root!r} is not imported yet, got the one of "
            f"{getattr(loaded, '__file__', None)}; install the aliases before the first "
            f"`import {root}`, or use `import taimatsu as torch`",
            name=root,
        )
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    sys.modules["torch"] = importlib.import_module("taimatsu")


def uninstall() -> None:
    """``import torch`` means PyTorch again; what was imported under its names is forgotten."""
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
    for name in [n for n in sys.modules if n.partition(".")[0] in ROOTS]:
        if sys.modules[name].__name__.partition(".")[0] == "taimatsu":
            del sys.modules[name]
