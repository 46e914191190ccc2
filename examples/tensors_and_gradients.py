"""A walk through tensors, gradients and modules; every claim is checked as it is made.

taimatsu run examples/tensors_and_gradients.py
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn, optim


def values():
    """``item`` gives the Python number in a tensor of one element."""
    x = torch.tensor([[7]])
    assert x.item() == 7
    print("a tensor:", x, "its number:", x.item())


def gradients():
    """``backward`` leaves d(result)/d(leaf) in the leaf's ``grad``."""
    x = torch.tensor([[2.0, -3.0], [0.5, 1.0]], requires_grad=True)
    y = (x**3).sum()
    y.backward()
    assert torch.allclose(x.grad, 3 * x.detach() ** 2)
    print("d(sum of cubes)/dx:", x.grad)

    slope = torch.tensor(4.0, requires_grad=True)
    line = 3 * slope + 1
    print("what a graph looks like from outside:", line)


def sharing_with_numpy():
    """``from_numpy`` and ``numpy`` share memory; ``clone`` and ``copy`` make a second one."""
    array = np.array([1.5, 2.5, 3.5])
    shared = torch.from_numpy(array)
    own = torch.from_numpy(array.copy())
    shared[0] = -1.0
    assert array[0] == -1.0
    assert own[0] == 1.5
    print("NumPy's float64 stays float64:", shared.dtype)

    grown = torch.ones(2, requires_grad=True) * 2
    outside = grown.detach().clone().numpy()  # no graph, and memory of its own
    outside[0] = 100.0
    assert grown[0].item() == 2.0
    try:
        grown.numpy()
    except RuntimeError as error:
        print("a tensor with a graph has no array:", error)


def parameters():
    """Layers hold their weights as attributes; ``nn.init`` writes them in place."""
    torch.manual_seed(0)
    dense = nn.Linear(3, 2)
    print(dense)
    print(dense.weight)
    nn.init.normal_(dense.weight, mean=0.0, std=0.1)
    nn.init.constant_(dense.bias, 0.5)
    assert not dense.weight.data.requires_grad
    print("bias:", dense.bias)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, kernel_size=2)
        self.norm = nn.BatchNorm2d(4)
        self.activation = nn.ReLU()

    def forward(self, x):
        return self.activation(self.norm(self.conv(x)))


def networks():
    """What a module holds, and what an optimizer was given."""
    net = Small()
    print(net)
    for name, parameter in net.named_parameters():
        print(f"  {name}: {tuple(parameter.shape)}")
    print(list(net.state_dict().keys()))
    optimizer = optim.SGD(net.parameters(), lr=1e-3)
    group = optimizer.param_groups[0]
    assert group["params"][0] is net.conv.weight
    print("learning rate:", group["lr"])


def modes():
    """``eval`` changes what layers do; ``no_grad`` changes what is recorded. Both are needed."""
    dropout = nn.Dropout(0.5)
    ones = torch.ones(1000)
    dropout.train()
    assert (dropout(ones) == 0).any()
    dropout.eval()
    assert torch.equal(dropout(ones), ones)

    net = Small().eval()
    image = torch.randn(1, 3, 5, 5)
    assert net(image).requires_grad  # eval alone records all the same
    with torch.no_grad():
        assert not net(image).requires_grad
    for training in (True, False):
        with torch.set_grad_enabled(training):
            assert net(image).requires_grad == training
    print("eval() is about layers, no_grad() about the graph")


def two_ways_to_relu():
    """``nn.ReLU`` is a module, which is printed with the network; ``F.relu`` is a function."""
    x = torch.linspace(-1, 1, 5)
    assert torch.equal(nn.ReLU()(x), F.relu(x))
    print("relu:", F.relu(x))


if __name__ == "__main__":
    for part in (
        values,
        gradients,
        sharing_with_numpy,
        parameters,
        networks,
        modes,
        two_ways_to_relu,
    ):
        print(f"--- {part.__name__}")
        part()
