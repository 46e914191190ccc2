"""How tensors are written: texts that PyTorch printed, and the options."""

from __future__ import annotations

import numpy as np
import pytest

from taimatsu import dtypes, printing


@pytest.fixture(autouse=True)
def default_options():
    yield
    printing.set_printoptions(profile="default")


def text(values, name="float32", **options):
    dtype = getattr(dtypes, name)
    numpy_name = "float32" if name == "bfloat16" else name
    return printing.tensor_text(np.array(values, numpy_name), dtype, **options)


GOLDEN = [
    (3.14159, "float32", "tensor(3.1416)"),
    (2.0, "float32", "tensor(2.)"),
    (7, "int64", "tensor(7)"),
    (True, "bool", "tensor(True)"),
    ([1.0, 2.0], "float32", "tensor([1., 2.])"),
    ([1.0, 2.5], "float64", "tensor([1.0000, 2.5000], dtype=torch.float64)"),
    ([1.0, 1e-5], "float32", "tensor([1.0000e+00, 1.0000e-05])"),
    ([1.0, 1001.0], "float32", "tensor([1.0000e+00, 1.0010e+03])"),
    ([np.nan, np.inf, -np.inf, 0.5], "float32", "tensor([   nan,    inf,   -inf, 0.5000])"),
    ([np.nan, 1.0], "float32", "tensor([nan, 1.])"),
    ([0.5, 1.0], "float16", "tensor([0.5000, 1.0000], dtype=torch.float16)"),
    ([0.5, 1.0], "bfloat16", "tensor([0.5000, 1.0000], dtype=torch.bfloat16)"),
    ([1, -20], "int32", "tensor([  1, -20], dtype=torch.int32)"),
    ([True, False], "bool", "tensor([ True, False])"),
    (
        [2**63, 1],
        "uint64",
        "tensor([9223372036854775808,                   1], dtype=torch.uint64)",
    ),
    ([1 + 2j, -0.5 - 1j], "complex64", "tensor([ 1.0000+2.j, -0.5000-1.j])"),
    ([], "float32", "tensor([])"),
    ([], "int64", "tensor([], dtype=torch.int64)"),
    (np.zeros((0, 3)), "float32", "tensor([], size=(0, 3))"),
    ([[1, 2], [3, 4]], "int64", "tensor([[1, 2],\n        [3, 4]])"),
    (
        [[[1], [2]], [[3], [4]]],
        "int64",
        "tensor([[[1],\n         [2]],\n\n        [[3],\n         [4]]])",
    ),
    (
        np.arange(1001),
        "int64",
        "tensor([   0,    1,    2,  ...,  998,  999, 1000])",
    ),
    (
        np.zeros((2, 1000)),
        "float32",
        "tensor([[0., 0., 0.,  ..., 0., 0., 0.],\n        [0., 0., 0.,  ..., 0., 0., 0.]])",
    ),
]


@pytest.mark.parametrize(("values", "name", "expected"), GOLDEN, ids=lambda v: str(v)[:30])
def test_golden(values, name, expected):
    assert text(values, name) == expected


def test_long_rows_are_wrapped():
    lines = text(np.arange(30), "int64").split("\n")
    assert lines == [
        "tensor([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16, 17,",
        "        18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29])",
    ]


def test_gradient_state_is_told():
    assert text(1.0, requires_grad=True) == "tensor(1., requires_grad=True)"
    named = text(1.0, requires_grad=True, grad_fn_name="AddBackward0")
    assert named == "tensor(1., grad_fn=<AddBackward0>)"


def test_suffixes_take_a_line_of_their_own_where_they_do_not_fit():
    values = np.full(8, 0.125)
    assert text(values, "float64", requires_grad=True) == (
        "tensor([0.1250, 0.1250, 0.1250, 0.1250, 0.1250, 0.1250, 0.1250, 0.1250],\n"
        "       dtype=torch.float64, requires_grad=True)"
    )


def test_other_prefixes_devices_and_default_dtypes():
    assert text(1.0, prefix="Special(") == "Special(1.)"
    assert text(1.0, device="cuda:0") == "tensor(1., device='cuda:0')"
    assert text(1.0, "float64", default_dtype=dtypes.float64) == "tensor(1.)"
    assert text(1.0, default_dtype=dtypes.float64) == "tensor(1., dtype=torch.float32)"


def test_options():
    printing.set_printoptions(precision=2, sci_mode=True)
    assert text([1.0, 20.0]) == "tensor([1.00e+00, 2.00e+01])"
    assert printing.get_printoptions()["sci_mode"] is True
    printing.set_printoptions(precision=2)
    assert text(3.14159) == "tensor(3.14)"
    assert printing.get_printoptions()["sci_mode"] is None


def test_profiles():
    printing.set_printoptions(profile="short")
    assert text(np.arange(1001), "int64") == "tensor([   0,    1,  ...,  999, 1000])"
    printing.set_printoptions(profile="full")
    assert "..." not in text(np.arange(1001), "int64")
    printing.set_printoptions(profile="default")
    assert printing.get_printoptions() == {
        "precision": 4,
        "threshold": 1000,
        "edgeitems": 3,
        "linewidth": 80,
        "sci_mode": None,
    }
    with pytest.warns(UserWarning, match="no profile 'long'"):
        printing.set_printoptions(profile="long")


def test_options_for_a_block():
    with printing.printoptions(precision=1, sci_mode=False):
        assert text(3.14159) == "tensor(3.1)"
    assert text(3.14159) == "tensor(3.1416)"


def test_the_array_is_not_written():
    array = np.array([1.5, np.nan, 0.0])
    array.flags.writeable = False
    printing.tensor_text(array, dtypes.float64)


class Stand:
    """What ``format_tensor`` looks at, of a tensor."""

    def __init__(self, array):
        self.array = np.array(array)
        self.ndim = self.array.ndim

    def item(self):
        return self.array.item()

    def __str__(self):
        return "text"


def test_format_of_numbers_and_of_tensors():
    assert printing.format_tensor(Stand(2.5), ".3f", plain=True) == "2.500"
    assert printing.format_tensor(Stand([1.0, 2.0]), "", plain=True) == "text"
    assert printing.format_tensor(Stand(2.5), "", plain=False) == "text"
    with pytest.raises(TypeError, match="unsupported format string"):
        printing.format_tensor(Stand([1.0]), ".3f", plain=True)
    with pytest.raises(TypeError, match="unsupported format string"):
        printing.format_tensor(Stand(1.0), ".3f", plain=False)
