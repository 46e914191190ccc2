"""Pools in the tiles of convolutions: the same bits as when elements are stored first."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
import pytest
from compiler.contraction_runner import Ready
from compiler.test_contraction import HOST, NARROW, TARGETS, Maker, flat

from taimatsu.compiler import layouts
from taimatsu.compiler.fusion import fuse
from taimatsu.compiler.groups import Group
from taimatsu.compiler.schedule import contraction, cpu
from taimatsu.compiler.schedule import contraction_windows as windows
from taimatsu.ir.expression import cast, index_value
from taimatsu.ir.index import Index
from taimatsu.ir.stage_interpreter import evaluate
from taimatsu.ir.stages import Stage
from taimatsu.ir.target import Target
from taimatsu.ir.verifier import verify


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles hold windows wherever that changes no bit, paying or not."""
    monkeypatch.setattr(windows, "PASS", 1e9)


class Made(NamedTuple):
    """A group with pools, and what its results are."""

    maker: Maker
    stages: list[Stage]
    group: Group
    refused: list[str]


def network(
    extents: tuple[int, ...] = (12, 10),
    window: tuple[int, ...] = (2, 2),
    channels: int = 5,
    filters: int = 19,
    samples: int = 3,
    kernel: int = 3,
    dtype: str = "float32",
    held: bool = False,
    winners: bool = True,
    order: tuple[int, ...] | None = None,
    seed: int = 0,
) -> Made:
    """A convolution with ``extents`` results, what is added and cut off, and its pool."""
    m = Maker(seed, dtype)
    b = m.builder
    n = m.symbol("n", samples)
    x = m.window([n, channels, *[e + kernel - 1 for e in extents]], order)
    w = m.window([filters, channels, *[kernel] * len(extents)])
    bias = m.window([filters])

    def product(i: tuple, r: tuple) -> Any:
        at = [y + k for y, k in zip(i[2:], r[1:], strict=True)]
        return x[(i[0], r[0], *at)] * w[(i[1], *r)]

    shape = [n, filters, *extents]
    conv = b.reduce("add", shape, [channels, *[kernel] * len(extents)], dtype, product)
    relu = b.map(shape, dtype, lambda *i: b.max(conv[i] + bias[i[1]], 0.0))
    pooled = [n, filters, *[e // k for e, k in zip(extents, window, strict=True)]]

    def places(i: tuple, r: tuple) -> tuple:
        return (*i[:2], *[y * k + t for y, k, t in zip(i[2:], window, r, strict=True)])

    best = b.reduce("max", pooled, window, dtype, lambda i, r: relu[places(i, r)])
    outputs = [best]
    if winners:
        count = prod(window)

        def score(i: tuple, r: tuple) -> Any:
            number = Index((), 0)
            for t, k in zip(r, window, strict=True):
                number = number * k + t
            place = cast(index_value(number), "int32")
            return b.where(relu[places(i, r)].eq(best[i]), count - place, 0)

        scores = b.reduce("max", pooled, window, "int32", score)
        outputs.append(b.map(pooled, "uint8", lambda *i: cast(count - scores[i], "uint8")))
    if held:
        outputs.append(relu)
    refused: list[str] = []
    given = [*m.windows, *b.stages]
    for number, stage in enumerate(given):
        stage.number = number
    groups = [g for g in fuse(given, outputs, refused.append) if g.kind != "window"]
    assert len(groups) == 1 or not groups[0].pools
    return Made(m, given, groups[0], refused)


def carried_out(made: Made, group: Group, target: Target, together: bool, threads: int) -> dict:
    chosen = layouts.choose([group], [], target)
    if together:
        launches = contraction.schedule(group, chosen, target)
    else:
        elements, pools = windows.apart(group)
        launches = [
            *contraction.schedule(elements, chosen, target),
            *cpu.schedule(pools, chosen, target),
        ]
    for launch in launches:
        verify(launch.kernel)
    inputs = {s: flat(s, v, made.maker.symbols) for s, v in made.maker.windows.items()}
    done = Ready(launches, chosen, inputs, made.maker.symbols, (), target)
    done.run(threads)
    names = [launch.kernel.name for launch in launches]
    return {"names": names, **{s: done.result(s) for s in group.outputs}}


def check(made: Made, target: Target = HOST, kernels: int = 1) -> None:
    """The bits are those of elements stored first, with any number of threads, and are right."""
    group = made.group
    assert group.pools
    apart = carried_out(made, group, target, False, 1)
    by_cell = {s.cell: v for s, v in made.maker.windows.items()}
    right = evaluate(
        [*made.maker.windows, *group.stages],
        lambda s: by_cell[s.cell],
        (),
        made.maker.symbols,
    )
    for threads in (1, 2, 3):
        found = carried_out(made, group, target, True, threads)
        mains = [name for name in found["names"] if name not in ("pack", "factor")]
        assert len(mains) == kernels, found["names"]
        for stage in group.outputs:
            assert found[stage].tobytes() == apart[stage].tobytes()
            if found[stage].dtype.kind == "f":
                np.testing.assert_allclose(found[stage], right[stage], rtol=1e-4, atol=1e-4)


@TARGETS
@pytest.mark.parametrize("held", [False, True])
def test_maxima_and_their_places(target: Target, held: bool) -> None:
    check(network(held=held), target)


@TARGETS
@pytest.mark.parametrize("window", [(2, 1), (1, 2), (3, 2), (4, 2), (2, 5)])
def test_windows_of_other_sizes(target: Target, window: tuple[int, int]) -> None:
    check(network(window=window), target)


@pytest.mark.parametrize("target", [HOST, NARROW])
@pytest.mark.parametrize("filters", [1, 3, 8, 16, 17, 32, 40])
def test_any_number_of_filters(target: Target, filters: int) -> None:
    made = network(filters=filters)
    names = carried_out(made, made.group, target, True, 1)["names"]
    mains = [name for name in names if name not in ("pack", "factor")]
    check(made, target, len(mains))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("extents", [(8,), (2, 2), (4, 6, 2)])
def test_dimensions(dtype: str, extents: tuple[int, ...]) -> None:
    check(network(extents, (2,) * len(extents), dtype=dtype, filters=32))


def test_images_with_channels_innermost() -> None:
    check(network(order=(0, 2, 3, 1), filters=16, channels=16))


def test_maxima_alone() -> None:
    made = network(winners=False, filters=32)
    assert len(made.group.outputs) == 1
    check(made)


def test_nans_and_zeros_of_both_signs() -> None:
    made = network(filters=16)
    x, _, bias = made.maker.windows
    made.maker.windows[x][1] = np.nan
    made.maker.windows[x][0] = 0
    made.maker.windows[bias][::2] = -0.0
    apart = carried_out(made, made.group, HOST, False, 1)
    found = carried_out(made, made.group, HOST, True, 1)
    for stage in made.group.outputs:
        np.testing.assert_array_equal(found[stage], apart[stage])


@pytest.mark.parametrize(
    ("extents", "window", "reason"),
    [
        ((11, 10), (2, 2), "cover all rows"),
        ((20, 20), (5, 5), "too large"),
    ],
)
def test_refusals_are_explained(
    extents: tuple[int, int], window: tuple[int, int], reason: str
) -> None:
    made = network(extents, window)
    assert not made.group.pools
    assert any(reason in line for line in made.refused)


@pytest.mark.parametrize(("step", "shift"), [(1, 0), (2, 1)])
def test_overlapping_and_padded_windows_are_refused(step: int, shift: int) -> None:
    m = Maker()
    b = m.builder
    x, w = m.window([3, 10, 16]), m.window([16, 8])
    y = b.reduce(
        "add", [3, 10, 8], [16], "float32", lambda i, r: x[i[0], i[1], r[0]] * w[r[0], i[2]]
    )
    best = b.reduce(
        "max", [3, 4, 8], [2], "float32", lambda i, r: y[i[0], i[1] * step + r[0] + shift, i[2]]
    )
    refused: list[str] = []
    given = [x, w, *b.stages]
    for number, stage in enumerate(given):
        stage.number = number
    groups = fuse(given, [best], refused.append)
    assert not any(g.pools for g in groups)
    assert any("overlap, leave gaps or are padded" in line for line in refused)


def test_where_it_does_not_pay_elements_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "PASS", -1e9)
    check(network(), HOST, 2)


def test_a_product_is_pooled_along_its_rows() -> None:
    """Maxout: the greatest of neighbouring units."""
    m = Maker()
    b = m.builder
    x, w = m.window([33, 64]), m.window([64, 48])
    y = b.reduce("add", [33, 48], [64], "float32", lambda i, r: x[i[0], r[0]] * w[r[0], i[1]])
    best = b.reduce("max", [11, 48], [3], "float32", lambda i, r: y[i[0] * 3 + r[0], i[1]])
    given = [x, w, *b.stages]
    for number, stage in enumerate(given):
        stage.number = number
    refused: list[str] = []
    (group,) = fuse(given, [best], refused.append)
    check(Made(m, given, group, refused))
