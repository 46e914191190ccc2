"""The operation: one class says what it means, everything else is derived from the registry.

An operation has a shape rule (``infer``), a NumPy reference (``reference``), a gradient in
differentiable tensor operations (``gradient``) and samples. ``taimatsu.tensor`` derives methods
and public functions from the registry, ``tests`` derive their cases from the samples.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from taimatsu import recorder
from taimatsu.errors import OperationError
from taimatsu.ir.expression import SIZES
from taimatsu.ir.meta import Meta


class Registry(dict):
    """Operations and composites by name. A building block (``hidden``) is entered as ``(name)``,
    since it may bear the name of the public function made of it; plain look-ups find it too.
    """

    def __missing__(self, name: str) -> Operation | Composite:
        if name.startswith("("):
            raise KeyError(name)
        return self[f"({name})"]


REGISTRY: dict[str, Operation | Composite] = Registry()


class Sample:
    """One call for the generated tests: NumPy arrays among the arguments become tensors.

    ``grad=False`` leaves the sample out of gradient tests (points where the function has a kink);
    ``dtypes`` says which dtypes the floating arrays are tried in.
    """

    def __init__(
        self,
        *args: Any,
        grad: bool = True,
        dtypes: tuple[str, ...] = ("float32",),
        **kwargs: Any,
    ) -> None:
        self.args = args
        self.kwargs = kwargs
        self.grad = grad
        self.dtypes = dtypes

    def __repr__(self) -> str:
        def short(v: Any) -> str:
            return f"{v.dtype}{list(v.shape)}" if isinstance(v, np.ndarray) else repr(v)

        parts = [short(a) for a in self.args]
        parts += [f"{k}={short(v)}" for k, v in self.kwargs.items()]
        return f"Sample({', '.join(parts)})"


def array(*shape: int, low: float = -2.0, high: float = 2.0, seed: int = 0) -> np.ndarray:
    """A float64 array for samples: fixed by its arguments, no two values equal."""
    rng = np.random.default_rng([seed, *shape])
    return rng.uniform(low, high, shape)


def integers(*shape: int, low: int = 0, high: int = 10, seed: int = 0) -> np.ndarray:
    """An int64 array for samples."""
    return np.random.default_rng([seed, *shape]).integers(low, high, shape)


def booleans(*shape: int, seed: int = 0) -> np.ndarray:
    """A bool array for samples."""
    return np.random.default_rng([seed, *shape]).random(shape) < 0.5


class Operation:
    """Base of all operations. A subclass is instantiated once and registered by its name."""

    name: ClassVar[str] = ""  # default: the class name in snake case
    backward_name: ClassVar[str] = ""  # what grad_fn shows; default: AddBackward0 for Add
    functions: ClassVar[tuple[str, ...]] = ()  # public names (default: the name)
    methods: ClassVar[tuple[str, ...] | None] = None  # Tensor method names; None = plain functions
    inplace: ClassVar[bool] = False  # derive the method name_ that writes the result over input 0
    torch_name: ClassVar[str] = ""  # what the parity test calls; default: the first public name
    # Values that gradient() needs, by parameter name of infer(), "out" (all results) or
    # "out[1]" (one of several). A dict gives them per
    # input whose gradient is wanted: {"input": ("other",), "other": ("input",)}.
    saves: ClassVar[tuple[str, ...] | dict[str, tuple[str, ...]]] = ()
    outputs: ClassVar[int] = 1  # 0: as many as infer() returns
    view: ClassVar[bool] = False  # the result shares the input's storage
    differentiable: ClassVar[bool] = True
    checked: ClassVar[bool] = False  # check() looks at concrete index values on each call
    static_scalars: ClassVar[bool] = False  # Python numbers among the inputs are part of the key
    hidden: ClassVar[bool] = False  # no public name: a building block of other operations
    samples: ClassVar[Callable[[], Iterator[Sample]] | None] = None

    def __init_subclass__(cls, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if abstract:
            return
        if "name" not in cls.__dict__:
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        if "backward_name" not in cls.__dict__:
            cls.backward_name = cls.__name__ + "Backward0"
        if not cls.functions and not cls.hidden:
            cls.functions = (cls.name,)
        if cls.methods is None:
            cls.methods = tuple(f for f in cls.functions if "." not in f)
        if "parameters" not in cls.__dict__:
            cls.parameters = parameter_names(cls.infer)

    parameters: ClassVar[tuple[str, ...]] = ()  # names of the inputs, read from infer()

    # -- what a subclass writes ------------------------------------------------------------

    def infer(self, *inputs: Any, **attributes: Any) -> Meta | tuple[Meta, ...]:
        """The results' descriptions from the inputs'; raises for wrong shapes and dtypes.

        Positional parameters are the inputs (``Meta``, a Python number, or None where an optional
        tensor is absent), keyword-only ones the attributes. Must not depend on the *value* of a
        Python number unless ``static_scalars``.
        """
        raise NotImplementedError

    def reference(self, *inputs: Any, **attributes: Any) -> Any:
        """The values, from NumPy arrays (Python numbers, None) to arrays. Never writes inputs."""
        raise NotImplementedError

    def gradient(self, g: Any, out: Any, *inputs: Any, **attributes: Any) -> Any:
        """Gradients for the inputs, in tensor operations, so that they are differentiable again.

        One value for one input, else a tuple in the order of the inputs; an entry may be a
        callable (computed only where that input needs its gradient) or None. What ``saves`` does
        not name comes as a ``Meta``. The engine sums over broadcast dimensions and casts to the
        input's dtype, so elementwise rules need not. With several outputs, ``g`` and ``out`` are
        tuples, absent gradients None.
        """
        raise NotImplementedError

    # lower(b, *inputs, **attributes): the results as stages of the builder (ir/builder.py).
    lower: ClassVar[Callable[..., Any] | None] = None

    def check(self, *inputs: Any, **attributes: Any) -> None:
        """With ``checked``: looks at index arrays (NumPy, None where not concrete yet)."""

    # -- what callers use ------------------------------------------------------------------

    def __call__(self, *inputs: Any) -> Any:
        """The public call. Operations with attributes override it and end in ``self.apply``."""
        return recorder.apply(self, inputs)

    def apply(self, *inputs: Any, **attributes: Any) -> Any:
        """Records the operation: tensors (or Python numbers, None) and hashable attributes."""
        return recorder.apply(self, inputs, attributes)

    def error(self, expected: str, got: str = "", hint: str = "", kind: type = RuntimeError):
        """An exception that says what was expected, what came and how to mend it."""
        return OperationError.make(self.name, expected, got, hint, kind)

    def evaluate(self, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> tuple:
        """Reference values as a tuple of arrays of the inferred dtypes (see the evaluator)."""
        result = self.reference(*inputs, **attributes)
        return result if isinstance(result, tuple) else (result,)

    def stages(self, b: Any, inputs: tuple, attributes: dict, metas: tuple, outs: tuple) -> Any:
        """The results as stages of the builder ``b`` (a tuple), or None: the reference serves.

        ``inputs`` are views, expressions (Python numbers, read at launch), numbers that are part of
        the program (booleans, ``static_scalars``, complex ones) and None; ``metas`` and ``outs``
        describe inputs and results.
        """
        fixed = any(isinstance(x, (int, float, complex)) for x in inputs)
        if fixed and not self.static_scalars:
            return None
        described = [m for m in (*metas, *outs) if m is not None]
        if self.lower is None or any(m.dtype.name not in SIZES for m in described):
            return None
        made = self.lower(b, *inputs, **attributes)
        return made if made is None or isinstance(made, tuple) else (made,)

    def __repr__(self) -> str:
        return f"<operation {self.name}>"


def parameter_names(infer: Callable) -> tuple[str, ...]:
    code = infer.__code__
    names = code.co_varnames[1 : code.co_argcount]
    if code.co_flags & 0x04:  # *inputs: the names are positions
        return (*names, "*")
    return names


class Composite:
    """A public function made of operations: no rule of its own, but samples and public names."""

    def __init__(
        self,
        function: Callable,
        functions: tuple[str, ...],
        methods: tuple[str, ...],
        inplace: bool,
        torch_name: str,
        samples: Callable[[], Iterator[Sample]] | None,
    ) -> None:
        self.function = function
        self.name = function.__name__
        self.functions = functions
        self.methods = methods
        self.inplace = inplace
        self.torch_name = torch_name
        self.samples = samples
        self.differentiable = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<composite {self.name}>"


def register(operation: type[Operation]) -> Any:
    """Class decorator: makes the one instance and enters it under its name."""
    instance = operation()
    key = f"({instance.name})" if instance.hidden else instance.name
    if key in REGISTRY:
        raise ValueError(f"two operations are called {key!r}")
    REGISTRY[key] = instance
    return instance


def composite(
    *functions: str,
    methods: tuple[str, ...] | None = None,
    inplace: bool = False,
    torch_name: str = "",
    samples: Callable[[], Iterator[Sample]] | None = None,
) -> Callable[[Callable], Composite]:
    """Registers a function written with operations; default names: the function's own."""

    def enter(function: Callable) -> Composite:
        names = functions or (function.__name__.rstrip("_"),)
        made_methods = tuple(f for f in names if "." not in f) if methods is None else methods
        # What PyTorch has as a Tensor method only is no public function here either.
        public = () if torch_name.startswith("Tensor.") else names
        made = Composite(function, public, made_methods, inplace, torch_name or names[0], samples)
        if names[0] in REGISTRY:
            raise ValueError(f"two operations are called {names[0]!r}")
        made.name = names[0].rsplit(".", 1)[-1]
        REGISTRY[names[0]] = made
        return made

    return enter
