"""Maps that compute the same: one of them is computed, and read in place of the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from taimatsu.ir.expression import Expression, load, rewrite, walk
from taimatsu.ir.index import Index, Var
from taimatsu.ir.stages import Stage, loads


class EqualMaps:
    """Finds maps with equal values, whatever their axes are called."""

    def __init__(self) -> None:
        self.replaced: dict[Stage, Stage] = {}  # map -> an earlier one with its values
        self._axes: dict[tuple[int, Index], Var] = {}
        self._numbers: dict[Any, int] = {}  # what an expression is made of -> its number
        self._found: dict[Any, Stage] = {}
        self._seldom: dict[Any, Stage | None] = {}  # the only map of a shape and of such loads

    def take(self, stage: Stage) -> Stage | None:
        """Notes a map without checks, after all that it reads; returns what it is equal to."""
        assert stage.value is not None
        # Most maps differ from all others at first sight. One is looked at when there is another.
        sources = dict.fromkeys([self.replaced.get(n.detail[0], n.detail[0]) for n in loads(stage)])
        sight = (stage.shape, stage.order, stage.value.op, *sources)
        if sight not in self._seldom:
            self._seldom[sight] = stage
            return None
        other = self._seldom[sight]
        if other is not None:
            self._seldom[sight] = None
            self._found[self._key(other)] = other
        earlier = self._found.setdefault(self._key(stage), stage)
        if earlier is stage:
            return None
        self.replaced[stage] = earlier
        return earlier

    def _key(self, stage: Stage) -> Any:
        """Equal for maps that compute the same."""
        assert stage.value is not None
        names: dict[Any, Index | int] = {}
        for d, var in enumerate(stage.axes):
            common = self._axes.setdefault((d, var.extent), Var(f"e{d}", var.extent))
            names[var] = Index(((common, 1),), 0)
        return stage.shape, stage.order, self._number(stage.value, names, {})

    def reads(self, stage: Stage) -> None:
        """Lets a stage read what is computed."""
        if stage.initial is not None:
            stage.initial = self.replaced.get(stage.initial, stage.initial)
        if not any(node.detail[0] in self.replaced for node in loads(stage)):
            return
        done: dict[Expression, Expression] = {}

        def changed(root: Any) -> Any:
            return rewrite(root, self._changed, done) if type(root) is Expression else root

        stage.value = changed(stage.value)
        stage.where = tuple([changed(c) for c in stage.where])
        stage.checks = tuple([(changed(c), m) for c, m in stage.checks])

    def _changed(self, node: Expression) -> Expression | None:
        if node.op == "load" and node.detail[0] in self.replaced:
            source, where = node.detail
            return load(self.replaced[source], where, node.dtype)
        return None

    def _number(
        self, root: Expression, names: dict[Any, Index | int], done: dict[Expression, int]
    ) -> int:
        """Equal for expressions that compute the same over the common axes."""
        for node in walk(root):
            if node not in done:
                key = (node.op, node.dtype, *self._detail(node, names, done))
                key = (*key, *[done[a] for a in node.args])
                done[node] = self._numbers.setdefault(key, len(self._numbers))
        return done[root]

    def _detail(
        self, node: Expression, names: dict[Any, Index | int], done: dict[Expression, int]
    ) -> Iterable[Any]:
        if node.op == "load":
            source, where = node.detail
            yield self.replaced.get(source, source)
            for c in where:
                yield c.substitute(names) if type(c) is Index else done[c]
        elif node.op == "index":
            yield node.detail.substitute(names)
        else:
            yield repr(node.detail)  # constants: nan is nan, and 0 is not -0
