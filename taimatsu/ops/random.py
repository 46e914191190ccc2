"""Tensors of random numbers, new and in place.

The numbers are drawn on the host when the function is called, so their order is the program's.
A tensor is filled in the order of its memory, as PyTorch fills it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from taimatsu import dtypes, recorder
from taimatsu.errors import OperationError
from taimatsu.generator import Generator, default_generator, fill
from taimatsu.generator.state import registered
from taimatsu.ir.builder import Builder
from taimatsu.ir.meta import Meta, meta
from taimatsu.ir.stages import Stage, View
from taimatsu.ops.base import Operation, composite, register
from taimatsu.ops.filling import zeros_of
from taimatsu.ops.normals import FEWEST, recorded_normals
from taimatsu.shapes import contiguous_strides, elementwise_strides

registered.to_tensor = recorder.constant
registered.to_array = lambda state: (
    np.array(recorder.value(state)) if isinstance(state, recorder.TensorBase) else np.asarray(state)
)

Fill = Callable[[Generator, int, np.dtype], np.ndarray]  # (generator, count, dtype) -> numbers


def error(name: str, expected: str, got: str = "", hint: str = "", kind: type = RuntimeError):
    """An exception in the package's form; composites have no ``self.error``."""
    return OperationError.make(name, expected, got, hint, kind)


def generator_of(name: str, generator: Any) -> Generator:
    """The generator given, or the default one."""
    if generator is None:
        return default_generator
    if not isinstance(generator, Generator):
        raise error(
            name, "a torch.Generator for the argument 'generator'",
            type(generator).__name__, "make one with torch.Generator()", TypeError,
        )  # fmt: skip
    return generator


# -- new tensors -------------------------------------------------------------------------------


def size_of(name: str, given: tuple, size: Any = None) -> tuple[int, ...]:
    """``rand(2, 3)``, ``rand((2, 3))`` and ``rand(size=(2, 3))`` alike."""
    if size is not None:
        given = tuple(size) if isinstance(size, (tuple, list)) else (size,)
    elif len(given) == 1 and isinstance(given[0], (tuple, list)):
        given = tuple(given[0])
    extents = []
    for position, extent in enumerate(given):
        if isinstance(extent, (float, str)) or not hasattr(extent, "__index__"):
            raise error(
                name, f"{name}(): argument 'size' must be tuple of ints",
                f"{type(extent).__name__} at position {position + 1}", "", TypeError,
            )  # fmt: skip
        extents.append(extent.__index__())
    if any(extent < 0 for extent in extents):
        negative = next(extent for extent in extents if extent < 0)
        raise error(
            name, f"Trying to create tensor with negative dimension {negative}: {extents}",
            "", "extents are 0 or more",
        )  # fmt: skip
    return tuple(extents)


def check_device(name: str, device: Any) -> None:
    """Raises where the tensor was asked for elsewhere than on the CPU."""
    if device is not None and str(device).split(":")[0] != "cpu":
        raise error(name, "the device 'cpu'", f"{str(device)!r}", "no other device is in use")


def tensor_of(flat: np.ndarray, described: Meta) -> Any:
    """A tensor that owns ``flat``, the values in the order of memory that ``described`` says."""
    return recorder.make_tensor(described, recorder.Storage(flat))


def finished(name: str, made: Any, requires_grad: bool, out: Any) -> Any:
    """The new tensor as the caller wants it: a leaf with gradient, or written into ``out``."""
    if out is not None:
        if out._meta.dtype is not made._meta.dtype:
            raise error(
                name, f"Expected out tensor to have dtype {made._meta.dtype}",
                f"but got {out._meta.dtype}", "leave dtype= away, or give out's",
            )  # fmt: skip
        if out._meta.shape != made._meta.shape:
            return out.set_(made)
        return out._assign(made, name)
    return made.requires_grad_(True) if requires_grad else made


def drawn(
    name: str,
    kernel: str,
    how: Fill,
    shape: tuple[int, ...],
    dtype: Any,
    generator: Any,
    strides: tuple[int, ...] | None = None,
) -> Any:
    """A new floating (or complex) tensor of numbers that ``how`` draws."""
    described = meta(shape, dtype, strides or contiguous_strides(shape))
    return tensor_of(
        draw_floating(name, kernel, how, generator_of(name, generator), described), described
    )


