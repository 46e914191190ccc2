"""In which order the elements of intermediates lie in memory.

What somebody outside sees lies in its own order. Of everything else the compiler chooses which
dimension is innermost: contractions wish for one that no window slides along (the channels of
images, so that vectors and broadcasts follow one another), and for the order in which an operand's
dimensions are joined. Wishes spread, weakening, from stage to stage along the dimensions that loads
connect; then each stage weighs what it costs not to follow a wish against reading neighbours across
their order. What is not wished for lies in row-major order.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from taimatsu.compiler.gathered import gathered, scattered
from taimatsu.compiler.groups import Group, Layout, ordered_layout
from taimatsu.compiler.meeting import plain
from taimatsu.ir.expression import Expression, variables
from taimatsu.ir.index import Index, Product, Quotient, Remainder, Var, index
from taimatsu.ir.stages import Stage, loads
from taimatsu.ir.target import Target

ROUNDS = 12  # of spreading wishes, and of weighing
SPARED = 1 / 64  # cycles that an order contractions wish for spares, for each multiplication
ACROSS = 1.0  # cycles to read or write an element across its order
SPREAD = 0.8  # how much of a wish the next stage hears
FIXED = 0.2  # cycles that a fixed order counts for each element
PLAIN = 0.1  # what a wish counts where all orders are good

Place = tuple[Stage, int]  # a stage and one of its dimensions


def choose(groups: list[Group], fixed: Iterable[Stage], target: Target) -> dict[Stage, Layout]:
    """The layout of every stage that gets memory of its own.

    Args:
        groups: in order; their ``outputs`` get memory.
        fixed: stages that are seen from outside: they lie in their ``order``.
        target: the machine.
    """
    held = set(fixed)
    wishes = _Wishes(max(target.lanes(4) // 2, 2))
    for group in groups:
        wishes.hear(group, held)
    wishes.spread()
    wishes.weigh()
    chosen: dict[Stage, Layout] = {}
    for group in groups:
        for stage in (*group.outputs, *group.pooled()):
            if stage.kind == "update":
                continue
            order = stage.order if stage in held else wishes.order(stage)
            chosen[stage] = ordered_layout(stage.shape, order)
    return chosen


class _Wishes:
    """Which dimensions should be innermost, and how much that is worth."""

    def __init__(self, least: int) -> None:
        self.least = least  # shorter dimensions fill no vectors
        self.own: dict[Place, float] = {}  # cycles spared
        self.links: dict[Place, set[Place]] = {}
        self.stands: dict[Place, set[Place]] = {}  # for stages without memory: what they read
        self.held: set[Stage] = set()
        self.inner: dict[Stage, int] = {}  # the dimension that is innermost

    def order(self, stage: Stage) -> tuple[int, ...]:
        """The order of a stage's dimensions."""
        inner = self.inner.get(stage)
        if inner is None:
            return stage.order
        return (*[d for d in stage.order if d != inner], inner)

    def hear(self, group: Group, held: set[Stage]) -> None:
        """Takes in a group's wishes and connections."""
        is_sum = group.kind == "contraction"
        self.held |= held
        stored = {*group.outputs, *group.pooled(), *(group.stages[:1] if is_sum else ())}
        for stage in group.stages:
            if stage in held or stage.kind == "update":
                self._fixed(stage)
            for node in loads(stage):
                source, where = node.detail
                if source.kind == "window" or source in held:
                    self._fixed(source)
                self._connect(stage, source, where, stage in stored)
        if is_sum:
            self._contraction(group.stages[0])
        if is_sum or group.kind == "scatter":
            self._blocks(group.stages[0])

    def _wish(self, stage: Stage, dimension: int, worth: float) -> None:
        place = (stage, dimension)
        self.own[place] = self.own.get(place, 0.0) + worth

    def _fixed(self, stage: Stage) -> None:
        """An order that is given is a wish of those who meet it."""
        if not stage.shape:
            return
        inner = stage.order[-1]
        for d, stride in enumerate(stage.strides):
            if stride == 1 and stage.shape[d] != 1:
                inner = d
        if _size(stage.shape[inner]) >= self.least:
            self.own.setdefault((stage, inner), FIXED * _elements(stage.shape))

    def _connect(self, stage: Stage, source: Stage, where: tuple, is_stored: bool) -> None:
        """Dimensions of a stage and of what it loads that are stepped through together."""
        dimensions = {v: d for d, v in enumerate(stage.axes)} if stage.kind != "scatter" else {}
        for d, coordinate in enumerate(where):
            met = [dimensions[v] for v in _stepping(coordinate) if v in dimensions]
            if len(met) != 1 or source.shape[d] == 1:
                continue
            for there in self.stands.get((source, d), {(source, d)}):
                if not is_stored:
                    self.stands.setdefault((stage, met[0]), set()).add(there)
                    continue
                self.links.setdefault((stage, met[0]), set()).add(there)
                self.links.setdefault(there, set()).add((stage, met[0]))

    def spread(self) -> None:
        """Lets every place hear the strongest wish that reaches it; the strongest is followed."""
        strength = dict(self.own)
        waiting = set(strength)
        for _ in range(ROUNDS):
            heard: set[Place] = set()
            for place in waiting:
                worth = strength[place] * SPREAD
                for other in self.links.get(place, ()):
                    if worth > strength.get(other, 0.0):
                        strength[other] = worth
                        heard.add(other)
            waiting = heard
        best: dict[Stage, float] = {}
        for (stage, d), worth in strength.items():
            if (worth, d) > (best.get(stage, 0.0), self.inner.get(stage, -1)):
                best[stage] = worth
                self.inner[stage] = d

    def weigh(self) -> None:
        """Lets each stage change its mind where that costs less, as its neighbours are."""
        for _ in range(ROUNDS):
            changed = False
            for stage in list(self.inner):
                if stage in self.held or stage.kind == "window":
                    continue
                costs = [self._cost(stage, d) for d in range(len(stage.shape))]
                last = len(costs) - 1 - costs[::-1].index(min(costs))
                if self.inner[stage] != last:
                    self.inner[stage] = last
                    changed = True
            if not changed:
                return

    def _cost(self, stage: Stage, inner: int) -> float:
        """Cycles lost where a dimension is innermost: wishes not followed, neighbours across."""
        dimensions = range(len(stage.shape))
        lost = sum(self.own.get((stage, d), 0.0) for d in dimensions if d != inner)
        met: dict[Stage, bool] = {}
        for d in dimensions:
            for other, there in self.links.get((stage, d), ()):
                along = d == inner and self.inner.get(other, len(other.shape) - 1) == there
                met[other] = met.get(other, False) or along
        for other, along in met.items():
            if not along:
                lost += ACROSS * min(_elements(stage.shape), _elements(other.shape))
        return lost

    # -- contractions ----------------------------------------------------------------------

    def _contraction(self, main: Stage) -> None:
        """What a sum of products wishes for its operands and its result."""
        operands = [n.detail for n in loads(main)]
        if any(type(c) is Expression for _, where in operands for c in where):
            return
        sliding = _sliding([c for _, where in operands for c in where])
        worth = SPARED * _elements([v.extent for v in (*main.axes, *main.reduce_axes)])
        plainly = worth if sliding else worth * PLAIN
        for source, where in operands:
            if any(_is_joined(c) for c in where):
                self._wish(source, source.order[-1], worth)
                continue
            plain = [_is_plain(c, sliding) for c in where]
            self._innermost(source, plain, bool(sliding), plainly)
        free = [v not in sliding for v in main.axes]
        self._innermost(main, free, bool(sliding), plainly)

    def _blocks(self, main: Stage) -> None:
        """What products with computed places wish for: blocks that follow one another."""
        form = gathered(main) or scattered(main)
        if form is None:
            return
        array = main if main.kind == "scatter" else form.second.detail[0]
        worth = SPARED * _elements([v.extent for v in (*main.axes, *main.reduce_axes)])
        own = [
            d for d, (known, _) in enumerate(form.places) if known.variables() & set(form.blocks)
        ]
        apart = [
            d
            for d in own
            if form.places[d][1] is None and any(plain(form.places[d][0]) is v for v in form.blocks)
        ]
        # Short dimensions are no vectors of their own, but go on into those beside them.
        if own:
            self._wish(array, max(apart or own), worth)

    def _innermost(self, stage: Stage, free: list[bool], slides: bool, worth: float) -> None:
        """Wishes for the last dimension that is free; where windows slide, not for the first."""
        for d in reversed(range(1 if slides else 0, len(free))):
            if free[d] and not stage.shape[d].terms and _size(stage.shape[d]) >= self.least:
                self._wish(stage, d, worth)
                return


