"""Code for known extents: the same bits as generic code, put in its place while programs run."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiler.specialised_executor import codes, comparing
from compiler.test_programs_on_targets import FEATURES, network_step
from ops.test_registry import SAMPLED, call, public_name, quiet, samples_of  # noqa: F401
from recorder.programs import Program
from recorder.test_random_programs import same

import taimatsu as torch
from taimatsu import recorder
from taimatsu.compiler import objects
from taimatsu.compiler.cache import ObjectCache
from taimatsu.compiler.service import CompileError, service
from taimatsu.compiler.specialise import specialised
from taimatsu.config import config
from taimatsu.evaluate import STATISTICS, compiled, explain, specialisation
from taimatsu.evaluate.program import Bound
from taimatsu.ir import expression as ex
from taimatsu.ir.index import Symbol, Var, index
from taimatsu.ir.loops import Buffer, If, Kernel, Loop, Store
from taimatsu.ir.verifier import verify

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(config.eager, reason="compiled code is not used with TAIMATSU_EAGER=1"),
]
HOT = specialisation.HOT_LAUNCHES
ROOT = Path(__file__).resolve().parents[2]


# -- the same bits -----------------------------------------------------------------------------


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("seed", range(4))
def test_random_programs(features: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with comparing(monkeypatch, FEATURES[features], 1, 2, 3) as both:
        Program(seed).run(torch)
    assert both.compared


@pytest.mark.exhaustive
@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("seed", range(100, 140))
def test_more_random_programs(features: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with comparing(monkeypatch, FEATURES[features], 1, 2, 3):
        Program(seed).run(torch)


@pytest.mark.parametrize("features", FEATURES)
def test_a_network(features: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernels have several chunks."""
    with comparing(monkeypatch, FEATURES[features], 1, 2, 3) as both:
        network_step()
    assert both.compared


