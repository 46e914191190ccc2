"""Optimizers and schedules against PyTorch: whole trajectories, state, printing, errors."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import taimatsu
from taimatsu import optim

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

OPTIMIZERS = ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad")
SETTINGS = (
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("SGD", {"momentum": 0.9, "dampening": 0.3, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "weight_decay": 0.1}),
    ("Adam", {"maximize": True, "betas": (0.5, 0.9)}),
    ("AdamW", {}),
    ("AdamW", {"amsgrad": True, "lr": 0.1}),
    ("RMSprop", {}),
    ("RMSprop", {"centered": True, "momentum": 0.9, "weight_decay": 0.1}),
    ("RMSprop", {"momentum": 0.5}),
    ("Adagrad", {}),
    ("Adagrad", {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}),
)


def numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def start(library: Any, name: str, options: dict) -> tuple[list, Any]:
    """Three parameters in two groups."""
    params = [
        library.nn.Parameter(library.tensor(numbers(i, *shape)))
        for i, shape in enumerate(((3, 4), (5,), (2,)))
    ]
    groups = [{"params": params[:2]}, {"params": params[2:], "lr": 0.03}]
    return params, getattr(library.optim, name)(groups, **options)


def take_steps(library: Any, params: list, optimizer: Any, steps: range) -> None:
    """Steps with drawn gradients; the second parameter has none in the first two."""
    for i in steps:
        for j, p in enumerate(params):
            absent = j == 1 and i < 2
            p.grad = None if absent else library.tensor(numbers(10 * i + j, *p.shape))
        optimizer.step()


def assert_same(ours: Any, theirs: Any) -> None:
    """Equal structure; tensors of equal dtype and values."""
    if isinstance(theirs, torch.Tensor):
        assert str(ours.dtype) == str(theirs.dtype)
        np.testing.assert_allclose(
            ours.detach().numpy(), theirs.detach().numpy(), rtol=2e-6, atol=1e-6
        )  # values near 7 cancel, and PyTorch rounds otherwise from processor to processor
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key in theirs:
            assert_same(ours[key], theirs[key])
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            assert_same(mine, other)
    else:
        assert ours == theirs


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_signature(name: str) -> None:
    def parameters(owner: Any) -> list[tuple]:
        signature = inspect.signature(getattr(owner, name))
        return [(p.name, p.default, p.kind) for p in signature.parameters.values()]

    assert parameters(optim) == parameters(torch.optim)


@pytest.mark.parametrize(("name", "options"), SETTINGS)
def test_trajectory(name: str, options: dict) -> None:
    """Parameters, state and printing agree; so do they after going through a state dict."""
    ours, optimizer = start(taimatsu, name, options)
    theirs, expected = start(torch, name, options)
    take_steps(taimatsu, ours, optimizer, range(4))
    take_steps(torch, theirs, expected, range(4))
    assert_same(ours, theirs)
    assert_same(optimizer.state_dict(), expected.state_dict())
    assert repr(optimizer) == repr(expected)
    state = copy.deepcopy(optimizer.state_dict())
    _, optimizer = start(taimatsu, name, options)
    optimizer.param_groups[0]["params"] = ours[:2]
    optimizer.param_groups[1]["params"] = ours[2:]
    optimizer.load_state_dict(state)
    take_steps(taimatsu, ours, optimizer, range(4, 7))
    take_steps(torch, theirs, expected, range(4, 7))
    assert_same(ours, theirs)
    assert_same(optimizer.state_dict(), expected.state_dict())


ERRORS = (
    "SGD([])",
    "SGD(p)",
    "SGD([p], lr=-1)",
    "SGD([p], momentum=-1)",
    "SGD([p], nesterov=True)",
    "SGD([3])",
    "SGD([p * 2])",
    "SGD([{'foo': [p]}])",
    "SGD([{'params': [p]}, {'params': [p]}])",
    "SGD([{'params': {p}}])",
    "SGD([('a', p), q])",
    "SGD([p], fused=True, foreach=True)",
    "SGD([p], weight_decay=-1)",
    "SGD([p]).add_param_group([p])",
    "SGD([p]).load_state_dict({'state': {}, 'param_groups': []})",
    "SGD([p]).load_state_dict({'state': {}, 'param_groups': [{'params': [0, 1]}]})",
    "Adam([p], betas=(1.0, 0.9))",
    "Adam([p], eps=-1)",
    "RMSprop([p], alpha=-1)",
    "Adagrad([p], lr_decay=-1)",
)


@pytest.mark.parametrize("text", ERRORS)
def test_errors(text: str) -> None:
    """The same mistake gives the same type of error; PyTorch's words begin ours."""
    messages = []
    for library in (taimatsu, torch):
        p, q = (library.nn.Parameter(library.zeros(3)) for _ in range(2))
        with pytest.raises((ValueError, TypeError, KeyError, RuntimeError)) as caught:
            eval(f"optim.{text}", {"optim": library.optim, "p": p, "q": q})
        messages.append((type(caught.value), str(caught.value)))
    (our_type, ours), (their_type, theirs) = messages
    assert our_type is their_type
    assert ours.startswith(theirs.rstrip("."))


