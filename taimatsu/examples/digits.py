"""Trains a small convolutional network to read handwritten digits, and draws how it went.

    python -m taimatsu.examples.digits

Nothing is downloaded: the digits come with the package. ``--data mnist --root FOLDER`` takes MNIST
instead. Loss and accuracy go to ``loss.png`` and ``accuracy.png``.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import taimatsu as torch
from taimatsu import nn
from taimatsu.utils.data import DataLoader
from taimatsu.vision import datasets, transforms


class Net(nn.Module):
    """Two convolutions with pooling, then two linear layers; ten scores for a 28 by 28 image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3)
        self.conv2 = nn.Conv2d(16, 32, 3)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(32 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 10)

    def forward(self, x: Any) -> Any:  # (N, 1, 28, 28)
        x = self.pool(torch.relu(self.conv1(x)))  # (N, 16, 13, 13)
        x = self.pool(torch.relu(self.conv2(x)))  # (N, 32, 5, 5)
        x = torch.relu(self.fc1(x.flatten(1)))  # (N, 120)
        return self.fc2(x)  # (N, 10); the loss takes the softmax


class Score(NamedTuple):
    """Mean loss per image, and the share of images that were read correctly."""

    loss: float
    accuracy: float


def train_epoch(net: nn.Module, batches: Iterable, criterion: nn.Module, optimizer: Any) -> None:
    """One update per batch."""
    net.train()
    for images, labels in batches:
        optimizer.zero_grad()
        loss = criterion(net(images), labels)
        loss.backward()
        optimizer.step()


@torch.no_grad()
def evaluate(net: nn.Module, batches: Iterable, criterion: nn.Module) -> Score:
    """The network's score on all batches, without changing it."""
    net.eval()
    total_loss = 0.0
    correct = 0
    count = 0
    for images, labels in batches:
        scores = net(images)
        # The criterion gives the batch's mean; the last batch may be smaller.
        total_loss += criterion(scores, labels).item() * labels.size(0)
        correct += (scores.argmax(1) == labels).sum().item()
        count += labels.size(0)
    return Score(total_loss / count, correct / count)


def plot(history: dict[str, list[Score]], folder: str) -> list[str]:
    """Draws loss and accuracy over the epochs; the paths of the two pictures.

    Raises:
        ImportError: where matplotlib is not installed.
    """
    import matplotlib  # optional, and slow to import

    matplotlib.use("Agg")  # files only: no display is needed
    from matplotlib import pyplot

    os.makedirs(folder, exist_ok=True)
    paths = []
    for field in Score._fields:
        figure, axes = pyplot.subplots()
        for part, scores in history.items():
            values = [getattr(score, field) for score in scores]
            axes.plot(range(1, len(values) + 1), values, marker="o", label=part)
        axes.set(xlabel="epoch", ylabel=field, title=f"{field} per epoch")
        axes.legend()
        paths.append(os.path.join(folder, f"{field}.png"))
        figure.savefig(paths[-1])
        pyplot.close(figure)
    return paths


def load(options: argparse.Namespace) -> dict[str, DataLoader]:
    """Batches to learn from ("shifted": moved about at random), and of both parts to score."""
    to_tensor = transforms.ToTensor()  # values from 0 to 1
    normalize = transforms.Normalize((0.5,), (0.5,))  # from -1 to 1
    # Up to two pixels each way: with few images, the network would learn their places by heart.
    shift = transforms.RandomCrop(28, padding=2)
    still = transforms.Compose([to_tensor, normalize])
    shifted = transforms.Compose([to_tensor, shift, normalize])
    kind = datasets.MNIST if options.data == "mnist" else datasets.Digits

    def batches(train: bool, transform: Any, shuffle: bool = False) -> DataLoader:
        part = kind(options.root, train=train, transform=transform, download=True)
        return DataLoader(part, options.batch_size, shuffle, num_workers=options.workers)

    return {
        "shifted": batches(True, shifted, shuffle=True),
        "train": batches(True, still),
        "test": batches(False, still),
    }


def progress(batches: DataLoader, title: str) -> Iterable:
    """The batches, with a bar where tqdm is installed and there is a terminal to show it."""
    try:
        from tqdm import tqdm
    except ImportError:
        return batches
    return tqdm(batches, desc=title, unit="batch", leave=False, disable=None)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m taimatsu.examples.digits",
        description="Trains a convolutional network to read handwritten digits.",
    )
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--lr", type=float, default=0.05, help="learning rate (default 0.05)")
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--weight-decay", type=float, default=0.001)
    parser.add_argument("--workers", type=int, default=0, help="processes that load the batches")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", choices=("digits", "mnist"), default="digits")
    parser.add_argument("--root", default="data", help="folder of MNIST's files (default: data)")
    parser.add_argument("--out", default=".", help="folder for the pictures (default: here)")
    parser.add_argument("--no-plot", action="store_true", help="draw no pictures")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> Score:
    """Trains, reports and draws; gives the last score on the test part."""
    options = arguments(given)
    torch.manual_seed(options.seed)
    batches = load(options)
    print(batches["shifted"].dataset)

    net = Net()
    print(net)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=options.lr,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
    )
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)

    history: dict[str, list[Score]] = {"train": [], "test": []}
    started = time.perf_counter()
    for epoch in range(1, options.epochs + 1):
        train_epoch(net, progress(batches["shifted"], f"epoch {epoch}"), criterion, optimizer)
        scheduler.step()
        for part, scores in history.items():
            scores.append(evaluate(net, batches[part], criterion))
        line = ", ".join(
            f"{part}: loss {scores[-1].loss:.4f} accuracy {scores[-1].accuracy:.2%}"
            for part, scores in history.items()
        )
        print(f"epoch {epoch:2d}  {line}", flush=True)
    seconds = time.perf_counter() - started
    print(f"{options.epochs} epochs in {seconds:.1f} s", flush=True)
    if not options.no_plot:
        try:
            print("pictures:", ", ".join(plot(history, options.out)))
        except ImportError:
            print("no pictures: they need matplotlib (pip install 'taimatsu[plot]')")
    return history["test"][-1]


if __name__ == "__main__":
    main()
