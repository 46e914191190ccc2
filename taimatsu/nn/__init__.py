"""Building blocks of neural networks: modules, parameters, functions, initialisation."""

from taimatsu.nn import functional, init, modules, parameter, utils
from taimatsu.nn.modules import *  # noqa: F403
from taimatsu.nn.parameter import Buffer, Parameter

__all__ = [  # noqa: PLE0604
    "Buffer",
    "Parameter",
    "functional",
    "init",
    "modules",
    "parameter",
    "utils",
    *modules.__all__,
]
