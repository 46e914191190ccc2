"""Targets: read from the host, made up, and with features switched off."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from taimatsu.ir import target as module
from taimatsu.ir.target import Target, parse_cpuinfo, parse_size

LINUX, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"

INTEL = """\
processor	: 0
model name	: A processor
flags		: fpu sse2 sse4_1 sse4_2 avx fma f16c avx2 avx512f avx512_bf16 popcnt

processor	: 1
model name	: Another
flags		: fpu
"""
RASPBERRY = """\
processor	: 0
Features	: fp asimd evtstrm crc32 asimdhp asimddp
CPU part	: 0xd0b
"""


def test_the_host_is_described_without_llvmlite() -> None:
    code = (
        "import sys; from taimatsu.ir.target import Target; print(Target.host());"
        "assert 'llvmlite' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_the_host_is_as_llvm_sees_it() -> None:
    llvm = pytest.importorskip("llvmlite.binding")
    host = Target.host()
    seen = llvm.get_host_cpu_features()
    names = host.features if host.is_x86 else host.features - {"fma"}
    assert all(seen.get(name, True) for name in names)
    for name in ("avx512f", "avx2", "fma", "f16c", "sse4.1"):
        assert host.has(name) == seen.get(name, False) or not host.is_x86


def test_the_host_has_sizes() -> None:
    host = Target.host()
    assert host is Target.host()
    assert 16 * 1024 <= host.l1_bytes <= host.l2_bytes <= host.l3_bytes
    assert 1 <= host.cores <= (os.cpu_count() or 1)
    assert host.lanes(4) == host.vector_bytes // 4


@pytest.mark.parametrize(
    ("features", "vector_bytes", "registers"),
    [
        (set(), 16, 16),
        ({"sse4.1"}, 16, 16),
        ({"avx2", "fma"}, 32, 16),
        ({"avx512f"}, 64, 32),
    ],
)
def test_vector_registers(features: set[str], vector_bytes: int, registers: int) -> None:
    target = Target.of(LINUX, features)
    assert (target.vector_bytes, target.vector_registers) == (vector_bytes, registers)


def test_features_bring_along_what_they_need() -> None:
    target = Target.of(LINUX, {"avx512f"})
    assert target.features >= {"avx512f", "avx2", "avx", "fma", "f16c", "sse4.2", "sse4.1"}
    assert "+avx512f" in target.llvm_features.split(",")
    assert target.fma


def test_switched_off_features_take_those_that_need_them() -> None:
    full = Target.of(LINUX, {"avx512bw", "popcnt"})
    assert full.without("avx512f").vector_bytes == 32
    assert full.without("fma").features == {"avx2", "avx", "f16c", "sse4.2", "sse4.1", "popcnt"}
    assert full.without("sse4.1").features == {"popcnt"}
    assert full.without() == full
    with pytest.raises(ValueError, match="expected features out of .*avx1024"):
        full.without("avx1024")


def test_arm_always_has_neon() -> None:
    target = Target.of(ARM)
    assert target.has("neon")
    assert target.fma
    assert target.llvm_features == "+neon"
    assert (target.vector_bytes, target.vector_registers) == (16, 32)


def test_unknown_machines_and_features() -> None:
    with pytest.raises(ValueError, match="expected x86_64 or aarch64, got the triple 'riscv64"):
        Target.of("riscv64-unknown-linux-gnu")
    with pytest.raises(ValueError, match=r"expected features of aarch64, got \['avx2'\]"):
        Target.of(ARM, {"avx2"})


def test_the_key_tells_apart_what_decides_code() -> None:
    target = Target.of(LINUX, {"avx2", "fma"})
    assert target.key() == Target.of(LINUX, {"fma", "avx2"}).key()
    assert target.key() != target.without("fma").key()
    assert target.key() != dataclasses.replace(target, l2_bytes=2**20).key()
    assert target.key() != Target.of(ARM).key()
    assert target.key() == dataclasses.replace(target, cores=64, model="another").key()
    assert hash(target) == hash(Target.of(LINUX, {"fma", "avx2"}))
    with pytest.raises(dataclasses.FrozenInstanceError):
        target.cores = 2  # type: ignore[misc]


def test_cpuinfo() -> None:
    names, model = parse_cpuinfo(INTEL)
    assert model == "A processor"
    assert names >= {"sse4.1", "sse4.2", "avx2", "avx512bf16", "popcnt"}
    names, model = parse_cpuinfo(RASPBERRY)
    assert names >= {"neon", "fullfp16", "dotprod"}
    assert model == "0xd0b"
    assert parse_cpuinfo("") == (set(), "unknown")


def test_nothing_readable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where /proc and sysfs are missing, the baseline and conservative sizes are taken."""
    monkeypatch.setattr(module, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr(module, "CPU_CACHES", tmp_path / "none")
    monkeypatch.setattr(module, "_sysconf", lambda name: 0)
    names, model, caches = module._read_linux()
    assert not names
    assert model == "unknown"
    assert caches == (32 * 1024, 256 * 1024, 256 * 1024)


def test_caches_of_sysfs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entries = [(1, "Data", "48K"), (1, "Instruction", "64K"), (2, "Unified", "2M")]
    for index, (level, kind, size) in enumerate(entries):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        (folder / "level").write_text(f"{level}\n")
        (folder / "type").write_text(f"{kind}\n")
        (folder / "size").write_text(f"{size}\n")
    monkeypatch.setattr(module, "CPU_CACHES", tmp_path)
    monkeypatch.setattr(module, "_sysconf", lambda name: 0)
    assert module._linux_caches() == (48 * 1024, 2 * 1024**2, 2 * 1024**2)


@pytest.mark.parametrize(("text", "size"), [("48K\n", 49152), ("2M", 2**21), ("512", 512)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_a_feature_whose_needs_are_hidden_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Emulators show AVX-512 without FMA, say."""
    monkeypatch.setattr(module, "_read_linux", lambda: ({"avx2", "avx512f"}, "odd", (1, 2, 3)))
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(module.sys, "platform", "linux")
    assert module._host.__wrapped__().features == frozenset()
