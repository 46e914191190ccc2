"""Dtypes against their definition, and against PyTorch where it is installed."""

from __future__ import annotations

import copy
import itertools
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from taimatsu import dtypes as D

EVERY = (*D.ALL, *D.BAREBONES)
NAMES = [d.name for d in EVERY]


def outcome(call):
    """What a call gives, or the error it raises, in comparable form."""
    try:
        return str(call())
    except (RuntimeError, TypeError) as error:
        return f"{type(error).__name__}: {error}"


def described(d, ndim, wrapped=False):
    return SimpleNamespace(dtype=d, ndim=ndim, wrapped=wrapped)


def test_one_object_per_type():
    assert pickle.loads(pickle.dumps(D.float32)) is D.float32
    assert copy.copy(D.float32) is D.float32
    assert copy.deepcopy([D.int64])[0] is D.int64
    assert len({*EVERY, D.half, D.double, D.long}) == len(EVERY)
    with pytest.raises(TypeError, match="cannot create 'torch.dtype' instances"):
        D.dtype("float32")
    with pytest.raises(AttributeError, match="has no attribute 'width'"):
        _ = D.float32.width


def test_names_that_shadow_builtins_are_importable():
    from taimatsu.dtypes import bool as bool_
    from taimatsu.dtypes import float as float_
    from taimatsu.dtypes import int as int_

    assert (bool_, float_, int_) == (D.bool_, D.float32, D.int32)
    with pytest.raises(AttributeError, match="float33"):
        _ = D.float33


def test_attributes():
    assert repr(D.float32) == "torch.float32"
    assert D.float32.numpy == np.dtype("float32")
    assert D.bfloat16.itemsize == 2
    assert [d.category for d in (D.bool_, D.uint8, D.float16, D.complex64)] == [0, 1, 2, 3]
    assert [d.name for d in D.ALL if not d.is_signed] == ["bool", "uint8"]
    assert D.float64.char == "d"


def test_bfloat16_asks_for_ml_dtypes_when_it_is_missing(monkeypatch):
    def missing(name, *args, **kwargs):
        if name == "ml_dtypes":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    original = __import__
    monkeypatch.setattr("builtins.__import__", missing)
    with pytest.raises(ImportError, match=r"pip install taimatsu\[bfloat16\]"):
        D._load_bfloat16()


def test_bfloat16_in_numpy():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert D.bfloat16.numpy == np.dtype(ml_dtypes.bfloat16)
    assert D.from_numpy(np.dtype(ml_dtypes.bfloat16)) is D.bfloat16


def test_from_numpy():
    for d in EVERY:
        if d is not D.bfloat16:
            assert D.from_numpy(d.numpy) is d
    assert D.from_numpy(np.longlong) is D.int64
    with pytest.raises(TypeError, match=r"can't convert np.ndarray of type numpy.object_"):
        D.from_numpy(np.dtype(object))
    with pytest.raises(TypeError, match="numpy.str_"):
        D.from_numpy(np.array(["a"]).dtype)
    with pytest.raises(ValueError, match="byte order"):
        D.from_numpy(np.dtype(">f4"))


def test_of_python_and_as_dtype():
    assert [D.of_python(v) for v in (True, 1, 1.0, 1j)] == [
        D.bool_,
        D.int64,
        D.float32,
        D.complex64,
    ]
    assert [D.of_python(t) for t in (bool, int, float)] == [D.bool_, D.int64, D.float32]
    assert D.of_python(np.float64(1)) is D.float64
    assert D.as_dtype(float) is D.float64
    assert D.as_dtype(None) is D.float32
    D.set_default_dtype(D.float64)
    assert D.of_python(1.0) is D.float64
    assert D.of_python(1j) is D.complex128
    with pytest.raises(TypeError, match="expected a Python number"):
        D.of_python("1")
    with pytest.raises(TypeError, match="argument 'dtype' must be torch.dtype, not str"):
        D.as_dtype("float32")


def test_default_dtype_is_floating():
    for wrong in (D.int32, D.complex64, 3, float):
        with pytest.raises(TypeError, match="only floating-point types are supported"):
            D.set_default_dtype(wrong)
    assert D.get_default_dtype() is D.float32


def test_promotion_is_a_lattice():
    for a, b, c in itertools.product(D.ALL, repeat=3):
        assert D.promote_types(a, b) is D.promote_types(b, a)
        left = D.promote_types(D.promote_types(a, b), c)
        assert left is D.promote_types(a, D.promote_types(b, c))
    for d in EVERY:
        assert D.promote_types(d, d) is d


def test_result_type_priorities():
    vector = described(D.float16, 1)
    assert D.result_type(vector, described(D.float64, 0)) is D.float16
    assert D.result_type(vector, 2.5) is D.float16
    assert D.result_type(described(D.int64, 1), 2.5) is D.float32
    assert D.result_type(described(D.uint8, 1), described(D.int64, 0)) is D.uint8
    assert D.result_type(described(D.uint8, 0), described(D.int64, 0, wrapped=True)) is D.uint8
    assert D.result_type(described(D.bool_, 2), 3) is D.int64
    assert D.result_type(described(D.int32, 1), np.float64(1)) is D.float32
    assert D.result_type(described(D.float64, 1), 1j) is D.complex128
    assert D.result_type(True, 2) is D.int64
    with pytest.raises(TypeError, match="at least one"):
        D.result_type()


