"""Element types, promotion between them, and their limits.

The objects here are what a ported program calls ``torch.float32`` and the like. The names
``float``, ``int`` and ``bool`` would shadow Python's own inside this module, so they live in
``ALIASES`` (and are importable from here all the same); here ``bool_`` is the boolean type.
"""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

BOOL, INTEGER, FLOAT, COMPLEX = range(4)  # the categories, in order of promotion

_by_name: dict[str, dtype] = {}


class dtype:  # noqa: N801 (PyTorch's name)
    """An element type. There is one object per type, so ``is`` and ``==`` agree.

    Attributes: ``name`` ("float32"), ``numpy`` (the ``np.dtype``), ``itemsize`` in bytes,
    ``category`` (0 bool, 1 integer, 2 float, 3 complex), ``is_floating_point``, ``is_complex``,
    ``is_signed``, ``char`` (NumPy's one-letter code, "E" for bfloat16), ``abbr`` ("f32") and
    ``scalar_type`` ("Float", as in ``torch.FloatTensor`` and PyTorch's messages).
    """

    __slots__ = (
        "abbr",
        "category",
        "char",
        "is_complex",
        "is_floating_point",
        "is_signed",
        "itemsize",
        "name",
        "numpy",
        "scalar_type",
    )

    name: str
    numpy: np.dtype
    itemsize: builtins.int
    category: builtins.int
    is_floating_point: builtins.bool
    is_complex: builtins.bool
    is_signed: builtins.bool
    char: str
    abbr: str
    scalar_type: str

    def __new__(cls, *args: Any, **kwargs: Any) -> dtype:
        raise TypeError("cannot create 'torch.dtype' instances")

    def __getattr__(self, name: str) -> Any:
        # Reached only while the slot is empty: NumPy learns bfloat16 when it is first needed.
        if name == "numpy":
            self.numpy = _load_bfloat16()
            return self.numpy
        raise AttributeError(f"'torch.dtype' object has no attribute {name!r}")

    def to_real(self) -> dtype:
        """The type of the real part: ``complex64.to_real()`` is ``float32``."""
        return _REAL.get(self, self)

    def to_complex(self) -> dtype:
        """The complex type with this real part; float16 gives complex64 (NumPy's smallest).

        Raises RuntimeError for integers and booleans.
        """
        if self.is_complex:
            return self
        if not self.is_floating_point:
            raise RuntimeError(f"Unknown Complex ScalarType for {self.scalar_type}")
        return complex128 if self is float64 else complex64

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> tuple:
        return by_name, (self.name,)

    def __copy__(self) -> dtype:
        return self

    def __deepcopy__(self, memo: dict) -> dtype:
        return self


def by_name(name: str) -> dtype:
    """The dtype of a name (``"float32"``); KeyError for others."""
    return _by_name[name]


def _load_bfloat16() -> np.dtype:
    try:
        import ml_dtypes
    except ImportError:
        raise ImportError(
            "bfloat16 values need the package ml_dtypes; pip install taimatsu[bfloat16]"
        ) from None
    loaded: np.dtype = np.dtype(ml_dtypes.bfloat16)
    return loaded


def _make(name: str, category: builtins.int, abbr: str, scalar_type: str) -> dtype:
    made = object.__new__(dtype)
    made.name = name
    made.category = category
    made.is_floating_point = category == FLOAT
    made.is_complex = category == COMPLEX
    made.abbr = abbr
    made.scalar_type = scalar_type
    if name == "bfloat16":
        made.itemsize = 2
        made.char = "E"
    else:
        made.numpy = np.dtype(name)
        made.itemsize = made.numpy.itemsize
        made.char = made.numpy.char
    made.is_signed = category >= FLOAT or (category == INTEGER and name[0] == "i")
    _by_name[name] = made
    return made


