"""``taimatsu run script.py``: the aliases, and the script's life as under ``python script.py``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def python(*arguments, cwd, check=True, **options):
    """Runs Python there; the package is found as it is from a checkout."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    environment.pop("TAIMATSU_DEVICE", None)
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def script(tmp_path):
    """Writes a script and runs it through ``python -m taimatsu``."""

    def run(source, *arguments, before=(), check=True):
        path = tmp_path / "script.py"
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        return python("-m", "taimatsu", *before, path, *arguments, cwd=tmp_path, check=check)

    return run


def test_modules_are_the_same_objects(script):
    script(
        """
        import sys
        import torch
        import torch.nn.functional as F
        import torch.optim.lr_scheduler
        import torchvision
        import torchvision.transforms as transforms
        from torch.autograd import Variable
        from torch.utils.data import DataLoader
        from torchvision import datasets
        import taimatsu.vision.transforms

        assert torch is sys.modules["taimatsu"]
        assert F is sys.modules["taimatsu.nn.functional"] is torch.nn.functional
        assert torch.nn.Linear is sys.modules["taimatsu.nn"].Linear
        assert torchvision is sys.modules["taimatsu.vision"]
        assert transforms is taimatsu.vision.transforms
        assert datasets is torchvision.datasets
        assert torch.nn.__spec__.name == "taimatsu.nn", "relative imports need it"
        assert isinstance(torch.ones(2), Variable)
        """
    )


def test_a_script_trains(script):
    done = script(
        """
        import torch
        from torch import nn

        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        x = torch.randn(20, 3)
        losses = []
        for _ in range(10):
            loss = ((model(x) - x.sum(1, keepdim=True)) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(losses[-1] < losses[0])
        """
    )
    assert done.stdout == "True\n"


def test_the_scripts_world(script, tmp_path):
    (tmp_path / "neighbour.py").write_text("name = __name__\n", encoding="utf-8")
    done = script(
        """
        import sys, os, pickle
        import neighbour
        class Kept: pass
        assert pickle.loads(pickle.dumps(Kept())).__class__ is Kept
        assert sys.modules["__main__"].Kept is Kept
        assert __name__ == "__main__" and os.path.isabs(__file__) and __spec__ is None
        assert sys.path[0] == os.path.dirname(os.path.realpath(__file__))
        print(sys.argv[1:])
        """,
        "--device",
        "x",
        "-m",
    )
    assert done.stdout == "['--device', 'x', '-m']\n"


@pytest.mark.parametrize("before", [("run",), ()])
def test_both_ways_to_call(script, before):
    assert script("print(7)", before=before).stdout == "7\n"


def test_tracebacks_are_as_pythons(script, tmp_path):
    source = """
    def outer():
        try:
            {}["a"]
        except KeyError as error:
            raise ValueError("no such thing") from error

    outer()
    """
    ours = script(source, check=False)
    theirs = python(tmp_path / "script.py", cwd=tmp_path, check=False)
    assert ours.stderr == theirs.stderr
    assert ours.returncode == theirs.returncode == 1


def test_syntax_errors_are_as_pythons(script, tmp_path):
    ours = script("x = (\n", check=False)
    theirs = python(tmp_path / "script.py", cwd=tmp_path, check=False)
    assert ours.stderr == theirs.stderr
    assert ours.returncode == theirs.returncode == 1


@pytest.mark.parametrize(
    ("source", "code"), [("import sys; sys.exit(3)", 3), ("raise SystemExit", 0)]
)
def test_exit_codes(script, source, code):
    assert script(source, check=False).returncode == code


def test_exit_messages(script):
    done = script("raise SystemExit('over')", check=False)
    assert (done.returncode, done.stderr) == (1, "over\n")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_interruption_ends_by_the_signal(script):
    source = "import atexit; atexit.register(print, 'bye'); raise KeyboardInterrupt"
    done = script(source, check=False)
    assert done.returncode == -signal.SIGINT
    assert done.stdout == "bye\n"
    assert done.stderr.count("KeyboardInterrupt") == 2  # the source line and the type
    assert "runner" not in done.stderr


