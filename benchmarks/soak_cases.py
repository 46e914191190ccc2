"""Small programs for the soak: networks of random shapes, the same in any library.

A ``Case`` is drawn from a random number generator and holds numbers only, so that another process
can carry out the same one. Weights and data are made by NumPy.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

# Of the largest number: kernels may add in another order than the reference.
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}
KINK = 30  # times as much where a sum next to 0, or two next to each other, may decide a gradient


class Case(NamedTuple):
    """A program and its sizes."""

    kind: str
    dtype: str
    seed: int
    sizes: tuple[int, ...]


def draw(rng: random.Random, fresh: bool = False) -> Case:
    """A random case; ``fresh`` ones have sizes that are unlikely to have been there before."""
    kind = rng.choice(list(KINDS))
    low, high = (2, 9) if not fresh else (2, 60)
    batch = rng.randint(1, high)
    others = {
        "cnn": (rng.choice([1, 3]), rng.choice([2, 4, 5]), rng.choice([8, 9, 12])),
        "mlp": (rng.randint(low, 40 if fresh else 6), rng.choice([4, 7, 16]), rng.randint(1, 3)),
        "rnn": (rng.randint(1, 6), rng.choice([3, 8]), rng.choice([4, 5])),
        "attention": (rng.randint(1, 9 if not fresh else 40), rng.choice([1, 2]), 4),
        "hot": (rng.choice([128, 160]),),
        "episodes": (rng.choice([3, 4]), rng.choice([8, 16]), rng.randint(4, 30)),
    }[kind]
    dtype = rng.choice(["float32", "float32", "float64"])
    return Case(kind, dtype, rng.randrange(1000), (batch, *others))


class Maker:
    """Tensors of a library from NumPy's random numbers."""

    def __init__(self, torch: Any, case: Case) -> None:
        self.torch = torch
        self.rng = np.random.default_rng(case.seed)
        self.dtype = np.dtype(case.dtype)

    def data(self, *shape: int) -> Any:
        return self.torch.tensor(self.rng.standard_normal(shape).astype(self.dtype))

    def weight(self, *shape: int) -> Any:
        fan_in = int(np.prod(shape[1:]) if len(shape) > 2 else shape[0])
        values = self.rng.standard_normal(shape) / max(fan_in, 1) ** 0.5
        return self.torch.tensor(values.astype(self.dtype)).requires_grad_()

    def labels(self, count: int, classes: int) -> Any:
        return self.torch.tensor(self.rng.integers(0, classes, count))


def train(torch: Any, parameters: list, optimizer: Any, loss_of: Callable[[], Any]) -> list:
    """Three steps; the losses and the parameters, as arrays."""
    losses = []
    for i in range(3):
        optimizer.zero_grad()
        loss = loss_of()
        if i == 1:
            loss.item()
        loss.backward()
        optimizer.step()
        losses.append(loss)
    found = [loss.item() for loss in losses]
    return [np.array(found), *(p.detach().numpy().copy() for p in parameters)]


def cnn(torch: Any, case: Case) -> list:
    make, F = Maker(torch, case), torch.nn.functional
    batch, inputs, channels, extent = case.sizes
    x, y = make.data(batch, inputs, extent, extent), make.labels(batch, 3)
    side = (extent - 2) // 2
    kernel, bias = make.weight(channels, inputs, 3, 3), make.weight(channels)
    weight = make.weight(channels * side * side, 3)
    parameters = [kernel, bias, weight]
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-4)

    def loss_of() -> Any:
        hidden = F.max_pool2d(torch.relu(F.conv2d(x, kernel, bias)), 2)
        return F.cross_entropy(hidden.flatten(1) @ weight, y)

    return train(torch, parameters, optimizer, loss_of)


def mlp(torch: Any, case: Case) -> list:
    make, F = Maker(torch, case), torch.nn.functional
    batch, inputs, width, layers = case.sizes
    x, y = make.data(batch, inputs), make.data(batch, 2)
    widths = [inputs, *[width] * layers, 2]
    weights = [make.weight(n, m) for n, m in pairwise(widths)]
    optimizer = torch.optim.SGD(weights, lr=0.02)

    def loss_of() -> Any:
        hidden = x
        for weight in weights[:-1]:
            hidden = torch.tanh(hidden @ weight)
        return F.mse_loss(hidden @ weights[-1], y)

    return train(torch, weights, optimizer, loss_of)


def rnn(torch: Any, case: Case) -> list:
    """A recurrent network by hand: outputs are written into a tensor, time step by time step."""
    make = Maker(torch, case)
    batch, length, inputs, width = case.sizes
    x, target = make.data(length, batch, inputs), make.data(length, batch, width)
    enter, recur = make.weight(inputs, width), make.weight(width, width)
    optimizer = torch.optim.SGD([enter, recur], lr=0.05)

    def loss_of() -> Any:
        hidden = torch.zeros(batch, width, dtype=x.dtype)
        out = torch.zeros(length, batch, width, dtype=x.dtype)
        for t in range(length):
            hidden = torch.tanh(x[t] @ enter + hidden @ recur)
            out[t] = hidden
        return ((out - target) ** 2).mean()

    return train(torch, [enter, recur], optimizer, loss_of)


