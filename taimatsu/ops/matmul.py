"""Matrix products: one batched product and one with an addend; the rest is composed of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from taimatsu import dtypes, recorder
from taimatsu.dtypes import dtype as DType
from taimatsu.errors import OperationError
from taimatsu.ir.builder import Builder
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage
from taimatsu.ops.base import REGISTRY, Sample, array, composite, integers, register
from taimatsu.ops.coordinates import broadcast_at, broadcast_extents
from taimatsu.ops.reducing import Wide
from taimatsu.shapes import broadcast_shapes

# The names in PyTorch's message about unequal dtypes are those of C++.
_CPP_NAMES = {
    "bool": "bool",
    "uint8": "unsigned char",
    "int8": "signed char",
    "int16": "short int",
    "int32": "int",
    "int64": "long int",
    "float16": "c10::Half",
    "bfloat16": "c10::BFloat16",
    "float32": "float",
    "float64": "double",
    "complex64": "c10::complex<float>",
    "complex128": "c10::complex<double>",
}


def _shape_text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _check_dtypes(name: str, a: Meta, b: Meta) -> None:
    if a.dtype is not b.dtype:
        if name == "addmm":
            raise OperationError.make(
                name,
                "mat1 and mat2 must have the same dtype, but got "
                f"{a.dtype.scalar_type} and {b.dtype.scalar_type}",
                hint=f"x.to({b.dtype!r}) converts the input",
            )
        raise OperationError.make(
            name,
            "expected m1 and m2 to have the same dtype, but got: "
            f"{_CPP_NAMES.get(a.dtype.name, a.dtype.name)} != "
            f"{_CPP_NAMES.get(b.dtype.name, b.dtype.name)}",
            hint=f"x.to({b.dtype!r}) or y.to({a.dtype!r}) makes them equal",
        )
    if a.dtype is dtypes.bool_:
        raise OperationError.make(
            name,
            "\"addmm_impl_cpu_\" not implemented for 'Bool'",
            hint="x.float() or x.int() converts",
            kind=NotImplementedError,
        )


def _cannot_multiply(name: str, a: tuple[int, ...], b: tuple[int, ...]) -> Exception:
    hint = f"the columns of mat1 ({a[-1]}) must be as many as the rows of mat2 ({b[0]})"
    if name == "addmm":
        hint += f"; a Linear layer needs in_features={a[-1]} here, or flatten(1) before it"
    else:
        hint += "; transpose(-2, -1) exchanges rows and columns"
    return OperationError.make(
        name,
        f"mat1 and mat2 shapes cannot be multiplied ({_shape_text(a)} and {_shape_text(b)})",
        hint=hint,
    )


def _check_inner(name: str, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    """The last extent of ``a`` must be the last but one of ``b`` (its only one for vectors)."""
    if a[-1] == b[-2 if len(b) > 1 else 0]:
        return
    if len(a) == len(b) == 1:
        raise OperationError.make(
            name,
            f"inconsistent tensor size, expected tensor {list(a)} and src {list(b)} to have the "
            f"same number of elements, but got {a[0]} and {b[0]} elements respectively",
            hint="both vectors need one length",
        )
    if len(b) == 1:
        folded = (int(np.prod(a[:-1])), a[-1])
        raise OperationError.make(
            name,
            f"size mismatch, got input ({folded[0]}), mat ({_shape_text(folded)}), vec ({b[0]})",
        )
    if len(b) == 2:
        raise _cannot_multiply(name, (int(np.prod(a[:-1])), a[-1]), b)
    batch = broadcast_shapes(a[:-2], b[:-2])
    count = int(np.prod(batch))
    raise OperationError.make(
        name,
        f"Expected size for first two dimensions of batch2 tensor to be: [{count}, {a[-1]}] "
        f"but got: [{count}, {b[-2]}].",
        f"got shapes {list(a)} and {list(b)}",
    )


def adjoint(x: Any) -> Any:
    """The last two dimensions exchanged, conjugated if complex."""
    x = x.transpose(-2, -1)
    return x.conj() if x.is_complex() else x


def product_stage(b: Builder, left: Any, right: Any) -> Stage:
    """The sum of products that ``matmul`` is, batches and vectors included."""
    rows = left.shape[-2:-1]
    columns = right.shape[-1:] if len(right.shape) > 1 else ()
    inner = left.shape[-1]
    if not inner.is_constant:  # where one of them is known, it is known that both are
        inner = right.shape[-2 if columns else 0]
    batch = broadcast_extents([left.shape[:-2], right.shape[:-2]])

    def multiplied(i: tuple, r: tuple) -> Expression:
        of = i[: len(batch)]
        row = i[len(batch) : len(batch) + len(rows)]
        column = i[len(batch) + len(rows) :]
        return element(left, of, (*row, *r)) * element(right, of, (*r, *column))

    def element(source: Any, of: tuple, where: tuple) -> Expression:
        return broadcast_at(source, (*of, *where)) if len(source.shape) > 2 else source[where]

    return b.reduce("add", (*batch, *rows, *columns), (inner,), left.dtype, multiplied)


def _conjugate(x: Any) -> Any:
    return x.conj() if x.is_complex() else x


def _matmul_samples() -> Iterator[Sample]:
    yield Sample(array(3, 4), array(4, 5), dtypes=("float32", "float64", "float16", "bfloat16"))
    yield Sample(array(4), array(4, seed=1))
    yield Sample(array(3, 4), array(4))
    yield Sample(array(4), array(4, 5))
    yield Sample(array(2, 3, 4), array(4, 5))
    yield Sample(array(2, 3, 4), array(4))
    yield Sample(array(4), array(2, 4, 5))
    yield Sample(array(3, 4), array(2, 4, 5))
    yield Sample(array(2, 1, 3, 4), array(5, 4, 2))
    yield Sample(array(0, 4), array(4, 5), grad=False)
    yield Sample(array(3, 0), array(0, 5), grad=False)
    yield Sample(integers(3, 4), integers(4, 5))


@register
class Matmul(Wide):
    """The matrix product, batched and broadcast over all dimensions but the last two.

    (..., m, k) @ (..., k, n) -> (..., m, n). A 1-d input is a row on the left and a column on the
    right, and its dimension does not appear in the result. Both dtypes must be the same.
    Raises RuntimeError when the inner extents differ or an input is 0-d.
    """

    functions = ("matmul", "linalg.matmul")
    methods = ("matmul", "__matmul__")
    saves = {"input": ("other",), "other": ("input",)}
    samples = staticmethod(_matmul_samples)

    def __call__(self, input: Any, other: Any) -> Any:
        return recorder.apply(self, (input, other))

    def backward_name_for(self, inputs: tuple, attributes: dict) -> str:
        return _product_names.get((inputs[0].ndim, inputs[1].ndim), "UnsafeViewBackward0")

    def infer(self, input: Meta, other: Meta) -> Meta:
        a, b = input.shape, other.shape
        if not a or not b:
            raise self.error(
                "both arguments to matmul need to be at least 1D, but they are "
                f"{len(a)}D and {len(b)}D",
                hint="use * to multiply by a 0-d tensor",
            )
        _check_inner("matmul", a, b)
        _check_dtypes("matmul", input, other)
        rows = a[-2:-1] if len(a) > 1 else ()
        columns = b[-1:] if len(b) > 1 else ()
        batch = broadcast_shapes(a[:-2], b[:-2])
        return meta((*batch, *rows, *columns), input.dtype)

    def reference(self, input: np.ndarray, other: np.ndarray) -> np.ndarray:
        if input.ndim > 2 and other.ndim <= 2:  # one product instead of one per batch
            folded = input.reshape(int(np.prod(input.shape[:-1])), input.shape[-1])
            return np.matmul(folded, other).reshape(input.shape[:-1] + other.shape[1:])
        return np.matmul(input, other)

    def lower(self, b: Builder, input: Any, other: Any) -> Stage:
        return product_stage(b, input, other)

    def gradient(self, g: Any, out: Any, input: Any, other: Any) -> Any:
        return lambda: _to_left(g, input, other), lambda: _to_right(g, input, other)


_product_names = {
    (1, 1): "DotBackward0",
    (2, 1): "MvBackward0",
    (1, 2): "SqueezeBackward4",
    (2, 2): "MmBackward0",
    (3, 3): "BmmBackward0",
}


def _to_left(g: Any, a: Meta, b: Any) -> Any:
    if b.ndim == 1:
        column = g if a.ndim == 1 else g.unsqueeze(-1)
        return column * _conjugate(b)
    if a.ndim == 1:
        return _conjugate(b).matmul(g.unsqueeze(-1)).squeeze(-1)
    return g.matmul(adjoint(b))


def _to_right(g: Any, a: Any, b: Meta) -> Any:
    if a.ndim == 1:
        a = _conjugate(a)
        return g * a if b.ndim == 1 else a.unsqueeze(-1) * g.unsqueeze(-2)
    if b.ndim <= 2 and a.ndim > 2:  # sums over the batch inside the product
        count = int(np.prod(a.shape[:-1]))
        a = a.reshape(count, a.shape[-1])
        g = g.reshape(count, *b.shape[1:])
    return adjoint(a).matmul(g)


def _addmm_samples() -> Iterator[Sample]:
    yield Sample(array(3, 5), array(3, 4), array(4, 5))
    yield Sample(array(5), array(3, 4), array(4, 5), dtypes=("float32", "float64", "float16"))
    yield Sample(array(3, 1), array(3, 4), array(4, 5), beta=0.5, alpha=-2)
    yield Sample(array(), array(3, 0), array(0, 5))
    yield Sample(array(3, 5), array(3, 4), array(4, 5), beta=0)


@register
class Addmm(Wide):
    """beta * input + alpha * (mat1 @ mat2); ``input`` broadcasts to the product's shape.

    With ``beta=0`` ``input`` is ignored, its NaN too. Raises RuntimeError for shapes that do not
    multiply, and for unequal dtypes.
    """

    inplace = True
    saves = {"input": (), "mat1": ("mat2",), "mat2": ("mat1",)}
    samples = staticmethod(_addmm_samples)

    def __call__(self, input: Any, mat1: Any, mat2: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
        beta, alpha = scale_factors(input.dtype, beta, alpha)
        return self.apply(input, mat1, mat2, beta=beta, alpha=alpha)

    def infer(self, input: Meta, mat1: Meta, mat2: Meta, *, beta: Any, alpha: Any) -> Meta:
        for name, matrix in (("mat1", mat1), ("mat2", mat2)):
            if matrix.ndim != 2:
                raise self.error(f"{name} must be a matrix, got {matrix.ndim}-D tensor")
        if mat1.shape[1] != mat2.shape[0]:
            raise _cannot_multiply("addmm", mat1.shape, mat2.shape)
        _check_dtypes("addmm", mat1, mat2)
        check_addend_dtype("addmm", input, mat2)
        shape = (mat1.shape[0], mat2.shape[1])
        check_expands("addmm", input.shape, shape)
        return meta(shape, mat1.dtype)

    def reference(
        self, input: np.ndarray, mat1: np.ndarray, mat2: np.ndarray, *, beta: Any, alpha: Any
    ) -> np.ndarray:
        product = mat1 @ mat2
        kind = product.dtype.type
        if alpha != 1:
            product = product * kind(alpha)
        if beta == 0:
            return product
        return product + (input if beta == 1 else input * kind(beta))

    def lower(
        self, b: Builder, input: Any, mat1: Any, mat2: Any, *, beta: Any, alpha: Any
    ) -> Stage:
        if len(input.shape) == 1:  # a linear layer
            b.weight(mat2)
            b.weight(input)
        product = product_stage(b, mat1, mat2)

        def added(*i: Index) -> Expression:
            made = product[i] if alpha == 1 else product[i] * alpha
            if beta == 0:
                return made
            addend = broadcast_at(input, i)
            return made + (addend if beta == 1 else addend * beta)

        return b.map(product.shape, product.dtype, added)

    def gradient(self, g: Any, out: Any, input: Meta, mat1: Any, mat2: Any, *, beta, alpha) -> Any:
        return (
            lambda: _scaled(g, beta),
            lambda: _scaled(g.matmul(adjoint(mat2)), alpha),
            lambda: _scaled(adjoint(mat1).matmul(g), alpha),
        )


def scale_factors(dtype: DType, *factors: Any) -> tuple:
    """beta and alpha as an integer product takes them: cut to integers, as PyTorch does."""
    if dtype.is_floating_point or dtype.is_complex:
        return factors
    kind = bool if dtype is dtypes.bool_ else int
    return tuple(kind(f) for f in factors)


def _scaled(x: Any, factor: Any) -> Any:
    if factor != 1:
        x = x * (factor.conjugate() if isinstance(factor, complex) else factor)
    return x


def check_addend_dtype(name: str, input: Any, other: Any) -> None:
    """The addend of addmm and its relatives must have the factors' dtype."""
    if input.dtype is not other.dtype:
        raise OperationError.make(
            name,
            "self and mat2 must have the same dtype, but got "
            f"{input.dtype.scalar_type} and {other.dtype.scalar_type}",
            hint=f"input.to({other.dtype!r}) makes them equal",
        )


