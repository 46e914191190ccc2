"""What every entry of the registry owes: rules, samples, PyTorch's values and gradients.

Nothing here names an operation that follows the rules: the cases come from ``REGISTRY``, so an
operation that is added is tested, and one without rules or samples fails.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from family_samples import LAYERS, MODULES, family

import taimatsu
from taimatsu import dtypes
from taimatsu.autograd import gradgradcheck
from taimatsu.evaluate import interpreter
from taimatsu.ops import REGISTRY, Operation
from taimatsu.ops.base import Sample
from taimatsu.ops.view_base import ViewOperation
from taimatsu.recorder.base import registered

# -- the exceptions, each with its reason ------------------------------------------------------

# Composites that a sample cannot call, or whose result a sample cannot fix.
NO_SAMPLES = {
    **dict.fromkeys(
        (
            "alpha_dropout",
            "bernoulli",
            "cauchy_",
            "dropout",
            "exponential_",
            "feature_alpha_dropout",
            "feature_dropout",
            "geometric_",
            "log_normal_",
            "multinomial",
            "nn.functional.dropout1d",
            "nn.functional.dropout2d",
            "nn.functional.dropout3d",
            "normal",
            "poisson",
            "rand",
            "rand_like",
            "randint",
            "randint_like",
            "randn",
            "randn_like",
            "random_",
            "randperm",
            "uniform_",
        ),
        "draws random numbers: tests/parity/test_random.py compares the streams",
    ),
    **dict.fromkeys(
        (
            "alpha_dropout_",
            "bernoulli_",
            "celu_",
            "dropout_",
            "feature_alpha_dropout_",
            "feature_dropout_",
            "nn.functional.elu_",
            "nn.functional.hardtanh_",
            "nn.functional.leaky_relu_",
            "nn.functional.relu_",
            "normal_",
            "rrelu_",
            "selu_",
            "threshold_",
        ),
        "writes over its input, which a leaf of the gradient tests must not be",
    ),
    **dict.fromkeys(
        ("cpu", "cuda", "pin_memory", "share_memory_"),
        "moves between devices: tests/test_devices.py",
    ),
    "new_tensor": "takes data, not tensors",
    "type": "takes and gives names of types",
    "tensor_where": "where, with the arguments in the order of a method",
}
# The values are whatever the memory held, or drawn in an order that is ours.
UNSPECIFIED = {
    "empty_like": "whatever the memory held",
    "Tensor.new_empty": "whatever the memory held",
    "Tensor.new_empty_strided": "whatever the memory held",
    **dict.fromkeys(
        ("linalg.eig", "linalg.eigh", "linalg.svd", "svd"),
        "vectors are fixed up to their signs: tests/ops/test_linalg.py",
    ),
}
# Gradients in which PyTorch is wrong: its own gradcheck says so, ours agrees with the differences.
WRONG_IN_PYTORCH = {
    "as_strided_scatter": "gives the input the gradient of the part that was replaced",
}
# PyTorch refuses second derivatives here, or they are not continuous at the samples.
FIRST_ORDER_ONLY: dict[str, str] = dict.fromkeys(
    (
        "cholesky",
        "cholesky_inverse",
        "cholesky_solve",
        "linalg.cholesky",
        "linalg.cholesky_ex",
        "linalg.eigh",
        "linalg.eigvalsh",
    ),
    "reads one triangle, its gradient is that of the whole: tests/ops/test_linalg.py",
)

# Values to which PyTorch's own are accurate, where that is less than the dtype allows.
ACCURACY = dict.fromkeys(("special.bessel_j0", "special.bessel_y0", "special.bessel_y1"), 1e-7)

TOLERANCE = {
    "float64": 1e-9,
    "complex128": 1e-9,
    "float32": 3e-5,
    "complex64": 3e-5,
    "float16": 2e-3,
    "bfloat16": 2e-2,
}
COMPLEX = {"float64": "complex128"}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# -- calling a sample --------------------------------------------------------------------------


def public_name(entry: Any) -> str:
    """The name to call, in either library; "" for what has none."""
    if entry.torch_name:
        return entry.torch_name
    if entry.functions:
        return entry.functions[0]
    return f"Tensor.{entry.methods[0]}" if entry.methods else ""


def find(library: Any, name: str) -> Callable:
    for part in name.split("."):
        library = getattr(library, part)
    return library


def samples_of(entry: Any) -> list[Sample]:
    return list(entry.samples()) if entry.samples is not None else []


def kind_of(array: np.ndarray, floating: str) -> str:
    if array.dtype.kind == "f":
        return floating
    return COMPLEX.get(floating, "complex64") if array.dtype.kind == "c" else array.dtype.name


def given(library: Any, value: Any, floating: str, leaves: list | None = None) -> Any:
    """A sample's argument for a library; with ``leaves``, tensors that require gradients."""
    if isinstance(value, np.ndarray):
        kind = getattr(library, kind_of(value, floating))
        tensor = library.from_numpy(np.array(value, order="C")).to(kind)
        tensor = relaid(library, tensor, value)
        if leaves is not None and value.dtype.kind in "fc":
            leaves.append(tensor.requires_grad_(True))
        return tensor
    if isinstance(value, dtypes.dtype):
        return getattr(library, value.name)
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)([given(library, v, floating, leaves) for v in value])
    return value


