"""LLVM IR text to an object: the compile worker.

LLVM runs in processes of its own (``compiler/service.py`` starts them): llvmlite holds one lock
through passes and emission, a fork during a compile hangs the child, and an LLVM fatal error aborts
the process. The worker runs this file by its path, on Python's bare start-up and without the
package, so that the first object comes as soon as LLVM is loaded:

    python -I -S emit.py <folder that holds llvmlite> [<niceness>]

It reads requests from standard input and answers on what was standard output; both are frames,
lists of byte strings with their lengths before them. ``python -m taimatsu.compiler.codegen.emit
<folder>`` does the same, only that it imports the package first.
"""

from __future__ import annotations

import os
import struct
import sys
import types
from functools import cache

# Kernels come as unrolled SSA values, so little is left to do: inline the small functions, promote
# what was written as memory, simplify, and drop what is not called. Loop-invariant code,
# scheduling and common subexpressions of address arithmetic are the backend's at level
# 2. The pipeline of O3 is superlinear on unrolled code, which it makes no faster.
PASSES = (
    "always_inliner",
    "sroa",
    "instruction_combine",
    "simplify_cfg",
    "aggressive_dce",
    "global_dead_code_eliminate",
)

_U32 = struct.Struct("<I")


class FrameError(Exception):
    """The other side of the pipe is gone, or does not speak this protocol."""


def write_frame(fd: int, fields: list[bytes]) -> None:
    """Writes a list of byte strings: their number, then each with its length before it."""
    parts = [_U32.pack(len(fields))]
    for field in fields:
        parts.append(_U32.pack(len(field)))
        parts.append(field)
    data = memoryview(b"".join(parts))
    while data:
        data = data[os.write(fd, data) :]


def read_frame(fd: int) -> list[bytes]:
    """The next list of byte strings; FrameError when the pipe ends."""
    (count,) = _U32.unpack(_read(fd, 4))
    if count > 16:
        raise FrameError(f"a frame of {count} fields")
    return [_read(fd, *_U32.unpack(_read(fd, 4))) for _ in range(count)]


def _read(fd: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(fd, min(size, 1 << 20))
        if not part:
            raise FrameError("the pipe has ended")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class Emitter:
    """LLVM with its targets initialised; keeps one target machine for each processor asked for."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        self._llvm = llvm
        self._machines: dict[tuple[str, str, str], object] = {}
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        llvm.initialize_native_asmparser()  # inline assembly
        _set_options(llvm)

    def machine(self, triple: str, cpu: str, features: str):
        """The target machine; RuntimeError for a triple that LLVM does not know."""
        key = (triple, cpu, features)
        if key not in self._machines:
            target = self._llvm.Target.from_triple(triple)
            self._machines[key] = target.create_target_machine(
                cpu=cpu, features=features, opt=2, reloc="pic", codemodel="small"
            )
        return self._machines[key]

    def emit(
        self, ir: str, triple: str, cpu: str = "", features: str = "", output: str = "object"
    ) -> bytes:
        """Verifies a module, runs ``PASSES`` and returns the code.

        Args:
            ir: the module's text. It needs no triple and no data layout.
            triple, cpu, features: the target, as LLVM names them (``"+avx2,+fma"``).
            output: ``"object"`` (relocatable), ``"assembly"`` (also PTX) or ``"ir"`` (after the
                passes), the last two as UTF-8 text.

        Raises:
            RuntimeError: text that does not parse or verify, with LLVM's message; a triple that
                LLVM does not know.
        """
        machine = self.machine(triple, cpu, features)
        module = self._llvm.parse_assembly(ir)
        module.triple = triple
        module.data_layout = str(machine.target_data)
        module.verify()
        self._run_passes(module, machine)
        if output == "object":
            return machine.emit_object(module)
        if output == "assembly":
            return machine.emit_assembly(module).encode()
        if output == "ir":
            return str(module).encode()
        raise RuntimeError(f"expected output object, assembly or ir; got {output!r}")

    def _run_passes(self, module, machine) -> None:
        llvm = self._llvm
        manager = llvm.create_new_module_pass_manager()
        for name in PASSES:
            getattr(manager, f"add_{name}_pass")()
        builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options())
        manager.run(module, builder)


@cache
def _set_options(llvm) -> None:
    """LLVM's settings, which are the process's and may be set once.

    Loop strength reduction looks for addresses to count up. Kernels compute theirs in the loop
    where they change (``integers.py``), so that it found nothing that shows in times, and took
    half to three quarters of code generation.
    """
    llvm.set_option("", "-disable-lsr")


def answer(emitter: Emitter, request: list[bytes]) -> list[bytes]:
    """The answer to a request: (b"ok", code) or (b"error", message).

    Requests are (triple, cpu, features, output, IR), for modules, and (target, output, kernel), for
    kernels as ``compiler/transport.py`` packs them; a fourth field has the values of the kernel's
    symbols that it shall be specialised to.
    """
    try:
        if len(request) in (3, 4):
            return [b"ok", emit_kernel(emitter, *request)]
        triple, cpu, features, output, ir = [field.decode() for field in request]
        return [b"ok", emitter.emit(ir, triple, cpu, features, output)]
    except Exception as error:
        # A kernel that is not well-formed fails alone; the next one may be.
        return [b"error", f"{type(error).__name__}: {error}".encode()]


def emit_kernel(
    emitter: Emitter, target: bytes, output: bytes, kernel: bytes, values: bytes = b""
) -> bytes:
    """The code of a kernel of the loop IR; its function is called ``kernel``."""
    stand_in_for_package()
    from taimatsu.compiler import transport
    from taimatsu.compiler.codegen.llvm import lower_kernel
    from taimatsu.compiler.specialise import specialised

    machine = transport.unpack_target(target)
    loops = transport.unpack_kernel(kernel)
    if values:
        loops = specialised(loops, transport.unpack_values(values))
    ir = lower_kernel(loops, machine)
    return emitter.emit(ir, machine.triple, machine.cpu, machine.llvm_features, output.decode())


def stand_in_for_package() -> None:
    """Makes the package's inner modules importable without what the package itself imports."""
    if "taimatsu" not in sys.modules:
        package = types.ModuleType("taimatsu")
        package.__path__ = [os.path.dirname(os.path.dirname(os.path.dirname(__file__)))]
        sys.modules["taimatsu"] = package


def main(arguments: list[str]) -> int:
    """Serves requests until standard input ends."""
    sys.path.append(arguments[0])
    if len(arguments) > 1 and hasattr(os, "nice"):
        os.nice(int(arguments[1]))
    # What LLVM prints must not get between the frames.
    replies = os.dup(1)
    os.dup2(2, 1)
    emitter = Emitter()
    while True:
        try:
            request = read_frame(0)
        except FrameError:
            return 0
        try:
            write_frame(replies, answer(emitter, request))
        except BrokenPipeError:
            return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