def check_expands(name: str, shape: tuple[int, ...], target: tuple[int, ...]) -> None:
    """Raises unless a tensor of ``shape`` broadcasts to exactly ``target``."""
    if len(shape) > len(target):
        raise OperationError.make(
            name,
            f"expand(input of shape {list(shape)}): the number of sizes provided "
            f"({len(target)}) must be greater or equal to the number of dimensions in the tensor "
            f"({len(shape)})",
        )
    lead = len(target) - len(shape)
    for d in range(len(shape) - 1, -1, -1):
        if shape[d] != 1 and shape[d] != target[lead + d]:
            raise OperationError.make(
                name,
                f"The expanded size of the tensor ({target[lead + d]}) must match the existing "
                f"size ({shape[d]}) at non-singleton dimension {lead + d}.  "
                f"Target sizes: {list(target)}.  Tensor sizes: {list(shape)}",
            )


# -- products of given rank ------------------------------------------------------------------


@composite("mm", samples=lambda: iter([Sample(array(3, 4), array(4, 5))]))
def mm(input: Any, mat2: Any) -> Any:
    """The product of two matrices: (m, k) @ (k, n) -> (m, n). No broadcasting."""
    for name, matrix in (("self", input), ("mat2", mat2)):
        if matrix.ndim != 2:
            raise OperationError.make(
                "mm",
                f"{name} must be a matrix",
                f"{matrix.ndim}D, of shape {list(matrix.shape)}",
                "matmul, the @ operator, takes batches of matrices too",
            )
    return Matmul.apply(input, mat2)


