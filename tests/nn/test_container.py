"""Containers keep the protocols of the lists and dictionaries that they stand for."""

from __future__ import annotations

from collections import OrderedDict

import pytest

import taimatsu as torch
from taimatsu import nn


def layers(n: int) -> list[nn.Module]:
    return [nn.Linear(i + 1, 1) for i in range(n)]


def test_sequential_as_a_list() -> None:
    parts = layers(4)
    net = nn.Sequential(*parts)
    assert list(net) == parts
    assert net[-1] is parts[3]
    assert list(net[1:3]) == parts[1:3]
    assert list(net[1:3]._modules) == ["1", "2"]
    del net[1]
    assert list(net._modules) == ["0", "1", "2"]
    net.insert(1, parts[1])
    assert list(net) == parts
    assert net.pop(0) is parts[0]
    net.append(parts[0]).extend([nn.ReLU()])
    assert len(net + net) == 10
    assert len(net * 2) == 10
    net += nn.Sequential(nn.ReLU())
    assert len(net) == 6
    net[0] = nn.Identity()
    assert isinstance(net[0], nn.Identity)


def test_sequential_of_named_modules() -> None:
    net = nn.Sequential(OrderedDict(up=nn.Linear(1, 2), down=nn.Linear(2, 1)))
    assert net.up is net[0]
    assert net(torch.ones(3, 1)).shape == (3, 1)


def test_module_list() -> None:
    parts = layers(3)
    held = nn.ModuleList(parts)
    held.insert(0, nn.ReLU())
    assert isinstance(held[0], nn.ReLU)
    assert list(held[1:]) == parts
    del held[0]
    held += layers(1)
    assert len(held) == 4
    assert len(held + [nn.ReLU()]) == 5
    assert held.pop(-1) is not None
    assert [name for name, _ in held.named_children()] == ["0", "1", "2"]
    with pytest.raises(TypeError, match="should be called with an iterable"):
        held.extend(3)
    with pytest.raises(NotImplementedError):
        held(1)


def test_module_list_repeats_are_folded() -> None:
    held = nn.ModuleList([nn.ReLU(), nn.ReLU(), nn.Tanh()])
    assert repr(held) == "ModuleList(\n  (0-1): 2 x ReLU()\n  (2): Tanh()\n)"


def test_module_dict() -> None:
    held = nn.ModuleDict([("a", nn.ReLU()), ("b", nn.Tanh())])
    assert list(held) == ["a", "b"]
    assert held.a is held["a"]
    held.update({"c": nn.Identity()})
    assert "c" in held
    assert isinstance(held.pop("a"), nn.ReLU)
    assert [k for k, _ in held.items()] == ["b", "c"]
    held.clear()
    assert len(held) == 0
    with pytest.raises(ValueError, match="has length 3; 2 is required"):
        held.update([(1, 2, 3)])


def test_parameter_list() -> None:
    held = nn.ParameterList([torch.zeros(2), torch.ones(3)])
    assert all(isinstance(p, nn.Parameter) for p in held)
    held.append(nn.Parameter(torch.zeros(1)))
    held[0] = torch.ones(4)
    assert held[0].shape == (4,)
    assert len(held[1:]) == 2
    assert len(list(held.parameters())) == 3
    held += [3]
    assert held[-1] == 3


def test_parameter_dict() -> None:
    held = nn.ParameterDict({"a": torch.zeros(2)})
    held["b"] = torch.ones(1)
    assert isinstance(held.a, nn.Parameter)
    assert list(held.keys()) == ["a", "b"]
    assert held.get("c", 5) == 5
    assert held.popitem()[0] == "b"
    assert len(held | {"z": 1}) == 2
    assert list(held.fromkeys(["x", "y"], 1)) == ["x", "y"]
    with pytest.raises(KeyError):
        held["missing"]
