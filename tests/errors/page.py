"""Writes docs/errors.md from the corpus of wrong programs: ``python tests/errors/page.py``."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / "docs" / "errors.md"
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from errors import corpus  # noqa: E402

import taimatsu  # noqa: E402

INTRODUCTION = """\
# Common mistakes

Programs go wrong in the same ways again and again. This page lists those ways, the line that makes
the mistake, and what taimatsu says of it. Messages keep PyTorch's key words, so that a search for
them finds what others wrote, and add what was expected, what came and how to mend it. The error's
type is PyTorch's, and it is raised at the call that made the mistake, although operations are
recorded and carried out later.

The table is made by `python tests/errors/page.py` from the wrong programs in `tests/errors`, which
the tests run; edit those, not this page.
"""

TITLES = {
    "creation": "Making tensors",
    "shapes": "Shapes",
    "indexing": "Indexing and reading values",
    "dtypes": "Dtypes",
    "gradients": "Gradients",
    "losses": "Losses",
    "layers": "Layers",
    "modules": "Modules and weights",
    "training": "Optimizers and schedules",
    "data": "Data loading",
    "images": "Images",
}


def cell(text: str) -> str:
    """Text for a cell of a table: on one line, without what would end the cell."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    """Text as code, whatever quotes it holds."""
    text = cell(text)
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def row(wrong: corpus.Wrong) -> str:
    """One mistake: in words, the line that makes it, the message."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        error = wrong.run(taimatsu)
    assert error is not None, wrong.name
    message = corpus.displayed(error).replace(str(ROOT) + "/", "")
    message = re.sub(r"tests/errors/\w+\.py:\d+", "train.py:12", message)
    return f"| {cell(wrong.mistake)} | {code(wrong.source_line())} | {code(message)} |"


def text() -> str:
    """The page."""
    taimatsu.manual_seed(0)
    found = corpus.load()
    parts = [INTRODUCTION]
    for theme, title in TITLES.items():
        rows = [row(wrong) for wrong in found if wrong.theme == theme]
        table = ["| Mistake | The line | The message |", "| --- | --- | --- |", *rows]
        parts.append(f"## {title}\n\n" + "\n".join(table) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PATH.write_text(text())
