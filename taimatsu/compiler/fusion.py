"""Fusion: which stages are computed together, and which are computed where they are read.

First maps that cost little, or have one reader, are substituted into their readers. Then stages are
put into groups, in the order of the recording: a stage joins a group that makes something it reads
if it meets the group's members row by row and nothing it waits for waits for the group. What may
join what is ordered by kind: maps among maps, reductions with the maps over their rows, maps at the
end of contractions; scans, scatters and reference calls begin groups of their own. Every refusal is
noted with its reason (``TAIMATSU_LOG=fusion``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from taimatsu.compiler import sparse
from taimatsu.compiler.equal import EqualMaps
from taimatsu.compiler.gathered import gathered
from taimatsu.compiler.groups import Group
from taimatsu.compiler.inline import NotInlinedError, cost, inlined, size_hint
from taimatsu.compiler.meeting import (
    beside,
    has_loops,
    is_one_pass,
    meeting,
    own_place,
    reads_windows,
    wide,
)
from taimatsu.compiler.pooling import NotPooledError, is_pool, pooled
from taimatsu.compiler.precedence import Precedence
from taimatsu.compiler.reads import needed_stages, needs, sources
from taimatsu.compiler.unvarying import computed_once
from taimatsu.ir.expression import Expression, walk
from taimatsu.ir.index import Index, Minimum, Quotient, Remainder, Var, index, nested
from taimatsu.ir.stages import Stage, loads
from taimatsu.ir.target import Target

LARGEST_VALUE = 256  # nodes of a stage's expression
LARGEST_KERNEL = 1024  # nodes of a group's expressions
CHEAP = 4.0  # additions for each element that are done again rather than stored and loaded
ROW_LIMIT = 1 << 15  # elements of a row that is kept near the core
WINDOW_LIMIT = 1 << 9  # the same where windows slide over it: channels may be innermost
TOGETHER = 64  # rows that lie across memory are done together, in the lanes of vectors
SMALL = 1 << 12  # elements that one core is done with before others could join in
MOST_TRIED = 64  # groups that a stage could stand beside
SHARED = 4  # what is read for so many elements each is read by all in the same loops

Log = Callable[[str], None]


def fuse(
    stages: list[Stage],
    outputs: Iterable[Stage],
    log: Log | None = None,
    target: Target | None = None,
) -> list[Group]:
    """Groups in an order in which they can be carried out.

    Args:
        stages: a program's, in order; their values are changed.
        outputs: stages whose memory somebody outside gets.
        log: is given a line for each decision.
        target: the machine; without it arrays that are mostly zero are treated as others.
    """
    work = _Fusion(stages, set(outputs), log or _quiet)
    work.inline()
    if target is not None:
        work.sparse(target)
    return work.group()


def _quiet(line: str) -> None:
    """Says nothing."""


def is_contraction(stage: Stage) -> bool:
    """Whether a stage is a sum of products with an axis that only one of the factors has."""
    if stage.kind != "reduce" or stage.combine != "add" or not stage.reduce_axes:
        return False
    if gathered(stage) is not None:
        return True
    value = stage.value
    while value is not None and value.op == "cast":
        value = value.args[0]
    if value is None or value.op != "mul":
        return False
    left, right = (_axes_of(a) for a in value.args)
    if left is None or right is None:
        return False
    if not any(v in left and v in right for v in stage.reduce_axes):
        return False
    return any((v in left) != (v in right) for v in stage.axes)


def _axes_of(factor: Expression) -> set[Var] | None:
    """The variables by which a factor is loaded; None where it is no plain load."""
    while factor.op == "cast":
        factor = factor.args[0]
    if factor.op != "load":
        return None
    found: set[Var] = set()
    for c in factor.detail[1]:
        if type(c) is Expression:
            return None
        found |= c.variables()
    return found


class _Fusion:
    def __init__(self, stages: list[Stage], outputs: set[Stage], log: Log) -> None:
        self.stages = stages
        self.outputs = outputs
        self.log = log
        self.sizes: dict[Stage, int] = {}
        self.costs: dict[Expression, float] = {}
        self.cells = {s.cell.stage for s in stages if s.cell is not None and s.cell.stage}
        self.doomed: dict[Stage, Stage] = {}  # window -> the first update that overwrites it
        for stage in stages:
            if stage.kind == "update":
                for window in stage.readers:
                    self.doomed.setdefault(window, stage)

    # -- substitution ----------------------------------------------------------------------

    def inline(self) -> None:
        """Substitutes maps; what nobody reads any more is dropped."""
        self._drop_unread()
        users = self._users()
        picked = {s.picks for s in self.stages if s.picks is not None}
        stages, self.stages = self.stages, []
        for stage in stages:
            self._take_in(stage, users)
            once = None if stage in picked else computed_once(stage)
            if once is not None:
                self.log(f"{stage} is {once} along axes on which its terms do not depend")
                users[once] = {stage}
                for read in sources(once):
                    users[read].discard(stage)
                    users[read].add(once)
                self.stages.append(once)
            self.stages.append(stage)
        self._merge_equal()
        self._drop_unread()

    def _take_in(self, stage: Stage, users: dict[Stage, set[Stage]]) -> None:
        """Substitutes maps in a stage."""
        chosen = {p for p in _read_maps(stage) if self._is_inlined(p, stage, users)}
        total = self._size(stage) + sum(self._size(p) for p in chosen)
        if total > LARGEST_VALUE:
            self.log(f"{stage} does not take in what it reads: {total} nodes are too many")
            return
        self.sizes[stage] = total
        if not chosen:
            return
        done: dict[Expression, Expression] = {}
        try:
            assert stage.value is not None
            stage.value = inlined(stage.value, chosen, done)
            stage.where = tuple(
                [inlined(c, chosen, done) if type(c) is Expression else c for c in stage.where]
            )
            stage.checks = tuple([(inlined(c, chosen, done), m) for c, m in stage.checks])
        except NotInlinedError as error:
            self.log(f"{stage} does not take in what it reads: {error} cannot be computed with")
            return
        for taken in sorted(chosen, key=lambda s: s.number):
            stage.fused += (*taken.fused, taken.node)
            users[taken].discard(stage)
            for read in sources(taken):
                users.setdefault(read, set()).add(stage)

    def sparse(self, target: Target) -> None:
        """Sums over arrays that are mostly zero go over what is not; see ``sparse``."""
        self.stages = sparse.sparse(self.stages, self.outputs | self.cells, target, self.log)
        self._drop_unread()

    def _merge_equal(self) -> None:
        """Lets what is computed twice be read from where it is computed first."""
        equal = EqualMaps()
        for stage in self.stages:
            equal.reads(stage)
            if stage.kind != "map" or stage.checks or stage in self.outputs or stage in self.cells:
                continue
            earlier = equal.take(stage)
            if earlier is not None:
                earlier.fused += (*stage.fused, stage.node)
                self.log(f"{stage} is {earlier}")

    def _size(self, stage: Stage) -> int:
        """How many nodes a stage's expression has, about."""
        found = self.sizes.get(stage)
        if found is None:
            found = 0 if stage.value is None else sum(1 for _ in walk(stage.value))
            self.sizes[stage] = found
        return found

    def _users(self) -> dict[Stage, set[Stage]]:
        users: dict[Stage, set[Stage]] = {s: set() for s in self.stages}
        for stage in self.stages:
            for read in needs(stage):
                if read in users:
                    users[read].add(stage)
        return users

    def _drop_unread(self) -> None:
        """Keeps stages that an output, or a lasting effect, is made of."""
        self.stages = needed_stages(self.stages, self.outputs)

    def _is_inlined(self, map_: Stage, user: Stage, users: dict[Stage, set[Stage]]) -> bool:
        """Whether a map is computed where ``user`` reads it."""
        if map_ in self.outputs or map_ in self.cells or map_.checks:
            # It is in memory anyhow; only what is free to compute again is.
            if map_.checks or self._cost(map_) > 0 or list(sources(map_)):
                return False
        if not self._may_move(map_, user):
            self.log(f"{map_} is stored: what it reads is overwritten before {user}")
            return False
        price = self._cost(map_)
        if price == 0 and _is_simple(map_):
            return True
        if is_contraction(user):
            self.log(f"{map_} is stored: {user} would compute it once for each tile")
            return False
        if user.kind == "scatter" and map_ is user.initial:
            return False
        again = self._repetitions(map_, user)
        alone = len(users[map_]) == 1
        if alone and price * (again - 1) <= 2 * CHEAP:
            return True
        if self._ends_contraction(map_):
            return False
        if price * max(again, 1.0) <= CHEAP and not self._is_heavy(map_):
            return True
        self.log(
            f"{map_} is stored: {len(users[map_])} readers, {price:g} additions, "
            f"{again:g} times in {user}"
        )
        return False

    def _cost(self, map_: Stage) -> float:
        value = map_.value
        assert value is not None
        found = self.costs.get(value)
        if found is None:
            found = self.costs[value] = cost(value)
        return found

    def _may_move(self, map_: Stage, user: Stage) -> bool:
        """Whether what a map reads is still there when ``user`` reads it."""
        for node in loads(map_):
            update = self.doomed.get(node.detail[0])
            if update is not None and user is not update and user.number > update.number:
                return False
        return True

    def _ends_contraction(self, map_: Stage) -> bool:
        """Whether a map can be computed at the end of a contraction that it reads."""
        return any(is_contraction(s) and s.shape == map_.shape for s in sources(map_))

    def _is_heavy(self, map_: Stage) -> bool:
        """Whether a map reads more arrays than storing it would cost."""
        big = {n.detail[0] for n in loads(map_) if _elements(n.detail[0]) * 4 > _elements(map_)}
        return len(big) > 2

    @staticmethod
    def _repetitions(map_: Stage, user: Stage) -> float:
        """How often an element of a map is read by a stage, about."""
        points = _points(user)
        times = sum(1 for node in loads(user) if node.detail[0] is map_)
        return max(points * times / max(_elements(map_), 1), 1.0)

    # -- groups ----------------------------------------------------------------------------

    def group(self) -> list[Group]:
        """Puts the stages that are left into groups."""
        self.groups: list[Group] = []
        self.place: dict[Stage, int] = {}
        self.before = Precedence()
        self.opaque: dict[int, int] = {}  # node -> the group of its results
        self.nodes: dict[Group, int] = {}  # of all expressions of a group
        self.readers: dict[Stage, list[Stage]] = {}  # window -> stages that load it
        # Sets of groups are bits of numbers here.
        self.reading: dict[Stage, int] = {}  # stage -> groups that load it
        self.small: dict[tuple[Index, ...], int] = {}  # extents -> groups of few elements
        users = self._users()
        self.copied = self._copied(users)
        for stage in self.stages:
            if stage.kind == "window" or stage in self.copied:
                continue
            for read in self._reads(stage):
                if read.kind == "window":
                    self.readers.setdefault(read, []).append(stage)
        for stage in self.stages:
            if stage.kind != "window" and stage not in self.copied:
                self._place(stage)
        ordered = [self.groups[number] for number in self.before.order()]
        for group in ordered:
            members = set(group.stages)
            group.outputs = [
                s
                for s in group.stages
                if s.kind == "update"
                or s in self.outputs
                or s in self.cells
                or not users[s] <= members
            ]
        return ordered

    def _copied(self, users: dict[Stage, set[Stage]]) -> set[Stage]:
        """Maps that only scatters begin with: these compute them where they copy them."""
        found: set[Stage] = set()
        for stage in self.stages:
            if stage.kind == "map" and not stage.checks and users[stage]:
                seen = stage in self.outputs or stage in self.cells
                if not seen and all(
                    u.kind == "scatter"
                    and u.initial is stage
                    and stage not in sources(u)
                    and self._may_move(stage, u)
                    for u in users[stage]
                ):
                    found.add(stage)
        return found

    def _reads(self, stage: Stage) -> set[Stage]:
        """What a stage loads, or what it copies is computed from."""
        found = set(sources(stage))
        if stage.initial is not None and stage.initial in self.copied:
            found |= set(sources(stage.initial))
        return found

    def _place(self, stage: Stage) -> None:
        waits = self._waits(stage)
        blocked = self.before.of(waits)
        for number in sorted(self._candidates(stage), reverse=True):
            if blocked >> number & 1:
                self.log(f"{stage} stays out of group {number}: it waits for what waits for that")
                continue
            reason = self._join(self.groups[number], stage)
            if not reason:
                self._enter(stage, number, waits)
                return
            self.log(f"{stage} stays out of group {number}: {reason}")
        free = self._beside(stage) & ~blocked
        for number in waits:
            free &= ~(1 << number)
        for number in islice(_bits(free), MOST_TRIED):
            if self._join_beside(self.groups[number], stage):
                self._enter(stage, number, waits)
                return
        number = len(self.groups)
        self.groups.append(self._new_group(stage))
        self.before.add_group()
        self._enter(stage, number, waits)

    def _enter(self, stage: Stage, number: int, waits: set[int]) -> None:
        group = self.groups[number]
        self.place[stage] = number
        self.nodes[group] = self.nodes.get(group, 0) + self._size(stage)
        if group.kind == "opaque":
            self.opaque[id(stage.node)] = number
        bit = 1 << number if group.kind == "loops" else 0
        for read in sources(stage):
            self.reading[read] = self.reading.get(read, 0) | bit
        if _points(stage) <= SMALL:
            extents = _extents(wide(stage.axes))
            self.small[extents] = self.small.get(extents, 0) | bit
        self.before.put(waits, number)

    def _waits(self, stage: Stage) -> set[int]:
        """The groups that must be done before a stage."""
        found: set[int] = set()
        for needed in {*needs(stage), *self._reads(stage)}:
            if needed.kind == "window":
                found |= {self.place[s] for s in needs(needed) if s in self.place}
            elif needed in self.place:
                found.add(self.place[needed])
        for window in stage.readers:
            found |= {self.place[s] for s in self.readers.get(window, ()) if s in self.place}
        return found

    def _candidates(self, stage: Stage) -> set[int]:
        if stage.kind == "opaque":  # the results of one node come together
            number = self.opaque.get(id(stage.node))
            return set() if number is None else {number}
        if stage.kind in ("scatter", "scan"):
            return set()
        return {self.place[s] for s in sources(stage) if s in self.place}

    def _beside(self, stage: Stage) -> int:
        """Groups (as bits) that read what a stage reads, or are over as few elements as it is."""
        if stage.kind not in ("map", "reduce", "update") or is_contraction(stage):
            return 0
        points = _points(stage)
        found = 0
        for read in sources(stage):
            if _elements(read) * SHARED >= points:
                found |= self.reading.get(read, 0)
        if points <= SMALL and not stage.reduce_axes:
            found |= self.small.get(_extents(wide(stage.axes)), 0)
        return found

    def _new_group(self, stage: Stage) -> Group:
        kind = stage.kind
        if kind in ("map", "reduce", "scan", "update"):
            kind = "contraction" if is_contraction(stage) else "loops"
        axes = stage.axes
        if stage.kind == "scan":
            axes = tuple([v for d, v in enumerate(axes) if d != stage.scan_axis])
        group = Group(kind, [stage], [])
        group.rows[stage] = wide(axes)
        return group

    def _join(self, group: Group, stage: Stage) -> str:
        """Adds a stage to a group; returns why not, or nothing."""
        if group.kind == "opaque" and stage.kind == "opaque":
            group.stages.append(stage)
            group.rows[stage] = ()
            return ""
        if group.kind not in ("loops", "contraction"):
            return f"{group.kind} groups take nothing in"
        if is_contraction(stage):
            return "contractions begin groups of their own"
        if self._is_too_large(group, stage):
            return "the kernel would be too large"
        if is_pool(group, stage):
            return self._join_windows(group, stage)
        if group.pools and stage.kind == "update":
            return "memory is overwritten element by element only"
        met = meeting(group, stage)
        if met is None:
            return "it does not meet the group row by row"
        kept, rows = met
        whole = len(kept) == len(group.rows[group.stages[0]])
        exact = whole and len(rows) == len(wide(stage.axes)) and not stage.reduce_axes
        if not exact:
            reason = self._rows_refused(group, stage, kept, rows)
            if reason:
                return reason
        if stage.kind == "update" and self._overwrites(group, stage):
            return "the group reads what it overwrites elsewhere"
        for member in group.stages if not whole else ():
            own = group.rows[member]
            group.rows[member] = tuple([own[k] for k in kept])
        group.stages.append(stage)
        group.rows[stage] = rows
        return ""

    @staticmethod
    def _join_windows(group: Group, stage: Stage) -> str:
        """Adds a stage that a contraction's tiles can compute; returns why not, or nothing."""
        try:
            met, group.window = pooled(group, stage)
        except NotPooledError as error:
            return str(error)
        group.pools[stage] = met
        group.stages.append(stage)
        return ""

    def _join_beside(self, group: Group, stage: Stage) -> bool:
        """Adds a stage to a group that has the same loops, and of which it reads nothing."""
        if self._is_too_large(group, stage) or any(s.kind == "scan" for s in group.stages):
            return False
        rows = beside(group, stage)
        if rows is None:
            return False
        whole = len(rows) == len(wide(stage.axes)) and not stage.reduce_axes
        exact = whole and all(_is_exact(s, group.rows[s]) for s in group.stages)
        if not exact and not has_loops(group, stage, rows):
            return False
        if stage.kind == "update" and self._overwrites(group, stage):
            return False
        self.log(f"{stage} joins a group with the same loops: {group.stages[0]}")
        group.stages.append(stage)
        group.rows[stage] = rows
        return True

    def _is_too_large(self, group: Group, stage: Stage) -> bool:
        return self.nodes[group] + self._size(stage) > LARGEST_KERNEL

    def _rows_refused(
        self, group: Group, stage: Stage, kept: list[int], rows: tuple[Var, ...]
    ) -> str:
        """Why a stage that has loops inside of the group's rows may not join."""
        if group.kind == "contraction":
            return "contractions take in maps of their own shape only"
        whole = len(kept) == len(group.rows[group.stages[0]])
        if whole and _points(stage) <= SMALL:
            return ""
        if stage.kind == "update" or any(s.kind == "update" for s in group.stages):
            return "memory is overwritten element by element only"
        outermost = kept == list(range(len(kept))) and rows == wide(stage.axes)[: len(rows)]
        if not outermost and any(
            _chooses(s, [group.rows[s][k] for k in kept]) for s in group.stages
        ):
            return "what its elements are made of changes from lane to lane"
        if is_one_pass(group, stage, kept, rows):
            return ""
        if not outermost and _reads_digits(group, stage):
            return "it goes through columns of memory in other loops"
        together = 1 if outermost else TOGETHER
        inner = 1
        for member in (*group.stages, stage):
            of = rows if member is stage else tuple([group.rows[member][k] for k in kept])
            inner = max(inner, _points(member) // max(size_hint(of), 1))
        lines = size_hint(rows)
        if inner * lines <= SMALL:
            return ""
        if inner > WINDOW_LIMIT and reads_windows(group, stage):
            return f"rows of {inner} elements are too long to slide windows over"
        if inner * together > ROW_LIMIT:
            return f"rows of {inner} elements are too long to stay near the core"
        if lines < 4 * max(together, 4):
            return f"{lines} rows are too few to share"
        return ""

    def _overwrites(self, group: Group, stage: Stage) -> bool:
        """Whether members read the old content at other places than it is overwritten at."""
        for window in stage.readers:
            for reader in self.readers.get(window, ()):
                if reader is stage or reader not in group.rows:
                    continue
                if window.strides != stage.strides or window.offset != stage.offset:
                    return True
                places = [n.detail[1] for n in loads(reader) if n.detail[0] is window]
                own = own_place(reader)
                if reader.reduce_axes or any(tuple(p) != own for p in places):
                    return True
        for node in loads(stage):
            source, where = node.detail
            if source.cell is stage.cell and source in stage.readers:
                if source.strides != stage.strides or source.offset != stage.offset:
                    return True
                if tuple(where) != own_place(stage):
                    return True
        return False


def _bits(number: int) -> Iterator[int]:
    """The places of the bits that are set, highest first."""
    while number:
        place = number.bit_length() - 1
        yield place
        number ^= 1 << place


def _chooses(stage: Stage, rows: list[Var]) -> bool:
    """Whether a stage clamps places along one of its rows: ``cat``, gradients of slices."""
    for node in loads(stage):
        for at in node.detail[1]:
            folds = [a for a in nested(at) if type(a) is Minimum] if type(at) is Index else []
            if any(v in index(a).variables() for a in folds for v in rows):
                return True
    return False


def _reads_digits(group: Group, stage: Stage) -> bool:
    """Whether a stage goes along several dimensions of a member at once."""
    return any(
        type(at) is Index and any(type(a) in (Quotient, Remainder) for a in nested(at))
        for node in loads(stage)
        if node.detail[0] in group.rows
        for at in node.detail[1]
    )


def _is_simple(map_: Stage) -> bool:
    """Whether a map only moves one value, or is a constant."""
    assert map_.value is not None
    return sum(1 for node in walk(map_.value) if node.op == "load") <= 1


def _elements(stage: Stage) -> int:
    return size_hint(stage.shape)


def _points(stage: Stage) -> int:
    """How many values a stage computes, or combines."""
    return size_hint(stage.axes) * size_hint(stage.reduce_axes)


def _extents(axes: Iterable[Var]) -> tuple[Index, ...]:
    return tuple([v.extent for v in axes])


def _is_exact(stage: Stage, rows: tuple[Var, ...]) -> bool:
    """Whether a stage has no loops inside of its rows."""
    return not stage.reduce_axes and len(wide(stage.axes)) == len(rows)


def _read_maps(stage: Stage) -> list[Stage]:
    return [s for s in sources(stage) if s.kind == "map"]
