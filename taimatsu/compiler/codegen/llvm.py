"""Loop nests to LLVM IR: statements and loops. Expressions are in ``values``, memory in ``memory``.

Every loop has a scope of its own for what is computed ahead of it (where the loop is known to be
carried out at least once, so that loads may stand there) and one for its body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from taimatsu.compiler.codegen.functions import SELDOM_METADATA, Library
from taimatsu.compiler.codegen.integers import Indices, Place
from taimatsu.compiler.codegen.memory import Memory, Register, any_of, scopes_of
from taimatsu.compiler.codegen.values import Values
from taimatsu.compiler.codegen.writer import Scope, Value, Writer
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
    padded_bytes,
    statements,
)
from taimatsu.ir.target import Target


def lower_kernel(kernel: Kernel, target: Target) -> str:
    """The LLVM IR of a kernel: a module with ``i64 kernel(ptr words, i64 chunk, i64 worker)``.

    Raises ValueError for a kernel that is not well-formed: a register whose coordinates are no
    constants, a serial loop whose extent differs between lanes, operations a dtype does not have.
    """
    return _Function(kernel, target).text()


class _Function:
    """The function of one kernel in the making."""

    def __init__(self, kernel: Kernel, target: Target) -> None:
        self.kernel = kernel
        self.writer = Writer(target.vector_registers // 2)
        words = Value("%words", "ptr")
        self.worker = Value("%worker", "i64")
        self.chunk = Value("%chunk", "i64")
        library = Library(self.writer, target)
        self.indices = Indices(self.writer)
        self.memory = Memory(self.writer, self.indices, library, words)
        first = len(kernel.arguments) + len(kernel.symbols)
        numbers = [(dtype, first + n) for n, dtype in enumerate(kernel.numbers)]
        self.values = Values(
            self.writer, self.indices, self.memory, library, target, words, numbers
        )
        self.scratch_word = first + len(kernel.numbers)
        self.stored: dict[int, frozenset[Buffer]] = {}
        self.metadata = self._bind_buffers()

    def text(self) -> str:
        for statement in self.kernel.body:
            self._statement(statement)
        self.writer.block.end = "ret i64 0"
        parts = [
            "define i64 @kernel(ptr %words, i64 %chunk, i64 %worker) nounwind {",
            self.writer.body(),
            "}",
            *self.writer.globals.values(),
            *self.metadata,
            SELDOM_METADATA,
        ]
        return "\n".join(parts) + "\n"

    # -- what the launch gives -------------------------------------------------------------

    def _bind_buffers(self) -> list[str]:
        """Addresses and symbols; the metadata of accesses."""
        kernel = self.kernel
        for place, symbol in enumerate(kernel.symbols, start=len(kernel.arguments)):
            word = self.values.word(place, "i64")
            self.indices.places[symbol] = Place(0, {word: 1})
        for place, buffer in enumerate(kernel.arguments):
            self.memory.bases[buffer] = self.values.word(place, "ptr")
        scratch = kernel.scratch()
        if scratch:
            self._bind_scratch(scratch)
        written = {s.buffer for s in statements(kernel.body) if type(s) is Store}
        notes, metadata = scopes_of([*kernel.arguments, *scratch], written)
        self.memory.notes = notes
        return metadata

    def _bind_scratch(self, scratch: list[Buffer]) -> None:
        """Each worker has its own part of the scratch memory, one buffer after another."""
        share = self.indices.place(self.kernel.scratch_bytes)
        offset = self.indices.times(Place(0, {self.worker: 1}), share)
        base = self.values.word(self.scratch_word, "ptr")
        for buffer in scratch:
            by = self.indices.scalar(offset)
            self.memory.bases[buffer] = self.memory._moved(base, by)
            following = Place()
            self.indices.add(following, offset)
            self.indices.add(following, self.indices.place(padded_bytes(buffer)))
            offset = following

    # -- statements ------------------------------------------------------------------------

    def _statements(self, body: Iterable[Statement]) -> None:
        for statement in body:
            self._statement(statement)

    def _statement(self, statement: Statement) -> None:
        kind = type(statement)
        if kind is Store:
            self._store(statement)  # type: ignore[arg-type]
        elif kind is Loop:
            self._loop(statement)  # type: ignore[arg-type]
        elif kind is If:
            self._if(statement)  # type: ignore[arg-type]
        elif kind is Check:
            self._check(statement)  # type: ignore[arg-type]
        elif kind is Prefetch:
            self._prefetch(statement)  # type: ignore[arg-type]
        elif kind is Transpose:
            self.memory.transpose(statement.buffer)  # type: ignore[attr-defined]
        elif kind is Allocate:
            self._allocate(statement)  # type: ignore[arg-type]
        else:
            raise ValueError(f"[codegen] {kind.__name__} is no statement")

    def _store(self, statement: Store) -> None:
        values = self.values
        value = values.value(statement.value)
        places = [values.place(c) for c in statement.coordinates]
        self.memory.store(statement.buffer, places, value)

    def _prefetch(self, statement: Prefetch) -> None:
        places = [self.values.place(c) for c in statement.coordinates]
        self.memory.prefetch(statement.buffer, places, statement.is_written)

    def _allocate(self, statement: Allocate) -> None:
        buffer = statement.buffer
        if buffer.scope != "register":
            self._statements(statement.body)
            return
        width = self.indices.width or (buffer.lanes if buffer.lanes > 1 else 0)
        if buffer.lanes not in (1, width):
            raise ValueError(
                f"[codegen] register {buffer} has {buffer.lanes} lanes in a loop of {width}"
            )
        shadowed = self.memory.registers.get(buffer)
        self.memory.registers[buffer] = Register(buffer, width)
        self._statements(statement.body)
        if shadowed is not None:
            self.memory.registers[buffer] = shadowed

    def _check(self, statement: Check) -> None:
        writer, memory = self.writer, self.memory
        condition = self.values.value(statement.condition)
        wrong = writer.binary("xor", condition, writer.constant(True, "i1"))
        if memory.mask is not None and (wrong.width or memory.may_be_empty):
            wrong = writer.binary("and", wrong, memory.mask)
        leave, go_on = writer.new_block(), writer.new_block()
        writer.branch_if(any_of(writer, wrong), leave, go_on)
        leave.end = f"ret i64 {statement.code}"
        writer.go_on(go_on)
        writer.hold_loads()

    def _if(self, statement: If) -> None:
        condition = self.values.value(statement.condition)
        if condition.width:
            self._masked(condition, statement.body)
            return
        if condition.constant is not None:
            if condition.constant:
                self._statements(statement.body)
            return
        self._guarded(condition, lambda: self._statements(statement.body), True)

    def _masked(self, condition: Value, body: Iterable[Statement]) -> None:
        memory = self.memory
        before = memory.mask, memory.may_be_empty
        if memory.mask is not None:
            condition = self.writer.binary("and", memory.mask, condition)
        memory.mask, memory.may_be_empty = condition, True
        self._statements(body)
        memory.mask, memory.may_be_empty = before

    # -- control flow ----------------------------------------------------------------------

    def _stored(self, statement: Any) -> frozenset[Buffer]:
        """The buffers that are written somewhere in a statement."""
        found = self.stored.get(id(statement))
        if found is None:
            inside = statements(statement.body)
            found = frozenset([s.buffer for s in inside if type(s) is Store])
            self.stored[id(statement)] = found
        return found

    def _guarded(self, condition: Value | None, write: Callable[[], None], holds_all: bool) -> None:
        """What ``write`` writes, where the condition holds; None: always."""
        writer = self.writer
        if condition is None:
            write()
            return
        inside, after = writer.new_block(), writer.new_block()
        writer.branch_if(condition, inside, after)
        self.memory.forget_contents()
        writer.scopes.append(Scope(inside, holds_loads=True, holds_all=holds_all))
        write()
        writer.branch(after)
        writer.scopes.pop()
        writer.go_on(after)
        self.memory.forget_contents()

    def _counted(
        self,
        loop: Loop,
        begin: Value,
        end: Value,
        step: int,
        write: Callable[[Value], None],
    ) -> None:
        """A loop from ``begin`` to below ``end``, carried out at least once."""
        writer = self.writer
        stored = self._stored(loop)
        body, after = writer.new_block(), writer.new_block()
        ahead = writer.block
        writer.branch(body)
        self.memory.forget_contents()
        writer.changed(stored)
        writer.scopes.append(Scope(body, stored))
        counter = Value(writer.fresh(), "i64", 0, writer.level, None, step)
        following = writer.fresh()
        head = len(body.lines)
        body.lines.append("")
        write(counter)
        last = writer.block
        last.lines.append(f"{following} = add nuw nsw i64 {counter.name}, {step}")
        again = writer.fresh()
        last.lines.append(f"{again} = icmp ult i64 {following}, {end.name}")
        last.end = f"br i1 {again}, label %{body.label}, label %{after.label}"
        body.lines[head] = (
            f"{counter.name} = phi i64 [ {begin.name}, %{ahead.label} ], "
            f"[ {following}, %{last.label} ]"
        )
        writer.scopes.pop()
        writer.go_on(after)
        self.memory.forget_contents()

    # -- loops -----------------------------------------------------------------------------

    def _loop(self, loop: Loop) -> None:
        if loop.kind == "parallel":
            alone = loop.extent == 1
            self._with(loop, Place() if alone else Place(0, {self.chunk: 1}))
        elif loop.kind == "unroll":
            self._unrolled(loop)
        elif loop.kind == "serial" or loop.width == 1:
            self._serial(loop)
        elif loop.kind == "vector":
            self._vector(loop)
        else:
            raise ValueError(f"[codegen] there are no loops of kind {loop.kind!r}")

    def _with(self, loop: Loop, place: Place) -> None:
        """The body, the variable being ``place``."""
        self.indices.places[loop.var] = place
        self._statements(loop.body)
        del self.indices.places[loop.var]

    def _unrolled(self, loop: Loop) -> None:
        extent = self.indices.place(loop.extent)
        if not extent.is_constant:
            raise ValueError(f"[codegen] loop {loop.var} is unrolled; its extent is no constant")
        for iteration in range(extent.constant):
            self._with(loop, Place(iteration))

    def _serial(self, loop: Loop) -> None:
        extent = self.indices.place(loop.extent)
        if not extent.is_uniform:
            raise ValueError(f"[codegen] the extent of loop {loop.var} differs between lanes")
        if extent.is_constant and extent.constant <= 1:
            for iteration in range(extent.constant):
                self._with(loop, Place(iteration))
            return
        zero = self.writer.constant(0, "i64")
        end = self.indices.scalar(extent)
        guard = None if extent.constant and extent.is_constant else self._is_positive(end)

        def write() -> None:
            self._counted(loop, zero, end, 1, lambda n: self._with(loop, Place(0, {n: 1})))

        self._guarded(guard, write, False)

    def _is_positive(self, value: Value) -> Value:
        zero = self.writer.constant(0, "i64")
        return self.writer.binary("icmp sgt", value, zero, "i1")

    # -- vector loops ----------------------------------------------------------------------

    def _vector(self, loop: Loop) -> None:
        if self.indices.width:
            raise ValueError(f"[codegen] vector loop {loop.var} stands inside another")
        extent = self.indices.place(loop.extent)
        if extent.is_constant:
            self._vector_of_constant(loop, extent.constant)
        else:
            self._vector_of_any(loop, extent)

    def _vector_of_constant(self, loop: Loop, extent: int) -> None:
        width, together = loop.width, max(loop.unroll, 1)
        step = width * together
        rounds = extent // step
        constant = self.writer.constant
        if rounds > 1:
            begin, end = constant(0, "i64"), constant(rounds * step, "i64")
            self._counted(
                loop,
                begin,
                end,
                step,
                lambda n: self._vectors(loop, Place(0, {n: 1}), together),
            )
        elif rounds:
            self._vectors(loop, Place(), together)
        done = rounds * step
        self._vectors(loop, Place(done), (extent - done) // width)
        rest = extent % width
        if rest:
            lanes = ", ".join([f"i1 {'true' if n < rest else 'false'}" for n in range(width)])
            mask = Value(f"<{lanes}>", "i1", width)
            self._vectors(loop, Place(extent - rest), 1, mask, alone=extent == 1)

    def _vector_of_any(self, loop: Loop, extent: Place) -> None:
        writer = self.writer
        width, together = loop.width, max(loop.unroll, 1)
        count = self.indices.scalar(extent)
        zero = writer.constant(0, "i64")
        main = self._multiple(count, width * together)

        def rounds(begin: Value, end: Value, vectors: int) -> Callable[[], None]:
            return lambda: self._counted(
                loop,
                begin,
                end,
                width * vectors,
                lambda n: self._vectors(loop, Place(0, {n: 1}), vectors),
            )

        self._guarded(self._is_positive(main), rounds(zero, main, together), False)
        whole = main
        if together > 1:
            whole = self._multiple(count, width)
            whole.multiple = main.multiple = width
            more = writer.binary("icmp ult", main, whole, "i1")
            self._guarded(more, rounds(main, whole, 1), False)
        if (loop.extent % width) == 0:
            return
        whole.multiple = width

        def tail() -> None:
            left = writer.convert("trunc", writer.binary("sub", count, whole), "i32")
            lanes = writer.iota(width, "i32")
            mask = writer.binary("icmp ult", lanes, left, "i1")
            self._vectors(loop, Place(0, {whole: 1}), 1, mask)

        self._guarded(writer.binary("icmp ult", whole, count, "i1"), tail, False)

    def _multiple(self, count: Value, of: int) -> Value:
        """The greatest multiple that is not above the count."""
        rest = self.writer.binary("urem", count, self.writer.constant(of, "i64"))
        return self.writer.binary("sub", count, rest)

    def _vectors(
        self,
        loop: Loop,
        begin: Place,
        count: int,
        mask: Value | None = None,
        alone: bool = False,
    ) -> None:
        """The body for vectors that follow one another, from iteration ``begin`` on.

        Where one lane is ``alone`` the variable is a constant.
        """
        indices, memory = self.indices, self.memory
        indices.width, memory.mask, memory.may_be_empty = loop.width, mask, False
        for vector in range(count):
            first = begin.constant + vector * loop.width
            self._with(loop, Place(first, begin.terms, 0 if alone else 1))
        indices.width, memory.mask = 0, None
