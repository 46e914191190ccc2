"""Embeddings: rows of a table by index, and their sums, means and maxima over bags."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu import recorder
from taimatsu.dtypes import int32, int64
from taimatsu.errors import OperationError
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage
from taimatsu.ops.base import Sample, array, composite, integers, register
from taimatsu.ops.coordinates import Places, Source, filled_stage, in_dtype, is_empty, wide
from taimatsu.ops.filling import filled
from taimatsu.ops.reducing import Wide

_OUTSIDE = "[embedding] index out of range in self"


class ByRow(Wide, abstract=True):
    """Base: ``rows`` is the table's length, ``padding_idx`` a row without gradient (-1: none)."""

    hidden = True
    checked = True

    def check_rows(self, index: np.ndarray | None, rows: int) -> None:
        """IndexError for a row that does not exist; None (not known yet) passes."""
        if index is None or index.size == 0:
            return
        low, high = int(index.min()), int(index.max())
        if low < 0 or high >= rows:
            raise OperationError.make(
                "embedding",
                "index out of range in self",
                f"got index {high if high >= rows else low} for a table of {rows} rows",
                "num_embeddings must be larger than the largest index",
                IndexError,
            )


@register
class Embedding(ByRow):
    """Rows of weight (rows, *rest) by indices (*shape) -> (*shape, *rest)."""

    saves = {"weight": ("indices",)}

    def infer(
        self, weight: Meta, indices: Meta, *, rows: int, padding_idx: int, by_frequency: bool
    ) -> Meta:
        return meta((*indices.shape, *weight.shape[1:]), weight.dtype)

    def check(self, weight: Any, indices: Any, *, rows: int, **options: Any) -> None:
        self.check_rows(indices, rows)

    def reference(
        self,
        weight: np.ndarray,
        indices: np.ndarray,
        *,
        rows: int,
        padding_idx: int,
        by_frequency: bool,
    ) -> np.ndarray:
        self.check_rows(indices, rows)
        return weight[indices]

    def lower(
        self,
        b: Builder,
        weight: Any,
        indices: Any,
        *,
        rows: int,
        padding_idx: int,
        by_frequency: bool,
    ) -> Stage | None:
        b.weight(weight)
        shape = (*indices.shape, *weight.shape[1:])
        if is_empty(shape):
            return filled_stage(b, shape, 0, weight.dtype)
        if rows == 0:
            return None  # no row to take: the reference refuses the indices
        places = Places(b)
        named = len(indices.shape)

        def at(*i: Index) -> Expression:
            return weight[(places.place(indices[i[:named]], rows), *i[named:])]

        return places.check(b.map(shape, weight.dtype, at), _OUTSIDE)

    def gradient(
        self,
        g: Any,
        out: Any,
        weight: Any,
        indices: Any,
        *,
        rows: int,
        padding_idx: int,
        by_frequency: bool,
    ) -> tuple:
        def for_weight() -> Any:
            options = {"rows": rows, "padding_idx": padding_idx, "by_frequency": by_frequency}
            return EmbeddingGradient.apply(g, indices, **options)

        return for_weight, None


