"""Evaluates stages with NumPy over whole index grids: the definition of what stages mean.

Slow and plain, for tests: every load is a gather by explicit coordinates, every reduction works on
the whole grid of its axes. Nothing is scheduled, so what compiled code gives must agree with this.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from taimatsu import dtypes
from taimatsu.ir import scalars
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index, Minimum, Product, Quotient, Remainder, Symbol, Var
from taimatsu.ir.stages import REPLACE, Item, Stage, identity

Windows = Callable[[Stage], np.ndarray]


def evaluate(
    stages: Sequence[Stage],
    windows: Windows,
    numbers: Sequence[Any] = (),
    symbols: Mapping[str, int] | None = None,
    items: Sequence[Any] = (),
) -> dict[Stage, np.ndarray]:
    """The values of stages, which stand in an order in which each can be computed.

    Args:
        windows: gives the memory that a stage of kind "window" or "update" sees in a slot's cell
            (an array with the stage's shape; updates write into it).
        numbers: the launch's numbers, by their place.
        symbols: the values of symbols by name.
        items: the launch's items by their place, for offsets and opaque stages.

    Raises IndexError where a check does not hold, AssertionError where a coordinate of a load or of
    a scatter's point is outside.
    """
    run = _Run(windows, numbers, symbols or {}, items)
    with np.errstate(all="ignore"):
        for stage in stages:
            run.values[stage] = run.stage(stage)
    # What updates wrote into the cells of stages is what those hold in the end.
    for stage, flat in run.memory.items():
        ordered = flat.reshape([run.values[stage].shape[d] for d in stage.order])
        run.values[stage] = np.transpose(ordered, np.argsort(stage.order))
    return run.values


def numpy_dtype(name: str) -> np.dtype:
    """NumPy's type of a stage's dtype."""
    found: np.dtype = getattr(dtypes, name).numpy
    return found


class _Run:
    """One evaluation: what is known so far."""

    def __init__(
        self,
        windows: Windows,
        numbers: Sequence[Any],
        symbols: Mapping[str, int],
        items: Sequence[Any],
    ) -> None:
        self.windows = windows
        self.numbers = numbers
        self.symbols = symbols
        self.items = items
        self.values: dict[Stage, np.ndarray] = {}
        self.memory: dict[Stage, np.ndarray] = {}  # the cells of stages

    def extents(self, shape: Sequence[Index]) -> tuple[int, ...]:
        return tuple([n.evaluate(self.symbol) for n in shape])

    def symbol(self, atom: Any) -> int:
        if type(atom) is not Symbol:
            raise ValueError(f"{atom} has no value here")
        return self.symbols[atom.name]

    def stage(self, stage: Stage) -> np.ndarray:
        if stage.kind == "opaque":
            return self.opaque(stage)
        if stage.kind == "window":
            return self.window(stage).copy()
        self.check(stage)
        if stage.kind == "scatter":
            return self.scatter(stage)
        outer = self.extents(stage.shape)
        value = self.grid(stage, (*stage.axes, *stage.reduce_axes)).value(stage.value)
        if stage.kind == "reduce":
            made = reduced(stage.combine, value, len(outer))
        elif stage.kind == "scan":
            made = scanned(stage.combine, value, stage.scan_axis, stage.reverse)
        else:
            made = value
        assert made.shape == outer, f"{stage}: the value's shape is {made.shape}, not {outer}"
        assert made.dtype == numpy_dtype(stage.dtype), f"{stage}: the value is {made.dtype}"
        if stage.kind == "update":
            self.window(stage)[...] = made
        return made

    def grid(self, stage: Stage, axes: Sequence[Var]) -> _Grid:
        extents = self.extents([v.extent for v in axes])
        assert all(n >= 0 for n in extents), f"{stage}: axes of {extents}"
        return _Grid(self, stage, axes, extents)

    def check(self, stage: Stage) -> None:
        axes = (*stage.axes, *stage.reduce_axes)
        for condition, message in stage.checks:
            if not self.grid(stage, axes).value(condition).all():
                raise IndexError(message)

    def window(self, stage: Stage) -> np.ndarray:
        """The memory that a window or an update sees; not a copy."""
        cell = stage.cell
        if cell is None or cell.stage is None:
            return self.windows(stage)
        source = cell.stage
        flat = self.memory.get(source)
        if flat is None:
            flat = np.transpose(self.values[source], source.order).reshape(-1).copy()
            self.memory[source] = flat
        offset = stage.offset
        start = self.given(offset)
        steps = [n * flat.itemsize for n in self.extents(stage.strides)]
        shape = self.extents(stage.shape)
        if 0 in shape:
            return np.empty(shape, flat.dtype)
        last = start + sum((n - 1) * s // flat.itemsize for n, s in zip(shape, steps, strict=True))
        inside = start >= 0 and last < flat.size
        assert inside, f"{stage} reaches out of its cell"
        return np.lib.stride_tricks.as_strided(flat[start:], shape, steps)

    def opaque(self, stage: Stage) -> np.ndarray:
        """What the reference of the stage's node gives."""
        node = stage.node
        inputs = tuple([self.given(x) for x in stage.opaque_inputs])
        described = tuple([getattr(operand, "meta", None) for operand in node.operands])
        results = node.operation.evaluate(inputs, node.attributes, described, node.metas)
        return np.asarray(results[stage.result], numpy_dtype(stage.dtype))

    def given(self, read: Any) -> Any:
        if isinstance(read, Stage):
            return self.values[read]
        return self.items[read.place] if isinstance(read, Item) else read

    def scatter(self, stage: Stage) -> np.ndarray:
        assert stage.initial is not None
        made = self.values[stage.initial].copy()
        grid = self.grid(stage, stage.axes)
        value = grid.value(stage.value).reshape(-1)
        place = [grid.coordinate(c).reshape(-1) for c in stage.where]
        grid.assert_inside(stage, place, made.shape)
        if made.ndim == 0:
            made, place = made.reshape(1), [np.zeros(value.size, np.int64)]
        where = tuple(place)
        if stage.combine == REPLACE:
            for k in range(value.size):  # one after the other: the last one stays
                made[tuple([p[k] for p in where])] = value[k]
        else:
            _UFUNCS[stage.combine].at(made, where, value)
        return made.reshape(self.extents(stage.shape))


class _Grid:
    """The points of a stage's axes, and the values of expressions at all of them."""

    def __init__(self, run: _Run, stage: Stage, axes: Sequence[Var], extents: tuple) -> None:
        self.run = run
        self.stage = stage
        self.extents = extents
        self.known: dict[Expression, np.ndarray] = {}
        self.positions: dict[Var, np.ndarray] = {}
        for d, (axis, n) in enumerate(zip(axes, extents, strict=True)):
            shape = [1] * len(extents)
            shape[d] = n
            self.positions[axis] = np.arange(n, dtype=np.int64).reshape(shape)

    def value(self, root: Any) -> np.ndarray:
        """The values of an expression, over the whole grid."""
        return np.broadcast_to(self.at(root), self.extents)

    def coordinate(self, given: Any) -> np.ndarray:
        """An ``Index`` or an int64 expression, over the whole grid."""
        if type(given) is Expression:
            assert given.dtype == "int64", f"{self.stage}: a coordinate of {given.dtype}"
            return self.value(given)
        return np.broadcast_to(np.asarray(self.index(given), np.int64), self.extents)

    def index(self, given: Index) -> Any:
        total: Any = given.constant
        for atom, factor in given.terms:
            total = total + factor * self.atom(atom)
        return total

    def atom(self, atom: Any) -> Any:
        kind = type(atom)
        if kind is Var:
            return self.positions[atom]
        if kind is Symbol:
            return self.run.symbols[atom.name]
        if kind is Product:
            return math.prod([self.atom(f) for f in atom.factors])
        left, right = self.index(atom.left), self.index(atom.right)
        if kind is Minimum:
            return np.minimum(left, right)
        assert np.all(np.asarray(left) >= 0), f"{self.stage}: {atom} of what is negative"
        assert kind in (Quotient, Remainder)
        return left // right if kind is Quotient else left % right

    def at(self, root: Expression) -> np.ndarray:
        """The values of an expression, with extents of 1 along axes that it does not depend on."""
        found = self.known.get(root)
        if found is None:
            found = np.asarray(self.compute(root))
            wanted = numpy_dtype(root.dtype)
            assert found.dtype == wanted, f"{root.op} gave {found.dtype}, not {wanted}"
            self.known[root] = found
        return found

    def compute(self, node: Expression) -> Any:
        op, kind = node.op, numpy_dtype(node.dtype)
        if op == "constant":
            return np.asarray(node.detail).astype(kind)
        if op == "number":
            return np.asarray(self.run.numbers[node.detail]).astype(kind)
        if op == "index":
            return np.asarray(self.index(node.detail), np.int64)
        if op == "load":
            return self.load(node)
        args = [self.at(a) for a in node.args]
        if op == "cast":
            return args[0].astype(kind)
        if op == "bitcast":
            return args[0].view(kind)
        if op == "select":
            return np.where(*args)
        assert len({a.dtype for a in args}) == 1, f"{op} of several dtypes"
        return np.asarray(_RULES[op](*args)).astype(kind)

    def load(self, node: Expression) -> np.ndarray:
        source, where = node.detail
        values = self.run.values[source]
        assert values.dtype == numpy_dtype(node.dtype), f"{self.stage} loads another dtype"
        if 0 in self.extents:
            return np.empty(self.extents, values.dtype)
        place = [
            self.at(c) if type(c) is Expression else np.asarray(self.index(c), np.int64)
            for c in where
        ]
        self.assert_inside(source, place, values.shape)
        return np.asarray(values[tuple(place)])

    def assert_inside(self, source: Stage, place: Sequence[Any], shape: Sequence[int]) -> None:
        assert len(place) == len(shape), f"{self.stage}: {len(place)} coordinates for {source}"
        for d, (at, n) in enumerate(zip(place, shape, strict=True)):
            outside = at.size and (at.min() < 0 or at.max() >= n)
            assert not outside, (
                f"{self.stage} reads {source} at {at.min()}..{at.max()} of {n} in dimension {d}"
            )


# -- combining -------------------------------------------------------------------------------


def reduced(combine: str, value: np.ndarray, kept: int) -> np.ndarray:
    """Combines all dimensions but the first ``kept``, in the dtype of the values."""
    rows = value.reshape(*value.shape[:kept], math.prod(value.shape[kept:]))
    if combine in ("argmax", "argmin"):
        return np.asarray(getattr(np, combine)(rows, axis=-1), np.int64)
    initial = np.asarray(identity(combine, str(value.dtype)).detail).astype(value.dtype)
    if rows.shape[-1] == 0:
        return np.full(rows.shape[:-1], initial)
    ufunc = _UFUNCS[combine]
    return np.asarray(ufunc.reduce(rows, axis=-1, dtype=value.dtype), value.dtype)


def scanned(combine: str, value: np.ndarray, axis: int, reverse: bool) -> np.ndarray:
    """Combines the values up to each position along an axis (from the end with ``reverse``)."""
    if reverse:
        value = np.flip(value, axis)
    if combine in ("argmax", "argmin"):
        made = _scanned_places(combine, np.moveaxis(value, axis, -1))
        made = np.moveaxis(made, -1, axis)
        made = value.shape[axis] - 1 - made if reverse else made
    else:
        made = np.asarray(_UFUNCS[combine].accumulate(value, axis=axis, dtype=value.dtype))
    return np.flip(made, axis) if reverse else made


def _scanned_places(combine: str, rows: np.ndarray) -> np.ndarray:
    made = np.zeros(rows.shape, np.int64)
    for k in range(rows.shape[-1]):
        made[..., k] = getattr(np, combine)(rows[..., : k + 1], axis=-1)
    return made


_UFUNCS: dict[str, np.ufunc] = {
    "add": np.add,
    "mul": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}

# -- scalar operations -----------------------------------------------------------------------


def _floordiv(x: Any, y: Any) -> Any:
    return np.where(y == 0, np.zeros((), x.dtype), np.floor_divide(x, y))


def _modulo(x: Any, y: Any) -> Any:
    return np.where(y == 0, np.zeros((), x.dtype), np.mod(x, y))


def _truncdiv(x: Any, y: Any) -> Any:
    remainder = np.where(y == 0, np.zeros((), x.dtype), np.fmod(x, y))
    return _floordiv(x - remainder, y)


def _shl(x: Any, y: Any) -> Any:
    fits = (y >= 0) & (y < 8 * x.itemsize)
    return np.where(fits, np.left_shift(x, np.where(fits, y, 0)), np.zeros((), x.dtype))


def _shr(x: Any, y: Any) -> Any:
    fits = (y >= 0) & (y < 8 * x.itemsize)
    most = np.asarray(8 * x.itemsize - 1, x.dtype)
    if x.dtype.kind == "u":
        return np.where(fits, np.right_shift(x, np.where(fits, y, 0)), np.zeros((), x.dtype))
    return np.right_shift(x, np.where(fits, y, most))


def _mulhi(x: Any, y: Any) -> Any:
    bits = 8 * x.itemsize
    if bits < 64:
        return ((x.astype(np.uint64) * y.astype(np.uint64)) >> np.uint64(bits)).astype(x.dtype)
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    x0, x1, y0, y1 = x & low, x >> half, y & low, y >> half
    middle = x1 * y0 + ((x0 * y0) >> half)
    other = x0 * y1 + (middle & low)
    return x1 * y1 + (middle >> half) + (other >> half)


def _gcd(x: Any, y: Any) -> Any:
    name = x.dtype.name
    divisor = np.frompyfunc(lambda a, b: scalars.apply("gcd", name, name, [a, b], False), 2, 1)
    return np.asarray(divisor(x.astype(object), y.astype(object)), x.dtype)


def _not(x: Any) -> Any:
    return np.logical_not(x) if x.dtype == bool else np.invert(x)


def _sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x.astype(np.float64)))
    return np.where(x >= 0, 1 / (1 + e), np.where(np.isnan(x), x, e / (1 + e)))