def relaid(library: Any, tensor: Any, array: np.ndarray) -> Any:
    """The tensor in the array's order of dimensions, where that is not row-major."""
    if array.flags.c_contiguous or array.ndim < 2:
        return tensor
    order = sorted(range(array.ndim), key=lambda d: -array.strides[d])
    back = tuple(int(d) for d in np.argsort(order))
    return tensor.permute(tuple(order)).contiguous().permute(back).detach()


def call(library: Any, name: str, sample: Sample, floating: str, leaves: list | None = None) -> Any:
    args = [given(library, a, floating, leaves) for a in sample.args]
    kwargs = {k: given(library, v, floating, leaves) for k, v in sample.kwargs.items()}
    library.manual_seed(0)
    return find(library, name)(*args, **kwargs)


def flat(made: Any) -> Iterator[Any]:
    """The parts of a result that are not sequences."""
    if isinstance(made, (tuple, list)) and type(made).__name__ != "Size":
        for part in made:
            yield from flat(part)
    else:
        yield made


def values(tensor: Any) -> np.ndarray:
    tensor = tensor.detach()
    if str(tensor.dtype) == "torch.bfloat16":
        tensor = tensor.float()
    if hasattr(tensor, "resolve_conj"):
        tensor = tensor.resolve_conj()
    return np.asarray(tensor.numpy(force=True))


def assert_same(mine: Any, wanted: Any, compare_values: bool, accuracy: float) -> None:
    if not hasattr(wanted, "detach"):
        if isinstance(wanted, (bool, int, float, complex, str)):
            assert mine == pytest.approx(wanted) if not isinstance(wanted, str) else mine == wanted
        else:
            assert str(mine) == str(wanted)
        return
    assert str(mine.dtype) == str(wanted.dtype)
    assert tuple(mine.shape) == tuple(wanted.shape)
    if compare_values:
        tolerance = max(TOLERANCE.get(str(wanted.dtype).removeprefix("torch."), 0), accuracy)
        np.testing.assert_allclose(
            values(mine), values(wanted), rtol=tolerance, atol=tolerance, equal_nan=True
        )


# -- every entry has its rules -----------------------------------------------------------------

ENTRIES = sorted(REGISTRY.items())
OPERATIONS = [pytest.param(e, id=name) for name, e in ENTRIES if isinstance(e, Operation)]
COMPOSITES = [name for name, e in ENTRIES if not isinstance(e, Operation)]
SAMPLED = [pytest.param(e, id=name) for name, e in ENTRIES if samples_of(e) and public_name(e)]


