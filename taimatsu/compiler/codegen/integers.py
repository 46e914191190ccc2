"""Index expressions as code: what is known of them stays known, the rest becomes instructions.

A ``Place`` is the value of an index while code is written: a constant, multiples of numbers in
registers, a step per lane inside a vector loop, and, where that is not enough, a vector. Terms of
outer loops are added up outside, by where the operands were computed (see ``writer``).
"""

from __future__ import annotations

from math import gcd
from typing import Any

from taimatsu.compiler.codegen.writer import Scope, Value, Writer
from taimatsu.ir.index import Index, Minimum, Product, Quotient, Symbol, Var, bounds, index

NARROW = 2**31  # what a signed 32-bit number cannot hold


class Place:
    """``constant + sum(factor * term) + lanes * lane + vector``, in int64.

    ``terms`` maps numbers (scalar ``Value``s) to factors; ``vector`` is an int64 vector or None.
    """

    __slots__ = ("constant", "lanes", "terms", "vector")

    def __init__(
        self,
        constant: int = 0,
        terms: dict[Value, int] | None = None,
        lanes: int = 0,
        vector: Value | None = None,
    ) -> None:
        self.constant = constant
        self.terms: dict[Value, int] = {} if terms is None else terms
        self.lanes = lanes
        self.vector = vector

    @property
    def is_constant(self) -> bool:
        return not self.terms and not self.lanes and self.vector is None

    @property
    def is_uniform(self) -> bool:
        """Whether all lanes see the same number."""
        return not self.lanes and self.vector is None

    def without_lanes(self) -> Place:
        return Place(self.constant, self.terms)

    def divisor(self) -> int:
        """The greatest number known to divide what the lanes have in common; 0 for 0."""
        common = abs(self.constant)
        for term, factor in self.terms.items():
            common = gcd(common, factor * term.multiple)
        return common


