"""``torch.backends``: switches of libraries that PyTorch computes with.

taimatsu computes with none of them: every ``is_available()`` says so, and the switches keep what a
program sets (``cudnn.benchmark = True``) without changing a result, which is deterministic anyway.
"""

from taimatsu.backends import cuda, cudnn, mkl, mkldnn, mps, openmp, opt_einsum

__all__ = ["cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp", "opt_einsum"]
