"""einsum: sums of products written as index equations, made of permute, reshape and matmul."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from math import prod
from typing import Any

from taimatsu.errors import OperationError
from taimatsu.ops.base import Sample, array, composite
from taimatsu.ops.matmul import Matmul

# A label names a dimension: a letter, or a number counted from the back for those of "...".
Label = str | int


def _error(message: str, got: str = "", hint: str = "") -> Exception:
    return OperationError.make("einsum", f"einsum(): {message}", got, hint)


def _samples() -> Iterator[Sample]:
    yield Sample("ij,jk->ik", array(3, 4), array(4, 5))
    yield Sample("ij,kj", array(3, 4), array(5, 4))
    yield Sample("bij,bjk->bik", array(2, 3, 4), array(2, 4, 5))
    yield Sample("...ij,...jk->...ik", array(2, 1, 3, 4), array(3, 4, 5))
    yield Sample("ii->i", array(3, 3))
    yield Sample("ii", array(3, 3))
    yield Sample("i,j->ij", array(3), array(4))
    yield Sample("i,i->", array(3), array(3, seed=1))
    yield Sample("ij->ji", array(3, 4))
    yield Sample("b...->...", array(2, 3, 4))
    yield Sample("bn,anm,bm->ba", array(2, 5), array(3, 5, 4), array(2, 4))
    yield Sample("ij,ij->i", array(3, 4), array(3, 1))
    yield Sample(array(3, 4), [0, 1], array(4, 5), [1, 2], [0, 2])
    yield Sample(array(3, 4), [0, Ellipsis], [Ellipsis, 0])


@composite("einsum", methods=(), samples=_samples)
def einsum(*args: Any) -> Any:
    """``einsum(equation, *operands)``: multiplies operands and sums over labels.

    ``"ij,jk->ik"`` names each operand's dimensions; labels missing behind ``->`` are summed over.
    A label repeated within an operand means its diagonal, ``...`` any number of dimensions, which
    broadcast. Without ``->`` the labels that occur once are the output, in alphabetical order. Or
    ``einsum(x, [0, 1], y, [1, 2], [0, 2])``. Operands are contracted from left to right.
    """
    equation, operands = _arguments(args)
    terms, output = _parse(equation, operands)
    _check_extents(terms, operands)
    extents = _extents(terms, operands)
    pairs = [_prepared(x, labels, extents) for x, labels in zip(operands, terms, strict=True)]
    tensor, labels = pairs[0]
    for i, (other, other_labels) in enumerate(pairs[1:], start=1):
        needed = {*output, *chain.from_iterable(later for _, later in pairs[i + 1 :])}
        tensor, labels = _contract(tensor, labels, other, other_labels, needed)
    tensor, labels = _sum_out(tensor, labels, set(output))
    return _arranged(tensor, labels, output)


# -- reading the equation --------------------------------------------------------------------


def _arguments(args: Sequence[Any]) -> tuple[str, list[Any]]:
    """The equation and the operands, from any of the forms of the call."""
    if not args:
        raise _error("must provide at least one operand")
    if not isinstance(args[0], str):
        return _from_sublists(args)
    operands = args[1:]
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = operands[0]
    if not operands:
        raise _error("must provide at least one operand")
    return args[0], list(operands)


def _letter(index: int) -> str:
    if not 0 <= index < 52:
        raise _error(
            "not able to parse sublist: the subscripts must be in the range [0, 52)", str(index)
        )
    return chr(ord("A") + index) if index < 26 else chr(ord("a") + index - 26)


def _from_sublists(args: Sequence[Any]) -> tuple[str, list[Any]]:
    def written(sublist: Sequence[Any]) -> str:
        return "".join("..." if s is Ellipsis else _letter(s) for s in sublist)

    operands = list(args[0 : len(args) - len(args) % 2 : 2])
    terms = [written(s) for s in args[1::2]]
    equation = ",".join(terms)
    if len(args) % 2:
        equation += "->" + written(args[-1])
    return equation, operands


def _parse(equation: str, operands: Sequence[Any]) -> tuple[list[list[Label]], list[Label]]:
    """The labels of each operand's dimensions and of the output's."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    written = left.split(",")
    if len(written) != len(operands):
        fewer = "fewer" if len(operands) < len(written) else "more"
        raise _error(
            f"{fewer} operands were provided than specified in the equation",
            f"{len(operands)} for the {len(written)} of {equation!r}",
            "the operands' letters are separated by a comma",
        )
    terms = [
        _labels(text, x.ndim, i) for i, (text, x) in enumerate(zip(written, operands, strict=True))
    ]
    spread = max((sum(isinstance(s, int) for s in term) for term in terms), default=0)
    dots: list[Label] = list(range(-spread, 0))
    if not arrow:
        every = [s for s in chain.from_iterable(terms) if isinstance(s, str)]
        return terms, dots + sorted(s for s in set(every) if every.count(s) == 1)
    return terms, _output(right, dots, terms)


