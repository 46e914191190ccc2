"""Optimizers and learning rate schedules."""

from taimatsu.optim import lr_scheduler
from taimatsu.optim.adagrad import Adagrad
from taimatsu.optim.adam import Adam, AdamW
from taimatsu.optim.optimizer import Optimizer
from taimatsu.optim.rmsprop import RMSprop
from taimatsu.optim.sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "lr_scheduler"]