class Indices:
    """Writes the code of indices.

    Attributes:
        places: what each variable (and symbol) is at this point of the code.
        width: of the vector loop around it; 0 outside.
    """

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.places: dict[Any, Place] = {}
        self.width = 0
        self._leaves: dict[Any, tuple[Any, ...]] = {}  # what an atom's value depends on
        self._known: dict[Any, tuple[list[Place], Scope | None, int, Place]] = {}

    # -- sums ------------------------------------------------------------------------------

    def place(self, value: Index) -> Place:
        """What an index is here. ValueError for a variable that no loop around it defines."""
        total = Place(value.constant)
        for atom, factor in value.terms:
            self.add(total, self._atom(atom), factor)
        return total

    def add(self, total: Place, other: Place, factor: int = 1) -> None:
        """``total += other * factor``, in place."""
        total.constant += other.constant * factor
        terms = total.terms
        for term, times in other.terms.items():
            terms[term] = terms.get(term, 0) + times * factor
        total.lanes += other.lanes * factor
        if other.vector is not None:
            scaled = self._scaled(other.vector, factor)
            if total.vector is not None:
                scaled = self.writer.binary("add", total.vector, scaled)
            total.vector = scaled

    def times(self, a: Place, b: Place) -> Place:
        """The product of two places."""
        if b.is_constant:
            a, b = b, a
        if a.is_constant:
            total = Place()
            self.add(total, b, a.constant)
            return total
        if b.is_uniform:
            a, b = b, a
        if not a.is_uniform:
            return Place(vector=self.writer.binary("mul", self.full(a), self.full(b)))
        factor = self.scalar(a)
        total = Place(0, {factor: b.constant} if b.constant else {})
        for term, times in b.terms.items():
            product = self.writer.binary("mul", factor, term)
            total.terms[product] = total.terms.get(product, 0) + times
        if not b.is_uniform:
            rest = self.full(Place(0, {}, b.lanes, b.vector))
            total.vector = self.writer.binary("mul", rest, factor)
        return total

    def _scaled(self, value: Value, factor: int) -> Value:
        if factor == 1:
            return value
        return self.writer.binary("mul", value, self.writer.constant(factor, "i64"))

    # -- as operands -----------------------------------------------------------------------

    def scalar(self, place: Place) -> Value:
        """The number that all lanes have in common; terms of outer scopes are added first."""
        total: Value | None = None
        for value in self.by_level(place):
            total = value if total is None else self.writer.binary("add", total, value)
        if total is None:
            return self.writer.constant(place.constant, "i64")
        if place.constant:
            total = self.writer.binary("add", total, self.writer.constant(place.constant, "i64"))
        if total.constant is None:
            total.multiple = max(total.multiple, place.divisor())
        return total

    def by_level(self, place: Place) -> list[Value]:
        """The terms with their factors, those that were computed first first."""
        ordered = sorted(place.terms.items(), key=_level)
        return [self._scaled(term, factor) for term, factor in ordered if factor]

    def full(self, place: Place) -> Value:
        """The number of each lane: a vector, or a scalar where all are the same."""
        common = self.scalar(place.without_lanes())
        if place.is_uniform:
            return common
        writer = self.writer
        total = place.vector
        if place.lanes:
            steps = writer.iota(self.width, "i64", place.lanes)
            total = steps if total is None else writer.binary("add", total, steps)
        assert total is not None
        return total if common.constant == 0 else writer.binary("add", total, common)

    def value(self, value: Index) -> Value:
        """An index as an int64 operand, a vector where lanes differ."""
        return self.full(self.place(value))

    # -- atoms -----------------------------------------------------------------------------

    def _atom(self, atom: Any) -> Place:
        kind = type(atom)
        if kind is Var or kind is Symbol:
            place = self.places.get(atom)
            if place is None:
                raise ValueError(f"[codegen] there is no loop of {atom}, and no such symbol")
            return place
        leaves = self._leaves.get(atom)
        if leaves is None:
            leaves = self._leaves[atom] = tuple(dict.fromkeys(index(atom).atoms()))
        here = [self._atom(leaf) for leaf in leaves]
        known = self._known.get(atom)
        if known is not None and self._is_valid(known, here):
            return known[3]
        made = self._made(atom)
        level = max([v.level for v in _values(made)], default=-1)
        scope = None if level < 0 else self.writer.scopes[level]
        self._known[atom] = (here, scope, level, made)
        return made

    def _is_valid(self, known: tuple[list[Place], Scope | None, int, Place], here: list) -> bool:
        """Whether what was written for an atom serves here: its variables stand where they stood,
        and the scope lasts that its value was computed in.
        """
        places, scope, level, _ = known
        if any(a is not b for a, b in zip(places, here, strict=True)):
            return False
        scopes = self.writer.scopes
        return scope is None or (level < len(scopes) and scopes[level] is scope)

    def _made(self, atom: Any) -> Place:
        """What an atom that is made of others is here."""
        kind = type(atom)
        if kind is Product:
            total = Place(1)
            for factor in atom.factors:
                total = self.times(total, self._atom(factor))
            return total
        left, right = self.place(atom.left), self.place(atom.right)
        if kind is Minimum:
            return self._minimum(left, right)
        if right.is_constant and right.constant == 1:
            return left if kind is Quotient else Place()
        return self._divided(atom, left, right)

    def _minimum(self, left: Place, right: Place) -> Place:
        if left.is_constant and right.is_constant:
            return Place(min(left.constant, right.constant))
        a, b = self.writer.together([self.full(left), self.full(right)])
        # Differences of indices may be negative here, before a maximum is taken elsewhere.
        return self._of(self.writer.intrinsic("smin", [a, b]))

    def _of(self, value: Value) -> Place:
        if value.constant is not None and not value.width:
            return Place(value.constant)
        return Place(vector=value) if value.width else Place(0, {value: 1})

    def _divided(self, atom: Any, left: Place, right: Place) -> Place:
        """The quotient or the remainder, whichever the atom is."""
        is_quotient = type(atom) is Quotient
        if left.is_constant and right.is_constant and right.constant > 0:
            n, by = left.constant, right.constant
            return Place(n // by if is_quotient else n % by)
        if left.lanes and left.vector is None and self._stays_together(left, right):
            common = self._divided(atom, left.without_lanes(), right)
            if not is_quotient:
                self.add(common, Place(lanes=left.lanes))
            return common
        if left.is_uniform and right.is_constant:
            by = right.constant
            if all(factor % by == 0 for factor in left.terms.values()):
                if not is_quotient:
                    return Place(left.constant % by)
                return Place(left.constant // by, {t: f // by for t, f in left.terms.items()})
        return self._divide(atom, is_quotient, left, right)

    def _stays_together(self, left: Place, right: Place) -> bool:
        """Whether the lanes lie between two multiples of a constant divisor."""
        if not right.is_constant or left.lanes < 0:
            return False
        common = right.constant
        for term, factor in left.terms.items():
            common = gcd(common, factor * term.multiple)
        return left.constant % common + left.lanes * (self.width - 1) < common

    def _divide(self, atom: Any, is_quotient: bool, left: Place, right: Place) -> Place:
        writer = self.writer
        divisor = self.full(right)
        if divisor.constant is None:
            # An empty extent: the quotient is not used, and must not trap.
            one = writer.constant(1, "i64")
            divisor = writer.intrinsic("umax", writer.together([divisor, one]))
        operation = "udiv" if is_quotient else "urem"
        dividend = self.full(left)
        if dividend.width and right.is_constant and self._is_narrow(atom):
            # Vectors of 32-bit integers are divided by multiplication, those of 64 bits are not.
            small = writer.convert("trunc", dividend, "i32")
            by = writer.constant(right.constant, "i32")
            return self._of(writer.convert("zext", writer.binary(operation, small, by), "i64"))
        return self._of(writer.binary(operation, dividend, divisor))

    def _is_narrow(self, atom: Any) -> bool:
        low, high = bounds(atom.left)
        _, divisor = bounds(atom.right)
        return (
            low is not None
            and low >= 0
            and high is not None
            and high < NARROW
            and divisor is not None
            and divisor < NARROW
        )


def _values(place: Place) -> list[Value]:
    return [*place.terms] if place.vector is None else [*place.terms, place.vector]


def _level(term: tuple[Value, int]) -> int:
    return term[0].level