def _labels(text: str, ndim: int, number: int) -> list[Label]:
    """One operand's labels; those of ``...`` are numbers from the back, so that they align."""
    before, dots, after = text.partition("...")
    for s in before + after:
        if not ("a" <= s <= "z" or "A" <= s <= "Z"):
            raise _error(
                f"invalid subscript given for operand {number}: subscripts must be in [a-zA-Z]",
                repr(s),
            )
    named = len(before) + len(after)
    if named > ndim or (named < ndim and not dots):
        hint = "" if dots else " and no ellipsis was given"
        raise _error(
            f"the number of subscripts in the equation ({named}) "
            f"{'is more than' if dots else 'does not match'} the number of dimensions ({ndim}) "
            f"for operand {number}{hint}",
            hint="give one letter for each dimension, or ... for the leading ones",
        )
    return [*before, *range(named - ndim, 0), *after] if dots else list(before)


def _output(text: str, dots: list[Label], terms: list[list[Label]]) -> list[Label]:
    before, written, after = text.partition("...")
    output: list[Label] = [*before, *(dots if written else ()), *after]
    known = set(chain.from_iterable(terms))
    for s in output:
        if s not in known:
            raise _error(
                f"output subscript {s} does not appear in the equation for any input operand"
            )
        if output.count(s) > 1:
            raise _error(f"output subscript {s} appears more than once in the output")
    return output


def _check_extents(terms: list[list[Label]], operands: Sequence[Any]) -> None:
    """Equal labels mean equal extents; 1 broadcasts between operands, not within one."""
    seen: dict[Label, int] = {}
    for number, (labels, x) in enumerate(zip(terms, operands, strict=True)):
        own: dict[Label, int] = {}
        for label, extent in zip(labels, x.shape, strict=True):
            if own.setdefault(label, extent) != extent:
                raise _error(
                    f"subscript {label} is repeated for operand {number} but the sizes don't "
                    f"match, {extent} != {own[label]}"
                )
        for label, extent in own.items():
            before = seen.get(label, 1)
            if before != 1 and extent not in (1, before):
                raise _error(
                    f"subscript {label} has size {extent} for operand {number} which does not "
                    f"broadcast with previously seen size {before}"
                )
            seen[label] = extent if before == 1 else before


def _extents(terms: list[list[Label]], operands: Sequence[Any]) -> dict[Label, int]:
    extents: dict[Label, int] = {}
    for labels, x in zip(terms, operands, strict=True):
        for label, extent in zip(labels, x.shape, strict=True):
            if extents.get(label, 1) == 1:
                extents[label] = extent
    return extents


# -- contracting -----------------------------------------------------------------------------


def _prepared(x: Any, labels: list[Label], extents: dict[Label, int]) -> tuple[Any, list[Label]]:
    """Repeated labels become diagonals; dimensions that only broadcast (extent 1) are dropped."""
    labels = list(labels)
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            x = x.diagonal(0, first, second)
            del labels[second], labels[first]
            labels.append(label)
    for label in [s for s in labels if extents[s] != 1]:
        at = labels.index(label)
        if x.shape[at] == 1:
            x = x.squeeze(at)
            del labels[at]
    return x, labels


def _sum_out(x: Any, labels: list[Label], needed: set[Label]) -> tuple[Any, list[Label]]:
    """Sums over the dimensions that nothing needs any more."""
    gone = [d for d, s in enumerate(labels) if s not in needed]
    if gone:
        x = x.sum(gone, dtype=x.dtype)
    return x, [s for s in labels if s in needed]


def _arranged(x: Any, labels: list[Label], order: Sequence[Label]) -> Any:
    if labels == list(order):
        return x
    return x.permute(*(labels.index(s) for s in order))


def _contract(
    a: Any, in_a: list[Label], b: Any, in_b: list[Label], needed: set[Label]
) -> tuple[Any, list[Label]]:
    """The product of two operands, summed over the shared labels that nothing needs later."""
    a, in_a = _sum_out(a, in_a, needed | set(in_b))
    b, in_b = _sum_out(b, in_b, needed | set(in_a))
    shared = [s for s in in_a if s in in_b]
    batch = [s for s in shared if s in needed]
    inner = [s for s in shared if s not in needed]
    left = [s for s in in_a if s not in shared]
    right = [s for s in in_b if s not in shared]
    size = dict(zip(in_a, a.shape, strict=True)) | dict(zip(in_b, b.shape, strict=True))
    result = batch + left + right

    def extents(labels: Sequence[Label]) -> list[int]:
        return [size[s] for s in labels]

    rows = _arranged(a, in_a, batch + left + inner)
    if not inner:
        rows = rows.reshape(extents(batch + left) + [1] * len(right))
        columns = _arranged(b, in_b, batch + right)
        columns = columns.reshape(extents(batch) + [1] * len(left) + extents(right))
        return rows * columns, result
    count = [prod(extents(batch))] if batch else []
    k = prod(extents(inner))
    rows = rows.reshape(*count, prod(extents(left)), k)
    columns = _arranged(b, in_b, batch + inner + right)
    columns = columns.reshape(*count, k, prod(extents(right)))
    product = Matmul.apply(rows, columns)
    return product.reshape(extents(result)), result
