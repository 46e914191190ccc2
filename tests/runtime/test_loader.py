"""The object loader: code runs, stays while it is held, and malformed objects only raise."""

from __future__ import annotations

import ctypes
import gc
import os
import struct
import threading
from pathlib import Path

import numpy as np
import pytest

from taimatsu.compiler.service import CompileService
from taimatsu.ir.target import Target
from taimatsu.runtime import elf
from taimatsu.runtime.loader import ARENA_BYTES, Loader, LoadError, host_machine

HOST = Target.host()
ARM = "aarch64-unknown-linux-gnu"
X86 = "x86_64-unknown-linux-gnu"
F64, I32, I64 = ctypes.c_double, ctypes.c_int32, ctypes.c_int64

# Constants, tables of addresses, jump tables, calls, tail calls: every kind of reference.
MODULE = """
@table = private unnamed_addr constant [4 x double] [double 1.5, double 2.5, double 3.5, double 4.5]
@functions = constant [2 x ptr] [ptr @plus, ptr @times]

define double @plus(double %x) {
  %y = fadd double %x, 1.25
  ret double %y
}
define double @times(double %x) noinline {
  %y = fmul double %x, 1.125
  ret double %y
}
define double @look_up(i64 %i) {
  %p = getelementptr double, ptr @table, i64 %i
  %v = load double, ptr %p
  ret double %v
}
define double @through_table(i64 %i, double %x) {
  %p = getelementptr ptr, ptr @functions, i64 %i
  %f = load ptr, ptr %p
  %v = call double %f(double %x)
  %w = call double @times(double %v)
  ret double %w
}
define ptr @address() {
  ret ptr @plus
}
define void @nothing() noinline {
  ret void
}
define i32 @choose(i32 %x) {
  switch i32 %x, label %d [i32 0, label %c0 i32 1, label %c1 i32 2, label %c2 i32 3, label %c3
                           i32 4, label %c4 i32 5, label %c5]
c0:
  ret i32 17
c1:
  call void @nothing()
  ret i32 3
c2:
  ret i32 99
c3:
  ret i32 -4
c4:
  ret i32 1234
c5:
  ret i32 7
d:
  ret i32 0
}
"""


@pytest.fixture(scope="module")
def compile_ir():
    service = CompileService()
    yield lambda ir, triple=HOST.triple: service.submit(ir, triple).result(60)
    service.close()


@pytest.fixture(scope="module")
def x86_object(compile_ir):
    return compile_ir(MODULE, X86)


@pytest.fixture(scope="module")
def arm_object(compile_ir):
    return compile_ir(MODULE, ARM)


@pytest.fixture
def loader():
    try:
        host_machine()
    except LoadError as error:
        pytest.skip(str(error))
    return Loader()


def test_functions_run(loader, compile_ir):
    loaded = loader.load(compile_ir(MODULE))
    assert [loaded.function("look_up", F64, I64)(i) for i in range(4)] == [1.5, 2.5, 3.5, 4.5]
    through_table = loaded.function("through_table", F64, I64, F64)
    assert through_table(0, 2.0) == 3.25 * 1.125
    assert through_table(1, 2.0) == 2.25 * 1.125
    assert loaded.function("address", ctypes.c_void_p)() == loaded.address("plus")
    choose = loaded.function("choose", I32, I32)
    assert [choose(i) for i in range(7)] == [17, 3, 99, -4, 1234, 7, 0]


def test_a_vector_kernel_with_its_constants(loader, compile_ir):
    loaded = loader.load(
        compile_ir(
            """
            define void @f(ptr %p) {
              %x = load <16 x float>, ptr %p, align 4
              %y = fmul <16 x float> %x, <float 0.0, float 1.0, float 2.0, float 3.0, float 4.0,
                float 5.0, float 6.0, float 7.0, float 8.0, float 9.0, float 10.0, float 11.0,
                float 12.0, float 13.0, float 14.0, float 15.0>
              store <16 x float> %y, ptr %p, align 4
              ret void
            }"""
        )
    )
    data = np.full(16, 2.0, np.float32)
    loaded.function("f", None, ctypes.c_void_p)(data.ctypes.data)
    assert data.tolist() == [2.0 * i for i in range(16)]


def test_a_name_that_is_not_there(loader, compile_ir):
    loaded = loader.load(compile_ir("define void @f() {\nret void\n}"))
    with pytest.raises(LoadError, match="no symbol 'g'; it has f"):
        loaded.address("g")


def permissions(address: int) -> str:
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, allowed = line.split()[:2]
        begin, end = (int(word, 16) for word in span.split("-"))
        if begin <= address < end:
            return allowed[:3]
    return "---"


def test_pages_are_written_or_executed_never_both(loader, compile_ir):
    loaded = loader.load(compile_ir(MODULE))
    address = loaded.address("plus")
    assert permissions(address) == "r-x"
    others = loader.load(compile_ir("define void @f() {\nret void\n}"))
    assert permissions(address + os.sysconf("SC_PAGESIZE")) == "r-x"
    del loaded
    assert permissions(address) == "rw-"
    del others
    assert permissions(address) != "r-x"


