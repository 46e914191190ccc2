"""Expressions: rewriting keeps sharing, and neither it nor walking minds how deep they are."""

from __future__ import annotations

from taimatsu.ir.expression import (
    Expression,
    binary,
    constant,
    index_value,
    load,
    rewrite,
    select,
    substitute,
    unary,
    walk,
)
from taimatsu.ir.index import Symbol, Var, index
from taimatsu.ir.loops import Buffer
from taimatsu.ir.printer import expression_text

X, WHERE = Buffer("x", "float32", [9]), Buffer("where", "int64", [9])
I4, J4 = Var("i", 4), Var("j", 4)


def test_rewriting_replaces_from_the_leaves_up() -> None:
    twice = load(X, [I4]) * 2.0
    whole = unary("exp", twice) + twice
    seen: list[str] = []

    def change(node: Expression) -> Expression | None:
        seen.append(node.op)
        return constant(3, "float32") if node.op == "load" else None

    made = rewrite(whole, change, {})
    assert seen == ["load", "constant", "mul", "exp", "add"]
    assert expression_text(made) == ("%0 = (3.0:float32 * 2.0:float32)\n(exp(%0) + %0)")
    assert made.args[1] is made.args[0].args[0]
    assert expression_text(whole) == "%0 = (x[i] * 2.0:float32)\n(exp(%0) + %0)"


def test_what_does_not_change_is_the_same_node() -> None:
    whole = select(binary("lt", load(X, [load(WHERE, [I4])]), 1.0), 0.0, load(X, [0]))
    assert rewrite(whole, lambda node: None, {}) is whole


def test_substitution_reaches_indices_and_computed_coordinates() -> None:
    place = load(WHERE, [index(I4) + 1])
    whole = load(X, [place]) + load(X, [I4])
    made = substitute(whole, {I4: index(J4) * 2}, {})
    assert expression_text(made) == "(x[{where[2*j + 1]}] + x[2*j])"
    number = substitute(index_value(index(I4) + Symbol("n")), {Symbol("n"): 5}, {})
    assert expression_text(number) == "index(i + 5)"


def test_results_are_remembered_between_rewrites() -> None:
    done: dict[Expression, Expression] = {}
    part = load(X, [I4])
    first = substitute(part + 1.0, {I4: 3}, done)
    second = substitute(part * 2.0, {I4: 3}, done)
    assert first.args[0] is second.args[0]


def test_depth_does_not_matter() -> None:
    value = load(X, [I4])
    for _ in range(20_000):
        value = value + 1.0
    made = substitute(value, {I4: 2}, {})
    nodes = list(walk(made))
    assert len(nodes) == 40_001
    assert nodes[-1] is made
    assert expression_text(nodes[0]) == "x[2]"
