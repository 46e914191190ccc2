"""IDX files: what is read, and that nothing damaged is."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taimatsu.vision.idx import read_idx


def idx_bytes(array, code):
    header = struct.pack(">BBBB", 0, 0, code, array.ndim)
    return header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
GOOD = idx_bytes(IMAGES, 0x08)


@pytest.mark.parametrize(
    ("code", "dtype"),
    [(0x08, "u1"), (0x09, "i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")],
)
@pytest.mark.parametrize("packed", [False, True])
def test_all_types(tmp_path, code, dtype, packed):
    array = np.arange(-6, 6).astype(dtype).reshape(3, 4)
    data = idx_bytes(array, code)
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(data, mtime=0) if packed else data)
    read = read_idx(path)
    assert read.dtype == np.dtype(dtype).newbyteorder("=")
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "magic number"),
        (GOOD[:3], "magic number"),
        (b"\1" + GOOD[1:], "magic number"),
        (b"\0\0\x07\3" + GOOD[4:], "magic number"),
        (b"\0\0\x08\0" + GOOD[4:], "magic number"),
        (GOOD[:10], "3 extents"),
        (GOOD[:-1], "truncated"),
        (GOOD[:16], "truncated"),
        (GOOD + b"\0", "more data"),
        (GOOD[:4] + b"\xff" * 12 + GOOD[16:], "truncated"),
        (gzip.compress(GOOD, mtime=0)[:-9], "intact gzip data"),
        (
            gzip.compress(GOOD, mtime=0)[:12] + b"\xff\xff" + gzip.compress(GOOD)[14:],
            "intact gzip data",
        ),
        (gzip.compress(GOOD, mtime=0) + b"rest", "intact gzip data"),
        (gzip.compress(GOOD + b"\0", mtime=0), "more data"),
    ],
)
def test_damaged_files(tmp_path, data, message):
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_what_was_expected(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(GOOD)
    with pytest.raises(ValueError, match="expected 1 dimensions, got 3"):
        read_idx(path, ndim=1)
    with pytest.raises(ValueError, match="expected values of type int32"):
        read_idx(path, dtype=np.int32)


@given(st.data())
def test_any_change_of_header_or_length_is_noticed(tmp_path_factory, data):
    """Whatever happens to the bytes: an array of the size the header says, or a ValueError."""
    path = tmp_path_factory.mktemp("fuzz") / "file"
    damaged = bytearray(gzip.compress(GOOD, mtime=0) if data.draw(st.booleans()) else GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        damaged[position] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(0, len(damaged)))]
    damaged += data.draw(st.binary(max_size=3))
    path.write_bytes(bytes(damaged))
    try:
        read = read_idx(path)
    except ValueError:
        return
    header = 4 + 4 * read.ndim
    if damaged[:2] != b"\x1f\x8b":
        assert header + read.nbytes == len(damaged)
