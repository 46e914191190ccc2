"""A number that came into a memoised call: arithmetic on it is remembered, to be done again."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

Rule = Callable[[Sequence[Any]], Any]  # how to compute a number from those that came in


class Number:
    """A runtime number while a macro is captured.

    Arithmetic gives another ``Number`` that knows its rule; a comparison, or use as a plain
    number, is decided now and noted as a guard under which the macro may be used again.
    """

    __slots__ = ("value", "rule", "guards")

    def __init__(self, value: Any, rule: Rule, guards: list) -> None:
        self.value = value
        self.rule = rule
        self.guards = guards

    def _combined(self, function: Callable, other: Any, swapped: bool) -> Any:
        mine = self.rule
        if isinstance(other, Number):
            theirs = other.rule
            content = other.value
        elif isinstance(other, (int, float, complex)):
            content = other

            def theirs(_: Sequence[Any]) -> Any:
                return content
        else:
            return NotImplemented
        if swapped:
            made = function(content, self.value)
            return Number(made, lambda given: function(theirs(given), mine(given)), self.guards)
        made = function(self.value, content)
        return Number(made, lambda given: function(mine(given), theirs(given)), self.guards)

    def _single(self, function: Callable) -> Number:
        mine = self.rule
        return Number(function(self.value), lambda given: function(mine(given)), self.guards)

    def _decided(self, function: Callable, other: Any) -> Any:
        if isinstance(other, Number):
            other = other._plain()
        outcome = function(self.value, other)
        mine = self.rule
        self.guards.append(lambda given: function(mine(given), other) == outcome)
        return outcome

    def _plain(self) -> Any:
        """The value itself, good only where it comes again."""
        value, mine = self.value, self.rule
        self.guards.append(lambda given: mine(given) == value)
        return value

    def __neg__(self) -> Number:
        return self._single(operator.neg)

    def __pos__(self) -> Number:
        return self

    def __abs__(self) -> Number:
        return self._single(abs)

    def conjugate(self) -> Number:
        return self._single(lambda x: x.conjugate())

    def __float__(self) -> float:
        return float(self._plain())

    def __int__(self) -> int:
        return int(self._plain())

    def __index__(self) -> int:
        return operator.index(self._plain())

    def __complex__(self) -> complex:
        return complex(self._plain())

    def __bool__(self) -> bool:
        return self._decided(lambda a, _: bool(a), None)

    def __eq__(self, other: object) -> Any:
        return self._decided(operator.eq, other)

    def __ne__(self, other: object) -> Any:
        return self._decided(operator.ne, other)

    def __hash__(self) -> int:
        return hash(self._plain())

    def __repr__(self) -> str:
        return f"Number({self.value!r})"


def _arithmetic(name: str, function: Callable) -> None:
    def forward(self: Number, other: Any) -> Any:
        return self._combined(function, other, False)

    def reflected(self: Number, other: Any) -> Any:
        return self._combined(function, other, True)

    setattr(Number, f"__{name}__", forward)
    setattr(Number, f"__r{name}__", reflected)


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    _arithmetic(_name, getattr(operator, _name))


def _comparison(name: str) -> None:
    function = getattr(operator, name)
    setattr(Number, f"__{name}__", lambda self, other: self._decided(function, other))


for _name in ("lt", "le", "gt", "ge"):
    _comparison(_name)


def plain(given: Any) -> Any:
    """A number, or the value of a ``Number``, for use now."""
    return given.value if type(given) is Number else given