bool_ = _make("bool", BOOL, "b8", "Bool")
uint8 = _make("uint8", INTEGER, "u8", "Byte")
int8 = _make("int8", INTEGER, "i8", "Char")
int16 = _make("int16", INTEGER, "i16", "Short")
int32 = _make("int32", INTEGER, "i32", "Int")
int64 = _make("int64", INTEGER, "i64", "Long")
uint16 = _make("uint16", INTEGER, "u16", "UInt16")
uint32 = _make("uint32", INTEGER, "u32", "UInt32")
uint64 = _make("uint64", INTEGER, "u64", "UInt64")
float16 = _make("float16", FLOAT, "f16", "Half")
bfloat16 = _make("bfloat16", FLOAT, "bf16", "BFloat16")
float32 = _make("float32", FLOAT, "f32", "Float")
float64 = _make("float64", FLOAT, "f64", "Double")
complex64 = _make("complex64", COMPLEX, "c64", "ComplexFloat")
complex128 = _make("complex128", COMPLEX, "c128", "ComplexDouble")

short = int16
long = int64
half = float16
double = float64
cfloat = complex64
cdouble = complex128

ALIASES: dict[str, dtype] = {
    "bool": bool_,
    "short": int16,
    "int": int32,
    "long": int64,
    "half": float16,
    "float": float32,
    "double": float64,
    "cfloat": complex64,
    "cdouble": complex128,
}
INTEGERS = (uint8, int8, int16, int32, int64)
FLOATS = (float16, bfloat16, float32, float64)
COMPLEXES = (complex64, complex128)
ALL = (bool_, *INTEGERS, *FLOATS, *COMPLEXES)
# Mostly for storage, as in PyTorch: they promote with floating-point types only.
BAREBONES = (uint16, uint32, uint64)

_REAL = {complex64: float32, complex128: float64}


def __getattr__(name: str) -> dtype:
    try:
        return ALIASES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


# -- conversion ------------------------------------------------------------------------------

_from_numpy = {d.numpy: d for d in (*ALL, *BAREBONES) if d is not bfloat16}
_SUPPORTED = (
    "float64, float32, float16, complex64, complex128, int64, int32, int16, int8, "
    "uint64, uint32, uint16, uint8, and bool"
)


def from_numpy(given: np.dtype | type | str) -> dtype:
    """The dtype of NumPy arrays with this ``np.dtype``.

    TypeError for types without counterpart (object, str), ValueError for a foreign byte order.
    """
    given = np.dtype(given)
    found = _from_numpy.get(given)
    if found is not None:
        return found
    if given.name == "bfloat16":
        return bfloat16
    if not given.isnative:
        raise ValueError(
            "given numpy array has byte order different from the native byte order. Conversion "
            "between byte orders is currently not supported; "
            "array.astype(array.dtype.newbyteorder('=')) converts it"
        )
    # NumPy has several objects for integers of one size (long and long long).
    same_size = _by_name.get(given.name) if given.kind in "iu" else None
    if same_size is not None:
        return same_size
    raise TypeError(
        f"can't convert np.ndarray of type {given.type.__module__}.{given.type.__name__}. "
        f"The only supported types are: {_SUPPORTED}. "
        "array.astype(np.float32) converts numbers; text needs numbers in its place first"
    )


_OF_TYPE: dict[Any, dtype] = {
    builtins.bool: bool_,
    builtins.int: int64,
    builtins.float: float64,
    builtins.complex: complex128,
}


def as_dtype(given: dtype | type | None, default: dtype | None = None) -> dtype:
    """What a ``dtype=`` argument means: a dtype, a Python type (``float`` is float64), None."""
    if type(given) is dtype:
        return given
    if given is None:
        return default if default is not None else get_default_dtype()
    found = _OF_TYPE.get(given)
    if found is None:
        kind = type(given).__name__
        named = given if isinstance(given, str) else getattr(given, "__name__", "")
        meant = _by_name.get(named.removeprefix("torch."), float32)
        raise TypeError(
            f"argument 'dtype' must be torch.dtype, not {kind}; got {given!r}; write {meant!r}"
        )
    return found


