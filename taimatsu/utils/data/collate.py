"""From a list of samples to one batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

from taimatsu import creation
from taimatsu.errors import OperationError
from taimatsu.ops.base import REGISTRY
from taimatsu.recorder import constant
from taimatsu.recorder import value as value_of
from taimatsu.tensor import Tensor

_NO_TENSOR = "SaUO"  # NumPy kinds that no tensor can hold: bytes, str, object
_EXPECTED = (
    "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {}; "
    "collate_fn= takes a function that makes a batch of other samples"
)

CollateMap = dict[type | tuple[type, ...], Callable]


def default_convert(data: Any) -> Any:
    """NumPy arrays inside ``data`` become tensors; everything else stays as it is.

    Goes through mappings, named tuples, tuples and sequences. The loader applies it to single
    samples where batching is off (``batch_size=None``).
    """
    if isinstance(data, Tensor):
        return data
    if isinstance(data, (np.ndarray, np.generic)):
        if data.dtype.kind in "SU" or (isinstance(data, np.ndarray) and data.dtype.kind == "O"):
            return data
        return creation.as_tensor(data)
    if isinstance(data, Mapping):
        return _mapping_like(data, {key: default_convert(data[key]) for key in data})
    if _is_namedtuple(data):
        return type(data)(*(default_convert(value) for value in data))
    if isinstance(data, tuple):
        return [default_convert(value) for value in data]
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _sequence_like(data, [default_convert(value) for value in data])
    return data


def default_collate(batch: list) -> Any:
    """One batch from a list of samples, which all have the structure of the first.

    Tensors and arrays are stacked along a new first dimension, numbers become a tensor (floats a
    float64 one), strings stay a list, and mappings, named tuples, tuples and sequences are
    collated field by field. The batch never shares memory with the samples.

    Raises:
        TypeError: for a type that no batch can hold.
        RuntimeError: for samples of unequal size.
    """
    return collate(batch, collate_fn_map=default_collate_fn_map)


def collate(batch: Sequence, *, collate_fn_map: CollateMap | None = None) -> Any:
    """:func:`default_collate` with a table of functions by type, which is tried first.

    A function is called as ``function(batch, collate_fn_map=table)``. An exact type goes before a
    base class, and earlier entries before later ones.
    """
    first = batch[0]
    if collate_fn_map:
        function = _function_for(type(first), collate_fn_map)
        if function is not None:
            return function(batch, collate_fn_map=collate_fn_map)
    if isinstance(first, Mapping):
        _refuse_missing_fields(batch)
        fields = {
            key: collate([sample[key] for sample in batch], collate_fn_map=collate_fn_map)
            for key in first
        }
        return _mapping_like(first, fields)
    if _is_namedtuple(first):
        columns = zip(*batch, strict=True)
        return type(first)(*(collate(c, collate_fn_map=collate_fn_map) for c in columns))
    if isinstance(first, Sequence):
        return _collate_sequences(batch, collate_fn_map)
    raise TypeError(_EXPECTED.format(type(first)))


def _function_for(kind: type, table: CollateMap) -> Callable | None:
    if kind in table:
        return table[kind]
    return next((table[entry] for entry in table if issubclass(kind, entry)), None)


def _collate_sequences(batch: list, collate_fn_map: CollateMap | None) -> Any:
    first = batch[0]
    sizes = [len(sample) for sample in batch]
    if any(size != sizes[0] for size in sizes):
        raise RuntimeError(
            "[default_collate] each element in list of batch should be of equal size, got sizes "
            f"{sizes}; pad the samples, or give the DataLoader a collate_fn"
        )
    columns = [
        collate(column, collate_fn_map=collate_fn_map) for column in zip(*batch, strict=True)
    ]
    if isinstance(first, tuple):
        return columns
    return _sequence_like(first, columns)


def _is_namedtuple(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


def _mapping_like(model: Mapping, fields: dict) -> Any:
    """``fields`` in the type of ``model``; a plain dict where that type cannot be made so."""
    try:
        if isinstance(model, MutableMapping):
            # A copy keeps what the type carries besides its items (a default factory, attributes).
            made = copy.copy(model)
            made.update(fields)
            return made
        return type(model)(fields)
    except TypeError:
        return fields


def _sequence_like(model: Sequence, values: list) -> Any:
    """``values`` in the type of ``model``; a plain list where that type cannot be made so."""
    try:
        if isinstance(model, MutableSequence):
            made = copy.copy(model)
            for i, value in enumerate(values):
                made[i] = value
            return made
        return type(model)(values)
    except TypeError:
        return values


def _refuse_missing_fields(batch: Sequence) -> None:
    for i, sample in enumerate(batch):
        missing = [key for key in batch[0] if key not in sample]
        if missing:
            raise OperationError.make(
                "default_collate",
                f"expected the fields of entry 0, {list(batch[0])}, in every sample",
                f"{list(sample)} at entry {i}",
                "give every sample the same fields, or the DataLoader a collate_fn",
                KeyError,
            )


def _refuse_unequal(batch: list) -> None:
    for i, sample in enumerate(batch):
        if sample.shape != batch[0].shape:
            raise OperationError.make(
                "default_collate",
                f"stack expects each tensor to be equal size, but got {list(batch[0].shape)} at "
                f"entry 0 and {list(sample.shape)} at entry {i}",
                hint="pad or crop the samples to one size, or give the DataLoader a collate_fn",
            )


def collate_tensor_fn(batch: list, *, collate_fn_map: CollateMap | None = None) -> Tensor:
    """The samples stacked; through NumPy where no gradient flows, which is one copy."""
    first = batch[0]
    plain = all(
        not t.requires_grad and t.dtype == first.dtype and t.shape == first.shape for t in batch
    )
    if not plain or first.device.type != "cpu":
        _refuse_unequal(batch)
        return REGISTRY["stack"](batch)  # keeps the graph, promotes, or says what does not fit
    return constant(np.stack([value_of(t) for t in batch]))


def collate_numpy_array_fn(batch: list, *, collate_fn_map: CollateMap | None = None) -> Any:
    first = batch[0]
    if first.dtype.kind in _NO_TENSOR:
        raise TypeError(_EXPECTED.format(first.dtype))
    return collate([creation.as_tensor(a) for a in batch], collate_fn_map=collate_fn_map)


def collate_numpy_scalar_fn(batch: list, *, collate_fn_map: CollateMap | None = None) -> Tensor:
    return creation.as_tensor(np.array(batch))


def collate_float_fn(batch: list, *, collate_fn_map: CollateMap | None = None) -> Tensor:
    return constant(np.array(batch, dtype=np.float64))


def collate_int_fn(batch: list, *, collate_fn_map: CollateMap | None = None) -> Tensor:
    return creation.tensor(batch)


def collate_str_fn(batch: list, *, collate_fn_map: CollateMap | None = None) -> list:
    return batch


default_collate_fn_map: CollateMap = {
    Tensor: collate_tensor_fn,
    np.ndarray: collate_numpy_array_fn,
    (np.bool_, np.number, np.object_): collate_numpy_scalar_fn,
    float: collate_float_fn,
    int: collate_int_fn,
    str: collate_str_fn,
    bytes: collate_str_fn,
}
