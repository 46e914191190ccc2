"""Random programs over tensors, for either library: views, writes, gradients, NumPy sharing."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

SHAPES = ((3, 4), (4,), (2, 3, 4), (1, 4), ())


class Program:
    """A list of steps drawn from a seed; ``run`` carries it out with a library.

    Values live in a list; each step appends, replaces or drops one. The same seed takes the same
    steps in every library, since choices depend on shapes only.
    """

    def __init__(self, seed: int, length: int = 25, gradients: bool = True) -> None:
        self.seed = seed
        self.length = length
        self.gradients = gradients

    def run(self, lib: Any, after_step: Callable[[int], None] | None = None) -> list:
        """All observable values at the end: tensors, gradients, shared arrays, error types."""
        rng = random.Random(self.seed)
        state = State(lib, rng, self.gradients)
        for number in range(self.length):
            state.step()
            if after_step is not None:
                after_step(number)
        return state.finish()


class State:
    def __init__(self, lib: Any, rng: random.Random, gradients: bool) -> None:
        self.lib = lib
        self.rng = rng
        self.leaves: list[Any] = []
        self.values: list[Any] = []
        self.arrays: list[np.ndarray] = []
        self.seen: list[Any] = []
        data = np.random.default_rng(rng.randrange(1 << 30))
        for shape in SHAPES[:4]:
            leaf = lib.tensor(data.uniform(-1, 1, shape)).float()
            if gradients and rng.random() < 0.7:
                leaf.requires_grad_(True)
            self.leaves.append(leaf)
            self.values.append(leaf)
        self.data = data

    def pick(self) -> Any:
        return self.rng.choice(self.values)

    def step(self) -> None:
        kinds = [
            self.unary, self.binary, self.binary, self.view, self.view, self.reduce, self.write,
            self.write, self.assign, self.drop, self.share, self.peek, self.detach, self.nograd,
        ]
        kind = self.rng.choice(kinds)
        try:
            kind()
        except (RuntimeError, IndexError, ValueError) as error:
            self.seen.append(f"{kind.__name__}: {_kind(error)}")

    def add(self, value: Any) -> None:
        if value.numel() <= 200:
            self.values.append(value)

    def unary(self) -> None:
        name = self.rng.choice(["exp", "sin", "relu", "tanh", "neg", "abs", "sigmoid", "clone"])
        x = self.pick()
        self.add(getattr(x.clamp(-3, 3) if name == "exp" else x, name)())

    def binary(self) -> None:
        x, y = self.pick(), self.pick()
        which = self.rng.randrange(5)
        if which == 0:
            self.add(x + y)
        elif which == 1:
            self.add(x * y)
        elif which == 2:
            self.add(x - y * self.rng.choice([0.5, 2, 3]))
        elif which == 3:
            self.add(self.lib.where(x > y, x, y * 0.5))
        else:
            self.add(x / (y.abs() + 1))

    def view(self) -> None:
        x = self.pick()
        which = self.rng.randrange(7)
        if which == 0:
            self.add(x.reshape(-1))
        elif which == 1 and x.dim() >= 2:
            self.add(x.transpose(0, -1))
        elif which == 2 and x.dim() and x.shape[0] > 1:
            start = self.rng.randrange(x.shape[0])
            self.add(x[start:])
        elif which == 3 and x.dim():
            self.add(x[self.rng.randrange(x.shape[0])])
        elif which == 4:
            self.add(x.unsqueeze(0))
        elif which == 5 and x.dim():
            self.add(x[..., ::2])
        elif which == 6 and x.dim() == 1:
            self.add(x.expand(2, x.shape[0]))

    def reduce(self) -> None:
        x = self.pick()
        if x.dim() and self.rng.random() < 0.7:
            dim = self.rng.randrange(x.dim())
            self.add(x.sum(dim) if self.rng.random() < 0.5 else x.mean(dim, keepdim=True))
        else:
            self.add(x.sum())

    def write(self) -> None:
        x, y = self.pick(), self.pick()
        which = self.rng.randrange(6)
        if which == 0:
            x.add_(y)
        elif which == 1:
            x.mul_(self.rng.choice([0.5, -1.0, 2]))
        elif which == 2:
            x.copy_(y)
        elif which == 3:
            x.zero_()
        elif which == 4:
            x.sub_(y, alpha=0.5)
        else:
            x.tanh_()

    def assign(self) -> None:
        x = self.pick()
        which = self.rng.randrange(4)
        if which == 0 and x.dim():
            x[self.rng.randrange(x.shape[0])] = self.rng.choice([0.0, 1.5])
        elif which == 1 and x.dim():
            x[self.rng.randrange(x.shape[0]) :] = self.pick()
        elif which == 2:
            x[x > 0.5] = 0.25
        elif x.dim():
            index = self.lib.tensor([0, x.shape[0] - 1])
            x[index] = -0.5

    def drop(self) -> None:
        if len(self.values) > 4:
            self.values.pop(self.rng.randrange(len(self.values)))

    def share(self) -> None:
        which = self.rng.randrange(4)
        if which == 0:
            array = self.data.uniform(-1, 1, (3, 4)).astype(np.float32)
            self.arrays.append(array)
            self.values.append(self.lib.from_numpy(array))
        elif which == 1 and self.arrays:
            self.rng.choice(self.arrays).reshape(-1)[0] = 0.125
        elif which == 2:
            x = self.pick()
            if not x.requires_grad:
                self.arrays.append(x.numpy())
        elif self.arrays:
            self.arrays.pop(self.rng.randrange(len(self.arrays)))

    def peek(self) -> None:
        x = self.pick()
        self.seen.append(float(x.detach().sum()))

    def detach(self) -> None:
        x = self.pick()
        self.values.append(x.detach() if self.rng.random() < 0.6 else x.data)

    def nograd(self) -> None:
        with self.lib.no_grad():
            x, y = self.pick(), self.pick()
            if self.rng.random() < 0.5:
                self.add(x * 2 + 1)
            elif x.shape == y.shape:
                x.add_(y, alpha=0.25)

    def finish(self) -> list:
        total = None
        for value in self.values:
            if value.requires_grad:
                term = (value * value).sum()
                total = term if total is None else total + term
        if total is not None:
            try:
                total.backward()
            except RuntimeError as error:
                self.seen.append(_kind(error))
                for leaf in self.leaves:  # how far an erring walk came is nobody's business
                    leaf.grad = None
        found: list[Any] = [(tuple(v.shape), v.detach().numpy().copy()) for v in self.values]
        found += [(v.requires_grad, v.is_leaf) for v in self.values]
        for leaf in self.leaves:
            found.append(None if leaf.grad is None else leaf.grad.numpy().copy())
        found += [a.copy() for a in self.arrays]
        return found + self.seen


def _kind(error: Exception) -> str:
    """What both libraries' messages for the same mistake have in common."""
    return "inplace" if "modified by an inplace operation" in str(error) else "error"
