"""The cache of compiled code: whole entries or none, bounded, shared between processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from taimatsu.compiler import cache as cache_module
from taimatsu.compiler import toolchain
from taimatsu.compiler.cache import ObjectCache, configured_cache, default_folder, key_of, pack
from taimatsu.config import config

ROOT = Path(__file__).resolve().parents[2]
KEY = "ab" + "0" * 38


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "objects").rglob("*") if path.is_file())


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def test_what_is_put_is_found_again_by_others(folder):
    ObjectCache(folder).put(KEY, b"code")
    assert ObjectCache(folder).get(KEY) == b"code"
    assert ObjectCache(folder).get("cd" + KEY[2:]) is None
    assert (folder.stat().st_mode & 0o777) == 0o700
    assert len(entries(folder)) == 1, "no temporary file is left"


def test_keys_tell_apart_everything_that_matters(monkeypatch):
    keys = {key_of("a", "x86"), key_of("b", "x86"), key_of("a", "arm"), key_of("a", "x86", "ir")}
    keys |= {key_of("", "x86a"), key_of("x86a", "")}
    assert len(keys) == 6
    assert key_of("a", "x86") == key_of("a", "x86")
    monkeypatch.setattr(cache_module, "fingerprint", lambda: "another llvmlite")
    assert key_of("a", "x86") not in keys


def test_the_fingerprint_needs_llvmlite(monkeypatch):
    assert toolchain.fingerprint() == toolchain.fingerprint()
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install llvmlite"):
        toolchain.llvmlite_folder.__wrapped__()


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "foreign", "headless"])
def test_broken_entries_are_dropped_and_rebuilt(folder, damage):
    cache = ObjectCache(folder)
    cache.put(KEY, b"code" * 100)
    (path,) = entries(folder)
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[200] ^= 1
    broken = {
        "cut": bytes(data[:-1]),
        "flip": bytes(data),
        "empty": b"",
        "foreign": b"something else",
        "headless": pack(b""),
    }[damage]
    path.write_bytes(broken)
    assert cache.get(KEY) is None
    assert not entries(folder)
    cache.put(KEY, b"code")
    assert cache.get(KEY) == b"code"


def test_the_least_recently_used_go_first(folder):
    cache = ObjectCache(folder, limit=10_000)
    keys = [f"{i:02x}" + "0" * 38 for i in range(10)]
    now = time.time()
    for age, key in enumerate(keys):
        cache.put(key, bytes([age]) * 900)
        os.utime(cache._path(key), (now - 90_000 + age, now - 90_000 + age))
    assert cache.get(keys[0]) is not None, "which marks it as used"
    for i in range(10, 13):
        cache.put(f"{i:02x}" + "0" * 38, b"x" * 900)
    assert cache.size() <= 10_000
    assert cache.get(keys[0]) is not None
    assert cache.get(keys[1]) is None


def test_leftovers_of_dead_writers_are_removed(folder):
    cache = ObjectCache(folder)
    cache.put(KEY, b"code")
    left = cache._path(KEY).with_name(".123-abc")
    fresh = cache._path(KEY).with_name(".124-abc")
    left.write_bytes(b"half")
    fresh.write_bytes(b"half")
    os.utime(left, (0, 0))
    assert cache.size() > 0
    assert not left.exists()
    assert fresh.exists(), "its writer may be at work"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only_is_read(folder, capsys):
    ObjectCache(folder).put(KEY, b"code")
    folder.chmod(0o500)
    (folder / "objects").chmod(0o500)
    check_memory_fallback(ObjectCache(folder), capsys)


def test_no_folder_can_be_made(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    check_memory_fallback(ObjectCache(tmp_path / "file" / "cache"), capsys)


def test_a_disk_that_is_full(folder, capsys, monkeypatch):
    def refuse(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    check_memory_fallback(ObjectCache(folder), capsys)
    assert not entries(folder)


def check_memory_fallback(cache: ObjectCache, capsys) -> None:
    for i in range(3):
        cache.put(f"{i:040x}", b"more")
    assert cache.get(f"{1:040x}") == b"more"
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "kept in memory only" in said
    assert "TAIMATSU_CACHE" in said


@pytest.mark.skipif(os.name != "posix", reason="owners and modes")
def test_code_others_could_have_written_is_not_run(folder, capsys):
    ObjectCache(folder).put(KEY, b"code")
    folder.chmod(0o777)
    cache = ObjectCache(folder)
    assert cache.get(KEY) is None
    assert "anybody can write" in capsys.readouterr().err


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(cache_module, "MEMORY_BYTES", 1000)
    cache = ObjectCache(None)
    for i in range(5):
        cache.put(f"{i:02x}", b"x" * 300)
    assert cache.get("00") is None
    assert cache.get("04") is not None
    assert cache.size() == 0


def test_clear(folder):
    cache = ObjectCache(folder)
    cache.put(KEY, b"code")
    cache.clear()
    assert cache.get(KEY) is None
    assert cache.size() == 0


def test_the_flags(monkeypatch, tmp_path):
    monkeypatch.setattr(config, "cache", "off")
    assert configured_cache().folder is None
    monkeypatch.setattr(config, "cache", str(tmp_path / "x"))
    monkeypatch.setattr(config, "cache_size", 7)
    assert configured_cache().folder == tmp_path / "x"
    assert configured_cache().limit == 7 << 20
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "taimatsu"
    monkeypatch.setattr(config, "cache", "")
    assert configured_cache().folder == tmp_path / "taimatsu"


def test_a_user_without_a_home(monkeypatch, capsys):
    def refuse():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(config, "cache", "")
    monkeypatch.setattr(Path, "home", refuse)
    assert configured_cache().folder is None
    assert "home directory" in capsys.readouterr().err


WRITER = """
import sys
sys.path.insert(0, {root!r})
from taimatsu.compiler.cache import ObjectCache
cache = ObjectCache({folder!r}, limit=40_000)
for i in range(300):
    key = f"{{i % 40:02x}}"
    expected = bytes([i % 40]) * 2000
    code = cache.get(key * 20)
    assert code is None or code == expected, key
    cache.put(key * 20, expected)
"""


def test_processes_share_it(folder):
    script = WRITER.format(root=str(ROOT), folder=str(folder))
    others = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    assert [other.wait(timeout=60) for other in others] == [0, 0]
    assert ObjectCache(folder).size() < 80_000
    assert not [path for path in entries(folder) if path.name.startswith(".")]


def test_threads_share_it(folder):
    cache = ObjectCache(folder, limit=20_000)
    wrong = []

    def use() -> None:
        for i in range(100):
            cache.put(f"{i % 9:040x}", bytes([i % 9]) * 500)
            if cache.get(f"{i % 9:040x}") not in (None, bytes([i % 9]) * 500):
                wrong.append(i)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
