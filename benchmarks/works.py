"""What is timed: programs as PyTorch's users write them, for any library with PyTorch's names.

``work.prepare(torch, size)`` makes tensors and networks with the library and gives ``step``;
``step(i)`` carries out the i-th step and returns a number, or a tensor of one. The same function
runs in taimatsu and in PyTorch. ``operations`` and ``traffic`` are counted from the definition:
additions and multiplications that a dense program needs, and bytes that have to be read or written
at least once; what a layer keeps for its gradient is not among them: it need not leave the caches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

Step = Callable[..., Any]

BATCHES = 8  # that a data set consists of
FLOAT = 4  # bytes
FUNCTION = 20  # operations of exp, tanh or sigmoid: a polynomial and its range reduction


class Work(NamedTuple):
    """One line of the table.

    Attributes:
        name: as it is asked for.
        summary: what it does, for the table.
        prepare: ``prepare(torch, size) -> step``; ``step(i, size)`` takes another batch size
            where the work has batches.
        size: the batch size, or the extent of the tensors.
        small: a size for tests.
        operations, traffic: of a step, by size: floating-point operations; bytes.
        goal: how many times as fast as PyTorch it has to be.
        has_batches: whether a step can be given another size.
        is_random: whether the values depend on how random numbers are drawn (dropout).
        period: after how many steps it repeats.
    """

    name: str
    summary: str
    prepare: Callable[[Any, int], Step]
    size: int
    small: int
    operations: Callable[[int], float]
    traffic: Callable[[int], float]
    goal: float
    has_batches: bool = True
    is_random: bool = False
    period: int = 1


# -- the programs ------------------------------------------------------------------------------


def data_set(torch: Any, count: int, *shape: int) -> tuple[Any, Any]:
    torch.manual_seed(0)
    return torch.randn(count, *shape), torch.randint(0, 10, (count,))


def batch_of(i: int, size: int, count: int) -> slice:
    first = i * size % (count - size + 1)
    return slice(first, first + size)


def cnn_network(torch: Any) -> Any:
    nn = torch.nn
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 120), nn.ReLU(), nn.Linear(120, 10),
    )  # fmt: skip


def train_cnn(torch: Any, size: int, item_first: bool = False, log_every: int = 0) -> Step:
    """A training step; ``item_first`` reads the loss before its gradients are asked for."""
    images, labels = data_set(torch, BATCHES * size, 1, 28, 28)
    net = cnn_network(torch)
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    def step(i: int, size: int = size) -> Any:
        batch = batch_of(i, size, len(labels))
        optimizer.zero_grad()
        loss = criterion(net(images[batch]), labels[batch])
        if item_first:
            loss.item()
        loss.backward()
        optimizer.step()
        if log_every and i % log_every == 0:
            loss.item()
        return loss

    return step


def evaluate_cnn(torch: Any, size: int) -> Step:
    """How many answers are right, by somebody who forgot ``no_grad``."""
    images, labels = data_set(torch, BATCHES * size, 1, 28, 28)
    net = cnn_network(torch)

    def step(i: int, size: int = size) -> Any:
        batch = batch_of(i, size, len(labels))
        return (net(images[batch]).argmax(1) == labels[batch]).sum().item()

    return step


def infer_cnn(torch: Any, size: int) -> Step:
    images, _ = data_set(torch, BATCHES * size, 1, 28, 28)
    net = cnn_network(torch)

    def step(i: int, size: int = size) -> Any:
        with torch.no_grad():
            scores = net(images[batch_of(i, size, len(images))])
        return scores.numpy()[0, 0]

    return step


def train_mlp(torch: Any, size: int) -> Step:
    nn = torch.nn
    images, labels = data_set(torch, BATCHES * size, 784)
    net = nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(512, 10),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)

    def step(i: int, size: int = size) -> Any:
        batch = batch_of(i, size, len(labels))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(images[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        return loss

    return step


def train_logistic(torch: Any, size: int) -> Step:
    images, labels = data_set(torch, BATCHES * size, 784)
    weight = (torch.randn(784, 10) / 28).requires_grad_()
    bias = torch.zeros(10, requires_grad=True)

    def step(i: int, size: int = size) -> Any:
        batch = batch_of(i, size, len(labels))
        loss = torch.nn.functional.cross_entropy(images[batch] @ weight + bias, labels[batch])
        loss.backward()
        with torch.no_grad():
            weight.sub_(weight.grad * 0.05)
            bias.sub_(bias.grad * 0.05)
            weight.grad.zero_()
            bias.grad.zero_()
        return loss

    return step


def multiply(torch: Any, size: int) -> Step:
    torch.manual_seed(0)
    a, b = torch.randn(size, size), torch.randn(size, size)

    def step(i: int) -> Any:
        product = a @ b
        return product[-1, -1].item()

    return step


def elementwise(torch: Any, size: int) -> Step:
    torch.manual_seed(0)
    x = torch.randn(size)

    def step(i: int) -> Any:
        y = torch.tanh(x * 0.5 + 0.1)
        z = torch.sigmoid(y * 2 - x)
        return (torch.exp(z - y) * z).mean().item()

    return step


def small_operations(torch: Any, size: int) -> Step:
    """100 operations, and backward through them."""
    weight = torch.ones(size, requires_grad=True)

    def step(i: int) -> Any:
        weight.grad = None
        x = weight
        for _ in range(50):
            x = x * weight
            x = x + 0.5
        loss = x.sum()
        loss.backward()
        return loss.item()

    return step


# -- what they need at least -------------------------------------------------------------------

CNN_PARAMETERS = 16 * 9 + 16 + 32 * 16 * 9 + 32 + 800 * 120 + 120 + 120 * 10 + 10
MLP_PARAMETERS = 784 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10
# Multiply-adds of the cnn's four layers, for one image.
CNN_LAYERS = (26 * 26 * 16 * 9, 11 * 11 * 32 * 16 * 9, 800 * 120, 120 * 10)


def cnn_inference_operations(size: int) -> float:
    return 2.0 * size * sum(CNN_LAYERS)


def cnn_inference_traffic(size: int) -> float:
    return FLOAT * (size * (784 + 10) + CNN_PARAMETERS)


def cnn_training_operations(size: int) -> float:
    """Three products a layer: forward and two gradients; the images need none."""
    return 2.0 * size * (3 * sum(CNN_LAYERS) - CNN_LAYERS[0])


def cnn_training_traffic(size: int) -> float:
    """Images; parameters and their momentum, read and written."""
    return FLOAT * (size * 784 + 4 * CNN_PARAMETERS)


def mlp_operations(size: int) -> float:
    return 2.0 * size * (2 * 784 * 512 + 3 * 512 * 512 + 3 * 512 * 10)


def mlp_traffic(size: int) -> float:
    """Images; parameters and two moments, read and written."""
    return FLOAT * (size * 784 + 6 * MLP_PARAMETERS)


def _train_with_item(torch: Any, size: int) -> Step:
    return train_cnn(torch, size, item_first=True)


def _train_with_logging(torch: Any, size: int) -> Step:
    return train_cnn(torch, size, log_every=10)


WORKS: dict[str, Work] = {
    work.name: work
    for work in (
        Work(
            "cnn", "two convolutions, two linear layers: a training step with SGD, batch 100",
            train_cnn, 100, 6, cnn_training_operations, cnn_training_traffic, 5.0,
        ),
        Work(
            "cnn-loss-item", "the same with `loss.item()` before `backward()`",
            _train_with_item, 100, 6, cnn_training_operations, cnn_training_traffic, 4.0,
        ),
        Work(
            "cnn-logging", "the same with `loss.item()` every 10 steps",
            _train_with_logging, 100, 6, cnn_training_operations, cnn_training_traffic, 4.0,
            period=10,
        ),
        Work(
            "cnn-eval-grad", "counting its right answers without `no_grad`",
            evaluate_cnn, 100, 6, cnn_inference_operations, cnn_inference_traffic, 4.0,
        ),
        Work(
            "cnn-infer", "its scores under `no_grad`, batch 100",
            infer_cnn, 100, 6, cnn_inference_operations, cnn_inference_traffic, 6.0,
        ),
        Work(
            "mlp", "784-512-512-10 with dropout: a training step with AdamW, batch 128",
            train_mlp, 128, 8, mlp_operations, mlp_traffic, 3.0, is_random=True,
        ),
        Work(
            "logistic", "784-10, batch 64, a training step with the update written by hand",
            train_logistic, 64, 8,
            lambda n: 2.0 * n * 784 * 10 * 2, lambda n: FLOAT * (n * 784 + 2 * 7850), 1.5,
        ),
        Work(
            "matmul", "the product of two 1024×1024 matrices",
            multiply, 1024, 40,
            lambda n: 2.0 * n**3, lambda n: FLOAT * 3.0 * n**2, 1.6, has_batches=False,
        ),
        Work(
            "elementwise", "tanh, sigmoid, exp, arithmetic and a mean over 4 Mi numbers",
            elementwise, 4 << 20, 5000,
            lambda n: n * (3.0 * FUNCTION + 7), lambda n: FLOAT * float(n), 8.0,
            has_batches=False,
        ),
        Work(
            "small-ops", "100 operations on 8 numbers, forward and backward",
            small_operations, 8, 8,
            lambda n: 300.0 * n, lambda n: 2.0 * FLOAT * n, 1.2, has_batches=False,
        ),
    )
}  # fmt: skip
