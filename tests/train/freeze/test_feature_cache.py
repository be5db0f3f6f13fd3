from __future__ import annotations

import copy
import errno
import os
import resource
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from resnets.data.augment.config import AugmentConfig, Sampling
from resnets.data.loader import Batch, Batches, make_batches
from resnets.data.open import open_dataset
from resnets.data.random import permutation, uniform
from resnets.data.sampler import TrainSampler
from resnets.errors import TrainingError
from resnets.nn.model import Network
from resnets.nn.split import split_at
from resnets.train.freeze.feature_cache import (
    CachedFeatureBatches,
    CacheLimits,
    CacheSpaceError,
    FeatureCache,
    cache_in_order,
    fill_cache,
)
from resnets.train.freeze.frozen_part import FrozenPart, apply_phase
from resnets.train.freeze.phases import Phase
from resnets.weights.open import load_bundle
from tests.train.nets import images, make

COUNT, BATCH = 11, 4
LABELS = np.arange(COUNT) % 5
MIB = 2**20


def limits(location: str, folder: Path) -> CacheLimits:
    """Limits of a cache in `memory` or in a `file`."""
    return CacheLimits(folder=folder) if location == "memory" else CacheLimits(memory_bytes=0, folder=folder)


class AugmentedBatches:
    """Batches of images, each changed by its epoch, as augmentation does."""

    def __init__(self, *, drop_last: bool = False) -> None:
        self.epochs = TrainSampler(LABELS, BATCH, 3, drop_last=drop_last)
        self.bounds = self.epochs.bounds
        self.images, _ = images(COUNT)

    def __len__(self) -> int:
        return len(self.bounds)

    def epoch(self, epoch: int, *, start: int = 0, size: tuple[int, int] | None = None) -> Iterator[Batch]:
        for places, _ in self.epochs.batches(epoch, start):
            shift = torch.from_numpy(uniform(3, epoch, places, 2, 1)).float()
            x = self.images[torch.from_numpy(places)] + shift[:, :, None, None]
            yield Batch(x, torch.from_numpy(LABELS[places]), torch.from_numpy(places))


def frozen_at(name: str, place: str) -> FrozenPart:
    frozen = apply_phase(make(name), Phase(epochs=1, freeze=place))
    frozen.train_mode()
    return frozen


def filled(
    model: Network,
    place: str,
    views: int,
    *,
    first_epoch: int = 0,
    dtype: torch.dtype = torch.float32,
    limits: CacheLimits | None = None,
) -> FeatureCache:
    prefix, _ = split_at(model, place)
    x, _ = images(1)
    shape = prefix.output_shape((x.shape[2], x.shape[3]))
    cache = FeatureCache(views, COUNT, shape, dtype=dtype, limits=limits)
    assert fill_cache(cache, prefix, AugmentedBatches(), first_epoch=first_epoch)
    return cache


def train(
    frozen: FrozenPart, forward: Callable[[torch.Tensor], torch.Tensor], batches: Batches, epochs: range
) -> dict[str, torch.Tensor]:
    """Train with SGD; return the network's tensors."""
    trained = [parameter for parameter in frozen.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, 0.05, momentum=0.9, weight_decay=1e-3)
    step = 0
    for epoch in epochs:
        frozen.train_mode()
        for x, y, _ in batches.epoch(epoch):
            torch.manual_seed(step)
            loss = F.cross_entropy(forward(x), y)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            step += 1
    return frozen.model.state_dict()


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("random", "stem"),
        ("random", "layer1"),
        ("random", "backbone"),
        ("pre-activation", "layer2"),
        ("SE and GeM", "layer1"),
        ("VGG", "block1"),
        ("VGG", "backbone"),
    ],
)
@pytest.mark.parametrize("location", ["memory", "file"])
def test_training_on_cached_features_equals_training_on_images(
    name: str, place: str, location: str, tmp_path: Path
) -> None:
    """Three epochs with as many views, from epoch 2 on: every tensor is equal to the bit."""
    plain, cached = frozen_at(name, place), frozen_at(name, place)
    prints, first = cached.fingerprint(), {key: value.clone() for key, value in cached.model.state_dict().items()}
    cached.record_fingerprint()
    expected = train(plain, plain.model, AugmentedBatches(), range(2, 5))
    cache = filled(cached.model, place, 3, first_epoch=2, limits=limits(location, tmp_path))
    _, suffix = split_at(cached.model, place)
    batches = CachedFeatureBatches(cache, LABELS, AugmentedBatches().epochs, first_epoch=2)
    found = train(cached, suffix, batches, range(2, 5))
    assert [key for key in expected if not torch.equal(found[key], expected[key])] == []
    cached.verify()
    assert {key for key in first if not torch.equal(first[key], found[key])} == set(first) - set(prints)


