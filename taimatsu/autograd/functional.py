"""Jacobians, Hessians and their products with vectors, by reverse-mode differentiation.

Forward-mode products (``jvp``, ``hvp``) differentiate the backward pass once more: J'u is linear
in u, and its gradient along v is J v.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from taimatsu import recorder
from taimatsu.autograd import enable_grad, grad, is_grad_enabled, set_grad_enabled
from taimatsu.ops.joining import Stack

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]

_STRATEGIES = ("reverse-mode", "forward-mode")


def vjp(
    func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple:
    """``(outputs, v' J)``: the product of a vector with the Jacobian of ``func`` at ``inputs``.

    ``v`` has the outputs' shapes; it may be left out for a single output of one element. With
    ``strict``, an output that does not depend on an input is an error, not a zero.
    """
    with enable_grad():
        single, given = _inputs(inputs, create_graph, "vjp")
        one, outputs = _outputs(func(*given), "vjp")
        _refuse_independent(outputs, "output", strict)
        seeds = _vector(v, outputs, "vjp", "outputs")
    with _graph(create_graph):
        found = _gradients(outputs, given, seeds, create_graph, create_graph)
        product = _filled(found, given, strict, "Output")
    return _result(one, outputs, create_graph), _result(single, product, create_graph)


def jvp(
    func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple:
    """``(outputs, J v)``: the product of the Jacobian of ``func`` at ``inputs`` with a vector.

    ``v`` has the inputs' shapes; it may be left out for a single input of one element.
    """
    with enable_grad():
        single, given = _inputs(inputs, create_graph, "jvp")
        tangents = _vector(v, given, "jvp", "inputs", single)
        one, outputs = _outputs(func(*given), "jvp")
        _refuse_independent(outputs, "output", strict)
        product = _forward(outputs, given, tangents, create_graph, strict)
    return _result(one, outputs, create_graph), _result(one, product, create_graph)


def _forward(
    outputs: tuple, given: tuple, tangents: tuple, create_graph: bool, strict: bool
) -> tuple:
    """J v by two backward passes."""
    seeds = tuple(_zeros(o).requires_grad_(True) for o in outputs)
    rows = _gradients(outputs, given, seeds, True, True)
    pairs = [(r, t) for r, t in zip(rows, tangents, strict=True) if r is not None]
    if strict and len(pairs) < len(rows):
        raise RuntimeError(_INDEPENDENT.format("An output", "one of the inputs"))
    used = [(r, t) for r, t in pairs if r.requires_grad]
    found = _gradients([r for r, _ in used], seeds, [t for _, t in used], create_graph, True)
    return _filled(found, outputs, strict, "Output")


def jacobian(
    func: Callable,
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The Jacobian of ``func`` at ``inputs``: shape (*output, *input) for a tensor each.

    Several inputs give a tuple over the inputs, several outputs a tuple of those over the
    outputs. ``vectorize`` and ``strategy`` choose in PyTorch how it is computed, never what; here
    it is one backward pass for each number of the outputs.
    """
    _refuse_strategy(strategy, vectorize, strict)
    with enable_grad():
        single, given = _inputs(inputs, create_graph, "jacobian")
        one, outputs = _outputs(func(*given), "jacobian")
        _refuse_independent(outputs, "output", strict)
        rows = tuple(_jacobian_of(o, given, create_graph, strict) for o in outputs)
    made = tuple(_result(single, row, create_graph) for row in rows)
    return made[0] if one else made


def _jacobian_of(output: Any, given: tuple, create_graph: bool, strict: bool) -> tuple:
    columns: list[list] = [[] for _ in given]
    for element in output.reshape(-1).unbind(0):
        found = _gradients((element,), given, None, create_graph, True)
        for column, g in zip(columns, _filled(found, given, strict, "Output"), strict=True):
            column.append(g)
    shape = tuple(output.shape)
    stack: Any = Stack  # registered: the operation itself, not its class
    return tuple(
        stack(column, 0).reshape(shape + tuple(x.shape))
        if column
        else x.new_zeros(shape + tuple(x.shape))
        for column, x in zip(columns, given, strict=True)
    )


def hessian(
    func: Callable,
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The matrix of second derivatives of a scalar function: (*input, *input) for one input.

    For several inputs a tuple of tuples.
    """
    _refuse_strategy(outer_jacobian_strategy, vectorize, strict)
    single = isinstance(inputs, recorder.TensorBase)

    def first(*given: Any) -> Any:
        output = func(*given)
        _refuse_not_scalar(output, "hessian")
        _refuse_independent((output,), "output", strict)
        found = _gradients((output,), given, None, True, True)
        made = _filled(found, given, strict, "Output")
        _refuse_independent(made, "Jacobian", strict)
        return made[0] if single else made

    return jacobian(first, inputs, create_graph=create_graph, strict=strict)


def vhp(
    func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple:
    """``(output, v' H)``: a vector times the Hessian of a scalar function.

    ``v`` has the inputs' shapes. As the Hessian is symmetric this equals ``hvp``, and costs less.
    """
    single, given, output, seeds, rows = _first_order(func, inputs, v, create_graph, strict, "vhp")
    with _graph(create_graph):
        used = [(r, t) for r, t in zip(rows, seeds, strict=True) if r.requires_grad]
        found = _gradients(
            [r for r, _ in used], given, [t for _, t in used], create_graph, create_graph
        )
        product = _filled(found, given, strict, "Jacobian")
    return _result(True, (output,), create_graph), _result(single, product, create_graph)


def hvp(
    func: Callable, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple:
    """``(output, H v)``: the Hessian of a scalar function times a vector of the inputs' shapes."""
    single, given, output, tangents, rows = _first_order(
        func, inputs, v, create_graph, strict, "hvp"
    )
    with enable_grad():
        used = tuple(r for r in rows if r.requires_grad)
        product = _filled((None,) * len(given), given, strict, "Jacobian")
        if used:
            parts = iter(_forward(used, given, tangents, create_graph, strict))
            product = tuple(
                next(parts) if r.requires_grad else p for r, p in zip(rows, product, strict=True)
            )
    return _result(True, (output,), create_graph), _result(single, product, create_graph)


def _first_order(
    func: Callable, inputs: Any, v: Any, create_graph: bool, strict: bool, name: str
) -> tuple:
    """The inputs, the scalar output, the vector and the gradient (with its graph)."""
    with enable_grad():
        single, given = _inputs(inputs, create_graph, name)
        vector = _vector(v, given, name, "inputs", single)
        output = func(*given)
        _refuse_not_scalar(output, name)
        _refuse_independent((output,), "output", strict)
        found = _gradients((output,), given, None, True, True)
        rows = _filled(found, given, strict, "Output")
        _refuse_independent(rows, "Jacobian", strict)
    return single, given, output, vector, rows


# -- arguments and results ---------------------------------------------------------------------

_INDEPENDENT = (
    "{} of the user-provided function is independent of {}. This is not allowed in strict mode."
)


def _tensors(given: Any, what: str, name: str) -> tuple[bool, tuple]:
    """Whether it was one tensor, and the tensors."""
    single = not isinstance(given, (tuple, list))
    tensors = (given,) if single else tuple(given)
    for tensor in tensors:
        if not isinstance(tensor, recorder.TensorBase):
            raise TypeError(
                f"The {what} given to {name} must be either a Tensor or a tuple of Tensors but "
                f"got {type(tensor)}"
            )
    return single, tensors


def _inputs(inputs: Any, create_graph: bool, name: str) -> tuple[bool, tuple]:
    """Fresh leaves for the function; with ``create_graph`` views that stay in the graph."""
    single, tensors = _tensors(inputs, "inputs", name)
    made = []
    for x in tensors:
        inside = create_graph and x.requires_grad
        made.append(x.view_as(x) if inside else x.detach().requires_grad_(True))
    return single, tuple(made)


def _outputs(outputs: Any, name: str) -> tuple[bool, tuple]:
    return _tensors(outputs, "outputs of the user-provided function", name)


def _vector(v: Any, refs: tuple, name: str, what: str, single: bool = True) -> tuple:
    """The vector of a product, of the shapes of ``refs``; 1 where there is only one number."""
    if v is None:
        if len(refs) != 1 or refs[0].numel() != 1:
            raise RuntimeError(
                f"{name}: the vector v can only be None if the {what} are a single Tensor with a "
                "single element"
            )
        return (refs[0].new_ones(tuple(refs[0].shape)),)
    _, vectors = _tensors(v, "v", name)
    if len(vectors) != len(refs):
        raise RuntimeError(
            f"v is a tuple of invalid length: should be {len(refs)} but got {len(vectors)}."
        )
    for i, (vector, ref) in enumerate(zip(vectors, refs, strict=True)):
        if vector.shape != ref.shape:
            raise RuntimeError(
                f"Entry {i} in v has invalid size: should be {ref.shape} but got {vector.shape}."
            )
    return tuple(x if x.requires_grad else x.detach() for x in vectors)


def _gradients(
    outputs: Sequence, inputs: Sequence, seeds: Sequence | None, create: bool, retain: bool
) -> tuple:
    """``grad`` that leaves out outputs without a graph; None for what does not depend."""
    seeds = (None,) * len(outputs) if seeds is None else seeds
    pairs = [(o, s) for o, s in zip(outputs, seeds, strict=True) if o.requires_grad]
    if not pairs:
        return (None,) * len(inputs)
    roots, weights = zip(*pairs, strict=True)
    given = None if weights[0] is None else weights
    return grad(roots, inputs, given, retain_graph=retain, create_graph=create, allow_unused=True)


def _filled(found: Sequence, refs: Sequence, strict: bool, what: str) -> tuple:
    """Zeros where there is no gradient; with ``strict`` an error instead."""
    made = []
    for i, (g, ref) in enumerate(zip(found, refs, strict=True)):
        if g is None and strict:
            raise RuntimeError(_INDEPENDENT.format(f"The {what.lower()}", f"input {i}"))
        made.append(_zeros(ref) if g is None else g)
    return tuple(made)


def _zeros(like: Any) -> Any:
    return like.new_zeros(tuple(like.shape))


def _refuse_independent(tensors: Sequence, what: str, strict: bool) -> None:
    for i, tensor in enumerate(tensors):
        if strict and not tensor.requires_grad:
            raise RuntimeError(_INDEPENDENT.format(f"The {what} {i}", "all inputs"))


def _refuse_not_scalar(output: Any, name: str) -> None:
    single, _ = _outputs(output, name)
    if not single:
        raise RuntimeError(f"The function given to {name} should return a single Tensor")
    if output.numel() != 1:
        raise RuntimeError(
            f"The Tensor returned by the function given to {name} should contain a single element"
        )


def _refuse_strategy(strategy: str, vectorize: bool, strict: bool) -> None:
    if strategy not in _STRATEGIES:
        raise ValueError(f"expected strategy to be one of {_STRATEGIES}, got {strategy!r}")
    if strategy == "forward-mode" and not vectorize:
        raise NotImplementedError(
            'strategy="forward-mode" is only for vectorize=True; use strategy="reverse-mode"'
        )
    if strict and vectorize:
        raise RuntimeError("strict=True and vectorize=True together are not supported")


def _graph(create_graph: bool) -> Any:
    """Keeps recording only where the result's own graph is wanted."""
    return set_grad_enabled(create_graph and is_grad_enabled())


def _result(single: bool, tensors: tuple, create_graph: bool) -> Any:
    made = tensors if create_graph else tuple(t.detach() for t in tensors)
    return made[0] if single else made
