"""The code that hands chunks to threads, as an object for a target."""

from __future__ import annotations

from taimatsu.compiler.cache import configured_cache, key_of
from taimatsu.compiler.codegen.dispatch import dispatch_ir
from taimatsu.compiler.service import service
from taimatsu.ir.target import Target


def dispatch_object(target: Target) -> bytes:
    """The object of the dispatch code: from the disk cache, else compiled. CompileError."""
    ir = dispatch_ir(target.triple)
    cache = configured_cache()
    key = key_of(ir, target.key(), "object")
    found = cache.get(key)
    if found is None:
        job = service.submit(ir, target.triple, target.cpu, target.llvm_features)
        found = job.result()
        cache.put(key, found)
    return found
