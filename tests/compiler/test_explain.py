"""Programs as text, and the profile of their kernels."""

from __future__ import annotations

import pytest

import taimatsu
from taimatsu.config import config
from taimatsu.evaluate.explain import program_text
from taimatsu.evaluate.profile import PROFILE

pytestmark = pytest.mark.skipif(
    config.eager, reason="with TAIMATSU_EAGER=1 there are no kernels to show"
)


def work(x: taimatsu.Tensor) -> float:
    return (x.tanh() * 2 + 1).sum().item()


def test_a_program_is_shown_with_its_operations_kernels_and_memory() -> None:
    work(taimatsu.ones(300))  # also of a program that is there already, whose loops are gone
    text = program_text(work, taimatsu.ones(300))
    assert "tanh(%0:float32[300])" in text
    assert "test_explain.py" in text  # the lines that recorded what a kernel fused
    assert "vector i" in text
    assert "tanh(" in text
    assert "intermediate values: " in text


def test_a_profile_names_kernels_and_their_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "profile", True)
    monkeypatch.setattr(PROFILE, "entries", {})
    monkeypatch.setattr(PROFILE, "_registered", True)  # nothing is printed at exit
    want = work(taimatsu.ones(300))
    table = PROFILE.table()
    assert "GFLOP/s" in table
    assert "GB/s" in table
    assert "tanh (" in table
    assert "test_explain.py" in table
    assert want == pytest.approx(300 * (2 * 0.7615941559557649 + 1), rel=1e-5)