def _variables(coordinate: Index | Expression) -> set[Var]:
    """The variables of a coordinate, computed or not."""
    if isinstance(coordinate, Index):
        return coordinate.variables()
    return variables(coordinate)


def _stepping(coordinate: Index | Expression) -> set[Var]:
    """The variables of which neighbours have neighbouring coordinates; all of a computed one."""
    if not isinstance(coordinate, Index):
        return _variables(coordinate)
    found: set[Var] = set()
    for atom, factor in coordinate.terms:
        if abs(factor) == 1 and type(atom) not in (Quotient, Product):  # a product steps further
            found |= index(atom).variables()
    return found


def _sliding(coordinates: list[Index]) -> set[Var]:
    """Variables that share a coordinate with another one: a window's place and its taps."""
    found: set[Var] = set()
    for c in coordinates:
        met = {v for v in c.variables() if v.extent != 1}
        if len(met) > 1:
            found |= met
    return found


def _is_plain(coordinate: Index, sliding: set[Var]) -> bool:
    """Whether a coordinate steps with one variable, element by element."""
    met = [v for v in coordinate.variables() if v.extent != 1]
    return len(met) == 1 and met[0] not in sliding and abs(coordinate.coefficient(met[0])) == 1


def _is_joined(coordinate: Index) -> bool:
    """Whether a coordinate is a digit of a variable that runs through several dimensions."""
    return any(type(atom) in (Quotient, Remainder) for atom, _ in coordinate.terms)


def _size(extent: Index) -> int:
    return extent.constant if not extent.terms else max(extent.hint(), 1)


def _elements(shape: Iterable[Index]) -> int:
    return prod([_size(n) for n in shape])
