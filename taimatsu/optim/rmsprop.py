"""RMSprop."""

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
    step_count,
    with_gradients,
)
from taimatsu.optim.replay import replayed
from taimatsu.tensor import Tensor

__all__ = ["RMSprop", "rmsprop"]


class RMSprop(Optimizer):
    """Steps divided by a running root mean square of the gradient (Hinton, lecture 6e, 2012).

    ``centered`` divides by the running standard deviation instead (Graves, 2013).
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_lr(lr)
        check_implementation(foreach, None, differentiable, None, capturable)
        check_at_least(0.0, eps=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "capturable": capturable,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def _update_group(self, group: dict[str, Any]) -> None:
        params = with_gradients(group, "RMSprop")
        states = [self._state(p, group) for p in params]
        advance(states)
        momentum = number(group["momentum"])
        rmsprop(
            params,
            [p.grad for p in params],
            [state["square_avg"] for state in states],
            [state["grad_avg"] for state in states] if group["centered"] else None,
            [state["momentum_buffer"] for state in states] if momentum > 0 else None,
            lr=number(group["lr"]),
            alpha=group["alpha"],
            eps=group["eps"],
            weight_decay=number(group["weight_decay"]) or None,
            momentum=momentum,
            maximize=group["maximize"],
        )

    def _state(self, param: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        state = self.state[param]
        if not state:
            state["step"] = step_count(0.0)
            blank = param.detach()
            state["square_avg"] = blank.new_zeros(param.shape)
            if group["momentum"] > 0:
                state["momentum_buffer"] = blank.new_zeros(param.shape)
            if group["centered"]:
                state["grad_avg"] = blank.new_zeros(param.shape)
        return state


@replayed
def rmsprop(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    square_avgs: Sequence[Tensor],
    grad_avgs: Sequence[Tensor] | None,
    momentum_buffers: Sequence[Tensor] | None,
    *,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float | None,
    momentum: float,
    maximize: bool,
) -> None:
    """One step of RMSprop in place; with ``grad_avgs`` it is centered."""
    for i, param in enumerate(params):
        grad = -grads[i] if maximize else grads[i]
        if weight_decay is not None:
            grad = grad.add(param, alpha=weight_decay)
        square = square_avgs[i]
        square.mul_(alpha).addcmul_(grad, grad, value=1 - alpha)
        if grad_avgs is not None:
            mean = grad_avgs[i]
            mean.lerp_(grad, 1 - alpha)
            scale = square.addcmul(mean, mean, value=-1).sqrt_().add_(eps)
        else:
            scale = square.sqrt().add_(eps)
        if momentum_buffers is not None:
            buffer = momentum_buffers[i]
            buffer.mul_(momentum).addcdiv_(grad, scale)
            param.add_(buffer, alpha=-lr)
        else:
            param.addcdiv_(grad, scale, value=-lr)
