"""Exceptions, and the one form of message: what was expected, what came, how to mend it."""

from __future__ import annotations

from typing import Any

_combined: dict[type[Exception], type[Exception]] = {}


class OperationError(RuntimeError):
    """An operation was called wrongly; raised at the call that made it.

    ``make`` gives an instance that is also of the type that PyTorch raises, so that both
    ``except IndexError`` and ``except OperationError`` catch it.
    """

    @classmethod
    def make(
        cls,
        op_name: str,
        expected: str,
        got: str = "",
        hint: str = "",
        kind: type[Exception] = RuntimeError,
    ) -> Exception:
        """An exception of type ``kind`` reading ``[op] expected ...; got ...; hint``.

        ``expected`` is taken as it is when it begins a sentence of its own (PyTorch's well-known
        messages do), so that a search for the message finds it.
        """
        parts = [expected.rstrip(".") if got or hint else expected]
        if got:
            parts.append(got if got.startswith("got ") else f"got {got}")
        if hint:
            parts.append(hint)
        return operation_error_type(kind)(f"[{op_name}] " + "; ".join(parts))


class LinAlgError(RuntimeError):
    """A matrix for which a decomposition or a solution does not exist (``linalg.LinAlgError``)."""


# NumPy's names that PyTorch has under another: what a program that was ported by hand may ask for.
_NUMPY_NAMES = {
    ("tensor", "astype"): "x.to(dtype)",
    ("tensor", "copy"): "x.clone()",
    ("torch", "array"): "torch.tensor(data)",
    ("torch", "expand_dims"): "torch.unsqueeze(x, dim)",
    ("torch", "power"): "torch.pow(x, exponent)",
}


def numpy_hint(owner: str, name: str) -> str:
    """``; use x.to(dtype)`` for a name of NumPy's, else nothing."""
    found = _NUMPY_NAMES.get((owner, name))
    return f"; use {found}" if found else ""


def operation_error_type(kind: type[Exception]) -> type[Exception]:
    """The type that is both ``OperationError`` and ``kind``, made once; prints as ``kind``."""
    if kind not in _combined:
        # Not every pair of built-in exceptions can share one object layout.
        try:
            members: dict[str, Any] = {"__module__": "builtins", "__qualname__": kind.__name__}
            members["__reduce__"] = lambda self: (_rebuild, (kind, self.args))
            own = issubclass(OperationError, kind)
            bases = (OperationError,) if own else (kind, OperationError)
            _combined[kind] = type(kind.__name__, bases, members)
        except TypeError:
            _combined[kind] = kind
    return _combined[kind]


def _rebuild(kind: type[Exception], args: tuple) -> Exception:
    return operation_error_type(kind)(*args)
