"""Which LLVM there is, without loading it."""

from __future__ import annotations

import hashlib
import importlib.util
from functools import cache
from pathlib import Path

from taimatsu.version import __version__


@cache
def llvmlite_folder() -> Path:
    """The folder on ``sys.path`` that holds llvmlite; ImportError where there is none."""
    spec = importlib.util.find_spec("llvmlite")
    if spec is None or spec.origin is None:
        raise ImportError("compiled kernels need llvmlite; pip install llvmlite")
    return Path(spec.origin).parents[1]


@cache
def fingerprint() -> str:
    """What decides about the code that the same IR becomes: this package, llvmlite, its LLVM.

    LLVM's own version is known only once it is loaded, which the process that finds all its
    kernels in the cache never does; size and date of the library stand for it.
    """
    package = llvmlite_folder() / "llvmlite"
    digest = hashlib.blake2b(__version__.encode(), digest_size=8)
    digest.update((package / "_version.py").read_bytes())
    for library in sorted((package / "binding").glob("*llvmlite.*")):
        status = library.stat()
        digest.update(f"{library.name} {status.st_size} {status.st_mtime_ns}".encode())
    digest.update((Path(__file__).parent / "codegen" / "emit.py").read_bytes())
    return digest.hexdigest()


@cache
def kernel_fingerprint() -> str:
    """What decides about the code that the same kernel becomes: the code generator, and all else.

    Sources are read, and not their dates, so that a copy of the package finds the same objects.
    """
    package = Path(__file__).parents[1]
    sources = [*(package / "compiler" / "codegen").rglob("*.py")]
    sources.extend(package / "compiler" / f"{name}.py" for name in ("transport", "specialise"))
    sources.extend(package / "ir" / f"{name}.py" for name in ("expression", "index", "loops"))
    digest = hashlib.blake2b(fingerprint().encode(), digest_size=8)
    for source in sorted(sources):
        digest.update(source.read_bytes())
    return digest.hexdigest()