def of_python(given: Any) -> dtype:
    """The dtype a Python number (or number type) gets as a tensor of its own.

    bool, int64, the default dtype for floats, the complex type of the default for complex.
    NumPy scalars keep their own type. TypeError for anything else.
    """
    kind = given if isinstance(given, type) else type(given)
    if issubclass(kind, np.generic):
        return from_numpy(np.dtype(kind))
    if issubclass(kind, builtins.bool):
        return bool_
    if issubclass(kind, builtins.int):
        return int64
    if issubclass(kind, builtins.float):
        return get_default_dtype()
    if issubclass(kind, builtins.complex):
        return get_default_dtype().to_complex()
    raise TypeError(f"expected a Python number (bool, int, float, complex); got {kind.__name__}")


# -- promotion -------------------------------------------------------------------------------


def _promote(a: dtype, b: dtype) -> dtype | None:
    """The smallest type holding both categories, widened within a category; None: unsupported."""
    if a is b:
        return a
    if a.category > b.category:
        a, b = b, a
    if a in BAREBONES or b in BAREBONES:
        return b if b.is_floating_point else None
    if b.is_complex:
        return complex128 if a is float64 or a is complex128 or b is complex128 else complex64
    if a.category < b.category:
        return b
    if a.itemsize != b.itemsize:
        return a if a.itemsize > b.itemsize else b
    return float32 if a.is_floating_point else int16  # float16 and bfloat16; uint8 and int8


_promotions: dict[tuple[dtype, dtype], dtype | None] = {
    (a, b): _promote(a, b) for a in (*ALL, *BAREBONES) for b in (*ALL, *BAREBONES)
}


def promote_types(type1: dtype, type2: dtype) -> dtype:
    """The smallest dtype that both convert to without leaving their category.

    RuntimeError for uint16, uint32 and uint64 with other integers, bool and complex.
    """
    found = _promotions[type1, type2]
    if found is None:
        raise RuntimeError(
            "Promotion for uint16, uint32, uint64 types is not supported, attempted to promote "
            f"{type1.scalar_type} and {type2.scalar_type}"
        )
    return found


def result_type(*operands: Any) -> dtype:
    """The dtype in which an operation on these operands computes.

    Operands are descriptions of tensors (``dtype``, ``ndim``, ``wrapped``) or Python numbers.
    Three priorities: tensors with dimensions, zero-dimensional tensors, numbers. A lower one
    changes the result only when its category is higher, and then as little as possible.
    """
    with_dims: dtype | None = None
    zero_dim: dtype | None = None
    numbers: dtype | None = None
    for operand in operands:
        kind = getattr(operand, "dtype", None)
        if type(kind) is not dtype:
            numbers = _widen(numbers, _of_number(operand))
        elif operand.ndim > 0:
            with_dims = _widen(with_dims, kind)
        elif getattr(operand, "wrapped", False):
            numbers = _widen(numbers, _number_of_category(kind.category))
        else:
            zero_dim = _widen(zero_dim, kind)
    found = _outrank(with_dims, _outrank(zero_dim, numbers))
    if found is None:
        raise TypeError("expected at least one tensor or number; got no operands")
    return found


def _widen(a: dtype | None, b: dtype) -> dtype:
    return b if a is None or a is b else promote_types(a, b)


def _of_number(number: Any) -> dtype:
    if isinstance(number, np.generic):  # stands for a Python number of its category
        return _number_of_category(from_numpy(number.dtype).category)
    return of_python(number)


def _number_of_category(category: builtins.int) -> dtype:
    if category <= INTEGER:
        return int64 if category else bool_
    default = get_default_dtype()
    return default if category == FLOAT else default.to_complex()


def _outrank(high: dtype | None, low: dtype | None) -> dtype | None:
    """``high`` unless ``low`` has a higher category."""
    if high is None or low is None:
        return high if low is None else low
    if low.category <= high.category:
        return high
    if high.is_floating_point:  # low is complex
        return high.to_complex()
    return low if low.category >= FLOAT else promote_types(high, low)


def can_cast(from_: dtype, to: dtype) -> builtins.bool:
    """Whether a result of ``from_`` may be written into a tensor of ``to``.

    Not from complex to real, not from floating point to integers, not from numbers to bool.
    """
    return from_.category <= to.category


