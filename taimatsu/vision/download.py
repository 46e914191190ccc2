"""Files from mirrors: checked by MD5 and put in place whole or not at all."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import IO

_TIMEOUT_SECONDS = 30
_STALE_SECONDS = 3600  # a partial file this old was left by a process that died
_CHUNK = 1 << 20
_AGENT = "taimatsu"


def md5_of(path: str) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check_integrity(path: str, md5: str | None = None) -> bool:
    """Whether ``path`` is a file, with this MD5 if one is given."""
    return os.path.isfile(path) and (md5 is None or md5_of(path) == md5)


@contextlib.contextmanager
def placed_whole(path: str) -> Iterator[IO[bytes]]:
    """A file to write, which takes the name ``path`` when the block ends without an exception."""
    folder, name = os.path.split(path)
    _remove_stale(folder, name)
    handle, partial = tempfile.mkstemp(prefix=f"{name}.", suffix=".part", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(partial)
        raise


def _remove_stale(folder: str, name: str) -> None:
    for entry in os.scandir(folder):
        if not entry.name.startswith(f"{name}.") or not entry.name.endswith(".part"):
            continue
        with contextlib.suppress(FileNotFoundError):  # another process may remove it too
            if time.time() - entry.stat().st_mtime > _STALE_SECONDS:
                os.remove(entry.path)


def download(url: str, path: str, md5: str | None = None) -> None:
    """Fetches ``url`` to ``path``.

    Raises:
        OSError: when the server cannot be reached or answers with an error.
        ValueError: when what came is incomplete or has another MD5.
    """
    request = urllib.request.Request(url, headers={"User-Agent": _AGENT})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
        digest = hashlib.md5(usedforsecurity=False)
        received = 0
        with placed_whole(path) as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                digest.update(chunk)
                received += len(chunk)
            announced = response.headers.get("Content-Length")
            if announced is not None and received != int(announced):
                raise ValueError(f"expected {announced} bytes, got {received}: cut off on the way")
            if md5 is not None and digest.hexdigest() != md5:
                raise ValueError(f"expected MD5 {md5}, got {digest.hexdigest()}: file corrupted")


def download_from_mirrors(
    mirrors: Sequence[str],
    filename: str,
    folder: str,
    md5: str | None = None,
    report: Callable[[str], None] = print,
) -> str:
    """``filename`` in ``folder``, fetched from the first mirror that has it intact; its path.

    A file that is there already and has the right MD5 is kept.

    Raises:
        RuntimeError: when every mirror fails, with the reason each one gave.
    """
    path = os.path.join(folder, filename)
    if check_integrity(path, md5):
        return path
    reasons = []
    for mirror in mirrors:
        url = f"{mirror}{filename}"
        report(f"Downloading {url} to {path}")
        try:
            download(url, path, md5)
            return path
        except (OSError, ValueError) as error:
            reasons.append(f"Tried {url}, got:\n{error}")
    raise RuntimeError(
        f"[download] Error downloading {filename}; fetch it by other means and place it in "
        f"{folder}:\n" + "\n".join(reasons)
    )


def extract_gzip(source: str, target: str) -> None:
    """Decompresses ``source`` to ``target``, whole or not at all."""
    with gzip.open(source, "rb") as packed, placed_whole(target) as file:
        shutil.copyfileobj(packed, file, _CHUNK)
