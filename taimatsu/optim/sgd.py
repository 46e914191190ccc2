"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taimatsu.optim.optimizer import (
    Optimizer,
    check_at_least,
    check_implementation,
    check_lr,
    number,
    with_gradients,
)
from taimatsu.optim.replay import replayed
from taimatsu.tensor import Tensor

__all__ = ["SGD", "sgd"]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (Sutskever et al., 2013) if asked.

    With gradient g, momentum μ and dampening τ: v = μ v + (1 - τ) g and p = p - lr v; with
    ``nesterov`` p = p - lr (g + μ v). The first step sets v = g.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float | Tensor = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_lr(lr)
        check_at_least(0.0, momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError(
                "Nesterov momentum requires a momentum and zero dampening; got "
                f"momentum={momentum}, dampening={dampening}; give for example momentum=0.9"
            )
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        check_implementation(foreach, fused, differentiable, lr, False)
        super().__init__(params, defaults)

    def _update_group(self, group: dict[str, Any]) -> None:
        params = with_gradients(group, "SGD")
        momentum = number(group["momentum"])
        options = {
            "lr": number(group["lr"]),
            "weight_decay": number(group["weight_decay"]) or None,
            "nesterov": group["nesterov"],
            "maximize": group["maximize"],
        }
        if not momentum:
            sgd(params, [p.grad for p in params], None, **options)
            return
        new = [p for p in params if self.state[p].get("momentum_buffer") is None]
        old = [p for p in params if self.state[p].get("momentum_buffer") is not None]
        for p in new:
            # From zero, and without dampening, the first step gives v = g.
            self.state[p]["momentum_buffer"] = p.grad.detach().new_zeros(p.grad.shape)
        for these, dampening in ((new, 0.0), (old, group["dampening"])):
            if these:
                buffers = [self.state[p]["momentum_buffer"] for p in these]
                grads = [p.grad for p in these]
                sgd(
                    these, grads, buffers,
                    momentum=momentum, keep=1 - dampening, **options,
                )  # fmt: skip


@replayed
def sgd(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    momentum_buffers: Sequence[Tensor] | None,
    *,
    lr: float,
    momentum: float = 0.0,
    keep: float = 1.0,
    weight_decay: float | None = None,
    nesterov: bool = False,
    maximize: bool = False,
) -> None:
    """One step of SGD in place; ``keep`` is 1 - dampening."""
    for i, param in enumerate(params):
        grad = -grads[i] if maximize else grads[i]
        if weight_decay is not None:
            grad = grad.add(param, alpha=weight_decay)
        if momentum_buffers is not None:
            buffer = momentum_buffers[i]
            buffer.mul_(momentum).add_(grad, alpha=keep)
            grad = grad.add(buffer, alpha=momentum) if nesterov else buffer
        param.add_(grad, alpha=-lr)
