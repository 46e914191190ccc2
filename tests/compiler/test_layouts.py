"""Which dimension of intermediates is innermost."""

from __future__ import annotations

from taimatsu.compiler.groups import Group
from taimatsu.compiler.layouts import choose
from taimatsu.ir.builder import Builder
from taimatsu.ir.index import Symbol, index
from taimatsu.ir.loops import row_major
from taimatsu.ir.stages import Cell, Stage
from taimatsu.ir.target import Target

TARGET = Target.of("x86_64-unknown-linux-gnu", {"avx512f"})


def window(shape) -> Stage:
    stage = Stage("window", tuple(map(index, shape)), "float32")
    stage.cell = Cell(0)
    stage.strides = row_major(stage.shape)
    return stage


def alone(kind: str, stage: Stage) -> Group:
    return Group(kind, [stage], [stage], {stage: stage.axes})


def convolved(b: Builder, x: Stage, filters: int) -> Stage:
    n, channels, height, width = x.shape
    w = window([filters, channels, 3, 3])
    return b.reduce(
        "add",
        [n, filters, height - 2, width - 2],
        [channels, 3, 3],
        "float32",
        lambda i, r: x[i[0], r[0], i[2] + r[1], i[3] + r[2]] * w[i[1], r[0], r[1], r[2]],
    )


def network(units: int = 10) -> tuple[list[Group], list[Stage]]:
    """Two convolutions with relu and pool between, a linear layer."""
    b = Builder()
    batch = Symbol("s0", 100)
    first = convolved(b, window([batch, 1, 28, 28]), 16)
    active = b.map(first.shape, "float32", lambda *i: b.max(first[i], 0.0))
    pooled = b.reduce(
        "max",
        [batch, 16, 13, 13],
        [2, 2],
        "float32",
        lambda i, r: active[i[0], i[1], i[2] * 2 + r[0], i[3] * 2 + r[1]],
    )
    second = convolved(b, pooled, 32)
    w = window([32 * 121, units])
    last = b.map(second.shape, "float32", lambda *i: b.max(second[i], 0.0))
    out = b.reduce(
        "add",
        [batch, units],
        [32 * 121],
        "float32",
        lambda i, r: last[i[0], r[0] // 121, r[0] % 121 // 11, r[0] % 11] * w[r[0], i[1]],
    )
    stages = [first, active, pooled, second, last, out]
    kinds = ["contraction", "loops", "loops", "contraction", "loops", "contraction"]
    return [alone(k, s) for k, s in zip(kinds, stages, strict=True)], stages


def test_channels_are_innermost_between_convolutions():
    groups, stages = network()
    chosen = choose(groups, [stages[-1]], TARGET)
    for stage in stages[:5]:
        assert chosen[stage].strides[1] == 1, stage
        assert chosen[stage].strides[3] == stage.shape[1], stage
        assert chosen[stage].strides[0] == stage.shape[1] * stage.shape[2] * stage.shape[3]


def test_joined_dimensions_lie_in_order_where_that_pays():
    groups, stages = network(units=1000)
    chosen = choose(groups, [stages[-1]], TARGET)
    assert chosen[stages[4]].strides == row_major(stages[4].shape)
    assert chosen[stages[3]].strides[1] == 1


def test_what_is_seen_from_outside_keeps_its_order():
    groups, stages = network()
    stages[2].order = (0, 2, 1, 3)
    chosen = choose(groups, stages[1:3], TARGET)
    assert chosen[stages[1]].strides == row_major(stages[1].shape)
    assert chosen[stages[2]].strides[3] == 1
    assert chosen[stages[2]].strides[1] == 13
    assert chosen[stages[0]].strides[1] == 1
    assert chosen[stages[3]].strides[1] == 1


def test_a_wish_for_joined_dimensions_is_none_for_their_outer_parts():
    """Attention: heads of joined features; neither heads nor samples are innermost."""
    b = Builder()
    x, w, v = window([1024, 256]), window([256, 256]), window([256, 256])
    q = b.reduce("add", [1024, 256], [256], "float32", lambda i, r: x[i[0], r[0]] * w[r[0], i[1]])
    k = b.reduce("add", [1024, 256], [256], "float32", lambda i, r: x[i[0], r[0]] * v[r[0], i[1]])
    scores = b.reduce(
        "add",
        [8, 8, 128, 128],
        [32],
        "float32",
        lambda i, r: (
            q[128 * i[0] + i[2], 32 * i[1] + r[0]] * k[128 * i[0] + i[3], 32 * i[1] + r[0]]
        ),
    )
    weights = b.map(scores.shape, "float32", lambda *i: b.exp(scores[i]))
    stages = [q, k, scores, weights]
    groups = [alone("loops" if s is weights else "contraction", s) for s in stages]
    chosen = choose(groups, [], TARGET)
    for stage in (scores, weights):
        assert chosen[stage].strides[:2] == row_major(stage.shape)[:2], stage


def test_products_and_maps_alone_stay_in_row_major_order():
    b = Builder()
    x, w = window([64, 64]), window([64, 64])
    out = b.reduce("add", [64, 64], [64], "float32", lambda i, r: x[i[0], r[0]] * w[i[1], r[0]])
    turned = b.map([64, 64], "float32", lambda i, j: out[j, i] + 1.0)
    chosen = choose([alone("contraction", out), alone("loops", turned)], [], TARGET)
    assert chosen[out].strides == row_major(out.shape)
    lonely = b.map([8, 64], "float32", lambda i, j: b.index(j) * 0 + b.index(i))
    assert choose([alone("loops", lonely)], [], TARGET)[lonely].strides == row_major(lonely.shape)


def test_rows_of_flattened_batches_ask_for_no_batch_innermost():
    """Scores over rows of a size that comes from data: neither samples nor heads are innermost."""
    b = Builder()
    batch, length = Symbol("n0", 8), Symbol("n1", 64)
    x, w = window([512, 256]), window([256, 256])
    q = b.reduce("add", [512, 256], [256], "float32", lambda i, r: x[i[0], r[0]] * w[r[0], i[1]])
    scores = b.reduce(
        "add",
        [batch, 8, length, length],
        [32],
        "float32",
        lambda i, r: (
            q[index(length) * i[0] + i[2], 32 * i[1] + r[0]]
            * q[index(length) * i[0] + i[3], 32 * i[1] + r[0]]
        ),
    )
    weights = b.map(scores.shape, "float32", lambda *i: b.exp(scores[i]))
    stages = [q, scores, weights]
    groups = [alone("loops" if s is weights else "contraction", s) for s in stages]
    chosen = choose(groups, [], TARGET)
    for stage in (scores, weights):
        assert chosen[stage].strides[:2] == row_major(stage.shape)[:2], stage
