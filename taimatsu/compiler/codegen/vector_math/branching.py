"""Slow paths: code outside the straight line, for arguments that are seldom met.

``rarely`` branches around a slow path for the whole vector; ``per_lane`` is such a path as a
function of one number, called in a loop. Both leave the builder in another block than before: who
builds a loop around them takes the incoming block from ``builder.block``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from taimatsu.compiler.codegen.vector_math.lanes import Lanes

INDEX = ir.IntType(32)
OneNumber = Callable[[ir.IRBuilder, Sequence[ir.Value]], Sequence[ir.Value]]


def rarely(
    condition: Lanes, values: Sequence[Lanes], slow: Callable[[], Sequence[Lanes]]
) -> list[Lanes]:
    """``values``, or what ``slow()`` writes where ``condition`` holds in any lane."""
    builder = condition.builder
    asked = condition.any()
    start = builder.block
    with builder.if_then(asked, likely=False):
        others = slow()
        end = builder.block
    made = []
    for value, other in zip(values, others, strict=True):
        phi = builder.phi(value.value.type)
        phi.add_incoming(value.value, start)
        phi.add_incoming(other.value, end)
        made.append(value.made(phi))
    return made


def per_lane(
    name: str, body: OneNumber, values: Sequence[Lanes], results: Sequence[ir.Type]
) -> list[Lanes]:
    """What ``body`` gives for each lane, by a call of a function that loops over the lanes.

    The function is private to the module and made once for each number of lanes; ``body`` writes
    the code for one number with the function's builder, and may use control flow. ``results``
    are the types of what it gives.
    """
    first = values[0]
    whole = f"taimatsu.{name}.{first.count or 1}"
    module = first.builder.module
    function = module.globals.get(whole)
    outputs = [first.type_of(item) for item in results]
    if function is None:
        kind = ir.FunctionType(ir.LiteralStructType(outputs), [v.value.type for v in values])
        function = ir.Function(module, kind, whole)
        function.linkage = "internal"
        for attribute in ("cold", "noinline", "nounwind"):
            function.attributes.add(attribute)
        _write_loop(function, body, outputs, first.count)
    packed = first.builder.call(function, [v.value for v in values])
    return [first.made(first.builder.extract_value(packed, i)) for i in range(len(outputs))]


def _write_loop(
    function: ir.Function, body: OneNumber, outputs: Sequence[ir.Type], count: int | None
) -> None:
    start = function.append_basic_block("entry")
    builder = ir.IRBuilder(start)
    if count is None:
        _return(builder, function, body(builder, function.args))
        return
    loop = function.append_basic_block("lane")
    builder.branch(loop)
    builder.position_at_end(loop)
    lane = builder.phi(INDEX)
    collected = [builder.phi(kind) for kind in outputs]
    made = body(builder, [builder.extract_element(value, lane) for value in function.args])
    filled = [
        builder.insert_element(vector, value, lane)
        for vector, value in zip(collected, made, strict=True)
    ]
    following = builder.add(lane, ir.Constant(INDEX, 1))
    end = builder.block
    leave = function.append_basic_block("done")
    builder.cbranch(builder.icmp_unsigned("<", following, ir.Constant(INDEX, count)), loop, leave)
    lane.add_incoming(ir.Constant(INDEX, 0), start)
    lane.add_incoming(following, end)
    for phi, value in zip(collected, filled, strict=True):
        phi.add_incoming(ir.Constant(phi.type, None), start)
        phi.add_incoming(value, end)
    builder.position_at_end(leave)
    _return(builder, function, filled)


def _return(builder: ir.IRBuilder, function: ir.Function, values: Sequence[ir.Value]) -> None:
    packed: ir.Value = ir.Constant(function.function_type.return_type, ir.Undefined)
    for index, value in enumerate(values):
        packed = builder.insert_value(packed, value, index)
    builder.ret(packed)
