"""Helpers around training; the public part is :mod:`taimatsu.utils.data`."""

from taimatsu.utils import data

__all__ = ["data"]