def overrides(operation: Operation, rule: str, base: type) -> bool:
    return getattr(type(operation), rule) is not getattr(base, rule)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operation_has_its_rules(operation: Operation) -> None:
    missing = []
    if isinstance(operation, ViewOperation):
        if operation.name != "copy_slices" and not overrides(operation, "layout", ViewOperation):
            missing.append("layout")
    else:
        if not overrides(operation, "infer", Operation):
            missing.append("infer")
        computes = ("reference", "evaluate")
        if not any(overrides(operation, rule, Operation) for rule in computes):
            missing.append("reference")
    if operation.differentiable and not overrides(operation, "gradient", Operation):
        missing.append("gradient (or differentiable = False)")
    if not operation.hidden and not samples_of(operation) and operation.name not in NO_SAMPLES:
        missing.append("samples")
    assert not missing, f"{operation.name} lacks {', '.join(missing)}"


@pytest.mark.parametrize("name", COMPOSITES)
def test_composite_has_samples(name: str) -> None:
    assert samples_of(REGISTRY[name]) or name in NO_SAMPLES, f"{name} has no samples"


def test_exceptions_are_needed() -> None:
    """An exception for an operation that has gone, or has samples now, would hide the next gap."""
    for name in NO_SAMPLES:
        assert name in REGISTRY, name
        assert not samples_of(REGISTRY[name]), name


# -- values and gradients are PyTorch's --------------------------------------------------------


@pytest.mark.parametrize("entry", SAMPLED)
def test_agrees_with_pytorch(torch: Any, entry: Any) -> None:
    name = public_name(entry)
    for sample in samples_of(entry):
        for floating in sample.dtypes:
            wanted = list(flat(call(torch, name, sample, floating)))
            mine = list(flat(call(taimatsu, name, sample, floating)))
            assert len(mine) == len(wanted), sample
            try:
                for a, b in zip(mine, wanted, strict=True):
                    assert_same(a, b, name not in UNSPECIFIED, ACCURACY.get(name, 0))
            except AssertionError as error:
                error.add_note(f"{name} {sample!r} in {floating}")
                raise


def weighted(library: Any, made: Any) -> Any:
    """One real number in which every differentiable result takes part, with unequal weights."""
    total = None
    for k, part in enumerate(flat(made)):
        if not getattr(part, "requires_grad", False):
            continue
        if part.is_complex():
            part = library.view_as_real(
                part.resolve_conj() if hasattr(part, "resolve_conj") else part
            )
        count = int(np.prod(tuple(part.shape)))
        weight = np.cos(np.arange(count) + k).reshape(tuple(part.shape))
        term = (part * library.from_numpy(weight).to(part.dtype)).sum()
        total = term if total is None else total + term
    return total


def differentiable_samples(entry: Any) -> list[Sample]:
    return [s for s in samples_of(entry) if s.grad] if entry.differentiable else []


DIFFERENTIABLE = [
    pytest.param(e, id=name) for name, e in ENTRIES if public_name(e) and differentiable_samples(e)
]


def gradients(library: Any, name: str, sample: Sample, only_first: bool) -> list | None:
    """The inputs' gradients of the ``weighted`` results; None if nothing requires gradients."""
    leaves: list = []
    args = [given(library, a, "float64", leaves) for a in sample.args]
    kwargs = {k: given(library, v, "float64", leaves) for k, v in sample.kwargs.items()}
    for leaf in leaves[1:] if only_first else ():
        leaf.requires_grad_(False)
    library.manual_seed(0)
    total = weighted(library, find(library, name)(*args, **kwargs))
    if total is None:
        return None
    total.backward()
    return [x.grad for x in leaves]


def torch_gradients(torch: Any, name: str, sample: Sample) -> tuple[Any, bool] | None:
    """PyTorch's gradients, of the first input alone where it takes only that; None: it refuses."""
    for only_first in (False, True):
        try:
            return gradients(torch, name, sample, only_first), only_first
        except RuntimeError:
            continue
    return None


