"""Modules against PyTorch: signatures, printing, first values, state names, results, gradients."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import taimatsu
from taimatsu import nn

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

CONSTRUCTED = (
    "Linear(3, 4)",
    "Linear(3, 4, bias=False)",
    "Bilinear(2, 3, 4)",
    "Identity(3)",
    "Conv1d(2, 3, 3, padding=1)",
    "Conv2d(4, 6, 3)",
    "Conv2d(4, 6, 3, 2, 1, 2, 2, False, 'reflect')",
    "Conv2d(4, 4, (3, 5), padding='same')",
    "Conv3d(2, 3, (1, 2, 3))",
    "ConvTranspose1d(4, 6, 3)",
    "ConvTranspose2d(4, 6, 3, 2, 1, 1)",
    "ConvTranspose3d(4, 6, 3)",
    "BatchNorm1d(3)",
    "BatchNorm1d(3, bias=False)",
    "BatchNorm2d(3, affine=False)",
    "BatchNorm3d(3, track_running_stats=False)",
    "InstanceNorm2d(3, affine=True)",
    "LayerNorm(3)",
    "LayerNorm((2, 3), bias=False)",
    "GroupNorm(2, 4)",
    "RMSNorm(3)",
    "LocalResponseNorm(2)",
    "Dropout()",
    "Dropout2d(0.1, True)",
    "AlphaDropout()",
    "Embedding(4, 3, padding_idx=1)",
    "Embedding(4, 3, max_norm=1.0, norm_type=1, scale_grad_by_freq=True, sparse=True)",
    "EmbeddingBag(4, 3, mode='sum', padding_idx=-1)",
    "MaxPool1d(2, 1)",
    "MaxPool2d(2)",
    "MaxPool3d((1, 2, 3), ceil_mode=True)",
    "AvgPool1d(2)",
    "AvgPool2d(2, padding=1)",
    "AvgPool3d(2)",
    "LPPool1d(2, 3)",
    "LPPool2d(2, 3)",
    "AdaptiveAvgPool2d((3, None))",
    "AdaptiveMaxPool1d(3)",
    "MaxUnpool1d(2)",
    "MaxUnpool2d(2)",
    "ReLU()",
    "ReLU(True)",
    "ReLU6(True)",
    "Hardtanh(-2, 2, True)",
    "Sigmoid()",
    "Tanh()",
    "SiLU(True)",
    "Mish()",
    "Hardswish()",
    "Hardsigmoid()",
    "ELU(2.0, True)",
    "CELU()",
    "SELU()",
    "GLU()",
    "GELU('tanh')",
    "Hardshrink()",
    "LeakyReLU(0.2)",
    "LeakyReLU(inplace=True)",
    "LogSigmoid()",
    "Softplus()",
    "Softshrink()",
    "PReLU(3)",
    "Softsign()",
    "Tanhshrink()",
    "Softmin(1)",
    "Softmax(dim=1)",
    "Softmax2d()",
    "LogSoftmax(-1)",
    "Threshold(1, 2)",
    "RReLU(inplace=True)",
    "ZeroPad1d((1, 2))",
    "ZeroPad2d(1)",
    "ConstantPad2d(1, 3.5)",
    "ReflectionPad2d((1, 2, 3, 4))",
    "ReplicationPad3d(2)",
    "CircularPad1d(2)",
    "PixelShuffle(2)",
    "PixelUnshuffle(2)",
    "ChannelShuffle(2)",
    "Flatten()",
    "Unflatten(1, (2, 3))",
    "Fold((4, 5), 2)",
    "Unfold(3)",
    "Upsample(scale_factor=2)",
    "Upsample(size=(3, 4), mode='bilinear')",
    "UpsamplingNearest2d(scale_factor=2)",
    "UpsamplingBilinear2d((3, 4))",
    "CosineSimilarity()",
    "PairwiseDistance()",
    "CrossEntropyLoss()",
    "BCEWithLogitsLoss(pos_weight=torch.ones(2))",
    "TripletMarginWithDistanceLoss()",
    "GaussianNLLLoss()",
    "CTCLoss()",
    "Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.Identity()))",
    "ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU(), nn.Sequential(nn.ReLU())])",
    "ModuleDict({'a': nn.Linear(2, 3), 'b': nn.ReLU()})",
    "ParameterList([torch.zeros(2, 3), 3])",
    "ParameterDict({'a': torch.zeros(2), 'b': 3})",
    "Sequential()",
    "ModuleList()",
)


def make(text: str, library: Any, seed: int = 0) -> Any:
    """The module that ``text`` constructs, in ``taimatsu`` or PyTorch, from the same seed."""
    library.manual_seed(seed)
    return eval(f"nn.{text}", {"nn": library.nn, "torch": library})


@pytest.mark.parametrize("name", nn.modules.__all__)
def test_signature(name: str) -> None:
    def parameters(owner: Any) -> list[tuple]:
        signature = inspect.signature(getattr(owner, name).__init__)
        return [(p.name, p.default, p.kind) for p in signature.parameters.values()]

    assert parameters(nn) == parameters(torch.nn)


@pytest.mark.parametrize("text", CONSTRUCTED)
def test_construction(text: str) -> None:
    """The same text prints, draws the same first values and names them the same."""
    ours, theirs = make(text, taimatsu), make(text, torch)
    assert repr(ours) == repr(theirs)
    mine, expected = ours.state_dict(), theirs.state_dict()
    assert list(mine) == list(expected)
    assert mine._metadata == expected._metadata
    for name, value in expected.items():
        assert str(mine[name].dtype) == str(value.dtype)
        np.testing.assert_allclose(mine[name].numpy(), value.numpy(), rtol=1e-6, atol=1e-7)


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


FORWARD = (
    ("Linear(3, 4)", (2, 5, 3)),
    ("Bilinear(3, 3, 4)", (2, 3), (2, 3)),
    ("Conv1d(2, 3, 3, padding=1)", (2, 2, 7)),
    ("Conv2d(4, 6, 3, 2, 1, groups=2)", (2, 4, 8, 7)),
    ("Conv2d(4, 4, 3, padding='same', padding_mode='circular')", (2, 4, 6, 6)),
    ("Conv2d(2, 4, (2, 4), padding='same', padding_mode='reflect')", (2, 2, 6, 6)),
    ("Conv3d(2, 3, (1, 2, 3))", (1, 2, 4, 5, 6)),
    ("ConvTranspose2d(4, 6, 3, 2, 1, 1)", (2, 4, 5, 5)),
    ("MaxPool2d(2)", (2, 3, 6, 7)),
    ("AvgPool2d(3, 2, 1)", (2, 3, 6, 7)),
    ("AdaptiveAvgPool2d((3, None))", (2, 3, 6, 7)),
    ("ReLU()", (3, 4)),
    ("PReLU(4)", (3, 4)),
    ("GELU('tanh')", (3, 4)),
    ("Softmax2d()", (2, 3, 4, 5)),
    ("ConstantPad2d((1, 0, 2, 1), 3.5)", (2, 3, 4, 5)),
    ("PixelShuffle(2)", (2, 8, 3, 3)),
    ("Flatten()", (2, 3, 4)),
    ("Unflatten(1, (2, 3))", (2, 6, 4)),
    ("Unfold(2)", (2, 3, 4, 5)),
    ("BatchNorm2d(3)", (4, 3, 5, 5)),
    ("BatchNorm1d(3, momentum=None)", (4, 3)),
    ("BatchNorm1d(3, bias=False)", (4, 3, 2)),
    ("InstanceNorm2d(3, affine=True)", (2, 3, 4, 5)),
    ("InstanceNorm1d(3)", (3, 7)),
    ("LayerNorm((2, 3))", (4, 2, 3)),
    ("GroupNorm(2, 4)", (3, 4, 5)),
    ("RMSNorm(6)", (3, 6)),
    ("MSELoss()", (3, 4), (3, 4)),
    ("SmoothL1Loss(beta=0.5)", (3, 4), (3, 4)),
    ("HuberLoss(delta=0.5, reduction='sum')", (3, 4), (3, 4)),
    ("CosineSimilarity()", (3, 4), (3, 4)),
    ("PairwiseDistance(1.0)", (3, 4), (3, 4)),
    ("TripletMarginLoss()", (3, 4), (3, 4), (3, 4)),
)


@pytest.mark.parametrize("case", FORWARD, ids=lambda case: case[0])
def test_forward_and_backward(case: tuple) -> None:
    """Results, gradients of inputs and parameters, and buffers after a training call agree."""
    text, *shapes = case
    found = []
    for library in (taimatsu, torch):
        module = make(text, library)
        inputs = [library.tensor(image(*s) + i, requires_grad=True) for i, s in enumerate(shapes)]
        out = module(*inputs)
        (out * out).sum().backward()
        gradients = [t.grad.numpy() for t in (*inputs, *module.parameters())]
        found.append([out.detach().numpy(), *gradients, *(b.numpy() for b in module.buffers())])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)


ERRORS = (
    "nn.Sequential()[0]",
    "nn.ModuleList([nn.ReLU()])[3]",
    "nn.ReLU().register_module('x', 3)",
    "nn.ReLU(3, 3)",
    "nn.ReLU(foo=3)",
    "nn.Module(3)",
    "nn.Module(a=3)",
    "nn.Module()(3)",
    "nn.ReLU().get_submodule('a.b')",
    "nn.Linear(2, 3).get_submodule('weight')",
    "nn.Linear(2, 3).get_parameter('foo')",
    "setattr(nn.Linear(2, 3), 'weight', torch.zeros(2))",
    "setattr(nn.BatchNorm1d(2), 'running_mean', 3)",
    "setattr(nn.Sequential(nn.ReLU()), '0', 3)",
    "nn.Linear(2, 3).foo",
    "nn.Linear(2, 3).to(torch.int32)",
    "nn.Linear(2, 3).register_parameter('w', torch.zeros(2))",
    "nn.Linear(2, 3).register_buffer('weight', None)",
    "nn.Sequential(nn.ReLU(), 3)",
    "nn.ModuleDict({'a': 3})",
    "nn.Linear(2, 3).load_state_dict(3)",
    "nn.Linear(2, 3).load_state_dict({'weight': torch.zeros(3, 3), 'more': torch.zeros(1)})",
    "nn.BatchNorm2d(3)(torch.zeros(2, 3))",
    "nn.GroupNorm(2, 3)",
    "nn.Dropout(2)",
    "nn.Linear(2, 3).train(3)",
    "nn.ParameterList(3)",
    "nn.Linear(2, 3).set_submodule('', nn.ReLU())",
)


@pytest.mark.parametrize("text", ERRORS)
def test_errors(text: str) -> None:
    """The same mistake gives the same type of error; PyTorch's words begin ours."""
    messages = []
    for library in (taimatsu, torch):
        with pytest.raises(Exception) as caught:
            eval(text, {"nn": library.nn, "torch": library})
        messages.append((type(caught.value).__mro__[-3].__name__, str(caught.value)))
    (our_type, ours), (their_type, theirs) = messages
    assert our_type == their_type
    assert ours.startswith(theirs.rstrip(".").removesuffix(".'"))


