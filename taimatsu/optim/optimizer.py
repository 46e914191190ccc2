"""``Optimizer``: parameter groups, state, hooks, and the frame of a step."""

from __future__ import annotations

import functools
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from copy import deepcopy
from itertools import chain
from typing import Any

import numpy as np

from taimatsu import dtypes, recorder
from taimatsu.autograd import enable_grad, no_grad, set_grad_enabled
from taimatsu.nn.modules.hooks import RemovableHandle, add_hook
from taimatsu.tensor import Tensor

__all__ = [
    "Optimizer",
    "register_optimizer_step_post_hook",
    "register_optimizer_step_pre_hook",
]


class _Required:
    """Stands for a hyper-parameter without default."""

    def __repr__(self) -> str:
        return "<required parameter>"


required = _Required()

_global_optimizer_pre_hooks: OrderedDict[int, Callable] = OrderedDict()
_global_optimizer_post_hooks: OrderedDict[int, Callable] = OrderedDict()

_HOOKS = (
    "_optimizer_step_pre_hooks",
    "_optimizer_step_post_hooks",
    "_optimizer_state_dict_pre_hooks",
    "_optimizer_state_dict_post_hooks",
    "_optimizer_load_state_dict_pre_hooks",
    "_optimizer_load_state_dict_post_hooks",
)


def register_optimizer_step_pre_hook(hook: Callable) -> RemovableHandle:
    """``hook(optimizer, args, kwargs)`` before every step of every optimizer."""
    return add_hook(_global_optimizer_pre_hooks, hook)


def register_optimizer_step_post_hook(hook: Callable) -> RemovableHandle:
    """``hook(optimizer, args, kwargs)`` after every step of every optimizer."""
    return add_hook(_global_optimizer_post_hooks, hook)