# -- the default dtype -----------------------------------------------------------------------

_default: list[dtype] = [float32]  # one assignment to one cell: readers never see half of it


def get_default_dtype() -> dtype:
    """The dtype of floating-point tensors made without one; float32 at first."""
    return _default[0]


def set_default_dtype(d: dtype) -> None:
    """Sets it for the whole process. TypeError unless ``d`` is a floating-point dtype."""
    if type(d) is not dtype:
        raise TypeError(
            "invalid dtype object: only floating-point types are supported as the default type"
        )
    if not d.is_floating_point:
        raise TypeError("only floating-point types are supported as the default type")
    _default[0] = d


# -- limits ----------------------------------------------------------------------------------

# mantissa bits stored, largest exponent, decimal digits that survive
_FORMATS = {
    float16: (10, 15, 3),
    bfloat16: (7, 127, 2),
    float32: (23, 127, 6),
    float64: (52, 1023, 15),
}


class _TypeInfo:
    """What ``finfo`` and ``iinfo`` share: equality by dtype."""

    __slots__ = ("bits", "dtype")

    bits: builtins.int
    dtype: str

    def __eq__(self, other: object) -> builtins.bool:
        return type(other) is type(self) and other.dtype == self.dtype

    def __hash__(self) -> builtins.int:
        return hash((type(self), self.dtype))


def _limit_argument(name: str, given: Any) -> dtype:
    if type(given) is not dtype:
        kind = type(given).__name__
        raise TypeError(f"{name}(): argument 'type' (position 1) must be torch.dtype, not {kind}")
    return given


class finfo(_TypeInfo):  # noqa: N801 (PyTorch's name)
    """Limits of a floating-point dtype (of the real part, for complex); default dtype if none.

    Attributes: ``bits``, ``eps``, ``max``, ``min``, ``smallest_normal``, ``tiny``,
    ``resolution`` (Python floats) and ``dtype`` (its name). TypeError for other dtypes.
    """

    __slots__ = ("eps", "max", "min", "resolution", "smallest_normal", "tiny")

    def __init__(self, type: dtype | None = None) -> None:
        given = get_default_dtype() if type is None else _limit_argument("finfo", type)
        real = given.to_real()
        if not real.is_floating_point:
            raise TypeError(
                "torch.finfo() requires a floating point input type. "
                "Use torch.iinfo to handle 'torch.finfo'"
            )
        mantissa, exponent, digits = _FORMATS[real]
        self.bits = real.itemsize * 8
        self.dtype = real.name
        self.eps = 2.0**-mantissa
        self.max = (2.0 - 2.0**-mantissa) * 2.0**exponent
        self.min = -self.max
        self.smallest_normal = 2.0 ** (1 - exponent)
        self.tiny = self.smallest_normal
        self.resolution = builtins.float(f"1e-{digits}")

    def __repr__(self) -> str:
        return (
            f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, "
            f"eps={self.eps:g}, smallest_normal={self.smallest_normal:g}, tiny={self.tiny:g}, "
            f"dtype={self.dtype})"
        )


class iinfo(_TypeInfo):  # noqa: N801 (PyTorch's name)
    """Limits of an integer dtype: ``bits``, ``min``, ``max``, ``dtype``. TypeError for others."""

    __slots__ = ("max", "min")

    def __init__(self, type: dtype) -> None:
        given = _limit_argument("iinfo", type)
        if given.category >= FLOAT:
            raise TypeError(
                "torch.iinfo() requires an integer input type. "
                "Use torch.finfo to handle 'torch.iinfo'"
            )
        if given is bool_:
            raise TypeError("torch.bool is not supported by torch.iinfo")
        self.bits = given.itemsize * 8
        self.dtype = given.name
        self.max = 2 ** (self.bits - given.is_signed) - 1
        self.min = -self.max - 1 if given.is_signed else 0

    def __repr__(self) -> str:
        # Six digits for large numbers too, as PyTorch prints them.
        return f"iinfo(min={self.min:g}, max={self.max:g}, dtype={self.dtype})"
