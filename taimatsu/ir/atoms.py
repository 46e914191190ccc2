"""What index expressions are made of, beside loop variables: see ``index``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taimatsu.ir.index import Index

Atom = Any  # Var | Symbol | Quotient | Remainder | Minimum | Product


class Symbol:
    """An integer known when a program is launched, not below ``least``; ``hint`` is what it was
    when the program was made, which guides schedules, never meaning. Equal by name (and ``least``).
    """

    __slots__ = ("hint", "least", "name")

    def __init__(self, name: str, hint: int = 0, least: int = 0) -> None:
        self.name = name
        self.hint = hint
        self.least = least

    def __eq__(self, other: object) -> bool:
        return type(other) is Symbol and other.name == self.name and other.least == self.least

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name


class Pair:
    """Base of atoms made of two indices."""

    __slots__ = ("_hash", "left", "right")
    mark = "?"

    def __init__(self, left: Index, right: Index) -> None:
        self.left = left
        self.right = right
        self._hash = hash((type(self).__name__, left, right))

    def __eq__(self, other: object) -> bool:
        return (
            type(other) is type(self)
            and other.left == self.left  # type: ignore[attr-defined]
            and other.right == self.right  # type: ignore[attr-defined]
        )

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple:
        return type(self), (self.left, self.right)  # another process has other hashes

    def __repr__(self) -> str:
        return f"({self.left} {self.mark} {self.right})"


class Quotient(Pair):
    """``left // right`` of indices that are not negative."""

    __slots__ = ()
    mark = "//"


class Remainder(Pair):
    """``left % right`` of indices that are not negative."""

    __slots__ = ()
    mark = "%"


class Minimum(Pair):
    """The smaller of two indices."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"min({self.left}, {self.right})"


class Product:
    """A product of two or more atoms that are no constants: strides of symbolic extents."""

    __slots__ = ("_hash", "factors")

    def __init__(self, factors: tuple[Atom, ...]) -> None:
        self.factors = tuple(sorted(factors, key=order))
        self._hash = hash(self.factors)

    def __eq__(self, other: object) -> bool:
        return type(other) is Product and other.factors == self.factors

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple:
        return Product, (self.factors,)

    def __repr__(self) -> str:
        return "*".join(map(repr, self.factors))


def order(atom: Atom) -> tuple[str, str, int]:
    return type(atom).__name__, repr(atom), hash(atom)  # two variables may have one name
