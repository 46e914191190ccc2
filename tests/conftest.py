"""What every test stands on: fixed seeds, untouched global settings, PyTorch where it is there."""

from __future__ import annotations

import gc
import importlib.util
import itertools
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from taimatsu import dtypes
from taimatsu.config import config

# The same examples in every run, so that a failure is the change's and not the draw's;
# `--hypothesis-profile=search` looks further.
settings.register_profile(
    "fixed", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile("fixed")

config.verify = True
# Compiled code is shared by the test processes, and kept for the next run, apart from the user's.
config.cache = config.cache or str(Path(__file__).parents[1] / ".pytest_cache" / "compiled")

MARKERS = {
    "slow": "takes more than a few seconds; left out with --fast",
    "exhaustive": "the same on more targets and seeds; left out without --exhaustive",
    "parity": "compares with PyTorch; skipped where it is not installed",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="leave out the tests marked slow")
    parser.addoption("--exhaustive", action="store_true", help="run also those marked exhaustive")
    parser.addoption(
        "--require-torch", action="store_true", help="fail instead of skipping without PyTorch"
    )


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    if config.getoption("--require-torch") and importlib.util.find_spec("torch") is None:
        raise pytest.UsageError("--require-torch: PyTorch is not installed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    has_torch = importlib.util.find_spec("torch") is not None
    for item in items:
        if config.getoption("--fast") and "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow; --fast was given"))
        if "exhaustive" in item.keywords and not config.getoption("--exhaustive"):
            item.add_marker(pytest.mark.skip(reason="many: --exhaustive runs it"))
        if "torch" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.parity)
        if "parity" in item.keywords and not has_torch:
            item.add_marker(pytest.mark.skip(reason="PyTorch is not installed"))


TESTS = itertools.count(1)


def pytest_runtest_teardown() -> None:
    """What tests leave behind (programs, kernels) is not gone through by each collection after."""
    if next(TESTS) % 50 == 0:
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def torch() -> ModuleType:
    """PyTorch, to compare with; the test is skipped where it is not installed."""
    module = pytest.importorskip("torch")
    module.set_num_threads(1)
    return module


@pytest.fixture(autouse=True)
def same_start() -> Iterator[None]:
    """Each test begins with the same seeds and leaves the global settings as they were."""
    random.seed(0)
    np.random.seed(0)
    for name in ("taimatsu", "torch"):
        module = sys.modules.get(name)
        if hasattr(module, "manual_seed"):
            module.manual_seed(0)
    default = dtypes.get_default_dtype()
    yield
    dtypes.set_default_dtype(default)


@pytest.fixture
def rng() -> np.random.Generator:
    """A NumPy generator that starts the same in every test."""
    return np.random.default_rng(0)
