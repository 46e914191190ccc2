"""Transforms of images: values by hand, and torchvision's answers where it is installed."""

from __future__ import annotations

import random

import numpy as np
import pytest

import taimatsu
from taimatsu.vision import transforms as T
from taimatsu.vision.transforms import InterpolationMode
from taimatsu.vision.transforms import functional as F
from taimatsu.vision.utils import make_grid, save_image

pil = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="session")
def torchvision():
    """torchvision, to compare with; skipped where it is missing or does not fit its PyTorch."""
    try:
        import torchvision
    except (ImportError, RuntimeError, AttributeError) as error:
        pytest.skip(f"torchvision cannot be imported: {error}")
    return torchvision


RGB = np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8)
GRAY = RGB[:, :, 0]
IMAGES = {
    "pil": lambda library: pil.fromarray(RGB),
    "pil gray": lambda library: pil.fromarray(GRAY),
    "uint8": lambda library: library.from_numpy(RGB.transpose(2, 0, 1).copy()),
    "float": lambda library: library.from_numpy(RGB.transpose(2, 0, 1) / np.float32(255)),
}


def array_of(image):
    return np.asarray(image) if not hasattr(image, "numpy") else image.numpy()


# -- conversions -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "dtype", "largest"),
    [("L", "float32", 1), ("RGB", "float32", 1), ("1", "float32", 1), ("I", "int32", 255)],
)
def test_to_tensor_of_pil_images(mode, dtype, largest):
    image = pil.new(mode, (4, 3), 255 if mode != "RGB" else (255, 255, 255))
    tensor = T.ToTensor()(image)
    assert tensor.dtype == getattr(taimatsu, dtype)
    assert tuple(tensor.shape) == (len(image.getbands()), 3, 4)
    assert tensor.max().item() == largest


def test_to_tensor_of_arrays():
    np.testing.assert_array_equal(
        F.to_tensor(RGB).numpy(), RGB.transpose(2, 0, 1) / np.float32(255)
    )
    assert tuple(F.to_tensor(GRAY).shape) == (1, 13, 17)
    whole = np.arange(4).reshape(2, 2)
    assert F.to_tensor(whole).tolist() == [[[0, 1], [2, 3]]]


def test_to_tensor_owns_its_memory():
    array = np.zeros((2, 2, 1), np.float32)
    tensor = F.to_tensor(array)
    tensor += 1
    assert array.sum() == 0


def test_to_tensor_gives_the_default_dtype():
    taimatsu.set_default_dtype(taimatsu.float64)
    assert F.to_tensor(GRAY).dtype == taimatsu.float64


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "I", "F", "CMYK", "HSV", "YCbCr"])
def test_a_pil_image_comes_back(mode):
    bands = len(pil.new(mode, (1, 1)).getbands())
    image = pil.new(mode, (5, 4))
    image.putdata([(i * 9,) * bands if bands > 1 else i * 9 for i in range(20)])
    back = T.ToPILImage(mode)(T.PILToTensor()(image))
    assert back.mode == mode
    np.testing.assert_array_equal(np.asarray(back), np.asarray(image))


def test_convert_image_dtype():
    image = taimatsu.tensor([0, 128, 255], dtype=taimatsu.uint8)
    assert F.convert_image_dtype(image).tolist() == pytest.approx([0, 128 / 255, 1])
    back = F.convert_image_dtype(F.convert_image_dtype(image), taimatsu.uint8)
    assert back.tolist() == [0, 128, 255]
    assert F.convert_image_dtype(image, taimatsu.int16).tolist() == [0, 16384, 32640]


# -- values and windows ------------------------------------------------------------------------


def test_normalize():
    image = taimatsu.ones(2, 2, 2)
    out = T.Normalize((0.5, 1.0), (0.5, 2.0))(image)
    assert out.tolist() == [[[1, 1], [1, 1]], [[0, 0], [0, 0]]]
    assert image.sum().item() == 8
    assert T.Normalize((1.0,), (2.0,), inplace=True)(image) is image
    assert image.sum().item() == 0
    leaf = taimatsu.ones(1, 1, 1, requires_grad=True)
    F.normalize(leaf, [0.0], [4.0]).sum().backward()
    assert leaf.grad.item() == 0.25