@composite("bmm", samples=lambda: iter([Sample(array(2, 3, 4), array(2, 4, 5))]))
def bmm(input: Any, mat2: Any) -> Any:
    """The products of two batches of matrices: (b, m, k) @ (b, k, n) -> (b, m, n)."""
    check_batches("bmm", input, mat2)
    return Matmul.apply(input, mat2)


def check_batches(name: str, batch1: Any, batch2: Any) -> None:
    """Two batches of matrices that multiply, without broadcasting."""
    for label, batch in (("batch1", batch1), ("batch2", batch2)):
        if batch.ndim != 3:
            raise OperationError.make(
                name,
                f"{label} must be a 3D tensor",
                f"{batch.ndim}D, of shape {list(batch.shape)}",
                "matmul, the @ operator, takes any number of dimensions",
            )
    b, _, k = batch1.shape
    if tuple(batch2.shape[:2]) != (b, k):
        raise OperationError.make(
            name,
            f"Expected size for first two dimensions of batch2 tensor to be: [{b}, {k}] but got: "
            f"[{batch2.shape[0]}, {batch2.shape[1]}].",
            f"shapes {list(batch1.shape)} and {list(batch2.shape)}",
            "both need one batch size and one inner extent",
        )


@composite("mv", samples=lambda: iter([Sample(array(3, 4), array(4))]))
def mv(input: Any, vec: Any) -> Any:
    """The product of a matrix and a vector: (m, k) @ (k) -> (m)."""
    if input.ndim != 2 or vec.ndim != 1:
        raise OperationError.make(
            "mv",
            f"vector + matrix @ vector expected, got {input.ndim}, {vec.ndim}",
            f"got shapes {list(input.shape)} and {list(vec.shape)}",
        )
    return Matmul.apply(input, vec)