def _with_hooks(step: Callable) -> Callable:
    """A class's ``step`` with the hooks around it; the recording runs at its end."""

    @functools.wraps(step)
    def wrapper(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        before = [*_global_optimizer_pre_hooks.values(), *self._optimizer_step_pre_hooks.values()]
        for hook in before:
            answer = hook(self, args, kwargs)
            if answer is None:
                continue
            if not isinstance(answer, tuple) or len(answer) != 2:
                raise RuntimeError(
                    f"{step.__qualname__}: a step pre-hook must return None or a tuple of "
                    f"(new_args, new_kwargs), but got {answer}."
                )
            args, kwargs = answer
        result = step(self, *args, **kwargs)
        self._opt_called = True  # schedulers warn when they step before the optimizer ever did
        for hook in self._optimizer_step_post_hooks.values():
            hook(self, args, kwargs)
        for hook in _global_optimizer_post_hooks.values():
            hook(self, args, kwargs)
        recorder.flush()
        return result

    return wrapper


class Optimizer:
    """Base of all optimizers.

    ``params`` is an iterable of parameters, of ``(name, parameter)`` pairs, or of dictionaries
    with ``"params"`` and hyper-parameters of their own; ``defaults`` holds the others' values.

    A subclass implements ``_update_group(group)`` (or all of ``step``). Its state for a parameter
    is ``self.state[parameter]``, a dictionary. The update itself is a function of lists of
    tensors and Python numbers that only applies tensor operations to them, in place, and looks
    at flags and at what is None, never at a number: so a step can be recorded once and replayed.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = _with_hooks(cls.__dict__["step"])  # type: ignore[method-assign]

    _opt_called: bool = False

    _optimizer_step_pre_hooks: OrderedDict[int, Callable]
    _optimizer_step_post_hooks: OrderedDict[int, Callable]
    _optimizer_state_dict_pre_hooks: OrderedDict[int, Callable]
    _optimizer_state_dict_post_hooks: OrderedDict[int, Callable]
    _optimizer_load_state_dict_pre_hooks: OrderedDict[int, Callable]
    _optimizer_load_state_dict_post_hooks: OrderedDict[int, Callable]

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        for hooks in _HOOKS:
            setattr(self, hooks, OrderedDict())
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or "
                f"dicts, but got {params.type()}; give a list: [tensor]"
            )
        self.state: defaultdict[Tensor, Any] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        if not isinstance(params, Iterable):
            raise TypeError(
                f"'{type(params).__name__}' object is not iterable: an optimizer takes an iterable "
                "of tensors; give model.parameters()"
            )
        groups = list(params)
        if len(groups) == 0:
            raise ValueError(
                "optimizer got an empty parameter list; model.parameters() finds parameters, and "
                "layers in plain lists are no part of a model (use nn.ModuleList)"
            )
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(dict(group))

    # -- groups ------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters with hyper-parameters of their own (what is missing is defaulted)."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        _unpack_params(param_group)
        for param in param_group["params"]:
            if not isinstance(param, Tensor):
                raise TypeError(
                    "optimizer can only optimize Tensors, but one of the params is "
                    + type(param).__name__
                    + "; give model.parameters(), lists joined by +, or dicts of groups"
                )
            if not self.defaults.get("differentiable") and not (
                param.is_leaf or param.retains_grad
            ):
                raise ValueError(
                    "can't optimize a non-leaf Tensor: it was computed from others; give those, or "
                    "make a leaf of it with .detach().requires_grad_()"
                )
        for name, default in self.defaults.items():
            if default is required and name not in param_group:
                raise ValueError(
                    "parameter group didn't specify a value of required optimization "
                    f"parameter {name}"
                )
            param_group.setdefault(name, default)
        params = param_group["params"]
        if len(params) != len({id(p) for p in params}):
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters; in future, "
                "this will cause an error; see github.com/pytorch/pytorch/issues/40967 for more "
                "information",
                stacklevel=3,
            )
        known = {id(p) for group in self.param_groups for p in group["params"]}
        if not known.isdisjoint(id(p) for p in params):
            raise ValueError(
                "some parameters appear in more than one parameter group; name each once"
            )
        if self.param_groups and ("param_names" in param_group) != (
            "param_names" in self.param_groups[0]
        ):
            raise ValueError(
                "all optimizer param groups should be with/without names. cannot add param "
                "group with names to the optimizer"
                if "param_names" in param_group
                else "all optimizer param groups should be with/without names. cannot add param "
                "group without names to the optimizer"
            )
        self.param_groups.append(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops every parameter's gradient, or fills it with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if set_to_none:
                    p.grad = None
                    continue
                if p.grad.grad_fn is not None:
                    p.grad = p.grad.detach()
                else:
                    p.grad.requires_grad_(False)
                with no_grad():
                    p.grad.zero_()

    # -- the step ----------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates the parameters from their gradients.

        ``closure`` computes the loss and its gradients anew; its value is returned.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        with set_grad_enabled(bool(self.defaults.get("differentiable", False))):
            for group in self.param_groups:
                self._update_group(group)
        return loss

    step = _with_hooks(step)  # the classes below are wrapped when they are made

    def _update_group(self, group: dict[str, Any]) -> None:
        """Updates the parameters of one group; for subclasses."""
        raise NotImplementedError(
            f"[{type(self).__name__}] expected the optimizer to define step(), found none"
        )

    def register_step_pre_hook(self, hook: Callable) -> RemovableHandle:
        """``hook(optimizer, args, kwargs)`` before each step; may return new ones."""
        return add_hook(self._optimizer_step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable) -> RemovableHandle:
        """``hook(optimizer, args, kwargs)`` after each step."""
        return add_hook(self._optimizer_step_post_hooks, hook)

    # -- state dict --------------------------------------------------------------------------

    def register_state_dict_pre_hook(
        self, hook: Callable, prepend: bool = False
    ) -> RemovableHandle:
        """``hook(optimizer)`` before ``state_dict`` collects."""
        return add_hook(self._optimizer_state_dict_pre_hooks, hook, prepend=prepend)

    def register_state_dict_post_hook(
        self, hook: Callable, prepend: bool = False
    ) -> RemovableHandle:
        """``hook(optimizer, state_dict)`` on what ``state_dict`` returns; may return another."""
        return add_hook(self._optimizer_state_dict_post_hooks, hook, prepend=prepend)

    def register_load_state_dict_pre_hook(
        self, hook: Callable, prepend: bool = False
    ) -> RemovableHandle:
        """``hook(optimizer, state_dict)`` before loading; may return another dictionary."""
        return add_hook(self._optimizer_load_state_dict_pre_hooks, hook, prepend=prepend)

    def register_load_state_dict_post_hook(
        self, hook: Callable, prepend: bool = False
    ) -> RemovableHandle:
        """``hook(optimizer)`` after loading."""
        return add_hook(self._optimizer_load_state_dict_post_hooks, hook, prepend=prepend)

    def state_dict(self) -> dict[str, Any]:
        """``{"state": ..., "param_groups": ...}`` with parameters replaced by their numbers."""
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        numbers: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            packed = {name: value for name, value in group.items() if name != "params"}
            for p in group["params"]:
                numbers.setdefault(id(p), len(numbers))
            packed["params"] = [numbers[id(p)] for p in group["params"]]
            groups.append(packed)
        state = {
            numbers[id(key)] if isinstance(key, Tensor) else key: value
            for key, value in self.state.items()
        }
        made = {"state": state, "param_groups": groups}
        for hook in self._optimizer_state_dict_post_hooks.values():
            answer = hook(self, made)
            made = made if answer is None else answer
        return made

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes in what ``state_dict`` gave; parameters are matched by their order.

        Floating point state is cast to its parameter's dtype and device. Raises ValueError when
        the groups do not correspond.
        """
        state_dict = state_dict.copy()
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            answer = hook(self, state_dict)
            state_dict = state_dict if answer is None else answer
        own = self.param_groups
        saved = deepcopy(state_dict["param_groups"])
        if len(own) != len(saved):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(
            len(mine["params"]) != len(theirs["params"])
            for mine, theirs in zip(own, saved, strict=True)
        ):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of "
                "optimizer's group; got groups of "
                f"{[len(group['params']) for group in saved]} parameters for "
                f"{[len(group['params']) for group in own]}; load the state of an optimizer of the "
                "same model"
            )
        numbers = chain.from_iterable(group["params"] for group in saved)
        params = chain.from_iterable(group["params"] for group in own)
        by_number = dict(zip(numbers, params, strict=True))
        state: defaultdict[Any, Any] = defaultdict(dict)
        for number, value in state_dict["state"].items():
            if number in by_number:
                state[by_number[number]] = _fitted(value, by_number[number])
            else:
                state[number] = value
        groups = []
        for mine, theirs in zip(own, saved, strict=True):
            theirs["params"] = mine["params"]
            if "param_names" in mine and "param_names" not in theirs:
                theirs["param_names"] = mine["param_names"]
            groups.append(theirs)
        self.__setstate__({"state": state, "param_groups": groups})
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "defaults": self.defaults,
            "state": self.state,
            "param_groups": self.param_groups,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for hooks in _HOOKS:
            self.__dict__.setdefault(hooks, OrderedDict())
        for group in self.param_groups:  # hyper-parameters that the saving version did not have
            for name, default in self.__dict__.get("defaults", {}).items():
                group.setdefault(name, default)

    def __repr__(self) -> str:
        groups = []
        for i, group in enumerate(self.param_groups):
            lines = [f"    {name}: {group[name]}\n" for name in sorted(group) if name != "params"]
            groups.append(f"\nParameter Group {i}\n" + "".join(lines))
        return f"{type(self).__name__} (" + "".join(groups) + ")"


