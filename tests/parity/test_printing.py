"""``repr`` of tensors, to the character, against PyTorch."""

from __future__ import annotations

import itertools
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from taimatsu import dtypes, printing

pytestmark = pytest.mark.parity

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64")
COMPLEX = ("complex64", "complex128")
SHAPES = [(), (1,), (7,), (30,), (2, 3), (3, 1, 2), (2, 2, 2, 2), (1, 40), (0,), (2, 0, 3)]
LARGE = [(1001,), (40, 40), (11, 10, 12), (2, 600), (600, 2), (1, 1, 1500), (5, 7, 5, 7)]
SCALES = [1.0, 1e-3, 1e-6, 1e3, 1e5, 1e9]


@pytest.fixture(autouse=True)
def default_options(torch: ModuleType) -> Any:
    yield
    torch.set_printoptions(profile="default")
    printing.set_printoptions(profile="default")


def check(torch: ModuleType, array: np.ndarray, name: str, **options: Any) -> None:
    """One array in one dtype; PyTorch makes the values, so that both print the same ones."""
    theirs = torch.from_numpy(np.array(array)).to(getattr(torch, name))
    wide = theirs.float() if name == "bfloat16" else theirs
    torch.set_printoptions(**options)
    printing.set_printoptions(**options)
    ours = printing.tensor_text(wide.numpy(), getattr(dtypes, name))
    assert ours == repr(theirs)


