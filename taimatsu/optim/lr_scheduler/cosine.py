"""Schedules along half cosines."""

from __future__ import annotations

import math
from typing import Any

from taimatsu.optim.lr_scheduler.base import LRScheduler
from taimatsu.optim.optimizer import Optimizer


class CosineAnnealingLR(LRScheduler):
    """From the initial rate to ``eta_min`` in ``T_max`` steps, and back, along a cosine.

    Loshchilov and Hutter, 2017 (without restarts). Written as a recursion on the rate, so that
    other schedules can act on the same optimizer.
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        self._warn_outside_step()
        if self._is_initial:
            return self._current()
        epoch = self.last_epoch
        if self._step_count == 1 and epoch > 0:
            return self._get_closed_form_lr(epoch)
        if (epoch - 1 - self.T_max) % (2 * self.T_max) == 0:
            # The step before was at the minimum, from which the recursion cannot leave.
            rise = 1 - math.cos(math.pi / self.T_max)
            pairs = zip(self._current(), self.base_lrs, strict=True)
            return [lr + (base - self.eta_min) * rise / 2 for lr, base in pairs]
        now = 1 + math.cos(math.pi * epoch / self.T_max)
        before = 1 + math.cos(math.pi * (epoch - 1) / self.T_max)
        return [now / before * (lr - self.eta_min) + self.eta_min for lr in self._current()]

    def _get_closed_form_lr(self, epoch: int | None = None) -> list[Any]:
        epoch = self.last_epoch if epoch is None else epoch
        height = 1 + math.cos(math.pi * epoch / self.T_max)
        return [self.eta_min + (base - self.eta_min) * height / 2 for base in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """Cosines from the initial rate to ``eta_min`` of ``T_0`` steps, then ``T_0 * T_mult``, ...

    SGDR (Loshchilov and Hutter, 2017). ``step(epoch)`` takes fractions of epochs.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        if not isinstance(T_0, int) or T_0 <= 0:
            raise ValueError(f"Expected positive integer T_0, but got {T_0}")
        if not isinstance(T_mult, int) or T_mult < 1:
            raise ValueError(f"Expected integer T_mult >= 1, but got {T_mult}")
        if not isinstance(eta_min, (float, int)):
            raise ValueError(
                f"Expected float or int eta_min, but got {eta_min} of type {type(eta_min)}"
            )
        self.T_0 = T_0
        self.T_i = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        self._warn_outside_step()
        height = 1 + math.cos(math.pi * self.T_cur / self.T_i)
        return [self.eta_min + (base - self.eta_min) * height / 2 for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Goes on by one epoch, or to ``epoch``, which may be fractional."""
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        else:
            self._go_to(epoch)
        self.last_epoch = math.floor(epoch)
        with self._in_step():
            values = self.get_lr()
        self._set_rates(values)

    def _go_to(self, epoch: float) -> None:
        """The position within its cycle, and the length of that cycle, of any epoch."""
        if epoch < 0:
            raise ValueError(f"Expected non-negative epoch, but got {epoch}")
        if epoch < self.T_0:
            self.T_i = self.T_0
            self.T_cur = epoch
        elif self.T_mult == 1:
            self.T_cur = epoch % self.T_0
        else:
            ratio = self.T_mult
            cycles = int(math.log(epoch / self.T_0 * (ratio - 1) + 1, ratio))
            self.T_cur = epoch - self.T_0 * (ratio**cycles - 1) / (ratio - 1)
            self.T_i = self.T_0 * ratio**cycles