def test_cached_batches_have_the_order_and_labels_of_training() -> None:
    model = frozen_at("basic", "backbone").model
    cache = filled(model, "backbone", 2)
    batches = CachedFeatureBatches(cache, LABELS, AugmentedBatches().epochs)
    assert len(batches) == len(AugmentedBatches()) == 3
    prefix, _ = split_at(model, "backbone")
    for epoch in (0, 1, 2, 3):
        pairs = list(
            zip(batches.epoch(epoch), AugmentedBatches().epoch(epoch), AugmentedBatches().epoch(epoch % 2), strict=True)
        )
        for kept, run, _ in pairs:
            assert torch.equal(kept.indices, run.indices)
            assert torch.equal(kept.y, run.y)
        shown = {int(i): row for kept, _, _ in pairs for i, row in zip(kept.indices, kept.x, strict=True)}
        for _, _, source in pairs:  # images as augmented in epoch 0 or 1, in the order of this epoch
            with prefix.inference():
                for place, row in zip(source.indices, prefix(source.x), strict=True):
                    assert torch.equal(shown[int(place)], row)


def test_an_epoch_can_start_at_any_batch() -> None:
    cache = filled(frozen_at("basic", "layer1").model, "layer1", 1)
    batches = CachedFeatureBatches(cache, LABELS, AugmentedBatches().epochs)
    whole, rest = list(batches.epoch(5)), list(batches.epoch(5, start=2))
    assert len(rest) == len(whole) - 2
    for one, other in zip(whole[2:], rest, strict=True):
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.y, other.y)
        assert torch.equal(one.indices, other.indices)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_memory_and_file_hold_the_same_bytes(dtype: torch.dtype, tmp_path: Path) -> None:
    model = frozen_at("random", "layer1").model
    memory = filled(model, "layer1", 2, dtype=dtype)
    file = filled(model, "layer1", 2, dtype=dtype, limits=limits("file", tmp_path))
    every = np.arange(COUNT)[::-1].copy()
    for view in (0, 1):
        one, other = (cache.read(np.full(COUNT, view), every) for cache in (memory, file))
        assert one.dtype == dtype
        assert torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))


def test_sixteen_bit_caches_round() -> None:
    model = frozen_at("basic", "layer1").model
    whole, half = filled(model, "layer1", 1), filled(model, "layer1", 1, dtype=torch.bfloat16)
    assert half.nbytes * 2 == whole.nbytes
    views, places = np.zeros(COUNT, np.int64), np.arange(COUNT)
    assert torch.equal(half.read(views, places), whole.read(views, places).bfloat16())
    assert next(CachedFeatureBatches(half, LABELS, AugmentedBatches().epochs).epoch(0)).x.dtype == torch.float32
    assert (
        next(CachedFeatureBatches(half, LABELS, AugmentedBatches().epochs, dtype=torch.bfloat16).epoch(0)).x.dtype
        == torch.bfloat16
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_have_the_dtype_of_mixed_precision(dtype: torch.dtype) -> None:
    """Autocast computes bfloat16: 16-bit caches are exact, and 32-bit ones return bfloat16."""
    model = frozen_at("basic", "layer1").model
    prefix, _ = split_at(model, "layer1")
    cache = FeatureCache(1, COUNT, prefix.output_shape((24, 24)), dtype=dtype)
    fill_cache(cache, prefix, AugmentedBatches(), amp=torch.bfloat16)
    batches = CachedFeatureBatches(cache, LABELS, AugmentedBatches().epochs)
    for (x, _, _), (kept, _, _) in zip(AugmentedBatches().epoch(0), batches.epoch(0), strict=True):
        with prefix.inference(torch.bfloat16):
            expected = prefix(x)
        assert kept.dtype == expected.dtype == torch.bfloat16
        assert torch.equal(kept, expected)


def test_rows_are_read_in_any_order(tmp_path: Path) -> None:
    rows = torch.arange(2 * 6 * 3 * 2 * 2, dtype=torch.float32).view(2, 6, 3, 2, 2)
    caches = [
        FeatureCache(2, 6, (3, 2, 2)),
        FeatureCache(2, 6, (3, 2, 2), channels_last=False),
        FeatureCache(2, 6, (3, 2, 2), limits=limits("file", tmp_path)),
    ]
    views, places = np.array([1, 0, 1, 0, 1]), np.array([5, 0, 2, 0, 5])
    for cache in caches:
        for view in (0, 1):
            assert cache.missing(view) == 6
            cache.write(view, np.array([3, 1, 5]), rows[view, [3, 1, 5]])
            cache.write(view, np.array([0, 4, 2]), rows[view, [0, 4, 2]].contiguous(memory_format=torch.channels_last))
            assert cache.missing(view) == 0
        assert torch.equal(cache.read(views, places), rows[views, places])
    assert caches[0].read(views, places).is_contiguous(memory_format=torch.channels_last)
    assert caches[1].read(views, places).is_contiguous()


def test_repeated_images_read_the_next_view() -> None:
    epochs = TrainSampler(LABELS, BATCH, 3, sampling=Sampling(repeats=2))
    cache = FeatureCache(3, COUNT, (1,))
    for view in range(3):
        cache.write(view, np.arange(COUNT), torch.arange(COUNT)[:, None] + 100.0 * view)
    batches = CachedFeatureBatches(cache, LABELS, epochs, first_epoch=1)
    for (x, _, indices), (places, views) in zip(batches.epoch(3), epochs.batches(3), strict=True):
        assert x[:, 0].tolist() == [place + 100 * ((2 + view) % 3) for place, view in zip(places, views, strict=True)]
        assert indices.tolist() == places.tolist()


def test_a_cache_goes_where_its_limits_allow(tmp_path: Path) -> None:
    nbytes = 2 * 1000 * 128 * 4
    small = CacheLimits(memory_bytes=nbytes - 1)
    assert FeatureCache(2, 1000, (128,), limits=CacheLimits(memory_bytes=nbytes)).location == "memory"
    assert FeatureCache(2, 1000, (128,), limits=replace(small, folder=tmp_path)).location == "file"
    assert FeatureCache(2, 1000, (128,), limits=small, dtype=torch.bfloat16).location == "memory"
    for too_small in (small, CacheLimits(memory_bytes=0, file_bytes=nbytes - 1, folder=tmp_path)):
        with pytest.raises(CacheSpaceError, match=r"need 1 MiB; .*cache_memory_gb"):
            FeatureCache(2, 1000, (128,), limits=too_small)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="open maps are listed on Linux alone")
