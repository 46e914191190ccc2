"""From samples to a batch, for every kind of sample."""

from __future__ import annotations

import collections

import numpy as np
import pytest

import taimatsu
from taimatsu.utils.data import default_collate, default_convert
from taimatsu.utils.data.collate import collate

Point = collections.namedtuple("Point", "x y")


class Tagged(dict):
    tag = None


def samples(library):
    """Batches to collate, built from one library's tensors."""
    return {
        "tensors": [library.tensor([1.0, 2.0]), library.tensor([3.0, 4.0])],
        "int tensors": [library.tensor(1), library.tensor(2)],
        "mixed dtypes": [library.tensor([1.5]), library.tensor([2])],
        "arrays": [np.array([1, 2], np.int16), np.array([3, 4], np.int16)],
        "array scalars": [np.float32(1.5), np.float32(2.5)],
        "booleans of numpy": [np.bool_(True), np.bool_(False)],
        "floats": [0.1, 0.2],
        "ints": [3, -4],
        "bools": [True, False],
        "strings": ["a", "b"],
        "bytes": [b"a", b"b"],
        "tuples": [(1, 0.5), (2, 1.5)],
        "lists": [[1, "x"], [2, "y"]],
        "dicts": [{"a": 1, "b": [1, 2]}, {"a": 2, "b": [3, 4]}],
        "ordered": [collections.OrderedDict(b=1, a=2), collections.OrderedDict(b=3, a=4)],
        "default": [collections.defaultdict(list, a=1), collections.defaultdict(list, a=2)],
        "named": [Point(1, 2.0), Point(3, 4.0)],
        "nested": [{"p": (Point(1, [2.0]), "s")}, {"p": (Point(3, [4.0]), "t")}],
        "one": [(library.zeros(2, 3), 1)],
    }


def plain(value):
    """Structure, types, dtypes and values, free of the library."""
    if hasattr(value, "requires_grad"):
        return ("tensor", str(value.dtype), value.tolist())
    if isinstance(value, dict):
        return (type(value), {key: plain(value[key]) for key in value})
    if isinstance(value, (tuple, list)):
        return (type(value), [plain(v) for v in value])
    return value


@pytest.mark.parametrize("name", samples(taimatsu))
def test_batches_are_pytorchs(name, torch):
    ours = default_collate(samples(taimatsu)[name])
    theirs = torch.utils.data.default_collate(samples(torch)[name])
    assert plain(ours) == plain(theirs)


@pytest.mark.parametrize("name", samples(taimatsu))
def test_conversion_is_pytorchs(name, torch):
    ours = default_convert(samples(taimatsu)[name][0])
    theirs = torch.utils.data.default_convert(samples(torch)[name][0])
    assert plain(ours) == plain(theirs)


def test_a_batch_is_a_copy():
    sample = taimatsu.ones(2)
    batch = default_collate([sample, sample])
    batch[0, 0] = 5.0
    assert sample.tolist() == [1.0, 1.0]
    array = np.ones(2)
    batch = default_collate([array, array])
    batch[0, 0] = 5.0
    assert array.tolist() == [1.0, 1.0]


def test_gradients_flow_through_a_batch():
    leaf = taimatsu.ones(2, requires_grad=True)
    batch = default_collate([leaf, leaf * 2])
    batch.sum().backward()
    assert leaf.grad.tolist() == [3.0, 3.0]


def test_attributes_of_a_mapping_survive():
    first, second = Tagged(a=1), Tagged(a=2)
    first.tag = "kept"
    batch = default_collate([first, second])
    assert type(batch) is Tagged
    assert batch.tag == "kept"


def test_a_table_of_functions_goes_first():
    table = {int: lambda batch, collate_fn_map: sum(batch)}
    assert collate([(1, 5), (2, 6)], collate_fn_map=table) == [3, 11]


@pytest.mark.parametrize(
    ("batch", "kind", "message"),
    [
        ([None], TypeError, "batch must contain tensors, numpy arrays, numbers, dicts or lists"),
        ([{"a": object()}], TypeError, "found <class 'object'>"),
        ([np.array(["a"])], TypeError, "found <U1"),
        ([[1, 2], [3]], RuntimeError, "each element in list of batch should be of equal size"),
        (
            [taimatsu.zeros(2), taimatsu.zeros(3)],
            RuntimeError,
            "stack expects each tensor to be equal size",
        ),
    ],
)
def test_errors(batch, kind, message):
    with pytest.raises(kind, match=message):
        default_collate(batch)