@pytest.mark.parametrize("entry", DIFFERENTIABLE)
def test_gradients_agree_with_pytorch(torch: Any, entry: Any) -> None:
    name = public_name(entry)
    if name in UNSPECIFIED or name in WRONG_IN_PYTORCH:
        pytest.skip(UNSPECIFIED.get(name) or WRONG_IN_PYTORCH[name])
    for sample in differentiable_samples(entry):
        found = torch_gradients(torch, name, sample)
        if found is None:
            continue
        wanted, only_first = found
        mine = gradients(taimatsu, name, sample, only_first)
        assert (mine is None) == (wanted is None), f"{name} {sample!r}: requires_grad differs"
        for a, b in zip(mine or (), wanted or (), strict=True):
            try:
                assert_gradient(a, b)
            except AssertionError as error:
                error.add_note(f"gradient of {name} {sample!r}")
                raise


def assert_gradient(mine: Any, wanted: Any) -> None:
    """No gradient and zeros are alike. PyTorch rounds some constants to float32."""
    if wanted is None or mine is None:
        present = mine if wanted is None else wanted
        assert present is None or not np.any(values(present)), "one gradient is missing"
        return
    assert str(mine.dtype) == str(wanted.dtype)
    assert tuple(mine.shape) == tuple(wanted.shape)
    np.testing.assert_allclose(values(mine), values(wanted), rtol=1e-7, atol=1e-7)


def small_sample(entry: Any) -> Sample | None:
    """The first differentiable sample with few numbers, for second derivatives."""
    for sample in differentiable_samples(entry):
        sizes = [
            x.size
            for x in flat([*sample.args, *sample.kwargs.values()])
            if isinstance(x, np.ndarray)
        ]
        if 0 < sum(sizes) <= 200 and min(sizes) > 0:
            return sample
    return None


# The derivatives of the families are checked with all samples of theirs; see family_samples.
TWICE = [
    pytest.param(entry, id=name)
    for name, entry in ENTRIES
    if public_name(entry) and family(entry) not in (*MODULES, *LAYERS) and small_sample(entry)
]
LONG = {"nn.functional.multi_head_attention_forward"}  # twenty seconds of compilation


@pytest.mark.parametrize("entry", TWICE)
def test_second_derivatives(entry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name = public_name(entry)
    if name in FIRST_ORDER_ONLY:
        pytest.skip(FIRST_ORDER_ONLY[name])
    if name in LONG:
        monkeypatch.setattr(registered, "execute", interpreter.execute)
    sample = small_sample(entry)
    leaves: list = []
    args = [given(taimatsu, a, "float64", leaves) for a in sample.args]
    kwargs = {k: given(taimatsu, v, "float64", leaves) for k, v in sample.kwargs.items()}

    def function(*_: Any) -> tuple:
        taimatsu.manual_seed(0)
        made = flat(find(taimatsu, name)(*args, **kwargs))
        return tuple(x for x in made if getattr(x, "requires_grad", False))

    if not leaves or not function():
        pytest.skip("no gradient flows here")
    gradgradcheck(function, tuple(leaves), fast_mode=True, atol=1e-4)


def test_views_in_place_take_the_layout() -> None:
    x = taimatsu.arange(6.0).view(2, 3)
    memory = x.data_ptr()
    assert x.t_() is x
    assert x.unsqueeze_(0).stride() == (3, 1, 3)
    assert x.data_ptr() == memory
    w = taimatsu.ones(2, 3, requires_grad=True)
    y = (w * 2).transpose_(0, 1)
    assert y.grad_fn.name() == "TransposeBackward0"
    (y * taimatsu.arange(6.0).view(3, 2)).sum().backward()
    assert w.grad.tolist() == [[0.0, 4.0, 8.0], [2.0, 6.0, 10.0]]


def test_public_functions_are_pytorchs(torch: Any) -> None:
    from taimatsu.bindings import FUNCTIONS

    for module, functions in FUNCTIONS.items():
        theirs = torch
        for part in filter(None, module.split(".")):
            theirs = getattr(theirs, part)
        assert not [name for name in functions if not hasattr(theirs, name)], module
