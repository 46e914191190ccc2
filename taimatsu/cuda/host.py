"""Which GPUs there are, and which is the current one: none, unless the CPU stands in for them."""

from __future__ import annotations

from typing import Any

from taimatsu import devices, recorder
from taimatsu.config import config


def need_gpu() -> None:
    """Refuses what needs a GPU, with PyTorch's error; passes where the CPU stands in for it."""
    if config.device != "cpu":
        devices.resolve("cuda")


def is_available() -> bool:
    """Whether GPUs can be used: False, also where the CPU stands in for them."""
    return False


def is_initialized() -> bool:
    """Whether CUDA was started: False."""
    return False


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether a GPU computes with bfloat16: False without one."""
    return False


def is_tf32_supported() -> bool:
    """Whether a GPU computes with TF32: False without one."""
    return False


def device_count() -> int:
    """The number of GPUs: 0."""
    return 0


def init() -> None:
    """Starts CUDA; AssertionError without it."""
    need_gpu()


def current_device() -> int:
    """The index of the current GPU."""
    need_gpu()
    return 0


def set_device(device: Any) -> None:
    """Makes a GPU the current one; a negative index does nothing, as in PyTorch."""
    if not (isinstance(device, int) and device < 0):
        need_gpu()


def get_device_name(device: Any = None) -> str:
    """The name of a GPU ("cpu" where that stands in for it)."""
    need_gpu()
    return "cpu"


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """The compute capability of a GPU; AssertionError, for the CPU has none."""
    raise _no_gpu("get_device_capability")


def get_device_properties(device: Any = None) -> Any:
    """The properties of a GPU; AssertionError, for the CPU has none of them."""
    raise _no_gpu("get_device_properties")


def _no_gpu(name: str) -> AssertionError:
    return AssertionError(
        f"[cuda.{name}] Torch not compiled with CUDA enabled: there is no GPU to describe; ask "
        "torch.cuda.is_available() first"
    )


def can_device_access_peer(device: Any, peer_device: Any) -> bool:
    """Whether one GPU reads another's memory; AssertionError without them."""
    raise _no_gpu("can_device_access_peer")


def get_arch_list() -> list[str]:
    """The architectures that code was compiled for: none."""
    return []


def get_gencode_flags() -> str:
    """The compiler flags for them: none."""
    return ""


def synchronize(device: Any = None) -> None:
    """Waits for the GPU; where the CPU stands in for it, carries out what is recorded."""
    need_gpu()
    recorder.flush()


class device:  # noqa: N801 (PyTorch's name)
    """Context manager: makes a GPU the current one for a block (nothing for index -1)."""

    def __init__(self, device: Any) -> None:
        self.idx = -1 if device is None else getattr(device, "index", device)

    def __enter__(self) -> None:
        set_device(self.idx)

    def __exit__(self, *exception: Any) -> None:
        pass


class device_of(device):  # noqa: N801 (PyTorch's name)
    """Context manager: makes the GPU that ``obj`` is on the current one (nothing for others)."""

    def __init__(self, obj: Any) -> None:
        super().__init__(-1)
