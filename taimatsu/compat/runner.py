"""``taimatsu run script.py``: runs an unmodified PyTorch script.

The script is ``__main__`` with its own ``sys.argv`` and ``sys.path``, and its ``import torch``
means taimatsu. Tracebacks, exit codes and interruptions are as under ``python script.py``.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable
from types import CodeType, ModuleType
from typing import Any, NoReturn

from taimatsu.compat import aliases

USAGE = """\
usage: taimatsu run [--device cpu] script.py [arguments ...]
       taimatsu run [--device cpu] -m module [arguments ...]
       taimatsu --version

Runs a PyTorch program on taimatsu: `import torch` and `import torchvision` mean taimatsu there.
`python -m taimatsu script.py` does the same.

options:
  --device cpu  every device that the program asks for (`cuda:0`) means the CPU
  -m module     runs a module, as `python -m module` does
  -h, --help    shows this text
"""

PACKAGE_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SHIMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "shims")


def main(argv: list[str] | None = None) -> None:
    """The command ``taimatsu``; ``argv`` without the program's name. Exits as the script does."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["run"]:
        del arguments[0]
    device = ""
    while arguments and arguments[0].startswith("-"):
        option = arguments.pop(0)
        if option in ("-h", "--help"):
            print(USAGE, end="")
            return
        if option == "--version":
            print(f"taimatsu {_version()}")
            return
        if option == "--device" or option.startswith("--device="):
            device = option.partition("=")[2] if "=" in option else _operand(option, arguments)
            if device != "cpu":
                _refuse(f"--device: expected cpu, got {device!r}")
        elif option == "-m":
            run_module(_operand(option, arguments), arguments, device)
            return
        else:
            _refuse(f"there is no option {option!r} (options of the script stand after its name)")
    if not arguments:
        _refuse("expected the name of a script")
    run_script(arguments[0], arguments[1:], device)


def _operand(option: str, arguments: list[str]) -> str:
    if not arguments:
        _refuse(f"{option}: expected a value after it")
    return arguments.pop(0)


def _refuse(message: str) -> NoReturn:
    print(f"taimatsu: {message}\n{USAGE}", end="", file=sys.stderr)
    raise SystemExit(2)


def _version() -> str:
    import taimatsu

    return taimatsu.__version__


# -- what runs -----------------------------------------------------------------------------


def run_script(script: str, arguments: list[str], device: str = "") -> None:
    """Runs a file (or a folder with a ``__main__.py``) as ``python script`` does."""
    path = os.path.join(script, "__main__.py") if os.path.isdir(script) else script
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        print(
            f"taimatsu: can't open file {os.path.abspath(path)!r}: [Errno {error.errno}] "
            f"{error.strerror}",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    prepare(os.path.dirname(os.path.realpath(path)), device)
    sys.argv[:] = [script, *arguments]
    module = _main_module(os.path.abspath(path))
    module.__loader__ = importlib.machinery.SourceFileLoader("__main__", path)
    _run(module, lambda: compile(source, path, "exec", dont_inherit=True))


def run_module(name: str, arguments: list[str], device: str = "") -> None:
    """Runs a module (a package's ``__main__``) as ``python -m name`` does."""
    prepare(os.getcwd(), device)
    sys.argv[:] = ["-m", *arguments]
    spec = _module_spec(name)
    sys.argv[0] = str(spec.origin)
    loader: Any = spec.loader
    module = _main_module(str(spec.origin))
    module.__spec__ = spec
    module.__loader__ = loader
    module.__package__ = spec.parent
    _run(module, lambda: loader.get_code(spec.name))


def _module_spec(name: str) -> importlib.machinery.ModuleSpec:
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        spec = None
    if spec is None or not hasattr(spec.loader, "get_code"):
        print(f"taimatsu: No module named {name}", file=sys.stderr)
        raise SystemExit(1)
    return spec


def prepare(folder: str, device: str) -> None:
    """What holds before the script's first line: its import path, its torch, its device.

    The environment variable and the folder of shims are for processes that the script starts.
    """
    if not sys.flags.safe_path:
        # In place of what Python put there: the current directory, or the command's folder.
        sys.path[0] = folder
    sys.path.insert(0 if sys.flags.safe_path else 1, SHIMS)
    if PACKAGE_ROOT not in sys.path:
        sys.path.append(PACKAGE_ROOT)
    if device:
        from taimatsu.config import config

        os.environ["TAIMATSU_DEVICE"] = device
        config.device = device
    aliases.install()


def _main_module(path: str) -> ModuleType:
    module = ModuleType("__main__")
    module.__file__ = path
    vars(module).update(__builtins__=sys.modules["builtins"], __annotations__={})
    sys.modules["__main__"] = module
    return module


def _run(module: ModuleType, code: Callable[[], CodeType]) -> None:
    """Executes the code in the module. What it raises ends the interpreter as usual.

    The traceback is printed here, without the runner's own frames; the exception goes on, so that
    the interpreter itself chooses the exit code (a signal for KeyboardInterrupt).
    """
    try:
        compiled = code()
    except SyntaxError as error:
        _report(error, None)
        raise
    try:
        exec(compiled, module.__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        _report(error, error.__traceback__.tb_next if error.__traceback__ else None)
        raise


def _report(error: BaseException, traceback: Any) -> None:
    sys.excepthook(type(error), error.with_traceback(traceback), traceback)
    sys.excepthook = lambda *details: None
