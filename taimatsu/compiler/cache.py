"""Compiled objects on disk, found by what they were made from.

An entry's name is a hash of the IR, the target and the tools; its content carries a checksum.
Entries are written to a temporary file and moved into place, so that readers and writers in any
number of processes see whole ones or none; one that is broken all the same is dropped, and compiled
again. When the folder grows past its bound, the entries unused for longest go. Where the folder
cannot be used, the objects are kept in memory, and one line on standard error says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import sys
import threading
import time
from collections import OrderedDict
from pathlib import Path

from taimatsu import forks
from taimatsu.compiler.toolchain import fingerprint
from taimatsu.config import config

MAGIC = b"taimatsu object 1\n"
CHECKSUM_BYTES = 16
MIB = 1 << 20
MEMORY_BYTES = 64 * MIB  # what is kept in memory where there is no folder
FRESH_SECONDS = 3600  # an entry used this recently is not marked as used again
STALE_SECONDS = 3600  # a temporary file this old was left by a process that died
OFF = frozenset({"0", "off", "none"})

_lock = threading.RLock()  # finalizers of garbage may come back here


def key_of(ir: str, target_key: str, output: str = "object") -> str:
    """The name of what ``ir`` compiles to, for a target (all of its description, as text)."""
    digest = hashlib.blake2b(fingerprint().encode(), digest_size=20)
    for text in (target_key, output, ir):
        data = text.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def default_folder() -> Path:
    """Where this system keeps caches: ``$XDG_CACHE_HOME/taimatsu``, ``~/.cache/taimatsu``, ..."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "taimatsu"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "taimatsu"
    if sys.platform == "win32" and (base := os.environ.get("LOCALAPPDATA")):
        return Path(base) / "taimatsu" / "cache"
    return Path.home() / ".cache" / "taimatsu"


class ObjectCache:
    """Objects by key. Safe to use from several threads, and from several processes.

    Args:
        folder: where the entries lie; None keeps them in memory.
        limit: how many bytes the entries may take together.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, limit: int = 512 * MIB) -> None:
        self.folder = None if folder is None else Path(folder)
        self.limit = limit
        self._memory: OrderedDict[str, bytes] = OrderedDict()
        self._memory_bytes = 0
        self._unchecked = limit  # bytes written since the folder's size was last looked at
        self._readable = self.folder is not None
        self._writable = self.folder is not None
        self._prepared = False

    def get(self, key: str) -> bytes | None:
        """The object, or None. A broken entry is removed, and counts as absent."""
        self._prepare()
        if self._readable:
            path = self._path(key)
            try:
                data = path.read_bytes()
            except OSError:
                data = None
            if data is not None:
                code = unpack(data)
                if code is not None:
                    self._mark_used(path)
                    return code
                with contextlib.suppress(OSError):
                    path.unlink()
        with _lock:
            code = self._memory.get(key)
            if code is not None:
                self._memory.move_to_end(key)
            return code

    def put(self, key: str, code: bytes) -> None:
        """Keeps an object; what is there under the key already is replaced."""
        self._prepare()
        if self._writable:
            try:
                self._write(self._path(key), pack(code))
            except OSError as error:
                self._give_up_writing(error)
            else:
                self._bound(len(code))
                return
        self._keep_in_memory(key, code)

    def size(self) -> int:
        """The bytes that the entries on disk take."""
        return sum(size for _, size, _ in self._entries())

    def clear(self) -> None:
        """Removes all entries."""
        with _lock:
            self._memory.clear()
            self._memory_bytes = 0
        for _, _, path in self._entries():
            with contextlib.suppress(OSError):
                path.unlink()

    # The folder.

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / "objects" / key[:2] / key[2:]

    def _prepare(self) -> None:
        """Makes the folder, once. Code is loaded from it, so others must not be able to write."""
        if self._prepared:
            return
        self._prepared = True
        if self.folder is None:
            return
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            self._readable = False
            self._give_up_writing(error)
            return
        if reason := _untrusted(self.folder):
            self._readable = False
            self._give_up_writing(reason)

    def _give_up_writing(self, reason: object) -> None:
        with _lock:
            told, self._writable = not self._writable, False
        if not told:
            _say_memory_only(f"{self.folder}: {reason}")

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{os.getpid()}-{secrets.token_hex(6)}")
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def _mark_used(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > FRESH_SECONDS:
                os.utime(path)

    def _entries(self) -> list[tuple[float, int, Path]]:
        """(time of last use, size, path) of every entry; leftovers of dead writers are removed."""
        if self.folder is None:
            return []
        found = []
        for path in (self.folder / "objects").glob("??/*"):
            try:
                status = path.stat()
            except OSError:
                continue  # another process removed it
            if not path.name.startswith("."):
                found.append((status.st_mtime, status.st_size, path))
            elif time.time() - status.st_mtime > STALE_SECONDS:
                with contextlib.suppress(OSError):
                    path.unlink()
        return found

    def _bound(self, written: int) -> None:
        """Removes the entries unused for longest once the limit is passed.

        The folder is read at the first write, and then whenever this process has written a
        sixteenth of the limit.
        """
        with _lock:
            self._unchecked += written
            if self._unchecked <= self.limit // 16:
                return
            self._unchecked = 0
        entries = sorted(self._entries())
        excess = sum(size for _, size, _ in entries) - self.limit
        if excess <= 0:
            return
        excess += self.limit // 8  # so that not every write has to look again
        for _, size, path in entries:
            if excess <= 0:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            excess -= size

    # Memory.

    def _keep_in_memory(self, key: str, code: bytes) -> None:
        with _lock:
            self._memory_bytes -= len(self._memory.pop(key, b""))
            self._memory[key] = code
            self._memory_bytes += len(code)
            while self._memory_bytes > MEMORY_BYTES and len(self._memory) > 1:
                _, dropped = self._memory.popitem(last=False)
                self._memory_bytes -= len(dropped)


def pack(code: bytes) -> bytes:
    """The content of an entry: a magic word, a checksum, the object."""
    return MAGIC + hashlib.blake2b(code, digest_size=CHECKSUM_BYTES).digest() + code


def unpack(data: bytes) -> bytes | None:
    """The object in an entry; None if the entry is not whole."""
    begin = len(MAGIC) + CHECKSUM_BYTES
    code = data[begin:]
    return code if code and data == pack(code) else None


def _untrusted(folder: Path) -> str:
    """Why code in a folder must not be run; empty where it may."""
    if not hasattr(os, "geteuid"):
        return ""
    status = folder.stat()
    if status.st_uid not in (os.geteuid(), 0):
        return "the folder belongs to another user"
    if status.st_mode & stat.S_IWOTH:
        return "anybody can write to the folder"
    return ""


def _say_memory_only(reason: str) -> None:
    print(
        f"[taimatsu] compiled code is kept in memory only: {reason}; "
        "set TAIMATSU_CACHE to a folder of yours, or to off",
        file=sys.stderr,
    )


def configured_cache() -> ObjectCache:
    """The cache that TAIMATSU_CACHE and TAIMATSU_CACHE_SIZE ask for."""
    if config.cache.lower() in OFF:
        return ObjectCache(None)
    try:
        folder = Path(config.cache).expanduser() if config.cache else default_folder()
    except RuntimeError as error:  # a user without a home
        _say_memory_only(str(error))
        return ObjectCache(None)
    return ObjectCache(folder, config.cache_size * MIB)


forks.register(_lock.acquire, _lock.release, _lock.release)
