"""Packed folders: written completely or not at all, read without a copy."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from resnets.arch.preprocessing import Preprocessing
from resnets.data import pack as pack_module
from resnets.data.augment.config import AugmentConfig
from resnets.data.augment.geometric import crop_draws
from resnets.data.augment.random_crop import random_resized_crop
from resnets.data.dataset import Dataset, ImageSet
from resnets.data.loader import make_batches
from resnets.data.open import open_dataset
from resnets.data.pack import pack, packed_size
from resnets.data.sources.packed import PackedSource, is_packed, open_packed
from resnets.errors import DataError, ImageError

MakeFolder = Callable[[dict[str, int]], Path]


@pytest.fixture
def pets(make_folder: MakeFolder) -> Dataset:
    """Ten images of 12 x 10 pixels in two splits; cats and dogs, and an owl in train only."""
    counts = {"train/cat": 3, "train/dog": 4, "train/owl": 1, "val/cat": 1, "val/dog": 1}
    return open_dataset(make_folder(counts), val_fraction=0)


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((375, 500), 256, (256, 341)),
        ((500, 375), 256, (341, 256)),
        ((256, 999), 256, (256, 999)),
        ((100, 120), 256, (100, 120)),
        ((300, 300), 256, (256, 256)),
        ((5000, 257), 256, (4981, 256)),
        ((375, 500), (192, 256), (192, 256)),
        ((10, 20), (192, 256), (192, 256)),
    ],
)
def test_sizes(shape: tuple[int, int], size: int | tuple[int, int], expected: tuple[int, int]) -> None:
    assert packed_size(*shape, size) == expected


def test_packed_data_equal_their_source(pets: Dataset, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    done = pack(pets, tmp_path / "packed", workers=2, shard_bytes=800, progress=lambda *now: seen.append(now))
    assert (done.folder, done.images, done.bytes, done.left_out) == (tmp_path / "packed", 10, 10 * 360, ())
    assert seen[-1] == (10, 10)
    assert is_packed(tmp_path / "packed")
    assert len(list((tmp_path / "packed").glob("shard-*.bin"))) == 5
    again = open_dataset(tmp_path / "packed", val_fraction=0)
    assert (again.name, again.classes, list(again.splits)) == (pets.name, pets.classes, list(pets.splits))
    for split, images in pets.splits.items():
        packed = again.splits[split]
        assert np.array_equal(packed.labels, images.labels)
        assert packed.groups is None
        for i in range(len(images)):
            pixels = packed.read(i)
            assert isinstance(pixels, np.ndarray)
            assert not pixels.flags.writeable
            assert pixels.base is not None
            assert np.array_equal(pixels, images.image(i, "RGB"))
            assert images.name(i).endswith(packed.name(i).removeprefix(f"{tmp_path / 'packed'}#"))
    assert open_dataset(tmp_path / "packed").problems == open_dataset(tmp_path / "pets").problems


def test_the_same_images_are_held_out_of_a_packed_folder(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 8, "dog": 8})
    pack(open_dataset(root, val_fraction=0), tmp_path / "packed", workers=1)
    for seed in (0, 1):
        one, other = (
            open_dataset(path, val_fraction=0.25, seed=seed).splits["val"] for path in (root, tmp_path / "packed")
        )
        assert [Path(one.name(i)).name for i in range(len(one))] == [
            Path(other.name(i)).name for i in range(len(other))
        ]


@pytest.mark.parametrize("size", [6, (5, 8)])
def test_images_are_made_smaller_as_pillow_does(pets: Dataset, tmp_path: Path, size: int | tuple[int, int]) -> None:
    pack(pets, tmp_path / "packed", size=size, workers=1)
    packed, images = open_packed(tmp_path / "packed").splits["train"], pets.splits["train"]
    for i in range(len(images)):
        height, width = size if isinstance(size, tuple) else (7, 6)
        expected = Image.fromarray(images.image(i, "RGB")).resize((width, height), Image.Resampling.BILINEAR)
        assert np.array_equal(packed.image(i, "RGB"), np.asarray(expected))


def arrays(pixels: list[np.ndarray], groups: list[int] | None = None) -> Dataset:
    class Source:
        def name(self, row: int) -> str:
            return f"it#{row}"

        def read(self, row: int) -> Any:
            return pixels[row]

    count = np.arange(len(pixels))
    images = ImageSet(
        source=Source(), rows=count, labels=count % 2, groups=None if groups is None else np.array(groups)
    )
    return Dataset(name="arrays", classes=("a", "b"), splits={"train": images})


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_depth_and_bands_are_kept(tmp_path: Path, dtype: str, channels: int) -> None:
    rng = np.random.default_rng(0)
    pixels = [(rng.random((5 + i, 7, channels)) * (1 if dtype == "float32" else 255)).astype(dtype) for i in range(3)]
    pack(arrays(pixels), tmp_path / "packed", workers=1)
    packed = open_packed(tmp_path / "packed")
    hint = packed.preprocessing_hint
    assert (hint.dtype, hint.channels) == (dtype, {1: "L", 3: "RGB", 5: 5}[channels])
    for i, image in enumerate(pixels):
        found = packed.splits["train"].read(i)
        assert isinstance(found, np.ndarray)
        assert found.dtype == image.dtype
        assert np.array_equal(found, image)


def test_groups_are_kept(tmp_path: Path) -> None:
    pack(arrays([np.zeros((2, 2, 3), np.uint8)] * 4, groups=[5, 5, 9, 2]), tmp_path / "packed", workers=1)
    groups = open_packed(tmp_path / "packed").splits["train"].groups
    assert groups is not None
    assert groups.tolist() == [5, 5, 9, 2]


def test_the_listing_does_not_depend_on_where_the_source_lies(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 2, "dog": 2})
    hashes = []
    for number, path in enumerate((root, root.rename(tmp_path / "moved"))):
        path = path if path.exists() else tmp_path / "moved"
        pack(open_dataset(path, val_fraction=0), tmp_path / f"packed{number}", workers=1)
        hashes.append(json.loads((tmp_path / f"packed{number}" / "packed.json").read_text())["listing"])
    assert hashes[0] == hashes[1]
    (tmp_path / "moved" / "cat" / "0.png").rename(tmp_path / "moved" / "cat" / "new.png")
    pack(open_dataset(tmp_path / "moved", val_fraction=0), tmp_path / "packed2", workers=1)
    assert json.loads((tmp_path / "packed2" / "packed.json").read_text())["listing"] != hashes[0]


def test_the_source_is_pickled_as_its_path(pets: Dataset, tmp_path: Path) -> None:
    pack(pets, tmp_path / "packed", workers=1)
    source = PackedSource(tmp_path / "packed")
    carried = pickle.dumps(source)
    assert len(carried) < 300
    again = pickle.loads(carried)
    assert again.name(4) == source.name(4)
    assert np.array_equal(again.read(4), source.read(4))


def test_training_from_it_is_training_from_the_images(pets: Dataset, tmp_path: Path) -> None:
    pack(pets, tmp_path / "packed", workers=1)  # 12 x 10 pixels: as they are
    preprocessing, config = Preprocessing(size=(8, 8)), AugmentConfig(scale=(0.08, 1.0))
    packed = open_packed(tmp_path / "packed").splits["train"]
    one, other = (
        make_batches(images, preprocessing, batch_size=3, augment=config, workers=workers)
        for images, workers in ((pets.splits["train"], 0), (packed, 1))
    )
    for a, b in zip(one.epoch(1), other.epoch(1), strict=True):
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.y, b.y)
    draws = crop_draws(0, 0, [0])[0]
    assert random_resized_crop(packed, 0, preprocessing, config, draws).flags.writeable


def test_damaged_images_stop_it_or_are_left_out(pets: Dataset, tmp_path: Path) -> None:
    broken = Path(pets.splits["train"].name(2))
    broken.write_bytes(broken.read_bytes()[:70])
    with pytest.raises(ImageError) as caught:
        pack(pets, tmp_path / "packed", workers=2)
    assert caught.value.where == str(broken)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pets"]
    done = pack(pets, tmp_path / "packed", workers=2, skip_bad=True)
    assert done.images == 9
    assert [where for where, _ in done.left_out] == [str(broken)]
    assert len(open_packed(tmp_path / "packed").splits["train"]) == 7
    assert json.loads((tmp_path / "packed" / "packed.json").read_text())["left_out"][0]["where"] == str(broken)


def test_a_full_disk_leaves_nothing(pets: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    original = Path.open

    def opened(self: Path, mode: str = "r", *args: Any) -> Any:
        return Full() if mode == "wb" else original(self, mode, *args)

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(OSError, match="No space left on device") as caught:
        pack(pets, tmp_path / "packed", workers=1)
    assert caught.value.filename == str(tmp_path / "packed")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pets"]


def test_an_interrupted_pack_leaves_nothing(pets: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pack_module, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack(pets, tmp_path / "packed", workers=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pets"]


def test_leftovers_of_killed_runs_are_removed_but_not_folders_being_written(pets: Dataset, tmp_path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from resnets.data.pack import pack
from resnets.data.open import open_dataset

def progress(done, total):
    print("writing", flush=True)
    sys.stdin.read()

pack(open_dataset(sys.argv[1], val_fraction=0), Path(sys.argv[2]), workers=1, progress=progress)
"""
    for number in range(16):
        (tmp_path / "pets" / "train" / "cat" / f"more{number}.png").write_bytes(
            Path(pets.splits["train"].name(0)).read_bytes()
        )
    folder = tmp_path / "pack[1]"
    writer = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "pets"), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        (left,) = tmp_path.glob(".pack*")
        pack(pets, folder, workers=1)
        assert left.is_dir()
        writer.kill()
    assert left.is_dir()
    (tmp_path / ".pack[1].more.tmp").mkdir()  # not ours
    shutil.rmtree(folder)
    pack(pets, folder, workers=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".pack[1].more.tmp", "pack[1]", "pets"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "index.npy",
        "names.bin",
        "packed.json",
        "shard-00000.bin",
    ]


