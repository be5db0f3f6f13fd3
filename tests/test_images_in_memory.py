"""`Bundle` on images that are already in memory, from several threads, and the transforms for one's own data loader."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import resnets
from resnets.arch.preprocessing import Preprocessing
from resnets.data.inputs import iter_images, read_image
from resnets.errors import ConfigError, DataError, ImageError, UnknownNameError

FORMS: dict[str, Callable[[Path], Any]] = {
    "text": str,
    "path": Path,
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "file": lambda path: io.BytesIO(path.read_bytes()),
    "pillow": lambda path: Image.open(path),
    "array": lambda path: np.array(Image.open(path)),
    "floats": lambda path: np.array(Image.open(path)) / 255,
    "tensor": lambda path: torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1),
    "float tensor": lambda path: torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) / 255,
}


@pytest.fixture(scope="module")
def bundle() -> resnets.Bundle:
    return resnets.load("starter")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 36, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path / "image.png"


@pytest.mark.parametrize("form", FORMS)
def test_an_image_in_any_form_gives_the_prediction_of_its_file(form: str, bundle: resnets.Bundle, image: Path) -> None:
    expected = bundle.predict(image)[0]
    (found,) = bundle(FORMS[form](image))
    assert found.label == expected.label
    assert found.confidence == pytest.approx(expected.confidence, abs=1e-6)
    named = form in ("text", "path", "pillow")
    assert str(found.path) == (str(image) if named else "image")
    assert found.to_dict()["path"] == str(found.path)


def test_lists_batches_and_iterators(bundle: resnets.Bundle, image: Path) -> None:
    array = np.array(Image.open(image))
    one = bundle(image)[0].confidence
    mixed = bundle([image, array, image.read_bytes(), image])
    assert [str(found.path) for found in mixed] == [str(image), "images[1]", "images[2]", str(image)]
    for several in (mixed, bundle(array for _ in range(70)), bundle(np.stack([array] * 3)), bundle(image.parent)):
        assert [found.confidence for found in several] == pytest.approx([one] * len(several), abs=1e-5)
    assert [found.path for found in bundle(torch.from_numpy(np.stack([array] * 2)).permute(0, 3, 1, 2))] == [
        "images[0]", "images[1]",
    ]  # fmt: skip
    assert bundle([]) == []
    assert bundle.embed([array, image]).shape == (2, bundle.model.num_features)


def test_orientation_and_transparency_count_as_in_the_file(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "image.png", exif=exif)
    for channels in ("RGB", "L", "BGR"):
        mean = (0.5,) * len(channels)
        preprocessing = Preprocessing(size=(16, 16), channels=channels, mean=mean, std=mean)
        with Image.open(tmp_path / "image.png") as image:
            found = read_image(image, preprocessing)
        assert np.array_equal(found, read_image(tmp_path / "image.png", preprocessing))


@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
def test_deep_grayscale_from_pillow(tmp_path: Path, depth: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (20, 30)).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    preprocessing = Preprocessing(size=(16, 16), dtype=depth)
    with Image.open(tmp_path / "deep.png") as image:
        found = read_image(image, preprocessing)
    assert np.array_equal(found, read_image(tmp_path / "deep.png", preprocessing))


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (np.zeros((8, 8, 4), np.uint8), "4 bands"),
        (np.zeros((3, 224, 224), np.uint8), r"\(H, W, C\); got \(3, 224, 224\)"),
        (torch.zeros(224, 224, 3), r"\(C, H, W\); got \(224, 224, 3\)"),
        (np.zeros((8, 8, 3), np.int64), "uint8, uint16 or floating point"),
        (np.full((8, 8, 3), 200.0), r"lie in 0\.\.1, got 200\.\.200"),
        (np.full((8, 8, 3), np.nan), "finite"),
        (np.zeros((0, 8, 3), np.uint8), "none of them 0"),
        (np.zeros(8, np.uint8), "2 or 3 dimensions"),
        (b"no image", "known format"),
        (b"", "empty"),
    ],
)
def test_what_is_no_image_is_an_error_that_says_what_came(image: Any, problem: str, bundle: resnets.Bundle) -> None:
    with pytest.raises(ImageError, match=problem) as caught:
        bundle([image])
    assert caught.value.where == "images[0]"


@pytest.mark.parametrize("image", [5, None, [5], [["x.png"]], object()])
def test_other_types_are_errors(image: Any, bundle: resnets.Bundle) -> None:
    with pytest.raises(DataError, match="an image must be a path, bytes, an open file"):
        bundle(image)


def test_files_are_read_when_they_are_needed(image: Path) -> None:
    endless = (image for _ in iter(int, 1))
    images = iter_images(endless)
    assert [next(images).name for _ in range(3)] == [image] * 3


def test_threads_get_the_same_predictions_and_the_mode_is_restored(image: Path) -> None:
    bundle = resnets.load("starter")
    expected = bundle(image)[0].confidence
    bundle.model.train()
    bundle.model.get_submodule("layer1").eval()
    modes = [module.training for module in bundle.model.modules()]
    array = np.array(Image.open(image))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: bundle(array)[0].confidence, range(48)))
    assert found == pytest.approx([expected] * 48, abs=1e-6)
    assert [module.training for module in bundle.model.modules()] == modes


def test_one_pillow_image_in_several_threads(bundle: resnets.Bundle, image: Path) -> None:
    with Image.open(image) as opened:
        found = bundle([opened] * 20)
    assert len({prediction.confidence for prediction in found}) == 1


def test_the_transform_is_what_prediction_uses_and_can_be_pickled(bundle: resnets.Bundle, image: Path) -> None:
    transform = pickle.loads(pickle.dumps(bundle.transform))
    x = transform(image)
    assert (x.shape, x.dtype, x.is_contiguous()) == ((3, 32, 32), torch.float32, True)
    with torch.inference_mode():
        probabilities = bundle.model.eval()(x[None]).softmax(1)[0]
    assert probabilities.max().item() == pytest.approx(bundle(image)[0].confidence, abs=1e-6)
    assert torch.equal(resnets.transforms(bundle)(image), x)
    assert torch.equal(resnets.transforms(bundle.preprocessing)(Image.open(image)), x)


def test_the_training_transform_draws_anew_and_repeats_with_torchs_seed(bundle: resnets.Bundle, image: Path) -> None:
    transform = pickle.loads(pickle.dumps(resnets.transforms(bundle, train=True, policy="trivialaugment")))
    torch.manual_seed(1)
    first, second = transform(image), transform(Image.open(image))
    torch.manual_seed(1)
    assert torch.equal(transform(image), first)
    assert first.shape == second.shape == (3, 32, 32)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("form", FORMS)
def test_the_training_transform_takes_images_in_any_form(form: str, image: Path) -> None:
    preprocessing = Preprocessing(size=(24, 24))
    transform = resnets.transforms(preprocessing, train=True, scale=(0.3, 1), hflip=False)
    torch.manual_seed(3)
    expected = transform(image)
    torch.manual_seed(3)
    assert torch.equal(transform(FORMS[form](image)), expected)


def test_wrong_transform_options(bundle: resnets.Bundle) -> None:
    with pytest.raises(ConfigError, match="pass train=True"):
        resnets.transforms(bundle, scale=(0.5, 1))
    with pytest.raises(UnknownNameError, match="hflip"):
        resnets.transforms(bundle, train=True, hflipp=True)
    with pytest.raises(ImageError, match=r"missing\.png"):
        resnets.transforms(bundle, train=True)("missing.png")


def test_a_torch_dataset_of_any_source(bundle: resnets.Bundle) -> None:
    dataset = resnets.ImageDataset("digits", "train", resnets.transforms(Preprocessing(size=(8, 8))))
    assert dataset.classes == [str(digit) for digit in range(10)]
    assert len(dataset) == len(dataset.targets)
    x, label = dataset[-1]
    assert (x.shape, label) == ((3, 8, 8), dataset.targets[-1])
    images, labels = next(iter(DataLoader(dataset, batch_size=4, num_workers=0)))
    assert images.shape == (4, 3, 8, 8)
    assert labels.tolist() == dataset.targets[:4]
    with pytest.raises(IndexError):
        dataset[len(dataset)]
    with pytest.raises(DataError, match="has train"):
        resnets.ImageDataset("digits", "tset")


def test_a_torch_dataset_in_worker_processes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("RGB", (20, 20), (number, 0, 0)).save(tmp_path / name / f"{number}.jpg")
    transform = resnets.transforms(Preprocessing(size=(16, 16)), train=True)
    loader = DataLoader(resnets.ImageDataset(tmp_path, transform=transform), batch_size=3, num_workers=2)
    assert [(x.shape, y.tolist()) for x, y in loader] == [((3, 3, 16, 16), [0] * 3), ((3, 3, 16, 16), [1] * 3)]


def test_a_bundle_is_printed_on_one_line(bundle: resnets.Bundle) -> None:
    assert repr(bundle) == f"Bundle({bundle.name}, 10 classes, RGB 32x32)"


def test_a_normalised_tensor_is_named_as_such() -> None:
    with pytest.raises(ImageError, match=r"must lie in 0..1.*a normalised tensor\? call bundle.model"):
        resnets.load("starter").predict(torch.randn(3, 32, 32))
