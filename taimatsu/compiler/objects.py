"""Kernels to objects: from the cache, or from the compile workers, which then fill it."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Sequence
from functools import cache

from taimatsu.compiler.cache import ObjectCache, configured_cache
from taimatsu.compiler.service import CompileError, Job, service
from taimatsu.compiler.toolchain import kernel_fingerprint
from taimatsu.compiler.transport import pack_kernel, pack_target, pack_values
from taimatsu.ir.loops import Kernel
from taimatsu.ir.target import Target

# How many kernels this process has had compiled. Tests of steady loops watch it.
COMPILATIONS = 0


def object_key(packed: bytes, target: Target) -> str:
    """What the object of a kernel, packed by ``transport.pack_kernel``, is kept under."""
    return _hashed(target.key().encode(), packed)


def _hashed(*parts: bytes) -> str:
    digest = hashlib.blake2b(kernel_fingerprint().encode(), digest_size=20)
    for data in parts:
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def specialised_object(
    key: str, kernel: bytes, values: Sequence[int], target: Target
) -> tuple[bytes, bool]:
    """The object of a kernel for given values of its symbols, and whether it was compiled now.

    ``key`` is the generic object's, ``kernel`` its loops. It is compiled at low priority, where it
    is not cached. Raises CompileError.
    """
    extents = pack_values(values)
    name = _hashed(key.encode(), extents)
    kept = object_cache()
    code = kept.get(name)
    if code is not None:
        return code, False
    job = service.submit_kernel(kernel, pack_target(target), background=True, values=extents)
    code = job.result()
    kept.put(name, code)
    return code, True


def objects_for(kernels: list[Kernel], target: Target) -> list[bytes]:
    """The object of each kernel; see ``Compilation``."""
    compilation = Compilation(target)
    keys = [compilation.add(kernel) for kernel in kernels]
    found = compilation.finish()
    return [found[key] or b"" for key in keys]


class Compilation:
    """The objects of a program's kernels; what is not cached is compiled while others are made.

    In each object the kernel's function is called ``kernel``. Kernels that differ in names alone
    have one object.

    Args:
        target: the machine.
        loaded: keys of objects that nobody needs: their code is in the process already.

    Attributes:
        made: how many were compiled.
    """

    def __init__(self, target: Target, loaded: Container[str] = ()) -> None:
        self.target = target
        self.loaded = loaded
        self.made = 0
        self._machine = pack_target(target)
        self._keys: dict[Kernel, str] = {}
        self._found: dict[str, bytes | None] = {}
        self._jobs: dict[str, Job] = {}

    def add(self, kernel: Kernel) -> str:
        """The key of a kernel's object, which ``finish`` will give."""
        global COMPILATIONS
        key = self._keys.get(kernel)
        if key is not None:
            return key
        packed = pack_kernel(kernel)
        key = self._keys[kernel] = object_key(packed, self.target)
        if key in self._found or key in self._jobs:
            return key
        if key in self.loaded:
            self._found[key] = None
            return key
        code = object_cache().get(key)
        if code is None:
            self._jobs[key] = service.submit_kernel(packed, self._machine)
            self.made += 1
            COMPILATIONS += 1
        else:
            self._found[key] = code
        return key

    def finish(self) -> dict[str, bytes | None]:
        """The objects by key, once all are there; None for those that are loaded.

        Raises CompileError for a kernel that cannot be compiled, once the others are.
        """
        failed: CompileError | None = None
        for key, job in self._jobs.items():
            try:
                code = self._found[key] = job.result()
            except CompileError as error:
                failed = failed or error
            else:
                object_cache().put(key, code)
        if failed is not None:
            raise failed
        return self._found


@cache
def object_cache() -> ObjectCache:
    """The cache that the settings ask for."""
    return configured_cache()
