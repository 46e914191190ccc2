"""Adagrad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taimatsu.optim.optimizer import (
    Optimizer,
    advance,
    check_at_least,
    check_implementation,
    check_lr,
    number,
    pick,
    step_count,
    with_gradients,
)
from taimatsu.optim.replay import replayed
from taimatsu.tensor import Tensor

__all__ = ["Adagrad", "adagrad"]


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of all squared gradients (Duchi et al., 2011)."""

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_lr(lr)
        check_at_least(
            0.0,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
        )
        check_implementation(foreach, fused, differentiable, None, False)
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p] = {
                    "step": step_count(0.0),
                    "sum": p.detach().new_full(p.shape, group["initial_accumulator_value"]),
                }

    def share_memory(self) -> None:
        """Moves the sums into memory shared between processes."""
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["sum"].share_memory_()

    def _update_group(self, group: dict[str, Any]) -> None:
        params = with_gradients(group, "Adagrad")
        states = [self.state[p] for p in params]
        lr = number(group["lr"])
        for count, positions in advance(states).items():
            adagrad(
                pick(params, positions),
                [params[i].grad for i in positions],
                [states[i]["sum"] for i in positions],
                step_size=lr / (1 + (count - 1) * group["lr_decay"]),
                eps=group["eps"],
                weight_decay=number(group["weight_decay"]) or None,
                maximize=group["maximize"],
            )


@replayed
def adagrad(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    sums: Sequence[Tensor],
    *,
    step_size: float,
    eps: float,
    weight_decay: float | None,
    maximize: bool,
) -> None:
    """One step of Adagrad in place."""
    for i, param in enumerate(params):
        grad = -grads[i] if maximize else grads[i]
        if weight_decay is not None:
            grad = grad.add(param, alpha=weight_decay)
        sums[i].addcmul_(grad, grad, value=1)
        param.addcdiv_(grad, sums[i].sqrt().add_(eps), value=-step_size)