def test_windows():
    image = taimatsu.arange(16).reshape(1, 4, 4)
    assert F.center_crop(image, 2).tolist() == [[[5, 6], [9, 10]]]
    assert F.crop(image, -1, 3, 2, 2).tolist() == [[[0, 0], [3, 0]]]
    assert F.hflip(image)[0, 0].tolist() == [3, 2, 1, 0]
    assert F.vflip(image)[0, :, 0].tolist() == [12, 8, 4, 0]
    assert F.pad(image[:, :1, :2], (1, 0), fill=9).tolist() == [[[9, 0, 1, 9]]]
    assert F.pad(image[:, :1], (2, 0), padding_mode="symmetric").tolist() == [
        [[1, 0, 0, 1, 2, 3, 3, 2]]
    ]


def test_a_resized_image_keeps_its_shape():
    image = taimatsu.zeros(1, 10, 20)
    assert tuple(F.resize(image, 5).shape) == (1, 5, 10)
    assert tuple(F.resize(image, (3, 7)).shape) == (1, 3, 7)
    assert tuple(F.resize(image, 5, max_size=8).shape) == (1, 4, 8)
    assert F.resize(image, 10) is image


def test_a_quarter_turn():
    image = taimatsu.arange(9).reshape(1, 3, 3)
    turned = [[[2, 5, 8], [1, 4, 7], [0, 3, 6]]]
    assert F.rotate(image, 90).tolist() == turned
    assert F.rotate(image, 90, expand=True).tolist() == turned
    assert F.rotate(image[:, :2], 180).tolist() == [[[5, 4, 3], [2, 1, 0]]]


FUNCTIONS = {
    "resize": lambda F, image, mode: F.resize(image, (7, 9), mode("bilinear")),
    "resize larger": lambda F, image, mode: F.resize(image, 20, mode("bicubic")),
    "resize plainly": lambda F, image, mode: F.resize(image, 5, mode("bicubic"), antialias=False),
    "nearest": lambda F, image, mode: F.resize(image, (5, 30), mode("nearest")),
    "middle": lambda F, image, mode: F.center_crop(image, (20, 7)),
    "border": lambda F, image, mode: F.pad(image, (1, 2, 3, 4), padding_mode="reflect"),
    "turned": lambda F, image, mode: F.rotate(image, 30, mode("bilinear")),
    "turned, enlarged": lambda F, image, mode: F.rotate(image, -45.5, expand=True),
    "gray": lambda F, image, mode: F.rgb_to_grayscale(image),
    "bright": lambda F, image, mode: F.adjust_brightness(image, 1.7),
    "contrast": lambda F, image, mode: F.adjust_contrast(image, 0.5),
    "saturation": lambda F, image, mode: F.adjust_saturation(image, 1.7),
    "hue": lambda F, image, mode: F.adjust_hue(image, 0.2),
    "corners": lambda F, image, mode: F.five_crop(image, 4)[3],
}


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_torchvisions(name, kind, torch, torchvision):
    theirs_of = torchvision.transforms.functional
    ours = FUNCTIONS[name](F, IMAGES[kind](taimatsu), InterpolationMode)
    theirs = FUNCTIONS[name](
        theirs_of, IMAGES[kind](torch), torchvision.transforms.InterpolationMode
    )
    tolerance = {"uint8": 1, "float": 1e-5}.get(kind, 0)
    np.testing.assert_allclose(
        array_of(ours).astype(float), array_of(theirs).astype(float), atol=tolerance, rtol=0
    )


# -- chance ------------------------------------------------------------------------------------