def _unpack_params(group: dict[str, Any]) -> None:
    """``group["params"]`` as a list of tensors; names, where given, into ``"param_names"``."""
    params = group["params"]
    if isinstance(params, Tensor):
        group["params"] = [params]
        return
    if isinstance(params, set):
        raise TypeError(
            "optimizer parameters need to be organized in ordered collections, but the ordering "
            "of tensors in sets will change between runs. Please use a list instead."
        )
    params = list(params)
    named = [isinstance(p, tuple) for p in params]
    if any(named):
        if not all(named):
            raise ValueError(
                "all optimizer params should be with/without names. Some param names are missing"
            )
        group["param_names"] = [name for name, _ in params]
        params = [p for _, p in params]
    group["params"] = params


def _fitted(value: Any, param: Tensor, key: Hashable = None) -> Any:
    """Loaded state on the parameter's device and, where floating, in its dtype.

    Step counts stay as they are: float32 on the host.
    """
    if isinstance(value, Tensor):
        if key == "step":
            return value.to(dtype=dtypes.float32)
        if param.is_floating_point():
            return value.to(dtype=param.dtype, device=param.device)
        return value.to(device=param.device)
    if isinstance(value, dict):
        return {name: _fitted(entry, param, name) for name, entry in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return type(value)(_fitted(entry, param) for entry in value)  # type: ignore[call-arg]
    return value


# -- what the optimizers share -------------------------------------------------------------------


def check_at_least(low: float, **values: Any) -> None:
    """ValueError for the first of ``values`` (named in the message) that is below ``low``."""
    for name, value in values.items():
        if not low <= value:
            raise ValueError(f"Invalid {_LABELS.get(name, name)} value: {value}")


_LABELS = {"eps": "epsilon"}


def check_lr(lr: Any) -> None:
    """ValueError unless the learning rate is a number, or tensor of one, and not negative."""
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    if not lr >= 0.0:
        raise ValueError(f"Invalid learning rate: {lr}; it must be 0 or more")


def check_implementation(
    foreach: bool | None, fused: bool | None, differentiable: bool, lr: Any, capturable: bool
) -> None:
    """Raises for combinations of the implementation flags that PyTorch refuses.

    The flags change nothing else here: every update is fused by the compiler.
    """
    if fused and differentiable:
        raise RuntimeError("`fused` does not support `differentiable`")
    if fused and foreach:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
    if isinstance(lr, Tensor) and foreach and not capturable:
        raise ValueError("lr as a Tensor is not supported for capturable=False and foreach=True")


def number(value: Any) -> float:
    """A hyper-parameter as a Python number; tensors of one element are read."""
    return value.item() if isinstance(value, Tensor) else value


def with_gradients(group: dict[str, Any], name: str) -> list[Tensor]:
    """The group's parameters that have gradients; RuntimeError for sparse ones."""
    params = [p for p in group["params"] if p.grad is not None]
    for p in params:
        if p.grad.is_sparse:
            raise RuntimeError(f"{name} does not support sparse gradients")
    return params


def advance(states: Sequence[dict[str, Any]]) -> dict[float, list[int]]:
    """Counts one step in every state; returns positions by the count reached.

    ``state["step"]`` is a 0-dimensional float32 tensor that is never written, but replaced by
    one that all parameters of equal count share: so a step makes one tensor and reads one,
    and reading never waits.
    """
    counts: dict[int, float] = {}
    made: dict[float, Tensor] = {}
    positions: dict[float, list[int]] = {}
    for i, state in enumerate(states):
        step = state["step"]
        count = counts.get(id(step))
        if count is None:
            count = counts[id(step)] = float(step) + 1.0
        if count not in made:
            made[count] = step_count(count)
            positions[count] = []
        positions[count].append(i)
    for count, those in positions.items():
        for i in those:
            states[i]["step"] = made[count]
    return positions


def step_count(count: float) -> Tensor:
    """A step count as the 0-dimensional tensor that the state keeps."""
    return recorder.constant(np.array(count, dtype=np.float32))


def pick(values: Sequence[Any], positions: Sequence[int]) -> list[Any]:
    """The values at ``positions``."""
    return [values[i] for i in positions]