SCHEDULES: dict[str, Callable[[Any, Any], Any]] = {
    "lambda": lambda L, o: L.LambdaLR(o, lambda e: 0.9**e),
    "multiplicative": lambda L, o: L.MultiplicativeLR(o, [lambda e: 0.9, lambda e: 0.8]),
    "step": lambda L, o: L.StepLR(o, 3),
    "multi-step": lambda L, o: L.MultiStepLR(o, [2, 5, 5]),
    "constant": lambda L, o: L.ConstantLR(o),
    "linear": lambda L, o: L.LinearLR(o),
    "exponential": lambda L, o: L.ExponentialLR(o, 0.9),
    "polynomial": lambda L, o: L.PolynomialLR(o, 4, 2.0),
    "cosine": lambda L, o: L.CosineAnnealingLR(o, 5, 0.001),
    "restarts": lambda L, o: L.CosineAnnealingWarmRestarts(o, 3, 2),
    "cyclic": lambda L, o: L.CyclicLR(o, 0.01, 0.1, 3),
    "cyclic-2": lambda L, o: L.CyclicLR(o, [0.01, 0.02], 0.1, 3, 2, mode="triangular2"),
    "cyclic-exp": lambda L, o: L.CyclicLR(o, 0.01, 0.1, 3, mode="exp_range", gamma=0.9),
    "one-cycle": lambda L, o: L.OneCycleLR(o, 0.5, 30),
    "one-cycle-3": lambda L, o: L.OneCycleLR(
        o,
        [0.5, 0.4],
        epochs=5,
        steps_per_epoch=6,
        three_phase=True,
        anneal_strategy="linear",
        pct_start=0.2,
    ),
    "sequence": lambda L, o: L.SequentialLR(
        o, [L.ConstantLR(o, 0.1, 2), L.LinearLR(o), L.ExponentialLR(o, 0.9)], [3, 8]
    ),
    "warm-up": lambda L, o: L.SequentialLR(
        o, [L.LinearLR(o, 0.01, total_iters=4), L.CosineAnnealingLR(o, 10)], [4]
    ),
    "chain": lambda L, o: L.ChainedScheduler([L.ConstantLR(o, 0.1, 2), L.ExponentialLR(o, 0.9)]),
    "plateau": lambda L, o: L.ReduceLROnPlateau(o, patience=1, cooldown=1, threshold=0.1),
}
METRICS = (3, 2, 2, 2, 2, 1, 1.1, 1.05, 5, 5, 5, 5)


def rates(library: Any, make: Callable, optimizer: str) -> tuple[list, dict]:
    """What the groups hold at each of 24 steps, and the schedule's state at the end."""
    params = [library.nn.Parameter(library.zeros(n)) for n in (3, 2)]
    options = {"lr": 0.1, "momentum": 0.9} if optimizer == "SGD" else {"lr": 0.1}
    made = getattr(library.optim, optimizer)(
        [{"params": params[:1]}, {"params": params[1:], "lr": 0.01}], **options
    )
    schedule = make(library.optim.lr_scheduler, made)
    seen = []
    for i in range(24):
        groups = [{k: v for k, v in g.items() if k != "params"} for g in made.param_groups]
        seen.append((schedule.get_last_lr(), groups))
        made.step()
        if isinstance(schedule, library.optim.lr_scheduler.ReduceLROnPlateau):
            schedule.step(METRICS[i % len(METRICS)])
        else:
            schedule.step()
    state = schedule.state_dict()
    schedule.load_state_dict(copy.deepcopy(state))
    return seen, state


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule(name: str, optimizer: str) -> None:
    """The very same floats at every step, and the same state."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours, state = rates(taimatsu, SCHEDULES[name], optimizer)
        theirs, expected = rates(torch, SCHEDULES[name], optimizer)
    assert ours == theirs
    assert state == expected


@pytest.mark.parametrize("name", optim.lr_scheduler.__all__)
def test_schedule_signature(name: str) -> None:
    def parameters(owner: Any) -> list[tuple]:
        signature = inspect.signature(getattr(owner, name))
        return [(p.name, p.default, p.kind) for p in signature.parameters.values()]

    assert parameters(optim.lr_scheduler) == parameters(torch.optim.lr_scheduler)


@pytest.mark.parametrize("epoch", [0, 1, 4, 7])
@pytest.mark.parametrize("name", ["step", "multi-step", "constant", "linear", "cosine"])
def test_closed_form(name: str, epoch: int) -> None:
    """``step(epoch)``, deprecated, jumps to the same rate."""
    found = []
    for library in (taimatsu, torch):
        made = library.optim.SGD([library.nn.Parameter(library.zeros(2))], lr=0.1)
        schedule = SCHEDULES[name](library.optim.lr_scheduler, made)
        made.step()
        with pytest.warns(UserWarning, match="epoch parameter"):
            schedule.step(epoch)
        found.append(schedule.get_last_lr())
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["step", "exponential", "linear", "cosine", "polynomial"])
def test_resumed(name: str) -> None:
    """A schedule made with ``last_epoch`` goes on as PyTorch's does."""
    found = []
    for library in (taimatsu, torch):
        made = library.optim.SGD([library.nn.Parameter(library.zeros(2))], lr=0.1)
        made.param_groups[0]["initial_lr"] = 0.2
        L = library.optim.lr_scheduler
        schedule = {
            "step": lambda L=L, o=made: L.StepLR(o, 3, last_epoch=4),
            "exponential": lambda L=L, o=made: L.ExponentialLR(o, 0.9, last_epoch=4),
            "linear": lambda L=L, o=made: L.LinearLR(o, total_iters=8, last_epoch=4),
            "cosine": lambda L=L, o=made: L.CosineAnnealingLR(o, 8, last_epoch=4),
            "polynomial": lambda L=L, o=made: L.PolynomialLR(o, 8, 2.0, last_epoch=4),
        }[name]()
        seen = [schedule.get_last_lr()]
        for _ in range(5):
            made.step()
            schedule.step()
            seen.append(schedule.get_last_lr())
        found.append(seen)
    assert found[0] == found[1]
