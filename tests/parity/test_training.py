"""The same seed gives PyTorch's loss curve: 200 steps of a CNN and of a regression by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import taimatsu
from taimatsu.vision.datasets import Digits

STEPS = 200
RELATIVE = 1e-4


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images in [-1, 1], (1437, 1, 28, 28), and labels."""
    data = Digits(train=True)
    images = np.asarray(data.data.numpy(), np.float32)[:, None] / 255
    return (images - 0.5) / 0.5, np.asarray(data.targets.numpy(), np.int64)


def cnn(torch: Any) -> Any:
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super(Net, self).__init__()  # noqa: UP008 (as the articles write it)
            self.relu = nn.ReLU()
            self.pool = nn.MaxPool2d(2, stride=2)
            self.conv1 = nn.Conv2d(1, 16, 3)
            self.conv2 = nn.Conv2d(16, 32, 3)
            self.fc1 = nn.Linear(32 * 5 * 5, 120)
            self.fc2 = nn.Linear(120, 10)

        def forward(self, x: Any) -> Any:
            x = self.pool(self.relu(self.conv1(x)))
            x = self.pool(self.relu(self.conv2(x)))
            x = x.view(x.size()[0], -1)
            return self.fc2(self.relu(self.fc1(x)))

    return Net()


def train_cnn(torch: Any, images: np.ndarray, labels: np.ndarray) -> list[float]:
    torch.manual_seed(0)
    net = cnn(torch)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=0.005)
    criterion = torch.nn.CrossEntropyLoss()
    order = torch.randperm(len(labels))
    losses = []
    for step in range(STEPS):
        chosen = order[(step * 16) % 1400 :][:16].numpy()
        inputs, targets = torch.from_numpy(images[chosen]), torch.from_numpy(labels[chosen])
        optimizer.zero_grad()
        loss = criterion(net(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_by_hand(torch: Any, images: np.ndarray, labels: np.ndarray) -> list[float]:
    torch.manual_seed(0)
    variable = torch.autograd.Variable
    functional = torch.nn.functional
    weight = variable(torch.randn(784, 10) * 0.01, requires_grad=True)
    bias = variable(torch.zeros(10), requires_grad=True)
    losses = []
    for step in range(STEPS):
        start = (step * 64) % 1300
        inputs = variable(torch.from_numpy(images[start : start + 64].reshape(64, -1)))
        targets = variable(torch.from_numpy(labels[start : start + 64]))
        if weight.grad is not None:
            weight.grad.data.zero_()
            bias.grad.data.zero_()
        output = functional.log_softmax(inputs.mm(weight).add(bias), dim=1)
        loss = functional.nll_loss(output, targets)
        loss.backward()
        weight.data -= 0.05 * weight.grad.data
        bias.data -= 0.05 * bias.grad.data
        losses.append(loss.item())
    return losses


@pytest.mark.parity
@pytest.mark.parametrize("train", [train_cnn, train_by_hand])
def test_the_loss_follows_pytorch(
    torch: Any, digits: tuple[np.ndarray, np.ndarray], train: Callable
) -> None:
    want = np.array(train(torch, *digits))
    got = np.array(train(taimatsu, *digits))
    assert want[-1] < want[0]
    assert np.max(np.abs(got - want) / np.abs(want)) <= RELATIVE
