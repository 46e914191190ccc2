"""MNIST from files and from a server, the digits in the package, folders of images."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import http.server
import os
import pickle
import struct
import sys
import threading
import time

import numpy as np
import pytest

import taimatsu
from taimatsu.vision import datasets, images, transforms
from taimatsu.vision.datasets import MNIST, Digits, FashionMNIST, ImageFolder

COUNTS = {"train": 5, "t10k": 3}
# SHA-256 of the training labels and the test labels after them: the split of the digits.
DIGITS_LABELS = "f3f7f8d2f6831544339a49d216d7390526016d6a5c138fc7a5dc7dd6e94c5f1b"


def mnist_files(rng):
    """The four files of a tiny MNIST, by name."""
    files = {}
    for part, count in COUNTS.items():
        pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8)
        files[f"{part}-images-idx3-ubyte"] = (
            struct.pack(">4I", 0x803, count, 28, 28) + pixels.tobytes()
        )
        files[f"{part}-labels-idx1-ubyte"] = struct.pack(">2I", 0x801, count) + labels.tobytes()
    return files


@pytest.fixture
def files(rng):
    return mnist_files(rng)


@pytest.fixture
def root(tmp_path, files):
    """A folder with a tiny MNIST, one file of it compressed."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, data in files.items():
        if name.startswith("t10k-images"):
            (raw / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (raw / name).write_bytes(data)
    return tmp_path


def test_data_and_targets(root, files):
    train = MNIST(root)
    assert len(train) == 5
    assert train.data.dtype == taimatsu.uint8
    assert train.targets.dtype == taimatsu.int64
    expected = np.frombuffer(files["train-images-idx3-ubyte"][16:], np.uint8).reshape(5, 28, 28)
    np.testing.assert_array_equal(train.data.numpy(), expected)
    assert train.targets.tolist() == [0, 1, 2, 3, 4]
    assert len(MNIST(root, train=False)) == 3
    assert train.class_to_idx["3 - three"] == 3
    assert train.classes[9] == "9 - nine"
    with pytest.warns(UserWarning, match="train_labels has been renamed targets"):
        assert train.train_labels.tolist() == [0, 1, 2, 3, 4]


def test_items(root):
    image, label = MNIST(root)[2]
    assert type(label) is int
    assert (image.mode, image.size, label) == ("L", (28, 28), 2)
    changed = MNIST(root, transform=transforms.ToTensor(), target_transform=lambda y: -y)
    tensor, label = changed[2]
    np.testing.assert_array_equal(tensor[0].numpy(), np.asarray(image, np.float32) / 255)
    assert label == -2
    assert changed[-1][1] == -4
    with pytest.raises(IndexError):
        changed[5]


def test_without_pillow(root, monkeypatch):
    with_pillow = MNIST(root, transform=transforms.ToTensor())[1][0]
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    images._have_pillow.cache_clear()
    with pytest.warns(UserWarning, match="Pillow is not installed"):
        image = MNIST(root)[1][0]
    assert isinstance(image, np.ndarray)
    without = MNIST(root, transform=transforms.ToTensor())[1][0]
    assert taimatsu.equal(with_pillow, without)
    with pytest.raises(ImportError, match="pip install 'taimatsu"):
        transforms.ToPILImage()(without)
    images._have_pillow.cache_clear()


def test_repr(root):
    chain = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    assert repr(MNIST(str(root), transform=chain)) == (
        "Dataset MNIST\n"
        "    Number of datapoints: 5\n"
        f"    Root location: {root}\n"
        "    Split: Train\n"
        "    StandardTransform\n"
        "Transform: Compose(\n"
        "               ToTensor()\n"
        "               Normalize(mean=(0.5,), std=(0.5,))\n"
        "           )"
    )
    assert repr(MNIST(str(root), train=False)) == (
        f"Dataset MNIST\n    Number of datapoints: 3\n    Root location: {root}\n    Split: Test"
    )


def test_a_dataset_can_be_pickled(root):
    copy = pickle.loads(pickle.dumps(MNIST(root)))
    assert copy.targets.tolist() == [0, 1, 2, 3, 4]


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(RuntimeError, match="Dataset not found. You can use download=True"):
        MNIST(tmp_path)


def test_files_that_do_not_fit_together(root, files):
    path = root / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    path.write_bytes(struct.pack(">2I", 0x801, 4) + bytes(4))
    with pytest.raises(ValueError, match="5 images in .* and 4 labels"):
        MNIST(root)
    path.write_bytes(files["train-images-idx3-ubyte"])
    with pytest.raises(ValueError, match="expected 1 dimensions, got 3"):
        MNIST(root)
    path = root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(struct.pack(">4I", 0x803, 5, 2, 2) + bytes(20))
    (root / "MNIST" / "raw" / "train-labels-idx1-ubyte").write_bytes(
        files["train-labels-idx1-ubyte"]
    )
    with pytest.raises(ValueError, match="expected images of 28 by 28, got 2 by 2"):
        MNIST(root)


# -- downloads ----------------------------------------------------------------------------------


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.asked.append(self.path)
        cut = self.server.cut
        if not cut:
            super().do_GET()
            return
        # Announces more than it sends.
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"x" * 10)


