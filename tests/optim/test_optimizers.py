"""Optimizers by themselves: groups, closures, hooks, gradients of None, step counts."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest

import taimatsu as torch
from taimatsu import nn, optim

ALL = [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad]


@pytest.mark.parametrize("kind", ALL)
def test_it_descends(kind: Any) -> None:
    """Every optimizer brings a quadratic bowl's point nearer to the bottom."""
    x = nn.Parameter(torch.tensor([3.0, -2.0]))
    optimizer = kind([x], lr=0.1)
    first = (x * x).sum().item()
    for _ in range(20):
        optimizer.zero_grad()
        (x * x).sum().backward()
        optimizer.step()
    assert (x * x).sum().item() < 0.9 * first


@pytest.mark.parametrize("kind", ALL)
def test_the_same_object_is_updated(kind: Any) -> None:
    x = nn.Parameter(torch.ones(2))
    view = x.detach()
    x.grad = torch.ones(2)
    kind([x], lr=0.5).step()
    assert view.tolist() == x.tolist()
    assert view[0].item() < 1


def test_closure() -> None:
    x = nn.Parameter(torch.tensor([1.0]))
    optimizer = optim.SGD([x], lr=0.1)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (x * x).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 1
    assert x.item() == pytest.approx(0.8)


def test_parameters_without_gradient_stay() -> None:
    x, y = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = optim.Adam([x, y])
    x.grad = torch.ones(1)
    optimizer.step()
    assert y.item() == 1
    assert y not in optimizer.state


def test_step_counts_are_per_parameter() -> None:
    x, y = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = optim.Adam([x, y])
    for i in range(3):
        x.grad = torch.ones(1)
        y.grad = torch.ones(1) if i else None
        optimizer.step()
    assert optimizer.state[x]["step"].item() == 3
    assert optimizer.state[y]["step"].item() == 2
    assert optimizer.state[x]["step"].dtype is torch.float32


def test_hooks() -> None:
    x = nn.Parameter(torch.ones(1))
    x.grad = torch.ones(1)
    optimizer = optim.SGD([x])
    calls = []
    before = optimizer.register_step_pre_hook(lambda o, args, kwargs: calls.append("before"))
    optimizer.register_step_post_hook(lambda o, args, kwargs: calls.append("after"))
    optimizer.step()
    before.remove()
    optimizer.step()
    assert calls == ["before", "after", "after"]
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "more": 1})
    assert optimizer.state_dict()["more"] == 1


def test_hooks_of_a_users_optimizer() -> None:
    class Sign(optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {"lr": 0.5})

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    p.sub_(p.grad.sign(), alpha=group["lr"])

    x = nn.Parameter(torch.ones(1))
    x.grad = torch.ones(1)
    optimizer = Sign([x])
    calls = []
    optimizer.register_step_post_hook(lambda o, args, kwargs: calls.append(1))
    optimizer.step()
    assert x.item() == 0.5
    assert calls == [1]


def test_groups() -> None:
    x, y = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = optim.SGD([{"params": [x], "lr": 1.0}], lr=0.1)
    optimizer.add_param_group({"params": y})
    for p in (x, y):
        p.grad = torch.ones(1)
    optimizer.step()
    assert x.item() == 0
    assert y.item() == pytest.approx(0.9)


def test_named_parameters() -> None:
    net = nn.Linear(2, 1)
    optimizer = optim.SGD(net.named_parameters())
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]


def test_duplicates_warn() -> None:
    x = nn.Parameter(torch.ones(1))
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optim.SGD([x, x])


def test_zero_grad() -> None:
    x = nn.Parameter(torch.ones(1))
    optimizer = optim.SGD([x])
    x.grad = held = torch.ones(1)
    optimizer.zero_grad(set_to_none=False)
    assert held.item() == 0
    optimizer.zero_grad()
    assert x.grad is None


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize("make", [copy.deepcopy, pickled])
def test_copies(make: Any) -> None:
    x = nn.Parameter(torch.ones(1))
    x.grad = torch.ones(1)
    optimizer = optim.Adam([x])
    optimizer.step()
    made = make(optimizer)
    (copied,) = made.param_groups[0]["params"]
    assert copied is not x
    assert made.state[copied]["step"].item() == 1
    copied.grad = torch.ones(1)
    made.step()
    assert optimizer.state[x]["step"].item() == 1


def test_tensor_learning_rate() -> None:
    x = nn.Parameter(torch.ones(1))
    x.grad = torch.ones(1)
    lr = torch.tensor(0.5)
    optimizer = optim.SGD([x], lr=lr)
    schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    optimizer.step()
    schedule.step()
    assert lr.item() == 0.25
    assert x.item() == 0.5


def test_schedule_before_optimizer_warns() -> None:
    optimizer = optim.SGD([nn.Parameter(torch.ones(1))])
    schedule = optim.lr_scheduler.StepLR(optimizer, 2)
    with pytest.warns(UserWarning, match=r"lr_scheduler.step\(\)` before `optimizer.step"):
        schedule.step()
    with pytest.warns(UserWarning, match="get_last_lr"):
        schedule.get_lr()


def test_schedule_after_optimizer_does_not_warn() -> None:
    optimizer = optim.SGD([nn.Parameter(torch.ones(1))])
    schedule = optim.lr_scheduler.StepLR(optimizer, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
        schedule.step()


def test_one_cycle_ends() -> None:
    optimizer = optim.SGD([nn.Parameter(torch.ones(1))], momentum=0.9)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=3)
    for _ in range(3):
        optimizer.step()
        schedule.step()
    with pytest.raises(ValueError, match="specified number of total steps is 3"):
        schedule.step()
