"""Which groups must be carried out before which, while groups are still growing."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush


class Precedence:
    """Groups by number, and those that must come before each, as the bits of one integer."""

    def __init__(self) -> None:
        self._before: list[int] = []  # all of them
        self._next: list[set[int]] = []  # the other way, without what follows from the rest

    def add_group(self) -> None:
        """The next number."""
        self._before.append(0)
        self._next.append(set())

    def of(self, groups: Iterable[int]) -> int:
        """What must come before any of the groups."""
        found = 0
        for number in groups:
            found |= self._before[number]
        return found

    def put(self, first: Iterable[int], number: int) -> None:
        """Puts groups (and what must come before them) before a group; itself is passed over."""
        added = 0
        for earlier in first:
            if earlier != number:
                self._next[earlier].add(number)
                added |= self._before[earlier] | 1 << earlier
        waiting = [number]
        while waiting:  # and before all that it must come before, as far as that is new to them
            later = waiting.pop()
            if added & ~self._before[later]:
                self._before[later] |= added
                waiting.extend(self._next[later])

    def order(self) -> list[int]:
        """The groups, each after those that must come before it; else by number."""
        left = [0] * len(self._next)
        for followers in self._next:
            for number in followers:
                left[number] += 1
        ready = [number for number, count in enumerate(left) if not count]
        heapify(ready)
        found: list[int] = []
        while ready:
            number = heappop(ready)
            found.append(number)
            for later in self._next[number]:
                left[later] -= 1
                if not left[later]:
                    heappush(ready, later)
        if len(found) < len(left):
            raise AssertionError("groups wait for one another")
        return found
