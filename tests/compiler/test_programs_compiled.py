"""Programs through the public interface: compiled, they give what each operation at once gives.

Views, writes into regions, values that die, slices at moving places, sizes that change, failures.
Each runs on the evaluator as it is, and on stages that NumPy evaluates (lowering and fusion alone).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiler.stage_executor import StageExecutor

import taimatsu as torch
from taimatsu import recorder
from taimatsu.config import config
from taimatsu.evaluate import STATISTICS, compiled
from taimatsu.recorder.base import registered

F = torch.nn.functional
pytestmark = pytest.mark.filterwarnings("ignore")


EXECUTORS: dict[str, Any] = {
    "stages": lambda: StageExecutor(fused=False),
    "fused stages": StageExecutor,
    "fused stages of moving numbers": lambda: StageExecutor(moving=True),
}


@pytest.fixture(params=["evaluator", *EXECUTORS])
def carried_out(request: pytest.FixtureRequest) -> Iterator[None]:
    before = registered.execute
    if request.param in EXECUTORS:
        registered.execute = EXECUTORS[request.param]()
    yield
    registered.execute = before


def observed(value: Any) -> Any:
    """What a program can see of its results: values, dtypes and how they lie."""
    if isinstance(value, torch.Tensor):
        return value.detach().numpy().copy(), value.dtype, tuple(value.stride())
    if isinstance(value, (list, tuple)):
        return [observed(v) for v in value]
    return value


def assert_same(found: Any, wanted: Any) -> None:
    if isinstance(wanted, (list, tuple)) and not isinstance(found, np.ndarray):
        assert len(found) == len(wanted)
        for a, b in zip(found, wanted, strict=True):
            assert_same(a, b)
    elif isinstance(wanted, np.ndarray) and wanted.dtype.kind == "f":
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=2e-6)
    elif isinstance(wanted, np.ndarray):
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == wanted.dtype
    else:
        assert found == wanted


def check(program: Callable[[], Any]) -> None:
    """Runs a program eagerly, then recorded; both see the same."""
    config.eager = True
    try:
        wanted = observed(program())
    finally:
        config.eager = False
        recorder.flush()
    assert_same(observed(program()), wanted)


def data(*shape: int, seed: int = 0, grad: bool = False) -> Any:
    values = np.random.default_rng([seed, *shape]).uniform(-1, 1, shape).astype(np.float32)
    return torch.tensor(values, requires_grad=grad)


PROGRAMS: list[Any] = []


def program(function: Callable[[], Any]) -> Callable[[], Any]:
    PROGRAMS.append(pytest.param(function, id=function.__name__))
    return function


# -- views -------------------------------------------------------------------------------------


@program
def views_of_what_comes_in() -> Any:
    x = data(4, 6)
    return [
        x.t() + 1,
        x[1:3, ::2] * 2,
        x.reshape(2, 2, 6).permute(2, 0, 1).exp(),
        x.diagonal(1) - x[:, 0],
        x.expand(3, 4, 6).sum(0),
        x.unfold(1, 3, 2).mean(-1),
        x.reshape(-1)[5:17].reshape(3, 4) + x[0, :4],
    ]


@program
def views_of_what_is_computed() -> Any:
    x = data(4, 6).sin()
    y = x.t().reshape(3, 8)
    return [
        y + 1,
        y[1:, ::3] * 2,
        x.diagonal(-1) + y[0, :3],
        x.reshape(2, 12).t()[3:7].cos(),
        x[2].expand(3, 6) - x[:3],
        x.as_strided((3, 3), (5, 2), 1) * 2,
    ]


@program
def results_that_are_views() -> Any:
    x = data(3, 4).exp()
    return [x.t(), x[1:], x[:, 2], x.reshape(-1)[::5], x.unsqueeze(1), x]


@program
def orders_in_memory() -> Any:
    x = data(2, 3, 4, 5).clone(memory_format=torch.channels_last)
    y = x * 2 + 1
    z = y.permute(0, 2, 3, 1)
    return [y, z.reshape(2, 20, 3).sum(1), y.contiguous(), (y + data(2, 3, 4, 5)).relu(), z + 1]


@program
def scalars_and_empty_tensors() -> Any:
    x, empty = data(3, 4), data(0, 4)
    return [
        x.sum() * 2,
        torch.cat([x, empty]),
        empty.sum(0),
        (empty * 2).reshape(4, 0),
        x[1, 2] + x.mean(),
        x[3:] + 1,
        empty.t() @ empty,
    ]


# -- writes ------------------------------------------------------------------------------------


@program
def writes_into_what_came_in() -> Any:
    x = data(4, 5)
    before = x * 1
    x[1] = 7
    x[:, 2] += x[:, 3]
    x[2:, ::2].mul_(2)
    x.t()[4, 1:3] = data(2)
    return [x, before, x.sum(0)]


@program
def writes_into_what_is_computed() -> Any:
    x = data(4, 5).sin()
    old = x + 0
    view = x[1:3]
    view[:, 1:4] = data(2, 3)
    x.diagonal().zero_()
    view *= 2
    return [x, view, old, x.cumsum(0)]


@program
def writes_that_overlap_their_source() -> Any:
    x, y = data(6), data(3, 3)
    x[1:] = x[:-1].clone()
    y.copy_(y.t().clone())
    y[1:] = y[:2] * 2
    x[:3] = x[3:] + x[1:4]
    return [x, y]


@program
def reads_before_and_after_writes() -> Any:
    x = data(3, 4)
    first = x.sum()
    x[0] = 5
    second = x.sum()
    x[1:] = x[:2] * 3
    third = x.sum()
    x.zero_()
    return [first, second, third, x, x.sum()]


@program
def writes_through_several_views() -> Any:
    x = torch.zeros(4, 4)
    rows, columns, middle = x[1], x[:, 1], x[1:3, 1:3]
    rows.add_(1)
    columns.add_(10)
    middle.mul_(2)
    flat = x.view(-1)
    flat[5:11] += 100
    return [x, rows, columns, middle, flat]


@program
def a_table_filled_row_by_row() -> Any:
    table, h = torch.zeros(5, 3), data(3)
    for t in range(5):
        h = (h * 1.5).tanh()
        table[t] = h
    return [table, h, table.sum(1)]


@program
def writes_that_convert() -> Any:
    x, counts = data(4), torch.zeros(4, dtype=torch.int64)
    counts.copy_(x * 10)
    half = torch.zeros(4, dtype=torch.float16)
    half[1:] = x[:3]
    mask = torch.zeros(4, dtype=torch.bool)
    mask[::2] = x[1:3]
    return [counts, half, mask]


@program
def whole_replacements() -> Any:
    x, y = data(3, 4), data(3, 4, seed=1)
    x.copy_(y)
    y.fill_(2)
    z = y.t()
    z.copy_(x.t() + z)
    return [x, y, z]


@program
def exchanges() -> Any:
    a, b = data(3), data(3, seed=1)
    keep = a.clone()
    a.copy_(b)
    b.copy_(keep)
    a, b = b, a
    a += b
    return [a, b, keep]


@program
def expanded_sources() -> Any:
    x = data(3, 4)
    x[...] = x[0] + x[1:2]
    x[:, 1:3] = data(2)
    x[1] = x[1, 2] * 2
    return x


# -- what dies, what is shared -----------------------------------------------------------------


@program
def values_that_die() -> Any:
    x = data(8, 8)
    for i in range(6):
        y = x * i
        y[i] = 0
        z = y @ x
        x = z / (z.abs().max() + 1)
        del y, z
    return x


@program
def parts_of_values_that_die() -> Any:
    x = data(6, 6).exp()
    part = x[2:4]
    del x
    part += 1
    other = (data(6, 6) * 2)[:, 3]
    return [part, other * part[0]]


@program
def values_written_after_their_views_were_read() -> Any:
    x = data(4, 4).exp()
    row = x[1] * 2
    x[1] = 0
    column = x[:, 1] + row
    x *= 2
    return [row, column, x]


@program
def memory_shared_with_numpy() -> Any:
    array = np.arange(6, dtype=np.float32)
    x = torch.from_numpy(array)
    y = x * 2
    array[2] = 50
    z = x + y
    x[0] = -1
    return [y, z, x, array.tolist()]


@program
def one_value_held_twice() -> Any:
    x = data(3, 3).sin()
    y = x.detach()
    z = x.t()
    y += 1
    return [x, y, z]


# -- indices -----------------------------------------------------------------------------------


@program
def computed_indices() -> Any:
    table, scores = data(7, 3), data(5, 7)
    best = scores.argmax(1)
    return [
        table[best],
        scores.gather(1, best.unsqueeze(1)),
        torch.zeros(7).index_add(0, best, torch.ones(5)),
        table.index_select(0, 6 - best),
        F.one_hot(best, 7).sum(0),
        scores.scatter(1, best.unsqueeze(1), 0.0).sum(),
        torch.zeros(7, 3).index_put((best,), table[best], accumulate=True),
    ]


@program
def assignments_at_indices() -> Any:
    x = data(4, 5)
    rows = x.sum(1).argsort()
    x[rows[:2]] = 1
    x[:, rows] += x[:, rows] * 2
    x[x > 0.5] = -1
    return [x, x[rows, rows]]


@program
def gradients_of_indices_and_slices() -> Any:
    table, x = data(7, 4, grad=True), data(5, 6, grad=True)
    words = torch.tensor([[0, 3, 3], [6, 0, 1]])
    y = F.embedding(words, table, padding_idx=1).sum((0, 1)) * x[1:, 2:].sum(0)
    a, b, c = x.split([1, 2, 3], dim=1)
    whole = (a * b).sum() + (c[:, ::2] * c[:, 1:]).sum() + x.unbind(1)[4].exp().sum()
    (y.sum() + whole + x.diagonal(1).prod()).backward()
    return [table.grad, x.grad]


@program
def gradients_of_writes() -> Any:
    x, w = data(4, 3, grad=True), data(3, grad=True)
    table = torch.zeros(4, 3)
    h = x[0]
    for t in range(4):
        h = (h * w + x[t]).tanh()
        table[t] = h
    table[1:3, :2] *= 2
    (table * data(4, 3, seed=2)).sum().backward()
    return [table, x.grad, w.grad]


@pytest.mark.parametrize("function", PROGRAMS)
def test_program(function: Callable[[], Any], carried_out: None) -> None:
    check(function)


# -- loops -------------------------------------------------------------------------------------


def test_slices_at_moving_places(carried_out: None) -> None:
    def moving() -> Any:
        x, w = data(40, 3), data(3, grad=True)
        seen = []
        for i in range(0, 30, 3):
            part = x[i : i + 4 + i % 2]
            loss = (part * w).sum() + x[i, 1] * x[:, 2][i + 1]
            loss.backward()
            seen.append(loss)
        return [*seen, w.grad]

    check(moving)


def test_moving_slices_of_what_is_computed(carried_out: None) -> None:
    def moving() -> Any:
        seen = []
        for i in range(6):
            x = data(9, 4).exp() + i
            seen.append((x[i : i + 3] * x[:, i % 4 :][2]).sum() if i % 4 == 0 else x[i].sum())
            str(seen[-1])
        return seen

    check(moving)


def test_gradients_of_slices_that_move(carried_out: None) -> None:
    def moving() -> Any:
        w = data(20, 4, grad=True)
        seen = []
        for i in (0, 3, 3, 5, 16, 2):
            ((w[i : i + 3] * 2).sum() + w.sin()[:, i % 4].sum()).backward()
            seen.append(w.grad.clone())
        return seen

    check(moving)


def test_programs_are_made_twice_for_places_that_move() -> None:
    def read(i: int) -> Any:
        return (data(20, 4).exp()[i : i + 3] * 2).sum()

    def differentiated(i: int) -> Any:
        w = data(20, 4, grad=True)
        (w.sin()[:, i % 4] * w[i : i + 3].sum()).sum().backward()
        return w.grad

    before = registered.execute
    registered.execute = compiled.execute
    try:
        for step in (read, differentiated):
            plans = []
            for i in (0, 3, 5, 16, 2, 7):
                str(step(i))
                plans.append(STATISTICS.plans)
            assert plans[2:] == [plans[1]] * 4
    finally:
        registered.execute = before


def test_a_cache_written_at_a_moving_place(carried_out: None) -> None:
    def moving() -> Any:
        cache = torch.zeros(2, 10, 3)
        seen = []
        for i in range(10):
            cache[:, i] = data(2, 3, seed=i)
            if i % 3 == 0:
                seen.append(cache[:, : i + 1].sum((1, 2)).clone())
        cache[:, 4:6] = cache[:, 1:3] * 2
        return [cache, *seen]

    check(moving)


@pytest.mark.parametrize("sizes", [(6, 6, 5, 6, 1, 0, 2), (1, 2, 1, 3), (4, 3, 2)])
def test_batches_of_changing_sizes(sizes: tuple[int, ...], carried_out: None) -> None:
    def batches() -> Any:
        w = data(4, 3, grad=True)
        seen = []
        for n in sizes:
            x = data(n, 4, seed=n)
            y = (x @ w).relu()
            z = torch.cat([y, y[:, :1], x], 1)
            seen += [z.sum(1), z.t() * 2, z.flip(0), F.pad(z, (1, 0, 0, 1))]
            (z.sum() / max(n, 1)).backward()
        return [*seen, w.grad]

    check(batches)


def test_numbers_that_change_their_kind(carried_out: None) -> None:
    def numbers() -> Any:
        x = torch.arange(4)
        return [x * k + 1 for k in (1, 2.5, True, 3, -0.5)]

    check(numbers)


# -- failures ----------------------------------------------------------------------------------

FAILURES: dict[str, Callable[[Any, Any], Any]] = {
    "index": lambda x, i: x[i + 3],
    "gather": lambda x, i: x.gather(0, (i + 3).unsqueeze(1)),
    "scatter": lambda x, i: x.scatter_add(0, (i - 1).unsqueeze(1), x),
    "embedding": lambda x, i: F.embedding(i * 2, x),
    "index_add": lambda x, i: x.index_add(0, i - 1, x[:3]),
    "take": lambda x, i: x.take(i * 100),
    "one_hot": lambda x, i: F.one_hot(i + 4, 5),
}


@pytest.mark.parametrize("name", FAILURES)
def test_computed_indices_outside_leave_memory_as_it_was(name: str) -> None:
    x = data(4, 4)
    scores = data(3, 8)
    scores[0, 0], scores[1, 1], scores[2, 2] = 2, 2, 2  # the best are 0, 1 and 2
    recorder.flush()
    content = x.numpy().copy()
    x += 1
    x[2] = 5
    with pytest.raises((IndexError, RuntimeError)) as caught:
        str(FAILURES[name](x, scores.argmax(1)) * 2)
    assert any(Path(__file__).name in note for note in caught.value.__notes__)
    recorder.flush()
    np.testing.assert_array_equal(x.numpy(), content)