def drawn(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", SHAPES)
def test_floats(torch: ModuleType, shape: tuple, scale: float, name: str) -> None:
    check(torch, drawn(shape, 1) * scale, name)


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", SHAPES)
def test_whole_floats(torch: ModuleType, shape: tuple, scale: float, name: str) -> None:
    check(torch, np.round(drawn(shape, 2) * scale), name)


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_integers(torch: ModuleType, shape: tuple, name: str) -> None:
    limits = np.iinfo(name)
    values = np.random.default_rng(len(shape)).integers(
        limits.min, limits.max, shape, dtype=name, endpoint=True
    )
    check(torch, values, name)
    check(torch, np.arange(values.size).reshape(shape), name)


@pytest.mark.parametrize("shape", SHAPES)
def test_booleans(torch: ModuleType, shape: tuple) -> None:
    check(torch, drawn(shape, 3) > 0, "bool")


@pytest.mark.parametrize("name", COMPLEX)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", SHAPES)
def test_complex(torch: ModuleType, shape: tuple, scale: float, name: str) -> None:
    values = drawn(shape, 4) * scale + 1j * drawn(shape, 5)
    check(torch, values, name)
    check(torch, np.round(values), name)


@pytest.mark.parametrize("name", ["float32", "int64", "bool", "complex64"])
@pytest.mark.parametrize("shape", LARGE)
def test_summaries(torch: ModuleType, shape: tuple, name: str) -> None:
    values = drawn(shape, 6) * 10
    check(torch, values > 0 if name == "bool" else values, name)


SPECIAL = [
    [np.inf],
    [np.nan, 1.0],
    [-np.inf, 0.5, np.nan],
    [np.inf, -np.inf, np.nan, 0.0],
    [0.0, -0.0],
    [0.0, -0.0, 0.25],
    [1e-45, 1.0],
    [1e308, 1e-308],
    [1e8, 1.0],
    [99999999.0, 1e6],
    [100000001.0],
    [1000.0, 1.0],
    [1001.0, 1.0],
    [1000.5, 1.0],
    [1001.5, 1.0],
    [1e-4],
    [9.9e-5],
    [0.1, 1e-4, np.inf],
    [-1.5, 12.25, np.nan],
    [123456789.0, np.inf],
]


@pytest.mark.parametrize("values", SPECIAL, ids=str)
@pytest.mark.parametrize("sci_mode", [None, True, False])
def test_special_values(torch: ModuleType, values: list, sci_mode: bool | None) -> None:
    check(torch, np.array(values), "float64", sci_mode=sci_mode)
    check(torch, np.array(values[0]), "float64", sci_mode=sci_mode)
    check(torch, np.array(values) * (1 - 1j), "complex128", sci_mode=sci_mode)


OPTIONS = [
    dict(zip(("precision", "linewidth", "edgeitems", "threshold"), row, strict=True))
    for row in itertools.product((0, 2, 8), (20, 80, 200), (0, 1, 4), (0, 10, 10**6))
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_options(torch: ModuleType, options: dict[str, int]) -> None:
    for shape in [(), (5,), (12,), (4, 9), (3, 10, 2)]:
        check(torch, drawn(shape, 7), "float64", **options)
        check(torch, (drawn(shape, 8) * 100).astype(np.int64), "int32", **options)
        check(torch, drawn(shape, 9) + 3j, "complex64", **options)


@pytest.mark.parametrize("profile", ["default", "short", "full"])
def test_profiles(torch: ModuleType, profile: str) -> None:
    for shape in [(3, 3), (40, 40)]:
        check(torch, drawn(shape, 10), "float32", profile=profile)
        check(torch, drawn(shape, 10), "float32", profile=profile, precision=1, sci_mode=True)


@pytest.mark.parametrize("columns", range(1, 14))
@pytest.mark.parametrize("linewidth", [40, 77, 80])
def test_suffixes_break_where_pytorchs_do(torch: ModuleType, columns: int, linewidth: int) -> None:
    torch.set_printoptions(linewidth=linewidth)
    printing.set_printoptions(linewidth=linewidth)
    for rows in (1, 2):
        array = drawn((rows, columns), 11)
        leaf = torch.from_numpy(array).requires_grad_()
        result = leaf + 0
        ours = printing.tensor_text(array, dtypes.float64, requires_grad=True)
        assert ours == repr(leaf)
        ours = printing.tensor_text(
            array, dtypes.float64, requires_grad=True, grad_fn_name="AddBackward0"
        )
        assert ours == repr(result)


def test_the_default_dtype_goes_without_saying(torch: ModuleType) -> None:
    torch.set_default_dtype(torch.float64)
    dtypes.set_default_dtype(dtypes.float64)
    try:
        for name in (*FLOATS, *COMPLEX, "int64", "int32"):
            check(torch, np.ones(2), name)
            check(torch, np.ones((2, 0)), name)
    finally:
        torch.set_default_dtype(torch.float32)


def test_subclasses_and_parameters(torch: ModuleType) -> None:
    class Special(torch.Tensor):
        pass

    import taimatsu

    class OursSpecial(taimatsu.Tensor):
        _printed_as = "Special"

    array = drawn((3, 3), 12).astype(np.float32)
    ours, theirs = taimatsu.tensor(array), torch.tensor(array)
    assert repr(OursSpecial(array.tolist())) == repr(theirs.as_subclass(Special))
    parameter, expected = taimatsu.nn.Parameter(ours), torch.nn.Parameter(theirs)
    assert repr(parameter) == repr(expected)
    assert str(parameter[0]) == str(expected[0])


def test_tensors_print_as_pytorchs(torch: ModuleType) -> None:
    import taimatsu

    for name in (*FLOATS, *INTEGERS, *COMPLEX, "bool"):
        array = (drawn((2, 3), 13) * 3).clip(0)
        theirs = torch.tensor(array).to(getattr(torch, name))
        ours = taimatsu.tensor(array).to(getattr(dtypes, name))
        assert repr(ours) == repr(theirs)
    leaf = taimatsu.tensor([1.0, 2.0], requires_grad=True)
    assert repr(leaf) == repr(torch.tensor([1.0, 2.0], requires_grad=True))
    assert repr(leaf * 2) == repr(torch.tensor([1.0, 2.0], requires_grad=True) * 2)
    assert f"{taimatsu.tensor(2.5):.3f}" == f"{torch.tensor(2.5):.3f}"
