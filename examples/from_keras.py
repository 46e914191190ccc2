"""Five things that surprise people who come from Keras; each is shown and checked.

taimatsu run examples/from_keras.py
"""

import numpy as np
import torch
from torch import nn


def channels_first():
    """Images are (N, C, H, W) here; most image libraries and Keras have the channels last."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)  # H x W x C, as a file gives it
    batch = torch.from_numpy(picture.transpose(2, 0, 1).copy()).float().div(255).unsqueeze(0)
    out = nn.Conv2d(3, 5, 3, padding=1)(batch)
    assert out.shape == (1, 5, 6, 8)
    for_display = out[0].detach().numpy().transpose(1, 2, 0)
    assert for_display.shape == (6, 8, 5)
    print("channels first:", tuple(batch.shape), "->", tuple(out.shape))


def devices_are_explicit():
    """Model and data must be moved to the same device; nothing moves by itself."""
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    model = nn.Linear(4, 2).to(device)
    inputs = torch.ones(3, 4).to(device)
    assert model(inputs).device == device
    print("device:", device)


def cross_entropy_takes_scores():
    """The loss contains the softmax: the network ends without one."""
    scores = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
    labels = torch.tensor([0, 1])
    direct = nn.CrossEntropyLoss()(scores, labels)
    in_two_steps = nn.NLLLoss()(nn.LogSoftmax(dim=1)(scores), labels)
    assert torch.allclose(direct, in_two_steps)
    by_hand = -(scores.exp() / scores.exp().sum(1, keepdim=True)).log()[[0, 1], [0, 1]].mean()
    assert torch.allclose(direct, by_hand)

    softmax_twice = nn.CrossEntropyLoss()(scores.softmax(1), labels)
    print(f"loss {direct:.4f}; with a softmax too many {softmax_twice:.4f}")

    # Why both live in one function: the softmax of large scores overflows, this does not.
    large = torch.tensor([[1000.0, 0.0]])
    assert torch.isfinite(nn.CrossEntropyLoss()(large, torch.tensor([1])))


def labels_are_class_numbers():
    """Class 2 of 3 is the number 2, not [0, 0, 1]."""
    scores = torch.zeros(1, 3)
    number = nn.CrossEntropyLoss()(scores, torch.tensor([2]))
    one_hot = torch.tensor([[0.0, 0.0, 1.0]])
    from_one_hot = nn.CrossEntropyLoss()(scores, one_hot.argmax(1))
    assert number == from_one_hot
    print(f"loss for class 2: {number:.4f}")


def training_and_evaluation():
    """The mode of the layers and the recording of the graph are two switches."""
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    inputs = torch.randn(16, 4)
    model.train()
    assert not torch.equal(model(inputs), model(inputs))  # dropout draws anew
    model.eval()
    with torch.no_grad():
        outputs = model(inputs)
        assert torch.equal(outputs, model(inputs))
    assert not outputs.requires_grad
    print("evaluation repeats itself")


if __name__ == "__main__":
    torch.manual_seed(0)
    channels_first()
    devices_are_explicit()
    cross_entropy_takes_scores()
    labels_are_class_numbers()
    training_and_evaluation()
