"""The machine that code is made for: instruction sets, vector registers, caches, cores.

A ``Target`` is all that the compiler knows of a machine. It is read without llvmlite, so that the
process which only loads kernels need not import it, and it can be made up: tests compile for
machines with features switched off, or for another architecture.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
CPU_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")

# What a feature brings along (LLVM's rule too): without these it is switched off as well.
REQUIRES: dict[str, tuple[str, ...]] = {
    "sse4.2": ("sse4.1",),
    "avx": ("sse4.2",),
    "f16c": ("avx",),
    "fma": ("avx",),
    "avx2": ("avx",),
    "avx512f": ("avx2", "f16c", "fma"),
    "avx512bw": ("avx512f",),
    "avx512dq": ("avx512f",),
    "avx512vl": ("avx512f",),
    "avx512vnni": ("avx512f",),
    "avx512bf16": ("avx512bw",),
}
X86_FEATURES = frozenset({"sse4.1", "bmi2", "popcnt", *REQUIRES})
ARM_FEATURES = frozenset({"neon", "fma", "fullfp16", "dotprod", "bf16"})

# Names in /proc/cpuinfo that are not LLVM's.
LINUX_NAMES = {
    "sse4_1": "sse4.1",
    "sse4_2": "sse4.2",
    "avx512_vnni": "avx512vnni",
    "avx512_bf16": "avx512bf16",
    "asimd": "neon",
    "asimdhp": "fullfp16",
    "asimddp": "dotprod",
}
# Names in sysctl's machdep.cpu.features and leaf7_features.
DARWIN_NAMES = {"AVX1.0": "avx"}
# Numbers for IsProcessorFeaturePresent.
WINDOWS_NUMBERS = {"sse4.1": 37, "sse4.2": 38, "avx": 39, "avx2": 40, "avx512f": 41}

KIB = 1024
# What every machine of the last ten years has at least: used where nothing can be read.
DEFAULT_CACHES = (32 * KIB, 256 * KIB, 2048 * KIB)


@dataclass(frozen=True, slots=True)
class Target:
    """A machine, as code is made for it. Equal targets give equal code.

    ``cpu`` is LLVM's name of the baseline; what a machine has beyond it is in ``features``
    (LLVM's names; ``"fma"`` stands for fused multiply-add on every architecture). Sizes are in
    bytes, caches are those one core sees. ``cores`` and ``model`` describe the machine and do not
    decide what is generated: work is cut by extents, not by threads.
    """

    triple: str
    cpu: str
    features: frozenset[str]
    vector_bytes: int
    vector_registers: int
    l1_bytes: int = DEFAULT_CACHES[0]
    l2_bytes: int = DEFAULT_CACHES[1]
    l3_bytes: int = DEFAULT_CACHES[2]
    cores: int = 1
    model: str = "unknown"

    @classmethod
    def host(cls) -> Target:
        """The machine this process runs on; read once."""
        return _host()

    @classmethod
    def of(cls, triple: str, features: frozenset[str] | set[str] = frozenset()) -> Target:
        """A machine of an architecture with the features named, and those they bring along.

        Raises ValueError for an architecture or a feature that is not known.
        """
        architecture = triple.split("-", maxsplit=1)[0]
        if architecture in ("x86_64", "amd64"):
            known, cpu, always = X86_FEATURES, "x86-64", frozenset[str]()
        elif architecture in ("aarch64", "arm64"):
            known, cpu, always = ARM_FEATURES, "generic", frozenset({"neon", "fma"})
        else:
            raise ValueError(
                f"[Target] expected x86_64 or aarch64, got the triple {triple!r}; "
                "on other machines programs run on the NumPy reference (TAIMATSU_EAGER=1)"
            )
        unknown = frozenset(features) - known
        if unknown:
            raise ValueError(
                f"[Target] expected features of {architecture}, got {sorted(unknown)}; "
                f"known are {sorted(known)}"
            )
        present = _with_required(features) | always
        return cls(triple, cpu, present, *_vectors(cpu, present))

    def without(self, *features: str) -> Target:
        """The same machine with features switched off, and those that need them.

        Raises ValueError for a feature that no machine of this architecture has.
        """
        known = X86_FEATURES if self.is_x86 else ARM_FEATURES
        unknown = set(features) - known
        if unknown:
            raise ValueError(
                f"[Target.without] expected features out of {sorted(known)}, got {sorted(unknown)}"
            )
        present = self.features - frozenset(features)
        while True:
            kept = frozenset(f for f in present if present.issuperset(REQUIRES.get(f, ())))
            if kept == present:
                break
            present = kept
        vector_bytes, vector_registers = _vectors(self.cpu, present)
        return replace(
            self,
            features=present,
            vector_bytes=vector_bytes,
            vector_registers=vector_registers,
        )

    @property
    def is_x86(self) -> bool:
        return self.cpu == "x86-64"

    @property
    def fma(self) -> bool:
        """Whether one instruction multiplies and adds with one rounding."""
        return "fma" in self.features

    def has(self, feature: str) -> bool:
        return feature in self.features

    def lanes(self, item_bytes: int) -> int:
        """How many numbers of a size one vector register holds."""
        return self.vector_bytes // item_bytes

    @property
    def llvm_features(self) -> str:
        """The features as LLVM takes them: ``"+avx2,+fma"``."""
        names = self.features if self.is_x86 else self.features - {"fma"}
        return ",".join(f"+{name}" for name in sorted(names))

    def key(self) -> str:
        """What code for this machine is cached under: all that decides it, and no more."""
        parts = (
            self.triple,
            self.cpu,
            self.llvm_features,
            self.vector_bytes,
            self.vector_registers,
            self.l1_bytes,
            self.l2_bytes,
            self.l3_bytes,
        )
        return "|".join(map(str, parts))

    def __str__(self) -> str:
        caches = "/".join(f"{size // KIB}K" for size in (self.l1_bytes, self.l2_bytes))
        return f"{self.triple} {self.vector_bytes * 8}-bit vectors, caches {caches}"


def _with_required(features: frozenset[str] | set[str]) -> frozenset[str]:
    """The features together with all that they bring along."""
    found: set[str] = set()
    waiting = list(features)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(REQUIRES.get(name, ()))
    return frozenset(found)


def _vectors(cpu: str, features: frozenset[str]) -> tuple[int, int]:
    """Size in bytes, and number, of the vector registers."""
    if cpu != "x86-64":
        return 16, 32
    if "avx512f" in features:
        return 64, 32
    return (32 if "avx2" in features else 16), 16


# -- reading the host ------------------------------------------------------------------------


@cache
def _host() -> Target:
    machine = platform.machine().lower()
    architecture = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    if sys.platform == "darwin":
        triple, (names, model, caches) = f"{architecture}-apple-darwin", _read_darwin()
    elif sys.platform == "win32":
        triple, (names, model, caches) = f"{architecture}-pc-windows-msvc", _read_windows()
    else:
        triple, (names, model, caches) = f"{architecture}-unknown-linux-gnu", _read_linux()
    known = X86_FEATURES if architecture == "x86_64" else ARM_FEATURES
    # An emulator or hypervisor may hide a part of what a feature needs: then it is not used.
    named = Target.of(triple, names & known)
    missing = named.features - names - {"neon", "fma"} if architecture == "x86_64" else ()
    target = named.without(*missing)
    l1, l2, l3 = caches
    return replace(target, l1_bytes=l1, l2_bytes=l2, l3_bytes=l3, cores=_cores(), model=model)


def _cores() -> int:
    """The logical processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


Reading = tuple[set[str], str, tuple[int, int, int]]  # features, model, caches


def _read_linux() -> Reading:
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    names, model = parse_cpuinfo(text)
    return names, model, _linux_caches()


def parse_cpuinfo(text: str) -> tuple[set[str], str]:
    """Features (LLVM's names) and model of the first processor in ``/proc/cpuinfo``."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    flags = fields.get("flags", fields.get("Features", "")).split()
    names = {LINUX_NAMES.get(flag, flag) for flag in flags}
    return names, fields.get("model name", fields.get("CPU part", "unknown"))


def _linux_caches() -> tuple[int, int, int]:
    """Data caches of processor 0, by level: sysfs, else sysconf, else the defaults."""
    sizes: dict[int, int] = {}
    for entry in CPU_CACHES.glob("index*"):
        try:
            if (entry / "type").read_text().strip() != "Instruction":
                level = int((entry / "level").read_text())
                sizes[level] = parse_size((entry / "size").read_text())
        except (OSError, ValueError):
            continue
    for level, name in enumerate(("LEVEL1_DCACHE", "LEVEL2_CACHE", "LEVEL3_CACHE"), start=1):
        if level not in sizes:
            sizes[level] = _sysconf(f"SC_{name}_SIZE")
    return _filled(sizes.get(1, 0), sizes.get(2, 0), sizes.get(3, 0))


def parse_size(text: str) -> int:
    """A size as sysfs writes it, in bytes: ``"48K"`` is 49152."""
    text = text.strip()
    unit = {"K": KIB, "M": KIB**2, "G": KIB**3}.get(text[-1:].upper())
    return int(text[:-1]) * unit if unit else int(text)


def _sysconf(name: str) -> int:
    try:
        return max(os.sysconf(name), 0)
    except (AttributeError, OSError, ValueError):
        return 0


def _filled(l1: int, l2: int, l3: int) -> tuple[int, int, int]:
    """Caches with the defaults where nothing is known; without a third level, the second's size."""
    l1 = l1 or DEFAULT_CACHES[0]
    l2 = max(l2 or DEFAULT_CACHES[1], l1)
    return l1, l2, max(l3, l2)


def _read_darwin() -> Reading:
    listed = _sysctl_text("machdep.cpu.features") + " " + _sysctl_text("machdep.cpu.leaf7_features")
    names = {DARWIN_NAMES.get(name, name.lower()) for name in listed.split()}
    arm = {
        "fullfp16": "hw.optional.arm.FEAT_FP16",
        "dotprod": "hw.optional.arm.FEAT_DotProd",
        "bf16": "hw.optional.arm.FEAT_BF16",
    }
    names.update(feature for feature, entry in arm.items() if _sysctl_number(entry) == 1)
    caches = _filled(
        _sysctl_number("hw.perflevel0.l1dcachesize") or _sysctl_number("hw.l1dcachesize"),
        _sysctl_number("hw.perflevel0.l2cachesize") or _sysctl_number("hw.l2cachesize"),
        _sysctl_number("hw.l3cachesize"),
    )
    return names, _sysctl_text("machdep.cpu.brand_string") or "unknown", caches


def _sysctl(name: str) -> bytes:
    """The raw value of a sysctl entry; empty where there is none."""
    read = ctypes.CDLL(None).sysctlbyname
    size = ctypes.c_size_t(0)
    if read(name.encode(), None, ctypes.byref(size), None, 0) != 0:
        return b""
    buffer = ctypes.create_string_buffer(size.value)
    if read(name.encode(), buffer, ctypes.byref(size), None, 0) != 0:
        return b""
    return buffer.raw[: size.value]


def _sysctl_text(name: str) -> str:
    return _sysctl(name).rstrip(b"\0").decode(errors="replace")


def _sysctl_number(name: str) -> int:
    return int.from_bytes(_sysctl(name), sys.byteorder)


def _read_windows() -> Reading:
    present = getattr(ctypes, "windll").kernel32.IsProcessorFeaturePresent  # noqa: B009
    names = {name for name, number in WINDOWS_NUMBERS.items() if present(number)}
    if "avx512f" in names:
        # Windows does not tell of FMA and F16C; every processor with AVX-512 has both.
        names |= {"f16c", "fma"}
    return names, platform.processor() or "unknown", DEFAULT_CACHES