def test_the_scripts_own_excepthook(script):
    done = script(
        """
        import sys, traceback
        def hook(kind, error, tb):
            print(kind.__name__, len(traceback.extract_tb(tb)))
        sys.excepthook = hook
        1 / 0
        """,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("ZeroDivisionError 1\n", "", 1)


def test_missing_modules_and_names_are_named(script):
    done = script(
        """
        import torch
        for source in ("import torch.nothing", "import torchvision.nothing.at_all"):
            try:
                exec(source)
            except ModuleNotFoundError as error:
                print(error.name, "|", error)
        try:
            torch.nothing
        except AttributeError as error:
            print(error)
        try:
            from torch.nn import nothing
        except ImportError as error:
            print(error)
        print(hasattr(torch, "nothing"))
        """
    )
    first, second, third, fourth, last = done.stdout.splitlines()
    assert first.startswith("torch.nothing | taimatsu has no 'torch.nothing'")
    assert second.startswith("torchvision.nothing | taimatsu has no 'torchvision.nothing'")
    assert third.endswith("taimatsu has no 'torch.nothing'")
    assert "'nothing'" in fourth
    assert last == "False"


ASKS_FOR_CUDA = """
import torch
print(torch.ones(2, device="cuda:0") + torch.ones(2).cuda())
torch.cuda.set_device(0)
torch.cuda.synchronize()
print(torch.cuda.is_available(), torch.ones(1).to(torch.device("cuda")).device)
"""


def test_a_missing_gpu_is_an_error_that_says_how_to_go_on(script):
    done = script(ASKS_FOR_CUDA, check=False)
    assert done.returncode == 1
    assert "AssertionError" in done.stderr
    assert "taimatsu run --device cpu" in done.stderr


@pytest.mark.parametrize("option", [("--device", "cpu"), ("--device=cpu",)])
def test_device_cpu(script, option):
    done = script(ASKS_FOR_CUDA, before=("run", *option))
    assert done.stdout == "tensor([2., 2.])\nFalse cpu\n"
    assert done.stderr.splitlines() == [
        "taimatsu: the program asks for 'cuda:0'; it runs on the CPU"
    ]


def test_spawned_processes_have_the_aliases_and_the_device(script):
    done = script(
        """
        import multiprocessing
        import torch
        from torchvision import transforms

        def work(n):
            return torch.__name__, torch.ones(n, device="cuda").sum().item()

        if __name__ == "__main__":
            print(torch.zeros(1, device="cuda").item())
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(work, [2]))
        """,
        before=("--device", "cpu"),
    )
    assert done.stdout == "0.0\n[('taimatsu', 2.0)]\n"
    assert done.stderr.count("\n") == 1, "the workers leave the message to the program"


def test_modules_run_too(tmp_path):
    package = tmp_path / "project"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "part.py").write_text("import torch\nvalue = torch.ones(2)\n", encoding="utf-8")
    (package / "__main__.py").write_text(
        "import sys\nfrom .part import value\nprint(value, __name__, __package__, sys.argv[1:])\n",
        encoding="utf-8",
    )
    done = python("-m", "taimatsu", "run", "-m", "project", "-x", cwd=tmp_path)
    assert done.stdout == "tensor([1., 1.]) __main__ project ['-x']\n"
    done = python("-m", "taimatsu", "run", "-m", "project.nothing", cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (1, "taimatsu: No module named project.nothing\n")


def test_folders_run_by_their_main(tmp_path):
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "__main__.py").write_text("print(__file__)\n", encoding="utf-8")
    done = python("-m", "taimatsu", "program", cwd=tmp_path)
    assert done.stdout.strip().endswith(os.path.join("program", "__main__.py"))


def test_usage(tmp_path):
    assert "usage: taimatsu run" in python("-m", "taimatsu", "--help", cwd=tmp_path).stdout
    assert python("-m", "taimatsu", "--version", cwd=tmp_path).stdout.startswith("taimatsu ")
    for wrong, said in [
        ([], "expected the name of a script"),
        (["--fast", "x.py"], "there is no option '--fast'"),
        (["--device", "cuda", "x.py"], "expected cpu, got 'cuda'"),
        (["--device"], "expected a value"),
        (["nothing.py"], "can't open file"),
    ]:
        done = python("-m", "taimatsu", *wrong, cwd=tmp_path, check=False)
        assert done.returncode == 2
        assert said in done.stderr


def test_refuses_beside_the_real_torch(tmp_path):
    source = """
    import sys, types
    sys.modules["torch"] = types.ModuleType("torch")
    from taimatsu.compat import aliases
    try:
        aliases.install()
    except ImportError as error:
        print(error)
    """
    done = python("-c", textwrap.dedent(source), cwd=tmp_path)
    assert "expected that 'torch' is not imported yet" in done.stdout


def test_uninstall(tmp_path):
    source = """
    import sys
    from taimatsu.compat import aliases
    aliases.install()
    aliases.install()
    import torch.nn
    aliases.uninstall()
    assert not [name for name in sys.modules if name.startswith("torch")]
    assert "taimatsu.nn" in sys.modules
    assert aliases._finder not in sys.meta_path
    """
    python("-c", textwrap.dedent(source), cwd=tmp_path)