def draw_floating(
    name: str, kernel: str, how: Fill, generator: Generator, described: Meta
) -> np.ndarray:
    """Numbers for every element; a complex one takes two, the real part first."""
    dtype = described.dtype
    if dtype.is_complex:
        parts = how(generator, 2 * described.numel, dtype.to_real().numpy)
        return parts.view(dtype.numpy)
    if not dtype.is_floating_point:
        raise error(
            name, f'"{kernel}" not implemented for \'{dtype.scalar_type}\'',
            "", "give a floating dtype such as torch.float32", NotImplementedError,
        )  # fmt: skip
    return how(generator, described.numel, dtype.numpy)


def normals(
    name: str,
    generator: Any,
    described: Meta,
    mean: float = 0.0,
    std: float = 1.0,
    in_blocks: bool | None = None,
) -> Any:
    """A new tensor of normals as PyTorch fills such a one: in blocks where it is contiguous, unless
    ``in_blocks`` says.
    """
    source = generator_of(name, generator)
    if in_blocks is None:
        in_blocks = described.contiguous
    if in_blocks and described.dtype is dtypes.float32 and described.numel >= FEWEST:
        return recorded_normals(source, described, mean, std)
    if described.dtype.is_complex:
        std = std / math.sqrt(2)  # of the real and of the imaginary part
    how = fill.normal if in_blocks else fill.normal_in_pairs

    def numbers(generator: Generator, count: int, dtype: np.dtype) -> np.ndarray:
        return how(generator, count, dtype, mean, std)

    made = draw_floating(name, "normal_kernel_cpu", numbers, source, described)
    return tensor_of(made, described)


@composite(methods=())
def rand(
    *size: Any,
    generator: Generator | None = None,
    names: Any = None,
    out: Any = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
    **shape: Any,
) -> Any:
    """Uniform numbers in [0, 1) of the given size; default dtype unless ``dtype`` says."""
    extents = size_of("rand", size, shape.pop("size", None))
    check_device("rand", device)
    made = drawn(
        "rand", "check_uniform_bounds", fill.uniform, extents, dtype_of(dtype, out), generator
    )
    return finished("rand", made, requires_grad, out)


@composite(methods=())
def randn(
    *size: Any,
    generator: Generator | None = None,
    names: Any = None,
    out: Any = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
    **shape: Any,
) -> Any:
    """Standard normal numbers of the given size; complex ones have variance 1 in all."""
    extents = size_of("randn", size, shape.pop("size", None))
    check_device("randn", device)
    kind = dtype_of(dtype, out)
    made = normals("randn", generator, meta(extents, kind))
    return finished("randn", made, requires_grad, out)


def dtype_of(dtype: Any, out: Any = None) -> dtypes.dtype:
    """The dtype asked for, else that of ``out``, else the default one."""
    if dtype is None and out is not None:
        return out._meta.dtype
    return dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)


@composite(methods=())
def randint(
    *args: Any,
    generator: Generator | None = None,
    out: Any = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
    **named: Any,
) -> Any:
    """``randint(low=0, high, size)``: integers from ``low`` to ``high - 1``, int64 by default."""
    low, high, size = _low_high_size(args, named)
    extents = size_of("randint", (), size)
    check_device("randint", device)
    kind = dtypes.int64 if dtype is None and out is None else dtype_of(dtype, out)
    made = _integers_between("randint", meta(extents, kind), low, high, generator)
    return finished("randint", made, requires_grad, out)


def _low_high_size(args: tuple, named: dict) -> tuple[int, int, Any]:
    names = ("high", "size") if len(args) + len(named) == 2 else ("low", "high", "size")
    given = dict(zip(names, args, strict=False)) if len(args) <= len(names) else {}
    given.update(named)
    if set(given) - {"low"} != {"high", "size"} or len(args) + len(named) != len(given):
        raise error(
            "randint", "randint(high, size) or randint(low, high, size)",
            f"{len(args)} positional arguments and {sorted(named)}",
            "randint() received an invalid combination of arguments", TypeError,
        )  # fmt: skip
    return _integer(given.get("low", 0)), _integer(given["high"]), given["size"]


def _integer(given: Any) -> int:
    number = given.__index__()
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError(f"[randint] Overflow when unpacking long long: {number}; use 64 bits")
    return number


def _integers_between(name: str, described: Meta, low: int, high: int, generator: Any) -> Any:
    low, high = checked_range(name, described.dtype, low, high)
    source = generator_of(name, generator)
    values = fill.integers_between(source, described.numel, described.dtype.numpy, low, high)
    return tensor_of(values, described)


