"""``torch.device``: parsing, errors, identity; what a ``device=`` means on this machine."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest

from taimatsu import devices
from taimatsu.config import config
from taimatsu.devices import CPU, device, resolve


@pytest.fixture
def on_cpu(monkeypatch):
    """As under ``taimatsu run --device cpu``."""
    monkeypatch.setitem(vars(config), "device", "cpu")
    monkeypatch.setattr(devices, "_told", False)


NAMED = [
    (("cpu",), "cpu", None),
    (("cuda",), "cuda", None),
    (("cuda:0",), "cuda", 0),
    (("cuda:12",), "cuda", 12),
    (("cuda", 3), "cuda", 3),
    (("cpu", 0), "cpu", 0),
    (("mps",), "mps", None),
    (("meta",), "meta", None),
    ((device("cuda:1"),), "cuda", 1),
]


@pytest.mark.parametrize(("args", "kind", "index"), NAMED, ids=str)
def test_names(args, kind, index):
    made = device(*args)
    assert (made.type, made.index) == (kind, index)


def test_keywords():
    assert device(type="cuda", index=0) == device("cuda:0")
    assert device(type="cuda") == device("cuda")
    assert device(device="cuda") == device("cuda")
    assert device("cuda", index=1) == device("cuda:1")


def test_repr_and_str():
    assert repr(device("cpu")) == "device(type='cpu')"
    assert repr(device("cuda:0")) == "device(type='cuda', index=0)"
    assert str(device("cuda")) == "cuda"
    assert f"{device('cuda', 1)}" == "cuda:1"


def test_equality_and_hash():
    assert device("cuda:0") == device("cuda", 0)
    assert hash(device("cuda:0")) == hash(device("cuda", 0))
    assert device("cuda") != device("cuda:0")
    assert device("cuda") != "cuda"
    assert len({device("cpu"), device("cpu"), device("cuda")}) == 2
    with pytest.raises(TypeError):
        device("cpu") < device("cuda")  # noqa: B015


def test_copies_and_pickles():
    for made in (device("cpu"), device("cuda:1")):
        assert pickle.loads(pickle.dumps(made)) == made
        assert copy.deepcopy(made) == made
    assert made.__reduce__() == (device, ("cuda", 1))
    assert pickle.loads(pickle.dumps(devices.strided)) is devices.strided


WRONG = [
    (("",), RuntimeError, "Device string must not be empty"),
    (("foo",), RuntimeError, "Expected one of cpu, cuda, .* at start of device string: foo"),
    (("CUDA",), RuntimeError, "at start of device string: CUDA"),
    (("cuda:",), RuntimeError, "Invalid device string: 'cuda:'"),
    (("cuda:01",), RuntimeError, "Invalid device string: 'cuda:01'"),
    (("cuda:-1",), RuntimeError, "Invalid device string: 'cuda:-1'"),
    (("cuda:0:1",), RuntimeError, "Invalid device string: 'cuda:0:1'"),
    (("cpu1",), RuntimeError, "Invalid device string: 'cpu1'"),
    (("cuda", -1), RuntimeError, "Device index must not be negative"),
    ((-1,), RuntimeError, "Device index must not be negative"),
    (("cuda:0", 1), RuntimeError, "must not include an index because index was passed explicitly"),
    ((0,), RuntimeError, "Cannot access accelerator device when none is available"),
    ((), TypeError, r"invalid combination of arguments - got \(\)"),
    ((None,), TypeError, r"invalid combination of arguments - got \(NoneType\)"),
    ((1.5,), TypeError, r"invalid combination of arguments - got \(float\)"),
    ((True,), TypeError, r"invalid combination of arguments - got \(bool\)"),
    (("cuda", "0"), TypeError, "argument 'index' .* must be int, not str"),
    (("cuda", True), TypeError, "argument 'index' .* must be int, not bool"),
    ((device("cuda"), 1), TypeError, "argument 'type' .* must be str, not torch.device"),
]


@pytest.mark.parametrize(("args", "kind", "message"), WRONG, ids=str)
def test_errors(args, kind, message):
    with pytest.raises(kind, match=message):
        device(*args)


@pytest.mark.parametrize("args", [row[0] for row in NAMED + WRONG], ids=str)
def test_parity(torch, args):
    theirs = [torch.device(str(a)) if isinstance(a, device) else a for a in args]

    def outcome(make, given):
        try:
            return repr(make(*given))
        except (RuntimeError, TypeError) as error:
            return type(error)

    assert outcome(device, args) == outcome(torch.device, theirs)


def test_attributes_are_not_writable():
    with pytest.raises(AttributeError, match="attribute 'type' .* is not writable"):
        device("cpu").type = "cuda"
    with pytest.raises(AttributeError, match="has no attribute 'x'"):
        device("cpu").x = 1


def test_the_cpu_is_here():
    for given in (None, "cpu", "cpu:0", device("cpu", 3)):
        assert resolve(given) is CPU


def test_other_devices_are_refused_with_the_way_out():
    with pytest.raises(AssertionError, match="Torch not compiled with CUDA.*--device cpu"):
        resolve("cuda:0")
    with pytest.raises(NotImplementedError, match="--device cpu"):
        resolve("mps")
    with pytest.raises(NotImplementedError, match="meta"):
        resolve("meta")
    with pytest.raises(RuntimeError, match="none is available"):
        resolve(0)
    with pytest.raises(TypeError, match="argument 'device' must be torch.device, not float"):
        resolve(1.5)


def test_the_override_tells_once(on_cpu, capsys):
    for given in ("cuda:0", device("cuda"), 0, "mps", "cpu"):
        assert resolve(given) is CPU
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "'cuda:0'" in said


def test_the_override_changes_no_name(on_cpu):
    assert repr(device("cuda:0")) == "device(type='cuda', index=0)"
    with pytest.raises(RuntimeError, match="at start of device string: foo"):
        resolve("foo")


def test_default_device():
    assert devices.get_default_device() is CPU
    with device("cpu") as entered:
        assert entered == device("cpu")
        assert devices.get_default_device() is CPU
    with pytest.raises(AssertionError, match="CUDA"), device("cuda"):
        pass
    assert not devices._defaults.stack
    with pytest.raises(AssertionError, match="CUDA"):
        devices.set_default_device("cuda")
    devices.set_default_device("cpu")
    devices.set_default_device(None)


def test_blocks_belong_to_their_thread(on_cpu):
    seen = []
    with device("cuda"):
        thread = threading.Thread(target=lambda: seen.append(len(devices._defaults.stack)))
        thread.start()
        thread.join()
        assert len(devices._defaults.stack) == 1
    assert seen == [0]


def test_layouts_and_memory_formats():
    assert repr(devices.strided) == "torch.strided"
    assert repr(devices.channels_last) == "torch.channels_last"
    assert copy.deepcopy(devices.preserve_format) is devices.preserve_format
    with pytest.raises(TypeError, match="cannot create 'torch.layout' instances"):
        devices.layout()
    with pytest.raises(TypeError, match="cannot create 'torch.memory_format' instances"):
        devices.memory_format()