RANDOM = {
    "flip": lambda T: T.RandomHorizontalFlip(),
    "crop": lambda T: T.RandomCrop(8, padding=2),
    "enlarged crop": lambda T: T.RandomCrop(30, pad_if_needed=True),
    "resized crop": lambda T: T.RandomResizedCrop(8),
    "rotation": lambda T: T.RandomRotation(40),
    "apply": lambda T: T.RandomApply([T.RandomCrop(5)], 0.5),
    "choice": lambda T: T.RandomChoice([T.RandomCrop(5), T.CenterCrop(7)]),
    "order": lambda T: T.RandomOrder([T.RandomCrop(9), T.CenterCrop(9)]),
    "colours": lambda T: T.ColorJitter(0.2, 0.3, 0.4, 0.1),
    "gray": lambda T: T.RandomGrayscale(0.5),
}


@pytest.mark.parametrize("name", RANDOM)
def test_draws_are_torchvisions(name, torch, torchvision):
    results = []
    for library, vision in ((taimatsu, T), (torch, torchvision.transforms)):
        library.manual_seed(4)
        random.seed(4)
        transform = RANDOM[name](vision)
        images = [np.asarray(transform(pil.fromarray(RGB))) for _ in range(5)]
        results.append([*images, library.rand(1).numpy()])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_same_seed_the_same_image():
    transform = T.Compose([T.RandomResizedCrop(8), T.RandomVerticalFlip(), T.ToTensor()])
    made = []
    for _ in range(2):
        taimatsu.manual_seed(3)
        made.append(transform(pil.fromarray(RGB)))
    assert taimatsu.equal(*made)


def test_probabilities_of_zero_and_one():
    image = taimatsu.arange(4).reshape(1, 2, 2)
    assert T.RandomHorizontalFlip(0.0)(image) is image
    assert taimatsu.equal(T.RandomHorizontalFlip(1.0)(image), image.flip(-1))
    assert T.RandomErasing(0.0)(image) is image


@pytest.mark.parametrize("value", [0, (1, 2, 3), "random"])
def test_random_erasing(value):
    image = taimatsu.full((3, 13, 17), 0.5)
    erased = T.RandomErasing(1.0, value=value)(image)
    assert image.sum().item() == pytest.approx(0.5 * 3 * 13 * 17)
    changed = (erased != image).any(0)
    rows, columns = np.nonzero(changed.numpy())
    # The changed pixels fill a rectangle.
    assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


# -- descriptions and errors -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transform", "text"),
    [
        (T.Compose([T.ToTensor()]), "Compose(\n    ToTensor()\n)"),
        (T.Normalize((0.5,), (0.5,)), "Normalize(mean=(0.5,), std=(0.5,))"),
        (
            T.Resize(32),
            "Resize(size=32, interpolation=bilinear, max_size=None, antialias=True)",
        ),
        (T.CenterCrop(3), "CenterCrop(size=(3, 3))"),
        (T.RandomCrop(3, padding=4), "RandomCrop(size=(3, 3), padding=4)"),
        (T.RandomApply([T.ToTensor()], 0.3), "RandomApply(\n    p=0.3\n    ToTensor()\n)"),
        (T.RandomChoice([T.ToTensor()]), "RandomChoice(\n    ToTensor()\n)(p=None)"),
        (T.Pad(3), "Pad(padding=3, fill=0, padding_mode=constant)"),
        (T.Lambda(len), "Lambda()"),
        (T.ToPILImage("L"), "ToPILImage(mode=L)"),
        (T.Grayscale(), "Grayscale(num_output_channels=1)"),
        (
            T.RandomRotation(10),
            "RandomRotation(degrees=[-10.0, 10.0], interpolation=nearest, expand=False, fill=0)",
        ),
    ],
)
def test_repr(transform, text):
    assert repr(transform) == text