def test_the_file_is_unnamed_and_disappears_with_the_cache(tmp_path: Path) -> None:
    cache = FeatureCache(1, 4, (MIB,), limits=limits("file", tmp_path))
    cache.write(0, np.arange(4), torch.ones(4, MIB))
    assert list(tmp_path.iterdir()) == []  # a killed run leaves nothing
    assert str(tmp_path) in Path("/proc/self/maps").read_text()
    del cache
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_a_full_disk_is_an_error_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, before[1]))
    try:
        with pytest.raises(CacheSpaceError, match=r"need 4 MiB in .*; File too large; make room") as caught:
            FeatureCache(1, 1, (MIB,), limits=limits("file", tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(CacheSpaceError, match="No space left on device"):
        FeatureCache(1, 1, (MIB,), limits=limits("file", tmp_path))
    with pytest.raises(TrainingError, match="No such file or directory"):
        FeatureCache(1, 1, (MIB,), limits=limits("file", tmp_path / "nowhere"))


def test_too_little_memory_is_an_error() -> None:
    with pytest.raises(CacheSpaceError, match=r"4,294,967,296 MiB of memory; cpu has less") as caught:
        FeatureCache(1, 2**20, (2**30,), limits=CacheLimits(memory_bytes=2**60))  # 4 PiB
    assert "\n" not in str(caught.value)


def test_two_caches_share_the_limits(tmp_path: Path) -> None:
    whole = CacheLimits(memory_bytes=100, file_bytes=1000, folder=tmp_path)
    memory, file = FeatureCache(1, 2, (5,)), FeatureCache(1, 2, (30,), limits=limits("file", tmp_path))
    assert (memory.nbytes, file.nbytes) == (40, 240)
    left = whole.beside(memory)
    assert (left.memory_bytes, left.file_bytes, left.folder) == (60, 1000, tmp_path)
    assert left.beside(file).file_bytes == 760
    assert [left.location(nbytes) for nbytes in (60, 61, 1001)] == ["memory", "file", None]


class OrderedBatches(AugmentedBatches):
    """Batches of all images in order, without augmentation."""

    def epoch(self, epoch: int, *, start: int = 0, size: tuple[int, int] | None = None) -> Iterator[Batch]:
        for first, last in self.bounds[start:]:
            places = torch.arange(first, last)
            yield Batch(self.images[first:last], torch.from_numpy(LABELS)[places], places)


@pytest.mark.parametrize("place", ["stem", "layer1", "layer2", "backbone"])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("location", ["memory", "file"])
def test_features_in_order_equal_those_of_the_prefix(
    place: str, layout: torch.memory_format, location: str, tmp_path: Path
) -> None:
    """To the bit, and in its memory format."""
    model = frozen_at("SE and GeM", place).model.to(memory_format=layout)  # type: ignore[call-overload]
    prefix, _ = split_at(model, place)
    batches = OrderedBatches()
    kept = cache_in_order(prefix, batches, limits(location, tmp_path))
    for _ in range(2):
        for one, other in zip(kept.epoch(0), batches.epoch(0), strict=True):
            with prefix.inference():
                expected = prefix(other.x)
            assert torch.equal(one.x, expected)
            assert one.x.stride() == expected.stride()
            assert torch.equal(one.y, other.y)
            assert torch.equal(one.indices, other.indices)
    with pytest.raises(CacheSpaceError, match="cache_memory_gb"):
        cache_in_order(prefix, batches, CacheLimits(memory_bytes=0))


def test_without_posix_fallocate_the_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    cache = FeatureCache(1, 2, (3,), limits=limits("file", tmp_path))
    cache.write(0, np.arange(2), torch.ones(2, 3))
    assert cache.read(np.zeros(2, np.int64), np.arange(2)).sum() == 6


def test_filling_reports_progress_and_can_be_stopped() -> None:
    model = frozen_at("basic", "backbone").model
    prefix, _ = split_at(model, "backbone")
    cache, done = FeatureCache(2, COUNT, (24,)), list[int]()
    assert not fill_cache(cache, prefix, AugmentedBatches(), progress=done.append, stop=lambda: len(done) == 4)
    assert sum(done) == COUNT + BATCH
    assert cache.missing(0) == 0
    assert cache.missing(1) == COUNT - BATCH
    with pytest.raises(AssertionError):
        cache.read(np.ones(COUNT, np.int64), np.arange(COUNT))


def test_batches_must_hold_every_image() -> None:
    prefix, _ = split_at(make("basic"), "backbone")
    with pytest.raises(AssertionError):
        fill_cache(FeatureCache(1, COUNT, (24,)), prefix, AugmentedBatches(drop_last=True))


def test_values_that_float16_cannot_represent_are_an_error() -> None:
    cache = FeatureCache(1, 2, (1,), dtype=torch.float16)
    with pytest.raises(TrainingError, match=r"65504; got 70000; .*bfloat16"):
        cache.write(0, np.arange(2), torch.tensor([[1.0], [7e4]]))


TRAINED = ("starter", "weights/akamaster/resnet20-12fca82f.th", "weights/laodaoguizhong/cifar10_resnet20.pth")


@pytest.mark.slow
@pytest.mark.parametrize("weights", TRAINED)
def test_one_view_reaches_the_accuracy_of_training_on_images(shared_data: Path, weights: str) -> None:
    """A fresh head on a trained, frozen backbone, CIFAR-10: accuracy on held-out images, three seeds."""
    bundle = load_bundle(weights if weights == "starter" else shared_data / weights)
    dataset = open_dataset(shared_data / "cifar10_png")
    split = {
        name: dataset.splits[name].subset(permutation(len(dataset.splits[name]), 0, 0)[:count])
        for name, count in (("train", 300), ("test", 300))
    }
    preprocessing = bundle.preprocessing
    held = make_batches(split["test"], preprocessing, batch_size=100)

    def accuracy(seed: int, *, cached: bool) -> float:
        torch.manual_seed(seed)
        model = copy.deepcopy(bundle.model)
        assert isinstance(model, Network)
        model.reset_classifier(10)
        frozen = apply_phase(model, Phase(epochs=4, freeze="backbone"))
        augment, labels = AugmentConfig(pad=4, hflip=True), split["train"].labels
        batches = make_batches(split["train"], preprocessing, batch_size=30, augment=augment, seed=seed)
        if cached:
            prefix, suffix = split_at(model, "backbone")
            cache = FeatureCache(1, len(labels), prefix.output_shape(preprocessing.size))
            fill_cache(cache, prefix, batches)
            train(frozen, suffix, CachedFeatureBatches(cache, labels, TrainSampler(labels, 30, seed)), range(4))
        else:
            train(frozen, model, batches, range(4))
        model.eval()
        with torch.no_grad():
            return sum(int((model(x).argmax(1) == y).sum()) for x, y, _ in held.epoch(0)) / 300

    pairs = np.array([[accuracy(seed, cached=True), accuracy(seed, cached=False)] for seed in range(3)])
    assert pairs.min() > 0.8
    assert abs(np.diff(pairs.mean(0))[0]) < 0.03  # one standard error of 300 images at 0.9 is 0.017
