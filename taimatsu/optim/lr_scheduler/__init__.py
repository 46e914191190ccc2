"""Learning rate schedules: ``scheduler.step()`` after ``optimizer.step()``."""

from taimatsu.optim.lr_scheduler.base import LRScheduler
from taimatsu.optim.lr_scheduler.combined import ChainedScheduler, SequentialLR
from taimatsu.optim.lr_scheduler.cosine import CosineAnnealingLR, CosineAnnealingWarmRestarts
from taimatsu.optim.lr_scheduler.cyclic import CyclicLR, OneCycleLR
from taimatsu.optim.lr_scheduler.factors import (
    ConstantLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from taimatsu.optim.lr_scheduler.plateau import ReduceLROnPlateau

_LRScheduler = LRScheduler  # the name that programs of long ago inherit from

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]
