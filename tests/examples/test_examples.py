"""The example programs run, unchanged, and reach what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from taimatsu.examples import digits

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"

# Example, arguments that keep it short, and what its output must contain.
PROGRAMS = {
    "logistic_by_hand": (["--epochs", "3"], r"accuracy: 0\.(8[5-9]|9\d)"),
    "tensors_and_gradients": ([], r"eval\(\) is about layers"),
    "from_keras": ([], r"evaluation repeats itself"),
    "transfer_learning": (["--epochs", "2"], r"best validation accuracy: (0\.[89]\d|1\.00)"),
    "cnn": (["--epochs", "3"], r"epoch 3: test accuracy (0\.[89]\d|1\.00)"),
}


def run(*arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=cwd,
        env=environment,
    )


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(PROGRAMS)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_example(name, tmp_path):
    arguments, expected = PROGRAMS[name]
    done = run("-m", "taimatsu", str(EXAMPLES / f"{name}.py"), *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(expected, done.stdout), done.stdout


@pytest.mark.slow
def test_an_example_with_workers(tmp_path):
    arguments = [str(EXAMPLES / "cnn.py"), "--epochs", "1", "--workers", "2"]
    done = run("-m", "taimatsu", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    alone = run("-m", "taimatsu", *arguments[:-1], "0", cwd=tmp_path)
    assert done.stdout == alone.stdout  # the same batches, so the same numbers


@pytest.mark.slow
def test_the_main_job_reads_the_digits(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    score = digits.main(["--epochs", "8", "--out", str(tmp_path)])
    assert score.accuracy >= 0.97
    assert score.loss < 0.2
    printed = capsys.readouterr().out
    assert printed.startswith("Dataset Digits\n    Number of datapoints: 1437\n")
    assert len(re.findall(r"^epoch +\d+ ", printed, re.MULTILINE)) == 8
    for name in ("loss.png", "accuracy.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_the_main_job_as_a_command(tmp_path):
    arguments = ["--epochs", "1", "--no-plot"]
    done = run("-m", "taimatsu.examples.digits", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "epoch  1  train: loss" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_same_seed_gives_the_same_run(capsys):
    runs = []
    for seed in ("1", "1", "2"):
        digits.main(["--epochs", "1", "--no-plot", "--seed", seed])
        runs.append(re.findall(r"epoch .*", capsys.readouterr().out)[0])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