def test_code_lives_as_long_as_its_owner_or_a_function(loader, compile_ir):
    function = loader.load(compile_ir(MODULE)).function("look_up", F64, I64)
    gc.collect()
    assert function(1) == 2.5
    assert loader.mapped() == ARENA_BYTES
    del function
    assert loader.mapped() == 0, "the last one to go takes the arena along"


def test_code_outlives_the_finalizers_of_its_users(loader, compile_ir):
    """Garbage that holds code and calls it one last time."""
    called = []

    class User:
        def __init__(self, function) -> None:
            self.function = function
            self.itself = self

        def __del__(self) -> None:
            called.append(self.function(3))

    loaded = loader.load(compile_ir(MODULE))
    users = [User(loaded.function("look_up", F64, I64)) for _ in range(3)]
    users[0].all = users
    del loaded, users
    gc.collect()
    assert called == [4.5] * 3
    gc.collect()
    assert loader.mapped() == 0


def test_finalizers_may_load_while_the_loader_is_at_work(loader, compile_ir):
    code = compile_ir(MODULE)
    wrong = []

    class User:
        def __init__(self) -> None:
            self.loaded = loader.load(code)
            self.itself = self

        def __del__(self) -> None:
            if loader.load(code).function("look_up", F64, I64)(1) != 2.5:
                wrong.append(self)

    before = gc.get_threshold()
    gc.set_threshold(3)
    try:
        for _ in range(300):
            User()
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert not wrong
    assert loader.mapped() == 0


def test_many_objects_share_an_arena_and_their_pages_are_used_again(loader, compile_ir):
    code = compile_ir(MODULE)
    held = [loader.load(code) for _ in range(400)]
    assert loader.mapped() == ARENA_BYTES
    for each in held[::2]:
        assert each.function("look_up", F64, I64)(2) == 3.5
    del held[::2], each
    held += [loader.load(code) for _ in range(200)]
    assert loader.mapped() == ARENA_BYTES
    assert all(each.function("look_up", F64, I64)(3) == 4.5 for each in held)


def test_an_object_larger_than_an_arena(loader, compile_ir):
    numbers = ", ".join(f"i64 {i}" for i in range(300_000))
    loaded = loader.load(
        compile_ir(
            f"@big = private constant [300000 x i64] [{numbers}]\n"
            "define i64 @f(i64 %i) {\n%p = getelementptr i64, ptr @big, i64 %i\n"
            "%v = load i64, ptr %p\nret i64 %v\n}"
        )
    )
    assert loaded.function("f", I64, I64)(299_999) == 299_999
    assert loader.mapped() > ARENA_BYTES


def test_threads_load_and_drop(loader, compile_ir):
    code = compile_ir(MODULE)
    wrong = []

    def work() -> None:
        for i in range(100):
            if loader.load(code).function("look_up", F64, I64)(i % 4) != 1.5 + i % 4:
                wrong.append(i)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert loader.mapped() == 0


