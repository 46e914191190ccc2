"""Environment flags, and the form of error messages."""

from __future__ import annotations

import pickle

import pytest

from taimatsu.config import FLAGS, Config, config, flags_table, read_flag
from taimatsu.errors import OperationError

BY_ATTRIBUTE = {flag.attribute: flag for flag in FLAGS}


def test_flags_are_read_by_the_type_of_their_default():
    read = Config({"TAIMATSU_EAGER": "1", "TAIMATSU_LOG": "fusion, schedule"})
    assert read.eager is True
    assert read.profile is False
    assert read.logs("schedule")
    assert not read.logs("memory")
    assert Config({"TAIMATSU_LOG": "all"}).logs("memory")
    assert Config({}).eager is False


def test_wrong_flags_are_refused():
    with pytest.raises(ValueError, match="TAIMATSU_EAGER: expected 0 or 1; got 'maybe'"):
        read_flag(BY_ATTRIBUTE["eager"], "maybe")
    with pytest.raises(AttributeError, match="no flag 'eagre'"):
        config.eagre = True


def test_the_table_has_a_row_for_every_flag():
    table = flags_table()
    for flag in FLAGS:
        assert f"| `{flag.name}` |" in table
        assert hasattr(config, flag.attribute)


@pytest.mark.parametrize("kind", [RuntimeError, IndexError, ValueError, TypeError, KeyError])
def test_an_operation_error_is_of_both_types(kind):
    error = OperationError.make("conv2d", "expected 4 dimensions", "3", "unsqueeze(0)", kind)
    assert isinstance(error, kind)
    assert isinstance(error, OperationError)
    assert error.args == ("[conv2d] expected 4 dimensions; got 3; unsqueeze(0)",)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert again.args == error.args


def test_the_name_is_the_one_users_know():
    error = OperationError.make("select", "index out of range", kind=IndexError)
    assert repr(error) == "IndexError('[select] index out of range')"


def test_unimplemented_is_a_runtime_error_already():
    error = OperationError.make("sign", "not for complex", kind=NotImplementedError)
    assert isinstance(error, NotImplementedError)
    assert isinstance(error, OperationError)
