"""What becomes of a contraction's sums: outputs, partial sums; and what memory is asked for."""

from __future__ import annotations

from taimatsu.compiler.schedule.contraction_problem import Problem
from taimatsu.ir import expression as ex
from taimatsu.ir.expression import Expression
from taimatsu.ir.index import Index, Var
from taimatsu.ir.loops import Allocate, Buffer, Check, Statement, Store

Position = dict[object, "Index | int"]


def partial_address(problem: Problem, part: Index) -> Index:
    """Where a part's sum is: parts outermost, then the axes in order."""
    total = part
    for axis in problem.axes:
        total = total * axis.extent + axis
    return total


def finished(problem: Problem, total: Expression, here: Position, lanes: int) -> list[Statement]:
    """Everything that is stored for one element; all values are computed before the first store.

    ``lanes`` is the width of the vectors they are computed in, 1 where there are none.
    """
    done = {problem.sums: total}
    made: list[Statement] = []
    for code, (condition, _) in enumerate(problem.checks, start=1):
        made.append(Check(ex.substitute(condition, here, done), code))  # type: ignore[arg-type]
    stores: list[Statement] = []
    several = len(problem.outputs) > 1
    kept: list[Buffer] = []
    for output in problem.outputs:
        value = ex.substitute(output.value, here, done)  # type: ignore[arg-type]
        where = output.address.substitute(here)  # type: ignore[arg-type]
        value = ex.cast(value, output.stage.dtype)
        if several:
            held = Buffer(f"v{len(kept)}", value.dtype, (), "register", lanes=lanes)
            kept.append(held)
            made.append(Store(held, (), value))
            value = ex.load(held, ())
            done[output.value] = value
        stores.append(Store(output.buffer, (where,), value))
    made += stores
    for held in reversed(kept):
        made = [Allocate(held, made)]
    return made


def ahead(problem: Problem, lane: Var) -> dict[tuple[Buffer, Index], bool]:
    """What an element's outputs need of memory that no other element needs, along the lane axis:
    buffers and addresses, and whether they are only written.
    """
    found: dict[tuple[Buffer, Index], bool] = {}
    seen: set[Expression] = set()

    def add(buffer: Buffer, address: Index | Expression, is_written: bool) -> None:
        if type(address) is not Index or not all(v in address.variables() for v in problem.axes):
            return
        try:
            follows = address.stride(lane) == 1
        except ValueError:
            return
        if follows:
            found.setdefault((buffer, address), is_written)

    for output in problem.outputs:
        for node in ex.walk(output.value, seen):
            if node.op == "load" and node is not problem.sums:
                add(node.detail[0], node.detail[1][0], False)
    for output in problem.outputs:
        add(output.buffer, output.address, True)
    return found


def places_of(problem: Problem) -> list[tuple[Index, int]]:
    """The addresses of outputs, which count twice, of what they load, and the indices that they
    compute with, which do not count.
    """
    found = [(output.address, 2) for output in problem.outputs]
    seen: set[Expression] = set()
    for output in problem.outputs:
        for node in ex.walk(output.value, seen):
            if node.op == "load" and node.detail[1] and type(node.detail[1][0]) is Index:
                found.append((node.detail[1][0], 1))
            elif node.op == "index":
                found.append((node.detail, 0))
    return found


def lanes_apart(problem: Problem, nodes: list[Expression], lane: Var) -> int:
    """How many places of outputs, and of what they load (``nodes``), have lanes that are steps
    from data apart: each lane's address is computed by itself.
    """
    places: list[object] = [o.address for o in problem.outputs]
    places += [node.detail[1][0] for node in nodes if node.op == "load" and node.detail[1]]
    return sum(1 for at in places if type(at) is Index and _is_apart(at, lane))


def _is_apart(address: Index, lane: Var) -> bool:
    try:
        return bool(address.stride(lane).terms)
    except ValueError:
        return True
