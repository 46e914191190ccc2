"""Building blocks of neural networks: modules, parameters, functions, initialisation."""

from taimatsu.nn import functional, init, modules, parameter, utils
from taimatsu.nn.modules import *
from taimatsu.nn.parameter import Buffer, Parameter

__all__ = [
    "Buffer",
    "Parameter",
    "functional",
    "init",
    "modules",
    "parameter",
    "utils",
    *modules.__all__,
]
