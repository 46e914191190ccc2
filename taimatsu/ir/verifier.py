"""What every kernel must keep to; the rules are those that ``loops`` and ``expression`` state."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from taimatsu.ir.expression import (
    BINARY_FUNCTIONS,
    COMPARISONS,
    FLOATS,
    OPERATIONS,
    SIGNED,
    SIZES,
    UNARY_FUNCTIONS,
    UNSIGNED,
    Expression,
    walk,
)
from taimatsu.ir.index import Index, Symbol, Var, bounds, index, is_at_most
from taimatsu.ir.loops import (
    KINDS,
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
    row_major,
)
from taimatsu.ir.printer import expression_text, statement_text

INTEGERS = SIGNED | UNSIGNED
ACROSS = ("add", "mul", "min", "max", "and", "or", "xor")
MESSAGE_LINES = 12  # of the statement, in a message

# Operation -> the dtypes of its operands; those not listed take any.
_TAKES: dict[str, frozenset[str]] = {
    **dict.fromkeys((*UNARY_FUNCTIONS, *BINARY_FUNCTIONS, "div", "fma", "copysign"), FLOATS),
    **dict.fromkeys(("floordiv", "modulo", "truncdiv", "shl", "shr", "gcd"), INTEGERS),
    **dict.fromkeys(("neg", "abs", "pow"), FLOATS | INTEGERS),
    **dict.fromkeys(("and", "or", "xor", "not"), INTEGERS | {"bool"}),
    "mulhi": UNSIGNED,
    "fused": frozenset({"float32"}),
}


def verify(kernel: Kernel) -> None:
    """Raises AssertionError, with the statement's text, for a kernel that breaks a rule."""
    _Verifier(kernel).kernel()


