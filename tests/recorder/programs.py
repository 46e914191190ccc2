"""Random programs over tensors, for either library: views, writes, gradients, NumPy sharing."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

SHAPES = ((3, 4), (4,), (2, 3, 4), (1, 4), ())
KINDS = (
    "unary",
    "binary",
    "binary",
    "view",
    "view",
    "reduce",
    "write",
    "write",
    "assign",
    "drop",
    "share",
    "peek",
    "detach",
    "nograd",
    "join",
    "part",
    "index",
    "product",
    "convert",
    "exchange",
    "toggle",
    "gradient",
    "second_order",
    "hook",
    "custom",
    "copy_around",
    "update",
)


class Program:
    """A list of steps drawn from a seed; ``run`` carries it out with a library.

    Values live in a list; each step appends, replaces or drops one. The same seed takes the same
    steps in every library, since choices depend on shapes only.
    """

    def __init__(self, seed: int, length: int = 25, kinds: tuple[str, ...] = KINDS) -> None:
        self.seed = seed
        self.length = length
        self.kinds = kinds

    def run(self, lib: Any, after_step: Callable[[int], None] | None = None) -> list:
        """All observable values at the end: tensors, gradients, shared arrays, error types."""
        rng = random.Random(self.seed)
        state = State(lib, rng, self.kinds)
        for number in range(self.length):
            state.step()
            if after_step is not None:
                after_step(number)
        return state.finish()


class State:
    def __init__(self, lib: Any, rng: random.Random, kinds: tuple[str, ...]) -> None:
        self.kinds = kinds
        self.lib = lib
        self.rng = rng
        self.same_versions = True
        self.leaves: list[Any] = []
        self.values: list[Any] = []
        self.arrays: list[np.ndarray] = []
        self.seen: list[Any] = []
        data = np.random.default_rng(rng.randrange(1 << 30))
        for shape in SHAPES[:4]:
            leaf = lib.tensor(data.uniform(-1, 1, shape)).float()
            if rng.random() < 0.7:
                leaf.requires_grad_(True)
            self.leaves.append(leaf)
            self.values.append(leaf)
        self.data = data

    def pick(self) -> Any:
        return self.rng.choice(self.values)

    def target(self) -> Any:
        """A tensor to write: PyTorch brings a view's place up to date only when it is asked for."""
        x = self.pick()
        _is_leaf(x)
        return x

    def source(self, target: Any) -> Any:
        """What to write: no other arrangement of the same memory, whose order would matter."""
        y = self.pick()
        plain = target.is_contiguous() and y.is_contiguous()
        return y if plain or not _share(target, y) else y.clone()

    def step(self) -> None:
        kind = getattr(self, self.rng.choice(self.kinds))
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
        x = self.target()
        y = self.source(x)
        if 0 in x.stride() and (x.requires_grad or y.requires_grad):
            return  # PyTorch's backward of what it deprecates fails
        which = self.rng.randrange(7)
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
        elif which == 5:
            x.fill_(0.75)
        else:
            x.tanh_()

    def assign(self) -> None:
        x = self.target()
        if 0 in x.stride():
            x = x.clone()
        which = self.rng.randrange(4)
        if which == 0 and x.dim():
            x[self.rng.randrange(x.shape[0])] = self.rng.choice([0.0, 1.5])
        elif which == 1 and x.dim():
            x[self.rng.randrange(x.shape[0]) :] = self.source(x)
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
            array = self.data.uniform(-1, 1, (3, 8)).astype(np.float32)
            array = self.rng.choice([array[:, :4], array[:, ::2], array[:, 4:].copy()])
            self.arrays.append(array)
            self.values.append(self.lib.from_numpy(array))
        elif which == 1 and self.arrays:
            self.rng.choice(self.arrays)[..., :1] = 0.125
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
            elif not x.requires_grad and x.shape == y.shape and not (_share(x, y) and x is not y):
                x.add_(y, alpha=0.25)

    def join(self) -> None:
        x = self.pick()
        others = [v for v in self.values if v.shape == x.shape]
        y = self.rng.choice(others)
        which = self.rng.randrange(3)
        if which == 0 and x.dim():
            self.add(self.lib.cat([x, y], self.rng.randrange(x.dim())))
        elif which == 1:
            self.add(self.lib.stack([x, y, x], self.rng.randrange(x.dim() + 1)))
        elif which == 2:
            self.add(self.lib.stack([x, y]).mean(0))

    def part(self) -> None:
        x = self.pick()
        if not x.dim():
            return
        dim = self.rng.randrange(x.dim())
        which = self.rng.randrange(5)
        if which == 0:
            parts = x.split(2, dim)
        elif which == 1:
            parts = x.unbind(dim)
        elif which == 2:
            parts = x.chunk(2, dim)
        elif which == 3:
            parts = (x.narrow(dim, x.shape[dim] // 2, x.shape[dim] - x.shape[dim] // 2),)
        else:
            with self.lib.no_grad():
                parts = (x.detach().select(dim, 0),)
        self.add(self.rng.choice(parts))

    def index(self) -> None:
        x = self.pick()
        if not x.dim() or 0 in x.shape:
            return
        which = self.rng.randrange(5)
        last = x.shape[0] - 1
        picks = self.lib.tensor([self.rng.randint(0, last) for _ in range(3)])
        if which == 0:
            self.add(x[picks])
        elif which == 1:
            self.add(x.index_select(0, picks))
        elif which == 2:
            places = self.lib.zeros(x.shape, dtype=self.lib.int64) + self.rng.randint(0, last)
            self.add(x.add(0).gather(0, places))  # PyTorch saves all of the input
        elif which == 3:
            self.add(x[x > 0.1])
        else:
            self.add(x[[last, 0]])

    def product(self) -> None:
        x, y = self.pick(), self.pick()
        if 0 < x.dim() <= 2 and 0 < y.dim() <= 2:
            self.same_versions = False  # PyTorch squeezes some products in place
            self.add(x @ (y.transpose(-1, -2) if y.dim() > 1 else y))

    def convert(self) -> None:
        x = self.pick()
        which = self.rng.randrange(4)
        if which == 0:
            self.add(x.double())
        elif which == 1:
            self.add(x.detach().nan_to_num().clamp(-5, 5).mul(3).long())
        elif which == 2:
            self.add(x.float())
        else:
            self.add(x > 0)

    def exchange(self) -> None:
        x = self.rng.choice(self.leaves)
        if not x.requires_grad or not x.is_leaf or not self.same_versions:
            return
        if any(v is not x and _share(v, x) for v in self.values):
            return  # PyTorch's version counter stays with the old views
        others = [x, *[v for v in self.values if v.shape == x.shape and v.dtype == x.dtype]]
        x.data = self.rng.choice(others).detach().clone()
        # What was saved before goes on sharing PyTorch's version counter, and would see writes.
        self.kinds = tuple(kind for kind in self.kinds if kind != "update")

    def toggle(self) -> None:
        """Not with views: PyTorch has them require gradients that they never get."""
        x = self.pick()
        if any(v._base is x for v in self.values):
            return
        which = self.rng.randrange(3)
        if which == 0:
            x.requires_grad_(not x.requires_grad)
        elif which == 1:
            x.requires_grad_()
        else:
            self.add(x.detach().requires_grad_())

    def gradient(self) -> None:
        """A backward inside the program, some of whose graph later steps meet again."""
        x = self.pick()
        if not x.requires_grad or not x.is_floating_point():
            return
        retain = self.rng.random() < 0.5
        loss = (x * x).sum() if self.rng.random() < 0.5 else x.sum()
        self.backward(lambda: loss.backward(retain_graph=retain))

    def second_order(self) -> None:
        x, leaf = self.pick(), self.rng.choice(self.leaves)
        if not (x.requires_grad and leaf.requires_grad and x.is_floating_point()):
            return
        loss = (x * x).sum()
        (found,) = self.lib.autograd.grad(loss, leaf, create_graph=True, allow_unused=True)
        if found is not None:
            self.values.append(found.clone())
            self.same_versions = False

    def backward(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except RuntimeError:
            self.seen.append("backward: error")
            for value in [*self.leaves, *self.values]:  # how far it came is nobody's business
                if _is_leaf(value) is True:
                    value.grad = None

    def hook(self) -> None:
        x = self.pick()
        if x.requires_grad:
            factor = self.rng.choice([0.5, 2.0])
            x.register_hook(lambda g: g * factor)

    def custom(self) -> None:
        x = self.pick()
        if x.is_floating_point():
            self.add(_double_sine(self.lib).apply(x))

    def copy_around(self) -> None:
        """Writes through one view what another view of the same memory holds."""
        x = self.target()
        if x.dim() != 1 or x.shape[0] < 3:
            return
        half = x.shape[0] // 2
        which = self.rng.randrange(3)
        if which == 0:
            x[:half].copy_(x[half : 2 * half])
        elif which == 1:
            x[1:].copy_(x[:-1].clone())
        else:
            x[:half] += x[half : 2 * half]

    def update(self) -> None:
        """An optimizer's step by hand; or a gradient as a value of its own."""
        x = self.rng.choice(self.leaves)
        if x.grad is None or not x.is_leaf:
            return
        which = self.rng.randrange(4)
        if which == 0:
            x.data.add_(x.grad, alpha=-0.1)
        elif which == 1:
            with self.lib.no_grad():
                x -= 0.1 * x.grad
        elif which == 2:
            self.values.append(x.grad)
            self.same_versions = False  # how a gradient was summed is nobody's business
        else:
            x.grad = None

    def finish(self) -> list:
        total = None
        for value in self.values:
            if value.requires_grad and value.is_floating_point():
                try:
                    term = (value * value).sum()
                    total = term if total is None else total + term
                except RuntimeError as error:
                    self.seen.append(f"finish: {_kind(error)}")
        if total is not None:
            self.backward(total.backward)
        found: list[Any] = [(tuple(v.shape), v.detach().numpy().copy()) for v in self.values]
        found += [(v.requires_grad, _is_leaf(v)) for v in self.values]
        if self.same_versions:
            found += [v._version for v in self.values]
        for leaf in self.leaves:
            found.append(None if leaf.grad is None else leaf.grad.detach().numpy().copy())
        found += [a.copy() for a in self.arrays]
        return found + self.seen


def _is_leaf(x: Any) -> Any:
    try:
        return x.is_leaf
    except RuntimeError:
        return "error"  # a view that lost its place in the graph


def _share(x: Any, y: Any) -> bool:
    """Whether two tensors stand on one storage, in either library."""
    if hasattr(x, "untyped_storage"):
        return x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr()
    return x._storage is y._storage


_functions: dict[str, Any] = {}


def _double_sine(lib: Any) -> Any:
    """A custom function: twice the sine."""
    if lib.__name__ in _functions:
        return _functions[lib.__name__]

    class DoubleSine(lib.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x.sin() * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return g * x.cos() * 2

    return _functions.setdefault(lib.__name__, DoubleSine)


def _kind(error: Exception) -> str:
    """What both libraries' messages for the same mistake have in common."""
    text = str(error)
    return "second time" if "backward through the graph a second time" in text else "error"
