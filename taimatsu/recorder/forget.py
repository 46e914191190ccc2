"""Keeps the trie bounded: sequences that were not carried out lately are forgotten."""

from __future__ import annotations

from collections.abc import Iterable

from taimatsu.recorder.state import STATISTICS, State


def forget(roots: Iterable[State], limit: int) -> None:
    """Cuts from the tries what was carried out longest ago, until half of ``limit`` is left.

    Open recordings go on: a state keeps its parents, and what was cut is built again when met.
    """
    roots = list(roots)
    order = _in_order(roots)
    threshold = _threshold(order, limit // 2)
    kept = set(map(id, roots))
    for state in reversed(order):  # children first
        if state.stamp > threshold:
            kept.add(id(state))
        if id(state) in kept and state.parent is not None:
            kept.add(id(state.parent))
    for state in order:
        if id(state) in kept:
            _cut(state, kept)
    STATISTICS.live = sum(id(state) in kept for state in order)


def _in_order(roots: list[State]) -> list[State]:
    """All states, parents before children."""
    order = list(roots)
    for state in order:
        order.extend(state.known().values())
    return order


def _threshold(order: list[State], limit: int) -> int:
    """The stamp at or below which a carried out sequence is forgotten.

    A sequence counts with all its states, though several share their beginnings.
    """
    finals = sorted((s for s in order if s.stamp), key=lambda s: s.stamp, reverse=True)
    total = 0
    for state in finals:
        total += state.depth
        if total > limit and state is not finals[0]:
            return state.stamp
    return 0


def _cut(state: State, kept: set[int]) -> None:
    edges = state.known()
    for key, following in list(edges.items()):
        if id(following) not in kept:
            del edges[key]
    macros = state.memo.get("macros", {})
    for key, effects in list(macros.items()):
        effects[:] = [effect for effect in effects if id(effect.final) in kept]
        if not effects:
            del macros[key]