def checked_range(name: str, dtype: dtypes.dtype, low: int, high: int) -> tuple[int, int]:
    """The ends of [low, high) as numbers of ``dtype`` that rounding cannot leave."""
    if low >= high:
        raise error(
            name, "random_ expects 'from' to be less than 'to'", f"from={low} >= to={high}",
            "the upper end is not drawn: the range of one number n is n, n + 1",
        )  # fmt: skip
    if dtype.is_floating_point:
        low, high = _rounded_inwards(dtype, low, high)
        least, greatest = -int(dtypes.finfo(dtype).max), int(dtypes.finfo(dtype).max)
    elif dtype is dtypes.bool_:
        least, greatest = 0, 1
    elif dtype.is_complex:
        raise error(
            name, f'"check_random_bounds" not implemented for \'{dtype.scalar_type}\'',
            "", "draw the real and the imaginary part", NotImplementedError,
        )  # fmt: skip
    else:
        least, greatest = dtypes.iinfo(dtype).min, dtypes.iinfo(dtype).max
    for word, bound in (("from", low), ("to - 1", high - 1)):
        if not least <= bound <= greatest:
            raise error(
                name, f"{word} is out of bounds for {dtype}", f"{bound}",
                f"{dtype} holds {least} to {greatest}",
            )  # fmt: skip
    return low, high


def _rounded_inwards(dtype: dtypes.dtype, low: int, high: int) -> tuple[int, int]:
    """The nearest ends that rounding to the dtype does not move out of the range."""
    digits = fill.digits(dtype.numpy)
    if (after := _as(dtype, low + 1)) < low:
        low = after + (1 << (abs(low + 1).bit_length() - digits))
    if (before := _as(dtype, high - 1)) >= high:
        high = before - (1 << (abs(high - 1).bit_length() - digits))
    return low, high


def _as(dtype: dtypes.dtype, number: int) -> int:
    rounded = np.float32(number) if dtype.itemsize == 2 else number
    return int(dtype.numpy.type(rounded))


