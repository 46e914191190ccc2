"""Anomaly mode: names the forward line of a backward step that gives NaN."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from taimatsu import recorder

_state = {"on": False, "check_nan": True}


def is_anomaly_enabled() -> bool:
    """Whether anomaly detection is on."""
    return _state["on"]


def is_anomaly_check_nan_enabled() -> bool:
    """Whether anomaly detection looks for NaN."""
    return _state["check_nan"]


def checks_nan() -> bool:
    """Whether the walk has to look at each gradient."""
    return _state["on"] and _state["check_nan"]


class set_detect_anomaly:  # noqa: N801 (PyTorch's name)
    """Sets anomaly detection, as a function or for a ``with`` block."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self.before = dict(_state)
        _state.update(on=bool(mode), check_nan=check_nan)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: Any) -> None:
        _state.update(self.before)


class detect_anomaly(set_detect_anomaly):  # noqa: N801 (PyTorch's name)
    """Anomaly detection for a ``with`` block."""

    def __init__(self, check_nan: bool = True) -> None:
        super().__init__(True, check_nan)
        warnings.warn(
            "Anomaly Detection has been enabled. This mode will increase the runtime and should "
            "only be enabled for debugging.",
            stacklevel=2,
        )


def refuse_nan(tape: Any, step: Any, results: list) -> None:
    """Raises if a step's gradients hold NaN, naming where its forward was called."""
    from taimatsu.autograd.node import step_name

    for position, gradient in enumerate(results):
        if gradient is None or not np.isnan(recorder.value(gradient)).any():
            continue
        warnings.warn(
            f"Error detected in {step_name(step)}. Its forward was called at {step.site}.",
            stacklevel=4,
        )
        raise RuntimeError(
            f"Function '{step_name(step)}' returned nan values in its {position}th output. "
            f"Its forward was called at {step.site}."
        )