def test_a_class_that_loses_its_last_training_image_stops_it(pets: Dataset, tmp_path: Path) -> None:
    owl = next(
        Path(images.name(i)) for images in [pets.splits["train"]] for i in np.flatnonzero(images.labels == 2).tolist()
    )
    owl.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"pets/train: class 'owl' has no image that can be decoded; repair the data$"):
        pack(pets, tmp_path / "packed", workers=1, skip_bad=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pets"]


def test_what_cannot_be_packed(pets: Dataset, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    with pytest.raises(DataError, match="must be new"):
        pack(pets, tmp_path / "there")
    with pytest.raises(DataError, match="parent folder must exist"):
        pack(pets, tmp_path / "no" / "such")
    for size in (0, (4, 0)):
        with pytest.raises(DataError, match="1 pixel or more"):
            pack(pets, tmp_path / "packed", size=size)
    for images in pets.splits.values():
        for i in range(len(images)):
            Path(images.name(i)).write_bytes(Path(images.name(i)).read_bytes()[:50])
    with pytest.raises(DataError, match="none of pets can be decoded"):
        pack(replace(pets), tmp_path / "packed", skip_bad=True)


@pytest.mark.parametrize("damage", ["shard", "index", "names", "schema", "json", "classes"])
def test_folders_that_are_not_whole(pets: Dataset, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "packed"
    pack(pets, folder, workers=1)
    manifest = json.loads((folder / "packed.json").read_text())
    if damage == "shard":
        (folder / "shard-00000.bin").write_bytes((folder / "shard-00000.bin").read_bytes()[:-1])
    elif damage == "index":
        (folder / "index.npy").write_bytes(b"\x93NUMPY")
    elif damage == "names":
        (folder / "names.bin").unlink()
    elif damage == "schema":
        (folder / "packed.json").write_text(json.dumps({**manifest, "schema": 2}))
    elif damage == "json":
        (folder / "packed.json").write_text("{")
    else:
        (folder / "packed.json").write_text(json.dumps({**manifest, "classes": ["cat"]}))
    with pytest.raises(DataError, match="pack it again"):
        open_dataset(folder)


def test_a_wrong_place_in_the_index_is_an_error(pets: Dataset, tmp_path: Path) -> None:
    pack(pets, tmp_path / "packed", workers=1)
    index = np.load(tmp_path / "packed" / "index.npy")
    index["offset"][1] = 10**6
    np.save(tmp_path / "packed" / "index.npy", index)
    images = open_packed(tmp_path / "packed").splits["train"]
    images.read(0)
    with pytest.raises(ImageError, match="outside the files"):
        images.read(1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
@pytest.mark.parametrize("name", ["index.npy", "names.bin", "shard-00000.bin"])
def test_a_pipe_in_a_packed_folder_is_refused_without_waiting(name: str, pets: Dataset, tmp_path: Path) -> None:
    folder = pack(pets, tmp_path / "packed").folder
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(DataError, match="not a regular file"):
        open_dataset(folder)


def test_damaged_manifests_and_splits_are_one_line(pets: Dataset, tmp_path: Path) -> None:
    folder = pack(pets, tmp_path / "packed").folder
    index = np.load(folder / "index.npy")
    index["split"] = 9
    np.save(folder / "index.npy", index)
    with pytest.raises(DataError, match=r"a split is one of train, val, test; .* number 9"):
        open_dataset(folder)
    manifest = json.loads((folder / "packed.json").read_text())
    (folder / "packed.json").write_text(json.dumps(manifest | {"classes": ["same"] * len(manifest["classes"])}))
    with pytest.raises(DataError, match="names 'same' twice"):
        open_dataset(folder)
    (folder / "packed.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="must be complete"):
        open_dataset(folder)


@pytest.mark.parametrize(
    "change", [{"classes": {"cat": 0, "dog": 1}}, {"classes": "cd"}, {"classes": [0, 1]}, {"shards": [float("inf")]}]
)
def test_manifests_of_other_types_are_one_line(change: dict[str, Any], pets: Dataset, tmp_path: Path) -> None:
    folder = pack(pets, tmp_path / "packed", workers=1).folder
    manifest = json.loads((folder / "packed.json").read_text())
    (folder / "packed.json").write_text(json.dumps(manifest | change))
    with pytest.raises(DataError, match="must be complete"):
        open_dataset(folder)


def test_an_archive_is_no_index(pets: Dataset, tmp_path: Path) -> None:
    folder = pack(pets, tmp_path / "packed", workers=1).folder
    np.savez(tmp_path / "index.npz", index=np.load(folder / "index.npy"))
    (tmp_path / "index.npz").rename(folder / "index.npy")
    with pytest.raises(DataError, match="must be complete"):
        open_dataset(folder)
