"""What an operation's ``lower`` rule writes with: makes stages and expressions.

A rule gets the builder, then its inputs, then its attributes by name. A tensor comes as a ``View``
(``x.shape``, ``x.dtype``, ``x[i, j]``), a Python number as an ``Expression`` that is read at
launch, an absent input as None. Extents are indices: an int where the size is known now, a symbol
where it comes from data. Rules compute with them (``x.shape[0] * 2``); where one must know the
number it asks ``b.known``.

    def lower(self, b, input, *, dim):          # a softmax without care for overflow
        e = b.map(input.shape, input.dtype, lambda *i: b.exp(input[i]))
        total = b.reduce("add", e.shape[:-1], e.shape[-1:], e.dtype, lambda i, r: e[*i, *r])
        return b.map(e.shape, e.dtype, lambda *i: e[i] / total[i[:-1]])

The axes that element functions get are indices; results of ``map`` and the like are stages, which
are read as views are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from taimatsu.ir import expression as ex
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index, Symbol, Var, index
from taimatsu.ir.stages import COMBINES, REPLACE, Stage, View

Extent = Index | int
Source = Stage | View
# Elements from the end of a dimension, within which places are counted from there.
MOST_TRIMMED = 2


class NotKnownError(Exception):
    """A rule needs the numbers behind symbols: the program is lowered again with them known."""

    def __init__(self, symbols: set[Symbol]) -> None:
        super().__init__(", ".join(sorted(s.name for s in symbols)))
        self.symbols = symbols


class Builder:
    """Makes stages, in order; see the module's text."""

    def __init__(self, symbols: dict[int, Symbol] | None = None) -> None:
        self.stages: list[Stage] = []
        self.symbols = (
            {} if symbols is None else symbols
        )  # by the value that they have in this program
        self.node: Any = None  # the graph's node that is being lowered
        self.settle: Callable[[Expression], int | None] | None = None  # what ``settled`` asks
        # Slots whose extents should be known, and sizes; see ``weight``.
        self.weights: set[int] = set()
        self.sizes: set[int] = set()
        self.trusts = False  # the node's index values were looked at: it needs no checks
        self._axes = 0
        self._derived: dict[int, Index] = {}  # extents made of symbols, by their values here

    # -- stages ----------------------------------------------------------------------------

    def map(self, shape: Sequence[Extent], dtype: str, element: Callable[..., Expression]) -> Stage:
        """An array whose element at ``(i, j, ...)`` is ``element(i, j, ...)``."""
        axes = self._fresh(shape)
        return self._add(Stage("map", *_typed(shape, dtype), axes, element(*_positions(axes))))

    def reduce(
        self,
        combine: str,
        shape: Sequence[Extent],
        over: Sequence[Extent],
        dtype: str,
        element: Callable[[tuple[Index, ...], tuple[Index, ...]], Expression],
    ) -> Stage:
        """``out[i] = combine of element(i, r)`` for all r below the extents ``over``.

        ``dtype`` is the result's. Combining is done in the element's dtype: float16 and bfloat16
        should be cast to float32 first, and the result back by a ``map``.
        """
        if combine not in COMBINES:
            raise ValueError(f"{combine!r} is none of {COMBINES}")
        axes, reduced = self._fresh(shape), self._fresh(over)
        value = element(_positions(axes), _positions(reduced))
        stage = Stage("reduce", *_typed(shape, dtype), axes, value)
        stage.reduce_axes = reduced
        stage.combine = combine
        return self._add(stage)

    def scan(
        self,
        combine: str,
        shape: Sequence[Extent],
        axis: int,
        dtype: str,
        element: Callable[..., Expression],
        reverse: bool = False,
    ) -> Stage:
        """``out[.., k, ..] = combine of element(.., 0, ..) to element(.., k, ..)`` along ``axis``.

        ``reverse`` combines from the end. With argmax and argmin the result is the position of the
        first greatest (least) element so far.
        """
        axes = self._fresh(shape)
        stage = Stage("scan", *_typed(shape, dtype), axes, element(*_positions(axes)))
        stage.combine = combine
        stage.scan_axis = axis
        stage.reverse = reverse
        return self._add(stage)

    def scatter(
        self,
        initial: Source,
        points: Sequence[Extent],
        where: Callable[..., Sequence[Any]],
        element: Callable[..., Expression],
        combine: str = "add",
    ) -> Stage:
        """A copy of ``initial``, into which each point combines its element.

        Args:
            initial: the array to start with; it decides shape and dtype.
            points: extents of the points' axes.
            where: the place of a point: for each dimension of the result an axis's index (as it
                is) or an int64 expression. Places must be inside: say ``check`` first.
            element: the value of a point.
            combine: "add", "mul", "min", "max" or "replace". Points that meet in one place
                are combined in row-major order.
        """
        if combine not in ("add", "mul", "min", "max", REPLACE):
            raise ValueError(f"a scatter cannot combine by {combine!r}")
        base = self.stage(initial)
        axes = self._fresh(points)
        given = _positions(axes)
        stage = Stage("scatter", base.shape, base.dtype, axes, element(*given))
        stage.initial = base
        stage.where = tuple([c if type(c) is Expression else index(c) for c in where(*given)])
        stage.combine = combine
        return self._add(stage)

    def check(self, stage: Stage, conditions: Sequence[Expression], message: str) -> Stage:
        """Makes a launch fail (IndexError with ``message``) unless the conditions, over the axes of
        the stage, hold everywhere. Returns the stage.
        """
        if self.trusts:
            return stage
        stage.checks += tuple([(condition, message) for condition in conditions])
        return stage

    def stage(self, source: Source) -> Stage:
        """A stage with the values of a view: its own where the view shows all of it in order."""
        if isinstance(source, Stage):
            return source
        if type(source) is View and source.coordinates is tuple:
            return source.stage
        return self.map(source.shape, source.dtype, lambda *i: source[i])

    def _fresh(self, shape: Sequence[Extent]) -> tuple[Var, ...]:
        self._axes += len(shape)
        first = self._axes - len(shape)
        return tuple([Var(f"x{first + d}", _sized(n)) for d, n in enumerate(shape)])

    def _add(self, stage: Stage) -> Stage:
        stage.number = len(self.stages)
        stage.node = self.node
        self.stages.append(stage)
        for n in stage.shape:
            if n.terms and n.hint() > 1:
                self._derived.setdefault(n.hint(), n)
        return stage

    # -- extents ---------------------------------------------------------------------------

    def known(self, extent: Extent) -> int:
        """The number of an extent. The program becomes one for this size alone."""
        extent = index(extent)
        if extent.terms:
            raise NotKnownError(extent.symbols())
        return extent.constant

    def extent(self, size: int) -> Index:
        """The symbol, or extent made of symbols, that has this value here; else the number itself.

        For attributes that hold sizes: ``full`` of a batch's shape is good for all batches then.
        """
        symbol = self.symbols.get(size)
        return self._derived.get(size, index(size)) if symbol is None else index(symbol)

    def settled(self, number: Expression) -> int | None:
        """The value of a launch's whole number that has not been seen to change, else None.

        The program is then made for this value: for numbers that usually stay as they are and
        are worth it, such as where a slice starts.
        """
        if number.op == "constant":
            return int(number.detail)
        return None if self.settle is None else self.settle(number)

    def weight(self, source: Source | None) -> None:
        """Says that an array is used as weights are: its extents are known.

        So that a frozen layer's sizes are constants of its program, and only data's are symbols.
        """
        if source is None or not any(n.terms for n in source.shape):
            return
        stage = source.stage if isinstance(source, View) else source
        if stage.kind == "window" and stage.cell is not None and stage.cell.stage is None:
            self.weights.add(stage.cell.slot)
        else:
            self.sizes |= {a.hint for n in source.shape for a in n.symbols()}

    # -- expressions -----------------------------------------------------------------------

    def constant(self, value: Any, dtype: str) -> Expression:
        return ex.constant(value, dtype)

    def index(self, value: Index | Var | int) -> Expression:
        """A position or an extent as an int64 value."""
        return ex.index_value(value)

    def cast(self, value: Expression, dtype: str) -> Expression:
        return ex.cast(value, dtype)

    def bitcast(self, value: Expression, dtype: str) -> Expression:
        return Expression("bitcast", (value,), dtype)

    def where(self, condition: Expression, x: Any, y: Any) -> Expression:
        return ex.select(condition, x, y)

    def fma(self, x: Expression, y: Expression, z: Expression) -> Expression:
        return ex.fma(x, y, z)

    def fused(self, x: Expression, y: Expression, z: Expression) -> Expression:
        return ex.fused(x, y, z)

    def abs(self, x: Expression) -> Expression:
        return ex.unary("abs", x)

    def isnan(self, x: Expression) -> Expression:
        return x.ne(x)

    def min(self, x: Expression, y: Any) -> Expression:
        """The smaller one; nan where either is."""
        return ex.binary("min", x, y)

    def max(self, x: Expression, y: Any) -> Expression:
        return ex.binary("max", x, y)

    def binary(self, op: str, x: Expression, y: Any) -> Expression:
        """Any operation of ``expression.OPERATIONS`` on two values."""
        return ex.binary(op, x, y)

    def unary(self, op: str, x: Expression) -> Expression:
        return ex.unary(op, x)

    def inside(self, value: Expression, extent: Extent) -> Expression:
        """Whether ``0 <= value < extent``, for an int64 value."""
        return (value >= 0) & (value < self.index(index(extent)))

    def __getattr__(self, name: str) -> Callable[..., Expression]:
        """``b.exp(x)``, ``b.fmod(x, y)``: the functions of ``expression``."""
        if name in ex.UNARY_FUNCTIONS:
            return lambda x: ex.unary(name, x)
        if name in ex.BINARY_FUNCTIONS or ex.OPERATIONS.get(name) == 2:
            return lambda x, y: ex.binary(name, x, y)
        raise AttributeError(f"the builder has no {name!r}")


def _positions(axes: Sequence[Var]) -> tuple[Index, ...]:
    """The axes as indices; 0 for those of extent 1, so that broadcasting leaves no trace."""
    return tuple([index(0) if v.extent == 1 else index(v) for v in axes])


def _typed(shape: Sequence[Extent], dtype: str) -> tuple[tuple[Index, ...], str]:
    if dtype not in ex.SIZES:
        raise ValueError(f"{dtype!r} is no dtype of stages; known are {sorted(ex.SIZES)}")
    return tuple([_sized(n) for n in shape]), dtype


def _sized(extent: Extent) -> Index:
    """An extent; where what symbols make comes to 0 or 1 here, that number: these broadcast, and
    mean programs of their own.
    """
    extent = index(extent)
    if extent.terms and extent.hint() < 2 and all(s.least for s in extent.symbols()):
        return index(extent.hint())
    return extent


def from_end(extent: Index, number: int) -> Index:
    """A number of elements, or a position, along an extent: counted from its end where that is
    near, so that it is the same for other sizes (``x[:, -1]``, ``x[:, :-1]``).
    """
    left = extent.hint() - number
    if extent.terms and 0 <= left <= MOST_TRIMMED < number:
        return extent - left
    return index(number)