@register
class EmbeddingGradient(ByRow):
    """Sums of g (*shape, *rest) per row, in the order of the indices -> (rows, *rest)."""

    backward_name = "EmbeddingDenseBackwardBackward0"
    saves = {"g": ("indices",)}

    def infer(
        self, g: Meta, indices: Meta, *, rows: int, padding_idx: int, by_frequency: bool
    ) -> Meta:
        return meta((rows, *g.shape[indices.ndim :]), g.dtype)

    def reference(
        self,
        g: np.ndarray,
        indices: np.ndarray,
        *,
        rows: int,
        padding_idx: int,
        by_frequency: bool,
    ) -> np.ndarray:
        index = indices.reshape(-1)
        rest = g.shape[indices.ndim :]
        out = np.zeros((rows, *rest), g.dtype)
        values = g.reshape(index.size, *rest)
        if by_frequency:
            times = np.bincount(index, minlength=rows)[index].astype(g.dtype)
            values = values / times.reshape(-1, *(1,) * len(rest))
        kept = index != padding_idx
        np.add.at(out, index[kept], values[kept])
        return out

    def lower(
        self,
        b: Builder,
        g: Any,
        indices: Any,
        *,
        rows: int,
        padding_idx: int,
        by_frequency: bool,
    ) -> Source | None:
        named = len(indices.shape)
        shape = (rows, *g.shape[named:])
        kind = wide(g.dtype)
        zeros = filled_stage(b, shape, 0, kind)
        if is_empty(g.shape):
            return b.stage(in_dtype(b, zeros, g.dtype))
        if rows == 0:
            return None  # no row to add to: the reference refuses the indices
        places = Places(b)
        times = self._times(b, indices, rows, kind) if by_frequency else None

        def where(*i: Index) -> tuple:
            return places.place(indices[i[:named]], rows), *i[named:]

        def value(*i: Index) -> Expression:
            row = indices[i[:named]]
            made = b.cast(g[i], kind)
            if times is not None:
                made = made / times[Places(b).place(row, rows)]
            return b.where(row.ne(padding_idx), made, 0) if padding_idx >= 0 else made

        made = places.check(b.scatter(zeros, g.shape, where, value), _OUTSIDE)
        return b.stage(in_dtype(b, made, g.dtype))

    def _times(self, b: Builder, indices: Any, rows: int, kind: str) -> Stage:
        """How often each row is used."""
        counts = b.scatter(
            filled_stage(b, (rows,), 0, "int64"),
            indices.shape,
            lambda *i: (Places(b).place(indices[i], rows),),
            lambda *i: b.constant(1, "int64"),
        )
        return b.map((rows,), kind, lambda i: b.cast(counts[i], kind))

    def gradient(
        self,
        v: Any,
        out: Any,
        g: Any,
        indices: Any,
        *,
        rows: int,
        padding_idx: int,
        by_frequency: bool,
    ) -> tuple:
        def for_g() -> Any:
            options = {"rows": rows, "padding_idx": padding_idx, "by_frequency": by_frequency}
            found = Embedding.apply(v, indices, **options)
            view = (*indices.shape, *(1,) * (found.ndim - indices.ndim))
            if by_frequency:
                flat = indices.reshape(-1).long()
                ones = filled(flat.shape, 1, v.dtype)
                times = filled((rows,), 0, v.dtype).index_add(0, flat, ones).take(flat)
                found = found / times.reshape(view)
            if padding_idx >= 0:
                found = found.masked_fill((indices == padding_idx).reshape(view), 0)
            return found

        return for_g, None


def _check_indices(name: str, indices: Any) -> None:
    if indices.dtype not in (int32, int64):
        raise OperationError.make(
            name,
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: "
            f"Long, Int; but got torch.{indices.dtype.scalar_type}Tensor instead",
            hint="indices are whole numbers: x.long() converts; the table is the second argument",
        )


def _padding(weight: Any, padding_idx: int | None) -> int:
    if padding_idx is None:
        return -1
    rows = weight.shape[0]
    if not -rows <= padding_idx < rows:
        raise OperationError.make(
            "embedding",
            "Padding_idx must be within num_embeddings",
            f"got {padding_idx} for {rows} rows",
            kind=AssertionError,
        )
    return padding_idx % rows


def _renormalise(weight: Any, indices: Any, max_norm: float, norm_type: float) -> None:
    """Scales the rows that are used down to ``max_norm``, in place and outside the graph."""
    used = recorder.constant(np.unique(recorder.value(indices)).astype(np.int64))
    table = weight.detach()
    rows = table.index_select(0, used)
    norms = rows.norm(norm_type, 1, keepdim=True)
    scale = (max_norm / (norms + 1e-7)).masked_fill(norms <= max_norm, 1.0)
    table.index_copy_(0, used, rows * scale)


def _embedding_samples() -> Iterator[Sample]:
    yield Sample(integers(2, 3, high=5), array(5, 4), dtypes=("float32", "bfloat16"))
    yield Sample(
        integers(6, high=5), array(5, 2), padding_idx=1, scale_grad_by_freq=True, grad=False
    )