@pytest.mark.parametrize(
    ("ir", "message"),
    [
        ("declare float @expf(float)\ndefine float @f(float %x) {\n%y = call float @expf(float %x)"
         "\nret float %y\n}", "needs 'expf' from outside"),
        ("@g = global i32 5\ndefine ptr @f() {\nret ptr @g\n}", ".data is writable"),
        ("@g = internal global i32 0\ndefine void @f(i32 %x) {\nstore i32 %x, ptr @g\nret void\n}"
         "\ndefine i32 @h() {\n%v = load i32, ptr @g\nret i32 %v\n}", ".bss is writable"),
        ("@g = thread_local global i32 5\ndefine void @f() {\nret void\n}", "thread-local"),
        ("@llvm.global_ctors = appending global [1 x { i32, ptr, ptr }] [{ i32, ptr, ptr } "
         "{ i32 1, ptr @f, ptr null }]\ndefine void @f() {\nstore volatile i32 0, ptr null\n"
         "ret void\n}", r"ctors\S* is writable|init_array"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("triple", [X86, ARM])
def test_what_is_not_self_contained_is_refused(compile_ir, ir, message, triple):
    with pytest.raises(LoadError, match=message):
        elf.link(compile_ir(ir, triple))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected an ELF object"),
        (b"MZ", "begins with b'MZ'"),
        (b"\x7fELF", "64-bit little-endian"),
        (b"\x7fELF\x02\x01", "malformed"),
        (b"\xcf\xfa\xed\xfe" + bytes(60), "Mach-O object, which is not supported yet"),
        (b"\x64\x86" + bytes(60), "COFF object, which is not supported yet"),
    ],
)
def test_what_is_no_object(data, message):
    with pytest.raises(LoadError, match=message):
        elf.link(data)


def test_objects_for_other_systems_are_named(compile_ir):
    code = compile_ir(MODULE, "arm64-apple-macosx13.0")
    with pytest.raises(LoadError, match="Mach-O"):
        elf.link(code)
    with pytest.raises(LoadError, match="COFF"):
        elf.link(compile_ir(MODULE, "x86_64-pc-windows-msvc"))
    with pytest.raises(LoadError, match="expected an object for x86-64; got AArch64"):
        elf.link(compile_ir(MODULE, ARM), elf.X86_64)
    with pytest.raises(LoadError, match="got machine 8"):
        elf.link(compile_ir(MODULE, "mips64el-linux-gnu"))


# AArch64, where this machine cannot run it: the distances as the instructions have them.


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> bits - 1 else value


def adrp_target(instruction: int, place: int) -> int:
    distance = signed((instruction >> 5 & 0x7FFFF) << 2 | instruction >> 29 & 3, 21)
    return (place & -4096) + distance * 4096


def arm_instructions(image: elf.Image, name: str) -> list[tuple[int, int]]:
    """(place, instruction) from a function's first to its return."""
    place = image.symbols[name]
    found = []
    while True:
        (instruction,) = struct.unpack_from("<I", image.content, place)
        found.append((place, instruction))
        if instruction == 0xD65F03C0:
            return found
        place += 4


def test_aarch64_addresses_calls_and_the_offset_table(arm_object):
    image = elf.link(arm_object, elf.AARCH64)
    places = dict(image.symbols)
    base = 0x7F12_3456_7000
    content = bytes(image.placed(base))

    # adrp x, table; add x, x, :lo12:table
    look_up = arm_instructions(image, "look_up")
    (page_at, page), (_, add) = look_up[:2]
    assert page & 0x9F000000 == 0x90000000
    table = adrp_target(page, page_at) + (add >> 10 & 0xFFF)
    assert struct.unpack_from("<4d", content, table) == (1.5, 2.5, 3.5, 4.5)

    # bl times
    through = arm_instructions(image, "through_table")
    calls = [(at, word) for at, word in through if word >> 26 == 0b100101]
    (at, word) = calls[-1]
    assert at + 4 * signed(word & 0x3FFFFFF, 26) == places["times"]

    # adrp x, :got:plus; ldr x, [x, :got_lo12:plus]
    (page_at, page), (_, load) = arm_instructions(image, "address")[:2]
    slot = adrp_target(page, page_at) + (load >> 10 & 0xFFF) * 8
    assert struct.unpack_from("<Q", content, slot) == (base + places["plus"],)

    # The table of functions holds addresses.
    functions = struct.unpack_from("<2Q", content, places["functions"])
    assert functions == (base + places["plus"], base + places["times"])


@pytest.mark.parametrize("scale", [1, 2, 4, 8, 16])
def test_aarch64_low_bits(scale):
    content = bytearray(struct.pack("<I", 0xFFFFFFFF))
    elf._low_bits(scale)(content, 0, 0x12340 + 16 * 7)
    (word,) = struct.unpack("<I", content)
    assert (word >> 10 & 0xFFF) * scale == 0x340 + 16 * 7
    assert word | 0x3FFC00 == 0xFFFFFFFF
    if scale > 1:
        with pytest.raises(LoadError, match="does not fit"):
            elf._low_bits(scale)(content, 0, 0x12341)


def test_distances_that_do_not_fit():
    with pytest.raises(LoadError, match="does not fit"):
        elf._branch(26, 0)(bytearray(4), 0, 1 << 28)
    with pytest.raises(LoadError, match="does not fit"):
        elf._branch(26, 0)(bytearray(4), 0, 2)
    with pytest.raises(struct.error):
        elf._distance32(bytearray(4), 0, 1 << 31)


# Malformed objects: only ever LoadError. Nothing of them is executed.


def accepts(data: bytes) -> bool:
    try:
        image = elf.link(data)
    except LoadError:
        return False
    image.placed(1 << 20)
    return True


@pytest.mark.parametrize("which", ["x86_object", "arm_object"])
def test_cut_objects(which, request):
    data = request.getfixturevalue(which)
    assert accepts(data)
    assert not any(accepts(data[:size]) for size in range(0, len(data), 7))


@pytest.mark.parametrize("which", ["x86_object", "arm_object"])
def test_objects_with_changed_bytes(which, request, rng):
    data = request.getfixturevalue(which)
    headers = struct.unpack_from("<Q", data, 40)[0]
    refused = 0
    for trial in range(3000):
        changed = bytearray(data)
        begin = headers if trial % 2 else 0
        for place in rng.integers(begin, len(data), size=1 + trial % 3):
            changed[place] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, changed[place] ^ 1])
        refused += not accepts(bytes(changed))
    assert refused > 100


def test_random_bytes_behind_a_header(x86_object, rng):
    for size in (64, 200, 4000):
        for _ in range(100):
            accepts(x86_object[:64] + rng.bytes(size))
