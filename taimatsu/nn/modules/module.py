"""``Module``: a function with parameters, buffers and child modules, known by name."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from taimatsu.autograd import no_grad
from taimatsu.nn.modules.calls import (
    INSTANCE_HOOKS,
    HookedCalls,
    register_module_backward_hook,
    register_module_forward_hook,
    register_module_forward_pre_hook,
    register_module_full_backward_hook,
    register_module_full_backward_pre_hook,
)
from taimatsu.nn.modules.conversion import Conversion
from taimatsu.nn.modules.hooks import RemovableHandle, add_hook
from taimatsu.nn.modules.state import STATE_HOOKS, StateDict
from taimatsu.nn.parameter import Buffer, Parameter
from taimatsu.recorder import GRAD
from taimatsu.recorder import local as recorder_local
from taimatsu.tensor import Tensor

__all__ = [
    "Module",
    "register_module_backward_hook",
    "register_module_buffer_registration_hook",
    "register_module_forward_hook",
    "register_module_forward_pre_hook",
    "register_module_full_backward_hook",
    "register_module_full_backward_pre_hook",
    "register_module_module_registration_hook",
    "register_module_parameter_registration_hook",
]

_global_buffer_registration_hooks: OrderedDict[int, Callable] = OrderedDict()
_global_module_registration_hooks: OrderedDict[int, Callable] = OrderedDict()
_global_parameter_registration_hooks: OrderedDict[int, Callable] = OrderedDict()


class Members(dict):
    """The parameters, buffers or children of one module by name.

    Every entry is mirrored in the module's ``__dict__``, so that ``self.weight`` in ``forward``
    is an ordinary attribute look-up; this dictionary stays the authority and keeps the mirror.
    The module is referred to weakly: a model dies with its last reference.
    """

    __slots__ = ("module",)

    def __init__(self, module: Any, entries: Mapping[str, Any] = {}) -> None:
        super().__init__(entries)
        self.module = weakref.ref(module)
        module.__dict__.update(entries)

    def _fields(self) -> dict[str, Any]:
        module = self.module()
        return {} if module is None else module.__dict__

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self._fields()[name] = value

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self._fields().pop(name, None)

    def pop(self, name: str, *default: Any) -> Any:
        value = super().pop(name, *default)
        self._fields().pop(name, None)
        return value

    def popitem(self) -> tuple[str, Any]:
        name, value = super().popitem()
        self._fields().pop(name, None)
        return name, value

    def clear(self) -> None:
        for name in list(self):
            del self[name]

    def update(self, *args: Any, **kwargs: Any) -> None:
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def __ior__(self, other: Any) -> Self:  # type: ignore[misc]
        self.update(other)
        return self

    def setdefault(self, name: str, default: Any = None) -> Any:
        if name not in self:
            self[name] = default
        return self[name]

    def copy(self) -> dict[str, Any]:
        return dict(self)

    __copy__ = copy

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return dict, (dict(self),)


_MEMBERS = ("_parameters", "_buffers", "_modules")
_KINDS = {
    "_parameters": "parameter '{}' (torch.nn.Parameter or None expected)",
    "_modules": "child module '{}' (torch.nn.Module or None expected)",
    "_buffers": "buffer '{}' (torch.nn.Buffer, torch.Tensor or None expected)",
}


class Module(HookedCalls, StateDict, Conversion):
    """Base of all networks and layers.

    A subclass calls ``super().__init__()``, assigns parameters and child modules to attributes,
    and defines ``forward``::

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(4, 2)

            def forward(self, x):
                return self.fc(x).relu()
    """

    dump_patches: bool = False
    call_super_init: bool = False
    training: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not self.call_super_init and (args or kwargs):
            raise TypeError(_init_message(type(self).__name__, args, kwargs))
        fields = self.__dict__
        fields["training"] = True
        for kind in _MEMBERS:
            fields[kind] = Members(self)
        fields["_non_persistent_buffers_set"] = set()
        fields["_is_full_backward_hook"] = None
        for hooks in INSTANCE_HOOKS + STATE_HOOKS:
            fields[hooks] = OrderedDict()
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    def forward(self, *input: Any) -> Any:
        """What a call of the module computes: every subclass defines it."""
        raise NotImplementedError(
            f'Module [{type(self).__name__}] is missing the required "forward" function; define '
            "forward(self, ...) in the class, spelt like this"
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """``forward`` with the hooks around it; call the module, not ``forward``."""
        if recorder_local.mode != GRAD:
            return self._call_without_gradients(args, kwargs)
        if self._hooked:
            return self._call_impl(*args, **kwargs)
        return self.forward(*args, **kwargs)

    # -- registration ------------------------------------------------------------------------

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Adds a parameter under ``name``; None reserves the name and is not part of state."""
        self._check_name("parameter", name, "_parameters")
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign '{_type_name(param)}' object to parameter '{name}' "
                "(torch.nn.Parameter or None required); nn.Parameter(tensor.detach()) makes one"
            )
        if param is not None and param.grad_fn is not None:
            raise ValueError(
                f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be "
                f"created explicitly. To express '{name}' as a function of another Tensor, "
                "compute the value in the forward() method."
            )
        for hook in _global_parameter_registration_hooks.values():
            answer = hook(self, name, param)
            param = param if answer is None else answer
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Adds a tensor that is not learned; only persistent ones enter ``state_dict``."""
        self._check_name("buffer", name, "_buffers")
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{_type_name(tensor)}' object to buffer '{name}' "
                "(torch Tensor or None required)"
            )
        for hook in _global_buffer_registration_hooks.values():
            answer = hook(self, name, tensor)
            tensor = tensor if answer is None else answer
        self._buffers[name] = tensor
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Adds a child module under ``name``."""
        if not isinstance(module, Module) and module is not None:
            raise TypeError(_not_a_module(module))
        self._check_name("module", name, "_modules")
        for hook in _global_module_registration_hooks.values():
            answer = hook(self, name, module)
            module = module if answer is None else answer
        self._modules[name] = module

    def register_module(self, name: str, module: Module | None) -> None:
        """The other name of ``add_module``."""
        self.add_module(name, module)

    def _check_name(self, what: str, name: str, kind: str) -> None:
        if kind not in self.__dict__:
            raise AttributeError(
                f"cannot assign {what} before Module.__init__() call; "
                "begin __init__ with super().__init__()"
            )
        if not isinstance(name, str):
            raise TypeError(f"{what} name should be a string. Got {_type_name(name)}")
        if hasattr(self, name) and name not in self.__dict__[kind]:
            raise KeyError(f"attribute '{name}' already exists")
        if "." in name:
            raise KeyError(
                f'{what} name can\'t contain ".", got: {name}; nest modules, or write _ instead'
            )
        if name == "":
            raise KeyError(f'{what} name can\'t be empty string ""')

    # -- attributes --------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        fields = self.__dict__
        if isinstance(value, Parameter):
            if "_parameters" not in fields:
                raise AttributeError(
                    "cannot assign parameters before Module.__init__() call; "
                    "begin __init__ with super().__init__()"
                )
            self._forget(name, "_parameters")
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            if "_modules" not in fields:
                raise AttributeError(
                    "cannot assign module before Module.__init__() call; "
                    "begin __init__ with super().__init__()"
                )
            if name in fields["_parameters"]:
                raise TypeError(self._wrong_kind("_parameters", name, value))
            self._forget(name, "_modules")
            for hook in _global_module_registration_hooks.values():
                answer = hook(self, name, value)
                value = value if answer is None else answer
            fields["_modules"][name] = value
        elif isinstance(value, Tensor) and isinstance(value, Buffer):
            if "_buffers" not in fields:
                raise AttributeError(
                    "cannot assign buffer before Module.__init__() call; "
                    "begin __init__ with super().__init__()"
                )
            if name in fields["_parameters"]:
                raise TypeError(self._wrong_kind("_parameters", name, value))
            if name not in fields["_buffers"]:
                self._forget(name, "_buffers")
            self.register_buffer(name, value, value.persistent)
        elif name in _MEMBERS:
            for old in fields.get(name, ()):
                fields.pop(old, None)
            fields[name] = Members(self, value)
        else:
            self._set_plain(name, value)

    def _set_plain(self, name: str, value: Any) -> None:
        """Sets a value that registers nothing by itself, but may replace something registered."""
        fields = self.__dict__
        for kind in _KINDS:
            members = fields.get(kind)
            if not members or name not in members:
                continue
            if value is not None and not (kind == "_buffers" and isinstance(value, Tensor)):
                raise TypeError(self._wrong_kind(kind, name, value))
            if kind == "_buffers":
                for hook in _global_buffer_registration_hooks.values():
                    answer = hook(self, name, value)
                    value = value if answer is None else answer
            members[name] = value
            return
        super().__setattr__(name, value)

    @staticmethod
    def _wrong_kind(kind: str, name: str, value: Any) -> str:
        return f"cannot assign '{_type_name(value)}' as " + _KINDS[kind].format(name)

    def _forget(self, name: str, but: str) -> None:
        """Drops ``name`` from wherever it is, except from the members it is about to enter."""
        fields = self.__dict__
        if name in fields[but]:
            return
        for kind in _MEMBERS:
            if kind != but:
                fields[kind].pop(name, None)
        fields.pop(name, None)
        fields["_non_persistent_buffers_set"].discard(name)

    def __getattr__(self, name: str) -> Any:
        # Only reached where the mirror lacks the name: an instance whose __dict__ was replaced.
        fields = self.__dict__
        for kind in _MEMBERS:
            if name in fields.get(kind, ()):
                return fields[kind][name]
        # With the name and the object Python suggests what may have been meant.
        raise AttributeError(
            f"'{type(self).__name__}' object has no attribute '{name}'", name=name, obj=self
        )

    def __delattr__(self, name: str) -> None:
        for kind in _MEMBERS:
            if name in self.__dict__.get(kind, ()):
                del self.__dict__[kind][name]
                self._non_persistent_buffers_set.discard(name)
                return
        super().__delattr__(name)

    def __dir__(self) -> list[str]:
        names = [*dir(type(self)), *self.__dict__]
        for kind in _MEMBERS:
            names += list(self.__dict__[kind])
        return sorted({name for name in names if not name[0].isdigit()})

    # -- copies ------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """The attributes without the mirrored ones: the form PyTorch pickles."""
        state = self.__dict__.copy()
        for kind in _MEMBERS:
            members = state.get(kind)
            if isinstance(members, Members):
                for name in members:
                    state.pop(name, None)
                state[kind] = dict(members)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        fields = self.__dict__
        fields.update(state)
        for hooks in INSTANCE_HOOKS + STATE_HOOKS:
            fields.setdefault(hooks, OrderedDict())
        fields.setdefault("_non_persistent_buffers_set", set())
        fields.setdefault("_is_full_backward_hook", None)
        for kind in _MEMBERS:
            fields[kind] = Members(self, fields.get(kind, {}))
        if any(fields[hooks] for hooks in INSTANCE_HOOKS):
            fields["_hooked"] = True

    # -- looking up by path ------------------------------------------------------------------

    def get_submodule(self, target: str) -> Module:
        """The module at the dotted path ``target`` (``""`` is this one).

        Raises AttributeError when a step of the path does not exist or is not a module.
        """
        module: Module = self
        for step in target.split(".") if target else ():
            if not hasattr(module, step):
                raise AttributeError(f"{module._get_name()} has no attribute `{step}`")
            module = getattr(module, step)
            if not isinstance(module, Module):
                raise AttributeError(f"`{step}` is not an nn.Module")
        return module

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Puts ``module`` at the dotted path ``target``; with ``strict`` it must exist already."""
        if target == "":
            raise ValueError("Cannot set the submodule without a target name!")
        if not isinstance(module, Module):
            raise ValueError(f"`module` is not an nn.Module, found {type(module)}")
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if strict and not hasattr(parent, name):
            raise AttributeError(f"{parent._get_name()} has no attribute `{name}`")
        if hasattr(parent, name) and not isinstance(getattr(parent, name), Module):
            raise AttributeError(f"`{name}` is not an nn.Module")
        setattr(parent, name, module)

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at the dotted path ``target``; AttributeError when there is none."""
        return self._get_member(target, "_parameters", "an nn.Parameter")

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at the dotted path ``target``; AttributeError when there is none."""
        return self._get_member(target, "_buffers", "a buffer")

    def _get_member(self, target: str, kind: str, what: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
        if name not in getattr(module, kind):
            raise AttributeError(f"`{name}` is not {what}")
        return getattr(module, name)

    # -- iteration ---------------------------------------------------------------------------

    def _named_members(
        self,
        get_members_fn: Callable[[Any], Any],
        prefix: str = "",
        recurse: bool = True,
        remove_duplicate: bool = True,
    ) -> Iterator[tuple[str, Any]]:
        seen: set[Any] = set()
        if recurse:
            owners = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
        else:
            owners = iter([(prefix, self)])
        for path, module in owners:
            for name, value in get_members_fn(module):
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield (f"{path}.{name}" if path else name), value

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, each once; of this module only without ``recurse``."""
        for _, param in self.named_parameters(recurse=recurse):
            yield param

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Pairs of dotted name and parameter."""
        return self._named_members(
            lambda module: module._parameters.items(), prefix, recurse, remove_duplicate
        )

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers, each once; of this module only without ``recurse``."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Pairs of dotted name and buffer."""
        return self._named_members(
            lambda module: module._buffers.items(), prefix, recurse, remove_duplicate
        )

    def children(self) -> Iterator[Module]:
        """The direct child modules, each once."""
        for _, child in self.named_children():
            yield child

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Pairs of name and direct child module."""
        seen: set[Module] = set()
        for name, child in self._modules.items():
            if child is not None and child not in seen:
                seen.add(child)
                yield name, child

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once, parents first."""
        for _, module in self.named_modules():
            yield module

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Pairs of dotted name and module; this module's own name is ``prefix``."""
        if memo is None:
            memo = set()
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, child in self._modules.items():
            if child is not None:
                path = f"{prefix}.{name}" if prefix else name
                yield from child.named_modules(memo, path, remove_duplicate)

    # -- modes -------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Sets training mode here and below (dropout and batch norm look at it)."""
        if not isinstance(mode, bool):
            raise ValueError(
                f"training mode is expected to be boolean; got {_type_name(mode)}; train() only "
                "sets the mode, the loop over the data is the program's"
            )
        self.training = mode
        for child in self.children():
            child.train(mode)
        return self

    def eval(self) -> Self:
        """``train(False)``."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Says for every parameter whether it is to be learned."""
        for param in self.parameters():
            param.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops every parameter's gradient, or fills it with zeros."""
        for param in self.parameters():
            if param.grad is None:
                continue
            if set_to_none:
                param.grad = None
                continue
            if param.grad.grad_fn is not None:
                param.grad = param.grad.detach()
            else:
                param.grad.requires_grad_(False)
            with no_grad():
                param.grad.zero_()

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Accepted and without effect: what modules compute is always recorded and compiled."""

    # -- printing ----------------------------------------------------------------------------

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What ``repr`` shows between the parentheses; for subclasses."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): {_indented(repr(c))}" for name, c in self._modules.items()]
        if len(lines) == 1 and not children:
            return f"{self._get_name()}({lines[0]})"
        if not lines and not children:
            return f"{self._get_name()}()"
        return f"{self._get_name()}(\n  " + "\n  ".join(lines + children) + "\n)"


def _indented(text: str, spaces: int = 2) -> str:
    """``text`` with every line but the first moved right."""
    return text.replace("\n", "\n" + " " * spaces)


def _not_a_module(value: Any) -> str:
    """The message for something else where a module belongs, and what was probably meant."""
    text = f"{_type_name(value)} is not a Module subclass"
    if isinstance(value, type) and issubclass(value, Module):
        return f"{text}; {value.__name__}() makes one of the class"
    if isinstance(value, (list, tuple)):
        return f"{text}; nn.Sequential(*layers) takes the layers of a list"
    if callable(value):
        return f"{text}; functions have modules too (nn.ReLU() for F.relu), or belong in forward"
    return text


def _type_name(value: Any) -> str:
    if isinstance(value, Tensor):
        return value.type()
    kind = type(value)
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _init_message(name: str, args: tuple, kwargs: dict) -> str:
    if kwargs:
        return f"{name}.__init__() got an unexpected keyword argument '{next(iter(kwargs))}'"
    return f"{name}.__init__() takes 1 positional argument but {len(args) + 1} were given"


def register_module_buffer_registration_hook(hook: Callable) -> RemovableHandle:
    """``hook(module, name, buffer)`` whenever a buffer is registered; may return another."""
    return add_hook(_global_buffer_registration_hooks, hook)


def register_module_module_registration_hook(hook: Callable) -> RemovableHandle:
    """``hook(module, name, child)`` whenever a child is registered; may return another."""
    return add_hook(_global_module_registration_hooks, hook)


def register_module_parameter_registration_hook(hook: Callable) -> RemovableHandle:
    """``hook(module, name, parameter)`` whenever one is registered; may return another."""
    return add_hook(_global_parameter_registration_hooks, hook)
