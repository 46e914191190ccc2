"""Index expressions: integers that are affine in loop variables and symbols.

An ``Index`` is ``constant + sum(coefficient * atom)``. Atoms are loop variables (``Var``), numbers
known at launch (``Symbol``: extents of data, offsets), products of these, and quotients, remainders
and minima of indices. Variables run from 0 to below their extent, symbols are not negative; that is
what simplification goes by. Indices are immutable and compare by structure.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from math import gcd

from taimatsu.ir.atoms import Atom, Minimum, Pair, Product, Quotient, Remainder, Symbol, order

__all__ = [
    *["Atom", "Index", "Minimum", "Product", "Quotient", "Range", "Remainder", "Symbol", "Term"],
    *["Var", "bounds", "ceil_div", "index", "is_at_most", "is_below", "minimum", "nested"],
]

Term = tuple[Atom, int]


class Var:
    """A loop variable, from 0 to below ``extent``. Two variables are equal if they are one."""

    __slots__ = ("extent", "name")

    def __init__(self, name: str, extent: Index | int) -> None:
        self.name = name
        self.extent = index(extent)

    def __repr__(self) -> str:
        return self.name


class Index:
    """``constant + sum(coefficient * atom)``; made by arithmetic and by ``index``."""

    __slots__ = ("_hash", "constant", "terms")

    def __init__(self, terms: tuple[Term, ...], constant: int) -> None:
        self.terms = terms
        self.constant = constant
        self._hash: int | None = None

    # -- what it is ------------------------------------------------------------------------

    @property
    def is_constant(self) -> bool:
        return not self.terms

    def value(self) -> int:
        """The integer; ValueError unless constant."""
        if self.terms:
            raise ValueError(f"{self} is no constant")
        return self.constant

    def atoms(self) -> Iterator[Atom]:
        """Variables and symbols, those inside of other atoms included (with repetitions)."""
        for atom, _ in self.terms:
            yield from _leaves(atom)

    def variables(self) -> set[Var]:
        return {a for a in self.atoms() if type(a) is Var}

    def symbols(self) -> set[Symbol]:
        return {a for a in self.atoms() if type(a) is Symbol}

    def coefficient(self, atom: Atom) -> int:
        """The factor of an atom that stands by itself; 0 where there is none."""
        for found, factor in self.terms:
            if found is atom or found == atom:
                return factor
        return 0

    def is_affine_in(self, var: Var) -> bool:
        """Whether the variable stands by itself only, not in products, quotients and the like."""
        return all(
            atom is var or all(leaf is not var for leaf in _leaves(atom)) for atom, _ in self.terms
        )

    def stride(self, var: Var) -> Index:
        """What one step of a variable adds. ValueError unless that is the same everywhere."""
        total = index(0)
        for atom, factor in self.terms:
            if atom is var:
                total += factor
            elif type(atom) is Product and any(f is var for f in atom.factors):
                rest = list(atom.factors)
                rest.remove(var)
                if any(leaf is var for other in rest for leaf in _leaves(other)):
                    raise ValueError(f"{self} is not affine in {var}")
                total += _product(rest) * factor
            elif any(leaf is var for leaf in _leaves(atom)):
                raise ValueError(f"{self} is not affine in {var}")
        return total

    def __eq__(self, other: object) -> bool:
        if type(other) is int:
            return not self.terms and self.constant == other
        if type(other) is not Index:
            return NotImplemented
        if self is other:
            return True
        return (
            self.constant == other.constant
            and len(self.terms) == len(other.terms)
            and (self.terms == other.terms or dict(self.terms) == dict(other.terms))
        )

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash((frozenset(self.terms), self.constant))
        return self._hash

    def __reduce__(self) -> tuple:
        return Index, (self.terms, self.constant)

    def __repr__(self) -> str:
        parts = []
        for atom, factor in sorted(self.terms, key=lambda t: order(t[0])):
            parts.append(f"{atom!r}" if factor == 1 else f"{factor}*{atom!r}")
        if self.constant or not parts:
            parts.append(str(self.constant))
        return parts[0] if len(parts) == 1 else f"({' + '.join(parts)})"

    # -- arithmetic ------------------------------------------------------------------------

    def __add__(self, other: Index | Var | int) -> Index:
        if type(other) is int:
            return self if other == 0 else Index(self.terms, self.constant + other)
        other = index(other)
        if not other.terms:
            return self + other.constant
        if not self.terms:
            return other + self.constant
        total = dict(self.terms)
        for atom, factor in other.terms:
            total[atom] = total.get(atom, 0) + factor
        terms = tuple([t for t in total.items() if t[1]])
        made = Index(terms, self.constant + other.constant)
        return _rejoined(made) if len(terms) > 1 else made

    __radd__ = __add__

    def __neg__(self) -> Index:
        return self * -1

    def __sub__(self, other: Index | Var | int) -> Index:
        return self + index(other) * -1

    def __rsub__(self, other: Index | Var | int) -> Index:
        return index(other) + self * -1

    def __mul__(self, other: Index | Var | int) -> Index:
        if type(other) is not int:
            other = index(other)
            if other.terms:
                return self._times(other)
            other = other.constant
        if other == 1:
            return self
        if other == 0:
            return index(0)
        return Index(tuple([(a, f * other) for a, f in self.terms]), self.constant * other)

    __rmul__ = __mul__

    def _times(self, other: Index) -> Index:
        total = self * other.constant + other * self.constant
        total = total - self.constant * other.constant
        for a, f in self.terms:
            for b, g in other.terms:
                total += _product([a, b]) * (f * g)
        return total

    def __floordiv__(self, other: Index | Var | int) -> Index:
        other = index(other)
        if other == 1:
            return self
        if not self.terms and not other.terms:
            return index(self.constant // other.constant)
        whole, rest = _divide(self, other)
        if not rest.terms and not rest.constant:
            return whole
        if is_below(rest, other):
            return whole
        finer = _finer(rest, other)
        if finer is not None:
            return whole + finer[0] // other % finer[1]
        digits = _digits(rest, other)
        if digits is not None:
            return whole + digits[1] // _over(other, digits[0])
        return whole + Index(((Quotient(rest, other), 1),), 0)

    def __mod__(self, other: Index | Var | int) -> Index:
        other = index(other)
        if other == 1:
            return index(0)
        if not self.terms and not other.terms:
            return index(self.constant % other.constant)
        _, rest = _divide(self, other)
        if not rest.terms and not rest.constant:
            return rest
        if is_below(rest, other):
            return rest
        finer = _finer(rest, other)
        if finer is not None:
            return finer[0] % other
        digits = _digits(rest, other)
        if digits is not None:
            unit, high, low = digits
            return high % _over(other, unit) * unit + low
        return Index(((Remainder(rest, other), 1),), 0)

    # -- use -------------------------------------------------------------------------------

    def substitute(self, values: dict[Atom, Index | int]) -> Index:
        """The same with variables and symbols replaced."""
        if not self.terms:
            return self
        total = index(self.constant)
        for atom, factor in self.terms:
            total += _replaced(atom, values) * factor
        return total

    def evaluate(self, values: Callable[[Atom], int]) -> int:
        """The integer for given variables and symbols."""
        total = self.constant
        for atom, factor in self.terms:
            total += factor * _evaluated(atom, values)
        return total

    def hint(self) -> int:
        """The value with symbols at their hints and variables at 0."""
        return self.evaluate(lambda atom: atom.hint if type(atom) is Symbol else 0)


def _rejoined(value: Index) -> Index:
    """``k * right * (left // right) + k * (left % right)`` as ``k * left``."""
    for atom, factor in value.terms:
        for found, times in _remainders(atom):
            factors = dict(value.terms)
            whole = index(Quotient(found.left, found.right)) * (found.right * times * factor)
            if all(factors.get(a) == f for a, f in whole.terms):
                rest = tuple([t for t in value.terms if t[0] is not atom and t not in whole.terms])
                return Index(rest, value.constant) + found.left * times * factor
    return value


def _remainders(atom: Atom) -> Iterator[tuple[Remainder, Index]]:
    """The remainders in a term, and what each is multiplied with."""
    factors = atom.factors if type(atom) is Product else (atom,)
    for place, factor in enumerate(factors):
        if type(factor) is Remainder:
            yield factor, _product([*factors[:place], *factors[place + 1 :]])


def index(value: Index | Atom | int) -> Index:
    """An integer, a variable or another atom as an ``Index``."""
    if type(value) is Index:
        return value
    if type(value) is int:
        small = _SMALL.get(value)
        return Index((), value) if small is None else small
    if isinstance(value, (Var, Symbol, Pair, Product)):
        return Index(((value, 1),), 0)
    return Index((), operator.index(value))  # type: ignore[arg-type]


_SMALL: dict[int, Index] = {}
_SMALL.update({n: Index((), n) for n in range(-8, 1025)})


def nested(value: Index) -> Iterator[Atom]:
    """The atoms of an index, and those of the indices in them."""
    for atom, _ in value.terms:
        for factor in atom.factors if type(atom) is Product else (atom,):
            yield factor
            if isinstance(factor, Pair):
                yield from nested(factor.left)
                yield from nested(factor.right)


def minimum(a: Index | int, b: Index | int) -> Index:
    """The smaller of two indices, decided now where that can be."""
    a, b = index(a), index(b)
    difference = a - b
    if not difference.terms:
        return a if difference.constant <= 0 else b
    if is_at_most(difference, 0):
        return a
    if is_at_most(-difference, 0):
        return b
    return Index(((Minimum(a, b), 1),), 0)


def ceil_div(a: Index | int, b: Index | int) -> Index:
    """``a / b``, rounded up."""
    return (index(a) + index(b) - 1) // index(b)


Range = tuple["int | None", "int | None"]


def bounds(value: Index) -> Range:
    """The least and the greatest value that are certain; None where nothing is known."""
    low: int | None = value.constant
    high: int | None = value.constant
    for atom, factor in value.terms:
        least, most = _atom_bounds(atom)
        if factor < 0:
            least, most = most, least
        low = None if low is None or least is None else low + factor * least
        high = None if high is None or most is None else high + factor * most
    return low, high


def is_at_most(value: Index, limit: Index | int) -> bool:
    """Whether ``value <= limit`` is certain."""
    difference = value - limit
    forms = [difference]
    _, most = bounds(difference)
    if most is not None and (most <= 0 or not difference.symbols()):
        return most <= 0 or _is_negative_on_a_side(difference)
    for form in _greater(difference):
        forms.append(form)
        _, most = bounds(form)
        if most is not None and most <= 0:
            return True
    return any(_is_negative_on_a_side(form) for form in forms)


def _is_negative_on_a_side(value: Index) -> bool:
    """Whether it is certain that a value is at most 0 with one side for a minimum in it."""
    for atom, factor in value.terms:
        if type(atom) is Minimum and factor > 0:
            # Either side is not less than the minimum.
            rest = value - Index(((atom, factor),), 0)
            sides = (atom.left, atom.right)
            return any(is_at_most(rest + side * factor, 0) for side in sides)
    return False


def is_below(value: Index, limit: Index | int) -> bool:
    """Whether ``0 <= value < limit`` is certain."""
    low, _ = bounds(value)
    if (low is None or low < 0) and not is_at_most(-value, 0):
        return False
    return is_at_most(value + 1, limit)


def _greater(value: Index) -> Iterator[Index]:
    """Indices that are never less, with ever fewer variables and quotients.

    Variables are at their last iteration where that makes the value greatest, inner ones first
    (whose extents depend on others); a quotient by a number is bounded by what it divides.
    """
    for _ in range(_ROUNDS):
        inner = {a for a, f in value.terms if f > 0 and type(a) is Var and a.extent.variables()}
        total = index(value.constant)
        for atom, factor in value.terms:
            now = not inner or atom in inner
            total += _greatest_term(atom, factor) if now else Index(((atom, factor),), 0)
        if total == value:
            break
        yield total
        value = total


_ROUNDS = 6  # extents that depend on variables, in loops that deep


def _greatest_term(atom: Atom, factor: int) -> Index:
    kind = type(atom)
    if kind is Var and factor > 0:
        return index(atom.extent - 1) * factor
    if kind is Product and factor > 0 and all(type(f) in (Var, Symbol) for f in atom.factors):
        # It grows with each of its variables.
        return _replaced(atom, {f: f.extent - 1 for f in atom.factors if type(f) is Var}) * factor
    if kind is Quotient and atom.right.is_constant:
        by: int = atom.right.constant
        if by > 0 and factor % by == 0:
            # left - (by - 1) <= by * quotient <= left
            return index(atom.left if factor > 0 else atom.left - (by - 1)) * (factor // by)
    return Index(((atom, factor),), 0)


def _atom_bounds(atom: Atom) -> Range:
    kind = type(atom)
    if kind is Var:
        _, most = bounds(atom.extent)
        return 0, None if most is None else max(most - 1, 0)
    if kind is Symbol:
        return atom.least, None
    if kind is Product:
        parts = [_atom_bounds(f) for f in atom.factors]
        if any(low is None or low < 0 for low, _ in parts):
            return None, None
        most = 1
        for _, high in parts:
            if high is None:
                return 0, None
            most *= high
        return 0, most
    low, high = bounds(atom.left)
    other_low, other_high = bounds(atom.right)
    if kind is Minimum:
        known = [h for h in (high, other_high) if h is not None]
        lows = None if low is None or other_low is None else min(low, other_low)
        return lows, min(known) if known else None
    if kind is Quotient:
        if high is not None and other_low is not None and other_low > 0:
            return 0, high // other_low
        return 0, high
    most = None if other_high is None else other_high - 1
    if high is not None:
        most = high if most is None else min(high, most)
    return 0, most


def _divide(value: Index, divisor: Index) -> tuple[Index, Index]:
    """``value`` as ``whole * divisor + rest``, the whole as large as the terms show.

    The rest is certain not to be negative, or the whole is 0.
    """
    if divisor.terms:
        whole, rest = _divide_symbolic(value, divisor)
    else:
        by = divisor.constant
        parts = [(a, f // by, f % by) for a, f in value.terms]
        whole = Index(tuple([(a, q) for a, q, _ in parts if q]), value.constant // by)
        rest = Index(tuple([(a, r) for a, _, r in parts if r]), value.constant % by)
    low, _ = bounds(rest)  # minima may be negative
    if low is None or low < 0:
        return index(0), value
    return whole, rest


def _finer(value: Index, divisor: Index) -> tuple[Index, Index] | None:
    """``x`` and ``k`` where the value is ``x % (k * divisor)``."""
    if len(value.terms) != 1 or value.constant:
        return None
    atom, factor = value.terms[0]
    if type(atom) is not Remainder or factor != 1:
        return None
    times, rest = _divide(atom.right, divisor)
    return None if rest.terms or rest.constant else (atom.left, times)


def _digits(value: Index, divisor: Index) -> tuple[int, Index, Index] | None:
    """``value`` as ``unit * high + low`` with ``low`` below a unit that divides the divisor."""
    if len(divisor.terms) > 1 or (divisor.terms and divisor.constant):
        return None
    by = divisor.terms[0][1] if divisor.terms else divisor.constant
    constant = value.constant
    for unit in sorted({gcd(f, by) for _, f in value.terms}, reverse=True):
        low = Index(tuple([(a, f) for a, f in value.terms if f % unit]), constant % unit)
        if unit > 1 and (unit < by or divisor.terms) and is_below(low, unit):
            high = [(a, f // unit) for a, f in value.terms if f % unit == 0]
            return unit, Index(tuple(high), constant // unit), low
    return None


def _over(divisor: Index, unit: int) -> Index:
    """A divisor divided by one of its own."""
    return Index(tuple([(a, f // unit) for a, f in divisor.terms]), divisor.constant // unit)


def _divide_symbolic(value: Index, divisor: Index) -> tuple[Index, Index]:
    """By a single atom or product: its multiples are taken out."""
    if len(divisor.terms) != 1 or divisor.constant:
        return index(0), value
    (by, times) = divisor.terms[0]
    factors = by.factors if type(by) is Product else (by,)
    whole, rest = index(0), index(value.constant)
    for atom, factor in value.terms:
        mine = list(atom.factors) if type(atom) is Product else [atom]
        left = mine
        for f in factors:
            if f in left:
                left = left.copy()
                left.remove(f)
            else:
                left = []
                break
        else:
            if factor % times == 0:
                whole += _product(left) * (factor // times)
                continue
        rest += Index(((atom, factor),), 0)
    return whole, rest


def _product(atoms: list[Atom]) -> Index:
    """The product of atoms as an index; 1 of none."""
    if not atoms:
        return index(1)
    flat: list[Atom] = []
    for atom in atoms:
        flat.extend(atom.factors if type(atom) is Product else (atom,))
    return index(flat[0] if len(flat) == 1 else Product(tuple(flat)))


def _leaves(atom: Atom) -> Iterator[Atom]:
    kind = type(atom)
    if kind is Var or kind is Symbol:
        yield atom
    elif kind is Product:
        for factor in atom.factors:
            yield from _leaves(factor)
    else:
        yield from atom.left.atoms()
        yield from atom.right.atoms()


def _replaced(atom: Atom, values: dict[Atom, Index | int]) -> Index:
    kind = type(atom)
    if kind is Var or kind is Symbol:
        found = values.get(atom)
        return index(atom) if found is None else index(found)
    if kind is Product:
        total = index(1)
        for factor in atom.factors:
            total = total * _replaced(factor, values)
        return total
    left: Index = atom.left.substitute(values)
    right: Index = atom.right.substitute(values)
    if kind is Minimum:
        return minimum(left, right)
    if right == 0:  # of an empty extent: nothing reads it
        return right
    return left // right if kind is Quotient else left % right


def _evaluated(atom: Atom, values: Callable[[Atom], int]) -> int:
    kind = type(atom)
    if kind is Var or kind is Symbol:
        return values(atom)
    if kind is Product:
        total = 1
        for factor in atom.factors:
            total *= _evaluated(factor, values)
        return total
    left: int = atom.left.evaluate(values)
    right: int = atom.right.evaluate(values)
    if kind is Minimum:
        return min(left, right)
    return left // right if kind is Quotient else left % right
