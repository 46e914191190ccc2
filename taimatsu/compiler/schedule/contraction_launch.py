"""Statements to launches: what a kernel needs is found by going through them."""

from __future__ import annotations

from collections.abc import Iterable

from taimatsu.compiler.groups import Launch
from taimatsu.compiler.schedule.contraction_problem import Problem
from taimatsu.ir import expression as ex
from taimatsu.ir.expression import FLOATS, SIZES, Expression
from taimatsu.ir.index import Index, Symbol, index
from taimatsu.ir.loops import (
    Allocate,
    Buffer,
    Check,
    If,
    Kernel,
    Loop,
    Prefetch,
    Statement,
    Store,
)
from taimatsu.ir.loops import statements as all_statements


def launch_of(
    name: str,
    problem: Problem,
    body: list[Statement],
    is_main: bool = False,
    is_last: bool = False,
) -> Launch:
    """A launch; with messages if it is the last one, with operations if it is the main one."""
    made, numbers = kernel(name, problem, body)
    launch = Launch(
        made,
        tuple([problem.memories.of[b] for b in made.arguments]),
        numbers,
        problem.nodes,
    )
    if is_last:
        launch.messages = {n: m for n, (_, m) in enumerate(problem.checks, start=1)}
    if is_main:
        flops = index(2)
        for axis in (*problem.axes, *problem.reduced):
            flops = flops * axis.extent
        launch.flops = flops
    total = index(0)
    for buffer in made.arguments:
        total = total + buffer.size * SIZES[buffer.dtype]
    launch.bytes = total
    return launch


def kernel(name: str, problem: Problem, body: list[Statement]) -> tuple[Kernel, tuple[int, ...]]:
    """A kernel of statements, with the numbers that it needs: their places in the program."""
    used = _Used()
    for statement in all_statements(body):
        used.statement(statement)
    places = sorted(used.numbers)
    renumbered = _renumbered(body, {p: n for n, p in enumerate(places)}) if places else body
    dtypes = ["float64" if used.numbers[p] in FLOATS else "int64" for p in places]
    order = [b for b in problem.memories.of if b in used.buffers]
    symbols = [used.symbols[n] for n in sorted(used.symbols)]
    return Kernel(name, order, symbols, dtypes, renumbered), tuple(places)


class _Used:
    """Which buffers, symbols and numbers statements refer to."""

    def __init__(self) -> None:
        self.buffers: set[Buffer] = set()
        self.symbols: dict[str, Symbol] = {}
        self.numbers: dict[int, str] = {}
        self.seen: set[Expression] = set()

    def statement(self, statement: Statement) -> None:
        if isinstance(statement, Loop):
            self.index(statement.extent)
        elif isinstance(statement, Store):
            self.buffer(statement.buffer)
            for c in statement.coordinates:
                self.coordinate(c)
            self.expression(statement.value)
        elif isinstance(statement, Prefetch):
            self.buffer(statement.buffer)
            for c in statement.coordinates:
                self.index(c)
        elif isinstance(statement, (If, Check)):
            self.expression(statement.condition)

    def coordinate(self, c: Index | Expression) -> None:
        if isinstance(c, Expression):
            self.expression(c)
        else:
            self.index(c)

    def index(self, value: Index) -> None:
        for atom in value.atoms():
            if type(atom) is Symbol:
                self.symbols[atom.name] = atom

    def buffer(self, buffer: Buffer) -> None:
        if buffer.scope == "argument" and buffer not in self.buffers:
            self.buffers.add(buffer)
            self.index(buffer.size)

    def expression(self, root: Expression) -> None:
        for node in ex.walk(root, self.seen):
            if node.op == "load":
                self.buffer(node.detail[0])
                for c in node.detail[1]:
                    if isinstance(c, Index):
                        self.index(c)
            elif node.op == "index":
                self.index(node.detail)
            elif node.op == "number":
                self.numbers[node.detail] = node.dtype


def _renumbered(body: Iterable[Statement], places: dict[int, int]) -> list[Statement]:
    done: dict[Expression, Expression] = {}

    def change(node: Expression) -> Expression | None:
        return ex.number(places[node.detail], node.dtype) if node.op == "number" else None

    def moved(statement: Statement) -> Statement:
        if isinstance(statement, Loop):
            inner = [moved(s) for s in statement.body]
            return Loop(statement.var, statement.kind, inner, statement.width, statement.unroll)
        if isinstance(statement, Store):
            value = ex.rewrite(statement.value, change, done)
            return Store(statement.buffer, statement.coordinates, value)
        if isinstance(statement, If):
            condition = ex.rewrite(statement.condition, change, done)
            return If(condition, [moved(s) for s in statement.body])
        if isinstance(statement, Check):
            return Check(ex.rewrite(statement.condition, change, done), statement.code)
        if isinstance(statement, Allocate):
            return Allocate(statement.buffer, [moved(s) for s in statement.body])
        return statement

    return [moved(s) for s in body]
