"""``Tensor``: a handle on memory and graph. Methods are thin: operations come from the registry."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from taimatsu import autograd, copying, devices, dtypes, printing, recorder
from taimatsu.autograd import node
from taimatsu.errors import OperationError, numpy_hint
from taimatsu.evaluate import execute
from taimatsu.ops import indexing
from taimatsu.ops.filling import CopyValue, FillValue, ZeroValue
from taimatsu.recorder import TensorBase, extra_of, make_tensor, materialize, value
from taimatsu.shapes import Size


class Tensor(TensorBase):
    """A multi-dimensional array of one dtype that can record how it was computed."""

    __slots__ = ()
    __array_priority__ = 1000  # NumPy leaves mixed arithmetic to us

    _printed_as = "tensor"  # subclasses print under their own name, except Parameter

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "_printed_as" not in cls.__dict__:
            cls._printed_as = cls.__name__

    def __new__(cls, *data: Any, **kwargs: Any) -> Any:
        return legacy_constructor(cls, *data, **kwargs)

    def __getattr__(self, name: str) -> Any:
        # Most methods are derived from the registry of operations; only missing names come here.
        if hasattr(type(self), name):
            return object.__getattribute__(self, name)  # a property failed: its own error
        message = f"'{type(self).__name__}' object has no attribute '{name}'"
        hint = numpy_hint("tensor", name)
        if hint:
            raise AttributeError(message + hint)
        # With the name and the object Python suggests what may have been meant.
        raise AttributeError(message, name=name, obj=self)

    if TYPE_CHECKING:  # bindings.py derives the operators from the registry, too

        def _unary(self) -> Any: ...
        def _binary(self, other: Any) -> Any: ...

        __neg__ = __pos__ = __abs__ = __invert__ = _unary
        __add__ = __sub__ = __mul__ = __truediv__ = __floordiv__ = __mod__ = __pow__ = _binary
        __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rfloordiv__ = __rmod__ = _binary
        __rpow__ = __matmul__ = __and__ = __or__ = __xor__ = __lshift__ = __rshift__ = _binary
        __rmatmul__ = __rand__ = __ror__ = __rxor__ = __rlshift__ = __rrshift__ = _binary
        __div__ = __rdiv__ = _binary
        __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _binary

    # -- description -----------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        return self._meta.shape

    def size(self, dim: int | None = None) -> Any:
        """The shape, or one extent of it."""
        return self._meta.shape if dim is None else self._meta.shape[_axis(self, dim)]

    @property
    def dtype(self) -> dtypes.dtype:
        return self._meta.dtype

    @property
    def device(self) -> Any:
        return devices.CPU

    @property
    def layout(self) -> Any:
        return devices.strided

    @property
    def ndim(self) -> int:
        return self._meta.ndim

    def dim(self) -> int:
        """The number of dimensions."""
        return self._meta.ndim

    ndimension = dim

    def numel(self) -> int:
        """The number of elements."""
        return self._meta.numel

    nelement = numel

    def stride(self, dim: int | None = None) -> Any:
        """The strides in elements, or one of them."""
        strides = self._meta.strides
        return strides if dim is None else strides[_axis(self, dim)]

    def storage_offset(self) -> int:
        """Where the first element stands in the storage, in elements."""
        return self._offset

    def element_size(self) -> int:
        """Bytes of one element."""
        return self._meta.dtype.itemsize

    @property
    def itemsize(self) -> int:
        return self._meta.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self._meta.numel * self._meta.dtype.itemsize

    def is_contiguous(self, memory_format: Any = None) -> bool:
        """Whether the elements stand in row-major order (or the format's) without gaps."""
        if memory_format is None or "contiguous" in str(memory_format):
            return self._meta.contiguous
        from taimatsu.shapes import is_channels_last

        return is_channels_last(self._meta.shape, self._meta.strides)

    def data_ptr(self) -> int:
        """The address of the first element (its value is computed first)."""
        buffer = materialize(self)
        recorder.release(self._storage)
        return buffer.ctypes.data + self._offset * buffer.itemsize

    def is_floating_point(self) -> bool:
        return self._meta.dtype.is_floating_point

    def is_complex(self) -> bool:
        return self._meta.dtype.is_complex

    def is_signed(self) -> bool:
        return self._meta.dtype.is_signed

    is_cuda = is_mps = is_sparse = is_quantized = is_meta = is_mkldnn = False
    names = property(lambda self: (None,) * self._meta.ndim)

    def is_conj(self) -> bool:
        return False

    is_neg = is_pinned = is_shared = is_conj

    def is_inference(self) -> bool:
        """Whether it was made under ``inference_mode``."""
        return self._extra is not None and self._extra.inference

    def get_device(self) -> int:
        return -1

    # -- values ----------------------------------------------------------------------------

    def item(self) -> Any:
        """The value of a tensor of one element, as a Python number."""
        if self._meta.numel != 1:
            raise RuntimeError(
                f"a Tensor with {self._meta.numel} elements cannot be converted to Scalar; "
                "choose one element, or reduce it first"
            )
        found = value(self).item()
        return float(found) if self._meta.dtype is dtypes.bfloat16 else found

    def tolist(self) -> Any:
        """Nested lists of Python numbers (a number for a 0-d tensor)."""
        array = value(self)
        if self._meta.dtype is dtypes.bfloat16:
            array = array.astype(np.float32)
        return array.tolist()

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """A NumPy array on the same memory."""
        if force:
            return self.detach().numpy()
        if self.requires_grad:
            raise RuntimeError(
                "Can't call numpy() on Tensor that requires grad. "
                "Use tensor.detach().numpy() instead."
            )
        if self._meta.dtype is dtypes.bfloat16:
            raise TypeError("Got unsupported ScalarType BFloat16; convert with .float() first")
        recording = self._storage.recording
        if recording is not None and not recording.done:
            recording.run()  # what was recorded must not see later writes to the array
        recorder.release(self._storage)
        return value(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def __array_wrap__(self, array: np.ndarray, *_: Any) -> Any:
        from taimatsu.creation import from_numpy

        return from_numpy(np.asarray(array))

    def __bool__(self) -> bool:
        if self._meta.numel != 1:
            if self._meta.numel == 0:
                raise RuntimeError("Boolean value of Tensor with no values is ambiguous")
            raise RuntimeError(
                "Boolean value of Tensor with more than one value is ambiguous; "
                "use .any() or .all(), and & or | to join masks"
            )
        return bool(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __complex__(self) -> complex:
        return complex(self.item())

    def __index__(self) -> int:
        if self._meta.dtype.category > dtypes.INTEGER or self._meta.numel != 1:
            raise TypeError(
                "only integer tensors of a single element can be converted to an index; got "
                f"{self.dtype} of shape {list(self.shape)}; int(x) converts one number"
            )
        return int(self.item())

    def __len__(self) -> int:
        if self._meta.ndim == 0:
            raise TypeError("len() of a 0-d tensor; numel() counts its elements")
        return self._meta.shape[0]

    def __iter__(self) -> Any:
        if self._meta.ndim == 0:
            raise TypeError("iteration over a 0-d tensor; it holds one number, x.item()")
        return iter(self.unbind(0))

    def __contains__(self, element: Any) -> bool:
        if not isinstance(element, (TensorBase, int, float, complex, bool)):
            raise RuntimeError(
                f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a "
                f"{type(element)}."
            )
        return bool((self == element).any())

    __hash__ = object.__hash__

    def __deepcopy__(self, memo: dict) -> Tensor:
        return copying.deepcopy_tensor(self, memo)

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return copying.reduce_tensor(self)

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        made_by = node.grad_fn(self) if self.requires_grad else None
        shown = self if self._meta.dtype is not dtypes.bfloat16 else self.detach()
        return printing.tensor_text(
            value(shown),
            self._meta.dtype,
            requires_grad=self._requires_grad,
            grad_fn_name=None if made_by is None else made_by.name(),
            prefix=f"{self._printed_as}(",
        )

    def __format__(self, spec: str) -> str:
        return printing.format_tensor(self, spec, plain=type(self) is Tensor)

    # -- indexing --------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Tensor:
        return indexing.getitem(self, index)

    def __setitem__(self, index: Any, given: Any) -> None:
        indexing.setitem(self, index, given)

    # -- gradient state --------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether gradients are wanted; a view wants them where its base does."""
        if self._requires_grad or self._extra is None or self._extra.base is None:
            return self._requires_grad
        return self._extra.base._requires_grad

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        self.requires_grad_(wanted)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Says whether gradients are wanted for this leaf."""
        if self._tape is not None:
            if requires_grad:
                return self
            raise RuntimeError(
                "you can only change requires_grad flags of leaf variables. If you want to use a "
                "computed variable in a subgraph that doesn't require differentiation use "
                "var_no_grad = var.detach()."
            )
        if requires_grad and self._meta.dtype.category < dtypes.FLOAT:
            raise RuntimeError(
                "only Tensors of floating point and complex dtype can require gradients, "
                f"got {self._meta.dtype}; convert with .float()"
            )
        if requires_grad is not self._requires_grad:
            self._requires_grad = bool(requires_grad)
            self._recording = None  # it enters the next operation under its new state
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether it is not the result of an operation in the graph."""
        if self._extra is not None:
            autograd.refresh_view(self)
        return self._tape is None or not self._requires_grad

    @property
    def grad_fn(self) -> Any:
        """The step of the graph that made it; None for leaves."""
        if self._extra is not None:
            autograd.refresh_view(self)
        return node.grad_fn(self) if self._requires_grad else None

    @property
    def output_nr(self) -> int:
        return 0 if self._tape is None else self._tape.final.infos()[self._gid].index

    @property
    def grad(self) -> Any:
        extra = self._extra
        if self._tape is not None and (extra is None or not extra.retains):
            warnings.warn(
                "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its "
                ".grad attribute won't be populated during autograd.backward(). If you indeed want "
                "the .grad field to be populated for a non-leaf Tensor, use .retain_grad() on the "
                "non-leaf Tensor.",
                stacklevel=2,
            )
        return None if extra is None else extra.grad

    @grad.setter
    def grad(self, given: Any) -> None:
        if given is None:
            if self._extra is not None:
                self._extra.grad = None
            return
        if not isinstance(given, TensorBase):
            raise TypeError(
                f"assigned grad expected to be a Tensor or None but got grad of type "
                f"{type(given).__name__}"
            )
        if given is self:
            raise RuntimeError("can't assign Variable as its own grad")
        if given._meta.shape != self._meta.shape:
            raise RuntimeError(
                f"assigned grad has data of a different size: expected {list(self.shape)}, "
                f"got {list(given.shape)}; a gradient has the shape of its tensor"
            )
        if given._meta.dtype is not self._meta.dtype:
            raise RuntimeError(
                f"assigned grad has data of a different type: expected {self.dtype}, "
                f"got {given.dtype}"
            )
        extra_of(self).grad = given

    @grad.deleter
    def grad(self) -> None:
        if self._extra is not None:
            self._extra.grad = None

    def backward(
        self,
        gradient: Any = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        """Accumulates the gradients of this tensor in the leaves of its graph."""
        autograd.backward(self, gradient, retain_graph, create_graph, inputs=inputs)

    def register_hook(self, hook: Any) -> Any:
        """``hook(grad)`` is called with this tensor's gradient and may give another."""
        if not self.requires_grad:
            raise RuntimeError(
                "cannot register a hook on a tensor that doesn't require gradient; "
                "call requires_grad_() first"
            )
        if self._tape is None:
            extra = extra_of(self)
            if extra.hooks is None:
                extra.hooks = node.new_hooks()
            return node.add_hook(extra.hooks, hook)
        hooks = self._tape.hooks.setdefault(self._gid, node.new_hooks())
        return node.add_hook(hooks, hook)

    def register_post_accumulate_grad_hook(self, hook: Any) -> Any:
        """``hook(leaf)`` is called after a gradient was added to the leaf's ``grad``."""
        if not self.requires_grad or self._tape is not None:
            raise RuntimeError(
                "post accumulate grad hooks cannot be registered on non-leaf tensors"
            )
        extra = extra_of(self)
        if extra.accumulated is None:
            extra.accumulated = node.new_hooks()
        return node.add_hook(extra.accumulated, hook)

    def retain_grad(self) -> None:
        """Keeps the gradient of a non-leaf in ``grad``."""
        if not self.requires_grad:
            raise RuntimeError(
                "can't retain_grad on Tensor that has requires_grad=False; call requires_grad_() "
                "first"
            )
        if self._tape is None or extra_of(self).retains:
            return
        extra = extra_of(self)
        extra.retains = True

        def keep(gradient: Any) -> None:
            before = extra.grad
            extra.grad = gradient.detach() if before is None else before + gradient.detach()

        self.register_hook(keep)

    @property
    def retains_grad(self) -> bool:
        return self._tape is not None and self._extra is not None and self._extra.retains

    def detach(self) -> Tensor:
        """The same memory outside the graph; writes through either are counted for both."""
        made = make_tensor(self._meta, self._storage, self._offset)
        if not self._requires_grad:
            made._recording, made._tid = self._recording, self._tid
        if self._extra is not None and self._extra.counter is not None:
            extra_of(made).counter = self._extra.counter
        return made

    def detach_(self) -> Tensor:
        """Leaves the graph, in place."""
        self._requires_grad = False
        self._tape = None
        self._recording = None
        return self

    @property
    def data(self) -> Tensor:
        """The same memory outside the graph, whose writes backward does not notice."""
        made = make_tensor(self._meta, self._storage, self._offset)
        if not self._requires_grad:
            made._recording, made._tid = self._recording, self._tid
        extra_of(made).counter = recorder.VersionCounter()
        return made

    @data.setter
    def data(self, given: Any) -> None:
        if not isinstance(given, TensorBase):
            raise TypeError(f"Variable data has to be a tensor, but got {type(given).__name__}")
        counter = recorder.VersionCounter()  # writes through the other tensor are not its own
        counter.version = self._version
        extra_of(self).counter = counter
        self._meta = given._meta
        self._storage = given._storage
        self._offset = given._offset
        self._recording = None

    @property
    def _version(self) -> int:
        return recorder.counter_of(self).version

    @property
    def _base(self) -> Any:
        return None if self._extra is None else self._extra.base

    def _is_view(self) -> bool:
        return self._base is not None

    # -- writing in place ------------------------------------------------------------------

    def _refuse_write(self, name: str) -> None:
        if self._requires_grad:
            self._refuse_leaf_write(name)
        if not self._meta.contiguous:
            recorder.refuse_repeated(self, name)

    def _refuse_leaf_write(self, name: str) -> None:
        if recorder.local.mode == recorder.GRAD and self._requires_grad and self._tape is None:
            raise OperationError.make(
                name + "_",
                "a leaf Variable that requires grad is being used in an in-place operation.",
                "",
                "update it under torch.no_grad() or through .data, or use the out-of-place form",
            )

    def _assign(self, made: Any, name: str) -> Tensor:
        """Writes the result of the out-of-place form over this tensor."""
        if made._meta.shape != self._meta.shape:
            raise OperationError.make(
                name + "_",
                f"output with shape {list(self.shape)} doesn't match the broadcast shape "
                f"{list(made.shape)}",
                "",
                "use the out-of-place form",
            )
        if made._meta.dtype is not self._meta.dtype:
            if not dtypes.can_cast(made._meta.dtype, self._meta.dtype):
                raise OperationError.make(
                    name + "_",
                    f"result type {made._meta.dtype.scalar_type} can't be cast to the desired "
                    f"output type {self._meta.dtype.scalar_type}",
                    "",
                    "use the out-of-place form, or convert the tensor first",
                )
            made = made.to(self._meta.dtype)
        if not self._meta.contiguous and recorder.repeated_dims(self._meta):
            return self._assign_repeated(made, name)
        recorder.write(self, made, name)
        return self

    def _assign_repeated(self, made: Any, name: str) -> Tensor:
        """Writes over elements that are one in memory: where a row is changed, its value stays."""
        warnings.warn(
            f"Use of {name}_ on expanded tensors is deprecated. Please clone() the tensor before "
            "performing this operation.",
            stacklevel=4,
        )
        target = self
        for dim in recorder.repeated_dims(self._meta):
            target = target.narrow(dim, 0, 1)
            merged = made.narrow(dim, 0, 1)
            for row in range(1, made.shape[dim]):
                taken = made.narrow(dim, row, 1)
                merged = taken.where(taken != target, merged)
            made = merged
        recorder.write(target, made, name)
        return self

    def copy_(self, src: Any, non_blocking: bool = False) -> Tensor:
        """Writes ``src``, broadcast and cast, over this tensor."""
        self._refuse_leaf_write("copy")
        if src is not self:
            recorder.refuse_repeated(self, "copy")
        if not isinstance(src, TensorBase):
            raise TypeError(f"copy_(): expected a Tensor, got {type(src).__name__}")
        recorder.refuse_overlap(self, (src,), "copy")
        recorder.write(self, CopyValue.apply(self, src), "copy")
        return self

    def fill_(self, value: Any) -> Tensor:
        """Writes a number over every element."""
        self._refuse_write("fill")
        if isinstance(value, TensorBase):
            if value._meta.ndim:
                raise RuntimeError(
                    "fill_ only supports 0-dimension value tensor but got tensor with "
                    f"{value._meta.ndim} dimensions."
                )
            recorder.write(self, CopyValue.apply(self, value), "fill")
            return self
        recorder.write(self, FillValue.apply(self, recorder.plain_number(value)), "fill")
        return self

    def zero_(self) -> Tensor:
        """Writes zero over every element."""
        self._refuse_write("zero")
        recorder.write(self, ZeroValue.apply(self), "zero")
        return self

    def set_(self, source: Any = None) -> Tensor:
        """Takes the memory, shape and strides of ``source`` (empty without one)."""
        if source is None:
            source = recorder.constant(np.empty(0, self.dtype.numpy), self.dtype)
        with autograd.no_grad():
            self.data = source
        return self


def _axis(tensor: Tensor, dim: int) -> int:
    from taimatsu.shapes import normalize_axis

    return normalize_axis(dim, tensor._meta.ndim)


def legacy_constructor(cls: type, *data: Any, **kwargs: Any) -> Any:
    """``torch.Tensor(2, 3)`` (uninitialised), ``torch.Tensor([1, 2])``, ``torch.Tensor(array)``."""
    from taimatsu.legacy import legacy_tensor

    made = legacy_tensor(dtypes.get_default_dtype(), *data, **kwargs)
    if cls is Tensor:
        return made
    alias = make_tensor(made._meta, made._storage, made._offset, cls)
    return alias


recorder.register_tensor(Tensor)
recorder.register_executor(execute)
