"""softmax, log_softmax and softmin: normalised exponentials along one dimension."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu.dtypes import dtype as DType
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage
from taimatsu.ops.base import Sample, array, composite, register
from taimatsu.ops.coordinates import Source
from taimatsu.ops.reduced_stages import fold, reduced_place
from taimatsu.ops.reducing import Wide, numpy_names, reduced_shape, rows
from taimatsu.shapes import normalize_axis


def softmax_samples() -> Iterator[Sample]:
    """Each dimension, large values, a row without any weight, 0-d."""
    yield Sample(array(3, 4), 1, dtypes=("float32", "float64", "float16", "bfloat16"))
    yield Sample(array(2, 3, 4), -2)
    yield Sample(array(), 0)
    yield Sample(array(0, 3), 0, grad=False)
    yield Sample(np.array([[1000.0, 999.0], [-np.inf, 0.0]]), 1, grad=False)


class Normalised(Wide, abstract=True):
    """Shape rule and call of softmax and log_softmax."""

    saves = ("out",)

    @numpy_names
    def __call__(self, input: Any, dim: int, dtype: DType | None = None) -> Any:
        if dtype is not None:
            input = input.to(dtype)
        return self.apply(input, dim=normalize_axis(dim, input.ndim))

    def infer(self, input: Meta, *, dim: int) -> Meta:
        if not input.dtype.is_floating_point:
            raise self.error(
                f"\"{self.name}_kernel_impl\" not implemented for '{input.dtype.scalar_type}'",
                hint=f"expected a floating dtype: {self.name}(x.float(), dim) converts",
                kind=NotImplementedError,
            )
        return meta(input.shape, input.dtype)

    samples = staticmethod(softmax_samples)


def _shifted(x: np.ndarray, dim: int) -> np.ndarray:
    """x less its largest element along ``dim``: the exponentials are at most 1."""
    if x.ndim == 0:
        return x - x
    return x - x.max(dim, keepdims=True) if x.size else x


def row_sums(x: np.ndarray, dim: int) -> np.ndarray:
    """Sums along ``dim``, which stays with extent 1."""
    axes = (dim,) if x.ndim else ()
    return rows(x, axes).sum(-1).reshape(reduced_shape(x.shape, axes, keepdim=True))


def shifted_stages(b: Builder, x: Source, dim: int) -> tuple[Any, Any]:
    """(an element less the largest one, where its line's results stand), as functions of a place.

    Results of lines keep no dimension.
    """
    axes = (dim,) if x.shape else ()
    top = fold(b, "max", x, axes, False)

    def line(where: tuple) -> tuple:
        return reduced_place(axes, False, where)

    def shifted(*i: Index) -> Expression:
        return x[i] - top[line(i)]

    return shifted, line


@register
class Softmax(Normalised):
    """exp(x) / sum(exp(x)) along ``dim``; ``dtype`` converts the input first."""

    functions = ("softmax", "special.softmax")

    def reference(self, input: np.ndarray, *, dim: int) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            powers = np.exp(_shifted(input, dim))
            return powers / row_sums(powers, dim)

    def lower(self, b: Builder, input: Any, *, dim: int) -> Stage:
        shifted, line = shifted_stages(b, input, dim)
        powers = b.map(input.shape, input.dtype, lambda *i: b.exp(shifted(*i)))
        total = fold(b, "add", powers, (dim,) if input.shape else (), False)
        return b.map(input.shape, input.dtype, lambda *i: powers[i] / total[line(i)])

    def gradient(self, g: Any, out: Any, input: Meta, *, dim) -> Any:
        weighted = g * out
        return weighted - out * weighted.sum(dim, keepdim=True)


@register
class LogSoftmax(Normalised):
    """log(softmax(x)) along ``dim``, exact where softmax underflows."""

    functions = ("log_softmax", "special.log_softmax")

    def reference(self, input: np.ndarray, *, dim: int) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            shifted = _shifted(input, dim)
            return shifted - np.log(row_sums(np.exp(shifted), dim))

    def lower(self, b: Builder, input: Any, *, dim: int) -> Stage:
        shifted, line = shifted_stages(b, input, dim)
        axes = (dim,) if input.shape else ()
        total = fold(b, "add", input, axes, False, lambda *i: b.exp(shifted(*i)))
        logs = b.map(total.shape, total.dtype, lambda *i: b.log(total[i]))
        return b.map(input.shape, input.dtype, lambda *i: shifted(*i) - logs[line(i)])

    def gradient(self, g: Any, out: Any, input: Meta, *, dim) -> Any:
        return g - out.exp() * g.sum(dim, keepdim=True)


# -- torch.nn.functional ---------------------------------------------------------------------


def implicit_dim(name: str, ndim: int, stacklevel: int) -> int:
    """The dimension that calls without ``dim`` mean: 0 for 0-d, 1-d and 3-d inputs, else 1."""
    warnings.warn(
        f"Implicit dimension choice for {name} has been deprecated. "
        "Change the call to include dim=X as an argument.",
        stacklevel=stacklevel + 1,
    )
    return 0 if ndim in (0, 1, 3) else 1


def functional_samples() -> Iterator[Sample]:
    """As torch.nn.functional calls them, ``dim`` left out too."""
    yield Sample(array(3, 4), dim=1)
    yield Sample(array(3, 4))
    yield Sample(array(2, 3, 4), -1)


@composite("nn.functional.softmax", methods=(), samples=functional_samples)
def functional_softmax(
    input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Any:
    """exp(x) / sum(exp(x)) along ``dim``. Without ``dim`` it is guessed, with a warning."""
    if dim is None:
        dim = implicit_dim("softmax", input.ndim, _stacklevel)
    return Softmax(input, dim, dtype)


@composite("nn.functional.log_softmax", methods=(), samples=functional_samples)
def functional_log_softmax(
    input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Any:
    """log(softmax(x)) along ``dim``. Without ``dim`` it is guessed, with a warning."""
    if dim is None:
        dim = implicit_dim("log_softmax", input.ndim, _stacklevel)
    return LogSoftmax(input, dim, dtype)


@composite("nn.functional.softmin", methods=(), samples=functional_samples)
def functional_softmin(
    input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Any:
    """softmax(-x) along ``dim``. Without ``dim`` it is guessed, with a warning."""
    if dim is None:
        dim = implicit_dim("softmin", input.ndim, _stacklevel)
    return Softmax(-input, dim, dtype)
