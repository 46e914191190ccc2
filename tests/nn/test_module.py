"""Modules by themselves: registration, the mirror in ``__dict__``, hooks, state, copies."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections import OrderedDict
from typing import Any

import pytest

import taimatsu as torch
from taimatsu import nn, recorder
from taimatsu.config import config
from taimatsu.nn.modules.module import register_module_forward_hook


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 2, bias=False)
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).relu()) * self.scale


def mirrored(module: nn.Module) -> bool:
    """Whether ``__dict__`` holds exactly what the registries hold."""
    for owner in module.modules():
        for kind in ("_parameters", "_buffers", "_modules"):
            members = owner.__dict__[kind]
            if any(owner.__dict__.get(name) is not value for name, value in members.items()):
                return False
    return True


def test_names_in_order() -> None:
    net = Net()
    assert [name for name, _ in net.named_parameters()] == [
        "scale", "first.weight", "first.bias", "second.weight",
    ]  # fmt: skip
    assert [name for name, _ in net.named_modules()] == ["", "first", "second"]
    assert list(net.state_dict()) == [
        "scale", "seen", "first.weight", "first.bias", "second.weight",
    ]  # fmt: skip
    assert [name for name, _ in net.named_buffers(prefix="net")] == ["net.seen", "net.scratch"]


def test_shared_parameters_appear_once() -> None:
    net = Net()
    net.third = net.first
    assert len(list(net.parameters())) == 4
    assert "third.weight" in dict(net.named_parameters(remove_duplicate=False))
    assert len(list(net.modules())) == 3


def test_every_way_of_changing_a_member_keeps_the_mirror() -> None:
    net = Net()
    weight = nn.Parameter(torch.zeros(4, 3))
    net.first._parameters["weight"] = weight
    assert net.first.weight is weight
    del net.first._parameters["bias"]
    assert not hasattr(net.first, "bias")
    net.first.bias = None
    net.first.register_parameter("extra", nn.Parameter(torch.zeros(1)))
    assert net._modules.pop("second") is not None
    assert "second" not in dir(net)
    net._parameters = {"other": nn.Parameter(torch.zeros(1))}
    assert net.other.shape == (1,)
    assert not hasattr(net, "scale")
    net._buffers.update(seen=torch.ones(1))
    assert net.seen.item() == 1
    net._buffers.clear()
    assert not hasattr(net, "seen")
    assert mirrored(net)


def test_a_parameter_replaces_a_plain_attribute() -> None:
    net = Net()
    net.plain = 3
    net.plain = nn.Parameter(torch.zeros(1))
    assert "plain" in net._parameters
    del net.plain
    net.plain = 4
    assert net.plain == 4
    assert "plain" not in net._parameters


def test_buffer_class_registers() -> None:
    net = Net()
    net.running = nn.Buffer(torch.zeros(2))
    net.fleeting = nn.Buffer(torch.zeros(2), persistent=False)
    assert isinstance(net.running, nn.Buffer)
    assert not isinstance(net.scale, nn.Buffer)
    assert "running" in net.state_dict()
    assert "fleeting" not in net.state_dict()
    net.running = torch.ones(2)
    assert "running" in net._buffers


@pytest.mark.parametrize(
    ("value", "what"),
    [(nn.Linear(1, 1), "module"), (nn.Parameter(torch.zeros(1)), "parameters")],
)
def test_assigning_before_init(value: Any, what: str) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            self.member = value

    with pytest.raises(AttributeError, match=rf"cannot assign {what} before Module.__init__"):
        Broken()


def test_a_model_dies_with_its_last_reference() -> None:
    net = Net()
    net(torch.zeros(1, 3))
    seen = weakref.ref(net)
    enabled = gc.isenabled()
    gc.disable()
    try:
        del net
        assert seen() is None
    finally:
        if enabled:
            gc.enable()


@pytest.mark.parametrize(
    "make", [copy.deepcopy, copy.copy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_copies(make: Any) -> None:
    net = Net()
    made = make(net)
    assert repr(made) == repr(net)
    assert mirrored(made)
    shared = make is copy.copy
    assert (made.scale is net.scale) == shared
    made.scale = nn.Parameter(torch.zeros(1))
    assert net.scale.item() == 1
    assert made.scale.item() == 0
    assert made.first.weight.tolist() == net.first.weight.tolist()


def test_pickles_have_pytorchs_form() -> None:
    state = nn.Linear(2, 3).__getstate__()
    assert "weight" not in state
    assert type(state["_parameters"]) is dict


def test_deepcopy_keeps_tied_parameters_tied() -> None:
    net = Net()
    net.tied = net.first
    made = copy.deepcopy(net)
    assert made.tied is made.first
    assert made.tied is not net.first


def test_load_reports_everything_at_once() -> None:
    with pytest.raises(RuntimeError) as caught:
        Net().load_state_dict({"first.weight": torch.zeros(3, 3), "more": torch.zeros(1)})
    message = str(caught.value)
    assert message.startswith("Error(s) in loading state_dict for Net:\n\tMissing key(s)")
    assert 'Unexpected key(s) in state_dict: "more"' in message
    assert "size mismatch for first.weight: copying a param with shape" in message


def test_load_not_strict() -> None:
    keys = Net().load_state_dict({"more": torch.zeros(1)}, strict=False)
    assert keys.unexpected_keys == ["more"]
    assert "scale" in keys.missing_keys
    assert repr(keys).startswith("_IncompatibleKeys(missing_keys=[")


def test_load_copies_or_assigns() -> None:
    source, net = Net(), Net()
    weight = net.first.weight
    net.load_state_dict(source.state_dict())
    assert net.first.weight is weight
    assert weight.tolist() == source.first.weight.tolist()
    net.load_state_dict(source.state_dict(), assign=True)
    assert net.first.weight is not weight
    assert isinstance(net.first.weight, nn.Parameter)
    assert mirrored(net)


def test_state_dict_shares_storage() -> None:
    net = Net()
    net.state_dict()["scale"].fill_(5)
    assert net.scale.item() == 5


def test_extra_state() -> None:
    class Counting(nn.Module):
        count = 0

        def get_extra_state(self) -> int:
            return self.count

        def set_extra_state(self, state: int) -> None:
            self.count = state

    source, target = Counting(), Counting()
    source.count = 3
    target.load_state_dict(source.state_dict())
    assert target.count == 3
    with pytest.raises(RuntimeError, match="_extra_state"):
        target.load_state_dict({})


def test_state_dict_hooks() -> None:
    net = Net()
    calls = []
    net.register_state_dict_pre_hook(lambda m, prefix, keep: calls.append("before"))
    net.register_state_dict_post_hook(lambda m, state, prefix, meta: state.__delitem__("scale"))
    assert "scale" not in net.state_dict()
    assert calls == ["before"]
    net.register_load_state_dict_pre_hook(
        lambda m, state, prefix, meta, strict, missing, unexpected, errors: state.setdefault(
            "scale", torch.full((1,), 7.0)
        )
    )
    net.register_load_state_dict_post_hook(lambda m, keys: calls.append(len(keys.missing_keys)))
    net.load_state_dict(net.state_dict())
    assert net.scale.item() == 7
    assert calls[-1] == 0


def test_forward_hooks() -> None:
    net = Net()
    calls: list[Any] = []
    pre = net.first.register_forward_pre_hook(lambda m, args: (args[0] * 0,))
    post = net.register_forward_hook(lambda m, args, out: out + 1)
    out = net(torch.ones(1, 3))
    pre.remove()
    post.remove()
    bias = net.first.bias.relu() @ net.second.weight.t()
    assert torch.allclose(out, bias + 1)
    net.register_forward_hook(
        lambda m, args, kwargs, out: calls.append(kwargs), with_kwargs=True, prepend=True
    )
    net(x=torch.ones(1, 3))
    assert list(calls[0]) == ["x"]


def test_hook_called_although_forward_raised() -> None:
    net = Net()
    calls = []
    net.register_forward_hook(lambda m, args, out: calls.append(out), always_call=True)
    with pytest.raises(RuntimeError):
        net(torch.ones(1, 5))
    assert calls == [None]


def test_global_hook() -> None:
    calls = []
    with register_module_forward_hook(lambda m, args, out: calls.append(type(m).__name__)):
        Net()(torch.ones(1, 3))
    assert calls == ["Linear", "Linear", "Net"]
    Net()(torch.ones(1, 3))
    assert len(calls) == 3


def test_backward_hooks() -> None:
    net = Net()
    seen = OrderedDict()
    net.second.register_full_backward_hook(
        lambda m, grad_in, grad_out: seen.update(second=(grad_in[0].shape, grad_out[0].shape))
    )
    net.first.register_full_backward_hook(
        lambda m, grad_in, grad_out: seen.update(first=(grad_in, grad_out[0].shape))
    )
    net.second.register_full_backward_pre_hook(lambda m, grad_out: (grad_out[0] * 2,))
    x = torch.ones(2, 3)
    net(x).sum().backward()
    assert seen == {"second": ((2, 4), (2, 2)), "first": ((None,), (2, 4))}
    doubled = net.second.weight.grad
    plain = copy.deepcopy(net)
    plain.second._backward_pre_hooks.clear()
    plain.zero_grad()
    plain(x).sum().backward()
    assert torch.allclose(doubled, plain.second.weight.grad * 2)


def test_backward_hook_replaces_the_gradient() -> None:
    layer = nn.Linear(2, 2)
    layer.register_full_backward_hook(lambda m, grad_in, grad_out: (grad_in[0] * 0,))
    x = torch.ones(1, 2, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.tolist() == [[0, 0]]
    assert layer.bias.grad.tolist() == [1, 1]


def test_conversion_keeps_the_objects() -> None:
    net = Net()
    net.count = nn.Buffer(torch.zeros(1, dtype=torch.int64))
    weight = net.first.weight
    net(torch.ones(1, 3)).sum().backward()
    assert net.to(torch.float64) is net
    assert net.first.weight is weight
    assert weight.dtype is torch.float64
    assert weight.grad.dtype is torch.float64
    assert net.count.dtype is torch.int64
    assert net.half().seen.dtype is torch.float16
    assert net.float().to("cpu", torch.bfloat16).seen.dtype is torch.bfloat16


def test_modes() -> None:
    net = Net()
    assert net.eval() is net
    assert not net.second.training
    assert net.train().first.training
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())
    assert net.apply(lambda m: m.register_buffer("mark", None)) is net
    assert "mark" in net.first._buffers


def test_zero_grad() -> None:
    net = Net()
    net(torch.ones(1, 3)).sum().backward()
    held = net.scale.grad
    net.zero_grad(set_to_none=False)
    assert net.scale.grad is held
    assert held.item() == 0
    net.zero_grad()
    assert net.scale.grad is None


def test_parameter() -> None:
    data = torch.zeros(2)
    param = nn.Parameter(data)
    data.fill_(3)
    assert param.tolist() == [3, 3]
    assert repr(param).startswith("Parameter containing:\ntensor([3., 3.], requires_grad=True)")
    assert type(param * 2) is torch.Tensor
    assert type(param.detach()) is torch.Tensor
    assert not nn.Parameter(data, requires_grad=False).requires_grad
    with pytest.raises(TypeError, match="expected data to be a Tensor"):
        nn.Parameter([1.0])
    made = pickle.loads(pickle.dumps(param))
    assert type(made) is nn.Parameter
    assert made.requires_grad


def test_submodules_by_path() -> None:
    net = nn.Sequential(nn.Sequential(nn.Linear(1, 2)))
    assert net.get_submodule("0.0") is net[0][0]
    assert net.get_parameter("0.0.bias") is net[0][0].bias
    net.set_submodule("0.0", nn.ReLU())
    assert isinstance(net[0][0], nn.ReLU)


def test_module_calls_without_gradients_are_carried_out() -> None:
    net = nn.Sequential(nn.Linear(300, 200), nn.ReLU(), nn.Linear(200, 3))
    with torch.no_grad():
        out = net(torch.ones(50, 300))
    assert out._storage.buffer is not None


@pytest.mark.skipif(config.eager, reason="each operation is a program of its own")
def test_small_module_calls_wait_for_more() -> None:
    first, second, x = nn.Linear(3, 4), nn.Linear(4, 2), torch.ones(1, 3)
    recorder.flush()
    before = recorder.STATISTICS.flushes
    with torch.no_grad():
        out = second(first(x))
    assert out.numpy().shape == (1, 2)
    assert recorder.STATISTICS.flushes == before + 1