def _check_vectors(name: str, a: Any, b: Any) -> None:
    if a.ndim != 1 or b.ndim != 1:
        raise OperationError.make(
            name,
            f"1D tensors expected, but got {a.ndim}D and {b.ndim}D tensors",
            hint="torch.matmul and torch.sum(x * y) take more dimensions",
        )
    if a.dtype is not b.dtype:
        raise OperationError.make(
            name,
            f"{name} : expected both vectors to have same dtype, but found "
            f"{a.dtype.scalar_type} and {b.dtype.scalar_type}",
        )


@composite("dot", samples=lambda: iter([Sample(array(4), array(4, seed=1))]))
def dot(input: Any, tensor: Any) -> Any:
    """The sum of the products of two vectors' elements."""
    _check_vectors("dot", input, tensor)
    return Matmul.apply(input, tensor)


@composite("vdot", samples=lambda: iter([Sample(array(4), array(4, seed=1))]))
def vdot(input: Any, other: Any) -> Any:
    """``dot`` with the first vector conjugated."""
    _check_vectors("vdot", input, other)
    return Matmul.apply(_conjugate(input), other)


# -- products with an addend -----------------------------------------------------------------


def _plus(name: str, input: Any, product: Any, beta: Any, alpha: Any) -> Any:
    """beta * input + alpha * product; ``input`` must not widen the product."""
    check_addend_dtype(name, input, product)
    check_expands(name, input.shape, product.shape)
    beta, alpha = scale_factors(input.dtype, beta, alpha)
    product = _scaled_forward(product, alpha)
    if beta == 0:
        return product
    return _scaled_forward(input, beta) + product


