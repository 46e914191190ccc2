"""Adam and AdamW."""

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

__all__ = ["Adam", "AdamW", "adam"]


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015): steps scaled by running means of gradients and their squares.

    ``amsgrad`` uses the largest mean square so far (Reddi et al., 2018); with
    ``decoupled_weight_decay`` it is AdamW.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        check_lr(lr)
        check_implementation(foreach, fused, differentiable, lr, capturable)
        check_at_least(0.0, eps=eps)
        for i, beta in enumerate(betas):
            if not 0.0 <= beta < 1.0:
                raise ValueError(
                    f"Invalid beta parameter at index {i}: {beta}; it must be in [0, 1)"
                )
        check_at_least(0.0, weight_decay=weight_decay)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    def _update_group(self, group: dict[str, Any]) -> None:
        params = with_gradients(group, "Adam")
        states = [self._state(p, group["amsgrad"]) for p in params]
        lr = number(group["lr"])
        beta1, beta2 = (number(beta) for beta in group["betas"])
        decay = number(group["weight_decay"])
        decoupled = group["decoupled_weight_decay"]
        for count, positions in advance(states).items():
            some = pick(states, positions)
            adam(
                pick(params, positions),
                [params[i].grad for i in positions],
                [state["exp_avg"] for state in some],
                [state["exp_avg_sq"] for state in some],
                [state["max_exp_avg_sq"] for state in some] if group["amsgrad"] else None,
                beta1=beta1,
                beta2=beta2,
                eps=group["eps"],
                step_size=lr / (1 - beta1**count),
                correction=(1 - beta2**count) ** 0.5,
                weight_decay=decay if decay and not decoupled else None,
                shrink=1 - lr * decay if decay and decoupled else None,
                maximize=group["maximize"],
            )

    def _state(self, param: Tensor, amsgrad: bool) -> dict[str, Any]:
        state = self.state[param]
        if not state:
            state["step"] = step_count(0.0)
            blank = param.detach()
            state["exp_avg"] = blank.new_zeros(param.shape)
            state["exp_avg_sq"] = blank.new_zeros(param.shape)
            if amsgrad:
                state["max_exp_avg_sq"] = blank.new_zeros(param.shape)
        return state


class AdamW(Adam):
    """Adam with weight decay apart from the gradient (Loshchilov and Hutter, 2019)."""

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True


@replayed
def adam(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    max_exp_avg_sqs: Sequence[Tensor] | None,
    *,
    beta1: float,
    beta2: float,
    eps: float,
    step_size: float,
    correction: float,
    weight_decay: float | None,
    shrink: float | None,
    maximize: bool,
) -> None:
    """One step of Adam in place.

    ``step_size`` and ``correction`` hold the bias corrections of the two means; ``weight_decay``
    adds to the gradient, ``shrink`` multiplies the parameter (decoupled decay).
    """
    for i, param in enumerate(params):
        grad = -grads[i] if maximize else grads[i]
        mean, square = exp_avgs[i], exp_avg_sqs[i]
        if shrink is not None:
            param.mul_(shrink)
        if weight_decay is not None:
            grad = grad.add(param, alpha=weight_decay)
        mean.lerp_(grad, 1 - beta1)
        square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        if max_exp_avg_sqs is not None:
            largest = max_exp_avg_sqs[i]
            largest.copy_(largest.maximum(square))
            square = largest
        scale = (square.sqrt() / correction).add_(eps)
        param.addcdiv_(mean, scale, value=-step_size)