FLOATS = taimatsu.zeros(1, 2, 2)
BYTES = taimatsu.zeros(1, 2, 2, dtype=taimatsu.uint8)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: T.ToTensor()(3), TypeError, "pic should be PIL Image or ndarray. Got"),
        (lambda: F.to_tensor(np.zeros((2, 2, 2, 2))), ValueError, "pic should be 2/3 dimensional"),
        (lambda: T.PILToTensor()(3), TypeError, "pic should be PIL Image"),
        (lambda: F.normalize(FLOATS, [0], [0]), ValueError, "leading to division by zero"),
        (lambda: F.normalize(BYTES, [0], [1]), TypeError, "should be a float tensor"),
        (lambda: F.normalize(3, [0], [1]), TypeError, "img should be Tensor Image"),
        (lambda: F.to_pil_image(taimatsu.zeros(5, 2, 2)), ValueError, "not have > 4 channels"),
        (lambda: F.to_pil_image(FLOATS, "X"), ValueError, r"Incorrect mode \(X\)"),
        (lambda: F.to_pil_image(3), TypeError, "pic should be Tensor or ndarray"),
        (lambda: T.RandomCrop(9)(FLOATS), ValueError, "is larger than input image size"),
        (lambda: T.Lambda(3), TypeError, "should be callable, got 'int'"),
        (lambda: T.Pad("a"), TypeError, "Got inappropriate padding arg"),
        (lambda: T.Pad((1, 2, 3)), ValueError, "1, 2, or 4 element tuple, not a 3"),
        (lambda: T.Pad(1, padding_mode="x"), ValueError, "constant, edge, reflect or symmetric"),
        (lambda: T.RandomRotation(-1), ValueError, "it must be positive"),
        (lambda: T.RandomErasing(2), ValueError, "probability should be between 0 and 1"),
        (lambda: T.RandomErasing(value="x"), ValueError, "it should be 'random'"),
        (lambda: T.CenterCrop((1, 2, 3)), ValueError, "only two dimensions"),
        (lambda: T.Resize((1, 2, 3)), ValueError, "it should have 1 or 2 values"),
        (lambda: F.resize(FLOATS, 1, "bilinear"), TypeError, "InterpolationMode"),
        (lambda: F.resize(FLOATS, 1, InterpolationMode.BOX), NotImplementedError, "PIL images"),
        (lambda: F.resize(FLOATS, 4, max_size=3), ValueError, "must be strictly greater"),
        (lambda: F.hflip(3), TypeError, "img should be PIL Image or Tensor Image"),
        (lambda: F.hflip(taimatsu.zeros(3)), TypeError, "Tensor is not a torch image"),
        (lambda: F.adjust_hue(FLOATS, 0.6), ValueError, r"is not in \[-0.5, 0.5\]"),
        (lambda: T.ColorJitter(-1), ValueError, "must be non negative"),
        (lambda: T.ColorJitter(hue=1), ValueError, "hue values should be between"),
        (lambda: T.RandomChoice(3), TypeError, "should be a sequence"),
        (lambda: T.Grayscale(2)(FLOATS), ValueError, "should be either 1 or 3"),
    ],
)
def test_errors(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


# -- grids -------------------------------------------------------------------------------------


def test_make_grid(tmp_path):
    images = taimatsu.arange(5.0).reshape(5, 1, 1, 1).expand(5, 1, 2, 3)
    grid = make_grid(images, nrow=3, padding=1, pad_value=9.0)
    assert tuple(grid.shape) == (3, 7, 13)
    assert grid[0, 1].tolist() == [9, 0, 0, 0, 9, 1, 1, 1, 9, 2, 2, 2, 9]
    assert grid[0, 4].tolist() == [9, 3, 3, 3, 9, 4, 4, 4, 9, 9, 9, 9, 9]
    assert make_grid(images, normalize=True).max().item() == 1
    save_image(images / 5, tmp_path / "grid.png", nrow=5, padding=0)
    saved = np.asarray(pil.open(tmp_path / "grid.png"))
    assert saved.shape == (2, 15, 3)
    assert saved[0, ::3, 0].tolist() == [0, 51, 102, 153, 204]
    with pytest.raises(TypeError, match="tensor or list of tensors expected"):
        make_grid(3)
