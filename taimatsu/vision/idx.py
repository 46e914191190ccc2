"""Reader for IDX files, the format of MNIST: a magic number, the extents, the values.

The magic number is two zero bytes, a code for the type and the number of dimensions; all numbers
are big-endian. Plain and gzip-compressed files are told apart by their first bytes.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from typing import Any, BinaryIO, cast

import numpy as np

_TYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_GZIP_MAGIC = b"\x1f\x8b"
_READ_AT_ONCE = 1 << 20


def read_idx(
    path: str | os.PathLike,
    ndim: int | None = None,
    dtype: np.dtype | type | None = None,
) -> np.ndarray:
    """The array in the IDX file at ``path``, in native byte order.

    ``ndim`` and ``dtype`` say what is expected, where the caller knows.

    Raises:
        ValueError: for a file that is not what its header says (or not what was expected): wrong
            magic number, truncated, broken compression, bytes after the last value.
    """
    with open(path, "rb") as file:
        compressed = file.read(2) == _GZIP_MAGIC
        file.seek(0)
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=file) if compressed else file)
        try:
            return _read(stream, os.fspath(path), ndim, dtype)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _malformed(os.fspath(path), "intact gzip data", str(error)) from error


def _read(
    stream: BinaryIO, path: str, ndim: int | None, dtype: np.dtype | type | None
) -> np.ndarray:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or magic[3] == 0:
        raise _malformed(path, "an IDX magic number (0, 0, type, dimensions)", magic.hex(" "))
    kind = _TYPES[magic[2]]
    if dtype is not None and kind.newbyteorder("=") != np.dtype(dtype):
        raise _malformed(path, f"values of type {np.dtype(dtype)}", f"{kind}")
    if ndim is not None and magic[3] != ndim:
        raise _malformed(path, f"{ndim} dimensions", f"{magic[3]}")
    extents = stream.read(4 * magic[3])
    if len(extents) < 4 * magic[3]:
        raise _malformed(path, f"{magic[3]} extents", f"the end of the file ({len(extents)} bytes)")
    shape = struct.unpack(f">{magic[3]}I", extents)
    expected = math.prod(shape) * kind.itemsize
    data = _read_up_to(stream, expected)
    if len(data) < expected:
        raise _malformed(
            path,
            f"{expected} bytes of values for shape {shape}",
            f"{len(data)}: the file is truncated",
        )
    if stream.read(1):
        raise _malformed(path, f"the end of the file after {expected} bytes of values", "more data")
    values = np.frombuffer(data, kind).reshape(shape)
    return values.astype(kind.newbyteorder("="))


def _read_up_to(stream: BinaryIO, count: int) -> bytes:
    """At most ``count`` bytes, piece by piece: the header may claim more than there is."""
    pieces = []
    while count > 0 and (piece := stream.read(min(count, _READ_AT_ONCE))):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def _malformed(path: str, expected: str, got: str) -> ValueError:
    return ValueError(
        f"[read_idx] {path}: expected {expected}, got {got}; delete the file and fetch it again"
    )
