"""Kernels and targets as bytes: what a compile worker is sent, and what objects are known by.

A kernel becomes a table of entries that refer to earlier ones by number. Equal expressions and
indices are one entry, and the names of buffers, variables and symbols are left out, so that kernels
that mean the same code have the same bytes whatever they were called. ``pickle`` would do neither,
and would recurse as deep as the expressions are.
"""

from __future__ import annotations

import marshal
from collections.abc import Sequence
from typing import Any

from taimatsu.ir.expression import FLOATS, Expression
from taimatsu.ir.index import Index, Minimum, Product, Quotient, Remainder, Symbol, Var
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
    Transpose,
)
from taimatsu.ir.target import Target

PAIR_NAMES = {Quotient: "quotient", Remainder: "remainder", Minimum: "minimum"}
FORMAT = 2  # of marshal: without references, which depend on more than the values


def pack_kernel(kernel: Kernel) -> bytes:
    """A kernel as bytes. ValueError for a symbol that is not among the kernel's."""
    return _Packer(kernel).data()


def unpack_kernel(data: bytes) -> Kernel:
    """The kernel; its buffers, variables and symbols have names of their own."""
    return _Unpacker(data).kernel


def pack_values(values: Sequence[int]) -> bytes:
    """The numbers that a kernel's symbols stand for, as bytes."""
    return marshal.dumps(tuple(values), FORMAT)


def unpack_values(data: bytes) -> tuple[int, ...]:
    values: tuple[int, ...] = marshal.loads(data)
    return values


def pack_target(target: Target) -> bytes:
    """What code generation may know of a target, as bytes."""
    fields = (
        target.triple,
        target.cpu,
        tuple(sorted(target.features)),
        target.vector_bytes,
        target.vector_registers,
        target.l1_bytes,
        target.l2_bytes,
        target.l3_bytes,
    )
    return marshal.dumps(fields, FORMAT)


def unpack_target(data: bytes) -> Target:
    triple, cpu, features, *sizes = marshal.loads(data)
    return Target(triple, cpu, frozenset(features), *sizes)


class _Packer:
    """The table in the making."""

    def __init__(self, kernel: Kernel) -> None:
        self.table: list[tuple] = []
        self.places: dict[tuple, int] = {}  # of entries that are equal when their content is
        self.objects: dict[Any, int] = {}  # of variables, buffers and expressions, by identity
        self.indices: dict[Index, int] = {}
        # Symbols come first, and variables before what uses them, so that factors, which products
        # keep in the order of names, have an order without.
        self.symbols = {s: self._new(("symbol", n)) for n, s in enumerate(kernel.symbols)}
        self.root = (
            tuple([self._buffer(b) for b in kernel.arguments]),
            len(kernel.symbols),
            kernel.numbers,
            tuple([self._statement(s) for s in kernel.body]),
        )

    def data(self) -> bytes:
        return marshal.dumps((tuple(self.table), self.root), FORMAT)

    def _new(self, entry: tuple) -> int:
        self.table.append(entry)
        return len(self.table) - 1

    def _shared(self, entry: tuple) -> int:
        place = self.places.get(entry)
        if place is None:
            place = self.places[entry] = self._new(entry)
        return place

    # -- indices ---------------------------------------------------------------------------

    def _index(self, value: Index) -> int:
        place = self.indices.get(value)
        if place is None:
            terms = []
            for atom, factor in value.terms:
                terms.append(self._atom(atom))
                terms.append(factor)
            place = self.indices[value] = self._shared(("index", value.constant, *terms))
        return place

    def _atom(self, atom: Any) -> int:
        kind = type(atom)
        if kind is Var:
            place = self.objects.get(atom)
            if place is None:
                place = self.objects[atom] = self._new(("var", self._index(atom.extent)))
            return place
        if kind is Symbol:
            if atom not in self.symbols:
                raise ValueError(f"[compile] {atom} is not among the kernel's symbols")
            return self.symbols[atom]
        if kind is Product:
            return self._shared(("product", *sorted([self._atom(f) for f in atom.factors])))
        return self._shared((PAIR_NAMES[kind], self._index(atom.left), self._index(atom.right)))

    # -- buffers and expressions -----------------------------------------------------------

    def _buffer(self, buffer: Buffer) -> int:
        place = self.objects.get(buffer)
        if place is None:
            entry = (
                "buffer",
                buffer.dtype,
                tuple([self._index(n) for n in buffer.shape]),
                buffer.scope,
                tuple([self._index(n) for n in buffer.strides]),
                self._index(buffer.origin),
                buffer.aligned,
                buffer.lanes,
                self._index(buffer.size),
            )
            place = self.objects[buffer] = self._new(entry)
        return place

    def _expression(self, root: Expression) -> int:
        """Arguments first, without recursion: expressions may be deep."""
        objects = self.objects
        waiting = [root]
        while waiting:
            node = waiting[-1]
            if node in objects:
                waiting.pop()
                continue
            operands = node.args if node.op != "load" else _computed(node.detail[1])
            missing = [a for a in operands if a not in objects]
            if missing:
                waiting.extend(reversed(missing))
                continue
            waiting.pop()
            args = tuple([objects[a] for a in node.args])
            entry = ("expression", node.op, args, node.dtype, self._detail(node))
            objects[node] = self._shared(entry)
        return objects[root]

    def _detail(self, node: Expression) -> Any:
        detail = node.detail
        if node.op == "load":
            buffer, where = detail
            return (self._buffer(buffer), *[self._coordinate(c) for c in where])
        if node.op == "index":
            return self._index(detail)
        if node.op == "constant":
            # As text, 0 is not -0 and not False, and nan is equal to itself.
            return float(detail).hex() if node.dtype in FLOATS else str(int(detail))
        return detail

    def _coordinate(self, coordinate: Any) -> int:
        if type(coordinate) is Expression:
            return self._expression(coordinate)
        return self._index(coordinate)

    # -- statements ------------------------------------------------------------------------

    def _statement(self, statement: Statement) -> int:
        kind = type(statement)
        if kind is Store:
            return self._store(statement)  # type: ignore[arg-type]
        given: Any = statement
        head: tuple
        if kind is Loop:
            head = ("loop", self._atom(given.var), given.kind, given.width, given.unroll)
        elif kind is If:
            head = ("if", self._expression(given.condition))
        elif kind is Check:
            return self._new(("check", self._expression(given.condition), given.code))
        elif kind is Transpose:
            return self._new(("transpose", self._buffer(given.buffer)))
        elif kind is Prefetch:
            where = tuple([self._index(c) for c in given.coordinates])
            return self._new(("prefetch", self._buffer(given.buffer), where, given.is_written))
        else:
            head = ("allocate", self._buffer(given.buffer))
        return self._new((*head, tuple([self._statement(s) for s in given.body])))

    def _store(self, statement: Store) -> int:
        where = tuple([self._coordinate(c) for c in statement.coordinates])
        value = self._expression(statement.value)
        return self._new(("store", self._buffer(statement.buffer), where, value))