@contextlib.contextmanager
def serving(folder, cut=False):
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked = []
        server.cut = cut
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/", server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def mirror(tmp_path, files):
    """A folder as a mirror has it, and the dataset class that knows its checksums."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    resources = []
    for name, data in files.items():
        packed = gzip.compress(data)
        (folder / f"{name}.gz").write_bytes(packed)
        resources.append((f"{name}.gz", hashlib.md5(packed).hexdigest()))

    class Mirrored(MNIST):
        mirrors = []

    Mirrored.resources = resources
    return folder, Mirrored


def test_download(mirror, tmp_path, capsys):
    folder, kind = mirror
    with serving(folder) as (url, server):
        kind.mirrors = [url]
        assert len(kind(tmp_path, download=True)) == 5
        assert len(server.asked) == 4
        assert len(kind(tmp_path, download=True)) == 5
        assert len(server.asked) == 4  # nothing is fetched twice
    assert "Downloading http://127.0.0.1" in capsys.readouterr().out
    raw = tmp_path / "Mirrored" / "raw"
    assert not list(raw.glob("*.part"))
    # What went missing is unpacked again from the archive that is there.
    (raw / "train-labels-idx1-ubyte").unlink()
    assert len(kind(tmp_path, download=True)) == 5


def test_the_second_mirror(mirror, tmp_path):
    folder, kind = mirror
    with serving(folder) as (good, _), serving(folder, cut=True) as (bad, broken):
        kind.mirrors = [bad, good]
        assert len(kind(tmp_path, download=True)) == 5
        assert len(broken.asked) == 4


def test_all_mirrors_fail(mirror, tmp_path):
    folder, kind = mirror
    empty = tmp_path / "empty"
    empty.mkdir()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"something else")
    with serving(folder) as (wrong, _), serving(empty) as (missing, _):
        kind.mirrors = [wrong, missing, "http://127.0.0.1:1/"]
        with pytest.raises(RuntimeError, match="Error downloading train-images") as caught:
            kind(tmp_path, download=True)
    text = str(caught.value)
    assert "expected MD5" in text
    assert "404" in text
    assert "refused" in text
    assert list((tmp_path / "Mirrored" / "raw").iterdir()) == []


def test_old_partial_files_are_removed(mirror, tmp_path):
    folder, kind = mirror
    raw = tmp_path / "Mirrored" / "raw"
    raw.mkdir(parents=True)
    old = raw / "train-images-idx3-ubyte.gz.abc.part"
    new = raw / "train-images-idx3-ubyte.gz.def.part"
    old.write_bytes(b"old")
    new.write_bytes(b"another process writes it now")
    os.utime(old, (time.time() - 7200,) * 2)
    with serving(folder) as (url, _):
        kind.mirrors = [url]
        kind(tmp_path, download=True)
    assert not old.exists()
    assert new.exists()


def test_the_known_sources():
    assert FashionMNIST.classes[9] == "Ankle boot"
    for kind in (MNIST, FashionMNIST, datasets.KMNIST):
        assert len(kind.resources) == 4
        assert all(len(md5) == 32 for _, md5 in kind.resources)
        assert all(url.endswith("/") for url in kind.mirrors)


# -- digits ---------------------------------------------------------------------------------------


def test_digits_parts():
    train, test = Digits(), Digits("ignored", train=False, download=True)
    assert (len(train), len(test)) == (1437, 360)
    assert taimatsu.bincount(test.targets).tolist() == [36] * 10
    assert train.data.shape == (1437, 28, 28)
    assert train.data.dtype == taimatsu.uint8
    assert train.data.max().item() == 255
    assert train.data.min().item() == 0
    # No image is in both parts (apart from look-alikes, which the data does not have).
    rows = {image.tobytes() for image in train.data.numpy()}
    assert not any(image.tobytes() in rows for image in test.data.numpy())


def test_digits_never_change():
    digest = hashlib.sha256()
    for train in (True, False):
        part = Digits(train=train)
        digest.update(part.targets.numpy().tobytes())
    assert digest.hexdigest() == DIGITS_LABELS
    brightness = Digits().data.to(taimatsu.float64).mean().item()
    assert brightness == pytest.approx(50.9117, abs=1e-3)


def test_digits_are_scikit_learns():
    sklearn = pytest.importorskip("sklearn.datasets")
    bundled = sklearn.load_digits()
    counts = np.bincount(bundled.target)
    ours = taimatsu.bincount(taimatsu.cat([Digits().targets, Digits(train=False).targets]))
    assert ours.tolist() == counts.tolist()


def test_digits_repr():
    assert repr(Digits(train=False)) == (
        "Dataset Digits\n    Number of datapoints: 360\n    Split: Test"
    )
    assert "Root location: here" in repr(Digits("here"))


# -- folders ------------------------------------------------------------------------------


def test_image_folder(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    for name, shade in (("dark", 10), ("light/inner", 200)):
        (tmp_path / name).mkdir(parents=True)
        pil.new("L", (4, 3), shade).save(tmp_path / name / "a.png")
    (tmp_path / "dark" / "note.txt").write_text("no image")
    folder = ImageFolder(tmp_path, transform=transforms.ToTensor())
    assert folder.classes == ["dark", "light"]
    assert folder.targets == [0, 1]
    assert len(folder) == 2
    image, label = folder[1]
    assert (tuple(image.shape), label) == ((3, 3, 4), 1)
    assert "Number of datapoints: 2" in repr(folder)


def test_image_folder_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="Couldn't find any class folder"):
        ImageFolder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="Found no valid file for the classes empty"):
        ImageFolder(tmp_path)
    assert len(ImageFolder(tmp_path, allow_empty=True)) == 0