@composite(methods=())
def randperm(
    n: int,
    *,
    generator: Generator | None = None,
    out: Any = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Any:
    """The integers from 0 to ``n - 1`` in random order, int64 by default."""
    (extent,) = size_of("randperm", (n,))
    check_device("randperm", device)
    kind = dtypes.int64 if dtype is None and out is None else dtype_of(dtype, out)
    if kind.is_floating_point:
        greatest = (1 << fill.digits(kind.numpy)) + 1
    else:
        greatest = dtypes.iinfo(kind).max + 1
    if extent > greatest:
        raise error(
            "randperm", f"n cannot be greater than {greatest} for {kind.scalar_type} type.",
            f"{extent}", "value cannot be converted to the type without overflow",
        )  # fmt: skip
    values = fill.permutation(generator_of("randperm", generator), extent, kind.numpy)
    return finished("randperm", recorder.constant(values, kind), requires_grad, out)


# -- like another tensor -----------------------------------------------------------------------


def described_like(name: str, input: Any, dtype: Any, device: Any, memory_format: Any) -> Meta:
    """What a fresh tensor like ``input`` is: its layout too, unless a memory format says so."""
    check_device(name, device)
    shape = input._meta.shape
    kind = input._meta.dtype if dtype is None else dtypes.as_dtype(dtype)
    if memory_format is not None and "contiguous" in str(memory_format):
        return meta(shape, kind)
    return meta(shape, kind, elementwise_strides([(shape, input._meta.strides)], shape))


@composite(methods=())
def rand_like(
    input: Any,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
    memory_format: Any = None,
) -> Any:
    """``rand`` with the size, dtype and layout of ``input``."""
    made = described_like("rand_like", input, dtype, device, memory_format)
    source = generator_of("rand_like", generator)
    values = draw_floating("rand_like", "check_uniform_bounds", fill.uniform, source, made)
    return finished("rand_like", tensor_of(values, made), requires_grad, None)


@composite(methods=())
def randn_like(
    input: Any,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
    memory_format: Any = None,
) -> Any:
    """``randn`` with the size, dtype and layout of ``input``."""
    made = described_like("randn_like", input, dtype, device, memory_format)
    return finished("randn_like", normals("randn_like", generator, made), requires_grad, None)


@composite(methods=())
def randint_like(
    input: Any,
    *bounds: int,
    generator: Generator | None = None,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
    memory_format: Any = None,
    **named: int,
) -> Any:
    """``randint_like(input, low=0, high)``: ``randint`` with the size and dtype of ``input``."""
    low, high, _ = _low_high_size((*bounds, ()), named)
    made = described_like("randint_like", input, dtype, device, memory_format)
    values = _integers_between("randint_like", made, low, high, generator)
    return finished("randint_like", values, requires_grad, None)


# -- in place ----------------------------------------------------------------------------------


@register
class Refill(Operation):
    """Other values in the place of ``input``: its gradient is zero, but it stays in the graph."""

    hidden = True

    def infer(self, input: Any, values: Any) -> Meta:
        return values

    def reference(self, input: np.ndarray, values: np.ndarray) -> np.ndarray:
        return values.copy()

    def lower(self, b: Builder, input: View, values: View) -> Stage:
        return b.map(values.shape, values.dtype, lambda *i: values[i])

    def gradient(self, g: Any, out: Any, input: Any, values: Any) -> Any:
        return lambda: zeros_of(input), None


def memory_of(target: Any) -> Meta:
    """The target without gaps: how the values for it are ordered."""
    shape = target._meta.shape
    strides = elementwise_strides([(shape, target._meta.strides)], shape)
    return meta(shape, target._meta.dtype, strides)


def refill(name: str, target: Any, draw: Callable[[], np.ndarray]) -> Any:
    """Writes what ``draw`` gives, in the order of the target's memory, over the target."""
    return refill_with(name, target, lambda: tensor_of(draw(), memory_of(target)))


def refill_with(name: str, target: Any, make: Callable[[], Any]) -> Any:
    """Writes the tensor that ``make`` gives over the target."""
    target._refuse_write(name.removesuffix("_"))
    source = make()
    if recorder.local.mode == recorder.GRAD and target._requires_grad:
        source = Refill.apply(target, source)
    recorder.write(target, source, name.removesuffix("_"))
    return target


def refill_floating(name: str, kernel: str, how: Fill, target: Any, generator: Any) -> Any:
    """``refill`` with numbers that ``how`` draws; the target must be floating or complex."""
    source = generator_of(name, generator)
    return refill(name, target, lambda: draw_floating(name, kernel, how, source, target._meta))


@composite("uniform_", methods=("uniform_",), torch_name="Tensor.uniform_")
def uniform_(
    input: Any, from_: float = 0, to: float = 1, *, generator: Any = None, **named: float
) -> Any:
    """Fills with uniform numbers in [from, to)."""
    low, high = named.pop("from", from_), to
    _no_more("uniform_", named)
    if input._meta.dtype.is_floating_point:
        greatest = float(dtypes.finfo(input._meta.dtype).max)
        for word, bound in (("from", low), ("to", high)):
            if not -greatest <= bound <= greatest:
                raise error("uniform_", f"{word} is out of bounds for {input.dtype}", f"{bound}")
        if high - low > greatest:
            raise error("uniform_", "uniform_ expects to-from <= the greatest", f"{high - low}")
    if low > high:
        raise error(
            "uniform_", "uniform_ expects to return a [from, to) range",
            f"but found from={low} > to={high}",
        )  # fmt: skip

    def how(source: Generator, count: int, dtype: np.dtype) -> np.ndarray:
        return fill.uniform(source, count, dtype, low, high)

    return refill_floating("uniform_", "check_uniform_bounds", how, input, generator)


def _no_more(name: str, named: dict) -> None:
    if named:
        raise TypeError(f"[{name}] {name}() got an unexpected keyword argument {min(named)!r}")


@composite("normal_", methods=("normal_",), torch_name="Tensor.normal_")
def normal_(input: Any, mean: float = 0, std: float = 1, *, generator: Any = None) -> Any:
    """Fills with normal numbers of this mean and standard deviation."""
    check_std("normal_", std)
    described, in_blocks = memory_of(input), input._meta.contiguous

    def make() -> Any:
        return normals("normal_", generator, described, mean, std, in_blocks)

    return refill_with("normal_", input, make)


def check_std(name: str, std: float) -> None:
    if not std >= 0:
        raise error(name, "normal expects std >= 0.0", f"but found std {std}")


@composite("random_", methods=("random_",), torch_name="Tensor.random_")
def random_(input: Any, *bounds: int | None, generator: Any = None, **named: int | None) -> Any:
    """``random_(from=0, to)``: fills with integers from ``from`` to ``to - 1``.

    Without bounds, with all from 0 to the dtype's greatest (floating: those it holds exactly).
    """
    if len(bounds) > 2 or set(named) - {"from", "to"}:
        raise error(
            "random_", "random_(), random_(to) or random_(from, to)",
            f"{len(bounds)} bounds and {sorted(named)}", "", TypeError,
        )  # fmt: skip
    given = dict(zip(("to",) if len(bounds) == 1 and "to" not in named else ("from", "to"), bounds,
                     strict=False)) | named  # fmt: skip
    source = generator_of("random_", generator)
    described = input._meta
    numbers = described.numel, described.dtype.numpy
    if described.dtype.is_complex:
        raise error(
            "random_", f'"random_kernel_cpu" not implemented for \'{described.dtype.scalar_type}\'',
            "", "fill the real and the imaginary part", NotImplementedError,
        )  # fmt: skip
    if not given:
        return refill("random_", input, lambda: fill.integers(source, *numbers))
    low = given.get("from") or 0
    high = given.get("to")
    if high is None:
        high = _past_greatest(described.dtype)
    low, high = checked_range("random_", described.dtype, low, high)
    return refill("random_", input, lambda: fill.integers_between(source, *numbers, low, high))


def _past_greatest(dtype: dtypes.dtype) -> int:
    if dtype.is_floating_point:
        return (1 << fill.digits(dtype.numpy)) + 1
    return 2 if dtype is dtypes.bool_ else dtypes.iinfo(dtype).max + 1


@composite("exponential_", methods=("exponential_",), torch_name="Tensor.exponential_")
def exponential_(input: Any, lambd: float = 1, *, generator: Any = None) -> Any:
    """Fills with exponential numbers of the rate ``lambd``."""
    if not input._meta.dtype.is_floating_point:
        raise continuous("exponential_", "Exponential", input)
    if not lambd > 0:
        raise error("exponential_", "exponential_ expects lambda > 0.0", f"but found {lambd}")

    def how(source: Generator, count: int, dtype: np.dtype) -> np.ndarray:
        return fill.exponential(source, count, dtype, lambd)

    return refill_floating("exponential_", "exponential_cpu", how, input, generator)


def continuous(name: str, distribution: str, input: Any) -> Exception:
    return error(
        name,
        f"{distribution} distribution is a continuous probability distribution. dtype must be a "
        f"floating point but you specified {input._meta.dtype.scalar_type}",
    )


@composite("cauchy_", methods=("cauchy_",), torch_name="Tensor.cauchy_")
def cauchy_(input: Any, median: float = 0, sigma: float = 1, *, generator: Any = None) -> Any:
    """Fills with Cauchy numbers around ``median`` with the scale ``sigma``."""
    if not sigma > 0:
        raise error("cauchy_", "cauchy_ expects sigma > 0.0", f"but found sigma={sigma}")
    if not input._meta.dtype.is_floating_point:
        raise continuous("cauchy_", "Cauchy", input)

    def how(source: Generator, count: int, dtype: np.dtype) -> np.ndarray:
        return fill.cauchy(source, count, dtype, median, sigma)

    return refill_floating("cauchy_", "cauchy_cpu", how, input, generator)


@composite("log_normal_", methods=("log_normal_",), torch_name="Tensor.log_normal_")
def log_normal_(input: Any, mean: float = 1, std: float = 2, *, generator: Any = None) -> Any:
    """Fills with exp of normal numbers of this mean and standard deviation."""
    if not std > 0:
        raise error("log_normal_", "log_normal_ expects std > 0.0", f"but found std={std}")

    def how(source: Generator, count: int, dtype: np.dtype) -> np.ndarray:
        return fill.log_normal(source, count, dtype, mean, std)

    return refill_floating("log_normal_", "log_normal_cpu", how, input, generator)


@composite("geometric_", methods=("geometric_",), torch_name="Tensor.geometric_")
def geometric_(input: Any, p: float, *, generator: Any = None) -> Any:
    """Fills with the number of trials until the first success of probability ``p``."""
    if not 0 < p < 1:
        raise error("geometric_", "geometric_ expects p to be in (0, 1)", f"but got p={p}")
    if input._meta.dtype is dtypes.bool_ or input._meta.dtype.is_complex:
        raise error(
            "geometric_", f'"geometric_cpu" not implemented for \'{input.dtype.scalar_type}\'',
            "", "use an integer or floating dtype", NotImplementedError,
        )  # fmt: skip
    source = generator_of("geometric_", generator)
    numbers = input._meta.numel, input._meta.dtype.numpy
    return refill("geometric_", input, lambda: fill.geometric(source, *numbers, p))