def _computed(where: tuple[Any, ...]) -> list[Expression]:
    return [c for c in where if type(c) is Expression]


class _Unpacker:
    """The objects of a table, made one after another."""

    def __init__(self, data: bytes) -> None:
        table, (arguments, symbols, numbers, body) = marshal.loads(data)
        self.made: list[Any] = []
        self.symbols = [Symbol(f"s{n}") for n in range(symbols)]
        for entry in table:
            self.made.append(getattr(self, f"_{entry[0]}")(*entry[1:]))
        self.kernel = Kernel("kernel", self._all(arguments), self.symbols, numbers, self._all(body))

    def _all(self, places: tuple[int, ...]) -> tuple[Any, ...]:
        return tuple([self.made[place] for place in places])

    def _index(self, constant: int, *terms: int) -> Index:
        atoms = self._all(terms[::2])
        return Index(tuple(zip(atoms, terms[1::2], strict=True)), constant)

    def _var(self, extent: int) -> Var:
        return Var(f"v{len(self.made)}", self.made[extent])

    def _symbol(self, place: int) -> Symbol:
        return self.symbols[place]

    def _product(self, *factors: int) -> Product:
        return Product(self._all(factors))

    def _quotient(self, left: int, right: int) -> Quotient:
        return Quotient(self.made[left], self.made[right])

    def _remainder(self, left: int, right: int) -> Remainder:
        return Remainder(self.made[left], self.made[right])

    def _minimum(self, left: int, right: int) -> Minimum:
        return Minimum(self.made[left], self.made[right])

    def _buffer(
        self,
        dtype: str,
        shape: tuple[int, ...],
        scope: str,
        strides: tuple[int, ...],
        origin: int,
        aligned: bool,
        lanes: int,
        size: int,
    ) -> Buffer:
        return Buffer(
            f"b{len(self.made)}",
            dtype,
            self._all(shape),
            scope,
            self._all(strides),
            self.made[origin],
            aligned,
            lanes,
            self.made[size],
        )

    def _expression(self, op: str, args: tuple[int, ...], dtype: str, detail: Any) -> Expression:
        if op == "load":
            detail = (self.made[detail[0]], self._all(detail[1:]))
        elif op == "index":
            detail = self.made[detail]
        elif op == "constant" and dtype in FLOATS:
            detail = float.fromhex(detail)
        elif op == "constant":
            detail = bool(int(detail)) if dtype == "bool" else int(detail)
        return Expression(op, self._all(args), dtype, detail)

    def _store(self, buffer: int, where: tuple[int, ...], value: int) -> Store:
        return Store(self.made[buffer], self._all(where), self.made[value])

    def _loop(self, var: int, kind: str, width: int, unroll: int, body: tuple[int, ...]) -> Loop:
        return Loop(self.made[var], kind, self._all(body), width, unroll)

    def _if(self, condition: int, body: tuple[int, ...]) -> If:
        return If(self.made[condition], self._all(body))

    def _check(self, condition: int, code: int) -> Check:
        return Check(self.made[condition], code)

    def _transpose(self, buffer: int) -> Transpose:
        return Transpose(self.made[buffer])

    def _prefetch(self, buffer: int, where: tuple[int, ...], is_written: bool) -> Prefetch:
        return Prefetch(self.made[buffer], self._all(where), is_written)

    def _allocate(self, buffer: int, body: tuple[int, ...]) -> Allocate:
        return Allocate(self.made[buffer], self._all(body))