@composite("nn.functional.embedding", samples=_embedding_samples)
def embedding(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    """Rows of ``weight`` (rows, features) by ``input`` (int64 or int32, any shape).

    ``padding_idx`` names a row that gets no gradient; ``max_norm`` scales the rows used down to
    that norm, in place; ``scale_grad_by_freq`` divides gradients by how often a row is used.
    Raises IndexError for a row that does not exist. ``sparse`` gradients are not supported.
    """
    _check_indices("embedding", input)
    _refuse_sparse("embedding", sparse)
    padding = _padding(weight, padding_idx)
    if max_norm is not None:
        _renormalise(weight, input, max_norm, norm_type)
    return Embedding.apply(
        weight,
        input,
        rows=weight.shape[0],
        padding_idx=padding,
        by_frequency=bool(scale_grad_by_freq),
    )


def _refuse_sparse(name: str, sparse: bool) -> None:
    if sparse:
        raise OperationError.make(
            name,
            "a dense gradient: sparse=True is not supported",
            hint="leave sparse=False; the values are the same",
            kind=NotImplementedError,
        )


def _bag_samples() -> Iterator[Sample]:
    for mode in ("mean", "sum", "max"):
        yield Sample(integers(3, 2, high=5), array(5, 4), mode=mode)
        yield Sample(integers(6, high=5), array(5, 4), np.array([0, 2, 2, 5]), mode=mode)


@composite("nn.functional.embedding_bag", samples=_bag_samples)
def embedding_bag(
    input: Any,
    weight: Any,
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    """Sums, means or maxima of rows of ``weight`` over bags of indices.

    input (B, L): each row is a bag. input (N,): bags begin at ``offsets`` (B,). Indices equal to
    ``padding_idx`` are left out. ``per_sample_weights`` (mode "sum") scale the rows.
    """
    _check_indices("embedding_bag", input)
    _refuse_sparse("embedding_bag", sparse)
    _check_bag(input, weight, offsets, mode, per_sample_weights)
    starts = _bag_starts(input, offsets, include_last_offset)
    bags = len(starts)
    flat = input.reshape(-1)
    rows = embedding(flat, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq)
    lengths = np.diff(np.append(starts, flat.numel()))
    of_bag = np.repeat(np.arange(bags), lengths)
    padding = _padding(weight, padding_idx)
    if padding >= 0:
        kept = np.flatnonzero(recorder.value(flat) != padding)
        rows = rows.index_select(0, recorder.constant(kept))
        of_bag = of_bag[kept]
    else:
        kept = None
    if per_sample_weights is not None:
        scale = per_sample_weights.reshape(-1)
        scale = scale if kept is None else scale.index_select(0, recorder.constant(kept))
        rows = rows * scale.unsqueeze(1)
    return _over_bags(rows, of_bag, bags, mode)


def _over_bags(rows: Any, of_bag: np.ndarray, bags: int, mode: str) -> Any:
    empty = filled((bags, rows.shape[1]), 0, rows.dtype)
    places = recorder.constant(of_bag.astype(np.int64))
    if mode == "max":
        index = places.unsqueeze(1).expand(rows.shape)
        return empty.scatter_reduce(0, index, rows, "amax", include_self=False)
    total = empty.index_add(0, places, rows)
    if mode == "sum":
        return total
    count = np.maximum(np.bincount(of_bag, minlength=bags), 1)
    return total / recorder.constant(count).to(rows.dtype).unsqueeze(1)


def _check_bag(input: Any, weight: Any, offsets: Any, mode: str, scale: Any) -> None:
    def refuse(words: str, kind: type[Exception] = ValueError) -> Exception:
        return OperationError.make("embedding_bag", words, kind=kind)

    if input.ndim == 2 and offsets is not None:
        raise refuse(
            "if input is 2D, then offsets has to be None, as input is treated is a mini-batch of "
            f"fixed length sequences. However, found offsets of type {type(offsets)}"
        )
    if input.ndim == 1 and (offsets is None or offsets.ndim != 1):
        raise refuse(f"offsets has to be a 1D Tensor but got {offsets}")
    if input.ndim not in (1, 2):
        raise refuse(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.ndim}")
    if mode not in ("sum", "mean", "max"):
        raise refuse("mode has to be one of sum, mean or max")
    if scale is not None and tuple(scale.shape) != tuple(input.shape):
        raise refuse(
            f"embedding_bag: If per_sample_weights ({list(scale.shape)}) is not None, then it must "
            f"have the same shape as the input ({list(input.shape)})"
        )
    if scale is not None and mode != "sum":
        raise refuse(
            "embedding_bag: per_sample_weights was not None. per_sample_weights is only supported "
            f"for mode='sum' (got mode='{mode}').",
            NotImplementedError,
        )


def _bag_starts(input: Any, offsets: Any, include_last_offset: bool) -> np.ndarray:
    """Where in the flat input each bag begins."""
    if offsets is None:
        return np.arange(input.shape[0]) * input.shape[1]
    starts = np.asarray(recorder.value(offsets)).astype(np.int64)
    if starts.size and starts[0] != 0:
        raise OperationError.make(
            "embedding_bag",
            "offsets[0] has to be 0, i.e., the first sequence in the mini-batch has to start from "
            f"position 0. However, got {starts[0]}",
        )
    if starts.size and starts[-1] > input.numel():
        raise OperationError.make(
            "embedding_bag",
            "offsets[-1] can not be greater than input's length",
            f"got {starts[-1]} for {input.numel()} indices",
        )
    return starts[:-1] if include_last_offset else starts
