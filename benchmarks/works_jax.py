"""The works of ``works.py`` as JAX's users write them: pure functions under ``jit``.

Batches are cut beforehand, images are NHWC and parameters are donated, as it suits JAX best. Losses
stay on the device until somebody reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.works import BATCHES, Step

Parameters = Any


def data_set(size: int, *shape: int) -> list[tuple[Any, Any]]:
    """Batches of images and labels; ``size`` each."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((BATCHES, size, *shape), np.float32)
    labels = rng.integers(0, 10, (BATCHES, size))
    return [(jnp.asarray(x), jnp.asarray(y)) for x, y in zip(images, labels, strict=True)]


class Batches:
    """The batches of the size asked for."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape
        self.made: dict[int, list] = {}

    def get(self, i: int, size: int) -> tuple[Any, Any]:
        if size not in self.made:
            self.made[size] = data_set(size, *self.shape)
        return self.made[size][i % BATCHES]


def uniform(rng: np.random.Generator, fan_in: int, *shape: int) -> Any:
    bound = fan_in**-0.5
    return jnp.asarray(rng.uniform(-bound, bound, shape), jnp.float32)


def cross_entropy(scores: Any, labels: Any) -> Any:
    chosen = jnp.take_along_axis(jax.nn.log_softmax(scores), labels[:, None], axis=1)
    return -chosen.mean()


# -- the cnn -----------------------------------------------------------------------------------


def cnn_parameters() -> Parameters:
    rng = np.random.default_rng(1)
    shapes = {"conv1": (9, (3, 3, 1, 16)), "conv2": (144, (3, 3, 16, 32))}
    shapes |= {"linear1": (800, (800, 120)), "linear2": (120, (120, 10))}
    return {
        name: (uniform(rng, fan_in, *shape), uniform(rng, fan_in, shape[-1]))
        for name, (fan_in, shape) in shapes.items()
    }


def convolve(x: Any, weight: Any, bias: Any) -> Any:
    """Convolution, relu and pooling: (N, H, W, C) -> (N, (H - 2) // 2, (W - 2) // 2, K)."""
    x = jax.lax.conv_general_dilated(
        x, weight, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = jax.nn.relu(x + bias)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def cnn_scores(parameters: Parameters, x: Any) -> Any:
    x = convolve(x, *parameters["conv1"])
    x = convolve(x, *parameters["conv2"])
    x = x.reshape(x.shape[0], -1)
    weight, bias = parameters["linear1"]
    x = jax.nn.relu(x @ weight + bias)
    weight, bias = parameters["linear2"]
    return x @ weight + bias


def cnn_loss(parameters: Parameters, x: Any, y: Any) -> Any:
    return cross_entropy(cnn_scores(parameters, x), y)


@partial(jax.jit, donate_argnums=(0, 1))
def cnn_update(parameters: Parameters, momenta: Parameters, x: Any, y: Any) -> Any:
    loss, gradients = jax.value_and_grad(cnn_loss)(parameters, x, y)
    momenta = jax.tree.map(lambda p, m, g: 0.9 * m + g + 1e-4 * p, parameters, momenta, gradients)
    parameters = jax.tree.map(lambda p, m: p - 0.01 * m, parameters, momenta)
    return parameters, momenta, loss


def train_cnn(size: int, read_every: int = 0) -> Step:
    batches = Batches(28, 28, 1)
    parameters = cnn_parameters()
    momenta = jax.tree.map(jnp.zeros_like, parameters)

    def step(i: int, size: int = size) -> Any:
        nonlocal parameters, momenta
        parameters, momenta, loss = cnn_update(parameters, momenta, *batches.get(i, size))
        if read_every and i % read_every == 0:
            float(loss)
        return loss

    return step


@jax.jit
def count_right(parameters: Parameters, x: Any, y: Any) -> Any:
    return (cnn_scores(parameters, x).argmax(1) == y).sum()


def evaluate_cnn(size: int) -> Step:
    batches, parameters = Batches(28, 28, 1), cnn_parameters()

    def step(i: int, size: int = size) -> Any:
        return float(count_right(parameters, *batches.get(i, size)))

    return step


def infer_cnn(size: int) -> Step:
    batches, parameters = Batches(28, 28, 1), cnn_parameters()
    infer = jax.jit(cnn_scores)

    def step(i: int, size: int = size) -> Any:
        return np.asarray(infer(parameters, batches.get(i, size)[0]))[0, 0]

    return step


# -- the others --------------------------------------------------------------------------------


def mlp_loss(parameters: Parameters, key: Any, x: Any, y: Any) -> Any:
    for weight, bias in parameters[:-1]:
        key, drawn = jax.random.split(key)
        x = jax.nn.relu(x @ weight + bias)
        kept = jax.random.bernoulli(drawn, 0.8, x.shape)
        x = jnp.where(kept, x / 0.8, 0.0)
    weight, bias = parameters[-1]
    return cross_entropy(x @ weight + bias, y)


@partial(jax.jit, donate_argnums=(0, 1, 2))
def mlp_update(parameters: Parameters, first: Parameters, second: Parameters, state: Any) -> Any:
    key, count, x, y = state
    loss, gradients = jax.value_and_grad(mlp_loss)(parameters, key, x, y)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)

    def updated(p: Any, m: Any, v: Any) -> Any:
        root = jnp.sqrt(v / (1 - 0.999**count)) + 1e-8
        return p * (1 - 1e-3 * 1e-2) - 1e-3 * m / (1 - 0.9**count) / root

    return jax.tree.map(updated, parameters, first, second), first, second, loss


def train_mlp(size: int) -> Step:
    batches, rng = Batches(784), np.random.default_rng(1)
    widths = [(784, 512), (512, 512), (512, 10)]
    parameters = [(uniform(rng, n, n, m), uniform(rng, n, m)) for n, m in widths]
    first = jax.tree.map(jnp.zeros_like, parameters)
    second = jax.tree.map(jnp.zeros_like, parameters)
    split = jax.jit(jax.random.split)
    key = jax.random.key(0)
    count = 0

    def step(i: int, size: int = size) -> Any:
        nonlocal parameters, first, second, key, count
        key, drawn = split(key)
        count += 1
        state = (drawn, np.float32(count), *batches.get(i, size))
        parameters, first, second, loss = mlp_update(parameters, first, second, state)
        return loss

    return step


@partial(jax.jit, donate_argnums=0)
def logistic_update(parameters: Parameters, x: Any, y: Any) -> Any:
    def loss_of(parameters: Parameters) -> Any:
        weight, bias = parameters
        return cross_entropy(x @ weight + bias, y)

    loss, gradients = jax.value_and_grad(loss_of)(parameters)
    return jax.tree.map(lambda p, g: p - 0.05 * g, parameters, gradients), loss


def train_logistic(size: int) -> Step:
    batches = Batches(784)
    parameters = (uniform(np.random.default_rng(1), 784, 784, 10), jnp.zeros(10))

    def step(i: int, size: int = size) -> Any:
        nonlocal parameters
        parameters, loss = logistic_update(parameters, *batches.get(i, size))
        return loss

    return step


def multiply(size: int) -> Step:
    rng = np.random.default_rng(0)
    a, b = (jnp.asarray(rng.standard_normal((size, size), np.float32)) for _ in range(2))
    product = jax.jit(jnp.matmul)

    def step(i: int) -> Any:
        return np.asarray(product(a, b))[-1, -1]

    return step


def elementwise(size: int) -> Step:
    x = jnp.asarray(np.random.default_rng(0).standard_normal(size, np.float32))

    @jax.jit
    def chain(x: Any) -> Any:
        y = jnp.tanh(x * 0.5 + 0.1)
        z = jax.nn.sigmoid(y * 2 - x)
        return (jnp.exp(z - y) * z).mean()

    def step(i: int) -> Any:
        return float(chain(x))

    return step


def small_operations(size: int) -> Step:
    weight = jnp.ones(size)

    @jax.jit
    def loss_and_gradient(weight: Any) -> Any:
        def loss(weight: Any) -> Any:
            x = weight
            for _ in range(50):
                x = x * weight
                x = x + 0.5
            return x.sum()

        return jax.value_and_grad(loss)(weight)

    def step(i: int) -> Any:
        loss, _ = loss_and_gradient(weight)
        return float(loss)

    return step


PREPARE: dict[str, Callable[[int], Step]] = {
    "cnn": train_cnn,
    "cnn-loss-item": partial(train_cnn, read_every=1),
    "cnn-logging": partial(train_cnn, read_every=10),
    "cnn-eval-grad": evaluate_cnn,
    "cnn-infer": infer_cnn,
    "mlp": train_mlp,
    "logistic": train_logistic,
    "matmul": multiply,
    "elementwise": elementwise,
    "small-ops": small_operations,
}
