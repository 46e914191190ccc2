"""Every environment flag in one table: name, default, meaning.

The flags are read once, when the package is imported; ``config`` holds their values, which
programs may change afterwards (``config.eager = True``). The documentation's table is generated
by ``flags_table``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

PREFIX = "TAIMATSU_"


class Flag(NamedTuple):
    """One environment flag; the type of ``default`` says how the text is read."""

    name: str
    default: bool | int | str
    meaning: str

    @property
    def attribute(self) -> str:
        """Its name in ``config``: ``TAIMATSU_EAGER`` is ``config.eager``."""
        return self.name.removeprefix(PREFIX).lower()


FLAGS: tuple[Flag, ...] = (
    Flag(
        "TAIMATSU_CACHE",
        "",
        "the folder of compiled code (by default `~/.cache/taimatsu`); `off` keeps none on disk",
    ),
    Flag(
        "TAIMATSU_CACHE_SIZE",
        512,
        "how many MiB the folder of compiled code may take",
    ),
    Flag(
        "TAIMATSU_DEVICE",
        "",
        "`cpu` makes every device a program asks for mean the CPU (`taimatsu run --device cpu`)",
    ),
    Flag(
        "TAIMATSU_EAGER",
        False,
        "1 carries out each operation on the NumPy reference as soon as it is recorded",
    ),
    Flag(
        "TAIMATSU_LOG",
        "",
        "comma-separated topics to print to standard error: `record`, `fusion`, `schedule`, "
        "`memory`, `ir`, `llvm`, `asm`, `cache`; `all`",
    ),
    Flag(
        "TAIMATSU_PROFILE",
        False,
        "1 times each kernel and prints at exit what it fused, its GFLOP/s and GB/s, and their "
        "share of the machine's peak",
    ),
    Flag(
        "TAIMATSU_SPECIALISE",
        True,
        "0 keeps hot kernels as they are: none is compiled again, in the background, for the "
        "sizes that it runs with",
    ),
    Flag(
        "TAIMATSU_VERIFY",
        False,
        "1 verifies each recorded program before it is carried out (the tests do)",
    ),
)

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})


def read_flag(flag: Flag, text: str | None) -> bool | int | str:
    """The value that ``text`` stands for; ``None`` gives the default. ValueError if it cannot."""
    if text is None:
        return flag.default
    if isinstance(flag.default, bool):
        word = text.strip().lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        raise ValueError(f"{flag.name}: expected 0 or 1; got {text!r}")
    if isinstance(flag.default, int):
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"{flag.name}: expected an integer; got {text!r}") from None
    return text.strip()


class Config:
    """The values of all flags, one attribute each."""

    cache: str
    cache_size: int
    device: str
    eager: bool
    log: str
    profile: bool
    specialise: bool
    verify: bool

    def __init__(self, environment: Mapping[str, str]) -> None:
        for flag in FLAGS:
            self.__dict__[flag.attribute] = read_flag(flag, environment.get(flag.name))

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dict__:
            known = ", ".join(self.__dict__)
            raise AttributeError(f"config has no flag {name!r}; known flags: {known}")
        self.__dict__[name] = value

    def logs(self, topic: str) -> bool:
        """Whether messages of this topic are wanted."""
        if not self.log:
            return False
        topics = {word.strip() for word in self.log.split(",")}
        return topic in topics or "all" in topics

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"Config({values})"


def flags_table() -> str:
    """The documentation's table of environment flags, in Markdown."""
    rows = ["| Flag | Default | Meaning |", "| --- | --- | --- |"]
    for flag in FLAGS:
        default = int(flag.default) if isinstance(flag.default, bool) else flag.default
        shown = f"`{default}`" if default != "" else "(empty)"
        rows.append(f"| `{flag.name}` | {shown} | {flag.meaning} |")
    return "\n".join(rows)


config = Config(os.environ)
