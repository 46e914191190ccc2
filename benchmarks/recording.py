"""What recording costs, with PyTorch's cost of the same operations beside it.

    python benchmarks/recording.py [--rounds 5] [--check]

Each library runs in a process of its own, in turn; the medians of the rounds' best times are
printed. The time in which programs are carried out is taken off ours: what is measured is what
Python does for an operation (recording, gradients, the end of a recording). The cnn's step is
measured with programs that only get their memory, so that the recording is alone on its
core (as it is where programs run on other threads), also with ``loss.item()`` before
``backward()`` and as evaluation without ``no_grad``; and beside its programs, which empty the
core's caches between the steps. ``--check`` fails where a figure is over its bound.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

OPERATIONS = 100
BOUNDS = {  # microseconds
    "operation, no gradient": 1.5,
    "operation, gradient bookkeeping": 1.5,
    "forward, backward and flush, per operation": 2.0,
    "cnn step, modules and optimizer included": 350.0,
    "cnn step, loss.item() before backward()": 450.0,
    "cnn step, evaluation without no_grad": 250.0,
    "cnn step beside its programs": float("inf"),
}


class Executing:
    """Adds up the time in which recorded programs are carried out.

    With ``skip`` set, programs only get memory for their results, whose content means nothing.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.skip = False

    def watch(self, recorder: Any) -> None:
        inner = recorder.registered.execute

        def timed(*given: Any) -> Any:
            start = time.perf_counter()
            made = results(*given) if self.skip else inner(*given)
            self.seconds += time.perf_counter() - start
            return made

        recorder.registered.execute = timed


def results(
    graph: Any, buffers: dict[int, np.ndarray], items: list, background: bool = False
) -> dict[int, np.ndarray]:
    """Memory for a program's results: what their slots have, or fresh."""
    described = {v: m for n in graph.nodes for v, m in zip(n.results, n.metas, strict=True)}
    made = {}
    for slot, value in graph.outputs.items():
        present = buffers.get(slot)
        if present is None:
            present = np.empty(described[value].numel, described[value].dtype.numpy)
        made[slot] = present
    return made


def best(
    work: Callable[[], Any], after: Callable[[], Any], executing: Executing, times: int
) -> float:
    """The shortest time of ``work`` in microseconds, executing taken off."""
    found = float("inf")
    for _ in range(times):
        executing.seconds = 0.0
        start = time.perf_counter()
        kept = work()
        spent = time.perf_counter() - start - executing.seconds
        found = min(found, spent)
        after()
        del kept
    return found * 1e6


def measure(library: str) -> dict[str, float]:
    """All figures of one library, in this process."""
    executing = Executing()
    if library == "torch":
        import torch

        torch.set_num_threads(2)

        def flush() -> None:
            pass
    else:
        import taimatsu as torch
        from taimatsu import recorder

        executing.watch(recorder)
        flush = recorder.flush
    made = small_operations(torch, flush, executing)
    made["cnn step beside its programs"] = cnn_step(torch, flush, executing, "training")
    executing.skip = True
    for name, variant in (
        ("cnn step, modules and optimizer included", "training"),
        ("cnn step, loss.item() before backward()", "loss first"),
        ("cnn step, evaluation without no_grad", "evaluation"),
    ):
        made[name] = cnn_step(torch, flush, executing, variant)
    return made


def small_operations(torch: Any, flush: Callable, executing: Executing) -> dict[str, float]:
    weight = torch.ones(8, requires_grad=True)

    def forward() -> Any:
        x = weight
        for _ in range(OPERATIONS // 2):
            x = x * weight
            x = x + 0.5
        return x

    def without() -> Any:
        with torch.no_grad():
            return forward()

    def whole() -> None:
        forward().sum().backward()
        flush()
        weight.grad = None

    found = {
        "operation, no gradient": best(without, flush, executing, 200),
        "operation, gradient bookkeeping": best(forward, flush, executing, 200),
        "forward, backward and flush, per operation": best(whole, flush, executing, 200),
    }
    return {name: t / OPERATIONS for name, t in found.items()}


def cnn_step(torch: Any, flush: Callable, executing: Executing, variant: str) -> float:
    """The time of a step: ``training``, the same with the ``loss first``, or ``evaluation``."""
    nn = torch.nn
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 120), nn.ReLU(), nn.Linear(120, 10),
    )  # fmt: skip
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=0.005)
    criterion = nn.CrossEntropyLoss()
    images = torch.randn(4, 1, 28, 28)
    labels = torch.randint(0, 10, (4,))  # indices stay valid: nothing writes to them

    def training() -> None:
        optimizer.zero_grad()
        loss = criterion(net(images), labels)
        loss.backward()
        optimizer.step()

    def loss_first() -> None:
        optimizer.zero_grad()
        loss = criterion(net(images), labels)
        loss.item()
        loss.backward()
        optimizer.step()

    def evaluation() -> None:
        out = net(images)
        criterion(out, labels).item()
        (out.argmax(1) == labels).sum().item()

    step = {"training": training, "loss first": loss_first, "evaluation": evaluation}[variant]
    return best(step, flush, executing, 200)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true", help="fail where a bound is exceeded")
    parser.add_argument("--library", choices=["taimatsu", "torch"], help="one, as JSON")
    options = parser.parse_args()
    if options.library:
        print(json.dumps(measure(options.library)))
        return 0
    rounds: dict[str, list[dict[str, float]]] = {"taimatsu": [], "torch": []}
    for _ in range(options.rounds):
        for library, found in rounds.items():
            command = [sys.executable, __file__, "--library", library]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append(json.loads(done.stdout))
    return report(rounds, options.check)


def report(rounds: dict[str, list[dict[str, float]]], check: bool) -> int:
    print(f"{'microseconds':<46}{'ours':>9}{'PyTorch':>9}{'ratio':>7}{'bound':>8}")
    over = 0
    for name, bound in BOUNDS.items():
        ours, theirs = (
            statistics.median(found[name] for found in rounds[library])
            for library in ("taimatsu", "torch")
        )
        limit = f"{bound:>8.1f}" if bound < float("inf") else ""
        print(f"{name:<46}{ours:>9.2f}{theirs:>9.2f}{theirs / ours:>7.1f}{limit}")
        over += ours > bound
    print("PyTorch's cnn step computes (a batch of 4); ours is without the time of execution")
    return int(check and over > 0)


if __name__ == "__main__":
    sys.exit(main())
