"""Attention: weighted means of values, with weights from how queries and keys match.

Vaswani et al., "Attention is all you need", 2017.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu import dtypes, recorder
from taimatsu.errors import OperationError
from taimatsu.ops.base import REGISTRY, Sample, array, booleans, composite
from taimatsu.ops.dropout import dropout
from taimatsu.ops.joining import Cat
from taimatsu.ops.matmul import linear


def _error(name: str, expected: str, got: str = "", hint: str = "") -> Exception:
    return OperationError.make(name, expected, got, hint)


def causal_mask(rows: int, columns: int) -> Any:
    """True where a query may look: at its own position and before, (rows, columns)."""
    return recorder.constant(np.tri(rows, columns, dtype=np.bool_))


# -- scaled dot product ------------------------------------------------------------------------


def _attention_samples() -> Iterator[Sample]:
    q, k, v = array(2, 3, 4), array(2, 5, 4, seed=1), array(2, 5, 6, seed=2)
    yield Sample(q, k, v)
    yield Sample(q, k, v, is_causal=True)
    yield Sample(q, k, v, attn_mask=booleans(3, 5), scale=0.3)
    yield Sample(q, k, v, attn_mask=array(2, 3, 5, seed=3))
    yield Sample(q, k, v, attn_mask=np.zeros((3, 5), np.bool_))
    heads = array(1, 4, 3, 2), array(1, 2, 3, 2, seed=1), array(1, 2, 3, 2, seed=2)
    yield Sample(*heads, enable_gqa=True)


@composite("nn.functional.scaled_dot_product_attention", samples=_attention_samples)
def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """softmax(query key' * scale + mask) value.

    query (..., L, E), key (..., S, E), value (..., S, Ev) -> (..., L, Ev). ``attn_mask``
    broadcasts to (..., L, S): False forbids, floating numbers are added. ``scale`` defaults to
    1/sqrt(E). ``enable_gqa`` lets groups of query heads (dimension -3) share a key head. A query
    that may look nowhere gives zeros. ``dropout_p`` applies whenever it is not zero.
    """
    _refuse_inputs(query, key, value, attn_mask)
    if enable_gqa:
        key = _shared_heads(query, key)
        value = _shared_heads(query, value)
    if scale is None:
        scale = 1 / math.sqrt(max(query.shape[-1], 1))
    scores = (query @ key.transpose(-2, -1)) * scale
    if is_causal:
        allowed = causal_mask(query.shape[-2], key.shape[-2])
        scores = scores.masked_fill(allowed.logical_not(), -math.inf)
    weights = masked_softmax(scores, attn_mask)
    if dropout_p:
        weights = dropout(weights, dropout_p)
    return weights @ value


def masked_softmax(scores: Any, mask: Any) -> Any:
    """Softmax over the last dimension of masked scores; rows without any allowed place are zero."""
    if mask is None:
        return scores.softmax(-1)
    if mask.dtype is dtypes.bool_:
        scores = scores.masked_fill(mask.logical_not(), -math.inf)
    else:
        scores = scores + mask
    # Such rows get any finite scores first: 0 * NaN would spoil the gradient.
    nowhere = (scores == -math.inf).all(-1, keepdim=True)
    return scores.masked_fill(nowhere, 0).softmax(-1).masked_fill(nowhere, 0)


def _shared_heads(query: Any, x: Any) -> Any:
    groups = query.shape[-3] // x.shape[-3]
    if groups * x.shape[-3] != query.shape[-3]:
        raise _error(
            "scaled_dot_product_attention",
            "Number of heads in key and value must divide the number of heads in query",
            f"{x.shape[-3]} and {query.shape[-3]}",
        )
    return x.repeat_interleave(groups, -3)


def _refuse_inputs(query: Any, key: Any, value: Any, mask: Any) -> None:
    name = "scaled_dot_product_attention"
    if not query.dtype is key.dtype is value.dtype:
        raise _error(
            name,
            "Expected query, key, and value to have the same dtype",
            f"{query.dtype}, {key.dtype} and {value.dtype}",
        )
    if query.dtype.category < dtypes.FLOAT:
        raise _error(name, f"expected a floating dtype, got {query.dtype}", "", "use .float()")
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise _error(
            name,
            "Expected query, key, and value to all be at least 2 dimensional",
            f"{query.ndim}, {key.ndim} and {value.ndim} dimensions",
        )
    if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise _error(
            name,
            "expected query (..., L, E), key (..., S, E) and value (..., S, Ev)",
            f"{list(query.shape)}, {list(key.shape)} and {list(value.shape)}",
        )
    if mask is not None and mask.dtype not in (dtypes.bool_, dtypes.float32, query.dtype):
        raise _error(
            name,
            "Expected attn_mask dtype to be bool or float or to match query dtype",
            f"{mask.dtype} for a query of {query.dtype}",
            "True stands for a place that takes part",
        )


# -- several heads -----------------------------------------------------------------------------


_HEADS = "multi_head_attention_forward"


def _heads_samples() -> Iterator[Sample]:
    q, k, v = array(3, 2, 4), array(5, 2, 4, seed=1), array(5, 2, 4, seed=2)
    inner = array(12, 4, seed=3), array(12, seed=4)
    outer = array(4, 4, seed=5), array(4, seed=6)
    learned, none = (array(1, 1, 4, seed=7), array(1, 1, 4, seed=8)), (None, None)
    forbidden = np.array([[False, True, False, False, True], [False] * 5])
    yield Sample(q, k, v, 4, 2, *inner, *none, False, 0.0, *outer)
    yield Sample(q, k, v, 4, 2, *inner, *none, False, 0.0, *outer, key_padding_mask=forbidden)
    yield Sample(q, k, v, 4, 2, *inner, *learned, True, 0.0, *outer, attn_mask=array(3, 5, seed=9))
    yield Sample(
        q, k, v, 4, 2, *inner, *none, False, 0.0, *outer,
        need_weights=False, attn_mask=array(4, 3, 5, seed=9),
    )  # fmt: skip
    yield Sample(
        q[:, 0], k[:, 0], v[:, 0], 4, 2, *inner, *none, False, 0.0, *outer,
        average_attn_weights=False,
    )  # fmt: skip


@composite("nn.functional.multi_head_attention_forward", samples=_heads_samples)
def multi_head_attention_forward(
    query: Any,
    key: Any,
    value: Any,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Any,
    in_proj_bias: Any,
    bias_k: Any,
    bias_v: Any,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Any,
    out_proj_bias: Any,
    training: bool = True,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Any = None,
    k_proj_weight: Any = None,
    v_proj_weight: Any = None,
    static_k: Any = None,
    static_v: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple:
    """Attention in ``num_heads`` projections side by side: (output, weights or None).

    query (L, N, E), key and value (S, N, ...) or all without the batch N. In both masks True
    *forbids* a place (unlike ``scaled_dot_product_attention``) and floating numbers are added:
    ``key_padding_mask`` (N, S), ``attn_mask`` (L, S) or (N * heads, L, S). The weights are
    (N, L, S), or (N, heads, L, S) without ``average_attn_weights``.
    """
    batched = query.ndim == 3
    _refuse_heads(query, key, value, embed_dim_to_check, num_heads)
    if is_causal and attn_mask is None:
        raise _error(_HEADS, "need attn_mask if specifying the is_causal hint")
    if not batched:
        query, key, value = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, batch = query.shape[:2]
    weights = (q_proj_weight, k_proj_weight, v_proj_weight)
    if not use_separate_proj_weight:
        weights = in_proj_weight.chunk(3)
    biases = (None, None, None) if in_proj_bias is None else in_proj_bias.chunk(3)
    q = linear(query, weights[0], biases[0])
    k = linear(key, weights[1], biases[1])
    v = linear(value, weights[2], biases[2])
    attn_mask = _additive(attn_mask, q, num_heads)
    padding = _additive(key_padding_mask, q, None)
    if bias_k is not None:
        k, v = Cat([k, bias_k.repeat(1, batch, 1)]), Cat([v, bias_v.repeat(1, batch, 1)])
        attn_mask, padding = _one_more(attn_mask), _one_more(padding)
    q = _by_head(q, num_heads)
    k = _by_head(k, num_heads) if static_k is None else static_k.unflatten(0, (batch, num_heads))
    v = _by_head(v, num_heads) if static_v is None else static_v.unflatten(0, (batch, num_heads))
    if add_zero_attn:
        k = Cat([k, k.new_zeros((batch, num_heads, 1, k.shape[-1]))], 2)
        v = Cat([v, v.new_zeros((batch, num_heads, 1, v.shape[-1]))], 2)
        attn_mask, padding = _one_more(attn_mask), _one_more(padding)
    scores = (q * math.sqrt(1 / q.shape[-1])) @ k.transpose(-2, -1)
    if attn_mask is not None:
        scores = scores + attn_mask
    if padding is not None:
        scores = scores + padding.reshape(batch, 1, 1, -1)
    attention = scores.softmax(-1)
    if training and dropout_p:
        attention = dropout(attention, dropout_p)
    joined = (attention @ v).permute(2, 0, 1, 3).reshape(length, batch, -1)
    output = linear(joined, out_proj_weight, out_proj_bias)
    if not need_weights:
        return (output if batched else output.squeeze(1)), None
    shown = attention.mean(1) if average_attn_weights else attention
    return (output, shown) if batched else (output.squeeze(1), shown.squeeze(0))


def _refuse_heads(query: Any, key: Any, value: Any, width: int, heads: int) -> None:
    if query.ndim not in (2, 3) or not query.ndim == key.ndim == value.ndim:
        raise _error(
            _HEADS,
            "expected query, key and value to be 3-D (batched) or 2-D (unbatched) alike",
            f"{query.ndim}, {key.ndim} and {value.ndim} dimensions",
        )
    if query.shape[-1] != width:
        raise _error(
            _HEADS, f"was expecting embedding dimension of {width}, but got {query.shape[-1]}"
        )
    if width % heads:
        raise _error(_HEADS, f"embed_dim {width} not divisible by num_heads {heads}")


def _by_head(x: Any, heads: int) -> Any:
    """(T, N, E) -> (N, heads, T, E / heads)."""
    return x.unflatten(2, (heads, -1)).permute(1, 2, 0, 3)


def _additive(mask: Any, like: Any, heads: int | None) -> Any:
    """A mask as numbers to add; one for each head in the shape (N, heads, L, S)."""
    if mask is None:
        return None
    if mask.dtype is dtypes.bool_:
        zeros = like.new_zeros(tuple(mask.shape))
        mask = zeros.masked_fill(mask, -math.inf)
    elif not mask.dtype.is_floating_point:
        raise _error(
            _HEADS,
            "only bool and floating types of masks are supported",
            f"{mask.dtype}",
        )
    if heads is None or mask.ndim == 2:
        return mask
    return mask.reshape(-1, heads, *mask.shape[1:])


def _one_more(mask: Any) -> Any:
    """A mask with one more place, allowed, at the end."""
    return None if mask is None else REGISTRY["nn.functional.pad"](mask, (0, 1))