def _scaled_forward(x: Any, factor: Any) -> Any:
    return x if factor == 1 else x * factor


def _addmv_samples() -> Iterator[Sample]:
    yield Sample(array(3), array(3, 4), array(4))
    yield Sample(array(1), array(3, 4), array(4), beta=0.5, alpha=2)


@composite("addmv", inplace=True, samples=_addmv_samples)
def addmv(input: Any, mat: Any, vec: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    """beta * input + alpha * (mat @ vec)."""
    return _plus("addmv", input, mv(mat, vec), beta, alpha)


def _baddbmm_samples() -> Iterator[Sample]:
    yield Sample(array(2, 3, 5), array(2, 3, 4), array(2, 4, 5))
    yield Sample(array(5), array(2, 3, 4), array(2, 4, 5), beta=0.5, alpha=2)


@composite("baddbmm", inplace=True, samples=_baddbmm_samples)
def baddbmm(input: Any, batch1: Any, batch2: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    """beta * input + alpha * (batch1 @ batch2), batch by batch."""
    return _plus("baddbmm", input, bmm(batch1, batch2), beta, alpha)


def _addbmm_samples() -> Iterator[Sample]:
    yield Sample(array(3, 5), array(2, 3, 4), array(2, 4, 5))
    yield Sample(array(5), array(2, 3, 4), array(2, 4, 5), beta=0.5, alpha=2)


@composite("addbmm", inplace=True, samples=_addbmm_samples)
def addbmm(input: Any, batch1: Any, batch2: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    """beta * input + alpha * (the sum over the batch of batch1 @ batch2)."""
    check_batches("addbmm", batch1, batch2)
    b, m, k = batch1.shape
    # One product that sums over the batch as well: [A0 A1 ...] @ [B0; B1; ...].
    left = batch1.permute(1, 0, 2).reshape(m, b * k)
    right = batch2.reshape(b * k, batch2.shape[2])
    beta, alpha = scale_factors(input.dtype, beta, alpha)
    return Addmm.apply(input, left, right, beta=beta, alpha=alpha)


def _addr_samples() -> Iterator[Sample]:
    yield Sample(array(3, 4), array(3), array(4))
    yield Sample(array(4), array(3), array(4), beta=0.5, alpha=2)


@composite("addr", inplace=True, samples=_addr_samples)
def addr(input: Any, vec1: Any, vec2: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    """beta * input + alpha * outer(vec1, vec2)."""
    product = REGISTRY["outer"](vec1, vec2)
    check_expands("addr", input.shape, product.shape)
    if product.dtype is not input.dtype:
        kind = dtypes.promote_types(product.dtype, input.dtype)
        product, input = product.to(kind), input.to(kind)
    return _plus("addr", input, product, beta, alpha)


# -- linear layers ---------------------------------------------------------------------------


def _linear_samples() -> Iterator[Sample]:
    yield Sample(array(3, 4), array(5, 4), array(5))
    yield Sample(array(3, 4), array(5, 4), dtypes=("float32", "float64", "float16"))
    yield Sample(array(2, 3, 4), array(5, 4), array(5))
    yield Sample(array(4), array(5, 4), array(5))
    yield Sample(array(3, 4), array(4))


@composite("nn.functional.linear", methods=(), samples=_linear_samples)
def linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """input @ weight.T + bias: (..., in) and (out, in) -> (..., out)."""
    if not isinstance(input, recorder.TensorBase):
        raise recorder.not_a_tensor("linear", "input", 0, input)
    transposed = weight.t() if weight.ndim == 2 else weight
    if bias is None:
        return Matmul.apply(input, transposed)
    if input.ndim == 2:
        return Addmm.apply(bias, input, transposed, beta=1, alpha=1)
    if input.ndim < 2 or weight.ndim != 2 or bias.ndim != 1:
        return Matmul.apply(input, transposed) + bias
    flat = input.reshape(int(np.prod(input.shape[:-1])), input.shape[-1])
    made = Addmm.apply(bias, flat, transposed, beta=1, alpha=1)
    return made.reshape(*input.shape[:-1], weight.shape[0])


def _bilinear_samples() -> Iterator[Sample]:
    yield Sample(array(3, 4), array(3, 2), array(5, 4, 2), array(5))
    yield Sample(array(2, 3, 4), array(2, 3, 2), array(5, 4, 2))


@composite("nn.functional.bilinear", "bilinear", methods=(), samples=_bilinear_samples)
def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Any:
    """input1 @ weight[o] @ input2 + bias[o]: (..., i), (..., j), (o, i, j) -> (..., o)."""
    if tuple(input1.shape[:-1]) != tuple(input2.shape[:-1]):
        raise OperationError.make(
            "bilinear",
            "batch dimensions do not match: bilinear(): input batch dimensions",
            f"got {list(input1.shape)} and {list(input2.shape)}",
        )
    for n, given in ((1, input1), (2, input2)):
        if given.shape[-1] != weight.shape[n]:
            raise OperationError.make(
                "bilinear",
                f"bilinear(): input{n} size does not match weight size: "
                f"got {given.shape[-1]} but expected {weight.shape[n]}",
            )
    made = REGISTRY["einsum"]("...i,oij,...j->...o", input1, weight, input2)
    return made if bias is None else made + bias
