"""Sequences of another length in every step: programs are made once, for all lengths.

Each loop sees lengths that it has never seen; after the third of them nothing is planned or
compiled. Values are compared with those of the reference. Lengths that happen to equal another
size, or to be next to one, may have programs of their own: the loops stay away from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import taimatsu as torch
from taimatsu import evaluate
from taimatsu.config import config

nn, F = torch.nn, torch.nn.functional
LENGTHS = (29, 37, 53, 31, 43, 26, 59, 34, 46, 70)
WARM = 3  # steps after which lengths are known to vary
VOCABULARY = 19
Step = Callable[[int], Any]


def trained(parameters: list, loss_of: Callable[[int], Any]) -> Step:
    optimizer = torch.optim.SGD(parameters, lr=0.05)

    def step(length: int) -> Any:
        loss = loss_of(length)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def words(count: int, length: int) -> Any:
    return torch.randint(0, VOCABULARY, (count, length))


def attention_over_words() -> Step:
    """Dimensions are joined for a layer and parted again; a mean over the length."""
    table, layer, out = nn.Embedding(VOCABULARY, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def loss_of(length: int) -> Any:
        h = table(words(3, length))  # (3, T, 8)
        weights = (h @ h.transpose(1, 2)).softmax(-1)  # (3, T, T)
        pooled = torch.tanh(layer(weights @ h)).mean(1)
        return F.cross_entropy(out(pooled), torch.randint(0, 2, (3,)))

    return trained([*table.parameters(), *layer.parameters(), *out.parameters()], loss_of)


def next_word() -> Step:
    """Heads are parted, a triangle masked, and all but the last place compared with the next."""
    table, layer, out = nn.Embedding(VOCABULARY, 8), nn.Linear(8, 24), nn.Linear(8, VOCABULARY)

    def loss_of(length: int) -> Any:
        text = words(3, length)
        q, k, v = layer(table(text)).split(8, dim=2)
        q, k, v = (t.view(3, length, 2, 4).transpose(1, 2) for t in (q, k, v))
        mask = torch.tril(torch.ones(length, length))
        scores = (q @ k.transpose(-2, -1)).masked_fill(mask == 0, -math.inf)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(3, length, 8)
        guessed = out(mixed)[:, :-1].reshape(-1, VOCABULARY)
        return F.cross_entropy(guessed, text[:, 1:].reshape(-1))

    return trained([*table.parameters(), *layer.parameters(), *out.parameters()], loss_of)


def last_place() -> Step:
    """The last place of a computed sequence."""
    layer, out = nn.Conv1d(4, 8, 3, padding=1), nn.Linear(8, 2)

    def loss_of(length: int) -> Any:
        h = torch.relu(layer(torch.randn(3, 4, length)))
        return F.cross_entropy(out(h[:, :, -1]), torch.randint(0, 2, (3,)))

    return trained([*layer.parameters(), *out.parameters()], loss_of)


def longest_response() -> Step:
    """Windows and a maximum over the length, whose gradient is made of zeros of that length."""
    layers = nn.Sequential(nn.Conv1d(4, 8, 5), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(8, 8, 5))
    out = nn.Linear(8, 2)

    def loss_of(length: int) -> Any:
        found = layers(torch.randn(3, 4, length)).max(2)[0]
        return F.cross_entropy(out(found), torch.randint(0, 2, (3,)))

    return trained([*layers.parameters(), *out.parameters()], loss_of)


def nearest_points() -> Step:
    """What the reference computes (topk) lies between compiled kernels."""
    layer, out = nn.Linear(3, 8), nn.Linear(8, 2)

    def loss_of(length: int) -> Any:
        points = torch.randn(3, length, 3)
        near = torch.cdist(points, points).topk(4, largest=False)[1]  # (3, N, 4)
        found = torch.gather(layer(points), 1, near[:, :, 3:].expand(-1, -1, 8))
        return F.cross_entropy(out(found.amax(1)), torch.randint(0, 2, (3,)))

    return trained([*layer.parameters(), *out.parameters()], loss_of)


def growing_cache() -> Step:
    """Keys that are appended to one by one."""
    layer = nn.Linear(8, 8)
    state = {"keys": torch.zeros(1, 2, 25, 4), "x": torch.ones(1, 1, 8)}

    def step(_: int) -> Any:
        with torch.no_grad():
            key = layer(state["x"]).view(1, 1, 2, 4).transpose(1, 2)
            keys = state["keys"] = torch.cat([state["keys"], key], 2)
            weights = (key @ keys.transpose(-2, -1)).softmax(-1)
            state["x"] = torch.tanh((weights @ keys).transpose(1, 2).reshape(1, 1, 8))
            return state["x"].sum()

    return step


def images() -> Step:
    """Both sides of images vary."""
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2),
    )  # fmt: skip

    def loss_of(length: int) -> Any:
        shown = net(torch.randn(3, 2, length, length + 7))
        return F.cross_entropy(shown, torch.randint(0, 2, (3,)))

    return trained(list(net.parameters()), loss_of)


LOOPS = [
    attention_over_words,
    next_word,
    last_place,
    longest_response,
    nearest_points,
    growing_cache,
    images,
]


def carried_out(loop: Callable[[], Step]) -> tuple[list[float], int, int]:
    """The values of all steps; what was planned and compiled after the first ones."""
    torch.manual_seed(0)
    step = loop()
    found = [step(n).item() for n in LENGTHS[:WARM]]
    plans, compilations = evaluate.STATISTICS.plans, evaluate.STATISTICS.compilations
    found += [step(n).item() for n in LENGTHS[WARM:]]
    planned = evaluate.STATISTICS.plans - plans
    return found, planned, evaluate.STATISTICS.compilations - compilations


@pytest.mark.parametrize("loop", LOOPS)
def test_a_new_length_makes_no_new_program(
    loop: Callable[[], Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, planned, compiled = carried_out(loop)
    assert (planned, compiled) == (0, 0)
    monkeypatch.setattr(config, "eager", True)
    assert found == pytest.approx(carried_out(loop)[0], rel=1e-4, abs=1e-5)


def shortened(length: int) -> list:
    """What a convolution leaves of a length, beside an array of three."""
    torch.manual_seed(length)
    weight, x, y = torch.randn(3, 2, 5), torch.randn(2, 2, length), torch.randn(2, 3, 3)
    left = F.conv1d(x, weight)  # (2, 3, length - 4)
    sums = [left.sum(2, keepdim=True) + y, left * 2, x[:, :, :-4] * 2]
    if length == 5:
        sums += [left + y, x[:, :, :-4] + y[:, :2]]
    return [s.numpy().copy() for s in sums]


def test_a_length_that_comes_to_one_broadcasts(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = (9, 10, 11, 5, 12, 5)
    found = [shortened(n) for n in lengths]
    monkeypatch.setattr(config, "eager", True)
    for got, want in zip(found, map(shortened, lengths), strict=True):
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
