"""``torch.cuda`` without a GPU and ``torch.backends``: what asks is answered, the rest raises."""

from __future__ import annotations

import pytest

from taimatsu import backends, cuda, devices
from taimatsu.config import config


@pytest.fixture
def on_cpu(monkeypatch):
    """As under ``taimatsu run --device cpu``."""
    monkeypatch.setitem(vars(config), "device", "cpu")
    monkeypatch.setattr(devices, "_told", True)


CALLS = [
    ("is_available",),
    ("device_count",),
    ("current_device",),
    ("empty_cache",),
    ("manual_seed", 0),
    ("manual_seed_all", 0),
    ("seed",),
    ("seed_all",),
    ("initial_seed",),
    ("synchronize",),
    ("set_device", -1),
    ("get_device_name",),
    ("get_device_name", 0),
    ("get_device_capability",),
    ("get_device_properties", 0),
    ("memory_allocated",),
    ("max_memory_allocated",),
    ("memory_reserved",),
    ("max_memory_reserved",),
    ("memory_stats",),
    ("is_bf16_supported",),
    ("is_tf32_supported",),
    ("get_rng_state",),
    ("get_rng_state_all",),
    ("set_rng_state_all", []),
    ("current_stream",),
    ("default_stream",),
    ("is_initialized",),
    ("init",),
    ("ipc_collect",),
    ("mem_get_info",),
    ("get_arch_list",),
    ("can_device_access_peer", 0, 1),
    ("set_per_process_memory_fraction", 0.5),
]


def outcome(module, name, *args):
    try:
        return getattr(module, name)(*args)
    except AssertionError as error:
        return "Torch not compiled with CUDA enabled" in str(error)


@pytest.mark.parametrize("call", CALLS, ids=lambda c: c[0])
def test_parity(torch, call):
    if torch.cuda.is_available():
        pytest.skip("this PyTorch has a GPU")
    theirs = outcome(torch.cuda, *call)
    assert outcome(cuda, *call) == (dict(theirs) if isinstance(theirs, dict) else theirs)


@pytest.mark.parametrize("make", [cuda.Stream, cuda.Event, cuda.reset_peak_memory_stats])
def test_what_needs_a_gpu_raises(make):
    with pytest.raises(AssertionError, match="Torch not compiled with CUDA.*--device cpu"):
        make()


def test_unknown_names():
    with pytest.raises(AttributeError, match="taimatsu has no 'torch.cuda.nothing'"):
        cuda.nothing  # noqa: B018
    assert not hasattr(cuda, "nothing")


def test_the_cpu_stands_in(on_cpu):
    assert cuda.is_available() is False
    assert cuda.current_device() == 0
    cuda.set_device(0)
    cuda.synchronize()
    with cuda.device(0), cuda.stream(cuda.Stream()):
        cuda.current_stream().synchronize()
    with pytest.raises(AssertionError, match="no GPU to describe"):
        cuda.get_device_properties(0)


def test_events_take_times(on_cpu):
    start = cuda.Event(enable_timing=True)
    end = cuda.Event(enable_timing=True)
    with pytest.raises(RuntimeError, match="must be recorded"):
        start.elapsed_time(end)
    start.record()
    end.record()
    assert start.elapsed_time(end) >= 0
    with pytest.raises(RuntimeError, match="enable_timing=True"):
        start.elapsed_time(cuda.Event())


def test_cudnn_switches(torch):
    for name in ("enabled", "benchmark", "deterministic", "allow_tf32", "benchmark_limit"):
        assert getattr(backends.cudnn, name) == getattr(torch.backends.cudnn, name)
    with pytest.raises(RuntimeError, match="set_benchmark_cudnn expects a bool, but got str"):
        backends.cudnn.benchmark = "yes"
    with backends.cudnn.flags(enabled=False, benchmark=True):
        assert backends.cudnn.benchmark is True
        assert backends.cudnn.enabled is False
    assert backends.cudnn.benchmark is False
    assert backends.cudnn.enabled is True
    before = backends.cudnn.set_flags(_deterministic=True)
    assert before == (True, False, None, False, True)
    assert backends.cudnn.deterministic is True
    backends.cudnn.deterministic = False


def test_matmul_switches():
    assert backends.cuda.matmul.allow_tf32 is False
    backends.cuda.matmul.allow_tf32 = True
    assert backends.cuda.matmul.allow_tf32 is True
    backends.cuda.matmul.allow_tf32 = False
    with pytest.raises(AttributeError, match="Unknown attribute foo"):
        backends.cuda.matmul.foo = 1


def test_attention_switches():
    assert backends.cuda.flash_sdp_enabled()
    with backends.cuda.sdp_kernel(enable_flash=False):
        assert not backends.cuda.flash_sdp_enabled()
    assert backends.cuda.flash_sdp_enabled()


def test_no_library_is_there():
    for module in (
        backends.cudnn,
        backends.mkl,
        backends.mkldnn,
        backends.mps,
        backends.openmp,
        backends.opt_einsum,
    ):
        assert module.is_available() is False
    assert backends.cuda.is_built() is False
    assert backends.mps.is_built() is False
    assert backends.cudnn.version() is None
