"""The generator's numbers against PyTorch's, in one long program that mixes all distributions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from taimatsu import dtypes
from taimatsu.generator import Generator, discrete, fill
from taimatsu.ops.sampling import multinomial_without_replacement

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
COUNTS = (0, 1, 2, 7, 15, 16, 17, 32, 33, 100, 1000, 40_001)

Case = tuple[str, Callable[[], Any], Callable[[Generator], np.ndarray]]


ALL_DTYPES: list[tuple] = [
    ("random_", fill.integers),
    ("random_", fill.integers_between, 3, 90),
    ("bernoulli_", fill.bernoulli, 0.3),
    ("geometric_", fill.geometric, 0.3),
]
FLOATING_DTYPES: list[tuple] = [
    *ALL_DTYPES,
    ("uniform_", fill.uniform),
    ("uniform_", fill.uniform, -0.3, 0.7),
    ("normal_", fill.normal),
    ("normal_", fill.normal, 1.3, 0.02),
    ("normal_", fill.normal, 0.0, 0.02),
    ("exponential_", fill.exponential, 1.5),
    ("cauchy_", fill.cauchy, 0.5, 2.0),
    ("log_normal_", fill.log_normal),
]


def case_of(name: str, count: int, method: str, function: Callable, *arguments: float) -> Case:
    """An in-place method on an empty tensor, and the function that should give its numbers."""
    theirs, ours = getattr(torch, name), getattr(dtypes, name).numpy

    def expected() -> Any:
        return getattr(torch.empty(count, dtype=theirs), method)(*arguments)

    label = f"{name}[{count}].{method}{arguments}"
    return label, expected, lambda g: function(g, count, ours, *arguments)


def other_cases() -> list[Case]:
    cases: list[Case] = []
    int64 = np.dtype(np.int64)
    wide = 1 << 28  # from this range on, 64 bits are drawn for each integer
    for low, high in ((0, 10), (-5, wide), (-5, wide - 6), (0, 1 << 40), (-(1 << 62), 1 << 62)):
        cases.append((
            f"randint({low}, {high})",
            lambda low=low, high=high: torch.randint(low, high, (999,)),
            lambda g, low=low, high=high: fill.integers_between(g, 999, int64, low, high),
        ))  # fmt: skip
    for n in (0, 1, 2, 10, 3000):
        cases.append((
            f"randperm({n})",
            lambda n=n: torch.randperm(n),
            lambda g, n=n: fill.permutation(g, n, int64),
        ))  # fmt: skip
    for name in FLOATS:
        p = torch.linspace(0, 1, 501).to(getattr(torch, name))
        cases.append((
            f"bernoulli({name})",
            lambda p=p: torch.bernoulli(p),
            lambda g, p=p: fill.bernoulli_of(g, to_numpy(p), to_numpy(p).dtype),
        ))  # fmt: skip
    return cases


def to_numpy(tensor: Any) -> np.ndarray:
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(dtypes.bfloat16.numpy)
    return tensor.numpy()


def units_apart(a: np.ndarray, b: np.ndarray) -> int:
    """The greatest distance in units in the last place (integers: in numbers)."""
    a, b = in_order(a), in_order(b)
    return max((abs(int(x) - int(y)) for x, y in zip(a, b, strict=True) if x != y), default=0)


def in_order(values: np.ndarray) -> np.ndarray:
    """Integers that count through the floating numbers from the least to the greatest."""
    if values.dtype.kind in "biu":
        return values
    bits = values.view(f"i{values.dtype.itemsize}")
    return np.where(bits < 0, -(bits & np.iinfo(bits.dtype).max), bits)


ROUNDED = ("normal", "exponential", "cauchy")  # through log, sin, ...: not the same code


@pytest.mark.parametrize("seed", [0, 42, -1, 123456789012345])
def test_one_stream_gives_all_distributions_in_any_order(seed: int) -> None:
    cases = other_cases()
    for name in FLOATS:
        cases += [case_of(name, count, *row) for count in COUNTS for row in FLOATING_DTYPES]
    for name in INTEGERS:
        cases += [case_of(name, count, *row) for count in (0, 1, 5, 100) for row in ALL_DTYPES]
    generator = Generator().manual_seed(seed)
    torch.manual_seed(seed)
    for i in np.random.default_rng(seed & 0xFFFF).permutation(len(cases)):
        label, expected, drawn = cases[i]
        theirs, ours = to_numpy(expected()), drawn(generator)
        assert ours.dtype == theirs.dtype, label
        allowed = 2 if any(word in label for word in ROUNDED) else 0
        assert units_apart(ours, theirs) <= allowed, label
        state = torch.get_rng_state().numpy()
        assert (generator.snapshot()[:5016] == state[:5016]).all(), label  # all but the kept normal


@pytest.mark.parametrize("seed", range(10))
def test_samples_by_search_and_by_rejection(seed: int) -> None:
    generator = Generator().manual_seed(seed)
    torch.manual_seed(seed)
    for categories, rows, samples in ((10, 1, 3), (100, 4, 50), (1000, 2, 1000), (7, 3, 1)):
        for dtype in (np.float32, np.float64):
            weights = np.random.default_rng(seed).random((rows, categories)).astype(dtype)
            for replacement in (False, True):
                theirs = torch.multinomial(torch.from_numpy(weights), samples, replacement)
                if replacement and samples > 1:
                    ours = discrete.multinomial_with_replacement(generator, weights, samples)
                else:
                    ours = multinomial_without_replacement(generator, weights, samples)
                assert (ours == theirs.numpy()).all()
    for rate in (0.0, 0.5, 3.0, 9.99, 10.0, 15.0, 200.0, 1e5):
        theirs = torch.poisson(torch.full((50,), rate))
        assert (discrete.poisson(generator, np.full(50, rate, np.float32)) == theirs.numpy()).all()
    assert (generator.snapshot() == torch.get_rng_state().numpy()).all()


@pytest.mark.parametrize("before", [0, 1, 623, 624, 625, 5000])
def test_states_are_exchanged(before: int) -> None:
    generator = Generator().manual_seed(11)
    torch.manual_seed(11)
    generator.words(before)
    torch.empty(before, dtype=torch.int32).random_()
    fill.normal(generator, 1, np.dtype(np.float64))
    torch.empty(1, dtype=torch.float64).normal_()
    assert (generator.snapshot() == torch.get_rng_state().numpy()).all()
    generator.dropout_key(100)
    torch.nn.functional.dropout(torch.ones(100), 0.3)
    torch.set_rng_state(torch.from_numpy(generator.snapshot()))
    theirs = torch.randn(3)
    assert (fill.normal(generator, 3, np.dtype(np.float32)) == theirs.numpy()).all()
    taken = Generator().restore(torch.get_rng_state().numpy())
    assert fill.uniform(taken, 1, np.dtype(np.float32))[0] == torch.rand(1).item()