def attention(torch: Any, case: Case) -> list:
    """A block with layer norm; and the same token by token, with a cache of keys and values."""
    make, F = Maker(torch, case), torch.nn.functional
    batch, length, heads, width = case.sizes
    size = heads * width
    x = make.data(batch, length, size)
    weights = [make.weight(size, size) for _ in range(4)]
    query, key, value, out = weights
    optimizer = torch.optim.SGD(weights, lr=0.05)

    def split(h: Any) -> Any:
        return h.reshape(batch, -1, heads, width).transpose(1, 2)  # (B, heads, T, width)

    def attend(q: Any, k: Any, v: Any) -> Any:
        scores = torch.softmax(q @ k.transpose(-2, -1) / width**0.5, dim=-1)
        return (scores @ v).transpose(1, 2).reshape(batch, -1, size) @ out

    def loss_of() -> Any:
        h = F.layer_norm(x, (size,))
        return (attend(split(h @ query), split(h @ key), split(h @ value)) - x).pow(2).mean()

    trained = train(torch, weights, optimizer, loss_of)
    with torch.no_grad():
        keys = torch.zeros(batch, heads, length, width, dtype=x.dtype)
        values = torch.zeros(batch, heads, length, width, dtype=x.dtype)
        tokens = []
        for position in range(length):
            token = F.layer_norm(x[:, position : position + 1], (size,))
            keys[:, :, position] = split(token @ key)[:, :, 0]
            values[:, :, position] = split(token @ value)[:, :, 0]
            seen = slice(0, position + 1)
            tokens.append(attend(split(token @ query), keys[:, :, seen], values[:, :, seen]))
        trained.append(torch.cat(tokens, dim=1).numpy().copy())
    return trained


def hot(torch: Any, case: Case) -> list:
    """Products often enough to be specialised; now and then what lies between is held."""
    make = Maker(torch, case)
    batch, width = case.sizes
    x = start = make.data(batch + 40, width)
    first, second = make.weight(width, width), make.weight(width, width)
    held, sums = [], []
    with torch.no_grad():
        for i in range(40):
            hidden = torch.tanh(x @ first)
            x = start + 0.1 * torch.tanh(hidden @ second)
            if i % 7 == 3:
                held = [*held[-2:], hidden]
            if i % 9 != 5:
                del hidden
            sums.append(x.mean().item())
    return [np.array(sums), x.numpy().copy(), *(h.numpy().copy() for h in held)]


def episodes(torch: Any, case: Case) -> list:
    """A policy's gradient over episodes of several lengths, each step of which reads a number."""
    make, F = Maker(torch, case), torch.nn.functional
    _, inputs, width, longest = case.sizes
    first, second = make.weight(inputs, width), make.weight(width, 3)
    optimizer = torch.optim.SGD([first, second], lr=0.02, momentum=0.5)
    read = []
    for length in (longest, longest // 2 + 1, longest // 3 + 1):
        logs = []
        for action in make.rng.integers(0, 3, length).tolist():
            chances = F.softmax(torch.tanh(make.data(1, inputs) @ first) @ second, 1)
            read.append(chances[0, 0].item())
            logs.append(torch.log(chances[0, action]))
        loss = -(torch.stack(logs) * make.data(length)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [np.array(read), first.detach().numpy().copy(), second.detach().numpy().copy()]


KINDS: dict[str, Callable[[Any, Case], list]] = {
    "cnn": cnn,
    "mlp": mlp,
    "rnn": rnn,
    "attention": attention,
    "hot": hot,
    "episodes": episodes,
}


def carry_out(torch: Any, case: Case) -> list:
    """The arrays that a case makes."""
    return KINDS[case.kind](torch, case)


def differences(found: list, expected: list, case: Case) -> list[str]:
    """What is wrong with the arrays found; empty if nothing is."""
    if len(found) != len(expected):
        return [f"{len(found)} arrays instead of {len(expected)}"]
    tolerance = TOLERANCE[case.dtype] * (KINK if case.kind == "cnn" else 1)
    wrong = []
    for number, (a, b) in enumerate(zip(found, expected, strict=True)):
        if a.shape != b.shape:
            wrong.append(f"array {number} has shape {a.shape} instead of {b.shape}")
            continue
        scale = max(1.0, float(np.abs(b).max(initial=0.0)))
        off = float(np.abs(a - b).max(initial=0.0)) / scale
        if not off <= tolerance:
            wrong.append(f"array {number} is off by {off:.2e} of its scale")
    return wrong