def _remainder(x: Any, y: Any) -> Any:
    """With the divisor's sign."""
    made = np.fmod(x, y)
    return np.where((made != 0) & ((made < 0) != (y < 0)), made + y, made)


def _pow(x: Any, y: Any) -> Any:
    if x.dtype.kind != "i":
        return np.power(x, y)
    made = np.power(x, np.maximum(y, 0))
    inverse = np.where(x == 1, 1, np.where(x == -1, np.where(y % 2 == 0, 1, -1), 0))
    return np.where(y < 0, inverse, made).astype(x.dtype)


def _exactly(function: Callable[[float], float]) -> Callable[[Any], Any]:
    def apply(x: Any) -> Any:
        return np.asarray(np.vectorize(function, otypes=[np.float64])(x.astype(np.float64)))

    return apply


def _fused(x: Any, y: Any, z: Any) -> Any:
    """float32 by way of float64: the product is exact there, and the sum rounded to odd, so that
    rounding it again is the only rounding (Boldo and Melquiond 2008).
    """
    product = x.astype(np.float64) * y
    total = product + z
    part = total - product
    rest = (product - (total - part)) + (z - part)
    toward = np.nextafter(total, np.copysign(np.inf, rest))
    inexact = np.isfinite(rest) & (rest != 0) & (total.view(np.int64) & 1 == 0)
    return np.where(inexact, toward, total).astype(np.float32)


_RULES: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": lambda x, y: np.logical_xor(x, y) if x.dtype == bool else np.subtract(x, y),
    "mul": np.multiply,
    "div": np.divide,
    "floordiv": _floordiv,
    "modulo": _modulo,
    "truncdiv": _truncdiv,
    "neg": np.negative,
    "abs": np.abs,
    "min": np.minimum,
    "max": np.maximum,
    "fma": lambda x, y, z: x * y + z,
    "fused": _fused,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": _not,
    "shl": _shl,
    "shr": _shr,
    "mulhi": _mulhi,
    "gcd": _gcd,
    "copysign": np.copysign,
    "pow": _pow,
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "atan2": np.arctan2,
    "ceil": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "erf": _exactly(math.erf),
    "erfc": _exactly(math.erfc),
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "floor": np.floor,
    "fmod": np.fmod,
    "hypot": np.hypot,
    "log": np.log,
    "log10": np.log10,
    "log1p": np.log1p,
    "log2": np.log2,
    "reciprocal": np.reciprocal,
    "remainder": _remainder,
    "round_half_even": np.rint,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sigmoid": _sigmoid,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "tan": np.tan,
    "tanh": np.tanh,
    "trunc": np.trunc,
}