class _Verifier:
    """The scope at the statement that is looked at, and the checks."""

    def __init__(self, of: Kernel) -> None:
        self.of = of
        self.here: Statement | None = None
        self.symbols = set(of.symbols)
        self.loops: dict[Var, Loop] = {}
        self.buffers: set[Buffer] = set()
        self.inner: set[Buffer] = set()  # registers allocated inside of the vector loop
        self.vector: Loop | None = None
        self.conditions = 0  # Ifs around the statement

    def fail(self, what: str) -> NoReturn:
        if self.here is None:
            raise AssertionError(f"[verify] {what}")
        lines = statement_text(self.here).splitlines()
        text = "\n".join([f"    {line}" for line in lines[:MESSAGE_LINES]])
        raise AssertionError(f"[verify] {what}; in\n{text}")

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            self.fail(what)

    # -- the kernel ------------------------------------------------------------------------

    def kernel(self) -> None:
        of = self.of
        self.check(len(of.body) > 0, "a kernel has at least one statement")
        self.check(len(self.symbols) == len(of.symbols), "symbols are listed once")
        for symbol in of.symbols:
            self.check(symbol.name.isidentifier(), f"the symbol {symbol.name!r} is no identifier")
        for dtype in of.numbers:
            self.check(dtype in ("float64", "int64"), f"numbers are float64 or int64, not {dtype}")
        for buffer in of.arguments:
            self.check(buffer.scope == "argument", f"the argument {buffer} is a {buffer.scope}")
            self.check(buffer not in self.buffers, f"the argument {buffer} is listed twice")
            self.buffer(buffer)
            self.buffers.add(buffer)
        self.body(of.body)

    def buffer(self, buffer: Buffer) -> None:
        name = buffer.name
        self.check(buffer.dtype in SIZES, f"{name} has the unknown dtype {buffer.dtype}")
        same = len(buffer.shape) == len(buffer.strides)
        self.check(same, f"{name} has {len(buffer.shape)} extents, {len(buffer.strides)} strides")
        for part in (*buffer.shape, *buffer.strides, buffer.origin, buffer.size):
            variables = part.variables()
            self.check(not variables, f"{name} depends on the loop variables {variables}")
            self.index(part)
        if buffer.scope == "register":
            plain = buffer.strides == row_major(buffer.shape) and buffer.origin == 0
            self.check(plain, f"the register {name} has strides or an origin")
            constant = all(n.is_constant for n in buffer.shape)
            self.check(constant, f"the register {name} has extents that are no constants")
            self.check(_is_power_of_two(buffer.lanes), f"{name} has {buffer.lanes} lanes")
        else:
            self.check(buffer.lanes == 1, f"{name} has lanes and is no register")
        if all(n.is_constant and n.value() > 0 for n in buffer.shape):
            reach = buffer.address([n - 1 for n in buffer.shape]) + 1 - buffer.size
            low, _ = bounds(reach)
            self.check(low is None or low <= 0, f"{name} is greater than its size {buffer.size}")

    # -- statements ------------------------------------------------------------------------

    def body(self, body: Iterable[Statement]) -> None:
        for statement in body:
            self.here = statement
            rule = _RULES.get(type(statement))
            if rule is None:
                raise AssertionError(f"[verify] {statement!r} is no statement")
            rule(self, statement)

    def loop(self, loop: Loop) -> None:
        var = loop.var
        self.check(loop.kind in KINDS, f"there are no loops of kind {loop.kind!r}")
        self.check(var not in self.loops, f"the variable {var} is that of a loop around it already")
        self.index(loop.extent)
        if loop.kind == "parallel":
            alone = self.of.body == (loop,)
            self.check(alone, "a parallel loop is the only statement at the top")
        if loop.kind == "unroll":
            self.constant(loop.extent, f"the extent of the unrolled loop {var}")
        if self.vector is not None:
            differs = self.vector.var in loop.extent.variables()
            self.check(not differs, f"the extent of {var} differs between lanes")
        if loop.kind == "vector":
            self.vector_loop(loop)
            return
        self.check(loop.width == loop.unroll == 1, f"{loop.kind} loops have no width or unroll")
        self.inside(loop)

    def vector_loop(self, loop: Loop) -> None:
        self.check(self.vector is None, f"the vector loop {loop.var} is inside of another")
        self.check(_is_power_of_two(loop.width), f"vectors of width {loop.width}")
        self.check(loop.unroll >= 1, f"{loop.unroll} vectors at once")
        self.vector = loop if loop.width > 1 else None
        self.inside(loop)
        self.vector = None
        self.inner.clear()

    def inside(self, loop: Loop) -> None:
        self.loops[loop.var] = loop
        self.body(loop.body)
        del self.loops[loop.var]

    def store(self, store: Store) -> None:
        buffer = store.buffer
        self.access(buffer, store.coordinates)
        self.expression(store.value)
        for coordinate in store.coordinates:
            if type(coordinate) is Expression:
                self.expression(coordinate)
        same = store.value.dtype == buffer.dtype
        self.check(same, f"a value of {store.value.dtype} for {buffer.name} of {buffer.dtype}")
        if buffer.scope == "register":
            own = self.vector is None or buffer.lanes > 1 or buffer in self.inner
            self.check(own, f"all lanes write to the register {buffer.name}, which has no lanes")
        elif not self.conditions:
            self.distinct(store)

    def distinct(self, store: Store) -> None:
        """Iterations that run at once must not all write to one element."""
        used: set[Var] = set()
        for coordinate in store.coordinates:
            if type(coordinate) is Expression:
                return  # the program knows
            used |= coordinate.variables()  # type: ignore[union-attr]
        for var, loop in self.loops.items():
            at_once = loop.kind == "parallel" or loop is self.vector
            if loop.kind == "parallel" and store.buffer.scope == "scratch":
                continue
            same = at_once and var not in used and loop.extent != 1
            depends = any(var in other.extent.variables() for other in used)
            self.check(not same or depends, f"all iterations of {var} write to one element")

    def condition(self, statement: If) -> None:
        self.truth(statement.condition)
        self.conditions += 1
        self.body(statement.body)
        self.conditions -= 1

    def checked(self, statement: Check) -> None:
        self.truth(statement.condition)
        code = statement.code
        self.check(type(code) is int and code != 0, f"the code {code!r} is 0 or no int")

    def truth(self, condition: Expression) -> None:
        self.expression(condition)
        self.check(condition.dtype == "bool", f"a condition of {condition.dtype}")

    def transpose(self, statement: Transpose) -> None:
        buffer = statement.buffer
        name, lanes = buffer.name, buffer.lanes
        self.check(buffer in self.buffers, f"the buffer {name} is not in scope")
        self.check(self.vector is None, "a transposition stands inside of a vector loop")
        square = buffer.scope == "register" and lanes > 1 and buffer.shape == (index(lanes),)
        self.check(square, f"{name} is no row of as many vectors as they have lanes")

    def prefetch(self, statement: Prefetch) -> None:
        buffer = statement.buffer
        self.check(buffer in self.buffers, f"the buffer {buffer.name} is not in scope")
        self.check(buffer.scope != "register", f"the register {buffer.name} is not in memory")
        same = len(statement.coordinates) == len(buffer.shape)
        self.check(same, f"{len(statement.coordinates)} coordinates for {buffer.name}")
        for coordinate in statement.coordinates:
            self.index(coordinate)
        self.check(self.vector is None, "a prefetch stands inside of a vector loop")

    def allocate(self, statement: Allocate) -> None:
        buffer = statement.buffer
        name = buffer.name
        kinds = ("scratch", "register")
        self.check(buffer.scope in kinds, f"{name} of scope {buffer.scope} is allocated")
        self.check(buffer not in self.buffers, f"{name} is allocated already")
        self.buffer(buffer)
        if self.vector is not None:
            self.check(buffer.scope == "register", f"scratch {name} inside of a vector loop")
            self.inner.add(buffer)
        self.buffers.add(buffer)
        self.body(statement.body)
        self.buffers.discard(buffer)

    # -- indices ---------------------------------------------------------------------------

    def index(self, value: Index) -> None:
        """Variables in scope, symbols listed."""
        self.check(type(value) is Index, f"{value!r} is no index")
        for atom in value.atoms():
            if type(atom) is Symbol:
                self.check(atom in self.symbols, f"the symbol {atom} is not listed")
            else:
                self.check(atom in self.loops, f"there is no loop of {atom} around")

    def constant(self, value: Index, what: str) -> None:
        """An index that is a number once the unrolled loops around are written out."""
        self.check(not value.symbols(), f"{what} is {value}, which is no constant")
        for var in value.variables():
            loop = self.loops.get(var)
            known = loop is not None and (loop.kind == "unroll" or loop.extent == 1)
            self.check(known, f"{what} depends on {var}, which is not unrolled")

    def access(self, buffer: Any, coordinates: tuple) -> None:
        self.check(type(buffer) is Buffer, f"{buffer!r} is no buffer")
        self.check(buffer in self.buffers, f"the buffer {buffer.name} is not in scope")
        rank = len(buffer.shape)
        self.check(
            len(coordinates) == rank,
            f"{len(coordinates)} coordinates for {buffer.name} of rank {rank}",
        )
        is_register = buffer.scope == "register"
        if is_register:
            width = buffer.lanes if self.vector is None else self.vector.width
            fits = buffer.lanes in (1, width)
            self.check(fits, f"{buffer.name} of {buffer.lanes} lanes in vectors of {width}")
        for coordinate, extent in zip(coordinates, buffer.shape, strict=True):
            if type(coordinate) is Expression:
                self.check(not is_register, f"a computed coordinate of the register {buffer.name}")
                int64 = coordinate.dtype == "int64"
                self.check(int64, f"a coordinate of dtype {coordinate.dtype}")
                continue
            self.index(coordinate)
            if is_register:
                self.constant(coordinate, f"a coordinate of the register {buffer.name}")
            self.range(buffer, coordinate, extent)

    def range(self, buffer: Buffer, coordinate: Index, extent: Index) -> None:
        """Fails where it is certain that a coordinate is outside."""
        if any(is_at_most(loop.extent, 0) for loop in self.loops.values()):
            return  # never carried out
        low, high = bounds(coordinate)
        past_low, past_high = bounds(coordinate - extent)
        outside = (high is not None and high < 0) or (past_low is not None and past_low >= 0)
        if not outside and not self.conditions:
            before = low is not None and low < 0 and _is_tight(coordinate)
            behind = past_high is not None and past_high >= 0 and _is_tight(coordinate - extent)
            outside = before or behind
        self.check(not outside, f"the coordinate {coordinate} of {buffer.name} is outside {extent}")

    # -- expressions -----------------------------------------------------------------------

    def expression(self, root: Expression) -> None:
        lanes: set[Expression] = set()  # loads of all lanes of a register; only for ``across``
        for node in walk(root):
            if lanes.intersection(node.args) and node.op != "across":
                self.bad(node, "the lanes of a register are seen outside of a vector loop")
            self.node(node)
            if self.vector is None and node.op == "load" and node.detail[0].lanes > 1:
                lanes.add(node)
        if root in lanes:
            self.bad(root, "the lanes of a register are seen outside of a vector loop")

    def bad(self, node: Expression, what: str) -> NoReturn:
        self.fail(f"{what}: {expression_text(node)} of {node.dtype}")

    def node(self, node: Expression) -> None:
        op, dtypes = node.op, [a.dtype for a in node.args]
        if op not in OPERATIONS:
            self.bad(node, f"unknown operation {op}")
        if len(dtypes) != OPERATIONS[op]:
            self.bad(node, f"{op} takes {OPERATIONS[op]} arguments, not {len(dtypes)}")
        if node.dtype not in SIZES:
            self.bad(node, "unknown dtype")
        if not dtypes:
            self.leaf(node)
            return
        if (node.detail is None) == (op == "across"):
            self.bad(node, f"the detail {node.detail!r}")
        if any(d not in _TAKES.get(op, SIZES) for d in dtypes):
            self.bad(node, f"{op} of {', '.join(dtypes)}")
        self.dtype(node, dtypes)
        if op == "across":
            self.across(node)

    def dtype(self, node: Expression, dtypes: list[str]) -> None:
        """The result's dtype follows from the arguments'."""
        op = node.op
        if op == "cast":
            return
        if op == "bitcast":
            if SIZES[node.dtype] != SIZES[dtypes[0]]:
                self.bad(node, f"the bits of {dtypes[0]} as {node.dtype}")
            return
        expected = dtypes[-1]
        compared = dtypes[1:] if op == "select" else dtypes
        if op == "select" and dtypes[0] != "bool":
            self.bad(node, f"select by {dtypes[0]}")
        if any(d != expected for d in compared):
            self.bad(node, f"{op} of {', '.join(dtypes)}")
        if node.dtype != ("bool" if op in COMPARISONS else expected):
            self.bad(node, f"{op} of {expected}")

    def leaf(self, node: Expression) -> None:
        op, detail = node.op, node.detail
        if op == "load":
            source, where = detail
            self.access(source, where)
            if node.dtype != source.dtype:
                self.bad(node, f"a load from {source.dtype}")
        elif op == "index":
            if node.dtype != "int64":
                self.bad(node, "an index that is not int64")
            self.index(detail)
        elif op == "number":
            if type(detail) is not int or not 0 <= detail < len(self.of.numbers):
                self.bad(node, f"the kernel has {len(self.of.numbers)} numbers")
        elif not _is_constant_of(node.dtype, detail):
            self.bad(node, f"the constant {detail!r}")

    def across(self, node: Expression) -> None:
        if node.detail not in ACROSS:
            self.bad(node, f"lanes cannot be combined by {node.detail}")
        if node.detail in ("and", "or", "xor") and node.dtype in FLOATS:
            self.bad(node, f"{node.detail} of floats")
        if self.vector is not None:
            self.bad(node, "across stands inside of a vector loop")
        (register,) = node.args
        if register.op != "load" or register.detail[0].lanes == 1:
            self.bad(node, "across takes a register with lanes")


_RULES: dict[type, Callable[[_Verifier, Any], None]] = {
    Loop: _Verifier.loop,
    Store: _Verifier.store,
    If: _Verifier.condition,
    Check: _Verifier.checked,
    Transpose: _Verifier.transpose,
    Prefetch: _Verifier.prefetch,
    Allocate: _Verifier.allocate,
}


def _is_power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0


def _is_tight(value: Index) -> bool:
    """Whether the index takes both of its bounds: affine in variables of constant extents."""
    return all(
        type(atom) is Var and atom.extent.is_constant and atom.extent.value() > 0
        for atom, _ in value.terms
    )


def _is_constant_of(dtype: str, value: Any) -> bool:
    if dtype in FLOATS:
        return type(value) is float
    if dtype == "bool":
        return type(value) is bool
    bits = 8 * SIZES[dtype]
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if dtype in SIGNED else (0, 2**bits)
    return type(value) is int and low <= value < high
