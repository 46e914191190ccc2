"""Kernels to objects: from the cache, or from the compile workers, which then fill it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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
    """The object of each kernel; see ``compiled``."""
    keys, found = compiled(kernels, target)
    return [found[key] for key in keys]


def compiled(kernels: list[Kernel], target: Target) -> tuple[list[str], dict[str, bytes]]:
    """The key of each kernel's object, and the objects; what is not cached is compiled, at once.

    In each object the kernel's function is called ``kernel``. Kernels that differ in names alone
    have one object. Raises CompileError for a kernel that cannot be compiled, once the others are.
    """
    global COMPILATIONS
    kept = object_cache()
    packed = [pack_kernel(kernel) for kernel in kernels]
    keys = [object_key(data, target) for data in packed]
    found: dict[str, bytes] = {}
    jobs: dict[str, Job] = {}
    machine = pack_target(target)
    for key, data in zip(keys, packed, strict=True):
        if key in found or key in jobs:
            continue
        code = kept.get(key)
        if code is None:
            jobs[key] = service.submit_kernel(data, machine)
        else:
            found[key] = code
    COMPILATIONS += len(jobs)
    failed: CompileError | None = None
    for key, job in jobs.items():
        try:
            found[key] = job.result()
        except CompileError as error:
            failed = failed or error
        else:
            kept.put(key, found[key])
    if failed is not None:
        raise failed
    return keys, found


@cache
def object_cache() -> ObjectCache:
    """The cache that the settings ask for."""
    return configured_cache()
