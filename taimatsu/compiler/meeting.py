"""How a stage meets a group row by row, by what it reads of it or beside it."""

from __future__ import annotations

from collections.abc import Iterable

from taimatsu.compiler.groups import Group
from taimatsu.ir.index import Index, Var, index
from taimatsu.ir.stages import Stage, loads

Meeting = tuple[list[int], tuple[Var, ...]]  # rows of the group, and a stage's variables for them


def meeting(group: Group, stage: Stage) -> Meeting | None:
    """Which of the group's rows a stage that reads members shares, and its variables for them."""
    count = len(group.rows[group.stages[0]])
    found: dict[int, Var] = {}
    lost: set[int] = set()
    for node in loads(stage):
        member, where = node.detail
        rows = group.rows.get(member)
        if rows is None:
            continue
        for k in range(count):
            position = next(d for d, v in enumerate(member.axes) if v is rows[k])
            var = plain(where[position])
            good = (
                var is not None
                and any(var is a for a in stage.axes)
                and var.extent == rows[k].extent
                and found.setdefault(k, var) is var
            )
            if not good:
                lost.add(k)
    kept = [k for k in range(count) if k in found and k not in lost]
    chosen = [found[k] for k in kept]
    if len({id(v) for v in chosen}) != len(chosen):
        return None
    if stage.kind == "scan":
        return None
    return kept, tuple(chosen)


def beside(group: Group, stage: Stage) -> tuple[Var, ...] | None:
    """A stage's variables for all rows of a group of which it reads nothing.

    They go by what both read; where that does not tell, by extents.
    """
    rows = group.rows[group.stages[0]]
    found: dict[int, Var] = {}
    mine: dict[Stage, list[tuple]] = {}
    for node in loads(stage):
        mine.setdefault(node.detail[0], []).append(node.detail[1])
    own = {id(v) for v in stage.axes}
    for member in group.stages:
        numbers = {id(v): k for k, v in enumerate(group.rows[member])}
        for node in loads(member):
            for where in mine.get(node.detail[0], ()):
                for a, b in zip(node.detail[1], where, strict=True):
                    row, var = plain(a), plain(b)
                    if row is None or var is None or id(row) not in numbers or id(var) not in own:
                        continue
                    if row.extent == var.extent:
                        found.setdefault(numbers[id(row)], var)
    if len({id(v) for v in found.values()}) == len(found) == len(rows):
        return tuple([found[k] for k in range(len(rows))])
    outer = wide(stage.axes)[: len(rows)]
    if [v.extent for v in outer] == [v.extent for v in rows]:
        return outer
    return None


def is_one_pass(group: Group, stage: Stage, kept: list[int], rows: tuple[Var, ...]) -> bool:
    """Whether a stage and all members are computed in the same loops inside of the kept rows.

    They are if they have the same domain and nothing reads a reduction, or another element than
    the one at hand.
    """
    shared = {s: tuple([own[k] for k in kept]) for s, own in group.rows.items()}
    shared[stage] = rows
    domain = _domain(stage, rows)
    if domain is None or any(_domain(s, own) != domain for s, own in shared.items()):
        return False
    for member in shared:
        for node in loads(member):
            source, where = node.detail
            if source in shared and not _is_at_hand(source, where, member, shared):
                return False
    return True


def has_loops(group: Group, stage: Stage, rows: tuple[Var, ...]) -> bool:
    """Whether a member of a group has the loops inside of a row that a stage needs."""
    domain = _domain(stage, rows)
    return domain is not None and any(_domain(s, own) == domain for s, own in group.rows.items())


def reads_windows(group: Group, stage: Stage) -> bool:
    """Whether a stage reads members elsewhere than at variables of its own: windows, halos."""
    return any(
        type(c) is Index and not c.is_constant and plain(c) is None
        for node in loads(stage)
        if node.detail[0] in group.rows
        for c in node.detail[1]
    )


def _domain(stage: Stage, rows: tuple[Var, ...]) -> list[Index] | None:
    """The extents of a stage's loops inside of a row; None if it cannot share them."""
    kept, over = _inside(stage, rows), wide(stage.reduce_axes)
    if stage.kind not in ("map", "reduce") or (kept and over) or not (kept or over):
        return None
    return [v.extent for v in (*kept, *over)]


def _is_at_hand(
    source: Stage, where: tuple, reader: Stage, shared: dict[Stage, tuple[Var, ...]]
) -> bool:
    """Whether a load is of the element that belongs to the reader's point of the domain."""
    if source.kind != "map":
        return False
    there = (*shared[source], *_inside(source, shared[source]))
    inside = (*_inside(reader, shared[reader]), *wide(reader.reduce_axes))
    here = dict(zip(there, (*shared[reader], *inside), strict=True))
    return all(plain(c) is here[v] for v, c in zip(source.axes, where, strict=True) if v in here)


def _inside(stage: Stage, rows: tuple[Var, ...]) -> tuple[Var, ...]:
    """A stage's axes inside of a row."""
    return tuple([v for v in wide(stage.axes) if not any(v is r for r in rows)])


def wide(axes: Iterable[Var]) -> tuple[Var, ...]:
    """The axes with more than one position."""
    return tuple([v for v in axes if v.extent != 1])


def own_place(stage: Stage) -> tuple[Index, ...]:
    """The coordinates of the element that a stage is at."""
    return tuple([index(0) if v.extent == 1 else index(v) for v in stage.axes])


def plain(coordinate: object) -> Var | None:
    """The variable that a coordinate is, if it is nothing else."""
    if type(coordinate) is not Index or len(coordinate.terms) != 1 or coordinate.constant:
        return None
    atom, factor = coordinate.terms[0]
    return atom if type(atom) is Var and factor == 1 else None