def test_complex_counterparts():
    assert D.float64.to_complex() is D.complex128
    assert D.complex64.to_real() is D.float32
    assert D.int32.to_real() is D.int32
    with pytest.raises(RuntimeError, match="Unknown Complex ScalarType for Int"):
        D.int32.to_complex()


@pytest.mark.parametrize("d", [d for d in D.FLOATS if d is not D.bfloat16])
def test_finfo_is_numpys(d):
    ours = D.finfo(d)
    theirs = np.finfo(d.numpy)
    for name in ("bits", "eps", "max", "min", "smallest_normal", "tiny"):
        assert float(getattr(ours, name)) == pytest.approx(float(getattr(theirs, name)), rel=1e-9)
    assert ours == D.finfo(d) != D.finfo(D.bfloat16)
    assert hash(ours) == hash(D.finfo(d))


@pytest.mark.parametrize("d", [*D.INTEGERS, *D.BAREBONES])
def test_iinfo_is_numpys(d):
    ours = D.iinfo(d)
    theirs = np.iinfo(d.numpy)
    assert (ours.bits, ours.min, ours.max) == (theirs.bits, theirs.min, theirs.max)


def test_limits_refuse_the_other_kind():
    with pytest.raises(TypeError, match="Use torch.iinfo"):
        D.finfo(D.int32)
    with pytest.raises(TypeError, match="Use torch.finfo"):
        D.iinfo(D.float32)
    with pytest.raises(TypeError, match=r"torch.bool is not supported by torch.iinfo"):
        D.iinfo(D.bool_)
    with pytest.raises(TypeError, match=r"must be torch.dtype, not int"):
        D.finfo(3)


class TestParity:
    """Every answer against PyTorch's."""

    @pytest.mark.parametrize("name", NAMES)
    def test_attributes(self, torch, name):
        ours = D._by_name[name]
        theirs = getattr(torch, name)
        for attribute in ("itemsize", "is_signed", "is_complex", "is_floating_point"):
            assert getattr(ours, attribute) == getattr(theirs, attribute)
        assert repr(ours) == repr(theirs)
        assert repr(ours.to_real()) == repr(theirs.to_real())
        if ours is not D.float16:  # NumPy has no complex32
            assert outcome(ours.to_complex) == outcome(theirs.to_complex)

    def test_aliases(self, torch):
        for name, ours in D.ALIASES.items():
            assert repr(ours) == repr(getattr(torch, name))

    @pytest.mark.parametrize("a", NAMES)
    def test_promote_types_and_can_cast(self, torch, a):
        for b in NAMES:
            ours = (D._by_name[a], D._by_name[b])
            theirs = (getattr(torch, a), getattr(torch, b))
            assert outcome(lambda: D.promote_types(*ours)) == outcome(  # noqa: B023
                lambda: torch.promote_types(*theirs)  # noqa: B023
            )
            assert D.can_cast(*ours) == torch.can_cast(*theirs)

    @pytest.mark.parametrize("default", ["float32", "float64", "bfloat16"])
    def test_result_type(self, torch, default):
        pairs = [(number, number) for number in (True, 2, 1.5, 1j)]
        for name, ndim in itertools.product(NAMES, (0, 1)):
            tensor = torch.zeros((2,) * ndim, dtype=getattr(torch, name))
            pairs.append((described(D._by_name[name], ndim), tensor))
        D.set_default_dtype(D._by_name[default])
        before = torch.get_default_dtype()
        torch.set_default_dtype(getattr(torch, default))
        try:
            for (a, x), (b, y) in itertools.product(pairs, pairs):
                theirs = outcome(lambda: torch.result_type(x, y))  # noqa: B023
                if theirs != "torch.complex32":  # NumPy has none: ours is complex64
                    assert outcome(lambda: D.result_type(a, b)) == theirs  # noqa: B023
        finally:
            torch.set_default_dtype(before)

    @pytest.mark.parametrize("d", [*D.FLOATS, *D.COMPLEXES])
    def test_finfo(self, torch, d):
        ours = D.finfo(d)
        theirs = torch.finfo(getattr(torch, d.name))
        assert repr(ours) == repr(theirs)
        for name in ("bits", "eps", "max", "min", "smallest_normal", "tiny", "resolution", "dtype"):
            assert getattr(ours, name) == getattr(theirs, name)

    @pytest.mark.parametrize("d", [*D.INTEGERS, *D.BAREBONES])
    def test_iinfo(self, torch, d):
        ours = D.iinfo(d)
        theirs = torch.iinfo(getattr(torch, d.name))
        assert repr(ours) == repr(theirs)
        assert (ours.bits, ours.min, ours.max) == (theirs.bits, theirs.min, theirs.max)
