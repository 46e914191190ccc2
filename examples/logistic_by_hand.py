"""Logistic regression in the oldest style: Variables, and every update written by hand.

    taimatsu run examples/logistic_by_hand.py

Early PyTorch wrapped tensors in ``Variable`` to follow what was computed from them. Programs of
that time still run: a Variable is simply a tensor today.
"""

import argparse

import torch
import torch.nn.functional as F
import torchvision
from torch.autograd import Variable

PIXELS = 28 * 28
CLASSES = 10


def loaders(batch_size):
    to_tensor = torchvision.transforms.ToTensor()
    parts = [torchvision.datasets.Digits(train=t, transform=to_tensor) for t in (True, False)]
    return [
        torch.utils.data.DataLoader(part, batch_size=batch_size, shuffle=(i == 0))
        for i, part in enumerate(parts)
    ]


def log_probabilities(images, weight, bias):
    rows = images.view(-1, PIXELS)
    return F.log_softmax(rows.mm(weight).add(bias), dim=1)


def descend(parameter, lr):
    """One step against the gradient, through ``.data`` so that no graph follows it."""
    parameter.data -= lr * parameter.grad.data
    parameter.grad.data.zero_()


def train(batches, weight, bias, lr):
    for images, labels in batches:
        images, labels = Variable(images), Variable(labels)
        loss = F.nll_loss(log_probabilities(images, weight, bias), labels)
        loss.backward()
        descend(weight, lr)
        descend(bias, lr)
    return loss.item()


def count_correct(batches, weight, bias):
    correct = 0
    for images, labels in batches:
        guesses = log_probabilities(Variable(images), weight, bias).data.max(1)[1]
        correct += guesses.eq(labels).sum().item()
    return correct


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lr", type=float, default=0.1)
    options = parser.parse_args()

    torch.manual_seed(0)
    train_batches, test_batches = loaders(batch_size=64)
    weight = Variable(torch.randn(PIXELS, CLASSES) * 0.01, requires_grad=True)
    bias = Variable(torch.zeros(CLASSES), requires_grad=True)
    for epoch in range(options.epochs):
        loss = train(train_batches, weight, bias, options.lr)
        print(f"epoch {epoch + 1}: loss of the last batch {loss:.4f}")
    correct = count_correct(test_batches, weight, bias)
    total = len(test_batches.dataset)
    print(f"accuracy: {correct / total:.3f} ({correct} of {total})")


if __name__ == "__main__":
    main()
