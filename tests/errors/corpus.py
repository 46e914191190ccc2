"""What the corpus of wrong programs stands on: the record of one, and the library under test.

A program is a function written as a user writes it, with ``torch``, ``nn`` and ``F`` imported from
here: they stand for taimatsu or for PyTorch, whichever the test runs the program with. The line
that makes the mistake is the last one, or ends in the comment ``# wrong``.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

THEMES = (
    "creation", "shapes", "indexing", "dtypes", "gradients", "losses", "layers", "modules",
    "training", "data", "images",
)  # fmt: skip


class Library:
    """Stands for a module of the library under test."""

    def __init__(self, path: str = "") -> None:
        self.__dict__["path"] = path

    def __getattr__(self, name: str) -> Any:
        found = _module
        for part in self.path.split(".") if self.path else ():
            found = getattr(found, part)
        return getattr(found, name)


_module: ModuleType
torch = Library()
nn = Library("nn")
F = Library("nn.functional")


@contextlib.contextmanager
def library(module: ModuleType) -> Iterator[None]:
    """The programs run with this library meanwhile."""
    global _module
    for part in ("nn", "optim", "utils.data"):
        importlib.import_module(f"{module.__name__}.{part}")
    _module = module
    yield
    del _module


@dataclass(frozen=True)
class Wrong:
    """One wrong program: the error's type, and words of its message in three kinds."""

    program: Callable[..., None]
    kind: type[BaseException] | tuple[type[BaseException], ...]
    expected: tuple[str, ...]
    got: tuple[str, ...]
    mend: tuple[str, ...]
    parity: bool

    @property
    def name(self) -> str:
        return self.program.__name__

    @property
    def theme(self) -> str:
        return self.program.__module__.rpartition(".")[2]

    @property
    def mistake(self) -> str:
        """The program's docstring: what the user did, in words."""
        return " ".join((self.program.__doc__ or "").split())

    @property
    def words(self) -> tuple[str, ...]:
        return self.expected + self.got + self.mend

    def line(self) -> int:
        """The number of the line that makes the mistake."""
        source, first = inspect.getsourcelines(self.program)
        marked = [i for i, text in enumerate(source) if text.rstrip().endswith("# wrong")]
        return first + (marked[0] if marked else len(source) - 1)

    def source_line(self) -> str:
        """The line that makes the mistake, as the user wrote it."""
        source, first = inspect.getsourcelines(self.program)
        return source[self.line() - first].replace("# wrong", "").strip()

    def run(self, module: ModuleType) -> BaseException | None:
        """The error that the program ends with under this library; None if it ends without."""
        with library(module):
            try:
                self.program()
            except Exception as error:
                return error
        return None

    def error_line(self, error: BaseException) -> int | None:
        """The last line of the program that the traceback passes through."""
        own = self.program.__code__.co_filename
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == own]
        return frames[-1].lineno if frames else None


def displayed(error: BaseException) -> str:
    """What Python prints of an error, its own suggestions for misspelt names included."""
    state = error.__traceback__, error.__context__, error.__suppress_context__
    error.__traceback__ = error.__context__ = None
    shown = io.StringIO()
    with contextlib.redirect_stderr(shown):
        sys.__excepthook__(type(error), error, None)
    error.__traceback__, error.__context__, error.__suppress_context__ = state
    return shown.getvalue().strip()


CORPUS: list[Wrong] = []


def wrong(
    kind: type[BaseException] | tuple[type[BaseException], ...],
    expected: str | tuple[str, ...] = (),
    got: str | tuple[str, ...] = (),
    mend: str | tuple[str, ...] = (),
    parity: bool = True,
) -> Callable[[Callable], Callable]:
    """Enters a wrong program. ``parity=False`` where PyTorch lets it pass or lacks the part."""

    def words(given: str | tuple[str, ...]) -> tuple[str, ...]:
        return tuple(w for w in ((given,) if isinstance(given, str) else given) if w)

    def enter(program: Callable) -> Callable:
        CORPUS.append(Wrong(program, kind, words(expected), words(got), words(mend), parity))
        return program

    return enter


def load() -> list[Wrong]:
    """The whole corpus, by theme."""
    for theme in THEMES:
        importlib.import_module(f"errors.{theme}")
    return CORPUS
