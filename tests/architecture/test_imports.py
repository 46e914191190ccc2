"""The architecture, as the import statements have it: arrows that point the wrong way fail.

The layers are those of docs/architecture.md. Nothing is imported to find out: the files are parsed,
so a module that cannot be imported here (a GPU, an extra that is missing) is checked as well.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "taimatsu"
LONGEST_FILE = 600

# Bottom to top. A module imports from its own part and from the layers below; parts that share a
# layer do not import one another. EXCEPTIONS are the arrows allowed all the same.
LAYERS: tuple[frozenset[str], ...] = tuple(
    map(
        frozenset,
        [
            {"config", "errors", "forks", "version", "backends"},
            {"dtypes", "shapes", "devices"},
            {"ir", "generator", "return_types"},
            {"storage", "compiler", "runtime"},
            {"recorder", "evaluate"},
            {"ops"},
            {"autograd"},
            {"printing", "copying", "refusal"},
            {"tensor"},
            {"creation"},
            {"sequences", "legacy"},
            {"bindings"},
            {"namespace"},
            {"random", "serialization", "linalg", "fft", "special", "signal", "amp", "func"},
            {"nn", "utils", "optim", "distributed", "cuda"},
            {"vision"},
            {"compat", "examples"},
            {"__init__", "__main__"},
        ],
    )
)
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}

EXCEPTIONS = {
    ("evaluate", "recorder"),  # the evaluator carries out what the recorder wrote down
    ("tensor", "creation"),  # Tensor(...) and NumPy's protocols make tensors, when they are called
    ("tensor", "legacy"),
    ("optim", "nn"),
    ("distributed", "nn"),
    ("__main__", "__init__"),
}
# Arrows that go down, and yet must not be.
FORBIDDEN = {
    ("compiler", "ops"): "rules are reached through node.op",
    ("compiler", "runtime"): "machine facts are reached through Target",
    ("compiler", "storage"): "the compiler is functions from IR to IR",
    ("runtime", "ir"): "the runtime knows no operations",
    ("runtime", "ops"): "the runtime knows no operations",
    ("ir", "config"): "data structures have no settings",
}
# Programs: they use the public names, as any user does.
PUBLIC_USERS = {"vision", "compat", "examples", "__main__"}

REQUIRED = {"numpy", "llvmlite"}
# Optional packages, and where they may be imported (inside functions only).
OPTIONAL = {
    "ml_dtypes": ("taimatsu.dtypes",),
    "scipy": ("taimatsu",),
    "PIL": ("taimatsu.vision", "taimatsu.examples"),
    "matplotlib": ("taimatsu.vision", "taimatsu.utils", "taimatsu.examples"),
    "tqdm": ("taimatsu.vision", "taimatsu.utils", "taimatsu.examples"),
    "safetensors": ("taimatsu.serialization",),
    "onnx": ("taimatsu.compat",),
}


class Import(NamedTuple):
    target: str  # the module, as far as the statement tells: "taimatsu.ir.meta", "numpy"
    line: int
    at_top: bool  # carried out when the module is imported


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if len(parts) > 2 and parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts)


def part_of(module: str) -> str:
    """The part a module belongs to: the first name under the package."""
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else "__init__"


def imports_of(tree: ast.AST, module: str, is_package: bool) -> Iterator[Import]:
    """What a module imports, also inside functions; not under ``if TYPE_CHECKING``."""

    def visit(node: ast.AST, at_top: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, child.lineno, at_top)
            elif isinstance(child, ast.ImportFrom):
                base = absolute(child, module, is_package)
                for alias in child.names:
                    yield Import(submodule(base, alias.name), child.lineno, at_top)
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from visit(child, at_top and not function)

    yield from visit(tree, at_top=True)


def absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    """The module that ``from x import`` names, relative ones resolved."""
    if not node.level:
        return node.module or ""
    base = module.split(".")
    base = base[: len(base) - node.level + is_package]
    return ".".join([*base, *([node.module] if node.module else [])])


def submodule(base: str, name: str) -> str:
    """``from base import name``: the submodule where ``name`` is one, else ``base``."""
    directory = ROOT.joinpath(*base.split("."))
    if (directory / name).is_dir() or (directory / f"{name}.py").is_file():
        return f"{base}.{name}"
    return base


def read(path: Path) -> tuple[str, list[Import]]:
    module = module_name(path)
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return module, list(imports_of(tree, module, path.name == "__init__.py"))


def complaint(part: str, other: str) -> str:
    """What is wrong with ``part`` importing ``other``; empty where nothing is."""
    if part == other or (part, other) in EXCEPTIONS:
        return ""
    if (part, other) in FORBIDDEN:
        return FORBIDDEN[part, other]
    if other == "__init__" and part in PUBLIC_USERS:
        return ""
    if RANK[other] == RANK[part]:
        return f"{part} and {other} are peers"
    if RANK[other] > RANK[part]:
        return f"{other} stands above {part}; it may register itself there instead"
    return ""


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_imports_flow_one_way(path):
    module, imports = read(path)
    part = part_of(module)
    assert part in RANK, f"{module}: say in LAYERS where {part} stands"
    wrong = []
    for target, line, _ in imports:
        if target.split(".")[0] == "taimatsu":
            said = complaint(part, part_of(target))
            if said:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: imports {target}: {said}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_outside_packages(path):
    module, imports = read(path)
    wrong = []
    for target, line, at_top in imports:
        said = outside_complaint(module, target.split(".")[0], at_top)
        if said:
            wrong.append(f"{path.relative_to(ROOT)}:{line}: imports {target}: {said}")
    assert not wrong, "\n".join(wrong)


def outside_complaint(module: str, package: str, at_top: bool) -> str:
    if package == "taimatsu" or package in sys.stdlib_module_names:
        return ""
    if package in ("torch", "torchvision"):
        return "the package never imports PyTorch"
    if package == "llvmlite" and not module.startswith("taimatsu.compiler.codegen"):
        return "llvmlite appears only in compiler/codegen"
    if package in REQUIRED:
        return ""
    if package not in OPTIONAL:
        return "not among the dependencies of pyproject.toml"
    if not module.startswith(OPTIONAL[package]):
        return f"{package} is for {', '.join(OPTIONAL[package])}"
    return "an optional package is imported where it is used, inside the function" if at_top else ""


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_files_fit_in_the_head(path):
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    assert lines <= LONGEST_FILE, f"{lines} lines: split it at a natural seam"
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    several = [t.start[0] for t in tokens if t.type == tokenize.OP and t.string == ";"]
    assert not several, f"several statements on lines {several}"


def test_every_folder_with_modules_is_a_package():
    """setuptools leaves out folders without ``__init__.py``: they would be missing installed."""
    folders = {path.parent for path in sources()}
    missing = [f.relative_to(ROOT) for f in sorted(folders) if not (f / "__init__.py").is_file()]
    assert not missing, f"no __init__.py in {', '.join(map(str, missing))}"


class TestTheTestItself:
    """A test that cannot fail is a defect: the arrows it must refuse."""

    @pytest.mark.parametrize(
        ("source", "target"),
        [
            ("from taimatsu.tensor import Tensor", "taimatsu.tensor"),
            ("from taimatsu import recorder", "taimatsu.recorder"),
            ("def f():\n    import taimatsu.ops.base", "taimatsu.ops.base"),
            ("from ..ops import base", "taimatsu.ops.base"),
            ("try:\n    import taimatsu\nexcept ImportError:\n    pass", "taimatsu"),
        ],
    )
    def test_imports_are_found(self, source, target):
        found = list(imports_of(ast.parse(source), "taimatsu.ir.meta", is_package=False))
        assert [i.target for i in found] == [target]
        assert complaint("ir", part_of(target))

    def test_type_checking_does_not_count(self):
        source = "if TYPE_CHECKING:\n    from taimatsu.tensor import Tensor"
        assert not list(imports_of(ast.parse(source), "taimatsu.ir.meta", is_package=False))

    def test_refused_and_allowed(self):
        assert complaint("compiler", "ops")
        assert complaint("runtime", "ir")
        assert complaint("nn", "vision")
        assert complaint("nn", "__init__")
        assert complaint("utils", "nn")
        assert not complaint("vision", "nn")
        assert not complaint("tensor", "evaluate")
        assert outside_complaint("taimatsu.compat.runner", "torch", at_top=False)
        assert outside_complaint("taimatsu.runtime.cpu", "llvmlite", at_top=False)
        assert outside_complaint("taimatsu.dtypes", "ml_dtypes", at_top=True)
        assert not outside_complaint("taimatsu.dtypes", "ml_dtypes", at_top=False)