def compare_samples(entry: Any, target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with comparing(monkeypatch, target, 1):
        for sample in samples_of(entry):
            floating = "float32" if "float32" in sample.dtypes else sample.dtypes[0]
            made = call(torch, public_name(entry), sample, floating)
            recorder.flush()
            del made


@pytest.mark.parametrize("entry", SAMPLED[::3])
def test_samples(entry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compare_samples(entry, FEATURES["host"], monkeypatch)


@pytest.mark.exhaustive
@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("entry", SAMPLED)
def test_samples_on_targets(entry: Any, features: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compare_samples(entry, FEATURES[features], monkeypatch)


# -- what becomes of kernels -------------------------------------------------------------------


def rows(extent: Any, condition: ex.Expression, n: Symbol, i: Var) -> Kernel:
    given = Buffer("a", "float32", [n])
    made = Buffer("b", "float32", [n])
    store = Store(made, [index(i)], ex.load(given, [index(i)]))
    loop = Loop(i, "serial", [If(condition, [store])])
    return Kernel("rows", [given, made], [n], [], [loop])


def test_tests_of_extents_vanish() -> None:
    n = Symbol("n")
    i = Var("i", n)
    inside = ex.index_value(index(i)) < ex.index_value(index(n))
    outside = ex.index_value(index(i) + 1) > ex.index_value(index(n) + 7)
    for condition, left in ((inside, Store), (inside & inside, Store), (inside & outside, None)):
        kernel = specialised(rows(n, condition, n, i), [5])
        verify(kernel)
        (loop,) = kernel.body
        assert loop.extent == 5
        assert [type(s) for s in loop.body] == ([left] if left else [])
    kept = specialised(rows(n, ex.index_value(index(i)) < ex.index_value(3), n, i), [5])
    assert type(kept.body[0].body[0]) is If


def test_quotients_by_nothing_are_not_used() -> None:
    n = Symbol("n")
    i = Var("i", n)
    assert (index(i) // (index(n) // 8)).substitute({n: 5}) == 0


# -- in the background -------------------------------------------------------------------------


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectCache]:
    """Nothing is known of earlier programs; the cache is empty."""
    specialisation.settle(60)
    cache = ObjectCache(tmp_path / "cache")
    monkeypatch.setattr(objects, "object_cache", lambda: cache)
    monkeypatch.setattr("taimatsu.compiler.kept.object_cache", lambda: cache)
    monkeypatch.setattr(compiled, "_plans", type(compiled._plans)())
    monkeypatch.setattr(compiled, "_loaded", {})
    monkeypatch.setattr(specialisation.SPECIALIST, "refused", set())
    specialisation.SPECIALIST.codes.clear()
    for state in list(recorder.recording._roots.values()):
        forget_programs(state)
    yield cache
    specialisation.settle(60)


class Step:
    """A product that is worth specialising, launched once each time."""

    def __init__(self, rows: int = 96) -> None:
        rng = np.random.default_rng(rows)
        self.x = torch.tensor(rng.normal(size=(rows, 160)).astype(np.float32))
        self.w = torch.tensor(rng.normal(size=(160, 192)).astype(np.float32)).requires_grad_()

    def __call__(self) -> bytes:
        with torch.no_grad():
            return (self.x @ self.w).relu().numpy().tobytes()


def launched(step: Step) -> Bound:
    """What a step is bound to."""
    with explain.watching() as found:
        step()
    return found[-1][1]


def functions(bound: Bound) -> list[int]:
    """The addresses of its code."""
    return [phase.function for segment in bound.segments for phase in segment[2]]


def hot(step: Step, count: int = HOT) -> set[bytes]:
    """What many launches give."""
    return {step() for _ in range(count)}


def test_a_hot_program_is_specialised_once(fresh: ObjectCache) -> None:
    step = Step()
    bound = launched(step)
    generic, compilations = functions(bound), STATISTICS.compilations
    before = STATISTICS.specialisations
    seen = hot(step)
    assert specialisation.settle(60)
    made = STATISTICS.specialisations - before
    assert made >= 1
    assert functions(launched(step)) != generic
    assert launched(step) is bound
    seen |= hot(step, 3 * HOT)
    assert len(seen) == 1
    assert specialisation.settle(60)
    assert STATISTICS.specialisations - before == made
    assert STATISTICS.compilations == compilations


def test_a_swap_in_the_middle_of_a_loop_changes_nothing(fresh: ObjectCache) -> None:
    """Also while launches are under way, on other threads."""
    torch.manual_seed(0)
    steps = [Step(n) for n in (96, 130)]
    wanted = [step() for step in steps]
    made = codes(launched(steps[0]))
    for _ in range(4):
        net = torch.nn.Linear(160, 192)
        for _ in range(2 * HOT):
            for step, want in zip(steps, wanted, strict=True):
                assert step() == want
                with torch.no_grad():
                    pending = net(step.x)
                    recorder.flush()  # under way
                launched(steps[0]).specialise(made)
                assert pending.shape == (step.x.shape[0], 192)


def test_it_is_found_on_disk_the_next_time(
    fresh: ObjectCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Step()
    hot(step, HOT + 1)
    assert specialisation.settle(60)
    made = STATISTICS.specialisations
    recorder.flush()
    # Another process: nothing in memory, plans without kernels.
    compiled._plans.clear()
    for program in list(recorder.recording._roots.values()):
        forget_programs(program)
    specialisation.SPECIALIST.codes.clear()
    step()
    bound = launched(step)
    generic = functions(bound)
    assert all(call.kernel is None for call in bound.plan.calls)
    hot(step, HOT + 1)
    assert specialisation.settle(60)
    assert functions(launched(step)) != generic
    assert STATISTICS.specialisations == made


def forget_programs(state: Any) -> None:
    state.programs.clear()
    for following in state.known().values():
        forget_programs(following)


def test_the_flag_turns_it_off(fresh: ObjectCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "specialise", False)
    step = Step()
    generic = functions(launched(step))
    hot(step, 2 * HOT)
    assert specialisation.settle(60)
    assert functions(launched(step)) == generic


def test_small_kernels_stay(fresh: ObjectCache) -> None:
    step = Step(2)
    bound = launched(step)
    assert not specialisation.requests(bound)
    generic = functions(bound)
    hot(step, 2 * HOT)
    assert specialisation.settle(60)
    assert functions(bound) == generic


def test_variants_are_bounded_and_go_with_their_programs(fresh: ObjectCache) -> None:
    steps = [Step(n) for n in range(64, 64 + 3 * (specialisation.VARIANTS + 2), 3)]
    for step in steps:
        hot(step, HOT + 1)
        assert specialisation.settle(60)
    keys = [key for key, _ in specialisation.SPECIALIST.codes]
    assert max(map(keys.count, keys)) == specialisation.VARIANTS
    del steps, step
    for root in list(recorder.recording._roots.values()):
        forget_programs(root)
    gc.collect()
    assert not list(specialisation.SPECIALIST.codes)


def test_a_program_that_goes_is_not_waited_for(fresh: ObjectCache) -> None:
    step = Step(70)
    bound = weakref.ref(launched(step))
    specialisation.ask(bound())
    for root in list(recorder.recording._roots.values()):
        forget_programs(root)
    del step
    assert specialisation.settle(60)
    gc.collect()
    assert bound() is None


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_killed_worker_leaves_generic_code(
    fresh: ObjectCache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The kernel is not tried again."""
    monkeypatch.setattr(config, "log", "cache")
    submit = service.submit_kernel

    def killing(*args: Any, **kwargs: Any) -> Any:
        job = submit(*args, **kwargs)
        while kwargs.get("background") and not job.done():
            for pid in service.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        return job

    monkeypatch.setattr(service, "submit_kernel", killing)
    step = Step(101)
    bound = launched(step)
    generic, want = functions(bound), step()
    assert hot(step) == {want}
    assert specialisation.settle(60)
    assert functions(bound) == generic
    assert "stays generic" in capsys.readouterr().err
    monkeypatch.setattr(service, "submit_kernel", submit)
    specialisation.ask(bound)
    assert specialisation.settle(60)
    assert functions(bound) == generic
    assert hot(step) == {want}


def test_what_cannot_be_compiled_stays_generic(
    fresh: ObjectCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> Any:
        raise CompileError("no")

    monkeypatch.setattr(specialisation, "specialised_object", refuse)
    step = Step(103)
    bound = launched(step)
    generic, want = functions(bound), step()
    assert hot(step, 2 * HOT) == {want}
    assert specialisation.settle(60)
    assert functions(bound) == generic


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_forked_child_specialises_by_itself(fresh: ObjectCache) -> None:
    step, other = Step(105), Step(107)
    hot(step, HOT)  # the thread is at it
    child = os.fork()
    if child == 0:
        try:
            bound = launched(other)
            generic = functions(bound)
            wanted = other()
            ok = hot(other, HOT + 1) == {wanted} and len(hot(step)) == 1
            ok = ok and specialisation.settle(60) and functions(bound) != generic
            ok = ok and hot(other) == {wanted}
            service.close()
            os._exit(0 if ok else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert specialisation.settle(60)


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
import taimatsu as torch
x, w = torch.randn({rows}, 160), torch.randn(160, 192)
for _ in range({launches}):
    y = (x @ w).numpy()
print("done", flush=True)
{end}
"""


@pytest.mark.parametrize("cache", ["off", "folder"])
@pytest.mark.parametrize("end", ["pass", "raise SystemExit(0)", "import os; os._exit(0)"])
def test_programs_end_while_it_is_under_way(end: str, cache: str, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(SCRIPT.format(root=str(ROOT), rows=96, launches=HOT + 1, end=end))
    folder = "off" if cache == "off" else str(tmp_path / "cache")
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "TAIMATSU_CACHE": folder},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_bits_are_equal_before_and_after_in_training(fresh: ObjectCache) -> None:
    def trained() -> list:
        torch.manual_seed(0)
        net = torch.nn.Sequential(
            torch.nn.Linear(160, 192), torch.nn.ReLU(), torch.nn.Linear(192, 10)
        )
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        x, y = torch.randn(100, 160), torch.randint(0, 10, (100,))
        seen = []
        for _ in range(2 * HOT):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            seen.append(loss.item())
        return [seen, *(p.detach().numpy().copy() for p in net.parameters())]

    first = trained()
    assert specialisation.settle(60)
    assert same(first, trained())