def test_state_dict_from_pytorch() -> None:
    text = "Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(3, 2))"
    theirs = make(text, torch, seed=1)
    ours = make(text, taimatsu)
    state = {k: taimatsu.tensor(v.numpy()) for k, v in theirs.state_dict().items()}
    assert repr(ours.load_state_dict(state)) == "<All keys matched successfully>"
    for name, value in ours.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), theirs.state_dict()[name].numpy())


INITIALISERS = (
    "uniform_(t, -1, 2)",
    "normal_(t, 1.0, 2.0)",
    "trunc_normal_(t)",
    "trunc_normal_(t, 0.0, 0.02, -2.0, 2.0)",
    "trunc_normal_(t, 0.0, 1.0, 1.5, 2.0)",
    "constant_(t, 0.3)",
    "ones_(t)",
    "zeros_(t)",
    "xavier_uniform_(t, 2.0)",
    "xavier_normal_(t)",
    "kaiming_uniform_(t, 0.1, 'fan_out')",
    "kaiming_normal_(t, mode='fan_in', nonlinearity='relu')",
    "orthogonal_(t, 1.5)",
    "sparse_(t, 0.3)",
    "eye_(t)",
    "dirac_(t.view(6, 2, 2, 2), 2)",
)


@pytest.mark.parametrize("text", INITIALISERS)
@pytest.mark.parametrize("shape", [(6, 8), (12, 4)], ids=str)
def test_init(text: str, shape: tuple[int, int]) -> None:
    """The same seed gives the same numbers, and leaves the generator in the same place."""
    found = []
    for library in (taimatsu, torch):
        library.manual_seed(3)
        t = library.empty(shape)
        eval(f"init.{text}", {"init": library.nn.init, "t": t})
        found.append((t.numpy(), library.rand(3).numpy()))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=2e-5, atol=2e-6)
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_calculate_gain() -> None:
    for name in ("linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert nn.init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert nn.init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain(
        "leaky_relu", 0.3
    )


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, float("inf")])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clip_grad_norm(norm_type: float, max_norm: float) -> None:
    found = []
    for library in (taimatsu, torch):
        params = [library.nn.Parameter(library.zeros(s)) for s in ((2, 3), (4,), (1,))]
        for i, p in enumerate(params[:2]):
            p.grad = library.tensor(image(*p.shape) + i)
        total = library.nn.utils.clip_grad_norm_(params, max_norm, norm_type)
        found.append([total.numpy(), *(p.grad.numpy() for p in params[:2])])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize("hard", [False, True])
def test_gumbel_softmax(hard: bool) -> None:
    """The same draws, and the soft sample's gradient in both forms."""
    found = []
    for library in (taimatsu, torch):
        library.manual_seed(0)
        logits = library.tensor(image(3, 5), requires_grad=True)
        out = library.nn.functional.gumbel_softmax(logits, 0.7, hard)
        (out * library.tensor(image(3, 5))).sum().backward()
        found.append((out.detach().numpy(), logits.grad.numpy()))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
