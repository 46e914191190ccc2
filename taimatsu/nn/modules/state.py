"""``state_dict`` and ``load_state_dict``: the values of a module by name, out and in."""

from __future__ import annotations

import itertools
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from taimatsu.autograd import no_grad
from taimatsu.nn.modules.hooks import RemovableHandle, add_hook
from taimatsu.nn.parameter import Parameter
from taimatsu.tensor import Tensor

_EXTRA_STATE_KEY_SUFFIX = "_extra_state"

STATE_HOOKS = (
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


class _IncompatibleKeys(namedtuple("IncompatibleKeys", ["missing_keys", "unexpected_keys"])):
    """What ``load_state_dict`` returns: names absent from the dict, names it has too many."""

    __slots__ = ()

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return super().__repr__()

    __str__ = __repr__


class StateDict:
    """The part of a module that gives out its state and takes it in."""

    _version: int = 1

    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Any]
    _non_persistent_buffers_set: set[str]
    _state_dict_hooks: OrderedDict[int, Callable]
    _state_dict_pre_hooks: OrderedDict[int, Callable]
    _load_state_dict_pre_hooks: OrderedDict[int, Callable]
    _load_state_dict_post_hooks: OrderedDict[int, Callable]

    def get_extra_state(self) -> Any:
        """Override together with ``set_extra_state`` to keep more than tensors in state_dict."""
        raise RuntimeError(
            "[get_extra_state] expected the module to define get_extra_state: "
            "override it together with set_extra_state"
        )

    def set_extra_state(self, state: Any) -> None:
        """Takes in what ``get_extra_state`` gave."""
        raise RuntimeError(
            "[set_extra_state] expected the module to define set_extra_state: "
            "override it together with get_extra_state"
        )

    def _has_extra_state(self) -> bool:
        return type(self).get_extra_state is not StateDict.get_extra_state

    # -- out ---------------------------------------------------------------------------------

    def _named_state(self) -> Iterator[tuple[str, Tensor]]:
        """This module's own parameters and persistent buffers that are not None."""
        persistent = {
            name: value
            for name, value in self._buffers.items()
            if name not in self._non_persistent_buffers_set
        }
        for name, value in itertools.chain(self._parameters.items(), persistent.items()):
            if value is not None:
                yield name, value

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        """Writes this module's own state (not its children's) into ``destination``."""
        for name, value in self._named_state():
            destination[prefix + name] = value if keep_vars else value.detach()
        if self._has_extra_state():
            destination[prefix + _EXTRA_STATE_KEY_SUFFIX] = self.get_extra_state()

    def state_dict(
        self,
        *args: Any,
        destination: dict | None = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> dict[str, Any]:
        """Parameters and persistent buffers by dotted name, the children's included.

        The tensors share storage with the module's; they are detached unless ``keep_vars``.
        """
        if args:  # the positional form of long ago
            given = dict(zip(("destination", "prefix", "keep_vars"), args, strict=False))
            destination = given.get("destination", destination)
            prefix = given.get("prefix", prefix)
            keep_vars = given.get("keep_vars", keep_vars)
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()  # type: ignore[attr-defined]
        local_metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = local_metadata
        for hook in self._state_dict_pre_hooks.values():
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, child in self._modules.items():
            if child is not None:
                child.state_dict(
                    destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars
                )
        for hook in self._state_dict_hooks.values():
            answer = hook(self, destination, prefix, local_metadata)
            if getattr(hook, "_from_public_api", False):
                if answer is not None:
                    raise RuntimeError("state_dict post-hook must return None")
            elif answer is not None:
                destination = answer
        return destination

    def register_state_dict_pre_hook(self, hook: Callable) -> RemovableHandle:
        """Calls ``hook(module, prefix, keep_vars)`` before ``state_dict`` collects."""
        return add_hook(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook: Callable) -> RemovableHandle:
        """Calls ``hook(module, state_dict, prefix, local_metadata)``, which may edit the dict."""
        hook._from_public_api = True  # type: ignore[attr-defined]
        return add_hook(self._state_dict_hooks, hook)

    def _register_state_dict_hook(self, hook: Callable) -> RemovableHandle:
        if getattr(hook, "_from_public_api", False):
            raise RuntimeError(
                "Cannot register the same function as the state dict post hook that was "
                "previously registered via register_state_dict_post_hook"
            )
        return add_hook(self._state_dict_hooks, hook)

    # -- in ----------------------------------------------------------------------------------

    def register_load_state_dict_pre_hook(self, hook: Callable) -> RemovableHandle:
        """Calls ``hook(module, state_dict, prefix, local_metadata, strict, missing_keys,
        unexpected_keys, error_msgs)`` before this module's own state is taken in."""
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def _register_load_state_dict_pre_hook(
        self, hook: Callable, with_module: bool = False
    ) -> RemovableHandle:
        return add_hook(self._load_state_dict_pre_hooks, _PreHook(hook, with_module))

    def register_load_state_dict_post_hook(self, hook: Callable) -> RemovableHandle:
        """Calls ``hook(module, incompatible_keys)`` after loading; it may edit the key lists."""
        return add_hook(self._load_state_dict_post_hooks, hook)

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: dict,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Takes in this module's own state; what does not fit goes into the three lists."""
        for hook in self._load_state_dict_pre_hooks.values():
            call = hook if not isinstance(hook, _PreHook) else hook.bound(self)
            call(
                state_dict, prefix, local_metadata, strict,
                missing_keys, unexpected_keys, error_msgs,
            )  # fmt: skip
        assign = local_metadata.get("assign_to_params_buffers", False)
        for name, value in list(self._named_state()):
            key = prefix + name
            if key not in state_dict:
                if strict:
                    missing_keys.append(key)
                continue
            problem = self._load_one(name, key, value, state_dict[key], assign)
            if problem:
                error_msgs.append(problem)
        self._load_extra_state(state_dict, prefix, strict, missing_keys, unexpected_keys)
        if strict:
            unexpected_keys.extend(self._unexpected(state_dict, prefix))

    def _load_one(self, name: str, key: str, own: Tensor, given: Any, assign: bool) -> str | None:
        """Copies (or assigns) one value; returns what is wrong with it, or None."""
        if not isinstance(given, Tensor):
            return (
                f'While copying the parameter named "{key}", expected torch.Tensor or '
                f"Tensor-like object from checkpoint but received {type(given)}"
            )
        if own.ndim == 0 and given.ndim == 1 and given.shape[0] == 1:
            given = given[0]  # checkpoints from before 0-dimensional tensors
        if given.shape != own.shape:
            return (
                f"size mismatch for {key}: copying a param with shape {given.shape} from "
                f"checkpoint, the shape in current model is {own.shape}."
            )
        try:
            with no_grad():
                if assign:
                    self._assign_one(name, own, given)
                else:
                    own.copy_(given)
        except Exception as error:
            return (
                f'While copying the parameter named "{key}", whose dimensions in the model are '
                f"{own.size()} and whose dimensions in the checkpoint are {given.size()}, "
                f"an exception occurred : {error.args}."
            )
        return None

    def _assign_one(self, name: str, own: Tensor, given: Tensor) -> None:
        if isinstance(own, Parameter):
            if not isinstance(given, Parameter):
                given = Parameter(given, requires_grad=own.requires_grad)
            else:
                given.requires_grad_(own.requires_grad)
        setattr(self, name, given)

    def _load_extra_state(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
    ) -> None:
        key = prefix + _EXTRA_STATE_KEY_SUFFIX
        if type(self).set_extra_state is not StateDict.set_extra_state:
            if key in state_dict:
                self.set_extra_state(state_dict[key])
            elif strict:
                missing_keys.append(key)
        elif strict and key in state_dict:
            unexpected_keys.append(key)

    def _unexpected(self, state_dict: Mapping[str, Any], prefix: str) -> Iterator[str]:
        own = {name for name, _ in self._named_state()}
        extra = prefix + _EXTRA_STATE_KEY_SUFFIX
        for key in state_dict:
            if not key.startswith(prefix) or key == extra:
                continue
            first, dot, _ = key[len(prefix) :].partition(".")
            # "child.rest" is the child's to judge, unless no child is called so.
            known = first in self._modules if dot else first in self._modules or first in own
            if not known:
                yield key

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> _IncompatibleKeys:
        """Copies the values of ``state_dict`` into this module and its children.

        With ``strict`` the names must be exactly those of ``self.state_dict()``. With ``assign``
        the tensors themselves become the module's (keeping their dtype and device) instead of
        being copied. Returns the missing and the unexpected names; raises RuntimeError listing
        everything that does not fit, TypeError when ``state_dict`` is not a mapping.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"Expected state_dict to be dict-like, got {type(state_dict)}; give what "
                "model.state_dict() gave, or torch.load(path)"
            )
        missing_keys: list[str] = []
        unexpected_keys: list[str] = []
        error_msgs: list[str] = []
        metadata = getattr(state_dict, "_metadata", None)
        state_dict = OrderedDict(state_dict)
        if metadata is not None:
            state_dict._metadata = metadata  # type: ignore[attr-defined]

        def load(module: Any, local: Mapping[str, Any], prefix: str = "") -> None:
            local_metadata = {} if metadata is None else metadata.get(prefix[:-1], {})
            if assign:
                local_metadata["assign_to_params_buffers"] = True
            module._load_from_state_dict(
                local, prefix, local_metadata, True, missing_keys, unexpected_keys, error_msgs
            )
            for name, child in module._modules.items():
                if child is not None:
                    start = f"{prefix}{name}."
                    below = {k: v for k, v in local.items() if k.startswith(start)}
                    load(child, below, start)
            keys = _IncompatibleKeys(missing_keys, unexpected_keys)
            for hook in module._load_state_dict_post_hooks.values():
                if hook(module, keys) is not None:
                    raise RuntimeError(
                        "Hooks registered with register_load_state_dict_post_hook are not "
                        "expected to return new values; edit the lists of keys in place"
                    )

        load(self, state_dict)
        if strict:
            if unexpected_keys:
                error_msgs.insert(0, _key_message("Unexpected", unexpected_keys))
            if missing_keys:
                error_msgs.insert(0, _key_message("Missing", missing_keys))
        if error_msgs:
            hints = _loading_hints(self, missing_keys, unexpected_keys, error_msgs)
            raise RuntimeError(
                "Error(s) in loading state_dict for {}:\n\t{}".format(
                    type(self).__name__, "\n\t".join(error_msgs + hints)
                )
            )
        return _IncompatibleKeys(missing_keys, unexpected_keys)


class _PreHook:
    """A load hook that may want the module; pickles, and does not keep the module alive."""

    def __init__(self, hook: Callable, with_module: bool) -> None:
        self.hook = hook
        self.with_module = with_module

    def bound(self, module: Any) -> Callable:
        if not self.with_module:
            return self.hook
        return lambda *args: self.hook(module, *args)

    def __call__(self, *args: Any) -> Any:
        return self.hook(*args)


def _loading_hints(model: Any, missing: list, unexpected: list, errors: list) -> list[str]:
    """What may help against these errors of loading."""
    hints = []
    if any("size mismatch" in text for text in errors):
        hints.append(
            "the weights are of a model with other sizes: make the model with the same classes, "
            "channels and features, or leave these entries out"
        )
    stripped = {name.removeprefix("module.") for name in unexpected}
    if unexpected and all(name.startswith("module.") for name in unexpected):
        hints.append(
            "names that begin with 'module.' were saved from a DataParallel model: take that off, "
            "{k.removeprefix('module.'): v for k, v in weights.items()}"
        )
    if (missing or unexpected) and not stripped & set(missing):
        hints.append("strict=False loads the entries that fit, and leaves the others as they are")
    return [f"Hint: {hint}." for hint in hints]


def _key_message(kind: str, keys: list[str]) -> str:
    return "{} key(s) in state_dict: {}. ".format(kind, ", ".join(f'"{key}"' for key in keys))
